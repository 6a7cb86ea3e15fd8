//! What comes before HTTP on a client's connection: the PROXY protocol, and the TLS handshake. Then it is known whether
//! HTTP comes at all, or something that is passed on as it is.
//!
//! Clients that begin and do not go on cost memory, so there are only so many at a time. One more ends the one that has
//! taken longest: a client in earnest is through in a few round trips, a crowd that stalls is not.

use super::client::ClientSocket;
use super::conn::{ConnInfo, Event, Service};
use super::proxy_protocol;
use super::tls::{TlsFailure, TlsFronts};
use bytes::BytesMut;
use ipnet::IpNet;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

/// Counts connections by their client, where that is known only by the PROXY protocol.
pub trait Sourced {
    /// One more of `client`; false: it has too many, and has been told so on `stream` if `plain`.
    fn enter(&mut self, client: IpAddr, stream: &TcpStream, plain: bool) -> bool;
}

/// What a listener's connections begin with.
#[derive(Clone, Debug, Default)]
pub struct Opening {
    /// The PROXY protocol, from these networks alone; from anywhere, if there are none.
    pub proxy_protocol: Option<Arc<[IpNet]>>,
    pub tls: Option<TlsFronts>,
    /// Without TLS: what follows is passed on as it is.
    pub is_stream: bool,
}

/// A connection that has been opened.
#[derive(Debug)]
pub enum Opened {
    /// For requests.
    Requests(ClientSocket),
    /// To be passed on, with what of it has been read.
    Stream(ClientSocket, BytesMut),
}

impl Opening {
    /// HTTP comes at once.
    pub fn is_nothing(&self) -> bool {
        self.proxy_protocol.is_none() && self.speaks_http_in_clear()
    }

    /// A client that is refused can be told so by an answer.
    pub fn speaks_http_in_clear(&self) -> bool {
        self.tls.is_none() && !self.is_stream
    }

    /// Does what comes before, each part within `limit`: `None` when there is no connection then.
    pub async fn run<S: Service>(
        &self,
        stream: TcpStream,
        info: &mut ConnInfo,
        limit: Duration,
        openings: &Openings,
        service: &S,
        source: &mut impl Sourced,
    ) -> Option<Opened> {
        let place = openings.enter(info.id);
        tokio::select! { biased;
            socket = self.open(stream, info, limit, service, source) => socket,
            () = place.must_leave.notified() => {
                service.note(Event::OpeningCut);
                None
            }
        }
    }

    async fn open<S: Service>(
        &self,
        mut stream: TcpStream,
        info: &mut ConnInfo,
        limit: Duration,
        service: &S,
        source: &mut impl Sourced,
    ) -> Option<Opened> {
        if let Some(trusted) = &self.proxy_protocol {
            let peer = info.peer.ip().to_canonical();
            let read = match trusts(trusted, peer) {
                true => timeout(limit, proxy_protocol::read(&mut stream))
                    .await
                    .ok()
                    .and_then(Result::ok),
                false => None,
            };
            match read {
                Some(Some(client)) => info.peer = client,
                Some(None) => {}
                None => {
                    service.note(Event::NoProxyHeader);
                    return None;
                }
            }
            if !source.enter(info.peer.ip(), &stream, self.speaks_http_in_clear()) {
                return None;
            }
        }
        let Some(fronts) = &self.tls else {
            let socket = ClientSocket::Plain(stream);
            return Some(match self.is_stream {
                true => Opened::Stream(socket, BytesMut::new()),
                false => Opened::Requests(socket),
            });
        };
        let begun = Instant::now();
        let port = info.port;
        let takes = |host: &str| service.takes_stream(port, host);
        let failure = match timeout(limit, fronts.accept(stream, takes)).await {
            Ok(Ok((opened, tls))) => {
                if !matches!(opened, Opened::Stream(ClientSocket::Plain(_), _)) {
                    service.note(Event::Handshake(begun.elapsed()));
                }
                info.tls = Some(Box::new(tls));
                return Some(opened);
            }
            Ok(Err(failure)) => failure,
            Err(_) => TlsFailure::Timeout,
        };
        service.note(Event::HandshakeFailed(failure));
        None
    }
}

fn trusts(networks: &[IpNet], ip: IpAddr) -> bool {
    networks.is_empty() || networks.iter().any(|network| network.contains(&ip))
}

/// Connections of one listener and thread that are being opened.
#[derive(Debug)]
pub struct Openings {
    limit: usize,
    /// By the connection's number, so that the first is the oldest.
    under_way: RefCell<BTreeMap<u64, Rc<Notify>>>,
}

impl Openings {
    /// At most `limit` at a time.
    pub fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            under_way: RefCell::default(),
        }
    }

    fn enter(&self, id: u64) -> Place<'_> {
        let mut under_way = self.under_way.borrow_mut();
        if under_way.len() >= self.limit
            && let Some((_, oldest)) = under_way.pop_first()
        {
            oldest.notify_one();
        }
        let must_leave = Rc::new(Notify::new());
        under_way.insert(id, Rc::clone(&must_leave));
        Place {
            openings: self,
            id,
            must_leave,
        }
    }
}

/// One of them.
struct Place<'a> {
    openings: &'a Openings,
    id: u64,
    must_leave: Rc<Notify>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.openings.under_way.borrow_mut().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn must_leave(place: &Place<'_>) -> bool {
        place.must_leave.notified().now_or_never().is_some()
    }

    #[test]
    fn one_too_many_ends_the_oldest() {
        let openings = Openings::new(2);
        let (a, b) = (openings.enter(7), openings.enter(8));
        drop(openings.enter(9));
        assert!(must_leave(&a));
        assert!(!must_leave(&b));
        drop(a);
        let (c, d) = (openings.enter(10), openings.enter(11));
        assert!(must_leave(&b));
        assert!(!must_leave(&c) && !must_leave(&d));
        drop((b, c, d));
        assert!(openings.under_way.borrow().is_empty());
    }

    #[test]
    fn an_empty_list_trusts_everybody() {
        let networks = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let trusts = |networks: &[IpNet], ip: &str| trusts(networks, ip.parse().unwrap());
        assert!(trusts(&networks, "10.1.2.3") && trusts(&networks, "fd00::1"));
        assert!(!trusts(&networks, "11.1.2.3") && !trusts(&networks, "::1"));
        assert!(trusts(&[], "11.1.2.3"));
    }
}

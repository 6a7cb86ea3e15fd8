//! A thread's part of one listener: which connections are let in.

use super::sources::Place;
use super::worker::{Listening, Open, OpenGuard};
use super::{Settings, SharedByWorkers};
use crate::engine::drain::{Drain, Ticket};
use crate::engine::open::{Opened, Openings, Sourced};
use crate::engine::{ClientSocket, ConnInfo, Event, Service, Shortage, serve_connection};
use crate::pressure::MemoryState;
use ipnet::IpNet;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener as StdListener};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;

/// Pause after an accept that failed for want of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(50);

/// Takes one listener's connections on one thread.
pub(super) struct Acceptor<S> {
    pub port: u16,
    pub service: Rc<S>,
    pub shared: Arc<SharedByWorkers>,
    pub settings: Arc<Settings>,
    pub open: Rc<Open>,
    pub openings: Rc<Openings>,
    pub drain: Rc<Drain>,
}

impl<S: Service> Acceptor<S> {
    /// Accepts until the listener is closed.
    pub(super) async fn run(&self, socket: Weak<StdListener>, listening: &Listening) {
        let Some(listener) = self.copy(&socket).await else {
            return;
        };
        let stop = async {
            listening.stop.notified().await;
        };
        tokio::pin!(stop);
        loop {
            tokio::select! { biased;
                () = &mut stop => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => self.admit(stream, peer),
                    Err(error) => self.failed(&error).await,
                },
            }
        }
        // Closing a listener resets what it still holds: take it first. Readiness is not asked, the queue is.
        if let Ok(listener) = listener.into_std() {
            while let Ok((stream, peer)) = listener.accept() {
                if stream.set_nonblocking(true).is_ok()
                    && let Ok(stream) = TcpStream::from_std(stream)
                {
                    self.admit(stream, peer);
                }
            }
        }
        self.drain.begin();
    }

    /// A copy of the socket to accept from; `None`: it has been closed before there was one.
    async fn copy(&self, socket: &Weak<StdListener>) -> Option<TcpListener> {
        loop {
            let copied = socket.upgrade()?.try_clone();
            match copied.and_then(TcpListener::from_std) {
                Ok(listener) => return Some(listener),
                Err(error) => self.failed(&error).await,
            }
        }
    }

    async fn failed(&self, error: &io::Error) {
        self.shared.counters.errors.fetch_add(1, Relaxed);
        // The client went away before it was accepted: the next one is already there. All else is a shortage.
        if error.kind() != io::ErrorKind::ConnectionAborted {
            tracing::warn!(port = self.port, %error, "accept failed");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// What there is too little of for another connection. A new descriptor is the lowest that is free, so its number
    /// tells how many there are at least.
    fn shortage(&self, stream: &TcpStream) -> Option<Shortage> {
        if stream.as_raw_fd() >= self.shared.config.descriptors {
            return Some(Shortage::Descriptors);
        }
        let is_closed = self.service.memory() >= MemoryState::Closed;
        is_closed.then_some(Shortage::Memory)
    }

    fn admit(&self, stream: TcpStream, peer: SocketAddr) {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        self.shared.counters.accepted.fetch_add(1, Relaxed);
        let config = self.settings.config.load_full();
        let opening = &config.opening;
        if let Some(shortage) = self.shortage(&stream) {
            self.service.note(Event::Refused(shortage));
            return refuse(&stream, opening.speaks_http_in_clear());
        }
        let Some(mut admission) = Admission::new(&self.shared, &self.settings, config.connections)
        else {
            self.shared.counters.refused.fetch_add(1, Relaxed);
            return refuse(&stream, opening.speaks_http_in_clear());
        };
        // Behind the PROXY protocol it is another's address that counts, when it is known.
        if opening.proxy_protocol.is_none() && !admission.enter(peer.ip(), &config.trusted) {
            return refuse(&stream, opening.speaks_http_in_clear());
        }
        // Without it answers are only slower.
        let _ = stream.set_nodelay(true);
        let Ok(local) = stream.local_addr() else {
            return;
        };
        let mut info = ConnInfo {
            id: NEXT_ID.fetch_add(1, Relaxed),
            peer,
            local,
            port: self.port,
            tls: None,
        };
        let (service, openings) = (self.service.clone(), self.openings.clone());
        let (ticket, guard) = (Ticket::new(self.drain.clone()), OpenGuard::new(&self.open));
        spawn_local(async move {
            let opening = &config.opening;
            let opened = if opening.is_nothing() {
                Some(Opened::Requests(ClientSocket::Plain(stream)))
            } else {
                // As long as for a request's head.
                let limit = config.conn.timeouts.header;
                let mut source = OfListener(&mut admission, &config.trusted);
                let opened =
                    opening.run(stream, &mut info, limit, &openings, &*service, &mut source);
                // Apart, so that its state costs other connections nothing.
                Box::pin(opened).await
            };
            match opened {
                Some(Opened::Requests(socket)) => {
                    serve_connection(socket, &info, &*service, &config.conn, ticket).await;
                }
                Some(Opened::Stream(socket, begun)) => {
                    Box::pin(service.pass_on(socket, begun, &info, ticket)).await;
                }
                None => {}
            }
            drop((admission, guard));
        });
    }
}

/// Tells a client that there are too many connections.
fn refuse(stream: &TcpStream, plain: bool) {
    if plain {
        // One attempt: the socket of a new connection has room for it.
        let _ = stream.try_write(REFUSAL);
    }
}

/// The connections that are counted by the address which the PROXY protocol names.
struct OfListener<'a>(&'a mut Admission, &'a [IpNet]);

impl Sourced for OfListener<'_> {
    fn enter(&mut self, client: IpAddr, stream: &TcpStream, plain: bool) -> bool {
        let enters = self.0.enter(client, self.1);
        if !enters {
            refuse(stream, plain);
        }
        enters
    }
}

/// Counts a connection among those of its listener, of the process and of its client until it is dropped.
struct Admission {
    shared: Arc<SharedByWorkers>,
    settings: Arc<Settings>,
    place: Option<Place>,
}

impl Admission {
    fn new(
        shared: &Arc<SharedByWorkers>,
        settings: &Arc<Settings>,
        of_listener: usize,
    ) -> Option<Self> {
        // The guard gives the places back also when it was one too many.
        let admission = Self {
            shared: shared.clone(),
            settings: settings.clone(),
            place: None,
        };
        let in_process = shared.counters.open.fetch_add(1, Relaxed) < shared.config.connections;
        let in_listener = settings.open.fetch_add(1, Relaxed) < of_listener;
        (in_process && in_listener).then_some(admission)
    }

    /// Whether its client may have one more.
    fn enter(&mut self, client: IpAddr, trusted: &[IpNet]) -> bool {
        self.place = self.shared.sources.enter(client, trusted);
        if self.place.is_none() {
            self.shared.counters.refused_source.fetch_add(1, Relaxed);
        }
        self.place.is_some()
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let counters = &self.shared.counters;
        counters.open.fetch_sub(1, Relaxed);
        self.settings.open.fetch_sub(1, Relaxed);
        if std::thread::panicking() {
            // Its task ends so, and nothing else does.
            counters.panics.fetch_add(1, Relaxed);
        }
    }
}

/// What a connection above the cap gets.
const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
    content-length: 22\r\nretry-after: 1\r\nconnection: close\r\n\r\n{\"error\":\"overloaded\"}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_states_its_length() {
        let text = std::str::from_utf8(REFUSAL).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())));
    }
}

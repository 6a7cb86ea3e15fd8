//! A thread's part of one listener: which connections are let in.

use super::worker::{Listening, Open, OpenGuard};
use super::{ListenCounters, Settings};
use crate::engine::drain::{Drain, Ticket};
use crate::engine::open::Openings;
use crate::engine::{ClientSocket, ConnInfo, Service, serve_connection};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;

/// Pause after an accept that failed for want of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(50);

/// Takes one listener's connections on one thread.
pub(super) struct Acceptor<S> {
    pub key: Arc<str>,
    pub service: Rc<S>,
    /// Connections of the whole process.
    pub connections: usize,
    pub settings: Arc<Settings>,
    pub counters: Arc<ListenCounters>,
    pub open: Rc<Open>,
    pub openings: Rc<Openings>,
    pub drain: Rc<Drain>,
}

impl<S: Service> Acceptor<S> {
    /// Accepts until the listener is closed.
    pub(super) async fn run(&self, listener: TcpListener, listening: &Listening) {
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

    async fn failed(&self, error: &io::Error) {
        self.counters.errors.fetch_add(1, Relaxed);
        // The client went away before it was accepted: the next one is already there. All else is a shortage.
        if error.kind() != io::ErrorKind::ConnectionAborted {
            tracing::warn!(listener = &*self.key, %error, "accept failed");
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn admit(&self, stream: TcpStream, peer: SocketAddr) {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        self.counters.accepted.fetch_add(1, Relaxed);
        let config = self.settings.config.load_full();
        let admission = Admission::new(
            &self.counters,
            &self.settings,
            self.connections,
            config.connections,
        );
        let Some(admission) = admission else {
            self.counters.refused.fetch_add(1, Relaxed);
            if config.opening.tls.is_none() {
                // One attempt: the socket of a new connection has room for it.
                let _ = stream.try_write(REFUSAL);
            }
            return;
        };
        // Without it answers are only slower.
        let _ = stream.set_nodelay(true);
        let Ok(local) = stream.local_addr() else {
            return;
        };
        let mut info = ConnInfo {
            id: NEXT_ID.fetch_add(1, Relaxed),
            peer,
            local,
            listener: self.key.clone(),
            tls: None,
        };
        let (service, openings) = (self.service.clone(), self.openings.clone());
        let (ticket, guard) = (Ticket::new(self.drain.clone()), OpenGuard::new(&self.open));
        spawn_local(async move {
            let opening = &config.opening;
            let socket = if opening.is_nothing() {
                Some(ClientSocket::Plain(stream))
            } else {
                // As long as for a request's head.
                let limit = config.conn.timeouts.header;
                let opened = opening.run(stream, &mut info, limit, &openings, &*service);
                // Apart, so that its state costs other connections nothing.
                Box::pin(opened).await
            };
            if let Some(socket) = socket {
                serve_connection(socket, &info, &*service, &config.conn, ticket).await;
            }
            drop((admission, guard));
        });
    }
}

/// Counts a connection among those of its listener and of the process until it is dropped.
struct Admission {
    counters: Arc<ListenCounters>,
    settings: Arc<Settings>,
}

impl Admission {
    fn new(
        counters: &Arc<ListenCounters>,
        settings: &Arc<Settings>,
        limit: usize,
        of_listener: usize,
    ) -> Option<Self> {
        // The guard gives the places back also when it was one too many.
        let admission = Self {
            counters: counters.clone(),
            settings: settings.clone(),
        };
        let in_process = counters.open.fetch_add(1, Relaxed) < limit;
        let in_listener = settings.open.fetch_add(1, Relaxed) < of_listener;
        (in_process && in_listener).then_some(admission)
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.counters.open.fetch_sub(1, Relaxed);
        self.settings.open.fetch_sub(1, Relaxed);
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

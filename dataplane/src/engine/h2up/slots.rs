//! The streams of one connection, counted by pingora-core.
//!
//! pingora's `ConnectionRef` knows how many streams a connection may have and has, and that it shuts down; its session
//! is what holds a stream's place. The exchange itself is made on h2: the session cannot show informational (1xx)
//! heads, and copies every request's fields.

use bytes::Bytes;
use h2::client::SendRequest;
use pingora_core::connectors::http::v2::ConnectionRef;
use pingora_core::protocols::Digest;
use pingora_core::protocols::http::v2::client::Http2Session;
use std::sync::Arc;
use tokio::sync::watch;

/// The places of one connection.
#[derive(Clone)]
pub(super) struct Slots(ConnectionRef);

/// One stream's place, given back when dropped.
pub(super) struct Slot(#[allow(dead_code, reason = "held for its drop")] Http2Session);

impl Slots {
    /// `closed` turns true when the connection is over.
    pub(super) fn new(
        sender: SendRequest<Bytes>,
        closed: watch::Receiver<bool>,
        max_streams: usize,
    ) -> Self {
        // Neither its id nor its digest is asked for: they serve pingora's pool.
        let timed_out = Arc::default();
        Self(ConnectionRef::new(
            sender,
            closed,
            timed_out,
            0,
            max_streams,
            Digest::default(),
        ))
    }

    /// A place for one more stream. `None`: there is none, or the connection takes no more.
    pub(super) async fn take(&self) -> Option<Slot> {
        match self.0.spawn_stream().await {
            Ok(Some(session)) => Some(Slot(session)),
            Ok(None) => None,
            Err(_) => {
                self.retire();
                None
            }
        }
    }

    /// Places that are free, as far as is known; 0 when the connection takes no more streams.
    pub(super) fn free(&self) -> usize {
        self.0.free_stream_slots()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.0.is_idle()
    }

    /// The connection is over, or takes no more streams.
    pub(super) fn is_over(&self) -> bool {
        self.0.is_closed() || self.0.is_shutting_down()
    }

    /// No more streams; those that are there go on.
    pub(super) fn retire(&self) {
        self.0.mark_shutdown();
    }
}

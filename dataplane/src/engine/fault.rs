//! Who failed in an exchange, and how far it had come.

use crate::h1::Reject;
use std::io;

/// Why an exchange did not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The client.
    #[error("client: {0}")]
    Down(#[from] DownFault),
    /// The upstream.
    #[error("upstream: {0}")]
    Up(#[from] UpFault),
    /// A body hook stopped the exchange; it knows why.
    #[error("stopped by a body hook")]
    Aborted,
    /// A body did not have the length that its head announced: a fault of a hook that changed one and not the other.
    #[error("body does not have the announced length")]
    Length,
    /// The client wants a tunnel, and the upstream's connection cannot become one.
    #[error("upstream offers no tunnel")]
    NoTunnel,
    /// Neither side sent anything for too long, in a tunnel or where both may take their time.
    #[error("both sides were idle")]
    Idle,
    /// The exchange as a whole took longer than [`Timeouts::total`](super::deadline::Timeouts::total), or its answer's
    /// head longer than [`Timeouts::head`](super::deadline::Timeouts::head).
    #[error("request took too long")]
    Total,
}

/// How the client's side failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DownFault {
    /// The client is gone.
    #[error("connection closed")]
    Closed,
    /// The body is not what its head announced; answer with the status of the refusal.
    #[error("{0}")]
    Reject(#[from] Reject),
    /// The client neither sent nor took bytes for too long: 408 while its body is missing.
    #[error("timeout")]
    Timeout,
}

/// How the upstream's side failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpFault {
    /// No connection. Nothing was sent.
    #[error("cannot connect: {0}")]
    Connect(io::ErrorKind),
    /// No connection in time. Nothing was sent.
    #[error("connect timeout")]
    ConnectTimeout,
    /// The TLS handshake failed. Nothing was sent.
    #[error("TLS handshake failed")]
    Tls,
    /// The connection ended early.
    #[error("connection lost")]
    Reset {
        /// The connection came from the pool: with `received == false` it most probably was closed while idle.
        reused: bool,
        /// At least one byte of an answer had arrived.
        received: bool,
    },
    /// The upstream has said that it has not looked at the request: its connection is closing, or it is busy.
    #[error("refused unprocessed")]
    Unprocessed,
    /// What came is not an answer; the reason is for the log.
    #[error("{0}")]
    Protocol(&'static str),
    /// The upstream neither sent nor took bytes for too long.
    #[error("timeout")]
    Timeout,
}

impl UpFault {
    /// The request cannot have reached a server: sending it again is safe whatever its method.
    pub fn is_before_sending(self) -> bool {
        matches!(self, Self::Connect(_) | Self::ConnectTimeout | Self::Tls)
    }

    /// The upstream vouches that nothing was done: sending the request again is safe whatever its method, as long as
    /// its body is still there.
    pub fn is_unprocessed(self) -> bool {
        matches!(self, Self::Unprocessed)
    }

    /// A pooled connection broke before the first byte of an answer. The server may still have seen the request:
    /// send again when the method is idempotent.
    pub fn is_stale_connection(self) -> bool {
        matches!(
            self,
            Self::Reset {
                reused: true,
                received: false
            }
        )
    }
}

/// How far an exchange came; valid after success and failure alike. For retries, metrics and the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Body bytes taken from the client. Any: they cannot be sent again, unless the caller kept them.
    pub request_bytes: u64,
    /// The whole request was queued to the upstream.
    pub request_complete: bool,
    /// Status of the final head that was queued to the client: from here on a failure can only cut the connection.
    pub answered: Option<u16>,
    /// Body bytes that were queued to the client, as plugins left them.
    pub response_bytes: u64,
    /// The whole answer was written to the client.
    pub response_complete: bool,
    /// When the first byte of the final head was there.
    pub first_byte: Option<tokio::time::Instant>,
}

use super::*;
use crate::engine::drain::Drain;
use std::io;
use std::rc::Rc;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// TLS to a client that reads nothing, when the last answer has just filled the socket: not even the end fits in.
struct Full;

impl Socket for Full {
    fn is_quiet(&mut self) -> bool {
        true
    }
}

impl AsyncRead for Full {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Full {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Pending
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_has_no_room_for_the_end_is_not_waited_for() {
    let begun = Begun::new(Full, Ticket::new(Rc::new(Drain::default())));
    let timeouts = ClientTimeouts::default();
    let down = H1Down::new(begun, timeouts, HeadLimits::default());
    let closed = tokio::time::timeout(2 * timeouts.linger, down.close()).await;
    assert!(closed.is_ok(), "given up");
}

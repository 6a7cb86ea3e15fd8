use super::*;
use crate::engine::drain::Drain;
use crate::engine::traits::DownExt;
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
    let config = ConnConfig::default();
    let down = H1Down::new(begun, &config);
    let closed = tokio::time::timeout(2 * config.timeouts.linger, down.close()).await;
    assert!(closed.is_ok(), "given up");
}

/// One request, from a client that takes so many bytes of its answer every second.
struct Slow {
    request: &'static [u8],
    rate: usize,
    pause: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Socket for Slow {
    fn is_quiet(&mut self) -> bool {
        true
    }
}

impl AsyncRead for Slow {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.request.is_empty() {
            return Poll::Pending;
        }
        buf.put_slice(std::mem::take(&mut self.request));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Slow {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let second = std::time::Duration::from_secs(1);
        let pause = self
            .pause
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(second)));
        std::task::ready!(pause.as_mut().poll(cx));
        self.pause = None;
        Poll::Ready(Ok(bytes.len().min(self.rate)))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_ours_leaves_for_as_long_as_its_client_takes_it() {
    for (rate, leaves) in [(1000, true), (300, true), (100, false), (1, false)] {
        let socket = Slow {
            request: b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            rate,
            pause: None,
        };
        let begun = Begun::new(socket, Ticket::new(Rc::new(Drain::default())));
        let mut down = H1Down::new(begun, &ConnConfig::default());
        assert!(matches!(
            down.next(&mut RequestHead::default()).await,
            Next::Request
        ));
        let begun = tokio::time::Instant::now();
        // Longer than the patience, which is for nothing at all.
        let body = Bytes::from(vec![b'x'; 60_000]);
        let mut head = ResponseHead::default();
        head.reset(200);
        let sent = down.respond(&mut head, body).await;
        assert_eq!(sent.is_ok(), leaves, "{rate} bytes a second: {sent:?}");
        assert!(begun.elapsed() >= ClientTimeouts::default().body);
    }
}

//! One connection's bytes: a borrowed read buffer, a write queue, and a socket underneath.

use super::buffers;
use super::outbox::Outbox;
use bytes::BytesMut;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// What the engine asks of a connection's transport, plain or encrypted.
pub trait Socket: AsyncRead + AsyncWrite + Unpin + 'static {
    /// Makes the coming close a reset, so that a body that ends with its connection does not look complete.
    fn reset_on_close(&self) {}

    /// Ready when a read is worth a buffer. Pending only after the task has been registered to be woken.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let _ = cx;
        Poll::Ready(())
    }

    /// Whether nothing has arrived and the other side has not closed, as far as is known without waiting. An idle
    /// upstream connection on which something arrived is out of step and must not be used.
    fn is_quiet(&mut self) -> bool;
}

impl Socket for TcpStream {
    fn reset_on_close(&self) {
        // Fails only on a dead socket, which needs no reset.
        let _ = self.set_zero_linger();
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        // An error shows itself when reading.
        self.poll_read_ready(cx).map(drop)
    }

    fn is_quiet(&mut self) -> bool {
        // No system call as long as the reactor has seen no event.
        matches!(self.try_read(&mut [0u8; 1]), Err(e) if e.kind() == io::ErrorKind::WouldBlock)
    }
}

/// A transport with its buffers, which are borrowed from the thread's stock only while they hold something.
#[derive(Debug)]
pub(crate) struct Io<S> {
    pub(crate) socket: S,
    /// Bytes that have arrived and are not consumed.
    pub(crate) input: BytesMut,
    /// Bytes that wait to leave.
    pub(crate) output: Outbox,
    /// The transport has taken bytes that it may not have written yet: TLS keeps records that the socket had no room for.
    unflushed: bool,
    /// The other side has ended its direction.
    pub(crate) ended: bool,
    /// Our direction.
    end: End,
}

/// How far the end of our direction has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum End {
    #[default]
    Open,
    /// To follow what is queued.
    Queued,
    Sent,
}

/// Room below which a read buffer is renewed first.
const MIN_ROOM: usize = 2 << 10;

impl<S: Socket> Io<S> {
    pub(crate) fn new(socket: S) -> Self {
        Self {
            socket,
            input: BytesMut::new(),
            output: Outbox::default(),
            unflushed: false,
            ended: false,
            end: End::Open,
        }
    }

    /// Queues the end of our direction; the other side may still send.
    pub(crate) fn queue_end(&mut self) {
        self.end = End::Queued;
    }

    /// Whether anything waits to be written, an end included.
    pub(crate) fn has_queued(&self) -> bool {
        !self.output.is_empty() || self.unflushed || self.end == End::Queued
    }

    /// Bytes that wait to be written; those that the transport has taken count as one.
    pub(crate) fn queued(&self) -> usize {
        self.output.len() + usize::from(self.unflushed)
    }

    /// Reads once behind what is in `input`. Zero: the other side has ended. Cancel safe.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.ended {
            return Poll::Ready(Ok(0));
        }
        ready!(self.socket.poll_readable(cx));
        if self.input.capacity() == 0 {
            self.input = buffers::take_read();
        } else if self.input.capacity() - self.input.len() < MIN_ROOM {
            self.input.reserve(buffers::READ);
        }
        let read = tokio_util::io::poll_read_buf(Pin::new(&mut self.socket), cx, &mut self.input);
        match read {
            Poll::Pending => {
                self.park_input();
                Poll::Pending
            }
            Poll::Ready(result) => {
                self.ended |= !matches!(result, Ok(1..));
                Poll::Ready(result)
            }
        }
    }

    /// Writes until nothing waits. Cancel safe.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.has_queued() {
            return Poll::Ready(Ok(()));
        }
        self.unflushed = true;
        while !self.output.is_empty() {
            let (slices, n) = self.output.slices();
            let socket = Pin::new(&mut self.socket);
            let written = match slices.get(..n) {
                Some([one]) => ready!(socket.poll_write(cx, one))?,
                Some(several) => ready!(socket.poll_write_vectored(cx, several))?,
                None => 0,
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.output.advance(written);
        }
        self.output.park();
        let socket = Pin::new(&mut self.socket);
        if self.end == End::Queued {
            ready!(socket.poll_shutdown(cx))?;
            self.end = End::Sent;
        } else {
            // A no-op for TCP; TLS writes its last records here.
            ready!(socket.poll_flush(cx))?;
        }
        self.unflushed = false;
        Poll::Ready(Ok(()))
    }

    /// Gives an empty read buffer back.
    pub(crate) fn park_input(&mut self) {
        if self.input.is_empty() {
            buffers::put_read(std::mem::take(&mut self.input));
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use bytes::Bytes;
    use std::task::Waker;
    use tokio::io::ReadBuf;

    /// Takes all bytes at once, and has them written after some flushes: as TLS does over a socket without room.
    pub(in crate::engine) struct Behind {
        pub(in crate::engine) flushes: usize,
    }

    impl Socket for Behind {
        fn is_quiet(&mut self) -> bool {
            true
        }
    }

    impl AsyncRead for Behind {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Behind {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            match self.flushes.checked_sub(1) {
                None => Poll::Ready(Ok(())),
                Some(left) => {
                    self.flushes = left;
                    Poll::Pending
                }
            }
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// What the transport keeps has not left, though nothing of it is queued here any more.
    #[test]
    fn it_is_flushed_until_the_transport_has_written_everything() {
        let mut cx = Context::from_waker(Waker::noop());
        let mut io = Io::new(Behind { flushes: 2 });
        assert!(!io.has_queued() && io.poll_flush(&mut cx).is_ready());
        io.output.push(Bytes::from_static(b"the last record"));
        for _ in 0..2 {
            assert!(io.poll_flush(&mut cx).is_pending());
            assert!(io.has_queued() && io.queued() == 1 && io.output.is_empty());
        }
        assert!(io.poll_flush(&mut cx).is_ready());
        assert!(!io.has_queued() && io.queued() == 0);
        assert_eq!(io.socket.flushes, 0);
    }
}

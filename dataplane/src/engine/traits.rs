//! The seam: what the relay asks of a client's side and of an upstream's side.
//!
//! Sending queues and never waits; `poll_flush` carries out what is queued; whoever sends asks `is_full` first. So
//! both directions of an exchange advance in one task without either blocking the other, nothing is lost when a
//! future is dropped, and HTTP/2 and HTTP/3 fit below the same two traits.

use super::deadline::{Elapsed, Timer};
use super::fault::{DownFault, UpFault};
use super::head::{RequestHead, ResponseHead};
use super::pace::{Pace, PaceLimits};
use crate::h1::encode::LengthMismatch;
use bytes::Bytes;
use model::Headers;
use std::future::{Future, poll_fn};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// The client's side of one exchange.
pub trait Down {
    /// The next piece of the request's body; `None` after its last byte.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, DownFault>>;

    /// The request's trailers, filtered; at most once, after `poll_body` has returned `None`.
    fn take_trailers(&mut self) -> Option<Box<Headers>>;

    /// Ready when the client is gone. To be polled after the body's end; reads on so far as the next request may
    /// already come.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<DownFault>;

    /// Queues a head. Informational (1xx) heads may come before the one final head; they are dropped for clients
    /// that do not know them.
    ///
    /// After a final head that [switches protocols](ResponseHead::is_switching) this is one end of a tunnel:
    /// `poll_body` gives whatever the client sends, also what it sent too early, and `None` once it has ended its
    /// direction; `send_body` takes bytes as they are, and `send_end` ends our direction.
    fn send_head(&mut self, head: &ResponseHead);

    /// Queues a piece of the answer's body; dropped where the answer has none (HEAD, 204, 304).
    ///
    /// # Errors
    /// More bytes than the head announced.
    fn send_body(&mut self, data: Bytes) -> Result<(), LengthMismatch>;

    /// Queues the end of the answer.
    ///
    /// # Errors
    /// Fewer bytes than the head announced.
    fn send_end(&mut self, trailers: Option<&Headers>) -> Result<(), LengthMismatch>;

    /// Writes what is queued.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), DownFault>>;

    /// Bytes that are queued.
    fn queued(&self) -> usize;

    /// Enough is queued: send more only after a flush.
    fn is_full(&self) -> bool;

    /// The rest of the request's body is of no interest: takes what has arrived of it, so that the connection can
    /// perhaps be kept.
    fn give_up_body(&mut self);

    /// Status of the final head, once it is queued.
    fn answered(&self) -> Option<u16>;

    /// The deadline of the exchange's current phase.
    fn timer(&mut self) -> &mut Timer;

    /// How long the client may take nothing of an answer that comes from no upstream.
    fn patience(&self) -> Duration;
}

/// One exchange with an upstream, on a connection chosen and opened (or taken from the pool) before.
pub trait Up {
    /// Queues the request's head. A side that cannot switch protocols leaves out what `upgrade` asks for; one over HTTP/2
    /// asks for the first of the protocols alone.
    fn send_head(&mut self, head: &RequestHead);

    /// Queues a piece of the request's body.
    ///
    /// # Errors
    /// More bytes than the head announced.
    fn send_body(&mut self, data: Bytes) -> Result<(), LengthMismatch>;

    /// Queues the end of the request.
    ///
    /// # Errors
    /// Fewer bytes than the head announced.
    fn send_end(&mut self, trailers: Option<&Headers>) -> Result<(), LengthMismatch>;

    /// Writes what is queued.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UpFault>>;

    /// Enough is queued: send more only after a flush.
    fn is_full(&self) -> bool;

    /// Whether anything is queued.
    fn has_queued(&self) -> bool;

    /// Reads the next head, informational or final, into `head`.
    ///
    /// A final head that [switches protocols](ResponseHead::is_switching) only comes when the request asked for it,
    /// with a protocol that it offered. From then on this is the other end of a tunnel: see [`Down::send_head`].
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        head: &mut ResponseHead,
    ) -> Poll<Result<(), UpFault>>;

    /// The next piece of the answer's body, after its final head; `None` after its last byte.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, UpFault>>;

    /// The answer's trailers, filtered; at most once, after `poll_body` has returned `None`.
    fn take_trailers(&mut self) -> Option<Box<Headers>>;

    /// The exchange is over: the connection goes back to its pool if request and answer are complete and it can
    /// serve another. Dropping instead closes it.
    fn release(self);
}

/// Waiting forms of what [`Down`] offers by polling, each under the connection's timer.
pub trait DownExt: Down {
    /// The next piece of the request's body, by `due`; `None` after its last byte.
    fn read_body(
        &mut self,
        due: Instant,
    ) -> impl Future<Output = Result<Option<Bytes>, DownFault>> {
        async move {
            let limit = due.saturating_duration_since(Instant::now());
            poll_within(self, limit, |down, cx| down.poll_body(cx))
                .await
                .unwrap_or(Err(DownFault::Timeout))
        }
    }

    /// Writes what is queued, for as long as the client takes it.
    fn flush(&mut self) -> impl Future<Output = Result<(), DownFault>> {
        async {
            let limits = PaceLimits {
                grace: self.patience(),
                credit: self.patience(),
                ..PaceLimits::default()
            };
            let (queued, mut pace) = (self.queued(), None);
            poll_fn(|cx| {
                if let Poll::Ready(end) = self.poll_flush(cx) {
                    return Poll::Ready(end);
                }
                let (now, taken) = (Instant::now(), queued.saturating_sub(self.queued()) as u64);
                let pace = pace.get_or_insert_with(|| Pace::new(&limits, now, taken));
                self.timer().arm(pace.due(&limits, now, taken));
                self.timer().poll(cx).map(|()| Err(DownFault::Timeout))
            })
            .await
        }
    }

    /// Answers locally: `head` with this body, whose length the head is made to announce.
    fn respond(
        &mut self,
        head: &mut ResponseHead,
        body: Bytes,
    ) -> impl Future<Output = Result<(), DownFault>> {
        async {
            self.give_up_body();
            head.framing = super::head::Framing::Length(body.len() as u64);
            self.send_head(head);
            // The head announces exactly this body.
            let _ = self.send_body(body);
            let _ = self.send_end(None);
            self.flush().await
        }
    }

    /// Asks for the body with `100 Continue`, for a client that waits for it and a body that is read here. The relay
    /// leaves that answer to the upstream.
    fn send_continue(&mut self, request: &mut RequestHead) {
        if std::mem::take(&mut request.expects_continue) {
            request.headers.remove_known(model::headers::Known::Expect);
            self.send_head(&ResponseHead {
                status: 100,
                ..ResponseHead::default()
            });
        }
    }
}

impl<D: Down + ?Sized> DownExt for D {}

async fn poll_within<D: Down + ?Sized, T>(
    down: &mut D,
    limit: Duration,
    mut poll: impl FnMut(&mut D, &mut Context<'_>) -> Poll<T>,
) -> Result<T, Elapsed> {
    let mut armed = false;
    poll_fn(|cx| {
        if let Poll::Ready(value) = poll(down, cx) {
            return Poll::Ready(Ok(value));
        }
        if !armed {
            down.timer().arm(Instant::now() + limit);
            armed = true;
        }
        down.timer().poll(cx).map(|()| Err(Elapsed))
    })
    .await
}

/// Looks at, changes or stops the bodies of an exchange as they pass. `()` does nothing and costs nothing.
pub trait BodyTap {
    /// A piece of the request's body on its way up. May return less or more; then the request's framing must have
    /// been set to chunked before.
    ///
    /// # Errors
    /// [`Abort`] ends the exchange.
    fn request_chunk(&mut self, data: Bytes) -> Result<Bytes, Abort> {
        Ok(data)
    }

    /// The request's body has come to its end; what is returned is appended to it.
    ///
    /// # Errors
    /// [`Abort`] ends the exchange.
    fn request_end(&mut self) -> Result<Bytes, Abort> {
        Ok(Bytes::new())
    }

    /// The final head has come and has not been sent on. May edit it, and may take its time; when the body will
    /// change its length, sets its framing to chunked. Called again with the same head until it is ready.
    ///
    /// # Errors
    /// [`Abort`] ends the exchange; the client has seen no final head then.
    fn poll_response_head(
        &mut self,
        cx: &mut Context<'_>,
        head: &mut ResponseHead,
    ) -> Poll<Result<(), Abort>> {
        let _ = (cx, head);
        Poll::Ready(Ok(()))
    }

    /// A piece of the answer's body on its way down.
    ///
    /// # Errors
    /// [`Abort`] ends the exchange.
    fn response_chunk(&mut self, data: Bytes) -> Result<Bytes, Abort> {
        Ok(data)
    }

    /// No more of the answer's body is here for now; what is returned goes out with what came before.
    ///
    /// # Errors
    /// [`Abort`] ends the exchange.
    fn response_pause(&mut self) -> Result<Bytes, Abort> {
        Ok(Bytes::new())
    }

    /// The answer's body has come to its end; what is returned is appended to it.
    ///
    /// # Errors
    /// [`Abort`] ends the exchange.
    fn response_end(&mut self) -> Result<Bytes, Abort> {
        Ok(Bytes::new())
    }
}

impl BodyTap for () {}

/// A tap wants the exchange to end. It keeps the reason itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abort;

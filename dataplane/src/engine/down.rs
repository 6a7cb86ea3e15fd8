//! A client's side over HTTP/1.

use super::conn::ConnConfig;
use super::deadline::{ClientTimeouts, Timer};
use super::drain::Ticket;
use super::edge::EdgePolicies;
use super::fault::DownFault;
use super::head::{Method, RequestHead, ResponseHead, Version};
use super::io::{Io, Socket};
use super::traits::Down;
use crate::h1::body::{Decoder, Piece, TrailerNames};
use crate::h1::encode::{self, AnswerTo, Encoder, LengthMismatch};
use crate::h1::head::{Parsed, RequestParser};
use crate::h1::{HeadLimits, Reject};
use bytes::{Buf, Bytes};
use model::Headers;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::Instant;

/// How long a connection must have been idle to be closed by the end of its listener, or because memory is short.
pub(super) const QUIET: Duration = Duration::from_secs(1);
/// How long the next request is awaited with the state of the last one kept.
const MOMENT: Duration = Duration::from_secs(1);
/// Bytes of the next requests that are read while an answer is under way.
const PIPELINE: usize = 16 << 10;
/// Bytes of a request's rest that are read to save the connection after an early answer.
const DRAIN: u64 = 64 << 10;
/// Bytes that are read and dropped so that a client sees the last answer rather than a reset.
const LINGER: usize = 256 << 10;

/// An HTTP/1 connection from a client, and the exchange that it is in.
#[derive(Debug)]
pub struct H1Down<S: Socket> {
    io: Io<S>,
    timer: Timer,
    timeouts: ClientTimeouts,
    limits: HeadLimits,
    edge: EdgePolicies,
    ticket: Ticket,
    /// Since when nothing has come, where that is more than a moment.
    resting: Option<Instant>,
    decoder: Decoder,
    encoder: Encoder,
    request: Request,
    /// The current request's head has been read.
    parsed: bool,
    answered: Option<u16>,
    /// The answer has been queued to its end.
    ended: bool,
    /// No other request is served after this one.
    close: bool,
}

/// What the answer must know of the request.
#[derive(Clone, Copy, Debug, Default)]
struct Request {
    to_head: bool,
    http10: bool,
    /// The client waits for 100 before it sends its body.
    awaits_continue: bool,
}

/// A connection of which it is not known yet what it speaks.
#[derive(Debug)]
pub(crate) struct Begun<S> {
    pub(crate) io: Io<S>,
    pub(crate) timer: Timer,
    pub(crate) ticket: Ticket,
}

impl<S: Socket> Begun<S> {
    pub(crate) fn new(socket: S, ticket: Ticket) -> Self {
        Self {
            io: Io::new(socket),
            timer: Timer::default(),
            ticket,
        }
    }

    /// Reads so far as the bytes are those of `preface`; whether all of it is there. `None`: nothing comes in time. The
    /// first byte is awaited as between requests, the others as those of a head.
    pub(crate) async fn begins_with(
        &mut self,
        preface: &[u8],
        timeouts: &ClientTimeouts,
    ) -> Option<bool> {
        let Self { io, timer, ticket } = self;
        if wait(io, timer, ticket, None, timeouts.idle).await != Waited::Input {
            return None;
        }
        let rest = poll_fn(|cx| {
            loop {
                if io.input.starts_with(preface) {
                    return Poll::Ready(Some(true));
                }
                if !preface.starts_with(&io.input) {
                    return Poll::Ready(Some(false));
                }
                if !matches!(ready!(io.poll_fill(cx)), Ok(1..)) {
                    return Poll::Ready(None);
                }
            }
        });
        timer.within(timeouts.header, rest).await.unwrap_or(None)
    }
}

/// What a wait for a request has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waited {
    Input,
    /// None shall come: the client has closed, or the connection is to end.
    End,
    /// The time is over, and nothing has come since.
    Nothing {
        since: Instant,
    },
}

/// Waits without a buffer for the first byte of a request, `limit` from `since` on, or from now on. A connection that is
/// to end has [`QUIET`] from its last answer on, because a request may be on its way.
async fn wait<S: Socket>(
    io: &mut Io<S>,
    timer: &mut Timer,
    ticket: &mut Ticket,
    since: Option<Instant>,
    limit: Duration,
) -> Waited {
    let (mut begun, mut ends) = (None, false);
    poll_fn(|cx| {
        if !io.input.is_empty() {
            return Poll::Ready(Waited::Input);
        }
        if let Poll::Ready(read) = io.poll_fill(cx) {
            return Poll::Ready(match read {
                Ok(1..) => Waited::Input,
                _ => Waited::End,
            });
        }
        let since = *begun.get_or_insert_with(|| {
            let since = since.unwrap_or_else(Instant::now);
            timer.arm(since + limit);
            since
        });
        if (ticket.poll(cx) || ticket.is_hurried()) && !ends {
            ends = true;
            timer.arm(since + limit.min(QUIET));
        }
        timer.poll(cx).map(|()| match ends {
            true => Waited::End,
            false => Waited::Nothing { since },
        })
    })
    .await
}

/// What a connection is to do after an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// There is another request.
    Request,
    /// Nothing has come for a moment: [`H1Down::wait`] for more, with no state of requests.
    Rest,
    End,
}

/// What came next on a connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Request,
    Reject(Reject),
    /// Nothing: the client is gone, has been idle too long, or the connection shall end.
    Closed,
}

impl<S: Socket> H1Down<S> {
    pub(crate) fn new(begun: Begun<S>, config: &ConnConfig) -> Self {
        let Begun { io, timer, ticket } = begun;
        Self {
            io,
            timer,
            timeouts: config.timeouts,
            limits: config.head,
            edge: config.edge.clone(),
            ticket,
            resting: None,
            decoder: Decoder::Done,
            encoder: Encoder::Nothing,
            request: Request::default(),
            parsed: true,
            answered: None,
            ended: true,
            close: false,
        }
    }

    /// The client's transport.
    pub fn socket(&self) -> &S {
        &self.io.socket
    }

    /// No other request is served on this connection.
    pub fn close_after_answer(&mut self) {
        self.close = true;
    }

    /// Waits without a buffer for the first byte of a request; false when none shall come.
    pub(crate) async fn wait(&mut self) -> bool {
        let since = self.resting.take();
        self.wait_for(since, self.timeouts.idle).await == Waited::Input
    }

    /// The same for a moment.
    pub(crate) async fn wait_a_moment(&mut self) -> After {
        let limit = self.timeouts.idle.min(MOMENT);
        match self.wait_for(None, limit).await {
            Waited::Input => After::Request,
            Waited::End => After::End,
            Waited::Nothing { since } => {
                self.resting = Some(since);
                After::Rest
            }
        }
    }

    async fn wait_for(&mut self, since: Option<Instant>, limit: Duration) -> Waited {
        let Self {
            io, timer, ticket, ..
        } = self;
        wait(io, timer, ticket, since, limit).await
    }

    /// Reads the head of the next request; [`H1Down::wait`] has seen its first byte.
    pub(crate) async fn next(&mut self, head: &mut RequestHead) -> Next {
        self.decoder = Decoder::Done;
        self.encoder = Encoder::Nothing;
        self.request = Request::default();
        self.answered = None;
        self.ended = false;
        self.parsed = false;
        let mut parser = RequestParser::new(self.limits);
        let mut may_skip = true;
        let mut armed = false;
        poll_fn(|cx| {
            loop {
                // One empty line before a request is forgiven (RFC 9112 section 2.2).
                if may_skip && self.io.input.starts_with(b"\r\n") {
                    self.io.input.advance(2);
                    may_skip = false;
                }
                if !(self.io.input.is_empty() || (may_skip && self.io.input == b"\r"[..])) {
                    match parser.parse(&self.io.input, &self.edge, head) {
                        Err(reject) => return Poll::Ready(Next::Reject(reject)),
                        Ok(Some(parsed)) => {
                            self.begin(parsed, head);
                            return Poll::Ready(Next::Request);
                        }
                        Ok(None) => {}
                    }
                }
                match self.io.poll_fill(cx) {
                    Poll::Ready(Ok(1..)) => {}
                    Poll::Ready(_) => return Poll::Ready(Next::Closed),
                    Poll::Pending => break,
                }
            }
            if !armed {
                self.timer.arm(Instant::now() + self.timeouts.header);
                armed = true;
            }
            self.timer
                .poll(cx)
                .map(|()| Next::Reject(Reject::timeout("request head did not come in time")))
        })
        .await
    }

    fn begin(&mut self, parsed: Parsed, head: &RequestHead) {
        self.io.input.advance(parsed.len);
        let names = TrailerNames::of_requests(parsed.underscores);
        self.decoder = Decoder::new(head.framing, names);
        self.parsed = true;
        self.request = Request {
            to_head: head.method == Method::Head,
            http10: head.version == Version::Http10,
            awaits_continue: head.expects_continue,
        };
        self.close |= !parsed.keep_alive;
    }

    /// Whether an answer has begun that is not complete.
    fn is_cut(&self) -> bool {
        self.answered.is_some() && !self.ended
    }

    /// Whether the exchange is over and the connection can serve another.
    pub(crate) fn is_reusable(&self) -> bool {
        self.ended
            && !self.close
            && self.decoder.is_done()
            && self.io.queued() == 0
            && !self.io.ended
    }

    /// Whether an answer has begun.
    pub(crate) fn has_answered(&self) -> bool {
        self.answered.is_some()
    }

    /// After an early answer: reads the rest of the request, within bounds, so that the connection can be kept.
    pub(crate) async fn drain(&mut self) {
        if self.close || !self.ended || self.decoder.is_done() {
            return;
        }
        let mut left = DRAIN;
        let mut timer = std::mem::take(&mut self.timer);
        let read = timer
            .within(
                self.timeouts.drain,
                poll_fn(|cx| {
                    loop {
                        match ready!(self.poll_body(cx)) {
                            Ok(Some(data)) if (data.len() as u64) < left => {
                                left -= data.len() as u64
                            }
                            Ok(None) => return Poll::Ready(()),
                            _ => {
                                self.close = true;
                                return Poll::Ready(());
                            }
                        }
                    }
                }),
            )
            .await;
        self.timer = timer;
        self.close |= read.is_err();
    }

    /// Ends the connection so that the client sees what was written: our direction first, then what it still sends
    /// is dropped for a moment, because closing over unread bytes would be a reset that takes the answer with it.
    pub(crate) async fn close(mut self) {
        // Also of an answer that is cut the client gets what there is.
        let cut = self.is_cut();
        let mut timer = std::mem::take(&mut self.timer);
        let io = &mut self.io;
        let flushed = timer
            .within(self.timeouts.linger, poll_fn(|cx| io.poll_flush(cx)))
            .await;
        if cut || !matches!(flushed, Ok(Ok(()))) || io.ended {
            return;
        }
        let unread = !self.parsed
            || !self.decoder.is_done()
            || !io.input.is_empty()
            || !io.socket.is_quiet();
        // TLS says that this is the end, for which a client that reads nothing may have no room.
        let end = poll_fn(|cx| Pin::new(&mut io.socket).poll_shutdown(cx));
        let shut = timer.within(self.timeouts.linger, end).await;
        if !matches!(shut, Ok(Ok(()))) || !unread {
            return;
        }
        let mut left = LINGER;
        let rest = poll_fn(|cx| {
            loop {
                io.input.clear();
                match ready!(io.poll_fill(cx)) {
                    Ok(n @ 1..) if n < left => left -= n,
                    _ => return Poll::Ready(()),
                }
            }
        });
        // Whether the client has finished or not, it had its moment.
        let _ = timer.within(self.timeouts.linger, rest).await;
    }
}

/// An answer that ends with its connection must not look complete when it is cut.
impl<S: Socket> Drop for H1Down<S> {
    fn drop(&mut self) {
        if self.is_cut() && matches!(self.encoder, Encoder::UntilClose) {
            self.io.socket.reset_on_close();
        }
    }
}

impl<S: Socket> Down for H1Down<S> {
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, DownFault>> {
        loop {
            match self.decoder.next(&mut self.io.input) {
                Ok(Piece::Data(data)) => {
                    self.request.awaits_continue = false;
                    return Poll::Ready(Ok(Some(data)));
                }
                Ok(Piece::End) => return Poll::Ready(Ok(None)),
                Ok(Piece::More) => {}
                Err(reject) => {
                    self.close = true;
                    return Poll::Ready(Err(DownFault::Reject(reject)));
                }
            }
            match ready!(self.io.poll_fill(cx)) {
                Ok(1..) => {}
                // Only a tunnel ends so.
                Ok(0) if self.decoder.ends_at_close() => {}
                _ => return Poll::Ready(Err(DownFault::Closed)),
            }
        }
    }

    fn take_trailers(&mut self) -> Option<Box<Headers>> {
        self.decoder.take_trailers()
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<DownFault> {
        while self.io.input.len() < PIPELINE {
            match ready!(self.io.poll_fill(cx)) {
                Ok(1..) => {}
                _ => return Poll::Ready(DownFault::Closed),
            }
        }
        Poll::Pending
    }

    fn send_head(&mut self, head: &ResponseHead) {
        debug_assert!(self.answered.is_none(), "one final head an exchange");
        if head.is_informational() {
            if head.status == 100 {
                self.request.awaits_continue = false;
            }
            if !self.request.http10 {
                encode::informational(head, self.io.output.end());
            }
            return;
        }
        self.answered = Some(head.status);
        if head.is_switching() {
            self.close = true;
            self.decoder = Decoder::UntilClose;
            self.encoder = encode::switching(head, self.io.output.end());
            return;
        }
        // What is left of the request is read only when it is short for certain and coming for certain.
        let rest_is_short = self.decoder.remaining().is_some_and(|n| n < DRAIN);
        // After 408 it has been waited for in vain (RFC 9110 section 15.5.9).
        let rest_may_come =
            self.decoder.is_done() || !self.request.awaits_continue && head.status != 408;
        self.close |=
            self.request.http10 || self.ticket.has_begun() || !rest_is_short || !rest_may_come;
        let to = AnswerTo {
            head: self.request.to_head,
            http10: self.request.http10,
            close: self.close,
        };
        self.encoder = encode::answer(head, to, self.io.output.end());
    }

    fn send_body(&mut self, data: Bytes) -> Result<(), LengthMismatch> {
        self.encoder.data(data, &mut self.io.output)
    }

    fn send_end(&mut self, trailers: Option<&Headers>) -> Result<(), LengthMismatch> {
        self.encoder.end(trailers, &mut self.io.output)?;
        self.ended = true;
        if self.answered == Some(101) {
            self.io.queue_end();
        }
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), DownFault>> {
        self.io.poll_flush(cx).map_err(|_| DownFault::Closed)
    }

    fn queued(&self) -> usize {
        self.io.queued()
    }

    fn is_full(&self) -> bool {
        self.io.output.is_full()
    }

    fn give_up_body(&mut self) {
        while let Ok(Piece::Data(_)) = self.decoder.next(&mut self.io.input) {
            self.request.awaits_continue = false;
        }
    }

    fn answered(&self) -> Option<u16> {
        self.answered
    }

    fn timer(&mut self) -> &mut Timer {
        &mut self.timer
    }

    fn patience(&self) -> Duration {
        self.timeouts.body
    }
}

#[cfg(test)]
#[path = "down_tests.rs"]
mod tests;

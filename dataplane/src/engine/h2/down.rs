//! A client's side over one HTTP/2 stream.
//!
//! Bytes go to the `h2` crate only as far as the client's windows and the connection's send buffer take them; the rest
//! waits here, where it is bounded by [`Down::is_full`]. Room for the request's body is given back as it is taken.

use super::head;
use crate::engine::deadline::{ClientTimeouts, Timer};
use crate::engine::fault::DownFault;
use crate::engine::head::{Framing, ResponseHead};
use crate::engine::traits::Down;
use crate::h1::Reject;
use crate::h1::chunked::TrailerNames;
use crate::h1::encode::LengthMismatch;
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Method, Response};
use model::Headers;
use std::collections::VecDeque;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::Instant;

/// The answer to a WebSocket that ended otherwise than with one, but well.
const NO_TUNNEL: u16 = 502;
/// From here on the queue counts as full.
const FULL: usize = 16 << 10;
/// What a client must take of an answer, in bytes a second over the time that it may take nothing: drops keep no
/// stream open.
const SLOWEST: u64 = 240;

/// One stream of a client's HTTP/2 connection.
#[derive(Debug)]
pub struct H2Down {
    body: RecvStream,
    respond: SendResponse<Bytes>,
    /// After the final head.
    send: Option<SendStream<Bytes>>,
    timer: Timer,
    patience: Duration,
    kind: Kind,
    /// The request's body has been taken to its end.
    body_ended: bool,
    names: TrailerNames,
    trailers: Option<Box<Headers>>,
    /// The final head, until it is known whether anything follows or it has to leave.
    head: Option<Response<()>>,
    queue: VecDeque<Bytes>,
    queued: usize,
    end: End,
    answered: Option<u16>,
    /// The answer has no body whatever is written to it.
    bodiless: bool,
    /// Bytes of the body that the head announced and that have not been queued.
    left: Option<u64>,
    /// The stream is a tunnel.
    switched: bool,
    /// The client has reset the stream, or is gone.
    gone: bool,
    stall: Stall,
}

/// What the request's method makes of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Plain,
    /// HEAD: the answer has no body.
    Head,
    /// CONNECT: success is a tunnel, and nothing else is.
    Connect,
}

impl Kind {
    pub(super) fn of(method: &Method) -> Self {
        match *method {
            Method::HEAD => Self::Head,
            Method::CONNECT => Self::Connect,
            _ => Self::Plain,
        }
    }
}

/// How far the end of an answer is.
#[derive(Debug)]
enum End {
    Open,
    /// Queued.
    Plain,
    Trailers(HeaderMap),
    /// Handed over.
    Sent,
}

/// Watches a client that does not take what is queued.
#[derive(Debug, Default)]
struct Stall {
    timer: Timer,
    /// Bytes handed over since the timer was set; `None`: it is not.
    taken: Option<u64>,
}

impl H2Down {
    pub(super) fn new(
        body: RecvStream,
        respond: SendResponse<Bytes>,
        kind: Kind,
        names: TrailerNames,
        timeouts: &ClientTimeouts,
    ) -> Self {
        Self {
            body,
            respond,
            send: None,
            timer: Timer::default(),
            patience: timeouts.body,
            kind,
            body_ended: false,
            names,
            trailers: None,
            head: None,
            queue: VecDeque::new(),
            queued: 0,
            end: End::Open,
            answered: None,
            bodiless: false,
            left: None,
            switched: false,
            gone: false,
            stall: Stall::default(),
        }
    }

    /// Whether the client gave the stream up.
    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }

    /// Ends the stream: an answer that is not complete is reset, so that it does not look complete. A complete one to a
    /// request whose body is still coming tells the client, by a reset without error, that the rest is not wanted; the
    /// `h2` crate does that when the stream is dropped.
    pub(super) fn finish(mut self) {
        if !matches!(self.end, End::Sent) {
            let reason = match self.switched {
                // As a TCP connection that is reset (RFC 8441 section 5).
                true => Reason::CANCEL,
                false => Reason::INTERNAL_ERROR,
            };
            match &mut self.send {
                Some(send) => send.send_reset(reason),
                None => self.respond.send_reset(reason),
            }
        }
    }

    fn lost(&mut self) -> DownFault {
        self.gone = true;
        DownFault::Closed
    }

    /// Hands the head over. `Some`: the stream for what follows it.
    fn hand_over_head(&mut self) -> Result<(), DownFault> {
        if let Some(head) = self.head.take() {
            let ends = self.queue.is_empty() && matches!(self.end, End::Plain);
            match self.respond.send_response(head, ends) {
                Ok(stream) => self.send = Some(stream),
                Err(_) => return Err(self.lost()),
            }
            if ends {
                self.end = End::Sent;
            }
        }
        Ok(())
    }

    /// Hands over as much of the body as the client takes.
    fn poll_hand_over_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), DownFault>> {
        let Some(send) = &mut self.send else {
            return Poll::Ready(Ok(()));
        };
        while let Some(front) = self.queue.front_mut() {
            send.reserve_capacity(self.queued);
            let room = match send.capacity() {
                0 => match send.poll_capacity(cx) {
                    Poll::Ready(Some(Ok(room))) => room,
                    Poll::Ready(_) => return Poll::Ready(Err(self.lost())),
                    Poll::Pending => return self.poll_stall(cx),
                },
                room => room,
            };
            let piece = front.split_to(room.min(front.len()));
            if front.is_empty() {
                self.queue.pop_front();
            }
            self.queued -= piece.len();
            if let Some(taken) = &mut self.stall.taken {
                *taken += piece.len() as u64;
            }
            let ends = self.queue.is_empty() && matches!(self.end, End::Plain);
            if send.send_data(piece, ends).is_err() {
                return Poll::Ready(Err(self.lost()));
            }
            if ends {
                self.end = End::Sent;
            }
        }
        self.stall.taken = None;
        let sent = match std::mem::replace(&mut self.end, End::Sent) {
            End::Open => {
                self.end = End::Open;
                Ok(())
            }
            End::Plain => send.send_data(Bytes::new(), true),
            End::Trailers(trailers) => send.send_trailers(trailers),
            End::Sent => Ok(()),
        };
        Poll::Ready(sent.map_err(|_| self.lost()))
    }

    /// Waits for the client's window, for as long as it takes a little.
    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), DownFault>> {
        if self.switched {
            // A tunnel has a deadline of its own.
            return Poll::Pending;
        }
        let stall = &mut self.stall;
        if stall.taken.is_none() {
            stall.taken = Some(0);
            stall.timer.arm(Instant::now() + self.patience);
        }
        while stall.timer.poll(cx).is_ready() {
            if stall.taken < Some(SLOWEST * self.patience.as_secs().max(1)) {
                return Poll::Ready(Err(DownFault::Timeout));
            }
            stall.taken = Some(0);
            stall.timer.arm(Instant::now() + self.patience);
        }
        Poll::Pending
    }
}

impl Down for H2Down {
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, DownFault>> {
        while !self.body_ended {
            match ready!(self.body.poll_data(cx)) {
                Some(Ok(data)) => {
                    // Fails only for more than was received.
                    let _ = self.body.flow_control().release_capacity(data.len());
                    if !data.is_empty() {
                        return Poll::Ready(Ok(Some(data)));
                    }
                }
                Some(Err(_)) => return Poll::Ready(Err(self.lost())),
                None => {
                    let Ok(trailers) = ready!(self.body.poll_trailers(cx)) else {
                        return Poll::Ready(Err(self.lost()));
                    };
                    self.body_ended = true;
                    if let Some(map) = trailers {
                        self.trailers = head::read_trailers(&map, self.names)
                            .map_err(|r: Reject| DownFault::Reject(r))?;
                    }
                }
            }
        }
        Poll::Ready(Ok(None))
    }

    fn take_trailers(&mut self) -> Option<Box<Headers>> {
        self.trailers.take()
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<DownFault> {
        let reset = match &mut self.send {
            Some(send) => send.poll_reset(cx),
            None => self.respond.poll_reset(cx),
        };
        reset.map(|_| self.lost())
    }

    fn send_head(&mut self, head: &ResponseHead) {
        debug_assert!(self.answered.is_none(), "one final head an exchange");
        if head.is_informational() {
            // A client that is gone shows itself when flushing.
            let _ = self.respond.send_informational(head::answer(head, false));
            return;
        }
        if self.kind == Kind::Connect {
            if head.is_switching() {
                self.switched = true;
                self.head = Some(head::websocket_open(head));
                self.answered = Some(head.status);
                return;
            }
            if matches!(head.status, 200..300) {
                // To this client it would mean that there is a tunnel.
                let refusal = ResponseHead {
                    status: NO_TUNNEL,
                    ..ResponseHead::default()
                };
                self.bodiless = true;
                self.head = Some(head::answer(&refusal, true));
                self.answered = Some(NO_TUNNEL);
                return;
            }
        }
        self.bodiless = self.kind == Kind::Head || matches!(head.status, 204 | 304);
        self.left = match head.framing {
            _ if self.bodiless => None,
            Framing::Length(n) => Some(n),
            Framing::Empty => Some(0),
            Framing::Chunked | Framing::UntilClose => None,
        };
        self.head = Some(head::answer(head, self.bodiless));
        self.answered = Some(head.status);
    }

    fn send_body(&mut self, data: Bytes) -> Result<(), LengthMismatch> {
        if self.bodiless || data.is_empty() {
            return Ok(());
        }
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(data.len() as u64).ok_or(LengthMismatch)?;
        }
        self.queued += data.len();
        self.queue.push_back(data);
        Ok(())
    }

    fn send_end(&mut self, trailers: Option<&Headers>) -> Result<(), LengthMismatch> {
        if self.left.is_some_and(|left| left > 0) {
            return Err(LengthMismatch);
        }
        self.end = match trailers {
            Some(trailers) if !self.bodiless && !trailers.is_empty() => {
                End::Trailers(head::fields(trailers))
            }
            _ => End::Plain,
        };
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), DownFault>> {
        self.hand_over_head()?;
        self.poll_hand_over_body(cx)
    }

    fn queued(&self) -> usize {
        let rest = self.head.is_some() || matches!(self.end, End::Plain | End::Trailers(_));
        self.queued + usize::from(rest)
    }

    fn is_full(&self) -> bool {
        self.queued >= FULL
    }

    fn give_up_body(&mut self) {
        // What arrives is dropped by the crate once the stream is; its windows bound it until then.
    }

    fn answered(&self) -> Option<u16> {
        self.answered
    }

    fn timer(&mut self) -> &mut Timer {
        &mut self.timer
    }

    fn patience(&self) -> Duration {
        self.patience
    }
}

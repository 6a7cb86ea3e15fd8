//! One exchange on an HTTP/2 connection.

use super::conn::H2Conn;
use super::fields;
use super::slots::Slot;
use crate::engine::fault::UpFault;
use crate::engine::h2::head as client;
use crate::engine::head::{Framing, Method, RequestHead, ResponseHead};
use crate::engine::traits::Up;
use crate::engine::up::MAX_INFORMATIONAL;
use crate::engine::websocket;
use crate::h1::chunked::TrailerNames;
use crate::h1::encode::LengthMismatch;
use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request};
use model::Headers;
use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// From here on the queue counts as full.
const FULL: usize = 16 << 10;

/// One exchange of several on a connection. Dropping it before both directions are complete resets its stream
/// (CANCEL) and leaves the connection to the others.
pub struct H2Up {
    conn: Rc<H2Conn>,
    slot: Option<Slot>,
    reused: bool,
    outgoing: Outgoing,
    response: Option<ResponseFuture>,
    body: Option<RecvStream>,
    /// Bytes that are still to come of a body whose length was announced.
    left: Option<u64>,
    to_head: bool,
    /// The stream is to become a tunnel, or is one.
    asked: Option<Box<Asked>>,
    trailers: Option<Box<Headers>>,
    informational: u8,
    /// Something of an answer has arrived.
    received: bool,
    /// The upstream has reset the stream, which is counted.
    reset: Cell<bool>,
    /// The answer has arrived completely.
    complete: bool,
}

/// What an extended CONNECT asks for.
struct Asked {
    protocol: Box<str>,
    /// The proof that a WebSocket's client wants to see.
    accept: Option<Box<str>>,
    /// The upstream has agreed.
    open: bool,
}

impl Asked {
    /// What this request asks for over HTTP/2: the first of the protocols that it offers. Only a GET becomes a CONNECT
    /// without losing what it was.
    fn of(head: &RequestHead) -> Option<Box<Self>> {
        let offered = head.upgrade.as_deref()?;
        let protocol = offered.split(", ").next()?;
        let key = websocket::key_of(head).filter(|_| websocket::is_websocket(protocol));
        (head.method == Method::Get).then(|| {
            Box::new(Self {
                protocol: protocol.into(),
                accept: key.map(websocket::accept),
                open: false,
            })
        })
    }

    /// Makes the answer that opens it what it would be over HTTP/1.1.
    fn opened(&mut self, head: &mut ResponseHead) -> Result<(), &'static str> {
        self.open = true;
        head.status = 101;
        head.upgrade = Some(self.protocol.clone());
        // A length would mean nothing (RFC 9110 section 9.3.6).
        head.framing = Framing::UntilClose;
        head.headers.remove(websocket::ACCEPT);
        let Some(accept) = &self.accept else {
            return Ok(());
        };
        let pushed = head.headers.push(websocket::ACCEPT, &**accept);
        pushed.map_err(|_| "answer head is not valid")
    }
}

/// The request, as far as h2 has not taken it.
#[derive(Default)]
struct Outgoing {
    head: Option<Request<()>>,
    stream: Option<SendStream<Bytes>>,
    queue: VecDeque<Bytes>,
    queued: usize,
    /// Bytes that may still be queued.
    left: Option<u64>,
    /// The head says that nothing follows it.
    bodiless: bool,
    trailers: Option<HeaderMap>,
    /// The end has been queued,
    ended: bool,
    /// and has been taken.
    sent: bool,
    /// Why it cannot be sent.
    fault: Option<UpFault>,
}

impl Outgoing {
    /// What goes next is the last.
    fn is_last(&self) -> bool {
        self.ended && self.queue.is_empty() && self.trailers.is_none()
    }
}

impl H2Up {
    pub(super) fn new(conn: Rc<H2Conn>, slot: Slot, reused: bool) -> Self {
        Self {
            conn,
            slot: Some(slot),
            reused,
            outgoing: Outgoing::default(),
            response: None,
            body: None,
            left: None,
            to_head: false,
            asked: None,
            trailers: None,
            informational: 0,
            received: false,
            reset: Cell::new(false),
            complete: false,
        }
    }

    /// Whether the connection has served an exchange before.
    pub fn is_reused(&self) -> bool {
        self.reused
    }

    /// Whether the stream can become a tunnel, as far as the upstream has said.
    pub(crate) fn takes_tunnel(&self) -> bool {
        self.conn.takes_connect()
    }

    /// Waits until the upstream has said what it takes.
    pub(crate) async fn settle(&self) {
        self.conn.settle().await;
    }

    /// Counts a reset of the upstream's, once.
    fn note(&self, error: &h2::Error) {
        if error.is_reset() && error.is_remote() && !self.reset.replace(true) {
            self.conn.was_reset();
        }
    }

    fn fault(&self, error: &h2::Error) -> UpFault {
        self.note(error);
        let reset = |reused| UpFault::Reset {
            reused,
            received: self.received,
        };
        // A GOAWAY reaches only streams that it names as not processed.
        let refused = error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM);
        if error.is_remote() {
            match error.reason() {
                _ if refused && !self.received => UpFault::Unprocessed,
                Some(Reason::HTTP_1_1_REQUIRED) => {
                    UpFault::Protocol("the upstream asks for HTTP/1.1")
                }
                _ => reset(false),
            }
        } else if error.is_library() {
            UpFault::Protocol("the upstream broke the rules of HTTP/2")
        } else {
            reset(self.reused)
        }
    }

    /// The upstream takes no more of the request: why?
    fn why_stopped(&mut self, cx: &mut Context<'_>) -> UpFault {
        let stream = self.outgoing.stream.as_mut();
        match stream.map(|s| s.poll_reset(cx)) {
            Some(Poll::Ready(Ok(reason))) => {
                if reason == Reason::REFUSED_STREAM && !self.received {
                    UpFault::Unprocessed
                } else {
                    UpFault::Reset {
                        reused: false,
                        received: self.received,
                    }
                }
            }
            Some(Poll::Ready(Err(error))) => self.fault(&error),
            _ => UpFault::Reset {
                reused: self.reused,
                received: self.received,
            },
        }
    }

    fn start(&mut self) -> Result<(), UpFault> {
        let Some(head) = self.outgoing.head.take() else {
            return Ok(());
        };
        // The end of a body that turned out to be empty stays a frame of its own: gRPC servers wait for one.
        let last = self.outgoing.bodiless && self.outgoing.is_last();
        match self.conn.sender.clone().send_request(head, last) {
            Ok((response, stream)) => {
                self.response = Some(response);
                self.outgoing.stream = Some(stream);
                self.outgoing.sent = last;
                Ok(())
            }
            // The connection ended meanwhile: nothing was sent.
            Err(error) => Err(
                if error.is_library() || error.is_remote() || error.is_io() {
                    UpFault::Unprocessed
                } else {
                    UpFault::Protocol("request cannot be sent over HTTP/2")
                },
            ),
        }
    }

    /// Hands over as much as the peer's windows allow.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UpFault>> {
        self.start()?;
        loop {
            let out = &mut self.outgoing;
            let (Some(stream), Some(piece)) = (&mut out.stream, out.queue.front_mut()) else {
                break;
            };
            stream.reserve_capacity(piece.len());
            let room = stream.capacity();
            if room == 0 {
                match ready!(stream.poll_capacity(cx)) {
                    Some(Ok(_)) => continue,
                    Some(Err(error)) => return Poll::Ready(Err(self.fault(&error))),
                    None => return Poll::Ready(Err(self.why_stopped(cx))),
                }
            }
            let data = piece.split_to(room.min(piece.len()));
            out.queued -= data.len();
            if piece.is_empty() {
                out.queue.pop_front();
            }
            let last = out.is_last();
            out.sent = last;
            let taken = match &mut out.stream {
                Some(stream) => stream.send_data(data, last),
                None => break,
            };
            if taken.is_err() {
                return Poll::Ready(Err(self.why_stopped(cx)));
            }
        }
        let out = &mut self.outgoing;
        if out.ended
            && !out.sent
            && out.queue.is_empty()
            && let Some(stream) = &mut out.stream
        {
            out.sent = true;
            let taken = match out.trailers.take() {
                Some(trailers) => stream.send_trailers(trailers),
                None => stream.send_data(Bytes::new(), true),
            };
            if taken.is_err() {
                return Poll::Ready(Err(self.why_stopped(cx)));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Tells the upstream that what it sent is no answer.
    fn refuse(&mut self, why: &'static str) -> UpFault {
        if let Some(stream) = &mut self.outgoing.stream {
            stream.send_reset(Reason::PROTOCOL_ERROR);
        }
        UpFault::Protocol(why)
    }

    /// The body is complete, unless it is shorter than announced.
    fn end_of_body(&mut self) -> Result<(), UpFault> {
        match self.left {
            Some(1..) => Err(self.refuse("body is shorter than announced")),
            _ => Ok(()),
        }
    }
}

impl Up for H2Up {
    fn send_head(&mut self, head: &RequestHead) {
        self.to_head = head.method == Method::Head;
        self.asked = Asked::of(head).filter(|_| self.conn.takes_connect());
        let protocol = self.asked.as_ref().map(|asked| &*asked.protocol);
        let out = &mut self.outgoing;
        out.left = match head.framing {
            _ if protocol.is_some() => None,
            Framing::Empty => Some(0),
            Framing::Length(n) => Some(n),
            Framing::Chunked | Framing::UntilClose => None,
        };
        out.bodiless = out.left == Some(0);
        match fields::request(head, self.conn.tls, self.conn.peer, protocol) {
            Ok(request) => out.head = Some(request),
            Err(fault) => out.fault = Some(fault),
        }
    }

    fn send_body(&mut self, data: Bytes) -> Result<(), LengthMismatch> {
        if data.is_empty() {
            return Ok(());
        }
        let out = &mut self.outgoing;
        if let Some(left) = &mut out.left {
            *left = left.checked_sub(data.len() as u64).ok_or(LengthMismatch)?;
        }
        out.queued += data.len();
        out.queue.push_back(data);
        Ok(())
    }

    fn send_end(&mut self, trailers: Option<&Headers>) -> Result<(), LengthMismatch> {
        if self.asked.as_ref().is_some_and(|asked| !asked.open) {
            // That the request has no body; what may follow is the tunnel's.
            return Ok(());
        }
        let out = &mut self.outgoing;
        if matches!(out.left, Some(1..)) {
            return Err(LengthMismatch);
        }
        out.trailers = trailers.map(client::fields);
        out.ended = true;
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UpFault>> {
        if let Some(fault) = self.outgoing.fault {
            return Poll::Ready(Err(fault));
        }
        let result = ready!(self.poll_send(cx));
        self.outgoing.fault = result.err();
        Poll::Ready(result)
    }

    fn is_full(&self) -> bool {
        self.outgoing.queued >= FULL
    }

    fn has_queued(&self) -> bool {
        let out = &self.outgoing;
        out.head.is_some() || out.queued > 0 || (out.ended && !out.sent)
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        head: &mut ResponseHead,
    ) -> Poll<Result<(), UpFault>> {
        let Some(response) = &mut self.response else {
            let fault = self.outgoing.fault.unwrap_or(UpFault::Unprocessed);
            return Poll::Ready(Err(fault));
        };
        if let Poll::Ready(Some(informational)) = response.poll_informational(cx) {
            let informational = informational.map_err(|e| self.fault(&e))?;
            self.received = true;
            self.informational += 1;
            if self.informational > MAX_INFORMATIONAL {
                return Poll::Ready(Err(self.refuse("too many informational answers")));
            }
            let status = informational.status();
            if status == http::StatusCode::SWITCHING_PROTOCOLS {
                return Poll::Ready(Err(self.refuse("switched protocols unasked")));
            }
            let read = fields::response(status, informational.headers(), true, head);
            return Poll::Ready(read.map_err(|why| self.refuse(why)));
        }
        let answer = ready!(Pin::new(response).poll(cx));
        self.response = None;
        let (parts, body) = match answer {
            Ok(answer) => answer.into_parts(),
            Err(error) => {
                let fault = self.fault(&error);
                self.outgoing.fault = Some(fault);
                return Poll::Ready(Err(fault));
            }
        };
        self.received = true;
        self.conn.health.progress();
        let read = fields::response(parts.status, &parts.headers, body.is_end_stream(), head);
        if let Err(why) = read {
            return Poll::Ready(Err(self.refuse(why)));
        }
        if let Some(asked) = &mut self.asked {
            if matches!(head.status, 200..300) {
                if let Err(why) = asked.opened(head) {
                    return Poll::Ready(Err(self.refuse(why)));
                }
            } else {
                // The request is over after all. If that cannot be said any more, the answer tells why.
                self.outgoing.ended = true;
                let _ = self.poll_send(cx);
            }
        }
        let bodiless = self.to_head || matches!(head.status, 204 | 304);
        self.left = match head.framing {
            Framing::Length(n) if !bodiless => Some(n),
            _ => None,
        };
        self.body = Some(body);
        Poll::Ready(Ok(()))
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, UpFault>> {
        while let Some(body) = &mut self.body {
            match ready!(body.poll_data(cx)) {
                Some(Ok(data)) => {
                    self.conn.health.progress();
                    // An error says that the stream is over, which the next turn tells better.
                    let _ = body.flow_control().release_capacity(data.len());
                    if let Some(left) = &mut self.left {
                        match left.checked_sub(data.len() as u64) {
                            Some(rest) => *left = rest,
                            None => {
                                let why = "body is longer than announced";
                                return Poll::Ready(Err(self.refuse(why)));
                            }
                        }
                    }
                    if !data.is_empty() {
                        return Poll::Ready(Ok(Some(data)));
                    }
                }
                // A complete answer, after which the rest of the request is not wanted (RFC 9113 section 8.1).
                Some(Err(error))
                    if error.is_reset() && error.reason() == Some(Reason::NO_ERROR) =>
                {
                    self.note(&error);
                    self.body = None;
                }
                Some(Err(error)) => return Poll::Ready(Err(self.fault(&error))),
                None => {
                    let came = {
                        let trailers = pin!(body.trailers());
                        ready!(trailers.poll(cx))
                    };
                    self.body = None;
                    if let Some(fields) = came.map_err(|e| self.fault(&e))? {
                        match client::read_trailers(&fields, TrailerNames::Any) {
                            Ok(list) => self.trailers = list,
                            Err(reject) => return Poll::Ready(Err(self.refuse(reject.reason))),
                        }
                    }
                }
            }
        }
        self.end_of_body()?;
        self.complete = true;
        Poll::Ready(Ok(None))
    }

    fn take_trailers(&mut self) -> Option<Box<Headers>> {
        self.trailers.take()
    }

    fn release(self) {}
}

impl Drop for H2Up {
    fn drop(&mut self) {
        if !self.complete {
            self.conn.health.doubt();
        }
        drop(self.slot.take());
        self.conn.freed();
    }
}

impl fmt::Debug for H2Up {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("H2Up")
            .field("conn", &self.conn)
            .field("reused", &self.reused)
            .finish_non_exhaustive()
    }
}

//! An upstream's side over HTTP/1.

use super::fault::UpFault;
use super::head::{Method, RequestHead, ResponseHead};
use super::io::{Io, Socket};
use super::pool::{Home, Idle};
use super::traits::Up;
use super::websocket;
use crate::h1::body::{Decoder, Piece, TrailerNames};
use crate::h1::encode::{self, Encoder, LengthMismatch};
use crate::h1::response::ResponseParser;
use crate::h1::upgrade;
use bytes::{Buf, Bytes};
use model::Headers;
use std::task::{Context, Poll, ready};

/// Informational heads before one final head; more is an upstream that has lost its way.
pub(super) const MAX_INFORMATIONAL: u8 = 16;

/// An HTTP/1 connection to an upstream, and the exchange on it. It lies in one place from its first exchange to its
/// last, so that taking it from the pool and putting it back moves a pointer.
#[derive(Debug)]
pub struct H1Up<S: Socket> {
    io: Io<S>,
    /// `None` while it is idle, and where no pool takes it back.
    home: Option<Home<S>>,
    pub(super) idle: Idle,
    exchange: State,
}

/// Of one exchange.
#[derive(Debug)]
struct State {
    encoder: Encoder,
    decoder: Decoder,
    parser: ResponseParser,
    to_head: bool,
    /// Protocols that the request offered.
    offered: Option<Box<str>>,
    /// The proof that the upstream owes for switching.
    accept: Option<Box<str>>,
    /// The connection is a tunnel.
    switched: bool,
    informational: u8,
    /// At least one byte of an answer has arrived.
    received: bool,
    /// The request has been queued completely.
    sent: bool,
    /// The final head has come and allows another request.
    keep_alive: bool,
}

impl Default for State {
    fn default() -> Self {
        Self {
            encoder: Encoder::Nothing,
            decoder: Decoder::Done,
            parser: ResponseParser::default(),
            to_head: false,
            offered: None,
            accept: None,
            switched: false,
            informational: 0,
            received: false,
            sent: false,
            keep_alive: false,
        }
    }
}

impl<S: Socket> H1Up<S> {
    /// An exchange on a new connection that no pool takes back.
    pub fn new(socket: S) -> Box<Self> {
        Self::on(socket, None, Idle::default())
    }

    pub(super) fn on(socket: S, home: Option<Home<S>>, idle: Idle) -> Box<Self> {
        Box::new(Self {
            io: Io::new(socket),
            home,
            idle,
            exchange: State::default(),
        })
    }

    /// Begins another exchange.
    pub(super) fn again(&mut self, home: Home<S>) {
        self.home = Some(home);
        self.exchange = State::default();
    }

    /// See [`Socket::is_quiet`].
    pub(super) fn is_quiet(&mut self) -> bool {
        self.io.socket.is_quiet()
    }

    /// The upstream's transport.
    pub fn socket(&self) -> &S {
        &self.io.socket
    }

    /// Whether the connection has served an exchange before.
    pub fn is_reused(&self) -> bool {
        self.idle.uses > 0
    }

    fn reset(&self) -> UpFault {
        UpFault::Reset {
            reused: self.is_reused(),
            received: self.exchange.received,
        }
    }

    /// Reads once; an end of the connection counts as zero bytes.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, UpFault>> {
        let n = ready!(self.io.poll_fill(cx)).map_err(|_| self.reset())?;
        self.exchange.received |= n > 0;
        Poll::Ready(Ok(n))
    }
}

impl<S: Socket> Up for Box<H1Up<S>> {
    fn send_head(&mut self, head: &RequestHead) {
        self.exchange.to_head = head.method == Method::Head;
        self.exchange.offered.clone_from(&head.upgrade);
        self.exchange.accept.clone_from(&head.websocket_accept);
        self.exchange.encoder = encode::request(head, self.io.output.end());
    }

    fn send_body(&mut self, data: Bytes) -> Result<(), LengthMismatch> {
        self.exchange.encoder.data(data, &mut self.io.output)
    }

    fn send_end(&mut self, trailers: Option<&Headers>) -> Result<(), LengthMismatch> {
        self.exchange.encoder.end(trailers, &mut self.io.output)?;
        self.exchange.sent = true;
        if self.exchange.switched {
            self.io.queue_end();
        }
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UpFault>> {
        self.io.poll_flush(cx).map_err(|_| self.reset())
    }

    fn is_full(&self) -> bool {
        self.io.output.is_full()
    }

    fn has_queued(&self) -> bool {
        self.io.has_queued()
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        head: &mut ResponseHead,
    ) -> Poll<Result<(), UpFault>> {
        loop {
            if !self.io.input.is_empty()
                && let Some(parsed) = self
                    .exchange
                    .parser
                    .parse(&self.io.input, self.exchange.to_head, head)
                    .map_err(UpFault::Protocol)?
            {
                self.io.input.advance(parsed.len);
                self.exchange.parser = ResponseParser::default();
                if head.is_switching() {
                    upgrade::check(self.exchange.offered.as_deref(), head.upgrade.as_deref())
                        .map_err(UpFault::Protocol)?;
                    if let Some(accept) = &self.exchange.accept
                        && head.headers.get(websocket::ACCEPT) != Some(accept.as_bytes())
                    {
                        return Poll::Ready(Err(UpFault::Protocol("wrong proof of WebSocket")));
                    }
                    self.exchange.switched = true;
                    self.exchange.encoder = Encoder::UntilClose;
                    self.exchange.decoder = Decoder::UntilClose;
                } else if head.is_informational() {
                    self.exchange.informational += 1;
                    if self.exchange.informational > MAX_INFORMATIONAL {
                        return Poll::Ready(Err(UpFault::Protocol(
                            "too many informational answers",
                        )));
                    }
                } else {
                    self.exchange.decoder = Decoder::new(parsed.body, TrailerNames::Any);
                    self.exchange.keep_alive = parsed.keep_alive;
                }
                return Poll::Ready(Ok(()));
            }
            if ready!(self.poll_fill(cx))? == 0 {
                return Poll::Ready(Err(self.reset()));
            }
        }
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, UpFault>> {
        loop {
            match self
                .exchange
                .decoder
                .next(&mut self.io.input)
                .map_err(|r| UpFault::Protocol(r.reason))?
            {
                Piece::Data(data) => return Poll::Ready(Ok(Some(data))),
                Piece::End => return Poll::Ready(Ok(None)),
                Piece::More => {}
            }
            if ready!(self.poll_fill(cx))? == 0 {
                return Poll::Ready(if self.exchange.decoder.ends_at_close() {
                    Ok(None)
                } else {
                    Err(self.reset())
                });
            }
        }
    }

    fn take_trailers(&mut self) -> Option<Box<Headers>> {
        self.exchange.decoder.take_trailers()
    }

    fn release(mut self) {
        let clean = self.exchange.sent
            && self.exchange.keep_alive
            && self.exchange.decoder.is_done()
            && self.io.input.is_empty()
            && self.io.queued() == 0
            && !self.io.ended;
        self.io.input.clear();
        self.io.park_input();
        if clean && let Some(home) = self.home.take() {
            home.put(self);
        }
    }
}

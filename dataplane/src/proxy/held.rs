//! Bodies that are held: a request's body that was read before an upstream was chosen, and an answer's body that a
//! plugin judges as a whole. To the relay this is a client like any other.

use super::replay::Replay;
use crate::engine::{Down, DownFault, ResponseHead, Timer};
use crate::h1::encode::LengthMismatch;
use bytes::{Bytes, BytesMut};
use model::Headers;
use std::task::{Context, Poll};
use std::time::Duration;

/// A client whose request body is here already, or whose answer is collected, or both.
pub(super) struct Held<'a, D> {
    down: &'a mut D,
    request: Source<'a>,
    /// The answer as far as it has come; `None`: it streams to the client.
    answer: Option<Collected>,
}

/// Where the request's body comes from.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    /// From the client.
    Client,
    /// It was read before.
    Whole { body: &'a Bytes, given: bool },
    /// From the client, and kept for another attempt.
    Kept(&'a Replay),
}

/// An answer that is held back.
#[derive(Default)]
pub(super) struct Collected {
    /// Bytes that are held at most.
    limit: u64,
    pub head: Option<ResponseHead>,
    pub body: BytesMut,
    pub trailers: Option<Headers>,
    pub complete: bool,
}

impl<'a, D: Down> Held<'a, D> {
    /// `collect`: bytes of the answer that are held at most; a longer one goes to the client after all.
    pub(super) fn new(down: &'a mut D, request: Source<'a>, collect: Option<u64>) -> Self {
        if let Source::Kept(replay) = request {
            replay.rewind();
        }
        Self {
            down,
            request,
            answer: collect.map(|limit| Collected {
                limit,
                ..Collected::default()
            }),
        }
    }

    /// What was collected; `None` when it went to the client.
    pub(super) fn into_answer(self) -> Option<Collected> {
        self.answer
    }

    /// Sends on what was held, and from now on everything.
    fn let_go(&mut self) -> Result<(), LengthMismatch> {
        let Some(held) = self.answer.take() else {
            return Ok(());
        };
        if let Some(head) = &held.head {
            self.down.send_head(head);
        }
        self.down.send_body(held.body.freeze())
    }
}

impl<D: Down> Down for Held<'_, D> {
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, DownFault>> {
        match &mut self.request {
            Source::Client => self.down.poll_body(cx),
            Source::Kept(replay) => replay.poll_body(self.down, cx),
            Source::Whole { body, given } if *given || body.is_empty() => Poll::Ready(Ok(None)),
            Source::Whole { body, given } => {
                *given = true;
                Poll::Ready(Ok(Some(body.clone())))
            }
        }
    }

    fn take_trailers(&mut self) -> Option<Box<Headers>> {
        match self.request {
            Source::Kept(replay) => replay.trailers(),
            _ => self.down.take_trailers(),
        }
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<DownFault> {
        self.down.poll_gone(cx)
    }

    fn send_head(&mut self, head: &ResponseHead) {
        if head.is_switching() {
            // What passes through a tunnel is nobody's body.
            self.request = Source::Client;
            self.answer = None;
        }
        match &mut self.answer {
            Some(held) if !head.is_informational() => held.head = Some(head.clone()),
            _ => self.down.send_head(head),
        }
    }

    fn send_body(&mut self, data: Bytes) -> Result<(), LengthMismatch> {
        if let Some(held) = &mut self.answer {
            if (held.body.len() + data.len()) as u64 <= held.limit {
                held.body.extend_from_slice(&data);
                return Ok(());
            }
            self.let_go()?;
        }
        self.down.send_body(data)
    }

    fn send_end(&mut self, trailers: Option<&Headers>) -> Result<(), LengthMismatch> {
        match &mut self.answer {
            Some(held) => {
                held.trailers = trailers.cloned();
                held.complete = true;
                Ok(())
            }
            None => self.down.send_end(trailers),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), DownFault>> {
        self.down.poll_flush(cx)
    }

    fn queued(&self) -> usize {
        self.down.queued()
    }

    fn is_full(&self) -> bool {
        self.down.is_full()
    }

    fn give_up_body(&mut self) {
        self.down.give_up_body();
    }

    fn answered(&self) -> Option<u16> {
        self.down.answered()
    }

    fn timer(&mut self) -> &mut Timer {
        self.down.timer()
    }

    fn patience(&self) -> Duration {
        self.down.patience()
    }
}

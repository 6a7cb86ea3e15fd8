//! One exchange: the request to the upstream, the answer to the client, both bodies at once.
//!
//! A turn moves what can be moved in each direction, then writes out both queues, until nothing more can be done
//! without waiting. Consequences:
//!
//! - A head and the first bytes of its body leave in one write.
//! - An early answer wins: it is read in every turn, also while the request's body still comes.
//! - Back-pressure: a side whose queue is full is not fed, so its source is not read. The other direction goes on;
//!   an upstream that answers while it reads cannot lock up with us.
//! - Whoever keeps the exchange waiting longer than its timeout is named by the fault.
//! - An answer that switches protocols turns both sides into a [`tunnel`], which knows neither taps nor a total.

use super::deadline::Timeouts;
use super::fault::{DownFault, Fault, Progress, UpFault};
use super::h2up::is_grpc;
use super::head::{Framing, RequestHead, ResponseHead};
use super::pace::Pace;
use super::traits::{BodyTap, Down, Up};
use super::tunnel;
use crate::h1::encode::LengthMismatch;
use model::headers::Known;
use std::future::poll_fn;
use std::task::{Context, Poll};
use tokio::time::Instant;

/// Relays one exchange. `request` has been routed and edited; `answer` is overwritten.
///
/// On success the answer has left completely; a request that was answered before its end is left to the caller's
/// connection loop. On failure with [`Progress::answered`] unset nothing final has reached the client: answer
/// locally, or try again as [`UpFault`] and [`Progress`] allow. With it set only the connection can be cut.
///
/// # Errors
/// See [`Fault`].
pub async fn relay<D: Down, U: Up, T: BodyTap>(
    down: &mut D,
    mut up: U,
    request: &RequestHead,
    answer: &mut ResponseHead,
    tap: &mut T,
    timeouts: &Timeouts,
    progress: &mut Progress,
) -> Result<(), Fault> {
    up.send_head(request);
    let mut relay = Relay {
        down,
        up: Some(up),
        request,
        answer,
        tap,
        timeouts,
        progress,
        has_body: !matches!(request.framing, Framing::Empty | Framing::Length(0)),
        head_is_held: false,
        started: false,
        answer_ended: false,
        switched: false,
        upload_fault: None,
        events: false,
        begun: None,
        pace: None,
        waiting: Waiting::Fresh,
    };
    let mut result = poll_fn(|cx| relay.poll(cx)).await;
    if let (Ok(()), true, Some(up)) = (&result, relay.switched, relay.up) {
        result = tunnel::carry(relay.down, up, timeouts.stream_idle, relay.progress).await;
        relay.progress.response_complete = result.is_ok();
    }
    relay.down.timer().disarm();
    result
}

/// What the armed deadline is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waiting {
    /// No deadline is armed, or something moved since.
    Fresh,
    Armed,
}

struct Relay<'a, D, U, T> {
    down: &'a mut D,
    /// Gone as soon as the upstream's part is over.
    up: Option<U>,
    request: &'a RequestHead,
    answer: &'a mut ResponseHead,
    tap: &'a mut T,
    timeouts: &'a Timeouts,
    progress: &'a mut Progress,
    has_body: bool,
    /// The final head has come and is with the tap.
    head_is_held: bool,
    /// The first turn is over.
    started: bool,
    answer_ended: bool,
    /// Both sides speak another protocol from now on.
    switched: bool,
    /// The upstream takes no more of the request. Its answer may still be on the way.
    upload_fault: Option<UpFault>,
    /// The answer is a stream of events.
    events: bool,
    begun: Option<Instant>,
    /// While the client is waited for.
    pace: Option<(Owes, Pace)>,
    waiting: Waiting,
}

/// What a client that is waited for has to do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owes {
    Body,
    Reading,
}

impl<D: Down, U: Up, T: BodyTap> Relay<'_, D, U, T> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        loop {
            let moved = self.turn(cx)?;
            if self.switched {
                return Poll::Ready(Ok(()));
            }
            if self.answer_ended && self.down.queued() == 0 {
                self.progress.response_complete = true;
                return Poll::Ready(Ok(()));
            }
            if !moved {
                break;
            }
            self.waiting = Waiting::Fresh;
        }
        if self.progress.request_complete
            && let Poll::Ready(fault) = self.down.poll_gone(cx)
        {
            return Poll::Ready(Err(Fault::Down(fault)));
        }
        if self.waiting == Waiting::Fresh {
            self.arm();
            self.waiting = Waiting::Armed;
        }
        self.down.timer().poll(cx).map(|()| Err(self.timed_out()))
    }

    /// Moves what can be moved without waiting; says whether anything did.
    fn turn(&mut self, cx: &mut Context<'_>) -> Result<bool, Fault> {
        let mut moved = self.request(cx)?;
        // Before the head has left there is nothing to read.
        if self.started {
            moved |= self.response(cx)?;
        } else {
            self.started = true;
            moved = true;
        }
        if let Some(up) = &mut self.up
            && self.upload_fault.is_none()
            && up.has_queued()
        {
            let full = up.is_full();
            match up.poll_flush(cx) {
                Poll::Ready(Ok(())) => moved |= full,
                // Perhaps it has answered and closed: look for the answer first.
                Poll::Ready(Err(fault)) => {
                    self.upload_fault = Some(fault);
                    moved = true;
                }
                Poll::Pending => {}
            }
        }
        let full = self.down.is_full();
        if self.down.queued() > 0 && self.down.poll_flush(cx).map_err(Fault::Down)?.is_ready() {
            moved |= full;
        }
        Ok(moved)
    }

    /// Client to upstream.
    fn request(&mut self, cx: &mut Context<'_>) -> Result<bool, Fault> {
        let mut moved = false;
        if !self.progress.request_complete && !self.has_body {
            if let Some(up) = &mut self.up {
                up.send_end(None).map_err(length)?;
            }
            self.progress.request_complete = true;
            moved = true;
        }
        while let Some(up) = &mut self.up
            && !self.progress.request_complete
            && self.upload_fault.is_none()
            && !up.is_full()
        {
            let Poll::Ready(piece) = self.down.poll_body(cx).map_err(Fault::Down)? else {
                return Ok(moved);
            };
            moved = true;
            match piece {
                Some(data) => {
                    self.progress.request_bytes += data.len() as u64;
                    let data = self.tap.request_chunk(data).map_err(|_| Fault::Aborted)?;
                    up.send_body(data).map_err(length)?;
                }
                None => {
                    let tail = self.tap.request_end().map_err(|_| Fault::Aborted)?;
                    up.send_body(tail).map_err(length)?;
                    let trailers = self.down.take_trailers();
                    up.send_end(trailers.as_deref()).map_err(length)?;
                    self.progress.request_complete = true;
                }
            }
        }
        Ok(moved)
    }

    /// Upstream to client.
    fn response(&mut self, cx: &mut Context<'_>) -> Result<bool, Fault> {
        let mut moved = false;
        while let Some(up) = &mut self.up
            && !self.down.is_full()
        {
            if self.progress.answered.is_none() && !self.head_is_held {
                match up.poll_head(cx, self.answer) {
                    Poll::Pending => return Ok(moved),
                    Poll::Ready(Err(fault)) => {
                        return Err(Fault::Up(self.upload_fault.unwrap_or(fault)));
                    }
                    Poll::Ready(Ok(())) => {}
                }
                moved = true;
                if self.answer.is_informational() {
                    self.down.send_head(self.answer);
                    continue;
                }
                self.progress.first_byte = Some(Instant::now());
                self.head_is_held = true;
            }
            if self.head_is_held {
                let tap = self.tap.poll_response_head(cx, self.answer);
                if tap.map_err(|_| Fault::Aborted)?.is_pending() {
                    return Ok(moved);
                }
                moved = true;
                self.head_is_held = false;
                self.progress.answered = Some(self.answer.status);
                self.events = self.answer.is_event_stream();
                self.down.send_head(self.answer);
                self.switched = self.answer.is_switching();
                if self.switched {
                    return Ok(true);
                }
                continue;
            }
            let Poll::Ready(piece) = up.poll_body(cx).map_err(Fault::Up)? else {
                let held = self.tap.response_pause().map_err(|_| Fault::Aborted)?;
                if !held.is_empty() {
                    self.progress.response_bytes += held.len() as u64;
                    self.down.send_body(held).map_err(length)?;
                    moved = true;
                }
                return Ok(moved);
            };
            moved = true;
            match piece {
                Some(data) => {
                    let data = self.tap.response_chunk(data).map_err(|_| Fault::Aborted)?;
                    self.progress.response_bytes += data.len() as u64;
                    self.down.send_body(data).map_err(length)?;
                }
                None => {
                    let tail = self.tap.response_end().map_err(|_| Fault::Aborted)?;
                    self.progress.response_bytes += tail.len() as u64;
                    self.down.send_body(tail).map_err(length)?;
                    let trailers = up.take_trailers();
                    self.down.send_end(trailers.as_deref()).map_err(length)?;
                    self.answer_ended = true;
                    // The upstream is free for the next exchange while the client still reads this one.
                    if let Some(up) = self.up.take()
                        && self.progress.request_complete
                        && self.upload_fault.is_none()
                    {
                        up.release();
                    }
                }
            }
        }
        Ok(moved)
    }

    /// Sets the deadline for what is awaited now.
    fn arm(&mut self) {
        let now = Instant::now();
        self.begun.get_or_insert(now);
        let awaits_head = self.progress.answered.is_none() && self.progress.request_complete;
        let due = now
            + if awaits_head {
                self.timeouts.first_byte
            } else if self.events && self.progress.response_bytes == 0 {
                self.timeouts.first_event
            } else {
                self.timeouts.stream_idle
            };
        let due = self.paced(now).map_or(due, |paced| due.min(paced));
        let over = self.over();
        self.down
            .timer()
            .arm(over.map_or(due, |over| due.min(over)));
    }

    /// By when a client that is waited for must have moved something.
    fn paced(&mut self, now: Instant) -> Option<Instant> {
        let queued = self.down.queued() as u64;
        let (owes, moved) = if queued > 0 {
            let taken = self.progress.response_bytes.saturating_sub(queued);
            (Owes::Reading, taken)
        } else if self.owes_body() {
            (Owes::Body, self.progress.request_bytes)
        } else {
            self.pace = None;
            return None;
        };
        let limits = &self.timeouts.pace;
        let (before, pace) = self
            .pace
            .get_or_insert_with(|| (owes, Pace::new(limits, now, moved)));
        if *before != owes {
            (*before, *pace) = (owes, Pace::new(limits, now, moved));
        }
        Some(pace.due(limits, now, moved))
    }

    /// Whether it is the client's body that nothing goes on without. Once there is an answer, the two of them may talk
    /// as slowly as they like; calls over gRPC may from the beginning.
    fn owes_body(&self) -> bool {
        let awaits_continue = self.request.expects_continue && self.progress.request_bytes == 0;
        !self.progress.request_complete
            && self.progress.answered.is_none()
            && !awaits_continue
            && !self.up.as_ref().is_some_and(|up| up.has_queued())
            && !self.is_grpc()
    }

    fn is_grpc(&self) -> bool {
        let kind = self.request.headers.get_known(Known::ContentType);
        kind.is_some_and(is_grpc)
    }

    /// When the exchange has taken too long, whatever moves.
    fn over(&self) -> Option<Instant> {
        let Timeouts { head, total, .. } = self.timeouts;
        let head = head.filter(|_| self.progress.first_byte.is_none());
        let total = total.filter(|_| !self.events);
        let limit = [head, total].into_iter().flatten().min()?;
        Some(self.begun? + limit)
    }

    /// Who kept the exchange waiting.
    fn timed_out(&self) -> Fault {
        if self.over().is_some_and(|over| Instant::now() >= over) {
            return Fault::Total;
        }
        let up_is_stuck = self.up.as_ref().is_some_and(|up| up.has_queued());
        if self.down.queued() > 0 {
            Fault::Down(DownFault::Timeout)
        } else if up_is_stuck || self.progress.request_complete {
            Fault::Up(UpFault::Timeout)
        } else if self.progress.answered.is_some() || self.is_grpc() {
            // Both of them are silent, and neither owes the other anything.
            Fault::Idle
        } else {
            Fault::Down(DownFault::Timeout)
        }
    }
}

fn length(_: LengthMismatch) -> Fault {
    Fault::Length
}

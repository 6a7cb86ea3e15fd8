//! A tunnel: what remains of an exchange after 101. Bytes pass both ways until both sides have ended.
//!
//! Each direction is on its own: it has back-pressure like a body, and its end is passed on while the other goes on. A
//! side that takes no more bytes may still have some to give: they are delivered before the tunnel ends.

use super::fault::{Fault, Progress};
use super::traits::{Down, Up};
use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// Carries bytes until both sides have ended, one is gone, or nothing has moved for `idle`.
///
/// # Errors
/// [`Fault::Down`] or [`Fault::Up`] when a side is gone without having ended, [`Fault::Idle`].
pub(super) async fn carry<D: Down, U: Up>(
    down: &mut D,
    up: U,
    idle: Duration,
    progress: &mut Progress,
) -> Result<(), Fault> {
    let mut tunnel = Tunnel {
        down,
        up,
        progress,
        upward: Direction::Open,
        downward: Direction::Open,
    };
    let mut armed = false;
    poll_fn(|cx| {
        while tunnel.turn(cx)? {
            armed = false;
        }
        if tunnel.has_ended() {
            return Poll::Ready(Ok(()));
        }
        let timer = tunnel.down.timer();
        if !armed {
            timer.arm(Instant::now() + idle);
            armed = true;
        }
        timer.poll(cx).map(|()| Err(Fault::Idle))
    })
    .await
}

/// How far one direction has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Open,
    /// Its source has ended; the end waits to be written.
    Ending,
    /// The end was written, or nobody is there to take it.
    Ended,
}

struct Tunnel<'a, D, U> {
    down: &'a mut D,
    up: U,
    progress: &'a mut Progress,
    upward: Direction,
    downward: Direction,
}

impl<D: Down, U: Up> Tunnel<'_, D, U> {
    fn has_ended(&self) -> bool {
        self.upward == Direction::Ended && self.downward == Direction::Ended
    }

    /// Moves what can be moved without waiting; says whether anything did.
    fn turn(&mut self, cx: &mut Context<'_>) -> Result<bool, Fault> {
        let mut moved = false;
        while self.upward == Direction::Open && !self.up.is_full() {
            let Poll::Ready(piece) = self.down.poll_body(cx).map_err(Fault::Down)? else {
                break;
            };
            moved = true;
            if let Some(data) = piece {
                self.progress.request_bytes += data.len() as u64;
                self.up.send_body(data).map_err(|_| Fault::Length)?;
            } else {
                self.up.send_end(None).map_err(|_| Fault::Length)?;
                self.upward = Direction::Ending;
            }
        }
        while self.downward == Direction::Open && !self.down.is_full() {
            let Poll::Ready(piece) = self.up.poll_body(cx).map_err(Fault::Up)? else {
                break;
            };
            moved = true;
            if let Some(data) = piece {
                self.progress.response_bytes += data.len() as u64;
                self.down.send_body(data).map_err(|_| Fault::Length)?;
            } else {
                self.down.send_end(None).map_err(|_| Fault::Length)?;
                self.downward = Direction::Ending;
            }
        }
        if self.upward != Direction::Ended {
            let full = self.up.is_full();
            match self.up.poll_flush(cx) {
                Poll::Pending => {}
                Poll::Ready(result) => moved |= self.upward.flushed(result.is_ok(), full),
            }
        }
        if self.downward != Direction::Ended {
            let full = self.down.is_full();
            match self.down.poll_flush(cx) {
                Poll::Pending => {}
                Poll::Ready(result) => moved |= self.downward.flushed(result.is_ok(), full),
            }
        }
        Ok(moved)
    }
}

impl Direction {
    /// What was queued has been written, or cannot be; whether that lets more be done. `full`: the source had to wait
    /// for it.
    fn flushed(&mut self, ok: bool, full: bool) -> bool {
        if *self == Self::Ending || !ok {
            *self = Self::Ended;
            return true;
        }
        full
    }
}

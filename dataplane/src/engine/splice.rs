//! Two connections made one: bytes pass both ways as they are, until both sides have ended.
//!
//! Each direction is on its own: it has back-pressure, and its end is passed on while the other goes on. A side that
//! takes no more bytes may still have some to give: they are delivered before the other side is told.

use super::deadline::Timer;
use super::drain::Ticket;
use super::io::{Io, Socket};
use bytes::BytesMut;
use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// How long two connections stay one.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Without a byte in either direction.
    pub idle: Duration,
    /// After their listener has been closed.
    pub drain: Duration,
}

/// Bytes that were taken from each side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    pub from_client: u64,
    pub from_upstream: u64,
}

/// Why two connections were parted before both sides had ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parted {
    /// The client is gone.
    Client,
    /// The upstream is gone.
    Upstream,
    Idle,
    Drain,
}

/// Makes two connections one until they end. `begun`: what has been read from the client before.
///
/// # Errors
/// Why they were parted. A side that is gone is told to the other by a reset.
pub async fn splice<C: Socket, U: Socket>(
    (client, begun): (C, BytesMut),
    upstream: U,
    patience: Patience,
    ticket: &mut Ticket,
    moved: &mut Moved,
) -> Result<(), Parted> {
    let mut both = Splice {
        client: Io::new(client),
        upstream: Io::new(upstream),
        upward: Direction::Open,
        downward: Direction::Open,
        moved,
    };
    both.client.input = begun;
    let (mut idle, mut drain) = (Timer::default(), Timer::default());
    let (mut idles, mut drains) = (false, false);
    let result = poll_fn(|cx| {
        while both.turn(cx)? {
            idles = false;
        }
        if both.upward == Direction::Ended && both.downward == Direction::Ended {
            return Poll::Ready(Ok(()));
        }
        if !idles {
            idle.arm(Instant::now() + patience.idle);
            idles = true;
        }
        if idle.poll(cx).is_ready() {
            return Poll::Ready(Err(Parted::Idle));
        }
        if !drains && ticket.poll(cx) {
            drain.arm(Instant::now() + patience.drain);
            drains = true;
        }
        drain.poll(cx).map(|()| Err(Parted::Drain))
    })
    .await;
    match result {
        Err(Parted::Client) => both.upstream.socket.reset_on_close(),
        Err(Parted::Upstream) => both.client.socket.reset_on_close(),
        _ => {}
    }
    result
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

struct Splice<'a, C, U> {
    client: Io<C>,
    upstream: Io<U>,
    upward: Direction,
    downward: Direction,
    moved: &'a mut Moved,
}

impl<C: Socket, U: Socket> Splice<'_, C, U> {
    /// Moves what can be moved without waiting; says whether anything was.
    fn turn(&mut self, cx: &mut Context<'_>) -> Result<bool, Parted> {
        let Self {
            client, upstream, ..
        } = self;
        let up = self.upward.turn(client, upstream, cx);
        let (up, moved) = up.map_err(|()| Parted::Client)?;
        self.moved.from_client += up;
        let down = self.downward.turn(upstream, client, cx);
        let (down, also_moved) = down.map_err(|()| Parted::Upstream)?;
        self.moved.from_upstream += down;
        Ok(moved | also_moved)
    }
}

impl Direction {
    /// Bytes that were taken from the source, and whether there may be more to do at once.
    ///
    /// # Errors
    /// The source is gone.
    fn turn<A: Socket, B: Socket>(
        &mut self,
        from: &mut Io<A>,
        to: &mut Io<B>,
        cx: &mut Context<'_>,
    ) -> Result<(u64, bool), ()> {
        let (mut bytes, mut moved) = (0, false);
        while *self == Self::Open && !to.output.is_full() {
            if from.input.is_empty() {
                match from.poll_fill(cx) {
                    Poll::Pending => break,
                    Poll::Ready(Err(_)) => return Err(()),
                    Poll::Ready(Ok(0)) => {
                        to.queue_end();
                        *self = Self::Ending;
                        moved = true;
                        break;
                    }
                    Poll::Ready(Ok(_)) => {}
                }
            }
            let piece = from.input.split().freeze();
            bytes += piece.len() as u64;
            moved = true;
            to.output.push(piece);
        }
        if *self != Self::Ended {
            let full = to.output.is_full();
            match to.poll_flush(cx) {
                Poll::Pending => {}
                // Nobody takes it any more; what the other side still says is another matter.
                Poll::Ready(Err(_)) => {
                    *self = Self::Ended;
                    moved = true;
                }
                Poll::Ready(Ok(())) if *self == Self::Ending => {
                    *self = Self::Ended;
                    moved = true;
                }
                Poll::Ready(Ok(())) => moved |= full,
            }
        }
        Ok((bytes, moved))
    }
}

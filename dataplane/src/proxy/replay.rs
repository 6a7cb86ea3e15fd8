//! A request's body as far as it has been sent, so that it can be sent again. Only rules with a `retry` block keep
//! one; up to a bound.

use crate::engine::{Down, DownFault};
use bytes::{Bytes, BytesMut};
use model::Headers;
use std::cell::{Cell, RefCell};
use std::task::{Context, Poll, ready};

/// Bytes that are kept of one request.
pub(super) const LIMIT: usize = 64 * 1024;

/// What has been read of a body. Shared, within a thread, by the side that reads and the one that decides.
#[derive(Default)]
pub(super) struct Replay {
    kept: RefCell<BytesMut>,
    /// It was longer than what is kept.
    lost: Cell<bool>,
    ended: Cell<bool>,
    trailers: RefCell<Option<Box<Headers>>>,
    /// Bytes that the present attempt has been given.
    given: Cell<usize>,
}

impl Replay {
    /// Whether all that was read is here.
    pub(super) fn is_whole(&self) -> bool {
        !self.lost.get()
    }

    /// The next attempt begins with the first byte.
    pub(super) fn rewind(&self) {
        self.given.set(0);
    }

    pub(super) fn poll_body<D: Down>(
        &self,
        down: &mut D,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, DownFault>> {
        let mut kept = self.kept.borrow_mut();
        if let Some(again) = kept.get(self.given.get()..).filter(|rest| !rest.is_empty()) {
            self.given.set(kept.len());
            return Poll::Ready(Ok(Some(Bytes::copy_from_slice(again))));
        }
        if self.ended.get() {
            return Poll::Ready(Ok(None));
        }
        let piece = ready!(down.poll_body(cx))?;
        match &piece {
            None => {
                self.ended.set(true);
                *self.trailers.borrow_mut() = down.take_trailers();
            }
            Some(data) if !self.lost.get() => {
                if kept.len() + data.len() <= LIMIT {
                    kept.extend_from_slice(data);
                    self.given.set(kept.len());
                } else {
                    self.lost.set(true);
                    *kept = BytesMut::new();
                    self.given.set(0);
                }
            }
            Some(_) => {}
        }
        Poll::Ready(Ok(piece))
    }

    /// The trailers, for each attempt anew.
    pub(super) fn trailers(&self) -> Option<Box<Headers>> {
        self.trailers.borrow().clone()
    }
}

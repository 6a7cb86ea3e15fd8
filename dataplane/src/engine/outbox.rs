//! What waits to be written to one connection: gathered small pieces around at most one large one.

use super::buffers;
use bytes::{Buf, Bytes};
use std::io::IoSlice;

/// Pieces up to this size are copied together, so that a head and a small body leave in one write.
const COPY: usize = 4 << 10;
/// From here on a queue counts as full, and whoever feeds it waits.
const FULL: usize = 16 << 10;

/// A bounded write queue. Bounded by its users: they feed it while it is not [`Outbox::is_full`], with pieces that
/// are themselves bounded by a read buffer.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Goes first; the first `sent` bytes of it have left.
    lead: Vec<u8>,
    sent: usize,
    /// Then one piece that was too large to copy.
    big: Bytes,
    /// Then what came after it.
    tail: Vec<u8>,
}

impl Outbox {
    /// Where small pieces are appended.
    pub fn end(&mut self) -> &mut Vec<u8> {
        let end = if self.big.is_empty() {
            &mut self.lead
        } else {
            &mut self.tail
        };
        if end.capacity() == 0 {
            *end = buffers::take_write();
        }
        end
    }

    /// Appends a piece, without copying it when it is large.
    pub fn push(&mut self, data: Bytes) {
        if data.len() > COPY && self.big.is_empty() {
            self.big = data;
        } else {
            self.end().extend_from_slice(&data);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.lead.len() - self.sent + self.big.len() + self.tail.len()
    }

    pub fn is_full(&self) -> bool {
        !self.big.is_empty() || self.lead.len() - self.sent >= FULL
    }

    /// What goes out next: up to three slices, the empty ones at the end.
    pub fn slices(&self) -> ([IoSlice<'_>; 3], usize) {
        let mut slices = [IoSlice::new(&[]); 3];
        let mut n = 0;
        for part in [
            self.lead.get(self.sent..).unwrap_or_default(),
            &self.big,
            &self.tail,
        ] {
            if !part.is_empty()
                && let Some(slot) = slices.get_mut(n)
            {
                *slot = IoSlice::new(part);
                n += 1;
            }
        }
        (slices, n)
    }

    /// Forgets the first `n` bytes, which have been written.
    pub fn advance(&mut self, n: usize) {
        let from_lead = n.min(self.lead.len() - self.sent);
        self.sent += from_lead;
        if self.sent < self.lead.len() {
            return;
        }
        self.lead.clear();
        self.sent = 0;
        let from_big = (n - from_lead).min(self.big.len());
        self.big.advance(from_big);
        if !self.big.is_empty() {
            return;
        }
        self.big = Bytes::new();
        std::mem::swap(&mut self.lead, &mut self.tail);
        self.sent = (n - from_lead - from_big).min(self.lead.len());
        if self.sent == self.lead.len() {
            self.lead.clear();
            self.sent = 0;
        }
    }

    /// Gives the buffers back while nothing waits.
    pub fn park(&mut self) {
        if self.is_empty() {
            buffers::put_write(std::mem::take(&mut self.lead));
            buffers::put_write(std::mem::take(&mut self.tail));
        }
    }
}

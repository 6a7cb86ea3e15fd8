//! Buffers that idle connections lend to busy ones: a small stock per worker thread.
//!
//! A connection takes a buffer when it has something to read or write and gives it back as soon as it is empty, so
//! that an open but idle connection costs no buffer and a busy thread allocates none.

use super::head::{RequestHead, ResponseHead};
use bytes::BytesMut;
use std::cell::RefCell;

/// Room for one read.
pub(crate) const READ: usize = 16 << 10;
/// First room for one write queue.
const WRITE: usize = 2 << 10;
/// A buffer that has grown beyond this is not kept.
const KEEP_MAX: usize = 64 << 10;
/// Buffers of each kind in a thread's stock.
const STOCK: usize = 32;
/// Heads in a thread's stock: small, and lent for as long as an exchange takes.
const STOCK_HEADS: usize = 256;
/// What is kept of one head's text.
const KEEP_HEAD: usize = 4 << 10;
/// Fields and bytes that the heads of most requests have at most, and of most answers.
const REQUEST: (usize, usize) = (16, 512);
const ANSWER: (usize, usize) = (12, 384);

/// The heads of one exchange.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) request: RequestHead,
    pub(crate) answer: ResponseHead,
}

impl Scratch {
    /// With room, so that it does not come to it piece by piece.
    fn roomy() -> Box<Self> {
        let mut scratch = Box::<Self>::default();
        scratch.request.headers.reserve(REQUEST.0, REQUEST.1);
        scratch.answer.headers.reserve(ANSWER.0, ANSWER.1);
        scratch
    }
}

#[derive(Default)]
struct Stock {
    read: Vec<BytesMut>,
    write: Vec<Vec<u8>>,
    #[allow(clippy::vec_box, reason = "the boxes themselves are what is lent")]
    scratch: Vec<Box<Scratch>>,
}

thread_local! {
    static STOCK_OF_THREAD: RefCell<Stock> = RefCell::default();
}

fn with<T>(f: impl FnOnce(&mut Stock) -> T) -> T {
    STOCK_OF_THREAD.with_borrow_mut(f)
}

/// An empty buffer with room for one read.
pub(crate) fn take_read() -> BytesMut {
    let mut buffer = with(|s| s.read.pop()).unwrap_or_default();
    buffer.reserve(READ);
    buffer
}

pub(crate) fn put_read(mut buffer: BytesMut) {
    buffer.clear();
    // Without memory of its own there is nothing to keep; what body pieces still share is reclaimed when taken.
    if (1..=KEEP_MAX).contains(&buffer.capacity()) {
        with(|s| keep(&mut s.read, buffer, STOCK));
    }
}

pub(crate) fn take_write() -> Vec<u8> {
    with(|s| s.write.pop()).unwrap_or_else(|| Vec::with_capacity(WRITE))
}

pub(crate) fn put_write(mut buffer: Vec<u8>) {
    buffer.clear();
    if (1..=KEEP_MAX).contains(&buffer.capacity()) {
        with(|s| keep(&mut s.write, buffer, STOCK));
    }
}

pub(crate) fn take_scratch() -> Box<Scratch> {
    with(|s| s.scratch.pop()).unwrap_or_else(Scratch::roomy)
}

pub(crate) fn put_scratch(mut scratch: Box<Scratch>) {
    // A rare large head does not stay in memory.
    scratch.request.headers.shrink(KEEP_HEAD);
    scratch.answer.headers.shrink(KEEP_HEAD);
    with(|s| keep(&mut s.scratch, scratch, STOCK_HEADS));
}

fn keep<T>(stock: &mut Vec<T>, item: T, most: usize) {
    if stock.len() < most {
        stock.push(item);
    }
}

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

/// The heads of one exchange.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) request: RequestHead,
    pub(crate) answer: ResponseHead,
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
        with(|s| keep(&mut s.read, buffer));
    }
}

pub(crate) fn take_write() -> Vec<u8> {
    with(|s| s.write.pop()).unwrap_or_else(|| Vec::with_capacity(WRITE))
}

pub(crate) fn put_write(mut buffer: Vec<u8>) {
    buffer.clear();
    if (1..=KEEP_MAX).contains(&buffer.capacity()) {
        with(|s| keep(&mut s.write, buffer));
    }
}

pub(crate) fn take_scratch() -> Box<Scratch> {
    with(|s| s.scratch.pop()).unwrap_or_default()
}

pub(crate) fn put_scratch(mut scratch: Box<Scratch>) {
    // A rare large head does not stay in memory.
    scratch.request.headers.shrink(KEEP_MAX / 4);
    scratch.answer.headers.shrink(KEEP_MAX / 4);
    with(|s| keep(&mut s.scratch, scratch));
}

fn keep<T>(stock: &mut Vec<T>, item: T) {
    if stock.len() < STOCK {
        stock.push(item);
    }
}

//! Both ends of what `make bench` measures: a backend that costs little, and clients for what wrk and h2load cannot do
//! (full handshakes with a chosen key exchange, event streams with a time in each event, many streams held open).

pub mod backend;
pub mod handshakes;
pub mod streams;

use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since the epoch: the one clock that two processes share.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(0)
}

//! Random numbers of a thread: no lock, no system call. Good for sharing load, not for secrets.

use super::hash::mix;
use std::cell::Cell;

thread_local! {
    static STATE: Cell<u64> = Cell::new(rand::random());
}

/// 64 random bits (SplitMix64).
pub(crate) fn draw() -> u64 {
    STATE.with(|state| {
        let at = state.get();
        state.set(at.wrapping_add(0x9e37_79b9_7f4a_7c15));
        mix(at)
    })
}

/// A number below `n`, which is not 0.
pub(crate) fn below(n: usize) -> usize {
    ((u128::from(draw()) * n as u128) >> 64) as usize
}

//! Lowering many units at once, as a controller does that starts. Units of the same kind do not look at each other's results
//! (the order of [`Unit`]), so that they are lowered on all cores; what they give is installed one after the other.

use super::Translator;
use crate::panics::TRANSLATING;
use crate::translate::lowering::{Lowered, Unit};
use crate::world::World;
use std::collections::{BTreeSet, VecDeque};
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{iter, mem, thread};

/// Fewer are lowered sooner than a thread has begun.
const FEW: usize = if cfg!(test) { 4 } else { 128 };
/// At a time: what they give is held in memory until it is installed.
const MOST: usize = 1024;
/// Cores that take part. The rest of the time they are for watches and data planes.
const THREADS: usize = 8;
/// What a thread takes at a time.
const PIECE: usize = if cfg!(test) { 2 } else { 32 };

/// Units with what they give; `None`: nothing, it is gone.
#[derive(Default)]
pub(super) struct Ahead(VecDeque<(Unit, Option<Lowered>)>);

impl Ahead {
    /// What is known of the unit that is next.
    pub(super) fn take(&mut self, unit: &Unit) -> Option<Lowered> {
        match self.0.pop_front() {
            Some((of, lowered)) if of == *unit => lowered,
            // An earlier unit came between, and may change what the others look at.
            _ => {
                self.0.clear();
                None
            }
        }
    }
}

impl Translator {
    /// Lowers `next` and those of its kind that follow in `todo`, if they are many, unless that is done.
    pub(super) fn lower_ahead(
        &self,
        world: &World,
        next: &Unit,
        todo: &BTreeSet<Unit>,
        ahead: &mut Ahead,
    ) {
        let may = matches!(
            next,
            Unit::Route(_) | Unit::ServiceUpstream(..) | Unit::Shards(_)
        );
        if !may || !ahead.0.is_empty() || todo.len() < FEW {
            return;
        }
        let is_like = |unit: &&Unit| mem::discriminant(*unit) == mem::discriminant(next);
        let like = iter::once(next).chain(todo.iter().take_while(is_like));
        let units: Vec<&Unit> = like.take(MOST).collect();
        if units.len() < FEW {
            return;
        }
        let lowered = side_by_side(&units, |unit| self.lower_unit(world, unit));
        ahead.0 = units.into_iter().cloned().zip(lowered).collect();
    }

    /// What a unit gives as things are; nothing of it is in effect yet.
    pub(super) fn lower_unit(&self, world: &World, unit: &Unit) -> Option<Lowered> {
        match unit {
            Unit::Route(id) => {
                let object = world.get(id)?;
                let version = super::Accepted::of(&object.body)?;
                Some(self.lower(world, id, &object.meta, &version))
            }
            Unit::ServiceUpstream(port, _) | Unit::Shards(port) => {
                self.demand.get(unit)?;
                let meta = world.meta(&port.service).cloned();
                Some(self.lower_port(world, unit, port, &meta.unwrap_or_default()))
            }
            _ => None,
        }
    }
}

/// What `work` makes of each item, in their order, on all cores.
fn side_by_side<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = thread::available_parallelism().map_or(1, |n| n.get().min(THREADS));
    let next = AtomicUsize::new(0);
    let take_part = || {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(piece) = items.chunks(PIECE).nth(number) else {
                return done;
            };
            done.push((number, piece.iter().map(&work).collect::<Vec<R>>()));
        }
    };
    let mut all = thread::scope(|scope| {
        let mut others = Vec::new();
        for _ in 1..threads {
            let named = thread::Builder::new().name(TRANSLATING.to_owned());
            // Without it this thread does it all.
            others.extend(named.spawn_scoped(scope, take_part));
        }
        let mut all = take_part();
        for other in others {
            all.extend(other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        all
    });
    all.sort_unstable_by_key(|(number, _)| *number);
    all.into_iter().flat_map(|(_, piece)| piece).collect()
}

#[cfg(test)]
#[path = "ahead_tests.rs"]
mod tests;

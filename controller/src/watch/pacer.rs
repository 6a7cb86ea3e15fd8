//! Which changes travel together.
//!
//! A change after a quiet moment goes at once. In a storm changes are collected until it is quiet for a moment, with a
//! bound. EndpointSlices have a lane of their own with a shorter wait, so that a Pod that went is never held up by
//! objects that somebody applies.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::world::{ObjectId, ObjectKind};

/// Quiet for so long, or idle before for so long: a batch is complete.
const QUIET: Duration = Duration::from_millis(10);
/// No change of an object waits longer. What is translated is what has changed, so that smaller batches cost little; a
/// data plane that is slower than they come gets several as one transaction.
const LONGEST: Duration = Duration::from_millis(50);
/// No change of an EndpointSlice waits longer.
const LONGEST_ENDPOINTS: Duration = Duration::from_millis(5);

/// Changes that will be translated together.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Batch {
    pub ids: BTreeSet<ObjectId>,
    /// When the oldest was seen, in nanoseconds since the epoch.
    pub at: u64,
}

#[derive(Debug)]
struct Lane {
    ids: BTreeSet<ObjectId>,
    at: u64,
    due: Instant,
    latest: Instant,
}

/// Collects changes and says when a batch of them is due.
#[derive(Debug, Default)]
pub struct Pacer {
    objects: Option<Lane>,
    endpoints: Option<Lane>,
    last: Option<Instant>,
}

impl Pacer {
    pub fn note(&mut self, id: ObjectId, at: u64, now: Instant) {
        // A change that comes soon after a batch waits for what is left of the quiet moment, not for another one.
        let first = self.last.map_or(now, |last| now.max(last + QUIET));
        let is_endpoints = matches!(id.kind, ObjectKind::EndpointSlice | ObjectKind::Pod);
        let (lane, quiet, longest) = match is_endpoints {
            true => (&mut self.endpoints, LONGEST_ENDPOINTS, LONGEST_ENDPOINTS),
            false => (&mut self.objects, QUIET, LONGEST),
        };
        match lane {
            Some(lane) => {
                lane.due = lane.latest.min(now + quiet);
                lane.at = lane.at.min(at);
                lane.ids.insert(id);
            }
            None => {
                let latest = now + longest;
                let due = first.min(now + quiet);
                *lane = Some(Lane {
                    ids: BTreeSet::from([id]),
                    at,
                    due,
                    latest,
                });
            }
        }
    }

    /// When the next batch is due.
    pub fn due(&self) -> Option<Instant> {
        self.endpoints
            .iter()
            .chain(&self.objects)
            .map(|lane| lane.due)
            .min()
    }

    /// When the next batch can wait no longer, even for changes that are there already.
    pub fn latest(&self) -> Option<Instant> {
        self.endpoints
            .iter()
            .chain(&self.objects)
            .map(|lane| lane.latest)
            .min()
    }

    /// A batch that is due, EndpointSlices first.
    pub fn take(&mut self, now: Instant) -> Option<Batch> {
        let lanes = [&mut self.endpoints, &mut self.objects];
        let lane = lanes
            .into_iter()
            .find(|lane| lane.as_ref().is_some_and(|l| l.due <= now))?;
        self.last = Some(now);
        lane.take().map(|lane| Batch {
            ids: lane.ids,
            at: lane.at,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn id(kind: ObjectKind, name: &str) -> ObjectId {
        ObjectId::new(kind, "a", name)
    }

    #[test]
    fn the_first_change_after_a_pause_goes_at_once() {
        let now = Instant::now();
        let mut pacer = Pacer::default();
        pacer.note(id(ObjectKind::Route, "a"), 7, now);
        assert_eq!(pacer.due(), Some(now));
        let batch = pacer.take(now).unwrap();
        assert_eq!((batch.ids.len(), batch.at), (1, 7));
        assert_eq!(pacer.due(), None);

        pacer.note(id(ObjectKind::Route, "a"), 8, now + 50 * MS);
        assert_eq!(pacer.due(), Some(now + 50 * MS));
    }

    #[test]
    fn a_change_soon_after_a_batch_waits_for_the_rest_of_the_quiet_moment() {
        let now = Instant::now();
        let mut pacer = Pacer::default();
        pacer.note(id(ObjectKind::Route, "a"), 1, now);
        pacer.take(now).unwrap();
        pacer.note(id(ObjectKind::Route, "b"), 2, now + 8 * MS);
        assert_eq!(pacer.due(), Some(now + 10 * MS));
    }

    #[test]
    fn a_storm_is_collected_until_it_is_quiet_or_the_first_has_waited_long_enough() {
        let start = Instant::now();
        let mut pacer = Pacer::default();
        pacer.note(id(ObjectKind::Route, "first"), 1, start);
        pacer.take(start).unwrap();
        let mut now = start;
        let mut batches = Vec::new();
        for n in 0..500 {
            now += 5 * MS;
            pacer.note(id(ObjectKind::Route, &n.to_string()), n, now);
            batches.extend(pacer.take(now));
        }
        // The last change of a batch is the one that finds the first 50 ms old; the next one begins another.
        assert_eq!(batches.len(), 45, "2.5 s of storm");
        assert!(batches.iter().all(|b| b.ids.len() == 11));
        assert!(pacer.take(now + 9 * MS).is_none());
        assert!(pacer.take(now + 10 * MS).is_some());
    }

    #[test]
    fn endpoints_do_not_wait_for_objects() {
        let now = Instant::now();
        let mut pacer = Pacer::default();
        pacer.note(id(ObjectKind::Route, "a"), 1, now);
        pacer.take(now).unwrap();
        pacer.note(id(ObjectKind::Route, "b"), 2, now + MS);
        pacer.note(id(ObjectKind::EndpointSlice, "s"), 3, now + MS);
        pacer.note(id(ObjectKind::EndpointSlice, "t"), 4, now + 4 * MS);
        let batch = pacer.take(now + 6 * MS).unwrap();
        assert_eq!(
            batch.ids,
            BTreeSet::from([
                id(ObjectKind::EndpointSlice, "s"),
                id(ObjectKind::EndpointSlice, "t")
            ])
        );
        assert_eq!(pacer.take(now + 6 * MS), None);
        assert_eq!(pacer.take(now + 11 * MS).unwrap().at, 2);
    }
}

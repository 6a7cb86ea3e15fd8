//! Which changes travel together.
//!
//! A change after a quiet moment goes at once; those that come soon after it wait for each other, and no longer than the
//! shortest time between two batches. EndpointSlices have a lane of their own with a shorter one, so that a Pod that went
//! is never held up by objects that somebody applies.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::world::{ObjectId, ObjectKind};

/// Between two batches of objects, and the longest that a change of one waits. What is translated is what has changed, so
/// that small batches cost little; a data plane that is slower than they come gets several as one transaction.
const APART: Duration = Duration::from_millis(10);
/// The same of EndpointSlices.
const APART_ENDPOINTS: Duration = Duration::from_millis(5);

/// Changes that will be translated together.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Batch {
    pub ids: BTreeSet<ObjectId>,
    /// When the oldest was seen, in nanoseconds since the epoch.
    pub at: u64,
}

#[derive(Debug)]
struct Lane {
    apart: Duration,
    /// When the last batch was taken.
    last: Option<Instant>,
    waiting: Option<Batch>,
    due: Instant,
}

impl Lane {
    fn new(apart: Duration) -> Self {
        Self {
            apart,
            last: None,
            waiting: None,
            due: Instant::now(),
        }
    }

    fn note(&mut self, id: ObjectId, at: u64, now: Instant) {
        let Some(batch) = &mut self.waiting else {
            self.due = self.last.map_or(now, |last| now.max(last + self.apart));
            let ids = BTreeSet::from([id]);
            self.waiting = Some(Batch { ids, at });
            return;
        };
        batch.at = batch.at.min(at);
        batch.ids.insert(id);
    }

    fn due(&self) -> Option<Instant> {
        self.waiting.is_some().then_some(self.due)
    }

    fn take(&mut self, now: Instant) -> Option<Batch> {
        let batch = self.waiting.take_if(|_| self.due <= now)?;
        self.last = Some(now);
        Some(batch)
    }
}

/// Collects changes and says when a batch of them is due.
#[derive(Debug)]
pub struct Pacer {
    objects: Lane,
    endpoints: Lane,
}

impl Default for Pacer {
    fn default() -> Self {
        Self {
            objects: Lane::new(APART),
            endpoints: Lane::new(APART_ENDPOINTS),
        }
    }
}

impl Pacer {
    pub fn note(&mut self, id: ObjectId, at: u64, now: Instant) {
        let lane = match id.kind {
            ObjectKind::EndpointSlice | ObjectKind::Pod => &mut self.endpoints,
            _ => &mut self.objects,
        };
        lane.note(id, at, now);
    }

    /// When the next batch is due.
    pub fn due(&self) -> Option<Instant> {
        [self.endpoints.due(), self.objects.due()]
            .into_iter()
            .flatten()
            .min()
    }

    /// When the next batch can wait no longer, not even for changes that are there already.
    pub fn latest(&self) -> Option<Instant> {
        self.due().map(|due| due + APART)
    }

    /// A batch that is due, EndpointSlices first.
    pub fn take(&mut self, now: Instant) -> Option<Batch> {
        let endpoints = self.endpoints.take(now);
        endpoints.or_else(|| self.objects.take(now))
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
    fn a_change_soon_after_a_batch_waits_for_what_is_left_of_the_time_between_two() {
        let now = Instant::now();
        let mut pacer = Pacer::default();
        pacer.note(id(ObjectKind::Route, "a"), 1, now);
        pacer.take(now).unwrap();
        pacer.note(id(ObjectKind::Route, "b"), 2, now + 8 * MS);
        assert_eq!(pacer.due(), Some(now + 10 * MS));
        pacer.note(id(ObjectKind::Route, "c"), 3, now + 9 * MS);
        assert_eq!(pacer.due(), Some(now + 10 * MS), "and no longer");
        assert!(pacer.take(now + 9 * MS).is_none());
        let batch = pacer.take(now + 10 * MS).unwrap();
        assert_eq!((batch.ids.len(), batch.at), (2, 2));
    }

    #[test]
    fn in_a_storm_batches_are_apart() {
        let start = Instant::now();
        let mut pacer = Pacer::default();
        let mut sizes = Vec::new();
        for n in 0..1000_u32 {
            let now = start + n * MS;
            pacer.note(id(ObjectKind::Route, &n.to_string()), n.into(), now);
            sizes.extend(pacer.take(now).map(|batch| batch.ids.len()));
        }
        assert_eq!(sizes.len(), 100, "a second of storm");
        assert_eq!(sizes[0], 1, "the first goes at once");
        assert!(sizes[1..].iter().all(|size| *size == 10));
    }

    #[test]
    fn endpoints_and_objects_do_not_wait_for_each_other() {
        let now = Instant::now();
        let mut pacer = Pacer::default();
        pacer.note(id(ObjectKind::Route, "a"), 1, now);
        pacer.take(now).unwrap();
        pacer.note(id(ObjectKind::Route, "b"), 2, now + MS);
        pacer.note(id(ObjectKind::EndpointSlice, "s"), 3, now + MS);
        let first = pacer.take(now + MS).unwrap();
        assert_eq!(
            first.ids,
            BTreeSet::from([id(ObjectKind::EndpointSlice, "s")])
        );
        pacer.note(id(ObjectKind::EndpointSlice, "t"), 4, now + 2 * MS);
        assert_eq!(pacer.take(now + 5 * MS), None);
        assert_eq!(pacer.take(now + 6 * MS).unwrap().at, 4);
        assert_eq!(pacer.take(now + 10 * MS).unwrap().at, 2);
    }
}

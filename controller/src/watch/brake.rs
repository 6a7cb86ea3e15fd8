//! Holds back what a new list lacks of what was known, where that is most of it: an API server that has just been restored,
//! or one of several that is behind, shows an empty world for a moment, and traffic must not end for that. What a watch
//! says to be deleted is never held back.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::target::Target;
use crate::world::ObjectId;

/// Of fewer objects in a list all may go at once: somebody may well have removed them meanwhile.
const FEW: usize = 10;

/// Objects that are not in the last list that could hold them, and serve on.
#[derive(Default)]
pub(super) struct Brake {
    /// For how long; zero: nothing is held back.
    grace: Duration,
    /// Until when. No more than there are objects.
    held: BTreeMap<ObjectId, Instant>,
}

impl Brake {
    pub(super) fn new(grace: Duration) -> Self {
        Self {
            grace,
            held: BTreeMap::new(),
        }
    }

    /// Some objects are not in a new list of what they belong to; so many of that were `known`. Gives those that go at once.
    /// What is held already is not held for longer.
    pub(super) fn listed(
        &mut self,
        of: &Target,
        known: usize,
        gone: Vec<ObjectId>,
        now: Instant,
    ) -> Vec<ObjectId> {
        let until = now + self.grace;
        let mut held: BTreeMap<ObjectId, Instant> = BTreeMap::new();
        self.held.retain(|id, at| {
            let may_be_in_it = of.holds(id);
            if may_be_in_it {
                held.insert(id.clone(), *at);
            }
            !may_be_in_it
        });
        if self.grace.is_zero() || known < FEW || gone.len() * 2 <= known {
            return gone;
        }
        let (due, waits): (Vec<_>, Vec<_>) = gone
            .into_iter()
            .map(|id| {
                let until = held.get(&id).copied().unwrap_or(until);
                (id, until)
            })
            .partition(|(_, until)| *until <= now);
        self.held.extend(waits);
        due.into_iter().map(|(id, _)| id).collect()
    }

    /// The object is there, or it is certain that it is gone.
    pub(super) fn release(&mut self, id: &ObjectId) {
        self.held.remove(id);
    }

    /// When the next ones go.
    pub(super) fn due(&self) -> Option<Instant> {
        self.held.values().min().copied()
    }

    /// Those whose time is over.
    pub(super) fn expired(&mut self, now: Instant) -> Vec<ObjectId> {
        let due = self.held.extract_if(.., |_, until| *until <= now);
        due.map(|(id, _)| id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::ObjectKind;

    const GRACE: Duration = Duration::from_secs(10);

    fn routes(numbers: std::ops::Range<usize>) -> Vec<ObjectId> {
        let id = |n: usize| ObjectId::new(ObjectKind::Route, "a", n.to_string());
        let mut all: Vec<ObjectId> = numbers.map(id).collect();
        all.sort();
        all
    }

    #[test]
    fn most_of_a_kind_is_held_for_a_while_and_half_of_it_is_not() {
        let now = Instant::now();
        let mut brake = Brake::new(GRACE);
        let half = brake.listed(&ObjectKind::Route.into(), 20, routes(0..10), now);
        assert_eq!((half, brake.held.len()), (routes(0..10), 0));
        let few = brake.listed(&ObjectKind::Route.into(), 9, routes(0..9), now);
        assert_eq!((few, brake.held.len()), (routes(0..9), 0));

        let most = brake.listed(&ObjectKind::Route.into(), 20, routes(0..11), now);
        assert_eq!((most, brake.held.len()), (Vec::new(), 11));
        assert_eq!(brake.due(), Some(now + GRACE));
        assert!(brake.expired(now + GRACE / 2).is_empty());
        assert_eq!(brake.expired(now + GRACE), routes(0..11));
        assert_eq!(brake.due(), None);
    }

    #[test]
    fn what_is_there_after_all_stays_and_lists_do_not_prolong_it() {
        let now = Instant::now();
        let mut brake = Brake::new(GRACE);
        brake.listed(&ObjectKind::Route.into(), 20, routes(0..20), now);
        // Of another kind, or another namespace, it says nothing.
        brake.listed(&ObjectKind::Service.into(), 5, Vec::new(), now);
        let elsewhere = Target {
            kind: ObjectKind::Route,
            namespace: Some("b".into()),
        };
        brake.listed(&elsewhere, 5, Vec::new(), now);
        assert_eq!(brake.held.len(), 20);
        let later = now + GRACE / 2;
        brake.listed(&ObjectKind::Route.into(), 20, routes(0..15), later);
        brake.release(&routes(0..1)[0]);
        assert_eq!(brake.held.len(), 14);
        assert_eq!(brake.due(), Some(now + GRACE));
        // A list that lacks little is believed at once.
        let gone = brake.listed(&ObjectKind::Route.into(), 20, routes(1..3), later);
        assert_eq!((gone, brake.held.len()), (routes(1..3), 0));
    }

    #[test]
    fn it_can_be_switched_off() {
        let mut brake = Brake::new(Duration::ZERO);
        let gone = brake.listed(&ObjectKind::Route.into(), 20, routes(0..20), Instant::now());
        assert_eq!((gone, brake.due()), (routes(0..20), None));
    }
}

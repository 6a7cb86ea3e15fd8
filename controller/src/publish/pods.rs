//! Pods that serve while no controller hears of them: a data plane that is cut off goes on with what it has.
//!
//! Which Pods get traffic the endpoints of the group's Service say, so nothing of a stream that has ended need be kept to
//! know of them, and a replica that has just started knows them as well. What one holds is not known: what has changed
//! since it was missed it lacks, and of everything else its status says whether it had that
//! ([`Programmed::CutOff`]).

use super::others::Other;
use super::{DataPlane, Inner, Publisher, ResourceId};
use crate::report::Programmed;
use snapshot::Generation;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// By name, as many as the group's Service leads to: the last generation that may have reached it before it was missed;
/// `None`: it is connected.
pub(super) type Pods = BTreeMap<Arc<str>, Option<Generation>>;

impl Publisher {
    /// Takes the names of all Pods of the group that get traffic.
    pub fn served_by(&self, pods: &BTreeSet<Arc<str>>) {
        let mut inner = self.inner.lock();
        if inner.pods.keys().eq(pods) {
            return;
        }
        inner.pods.retain(|name, _| pods.contains(name));
        for name in pods {
            inner.pods.entry(Arc::clone(name)).or_default();
        }
        inner.look_for_pods();
        self.settle(inner, false);
    }

    /// The names of all Pods of the group that get traffic, as far as they were told.
    #[cfg(test)]
    pub(crate) fn pods(&self) -> BTreeSet<Arc<str>> {
        self.inner.lock().pods.keys().cloned().collect()
    }
}

impl Inner {
    /// A data plane of this name is connected, to whichever replica.
    pub(super) fn found(&mut self, name: &str) {
        if let Some(missed) = self.pods.get_mut(name) {
            *missed = None;
        }
    }

    /// A data plane of this name has gone from here. `acknowledged`: the newest generation that it is known to hold.
    pub(super) fn missed(&mut self, name: &str, acknowledged: Option<Generation>) {
        let now = self.store.cursor().generation;
        let is_connected = connected(&self.peers, &self.others).any(|other| other == name);
        if let Some(missed) = self.pods.get_mut(name).filter(|_| !is_connected) {
            missed.get_or_insert(acknowledged.unwrap_or(now));
        }
    }

    /// Any may have come or gone.
    pub(super) fn look_for_pods(&mut self) {
        if self.pods.is_empty() {
            return;
        }
        let now = self.store.cursor().generation;
        let connected: BTreeSet<&str> = connected(&self.peers, &self.others).collect();
        for (name, missed) in &mut self.pods {
            match connected.contains(&**name) {
                true => *missed = None,
                false => drop(missed.get_or_insert(now)),
            }
        }
    }

    /// What these resources come to because of a Pod that is missed, the longest of all; `None`: none is.
    pub(super) fn programmed_out_of_sight(&self, resources: &[&ResourceId]) -> Option<Programmed> {
        let missed = self.pods.iter();
        let missed = missed.filter_map(|(name, since)| since.map(|since| (since, name)));
        let (since, name) = missed.min()?;
        // What was there before is older than this process.
        let known = since.max(self.first);
        let mut newest = resources.iter().map(|id| self.store.generation_of(id));
        let lacks = newest.any(|newest| newest.is_none_or(|newest| newest > known));
        Some(Programmed::CutOff {
            pod: name.to_string(),
            lacks,
        })
    }
}

/// Names of data planes that are connected here or to another replica, or on their way from one that has gone.
fn connected<'a>(
    here: &'a BTreeMap<u64, DataPlane>,
    others: &'a BTreeMap<Arc<str>, Other>,
) -> impl Iterator<Item = &'a str> {
    let elsewhere = others.values().flat_map(Other::planes);
    here.values().chain(elsewhere).map(|plane| &*plane.node_id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::tests::{Client, plugin};
    use crate::publish::{ReplicaStream, Session, Teller};
    use snapshot::{Replica, SCHEMA, pb};
    use std::time::Instant;

    /// As it calls itself in these tests.
    const POD: &str = "a";

    fn serving() -> BTreeSet<Arc<str>> {
        BTreeSet::from([POD.into()])
    }

    fn cut_off(lacks: bool) -> Programmed {
        let pod = POD.to_owned();
        Programmed::CutOff { pod, lacks }
    }

    fn programmed(publisher: &Publisher, key: &str) -> Programmed {
        publisher.programmed([&plugin(key, "").0])
    }

    #[test]
    fn a_pod_that_serves_and_is_connected_to_nobody_lacks_what_has_changed_since() {
        let publisher = Publisher::new("s");
        publisher.publish([plugin("x", "1"), plugin("y", "1"), plugin("z", "1")], 0);
        publisher.served_by(&serving());
        let mut one = Client::connect(&publisher, Replica::default());
        one.sync();
        assert_eq!(programmed(&publisher, "x"), Programmed::Yes);
        // It is cut off before it has taken this,
        publisher.publish([plugin("y", "2")], 0);
        let Client {
            session, replica, ..
        } = one;
        drop(session);
        // and this comes later.
        publisher.publish([plugin("z", "2")], 0);
        assert_eq!(programmed(&publisher, "x"), cut_off(false));
        assert_eq!(programmed(&publisher, "y"), cut_off(true));
        assert_eq!(programmed(&publisher, "z"), cut_off(true));
        // What another one has not acknowledged is worse than what is not known.
        let hello = pb::Hello {
            schema_min: 1,
            schema_max: SCHEMA,
            ..pb::Hello::default()
        };
        let mut other = Session::new(Arc::clone(&publisher)).with_pod("b");
        other.on_hello(&hello).unwrap();
        assert_eq!(programmed(&publisher, "x"), Programmed::Pending);
        assert_eq!(programmed(&publisher, "y"), cut_off(true));
        drop(other);

        let mut progress = publisher.progress();
        progress.mark_unchanged();
        let mut one = Client::connect(&publisher, replica);
        one.sync();
        assert!(progress.has_changed().unwrap());
        for key in ["x", "y", "z"] {
            assert_eq!(programmed(&publisher, key), Programmed::Yes);
        }
    }

    #[test]
    fn a_pod_without_traffic_is_nobody() {
        let publisher = Publisher::new("s");
        publisher.publish([plugin("x", "1")], 0);
        publisher.served_by(&serving());
        assert_eq!(programmed(&publisher, "x"), cut_off(false));
        let mut progress = publisher.progress();
        progress.mark_unchanged();
        publisher.served_by(&BTreeSet::new());
        assert!(progress.has_changed().unwrap(), "what waits is looked at");
        assert_eq!(programmed(&publisher, "x"), Programmed::NoDataPlane);
        progress.mark_unchanged();
        publisher.served_by(&BTreeSet::new());
        assert!(!progress.has_changed().unwrap());
    }

    #[test]
    fn a_controller_that_starts_knows_of_it_and_not_what_it_holds() {
        let publisher = Publisher::new("s");
        publisher.served_by(&serving());
        publisher.publish([plugin("x", "1"), plugin("y", "1")], 0);
        assert_eq!(programmed(&publisher, "x"), cut_off(false));
        publisher.publish([plugin("y", "2")], 0);
        assert_eq!(programmed(&publisher, "x"), cut_off(false));
        assert_eq!(programmed(&publisher, "y"), cut_off(true));
    }

    #[test]
    fn a_pod_is_connected_to_whichever_replica() {
        let (here, there) = (Publisher::new("one"), Publisher::new("two"));
        for publisher in [&here, &there] {
            publisher.publish([plugin("x", "1"), plugin("y", "1")], 0);
        }
        let mut teller = Teller::new(&there, "g", None);
        let from = ReplicaStream {
            replica: "two".into(),
            number: 1,
            is_same_build: true,
        };
        let mut tell = || {
            for state in teller.news() {
                here.hear(&from, state, false);
            }
        };
        here.served_by(&serving());
        let mut one = Client::connect(&there, Replica::default());
        one.sync();
        tell();
        assert_eq!(programmed(&here, "x"), Programmed::Yes);
        // It goes, and comes again.
        let Client {
            session, replica, ..
        } = one;
        drop(session);
        tell();
        assert_eq!(programmed(&here, "x"), cut_off(false));
        let mut one = Client::connect(&there, replica);
        one.sync();
        tell();
        assert_eq!(programmed(&here, "x"), Programmed::Yes);

        // Its replica dies: for a while it is on its way to another.
        let at = Instant::now();
        here.part(&from, at);
        here.publish([plugin("y", "2")], 0);
        assert_eq!(programmed(&here, "x"), Programmed::Yes);
        assert_eq!(programmed(&here, "y"), Programmed::Pending);
        here.forget("two", at);
        assert_eq!(programmed(&here, "x"), cut_off(false));
        here.publish([plugin("y", "3")], 0);
        assert_eq!(programmed(&here, "y"), cut_off(true));
        let mut one = Client::connect(&here, one.replica);
        one.sync();
        assert_eq!(programmed(&here, "y"), Programmed::Yes);
    }
}

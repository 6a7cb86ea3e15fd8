//! Nothing is published before everything is known: a restarted controller must not take half a world for the whole.
//!
//! A kind that the cluster does not know is empty. One that is there and may not be listed is not: what it takes part in would
//! open (Tenants, BackendTLSPolicies), fall to wider Routes, or be taken from data planes that serve it. What can be done
//! without all the same ([`Gate::can_do_without`]) is said in `deploy/README.md`.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::target::Target;
use crate::world::{ObjectKind, Scope};

/// How far a first list has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    Waiting,
    Forbidden,
    /// The cluster does not know the kind, or nothing asks for it.
    Absent,
    Done,
}

/// Opens once, when every kind that is present has been listed, but for those that can be done without.
#[derive(Debug)]
pub struct Gate {
    lists: BTreeMap<Target, First>,
    /// From then on kinds that can be done without count as empty where they are forbidden.
    patience: Instant,
    /// Whether namespaces were chosen: then nobody has promised what stands outside of all of them.
    is_scoped: bool,
}

impl Gate {
    pub fn new(scope: &Scope, now: Instant, sync_timeout: Duration) -> Self {
        let kinds = ObjectKind::ALL.iter();
        let lists = kinds.flat_map(|kind| Target::of(*kind, scope));
        Self {
            lists: lists.map(|target| (target, First::Waiting)).collect(),
            patience: now + sync_timeout,
            is_scoped: !scope.is_cluster(),
        }
    }

    pub fn listed(&mut self, target: &Target) {
        if let Some(first) = self.lists.get_mut(target) {
            *first = First::Done;
        }
    }

    /// A kind that the cluster does not know is empty.
    pub fn absent(&mut self, kind: ObjectKind) {
        let of_it = self.lists.iter_mut().filter(|(of, _)| of.kind == kind);
        of_it.for_each(|(_, first)| *first = First::Absent);
    }

    /// What has been listed is known, and stays so when the right is lost later. Returns whether it has never been listed.
    pub fn forbidden(&mut self, target: &Target) -> bool {
        let Some(first) = self.lists.get_mut(target) else {
            return false;
        };
        if *first != First::Done {
            *first = First::Forbidden;
        }
        *first == First::Forbidden
    }

    /// Whether all that there is of a kind is known.
    pub fn knows(&self, kind: ObjectKind) -> bool {
        let known = [First::Absent, First::Done];
        self.of(kind).all(|first| known.contains(&first))
    }

    /// How far each list of a kind has come.
    fn of(&self, kind: ObjectKind) -> impl Iterator<Item = First> {
        let of_it = self.lists.iter().filter(move |(of, _)| of.kind == kind);
        of_it.map(|(_, first)| *first)
    }

    /// Whether nobody but those who ask for it goes without what may not be listed, and nothing opens.
    fn can_do_without(&self, target: &Target) -> bool {
        let is_there = |kind| self.of(kind).any(|first| first == First::Done);
        match target.kind {
            // Upstreams that select Pods have no endpoints then.
            ObjectKind::Pod => true,
            // A Role of some namespace is missing: what refers to Secrets there says so.
            ObjectKind::Secret => !self.is_scoped && target.namespace.is_some(),
            ObjectKind::GatewayClass | ObjectKind::IngressClass => self.is_scoped,
            // With Tenants alone no namespace is a Tenant's, and what one asks of its Routes is asked of none; with
            // Namespaces alone no host has an owner. Who permits neither has no Tenants.
            ObjectKind::Tenant => self.is_scoped && !is_there(ObjectKind::Namespace),
            ObjectKind::Namespace => self.is_scoped && !is_there(ObjectKind::Tenant),
            _ => false,
        }
    }

    /// Whether a kind is not promised: who chooses namespaces may permit nothing outside of them.
    fn is_outside(&self, kind: ObjectKind) -> bool {
        self.is_scoped && kind.is_cluster_scoped()
    }

    /// When to ask again although nothing has happened.
    pub fn patience(&self) -> Instant {
        self.patience
    }

    pub fn is_open(&self, now: Instant) -> bool {
        self.missing(now).next().is_none()
    }

    /// What the gate waits for.
    pub fn missing(&self, now: Instant) -> impl Iterator<Item = &Target> {
        let patient = now < self.patience;
        let waits = move |(target, first): &(&Target, &First)| match first {
            First::Done | First::Absent => false,
            First::Waiting => true,
            First::Forbidden => {
                let is_believed = !patient || self.is_outside(target.kind);
                !is_believed || !self.can_do_without(target)
            }
        };
        let missing = self.lists.iter().filter(waits);
        missing.map(|(target, _)| target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(60);

    fn gate(now: Instant, except: ObjectKind) -> Gate {
        let mut gate = Gate::new(&Scope::default(), now, TIMEOUT);
        for kind in ObjectKind::ALL {
            if *kind != except {
                assert!(!gate.is_open(now));
                gate.listed(&(*kind).into());
            }
        }
        gate
    }

    /// One of two namespaces, in which everything is listed but what stands outside of them.
    fn scoped(now: Instant) -> Gate {
        let scope: Scope = "a,b".parse().unwrap();
        let mut gate = Gate::new(&scope, now, TIMEOUT);
        for kind in ObjectKind::ALL.iter().filter(|k| !k.is_cluster_scoped()) {
            let targets = Target::of(*kind, &scope);
            assert_eq!(targets.len(), 2);
            for target in &targets {
                assert!(!gate.knows(*kind) && !gate.is_open(now));
                gate.listed(target);
            }
            assert!(gate.knows(*kind));
        }
        gate
    }

    #[test]
    fn what_stands_outside_of_chosen_namespaces_may_be_forbidden() {
        let now = Instant::now();
        let mut gate = scoped(now);
        let outside: Vec<Target> = gate.missing(now).cloned().collect();
        assert_eq!(outside.len(), 4, "{outside:?}");
        for target in outside {
            assert!(target.kind.is_cluster_scoped() && !gate.is_open(now));
            gate.forbidden(&target);
        }
        assert!(gate.is_open(now));
    }

    #[test]
    fn opens_when_the_last_kind_is_listed_or_absent() {
        let now = Instant::now();
        let mut waiting = gate(now, ObjectKind::Plugin);
        assert!(!waiting.is_open(now + TIMEOUT * 100));
        assert_eq!(
            waiting.missing(now).collect::<Vec<_>>(),
            [&ObjectKind::Plugin.into()]
        );
        waiting.absent(ObjectKind::Plugin);
        assert!(waiting.is_open(now));
    }

    #[test]
    fn of_tenants_and_namespaces_outside_both_are_permitted_or_neither() {
        let now = Instant::now();
        let (tenant, namespace) = (ObjectKind::Tenant, ObjectKind::Namespace);
        for (listed, absent, forbidden) in [
            (Some(tenant), None, namespace),
            (Some(namespace), None, tenant),
            (None, Some(tenant), namespace),
        ] {
            let mut gate = scoped(now);
            for class in [ObjectKind::GatewayClass, ObjectKind::IngressClass] {
                gate.forbidden(&class.into());
            }
            gate.forbidden(&forbidden.into());
            assert!(!gate.is_open(now + TIMEOUT));
            if let Some(kind) = listed {
                gate.listed(&kind.into());
            }
            if let Some(kind) = absent {
                gate.absent(kind);
            }
            assert_eq!(
                gate.is_open(now + TIMEOUT),
                absent.is_some(),
                "{listed:?} without {forbidden}"
            );
            gate.listed(&forbidden.into());
            assert!(gate.is_open(now));
        }
    }

    #[test]
    fn a_kind_that_is_there_is_waited_for_unless_nobody_else_goes_without() {
        let now = Instant::now();
        for kind in ObjectKind::ALL {
            let mut gate = gate(now, *kind);
            let target = Target::from(*kind);
            assert!(gate.forbidden(&target) && gate.forbidden(&target));
            assert!(!gate.is_open(now));
            assert_eq!(
                gate.is_open(now + TIMEOUT),
                *kind == ObjectKind::Pod,
                "{kind}"
            );
            gate.listed(&target);
            assert!(!gate.forbidden(&target));
            assert!(
                gate.is_open(now),
                "a right that is lost later does not close it"
            );
        }
    }

    #[test]
    fn secrets_of_one_of_some_namespaces_are_not_waited_for_for_ever() {
        let now = Instant::now();
        for (scope, in_the_end) in [
            (
                Scope::default().with_secrets_of(&"a,b".parse().unwrap()),
                true,
            ),
            ("a,b".parse().unwrap(), false),
        ] {
            let mut gate = Gate::new(&scope, now, TIMEOUT);
            let secrets = Target::of(ObjectKind::Secret, &scope)
                .into_iter()
                .next()
                .unwrap();
            let all = ObjectKind::ALL.iter();
            let all = all.flat_map(|kind| Target::of(*kind, &scope));
            for target in all.filter(|target| *target != secrets) {
                gate.listed(&target);
            }
            gate.forbidden(&secrets);
            assert!(!gate.is_open(now));
            assert_eq!(gate.is_open(now + TIMEOUT), in_the_end, "{scope:?}");
        }
    }

    #[test]
    fn a_kind_that_appears_and_may_not_be_listed_is_not_absent_any_more() {
        let now = Instant::now();
        let mut gate = gate(now, ObjectKind::HTTPRoute);
        gate.absent(ObjectKind::HTTPRoute);
        assert!(gate.knows(ObjectKind::HTTPRoute) && gate.is_open(now));
        gate.forbidden(&ObjectKind::HTTPRoute.into());
        assert!(!gate.knows(ObjectKind::HTTPRoute) && !gate.is_open(now + TIMEOUT));
    }
}

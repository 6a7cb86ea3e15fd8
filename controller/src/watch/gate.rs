//! Nothing is published before everything is known: a restarted controller must not take half a world for the whole.

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
    Done,
}

/// Opens once, when every kind that is present and permitted has been listed.
#[derive(Debug)]
pub struct Gate {
    lists: BTreeMap<Target, First>,
    /// From then on optional kinds that are forbidden count as empty.
    patience: Instant,
    /// Whether namespaces were chosen: then nobody has promised what stands outside of all of them.
    is_scoped: bool,
}

/// Kinds without which everything still fails closed: references that they would permit or resolve stay refused, and what
/// they would serve is not served. A BackendTLSPolicy is none of these: without it its Service is spoken to in clear.
fn is_optional(kind: ObjectKind) -> bool {
    use ObjectKind as K;
    matches!(
        kind,
        K::ReferenceGrant
            | K::Secret
            | K::ConfigMap
            | K::Namespace
            | K::GatewayClass
            | K::Gateway
            | K::ListenerSet
            | K::HTTPRoute
            | K::GRPCRoute
            | K::TLSRoute
            | K::TCPRoute
            | K::UDPRoute
            | K::Pod
            | K::Ingress
    )
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
        of_it.for_each(|(_, first)| *first = First::Done);
    }

    /// Returns whether it has never been listed.
    pub fn forbidden(&mut self, target: &Target) -> bool {
        let Some(first) = self.lists.get_mut(target) else {
            return false;
        };
        if *first == First::Waiting {
            *first = match self.is_scoped && target.kind.is_cluster_scoped() {
                true => First::Done,
                false => First::Forbidden,
            };
        }
        *first == First::Forbidden
    }

    /// Whether all of a kind is listed.
    pub fn knows(&self, kind: ObjectKind) -> bool {
        let mut of_it = self.lists.iter().filter(|(of, _)| of.kind == kind);
        of_it.all(|(_, first)| *first == First::Done)
    }

    fn can_do_without(&self, kind: ObjectKind) -> bool {
        match kind {
            // What an Ingress's class says of where it is published would be lost, and the default be taken.
            ObjectKind::IngressClass => !self.knows(ObjectKind::Ingress),
            kind => is_optional(kind),
        }
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
            First::Done => false,
            First::Waiting => true,
            First::Forbidden => patient || !self.can_do_without(target.kind),
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
    fn classes_of_ingresses_that_may_not_be_read_either_are_not_waited_for() {
        let now = Instant::now();
        let mut gate = Gate::new(&Scope::default(), now, TIMEOUT);
        let kinds = [ObjectKind::Ingress, ObjectKind::IngressClass];
        for kind in ObjectKind::ALL.iter().filter(|kind| !kinds.contains(kind)) {
            gate.listed(&(*kind).into());
        }
        for kind in kinds {
            gate.forbidden(&kind.into());
        }
        assert!(!gate.is_open(now));
        assert!(gate.is_open(now + TIMEOUT));
    }

    #[test]
    fn a_forbidden_kind_is_waited_for_unless_it_is_optional() {
        let now = Instant::now();
        for (kind, in_the_end) in [
            (ObjectKind::Route, false),
            (ObjectKind::Tenant, false),
            (ObjectKind::BackendTLSPolicy, false),
            (ObjectKind::IngressClass, false),
            (ObjectKind::Secret, true),
        ] {
            let mut gate = gate(now, kind);
            let target = Target::from(kind);
            assert!(gate.forbidden(&target) && gate.forbidden(&target));
            assert!(!gate.is_open(now));
            assert_eq!(gate.is_open(now + TIMEOUT), in_the_end, "{kind}");
            gate.listed(&target);
            assert!(!gate.forbidden(&target));
            assert!(
                gate.is_open(now),
                "a right that is lost later does not close it"
            );
        }
    }
}

//! Nothing is published before everything is known: a restarted controller must not take half a world for the whole.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::world::ObjectKind;

/// How far the first list of a kind has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    Waiting,
    Forbidden,
    Done,
}

/// Opens once, when every kind that is present and permitted has been listed.
#[derive(Debug)]
pub struct Gate {
    kinds: BTreeMap<ObjectKind, First>,
    /// From then on optional kinds that are forbidden count as empty.
    patience: Instant,
}

/// Kinds without which everything still fails closed: references that they would permit or resolve stay refused.
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
            | K::BackendTLSPolicy
            | K::Pod
            | K::Ingress
            | K::IngressClass
    )
}

impl Gate {
    pub fn new(now: Instant, sync_timeout: Duration) -> Self {
        let kinds = ObjectKind::ALL.iter().map(|kind| (*kind, First::Waiting));
        Self {
            kinds: kinds.collect(),
            patience: now + sync_timeout,
        }
    }

    pub fn listed(&mut self, kind: ObjectKind) {
        self.kinds.insert(kind, First::Done);
    }

    /// A kind that the cluster does not know is empty.
    pub fn absent(&mut self, kind: ObjectKind) {
        self.kinds.insert(kind, First::Done);
    }

    pub fn forbidden(&mut self, kind: ObjectKind) {
        if let Some(first) = self.kinds.get_mut(&kind)
            && *first == First::Waiting
        {
            *first = First::Forbidden;
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
    pub fn missing(&self, now: Instant) -> impl Iterator<Item = ObjectKind> {
        let patient = now < self.patience;
        self.kinds.iter().filter_map(move |(kind, first)| {
            let waits = match first {
                First::Done => false,
                First::Waiting => true,
                First::Forbidden => patient || !is_optional(*kind),
            };
            waits.then_some(*kind)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(60);

    fn gate(now: Instant, except: ObjectKind) -> Gate {
        let mut gate = Gate::new(now, TIMEOUT);
        for kind in ObjectKind::ALL {
            if *kind != except {
                assert!(!gate.is_open(now));
                gate.listed(*kind);
            }
        }
        gate
    }

    #[test]
    fn opens_when_the_last_kind_is_listed_or_absent() {
        let now = Instant::now();
        let mut waiting = gate(now, ObjectKind::Plugin);
        assert!(!waiting.is_open(now + TIMEOUT * 100));
        assert_eq!(
            waiting.missing(now).collect::<Vec<_>>(),
            [ObjectKind::Plugin]
        );
        waiting.absent(ObjectKind::Plugin);
        assert!(waiting.is_open(now));
    }

    #[test]
    fn a_forbidden_kind_is_waited_for_unless_it_is_optional() {
        let now = Instant::now();
        for (kind, in_the_end) in [
            (ObjectKind::Route, false),
            (ObjectKind::Tenant, false),
            (ObjectKind::Secret, true),
        ] {
            let mut gate = gate(now, kind);
            gate.forbidden(kind);
            assert!(!gate.is_open(now));
            assert_eq!(gate.is_open(now + TIMEOUT), in_the_end, "{kind}");
            gate.listed(kind);
            gate.forbidden(kind);
            assert!(
                gate.is_open(now),
                "a right that is lost later does not close it"
            );
        }
    }
}

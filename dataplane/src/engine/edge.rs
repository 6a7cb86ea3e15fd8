//! Which ambiguous forms the edge gate lets in, by the listener that a request belongs to.

use crate::by_host::ByHost;
use model::{Edge, HostPattern};
use std::sync::Arc;

/// The policies of the listeners of a port.
#[derive(Clone, Debug, Default)]
pub struct EdgePolicies {
    /// Of all hosts, where the listeners agree.
    common: Edge,
    by_host: Option<Arc<ByHost<Edge>>>,
}

impl EdgePolicies {
    /// One for all hosts.
    pub fn same(edge: Edge) -> Self {
        Self {
            common: edge,
            by_host: None,
        }
    }

    /// Of listeners with the hosts that they are for. What is sent to hosts that none of them has is read strictly.
    pub fn of(listeners: &[(&HostPattern, Edge)]) -> Self {
        let first = listeners.first().map(|(_, edge)| *edge);
        let first = first.unwrap_or_default();
        if listeners.iter().all(|(_, edge)| *edge == first) {
            return Self::same(first);
        }
        let mut by_host = ByHost::default();
        for (hostname, edge) in listeners {
            by_host.add(hostname, *edge);
        }
        Self {
            common: Edge::default(),
            by_host: Some(Arc::new(by_host)),
        }
    }

    /// That for requests to a canonical host.
    pub fn for_host(&self, host: &str) -> Edge {
        let of_host = self.by_host.as_ref().and_then(|all| all.get(host));
        of_host.copied().unwrap_or(self.common)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{EscapedSlashes, Underscores};

    #[test]
    fn a_request_has_the_policy_of_the_listener_that_its_host_belongs_to() {
        let keep = Edge {
            escaped_slashes: EscapedSlashes::Keep,
            underscores: Underscores::Drop,
        };
        let pattern = |text: &str| HostPattern::parse(text).unwrap();
        let differ = EdgePolicies::of(&[
            (&pattern("*.example.com"), keep),
            (&pattern("a.example.com"), Edge::default()),
        ]);
        assert_eq!(differ.for_host("b.example.com"), keep);
        for host in ["a.example.com", "example.com", "other.test", ""] {
            assert_eq!(differ.for_host(host), Edge::default(), "{host}");
        }

        let (a, b) = (pattern("a.test"), pattern("b.test"));
        let agree = EdgePolicies::of(&[(&a, keep), (&b, keep)]);
        assert!(agree.by_host.is_none(), "nothing is looked up");
        assert_eq!(agree.for_host("b.test"), keep);
        assert_eq!(EdgePolicies::of(&[]).for_host("a.test"), Edge::default());
    }
}

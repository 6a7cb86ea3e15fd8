//! Routes that name what is not known yet. Nothing orders two watches: the Route of an Upstream that was made just before
//! it may well come first, and would answer 500 until the Upstream comes. So it waits for a moment, and what served before
//! serves on. One whose backend does not come is published all the same, and says so.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::adapt::{Names, grpc_route, http_route, ingress, stream_route};
use crate::world::{Body, Object, ObjectId, ObjectKind};

/// How long a Route waits at most, however often it changes meanwhile.
const GRACE: Duration = Duration::from_millis(200);
/// Routes that wait; one more does not.
const MOST: usize = 1024;

/// See the module.
#[derive(Debug, Default)]
pub struct Expected(BTreeMap<ObjectId, Wait>);

#[derive(Debug)]
struct Wait {
    missing: BTreeSet<ObjectId>,
    until: Instant,
    at: u64,
}

impl Expected {
    /// Whether a changed object waits for others that it names. `at`: when the change was seen.
    pub fn hold(
        &mut self,
        object: &Object,
        known: impl Fn(&ObjectId) -> bool,
        at: u64,
        now: Instant,
    ) -> bool {
        let mut missing = backends(object);
        missing.retain(|id| !known(id));
        let before = self.0.remove(&object.id);
        if missing.is_empty() || self.0.len() >= MOST {
            return false;
        }
        let (until, at) = before.map_or((now + GRACE, at), |b| (b.until, b.at));
        let wait = Wait { missing, until, at };
        self.0.insert(object.id.clone(), wait);
        true
    }

    /// Something has come: what waits for nothing else any more, and since when.
    pub fn arrived(&mut self, id: &ObjectId) -> Vec<(ObjectId, u64)> {
        self.release(|wait| wait.missing.remove(id) && wait.missing.is_empty())
    }

    /// What has waited long enough.
    pub fn expired(&mut self, now: Instant) -> Vec<(ObjectId, u64)> {
        self.release(|wait| wait.until <= now)
    }

    /// It is gone.
    pub fn forget(&mut self, id: &ObjectId) {
        self.0.remove(id);
    }

    /// When something will have waited long enough.
    pub fn due(&self) -> Option<Instant> {
        self.0.values().map(|wait| wait.until).min()
    }

    fn release(&mut self, mut ends: impl FnMut(&mut Wait) -> bool) -> Vec<(ObjectId, u64)> {
        let released = self.0.extract_if(.., |_, wait| ends(wait));
        released.map(|(id, wait)| (id, wait.at)).collect()
    }
}

/// What the rules of a Route, of whichever kind, or an Ingress send requests to.
fn backends(object: &Object) -> BTreeSet<ObjectId> {
    let said;
    let spec = match &object.body {
        Body::Route(spec) => &**spec,
        Body::HTTPRoute(spec) => {
            said = http_route::as_route(spec, Names::unasked()).spec;
            &said
        }
        Body::GRPCRoute(spec) => {
            said = grpc_route::as_route(spec, Names::unasked()).0.spec;
            &said
        }
        Body::TLSRoute(spec) => {
            said = stream_route::of_tls(spec).0.spec;
            &said
        }
        Body::TCPRoute(spec) => {
            said = stream_route::of_tcp(spec).0.spec;
            &said
        }
        Body::UDPRoute(spec) => {
            said = stream_route::of_udp(spec).0.spec;
            &said
        }
        Body::Ingress(spec) => {
            let all = ingress::backends(spec).into_iter();
            let services = all.filter_map(|(_, backend)| backend.service.as_ref());
            return services
                .map(|s| ObjectId::new(ObjectKind::Service, &*object.id.namespace, &*s.name))
                .collect();
        }
        _ => return BTreeSet::new(),
    };
    let all = spec.rules.iter().flat_map(|rule| &rule.backends);
    let id = |backend: &crds::Backend| {
        let kind = match backend.kind.as_deref() {
            None | Some("Service") => ObjectKind::Service,
            Some("Upstream") => ObjectKind::Upstream,
            Some(_) => return None,
        };
        let namespace = backend.namespace.as_deref();
        let namespace = namespace.unwrap_or(&object.id.namespace);
        Some(ObjectId::new(kind, namespace, backend.name.as_str()))
    };
    all.filter_map(id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn route(names: &[&str]) -> Object {
        let backends: Vec<_> = names
            .iter()
            .map(|name| json!({"kind": "Upstream", "name": name}))
            .collect();
        let value = json!({
            "apiVersion": "diolkos.io/v1alpha1", "kind": "Route",
            "metadata": {"namespace": "a", "name": "r"}, "spec": {"rules": [{"backends": backends}]},
        });
        Object::from_json(&value).unwrap().unwrap()
    }

    fn upstream(name: &str) -> ObjectId {
        ObjectId::new(ObjectKind::Upstream, "a", name)
    }

    #[test]
    fn a_route_waits_for_all_that_it_names() {
        let (mut expected, now) = (Expected::default(), Instant::now());
        let route = route(&["one", "two", "there"]);
        assert!(expected.hold(&route, |id| *id == upstream("there"), 7, now));
        assert!(expected.arrived(&upstream("one")).is_empty());
        assert!(expected.arrived(&upstream("other")).is_empty());
        assert_eq!(expected.arrived(&upstream("two")), [(route.id.clone(), 7)]);
        assert_eq!(expected.due(), None);
        assert!(!expected.hold(&route, |_| true, 8, now));
    }

    #[test]
    fn routes_of_the_gateway_api_wait_too() {
        let now = Instant::now();
        let kinds = ["HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute"];
        for kind in kinds {
            let value = json!({
                "apiVersion": "gateway.networking.k8s.io/v1", "kind": kind, "metadata": {"namespace": "a", "name": "r"},
                "spec": {"hostnames": ["a.example"], "rules": [{"backendRefs": [
                    {"name": "there", "port": 80}, {"name": "new", "namespace": "b", "port": 80},
                ]}]},
            });
            let route = Object::from_json(&value).unwrap().unwrap();
            let mut expected = Expected::default();
            let there = ObjectId::new(ObjectKind::Service, "a", "there");
            assert!(expected.hold(&route, |id| *id == there, 7, now), "{kind}");
            let new = ObjectId::new(ObjectKind::Service, "b", "new");
            assert_eq!(expected.arrived(&new), [(route.id.clone(), 7)], "{kind}");
        }
    }

    #[test]
    fn it_waits_for_a_moment_however_often_it_changes() {
        let (mut expected, now) = (Expected::default(), Instant::now());
        let route = route(&["one"]);
        assert!(expected.hold(&route, |_| false, 7, now));
        let later = now + GRACE / 2;
        assert!(expected.hold(&route, |_| false, 9, later));
        assert_eq!(expected.due(), Some(now + GRACE));
        assert!(expected.expired(later).is_empty());
        assert_eq!(expected.expired(now + GRACE), [(route.id.clone(), 7)]);
        assert!(expected.hold(&route, |_| false, 9, later));
        expected.forget(&route.id);
        assert_eq!(expected.due(), None);
    }
}

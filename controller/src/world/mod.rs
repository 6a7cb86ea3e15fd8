//! Every object that translation may look at, as compact records.
//!
//! One thread owns the [`World`] and changes it event by event, from watches or from a directory; translation only
//! reads it. Whole Kubernetes objects are never kept: an [`Object`] holds what some rule of translation asks for.

mod definition;
mod id;
mod ingress;
mod kubernetes;
mod manifest;
mod object;
pub(crate) mod part;
pub(crate) mod pem;
mod reference_grant;
mod scope;
mod values;

pub use definition::Definition;
pub use id::{ObjectId, ObjectKind};
pub use ingress::{CLASS_ANNOTATION, ClassParameters, Ingress, IngressClass, NGINX_PREFIX};
pub use kubernetes::{EndpointSlice, Namespace, Pod, Service, ServicePort, SliceEndpoint};
pub use object::{Body, Meta, Object, Refusal, Unreadable};
pub use pem::Pair;
pub use reference_grant::{GrantFrom, GrantTo, ReferenceGrant, ReferenceGrantSpec};
pub use scope::{MOST_NAMESPACES, Scope};
pub use values::{Data, Values};

use crate::fill::fill;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

/// The objects by identity, with the few indexes that translation needs.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// Boxed: nodes of the map are never full.
    objects: BTreeMap<ObjectId, Box<Object>>,
    /// Of what has listeners: why the present version cannot be read, where the one before it is here instead.
    unread: BTreeMap<ObjectId, Vec<Refusal>>,
    /// A Service, and one of its EndpointSlices.
    slices: BTreeSet<(ObjectId, ObjectId)>,
    now: i64,
    definitions: BTreeMap<ObjectKind, Definition>,
    forbidden: Option<Box<str>>,
    scope: Scope,
    /// Kinds that could never be listed, and where (`None`: anywhere), because that is not permitted.
    unlisted: BTreeSet<(ObjectKind, Option<Arc<str>>)>,
}

impl World {
    /// One of which only this part is known.
    pub fn of(scope: Scope) -> Self {
        Self {
            scope,
            ..Self::default()
        }
    }

    /// Says of an object that it is not here.
    pub fn not_found(&self, id: &ObjectId) -> String {
        format!("{id} is not found{}", self.because_unwatched(id))
    }

    /// Says of an object that no ReferenceGrant allows to refer to it.
    pub fn not_granted(&self, id: &ObjectId) -> String {
        let why = self.because_unwatched(id);
        format!("{id} is in another namespace and no ReferenceGrant there permits it{why}")
    }

    /// Says of a Secret or ConfigMap that is not here why nobody knows whether there is one; `None`: there is none.
    pub fn not_readable(&self, id: &ObjectId) -> Option<String> {
        let (kind, namespace) = (id.kind, &*id.namespace);
        let is_watched = self.scope.includes(namespace);
        if kind == ObjectKind::Secret && is_watched && !self.scope.includes_secrets_of(namespace) {
            return Some(format!(
                "the controller may not read Secrets in namespace {namespace}: add that to --secret-namespaces (by Helm \
                 rbac.secretNamespaces)"
            ));
        }
        let mut unlisted = self.unlisted.iter();
        let is_unlisted = unlisted.any(|(of, place)| {
            *of == kind && place.as_deref().is_none_or(|place| place == namespace)
        });
        is_unlisted.then(|| {
            format!("the controller lacks the permission: allow it to get, list and watch every {kind} in namespace {namespace}")
        })
    }

    /// Notes whether what there is of a kind, in a namespace or anywhere, has ever been listed or may not be. Returns whether
    /// that is new.
    pub fn set_listed(
        &mut self,
        kind: ObjectKind,
        namespace: Option<Arc<str>>,
        is_listed: bool,
    ) -> bool {
        match is_listed {
            true => self.unlisted.remove(&(kind, namespace)),
            false => self.unlisted.insert((kind, namespace)),
        }
    }

    /// Which part of the cluster is known.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    fn because_unwatched(&self, id: &ObjectId) -> String {
        match self.scope.includes(&id.namespace) {
            true => String::new(),
            false => format!(": namespace {} is not watched", id.namespace),
        }
    }

    /// Takes an object as it is now. Returns whether anything that matters is different.
    ///
    /// A refused version ([`Object::refused`]) of a kind without quarantine of its own (Service, EndpointSlice,
    /// Secret, …) leaves the version that is there. So does one of what has listeners, but that is said ([`Self::unread`]):
    /// many read it beside its own unit.
    pub fn apply(&mut self, mut object: Object) -> bool {
        let keeps_old = !object.id.kind.has_status() && object.is_refused();
        let unread = self.take_before(&mut object);
        let was_unread = self.unread.get(&object.id);
        match self.objects.get_key_value(&object.id) {
            Some((_, old)) if **old == object && was_unread == unread.as_ref() || keeps_old => {
                return false;
            }
            Some((known, _)) => {
                object.id = known.clone();
                self.unindex(&object.id);
            }
            None => {}
        }
        self.slices.extend(self.slice(&object));
        match unread {
            Some(refusals) => drop(self.unread.insert(object.id.clone(), refusals)),
            None => drop(self.unread.remove(&object.id)),
        }
        self.objects.insert(object.id.clone(), Box::new(object));
        true
    }

    /// Puts the version that is there in the place of one that cannot be read. Gives why it cannot.
    fn take_before(&self, object: &mut Object) -> Option<Vec<Refusal>> {
        let refusals = object.refusals()?.to_vec();
        let before = self.get(&object.id).filter(|before| {
            let uids = [&before.meta.uid, &object.meta.uid];
            object.id.kind.has_listeners()
                && before.refusals().is_none()
                && (uids[0] == uids[1] || uids.iter().any(|uid| uid.is_empty()))
        })?;
        object.unreadable = Box::default();
        object.body = before.body.clone();
        Some(refusals)
    }

    /// Why the present version of what has listeners cannot be read, while the one before it is here.
    pub fn unread(&self, id: &ObjectId) -> &[Refusal] {
        self.unread.get(id).map_or(&[], Vec::as_slice)
    }

    /// Forgets an object. Returns whether it was there.
    pub fn remove(&mut self, id: &ObjectId) -> bool {
        self.unindex(id);
        self.unread.remove(id);
        self.objects.remove(id).is_some()
    }

    fn unindex(&mut self, id: &ObjectId) {
        if let Some(slice) = self.get(id).and_then(|object| self.slice(object)) {
            self.slices.remove(&slice);
        }
    }

    /// How [`World::slices`] finds it.
    fn slice(&self, object: &Object) -> Option<(ObjectId, ObjectId)> {
        let Body::EndpointSlice(slice) = &object.body else {
            return None;
        };
        let service = slice.service.as_deref()?;
        let service = ObjectId::new(ObjectKind::Service, &*object.id.namespace, service);
        Some((self.known(&service), object.id.clone()))
    }

    /// The same identity, in the memory that the object has for it where there is one.
    pub fn known(&self, id: &ObjectId) -> ObjectId {
        self.objects
            .get_key_value(id)
            .map_or(id, |(known, _)| known)
            .clone()
    }

    /// Takes no more memory than need be for what it holds now.
    pub fn fill(&mut self) {
        fill(&mut self.objects);
        fill(&mut self.slices);
    }

    /// The time against which certificates are judged, in seconds since the epoch. Whoever owns the world moves it on
    /// now and then; whatever depends on it is then to be translated anew.
    pub fn now(&self) -> i64 {
        self.now
    }

    /// Sets [`Self::now`].
    pub fn set_now(&mut self, now: i64) {
        self.now = now;
    }

    /// The cluster's CustomResourceDefinition of a kind of the Gateway API; `None`: not known.
    pub fn definition(&self, kind: ObjectKind) -> Option<&Definition> {
        self.definitions.get(&kind)
    }

    /// Sets [`Self::definition`]; whether that is another one.
    pub fn set_definition(&mut self, kind: ObjectKind, definition: Option<Definition>) -> bool {
        let before = match definition.clone() {
            Some(definition) => self.definitions.insert(kind, definition),
            None => self.definitions.remove(&kind),
        };
        before != definition
    }

    /// Of what kinds may not be listed or watched, in words; `None`: there is none.
    pub fn forbidden(&self) -> Option<&str> {
        self.forbidden.as_deref()
    }

    /// Sets [`Self::forbidden`]; whether that is another one.
    pub fn set_forbidden(&mut self, forbidden: Option<Box<str>>) -> bool {
        std::mem::replace(&mut self.forbidden, forbidden) != self.forbidden
    }

    /// Number of objects.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// All identities, ordered.
    pub fn ids(&self) -> impl Iterator<Item = &ObjectId> {
        self.objects.keys()
    }

    pub fn contains(&self, id: &ObjectId) -> bool {
        self.objects.contains_key(id)
    }

    pub fn get(&self, id: &ObjectId) -> Option<&Object> {
        self.objects.get(id).map(|object| &**object)
    }

    pub fn meta(&self, id: &ObjectId) -> Option<&Meta> {
        self.objects.get(id).map(|object| &object.meta)
    }

    /// Whether all of an object that is there can be read, or of the version before it.
    pub fn is_whole(&self, id: &ObjectId) -> bool {
        self.get(id)
            .is_some_and(|object| object.refusals().is_none())
    }

    /// Objects of one kind, by namespace and name.
    pub fn of_kind(&self, kind: ObjectKind) -> impl Iterator<Item = &Object> {
        let first = ObjectId::new(kind, "", "");
        self.objects
            .range((Bound::Included(first), Bound::Unbounded))
            .map(|(_, object)| &**object)
            .take_while(move |object| object.id.kind == kind)
    }

    /// Objects of one kind in one namespace, by name.
    pub fn in_namespace<'a>(
        &'a self,
        kind: ObjectKind,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a Object> {
        let first = ObjectId::new(kind, namespace, "");
        self.objects
            .range((Bound::Included(first), Bound::Unbounded))
            .map(|(_, object)| &**object)
            .take_while(move |o| o.id.kind == kind && &*o.id.namespace == namespace)
    }

    /// A readable Service.
    pub fn service(&self, id: &ObjectId) -> Option<&Service> {
        match &self.get(id)?.body {
            Body::Service(service) => Some(service),
            _ => None,
        }
    }

    /// The EndpointSlices of a Service, by their names.
    pub fn slices(&self, service: &ObjectId) -> impl Iterator<Item = (&ObjectId, &EndpointSlice)> {
        let first = ObjectId::new(ObjectKind::EndpointSlice, &*service.namespace, "");
        let all = self.slices.range((service.clone(), first)..);
        let of_it = all.take_while(move |(of, _)| of == service);
        of_it.filter_map(|(_, id)| match &self.get(id)?.body {
            Body::EndpointSlice(slice) => Some((id, slice)),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: serde_json::Value) -> Object {
        Object::from_json(&value).unwrap().unwrap()
    }

    fn slice(service: &str) -> Object {
        object(json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"namespace": "a", "name": "s1", "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4", "ports": [{"port": 80}],
            "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": true}}],
        }))
    }

    #[test]
    fn slices_follow_their_label() {
        let mut world = World::default();
        assert!(world.apply(slice("x")));
        assert!(!world.apply(slice("x")), "no change is no change");
        let count = |world: &World, service: &str| {
            let service = ObjectId::new(ObjectKind::Service, "a", service);
            world.slices(&service).count()
        };
        assert_eq!(count(&world, "x"), 1);
        assert!(world.apply(slice("y")));
        assert_eq!((count(&world, "x"), count(&world, "y")), (0, 1));
        assert!(world.remove(&slice("y").id));
        assert!(count(&world, "y") == 0 && world.is_empty());
    }

    #[test]
    fn of_slices_that_lead_to_data_planes_the_pods_with_traffic_are_known() {
        let endpoint = |n: u8, kind: &str, conditions: serde_json::Value| {
            let target = json!({"kind": kind, "name": format!("pod-{n}")});
            json!({"addresses": [format!("10.0.0.{n}")], "conditions": conditions, "targetRef": target})
        };
        let of = |label: &str| {
            let slice = object(json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": {"namespace": "a", "name": "s", "labels": {label: "x"}},
                "endpoints": [
                    endpoint(2, "Pod", json!({"ready": true})), endpoint(1, "Pod", json!({})),
                    endpoint(3, "Pod", json!({"ready": false, "serving": true, "terminating": true})),
                    endpoint(4, "Node", json!({"ready": true})), {"addresses": ["10.0.0.5"]},
                ],
            }));
            let Body::EndpointSlice(slice) = slice.body else {
                panic!("{slice:?}");
            };
            slice
                .data_planes
                .iter()
                .map(|name| name.to_string())
                .collect::<Vec<_>>()
        };
        let expected = ["pod-1", "pod-2"];
        assert_eq!(of("gateway.networking.k8s.io/gateway-name"), expected);
        assert_eq!(of("app"), Vec::<String>::new());
    }

    #[test]
    fn kinds_and_namespaces_do_not_mix() {
        let mut world = World::default();
        for (kind, ns, name) in [
            ("Route", "a", "x"),
            ("Route", "aa", "x"),
            ("Upstream", "a", "x"),
        ] {
            let value = json!({"apiVersion": "diolkos.io/v1alpha1", "kind": kind,
                "metadata": {"namespace": ns, "name": name}, "spec": {"rules": []}});
            world.apply(object(value));
        }
        assert_eq!(world.of_kind(ObjectKind::Route).count(), 2);
        assert_eq!(world.in_namespace(ObjectKind::Route, "a").count(), 1);
    }

    #[test]
    fn of_a_gateway_that_cannot_be_read_the_version_before_is_here() {
        let gateway = |uid: &str, generation: i64, class: serde_json::Value| {
            object(
                json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
                "metadata": {"namespace": "a", "name": "g", "uid": uid, "generation": generation},
                "spec": {"gatewayClassName": class, "listeners": []}}),
            )
        };
        let mut world = World::default();
        let id = gateway("1", 1, json!("x")).id;
        assert!(world.apply(gateway("1", 1, json!("x"))));
        assert!(world.apply(gateway("1", 2, json!(7))));
        assert!(!world.apply(gateway("1", 2, json!(7))));
        assert!(!world.get(&id).unwrap().is_refused());
        assert_eq!(world.meta(&id).unwrap().generation, 2);
        assert!(
            world.apply(gateway("1", 2, json!(true))),
            "for another reason"
        );
        assert_eq!(world.unread(&id).len(), 1);
        assert!(world.apply(gateway("1", 3, json!("y"))));
        assert!(world.unread(&id).is_empty());
        assert!(world.apply(gateway("2", 1, json!(7))));
        assert!(world.get(&id).unwrap().is_refused(), "another of its name");
        world.remove(&id);
        assert!(world.apply(gateway("2", 1, json!(7))));
        assert!(world.unread(&id).is_empty());
    }

    #[test]
    fn a_refused_service_leaves_the_one_that_is_there() {
        let mut world = World::default();
        let service = object(json!({"apiVersion": "v1", "kind": "Service",
            "metadata": {"namespace": "a", "name": "s"}, "spec": {"ports": [{"port": 80}]}}));
        world.apply(service.clone());
        let refused = Object::refused(service.id.clone(), service.meta.clone(), Vec::new());
        assert!(!world.apply(refused));
        assert!(world.service(&service.id).is_some());
    }
}

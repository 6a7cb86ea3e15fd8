//! What Routes name as their parents.

use super::lowering::{Dep, Lowering};
use crate::adapt::{self, http_route::parent_refs};
use crate::report::{Problem, Reason, Reference, Severity};
use crate::world::{ObjectId, ObjectKind};
use crds::{ParentKind, ParentRef, RouteSpec};
use gateway_api::http_route::HttpRouteSpec;

/// A parent that a Route names.
pub(super) struct Parent {
    /// Where it stands in the Route.
    pub field: String,
    /// As the Route names it, for its status.
    pub said: Reference,
    /// What is meant, there or not; or why nothing can be meant.
    pub id: Result<ObjectId, Box<Problem>>,
    /// One listener of it.
    pub listener: Option<String>,
    /// Those of its listeners that are on one port.
    pub port: Option<u16>,
}

impl Lowering<'_> {
    /// The default GatewayConfig where the Route names none.
    pub(super) fn parents(&mut self, spec: &RouteSpec) -> Vec<Parent> {
        self.out.deps.insert(Dep::Gateways);
        if !spec.parent_refs.is_empty() {
            let named = spec.parent_refs.iter().enumerate();
            return named
                .map(|(i, parent)| self.parent(format!("spec.parentRefs[{i}]"), parent))
                .collect();
        }
        let Some(id) = &self.gateways.default else {
            let message = "no GatewayConfig is marked default: true, and the Route names no parent";
            self.error("spec.parentRefs", Reason::NoMatchingParent, message);
            return Vec::new();
        };
        let default = ParentRef {
            kind: Some(ParentKind::GatewayConfig),
            name: (&*id.name).into(),
            namespace: Some((&*id.namespace).into()),
            ..ParentRef::default()
        };
        vec![self.parent("spec.parentRefs".to_owned(), &default)]
    }

    fn parent(&self, field: String, parent: &ParentRef) -> Parent {
        let kind = match parent.kind {
            Some(ParentKind::Gateway) => ObjectKind::Gateway,
            Some(ParentKind::ListenerSet) => ObjectKind::ListenerSet,
            Some(ParentKind::GatewayConfig) | None => ObjectKind::GatewayConfig,
        };
        let namespace = parent.namespace.as_deref().unwrap_or(&self.id.namespace);
        let group = parent.group.as_deref();
        let id = match group.is_none_or(|group| group == kind.group()) {
            true => Ok(ObjectId::new(kind, namespace, parent.name.as_str())),
            false => {
                let message = format!("must be {} for kind {kind}", kind.group());
                let at = format!("{field}.group");
                Err(Box::new(self.problem(
                    Severity::Error,
                    at,
                    Reason::NoMatchingParent,
                    message,
                )))
            }
        };
        Parent {
            field,
            said: Reference::new(parent),
            id,
            listener: parent.listener.as_deref().map(str::to_owned),
            port: None,
        }
    }

    /// Those that are ours. What else a Route of the Gateway API names, other controllers speak of.
    pub(super) fn parents_of_http_route(&mut self, spec: &HttpRouteSpec) -> Vec<Parent> {
        self.out.deps.insert(Dep::Gateways);
        let mut parents = Vec::new();
        for (i, parent) in parent_refs(spec).iter().enumerate() {
            let kind = match (
                parent.group.as_deref().unwrap_or(adapt::GROUP),
                parent.kind.as_deref().unwrap_or("Gateway"),
            ) {
                (adapt::GROUP, "Gateway") => ObjectKind::Gateway,
                (adapt::GROUP, "ListenerSet") => ObjectKind::ListenerSet,
                (crds::GROUP, "GatewayConfig") => ObjectKind::GatewayConfig,
                _ => continue,
            };
            let namespace = parent.namespace.as_deref().unwrap_or(&self.id.namespace);
            let id = ObjectId::new(kind, namespace, parent.name.as_str());
            if kind.is_gateway_api() && !self.gateways.configs.contains_key(&id) {
                continue;
            }
            parents.push(Parent {
                field: format!("spec.parentRefs[{i}]"),
                said: Reference::new(parent),
                id: Ok(id),
                listener: parent.section_name.clone(),
                port: parent.port.map(|port| u16::try_from(port).unwrap_or(0)),
            });
        }
        parents
    }
}

//! The last versions of objects that were acceptable as a whole: what serves while a later one is not.

use crate::fill::fill;
use crate::translate::gateway_config::Version;
use crate::world::{Body, Ingress, ObjectId};
use gateway_api::backend_tls_policy::BackendTlsPolicySpec;
use gateway_api::grpc_route::GrpcRouteSpec;
use gateway_api::http_route::HttpRouteSpec;
use gateway_api::tcp_route::TcpRouteSpec;
use gateway_api::tls_route::TlsRouteSpec;
use gateway_api::udp_route::UdpRouteSpec;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The last accepted version of each object, with the `metadata.uid` of that object: where it was deleted and another has
/// its name now, it stands in for nothing, whether or not the deletion was seen.
#[derive(Clone, Default)]
pub(super) struct LastAccepted(BTreeMap<ObjectId, (Arc<str>, Accepted)>);

impl LastAccepted {
    pub(super) fn get(&self, id: &ObjectId) -> Option<&Accepted> {
        self.0.get(id).map(|(_, version)| version)
    }

    pub(super) fn note(&mut self, id: &ObjectId, uid: &Arc<str>, version: Accepted) {
        self.0.insert(id.clone(), (Arc::clone(uid), version));
    }

    /// The object is gone.
    pub(super) fn forget(&mut self, id: &ObjectId) {
        self.0.remove(id);
    }

    /// Forgets what is of another object than that of this uid.
    pub(super) fn keep_of(&mut self, id: &ObjectId, uid: &str) {
        if self.0.get(id).is_some_and(|(of, _)| !is_same(of, uid)) {
            self.0.remove(id);
        }
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&ObjectId) -> bool) {
        self.0.retain(|id, _| keep(id));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&ObjectId, &Arc<str>, &Accepted)> {
        self.0.iter().map(|(id, (uid, version))| (id, uid, version))
    }

    pub(super) fn fill(&mut self) {
        fill(&mut self.0);
    }
}

/// Whether uids may be those of one object. Files have none.
pub(super) fn is_same(one: &str, other: &str) -> bool {
    one == other || one.is_empty() || other.is_empty()
}

/// The last version of an object that was acceptable as a whole.
#[derive(Clone, PartialEq)]
pub(super) enum Accepted {
    /// Of a GatewayConfig or a Gateway.
    Listening(Version),
    Route(Arc<crds::RouteSpec>),
    Upstream(Arc<crds::UpstreamSpec>),
    Plugin(Arc<crds::PluginSpec>),
    HTTPRoute(Arc<HttpRouteSpec>),
    GRPCRoute(Arc<GrpcRouteSpec>),
    TLSRoute(Arc<TlsRouteSpec>),
    TCPRoute(Arc<TcpRouteSpec>),
    UDPRoute(Arc<UdpRouteSpec>),
    BackendTLSPolicy(Arc<BackendTlsPolicySpec>),
    Ingress(Arc<Ingress>),
    Tenant(Arc<crds::TenantSpec>),
}

impl Accepted {
    pub(super) fn of(body: &Body) -> Option<Self> {
        Some(match body {
            Body::Route(spec) => Self::Route(Arc::clone(spec)),
            Body::Upstream(spec) => Self::Upstream(Arc::clone(spec)),
            Body::Plugin(spec) => Self::Plugin(Arc::clone(spec)),
            Body::HTTPRoute(spec) => Self::HTTPRoute(Arc::clone(spec)),
            Body::GRPCRoute(spec) => Self::GRPCRoute(Arc::clone(spec)),
            Body::TLSRoute(spec) => Self::TLSRoute(Arc::clone(spec)),
            Body::TCPRoute(spec) => Self::TCPRoute(Arc::clone(spec)),
            Body::UDPRoute(spec) => Self::UDPRoute(Arc::clone(spec)),
            Body::BackendTLSPolicy(spec) => Self::BackendTLSPolicy(Arc::clone(spec)),
            Body::Ingress(ingress) => Self::Ingress(Arc::clone(ingress)),
            Body::Tenant(spec) => Self::Tenant(Arc::clone(spec)),
            _ => return None,
        })
    }

    /// `None`: it is made of more than one object.
    pub(super) fn body(&self) -> Option<Body> {
        Some(match self {
            Self::Listening(version) => Body::GatewayConfig(Arc::new(version.config()?.clone())),
            Self::Route(spec) => Body::Route(Arc::clone(spec)),
            Self::Upstream(spec) => Body::Upstream(Arc::clone(spec)),
            Self::Plugin(spec) => Body::Plugin(Arc::clone(spec)),
            Self::HTTPRoute(spec) => Body::HTTPRoute(Arc::clone(spec)),
            Self::GRPCRoute(spec) => Body::GRPCRoute(Arc::clone(spec)),
            Self::TLSRoute(spec) => Body::TLSRoute(Arc::clone(spec)),
            Self::TCPRoute(spec) => Body::TCPRoute(Arc::clone(spec)),
            Self::UDPRoute(spec) => Body::UDPRoute(Arc::clone(spec)),
            Self::BackendTLSPolicy(spec) => Body::BackendTLSPolicy(Arc::clone(spec)),
            Self::Ingress(ingress) => Body::Ingress(Arc::clone(ingress)),
            Self::Tenant(spec) => Body::Tenant(Arc::clone(spec)),
        })
    }

    /// `None`: it is made of more than one object, or not kept as it was written.
    pub(super) fn to_json(&self) -> Option<Value> {
        let spec = match self {
            Self::Listening(version) => serde_json::to_value(version.config()?),
            Self::Route(spec) => serde_json::to_value(&**spec),
            Self::Upstream(spec) => serde_json::to_value(&**spec),
            Self::Plugin(spec) => serde_json::to_value(&**spec),
            Self::HTTPRoute(spec) => serde_json::to_value(&**spec),
            Self::GRPCRoute(spec) => serde_json::to_value(&**spec),
            Self::TLSRoute(spec) => serde_json::to_value(&**spec),
            Self::TCPRoute(spec) => serde_json::to_value(&**spec),
            Self::UDPRoute(spec) => serde_json::to_value(&**spec),
            Self::BackendTLSPolicy(spec) => serde_json::to_value(&**spec),
            Self::Tenant(spec) => serde_json::to_value(&**spec),
            Self::Ingress(_) => return None,
        };
        spec.ok()
    }
}

#[cfg(test)]
#[path = "accepted_tests.rs"]
mod tests;

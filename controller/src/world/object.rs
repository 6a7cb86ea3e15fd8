//! From what watches and files bring to what the world keeps.

use super::ingress::{Ingress, IngressClass};
use super::kubernetes::{EndpointSlice, Namespace, Pod, Service};
use super::reference_grant::{ReferenceGrant, ReferenceGrantSpec};
use super::values::{self, Values};
use super::{ObjectId, ObjectKind, part};
use gateway_api::backend_tls_policy::{
    BackendTlsPolicy, BackendTlsPolicySpec, BackendTlsPolicyTargetRefs,
};
use gateway_api::gateway::{Gateway, GatewaySpec};
use gateway_api::gateway_class::{GatewayClass, GatewayClassSpec};
use gateway_api::grpc_route::{GrpcRoute, GrpcRouteSpec};
use gateway_api::http_route::{HttpRoute, HttpRouteSpec};
use gateway_api::listener_set::{ListenerSet, ListenerSetSpec};
use gateway_api::tcp_route::{TcpRoute, TcpRouteSpec};
use gateway_api::tls_route::{TlsRoute, TlsRouteSpec};
use gateway_api::udp_route::{UdpRoute, UdpRouteSpec};
use k8s_openapi::api::{
    core::v1 as core, discovery::v1 as discovery, networking::v1 as networking,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::fmt;
use std::sync::Arc;

/// What is kept of an object's metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Tells an object from another of the same name that was there before it; empty where a file does not say.
    pub uid: Arc<str>,
    pub generation: i64,
    /// Creation in seconds since the epoch; 0 where a file does not say.
    pub created: i64,
}

/// One object.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    pub id: ObjectId,
    pub meta: Meta,
    pub body: Body,
    /// What of it cannot be read, where the rest can ([`super::part`]).
    pub unreadable: Box<[Refusal]>,
}

/// What translation asks of an object. Specs are shared, because the last accepted one outlives its object's next
/// version.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    GatewayConfig(Arc<crds::GatewayConfigSpec>),
    Route(Arc<crds::RouteSpec>),
    Upstream(Arc<crds::UpstreamSpec>),
    Plugin(Arc<crds::PluginSpec>),
    Tenant(Arc<crds::TenantSpec>),
    Consumer,
    ModelCatalog,
    Service(Service),
    EndpointSlice(EndpointSlice),
    Pod(Pod),
    Secret(Values),
    ConfigMap(Values),
    Namespace(Namespace),
    ReferenceGrant(ReferenceGrantSpec),
    GatewayClass(Arc<GatewayClassSpec>),
    Gateway(Arc<GatewaySpec>),
    ListenerSet(Arc<ListenerSetSpec>),
    HTTPRoute(Arc<HttpRouteSpec>),
    GRPCRoute(Arc<GrpcRouteSpec>),
    TLSRoute(Arc<TlsRouteSpec>),
    TCPRoute(Arc<TcpRouteSpec>),
    UDPRoute(Arc<UdpRouteSpec>),
    BackendTLSPolicy(Arc<BackendTlsPolicySpec>),
    Ingress(Arc<Ingress>),
    IngressClass(Arc<IngressClass>),
    /// It is there, but admission refuses it or this build cannot read it.
    Refused(Vec<Refusal>),
    /// The same of a BackendTLSPolicy, with what it speaks for as far as that can be read: nothing goes there in clear.
    RefusedPolicy(Vec<Refusal>, Arc<[BackendTlsPolicyTargetRefs]>),
}

impl Body {
    /// Why it is not used; `None`: it may be.
    pub fn refusals(&self) -> Option<&[Refusal]> {
        match self {
            Self::Refused(refusals) | Self::RefusedPolicy(refusals, _) => Some(refusals),
            _ => None,
        }
    }
}

/// Why a version of an object is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Such as `spec.rules[0].backends`; empty for the object itself.
    pub field: String,
    pub message: String,
}

/// `FIELD: message`
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.field {
            "" => f.write_str(&self.message),
            field => write!(f, "{field}: {}", self.message),
        }
    }
}

/// A manifest that has not even the form of an object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("it is not an object with apiVersion, kind and metadata.name")]
    NoObject,
    #[error("metadata.{field}: {message}")]
    Metadata {
        field: &'static str,
        message: String,
    },
}

impl Object {
    /// A version that is there but cannot be used: the last accepted one serves on and the status says why.
    pub fn refused(id: ObjectId, meta: Meta, refusals: Vec<Refusal>) -> Self {
        Self::of(id, meta, Body::Refused(refusals))
    }

    fn of(id: ObjectId, meta: Meta, body: Body) -> Self {
        Self {
            id,
            meta,
            body,
            unreadable: Box::default(),
        }
    }

    /// Reads a manifest; `None` for kinds that the world does not hold. A spec of another shape gives a refused object.
    ///
    /// # Errors
    /// [`Unreadable`] when it cannot even be named.
    pub fn from_json(value: &Value) -> Result<Option<Self>, Unreadable> {
        let text = |field: &str| value.get(field).and_then(Value::as_str);
        let (Some(api_version), Some(kind)) = (text("apiVersion"), text("kind")) else {
            return Err(Unreadable::NoObject);
        };
        let Some(kind) = ObjectKind::of(api_version, kind) else {
            return Ok(None);
        };
        let (id, meta) = identity(kind, value)?;
        Ok(Some(Self::read(id, meta, value)))
    }

    fn read(id: ObjectId, meta: Meta, value: &Value) -> Self {
        let mut unreadable = Vec::new();
        match body(id.kind, value, &mut unreadable) {
            Ok(body) => Self {
                unreadable: unreadable.into(),
                ..Self::of(id, meta, body)
            },
            Err(refusal) => Self::refused(id, meta, vec![refusal]),
        }
    }

    /// An object of a kind that has nothing but metadata, which has been read already, and a spec, as JSON. A spec of another
    /// shape gives a refused object.
    pub fn of_spec(kind: ObjectKind, metadata: &ObjectMeta, spec: Option<&str>) -> Self {
        let (id, meta) = (named(kind, metadata), Meta::from(metadata));
        if let Some(body) = spec.and_then(|spec| body_at_once(kind, spec)) {
            return Self::of(id, meta, body);
        }
        let spec = spec.and_then(|spec| serde_json::from_str(spec).ok());
        let spec = spec.map(|spec: Value| ("spec".to_owned(), spec));
        Self::read(id, meta, &Value::Object(Map::from_iter(spec)))
    }

    /// A Secret or ConfigMap of which the metadata alone is known.
    pub fn unread(kind: ObjectKind, metadata: &ObjectMeta) -> Self {
        let version = metadata.resource_version.clone().unwrap_or_default();
        Self::of_values(kind, metadata, Values::Unread { version })
    }

    /// A Secret or ConfigMap.
    pub(crate) fn of_values(kind: ObjectKind, metadata: &ObjectMeta, values: Values) -> Self {
        let body = match kind {
            ObjectKind::ConfigMap => Body::ConfigMap(values),
            _ => Body::Secret(values),
        };
        Self::with(kind, metadata, body)
    }

    /// What is known of its values, for kinds that have some.
    pub fn values(&self) -> Option<&Values> {
        match &self.body {
            Body::Secret(values) | Body::ConfigMap(values) => Some(values),
            _ => None,
        }
    }

    /// The same object with other values.
    pub(crate) fn with_values(&self, values: Values) -> Self {
        let body = match self.id.kind {
            ObjectKind::ConfigMap => Body::ConfigMap(values),
            _ => Body::Secret(values),
        };
        Self::of(self.id.clone(), self.meta.clone(), body)
    }

    fn with(kind: ObjectKind, metadata: &ObjectMeta, body: Body) -> Self {
        Self::of(named(kind, metadata), Meta::from(metadata), body)
    }

    /// Why all or some of it is not used; `None`: all of it may be.
    pub fn refusals(&self) -> Option<&[Refusal]> {
        let in_part = (!self.unreadable.is_empty()).then_some(&*self.unreadable);
        self.body.refusals().or(in_part)
    }

    /// Whether this version cannot be used.
    pub fn is_refused(&self) -> bool {
        self.body.refusals().is_some()
    }
}

fn named(kind: ObjectKind, metadata: &ObjectMeta) -> ObjectId {
    let namespace = match kind.is_cluster_scoped() {
        true => "",
        false => metadata.namespace.as_deref().unwrap_or("default"),
    };
    let name = metadata.name.as_deref().unwrap_or_default();
    ObjectId::new(kind, namespace, name)
}

/// Identity of a manifest. A missing namespace is `default`.
fn identity(kind: ObjectKind, value: &Value) -> Result<(ObjectId, Meta), Unreadable> {
    let metadata = value.get("metadata").ok_or(Unreadable::NoObject)?;
    let text = |field: &'static str| match metadata.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(Unreadable::Metadata {
            field,
            message: "must be a string".into(),
        }),
    };
    let name = text("name")?
        .filter(|name| !name.is_empty())
        .ok_or(Unreadable::NoObject)?;
    let namespace = match kind.is_cluster_scoped() {
        true => "",
        false => text("namespace")?
            .filter(|n| !n.is_empty())
            .unwrap_or("default"),
    };
    let created = match text("creationTimestamp")? {
        None => 0,
        Some(text) => match text.parse::<k8s_openapi::jiff::Timestamp>() {
            Ok(time) => time.as_second(),
            Err(_) => {
                return Err(Unreadable::Metadata {
                    field: "creationTimestamp",
                    message: "must be a time such as 2026-01-31T12:00:00Z".into(),
                });
            }
        },
    };
    let meta = Meta {
        uid: text("uid")?.unwrap_or_default().into(),
        generation: metadata
            .get("generation")
            .and_then(Value::as_i64)
            .unwrap_or(0),
        created,
    };
    Ok((ObjectId::new(kind, namespace, name), meta))
}

/// Of kinds of which there are many, all of which can be read mostly. `None`: it is to be looked at field by field.
fn body_at_once(kind: ObjectKind, spec: &str) -> Option<Body> {
    #[allow(
        clippy::redundant_clone,
        reason = "a copy takes the memory that it needs: of what is read from text each list has room for more"
    )]
    fn read<T: DeserializeOwned + Clone>(spec: &str) -> Option<Arc<T>> {
        let spec: T = serde_json::from_str(spec).ok()?;
        Some(Arc::new(spec.clone()))
    }
    Some(match kind {
        ObjectKind::Route => Body::Route(read(spec)?),
        ObjectKind::Upstream => Body::Upstream(read(spec)?),
        ObjectKind::HTTPRoute => Body::HTTPRoute(read(spec)?),
        ObjectKind::GRPCRoute => Body::GRPCRoute(read(spec)?),
        ObjectKind::TLSRoute => Body::TLSRoute(read(spec)?),
        ObjectKind::TCPRoute => Body::TCPRoute(read(spec)?),
        ObjectKind::UDPRoute => Body::UDPRoute(read(spec)?),
        _ => return None,
    })
}

/// `unreadable`: takes what of it cannot be read.
fn body(kind: ObjectKind, value: &Value, unreadable: &mut Vec<Refusal>) -> Result<Body, Refusal> {
    /// `below`: the field that `value` stands in.
    fn read<T: DeserializeOwned>(value: &Value, below: &str) -> Result<T, Refusal> {
        serde_path_to_error::deserialize(value).map_err(|e| {
            let path = e.path().to_string();
            Refusal {
                field: match (below, path.as_str()) {
                    (below, ".") => below.to_owned(),
                    ("", path) => path.to_owned(),
                    (below, path) => format!("{below}.{path}"),
                },
                message: e.into_inner().to_string(),
            }
        })
    }
    fn values<T: DeserializeOwned + Into<Values>>(value: &Value) -> Result<Values, Refusal> {
        let refusal = |field: String, message: &str| Refusal {
            field,
            message: message.to_owned(),
        };
        if let Some((field, message)) = values::fault(value) {
            return Err(refusal(field, message));
        }
        // The error of serde itself might quote a value.
        let read = read::<T>(value, "").map_err(|e| refusal(e.field, "must be base64"))?;
        Ok(read.into())
    }
    fn spec<T: DeserializeOwned>(value: &Value) -> Result<Arc<T>, Refusal> {
        read(below(value)?, "spec").map(Arc::new)
    }
    fn below(value: &Value) -> Result<&Value, Refusal> {
        value.get("spec").ok_or_else(|| Refusal {
            field: "spec".to_owned(),
            message: "is missing".to_owned(),
        })
    }
    /// As much of it as can be read.
    fn some<T: DeserializeOwned>(
        kind: ObjectKind,
        value: &Value,
        unreadable: &mut Vec<Refusal>,
    ) -> Result<Arc<T>, Refusal> {
        spec(value).or_else(|refusal| {
            let read = |spec: &Value| read(spec, "spec");
            let (spec, refusals) = part::read(kind, below(value)?, refusal, read)?;
            *unreadable = refusals;
            Ok(Arc::new(spec))
        })
    }
    Ok(match kind {
        ObjectKind::GatewayConfig => Body::GatewayConfig(some(kind, value, unreadable)?),
        ObjectKind::Route => Body::Route(some(kind, value, unreadable)?),
        ObjectKind::Upstream => Body::Upstream(spec(value)?),
        ObjectKind::Plugin => Body::Plugin(spec(value)?),
        ObjectKind::Tenant => Body::Tenant(some(kind, value, unreadable)?),
        ObjectKind::Consumer => Body::Consumer,
        ObjectKind::ModelCatalog => Body::ModelCatalog,
        ObjectKind::Service => Body::Service((&read::<core::Service>(value, "")?).into()),
        ObjectKind::EndpointSlice => {
            Body::EndpointSlice((&read::<discovery::EndpointSlice>(value, "")?).into())
        }
        ObjectKind::Pod => Body::Pod((&read::<core::Pod>(value, "")?).into()),
        ObjectKind::Secret => Body::Secret(values::<core::Secret>(value)?),
        ObjectKind::ConfigMap => Body::ConfigMap(values::<core::ConfigMap>(value)?),
        ObjectKind::Namespace => Body::Namespace((&read::<core::Namespace>(value, "")?).into()),
        ObjectKind::ReferenceGrant => Body::ReferenceGrant(Arc::unwrap_or_clone(spec(value)?)),
        ObjectKind::GatewayClass => Body::GatewayClass(spec(value)?),
        ObjectKind::Gateway => Body::Gateway(some(kind, value, unreadable)?),
        ObjectKind::ListenerSet => Body::ListenerSet(some(kind, value, unreadable)?),
        ObjectKind::HTTPRoute => Body::HTTPRoute(some(kind, value, unreadable)?),
        ObjectKind::GRPCRoute => Body::GRPCRoute(some(kind, value, unreadable)?),
        ObjectKind::TLSRoute => Body::TLSRoute(some(kind, value, unreadable)?),
        ObjectKind::TCPRoute => Body::TCPRoute(some(kind, value, unreadable)?),
        ObjectKind::UDPRoute => Body::UDPRoute(some(kind, value, unreadable)?),
        ObjectKind::BackendTLSPolicy => match spec(value) {
            Ok(spec) => Body::BackendTLSPolicy(spec),
            Err(refusal) => Body::RefusedPolicy(vec![refusal], policy_targets(value)),
        },
        ObjectKind::Ingress => {
            Body::Ingress(Arc::new((&read::<networking::Ingress>(value, "")?).into()))
        }
        ObjectKind::IngressClass => Body::IngressClass(Arc::new(
            (&read::<networking::IngressClass>(value, "")?).into(),
        )),
    })
}

/// What a policy speaks for that cannot be read as a whole.
fn policy_targets(value: &Value) -> Arc<[BackendTlsPolicyTargetRefs]> {
    let all = value.pointer("/spec/targetRefs").and_then(Value::as_array);
    let read = |target| BackendTlsPolicyTargetRefs::deserialize(target).ok();
    all.into_iter().flatten().filter_map(read).collect()
}

impl From<&ObjectMeta> for Meta {
    fn from(metadata: &ObjectMeta) -> Self {
        let created = metadata.creation_timestamp.as_ref();
        Self {
            uid: metadata.uid.as_deref().unwrap_or_default().into(),
            generation: metadata.generation.unwrap_or(0),
            created: created.map_or(0, |time| time.0.as_second()),
        }
    }
}

macro_rules! from_typed {
    ($($kind:ident: $type:ty, $object:ident => $body:expr;)*) => {$(
        impl From<&$type> for Object {
            fn from($object: &$type) -> Self {
                Self::with(ObjectKind::$kind, &$object.metadata, $body)
            }
        }
    )*};
}

from_typed! {
    GatewayConfig: crds::GatewayConfig, o => Body::GatewayConfig(Arc::new(o.spec.clone()));
    Route: crds::Route, o => Body::Route(Arc::new(o.spec.clone()));
    Upstream: crds::Upstream, o => Body::Upstream(Arc::new(o.spec.clone()));
    Plugin: crds::Plugin, o => Body::Plugin(Arc::new(o.spec.clone()));
    Tenant: crds::Tenant, o => Body::Tenant(Arc::new(o.spec.clone()));
    Consumer: crds::Consumer, _o => Body::Consumer;
    ModelCatalog: crds::ModelCatalog, _o => Body::ModelCatalog;
    Service: core::Service, o => Body::Service(o.into());
    EndpointSlice: discovery::EndpointSlice, o => Body::EndpointSlice(o.into());
    Pod: core::Pod, o => Body::Pod(o.into());
    Namespace: core::Namespace, o => Body::Namespace(o.into());
    ReferenceGrant: ReferenceGrant, o => Body::ReferenceGrant(o.spec.clone());
    GatewayClass: GatewayClass, o => Body::GatewayClass(Arc::new(o.spec.clone()));
    Gateway: Gateway, o => Body::Gateway(Arc::new(o.spec.clone()));
    ListenerSet: ListenerSet, o => Body::ListenerSet(Arc::new(o.spec.clone()));
    HTTPRoute: HttpRoute, o => Body::HTTPRoute(Arc::new(o.spec.clone()));
    GRPCRoute: GrpcRoute, o => Body::GRPCRoute(Arc::new(o.spec.clone()));
    TLSRoute: TlsRoute, o => Body::TLSRoute(Arc::new(o.spec.clone()));
    TCPRoute: TcpRoute, o => Body::TCPRoute(Arc::new(o.spec.clone()));
    UDPRoute: UdpRoute, o => Body::UDPRoute(Arc::new(o.spec.clone()));
    BackendTLSPolicy: BackendTlsPolicy, o => Body::BackendTLSPolicy(Arc::new(o.spec.clone()));
    Ingress: networking::Ingress, o => Body::Ingress(Arc::new(o.into()));
    IngressClass: networking::IngressClass, o => Body::IngressClass(Arc::new(o.into()));
}

//! What lowering one unit reads, and what it gives.

use super::backend_tls::Policies;
use super::certificate::LastGood;
use super::conflict::Claim;
use super::effective::Slot;
use super::gateway_config::Gateways;
use super::ingress;
use super::resources::Resources;
use super::tenants::Tenants;
use crate::report::{EffectivePlugin, ParentReport, Problem, Reason, Severity};
use crate::world::{Body, Meta, Object, ObjectId, ObjectKind, Service, ServicePort, World};
use bytes::Bytes;
use snapshot::{ResourceId, Section};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A piece of work. The order is that in which units are lowered: each looks only at results of earlier ones.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Unit {
    /// All GatewayConfigs.
    Gateways,
    /// All Tenants.
    Tenants,
    /// An object of ours that is not a Route.
    Object(ObjectId),
    Route(ObjectId),
    /// The upstream that a Service port is where a Route names it directly.
    ServiceUpstream(PortKey, Speech),
    /// The endpoint shards of a Service port.
    Shards(PortKey),
    /// The certificate of a Secret.
    Certificate(ObjectId),
    /// The authorities in a Secret or ConfigMap; they travel in what refers to them.
    Authorities(ObjectId),
}

impl Unit {
    /// The one that an object is a part of, or the whole of; `None`: it is only looked at.
    pub(super) fn of(id: &ObjectId) -> Option<Self> {
        match id.kind {
            kind if kind.has_listeners() || kind == ObjectKind::GatewayClass => {
                Some(Self::Gateways)
            }
            ObjectKind::Tenant => Some(Self::Tenants),
            kind if kind.is_route() => Some(Self::Route(id.clone())),
            kind if kind.is_ours() || kind == ObjectKind::BackendTLSPolicy => {
                Some(Self::Object(id.clone()))
            }
            _ => None,
        }
    }
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PortKey {
    pub service: ObjectId,
    pub port: u16,
    pub transport: Transport,
}

/// What a port of a Service is a port of. The API server makes no difference between its numbers: DNS has 53 twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    /// As `protocol` of a Service's port.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }
}

/// How a Service port is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Speech {
    /// As its `appProtocol` says.
    Declared,
    /// gRPC, which needs HTTP/2, where `appProtocol` does not say so.
    Grpc,
}

/// `NAMESPACE/NAME:PORT`, and `/udp` behind it for datagrams.
impl fmt::Display for PortKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.service.path(), self.port)?;
        match self.transport {
            Transport::Tcp => Ok(()),
            Transport::Udp => f.write_str("/udp"),
        }
    }
}

impl PortKey {
    /// Key of the upstream resource.
    pub(super) fn upstream_key(&self, speech: Speech) -> String {
        match speech {
            Speech::Declared => format!("Service/{self}"),
            Speech::Grpc => format!("Service/{self}/grpc"),
        }
    }

    /// Whether a port of the Service is this one.
    pub(super) fn is(&self, port: &ServicePort) -> bool {
        port.port == self.port && port.protocol == self.transport.name()
    }
}

/// Something that a unit looked at; when it changes, the unit is lowered again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Dep {
    /// An object, there or not, and what its own unit makes of it.
    Object(ObjectId),
    /// The set of EndpointSlices of a Service.
    Slices(ObjectId),
    /// The Pods of a namespace.
    Pods(Box<str>),
    /// The ReferenceGrants of a namespace.
    Grants(Box<str>),
    /// The BackendTLSPolicies of a namespace.
    Policies(Box<str>),
    /// What the unit of all GatewayConfigs gives.
    Gateways,
    /// All IngressClasses.
    IngressClasses,
    /// The Ingresses of a namespace.
    Ingresses(Box<str>),
    /// Those of them that take a part of the requests of others.
    Canaries(Box<str>),
}

impl Dep {
    /// Whether it is a Secret or a ConfigMap: of these it is told whether anybody looks at them.
    pub(super) fn has_values(&self) -> bool {
        matches!(self, Self::Object(id) if id.kind.has_values())
    }
}

/// What lowering a unit gives.
#[derive(Clone, Debug, Default)]
pub(super) struct Lowered {
    /// Bodies.
    pub resources: BTreeMap<ResourceId, Bytes>,
    pub problems: Vec<Problem>,
    pub parents: Vec<ParentReport>,
    pub deps: BTreeSet<Dep>,
    /// Units that must exist because this one refers to them.
    pub demands: BTreeSet<Unit>,
    pub claims: Vec<Claim>,
    /// Keys of the listeners to which a Route is attached, whether or not these can serve it.
    pub attached: BTreeSet<String>,
    /// Of a Plugin: where it runs.
    pub slot: Option<Slot>,
    /// Of a Route: the plugins that run for its requests.
    pub effective: Vec<EffectivePlugin>,
    /// Of an Ingress: ports of Services that it speaks to in its own way; `None`: it cannot.
    pub own_upstreams: BTreeMap<(String, u16), Option<String>>,
}

impl Lowered {
    pub(super) fn is_quarantining(&self) -> bool {
        self.problems
            .iter()
            .any(|p| p.reason.quarantines() && p.severity == Severity::Error)
    }

    /// Gives what an older version gives; what was looked at and found wrong remains.
    pub(super) fn stand_in(&mut self, older: Self) {
        let before = std::mem::replace(self, older);
        self.problems = before.problems;
        self.deps.extend(before.deps);
        if !before.parents.is_empty() {
            self.parents = before.parents;
        }
        self.own_upstreams = before.own_upstreams;
    }
}

/// The view of one unit on the world, and its result so far.
pub(super) struct Lowering<'a> {
    pub world: &'a World,
    /// Results of earlier units: upstreams and plugins that can be used.
    pub resources: &'a Resources,
    pub gateways: &'a Gateways,
    pub last_good: &'a LastGood,
    pub ingresses: &'a ingress::Index,
    pub tenants: &'a Tenants,
    pub policies: &'a Policies,
    /// Where Plugins run that can be used.
    pub slots: &'a BTreeMap<ObjectId, Slot>,
    pub id: &'a ObjectId,
    /// Of a ListenerSet, the Gateway that it adds to.
    pub gateway: Option<&'a ObjectId>,
    pub meta: &'a Meta,
    pub out: Lowered,
}

impl<'a> Lowering<'a> {
    pub(super) fn problem(
        &self,
        severity: Severity,
        field: impl fmt::Display,
        reason: Reason,
        message: impl Into<String>,
    ) -> Problem {
        let message = one_line(message.into());
        Problem {
            origin: self.id.clone(),
            field: field.to_string(),
            reason,
            severity,
            message,
        }
    }

    pub(super) fn error(
        &mut self,
        field: impl fmt::Display,
        reason: Reason,
        message: impl Into<String>,
    ) {
        let problem = self.problem(Severity::Error, field, reason, message);
        self.out.problems.push(problem);
    }

    pub(super) fn warn(
        &mut self,
        field: impl fmt::Display,
        reason: Reason,
        message: impl Into<String>,
    ) {
        let problem = self.problem(Severity::Warning, field, reason, message);
        self.out.problems.push(problem);
    }

    /// The value, or an error at `field` that quarantines the object.
    pub(super) fn valid<T, E: fmt::Display>(
        &mut self,
        field: impl fmt::Display,
        result: Result<T, E>,
    ) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(e) => {
                self.error(field, Reason::Invalid, e.to_string());
                None
            }
        }
    }

    /// An object, noting that it was looked at.
    pub(super) fn object(&mut self, id: &ObjectId) -> Option<&'a Object> {
        self.out.deps.insert(Dep::Object(self.world.known(id)));
        self.world.get(id)
    }

    /// A Service, noting that it was looked at.
    pub(super) fn service(&mut self, id: &ObjectId) -> Option<&'a Service> {
        match &self.object(id)?.body {
            Body::Service(service) => Some(service),
            _ => None,
        }
    }

    /// Adds a resource, or an error when it is too large.
    pub(super) fn put<S: Section>(&mut self, key: String, resource: &S) {
        match snapshot::encode(resource) {
            Ok(body) => drop(
                self.out
                    .resources
                    .insert((S::KIND, key.into()), body.into()),
            ),
            Err(e) => self.error("", Reason::TooLarge, e.to_string()),
        }
    }
}

/// Errors of regular expressions draw the pattern over several lines and say at last what is wrong; conditions and
/// `FILE:LINE` want one line.
fn one_line(message: String) -> String {
    let Some(last) = message
        .lines()
        .next_back()
        .filter(|last| last.len() < message.len())
    else {
        return message;
    };
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

//! GatewayConfigs: all of them together, because ports and the default are theirs in common.

use super::lowering::{Lowered, Lowering};
use super::unbuilt;
use crate::report::Reason;
use crate::world::{Meta, ObjectId, ObjectKind, World};
use crds::refs::{LabelOperator, LabelSelector};
use crds::{FromNamespaces, GatewayConfigSpec, ListenerProtocol};
use model::listener::Caps;
use model::{AccessLog, HostPattern, Listener, Model, limits};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Fewer bytes of a request head or target would refuse nearly every client.
const MIN_BYTES: u32 = 256;

/// What Routes need to know of all GatewayConfigs.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Gateways {
    /// Where Routes without parentRefs attach.
    pub default: Option<ObjectId>,
    pub configs: BTreeMap<ObjectId, Gateway>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Gateway {
    /// Those that serve.
    pub listeners: Vec<GatewayListener>,
    /// It asks for something about access or limits that is not built.
    pub closed: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct GatewayListener {
    pub name: String,
    /// Of the resource.
    pub key: String,
    pub hostname: HostPattern,
    pub allowed: Allowed,
}

/// Namespaces from which Routes may attach.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Allowed {
    All,
    Same,
    Selector(LabelSelector),
}

/// A version of a GatewayConfig that is to be in effect.
pub(super) struct Candidate<'a> {
    pub id: &'a ObjectId,
    pub meta: &'a Meta,
    pub spec: &'a GatewayConfigSpec,
}

/// The identity of the GatewayConfig that is implied where there is none (one listener, HTTP on 8080).
pub(super) fn implied() -> ObjectId {
    ObjectId::new(ObjectKind::GatewayConfig, "diolkos-system", "default")
}

fn implied_listener() -> crds::Listener {
    crds::Listener {
        name: "http".into(),
        port: 8080,
        protocol: ListenerProtocol::Http,
        ..crds::Listener::default()
    }
}

/// Whether a version of a GatewayConfig is acceptable by itself: without regard to the others, whose ports and
/// default come and go.
pub(super) fn judge(world: &World, candidate: &Candidate<'_>) -> Lowered {
    lower(world, std::slice::from_ref(candidate))
        .1
        .remove(candidate.id)
        .unwrap_or_default()
}

/// What these versions give together. There may be none: then one is implied.
pub(super) fn lower(
    world: &World,
    candidates: &[Candidate<'_>],
) -> (Gateways, BTreeMap<ObjectId, Lowered>) {
    let mut gateways = Gateways::default();
    let mut lowered = BTreeMap::new();
    let mut by_age: Vec<&Candidate<'_>> = candidates.iter().collect();
    by_age.sort_by_key(|c| (c.meta.created, c.id));
    let mut ports: BTreeMap<u16, String> = BTreeMap::new();
    let (model, nothing) = (Model::default(), Gateways::default());
    for candidate in by_age {
        let mut l = Lowering {
            world,
            model: &model,
            gateways: &nothing,
            id: candidate.id,
            meta: candidate.meta,
            out: Lowered::default(),
        };
        if candidate.spec.default == Some(true) {
            match &gateways.default {
                None => gateways.default = Some(candidate.id.clone()),
                Some(first) => {
                    let message = format!("{first} is older and is the default");
                    l.warn("spec.default", Reason::NotDefault, message);
                }
            }
        }
        let gateway = l.gateway_config(candidate.spec, &mut ports);
        lowered.insert(candidate.id.clone(), l.out);
        gateways.configs.insert(candidate.id.clone(), gateway);
    }
    (gateways, lowered)
}

/// The implied GatewayConfig, as if somebody had written it.
pub(super) fn lower_implied(world: &World) -> (Gateways, BTreeMap<ObjectId, Lowered>) {
    let (id, meta) = (implied(), Meta::default());
    let spec = GatewayConfigSpec {
        default: Some(true),
        ..GatewayConfigSpec::default()
    };
    let candidate = Candidate {
        id: &id,
        meta: &meta,
        spec: &spec,
    };
    lower(world, &[candidate])
}

impl Lowering<'_> {
    fn gateway_config(
        &mut self,
        spec: &GatewayConfigSpec,
        ports: &mut BTreeMap<u16, String>,
    ) -> Gateway {
        let mut gateway = Gateway::default();
        for found in unbuilt::find(ObjectKind::GatewayConfig, spec) {
            gateway.closed |= found.closes;
            self.not_built(found);
        }
        let settings = self.settings(spec);
        let implied = [implied_listener()];
        let listeners = match spec.listeners.is_empty() {
            true => &implied[..],
            false => &spec.listeners,
        };
        let mut names = BTreeSet::new();
        for (i, listener) in listeners.iter().enumerate() {
            let field = format!("spec.listeners[{i}]");
            if !names.insert(listener.name.as_str()) {
                let message = "another listener has this name";
                self.error(format!("{field}.name"), Reason::Invalid, message);
                continue;
            }
            if let Some(one) = self.listener(&field, i, listener, &settings, ports) {
                gateway.listeners.push(one);
            }
        }
        gateway
    }

    fn listener(
        &mut self,
        field: &str,
        order: usize,
        listener: &crds::Listener,
        settings: &Listener,
        ports: &mut BTreeMap<u16, String>,
    ) -> Option<GatewayListener> {
        let hostname = match listener.hostname.as_deref() {
            None => HostPattern::Any,
            Some(name) => self.valid(format!("{field}.hostname"), HostPattern::parse(name))?,
        };
        if listener.port == 0 {
            self.error(
                format!("{field}.port"),
                Reason::Invalid,
                "must be from 1 to 65535",
            );
            return None;
        }
        if listener.protocol != ListenerProtocol::Http {
            let message = "only HTTP is built yet: the listener is not opened";
            self.error(format!("{field}.protocol"), Reason::NotBuilt, message);
            return None;
        }
        if listener.proxy_protocol == Some(true) {
            let message = "is not built yet: the listener is not opened";
            self.error(format!("{field}.proxyProtocol"), Reason::NotBuilt, message);
            return None;
        }
        let key = format!("{}/{}", self.id.path(), listener.name);
        if let Some(other) = ports.get(&listener.port) {
            let message = format!("port {} is taken by listener {other}", listener.port);
            self.error(format!("{field}.port"), Reason::PortConflict, message);
            return None;
        }
        ports.insert(listener.port, key.clone());
        let namespaces = listener
            .allowed_routes
            .as_ref()
            .and_then(|a| a.namespaces.as_ref());
        let allowed = match namespaces.and_then(|n| n.from) {
            None | Some(FromNamespaces::All) => Allowed::All,
            Some(FromNamespaces::Same) => Allowed::Same,
            Some(FromNamespaces::Selector) => {
                let selector = namespaces.and_then(|n| n.selector.clone());
                Allowed::Selector(self.valid(
                    format!("{field}.allowedRoutes.namespaces.selector"),
                    selector.ok_or("must be given where from is Selector"),
                )?)
            }
        };
        let resource = Listener {
            name: listener.name.to_string(),
            order: u32::try_from(order).unwrap_or(u32::MAX),
            port: listener.port,
            hostname: hostname.clone(),
            health: listener.health.unwrap_or(true),
            ..settings.clone()
        };
        self.put(key.clone(), resource);
        Some(GatewayListener {
            name: listener.name.to_string(),
            key,
            hostname,
            allowed,
        })
    }

    /// What all listeners of a GatewayConfig have in common, as a listener to copy from.
    fn settings(&mut self, spec: &GatewayConfigSpec) -> Listener {
        let mut caps = Caps::default();
        if let Some(given) = &spec.caps {
            for (name, size, slot) in [
                ("headerBytes", &given.header_bytes, &mut caps.header_bytes),
                ("urlBytes", &given.url_bytes, &mut caps.url_bytes),
            ] {
                if let Some(size) = size
                    && let Some(bytes) = self.valid(format!("spec.caps.{name}"), size.bytes())
                {
                    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
                    *slot = self.capped(name, bytes, MIN_BYTES, limits::HEADER_BYTES);
                }
            }
            for (name, number, slot, most) in [
                (
                    "headerCount",
                    given.header_count.map(u32::from),
                    &mut caps.header_count,
                    limits::HEADER_COUNT,
                ),
                (
                    "connections",
                    given.connections,
                    &mut caps.connections,
                    u32::MAX,
                ),
                (
                    "requestsPerConnection",
                    given.requests_per_connection,
                    &mut caps.requests_per_connection,
                    u32::MAX,
                ),
            ] {
                if let Some(number) = number {
                    *slot = self.capped(name, number, 1, most);
                }
            }
        }
        let mut times = [
            limits::REQUEST_HEADER_TIMEOUT,
            limits::KEEP_ALIVE,
            limits::DRAIN,
        ]
        .map(millis);
        if let Some(given) = &spec.timeouts {
            let fields = [
                ("requestHeader", &given.request_header),
                ("keepAlive", &given.keep_alive),
                ("drain", &given.drain),
            ];
            for ((name, value), slot) in fields.into_iter().zip(&mut times) {
                if let Some(value) = value
                    && let Some(millis) = self.millis(&format!("spec.timeouts.{name}"), value)
                {
                    *slot = millis;
                }
            }
        }
        let [request_header_ms, keep_alive_ms, drain_ms] = times;
        Listener {
            access_log: spec
                .access_log
                .as_ref()
                .filter(|log| log.enabled != Some(false))
                .map(|_| AccessLog::default()),
            caps,
            request_header_ms,
            keep_alive_ms,
            drain_ms,
            ..Listener::new(self.id.origin(), "", 0)
        }
    }
}

impl Lowering<'_> {
    /// The nearest value that the data plane can keep to, with a warning where that is another one.
    fn capped(&mut self, name: &str, value: u32, least: u32, most: u32) -> u32 {
        let kept = value.clamp(least, most);
        if kept != value {
            let message = format!("must be from {least} to {most}: {kept} is in effect");
            self.warn(format!("spec.caps.{name}"), Reason::OutOfRange, message);
        }
        kept
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// Whether labels fulfil all requirements of a selector; an empty selector takes everything.
pub(super) fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let exact = selector
        .match_labels
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value));
    exact
        && selector.match_expressions.iter().all(|r| {
            let value = labels.get(r.key.as_str());
            let listed = value.is_some_and(|v| r.values.iter().any(|one| one.as_str() == v));
            match r.operator {
                LabelOperator::In => listed,
                LabelOperator::NotIn => !listed,
                LabelOperator::Exists => value.is_some(),
                LabelOperator::DoesNotExist => value.is_none(),
            }
        })
}

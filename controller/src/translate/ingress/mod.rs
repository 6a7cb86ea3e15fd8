//! Ingresses: of which class they are, where they attach, and the Routes that they come to.

mod class;
mod index;

pub(super) use index::{Block, Index};

use super::conflict;
use super::gateway_config::{Gateway, GatewayListener, ListenerState};
use super::lowering::{Dep, Lowering, PortKey, Transport};
use super::route::Extras;
use super::rule::OfRoute;
use crate::adapt::Names;
use crate::adapt::ingress::{
    Around, At, Canary, MIRROR, Objection, SaidRoute, as_routes, backends, is_canary,
};
use crate::report::{ParentReport, Reason, Reference, Severity};
use crate::world::{Body, Ingress, ObjectId, ObjectKind};
use class::Place;
use crds::refs::ObjectRef;
use k8s_openapi::api::networking::v1::IngressTLS;
use model::{EndpointSource, Route};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Listeners at which an Ingress is served.
struct Listeners<'a> {
    http: Vec<&'a GatewayListener>,
    https: Vec<&'a GatewayListener>,
}

/// The GatewayConfig at which an Ingress attaches, by what its report says.
pub(super) fn config_of(parent: &ParentReport) -> Option<ObjectId> {
    let said = parent.parent_ref.value();
    let text = |field: &str| said[field].as_str();
    let (namespace, name) = (text("namespace")?, text("name")?);
    Some(ObjectId::new(ObjectKind::GatewayConfig, namespace, name))
}

impl<'w> Lowering<'w> {
    pub(super) fn ingress(&mut self, ingress: &Ingress) {
        self.out.deps.insert(Dep::IngressClasses);
        let Some(place) = class::place(self.world, ingress) else {
            if let Some(why) = class::unclaimed(self.world, ingress) {
                let message = format!("{why}: it is not served");
                self.warn("spec.ingressClassName", Reason::NoMatchingParent, message);
            }
            return;
        };
        self.out.deps.insert(Dep::Gateways);
        let Some((gateway, config)) = self.gateway_of(&place) else {
            return;
        };
        let listeners = self.listeners_of(gateway, config);
        let served = !listeners.http.is_empty() || !listeners.https.is_empty();
        if !served {
            let message = format!("no listener of {config} takes Ingresses of this namespace");
            self.error("", Reason::NotAllowedByListeners, message);
        }
        self.out.parents.push(ParentReport {
            parent_ref: Reference::new(&json!({"kind": config.kind.name(), "namespace": config.namespace, "name": config.name})),
            problems: Vec::new(),
            serves: served,
        });
        if gateway.closed {
            let message =
                format!("{config} asks for something that is not built yet: all paths answer 500");
            self.error("", Reason::NotBuilt, message);
        }
        if is_canary(ingress) {
            self.canary(ingress);
        }
        self.tls_blocks(ingress, &listeners);
        let around = self.around(ingress, !listeners.https.is_empty());
        let said = as_routes(ingress, &around);
        for objection in said.objections {
            let Objection {
                field,
                reason,
                severity,
                message,
            } = objection;
            let problem = self.problem(severity, field, reason, message);
            self.out.problems.push(problem);
        }
        for (port, (spec, names)) in said.upstreams {
            let key = self.own_upstream(&port, &spec, &names);
            self.out.own_upstreams.insert(port, key);
        }
        let (tenant, closed_by_tenant) = self.tenancy();
        let closed = gateway.closed || closed_by_tenant;
        for route in said.routes {
            self.said_route(route, &listeners, tenant.as_ref(), closed);
        }
        // What several Routes have in common was said by each.
        self.out.problems.sort();
        self.out.problems.dedup();
    }

    /// Where it attaches; `None`, and a problem, where there is nothing.
    fn gateway_of(&mut self, place: &Place) -> Option<(&'w Gateway, &'w ObjectId)> {
        let gateways = self.gateways;
        let id = match place {
            Place::Default => gateways.default.as_ref(),
            Place::Config(id) => Some(id),
            Place::Unknown(message) => {
                self.error("spec.ingressClassName", Reason::NoMatchingParent, message);
                return None;
            }
        };
        let message = match id {
            None => "no GatewayConfig is marked default: true, and its class names none".to_owned(),
            Some(id) => match gateways.configs.get_key_value(id) {
                Some((id, gateway)) => return Some((gateway, id)),
                None => self.world.not_found(id),
            },
        };
        self.error("spec.ingressClassName", Reason::NoMatchingParent, message);
        None
    }

    fn listeners_of(&mut self, gateway: &'w Gateway, config: &ObjectId) -> Listeners<'w> {
        let mut listeners = Listeners {
            http: Vec::new(),
            https: Vec::new(),
        };
        for listener in &gateway.listeners {
            let takes = listener.state == ListenerState::Serves
                && listener.kinds.contains(&ObjectKind::Ingress)
                && self.is_allowed(&listener.allowed, config);
            match (takes, listener.https) {
                (true, true) => listeners.https.push(listener),
                (true, false) => listeners.http.push(listener),
                (false, _) => {}
            }
        }
        listeners
    }

    /// A canary without the Ingress that it belongs to takes nothing.
    fn canary(&mut self, canary: &Ingress) {
        let namespace = &self.id.namespace;
        self.out.deps.insert(Dep::Ingresses(namespace.clone()));
        let same = |one: &Ingress| {
            let places = |i: &Ingress| {
                let rules = i.spec.rules.clone().unwrap_or_default().into_iter();
                let all = rules.flat_map(|rule| {
                    let host = rule.host.unwrap_or_default();
                    let paths = rule.http.into_iter().flat_map(|http| http.paths);
                    paths.map(move |p| (host.clone(), p.path.unwrap_or_default()))
                });
                all.collect::<BTreeSet<_>>()
            };
            places(one).is_superset(&places(canary))
        };
        let others = self.world.in_namespace(ObjectKind::Ingress, namespace);
        let mut mains = others.filter_map(|object| match &object.body {
            Body::Ingress(main) if !is_canary(main) => class::place(self.world, main).map(|_| main),
            _ => None,
        });
        if !mains.any(|main| same(main)) {
            let message = "no Ingress of this namespace has all the hosts and paths of this canary: what has none takes no requests";
            let field = crate::adapt::ingress::field_of("canary");
            self.warn(field, Reason::NoMatchingParent, message);
        }
    }

    /// Secrets of `spec.tls`: what is wrong with one concerns its own hosts alone.
    fn tls_blocks(&mut self, ingress: &Ingress, listeners: &Listeners<'_>) {
        let blocks = ingress.spec.tls.iter().flatten().enumerate();
        for (i, block) in blocks {
            self.tls_block(&format!("spec.tls[{i}]"), block);
        }
        if ingress.spec.tls.iter().flatten().next().is_some() && listeners.https.is_empty() {
            let message = "no listener for HTTPS takes this Ingress: it is served in clear alone";
            self.warn("spec.tls", Reason::NoMatchingParent, message);
        }
    }

    fn tls_block(&mut self, at: &str, block: &IngressTLS) {
        let Some(name) = block.secret_name.as_deref().filter(|name| !name.is_empty()) else {
            return;
        };
        let reference = ObjectRef {
            name: name.into(),
            ..ObjectRef::default()
        };
        let field = format!("{at}.secretName");
        let before = self.out.problems.len();
        let Some((_, pair)) = self.certificate(&field, &reference) else {
            for problem in self.out.problems.iter_mut().skip(before) {
                problem
                    .message
                    .push_str("; clients are shown the default certificate of the listener");
            }
            return;
        };
        for (i, host) in block.hosts.iter().flatten().enumerate() {
            let lower = host.to_ascii_lowercase();
            if !pair.covers(&lower) && !pair.names.contains(&lower) {
                let message = format!(
                    "the certificate in {name} does not carry {host}: its clients are shown the default certificate of the listener"
                );
                let field = format!("{at}.hosts[{i}]");
                self.warn(field, Reason::CertificateNameMismatch, message);
            }
        }
    }

    /// What reading an Ingress needs of other objects.
    fn around(&mut self, ingress: &Ingress, has_https: bool) -> Around<'w> {
        let mut around = Around {
            has_https,
            ..Around::default()
        };
        let (world, ingresses) = (self.world, self.ingresses);
        let namespace = self.id.namespace.clone();
        self.out.deps.insert(Dep::Canaries(namespace.clone()));
        let mut canaries: Vec<_> = ingresses
            .canaries(&self.id.namespace)
            .filter(|id| *id != self.id)
            .filter_map(|id| {
                let object = world.get(id)?;
                match &object.body {
                    Body::Ingress(ingress) => {
                        let canary = Canary {
                            name: &object.id.name,
                            ingress,
                        };
                        Some((object.meta.created, canary))
                    }
                    _ => None,
                }
            })
            .collect();
        canaries.sort_by_key(|(created, canary)| (*created, canary.name));
        around.canaries = canaries.into_iter().map(|(_, canary)| canary).collect();
        let of_canaries = around.canaries.iter().flat_map(|c| backends(c.ingress));
        let all = backends(ingress).into_iter().chain(of_canaries);
        let services = all.filter_map(|(_, backend)| backend.service.as_ref());
        let mut names: Vec<(String, Option<String>)> = services
            .map(|service| {
                let port = service.port.as_ref().and_then(|port| port.name.clone());
                (service.name.clone(), port)
            })
            .collect();
        let default = crate::adapt::ingress::default_of_services(ingress);
        names.extend(default.map(|name| (name, Some(String::new()))));
        for (name, port) in names {
            let id = ObjectId::new(ObjectKind::Service, &*namespace, name.as_str());
            let Some(service) = self.service(&id) else {
                continue;
            };
            if service.external_name.is_some() {
                around.external.insert(name.clone());
            }
            let Some(port) = port else {
                continue;
            };
            let mut ports = service.ports.iter().filter(|p| p.protocol == "TCP");
            let found = ports.find(|p| port.is_empty() || p.name == port);
            if let Some(found) = found {
                around.ports.insert((name, port), found.port);
            }
        }
        around
    }

    /// A Service as the annotations have it; `None`: it cannot be spoken to so, and is not spoken to in another way.
    fn own_upstream(
        &mut self,
        (service, port): &(String, u16),
        spec: &crds::UpstreamSpec,
        names: &Names,
    ) -> Option<String> {
        let before = self.out.problems.len();
        let mut upstream = self.upstream_of(spec);
        if let Some(upstream) = &mut upstream
            && spec.tls.is_none()
            && let EndpointSource::Service(_) = &upstream.source
        {
            let id = ObjectId::new(ObjectKind::Service, &*self.id.namespace, service.as_str());
            let declared = self.service(&id);
            let key = PortKey {
                service: id,
                port: *port,
                transport: Transport::Tcp,
            };
            let declared = declared.and_then(|s| s.ports.iter().find(|p| key.is(p)));
            let name = declared.map(|p| p.name.clone()).unwrap_or_default();
            match self.policy_of(&key, &name) {
                None => {}
                Some(Some(tls)) => upstream.tls = Some(tls),
                Some(None) => upstream.source = EndpointSource::Static(Vec::new()),
            }
        }
        let mut usable = true;
        for problem in self.out.problems.iter_mut().skip(before) {
            problem.field = names.theirs(&problem.field);
            usable &= problem.severity == Severity::Warning;
        }
        let upstream = upstream.filter(|_| usable)?;
        let key = match service.as_str() {
            MIRROR => format!("Ingress/{}{MIRROR}", self.id.path()),
            service => format!("Ingress/{}/{service}:{port}", self.id.path()),
        };
        self.put(key.clone(), &upstream);
        Some(key)
    }

    fn said_route(
        &mut self,
        said: SaidRoute,
        listeners: &Listeners<'_>,
        tenant: Option<&String>,
        closed: bool,
    ) {
        let SaidRoute {
            name,
            spec,
            names,
            closed: closed_rules,
            fields,
            at,
        } = said;
        let before = self.out.problems.len();
        let (hosts, groups) = self.hosts(&spec);
        let hosts = self.own_hosts(&spec, hosts);
        let of_route = OfRoute {
            plugins: Vec::new(),
            groups,
            closed,
        };
        let extras = Extras {
            closed: closed_rules,
            ..Extras::default()
        };
        let (rules, places) = self.rules(&spec, &of_route, &extras, &[]);
        for problem in self.out.problems.iter_mut().skip(before) {
            problem.field = names.theirs(&problem.field);
        }
        let (http, https) = match at {
            At::All => (true, true),
            At::Http => (true, false),
            At::Https => (false, true),
        };
        let http = listeners.http.iter().filter(|_| http);
        let https = listeners.https.iter().filter(|_| https);
        let keys: BTreeSet<String> = http
            .chain(https)
            .filter(|l| hosts.iter().any(|h| l.hostname.intersect(h).is_some()))
            .map(|l| l.key.clone())
            .collect();
        if keys.is_empty() || hosts.is_empty() || rules.is_empty() {
            return;
        }
        let route = Route {
            origin: self.id.origin(),
            created: self.meta.created,
            tenant: tenant.cloned(),
            listeners: keys.iter().cloned().collect(),
            hosts,
            rules,
        };
        let key = format!("{}/{name}", self.id.route_key());
        let fields: Vec<Arc<str>> = fields.into_iter().map(Into::into).collect();
        let claims = conflict::claims(&key, &route, &places, |place| fields.get(place).cloned());
        self.out.claims.extend(claims);
        self.slashes_in_vain(&route, &places, |place| {
            fields
                .get(place)
                .map(ToString::to_string)
                .unwrap_or_default()
        });
        self.out.attached.extend(keys);
        self.put(key, &route);
    }
}

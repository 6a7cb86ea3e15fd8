//! Routes: where they attach, which hosts they serve, and their rules.

use super::conflict;
use super::gateway_config::{Allowed, Gateway, GatewayListener, ListenerState};
use super::lowering::Lowering;
use super::parents::Parent;
use super::rule::{self, OfRoute};
use super::{unbuilt, values};
use crate::adapt::{self, Names, http_route::Said};
use crate::report::{Field, ParentReport, Problem, Reason, Severity};
use crate::world::{Body, ObjectId, ObjectKind};
use crds::RouteSpec;
use crds::header::HeaderEdits;
use gateway_api::grpc_route::GrpcRouteSpec;
use gateway_api::http_route::HttpRouteSpec;
use model::{Action, HostPattern, Route, Rule, limits};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What a Route of the Gateway API or an Ingress adds to the Route that it is said as.
#[derive(Default)]
pub(super) struct Extras {
    /// Rules that must not be served.
    pub closed: BTreeSet<usize>,
    /// Its methods are matches like any other.
    pub hides_methods: bool,
    /// Shares of mirrors in millionths, by rule and mirror.
    pub mirrors: BTreeMap<usize, BTreeMap<usize, u32>>,
    /// Edits of answers, by rule and backend.
    pub response_headers: BTreeMap<(usize, usize), HeaderEdits>,
    /// How long nothing may move, where a Route of requests has another default.
    pub idle: Option<Duration>,
}

impl<'w> Lowering<'w> {
    pub(super) fn route(&mut self, spec: &RouteSpec) {
        let parents = self.parents(spec);
        self.serve(spec, parents, &Extras::default());
    }

    /// What an HTTPRoute says, by the names of its own fields.
    pub(super) fn http_route(&mut self, spec: &HttpRouteSpec) {
        let say = |names| adapt::http_route::as_route(spec, names);
        self.said(say(Names::unasked()), spec, || say(Names::default()).names);
    }

    /// What a GRPCRoute says, by the names of its own fields.
    pub(super) fn grpc_route(&mut self, spec: &GrpcRouteSpec) {
        let say = |names| adapt::grpc_route::as_route(spec, names);
        let (said, http) = say(Names::unasked());
        self.said(said, &http, || say(Names::default()).0.names);
    }

    /// What a Route of connections or datagrams says, by the names of its own fields.
    pub(super) fn stream_route(&mut self, (said, http): (Said, HttpRouteSpec)) {
        let names = || adapt::http_route::as_route(&http, Names::default()).names;
        self.said(said, &http, names);
    }

    /// `names`: under which its author knows the fields.
    fn said(&mut self, said: Said, spec: &HttpRouteSpec, names: impl FnOnce() -> Names) {
        let Said {
            spec: route,
            names: _,
            faults,
            notices,
            closed,
            response_headers,
            mirrors,
        } = said;
        let parents = self.parents_of_http_route(spec);
        let extras = Extras {
            closed,
            hides_methods: true,
            mirrors,
            response_headers,
            idle: match self.id.kind {
                ObjectKind::UDPRoute => Some(limits::SESSION_IDLE),
                kind => kind.is_of_streams().then_some(limits::CONNECTION_IDLE),
            },
        };
        self.serve(&route, parents, &extras);
        if !self.out.problems.is_empty() {
            let names = names();
            for problem in &mut self.out.problems {
                problem.field = names.theirs(&problem.field);
            }
        }
        for fault in faults {
            self.error(fault.field, fault.reason, fault.message);
        }
        for notice in notices {
            self.warn(notice.field, notice.reason, notice.message);
        }
    }

    fn serve(&mut self, spec: &RouteSpec, parents: Vec<Parent>, extras: &Extras) {
        let (hosts, groups) = self.hosts(spec);
        let (listeners, closed_by_gateway) = self.attach(parents, &hosts);
        let (tenant, closed_by_tenant) = self.tenancy();
        let hosts = self.own_hosts(spec, hosts);
        if spec.enabled == Some(false) {
            self.out.problems.clear();
            self.warn(
                "spec.enabled",
                Reason::Disabled,
                "the Route is switched off",
            );
            return;
        }
        let unbuilt = || unbuilt::find(ObjectKind::Route, spec);
        let unbuilt = match self.id.kind {
            ObjectKind::Route => unbuilt(),
            // What others say is said in fields that there are.
            _ => {
                debug_assert_eq!(unbuilt(), []);
                Vec::new()
            }
        };
        let mut plugins = Vec::new();
        let usable = self.plugin_uses(&"spec.plugins", &spec.plugins, &mut plugins);
        let whole_closed = unbuilt.iter().any(|f| f.closes && f.rule.is_none());
        let of_route = OfRoute {
            plugins,
            groups,
            closed: closed_by_gateway || closed_by_tenant || !usable || whole_closed,
        };
        let (rules, places) = self.rules(spec, &of_route, extras, &unbuilt);
        if spec.rules.is_empty() {
            self.error(
                "spec.rules",
                Reason::Invalid,
                "at least one rule must be given",
            );
        }
        for found in unbuilt {
            self.not_built(found);
        }
        if listeners.is_empty() || hosts.is_empty() || rules.is_empty() {
            self.out.effective.clear();
            return;
        }
        self.order_effective();
        let route = Route {
            origin: self.id.origin(),
            created: self.meta.created,
            tenant,
            listeners: listeners.into_iter().collect(),
            hosts,
            rules,
        };
        let key = self.id.route_key();
        self.out.claims = conflict::claims(&key, &route, &places, |_| None);
        self.slashes_in_vain(&route, &places, |place| {
            format!("spec.rules[{place}].matches")
        });
        self.put(key, &route);
    }

    /// The rules that can be served, and where they stand in the spec.
    pub(super) fn rules(
        &mut self,
        spec: &RouteSpec,
        of_route: &OfRoute,
        extras: &Extras,
        unbuilt: &[unbuilt::Found],
    ) -> (Vec<Rule>, Vec<usize>) {
        let mut rules = Vec::with_capacity(spec.rules.len());
        let mut places = Vec::with_capacity(spec.rules.len());
        for (i, rule) in spec.rules.iter().enumerate() {
            let of_rule = rule::Extras {
                closed: extras.closed.contains(&i)
                    || unbuilt.iter().any(|f| f.closes && f.rule == Some(i)),
                hides_methods: extras.hides_methods,
                mirrors: extras.mirrors.get(&i).cloned().unwrap_or_default(),
                place: i,
            };
            let at = format_args!("spec.rules[{i}]");
            if let Some(mut lowered) = self.rule(&at, rule, of_route, &of_rule) {
                self.response_headers(&at, i, extras, &mut lowered);
                if let Some(idle) = extras.idle {
                    let millis = u32::try_from(idle.as_millis()).unwrap_or(u32::MAX);
                    lowered.timeouts.stream_idle_ms = millis;
                }
                rules.push(lowered);
                places.push(i);
            }
        }
        (rules, places)
    }

    /// Edits of answers by backend, which only an HTTPRoute can ask for.
    fn response_headers(
        &mut self,
        at: Field<'_>,
        rule: usize,
        extras: &Extras,
        lowered: &mut Rule,
    ) {
        let Action::Forward(backends) = &mut lowered.action else {
            return;
        };
        for (j, backend) in backends.iter_mut().enumerate() {
            let edits = extras.response_headers.get(&(rule, j));
            let field = format_args!("{at}.backends[{j}].responseHeaders");
            backend.response_headers = self.header_edits(&field, edits);
        }
    }

    /// Empty when none can be served; and the named groups of hostnameRegex.
    pub(super) fn hosts(&mut self, spec: &RouteSpec) -> (Vec<HostPattern>, Vec<String>) {
        if let Some(pattern) = spec.hostname_regex.as_deref() {
            return self.host_regex(spec, pattern).unwrap_or_default();
        }
        if spec.hostnames.is_empty() {
            return (vec![HostPattern::Any], Vec::new());
        }
        let all = spec.hostnames.iter().enumerate();
        let hosts: BTreeSet<HostPattern> = all
            .filter_map(|(i, name)| {
                self.valid(
                    format_args!("spec.hostnames[{i}]"),
                    HostPattern::parse(name),
                )
            })
            .collect();
        (hosts.into_iter().collect(), Vec::new())
    }

    fn host_regex(
        &mut self,
        spec: &RouteSpec,
        pattern: &str,
    ) -> Option<(Vec<HostPattern>, Vec<String>)> {
        let field = "spec.hostnameRegex";
        if !spec.hostnames.is_empty() {
            let message = "stands instead of hostnames: give one of them";
            self.error(field, Reason::Invalid, message);
            return None;
        }
        let compiled = values::expression(pattern, model::pattern::whole(pattern));
        let regex = self.valid(field, compiled)?;
        let groups = regex.capture_names().flatten().map(str::to_owned).collect();
        Some((vec![HostPattern::Regex(pattern.into())], groups))
    }

    /// Keys of the listeners that serve the Route, and whether one of them asks for something that is not built, so
    /// that its Routes must not be served.
    fn attach(&mut self, parents: Vec<Parent>, hosts: &[HostPattern]) -> (BTreeSet<String>, bool) {
        let mut listeners = BTreeSet::new();
        let mut closed = false;
        for parent in parents {
            let (mut problems, mut serves) = (Vec::new(), false);
            match self.attach_to(&parent, hosts) {
                Ok((gateway, attached)) => {
                    let of = |state| attached.iter().filter(move |l| l.state == state);
                    let serving = of(ListenerState::Serves).map(|l| l.key.clone());
                    listeners.extend(serving);
                    serves = of(ListenerState::Serves).next().is_some();
                    let problem = |reason, message| {
                        self.problem(Severity::Error, parent.field.clone(), reason, message)
                    };
                    let refused: Vec<&str> = of(ListenerState::Refused).map(|l| &*l.name).collect();
                    if refused.len() == attached.len() && !refused.is_empty() {
                        let message = format!(
                            "listener {} is not accepted itself, as its conditions say",
                            refused.join(" and ")
                        );
                        problems.push(problem(Reason::NoMatchingParent, message));
                    } else if gateway.closed
                        && let Ok(id) = &parent.id
                    {
                        closed = true;
                        let message = format!(
                            "{id} asks for something that is not built yet: the rules answer 500"
                        );
                        problems.push(problem(Reason::NotBuilt, message));
                    }
                    if problems.is_empty() {
                        let counted = attached.iter().map(|l| l.key.clone());
                        self.out.attached.extend(counted);
                    }
                }
                Err(problem) => problems.push(*problem),
            }
            self.out.parents.push(ParentReport {
                parent_ref: parent.said,
                problems,
                serves,
            });
        }
        (listeners, closed)
    }

    /// The listeners at which the Route is counted; none where it has no host at all.
    fn attach_to(
        &mut self,
        parent: &Parent,
        hosts: &[HostPattern],
    ) -> Result<(&'w Gateway, Vec<&'w GatewayListener>), Box<Problem>> {
        let problem = |l: &Self, reason, message: String| {
            Err(Box::new(l.problem(
                Severity::Error,
                parent.field.clone(),
                reason,
                message,
            )))
        };
        let id = match &parent.id {
            Ok(id) => id,
            Err(problem) => return Err(problem.clone()),
        };
        let gateways = self.gateways;
        let Some(gateway) = gateways.configs.get(id) else {
            let message = self.world.not_found(id);
            return problem(self, Reason::NoMatchingParent, message);
        };
        let named = |l: &&GatewayListener| {
            parent.listener.as_deref().is_none_or(|n| n == l.name)
                && parent.port.is_none_or(|port| port == l.port)
        };
        let candidates: Vec<&'w GatewayListener> = gateway.listeners.iter().filter(named).collect();
        if candidates.is_empty() {
            let message = match (parent.listener.as_deref(), parent.port) {
                (Some(name), None) => format!("{id} has no listener {name}"),
                (Some(name), Some(port)) => format!("{id} has no listener {name} on port {port}"),
                (None, Some(port)) => format!("{id} has no listener on port {port}"),
                (None, None) => format!("{id} has no listener"),
            };
            return problem(self, Reason::NoMatchingParent, message);
        }
        let takes = |l: &&GatewayListener| l.kinds.contains(&self.id.kind);
        let taking: Vec<&'w GatewayListener> = candidates.into_iter().filter(takes).collect();
        if taking.is_empty() {
            let message = format!("{id} takes no {} there", self.id.kind);
            return problem(self, Reason::NotAllowedByListeners, message);
        }
        let mut allowed = Vec::new();
        for listener in taking {
            if self.is_allowed(&listener.allowed, id) {
                allowed.push(listener);
            }
        }
        if allowed.is_empty() {
            let message = format!("{id} takes no Routes from namespace {}", self.id.namespace);
            return problem(self, Reason::NotAllowedByListeners, message);
        }
        allowed.retain(|l| hosts.iter().any(|h| l.hostname.intersect(h).is_some()));
        if allowed.is_empty() && !hosts.is_empty() {
            let message = format!("no listener of {id} serves one of the hosts of the Route");
            return problem(self, Reason::NoMatchingListenerHostname, message);
        }
        Ok((gateway, allowed))
    }

    /// Whether the namespace of this object is among those that another one takes objects from.
    pub(super) fn is_allowed(&mut self, allowed: &Allowed, gateway: &ObjectId) -> bool {
        match allowed {
            Allowed::All => true,
            Allowed::Same => gateway.namespace == self.id.namespace,
            Allowed::Selector(selector) => {
                let id = ObjectId::new(ObjectKind::Namespace, "", &*self.id.namespace);
                let labels = match self.object(&id).map(|o| &o.body) {
                    Some(Body::Namespace(namespace)) => &namespace.labels,
                    _ => return false,
                };
                super::gateway_config::selects(selector, labels)
            }
        }
    }
}

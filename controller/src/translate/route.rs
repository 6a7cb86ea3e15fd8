//! Routes: where they attach, which hosts they serve, and their rules.

use super::conflict;
use super::gateway_config::{Allowed, GatewayListener};
use super::lowering::{Dep, Lowering};
use super::rule::OfRoute;
use super::{unbuilt, values};
use crate::report::{ParentReport, Problem, Reason, Severity};
use crate::world::{Body, ObjectId, ObjectKind};
use crds::{ParentKind, ParentRef, RouteSpec};
use model::{HostPattern, Route};
use std::collections::BTreeSet;

impl Lowering<'_> {
    pub(super) fn route(&mut self, spec: &RouteSpec) {
        let (hosts, groups) = self.hosts(spec);
        let (listeners, closed_by_gateway) = self.attach(spec, &hosts);
        if spec.enabled == Some(false) {
            self.out.problems.clear();
            self.warn(
                "spec.enabled",
                Reason::Disabled,
                "the Route is switched off",
            );
            return;
        }
        let unbuilt = unbuilt::find(ObjectKind::Route, spec);
        let mut plugins = Vec::new();
        let usable = self.plugin_uses("spec.plugins", &spec.plugins, &mut plugins);
        let whole_closed = unbuilt.iter().any(|f| f.closes && f.rule.is_none());
        let of_route = OfRoute {
            plugins,
            groups,
            closed: closed_by_gateway || !usable || whole_closed,
        };
        let mut rules = Vec::with_capacity(spec.rules.len());
        let mut places = Vec::with_capacity(spec.rules.len());
        for (i, rule) in spec.rules.iter().enumerate() {
            let closed = unbuilt.iter().any(|f| f.closes && f.rule == Some(i));
            if let Some(lowered) = self.rule(&format!("spec.rules[{i}]"), rule, &of_route, closed) {
                rules.push(lowered);
                places.push(i);
            }
        }
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
            return;
        }
        let route = Route {
            origin: self.id.origin(),
            created: self.meta.created,
            listeners: listeners.into_iter().collect(),
            hosts,
            rules,
        };
        self.out.claims = conflict::claims(&route, &places);
        self.put(self.id.path(), route);
    }

    /// Empty when none can be served; and the named groups of hostnameRegex.
    fn hosts(&mut self, spec: &RouteSpec) -> (Vec<HostPattern>, Vec<String>) {
        if let Some(pattern) = spec.hostname_regex.as_deref() {
            return self.host_regex(spec, pattern).unwrap_or_default();
        }
        if spec.hostnames.is_empty() {
            return (vec![HostPattern::Any], Vec::new());
        }
        let all = spec.hostnames.iter().enumerate();
        let hosts: BTreeSet<HostPattern> = all
            .filter_map(|(i, name)| {
                self.valid(format!("spec.hostnames[{i}]"), HostPattern::parse(name))
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
        Some((vec![HostPattern::Regex(pattern.to_owned())], groups))
    }

    /// Keys of the listeners that take the Route, and whether one of them asks for something that is not built, so
    /// that its Routes must not be served.
    fn attach(&mut self, spec: &RouteSpec, hosts: &[HostPattern]) -> (BTreeSet<String>, bool) {
        self.out.deps.insert(Dep::Gateways);
        let mut listeners = BTreeSet::new();
        let mut closed = false;
        let default;
        let parents: &[ParentRef] = match (&self.gateways.default, spec.parent_refs.is_empty()) {
            (_, false) => &spec.parent_refs,
            (Some(id), true) => {
                default = [ParentRef {
                    kind: Some(ParentKind::GatewayConfig),
                    name: id.name.as_str().into(),
                    namespace: Some(id.namespace.as_str().into()),
                    ..ParentRef::default()
                }];
                &default
            }
            (None, true) => {
                let message =
                    "no GatewayConfig is marked default: true, and the Route names no parent";
                self.error("spec.parentRefs", Reason::NoMatchingParent, message);
                return (listeners, closed);
            }
        };
        for (i, parent) in parents.iter().enumerate() {
            let field = match spec.parent_refs.is_empty() {
                true => "spec.parentRefs".to_owned(),
                false => format!("spec.parentRefs[{i}]"),
            };
            let mut problems = Vec::new();
            match self.attach_to(&field, parent, hosts) {
                Ok((keys, closing)) => {
                    listeners.extend(keys);
                    if let Some(name) = closing {
                        closed = true;
                        let message = format!(
                            "{name} asks for something that is not built yet: the rules answer 500"
                        );
                        problems.push(self.problem(
                            Severity::Error,
                            field,
                            Reason::NotBuilt,
                            message,
                        ));
                    }
                }
                Err(problem) => problems.push(*problem),
            }
            self.out.parents.push(ParentReport {
                parent_ref: parent.clone(),
                problems,
            });
        }
        (listeners, closed)
    }

    fn attach_to(
        &mut self,
        field: &str,
        parent: &ParentRef,
        hosts: &[HostPattern],
    ) -> Result<(Vec<String>, Option<String>), Box<Problem>> {
        let problem = |l: &Self, below: &str, reason, message: String| {
            let field = format!("{field}{below}");
            Err(Box::new(l.problem(Severity::Error, field, reason, message)))
        };
        if parent.kind == Some(ParentKind::Gateway) {
            let message = "kind Gateway is not built yet; name a GatewayConfig".to_owned();
            return problem(self, ".kind", Reason::NotBuilt, message);
        }
        if parent
            .group
            .as_deref()
            .is_some_and(|group| group != crds::GROUP)
        {
            let message = format!("must be {} for kind GatewayConfig", crds::GROUP);
            return problem(self, ".group", Reason::NoMatchingParent, message);
        }
        let namespace = parent.namespace.as_deref().unwrap_or(&self.id.namespace);
        let id = ObjectId::new(ObjectKind::GatewayConfig, namespace, parent.name.as_str());
        let Some(gateway) = self.gateways.configs.get(&id) else {
            let message = format!("{id} is not found");
            return problem(self, "", Reason::NoMatchingParent, message);
        };
        let named = |l: &&GatewayListener| parent.listener.as_deref().is_none_or(|n| n == l.name);
        let candidates: Vec<&GatewayListener> = gateway.listeners.iter().filter(named).collect();
        if candidates.is_empty() {
            let message = match parent.listener.as_deref() {
                Some(name) => format!("{id} has no listener {name} that serves"),
                None => format!("{id} has no listener that serves"),
            };
            return problem(self, "", Reason::NoMatchingParent, message);
        }
        let mut allowed = Vec::new();
        for listener in candidates {
            if self.is_allowed(&listener.allowed, &id) {
                allowed.push(listener);
            }
        }
        if allowed.is_empty() {
            let message = format!("{id} takes no Routes from namespace {}", self.id.namespace);
            return problem(self, "", Reason::NotAllowedByListeners, message);
        }
        let fits = |l: &&&GatewayListener| hosts.iter().any(|h| l.hostname.intersect(h).is_some());
        let keys: Vec<String> = allowed.iter().filter(fits).map(|l| l.key.clone()).collect();
        if keys.is_empty() && !hosts.is_empty() {
            let message = format!("no listener of {id} serves one of the hosts of the Route");
            return problem(self, "", Reason::NoMatchingListenerHostname, message);
        }
        let closing = gateway.closed.then(|| id.to_string());
        Ok((keys, closing))
    }

    fn is_allowed(&mut self, allowed: &Allowed, gateway: &ObjectId) -> bool {
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

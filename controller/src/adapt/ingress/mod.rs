//! An Ingress as Routes (networking.k8s.io/v1), with the annotations of ingress-nginx.
//!
//! A Route has the same rules for all its hosts, an Ingress has some for each: so there is a Route for each host, and
//! another one where plain HTTP is sent on to HTTPS. What cannot be said, or must not be served, is an [`Objection`];
//! it concerns the path or the annotation that it names, and nothing beside it.

pub(crate) mod annotations;
mod paths;
mod tls;

pub(crate) use annotations::MIRROR;

use super::{Names, port};
use crate::report::{Reason, Severity};
use crate::world::{Ingress, NGINX_PREFIX};
use annotations::Settings;
use crds::{
    Backend, PathMatch, PathMatchType, Redirect, RouteMatch, RouteRule, RouteSpec, Scheme,
    UpstreamSpec,
};
use k8s_openapi::api::networking::v1::{HTTPIngressPath, IngressBackend};
use model::HostPattern;
use std::collections::{BTreeMap, BTreeSet};

/// What an Ingress comes to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    pub routes: Vec<SaidRoute>,
    /// How ports of Services are spoken to, where a Service itself does not say it; and [`annotations::MIRROR`].
    pub upstreams: BTreeMap<(String, u16), (UpstreamSpec, Names)>,
    pub objections: Vec<Objection>,
}

/// One Route of several.
#[derive(Clone, Debug, Default)]
pub(crate) struct SaidRoute {
    /// Tells it from the others of the Ingress.
    pub name: String,
    pub spec: RouteSpec,
    pub names: Names,
    /// Rules that must not be served.
    pub closed: BTreeSet<usize>,
    /// Where each rule stands in the Ingress.
    pub fields: Vec<String>,
    pub at: At,
}

/// The listeners that a Route is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum At {
    #[default]
    All,
    Http,
    Https,
}

/// Something that is not as an Ingress asks.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Objection {
    /// Such as `spec.rules[0].http.paths[1].path`.
    pub field: String,
    pub reason: Reason,
    pub severity: Severity,
    pub message: String,
}

/// What an Ingress is read with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Around<'a> {
    /// Numbers of ports by Service and name; under the empty name the first port of a Service.
    pub ports: BTreeMap<(String, String), u16>,
    /// Services that are no more than a name to look up.
    pub external: BTreeSet<String>,
    /// Canaries of its namespace, the oldest first.
    pub canaries: Vec<Canary<'a>>,
    /// Whether there is a listener for HTTPS to send clients to.
    pub has_https: bool,
}

/// Another Ingress that takes a part of the requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Canary<'a> {
    pub name: &'a str,
    pub ingress: &'a Ingress,
}

/// Matches every path, and comes after every prefix: what is left to a default backend.
const WHATEVER: &str = ".*";

/// Where an annotation stands.
pub(crate) fn field_of(annotation: &str) -> String {
    format!("metadata.annotations[{NGINX_PREFIX}{annotation}]")
}

/// Whether it is no Ingress by itself, but takes a part of the requests of another one.
pub(crate) fn is_canary(ingress: &Ingress) -> bool {
    let value = ingress.annotations.get(&format!("{NGINX_PREFIX}canary"));
    value.is_some_and(|value| annotations::is_canary(value))
}

/// The Service that answers where that of a path has no endpoints.
pub(crate) fn default_of_services(ingress: &Ingress) -> Option<String> {
    annotations::read(&ingress.annotations).0.default_backend
}

/// The backends of an Ingress with the places where they stand.
pub(crate) fn backends(ingress: &Ingress) -> Vec<(String, &IngressBackend)> {
    let default = ingress.spec.default_backend.iter();
    let default = default.map(|backend| ("spec.defaultBackend".to_owned(), backend));
    let paths = paths(ingress).map(|(_, at, path)| (format!("{at}.backend"), &path.backend));
    default.chain(paths).collect()
}

/// The paths of an Ingress with their hosts, and the places where they stand. Empty: any host.
fn paths(ingress: &Ingress) -> impl Iterator<Item = (&str, String, &HTTPIngressPath)> {
    let rules = ingress.spec.rules.iter().flatten().enumerate();
    rules.flat_map(|(i, rule)| {
        let host = rule.host.as_deref().unwrap_or_default();
        let paths = rule.http.iter().flat_map(|http| &http.paths).enumerate();
        paths.map(move |(j, path)| (host, format!("spec.rules[{i}].http.paths[{j}]"), path))
    })
}

/// Says an Ingress as Routes. A canary gives none: its backends stand in those of the Ingresses that it belongs to.
pub(crate) fn as_routes(ingress: &Ingress, around: &Around<'_>) -> Said {
    let (settings, objections) = annotations::read(&ingress.annotations);
    let mut said = Said {
        objections,
        ..Said::default()
    };
    if settings.canary.is_on {
        return said;
    }
    if let Some(annotation) = settings.forces_https_in_vain(around.has_https) {
        said.objections.push(Objection {
            field: field_of(annotation),
            reason: Reason::NoMatchingParent,
            severity: Severity::Warning,
            message: "no listener for HTTPS takes this Ingress: it is served in clear".to_owned(),
        });
    }
    let mut reader = Reader {
        ingress,
        around,
        settings: &settings,
        said: &mut said,
        services: BTreeMap::new(),
    };
    reader.read();
    let services = std::mem::take(&mut reader.services);
    settings.upstreams(&services, &around.external, &mut said.upstreams);
    said
}

/// One reading of an Ingress.
struct Reader<'a> {
    ingress: &'a Ingress,
    around: &'a Around<'a>,
    settings: &'a Settings,
    said: &'a mut Said,
    /// Ports of Services that something leads to, with the place where the first stands.
    services: BTreeMap<(String, u16), String>,
}

impl Reader<'_> {
    fn read(&mut self) {
        // By host, in the order in which they come.
        let mut hosts: Vec<(&str, SaidRoute)> = Vec::new();
        let mut places = BTreeMap::new();
        for (i, rule) in self.ingress.spec.rules.iter().flatten().enumerate() {
            let host = rule.host.as_deref().unwrap_or_default();
            if places.contains_key(host) {
                continue;
            }
            let route = match self.hosts(host) {
                Ok(spec) => SaidRoute {
                    name: if host.is_empty() { "*" } else { host }.to_owned(),
                    spec,
                    ..SaidRoute::default()
                },
                Err(message) => {
                    self.invalid(format!("spec.rules[{i}].host"), message);
                    continue;
                }
            };
            places.insert(host, hosts.len());
            hosts.push((host, route));
        }
        for (_, route) in &mut hosts {
            self.settings.before_paths(route);
        }
        for (host, at, path) in paths(self.ingress) {
            let place = places.get(host).copied();
            let Some((_, route)) = place.and_then(|place| hosts.get_mut(place)) else {
                continue;
            };
            self.path(host, &at, path, route);
        }
        self.default_backend(&mut hosts);
        for (host, route) in hosts {
            if !route.spec.rules.is_empty() {
                self.place(host, route);
            }
        }
        let first = self.ingress.spec.rules.iter().flatten();
        let hosts = first.filter_map(|rule| rule.host.as_deref());
        let elsewhere = self.settings.www_twins(hosts);
        self.said.routes.extend(elsewhere);
    }

    /// The host of a rule. A wildcard of an Ingress stands for one label, one of a Route for several.
    fn hosts(&self, host: &str) -> Result<RouteSpec, String> {
        let mut spec = RouteSpec::default();
        let pattern = match host {
            "" => return Ok(spec),
            host => HostPattern::parse(host).map_err(|e| e.to_string())?,
        };
        match pattern {
            HostPattern::Any => return Err("every host is written by leaving it out".to_owned()),
            HostPattern::Wildcard(rest) if self.settings.aliases.is_empty() => {
                spec.hostname_regex = Some(one_label(&rest).into());
            }
            HostPattern::Wildcard(rest) => {
                let all = [one_label(&rest)].into_iter();
                let all = all.chain(self.settings.aliases.iter().map(|alias| alias.pattern()));
                spec.hostname_regex = Some(all.collect::<Vec<_>>().join("|").into());
            }
            _ if self.settings.aliases.iter().all(|alias| !alias.is_pattern) => {
                let names = self.settings.aliases.iter().map(|a| a.text.as_str());
                spec.hostnames = [host].into_iter().chain(names).map(Into::into).collect();
            }
            _ => {
                let all = [regex::escape(&host.to_ascii_lowercase())].into_iter();
                let all = all.chain(self.settings.aliases.iter().map(|alias| alias.pattern()));
                spec.hostname_regex = Some(all.collect::<Vec<_>>().join("|").into());
            }
        }
        Ok(spec)
    }

    fn path(&mut self, host: &str, at: &str, path: &HTTPIngressPath, route: &mut SaidRoute) {
        let matched = match paths::read(path, self.settings) {
            Ok(matched) => matched,
            Err((field, message)) => {
                self.invalid(format!("{at}.{field}"), message);
                return;
            }
        };
        let backend = self.backend(&format!("{at}.backend"), &path.backend);
        let rule = RouteRule {
            matches: vec![RouteMatch {
                path: Some(matched.clone()),
                ..RouteMatch::default()
            }],
            backends: backend.into_iter().collect(),
            ..RouteRule::default()
        };
        let canary = self.canary(host, path);
        for rule in annotations::split(rule, canary) {
            self.add(at, Some(&matched), rule, route);
        }
    }

    /// Adds a rule, as the annotations have it.
    fn add(
        &mut self,
        at: &str,
        matched: Option<&PathMatch>,
        mut rule: RouteRule,
        route: &mut SaidRoute,
    ) {
        let ours = format!("spec.rules[{}]", route.spec.rules.len());
        route.names.add(ours.clone(), at);
        route.names.add(
            format!("{ours}.matches[0].path.value"),
            format!("{at}.path"),
        );
        for i in 0..rule.backends.len() {
            route.names.add(
                format!("{ours}.backends[{i}]"),
                format!("{}.service", backend_at(at)),
            );
        }
        let objections = self
            .settings
            .apply(&ours, matched, &mut rule, &mut route.names);
        self.said.objections.extend(objections);
        if self.settings.closes() {
            route.closed.insert(route.spec.rules.len());
        }
        self.default_of_service(&mut rule);
        route.spec.rules.push(rule);
        route.fields.push(at.to_owned());
    }

    /// Where requests go that no path of the Ingress takes. An Ingress of nothing else is for all of them.
    fn default_backend(&mut self, hosts: &mut Vec<(&str, SaidRoute)>) {
        const AT: &str = "spec.defaultBackend";
        let Some(default) = &self.ingress.spec.default_backend else {
            return;
        };
        let backend = self.backend(AT, default);
        let rule = |type_, path: &str| RouteRule {
            matches: vec![RouteMatch {
                path: Some(PathMatch {
                    type_: Some(type_),
                    value: path.to_owned(),
                }),
                ..RouteMatch::default()
            }],
            backends: backend.iter().cloned().collect(),
            ..RouteRule::default()
        };
        let rule = match self.ingress.spec.rules.iter().flatten().next() {
            None => rule(PathMatchType::PathPrefix, "/"),
            Some(_) => rule(PathMatchType::RegularExpression, WHATEVER),
        };
        if hosts.iter().all(|(host, _)| !host.is_empty()) {
            let any = SaidRoute {
                name: "*".to_owned(),
                ..SaidRoute::default()
            };
            hosts.push(("", any));
        }
        for (_, route) in hosts {
            self.add(AT, None, rule.clone(), route);
        }
    }

    /// The backend of a path; `None`, and an objection, where there is none that can be named.
    fn backend(&mut self, at: &str, backend: &IngressBackend) -> Option<Backend> {
        match (&backend.service, &backend.resource) {
            (Some(service), None) => {
                let given = service.port.as_ref();
                let number = given.and_then(|p| p.number).map(port);
                let name = given.and_then(|p| p.name.as_deref());
                let known = || {
                    let key = (service.name.clone(), name?.to_owned());
                    self.around.ports.get(&key).copied()
                };
                let Some(number) = number.or_else(known) else {
                    let message = match name {
                        Some(name) => format!("Service {} has no TCP port {name:?}", service.name),
                        None => "must have a number or a name".to_owned(),
                    };
                    let field = format!("{at}.service.port");
                    self.object(field, Reason::BackendNotFound, message);
                    return None;
                };
                let key = (service.name.clone(), number);
                let first = || format!("{at}.service");
                self.services.entry(key).or_insert_with(first);
                Some(Backend {
                    name: service.name.as_str().into(),
                    port: Some(number),
                    ..Backend::default()
                })
            }
            (None, Some(resource)) => Some(Backend {
                kind: Some(resource.kind.as_str().into()),
                group: resource.api_group.as_deref().map(Into::into),
                name: resource.name.as_str().into(),
                ..Backend::default()
            }),
            _ => {
                let message = "must have one of service and resource".to_owned();
                self.invalid(at.to_owned(), message);
                None
            }
        }
    }

    /// What a canary takes of the requests for a path.
    fn canary(&mut self, host: &str, path: &HTTPIngressPath) -> Option<annotations::Share> {
        let same = |(other_host, _, other): &(&str, String, &HTTPIngressPath)| {
            *other_host == host && other.path == path.path && other.path_type == path.path_type
        };
        let canaries = self.around.canaries.iter();
        let mut found = canaries.filter_map(|canary| {
            let (_, _, path) = paths(canary.ingress).find(same)?;
            Some((*canary, path))
        });
        let (canary, path) = found.next()?;
        let (settings, _) = annotations::read(&canary.ingress.annotations);
        // What is wrong with it is said by the canary itself.
        let before = self.said.objections.len();
        let backend = self.backend("spec", &path.backend);
        self.said.objections.truncate(before);
        Some(annotations::Share {
            backend: backend?,
            by: settings.canary,
        })
    }

    /// The Service that answers where that of the path has no endpoints.
    fn default_of_service(&mut self, rule: &mut RouteRule) {
        let Some(name) = &self.settings.default_backend else {
            return;
        };
        let key = (name.clone(), String::new());
        let Some(number) = self.around.ports.get(&key).copied() else {
            return;
        };
        if rule.backends.is_empty() {
            return;
        }
        let first = || field_of("default-backend");
        let key = (name.clone(), number);
        self.services.entry(key).or_insert_with(first);
        rule.backends.push(Backend {
            name: name.as_str().into(),
            port: Some(number),
            priority: Some(1),
            ..Backend::default()
        });
    }

    /// Adds a Route where it is to be served.
    fn place(&mut self, host: &str, mut route: SaidRoute) {
        let tls = self.ingress.spec.tls.as_deref().unwrap_or_default();
        let has_certificate = tls::covers(tls, host);
        let redirects = self.settings.redirects_to_https(has_certificate);
        if redirects && self.around.has_https {
            let redirects = route.spec.rules.iter().map(|rule| RouteRule {
                matches: rule.matches.clone(),
                redirect: Some(Redirect {
                    scheme: Some(Scheme::Https),
                    status_code: Some(308),
                    ..Redirect::default()
                }),
                ..RouteRule::default()
            });
            let rules = redirects.collect();
            let mut plain = SaidRoute {
                name: format!("{}/http", route.name),
                at: At::Http,
                closed: BTreeSet::new(),
                ..route.clone()
            };
            plain.spec.rules = rules;
            self.said.routes.push(plain);
            route.at = At::Https;
        }
        self.said.routes.push(route);
    }

    fn invalid(&mut self, field: String, message: String) {
        self.object(field, Reason::Invalid, message);
    }

    fn object(&mut self, field: String, reason: Reason, message: String) {
        self.said.objections.push(Objection {
            field,
            reason,
            severity: Severity::Error,
            message,
        });
    }
}

/// Where the backend of a rule stands.
fn backend_at(rule: &str) -> String {
    match rule {
        "spec.defaultBackend" => rule.to_owned(),
        path => format!("{path}.backend"),
    }
}

/// One label, and then the rest.
fn one_label(rest: &str) -> String {
    format!("[^.]+\\.{}", regex::escape(rest))
}

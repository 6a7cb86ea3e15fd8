//! What the gateway would do with a request, and why (D5): the answer of the very matcher that serves traffic, with
//! everything that follows from it. Nothing is drawn or counted: an explanation does not move any turn.

use super::backends::{Backend, WeightedBackends};
use super::find::{Found, Matched, Query};
use super::observe::{NearMiss, Trace};
use super::rule::{Action, Rule};
use super::{ListenerTable, Table};
use model::{BalancePolicy, HeaderEdits, Place, Stage, Timeouts};
use serde::Serialize;
use std::fmt;

/// Endpoints that are listed of each backend.
pub const ENDPOINTS: usize = 50;

/// The request to explain, as it would arrive.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub query: Query<'a>,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// As written in the Host field.
    pub port: Option<u16>,
}

/// Serializes to what `diolkos explain -o json` prints; `Display` is the text form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    pub listener: String,
    pub request: Request,
    /// The rule that takes the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleExplained>,
    pub outcome: Outcome,
    /// Rules that came close, and why they did not get it.
    pub near_misses: Vec<NearMiss>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Request {
    pub method: String,
    pub url: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleExplained {
    /// `NAMESPACE/NAME` of the Route.
    pub route: String,
    /// Name of the rule, or `rules[N]`.
    pub rule: String,
    /// Position of the match in the rule.
    pub matched: u32,
    pub host: String,
    pub path: String,
    /// The key that sorted it (F3).
    pub rank: String,
    /// In the order in which they run.
    pub plugins: Vec<StageExplained>,
    #[serde(skip_serializing_if = "HeaderEdits::is_empty")]
    pub request_headers: HeaderEdits,
    #[serde(skip_serializing_if = "HeaderEdits::is_empty")]
    pub response_headers: HeaderEdits,
    pub timeouts: Timeouts,
    /// Bytes.
    pub max_request_body: u64,
    /// Whether gRPC-Web is made gRPC, and back.
    #[serde(skip_serializing_if = "is_false")]
    pub grpc_web: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<MirrorExplained>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MirrorExplained {
    /// Key of the upstream, or what the Route asked for in vain.
    pub target: String,
    /// Share of the requests, in millionths.
    pub millionths: u32,
    /// Whether the target was found.
    pub resolved: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StageExplained {
    pub stage: Stage,
    pub plugins: Vec<String>,
}

/// How the request ends, unless a plugin answers it before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    Forward(Vec<BackendExplained>),
    #[serde(rename_all = "camelCase")]
    Redirect {
        status: u16,
        location: String,
    },
    #[serde(rename_all = "camelCase")]
    Respond {
        status: u16,
        #[serde(skip_serializing_if = "String::is_empty")]
        content_type: String,
        body: String,
    },
    /// An answer from the error catalogue.
    Error {
        status: u16,
        code: String,
        /// Value of the `Allow` field.
        #[serde(skip_serializing_if = "Option::is_none")]
        allow: Option<String>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendExplained {
    /// Key of the upstream, or what the Route asked for in vain.
    pub target: String,
    pub weight: u32,
    /// Backends of a higher number serve only where none of a lower one can.
    #[serde(skip_serializing_if = "is_first")]
    pub priority: u32,
    /// How one of its endpoints is chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<BalancePolicy>,
    /// Path and query as the upstream gets them.
    pub request_target: String,
    /// Host as the upstream gets it.
    pub host: String,
    #[serde(skip_serializing_if = "HeaderEdits::is_empty")]
    pub request_headers: HeaderEdits,
    #[serde(skip_serializing_if = "HeaderEdits::is_empty")]
    pub response_headers: HeaderEdits,
    /// At most [`ENDPOINTS`].
    pub endpoints: Vec<EndpointExplained>,
    /// DNS names among the endpoints, resolved or not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Registries that are asked for endpoints; without queries, which may hold keys.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub registries: Vec<String>,
    /// Why its share of the requests gets an error instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorExplained>,
}

fn is_first(priority: &u32) -> bool {
    *priority == 0
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ErrorExplained {
    pub status: u16,
    pub code: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointExplained {
    pub address: String,
    pub weight: u32,
    /// `ready`, `terminating` (answers, but is on its way out) or `notReady`.
    pub state: &'static str,
    /// Set aside: it failed requests or checks.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ejected: bool,
    /// Whether requests go there now.
    pub candidate: bool,
}

/// Explains a request to one listener; `None`: there is no such listener.
pub fn explain(table: &Table, listener: &str, asked: &Asked<'_>) -> Option<Explanation> {
    let (key, listener) = table.listeners.get_key_value(listener)?;
    Some(explain_on(key, listener, asked))
}

fn explain_on(key: &str, listener: &ListenerTable, asked: &Asked<'_>) -> Explanation {
    let q = &asked.query;
    let mut trace = Trace::new(q);
    let port = asked.port.or(listener.listener.redirect_port);
    let (rule, outcome) = match listener.find(q, &mut trace) {
        Found::Rule(matched) => (Some(rule(&matched)), outcome(&matched, asked, port)),
        Found::MethodNotAllowed { allow } => {
            (None, Outcome::error(405, "method_not_allowed", Some(allow)))
        }
        Found::NotFound => (None, Outcome::error(404, "route_not_found", None)),
    };
    Explanation {
        listener: key.to_owned(),
        request: request(asked),
        rule,
        outcome,
        near_misses: trace.near_misses(),
    }
}

impl Outcome {
    fn error(status: u16, code: &str, allow: Option<String>) -> Self {
        Self::Error {
            status,
            code: code.to_owned(),
            allow,
        }
    }
}

fn request(asked: &Asked<'_>) -> Request {
    let Query {
        method,
        host,
        path,
        query,
        headers: _,
        client: _,
    } = asked.query;
    let port = asked.port.map(|p| format!(":{p}")).unwrap_or_default();
    Request {
        method: method.to_owned(),
        url: format!("{}://{host}{port}{}", asked.scheme, with_query(path, query)),
    }
}

fn with_query(path: &str, query: Option<&str>) -> String {
    match query {
        None => path.to_owned(),
        Some(query) => format!("{path}?{query}"),
    }
}

fn rule(matched: &Matched<'_>) -> RuleExplained {
    let rule: &Rule = matched.rule;
    let stages = [
        Stage::PreRequest,
        Stage::PostRequest,
        Stage::PreResponse,
        Stage::PostResponse,
    ];
    let plugins = stages
        .into_iter()
        .filter(|stage| !rule.chain().is_empty(*stage))
        .map(|stage| StageExplained {
            stage,
            plugins: rule.chain().names(stage).map(str::to_owned).collect(),
        });
    RuleExplained {
        route: rule.spec.route.key.to_string(),
        rule: rule.label(),
        matched: matched.matcher.index,
        host: matched.host.to_string(),
        path: matched.matcher.path.to_string(),
        rank: matched.rank().to_string(),
        plugins: plugins.collect(),
        request_headers: rule.request_headers().clone(),
        response_headers: rule.response_headers().clone(),
        timeouts: *rule.timeouts(),
        max_request_body: rule.max_request_body(),
        grpc_web: rule.translates_grpc_web(),
        mirrors: rule.mirrors().iter().map(mirror).collect(),
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

fn mirror(mirror: &super::Mirror) -> MirrorExplained {
    MirrorExplained {
        target: mirror.target.to_string(),
        millionths: mirror.millionths,
        resolved: mirror.upstream.is_some(),
    }
}

/// `port`: where the client believes the listener to be.
fn outcome(matched: &Matched<'_>, asked: &Asked<'_>, port: Option<u16>) -> Outcome {
    match matched.rule.action() {
        Action::Forward(backends) => forward(backends, matched, asked),
        Action::Redirect(redirect) => {
            let q = &asked.query;
            let place = Place {
                scheme: asked.scheme,
                host: q.host,
                port,
                path: q.path,
                query: q.query,
            };
            let mut location = String::new();
            redirect.location(&place, matched.prefix_len, &mut location);
            Outcome::Redirect {
                status: redirect.status,
                location,
            }
        }
        Action::Respond(response) => Outcome::Respond {
            status: response.status,
            content_type: response.content_type.clone(),
            body: response.body.clone(),
        },
        Action::Closed { code } => Outcome::error(500, code, None),
    }
}

fn forward(backends: WeightedBackends<'_>, matched: &Matched<'_>, asked: &Asked<'_>) -> Outcome {
    if backends.iter().all(|b| b.weight == 0) {
        return Outcome::error(500, "invalid_backend", None);
    }
    Outcome::Forward(
        backends
            .iter()
            .map(|b| backend(&b, matched, asked))
            .collect(),
    )
}

fn backend(backend: &Backend<'_>, matched: &Matched<'_>, asked: &Asked<'_>) -> BackendExplained {
    let q = &asked.query;
    let mut explained = BackendExplained {
        target: backend.target.to_owned(),
        weight: backend.weight,
        priority: backend.priority,
        policy: backend.upstream.map(|u| u.settings.balance.policy),
        request_target: with_query(q.path, q.query),
        host: q.host.to_owned(),
        request_headers: backend.request_headers.clone(),
        response_headers: backend.response_headers.clone(),
        endpoints: Vec::new(),
        names: Vec::new(),
        registries: Vec::new(),
        error: None,
    };
    let error = |status, code: &str| {
        Some(ErrorExplained {
            status,
            code: code.to_owned(),
        })
    };
    let Some(upstream) = backend.upstream else {
        explained.error = error(500, "invalid_backend");
        return explained;
    };
    let mut buffer = String::new();
    if let Some(target) = matched.rule.target(
        q.host,
        q.path,
        q.query,
        matched.prefix_len,
        upstream,
        &mut buffer,
    ) {
        explained.request_target = target.to_owned();
    }
    match matched.rule.host(q.host, upstream) {
        Some(host) => explained.host = host.into_owned(),
        None => explained.host.extend(asked.port.map(|p| format!(":{p}"))),
    }
    explained.names = upstream
        .dns_names()
        .into_iter()
        .map(|n| format!("{}:{}", n.host, n.port))
        .collect();
    let shown = |url: &str| url.split('?').next().unwrap_or_default().to_owned();
    let registries = upstream.registries();
    explained.registries = registries.iter().map(|p| shown(&p.source.url)).collect();
    let set = upstream.endpoints();
    if set.candidates().is_empty() {
        explained.error = error(503, "no_healthy_upstream");
    }
    let endpoint = |e: &super::pick::Endpoint| EndpointExplained {
        address: e.addr.to_string(),
        weight: e.weight,
        state: match (e.ready, e.serving) {
            (true, _) => "ready",
            (false, true) => "terminating",
            (false, false) => "notReady",
        },
        ejected: !e.state.is_healthy(),
        candidate: set
            .candidates()
            .binary_search_by_key(&e.addr, |c| c.addr)
            .is_ok(),
    };
    explained.endpoints = set
        .endpoints()
        .iter()
        .take(ENDPOINTS)
        .map(endpoint)
        .collect();
    explained
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} {} on listener {}",
            self.request.method, self.request.url, self.listener
        )?;
        match &self.rule {
            Some(rule) => write!(f, "{rule}")?,
            None => writeln!(f, "no rule takes it")?,
        }
        write!(f, "{}", self.outcome)?;
        if !self.near_misses.is_empty() {
            writeln!(f, "near misses:")?;
        }
        for NearMiss {
            route,
            rule,
            host,
            path,
            rank,
            why,
        } in &self.near_misses
        {
            writeln!(
                f,
                "  Route {route} {rule}, host {host}, {path}: {why}\n    rank  {rank}"
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for RuleExplained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Route {} {}, match {}",
            self.route, self.rule, self.matched
        )?;
        writeln!(f, "  host  {}", self.host)?;
        writeln!(f, "  path  {}", self.path)?;
        writeln!(f, "  rank  {}", self.rank)?;
        for stage in &self.plugins {
            writeln!(f, "  {:?}: {}", stage.stage, stage.plugins.join(", "))?;
        }
        for MirrorExplained {
            target,
            millionths,
            resolved,
        } in &self.mirrors
        {
            let none = if *resolved {
                ""
            } else {
                ", which is not found"
            };
            let percent = f64::from(*millionths) / 10_000.0;
            writeln!(f, "  copies {percent}% to {target}{none}")?;
        }
        write_edits(f, "  ", "request", &self.request_headers)?;
        write_edits(f, "  ", "response", &self.response_headers)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redirect { status, location } => writeln!(f, "redirects: {status} {location}"),
            Self::Respond { status, body, .. } => {
                writeln!(f, "answers: {status}, {} bytes", body.len())
            }
            Self::Error {
                status,
                code,
                allow,
            } => {
                write!(f, "answers: {status} {code}")?;
                match allow {
                    Some(allow) => writeln!(f, ", Allow: {allow}"),
                    None => writeln!(f),
                }
            }
            Self::Forward(backends) => {
                let total = |priority: u32| {
                    let tier = backends.iter().filter(|b| b.priority == priority);
                    tier.map(|b| u64::from(b.weight)).sum()
                };
                backends
                    .iter()
                    .try_for_each(|b| b.write(f, total(b.priority)))
            }
        }
    }
}

impl BackendExplained {
    fn write(&self, f: &mut fmt::Formatter<'_>, total: u64) -> fmt::Result {
        write!(f, "forwards {} of {total} to {}", self.weight, self.target)?;
        if self.priority > 0 {
            write!(f, ", tier {}", self.priority)?;
        }
        writeln!(f)?;
        if let Some(policy) = self.policy {
            writeln!(f, "  by    {policy:?}")?;
        }
        if let Some(ErrorExplained { status, code }) = &self.error {
            writeln!(f, "  answers: {status} {code}")?;
        }
        if self.error.as_ref().is_none_or(|e| e.status != 500) {
            writeln!(f, "  as    {}, host {}", self.request_target, self.host)?;
        }
        write_edits(f, "  ", "request", &self.request_headers)?;
        write_edits(f, "  ", "response", &self.response_headers)?;
        for name in &self.names {
            writeln!(f, "  name  {name}")?;
        }
        for registry in &self.registries {
            writeln!(f, "  asks  {registry}")?;
        }
        for EndpointExplained {
            address,
            weight,
            state,
            ejected,
            candidate,
        } in &self.endpoints
        {
            let state = if *ejected { "ejected" } else { state };
            let out = if *candidate { "" } else { ", takes none" };
            writeln!(f, "  to    {address} {state}, weight {weight}{out}")?;
        }
        Ok(())
    }
}

fn write_edits(
    f: &mut fmt::Formatter<'_>,
    indent: &str,
    of: &str,
    edits: &HeaderEdits,
) -> fmt::Result {
    for name in &edits.remove {
        writeln!(f, "{indent}{of} header {name}: removed")?;
    }
    for (name, value) in &edits.set {
        writeln!(f, "{indent}{of} header {name}: set to {value:?}")?;
    }
    for (name, value) in &edits.add {
        writeln!(f, "{indent}{of} header {name}: added {value:?}")?;
    }
    Ok(())
}

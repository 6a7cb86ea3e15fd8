//! Compiled rules: what a rule says by itself ([`RuleSpec`]), and that joined with the upstreams and plugins that it
//! names ([`Rule`]). The first holds everything that is dear to compile or can fail; when a plugin or an upstream
//! changes, only the second is made anew.

use super::backends::{BackendSpec, LinkedBackends, WeightedBackends};
use super::gate::Gate;
use super::matcher::Matcher;
use super::names::Names;
use super::redirect::Redirect;
use super::rewrite::PathEdit;
use super::template::Text;
use super::upstream::Upstream;
use crate::telemetry::RouteStats;
use crate::telemetry::apart::Found;
use model::{
    Affinity, Concurrency, DirectResponse, FailurePolicy, HeaderEdits, PluginUse, Retry, Stage,
    Timeouts,
};
use plugins::{Chain, ChainEntry, Meter, Plugin};
use regex::Regex;
use smallvec::SmallVec;
use std::borrow::Cow;
use std::hint::black_box;
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Duration;

/// The Route object that a rule comes from.
#[derive(Debug)]
pub struct RouteInfo {
    /// `NAMESPACE/NAME`.
    pub key: Arc<str>,
    /// Seconds since the epoch.
    pub created: i64,
    /// `None`: it is nobody's.
    pub tenant: Option<Box<Membership>>,
}

/// The Tenant that a Route is of.
#[derive(Debug)]
pub struct Membership {
    /// Key of its resource.
    pub tenant: Arc<str>,
    /// What its requests are counted in where they are counted by Tenant.
    pub series: Found,
}

impl RouteInfo {
    /// Whether it is of the Tenant.
    pub(super) fn is_of(&self, tenant: &str) -> bool {
        let own = self.tenant.as_ref();
        own.is_some_and(|own| *own.tenant == *tenant)
    }
}

/// What a rule says by itself.
pub struct RuleSpec {
    pub route: Arc<RouteInfo>,
    /// Position in the Route.
    pub index: u32,
    pub precedence: i32,
    /// As in [`model::Rule::hides_methods`].
    pub hides_methods: bool,
    /// Where they are not the defaults.
    timeouts: Option<Box<Timeouts>>,
    max_request_body: u64,
    /// Mostly one, which stands in place.
    pub matches: SmallVec<[Matcher; 1]>,
    action: ActionSpec,
    /// Most rules say nothing of all that.
    extras: Option<Box<Extras>>,
}

/// What a rule may say beside matches, action and limits.
struct Extras {
    /// Empty where the user gave none.
    name: Box<str>,
    grpc_web: bool,
    retry: Option<Retry>,
    affinity: Option<Affinity>,
    concurrency: Option<Concurrency>,
    path: Option<PathEdit>,
    host: Option<Text>,
    request_headers: HeaderEdits,
    response_headers: HeaderEdits,
    plugins: Vec<PluginLink>,
    mirrors: Vec<MirrorSpec>,
}

struct MirrorSpec {
    /// Resource key, or what was asked for in vain.
    target: Arc<str>,
    resolved: bool,
    millionths: u32,
}

enum ActionSpec {
    /// Mostly one, which stands in place.
    Forward(SmallVec<[BackendSpec; 1]>),
    Redirect(Box<Redirect>),
    Respond(Box<DirectResponse>),
    Closed(Box<str>),
}

enum PluginLink {
    Ref(Arc<str>),
    Inline(Arc<ReadyPlugin>),
}

/// A plugin with its settings compiled, to be put into chains.
pub(super) struct ReadyPlugin {
    name: String,
    /// Its type.
    kind: Box<str>,
    plugin: Arc<dyn Plugin>,
    stage: Option<Stage>,
    priority: i32,
    parallel: bool,
    failure_policy: FailurePolicy,
    run_on_local_reply: bool,
}

impl ReadyPlugin {
    /// # Errors
    /// Settings that cannot be used, or a stage that the type has not.
    pub(super) fn compile(plugin: model::Plugin) -> Result<Self, String> {
        let ready = Self {
            plugin: plugins::compile(&plugin.kind, &plugin.settings).map_err(|e| e.to_string())?,
            name: plugin.name,
            kind: plugin.kind.into(),
            stage: plugin.stage,
            priority: plugin.priority,
            parallel: plugin.parallel,
            failure_policy: plugin.failure_policy,
            run_on_local_reply: plugin.run_on_local_reply,
        };
        Chain::new(vec![ready.entry(None)]).map_err(|e| e.to_string())?;
        Ok(ready)
    }

    fn entry(&self, meter: Option<Arc<dyn Meter>>) -> ChainEntry {
        ChainEntry {
            name: self.name.clone(),
            plugin: Arc::clone(&self.plugin),
            stage: self.stage,
            priority: self.priority,
            parallel: self.parallel,
            failure_policy: self.failure_policy,
            run_on_local_reply: self.run_on_local_reply,
            meter,
        }
    }
}

impl RuleSpec {
    /// # Errors
    /// The field and what is wrong with its expression or settings.
    pub(super) fn compile(
        route: &Arc<RouteInfo>,
        index: u32,
        rule: model::Rule,
        hosts: Option<&Arc<Regex>>,
        names: &Names,
    ) -> Result<Self, String> {
        let model::Rule {
            name,
            matches,
            precedence,
            action,
            rewrite,
            request_headers,
            response_headers,
            timeouts,
            max_request_body,
            retry,
            affinity,
            mirrors,
            concurrency,
            grpc_web,
            hides_methods,
            plugins,
        } = rule;
        let matcher = |(i, m)| Matcher::compile(m, i).map_err(|e| format!("matches[{i}].{e}"));
        let plugin = |(i, plugin)| match plugin {
            PluginUse::Ref(key) => Ok(PluginLink::Ref(names.of(key))),
            PluginUse::Inline(plugin) => ReadyPlugin::compile(*plugin)
                .map(|p| PluginLink::Inline(Arc::new(p)))
                .map_err(|e| format!("plugins[{i}]: {e}")),
        };
        let path = rewrite.path.map(|p| PathEdit::compile(p, hosts));
        let host = rewrite.host.map(|host| Text::compile(&host, hosts));
        let mut matches: Vec<_> = (0..).zip(matches).map(matcher).collect::<Result<_, _>>()?;
        matches.shrink_to_fit();
        let action = ActionSpec::new(action, hosts, names).map_err(|e| format!("redirect: {e}"))?;
        let mirror = |mirror| MirrorSpec::new(mirror, names);
        let extras = Extras {
            name: name.into(),
            grpc_web,
            retry,
            affinity,
            concurrency,
            path: path.transpose().map_err(|e| format!("rewrite: {e}"))?,
            host: host.transpose().map_err(|e| format!("rewrite.host: {e}"))?,
            request_headers,
            response_headers,
            mirrors: mirrors.into_iter().map(mirror).collect(),
            plugins: plugins
                .into_iter()
                .enumerate()
                .map(plugin)
                .collect::<Result<_, _>>()?,
        };
        Ok(Self {
            route: Arc::clone(route),
            index,
            precedence,
            timeouts: (timeouts != Timeouts::default()).then(|| Box::new(timeouts)),
            max_request_body,
            hides_methods,
            matches: SmallVec::from_vec(matches),
            action,
            extras: (!extras.is_nothing()).then(|| Box::new(extras)),
        })
    }

    /// Empty where the user gave none.
    pub fn name(&self) -> &str {
        self.extras.as_deref().map_or("", |extras| &extras.name)
    }

    /// Reads a little of all that a request of this rule is going to read. Where there are thousands of rules none of it
    /// is in the cache, and a processor waits once for what it is asked for together, but each time for what comes
    /// one after the other.
    pub(super) fn warm(&self) {
        let backend = match &self.action {
            ActionSpec::Forward(backends) => backends.first().map(BackendSpec::weight),
            _ => None,
        };
        let path = self.matches.first().and_then(Matcher::first_byte);
        black_box((self.max_request_body, self.extras.is_some(), backend, path));
    }

    fn extras(&self) -> &Extras {
        static NOTHING: LazyLock<Extras> = LazyLock::new(|| Extras {
            name: Box::default(),
            grpc_web: false,
            retry: None,
            affinity: None,
            concurrency: None,
            path: None,
            host: None,
            request_headers: NO_EDITS,
            response_headers: NO_EDITS,
            plugins: Vec::new(),
            mirrors: Vec::new(),
        });
        self.extras.as_deref().unwrap_or_else(|| &NOTHING)
    }

    /// Keys of the upstreams that it names.
    pub(super) fn upstreams(&self) -> impl Iterator<Item = &Arc<str>> {
        let backends = match &self.action {
            ActionSpec::Forward(backends) => &**backends,
            _ => &[],
        };
        let mirrors = self.extras().mirrors.iter().filter(|m| m.resolved);
        let backends = backends.iter().filter(|b| b.resolved);
        backends
            .map(|b| &b.target)
            .chain(mirrors.map(|m| &m.target))
    }

    /// Keys of the plugin resources that it names.
    pub(super) fn plugins(&self) -> impl Iterator<Item = &Arc<str>> {
        self.extras().plugins.iter().filter_map(|p| match p {
            PluginLink::Ref(key) => Some(key),
            PluginLink::Inline(_) => None,
        })
    }
}

impl std::fmt::Debug for RuleSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RuleSpec({} rules[{}])", self.route.key, self.index)
    }
}

pub(super) const NO_EDITS: HeaderEdits = HeaderEdits {
    set: Vec::new(),
    add: Vec::new(),
    remove: Vec::new(),
};

impl Extras {
    fn is_nothing(&self) -> bool {
        let Self {
            name,
            grpc_web,
            retry,
            affinity,
            concurrency,
            path,
            host,
            request_headers,
            response_headers,
            plugins,
            mirrors,
        } = self;
        name.is_empty()
            && !grpc_web
            && retry.is_none()
            && affinity.is_none()
            && concurrency.is_none()
            && path.is_none()
            && host.is_none()
            && request_headers.is_empty()
            && response_headers.is_empty()
            && plugins.is_empty()
            && mirrors.is_empty()
    }
}

impl ActionSpec {
    fn new(
        action: model::Action,
        hosts: Option<&Arc<Regex>>,
        names: &Names,
    ) -> Result<Self, String> {
        let backend = |backend| BackendSpec::new(backend, names);
        Ok(match action {
            model::Action::Forward(backends) => {
                Self::Forward(backends.into_iter().map(backend).collect())
            }
            model::Action::Redirect(redirect) => {
                Self::Redirect(Box::new(Redirect::compile(redirect, hosts)?))
            }
            model::Action::Respond(response) => Self::Respond(Box::new(response)),
            model::Action::Closed { code } => Self::Closed(code.into()),
        })
    }
}

impl MirrorSpec {
    fn new(mirror: model::Mirror, names: &Names) -> Self {
        let (target, resolved) = names.of_target(mirror.target);
        Self {
            target,
            resolved,
            millionths: mirror.millionths,
        }
    }
}

/// Where copies of a rule's requests go.
pub struct Mirror {
    /// `None`: there are no copies.
    pub upstream: Option<Arc<Upstream>>,
    /// Key of the upstream, or what the Route asked for in vain.
    pub target: Arc<str>,
    /// Of the requests.
    pub millionths: u32,
}

/// A rule, ready to serve.
pub struct Rule {
    pub spec: Arc<RuleSpec>,
    /// Counters of its Route, found with the first request: here, so that none reads more of the Route.
    pub stats: OnceLock<Arc<RouteStats>>,
    link: Link,
    /// Most rules have none of it.
    extras: Option<Box<LinkedExtras>>,
}

/// What few rules have, beside where they lead to.
struct LinkedExtras {
    /// `None`: it has no plugins.
    chain: Option<Chain>,
    mirrors: Box<[Mirror]>,
    /// `concurrency`, and how long a request may wait.
    gate: Option<(Arc<Gate>, Duration)>,
}

impl LinkedExtras {
    fn is_nothing(&self) -> bool {
        self.chain.is_none() && self.mirrors.is_empty() && self.gate.is_none()
    }
}

enum Link {
    /// Nothing to link: redirects, answers, closed rules.
    AsSpec,
    Forward(LinkedBackends),
    /// A plugin resource is missing. The rule never runs without it.
    PluginMissing,
}

/// What ends a request's way through the pipeline.
#[derive(Clone, Copy)]
pub enum Action<'t> {
    Forward(WeightedBackends<'t>),
    Redirect(&'t Redirect),
    Respond(&'t DirectResponse),
    /// 500 with this code of the error catalogue. The chain of such a rule is empty.
    Closed {
        code: &'t str,
    },
}

/// Where links lead to.
pub(super) trait Links {
    fn upstream(&self, key: &str) -> Option<Arc<Upstream>>;
    fn plugin(&self, key: &str) -> Option<Arc<ReadyPlugin>>;
    /// Who is told of runs of plugins of a type.
    fn meter(&self, kind: &str) -> Arc<dyn Meter>;
    /// The gate of this rule of a Route, with these bounds from now on.
    fn gate(&self, route: &Arc<str>, rule: u32, bounds: &Concurrency) -> Arc<Gate>;
}

impl Rule {
    pub(super) fn link(spec: Arc<RuleSpec>, links: &impl Links) -> Self {
        let bare = |spec, link| Self {
            spec,
            link,
            stats: OnceLock::new(),
            extras: None,
        };
        let Some(chain) = chain(&spec, links) else {
            return bare(spec, Link::PluginMissing);
        };
        let link = match &spec.action {
            ActionSpec::Forward(backends) => Link::Forward(LinkedBackends::new(backends, links)),
            ActionSpec::Closed(_) => return bare(spec, Link::AsSpec),
            ActionSpec::Redirect(_) | ActionSpec::Respond(_) => Link::AsSpec,
        };
        let gate = spec.extras().concurrency.as_ref().map(|bounds| {
            let gate = links.gate(&spec.route.key, spec.index, bounds);
            (gate, Duration::from_millis(bounds.queue_timeout_ms.into()))
        });
        let mirror = |m: &MirrorSpec| Mirror {
            upstream: m.resolved.then(|| links.upstream(&m.target)).flatten(),
            target: Arc::clone(&m.target),
            millionths: m.millionths,
        };
        let mirrors: Box<[Mirror]> = spec.extras().mirrors.iter().map(mirror).collect();
        let extras = LinkedExtras {
            chain,
            mirrors,
            gate,
        };
        Self {
            extras: (!extras.is_nothing()).then(|| Box::new(extras)),
            spec,
            link,
            stats: OnceLock::new(),
        }
    }

    /// See [`RuleSpec::warm`].
    pub(super) fn warm(&self) {
        black_box(self.extras.is_some());
    }

    /// The name, or `rules[N]` where the user gave none.
    pub fn label(&self) -> String {
        match self.spec.name() {
            "" => format!("rules[{}]", self.spec.index),
            name => name.to_owned(),
        }
    }

    /// Its plugins.
    pub fn chain(&self) -> &Chain {
        static EMPTY: LazyLock<Chain> = LazyLock::new(Chain::default);
        let chain = self.extras.as_deref().and_then(|e| e.chain.as_ref());
        chain.unwrap_or_else(|| &EMPTY)
    }

    pub fn mirrors(&self) -> &[Mirror] {
        self.extras.as_deref().map_or(&[], |extras| &extras.mirrors)
    }

    pub fn timeouts(&self) -> &Timeouts {
        static DEFAULT: LazyLock<Timeouts> = LazyLock::new(Timeouts::default);
        self.spec.timeouts.as_deref().unwrap_or_else(|| &DEFAULT)
    }

    /// `None`: one more attempt where nothing was sent.
    pub fn retry(&self) -> Option<&Retry> {
        self.spec.extras().retry.as_ref()
    }

    pub fn affinity(&self) -> Option<&Affinity> {
        self.spec.extras().affinity.as_ref()
    }

    /// How many requests may be under way at once, and how long one may wait; `None`: without bound.
    pub fn gate(&self) -> Option<&(Arc<Gate>, Duration)> {
        self.extras.as_deref()?.gate.as_ref()
    }

    /// Bytes; more is 413 `request_too_large`.
    pub fn max_request_body(&self) -> u64 {
        self.spec.max_request_body
    }

    /// Whether gRPC-Web is made gRPC, and back.
    pub fn translates_grpc_web(&self) -> bool {
        self.spec.extras().grpc_web
    }

    pub fn request_headers(&self) -> &HeaderEdits {
        &self.spec.extras().request_headers
    }

    pub fn response_headers(&self) -> &HeaderEdits {
        &self.spec.extras().response_headers
    }

    /// Host for the upstream of a request to `client_host` (without port): the rule's, else the upstream's own;
    /// `None`: that of the client.
    pub fn host<'a>(&'a self, client_host: &str, upstream: &'a Upstream) -> Option<Cow<'a, str>> {
        match &self.spec.extras().host {
            Some(host) => Some(host.of(client_host)),
            None => upstream.settings.authority.as_deref().map(Cow::Borrowed),
        }
    }

    pub fn action(&self) -> Action<'_> {
        match (&self.link, &self.spec.action) {
            (Link::PluginMissing, _) => Action::Closed {
                code: "plugin_error",
            },
            (Link::Forward(linked), ActionSpec::Forward(backends)) => {
                Action::Forward(WeightedBackends::new(backends, linked))
            }
            (Link::AsSpec, ActionSpec::Redirect(redirect)) => Action::Redirect(redirect),
            (Link::AsSpec, ActionSpec::Respond(response)) => Action::Respond(response),
            (Link::AsSpec, ActionSpec::Closed(code)) => Action::Closed { code },
            // `link` makes no such rule.
            (Link::AsSpec, ActionSpec::Forward(_)) | (Link::Forward(_), _) => Action::Closed {
                code: "internal_error",
            },
        }
    }

    /// The request target for an upstream, path and query, written to `out`; `None`: as the client sent it.
    ///
    /// The rule's rewrite comes first, then the upstream's own path is put before it. The query stays. A target that
    /// is no path (`OPTIONS *`) stays, too.
    pub fn target<'o>(
        &self,
        host: &str,
        path: &str,
        query: Option<&str>,
        prefix_len: usize,
        upstream: &Upstream,
        out: &'o mut String,
    ) -> Option<&'o str> {
        let edit = self.spec.extras().path.as_ref();
        if (edit.is_none() && upstream.settings.path_prefix.is_empty()) || !path.starts_with('/') {
            return None;
        }
        out.clear();
        out.push_str(&upstream.settings.path_prefix);
        match edit {
            Some(edit) => edit.apply(host, path, prefix_len, out),
            None => out.push_str(path),
        }
        if let Some(query) = query {
            out.push('?');
            out.push_str(query);
        }
        Some(out)
    }
}

impl std::fmt::Debug for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rule({} {})", self.spec.route.key, self.label())
    }
}

/// `None` when a plugin resource is missing, `Some(None)` where there are no plugins.
fn chain(spec: &RuleSpec, links: &impl Links) -> Option<Option<Chain>> {
    let plugins = &spec.extras().plugins;
    if plugins.is_empty() {
        return Some(None);
    }
    let measured = |plugin: &ReadyPlugin| plugin.entry(Some(links.meter(&plugin.kind)));
    let entry = |link: &PluginLink| match link {
        PluginLink::Ref(key) => links.plugin(key).map(|plugin| measured(&plugin)),
        PluginLink::Inline(plugin) => Some(measured(plugin)),
    };
    let entries: Option<Vec<_>> = plugins.iter().map(entry).collect();
    // Each entry has made a chain of its own before, so this does not fail; if it did, the rule would be closed.
    Chain::new(entries?).ok().map(Some)
}

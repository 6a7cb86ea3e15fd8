//! The part of compiling that can fail: expressions and plugin settings, each resource by itself.

use super::rule::{ReadyPlugin, RouteInfo, Rule, RuleSpec};
use model::{EndpointShard, HostPattern, Listener};
use snapshot::{Change, Changes, Kind};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

pub(super) type Key = Arc<str>;

/// A resource that cannot be compiled, and why: it goes into the NACK and from there to the object's condition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind:?} {key}: {reason}")]
pub struct Rejected {
    pub kind: Kind,
    pub key: String,
    pub reason: String,
}

/// A compiled Route, linked or not.
pub(super) struct Route<R = Arc<Rule>> {
    pub(super) listeners: Box<[Key]>,
    pub(super) hosts: Box<[HostPattern]>,
    pub(super) rules: Box<[R]>,
}

/// Decoded and compiled, but for the links; nothing has changed yet. The last change of a key counts.
pub(super) struct Staged {
    pub(super) full: bool,
    pub(super) listeners: BTreeMap<String, Option<Listener>>,
    pub(super) routes: BTreeMap<String, Option<Route<Arc<RuleSpec>>>>,
    pub(super) upstreams: BTreeMap<String, Option<model::Upstream>>,
    pub(super) shards: BTreeMap<String, Option<EndpointShard>>,
    pub(super) plugins: BTreeMap<String, Option<Arc<ReadyPlugin>>>,
}

impl Staged {
    pub(super) fn compile(changes: Changes) -> Result<Self, Vec<Rejected>> {
        let mut rejected = Vec::new();
        let plugins = stage(changes.plugins, Kind::Plugin, &mut rejected, |_, plugin| {
            ReadyPlugin::compile(plugin).map(Arc::new)
        });
        let routes = stage(changes.routes, Kind::Route, &mut rejected, compile_route);
        if !rejected.is_empty() {
            return Err(rejected);
        }
        Ok(Self {
            full: changes.full,
            listeners: as_map(changes.listeners),
            upstreams: as_map(changes.upstreams),
            shards: as_map(changes.shards),
            routes,
            plugins,
        })
    }
}

fn as_map<T>(changes: Vec<Change<T>>) -> BTreeMap<String, Option<T>> {
    changes.into_iter().map(|c| (c.key, c.item)).collect()
}

fn stage<T, U>(
    changes: Vec<Change<T>>,
    kind: Kind,
    rejected: &mut Vec<Rejected>,
    compile: impl Fn(&str, T) -> Result<U, String>,
) -> BTreeMap<String, Option<U>> {
    let mut staged = BTreeMap::new();
    for (key, item) in as_map(changes) {
        match item.map(|item| compile(&key, item)).transpose() {
            Ok(item) => {
                staged.insert(key, item);
            }
            Err(reason) => rejected.push(Rejected { kind, key, reason }),
        }
    }
    staged
}

fn compile_route(key: &str, route: model::Route) -> Result<Route<Arc<RuleSpec>>, String> {
    let model::Route {
        origin,
        created,
        listeners,
        hosts,
        rules,
    } = route;
    let info = Arc::new(RouteInfo {
        key: key.into(),
        origin,
        created,
        stats: OnceLock::new(),
    });
    let rule = |(i, rule)| {
        let spec = RuleSpec::compile(&info, i, rule).map_err(|e| format!("rules[{i}].{e}"))?;
        Ok::<_, String>(Arc::new(spec))
    };
    Ok(Route {
        rules: (0..).zip(rules).map(rule).collect::<Result<_, _>>()?,
        listeners: listeners.into_iter().map(Key::from).collect(),
        hosts: hosts.into(),
    })
}

//! The part of compiling that can fail: expressions and plugin settings, each resource by itself.

use super::names::Names;
use super::rule::{ReadyPlugin, RouteInfo, Rule, RuleSpec};
use crate::engine::tls::{ClientAuth, ServerCertificate, TlsPolicy, TlsSettings};
use crate::telemetry::access_log::Plan;
use crate::telemetry::otlp::Tracing;
use crate::tls;
use model::pattern::whole;
use model::{Certificate, EndpointShard, HostPattern, Listener, ListenerProtocol, TlsVersion};
use rustls::crypto::CryptoProvider;
use snapshot::{Change, Changes, Kind};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
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
    pub(super) listeners: ByKey<ReadyListener>,
    pub(super) routes: ByKey<Route<Arc<RuleSpec>>>,
    pub(super) upstreams: ByKey<model::Upstream>,
    pub(super) shards: ByKey<EndpointShard>,
    pub(super) plugins: ByKey<Arc<ReadyPlugin>>,
    pub(super) certificates: ByKey<ReadyCertificate>,
}

/// What is there from now on under a key; `None`: nothing.
pub(super) type ByKey<T> = BTreeMap<Key, Option<T>>;

/// A listener whose settings for TLS and the access log have been checked.
pub(super) struct ReadyListener {
    pub(super) listener: Listener,
    pub(super) tls: Option<TlsPolicy>,
    pub(super) access_log: Option<Arc<Plan>>,
    pub(super) tracing: Option<Tracing>,
}

/// A certificate in a form in which it can be shown.
#[derive(Clone)]
pub(super) struct ReadyCertificate {
    pub(super) server: Arc<ServerCertificate>,
    /// As it came, for upstreams that are shown it.
    pub(super) pem: Arc<Certificate>,
}

impl Staged {
    pub(super) fn compile(changes: Changes) -> Result<Self, Vec<Rejected>> {
        let mut rejected = Vec::new();
        let plugins = stage(changes.plugins, Kind::Plugin, &mut rejected, |_, plugin| {
            ReadyPlugin::compile(plugin).map(Arc::new)
        });
        let names = Names::default();
        let routes = stage(changes.routes, Kind::Route, &mut rejected, |key, route| {
            compile_route(key, route, &names)
        });
        let provider = tls::provider();
        let listeners = stage(changes.listeners, Kind::Listener, &mut rejected, |_, l| {
            compile_listener(l, &provider)
        });
        let certificates = stage(
            changes.certificates,
            Kind::Certificate,
            &mut rejected,
            |_, c: Certificate| {
                let server =
                    ServerCertificate::parse(c.chain.as_bytes(), c.key.reveal(), &provider)?;
                Ok(ReadyCertificate {
                    server: Arc::new(server),
                    pem: Arc::new(c),
                })
            },
        );
        if !rejected.is_empty() {
            return Err(rejected);
        }
        Ok(Self {
            full: changes.full,
            listeners,
            certificates,
            upstreams: stage(changes.upstreams, Kind::Upstream, &mut rejected, as_it_is),
            shards: stage(changes.shards, Kind::EndpointShard, &mut rejected, as_it_is),
            routes,
            plugins,
        })
    }
}

fn as_it_is<T>(_: &Key, item: T) -> Result<T, String> {
    Ok(item)
}

/// Compiles one item after the other, so that not all of them are there in both forms.
fn stage<T, U>(
    changes: Vec<Change<T>>,
    kind: Kind,
    rejected: &mut Vec<Rejected>,
    compile: impl Fn(&Key, T) -> Result<U, String>,
) -> ByKey<U> {
    let mut staged = BTreeMap::new();
    let begin = rejected.len();
    // The last one counts, so it comes first.
    for Change { key, item } in changes.into_iter().rev() {
        let Entry::Vacant(place) = staged.entry(Key::from(key)) else {
            continue;
        };
        match item.map(|item| compile(place.key(), item)).transpose() {
            Ok(item) => {
                place.insert(item);
            }
            Err(reason) => rejected.push(Rejected {
                kind,
                key: place.insert_entry(None).key().to_string(),
                reason,
            }),
        }
    }
    if let Some(of_this) = rejected.get_mut(begin..) {
        of_this.sort_by(|a, b| a.key.cmp(&b.key));
    }
    staged
}

fn compile_listener(
    listener: Listener,
    provider: &Arc<CryptoProvider>,
) -> Result<ReadyListener, String> {
    let tls = match (listener.protocol, &listener.tls) {
        (ListenerProtocol::Http, None) => None,
        (ListenerProtocol::Https, Some(tls)) => Some(TlsPolicy::new(
            &TlsSettings {
                only_newest: tls.min_version == TlsVersion::V1_3,
                cipher_suites: &tls.cipher_suites,
                client: tls.client.as_ref().map(|client| ClientAuth {
                    authorities: &client.authorities,
                    required: client.required,
                }),
            },
            provider,
        )?),
        _ => return Err("tls is for HTTPS listeners, which need it".to_owned()),
    };
    let log = listener.access_log.as_ref().map(Plan::compile).transpose();
    let log = log.map_err(|e| format!("accessLog: {e}"))?;
    let tracing = listener.tracing.as_ref().map(Tracing::new).transpose();
    let tracing = tracing.map_err(|e| format!("tracing: {e}"))?;
    Ok(ReadyListener {
        listener,
        tls,
        access_log: log.map(Arc::new),
        tracing,
    })
}

fn compile_route(
    key: &Key,
    route: model::Route,
    names: &Names,
) -> Result<Route<Arc<RuleSpec>>, String> {
    let model::Route {
        origin: _,
        created,
        listeners,
        hosts,
        rules,
    } = route;
    let info = Arc::new(RouteInfo {
        key: Arc::clone(key),
        created,
        stats: OnceLock::new(),
    });
    let host = hosts.iter().find_map(|host| match host {
        HostPattern::Regex(pattern) => Some(whole(pattern)),
        HostPattern::Any | HostPattern::Wildcard(_) | HostPattern::Exact(_) => None,
    });
    let host = host.transpose().map_err(|e| format!("hosts: {e}"))?;
    let host = host.map(Arc::new);
    let rule = |(i, rule)| {
        let spec = RuleSpec::compile(&info, i, rule, host.as_ref(), names)
            .map_err(|e| format!("rules[{i}].{e}"))?;
        Ok::<_, String>(Arc::new(spec))
    };
    Ok(Route {
        rules: (0..).zip(rules).map(rule).collect::<Result<_, _>>()?,
        listeners: listeners.into_iter().map(|l| names.of(l)).collect(),
        hosts: hosts.into(),
    })
}

//! The part of compiling that can fail: expressions and plugin settings, each resource by itself.

use super::names::Names;
use super::rule::{Membership, ReadyPlugin, RouteInfo, Rule, RuleSpec};
use crate::engine::tls::{ClientAuth, ServerCertificate, TlsPolicy, TlsSettings};
use crate::telemetry::access_log::Plan;
use crate::telemetry::apart::Found;
use crate::telemetry::otlp::Tracing;
use crate::tls;
use model::pattern::whole;
use model::{
    Certificate, EndpointShard, EndpointSource, HostPattern, Listener, ListenerProtocol,
    TlsVersion, endpoint_filter,
};
use rustls::crypto::CryptoProvider;
use snapshot::{Change, Changes, Kind};
use std::collections::BTreeMap;
use std::sync::Arc;

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

/// Compiled but for the links; nothing has changed yet. The last change of a key counts.
#[derive(Default)]
pub struct Staged {
    pub(super) full: bool,
    pub(super) listeners: ByKey<ReadyListener>,
    pub(super) routes: ByKey<Route<Arc<RuleSpec>>>,
    pub(super) upstreams: ByKey<model::Upstream>,
    pub(super) shards: ByKey<EndpointShard>,
    pub(super) plugins: ByKey<Arc<ReadyPlugin>>,
    pub(super) certificates: ByKey<ReadyCertificate>,
    pub(super) tenants: ByKey<model::Tenant>,
    pub(super) rejected: Vec<Rejected>,
    names: Names,
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
    /// Compiles a part of the changes. What cannot be compiled is told by [`super::Compiler::put`].
    pub fn add(&mut self, changes: Changes) {
        self.full |= changes.full;
        let (names, rejected) = (&self.names, &mut self.rejected);
        let provider = tls::provider();
        stage(
            changes.plugins,
            Kind::Plugin,
            &mut self.plugins,
            rejected,
            |_, plugin| ReadyPlugin::compile(plugin).map(Arc::new),
        );
        stage(
            changes.routes,
            Kind::Route,
            &mut self.routes,
            rejected,
            |key, route| compile_route(key, route, names),
        );
        stage(
            changes.listeners,
            Kind::Listener,
            &mut self.listeners,
            rejected,
            |_, l| compile_listener(l, &provider),
        );
        stage(
            changes.certificates,
            Kind::Certificate,
            &mut self.certificates,
            rejected,
            |_, c| ReadyCertificate::compile(c, &provider),
        );
        stage(
            changes.upstreams,
            Kind::Upstream,
            &mut self.upstreams,
            rejected,
            |_, upstream| check_filter(&upstream).map(|()| upstream),
        );
        let as_it_is = |_: &Key, shard| Ok(shard);
        stage(
            changes.shards,
            Kind::EndpointShard,
            &mut self.shards,
            rejected,
            as_it_is,
        );
        let as_it_is = |_: &Key, tenant| Ok(tenant);
        stage(
            changes.tenants,
            Kind::Tenant,
            &mut self.tenants,
            rejected,
            as_it_is,
        );
    }
}

impl ReadyCertificate {
    fn compile(certificate: Certificate, provider: &CryptoProvider) -> Result<Self, String> {
        let (chain, key) = (certificate.chain.as_bytes(), certificate.key.reveal());
        Ok(Self {
            server: Arc::new(ServerCertificate::parse(chain, key, provider)?),
            pem: Arc::new(certificate),
        })
    }
}

/// Compiles one item after the other, so that not all of them are there in both forms.
fn stage<T, U>(
    changes: Vec<Change<T>>,
    kind: Kind,
    staged: &mut ByKey<U>,
    rejected: &mut Vec<Rejected>,
    compile: impl Fn(&Key, T) -> Result<U, String>,
) {
    let begin = rejected.len();
    for Change { key, item } in changes {
        let key = Key::from(key);
        let (item, reason) = match item.map(|item| compile(&key, item)).transpose() {
            Ok(item) => (item, None),
            Err(reason) => (None, Some(reason)),
        };
        if staged.insert(Arc::clone(&key), item).is_some() {
            rejected.retain(|r| r.kind != kind || *r.key != *key);
        }
        rejected.extend(reason.map(|reason| Rejected {
            kind,
            key: key.to_string(),
            reason,
        }));
    }
    if let Some(of_these) = rejected.get_mut(begin..) {
        of_these.sort_by(|a, b| a.key.cmp(&b.key));
    }
}

fn compile_listener(
    listener: Listener,
    provider: &Arc<CryptoProvider>,
) -> Result<ReadyListener, String> {
    let tls = match (listener.protocol, &listener.tls) {
        (ListenerProtocol::Https, None) => {
            return Err("an HTTPS listener needs tls".to_owned());
        }
        (_, None) => None,
        (protocol, Some(tls)) if protocol.is_encrypted() => Some(TlsPolicy::new(
            &TlsSettings {
                only_newest: tls.min_version == TlsVersion::V1_3,
                cipher_suites: &tls.cipher_suites,
                client: tls.client.as_ref().map(|client| ClientAuth {
                    authorities: &client.authorities,
                    required: client.required,
                    any: client.any,
                }),
                opaque: protocol == ListenerProtocol::Tls,
            },
            provider,
        )?),
        _ => return Err("tls is for HTTPS and TLS listeners".to_owned()),
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

/// Where its endpoints change in place it is too late to refuse anything.
fn check_filter(upstream: &model::Upstream) -> Result<(), String> {
    if let EndpointSource::Discovery(discovery) = &upstream.source
        && let Some(filter) = &discovery.filter
    {
        endpoint_filter::compile(filter).map_err(|e| format!("discovery.filter: {e}"))?;
    }
    Ok(())
}

fn compile_route(
    key: &Key,
    route: model::Route,
    names: &Names,
) -> Result<Route<Arc<RuleSpec>>, String> {
    let model::Route {
        origin: _,
        created,
        tenant,
        listeners,
        hosts,
        rules,
    } = route;
    let info = Arc::new(RouteInfo {
        key: Arc::clone(key),
        created,
        tenant: tenant.map(|tenant| {
            Box::new(Membership {
                tenant: names.of(tenant),
                series: Found::default(),
            })
        }),
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

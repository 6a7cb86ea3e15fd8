//! What is in effect, as JSON. Nothing here holds a secret: routes and upstreams are shown by name, place and state.

use super::page::Page;
use crate::table::hosts::Entry;
use crate::table::{Action, ListenerTable, Registry, Rule, Table, Upstream};
use model::HostPattern;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Endpoints that are listed of one upstream.
const ENDPOINTS: usize = 50;

pub(super) fn listeners(table: &Table) -> Vec<Value> {
    let one = |(key, l): (&Arc<str>, &Arc<ListenerTable>)| {
        json!({
            "key": &**key,
            "port": l.listener.port,
            "protocol": l.listener.protocol,
            "hostname": l.listener.hostname,
            "hosts": l.hosts().count(),
        })
    };
    table.listeners.iter().map(one).collect()
}

/// One entry for each match of a rule for a host of a listener.
pub(super) fn routes(table: &Table, page: &Page) -> Value {
    let mut all: BTreeMap<String, (&str, &HostPattern, &Entry)> = BTreeMap::new();
    for (key, listener) in &table.listeners {
        for host in listener.hosts() {
            for entry in host.entries() {
                let spec = &entry.rule.spec;
                let (route, rule, matched) = (&spec.route.key, spec.index, entry.matcher().index);
                let place = format!("{key} {} {route} {rule:03} {matched:03}", host.pattern);
                all.insert(place, (key, &host.pattern, entry));
            }
        }
    }
    page.of(all, |_, (listener, host, entry)| {
        let rule: &Rule = &entry.rule;
        json!({
            "listener": listener,
            "host": host,
            "path": entry.matcher().path.to_string(),
            "rank": entry.rank(host).to_string(),
            "route": &*rule.spec.route.key,
            "rule": rule.label(),
            "match": entry.matcher().index,
            "action": action(rule),
        })
    })
}

fn action(rule: &Rule) -> Value {
    match rule.action() {
        Action::Forward(backends) => {
            let all = backends.iter();
            let one = |b: crate::table::Backend<'_>| json!({"target": b.target, "weight": b.weight, "resolved": b.upstream.is_some()});
            json!({"forward": all.map(one).collect::<Vec<_>>()})
        }
        Action::Redirect(redirect) => json!({"redirect": redirect.status}),
        Action::Respond(response) => json!({"respond": response.status}),
        Action::Closed { code } => json!({"closed": code}),
    }
}

pub(super) fn upstreams(registry: &Registry, page: &Page) -> Value {
    page.of(by_key(registry), |key, upstream| {
        let set = upstream.endpoints();
        let listed = set.endpoints().iter().take(ENDPOINTS).map(|e| {
            json!({
                "address": e.addr,
                "weight": e.weight,
                "ready": e.ready,
                "serving": e.serving,
                "inFlight": e.state.in_flight(),
                "requests": e.state.requests(),
                "failures": e.state.failures(),
                "ejected": e.state.is_ejected(),
                "failingChecks": e.state.is_failing_checks(),
                "pruned": e.state.is_pruned(),
            })
        });
        let registries = upstream.registries();
        let registries = registries.iter().map(|poll| {
            // The rest of the URL may hold a key.
            let url = poll.source.url.split('?').next();
            json!({"url": url, "trouble": poll.trouble.as_deref()})
        });
        json!({
            "key": key,
            "endpoints": listed.collect::<Vec<_>>(),
            "endpointCount": set.endpoints().len(),
            "registries": registries.collect::<Vec<_>>(),
        })
    })
}

/// Whether each upstream can serve.
pub(super) fn health(registry: &Registry, page: &Page) -> Value {
    page.of(by_key(registry), |key, upstream| {
        let set = upstream.endpoints();
        json!({
            "key": key,
            "serves": !set.candidates().is_empty(),
            "candidates": set.candidates().len(),
            "panicking": set.is_panicking(),
            "endpoints": set.endpoints().len(),
        })
    })
}

fn by_key(registry: &Registry) -> impl Iterator<Item = (Arc<str>, Arc<Upstream>)> {
    let all = registry.all().into_iter();
    all.map(|upstream| (Arc::clone(&upstream.key), upstream))
}

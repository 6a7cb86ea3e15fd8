//! Watching the matcher at work. Traffic is served by [`Silent`], of which nothing is left after compilation;
//! `explain` uses [`Trace`]. Both go through the same [`find`](super::ListenerTable::find).

use super::Query;
use super::hosts::{Entry, HostRules};
use super::matcher::{Predicate, Refusal};
use model::PathMatch;
use model::headers::Known;
use serde::Serialize;
use std::collections::BTreeSet;

/// Is told what the matcher does.
pub trait Observer {
    /// Also look at candidates that cannot win any more.
    const EXHAUSTIVE: bool = false;

    /// A host level is entered: its rules are tried next.
    fn level(&mut self, _: &HostRules) {}

    /// The path fits, something else does not.
    fn refused(&mut self, _: &HostRules, _: &Entry, _: Refusal<'_>) {}

    /// It matches, and another one that matches ranks higher.
    fn outranked(&mut self, _: &HostRules, _: &Entry) {}
}

/// Watches nothing.
pub struct Silent;

impl Observer for Silent {}

/// A rule that did not get the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NearMiss {
    /// `NAMESPACE/NAME` of the Route.
    pub route: String,
    /// Name of the rule, or `rules[N]`.
    pub rule: String,
    pub host: String,
    pub path: String,
    pub rank: String,
    pub why: String,
}

/// Most near misses that are kept.
pub const NEAR_MISSES: usize = 20;

/// Collects near misses: first those whose path fits, then those that have only the host right.
pub struct Trace<'q> {
    query: &'q Query<'q>,
    near: Vec<NearMiss>,
    /// Rules of entered hosts whose path does not fit, nearest first; rank and place keep the order total.
    elsewhere: BTreeSet<(
        std::cmp::Reverse<usize>,
        std::cmp::Reverse<model::Rank>,
        NearMissKey,
    )>,
}

type NearMissKey = (String, String, String);

impl<'q> Trace<'q> {
    pub fn new(query: &'q Query<'q>) -> Self {
        Self {
            query,
            near: Vec::new(),
            elsewhere: BTreeSet::new(),
        }
    }

    /// What was collected, at most [`NEAR_MISSES`].
    pub fn near_misses(self) -> Vec<NearMiss> {
        let path = self.query.path;
        let far = self
            .elsewhere
            .into_iter()
            .map(|(_, rank, (rule, host, wants))| NearMiss {
                route: rank.0.route.0.clone(),
                rule,
                host,
                why: format!("path {path:?} is not covered by {wants}"),
                path: wants,
                rank: rank.0.to_string(),
            });
        self.near.into_iter().chain(far).take(NEAR_MISSES).collect()
    }

    fn note(&mut self, host: &HostRules, entry: &Entry, why: String) {
        if self.near.len() < NEAR_MISSES {
            self.near.push(NearMiss {
                route: entry.rule.spec.route.key.to_string(),
                rule: entry.rule.label(),
                host: host.pattern.to_string(),
                path: entry.matcher().path.to_string(),
                rank: entry.rank(&host.pattern).to_string(),
                why,
            });
        }
    }
}

impl Observer for Trace<'_> {
    const EXHAUSTIVE: bool = true;

    fn level(&mut self, host: &HostRules) {
        for entry in host.entries() {
            let m = entry.matcher();
            if m.covers(self.query.path) {
                continue;
            }
            let common = match &m.path {
                PathMatch::Exact(p) | PathMatch::Prefix(p) => common_len(p, self.query.path),
                PathMatch::Regex(_) => 0,
            };
            let place = (
                entry.rule.label(),
                host.pattern.to_string(),
                m.path.to_string(),
            );
            let rank = entry.rank(&host.pattern);
            self.elsewhere
                .insert((std::cmp::Reverse(common), std::cmp::Reverse(rank), place));
            if self.elsewhere.len() > NEAR_MISSES {
                self.elsewhere.pop_last();
            }
        }
    }

    fn refused(&mut self, host: &HostRules, entry: &Entry, refusal: Refusal<'_>) {
        let why = why(self.query, entry, refusal);
        self.note(host, entry, why);
    }

    fn outranked(&mut self, host: &HostRules, entry: &Entry) {
        self.note(host, entry, "matches, but ranks lower".to_owned());
    }
}

fn common_len(a: &str, b: &str) -> usize {
    a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count()
}

fn why(q: &Query<'_>, entry: &Entry, refusal: Refusal<'_>) -> String {
    match refusal {
        Refusal::Method => {
            let methods = entry.matcher().conditions().methods.iter();
            let methods: Vec<&str> = methods.map(|m| m.as_str()).collect();
            format!("method is {}, wants {}", q.method, methods.join(" or "))
        }
        Refusal::Header(Predicate { name, .. }) if Known::of(name.as_bytes()).is_secret() => {
            format!("header {name} is not as the rule wants it")
        }
        Refusal::Header(Predicate { name, wants, .. }) => {
            let is = match q.headers.get(name) {
                None => "absent".to_owned(),
                Some(value) => format!("\"{}\"", value.escape_ascii()),
            };
            format!("header {name} is {is}, wants {wants}")
        }
        Refusal::Query(Predicate { name, wants, .. }) => {
            let is = match q.query.and_then(|text| model::query::first(text, name)) {
                None => "absent".to_owned(),
                Some(value) => format!("{value:?}"),
            };
            format!("query parameter {name} is {is}, wants {wants}")
        }
        // Cookies are credentials, their values are not shown.
        Refusal::Cookie(Predicate { name, .. }) => {
            format!("cookie {name} is not as the rule wants it")
        }
        Refusal::Owner(owner) => match &entry.rule.spec.route.tenant {
            Some(own) => format!(
                "host {} belongs to Tenant {owner}, the Route to Tenant {}",
                q.host, own.tenant
            ),
            None => format!(
                "host {} belongs to Tenant {owner}, the Route to none",
                q.host
            ),
        },
        Refusal::Client(networks) => {
            let networks: Vec<String> = networks.iter().map(ToString::to_string).collect();
            let networks = networks.join(" or ");
            if q.client.is_unspecified() {
                format!("the client's address is not given, wants {networks}")
            } else {
                format!("client {} is not in {networks}", q.client)
            }
        }
    }
}

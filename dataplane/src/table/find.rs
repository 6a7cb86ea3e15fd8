//! The matcher: which rule answers a request. Traffic and `explain` use the same function.

use super::ListenerTable;
use super::hosts::{Entry, HostRules};
use super::matcher::{Matcher, Refusal};
use super::observe::{Observer, Silent};
use super::rule::Rule;
use crate::by_host;
use model::{Headers, HostPattern, Rank};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::Arc;

/// What a request is matched by.
#[derive(Clone, Copy, Debug)]
pub struct Query<'q> {
    pub method: &'q str,
    /// Canonical: lower case, without port and final dot. Empty: the request names none.
    pub host: &'q str,
    /// In the normal form of the edge gate.
    pub path: &'q str,
    /// Without the question mark.
    pub query: Option<&'q str>,
    pub headers: &'q Headers,
    /// The client's address, behind proxies that are trusted; an IPv4 address is never in its mapped IPv6 form.
    /// Unspecified: not known, and in no network.
    pub client: IpAddr,
}

/// The answer of the matcher.
#[derive(Debug)]
pub enum Found<'t> {
    Rule(Matched<'t>),
    /// 405: some rule would match, were it not for the method.
    MethodNotAllowed {
        /// Value of the `Allow` field: the methods that would do, sorted.
        allow: String,
    },
    /// 404 `route_not_found`.
    NotFound,
}

/// The rule that answers.
#[derive(Clone, Copy, Debug)]
pub struct Matched<'t> {
    pub rule: &'t Arc<Rule>,
    /// The part of the Route's hosts that the listener lets through.
    pub host: &'t HostPattern,
    pub matcher: &'t Matcher,
    /// Bytes of the path that `stripPrefix` and `replacePrefix` are about.
    pub prefix_len: usize,
    entry: &'t Entry,
    level: &'t HostRules,
}

impl<'t> Matched<'t> {
    /// The key by which it won.
    pub fn rank(&self) -> Rank {
        self.entry.rank(self.host)
    }
}

impl ListenerTable {
    /// Finds the rule of a request.
    ///
    /// Hosts are tried from the exact one over wildcards and expressions, longest first, to the rules of any host; a
    /// level where nothing matches hands over to the next. `precedence` stands above all that, and costs only where it is used.
    /// Where the host belongs to a Tenant, Routes of others are passed over at every level.
    pub fn find<'t, O: Observer>(&'t self, q: &Query<'_>, observer: &mut O) -> Found<'t> {
        if !self.listener.hostname.covers(q.host) {
            return Found::NotFound;
        }
        let mut best: Option<Matched<'t>> = None;
        let mut wrong_method = false;
        let exhaustive = O::EXHAUSTIVE || self.has_precedence();
        let owner = self.owners.get(q.host);
        let _ = self.levels(q.host, |host| {
            observer.level(host);
            for entry in host.candidates(q.path) {
                if let Err(refusal) = entry.judge(q, owner) {
                    wrong_method |=
                        matches!(refusal, Refusal::Method) && !entry.rule.spec.hides_methods;
                    observer.refused(host, entry, refusal);
                    continue;
                }
                // Candidates come in the order of rank but for precedence, so of equals the first stays.
                let precedence = entry.precedence();
                match &best {
                    Some(b) if b.entry.precedence() >= precedence => {
                        observer.outranked(host, entry);
                        continue;
                    }
                    Some(b) => observer.outranked(b.level, b.entry),
                    None => {}
                }
                best = Some(Matched::new(host, entry, q.path));
                if !exhaustive {
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        });
        match best {
            Some(matched) => Found::Rule(matched),
            None if wrong_method => Found::MethodNotAllowed {
                allow: self.allowed(q),
            },
            None => Found::NotFound,
        }
    }

    /// As [`Self::find`], watched by nobody.
    pub fn find_silently<'t>(&'t self, q: &Query<'_>) -> Found<'t> {
        self.find(q, &mut Silent)
    }

    /// Walks the hosts that cover a name, the most specific first.
    fn levels<'t>(
        &'t self,
        name: &str,
        mut visit: impl FnMut(&'t HostRules) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        if let Some(host) = self.exact.get(name) {
            visit(host)?;
        }
        for len in self.wildcard_lengths.iter() {
            if let Some(suffix) = by_host::suffix(name, len)
                && let Some(host) = self.wildcard.get(suffix)
            {
                visit(host)?;
            }
        }
        for host in &self.regexes {
            if host.matches(name) {
                visit(host)?;
            }
        }
        match &self.any {
            Some(host) => visit(host),
            None => ControlFlow::Continue(()),
        }
    }

    /// The methods of all rules that refuse the request for its method alone. Not on the way of served requests.
    fn allowed(&self, q: &Query<'_>) -> String {
        let mut methods = BTreeSet::new();
        let owner = self.owners.get(q.host);
        let _ = self.levels(q.host, |host| {
            for entry in host.candidates(q.path) {
                if let Err(Refusal::Method) = entry.judge(q, owner)
                    && !entry.rule.spec.hides_methods
                {
                    let wanted = &entry.matcher().conditions().methods;
                    methods.extend(wanted.iter().map(|m| m.as_str()));
                }
            }
            ControlFlow::Continue(())
        });
        methods.into_iter().collect::<Vec<_>>().join(", ")
    }
}

impl<'t> Matched<'t> {
    fn new(host: &'t HostRules, entry: &'t Entry, path: &str) -> Self {
        Self {
            rule: &entry.rule,
            host: &host.pattern,
            matcher: entry.matcher(),
            prefix_len: entry.matcher().prefix_len(path),
            entry,
            level: host,
        }
    }
}

//! The order in which matches win (F3), as one comparable tuple.
//!
//! The table sorts by it and `diolkos explain` prints it: the score that a user sees is the key that sorted.

use crate::{HostPattern, Match, PathMatch};
use std::cmp::Reverse;
use std::fmt;

/// Greater wins. The last fields make the order total: the older object, then namespace and name, then the position
/// of rule and match inside the Route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// `rules[].precedence`; 0 where the user gave none. It stands above the host.
    pub precedence: i32,
    pub host: HostRank,
    pub path: PathRank,
    pub method: bool,
    /// Header and cookie conditions.
    pub headers: usize,
    pub query: usize,
    /// Whether the client's address is asked for.
    pub clients: bool,
    /// Seconds since the epoch at which the Route object was created.
    pub created: Reverse<i64>,
    pub route: Reverse<String>,
    pub rule: Reverse<u32>,
    pub matched: Reverse<u32>,
}

/// Exact hosts before wildcards, longer wildcards before shorter, then expressions, longer ones before shorter, any
/// host last. Expressions of one length stand in the order of their text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostRank {
    Any,
    Regex(usize, Reverse<String>),
    Wildcard(usize),
    Exact,
}

impl HostRank {
    pub fn of(host: &HostPattern) -> Self {
        match host {
            HostPattern::Any => Self::Any,
            HostPattern::Regex(pattern) => Self::Regex(pattern.len(), Reverse(pattern.to_string())),
            HostPattern::Wildcard(suffix) => Self::Wildcard(suffix.len()),
            HostPattern::Exact(_) => Self::Exact,
        }
    }
}

/// An exact path before prefixes, the longest prefix first, then regular expressions, the longest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathRank {
    Regex(usize),
    Prefix(usize),
    Exact,
}

impl PathRank {
    pub fn of(path: &PathMatch) -> Self {
        match path {
            PathMatch::Exact(_) => Self::Exact,
            PathMatch::Prefix(v) => Self::Prefix(v.len()),
            PathMatch::Regex(v) => Self::Regex(v.len()),
        }
    }
}

impl Rank {
    /// The rank of match number `matched` of rule number `rule` of a Route, for one of its hosts.
    pub fn new(
        precedence: i32,
        host: &HostPattern,
        m: &Match,
        created: i64,
        route: &str,
        rule: u32,
        matched: u32,
    ) -> Self {
        Self {
            precedence,
            host: HostRank::of(host),
            path: PathRank::of(&m.path),
            method: !m.methods.is_empty(),
            headers: m.headers.len() + m.cookies.len(),
            query: m.query.len(),
            clients: !m.clients.is_empty(),
            created: Reverse(created),
            route: Reverse(route.to_owned()),
            rule: Reverse(rule),
            matched: Reverse(matched),
        }
    }
}

/// `precedence=0 host=exact path=prefix(4) method=yes headers=1 query=0 clients=no`
impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "precedence={} host=", self.precedence)?;
        match &self.host {
            HostRank::Any => f.write_str("any")?,
            HostRank::Regex(n, _) => write!(f, "regex({n})")?,
            HostRank::Wildcard(n) => write!(f, "wildcard({n})")?,
            HostRank::Exact => f.write_str("exact")?,
        }
        match self.path {
            PathRank::Exact => f.write_str(" path=exact")?,
            PathRank::Prefix(n) => write!(f, " path=prefix({n})")?,
            PathRank::Regex(n) => write!(f, " path=regex({n})")?,
        }
        let said = |is: bool| if is { "yes" } else { "no" };
        write!(
            f,
            " method={} headers={} query={} clients={}",
            said(self.method),
            self.headers,
            self.query,
            said(self.clients)
        )
    }
}

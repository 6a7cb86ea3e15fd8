//! The rules of one host, and the sharded map from hosts to them.

use super::matcher::Matcher;
use super::rule::Rule;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use model::pattern::whole;
use model::{HostPattern, HostRank, PathMatch, PathRank, Rank};
use regex::Regex;
use std::cmp::Reverse;
use std::hash::BuildHasher;
use std::sync::{Arc, LazyLock};

pub(super) type Map<V> = HashMap<Box<str>, V, FixedState>;

/// One match of one rule, as it stands in the list of a host.
#[derive(Clone, Debug)]
pub struct Entry {
    pub rule: Arc<Rule>,
    pub matcher: Arc<Matcher>,
}

impl Entry {
    /// The key that sorted it (F3).
    pub fn rank(&self, host: &HostPattern) -> Rank {
        let spec = &self.rule.spec;
        let m = &self.matcher;
        Rank {
            precedence: spec.precedence,
            host: HostRank::of(host),
            path: PathRank::of(&m.path),
            method: !m.methods.is_empty(),
            headers: m.headers.len() + m.cookies.len(),
            query: m.query.len(),
            clients: !m.clients.is_empty(),
            created: Reverse(spec.route.created),
            route: Reverse(spec.route.key.to_string()),
            rule: Reverse(spec.index),
            matched: Reverse(m.index),
        }
    }
}

/// Everything that one host pattern serves on one listener. Lists are in the order of rank, best first.
#[derive(Debug)]
pub struct HostRules {
    pub pattern: HostPattern,
    /// Of [`HostPattern::Regex`].
    host_regex: Option<Regex>,
    pub(super) exact: Map<Box<[Entry]>>,
    /// By prefix as in [`PathMatch::Prefix`].
    pub(super) prefix: Map<Box<[Entry]>>,
    /// The lengths of prefixes that exist, longest first: only these are looked up.
    lengths: Box<[usize]>,
    pub(super) regex: Box<[Entry]>,
    /// Whether some rule has a precedence other than 0.
    pub(super) has_precedence: bool,
}

impl HostRules {
    pub(super) fn new(pattern: HostPattern, entries: impl Iterator<Item = Entry>) -> Self {
        let mut ranked: Vec<(Rank, Entry)> = entries.map(|e| (e.rank(&pattern), e)).collect();
        ranked.sort_unstable_by(|(a, _), (b, _)| b.cmp(a));
        let mut exact: HashMap<&str, Vec<Entry>, FixedState> = HashMap::default();
        let mut prefix: HashMap<&str, Vec<Entry>, FixedState> = HashMap::default();
        let mut regex = Vec::new();
        for (_, entry) in &ranked {
            match &entry.matcher.path {
                PathMatch::Exact(path) => exact.entry(path).or_default().push(entry.clone()),
                PathMatch::Prefix(path) => prefix.entry(path).or_default().push(entry.clone()),
                PathMatch::Regex(_) => regex.push(entry.clone()),
            }
        }
        let freeze = |map: HashMap<&str, Vec<Entry>, FixedState>| -> Map<Box<[Entry]>> {
            map.into_iter()
                .map(|(path, list)| (path.into(), list.into()))
                .collect()
        };
        let mut lengths: Vec<usize> = prefix.keys().map(|p| p.len()).collect();
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        lengths.dedup();
        Self {
            has_precedence: ranked.iter().any(|(rank, _)| rank.precedence != 0),
            exact: freeze(exact),
            prefix: freeze(prefix),
            lengths: lengths.into(),
            regex: regex.into(),
            host_regex: match &pattern {
                // It has been compiled before, with the Route.
                HostPattern::Regex(expression) => whole(expression).ok(),
                HostPattern::Any | HostPattern::Wildcard(_) | HostPattern::Exact(_) => None,
            },
            pattern,
        }
    }

    /// Whether an expression, which is this host's pattern, matches a host.
    pub(super) fn matches(&self, host: &str) -> bool {
        self.host_regex.as_ref().is_some_and(|r| r.is_match(host))
    }

    /// The entries whose path fits, best path first; within one path best rank first.
    pub(super) fn candidates<'t>(&'t self, path: &str) -> impl Iterator<Item = &'t Entry> {
        let exact = self.exact.get(path).map_or(&[][..], |list| list).iter();
        let prefixes = self
            .lengths
            .iter()
            .filter_map(|len| {
                let (head, rest) = path.split_at_checked(*len)?;
                if !rest.is_empty() && !rest.starts_with('/') {
                    return None;
                }
                self.prefix.get(head)
            })
            .flatten();
        let fits = move |e: &&Entry| {
            e.matcher
                .path_regex
                .as_ref()
                .is_some_and(|r| r.is_match(path))
        };
        exact.chain(prefixes).chain(self.regex.iter().filter(fits))
    }

    /// Every entry, in no particular order.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        let lists = self.exact.values().chain(self.prefix.values());
        lists.flatten().chain(&self.regex)
    }
}

const SHARDS: usize = 256;

/// A map from host names to their rules that shares all but the touched shards with the map it was cloned from.
#[derive(Clone, Debug)]
pub(super) struct Sharded {
    shards: Box<[Arc<Map<Arc<HostRules>>>]>,
    len: usize,
}

impl Default for Sharded {
    fn default() -> Self {
        static EMPTY: LazyLock<Arc<Map<Arc<HostRules>>>> = LazyLock::new(Arc::default);
        Self {
            shards: (0..SHARDS).map(|_| Arc::clone(&EMPTY)).collect(),
            len: 0,
        }
    }
}

impl Sharded {
    /// Bits that the maps inside use neither for the bucket nor for the tag.
    fn place(host: &str) -> usize {
        (FixedState::default().hash_one(host) >> 40) as usize % SHARDS
    }

    pub(super) fn get(&self, host: &str) -> Option<&Arc<HostRules>> {
        if self.len == 0 {
            return None;
        }
        self.shards.get(Self::place(host))?.get(host)
    }

    /// Sets or removes a host and gives what was there.
    pub(super) fn put(
        &mut self,
        host: &str,
        rules: Option<Arc<HostRules>>,
    ) -> Option<Arc<HostRules>> {
        let shard = Arc::make_mut(self.shards.get_mut(Self::place(host))?);
        let added = usize::from(rules.is_some());
        let before = match rules {
            Some(rules) => shard.insert(host.into(), rules),
            None => shard.remove(host),
        };
        self.len = self.len + added - usize::from(before.is_some());
        before
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<HostRules>> {
        self.shards.iter().flat_map(|shard| shard.values())
    }

    #[cfg(test)]
    pub(super) fn shards(&self) -> &[Arc<Map<Arc<HostRules>>>] {
        &self.shards
    }
}

/// The distinct lengths of wildcard suffixes on a listener with how many there are of each, longest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Lengths(Vec<(usize, usize)>);

impl Lengths {
    pub(super) fn add(&mut self, len: usize) {
        match self.0.binary_search_by(|(l, _)| len.cmp(l)) {
            Ok(i) => {
                if let Some((_, count)) = self.0.get_mut(i) {
                    *count += 1;
                }
            }
            Err(i) => self.0.insert(i, (len, 1)),
        }
    }

    pub(super) fn remove(&mut self, len: usize) {
        if let Ok(i) = self.0.binary_search_by(|(l, _)| len.cmp(l))
            && let Some((_, count)) = self.0.get_mut(i)
        {
            *count -= 1;
            if *count == 0 {
                self.0.remove(i);
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().map(|(len, _)| *len)
    }
}

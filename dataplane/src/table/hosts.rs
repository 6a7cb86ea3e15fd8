//! The rules of one host, and the sharded map from hosts to them.

use super::Query;
use super::matcher::{Matcher, Refusal};
use super::rule::{Rule, RuleSpec};
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use model::pattern::whole;
use model::{HostPattern, HostRank, PathMatch, PathRank, Rank, SmolStr};
use regex::Regex;
use std::cmp::Reverse;
use std::hash::BuildHasher;
use std::sync::{Arc, LazyLock};

/// One match of one rule, as it stands in the list of a host.
#[derive(Clone, Debug)]
pub struct Entry {
    pub rule: Arc<Rule>,
    /// That of the rule, for those who look for one: they need not wait for the rule itself.
    spec: Arc<RuleSpec>,
    /// Place of the match in the rule.
    at: u32,
}

impl Entry {
    /// All matches of a rule.
    pub(super) fn all(rule: &Arc<Rule>) -> impl Iterator<Item = Self> {
        // More would not fit a message.
        let count = rule.spec.matches.len() as u32;
        (0..count).map(|at| Self {
            rule: Arc::clone(rule),
            spec: Arc::clone(&rule.spec),
            at,
        })
    }

    pub fn matcher(&self) -> &Matcher {
        let found = self.spec.matches.get(self.at as usize);
        found.unwrap_or(Matcher::NOTHING)
    }

    /// See [`RuleSpec::warm`].
    fn warm(&self) {
        self.spec.warm();
        self.rule.warm();
    }

    pub(super) fn precedence(&self) -> i32 {
        self.spec.precedence
    }

    /// Everything but host and path of a request. `owner`: whose the host is.
    pub(super) fn judge<'t>(
        &'t self,
        q: &Query<'_>,
        owner: Option<&'t Arc<str>>,
    ) -> Result<(), Refusal<'t>> {
        if let Some(owner) = owner
            && !self.spec.route.is_of(owner)
        {
            return Err(Refusal::Owner(owner));
        }
        self.matcher().judge(q)
    }

    /// The key that sorted it (F3).
    pub fn rank(&self, host: &HostPattern) -> Rank {
        let spec = &self.spec;
        let m = self.matcher();
        let asks = m.conditions();
        Rank {
            precedence: spec.precedence,
            host: HostRank::of(host),
            path: PathRank::of(&m.path),
            method: !asks.methods.is_empty(),
            headers: asks.headers.len() + asks.cookies.len(),
            query: asks.query.len(),
            clients: !asks.clients.is_empty(),
            created: Reverse(spec.route.created),
            route: Reverse(spec.route.key.to_string()),
            rule: Reverse(spec.index),
            matched: Reverse(m.index),
        }
    }
}

/// Everything that one host pattern serves on one listener.
#[derive(Clone, Debug)]
pub struct HostRules {
    pub pattern: HostPattern,
    entries: Entries,
}

/// What most hosts have stands in place: a host takes less than a line of memory, of which a request reads all.
#[derive(Clone, Debug)]
enum Entries {
    /// Of a rule without precedence, on a host that is no expression.
    One(Entry),
    Many(Arc<Many>),
}

#[derive(Debug)]
struct Many {
    /// Exact paths, then prefixes from the longest to the shortest, then expressions; within one path, as among the
    /// expressions, best rank first.
    entries: Box<[Entry]>,
    /// Of [`HostPattern::Regex`].
    host_regex: Option<Regex>,
    /// Where there are more paths than are looked through one by one.
    index: Option<Index>,
    /// Whether some rule has a precedence other than 0.
    has_precedence: bool,
}

/// The entries of a host by path.
#[derive(Debug, Default)]
struct Index {
    exact: HashTable<Group>,
    prefix: HashTable<Group>,
    /// The lengths of prefixes that exist, longest first: only these are looked up.
    lengths: Box<[usize]>,
    /// Entries before the expressions.
    literal: usize,
}

/// The entries of one path, by their place in the list.
type Group = (u32, u32);

/// So many entries are compared one by one: that is quicker than to hash a path.
const FEW: usize = 8;

impl HostRules {
    pub(super) fn new(pattern: HostPattern, mut entries: Vec<Entry>) -> Self {
        if entries.len() > 1 {
            entries.sort_by_cached_key(|entry| {
                let path = match &entry.matcher().path {
                    PathMatch::Exact(path) => (0, Reverse(path.len()), path.clone()),
                    PathMatch::Prefix(path) => (1, Reverse(path.len()), path.clone()),
                    PathMatch::Regex(_) => (2, Reverse(0), SmolStr::default()),
                };
                (path, Reverse(entry.rank(&pattern)))
            });
        }
        let has_precedence = entries.iter().any(|e| e.precedence() != 0);
        let is_regex = matches!(pattern, HostPattern::Regex(_));
        let entries = match <[Entry; 1]>::try_from(entries) {
            Ok([entry]) if !has_precedence && !is_regex => Entries::One(entry),
            others => {
                let entries = others.map_or_else(Vec::into_boxed_slice, |one| Box::new(one));
                Entries::Many(Arc::new(Many::new(&pattern, entries, has_precedence)))
            }
        };
        Self { pattern, entries }
    }

    fn many(&self) -> Option<&Many> {
        match &self.entries {
            Entries::One(_) => None,
            Entries::Many(many) => Some(many),
        }
    }

    fn all(&self) -> &[Entry] {
        match &self.entries {
            Entries::One(entry) => std::slice::from_ref(entry),
            Entries::Many(many) => &many.entries,
        }
    }

    /// See [`RuleSpec::warm`].
    fn warm(&self) {
        if let Entries::One(entry) = &self.entries {
            entry.warm();
        }
    }

    /// Whether some rule has a precedence other than 0.
    pub(super) fn has_precedence(&self) -> bool {
        self.many().is_some_and(|many| many.has_precedence)
    }

    /// Whether an expression, which is this host's pattern, matches a host.
    pub(super) fn matches(&self, host: &str) -> bool {
        let regex = self.many().and_then(|many| many.host_regex.as_ref());
        regex.is_some_and(|r| r.is_match(host))
    }

    /// The entries whose path fits, best path first; within one path best rank first.
    pub(super) fn candidates<'t>(&'t self, path: &str) -> impl Iterator<Item = &'t Entry> {
        let index = self.many().and_then(|many| many.index.as_ref());
        let found = index.map(|index| index.candidates(self.all(), path));
        let others = self.all().get(index.map_or(0, |index| index.literal)..);
        let others = others.unwrap_or_default().iter();
        let others = others.filter(move |entry| entry.matcher().covers(path));
        found.into_iter().flatten().chain(others)
    }

    /// Every entry.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.all().iter()
    }
}

impl Many {
    fn new(pattern: &HostPattern, entries: Box<[Entry]>, has_precedence: bool) -> Self {
        Self {
            host_regex: match pattern {
                // It has been compiled before, with the Route.
                HostPattern::Regex(expression) => whole(expression).ok(),
                HostPattern::Any | HostPattern::Wildcard(_) | HostPattern::Exact(_) => None,
            },
            index: (entries.len() > FEW).then(|| Index::new(&entries)),
            has_precedence,
            entries,
        }
    }
}

impl Index {
    /// Of entries in the order of [`HostRules::entries`].
    fn new(entries: &[Entry]) -> Self {
        let mut index = Self::default();
        let mut lengths = Vec::new();
        for group in entries.chunk_by(|a, b| a.matcher().path == b.matcher().path) {
            let (table, path) = match group.first().map(|entry| &entry.matcher().path) {
                Some(PathMatch::Exact(path)) => (&mut index.exact, path),
                Some(PathMatch::Prefix(path)) => {
                    lengths.push(path.len());
                    (&mut index.prefix, path)
                }
                Some(PathMatch::Regex(_)) | None => break,
            };
            let (begin, end) = (index.literal, index.literal + group.len());
            index.literal = end;
            // A list longer than that would not fit the memory.
            let place = (begin as u32, end as u32);
            table.insert_unique(hash(path), place, |at| hash(path_of(entries, *at)));
        }
        lengths.dedup();
        index.lengths = lengths.into();
        index.exact.shrink_to_fit(|at| hash(path_of(entries, *at)));
        index.prefix.shrink_to_fit(|at| hash(path_of(entries, *at)));
        index
    }

    fn candidates<'t>(
        &'t self,
        entries: &'t [Entry],
        path: &str,
    ) -> impl Iterator<Item = &'t Entry> {
        let get = move |table: &HashTable<Group>, path: &str| {
            let same = |at: &Group| {
                if let Some(entry) = entries.get(at.0 as usize) {
                    entry.warm();
                }
                path_of(entries, *at) == path
            };
            let (begin, end) = *table.find(hash(path), same)?;
            entries.get(begin as usize..end as usize)
        };
        let exact = if self.exact.is_empty() {
            None
        } else {
            get(&self.exact, path)
        };
        let prefixes = self.lengths.iter().filter_map(move |len| {
            let (head, rest) = path.split_at_checked(*len)?;
            if !rest.is_empty() && !rest.starts_with('/') {
                return None;
            }
            get(&self.prefix, head)
        });
        exact.into_iter().chain(prefixes).flatten()
    }
}

fn hash(text: &str) -> u64 {
    FixedState::default().hash_one(text)
}

/// The path of a group, which is no expression.
fn path_of(entries: &[Entry], (begin, _): Group) -> &str {
    match entries
        .get(begin as usize)
        .map(|entry| &entry.matcher().path)
    {
        Some(PathMatch::Exact(path) | PathMatch::Prefix(path)) => path,
        Some(PathMatch::Regex(_)) | None => "",
    }
}

const SHARDS: usize = 256;

/// Hosts of one shard, each found by its name or suffix. They stand in place: copies of a few dozen cost little, and
/// whoever looks for one is there.
type Shard = HashTable<HostRules>;

/// A map from host names to their rules that shares all but the touched shards with the map it was cloned from.
#[derive(Clone, Debug)]
pub(super) struct Sharded {
    shards: Box<[Arc<Shard>]>,
    len: usize,
}

impl Default for Sharded {
    fn default() -> Self {
        static EMPTY: LazyLock<Arc<Shard>> = LazyLock::new(Arc::default);
        Self {
            shards: (0..SHARDS).map(|_| Arc::clone(&EMPTY)).collect(),
            len: 0,
        }
    }
}

impl Sharded {
    /// Bits that the tables inside use neither for the bucket nor for the tag.
    fn place(hash: u64) -> usize {
        (hash >> 40) as usize % SHARDS
    }

    pub(super) fn get(&self, host: &str) -> Option<&HostRules> {
        if self.len == 0 {
            return None;
        }
        let hash = hash(host);
        let shard = self.shards.get(Self::place(hash))?;
        shard.find(hash, |rules| {
            rules.warm();
            rules.pattern.text() == host
        })
    }

    /// Sets or removes a host and gives what was there.
    pub(super) fn put(&mut self, host: &str, rules: Option<HostRules>) -> Option<HostRules> {
        let hash = hash(host);
        let shard = Arc::make_mut(self.shards.get_mut(Self::place(hash))?);
        let added = usize::from(rules.is_some());
        let same = |rules: &HostRules| rules.pattern.text() == host;
        let before = match shard.find_entry(hash, same) {
            Ok(there) => Some(there.remove().0),
            Err(_) => None,
        };
        if let Some(rules) = rules {
            shard.insert_unique(hash, rules, |rules| self::hash(rules.pattern.text()));
        }
        self.len = self.len + added - usize::from(before.is_some());
        before
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &HostRules> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }

    #[cfg(test)]
    pub(super) fn shards(&self) -> &[Arc<Shard>] {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_takes_less_than_a_line_of_memory() {
        assert!(size_of::<HostRules>() <= 56);
    }
}

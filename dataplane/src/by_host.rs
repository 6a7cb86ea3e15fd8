//! Which of several things a host belongs to: the one with its very name, else the one with the longest wildcard that
//! covers it, else the one of any host (Gateway API, listeners that are distinct by hostname alone).

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use model::HostPattern;

type Map<T> = HashMap<Box<str>, T, FixedState>;

/// Things by the pattern of their hosts.
#[derive(Clone, Debug)]
pub struct ByHost<T> {
    exact: Map<T>,
    /// By suffix, as in [`HostPattern::Wildcard`].
    wildcard: Map<T>,
    /// The lengths of these suffixes, longest first.
    lengths: Vec<usize>,
    any: Option<T>,
}

impl<T> Default for ByHost<T> {
    fn default() -> Self {
        Self {
            exact: Map::default(),
            wildcard: Map::default(),
            lengths: Vec::new(),
            any: None,
        }
    }
}

impl<T> ByHost<T> {
    /// Adds something, unless there is one of this pattern, or the pattern is an expression, which has no rank.
    pub fn add(&mut self, pattern: &HostPattern, item: T) -> bool {
        let free = match pattern {
            HostPattern::Any if self.any.is_none() => {
                self.any = Some(item);
                return true;
            }
            HostPattern::Any | HostPattern::Regex(_) => return false,
            HostPattern::Exact(name) => self.exact.entry(Box::from(&**name)),
            HostPattern::Wildcard(suffix) => self.wildcard.entry(Box::from(&**suffix)),
        };
        let Entry::Vacant(place) = free else {
            return false;
        };
        place.insert(item);
        if let HostPattern::Wildcard(suffix) = pattern
            && let Err(at) = self.lengths.binary_search_by(|len| suffix.len().cmp(len))
        {
            self.lengths.insert(at, suffix.len());
        }
        true
    }

    /// What a canonical host (lower case, without port and final dot) belongs to.
    pub fn get(&self, host: &str) -> Option<&T> {
        if let Some(found) = self.exact.get(host) {
            return Some(found);
        }
        let suffixes = self.lengths.iter().filter_map(|len| suffix(host, *len));
        let mut found = suffixes.filter_map(|suffix| self.wildcard.get(suffix));
        found.next().or(self.any.as_ref())
    }
}

/// The last `len` bytes of a host, where at least one label stands before them.
pub(crate) fn suffix(host: &str, len: usize) -> Option<&str> {
    // One byte at least for the label, and the dot behind it.
    let at = host.len().checked_sub(len + 1).filter(|at| *at > 0)?;
    host.get(at..)?.strip_prefix('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_pattern_has_the_host() {
        let mut all = ByHost::default();
        for pattern in [
            "*.example.com",
            "*",
            "*.foo.example.com",
            "abc.foo.example.com",
        ] {
            let pattern = HostPattern::parse(pattern).unwrap();
            assert!(all.add(&pattern, pattern.to_string()));
            assert!(!all.add(&pattern, "another".to_owned()));
        }
        assert!(!all.add(&HostPattern::Regex(".*".into()), String::new()));
        for (host, pattern) in [
            ("abc.foo.example.com", "abc.foo.example.com"),
            ("x.abc.foo.example.com", "*.foo.example.com"),
            ("foo.example.com", "*.example.com"),
            ("example.com", "*"),
            (".example.com", "*"),
            ("", "*"),
        ] {
            assert_eq!(all.get(host).map(String::as_str), Some(pattern), "{host}");
        }
        assert_eq!(ByHost::<()>::default().get("a"), None);
    }
}

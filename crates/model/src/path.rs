//! What a rule asks of the request's path.

use smol_str::SmolStr;
use std::fmt;

/// A path predicate. Values are in the normal form that the edge gate gives to request paths.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "PascalCase", tag = "type", content = "value")]
pub enum PathMatch {
    /// The whole path, byte for byte.
    Exact(SmolStr),
    /// By segments: `/open` takes `/open` and `/open/x`, never `/openai` (F7). Stored without the final slash, so
    /// that `/` is the empty string.
    Prefix(SmolStr),
    /// A regular expression that must match the whole path.
    Regex(SmolStr),
}

impl PathMatch {
    /// A prefix from what a user wrote; one final slash means nothing (Gateway API, HTTPPathMatch).
    pub fn prefix(value: &str) -> Self {
        Self::Prefix(value.strip_suffix('/').unwrap_or(value).into())
    }

    /// What matches every path: what a rule without a path means.
    pub fn any() -> Self {
        Self::Prefix(SmolStr::default())
    }

    /// Whether a prefix, stored as in [`Self::Prefix`], covers `path`.
    pub fn prefix_covers(prefix: &str, path: &str) -> bool {
        path.strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// Appends `path` with `with` in the place of its first `prefix_len` bytes, which end at a segment.
pub fn replace_prefix(path: &str, prefix_len: usize, with: &str, out: &mut String) {
    let rest = path.get(prefix_len..).unwrap_or_default();
    if rest.is_empty() {
        out.push_str(if with.is_empty() { "/" } else { with });
        return;
    }
    out.push_str(with.trim_end_matches('/'));
    // All but the target of `OPTIONS *` has one.
    if !rest.starts_with('/') {
        out.push('/');
    }
    out.push_str(rest);
}

impl fmt::Display for PathMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(v) => write!(f, "Exact {v}"),
            Self::Prefix(v) if v.is_empty() => f.write_str("PathPrefix /"),
            Self::Prefix(v) => write!(f, "PathPrefix {v}"),
            Self::Regex(v) => write!(f, "RegularExpression {v}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn prefixes_end_at_a_segment() {
        for (prefix, path, yes) in [
            ("/open", "/open", true),
            ("/open", "/open/", true),
            ("/open", "/open/x", true),
            ("/open", "/openai", false),
            ("/open/", "/open", true),
            ("/", "/anything", true),
            ("/", "/", true),
            ("/a/b", "/a", false),
        ] {
            let PathMatch::Prefix(stored) = PathMatch::prefix(prefix) else {
                unreachable!()
            };
            assert_eq!(
                PathMatch::prefix_covers(&stored, path),
                yes,
                "{prefix} {path}"
            );
        }
    }

    #[test]
    fn a_prefix_is_replaced_by_segments() {
        for (path, prefix_len, with, result) in [
            ("/old/a", 4, "/new", "/new/a"),
            ("/old/a", 4, "/new/", "/new/a"),
            ("/old/a", 4, "/", "/a"),
            ("/old/a", 4, "", "/a"),
            ("/old", 4, "/new", "/new"),
            ("/old", 4, "", "/"),
            ("/old/a", 0, "/new", "/new/old/a"),
            ("*", 0, "/new", "/new/*"),
        ] {
            let mut out = String::new();
            replace_prefix(path, prefix_len, with, &mut out);
            assert_eq!(out, result, "{path} {prefix_len} {with}");
        }
    }

    proptest! {
        /// The definition by segments, written the slow way, agrees.
        #[test]
        fn equals_the_definition_by_segments(a in "(/[ab]{0,2}){0,4}", b in "(/[ab]{0,2}){1,5}") {
            let stored = a.strip_suffix('/').unwrap_or(&a);
            let (p, q): (Vec<_>, Vec<_>) = (stored.split('/').collect(), b.split('/').collect());
            let slow = q.len() >= p.len() && p.iter().zip(&q).all(|(x, y)| x == y);
            prop_assert_eq!(PathMatch::prefix_covers(stored, &b), slow);
        }
    }
}

//! Host patterns of Routes and listeners.

use crate::pattern;
use smol_str::SmolStr;
use std::fmt;

/// Longest host name that DNS allows, in bytes (RFC 1035 2.3.4).
pub const MAX_HOST_BYTES: usize = 253;

/// Which hosts a Route or a listener serves. Short names stand in place, so that who looks for one finds it at once;
/// copies share longer ones.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostPattern {
    /// Every host, also a request that names none (HTTP/1.0).
    Any,
    /// `*.example.com`: any host with one or more labels before `.example.com`; holds `example.com`.
    Wildcard(SmolStr),
    /// One host, or an IP address literal.
    Exact(SmolStr),
    /// Hosts that an expression matches as a whole (`hostnameRegex`); its named groups are at hand in rewrites.
    Regex(SmolStr),
}

/// Why a text is not a host pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHostname {
    #[error("a hostname is not empty and has at most {MAX_HOST_BYTES} characters")]
    Length,
    #[error("a label has 1 to 63 of a-z, 0-9 and '-', and neither begins nor ends with '-'")]
    Label,
    #[error("'*' stands only as the whole first label, as in *.example.com")]
    Wildcard,
}

impl HostPattern {
    /// Parses `shop.example.com` or `*.example.com`, ignoring case. An empty list of hostnames means [`Self::Any`];
    /// a lone `*` is accepted with the same meaning.
    ///
    /// # Errors
    /// [`InvalidHostname`] for anything that is not a DNS name (RFC 1123) or wildcard of one.
    pub fn parse(text: &str) -> Result<Self, InvalidHostname> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let lower = text.to_ascii_lowercase();
        if let Some(rest) = lower.strip_prefix("*.") {
            check_name(rest)?;
            return Ok(Self::Wildcard(rest.into()));
        }
        if lower.contains('*') {
            return Err(InvalidHostname::Wildcard);
        }
        check_name(&lower)?;
        Ok(Self::Exact(lower.into()))
    }

    /// The name, the suffix or the expression; empty for [`Self::Any`].
    pub fn text(&self) -> &str {
        match self {
            Self::Any => "",
            Self::Wildcard(text) | Self::Exact(text) | Self::Regex(text) => text,
        }
    }

    /// Whether a canonical host (lower case, without port and final dot) is covered. An expression is compiled anew
    /// with each call.
    pub fn covers(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(name) => **name == *host,
            Self::Wildcard(suffix) => host
                .strip_suffix(&**suffix)
                .and_then(|rest| rest.strip_suffix('.'))
                .is_some_and(|label| !label.is_empty()),
            Self::Regex(pattern) => pattern::whole(pattern).is_ok_and(|regex| regex.is_match(host)),
        }
    }

    /// The hosts that both patterns cover, or `None` where they share none (Gateway API: intersection of listener
    /// and route hostnames). What an expression and a wildcard share is not known; it is the expression then, and the
    /// listener still looks at each host.
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Any, x) | (x, Self::Any) => Some(x.clone()),
            (Self::Regex(a), Self::Regex(b)) => (a == b).then(|| self.clone()),
            (regex @ Self::Regex(_), Self::Exact(name))
            | (Self::Exact(name), regex @ Self::Regex(_)) => {
                regex.covers(name).then(|| regex.clone())
            }
            (regex @ Self::Regex(_), Self::Wildcard(_))
            | (Self::Wildcard(_), regex @ Self::Regex(_)) => Some(regex.clone()),
            (Self::Exact(name), x) | (x, Self::Exact(name)) => {
                x.covers(name).then(|| Self::Exact(name.clone()))
            }
            (Self::Wildcard(a), Self::Wildcard(b)) => {
                let within = |inner: &str, outer: &str| {
                    inner == outer || inner.ends_with(&format!(".{outer}"))
                };
                if within(a, b) {
                    Some(self.clone())
                } else if within(b, a) {
                    Some(other.clone())
                } else {
                    None
                }
            }
        }
    }
}

fn check_name(name: &str) -> Result<(), InvalidHostname> {
    if name.is_empty() || name.len() > MAX_HOST_BYTES {
        return Err(InvalidHostname::Length);
    }
    for label in name.split('.') {
        let plain = label
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if label.is_empty()
            || label.len() > 63
            || !plain
            || label.starts_with('-')
            || label.ends_with('-')
        {
            return Err(InvalidHostname::Label);
        }
    }
    Ok(())
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Wildcard(suffix) => write!(f, "*.{suffix}"),
            Self::Exact(name) => f.write_str(name),
            Self::Regex(pattern) => write!(f, "~{pattern}"),
        }
    }
}

impl serde::Serialize for HostPattern {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(text: &str) -> HostPattern {
        HostPattern::parse(text).unwrap()
    }

    #[test]
    fn parses_and_lowers() {
        assert_eq!(
            p("Shop.Example.COM"),
            HostPattern::Exact("shop.example.com".into())
        );
        assert_eq!(
            p("*.Example.com"),
            HostPattern::Wildcard("example.com".into())
        );
        assert_eq!(p("*"), HostPattern::Any);
        for bad in [
            "", "a..b", "-a.b", "a*.b", "*.*.b", "a.*.b", "*.", "a_b", "a:80", "a/b",
        ] {
            assert!(HostPattern::parse(bad).is_err(), "{bad}");
        }
        assert!(HostPattern::parse(&"a.".repeat(200)).is_err());
    }

    #[test]
    fn a_wildcard_takes_one_or_more_labels_and_never_the_bare_name() {
        let w = p("*.example.com");
        assert!(w.covers("a.example.com") && w.covers("a.b.example.com"));
        assert!(!w.covers("example.com") && !w.covers("aexample.com") && !w.covers(".example.com"));
    }

    #[test]
    fn intersections() {
        assert_eq!(p("*.a.b").intersect(&p("x.a.b")), Some(p("x.a.b")));
        assert_eq!(p("*.b").intersect(&p("*.a.b")), Some(p("*.a.b")));
        assert_eq!(HostPattern::Any.intersect(&p("*.b")), Some(p("*.b")));
        assert_eq!(p("x.b").intersect(&p("y.b")), None);
        assert_eq!(p("*.xb").intersect(&p("*.b")), None);
        let regex = HostPattern::Regex("[xy].b".into());
        assert_eq!(regex.intersect(&p("x.b")), Some(regex.clone()));
        assert_eq!(p("z.b").intersect(&regex), None);
        assert_eq!(p("*.b").intersect(&regex), Some(regex.clone()));
        assert_eq!(HostPattern::Any.intersect(&regex), Some(regex.clone()));
        assert!(regex.covers("y.b") && !regex.covers("y.bb"));
    }
}

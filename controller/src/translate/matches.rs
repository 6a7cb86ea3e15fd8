//! What a rule matches.

use super::lowering::Lowering;
use super::values;
use crate::report::{Field, Reason};
use crds::{PathMatchType, RouteMatch, ValueMatchType};
use model::{
    CookieMatch, HeaderMatch, Match, Method, PathMatch, QueryMatch, Route, Rule, ValueMatch,
};

impl Lowering<'_> {
    /// `None` when a part of it cannot be understood; the problems say which.
    pub(super) fn one_match(&mut self, field: Field<'_>, m: &RouteMatch) -> Option<Match> {
        let path = match &m.path {
            None => Some(PathMatch::any()),
            Some(path) => self.path_match(&format_args!("{field}.path"), path),
        };
        let mut whole = true;
        let mut methods = Vec::with_capacity(m.methods.len());
        for (i, name) in m.methods.iter().enumerate() {
            match Method::parse(name) {
                Some(method) => methods.push(method),
                None => {
                    let message = format!("{:?} is not a method", name.as_str());
                    self.error(format!("{field}.methods[{i}]"), Reason::Invalid, message);
                    whole = false;
                }
            }
        }
        // The order of methods means nothing; equal matches shall be equal bytes.
        methods.sort();
        methods.dedup();
        let mut headers = Vec::with_capacity(m.headers.len());
        for (i, h) in m.headers.iter().enumerate() {
            let at = format_args!("{field}.headers[{i}]");
            if !model::headers::is_token(h.name.as_bytes()) {
                let message = format!("{:?} is not a header name", h.name.as_str());
                self.error(format!("{at}.name"), Reason::Invalid, message);
                whole = false;
            }
            let value = self.value_match(&at, h.type_, h.value.as_deref());
            match value {
                Some(value) => headers.push(HeaderMatch {
                    name: h.name.to_ascii_lowercase(),
                    value,
                }),
                None => whole = false,
            }
        }
        let mut query = Vec::with_capacity(m.query_params.len());
        for (i, q) in m.query_params.iter().enumerate() {
            let at = format_args!("{field}.queryParams[{i}]");
            match self.value_match(&at, q.type_, q.value.as_deref()) {
                Some(value) => query.push(QueryMatch {
                    name: q.name.to_string(),
                    value,
                }),
                None => whole = false,
            }
        }
        let mut cookies = Vec::with_capacity(m.cookies.len());
        for (i, c) in m.cookies.iter().enumerate() {
            let at = format_args!("{field}.cookies[{i}]");
            match self.value_match(&at, c.type_, c.value.as_deref()) {
                Some(value) => cookies.push(CookieMatch {
                    name: c.name.to_string(),
                    value,
                }),
                None => whole = false,
            }
        }
        let clients = self.networks(&format_args!("{field}.clientCIDRs"), &m.client_cidrs);
        whole &= clients.len() == m.client_cidrs.len();
        let path = path.filter(|_| whole)?;
        Some(Match {
            path,
            methods,
            headers,
            query,
            cookies,
            clients,
        })
    }

    fn path_match(&mut self, field: Field<'_>, path: &crds::PathMatch) -> Option<PathMatch> {
        let at = format_args!("{field}.value");
        match path.type_.unwrap_or(PathMatchType::PathPrefix) {
            PathMatchType::PathPrefix => {
                let value = self.valid(at, normal_path(&path.value))?;
                Some(PathMatch::prefix(&value))
            }
            PathMatchType::Exact => self
                .valid(at, normal_path(&path.value))
                .map(|path| PathMatch::Exact(path.into())),
            PathMatchType::RegularExpression => {
                self.valid(at, whole_regex(&path.value))?;
                Some(PathMatch::Regex(path.value.as_str().into()))
            }
        }
    }

    /// Says which rules ask for escaped slashes where nobody lets them in. `field_of`: what a place of `places`, those of
    /// the rules, is called.
    pub(super) fn slashes_in_vain(
        &mut self,
        route: &Route,
        places: &[usize],
        field_of: impl Fn(usize) -> String,
    ) {
        let asks = |rule: &Rule| {
            rule.matches.iter().any(|m| match &m.path {
                PathMatch::Exact(path) | PathMatch::Prefix(path) => path.contains(SLASH),
                PathMatch::Regex(_) => false,
            })
        };
        let rules = route.rules.iter().zip(places);
        let mut asking = rules.filter(|(rule, _)| asks(rule)).peekable();
        if asking.peek().is_none() {
            return;
        }
        let gateways = self.gateways.configs.values();
        let mut listeners = gateways.flat_map(|gateway| &gateway.listeners);
        if listeners.any(|l| l.keeps_slashes && route.listeners.contains(&l.key)) {
            return;
        }
        for (_, place) in asking {
            let message = "a path with an escaped slash comes through no listener of these: none has edge.escapedSlashes Keep";
            self.warn(field_of(*place), Reason::Invalid, message);
        }
    }

    fn value_match(
        &mut self,
        field: Field<'_>,
        type_: Option<ValueMatchType>,
        value: Option<&str>,
    ) -> Option<ValueMatch> {
        let at = format_args!("{field}.value");
        let type_ = type_.unwrap_or(ValueMatchType::Exact);
        match (type_, value) {
            (ValueMatchType::Present, None) => return Some(ValueMatch::Present),
            (ValueMatchType::Absent, None) => return Some(ValueMatch::Absent),
            (ValueMatchType::Exact, Some(v)) => return Some(ValueMatch::Exact(v.to_owned())),
            (ValueMatchType::Prefix, Some(v)) => return Some(ValueMatch::Prefix(v.to_owned())),
            (ValueMatchType::RegularExpression, Some(v)) => {
                self.valid(at, whole_regex(v))?;
                return Some(ValueMatch::Regex(v.to_owned()));
            }
            (_, None) => self.error(at, Reason::Invalid, "a value must be given"),
            (_, Some(_)) => {
                let message = "no value may be given where type is Present or Absent";
                self.error(at, Reason::Invalid, message);
            }
        }
        None
    }
}

fn whole_regex(pattern: &str) -> Result<(), String> {
    values::expression(pattern, model::pattern::whole(pattern)).map(drop)
}

/// An escaped slash in the spelling of requests.
const SLASH: &str = "%2F";

/// The one spelling of a path that requests have when they are matched: unreserved characters bare, all others
/// escaped in upper case (RFC 3986 section 6.2.2).
///
/// # Errors
/// What no request can have: no leading slash, empty segments, dot segments, also between escaped slashes, and controls.
pub(super) fn normal_path(text: &str) -> Result<String, String> {
    let fail = |why: &str| Err(format!("{text:?} {why}"));
    let Some(rest) = text.strip_prefix('/') else {
        return fail("does not begin with /");
    };
    let segments = rest.split('/').count();
    let mut out = String::with_capacity(text.len());
    for (i, segment) in rest.split('/').enumerate() {
        out.push('/');
        let start = out.len();
        if segment.is_empty() && i + 1 < segments {
            return fail("has an empty segment, which no request keeps");
        }
        let bytes = segment.as_bytes();
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            let escaped = byte == b'%';
            let byte = if escaped {
                let digits = bytes
                    .get(at + 1..at + 3)
                    .and_then(|d| std::str::from_utf8(d).ok());
                let digits = digits.filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
                match digits.and_then(|d| u8::from_str_radix(d, 16).ok()) {
                    Some(byte) => byte,
                    None => return fail("has a % that is no escape"),
                }
            } else {
                byte
            };
            at += if escaped { 3 } else { 1 };
            match byte {
                0..=0x1f | 0x7f => return fail("has a control character"),
                b'\\' => return fail("has a backslash, which no request keeps"),
                b'?' | b'#' if !escaped => return fail("has a ? or #, which ends a path"),
                _ if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                    out.push(char::from(byte));
                }
                _ if !escaped && b"!$&'()*+,;=:@".contains(&byte) => out.push(char::from(byte)),
                _ => out.push_str(&format!("%{byte:02X}")),
            }
        }
        let mut parts = out.get(start..).unwrap_or_default().split(SLASH);
        if parts.any(|part| matches!(part, "." | "..")) {
            return fail("has a dot segment, which no request keeps");
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_get_the_spelling_of_requests() {
        for (written, normal) in [
            ("/", "/"),
            ("/a/b/", "/a/b/"),
            ("/%61%2db", "/a-b"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/café", "/caf%C3%A9"),
            ("/a:b@c;d=1", "/a:b@c;d=1"),
            ("/a b", "/a%20b"),
            ("/%3a", "/%3A"),
            ("/@a%2fb/%2f", "/@a%2Fb/%2F"),
        ] {
            assert_eq!(normal_path(written).as_deref(), Ok(normal), "{written}");
        }
        for bad in [
            "", "a", "//", "/a//b", "/.", "/a/../b", "/a%2f..", "/%2e%2fa", "/a\\b", "/a%5cb",
            "/%", "/%zz", "/a?b", "/\u{1}",
        ] {
            assert!(normal_path(bad).is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_normal_path_is_its_own_normal_form(text in "(/[a-zé%2fFc. ;]{0,6}){0,4}") {
            if let Ok(normal) = normal_path(&text) {
                let again = normal_path(&normal);
                proptest::prop_assert_eq!(again, Ok(normal));
            }
        }
    }
}

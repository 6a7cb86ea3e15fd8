//! What becomes of host and path on the way to the backend, and further hosts.

use super::value::{boolean, line, list};
use super::{Annotation, Complaint, Effect, Rule};
use crate::adapt::ingress::{SaidRoute, field_of};
use crds::header::Header;
use crds::{
    PathMatch, PathMatchType, Redirect, RedirectPath, RegexRewrite, Rewrite, RouteMatch, RouteRule,
};
use model::HostPattern;

pub(super) const LIST: &[Annotation] = &[
    Annotation {
        name: "rewrite-target",
        effect: Effect::Differs(
            "of variables there are the groups of the path (`$1`); a path without special characters stays a prefix by \
             segments, in which case counts",
            |text, settings| {
                settings.rewrite.target = Some(target(text)?);
                Ok(())
            },
        ),
    },
    Annotation {
        name: "use-regex",
        effect: Effect::Differs(
            "paths of type Exact stay exact; expressions are compared after the plain paths of other Ingresses of the \
             host, and have no look-around and no back-references",
            |text, settings| {
                settings.rewrite.use_regex = boolean(text)?;
                Ok(())
            },
        ),
    },
    Annotation {
        name: "app-root",
        effect: Effect::Exact(|text, settings| {
            if !text.starts_with('/') || text.contains(['?', '#', '$']) {
                let message = format!("{text:?} is not a path");
                return Err(Complaint::Invalid(message));
            }
            settings.rewrite.app_root = Some(line(text)?);
            Ok(())
        }),
    },
    Annotation {
        name: "upstream-vhost",
        effect: Effect::Differs("without variables", |text, settings| {
            if text.contains('$') {
                return Err(variables(text));
            }
            if HostPattern::parse(text.split(':').next().unwrap_or_default()).is_err() {
                let message = format!("{text:?} is not a host name");
                return Err(Complaint::Invalid(message));
            }
            settings.rewrite.host = Some(line(text)?);
            Ok(())
        }),
    },
    Annotation {
        name: "x-forwarded-prefix",
        effect: Effect::Exact(|text, settings| {
            settings.rewrite.forwarded_prefix = Some(line(text)?);
            Ok(())
        }),
    },
    Annotation {
        name: "server-alias",
        effect: Effect::Exact(|text, settings| {
            let mut aliases = Vec::new();
            for name in list(text) {
                aliases.push(alias(&name)?);
            }
            if aliases.is_empty() {
                return Err(Complaint::Invalid("must name a host".to_owned()));
            }
            settings.aliases = aliases;
            Ok(())
        }),
    },
    Annotation {
        name: "preserve-trailing-slash",
        effect: Effect::Differs("redirects to HTTPS keep it in any case", |text, _| {
            boolean(text).map(drop)
        }),
    },
];

/// Another host of an Ingress.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Alias {
    /// A host name, or an expression.
    pub text: String,
    pub is_pattern: bool,
}

impl Alias {
    /// As an expression.
    pub(crate) fn pattern(&self) -> String {
        match self.is_pattern {
            true => format!("(?:{})", self.text),
            false => regex::escape(&self.text),
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Rewrites {
    pub target: Option<String>,
    pub use_regex: bool,
    app_root: Option<String>,
    host: Option<String>,
    forwarded_prefix: Option<String>,
}

impl Rewrites {
    pub(super) fn apply(&self, at: &mut Rule<'_>) {
        let mut rewrite = Rewrite::default();
        if let Some(host) = &self.host {
            at.named("rewrite.hostname", "upstream-vhost");
            rewrite.hostname = Some(host.to_ascii_lowercase().into());
        }
        if let Some((target, path)) = self.target.as_ref().zip(at.matched) {
            at.named("rewrite.regex", "rewrite-target");
            let pattern = whole(path);
            match model::pattern::search(&pattern) {
                Ok(compiled) => {
                    let replacement = replacement(target, compiled.captures_len());
                    rewrite.regex = Some(RegexRewrite {
                        pattern: pattern.into(),
                        replacement: replacement.into(),
                    });
                }
                Err(e) => at.object("rewrite-target", e.to_string()),
            }
            if let Some(prefix) = &self.forwarded_prefix {
                at.named("requestHeaders", "x-forwarded-prefix");
                let edits = at.rule.request_headers.get_or_insert_default();
                edits.set.push(Header {
                    name: "x-forwarded-prefix".into(),
                    value: prefix.as_str().into(),
                });
            }
        }
        if rewrite != Rewrite::default() {
            at.rule.rewrite = Some(rewrite);
        }
    }

    /// The root of a host leads to the root of its application.
    pub(super) fn app_root(&self, route: &mut SaidRoute) {
        let Some(root) = &self.app_root else {
            return;
        };
        let ours = format!("spec.rules[{}]", route.spec.rules.len());
        route.names.add(ours, field_of("app-root"));
        route.fields.push(field_of("app-root"));
        route.spec.rules.push(RouteRule {
            matches: vec![RouteMatch {
                path: Some(PathMatch {
                    type_: Some(PathMatchType::Exact),
                    value: "/".to_owned(),
                }),
                ..RouteMatch::default()
            }],
            redirect: Some(Redirect {
                path: Some(RedirectPath {
                    replace_full_path: Some(root.as_str().into()),
                    ..RedirectPath::default()
                }),
                status_code: Some(302),
                ..Redirect::default()
            }),
            ..RouteRule::default()
        });
    }
}

/// Whether a path has characters that mean something in an expression alone. A dot stands in many plain paths.
pub(super) fn is_expression(path: &str) -> bool {
    path.contains([
        '(', ')', '[', ']', '*', '+', '?', '^', '$', '|', '\\', '{', '}',
    ])
}

/// What of a path is replaced: all of it, with the groups of its expression.
fn whole(path: &PathMatch) -> String {
    match path.type_ {
        Some(PathMatchType::RegularExpression) => {
            // `(?i)` stands at its beginning.
            let rest = path.value.strip_prefix("(?i)").unwrap_or(&path.value);
            format!("(?i)^(?:{rest})$")
        }
        _ => "^.*$".to_owned(),
    }
}

/// What nginx calls `$1` is `${1}`. Groups that there are not are empty.
fn replacement(target: &str, groups: usize) -> String {
    let mut out = String::with_capacity(target.len() + 2);
    let mut rest = target;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        // nginx has one digit for a group.
        let digit = after.chars().next().filter(char::is_ascii_digit);
        let number = digit.and_then(|d| d.to_digit(10));
        if let Some(number) = number.filter(|n| (*n as usize) < groups) {
            out.push_str(&format!("${{{number}}}"));
        }
        rest = digit.and_then(|_| after.get(1..)).unwrap_or(after);
    }
    out.push_str(rest);
    out
}

fn target(text: &str) -> Result<String, Complaint> {
    if text.contains("://") {
        let message = "a rewrite to another site is a redirect: use permanent-redirect";
        return Err(Complaint::NotSupported(message.to_owned()));
    }
    if text.contains(['?', '#']) {
        let message = "the query of the request is kept, and none is added";
        return Err(Complaint::NotSupported(message.to_owned()));
    }
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('$') {
        if !after.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(variables(text));
        }
        rest = after;
    }
    let is_path = text.starts_with(['/', '$']) && text.bytes().all(|b| (0x21..=0x7e).contains(&b));
    match is_path {
        true => Ok(text.to_owned()),
        false => Err(Complaint::Invalid(format!("{text:?} is not a path"))),
    }
}

fn variables(text: &str) -> Complaint {
    Complaint::NotSupported(format!("variables of nginx are not known: {text:?}"))
}

fn alias(name: &str) -> Result<Alias, Complaint> {
    if let Some(pattern) = name.strip_prefix('~') {
        let pattern = pattern.trim_start_matches('^').trim_end_matches('$');
        return match model::pattern::whole(pattern) {
            Ok(_) => Ok(Alias {
                text: pattern.to_owned(),
                is_pattern: true,
            }),
            Err(_) => Err(Complaint::Invalid(format!(
                "{name:?} is no regular expression"
            ))),
        };
    }
    match HostPattern::parse(name) {
        Ok(HostPattern::Any) | Err(_) => {
            Err(Complaint::Invalid(format!("{name:?} is not a host name")))
        }
        Ok(_) => Ok(Alias {
            text: name.to_ascii_lowercase(),
            is_pattern: false,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a path becomes, for a request.
    fn rewritten(path: (PathMatchType, &str), to: &str, request: &str) -> String {
        let value = match path.0 {
            PathMatchType::RegularExpression => format!("(?i)(?:{}).*", path.1),
            _ => path.1.to_owned(),
        };
        let pattern = whole(&PathMatch {
            type_: Some(path.0),
            value,
        });
        let compiled = model::pattern::search(&pattern).unwrap();
        let with = replacement(&target(to).unwrap(), compiled.captures_len());
        compiled.replace(request, with.as_str()).into_owned()
    }

    #[test]
    fn targets_and_their_groups() {
        use PathMatchType::{PathPrefix, RegularExpression};
        for (path, to, request, result) in [
            (
                (RegularExpression, "/something(/|$)(.*)"),
                "/$2",
                "/something/new",
                "/new",
            ),
            (
                (RegularExpression, "/something(/|$)(.*)"),
                "/$2",
                "/something",
                "/",
            ),
            (
                (RegularExpression, "/something(/|$)(.*)"),
                "/$2",
                "/Something/New",
                "/New",
            ),
            (
                (RegularExpression, "/a/(.*?)/b"),
                "/x-$1y",
                "/a/1/b/c",
                "/x-1y",
            ),
            ((RegularExpression, "/v1/(.*)"), "/$1$3", "/v1/q", "/q"),
            ((PathPrefix, "/foo"), "/bar", "/foo/x", "/bar"),
            ((PathPrefix, "/"), "/", "/foo/x", "/"),
        ] {
            assert_eq!(
                rewritten(path, to, request),
                result,
                "{path:?} {to} {request}"
            );
        }
    }

    #[test]
    fn what_cannot_be_a_target() {
        for bad in ["", "x", "/a b"] {
            assert!(matches!(target(bad), Err(Complaint::Invalid(_))), "{bad}");
        }
        for other in ["/$uri", "/$1?x=$2", "https://a.test/$1", "/$"] {
            let got = target(other);
            assert!(matches!(got, Err(Complaint::NotSupported(_))), "{other}");
        }
    }

    #[test]
    fn aliases() {
        assert_eq!(alias("A.test").unwrap().pattern(), "a\\.test");
        let pattern = alias("~^www\\d+\\.a\\.test$").unwrap();
        assert_eq!(pattern.pattern(), "(?:www\\d+\\.a\\.test)");
        for bad in ["", "*", "a b", "~("] {
            assert!(alias(bad).is_err(), "{bad}");
        }
    }
}

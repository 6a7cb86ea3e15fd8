//! A part of the requests for another Service: by header, by cookie, by weight.

use super::value::{boolean, line, number};
use super::{Annotation, Complaint, Effect};
use crds::{Backend, CookieMatch, HeaderMatch, RouteRule, ValueMatchType};

const SAME_NAMESPACE: &str = "of several canaries of one path the oldest counts; a canary belongs to Ingresses of its own namespace";

pub(super) const LIST: &[Annotation] = &[
    Annotation {
        name: "canary",
        effect: Effect::Differs(SAME_NAMESPACE, |text, settings| {
            settings.canary.is_on = boolean(text)?;
            Ok(())
        }),
    },
    Annotation {
        name: "canary-by-header",
        effect: Effect::Exact(|text, settings| {
            settings.canary.header = Some(token(text)?);
            Ok(())
        }),
    },
    Annotation {
        name: "canary-by-header-value",
        effect: Effect::Exact(|text, settings| {
            settings.canary.header_value = Some(line(text)?);
            Ok(())
        }),
    },
    Annotation {
        name: "canary-by-header-pattern",
        effect: Effect::Differs(
            "without look-around and back-references",
            |text, settings| {
                let pattern = format!("(?s:.*)(?:{text})(?s:.*)");
                if text.is_empty() || model::pattern::whole(&pattern).is_err() {
                    let message = format!("{text:?} is no regular expression");
                    return Err(Complaint::Invalid(message));
                }
                settings.canary.header_pattern = Some(line(&pattern)?);
                Ok(())
            },
        ),
    },
    Annotation {
        name: "canary-by-cookie",
        effect: Effect::Exact(|text, settings| {
            settings.canary.cookie = Some(token(text)?);
            Ok(())
        }),
    },
    Annotation {
        name: "canary-weight",
        effect: Effect::Exact(|text, settings| {
            settings.canary.weight = number(text, 0, 1_000_000)?;
            Ok(())
        }),
    },
    Annotation {
        name: "canary-weight-total",
        effect: Effect::Exact(|text, settings| {
            settings.canary.total = number(text, 1, 1_000_000)?;
            Ok(())
        }),
    },
    Annotation {
        name: "affinity-canary-behavior",
        effect: Effect::Ignored(
            "the cookie of an affinity binds a client to its endpoint, whichever Service that is of",
        ),
    },
];

/// Whether that is the value of an annotation that makes an Ingress a canary.
pub(crate) fn is_on(text: &str) -> bool {
    boolean(text.trim()) == Ok(true)
}

/// Which requests a canary takes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Canary {
    pub is_on: bool,
    header: Option<String>,
    header_value: Option<String>,
    header_pattern: Option<String>,
    cookie: Option<String>,
    weight: u32,
    total: u32,
}

/// What a canary takes of the requests of a path, and for whom.
pub(crate) struct Share {
    pub backend: Backend,
    pub by: Canary,
}

/// The rules in which requests are parted. Those of headers come before those of cookies, and both before the weights.
pub(crate) fn split(rule: RouteRule, share: Option<Share>) -> Vec<RouteRule> {
    let Some(Share { backend, by }) = share else {
        return vec![rule];
    };
    let mut rules = Vec::new();
    let to_canary = || vec![backend.clone()];
    let mut add = |condition: Condition<'_>, backends: Vec<Backend>| {
        let mut rule = rule.clone();
        for one in &mut rule.matches {
            match condition {
                Condition::Header(name, type_, value) => one.headers.push(HeaderMatch {
                    name: name.into(),
                    type_: Some(type_),
                    value: Some(value.into()),
                }),
                Condition::Cookie(name, value) => one.cookies.push(CookieMatch {
                    name: name.into(),
                    type_: Some(ValueMatchType::Exact),
                    value: Some(value.into()),
                }),
            }
        }
        rule.backends = backends;
        rules.push(rule);
    };
    if let Some(name) = &by.header {
        use ValueMatchType::{Exact, RegularExpression};
        match (&by.header_value, &by.header_pattern) {
            (Some(value), _) => add(Condition::Header(name, Exact, value), to_canary()),
            (None, Some(pattern)) => {
                add(
                    Condition::Header(name, RegularExpression, pattern),
                    to_canary(),
                );
            }
            (None, None) => {
                add(Condition::Header(name, Exact, ALWAYS), to_canary());
                add(Condition::Header(name, Exact, NEVER), rule.backends.clone());
            }
        }
    }
    if let Some(name) = &by.cookie {
        add(Condition::Cookie(name, ALWAYS), to_canary());
        add(Condition::Cookie(name, NEVER), rule.backends.clone());
    }
    // A smaller total means the usual one.
    let total = by.total.max(100);
    let weight = by.weight.min(total);
    let mut rest = rule.clone();
    if weight > 0 {
        for backend in &mut rest.backends {
            backend.weight = Some(total - weight);
        }
        rest.backends.push(Backend {
            weight: Some(weight),
            ..backend.clone()
        });
    }
    rules.push(rest);
    rules
}

/// Values that decide for a request.
const ALWAYS: &str = "always";
const NEVER: &str = "never";

#[derive(Clone, Copy)]
enum Condition<'a> {
    Header(&'a str, ValueMatchType, &'a str),
    Cookie(&'a str, &'a str),
}

fn token(text: &str) -> Result<String, Complaint> {
    match model::headers::is_token(text.as_bytes()) {
        true => Ok(text.to_owned()),
        false => Err(Complaint::Invalid(format!("{text:?} is not a name"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crds::RouteMatch;

    fn backend(name: &str) -> Backend {
        Backend {
            name: name.into(),
            ..Backend::default()
        }
    }

    /// Conditions and backends of the rules.
    fn split_by(by: Canary) -> Vec<String> {
        let rule = RouteRule {
            matches: vec![RouteMatch::default()],
            backends: vec![backend("main")],
            ..RouteRule::default()
        };
        let share = Share {
            backend: backend("canary"),
            by,
        };
        let rules = split(rule, Some(share));
        let one = |rule: &RouteRule| {
            let m = &rule.matches[0];
            let headers = m
                .headers
                .iter()
                .map(|h| (h.name.to_string(), h.value.clone()));
            let cookies = m
                .cookies
                .iter()
                .map(|c| (format!("cookie {}", c.name.as_str()), c.value.clone()));
            let conditions = headers.chain(cookies);
            let conditions =
                conditions.map(|(name, value)| format!("{name}={} ", value.unwrap().as_str()));
            let backends = rule.backends.iter();
            let backends =
                backends.map(|b| format!("{}:{}", b.name.as_str(), b.weight.unwrap_or(1)));
            format!(
                "{}{}",
                conditions.collect::<String>(),
                backends.collect::<Vec<_>>().join(" ")
            )
        };
        rules.iter().map(one).collect()
    }

    #[test]
    fn rules_of_a_canary() {
        let canary = Canary {
            is_on: true,
            header: Some("x-c".to_owned()),
            cookie: Some("c".to_owned()),
            weight: 20,
            ..Canary::default()
        };
        assert_eq!(
            split_by(canary.clone()),
            [
                "x-c=always canary:1",
                "x-c=never main:1",
                "cookie c=always canary:1",
                "cookie c=never main:1",
                "main:80 canary:20",
            ]
        );
        let by_value = Canary {
            header_value: Some("yes".to_owned()),
            header_pattern: Some("never read".to_owned()),
            cookie: None,
            weight: 0,
            ..canary.clone()
        };
        assert_eq!(split_by(by_value), ["x-c=yes canary:1", "main:1"]);
        let in_total = Canary {
            header: None,
            cookie: None,
            weight: 500,
            total: 1000,
            ..canary.clone()
        };
        assert_eq!(split_by(in_total), ["main:500 canary:500"]);
        let all = Canary {
            header: None,
            cookie: None,
            weight: 200,
            total: 10,
            ..canary
        };
        assert_eq!(split_by(all), ["main:0 canary:100"]);
    }
}

//! Annotations of ingress-nginx (`nginx.ingress.kubernetes.io/NAME`): one list, in which each has its effect.
//!
//! What is in the list does what it says there; what is not is reported as unknown. Nothing is ignored in silence. One that
//! is about access or limits and cannot be honoured closes the paths of its Ingress, it never opens them.

mod access;
mod affinity;
mod canary;
mod cors;
mod mirror;
mod proxy;
mod redirect;
mod rewrite;
mod unbuilt;
mod upstream;
mod value;

pub(crate) use canary::{Share, is_on as is_canary, split};
pub(crate) use mirror::MIRROR;

use super::{Objection, SaidRoute, field_of};
use crate::adapt::Names;
use crate::report::{Reason, Severity};
use crate::world::NGINX_PREFIX;
use crds::{PathMatch, RouteRule, UpstreamSpec};
use rewrite::Alias;
use std::collections::{BTreeMap, BTreeSet};

/// One annotation.
pub(crate) struct Annotation {
    /// Behind the prefix.
    pub name: &'static str,
    pub effect: Effect,
}

/// What an annotation does here.
pub(crate) enum Effect {
    /// What it does in ingress-nginx.
    Exact(Read),
    /// The same, but for what the text says.
    Differs(&'static str, Read),
    /// Nothing; the text says why, or what there is instead. It is reported.
    Ignored(&'static str),
    /// It is about access or limits and not built: the paths answer 500. It is reported.
    Closes(&'static str),
    /// Nothing, whatever it says; what is to be said of it depends on that.
    Refused(&'static str, Read),
}

/// Takes a value.
type Read = fn(&str, &mut Settings) -> Result<(), Complaint>;

/// Why a value has not the effect that it should have.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Complaint {
    /// It is wrong, and has no effect.
    Invalid(String),
    /// It is right, but cannot be had; it has no effect.
    NotSupported(String),
    /// Without it the paths would be open to whom they are not: they answer 500.
    Closes(String),
}

/// All of them, by group.
const GROUPS: &[&[Annotation]] = &[
    rewrite::LIST,
    redirect::LIST,
    canary::LIST,
    affinity::LIST,
    upstream::LIST,
    cors::LIST,
    access::LIST,
    proxy::LIST,
    mirror::LIST,
    unbuilt::LIST,
    unbuilt::READ,
];

/// Every annotation that is known.
pub(crate) fn all() -> impl Iterator<Item = &'static Annotation> {
    GROUPS.iter().copied().flatten()
}

/// Every annotation with what it does here, and what there is to say of that: for the reference.
pub fn documented() -> Vec<(&'static str, &'static str, &'static str)> {
    let mut rows: Vec<_> = all()
        .map(|annotation| {
            let (effect, text) = match annotation.effect {
                Effect::Exact(_) => ("exact", ""),
                Effect::Differs(text, _) => ("differs", text),
                Effect::Ignored(text) => ("none, reported", text),
                Effect::Closes(text) => ("none, reported; the paths answer 500", text),
                Effect::Refused(text, _) => ("none, reported", text),
            };
            (annotation.name, effect, text)
        })
        .collect();
    rows.sort_unstable();
    rows
}

/// What the annotations of an Ingress come to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    pub aliases: Vec<Alias>,
    pub canary: canary::Canary,
    /// A Service that answers where that of a path has no endpoints.
    pub default_backend: Option<String>,
    rewrite: rewrite::Rewrites,
    redirect: redirect::Redirects,
    affinity: affinity::Affinity,
    upstream: upstream::Speech,
    cors: cors::Cors,
    access: access::Access,
    proxy: proxy::Proxy,
    mirror: Option<mirror::Mirrored>,
    /// Something about access or limits cannot be honoured.
    closes: bool,
}

/// Reads all annotations of an Ingress.
pub(crate) fn read(annotations: &BTreeMap<String, String>) -> (Settings, Vec<Objection>) {
    let mut settings = Settings::default();
    let mut objections = Vec::new();
    for (name, value) in annotations {
        let Some(name) = name.strip_prefix(NGINX_PREFIX) else {
            continue;
        };
        if let Some((severity, reason, message)) = one(name, value.trim(), &mut settings) {
            objections.push(Objection {
                field: field_of(name),
                reason,
                severity,
                message,
            });
        }
    }
    (settings, objections)
}

/// Reads one; and what there is to say of it.
fn one(name: &str, value: &str, settings: &mut Settings) -> Option<(Severity, Reason, String)> {
    let not_supported = |message| (Severity::Warning, Reason::AnnotationNotSupported, message);
    let Some(annotation) = all().find(|a| a.name == name) else {
        return Some(not_supported("is not known and has no effect".to_owned()));
    };
    let complaint = match annotation.effect {
        Effect::Exact(read) | Effect::Differs(_, read) | Effect::Refused(_, read) => {
            read(value, settings).err()?
        }
        Effect::Ignored(why) => Complaint::NotSupported(why.to_owned()),
        Effect::Closes(why) if value::asks(value) => Complaint::Closes(why.to_owned()),
        Effect::Closes(_) => return None,
    };
    Some(match complaint {
        Complaint::Invalid(message) => (
            Severity::Error,
            Reason::Invalid,
            format!("{message}; it has no effect"),
        ),
        Complaint::NotSupported(message) => not_supported(format!("has no effect: {message}")),
        Complaint::Closes(message) => {
            settings.closes = true;
            let message = format!("{message}: the paths of the Ingress answer 500");
            (Severity::Error, Reason::AnnotationNotSupported, message)
        }
    })
}

impl Settings {
    /// Whether the paths must not be served.
    pub(super) fn closes(&self) -> bool {
        self.closes
    }

    /// Whether a path is a regular expression: where annotations say so, or where it could be nothing else.
    pub(super) fn reads_as_expression(&self, path: &str) -> bool {
        self.rewrite.use_regex || self.rewrite.target.is_some() && rewrite::is_expression(path)
    }

    /// Whether clients on plain HTTP are sent to HTTPS.
    pub(super) fn redirects_to_https(&self, has_certificate: bool) -> bool {
        self.redirect.to_https(has_certificate)
    }

    /// The annotation that sends clients to HTTPS, where there is no listener for that.
    pub(super) fn forces_https_in_vain(&self, has_https: bool) -> Option<&'static str> {
        (self.redirect.forces_https() && !has_https).then_some("force-ssl-redirect")
    }

    /// Rules of a host that come before its paths.
    pub(super) fn before_paths(&self, route: &mut SaidRoute) {
        self.rewrite.app_root(route);
    }

    /// Hosts with or without `www.` that are sent on to those of the Ingress.
    pub(super) fn www_twins<'a>(&self, hosts: impl Iterator<Item = &'a str>) -> Vec<SaidRoute> {
        self.redirect.www_twins(hosts)
    }

    /// Adds what the annotations say to a rule. `ours`: where it stands; `matched`: the path, where there is one.
    pub(super) fn apply(
        &self,
        ours: &str,
        matched: Option<&PathMatch>,
        rule: &mut RouteRule,
        names: &mut Names,
    ) -> Vec<Objection> {
        let mut at = Rule {
            ours,
            matched,
            rule,
            names,
            objections: Vec::new(),
        };
        if self.redirect.apply(&mut at) {
            return at.objections;
        }
        self.rewrite.apply(&mut at);
        self.affinity.apply(&mut at);
        self.access.apply(&mut at);
        self.cors.apply(&mut at);
        self.proxy.apply(&mut at);
        if let Some(mirror) = &self.mirror {
            mirror.apply(&mut at);
        }
        at.objections
    }

    /// How Services are spoken to: `services` are those that something leads to, `external` those that are no more than a
    /// name.
    pub(super) fn upstreams(
        &self,
        services: &BTreeMap<(String, u16), String>,
        external: &BTreeSet<String>,
        out: &mut BTreeMap<(String, u16), (UpstreamSpec, Names)>,
    ) {
        self.upstream.upstreams(services, external, out);
        if let Some(mirror) = &self.mirror {
            let (key, upstream) = mirror.upstream();
            out.insert(key, upstream);
        }
    }
}

/// A rule that is being made.
struct Rule<'a> {
    /// Where it stands in the Route.
    ours: &'a str,
    matched: Option<&'a PathMatch>,
    rule: &'a mut RouteRule,
    names: &'a mut Names,
    objections: Vec<Objection>,
}

impl Rule<'_> {
    /// A field below the rule is what an annotation says.
    fn named(&mut self, below: &str, annotation: &str) {
        let ours = format!("{}.{below}", self.ours);
        self.names.add(ours, field_of(annotation));
    }

    fn object(&mut self, annotation: &str, message: String) {
        self.objections.push(Objection {
            field: field_of(annotation),
            reason: Reason::Invalid,
            severity: Severity::Error,
            message,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(some: &[(&str, &str)]) -> BTreeMap<String, String> {
        let all = some.iter();
        all.map(|(name, value)| (format!("{NGINX_PREFIX}{name}"), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn each_stands_in_the_list_once() {
        let mut seen = BTreeSet::new();
        for annotation in all() {
            assert!(seen.insert(annotation.name), "{}", annotation.name);
        }
        assert!(seen.len() >= 120, "{}", seen.len());
    }

    #[test]
    fn nothing_is_ignored_in_silence() {
        let (settings, objections) = read(&annotations(&[
            ("no-such-thing", "1"),
            ("proxy-buffer-size", "8k"),
            ("proxy-body-size", "8q"),
            ("ssl-redirect", "true"),
        ]));
        assert!(!settings.closes());
        let said: Vec<_> = objections
            .iter()
            .map(|o| (o.severity, o.reason, &*o.field))
            .collect();
        let field = |name| format!("metadata.annotations[nginx.ingress.kubernetes.io/{name}]");
        let fields = ["no-such-thing", "proxy-body-size", "proxy-buffer-size"].map(field);
        assert_eq!(
            said,
            [
                (
                    Severity::Warning,
                    Reason::AnnotationNotSupported,
                    &*fields[0]
                ),
                (Severity::Error, Reason::Invalid, &*fields[1]),
                (
                    Severity::Warning,
                    Reason::AnnotationNotSupported,
                    &*fields[2]
                ),
            ]
        );
    }

    #[test]
    fn what_guards_the_way_closes_it() {
        for (name, value, closes) in [
            ("auth-url", "http://auth.test/", true),
            ("limit-rps", "5", true),
            ("limit-rps", "0", false),
            ("enable-modsecurity", "false", false),
            ("enable-modsecurity", "true", true),
            ("whitelist-source-range", "10.0.0.0/99", true),
            ("whitelist-source-range", "10.0.0.0/8", false),
            ("configuration-snippet", "deny 10.0.0.1;", true),
            ("configuration-snippet", "rewrite_by_lua_file /a.lua;", true),
            ("server-snippet", "ssl_verify_client on;", true),
            ("server-snippet", "auth_digest x;", true),
            ("configuration-snippet", "more_set_headers \"a: b\";", false),
        ] {
            let (settings, objections) = read(&annotations(&[(name, value)]));
            assert_eq!(settings.closes(), closes, "{name} {value}");
            assert_eq!(
                closes,
                objections.iter().any(|o| o.severity == Severity::Error),
                "{name} {value}"
            );
        }
    }

    /// Whatever stands in any of them: it is read, or there is something to say about it.
    #[test]
    fn nonsense_is_said() {
        for annotation in all() {
            if let Effect::Exact(_) | Effect::Differs(..) = annotation.effect {
                let text = "\u{1} nonsense ((";
                let (_, objections) = read(&annotations(&[(annotation.name, text)]));
                assert_eq!(objections.len(), 1, "{}", annotation.name);
            }
        }
    }
}

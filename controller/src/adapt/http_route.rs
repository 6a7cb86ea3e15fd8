//! An HTTPRoute as a Route (gateway.networking.k8s.io/v1; GEP-1364, GEP-1323, GEP-726, GEP-1742, GEP-3171, GEP-1731).

use super::{Fault, Names, port};
use crate::report::{Field, Reason};
use crds::header::{Header, HeaderEdits};
use crds::{
    Backend, HeaderMatch, Mirror, PathMatch, PathMatchType, PluginType, PluginUse, QueryMatch,
    Redirect, RedirectPath, Rewrite, RouteMatch, RouteRule, RouteSpec, RouteTimeouts, Scheme,
    ValueMatchType,
};
use gateway_api::http_route::{
    HttpRouteParentRefs as ParentRef, HttpRouteRules as Rule,
    HttpRouteRulesBackendRefs as BackendRef, HttpRouteRulesFilters as Filter,
    HttpRouteRulesFiltersCors as Cors, HttpRouteRulesFiltersRequestHeaderModifier as Modifier,
    HttpRouteRulesFiltersRequestMirror as RequestMirror,
    HttpRouteRulesFiltersRequestRedirect as RequestRedirect,
    HttpRouteRulesFiltersRequestRedirectScheme as TheirScheme, HttpRouteRulesFiltersType as Type,
    HttpRouteRulesFiltersUrlRewrite as UrlRewrite,
    HttpRouteRulesFiltersUrlRewritePathType as PathEdit, HttpRouteRulesMatches as Match,
    HttpRouteRulesMatchesHeaders as ValueMatch, HttpRouteRulesMatchesHeadersType as ValueType,
    HttpRouteRulesMatchesMethod as Method, HttpRouteRulesMatchesPathType as PathType,
    HttpRouteSpec,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

/// A Route that does what an HTTPRoute says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    /// Without parentRefs: those are read from the HTTPRoute itself.
    pub spec: RouteSpec,
    pub names: Names,
    pub faults: Vec<Fault>,
    /// What is done as far as it can be.
    pub notices: Vec<Fault>,
    /// Rules that must not be served: a filter that is not understood is never skipped.
    pub closed: BTreeSet<usize>,
    /// What a Route cannot say: edits of answers by backend, by rule and backend.
    pub response_headers: BTreeMap<(usize, usize), HeaderEdits>,
    /// Nor this: shares of mirrors in millionths, by rule and mirror.
    pub mirrors: BTreeMap<usize, BTreeMap<usize, u32>>,
}

/// Says an HTTPRoute as a Route. `names`: to add to.
pub(crate) fn as_route(spec: &HttpRouteSpec, names: Names) -> Said {
    let mut said = Said {
        names,
        ..Said::default()
    };
    let hostnames = spec.hostnames.iter().flatten();
    said.spec.hostnames = hostnames.map(|name| name.as_str().into()).collect();
    // Its absence is a rule that matches everything and has no backend.
    let implied = [Rule::default()];
    let rules = match spec.rules.as_deref() {
        None | Some([]) => &implied,
        Some(rules) => rules,
    };
    for (i, rule) in rules.iter().enumerate() {
        let rule = said.rule(i, rule);
        said.spec.rules.push(rule);
    }
    said
}

/// The parents that an HTTPRoute names, each as it stands there.
pub(crate) fn parent_refs(spec: &HttpRouteSpec) -> &[ParentRef] {
    spec.parent_refs.as_deref().unwrap_or_default()
}

impl Said {
    fn fault(&mut self, field: impl Display, reason: Reason, message: impl Into<String>) {
        let (field, message) = (field.to_string(), message.into());
        self.faults.push(Fault {
            field,
            reason,
            message,
        });
    }

    /// A bound that cannot be kept to, where the nearest one does no harm.
    pub(super) fn notice(&mut self, field: String, message: impl Into<String>) {
        self.notices.push(Fault {
            field,
            reason: Reason::OutOfRange,
            message: message.into(),
        });
    }

    /// Something without which the rule would do less than it says.
    pub(super) fn close(&mut self, rule: usize, field: impl Display, message: impl Into<String>) {
        self.fault(field, Reason::UnsupportedValue, message);
        self.closed.insert(rule);
    }

    fn rule(&mut self, i: usize, rule: &Rule) -> RouteRule {
        let at = format_args!("spec.rules[{i}]");
        let mut out = RouteRule {
            name: rule.name.as_deref().map(Into::into),
            ..RouteRule::default()
        };
        for (j, m) in rule.matches.iter().flatten().enumerate() {
            let m = self.one_match(i, &format_args!("{at}.matches[{j}]"), m);
            out.matches.push(m);
        }
        for (j, filter) in rule.filters.iter().flatten().enumerate() {
            self.filter(i, &at, j, filter, &mut out);
        }
        self.names.add(
            format_args!("{at}.backends"),
            format_args!("{at}.backendRefs"),
        );
        for (j, backend) in rule.backend_refs.iter().flatten().enumerate() {
            let backend = self.backend(i, j, &at, backend);
            out.backends.push(backend);
        }
        if let Some(timeouts) = &rule.timeouts {
            out.timeouts = Some(RouteTimeouts {
                request: timeouts.request.as_deref().map(Into::into),
                backend_request: timeouts.backend_request.as_deref().map(Into::into),
                ..RouteTimeouts::default()
            });
        }
        if let Some(retry) = &rule.retry {
            out.retry = Some(self.retry(i, &format_args!("{at}.retry"), retry));
        }
        out
    }

    fn one_match(&mut self, rule: usize, at: Field<'_>, m: &Match) -> RouteMatch {
        let path = m.path.as_ref().map(|path| {
            let type_ = match path.r#type {
                None | Some(PathType::PathPrefix) => PathMatchType::PathPrefix,
                Some(PathType::Exact) => PathMatchType::Exact,
                Some(PathType::RegularExpression) => PathMatchType::RegularExpression,
                Some(PathType::Unknown) => {
                    let message = "must be Exact, PathPrefix or RegularExpression";
                    self.close(rule, format!("{at}.path.type"), message);
                    PathMatchType::PathPrefix
                }
            };
            PathMatch {
                type_: Some(type_),
                value: path.value.as_deref().unwrap_or("/").into(),
            }
        });
        let method = m.method.as_ref().and_then(method);
        if m.method.is_some() && method.is_none() {
            self.close(rule, format!("{at}.method"), "is not a known method");
        }
        self.names
            .add(format_args!("{at}.methods[0]"), format_args!("{at}.method"));
        RouteMatch {
            path,
            methods: method.into_iter().map(Into::into).collect(),
            headers: self.values(
                rule,
                &format_args!("{at}.headers"),
                m.headers.as_deref(),
                |m, type_| HeaderMatch {
                    name: m.name.as_str().into(),
                    type_: Some(type_),
                    value: Some(m.value.as_str().into()),
                },
            ),
            query_params: self.values(
                rule,
                &format_args!("{at}.queryParams"),
                m.query_params.as_deref(),
                |m, type_| QueryMatch {
                    name: m.name.as_str().into(),
                    type_: Some(type_),
                    value: Some(m.value.as_str().into()),
                },
            ),
            ..RouteMatch::default()
        }
    }

    /// Of several matches of one name the first counts.
    fn values<T>(
        &mut self,
        rule: usize,
        at: Field<'_>,
        values: Option<&[ValueMatch]>,
        make: impl Fn(&ValueMatch, ValueMatchType) -> T,
    ) -> Vec<T> {
        let mut out = Vec::new();
        let mut seen = BTreeSet::new();
        for (i, one) in values.unwrap_or_default().iter().enumerate() {
            let type_ = match one.r#type {
                None | Some(ValueType::Exact) => ValueMatchType::Exact,
                Some(ValueType::RegularExpression) => ValueMatchType::RegularExpression,
                Some(ValueType::Unknown) => {
                    let message = "must be Exact or RegularExpression";
                    self.close(rule, format!("{at}[{i}].type"), message);
                    continue;
                }
            };
            if seen.insert(one.name.to_ascii_lowercase()) {
                out.push(make(one, type_));
            }
        }
        out
    }

    fn filter(
        &mut self,
        i: usize,
        rule: Field<'_>,
        j: usize,
        filter: &Filter,
        out: &mut RouteRule,
    ) {
        let at = format_args!("{rule}.filters[{j}]");
        let stands_already = match filter.r#type {
            Type::RequestHeaderModifier => out.request_headers.is_some(),
            Type::ResponseHeaderModifier => out.response_headers.is_some(),
            Type::RequestRedirect => out.redirect.is_some(),
            Type::UrlRewrite => out.rewrite.is_some(),
            Type::Cors => out.plugins.iter().any(|one| one.cors.is_some()),
            Type::RequestMirror | Type::ExtensionRef | Type::Unknown => false,
        };
        if stands_already {
            let message = "a rule has one filter of this type at most";
            self.close(i, format!("{at}.type"), message);
            return;
        }
        let mut named = |ours: Field<'_>, block: &str| {
            let theirs = format_args!("{at}.{block}");
            self.names.add(format_args!("{rule}.{ours}"), theirs);
        };
        match (&filter.r#type, filter) {
            (
                Type::RequestHeaderModifier,
                Filter {
                    request_header_modifier: Some(edits),
                    ..
                },
            ) => {
                named(&"requestHeaders", "requestHeaderModifier");
                out.request_headers = Some(header_edits(edits));
            }
            (
                Type::ResponseHeaderModifier,
                Filter {
                    response_header_modifier: Some(edits),
                    ..
                },
            ) => {
                named(&"responseHeaders", "responseHeaderModifier");
                out.response_headers = Some(header_edits(edits));
            }
            (
                Type::RequestRedirect,
                Filter {
                    request_redirect: Some(to),
                    ..
                },
            ) => {
                named(&"redirect", "requestRedirect");
                named(
                    &"redirect.path.replacePrefix",
                    "requestRedirect.path.replacePrefixMatch",
                );
                out.redirect = self.redirect(i, &at, to);
            }
            (
                Type::UrlRewrite,
                Filter {
                    url_rewrite: Some(to),
                    ..
                },
            ) => {
                named(&"rewrite", "urlRewrite");
                named(
                    &"rewrite.replacePrefix",
                    "urlRewrite.path.replacePrefixMatch",
                );
                named(
                    &"rewrite.replaceFullPath",
                    "urlRewrite.path.replaceFullPath",
                );
                out.rewrite = self.rewrite(i, &at, to);
            }
            (
                Type::RequestMirror,
                Filter {
                    request_mirror: Some(to),
                    ..
                },
            ) => {
                named(
                    &format_args!("mirrors[{}]", out.mirrors.len()),
                    "requestMirror.backendRef",
                );
                named(
                    &format_args!("mirrors[{}].percent", out.mirrors.len()),
                    "requestMirror",
                );
                let mirror = self.mirror(i, out.mirrors.len(), to);
                out.mirrors.push(mirror);
            }
            (Type::Cors, Filter { cors: Some(of), .. }) => {
                named(&format_args!("plugins[{}].cors", out.plugins.len()), "cors");
                out.plugins.push(cors(of));
            }
            (
                Type::ExtensionRef,
                Filter {
                    extension_ref: Some(to),
                    ..
                },
            ) => {
                named(
                    &format_args!("plugins[{}].ref", out.plugins.len()),
                    "extensionRef",
                );
                if (to.group.as_str(), to.kind.as_str()) != (crds::GROUP, "Plugin") {
                    let message = format!("must be a Plugin of group {}", crds::GROUP);
                    self.close(i, format!("{at}.extensionRef"), message);
                    return;
                }
                out.plugins.push(PluginUse {
                    reference: Some(crds::refs::ObjectRef {
                        name: to.name.as_str().into(),
                        ..crds::refs::ObjectRef::default()
                    }),
                    ..PluginUse::default()
                });
            }
            (Type::Unknown, _) => {
                self.close(i, format!("{at}.type"), "this filter is not known");
            }
            _ => self.close(i, at, "the block of the filter's type is missing"),
        }
    }

    fn redirect(&mut self, rule: usize, at: Field<'_>, to: &RequestRedirect) -> Option<Redirect> {
        let scheme = match to.scheme {
            None => None,
            Some(TheirScheme::Http) => Some(Scheme::Http),
            Some(TheirScheme::Https) => Some(Scheme::Https),
            Some(TheirScheme::Unknown) => {
                let field = format!("{at}.requestRedirect.scheme");
                self.close(rule, field, "must be http or https");
                return None;
            }
        };
        let path = match to.path.as_ref().map(|path| (&path.r#type, path)) {
            None => None,
            Some((PathEdit::ReplacePrefixMatch, path)) => Some(RedirectPath {
                replace_prefix: path.replace_prefix_match.as_deref().map(root_if_empty),
                ..RedirectPath::default()
            }),
            Some((PathEdit::ReplaceFullPath, path)) => Some(RedirectPath {
                replace_full_path: path.replace_full_path.as_deref().map(root_if_empty),
                ..RedirectPath::default()
            }),
            Some((PathEdit::Unknown, _)) => {
                let field = format!("{at}.requestRedirect.path.type");
                self.close(rule, field, "must be ReplaceFullPath or ReplacePrefixMatch");
                return None;
            }
        };
        Some(Redirect {
            scheme,
            hostname: to.hostname.as_deref().map(Into::into),
            port: to.port.map(port),
            path,
            status_code: to.status_code.map(|code| u16::try_from(code).unwrap_or(0)),
        })
    }

    fn rewrite(&mut self, rule: usize, at: Field<'_>, to: &UrlRewrite) -> Option<Rewrite> {
        let mut out = Rewrite {
            hostname: to.hostname.as_deref().map(Into::into),
            ..Rewrite::default()
        };
        match to.path.as_ref().map(|path| (&path.r#type, path)) {
            None => {}
            Some((PathEdit::ReplacePrefixMatch, path)) => {
                out.replace_prefix = path.replace_prefix_match.as_deref().map(root_if_empty);
            }
            Some((PathEdit::ReplaceFullPath, path)) => {
                out.replace_full_path = path.replace_full_path.as_deref().map(root_if_empty);
            }
            Some((PathEdit::Unknown, _)) => {
                let field = format!("{at}.urlRewrite.path.type");
                self.close(rule, field, "must be ReplaceFullPath or ReplacePrefixMatch");
            }
        }
        Some(out)
    }

    fn mirror(&mut self, rule: usize, place: usize, to: &RequestMirror) -> Mirror {
        if let Some(fraction) = &to.fraction {
            let share = millionths(fraction.numerator, fraction.denominator.unwrap_or(100));
            self.mirrors.entry(rule).or_default().insert(place, share);
        }
        let reference = &to.backend_ref;
        Mirror {
            kind: reference.kind.as_deref().map(Into::into),
            group: reference.group.as_deref().map(Into::into),
            name: reference.name.as_str().into(),
            namespace: reference.namespace.as_deref().map(Into::into),
            port: reference.port.map(port),
            percent: to
                .percent
                .map(|p| u8::try_from(p.clamp(0, 100)).unwrap_or(100)),
        }
    }

    fn backend(&mut self, i: usize, j: usize, rule: Field<'_>, to: &BackendRef) -> Backend {
        let mut out = Backend {
            kind: to.kind.as_deref().map(Into::into),
            group: to.group.as_deref().map(Into::into),
            name: to.name.as_str().into(),
            namespace: to.namespace.as_deref().map(Into::into),
            port: to.port.map(port),
            weight: to.weight.map(|weight| u32::try_from(weight).unwrap_or(0)),
            ..Backend::default()
        };
        for (k, filter) in to.filters.iter().flatten().enumerate() {
            let at = format_args!("{rule}.backendRefs[{j}].filters[{k}]");
            match (&filter.r#type, filter) {
                (
                    Type::RequestHeaderModifier,
                    Filter {
                        request_header_modifier: Some(edits),
                        ..
                    },
                ) => {
                    self.names.add(
                        format_args!("{rule}.backends[{j}].requestHeaders"),
                        format_args!("{at}.requestHeaderModifier"),
                    );
                    out.request_headers = Some(header_edits(edits));
                }
                (
                    Type::ResponseHeaderModifier,
                    Filter {
                        response_header_modifier: Some(edits),
                        ..
                    },
                ) => {
                    self.names.add(
                        format!("{rule}.backends[{j}].responseHeaders"),
                        format!("{at}.responseHeaderModifier"),
                    );
                    self.response_headers.insert((i, j), header_edits(edits));
                }
                _ => {
                    let message = "of the filters of a backend, RequestHeaderModifier and ResponseHeaderModifier are built";
                    self.close(i, format!("{at}.type"), message);
                }
            }
        }
        out
    }
}

/// The nearest there is; something is never nothing.
fn millionths(part: i32, of: i32) -> u32 {
    const ALL: u64 = 1_000_000;
    let [part, of] = [part, of].map(|n| u64::try_from(n).unwrap_or(0));
    let of = of.max(1);
    let share = ((part * ALL + of / 2) / of).max(u64::from(part > 0));
    u32::try_from(share.min(ALL)).unwrap_or(0)
}

fn header_edits(modifier: &Modifier) -> HeaderEdits {
    let headers = |list: &Option<
        Vec<gateway_api::http_route::HttpRouteRulesFiltersRequestHeaderModifierAdd>,
    >| {
        let list = list.iter().flatten();
        list.map(|header| Header {
            name: header.name.as_str().into(),
            value: header.value.as_str().into(),
        })
        .collect()
    };
    HeaderEdits {
        set: headers(&modifier.set),
        add: headers(&modifier.add),
        remove: modifier
            .remove
            .iter()
            .flatten()
            .map(|name| name.as_str().into())
            .collect(),
    }
}

/// "" and "/" are the same replacement of a prefix.
fn root_if_empty(path: &str) -> crds::text::Path {
    if path.is_empty() { "/" } else { path }.into()
}

fn cors(of: &Cors) -> PluginUse {
    PluginUse {
        name: Some("cors".into()),
        type_: Some(PluginType::CORS),
        cors: Some(plugins::CORS {
            allow_origins: of.allow_origins.clone(),
            allow_methods: of.allow_methods.clone(),
            allow_headers: of.allow_headers.clone(),
            expose_headers: of.expose_headers.clone(),
            allow_credentials: of.allow_credentials,
            max_age: of.max_age.map(|seconds| format!("{}s", seconds.max(0))),
        }),
        ..PluginUse::default()
    }
}

fn method(method: &Method) -> Option<&'static str> {
    Some(match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Connect => "CONNECT",
        Method::Options => "OPTIONS",
        Method::Trace => "TRACE",
        Method::Patch => "PATCH",
        Method::Unknown => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_in_millionths() {
        for (part, of, share) in [
            (1, 1000, 1000),
            (5, 1000, 5000),
            (1, 3, 333_333),
            (2, 3, 666_667),
            (1, i32::MAX, 1),
            (0, 7, 0),
            (7, 7, 1_000_000),
            (9, 7, 1_000_000),
            (-1, 7, 0),
            (1, 0, 1_000_000),
        ] {
            assert_eq!(millionths(part, of), share, "{part}/{of}");
        }
    }
}

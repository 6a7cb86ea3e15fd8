use super::attempts::{
    affinity_from_wire, affinity_to_wire, mirror_from_wire, mirror_to_wire, retry_from_wire,
    retry_to_wire,
};
use super::health::{concurrency_from_wire, concurrency_to_wire};
use super::{
    InvalidResource, Kind, Section, hostname_from_wire, networks_from_wire, networks_to_wire,
    origin_from_wire, origin_to_wire, port, required,
};
use crate::pb;
use model::{
    Action, Backend, CookieMatch, DirectResponse, HeaderEdits, HeaderMatch, HostPattern, Match,
    Method, PathMatch, PathRewrite, PluginUse, QueryMatch, Redirect, RedirectPath, Rewrite, Route,
    Rule, Target, Timeouts, ValueMatch,
};

impl Section for Route {
    const KIND: Kind = Kind::Route;
    type Wire = pb::Route;

    fn to_wire(&self) -> pb::Route {
        let Self {
            origin,
            created,
            tenant,
            listeners,
            hosts,
            rules,
        } = self;
        pb::Route {
            origin: origin_to_wire(origin),
            created: *created,
            tenant: tenant.clone().unwrap_or_default(),
            listeners: listeners.clone(),
            hosts: hosts.iter().map(ToString::to_string).collect(),
            rules: rules.iter().map(rule_to_wire).collect(),
        }
    }

    fn from_wire(w: pb::Route) -> Result<Self, InvalidResource> {
        let hosts = w.hosts.iter().map(|h| match h.strip_prefix('~') {
            Some(pattern) => Ok(HostPattern::Regex(pattern.into())),
            None => hostname_from_wire(h, "hosts"),
        });
        Ok(Self {
            origin: origin_from_wire(w.origin)?,
            created: w.created,
            tenant: (!w.tenant.is_empty()).then_some(w.tenant),
            listeners: w.listeners,
            hosts: hosts.collect::<Result<_, _>>()?,
            rules: all(w.rules, rule_from_wire)?,
        })
    }
}

fn all<A, B>(
    list: Vec<A>,
    one: impl Fn(A) -> Result<B, InvalidResource>,
) -> Result<Vec<B>, InvalidResource> {
    list.into_iter().map(one).collect()
}

fn rule_to_wire(rule: &Rule) -> pb::Rule {
    let Rule {
        name,
        matches,
        precedence,
        action,
        rewrite,
        request_headers,
        response_headers,
        timeouts,
        max_request_body,
        retry,
        affinity,
        mirrors,
        concurrency,
        grpc_web,
        hides_methods,
        plugins,
    } = rule;
    let Timeouts {
        connect_ms,
        request_ms,
        backend_request_ms,
        first_byte_ms,
        stream_idle_ms,
        first_event_ms,
    } = *timeouts;
    pb::Rule {
        name: name.clone(),
        matches: matches.iter().map(match_to_wire).collect(),
        precedence: *precedence,
        action: Some(action_to_wire(action)),
        rewrite_path: rewrite.path.as_ref().map(rewrite_to_wire),
        rewrite_host: rewrite.host.clone(),
        request_headers: edits_to_wire(request_headers),
        response_headers: edits_to_wire(response_headers),
        timeouts: Some(pb::Timeouts {
            connect_ms,
            request_ms,
            backend_request_ms,
            first_byte_ms,
            stream_idle_ms,
            first_event_ms,
        }),
        max_request_body: *max_request_body,
        retry: retry.as_ref().map(retry_to_wire),
        affinity: affinity.as_ref().map(affinity_to_wire),
        mirrors: mirrors.iter().map(mirror_to_wire).collect(),
        concurrency: concurrency.map(concurrency_to_wire),
        grpc_web: *grpc_web,
        hides_methods: *hides_methods,
        plugins: plugins.iter().map(plugin_use_to_wire).collect(),
    }
}

fn rule_from_wire(w: pb::Rule) -> Result<Rule, InvalidResource> {
    let pb::Timeouts {
        connect_ms,
        request_ms,
        backend_request_ms,
        first_byte_ms,
        stream_idle_ms,
        first_event_ms,
    } = required(w.timeouts, "rules.timeouts")?;
    if w.matches.is_empty() {
        return Err(InvalidResource::new("rules.matches", "is empty"));
    }
    Ok(Rule {
        name: w.name,
        matches: all(w.matches, match_from_wire)?,
        precedence: w.precedence,
        action: action_from_wire(required(w.action, "rules.action")?)?,
        rewrite: Rewrite {
            path: w.rewrite_path.map(rewrite_from_wire).transpose()?,
            host: w.rewrite_host,
        },
        request_headers: edits_from_wire(w.request_headers),
        response_headers: edits_from_wire(w.response_headers),
        timeouts: Timeouts {
            connect_ms,
            request_ms,
            backend_request_ms,
            first_byte_ms,
            stream_idle_ms,
            first_event_ms,
        },
        max_request_body: w.max_request_body,
        retry: w.retry.map(retry_from_wire).transpose()?,
        affinity: w.affinity.map(affinity_from_wire).transpose()?,
        mirrors: all(w.mirrors, mirror_from_wire)?,
        concurrency: w.concurrency.map(concurrency_from_wire),
        grpc_web: w.grpc_web,
        hides_methods: w.hides_methods,
        plugins: all(w.plugins, plugin_use_from_wire)?,
    })
}

fn match_to_wire(m: &Match) -> pb::Match {
    use pb::r#match::Path;
    let Match {
        path,
        methods,
        headers,
        query,
        cookies,
        clients,
    } = m;
    let (path_type, path) = match path {
        PathMatch::Exact(v) => (Path::Exact, v),
        PathMatch::Prefix(v) => (Path::Prefix, v),
        PathMatch::Regex(v) => (Path::Regex, v),
    };
    pb::Match {
        path_type: path_type.into(),
        path: path.to_string(),
        methods: methods.iter().map(|m| m.as_str().to_owned()).collect(),
        headers: headers
            .iter()
            .map(|h| value_to_wire(&h.name, &h.value))
            .collect(),
        query: query
            .iter()
            .map(|q| value_to_wire(&q.name, &q.value))
            .collect(),
        cookies: cookies
            .iter()
            .map(|c| value_to_wire(&c.name, &c.value))
            .collect(),
        clients: networks_to_wire(clients),
    }
}

fn match_from_wire(w: pb::Match) -> Result<Match, InvalidResource> {
    use pb::r#match::Path;
    let path = match w.path_type() {
        Path::Exact => PathMatch::Exact(w.path.into()),
        Path::Prefix => PathMatch::Prefix(w.path.into()),
        Path::Regex => PathMatch::Regex(w.path.into()),
        Path::Unspecified => {
            return Err(InvalidResource::new(
                "rules.matches.path",
                "is of an unknown type",
            ));
        }
    };
    let method = |text: String| {
        Method::parse(&text)
            .ok_or_else(|| InvalidResource::new("rules.matches.methods", "is no token"))
    };
    Ok(Match {
        path,
        methods: all(w.methods, method)?,
        headers: all(w.headers, |v| {
            value_from_wire(v).map(|(name, value)| HeaderMatch { name, value })
        })?,
        query: all(w.query, |v| {
            value_from_wire(v).map(|(name, value)| QueryMatch { name, value })
        })?,
        cookies: all(w.cookies, |v| {
            value_from_wire(v).map(|(name, value)| CookieMatch { name, value })
        })?,
        clients: networks_from_wire(&w.clients, "rules.matches.clients")?,
    })
}

fn value_to_wire(name: &str, value: &ValueMatch) -> pb::ValueMatch {
    use pb::value_match::Type;
    let (kind, value) = match value {
        ValueMatch::Exact(v) => (Type::Exact, v.as_str()),
        ValueMatch::Prefix(v) => (Type::Prefix, v.as_str()),
        ValueMatch::Regex(v) => (Type::Regex, v.as_str()),
        ValueMatch::Present => (Type::Present, ""),
        ValueMatch::Absent => (Type::Absent, ""),
    };
    pb::ValueMatch {
        name: name.to_owned(),
        r#type: kind.into(),
        value: value.to_owned(),
    }
}

fn value_from_wire(w: pb::ValueMatch) -> Result<(String, ValueMatch), InvalidResource> {
    use pb::value_match::Type;
    let value = match w.r#type() {
        Type::Exact => ValueMatch::Exact(w.value),
        Type::Prefix => ValueMatch::Prefix(w.value),
        Type::Regex => ValueMatch::Regex(w.value),
        Type::Present => ValueMatch::Present,
        Type::Absent => ValueMatch::Absent,
        Type::Unspecified => {
            return Err(InvalidResource::new(
                "rules.matches",
                "a value match of an unknown type",
            ));
        }
    };
    Ok((w.name, value))
}

fn action_to_wire(action: &Action) -> pb::rule::Action {
    match action {
        Action::Forward(backends) => pb::rule::Action::Forward(pb::Forward {
            backends: backends.iter().map(backend_to_wire).collect(),
        }),
        Action::Redirect(r) => {
            let Redirect {
                scheme,
                hostname,
                port,
                path,
                status,
            } = r.clone();
            pb::rule::Action::Redirect(pb::Redirect {
                scheme,
                hostname,
                port: port.map(u32::from),
                path: path.map(|p| match p {
                    RedirectPath::ReplacePrefix(v) => pb::redirect::Path::ReplacePrefix(v),
                    RedirectPath::ReplaceFull(v) => pb::redirect::Path::ReplaceFull(v),
                }),
                status: u32::from(status),
            })
        }
        Action::Respond(d) => {
            let DirectResponse {
                status,
                content_type,
                body,
                headers,
            } = d.clone();
            pb::rule::Action::Respond(pb::DirectResponse {
                status: u32::from(status),
                content_type,
                body,
                headers: headers_to_wire(headers),
            })
        }
        Action::Closed { code } => pb::rule::Action::Closed(code.clone()),
    }
}

fn action_from_wire(w: pb::rule::Action) -> Result<Action, InvalidResource> {
    Ok(match w {
        pb::rule::Action::Forward(f) => {
            if f.backends.is_empty() {
                return Err(InvalidResource::new("rules.backends", "is empty"));
            }
            Action::Forward(all(f.backends, backend_from_wire)?)
        }
        pb::rule::Action::Redirect(r) => Action::Redirect(Redirect {
            scheme: r.scheme,
            hostname: r.hostname,
            port: r.port.map(|p| port(p, "rules.redirect.port")).transpose()?,
            path: r.path.map(|p| match p {
                pb::redirect::Path::ReplacePrefix(v) => RedirectPath::ReplacePrefix(v),
                pb::redirect::Path::ReplaceFull(v) => RedirectPath::ReplaceFull(v),
            }),
            status: status(r.status, "rules.redirect.statusCode")?,
        }),
        pb::rule::Action::Respond(d) => Action::Respond(DirectResponse {
            status: status(d.status, "rules.directResponse.status")?,
            content_type: d.content_type,
            body: d.body,
            headers: headers_from_wire(d.headers),
        }),
        pb::rule::Action::Closed(code) => Action::Closed { code },
    })
}

fn status(value: u32, field: &'static str) -> Result<u16, InvalidResource> {
    match u16::try_from(value) {
        Ok(v @ 200..=599) => Ok(v),
        _ => Err(InvalidResource::new(field, "is not a final status code")),
    }
}

fn backend_to_wire(b: &Backend) -> pb::Backend {
    let Backend {
        weight,
        priority,
        target,
        request_headers,
        response_headers,
    } = b;
    pb::Backend {
        weight: *weight,
        priority: *priority,
        target: Some(match target {
            Target::Upstream(key) => pb::backend::Target::Upstream(key.clone()),
            Target::Unresolved(what) => pb::backend::Target::Unresolved(what.clone()),
        }),
        request_headers: edits_to_wire(request_headers),
        response_headers: edits_to_wire(response_headers),
    }
}

fn backend_from_wire(w: pb::Backend) -> Result<Backend, InvalidResource> {
    Ok(Backend {
        weight: w.weight,
        priority: w.priority,
        target: match required(w.target, "rules.backends.target")? {
            pb::backend::Target::Upstream(key) => Target::Upstream(key),
            pb::backend::Target::Unresolved(what) => Target::Unresolved(what),
        },
        request_headers: edits_from_wire(w.request_headers),
        response_headers: edits_from_wire(w.response_headers),
    })
}

fn rewrite_to_wire(rewrite: &PathRewrite) -> pb::PathRewrite {
    use pb::path_rewrite::Rewrite as W;
    pb::PathRewrite {
        rewrite: Some(match rewrite.clone() {
            PathRewrite::StripPrefix => W::StripPrefix(true),
            PathRewrite::ReplacePrefix(v) => W::ReplacePrefix(v),
            PathRewrite::ReplaceFull(v) => W::ReplaceFull(v),
            PathRewrite::Regex {
                pattern,
                replacement,
            } => W::Regex(pb::RegexRewrite {
                pattern,
                replacement,
            }),
        }),
    }
}

fn rewrite_from_wire(w: pb::PathRewrite) -> Result<PathRewrite, InvalidResource> {
    use pb::path_rewrite::Rewrite as W;
    Ok(match required(w.rewrite, "rules.rewrite")? {
        W::StripPrefix(_) => PathRewrite::StripPrefix,
        W::ReplacePrefix(v) => PathRewrite::ReplacePrefix(v),
        W::ReplaceFull(v) => PathRewrite::ReplaceFull(v),
        W::Regex(r) => PathRewrite::Regex {
            pattern: r.pattern,
            replacement: r.replacement,
        },
    })
}

fn plugin_use_to_wire(u: &PluginUse) -> pb::PluginUse {
    pb::PluginUse {
        r#use: Some(match u {
            PluginUse::Ref(key) => pb::plugin_use::Use::Ref(key.clone()),
            PluginUse::Inline(p) => pb::plugin_use::Use::Inline(p.to_wire()),
        }),
    }
}

fn plugin_use_from_wire(w: pb::PluginUse) -> Result<PluginUse, InvalidResource> {
    Ok(match required(w.r#use, "rules.plugins")? {
        pb::plugin_use::Use::Ref(key) => PluginUse::Ref(key),
        pb::plugin_use::Use::Inline(p) => PluginUse::Inline(Box::new(Section::from_wire(p)?)),
    })
}

fn headers_to_wire(list: Vec<(String, String)>) -> Vec<pb::Header> {
    let to_wire = |(name, value)| pb::Header { name, value };
    list.into_iter().map(to_wire).collect()
}

fn headers_from_wire(list: Vec<pb::Header>) -> Vec<(String, String)> {
    list.into_iter().map(|h| (h.name, h.value)).collect()
}

fn edits_to_wire(edits: &HeaderEdits) -> Option<pb::HeaderEdits> {
    if edits.is_empty() {
        return None;
    }
    let HeaderEdits { set, add, remove } = edits.clone();
    Some(pb::HeaderEdits {
        set: headers_to_wire(set),
        add: headers_to_wire(add),
        remove,
    })
}

fn edits_from_wire(w: Option<pb::HeaderEdits>) -> HeaderEdits {
    w.map(|w| HeaderEdits {
        set: headers_from_wire(w.set),
        add: headers_from_wire(w.add),
        remove: w.remove,
    })
    .unwrap_or_default()
}

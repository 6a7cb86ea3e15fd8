//! Pieces of configurations, with one listener `d/gw/http`, one Route `d/r` and Upstreams by name.

use model::*;
use std::net::SocketAddr;

pub fn listener() -> Listener {
    Listener {
        drain_ms: 1000,
        ..Listener::new(ObjectRef::new("GatewayConfig", "d", "gw"), "http", 8080)
    }
}

/// The listener and an Upstream `up` with these endpoints.
pub fn base(endpoints: &[SocketAddr]) -> Model {
    let mut model = Model::default();
    model.listeners.insert("d/gw/http".into(), listener());
    model.upstreams.insert("up".into(), upstream(endpoints));
    model
}

/// Everything goes to this Upstream.
pub fn through(upstream: &Upstream) -> Model {
    let mut model = base(&[]);
    model.upstreams.insert("up".into(), upstream.clone());
    let rule = Rule {
        max_request_body: 64 << 20,
        ..forward()
    };
    routes(&mut model, vec![rule]);
    model
}

pub fn upstream(endpoints: &[SocketAddr]) -> Upstream {
    let endpoint = |a: &SocketAddr| StaticEndpoint {
        host: a.ip().to_string(),
        port: a.port(),
        weight: 1,
        zone: None,
    };
    Upstream::new(
        ObjectRef::new("Upstream", "d", "up"),
        EndpointSource::Static(endpoints.iter().map(endpoint).collect()),
    )
}

pub fn to(target: Target) -> Action {
    Action::Forward(vec![Backend::new(target)])
}

pub fn rule(path: PathMatch, action: Action) -> Rule {
    let matches = vec![Match {
        path,
        ..Match::any()
    }];
    Rule {
        max_request_body: 1 << 20,
        ..Rule::new(matches, action)
    }
}

pub fn forward() -> Rule {
    rule(PathMatch::any(), to(Target::Upstream("up".into())))
}

pub fn inline(kind: &str, settings: &str) -> Plugin {
    Plugin {
        origin: ObjectRef::new("Route", "d", "r"),
        name: kind.to_lowercase(),
        kind: kind.into(),
        stage: None,
        priority: 100,
        parallel: false,
        failure_policy: FailurePolicy::Fail,
        run_on_local_reply: false,
        settings: settings.into(),
    }
}

pub fn with(mut rule: Rule, plugins: &[Plugin]) -> Rule {
    rule.plugins = plugins
        .iter()
        .map(|p| PluginUse::Inline(Box::new(p.clone())))
        .collect();
    rule
}

pub fn routes(model: &mut Model, rules: Vec<Rule>) {
    let route = Route {
        origin: ObjectRef::new("Route", "d", "r"),
        created: 0,
        tenant: None,
        listeners: vec!["d/gw/http".into()],
        hosts: vec![HostPattern::Any],
        rules,
    };
    model.routes.insert("d/r".into(), route);
}

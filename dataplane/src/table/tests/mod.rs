//! Tests of the whole table, through the compiler. What they share stands here.

mod dump;
mod explain;
mod forward;
mod incremental;
mod isolation;
mod matching;
mod oracle;
mod precedence;
mod sharing;
mod tenants;

use super::*;
use model::{
    Backend, BalancePolicy, DirectResponse, EndpointShard, EndpointSource, Headers, Match, Method,
    Model, ObjectRef, PathMatch, Route, Target, Tenant,
};
use snapshot::{Change, Changes};

const LISTENER: &str = "d/default/http";

/// The client's address is not known.
const NOBODY: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);

fn listener(hostname: &str) -> Listener {
    Listener {
        hostname: host(hostname),
        access_log: Some(model::AccessLog::default()),
        ..Listener::new(
            ObjectRef::new("GatewayConfig", "d", "default"),
            "http",
            8080,
        )
    }
}

fn host(text: &str) -> HostPattern {
    match text.strip_prefix('~') {
        Some(pattern) => HostPattern::Regex(pattern.into()),
        None => HostPattern::parse(text).unwrap(),
    }
}

fn prefix(path: &str) -> Match {
    Match {
        path: PathMatch::prefix(path),
        ..Match::any()
    }
}

fn methods(list: &[&str]) -> Vec<Method> {
    list.iter().map(|m| Method::parse(m).unwrap()).collect()
}

fn rule(matches: Vec<Match>, action: model::Action) -> model::Rule {
    model::Rule::new(matches, action)
}

fn respond(body: &str) -> model::Action {
    model::Action::Respond(DirectResponse {
        status: 200,
        content_type: String::new(),
        body: body.into(),
        headers: Vec::new(),
    })
}

fn forward(upstreams: &[&str]) -> model::Action {
    let backend = |key: &&str| Backend::new(Target::Upstream((*key).to_owned()));
    model::Action::Forward(upstreams.iter().map(backend).collect())
}

fn route(name: &str, hosts: &[&str], rules: Vec<model::Rule>) -> Route {
    Route {
        origin: ObjectRef::new("Route", "n", name),
        created: 0,
        tenant: None,
        listeners: vec![LISTENER.to_owned()],
        hosts: if hosts.is_empty() {
            vec![HostPattern::Any]
        } else {
            hosts.iter().map(|h| host(h)).collect()
        },
        rules,
    }
}

fn tenant(name: &str, hosts: &[&str]) -> Tenant {
    Tenant {
        origin: ObjectRef::new("Tenant", "", name),
        hosts: hosts.iter().map(|h| host(h)).collect(),
    }
}

fn upstream(source: EndpointSource) -> model::Upstream {
    model::Upstream::new(ObjectRef::new("Service", "n", "web"), source)
}

fn shard(service: &str, endpoints: &[(&str, bool)]) -> EndpointShard {
    let endpoint = |(addr, ready): &(&str, bool)| {
        let addr: std::net::SocketAddr = addr.parse().unwrap();
        model::Endpoint {
            address: addr.ip(),
            port: addr.port(),
            ready: *ready,
            serving: true,
            terminating: !ready,
            zone: None,
        }
    };
    EndpointShard {
        service: service.into(),
        endpoints: endpoints.iter().map(endpoint).collect(),
    }
}

/// A model of one listener and these Routes, keyed by their names.
fn model(routes: Vec<Route>) -> Model {
    let mut model = Model::default();
    model.listeners.insert(LISTENER.into(), listener("*"));
    model.routes = routes.into_iter().map(|r| (r.origin.key(), r)).collect();
    model
}

fn compile(model: &Model) -> Arc<Table> {
    Compiler::new().apply(Changes::of(model)).unwrap()
}

fn put<T>(key: &str, item: T) -> Vec<Change<T>> {
    vec![Change {
        key: key.into(),
        item: Some(item),
    }]
}

fn gone<T>(key: &str) -> Vec<Change<T>> {
    vec![Change {
        key: key.into(),
        item: None,
    }]
}

fn headers(lines: &[(&str, &str)]) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in lines {
        headers.push(name, value).unwrap();
    }
    headers
}

fn only(table: &Table) -> &ListenerTable {
    table.listeners.get(LISTENER).unwrap()
}

/// What a request comes to: the body of the direct response, or the error.
fn ask(table: &Table, method: &str, url: &str, lines: &[(&str, &str)]) -> String {
    let headers = headers(lines);
    let (host, target) = url.split_at(url.find('/').unwrap());
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let q = Query {
        method,
        host,
        path,
        query,
        headers: &headers,
        client: NOBODY,
    };
    let found = only(table).find_silently(&q);
    let mut trace = Trace::new(&q);
    let traced = only(table).find(&q, &mut trace);
    assert_eq!(
        format!("{found:?}"),
        format!("{traced:?}"),
        "watching changes nothing"
    );
    match found {
        Found::Rule(matched) => match matched.rule.action() {
            Action::Respond(response) => response.body.clone(),
            Action::Closed { code } => format!("closed {code}"),
            Action::Forward(_) => "forward".into(),
            Action::Redirect(_) => "redirect".into(),
        },
        Found::MethodNotAllowed { allow } => format!("405 {allow}"),
        Found::NotFound => "404".into(),
    }
}

//! A whole data plane in front of an origin. Its configuration comes as the bytes of a snapshot.

use super::{Answer, Client, Origin, PATIENCE};
use diolkos_dataplane::app::{Config, DataPlane};
use diolkos_dataplane::listeners::Binds;
use diolkos_dataplane::push::{Apply, Reply};
use diolkos_dataplane::sync::Applier;
use model::*;
use snapshot::sections::bodies;
use snapshot::{Cursor, Store};
use std::net::SocketAddr;
use tokio::runtime::Runtime;

pub struct Gateway {
    pub runtime: Runtime,
    pub plane: DataPlane,
    pub applier: Applier,
    pub store: Store,
    pub held: Option<Cursor>,
    pub address: SocketAddr,
    pub origin: Origin,
}

impl Gateway {
    pub fn start(edit: impl FnOnce(&mut Model, SocketAddr)) -> Self {
        let runtime = Runtime::new().unwrap();
        let binds = Binds {
            http: Some("127.0.0.1:0".parse().unwrap()),
            https: None,
        };
        let config = Config {
            threads: 1,
            binds,
            zone: Some("here".into()),
        };
        let (plane, applier) = DataPlane::start(&config, runtime.handle()).unwrap();
        let origin = Origin::start();
        let mut gateway = Self {
            address: origin.address,
            runtime,
            plane,
            applier,
            store: Store::default(),
            held: None,
            origin,
        };
        gateway.put(edit);
        let states = gateway.applier.listeners();
        gateway.address = states[0].address.parse().unwrap();
        gateway
    }

    /// Makes this the configuration.
    pub fn put(&mut self, edit: impl FnOnce(&mut Model, SocketAddr)) {
        let mut model = Model::default();
        model.listeners.insert("d/gw/http".into(), listener());
        model
            .upstreams
            .insert("up".into(), upstream(&[self.origin.address]));
        edit(&mut model, self.origin.address);
        self.store
            .replace(bodies(&model).map(|(kind, key, body)| (kind, key.to_owned(), body.unwrap())));
        let transaction = self.store.since(self.held).unwrap();
        self.held = Some(transaction.result);
        for chunk in transaction.into_chunks(1, 0) {
            match self.applier.receive(chunk) {
                Reply::More | Reply::Ack(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    pub fn client(&self) -> Client {
        Client::connect(self.address)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.client().get(path)
    }

    pub fn metric(&self, line: &str) -> f64 {
        let text = self.plane.metrics.text();
        let found = text
            .lines()
            .find_map(|l| l.strip_prefix(line)?.trim().parse().ok());
        found.unwrap_or(0.0)
    }

    /// A request is accounted for after its last byte has left, so a client may look too early.
    pub fn metric_becomes(&self, line: &str, value: f64) {
        let begun = std::time::Instant::now();
        while self.metric(line) != value {
            assert!(
                begun.elapsed() < PATIENCE,
                "{line} is {}",
                self.metric(line)
            );
            std::thread::yield_now();
        }
    }
}

pub fn listener() -> Listener {
    Listener {
        drain_ms: 1000,
        ..Listener::new(ObjectRef::new("GatewayConfig", "d", "gw"), "http", 8080)
    }
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
        listeners: vec!["d/gw/http".into()],
        hosts: vec![HostPattern::Any],
        rules,
    };
    model.routes.insert("d/r".into(), route);
}

/// A gateway with one Route.
pub fn gateway(rules: Vec<Rule>) -> Gateway {
    Gateway::start(|model, _| routes(model, rules))
}

pub fn error(answer: &Answer) -> (u16, &str) {
    (answer.status, std::str::from_utf8(&answer.body).unwrap())
}

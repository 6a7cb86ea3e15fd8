//! A data plane with one upstream behind every path, configured by the bytes of a snapshot.

use super::{Answer, Client, PATIENCE};
use diolkos_dataplane::app::{Config, DataPlane};
use diolkos_dataplane::listeners::Binds;
use diolkos_dataplane::push::{Apply, Reply};
use diolkos_dataplane::sync::Applier;
use model::{
    Action, Backend, Certificate, EndpointSource, HostPattern, Listener, Match, Model, ObjectRef,
    Route, Rule, Secret, StaticEndpoint, Target, Upstream,
};
use snapshot::sections::bodies;
use snapshot::{Cursor, Store};
use std::net::SocketAddr;
use std::time::Instant;
use tokio::runtime::Runtime;

pub struct Plane {
    _runtime: Runtime,
    pub plane: DataPlane,
    applier: Applier,
    store: Store,
    held: Option<Cursor>,
    pub address: SocketAddr,
    /// Certificate resources by key: chain and key in PEM.
    pub certificates: Vec<(String, String, String)>,
    pub edit_rule: fn(&mut Rule),
}

impl Plane {
    pub fn start(upstream: &Upstream) -> Self {
        Self::with(upstream, Vec::new(), |_| {})
    }

    pub fn with(
        upstream: &Upstream,
        certificates: Vec<(String, String, String)>,
        edit_rule: fn(&mut Rule),
    ) -> Self {
        let runtime = Runtime::new().unwrap();
        let binds = Binds {
            http: Some("127.0.0.1:0".parse().unwrap()),
            https: None,
        };
        let config = Config {
            threads: 1,
            binds,
            zone: None,
        };
        let (plane, applier) = DataPlane::start(&config, runtime.handle()).unwrap();
        let mut this = Self {
            _runtime: runtime,
            plane,
            applier,
            store: Store::default(),
            held: None,
            address: "127.0.0.1:1".parse().unwrap(),
            certificates,
            edit_rule,
        };
        this.put(upstream).unwrap();
        this.address = this.applier.listeners()[0].address.parse().unwrap();
        this
    }

    /// Makes this the upstream.
    ///
    /// # Errors
    /// What the data plane says against it.
    pub fn put(&mut self, upstream: &Upstream) -> Result<(), String> {
        let mut model = Model::default();
        let origin = ObjectRef::new("GatewayConfig", "d", "gw");
        model
            .listeners
            .insert("d/gw/http".into(), Listener::new(origin, "http", 8080));
        model.upstreams.insert("up".into(), upstream.clone());
        for (key, chain, secret) in &self.certificates {
            let certificate = Certificate {
                origin: ObjectRef::new("Secret", "d", key),
                chain: chain.clone(),
                key: Secret::new(secret.as_bytes()),
            };
            model.certificates.insert(key.clone(), certificate);
        }
        let action = Action::Forward(vec![Backend::new(Target::Upstream("up".into()))]);
        let mut rule = Rule {
            max_request_body: 64 << 20,
            ..Rule::new(vec![Match::any()], action)
        };
        (self.edit_rule)(&mut rule);
        let route = Route {
            origin: ObjectRef::new("Route", "d", "r"),
            created: 0,
            listeners: vec!["d/gw/http".into()],
            hosts: vec![HostPattern::Any],
            rules: vec![rule],
        };
        model.routes.insert("d/r".into(), route);
        self.store
            .replace(bodies(&model).map(|(kind, key, body)| (kind, key.to_owned(), body.unwrap())));
        let transaction = self.store.since(self.held).unwrap();
        let held = transaction.result;
        for chunk in transaction.into_chunks(1, 0) {
            match self.applier.receive(chunk) {
                Reply::More | Reply::Ack(_) => {}
                other => return Err(format!("{other:?}")),
            }
        }
        self.held = Some(held);
        Ok(())
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

    /// Waits until a metric has a value: it is counted after the last byte has left.
    pub fn metric_becomes(&self, line: &str, value: f64) {
        let begun = Instant::now();
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

pub fn upstream(address: SocketAddr) -> Upstream {
    let endpoint = StaticEndpoint {
        host: address.ip().to_string(),
        port: address.port(),
        weight: 1,
        zone: None,
    };
    Upstream::new(
        ObjectRef::new("Upstream", "d", "up"),
        EndpointSource::Static(vec![endpoint]),
    )
}

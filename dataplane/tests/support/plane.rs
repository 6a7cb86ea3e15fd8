//! A whole data plane, driven by a test as its controller: configured by the bytes of snapshots, read by its metrics.

use super::{Answer, Client, becomes, value};
use diolkos_dataplane::app::{Config, DataPlane};
use diolkos_dataplane::listeners::Binds;
use diolkos_dataplane::push::{Apply, Reply};
use diolkos_dataplane::sync::Applier;
use model::Model;
use snapshot::pb::Chunk;
use snapshot::sections::bodies;
use snapshot::{Cursor, Kind, Store};
use std::net::SocketAddr;
use tokio::runtime::Runtime;

/// All of a configuration, as it is sent to a data plane that has none.
pub fn snapshot(model: &Model) -> Vec<Chunk> {
    let mut store = Store::default();
    store.replace(encoded(model));
    store.since(None).unwrap().into_chunks(1, 0)
}

fn encoded(model: &Model) -> impl Iterator<Item = (Kind, String, Vec<u8>)> {
    bodies(model).map(|(kind, key, body)| (kind, key.to_owned(), body.unwrap()))
}

pub struct Plane {
    pub runtime: Runtime,
    pub data: DataPlane,
    pub applier: Applier,
    store: Store,
    held: Option<Cursor>,
    /// Of the first listener.
    pub address: SocketAddr,
}

impl Plane {
    /// With one worker, in the zone `here`.
    pub fn start(model: &Model) -> Self {
        Self::with_workers(1, model)
    }

    pub fn with_workers(threads: usize, model: &Model) -> Self {
        Self::with_names(threads, &[], model)
    }

    /// Names are asked of these servers.
    pub fn with_names(threads: usize, servers: &[SocketAddr], model: &Model) -> Self {
        let runtime = Runtime::new().unwrap();
        let local = Some("127.0.0.1:0".parse().unwrap());
        let binds = Binds {
            http: local,
            https: local,
        };
        let config = Config {
            threads,
            binds,
            zone: Some("here".into()),
            per_source: 3,
            sessions: 2,
            // Tests say themselves how short it is.
            memory_limit: Some(0),
            name_servers: servers.to_vec(),
        };
        let (data, applier) = DataPlane::start(&config, runtime.handle()).unwrap();
        let mut this = Self {
            runtime,
            data,
            applier,
            store: Store::default(),
            held: None,
            address: ([127, 0, 0, 1], 1).into(),
        };
        this.put(model).unwrap();
        this.address = this.applier.listeners()[0].address.parse().unwrap();
        this
    }

    /// Makes this the configuration; what has changed is sent.
    ///
    /// # Errors
    /// What the data plane says against it. It holds what it held before.
    pub fn put(&mut self, model: &Model) -> Result<(), Reply> {
        self.store.replace(encoded(model));
        let Some(transaction) = self.store.since(self.held) else {
            return Ok(());
        };
        let result = transaction.result;
        for chunk in transaction.into_chunks(1, 0) {
            match self.applier.receive(chunk) {
                Reply::More => {}
                Reply::Ack(_) => self.held = Some(result),
                other => return Err(other),
            }
        }
        Ok(())
    }

    pub fn client(&self) -> Client {
        Client::connect(self.address)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.client().get(path)
    }

    /// The value on the line of the metrics page that begins so; 0 where there is none.
    pub fn metric(&self, line: &str) -> f64 {
        value(&self.data.metrics, line)
    }

    /// A request is accounted for after its last byte has left, so a client may look too early.
    pub fn metric_becomes(&self, line: &str, value: f64) {
        becomes(line, value, || self.metric(line));
    }
}

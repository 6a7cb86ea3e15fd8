//! What the controller's own work costs at scale, without a cluster: as many HTTPRoutes as asked for, each with a Service
//! and ten endpoints, come as from watches to the thread that translates; two data planes of their Gateway acknowledge,
//! and the leader's statuses are made. Prints time, memory (of everything but the talk with the API server) and the CPU
//! of single changes.
//!
//!     control_plane [HTTPROUTES]      `make bench-control-plane`: 10,000

use diolkos_controller::events::changes;
use diolkos_controller::groups::{Group, Groups, own_group};
use diolkos_controller::health::Board;
use diolkos_controller::metrics::Metrics;
use diolkos_controller::publish::{Publisher, Session};
use diolkos_controller::status::{Next, Queue, Written};
use diolkos_controller::translate::Published;
use diolkos_controller::watch::handle::WorldHandle;
use diolkos_controller::watch::reader::Wishes;
use diolkos_controller::watch::task::WorldTask;
use diolkos_controller::watch::{EVENTS, Event};
use diolkos_controller::world::{Object, ObjectId, ObjectKind, Scope};
use serde_json::{Value, json};
use snapshot::{SCHEMA, pb};
use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const NAMESPACE: &str = "scale";
const ENDPOINTS: usize = 10;
/// Changes of which the CPU is told.
const CHANGES: usize = 200;
const NOW: &str = "2026-01-01T00:00:00Z";

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let count = std::env::args().nth(1).map_or(Ok(10_000), |n| n.parse())?;
    if count <= CHANGES {
        return Err(format!("more than {CHANGES} are needed").into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run(count))
}

async fn run(count: usize) -> Result<(), Failure> {
    let mut control = Control::start()?;
    println!("with nothing: {}", memory()?);
    let began = Instant::now();
    control.list(count).await?;
    control.acknowledge().await?;
    println!(
        "{count} HTTPRoutes, {count} Services, {} endpoints: listed, translated and sent after {:.2} s ({:.2} s of CPU)",
        count * ENDPOINTS,
        began.elapsed().as_secs_f64(),
        cpu()?,
    );
    println!("then: {}", memory()?);
    let before = cpu()?;
    control.statuses().await;
    println!("all statuses: {:.2} s of CPU", cpu()? - before);
    let before = cpu()?;
    control.queue.push_all();
    control.statuses().await;
    println!(
        "a look at all that are as they should be: {:.2} s of CPU",
        cpu()? - before
    );
    tokio::time::sleep(Duration::from_secs(3)).await;
    println!("then: {}", memory()?);
    for (what, object) in [
        ("HTTPRoute", route as fn(usize, usize) -> Value),
        ("endpoint", slice),
    ] {
        let mut took = Duration::ZERO;
        let before = cpu()?;
        for n in 1..=CHANGES {
            let began = Instant::now();
            control.apply(object(n, n)).await?;
            control.acknowledge().await?;
            took += began.elapsed();
            control.statuses().await;
        }
        println!(
            "one {what}: {:.3} ms of CPU, sent after {:.1} ms",
            (cpu()? - before) * 1e3 / CHANGES as f64,
            took.as_secs_f64() * 1e3 / CHANGES as f64,
        );
    }
    Ok(())
}

/// The controller without its ends.
struct Control {
    events: mpsc::Sender<Event>,
    world: WorldHandle,
    queue: Arc<Queue>,
    written: Arc<Written>,
    generation: watch::Receiver<Option<u64>>,
    planes: Vec<Session>,
}

impl Control {
    fn start() -> Result<Self, Failure> {
        let metrics = Arc::new(Metrics::new()?);
        let gauges = Arc::clone(&metrics);
        let groups = Groups::new("system/shared", move |progress| {
            let (entries, omitted) = (&gauges.health_reports, &gauges.health_reports_omitted);
            let health = Board::new(entries.clone(), omitted.clone(), |_| {});
            let publisher = Publisher::counting("scale", progress);
            Group::new(publisher, health, CancellationToken::new())
        });
        let gateway = ObjectId::new(ObjectKind::Gateway, NAMESPACE, "scale");
        let publisher = groups.expect(&own_group(&gateway)).publisher;
        let mut planes = Vec::new();
        for _ in 0..2 {
            let mut plane = Session::new(Arc::clone(&publisher));
            plane.on_hello(&pb::Hello {
                schema_min: SCHEMA,
                schema_max: SCHEMA,
                ..pb::Hello::default()
            })?;
            planes.push(plane);
        }
        let queue = Arc::new(Queue::new(metrics.status_queue.clone()));
        let written = Arc::new(Written::default());
        let task = WorldTask {
            groups,
            queue: Arc::clone(&queue),
            objected: Arc::new(Queue::uncounted()),
            changes: changes::queue().0,
            published: Published::default(),
            makes_data_planes: false,
            written: Arc::clone(&written),
            metrics,
            wishes: Arc::new(Wishes::default()),
            gateways: watch::Sender::default(),
            pods: watch::Sender::new(false),
            sync_timeout: Duration::from_secs(60),
            removal_grace: Duration::ZERO,
            scope: Scope::default(),
            can_roll_back: false,
            can_recall: false,
            stand_ins: watch::Sender::default(),
            recheck: Duration::ZERO,
        };
        let (events, received) = mpsc::channel(EVENTS);
        let (world, _) = task.start(received)?;
        Ok(Self {
            events,
            world,
            queue,
            written,
            generation: publisher.subscribe(),
            planes,
        })
    }

    async fn apply(&self, manifest: Value) -> Result<ObjectId, Failure> {
        let object = Object::from_json(&manifest)?.ok_or("no kind of ours")?;
        let id = object.id.clone();
        let (object, at) = (Box::new(object), 0);
        self.events.send(Event::Apply { object, at }).await?;
        Ok(id)
    }

    /// Everything that there is, kind by kind.
    async fn list(&self, count: usize) -> Result<(), Failure> {
        for kind in ObjectKind::ALL {
            let mut ids = BTreeSet::new();
            match kind {
                ObjectKind::GatewayClass => drop(ids.insert(self.apply(class()).await?)),
                ObjectKind::Gateway => drop(ids.insert(self.apply(gateway()).await?)),
                ObjectKind::Service | ObjectKind::EndpointSlice | ObjectKind::HTTPRoute => {
                    for i in 0..count {
                        ids.insert(match kind {
                            ObjectKind::Service => self.apply(service(i)).await?,
                            ObjectKind::EndpointSlice => self.apply(slice(i, 0)).await?,
                            _ => self.apply(route(i, 0)).await?,
                        });
                    }
                }
                _ => {}
            }
            let of = (*kind).into();
            self.events.send(Event::Listed { of, ids }).await?;
        }
        Ok(())
    }

    /// Waits for a generation, which both data planes take.
    async fn acknowledge(&mut self) -> Result<(), Failure> {
        self.generation.changed().await?;
        for plane in &mut self.planes {
            while let Some(chunks) = plane.next_chunks() {
                let last = chunks.last().ok_or("no chunk")?;
                plane.on_ack(&pb::Ack {
                    transaction: last.transaction,
                    digest: last.result_digest.clone(),
                    ..pb::Ack::default()
                })?;
            }
        }
        Ok(())
    }

    /// As the leader writes them.
    async fn statuses(&self) {
        while let Some(next) = self.queue.take(32) {
            let ids = match next {
                Next::Some(ids) => ids,
                Next::All => {
                    self.queue.push(self.world.ids().await);
                    continue;
                }
            };
            for wanted in self.world.statuses(ids).await {
                if let Some(status) = wanted.status
                    && let Some(status) = self.written.stamp(&wanted.id, status, NOW)
                {
                    self.written.note(&wanted.id, Some(&status));
                }
            }
        }
    }
}

/// Resident now and at most.
fn memory() -> Result<String, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
        Some(kib / 1024)
    };
    let (now, most) = (of("VmRSS:"), of("VmHWM:"));
    Ok(format!(
        "{} MB (at most {})",
        now.unwrap_or(0),
        most.unwrap_or(0)
    ))
}

/// Seconds that the threads of this process have run.
fn cpu() -> Result<f64, Failure> {
    let mut nanoseconds = 0;
    for thread in std::fs::read_dir("/proc/self/task")? {
        let times = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        let running = times.split(' ').next().ok_or("no time")?;
        nanoseconds += running.parse::<u64>()?;
    }
    Ok(nanoseconds as f64 / 1e9)
}

fn metadata(kind: &str, i: usize, generation: usize) -> Value {
    json!({
        "namespace": NAMESPACE, "name": format!("{kind}{i}"), "generation": generation + 1,
        "uid": format!("00000000-0000-0000-0000-{i:012}"), "creationTimestamp": NOW,
    })
}

fn class() -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "scale"},
        "spec": {"controllerName": "diolkos.io/controller"},
    })
}

fn gateway() -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": {"namespace": NAMESPACE, "name": "scale", "generation": 1},
        "spec": {"gatewayClassName": "scale", "listeners": [{"name": "http", "port": 8080, "protocol": "HTTP"}]},
    })
}

fn service(i: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": metadata("s", i, 0),
        "spec": {"clusterIP": "None", "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 80}]},
    })
}

/// In its first version all endpoints are ready.
fn slice(i: usize, version: usize) -> Value {
    let mut metadata = metadata("s", i, version);
    metadata["labels"] = json!({"kubernetes.io/service-name": format!("s{i}")});
    let endpoints = (0..ENDPOINTS).map(|n| {
        let address = i * ENDPOINTS + n;
        let (high, middle, low) = (128 + address / 65536, address / 256 % 256, address % 256);
        json!({"addresses": [format!("10.{high}.{middle}.{low}")], "conditions": {"ready": version == 0 || n != 1}})
    });
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "metadata": metadata,
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}], "endpoints": endpoints.collect::<Vec<_>>(),
    })
}

/// With the rules of `bench/scale.py`.
fn route(i: usize, version: usize) -> Value {
    let redirect = json!({
        "type": "RequestRedirect",
        "requestRedirect": {"statusCode": 302, "path": {"type": "ReplaceFullPath", "replaceFullPath": format!("/{version}")}},
    });
    let header = json!({
        "type": "ResponseHeaderModifier",
        "responseHeaderModifier": {"set": [{"name": "x-version", "value": version.to_string()}]},
    });
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": metadata("r", i, version),
        "spec": {
            "parentRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "scale"}],
            "hostnames": [format!("r{i}.scale")],
            "rules": [
                {"matches": [{"path": {"type": "Exact", "value": "/version"}}], "filters": [redirect]},
                {
                    "matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "filters": [header],
                    "backendRefs": [{"group": "", "kind": "Service", "name": format!("s{i}"), "port": 80, "weight": 1}],
                },
            ],
        },
    })
}

//! Data planes find out together which endpoints work (features.md F51): real ones, over the push channel.

use super::logs;
use super::push::{Controller, GROUP, key, mounted};
use dataplane::app::{Config, DataPlane};
use dataplane::listeners::Binds;
use dataplane::push::{self as channel, PushConfig};
use dataplane::table::Registry;
use diolkos_controller::ca::authority::Authority;
use model::{
    ActiveHealth, Check, EndpointSource, Health, ObjectRef, PassiveHealth, StaticEndpoint, Upstream,
};
use snapshot::health::Opinion;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

const FOREVER: Duration = Duration::from_secs(60);

/// A data plane that follows a controller.
struct Plane {
    registry: Arc<Registry>,
    plane: DataPlane,
    following: JoinHandle<std::io::Result<()>>,
}

impl Plane {
    fn start(controller: &Controller, certificates: &Path, name: usize) -> Self {
        let config = Config {
            threads: 1,
            binds: Binds {
                http: None,
                https: None,
            },
            zone: None,
            per_source: 0,
            sessions: 0,
            memory_limit: Some(0),
            name_servers: Vec::new(),
        };
        let (plane, applier) = DataPlane::start(&config, &Handle::current()).unwrap();
        let registry = applier.registry();
        let config = PushConfig {
            endpoint: controller.endpoint(),
            tls_dir: Some(certificates.to_owned()),
            token_file: None,
            node_id: format!("plane-{name}"),
        };
        let following = tokio::spawn(channel::run(config, applier, CancellationToken::new()));
        Self {
            registry,
            plane,
            following,
        }
    }

    /// Whether it sends requests there, and why not: failing checks of its own, the verdict of others.
    fn of(&self, addr: SocketAddr) -> Option<(bool, bool, bool)> {
        let set = self.registry.get(&key("pool").1)?.endpoints();
        let e = set.endpoints().iter().find(|e| e.addr == addr)?;
        let used = set.candidates().iter().any(|e| e.addr == addr);
        Some((used, e.state.is_failing_checks(), e.state.is_pruned()))
    }

    fn uses(&self, addr: SocketAddr) -> bool {
        self.of(addr).is_some_and(|(used, ..)| used)
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.following.abort();
        self.plane.kill();
    }
}

async fn until(what: &str, is: impl Fn() -> bool) {
    let end = Instant::now() + FOREVER;
    while !is() {
        assert!(Instant::now() < end, "{what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Connects and nothing more.
async fn serve(address: &str) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        loop {
            drop(listener.accept().await);
        }
    });
    (address, serving)
}

fn pool(addresses: &[SocketAddr], health: Health) -> Upstream {
    let endpoints = addresses.iter().map(|addr| StaticEndpoint {
        host: addr.ip().to_string(),
        port: addr.port(),
        weight: 1,
        zone: None,
    });
    let source = EndpointSource::Static(endpoints.collect());
    let mut upstream = Upstream::new(ObjectRef::new("Upstream", "a", "pool"), source);
    upstream.health = health;
    upstream
}

fn publish(controller: &Controller, upstream: &Upstream) {
    let body = snapshot::encode(upstream).unwrap();
    controller
        .publisher
        .publish([(key("pool"), Some(body.into()))], 0);
}

fn checked() -> Health {
    Health {
        active: Some(ActiveHealth {
            check: Check::Tcp,
            interval_ms: 50,
            timeout_ms: 1000,
            unhealthy_threshold: 2,
            healthy_threshold: 2,
        }),
        ..Health::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_check_an_endpoint_and_all_know() {
    logs::listen();
    let authority = Authority::generate(SystemTime::now()).unwrap();
    let mut controller = Controller::start(&authority).await;
    let certificates = mounted(&authority.client_data(GROUP, SystemTime::now()).unwrap());
    let (well, _well) = serve("127.0.0.1:0").await;
    let (ill, serving) = serve("127.0.0.1:0").await;
    publish(&controller, &pool(&[well, ill], checked()));
    let planes: Vec<Plane> = (0..3)
        .map(|n| Plane::start(&controller, certificates.path(), n))
        .collect();
    until("all use both", || {
        let mut planes = planes.iter();
        planes.all(|p| p.uses(well) && p.uses(ill))
    })
    .await;
    controller
        .until(|planes| planes.len() == 3 && planes.iter().all(|p| p.acknowledged.is_some()))
        .await;

    serving.abort();
    let change = timeout(FOREVER, controller.changes.recv()).await;
    let change = change.unwrap().unwrap();
    assert_eq!((&*change.upstream, change.endpoint), (&*key("pool").1, ill));
    assert_eq!(change.unhealthy, Some(Opinion::FailsChecks));
    let endpoint = ill.to_string();
    let agree = ["data planes agree", "active_check", &endpoint];
    until("it is said", || {
        logs::count("backend_unhealthy", &agree) == 1
    })
    .await;
    until("none uses it, and one goes by what the others say", || {
        let of = planes.iter().map(|p| p.of(ill).unwrap());
        let of: Vec<_> = of.collect();
        let checking = of.iter().filter(|(_, failing, _)| *failing).count();
        checking == 2 && of.iter().all(|(used, _, pruned)| !used && *pruned)
    })
    .await;
    assert!(planes.iter().all(|p| p.uses(well)));

    let (_, _serving) = serve(&ill.to_string()).await;
    let change = timeout(FOREVER, controller.changes.recv()).await;
    assert_eq!(change.unwrap().unwrap().unhealthy, None);
    let again = ["works again", &endpoint];
    until("it is said", || logs::count("backend_healthy", &again) == 1).await;
    until("all use it again", || planes.iter().all(|p| p.uses(ill))).await;
    // Nothing of this is a configuration.
    assert_eq!(controller.publisher.cursor().generation, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_controller_each_checks_by_itself() {
    let authority = Authority::generate(SystemTime::now()).unwrap();
    let controller = Controller::start(&authority).await;
    let certificates = mounted(&authority.client_data(GROUP, SystemTime::now()).unwrap());
    let (well, _well) = serve("127.0.0.1:0").await;
    let (ill, serving) = serve("127.0.0.1:0").await;
    serving.abort();
    publish(&controller, &pool(&[well, ill], checked()));
    let planes: Vec<Plane> = (0..3)
        .map(|n| Plane::start(&controller, certificates.path(), n))
        .collect();
    until("none uses it", || {
        let mut planes = planes.iter();
        planes.all(|p| p.of(ill).is_some_and(|(used, _, pruned)| !used && pruned))
    })
    .await;
    controller.stop().await;
    until("all check it", || {
        let mut planes = planes.iter();
        planes.all(|p| p.of(ill).is_some_and(|(_, failing, _)| failing))
    })
    .await;
    assert!(planes.iter().all(|p| !p.uses(ill)));
    let (_, _serving) = serve(&ill.to_string()).await;
    until("all use it again", || planes.iter().all(|p| p.uses(ill))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_alone_is_not_believed_about_failed_requests() {
    let authority = Authority::generate(SystemTime::now()).unwrap();
    let mut controller = Controller::start(&authority).await;
    let certificates = mounted(&authority.client_data(GROUP, SystemTime::now()).unwrap());
    let addresses: Vec<SocketAddr> = (1..=4).map(|n| ([127, 0, 0, n], 9).into()).collect();
    let health = Health {
        passive: Some(PassiveHealth {
            consecutive_errors: 1,
            error_rate_percent: 0,
            min_requests: 1,
            window_ms: 1000,
            ejection_ms: 60_000,
            max_eject_percent: 50,
        }),
        ..Health::default()
    };
    publish(&controller, &pool(&addresses, health));
    let planes: Vec<Plane> = (0..3)
        .map(|n| Plane::start(&controller, certificates.path(), n))
        .collect();
    let bad = addresses[0];
    until("all use it", || planes.iter().all(|p| p.uses(bad))).await;
    controller
        .until(|planes| planes.len() == 3 && planes.iter().all(|p| p.acknowledged.is_some()))
        .await;
    let fail = |plane: &Plane| {
        let upstream = plane.registry.get(&key("pool").1).unwrap();
        let mut turns = (0..100).filter_map(|_| upstream.pick(None, &[]));
        let picked = turns.find(|p| p.addr == bad).unwrap();
        upstream.report(&picked, false);
    };
    fail(&planes[0]);
    until("it is reported", || {
        controller.metrics.health_reports.get() == 1
    })
    .await;
    assert!(!planes[0].uses(bad) && planes[1].uses(bad) && planes[2].uses(bad));
    fail(&planes[1]);
    let change = timeout(FOREVER, controller.changes.recv()).await;
    assert_eq!(change.unwrap().unwrap().unhealthy, Some(Opinion::Ejected));
    until("nobody uses it", || planes.iter().all(|p| !p.uses(bad))).await;
}

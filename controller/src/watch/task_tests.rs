use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::fake_log::FakeLog;
use crate::groups::{Group, Groups};
use crate::health::Board;
use crate::publish::Publisher;
use crate::watch::EVENTS;
use crate::world::{Definition, Object};

const FOREVER: Duration = Duration::from_secs(60);

struct Running {
    events: mpsc::Sender<Event>,
    world: WorldHandle,
    publisher: Arc<Publisher>,
    queue: Arc<Queue>,
    metrics: Arc<Metrics>,
    wishes: Arc<Wishes>,
    written: Arc<Written>,
    end: oneshot::Receiver<()>,
}

#[path = "task/list_tests.rs"]
mod list_tests;
#[path = "task/pods_tests.rs"]
mod pods_tests;
#[path = "task/recheck_tests.rs"]
mod recheck_tests;
#[path = "task/rollback_tests.rs"]
mod rollback_tests;
#[path = "task/stand_ins_tests.rs"]
mod stand_ins_tests;
#[path = "task/standing_tests.rs"]
mod standing_tests;
#[path = "task/values_tests.rs"]
mod values_tests;

/// Long enough to look at what is held, and short enough to wait for.
const GRACE: Duration = Duration::from_millis(500);

fn start(sync_timeout: Duration) -> Running {
    start_with(sync_timeout, false)
}

fn start_with(sync_timeout: Duration, can_roll_back: bool) -> Running {
    start_in(Scope::default(), sync_timeout, can_roll_back)
}

fn start_in(scope: Scope, sync_timeout: Duration, can_roll_back: bool) -> Running {
    let (task, publisher) = prepared(scope, sync_timeout, can_roll_back);
    Running::of(task, publisher)
}

/// One that does not look again at what it has translated.
fn prepared(
    scope: Scope,
    sync_timeout: Duration,
    can_roll_back: bool,
) -> (WorldTask, Arc<Publisher>) {
    let metrics = Arc::new(Metrics::new().unwrap());
    let publisher = Publisher::new("test");
    let groups = {
        let publisher = Arc::clone(&publisher);
        Groups::new("test/shared", move |_| {
            let metrics = Metrics::new().unwrap();
            let health = Board::new(
                metrics.health_reports,
                metrics.health_reports_omitted,
                |_| {},
            );
            Group::new(Arc::clone(&publisher), health, CancellationToken::new())
        })
    };
    let task = WorldTask {
        groups,
        gateways: watch::Sender::default(),
        queue: Arc::new(Queue::new(metrics.status_queue.clone())),
        objected: crate::events::objections::queue(),
        changes: crate::events::changes::queue().0,
        published: crate::translate::Published::default(),
        makes_data_planes: true,
        written: Arc::default(),
        metrics,
        wishes: Arc::new(Wishes::default()),
        pods: watch::channel(false).0,
        sync_timeout,
        removal_grace: GRACE,
        scope,
        can_roll_back,
        can_recall: false,
        stand_ins: watch::Sender::default(),
        recheck: Duration::ZERO,
    };
    (task, publisher)
}

fn route(name: &str) -> Object {
    let value = json!({
        "apiVersion": "diolkos.io/v1alpha1", "kind": "Route",
        "metadata": {"namespace": "a", "name": name, "generation": 1},
        "spec": {"hostnames": [format!("{name}.example")], "rules": [{"directResponse": {"status": 200}}]},
    });
    Object::from_json(&value).unwrap().unwrap()
}

/// The next version of [`route`] `one`, which cannot be used.
fn broken() -> Object {
    let value = json!({
        "apiVersion": "diolkos.io/v1alpha1", "kind": "Route",
        "metadata": {"namespace": "a", "name": "one", "generation": 2},
        "spec": {"hostnames": ["one.example"], "rules": [{
            "matches": [{"path": {"type": "RegularExpression", "value": "/("}}], "directResponse": {"status": 200},
        }]},
    });
    Object::from_json(&value).unwrap().unwrap()
}

fn apply(object: Object) -> Event {
    Event::Apply {
        object: Box::new(object),
        at: 1,
    }
}

impl Running {
    fn of(task: WorldTask, publisher: Arc<Publisher>) -> Self {
        let (queue, metrics) = (Arc::clone(&task.queue), Arc::clone(&task.metrics));
        let (wishes, written) = (Arc::clone(&task.wishes), Arc::clone(&task.written));
        let (events, received) = mpsc::channel(EVENTS);
        let (world, end) = task.start(received).unwrap();
        Self {
            events,
            world,
            publisher,
            queue,
            metrics,
            wishes,
            written,
            end,
        }
    }

    async fn send(&self, event: Event) {
        self.events.send(event).await.unwrap();
    }

    /// Lists nothing of any kind but one.
    async fn list_all_but(&self, except: ObjectKind) {
        for kind in ObjectKind::ALL.iter().filter(|k| **k != except) {
            self.send(Event::Listed {
                of: (*kind).into(),
                ids: BTreeSet::new(),
            })
            .await;
        }
    }

    /// Waits until these alone are waited for.
    async fn taken(&self, missing: &[ObjectKind]) {
        let mut kinds = missing.to_vec();
        kinds.sort();
        let mut now = self.world.missing.clone();
        let wait = now.wait_for(|now| *now == kinds);
        timeout(FOREVER, wait).await.unwrap().unwrap();
    }

    async fn published(&self, routes: usize) {
        let mut generation = self.publisher.subscribe();
        let wait = async {
            loop {
                let open = generation.borrow_and_update().is_some();
                let all = self.world.all().await;
                let known = all.keys().filter(|k| k.starts_with("Route/")).count();
                if open && known == routes {
                    return;
                }
                generation.changed().await.unwrap();
            }
        };
        timeout(FOREVER, wait)
            .await
            .expect("the routes are published");
    }
}

/// What status says of the endpoints of an upstream has to be said anew when data planes find out about them.
#[tokio::test]
async fn statuses_depend_on_upstreams() {
    let running = start(FOREVER);
    let of = |kind: &str, name: &str, spec: Value| {
        let value = json!({"apiVersion": "diolkos.io/v1alpha1", "kind": kind, "metadata": {"namespace": "a", "name": name}, "spec": spec});
        Object::from_json(&value).unwrap().unwrap()
    };
    let spec = json!({"endpoints": [{"address": "10.0.0.1", "port": 80}]});
    let pool = of("Upstream", "pool", spec.clone());
    let other = of("Upstream", "other", spec);
    let to = |name: &str| json!({"rules": [{"backends": [{"kind": "Upstream", "name": name}]}]});
    let (through, past) = (of("Route", "r", to("pool")), of("Route", "s", to("other")));
    let expected = BTreeSet::from([pool.id.clone(), through.id.clone()]);
    let mut listed = BTreeMap::<ObjectKind, BTreeSet<ObjectId>>::new();
    for object in [pool, other, through, past] {
        let ids = listed.entry(object.id.kind).or_default();
        ids.insert(object.id.clone());
        running.send(apply(object)).await;
    }
    for kind in ObjectKind::ALL {
        let ids = listed.remove(kind).unwrap_or_default();
        running
            .send(Event::Listed {
                of: (*kind).into(),
                ids,
            })
            .await;
    }
    running.published(2).await;
    let upstreams = BTreeSet::from(["Upstream/a/pool".into()]);
    let found = running.world.depend_on(upstreams).await;
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected);
}

#[tokio::test]
async fn a_route_waits_for_what_it_names_and_not_for_ever() {
    let running = start(FOREVER);
    for kind in ObjectKind::ALL {
        let ids = BTreeSet::new();
        running
            .send(Event::Listed {
                of: (*kind).into(),
                ids,
            })
            .await;
    }
    running.published(0).await;
    let of = |kind: &str, name: &str, spec: Value| {
        let value = json!({"apiVersion": "diolkos.io/v1alpha1", "kind": kind, "metadata": {"namespace": "a", "name": name}, "spec": spec});
        Object::from_json(&value).unwrap().unwrap()
    };
    let to = |name: &str| json!({"rules": [{"backends": [{"kind": "Upstream", "name": name}]}]});
    let reason = async |name: &str| {
        let wait = async {
            loop {
                let all = running.world.all().await;
                let parents = all
                    .get(&format!("Route/a/{name}"))
                    .map(|s| &s["parents"][0]);
                let conditions = parents.and_then(|p| p["conditions"].as_array());
                let refs =
                    conditions.and_then(|all| all.iter().find(|c| c["type"] == "ResolvedRefs"));
                if let Some(refs) = refs {
                    return refs["reason"].as_str().unwrap().to_owned();
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(FOREVER, wait).await.expect("a status")
    };
    // The watch of Routes is ahead of that of Upstreams: nothing is said of the Route before both are there.
    running.send(apply(of("Route", "r", to("pool")))).await;
    let spec = json!({"endpoints": [{"address": "10.0.0.1", "port": 80}]});
    running.send(apply(of("Upstream", "pool", spec))).await;
    assert_eq!(reason("r").await, "ResolvedRefs");
    // What does not come is waited for for a moment.
    running.send(apply(of("Route", "s", to("nothing")))).await;
    assert_eq!(reason("s").await, "BackendNotFound");
}

#[tokio::test]
async fn a_class_claims_what_the_definitions_of_the_moment_have() {
    let running = start(FOREVER);
    let class = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "ours"},
        "spec": {"controllerName": crate::report::CONTROLLER_NAME},
    });
    let class = Object::from_json(&class).unwrap().unwrap();
    let of = ObjectKind::GatewayClass.into();
    let ids = BTreeSet::from([class.id.clone()]);
    running.send(apply(class)).await;
    running.list_all_but(ObjectKind::GatewayClass).await;
    running.send(Event::Listed { of, ids }).await;
    running.published(0).await;
    for experimental in [true, false, true] {
        let definition = Definition {
            release: "v1.6.3".into(),
            experimental,
        };
        let event = Event::Definition(ObjectKind::HTTPRoute, Some(definition));
        running.send(event).await;
        let claimed = async {
            loop {
                let all = running.world.all().await;
                let features = all["GatewayClass/ours"]["supportedFeatures"].as_array();
                let mut features = features.unwrap().iter();
                if features.any(|f| f["name"] == "HTTPRouteRetry") == experimental {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(FOREVER, claimed).await.expect("another claim");
    }
}

#[tokio::test]
async fn the_thread_ends_with_its_events() {
    let running = start(FOREVER);
    drop(running.events);
    assert!(timeout(FOREVER, running.end).await.unwrap().is_err());
    assert_eq!(running.world.ids().await, []);
}

#[tokio::test]
async fn certificates_in_use_are_counted_by_their_expiry() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(["a.example.com".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let chain = params.self_signed(&key).unwrap().pem();
    let values = json!({"tls.crt": chain, "tls.key": key.serialize_pem()});
    let objects = [
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "a", "name": "used"}, "stringData": values}),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "a", "name": "unused"}, "stringData": values}),
        json!({"apiVersion": "diolkos.io/v1alpha1", "kind": "GatewayConfig", "metadata": {"namespace": "a", "name": "g"},
            "spec": {"listeners": [{"name": "l", "port": 8443, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "used"}]}}]}}),
    ];
    let objects = objects.map(|value| Object::from_json(&value).unwrap().unwrap());
    let running = start(FOREVER);
    for object in &objects {
        running.send(apply(object.clone())).await;
    }
    for kind in ObjectKind::ALL {
        let ids = objects.iter().filter(|o| o.id.kind == *kind);
        let ids = ids.map(|o| o.id.clone()).collect();
        running
            .send(Event::Listed {
                of: (*kind).into(),
                ids,
            })
            .await;
    }
    running.published(0).await;
    running.world.count().await;
    assert_eq!(running.metrics.cert_not_after.get(), 1_577_836_800);
    for within in ["30d", "1d"] {
        let count = running.metrics.certs_expiring.with_label_values(&[within]);
        assert_eq!(count.get(), 1, "{within}");
    }
}

#[tokio::test]
async fn pods_are_waited_for_where_an_upstream_selects_them() {
    let running = start(FOREVER);
    let value = json!({
        "apiVersion": "diolkos.io/v1alpha1", "kind": "Upstream",
        "metadata": {"namespace": "a", "name": "pods", "generation": 1},
        "spec": {"selector": {"matchLabels": {"app": "web"}, "port": 80}},
    });
    let upstream = Object::from_json(&value).unwrap().unwrap();
    let ids = BTreeSet::from([upstream.id.clone()]);
    running.send(apply(upstream)).await;
    for kind in ObjectKind::ALL.iter().filter(|k| **k != ObjectKind::Pod) {
        let ids = match kind {
            ObjectKind::Upstream => ids.clone(),
            _ => BTreeSet::new(),
        };
        running
            .send(Event::Listed {
                of: (*kind).into(),
                ids,
            })
            .await;
    }
    let mut missing = running.world.missing.clone();
    let last = missing.wait_for(|kinds| *kinds == [ObjectKind::Pod]);
    timeout(FOREVER, last).await.unwrap().unwrap();
    assert!(running.publisher.subscribe().borrow().is_none());
    running
        .send(Event::Listed {
            of: ObjectKind::Pod.into(),
            ids: BTreeSet::new(),
        })
        .await;
    running.published(0).await;
}

#[tokio::test]
async fn pods_that_nobody_selects_are_not_waited_for() {
    let running = start(FOREVER);
    running.list_all_but(ObjectKind::Pod).await;
    running.published(0).await;
}

/// A Route that was acceptable once and is not any more: the replica that has seen it before serves that version on,
/// and so does one that has started since.
#[tokio::test]
async fn a_replica_that_starts_serves_what_stands_in_elsewhere() {
    let good = route("one");
    let broken = broken();
    let listed = async |running: &Running| {
        running.list_all_but(ObjectKind::Route).await;
        let ids = BTreeSet::from([good.id.clone()]);
        let kind = ObjectKind::Route;
        running
            .send(Event::Listed {
                of: kind.into(),
                ids,
            })
            .await;
        running.published(1).await;
    };
    let digest = |running: &Running| running.publisher.cursor().digest;

    let first = start(FOREVER);
    first.send(apply(good.clone())).await;
    listed(&first).await;
    let served = digest(&first);
    first.send(apply(broken.clone())).await;
    let manifests = async {
        let mut seen = None;
        loop {
            if let Some(news) = first.world.stand_ins(seen).await {
                if !news.manifests.is_empty() {
                    return news.manifests;
                }
                seen = Some(news.version);
            }
            tokio::task::yield_now().await;
        }
    };
    let manifests = timeout(FOREVER, manifests).await.expect("one stands in");
    assert_eq!(digest(&first), served);
    let read = |m: &Value| Object::from_json(m).unwrap().unwrap();
    let stand_ins: Vec<Object> = manifests.iter().map(read).collect();

    // Told before it has listed anything, and after.
    let second = start(FOREVER);
    second.world.recall(stand_ins.clone()).await;
    second.send(apply(broken.clone())).await;
    listed(&second).await;
    assert_eq!(digest(&second), served);
    let third = start(FOREVER);
    third.send(apply(broken)).await;
    listed(&third).await;
    assert_ne!(digest(&third), served);
    third.world.recall(stand_ins.clone()).await;
    assert_eq!(digest(&third), served);

    // What is acceptable stays as it is.
    let fourth = start(FOREVER);
    let mut newer = good.clone();
    newer.meta.generation = 3;
    newer.body = route("two").body;
    fourth.send(apply(newer)).await;
    listed(&fourth).await;
    let served = digest(&fourth);
    fourth.world.recall(stand_ins).await;
    assert_eq!(digest(&fourth), served);
}

#[tokio::test(start_paused = true)]
async fn that_nothing_is_published_is_said_once_and_not_with_each_kind_that_comes() {
    let patience = Duration::from_secs(1);
    let (task, _) = prepared(Scope::default(), patience, false);
    let (missing, _) = watch::channel(Vec::new());
    let mut owner = Owner::new(task, missing, Instant::now());
    tokio::time::advance(patience * 2).await;
    let log = FakeLog::taking("info");
    for kind in ObjectKind::ALL {
        assert!(!owner.open);
        owner.take(Event::Listed {
            of: (*kind).into(),
            ids: BTreeSet::new(),
        });
    }
    assert!(owner.open);
    let lines = log.lines();
    let said = lines.iter().filter(|l| l.contains("nothing is published"));
    let said: Vec<_> = said.collect();
    assert_eq!(said.len(), 1, "{lines:#?}");
    assert!(said[0].starts_with("WARN "));
}

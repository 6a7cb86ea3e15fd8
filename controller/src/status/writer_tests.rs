use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::fake_api::{self, FakeApi};
use crate::leader::fake::Crown;
use crate::report::CONTROLLER_NAME;
use crate::watch::handle::{Ask, Wanted};

const SECOND: Duration = Duration::from_secs(1);

/// A leader that writes statuses.
struct Running {
    api: FakeApi,
    crown: Crown,
    written: Arc<Written>,
    queue: Arc<Queue>,
}

/// `wanted` says what the statuses should be. The API server takes as many milliseconds to show an object as its name
/// says.
fn start(ids: Vec<ObjectId>, wanted: impl Fn(ObjectId) -> Wanted + Send + 'static) -> Running {
    let (client, api) = FakeApi::answering(|asked| async move {
        if asked.method != "GET" {
            return fake_api::empty(asked);
        }
        let name = asked.path.rsplit('/').next().unwrap_or_default();
        sleep(Duration::from_millis(name.parse().unwrap())).await;
        let metadata = json!({"name": name, "namespace": "a", "resourceVersion": "1"});
        (
            200,
            json!({"apiVersion": "v1", "kind": "X", "metadata": metadata}),
        )
    });
    let world = WorldHandle::answering(move |ask| match ask {
        Ask::Ids(reply) => drop(reply.send(ids.clone())),
        Ask::Statuses(ids, reply) => drop(reply.send(ids.into_iter().map(&wanted).collect())),
        _ => {}
    });
    let (crown, leadership) = Crown::new();
    let queue = Arc::new(Queue::uncounted());
    let written = Arc::new(Written::default());
    let writer = StatusWriter {
        client,
        world,
        queue: Arc::clone(&queue),
        written: Arc::clone(&written),
        metrics: Arc::new(Metrics::new().unwrap()),
        leadership,
        progress: watch::channel(0).1,
    };
    tokio::spawn(writer.run(CancellationToken::new()));
    Running {
        api,
        crown,
        written,
        queue,
    }
}

impl Running {
    /// Waits until so many requests of a method have been made; how long that took.
    async fn until(&self, method: &str, number: usize) -> Duration {
        let began = Instant::now();
        let made = async {
            while self.api.count(method) < number {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(SECOND * 60, made).await.expect(method);
        began.elapsed()
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_lease_was_not_held_for_is_written_when_it_is_again() {
    let generation = Arc::new(AtomicUsize::new(1));
    let now = Arc::clone(&generation);
    let routes = ["100", "200"].map(|name| ObjectId::new(ObjectKind::HTTPRoute, "a", name));
    let it = start(routes.to_vec(), move |id| {
        let entry = json!({"controllerName": CONTROLLER_NAME, "n": now.load(Ordering::Relaxed)});
        Wanted {
            id,
            uid: Arc::default(),
            status: Some(json!({"parents": [entry]})),
            waits: false,
            alone: false,
        }
    });
    it.until("PATCH", 2).await;
    generation.store(2, Ordering::Relaxed);
    it.queue.push(routes);
    it.until("GET", 4).await;
    // Both are being read. The first is not written any more; before the second is, the Lease is held again.
    it.crown.lapse_in(Duration::ZERO);
    sleep(Duration::from_millis(150)).await;
    assert_eq!(it.api.count("PATCH"), 2);
    it.crown.win(2);
    it.until("PATCH", 3).await;
    let took = it.until("PATCH", 4).await;
    assert!(took < SECOND * 2, "{took:?}");
}

fn status(generation: usize) -> impl Fn(ObjectId) -> Wanted {
    move |id| Wanted {
        id,
        uid: Arc::default(),
        status: Some(json!({"observedGeneration": generation})),
        waits: false,
        alone: false,
    }
}

#[tokio::test(start_paused = true)]
async fn a_status_is_written_in_the_version_that_is_followed() {
    let routes = [ObjectKind::TCPRoute, ObjectKind::UDPRoute];
    let routes = routes.map(|kind| ObjectId::new(kind, "a", "0"));
    let it = start(routes.to_vec(), |id| Wanted {
        status: Some(json!({"parents": [{"controllerName": CONTROLLER_NAME}]})),
        ..status(1)(id)
    });
    let mut resource = resource(ObjectKind::TCPRoute).unwrap();
    resource.version = "v1alpha2".to_owned();
    resource.api_version = format!("{}/v1alpha2", resource.group);
    it.written.follow(ObjectKind::TCPRoute, resource);
    it.until("PATCH", 2).await;
    let asked = it.api.asked().into_iter();
    let writes = asked.filter(|asked| asked.method == "PATCH");
    let paths: BTreeSet<String> = writes.map(|asked| asked.path).collect();
    let expected = [
        "/apis/gateway.networking.k8s.io/v1/namespaces/a/udproutes/0/status",
        "/apis/gateway.networking.k8s.io/v1alpha2/namespaces/a/tcproutes/0/status",
    ];
    assert_eq!(paths, BTreeSet::from(expected.map(str::to_owned)));
}

#[tokio::test(start_paused = true)]
async fn what_others_overwrite_is_written_again_but_not_each_time() {
    let route = ObjectId::new(ObjectKind::Route, "a", "0");
    let it = start(vec![route.clone()], status(1));
    it.until("PATCH", 1).await;
    // Past the looks at the beginning, and before the next one at everything.
    sleep(SECOND * 3).await;
    let theirs = json!({"observedGeneration": 7});
    it.written
        .see(&route, &Arc::default(), "2", Some(theirs.clone()));
    let took = it.until("PATCH", 2).await;
    assert!(took < HEAL + SECOND, "{took:?}");
    let began = Instant::now();
    while began.elapsed() < SECOND * 20 {
        it.written
            .see(&route, &Arc::default(), "2", Some(theirs.clone()));
        sleep(SECOND / 10).await;
    }
    let again = it.api.count("PATCH") - 2;
    assert!((5..=11).contains(&again), "{again}");
}

/// The statuses of which generation were written of which version.
fn written_of(it: &Running) -> Vec<(Value, Value)> {
    let asked = it.api.asked();
    let writes = asked.into_iter().filter(|a| a.method == "PATCH");
    let of = |body: &Value| {
        let version = &body["metadata"]["resourceVersion"];
        (
            version.clone(),
            body["status"]["observedGeneration"].clone(),
        )
    };
    writes.map(|a| of(&a.body)).collect()
}

#[tokio::test(start_paused = true)]
async fn the_status_of_an_object_is_not_written_to_another_that_has_its_name_later() {
    let route = ObjectId::new(ObjectKind::Route, "a", "0");
    let one: Arc<str> = "1".into();
    let generation = Arc::new(AtomicUsize::new(1));
    let (now, uid) = (Arc::clone(&generation), Arc::clone(&one));
    let it = start(vec![route.clone()], move |id| Wanted {
        uid: Arc::clone(&uid),
        ..status(now.load(Ordering::Relaxed))(id)
    });
    it.written.see(&route, &one, "10", None);
    it.until("PATCH", 1).await;
    // The server echoes a write, and with it the version that it was of.
    assert_eq!(written_of(&it), [(json!("10"), json!(1))]);

    it.written
        .see(&route, &one, "11", Some(json!({"observedGeneration": 1})));
    generation.store(2, Ordering::Relaxed);
    it.queue.push([route.clone()]);
    it.until("PATCH", 2).await;
    assert_eq!(written_of(&it)[1], (json!("11"), json!(2)));

    // It was deleted, and another is there, of which nothing has been translated yet.
    it.written.see(&route, &"2".into(), "20", None);
    generation.store(3, Ordering::Relaxed);
    it.queue.push([route]);
    sleep(SECOND * 60).await;
    assert_eq!(it.api.count("PATCH"), 2);
}

#[tokio::test(start_paused = true)]
async fn data_planes_may_come_back_before_it_is_said_that_there_are_none() {
    let [known, new] = ["0", "1"].map(|name| ObjectId::new(ObjectKind::Route, "a", name));
    let (come, is_come) = watch::channel(false);
    let it = start(vec![known.clone(), new], move |id| {
        let alone = &*id.name == "1" || !*is_come.borrow();
        Wanted {
            waits: alone,
            alone,
            ..status(1 + usize::from(alone))(id)
        }
    });
    let before = json!({"observedGeneration": 1});
    it.written.note(&known, Some(&before));
    // Of what has no status yet it is said at once.
    let took = it.until("PATCH", 1).await;
    assert!(took < SECOND * 2, "{took:?}");
    assert!(it.api.asked()[0].path.ends_with("/1/status"));
    sleep(SECOND * 5).await;
    assert_eq!(it.api.count("PATCH"), 1);

    // They come, and go again when the time is over.
    come.send_replace(true);
    it.queue.push([known.clone()]);
    sleep(SECOND * 15).await;
    assert_eq!(it.api.count("PATCH"), 1);
    come.send_replace(false);
    it.queue.push([known.clone()]);
    let took = it.until("PATCH", 2).await;
    assert!(took < SECOND * 2, "{took:?}");

    // To the next leader they do not come.
    it.written.note(&known, Some(&before));
    it.crown.win(2);
    let took = it.until("PATCH", 3).await;
    assert!(RETURN < took && took < RETURN + SECOND * 2, "{took:?}");
}

#[test]
fn the_bucket_gives_a_burst_and_then_its_rate() {
    let now = Instant::now();
    let mut bucket = Bucket::new(now);
    assert_eq!(bucket.take(200, now), Duration::ZERO);
    assert_eq!(bucket.take(50, now), Duration::from_secs(1));
    assert_eq!(bucket.take(1, now + Duration::from_secs(2)), Duration::ZERO);
    assert_eq!(
        bucket.take(200, now + Duration::from_secs(1000)),
        Duration::ZERO
    );
}

#[tokio::test(start_paused = true)]
async fn data_planes_are_given_a_moment_to_answer() {
    let id = ObjectId::new(ObjectKind::Route, "a", "b");
    let mut pending = Pending::new();
    assert!(pending.waits_first(&id));
    sleep(ANSWER / 2).await;
    assert!(pending.waits_first(&id), "looked at once more");
    sleep(ANSWER / 2).await;
    assert!(!pending.waits_first(&id), "they do not answer");
    // What a stopping leader does not say now it never says.
    pending.waiting.clear();
    pending.last = true;
    assert!(!pending.waits_first(&id));
}

#[test]
fn times_are_written_as_the_api_server_does() {
    let text = now();
    assert_eq!(text.len(), "2026-11-21T10:00:00Z".len(), "{text}");
    assert!(text.ends_with('Z'));
}

#[test]
fn every_kind_with_a_status_of_ours_can_be_written() {
    for kind in ObjectKind::ALL {
        assert_eq!(resource(*kind).is_some(), kind.has_status());
    }
}

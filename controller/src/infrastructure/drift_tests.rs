//! What others do to what was made, before an API server that keeps it.

use super::tests::{operator, owner, plan};
use super::*;
use crate::fake_api::{Asked, FakeApi, refusal, response};
use crate::leader::fake::Crown;
use axum::body::{Body, Bytes};
use axum::response::Response;
use futures_util::StreamExt;
use futures_util::stream::{self, unfold};
use parking_lot::Mutex;
use std::convert::Infallible;
use tokio::sync::broadcast;

const SECOND: Duration = Duration::from_secs(1);
const MADE: [&str; 5] = [
    "secrets",
    "serviceaccounts",
    "poddisruptionbudgets",
    "deployments",
    "services",
];

/// What the API server has, by path, and whoever watches a kind.
struct Cluster {
    objects: Mutex<BTreeMap<String, Value>>,
    /// Kind and event.
    events: broadcast::Sender<(String, Value)>,
    owner_goes: Mutex<bool>,
    plan: Mutex<Plan>,
}

/// The kind in a path to one object, or to all.
fn kind(path: &str) -> &str {
    let mut parts = path.rsplit('/');
    let last = parts.next().unwrap();
    match path.contains("/namespaces/") {
        true => parts.next().unwrap(),
        false => last,
    }
}

/// Whether it is the path to something that was made; the controller's own Secrets lie elsewhere.
fn is_made(path: &str, of: &str) -> bool {
    kind(path) == of && path.contains("/namespaces/shop/")
}

/// As the API server notes it.
fn managed(fields: &Value) -> Value {
    json!([
        {"manager": FIELD_MANAGER, "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": fields},
        {"manager": "another", "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": {"f:status": {}}},
    ])
}

impl Cluster {
    fn path(&self, of: &str) -> String {
        let objects = self.objects.lock();
        let mut paths = objects.keys().filter(|path| is_made(path, of));
        paths.next().expect("it is there").clone()
    }

    fn has(&self, of: &str) -> bool {
        self.objects.lock().keys().any(|path| is_made(path, of))
    }

    fn tell(&self, of: &str, type_: &str, object: &Value) {
        let event = json!({"type": type_, "object": object});
        let _ = self.events.send((of.to_owned(), event));
    }

    fn delete(&self, of: &str) -> Value {
        let path = self.path(of);
        self.objects.lock().remove(&path).unwrap()
    }

    /// Somebody changes it, after which so much of it is ours.
    fn change(&self, of: &str, ours: &Value) {
        let path = self.path(of);
        let mut objects = self.objects.lock();
        let object = objects.get_mut(&path).unwrap();
        object["metadata"]["managedFields"] = managed(ours);
        object["metadata"]["labels"]["changed"] = json!("yes");
        self.tell(of, "MODIFIED", object);
    }

    fn answer(&self, asked: Asked) -> Response {
        let of = kind(&asked.path).to_owned();
        if let Some(mut owner) = owner(&asked) {
            if *self.owner_goes.lock() {
                owner["metadata"]["deletionTimestamp"] = json!("2026-01-31T12:00:00Z");
            }
            return response((200, owner));
        }
        let is_of_one = asked.path.contains("/namespaces/");
        let mut objects = self.objects.lock();
        match &*asked.method {
            "PATCH" => {
                let mut object = asked.body;
                object["metadata"]["managedFields"] = managed(&json!({"f:spec": {"f:x": {}}}));
                object["metadata"]["resourceVersion"] = json!("7");
                objects.insert(asked.path, object.clone());
                self.tell(&of, "MODIFIED", &object);
                response((200, object))
            }
            "POST" => {
                let name = asked.body["metadata"]["name"].as_str().unwrap();
                let path = format!("{}/{name}", asked.path);
                objects.insert(path, asked.body.clone());
                response((201, asked.body))
            }
            "DELETE" => response(refusal(404)),
            _ if is_of_one => match objects.get(&asked.path) {
                Some(object) => response((200, object.clone())),
                None => response(refusal(404)),
            },
            _ if asked.query.contains("watch=true") => {
                let events = unfold(self.events.subscribe(), |mut events| async {
                    Some((events.recv().await.ok()?, events))
                });
                let events = events.filter_map(move |(kind, event)| {
                    let line = Bytes::from(format!("{event}\n"));
                    let line = (kind == of).then_some(Ok::<_, Infallible>(line));
                    async { line }
                });
                Response::new(Body::from_stream(events.chain(stream::pending())))
            }
            _ => {
                let items = objects.iter().filter(|(path, _)| is_made(path, &of));
                let items: Vec<&Value> = items.map(|(_, object)| object).collect();
                let list = json!({
                    "kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "9"}, "items": items,
                });
                response((200, list))
            }
        }
    }
}

struct Running {
    cluster: Arc<Cluster>,
    api: FakeApi,
    changed: watch::Sender<u64>,
    _crown: Crown,
}

impl Running {
    /// A leader that has made what a Gateway needs.
    async fn start() -> Self {
        let cluster = Arc::new(Cluster {
            objects: Mutex::default(),
            events: broadcast::Sender::new(64),
            owner_goes: Mutex::default(),
            plan: Mutex::new(plan()),
        });
        let kept = Arc::clone(&cluster);
        let (client, api) = FakeApi::serving(move |asked| {
            let kept = Arc::clone(&kept);
            async move { kept.answer(asked) }
        });
        let (crown, leadership) = Crown::new();
        let planned = Arc::clone(&cluster);
        let plan = move || planned.plan.lock().clone();
        let mut operator = operator(client, plan, leadership, Scope::default());
        let (changed, ticks) = watch::channel(0);
        operator.changed = ticks;
        tokio::spawn(operator.run(CancellationToken::new()));
        let running = Self {
            cluster,
            api,
            changed,
            _crown: crown,
        };
        sleep(SECOND * 5).await;
        running.expect_writes(&MADE);
        running
    }

    /// Kinds that were written, once each, since the last time that it was asked.
    fn expect_writes(&self, kinds: &[&str]) {
        let asked = self.api.asked().into_iter();
        let written = asked.filter(|asked| asked.method == "PATCH");
        let written: Vec<String> = written.map(|a| kind(&a.path).to_owned()).collect();
        self.api.forget();
        assert_eq!(written, kinds);
    }
}

#[tokio::test(start_paused = true)]
async fn what_others_delete_is_made_again_and_nothing_else() {
    let it = Running::start().await;
    for kind in MADE {
        let gone = it.cluster.delete(kind);
        it.cluster.tell(kind, "DELETED", &gone);
        sleep(SECOND * 3).await;
        it.expect_writes(&[kind]);
        assert!(it.cluster.has(kind));
    }
    sleep(SECOND * 60).await;
    it.expect_writes(&[]);
}

#[tokio::test(start_paused = true)]
async fn what_others_change_of_ours_is_put_right() {
    let it = Running::start().await;
    for kind in &MADE[1..] {
        // A status, or an annotation that is not ours.
        it.cluster.change(kind, &json!({"f:spec": {"f:x": {}}}));
        sleep(SECOND * 3).await;
        it.expect_writes(&[]);
        it.cluster.change(kind, &json!({"f:spec": {}}));
        sleep(SECOND * 3).await;
        it.expect_writes(&[kind]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_went_while_nobody_watched_is_missed_in_the_next_list() {
    let it = Running::start().await;
    it.cluster.delete("deployments");
    it.cluster.delete("services");
    sleep(SECOND * 3).await;
    it.expect_writes(&[]);
    let (_, too_old) = refusal(410);
    it.cluster.tell("services", "ERROR", &too_old);
    sleep(SECOND * 30).await;
    it.expect_writes(&["services"]);
}

#[tokio::test(start_paused = true)]
async fn what_goes_with_its_owner_does_not_come_back() {
    let it = Running::start().await;
    *it.cluster.owner_goes.lock() = true;
    for kind in MADE {
        let gone = it.cluster.delete(kind);
        it.cluster.tell(kind, "DELETED", &gone);
    }
    sleep(SECOND * 60).await;
    it.expect_writes(&[]);
}

#[tokio::test(start_paused = true)]
async fn an_autoscaler_that_nobody_asks_for_any_more_goes_at_once() {
    let it = Running::start().await;
    for _ in 0..2 {
        for (autoscaling, method) in [
            (json!({"maxReplicas": 4}), "PATCH"),
            (json!(null), "DELETE"),
        ] {
            it.api.forget();
            let asked = json!({"autoscaling": autoscaling});
            it.cluster.plan.lock().asked = serde_json::from_value(asked).unwrap();
            it.changed.send_modify(|n| *n += 1);
            sleep(SECOND * 3).await;
            let asked = it.api.asked().into_iter();
            let mut asked = asked.filter(|asked| asked.method != "GET");
            let is_it =
                |a: Asked| a.method == method && kind(&a.path) == "horizontalpodautoscalers";
            assert!(asked.any(is_it), "{method}");
        }
    }
}

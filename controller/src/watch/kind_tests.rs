//! Watches before an API server that a test plays.

use std::collections::{BTreeMap, VecDeque};
use std::future::pending;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::{Body, Bytes};
use axum::response::Response;
use futures_util::stream;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::*;
use crate::fake_api::{FakeApi, refusal, response};
use crate::fake_log::FakeLog;
use crate::watch::following::{PAGE, SETTLED};

const FOREVER: Duration = Duration::from_secs(3600);
const MAPS: &str = "/api/v1/configmaps";
const ROUTES: &str = "/apis/diolkos.io/v1alpha1/routes";

/// What the API server answers to a request.
enum Reply {
    Json(u16, Value),
    /// Events of a watch, which stays open, and quiet.
    Events(Vec<Value>),
    /// Events of a watch that ends with them.
    Ended(Vec<Value>),
    /// The beginning of an answer, whose connection breaks.
    Cut(&'static str),
    Never,
}

impl Reply {
    async fn send(self) -> Response {
        let line = |event: Value| Ok::<_, io::Error>(Bytes::from(format!("{event}\n")));
        let body = match self {
            Self::Json(status, body) => return response((status, body)),
            Self::Never => return pending().await,
            Self::Ended(events) => Body::from_stream(stream::iter(events).map(line)),
            Self::Events(events) => {
                let events = stream::iter(events).map(line);
                Body::from_stream(events.chain(stream::pending()))
            }
            Self::Cut(text) => {
                let broken = Err(io::Error::from(io::ErrorKind::ConnectionReset));
                Body::from_stream(stream::iter([Ok(Bytes::from(text)), broken]))
            }
        };
        Response::new(body)
    }
}

/// What it answers to requests for a path, in turn, and to watches of it. After the last it says nothing more.
#[derive(Default)]
struct Script {
    answers: VecDeque<Reply>,
    watches: VecDeque<Reply>,
}

fn script(
    answers: impl IntoIterator<Item = Reply>,
    watches: impl IntoIterator<Item = Reply>,
) -> Script {
    Script {
        answers: answers.into_iter().collect(),
        watches: watches.into_iter().collect(),
    }
}

struct Following {
    api: FakeApi,
    events: mpsc::Receiver<Event>,
    /// Of an event that brought more than one object, what has not been told yet.
    later: VecDeque<String>,
    metrics: Arc<Metrics>,
    written: Arc<Written>,
}

/// Follows a kind.
fn follow<const N: usize>(
    kind: ObjectKind,
    scope: &str,
    scripts: [(&'static str, Script); N],
) -> Following {
    follow_in(kind, scope.parse().unwrap(), scripts)
}

fn follow_in<const N: usize>(
    kind: ObjectKind,
    scope: Scope,
    scripts: [(&'static str, Script); N],
) -> Following {
    let scripts = BTreeMap::from(scripts);
    let scripts = Arc::new(Mutex::new(scripts));
    let (client, api) = FakeApi::serving(move |asked| {
        let reply = scripts.lock().get_mut(&*asked.path).and_then(|script| {
            let is_watch = asked.query.contains("watch=true");
            match is_watch {
                true => script.watches.pop_front(),
                false => script.answers.pop_front(),
            }
        });
        reply.unwrap_or(Reply::Never).send()
    });
    let metrics = Arc::new(Metrics::new().unwrap());
    let (sender, events) = mpsc::channel(64);
    let written = Arc::<Written>::default();
    let watches = Watches {
        client,
        events: sender,
        written: Arc::clone(&written),
        metrics: Arc::clone(&metrics),
        scope,
        standing: Arc::new(Standing::new(Arc::clone(&metrics))),
        pods: watch::channel(false).1,
    };
    tokio::spawn(watches.keep_following(kind));
    Following {
        api,
        events,
        later: VecDeque::new(),
        metrics,
        written,
    }
}

impl Following {
    /// The next event: an object as `+name`, or `-name` where it is gone; a list as its names.
    async fn next(&mut self) -> String {
        if let Some(later) = self.later.pop_front() {
            return later;
        }
        match timeout(FOREVER, self.events.recv()).await {
            Ok(Some(Event::Apply { object, .. })) => format!("+{}", object.id.name),
            Ok(Some(Event::Some { objects, .. })) => {
                let names = objects.iter().map(|object| format!("+{}", object.id.name));
                self.later.extend(names);
                self.later.pop_front().unwrap()
            }
            Ok(Some(Event::Delete { id, .. })) => format!("-{}", id.name),
            Ok(Some(Event::Listed { of, ids })) => {
                let names: Vec<&str> = ids.iter().map(|id| &*id.name).collect();
                format!("{of}: {}", names.join(" "))
            }
            Ok(Some(Event::Absent(kind))) => format!("no {kind}"),
            Ok(Some(Event::Forbidden(target, verb))) => format!("no {verb} of {target}"),
            Ok(Some(Event::Permitted(target))) => format!("again {target}"),
            other => panic!("{other:?}"),
        }
    }

    async fn expect(&mut self, events: &[&str]) {
        for event in events {
            assert_eq!(self.next().await, *event);
        }
    }

    async fn expect_nothing(&mut self, time: Duration) {
        let event = timeout(time, self.events.recv()).await;
        assert!(event.is_err(), "{event:?}");
    }

    /// Queries of the lists or watches so far.
    fn queries(&self, of_watches: bool) -> Vec<String> {
        let asked = self.api.asked().into_iter().map(|asked| asked.query);
        let queries = asked.filter(|query| query.contains("watch=true") == of_watches);
        queries.collect()
    }

    /// Whether the kind is up, and whether it is forbidden.
    fn gauges(&self, kind: ObjectKind) -> (i64, i64) {
        let (up, missing) = (&self.metrics.watch_up, &self.metrics.missing_permissions);
        let [up, missing] = [up, missing].map(|g| g.with_label_values(&[kind.name()]).get());
        (up, missing)
    }
}

fn object(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"namespace": namespace, "name": name, "resourceVersion": "7"},
    })
}

/// A page of objects in a namespace; `next`: the token for the one after it.
fn page(namespace: &str, names: &[&str], next: &str) -> Reply {
    let items: Vec<Value> = names.iter().map(|name| object(namespace, name)).collect();
    let list = json!({
        "kind": "List", "apiVersion": "v1",
        "metadata": {"resourceVersion": "5", "continue": next}, "items": items,
    });
    Reply::Json(200, list)
}

fn list(names: &[&str]) -> Reply {
    page("a", names, "")
}

fn event(type_: &str, name: &str) -> Value {
    json!({"type": type_, "object": object("a", name)})
}

fn refuse(code: u16) -> Reply {
    let (code, status) = refusal(code);
    Reply::Json(code, status)
}

fn error_event(code: u16) -> Value {
    json!({"type": "ERROR", "object": refusal(code).1})
}

#[tokio::test(start_paused = true)]
async fn a_kind_is_followed_in_the_version_that_is_served_and_written_in_it() {
    const GROUP: &str = "gateway.networking.k8s.io";
    let version = |name: &str| json!({"version": name, "groupVersion": format!("{GROUP}/{name}")});
    let group = json!({
        "name": GROUP, "versions": [version("v1"), version("v1alpha2")], "preferredVersion": version("v1"),
    });
    let groups = json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [group]});
    let resource = |name: &str, kind: &str| json!({"name": name, "singularName": "", "namespaced": true, "kind": kind, "verbs": ["list", "watch"]});
    let resources = |version: &str, resource: Value| {
        let of_version = format!("{GROUP}/{version}");
        let list =
            json!({"kind": "APIResourceList", "groupVersion": of_version, "resources": [resource]});
        script([Reply::Json(200, list)], [])
    };
    let mut it = follow(
        ObjectKind::TCPRoute,
        "",
        [
            ("/apis", script([Reply::Json(200, groups)], [])),
            (
                "/apis/gateway.networking.k8s.io/v1",
                resources("v1", resource("httproutes", "HTTPRoute")),
            ),
            (
                "/apis/gateway.networking.k8s.io/v1alpha2",
                resources("v1alpha2", resource("tcproutes", "TCPRoute")),
            ),
            (
                "/apis/gateway.networking.k8s.io/v1alpha2/tcproutes",
                script([list(&[])], []),
            ),
        ],
    );
    it.expect(&["TCPRoute: "]).await;
    let followed = it.written.followed(ObjectKind::TCPRoute).unwrap();
    assert_eq!(
        (&*followed.version, &*followed.plural),
        ("v1alpha2", "tcproutes")
    );
}

#[tokio::test(start_paused = true)]
async fn objects_of_a_list_that_are_there_come_together() {
    let names: Vec<String> = (0..SOME + 4).map(|n| format!("o{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let pages = [page("a", &names, "more"), Reply::Never];
    let mut it = follow(ObjectKind::ConfigMap, "", [(MAPS, script(pages, []))]);
    // The last of them do not wait for the next page.
    for count in [SOME, 4] {
        match timeout(PAGE / 2, it.events.recv()).await {
            Ok(Some(Event::Some { objects, .. })) => assert_eq!(objects.len(), count),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_appears_later_is_watched_and_again_when_it_was_gone() {
    const GROUP: &str = "/apis/diolkos.io/v1alpha1";
    let routes = || {
        let resource = json!({
            "name": "routes", "singularName": "route", "namespaced": true, "kind": "Route", "verbs": ["list", "watch"],
        });
        let of_group = json!({"kind": "APIResourceList", "groupVersion": "diolkos.io/v1alpha1", "resources": [resource]});
        Reply::Json(200, of_group)
    };
    let one = || {
        let spec = json!({"rules": [{"directResponse": {"status": 200}}]});
        let route = json!({
            "apiVersion": "diolkos.io/v1alpha1", "kind": "Route",
            "metadata": {"namespace": "a", "name": "one", "resourceVersion": "5"}, "spec": spec,
        });
        let list = json!({
            "kind": "RouteList", "apiVersion": "diolkos.io/v1alpha1",
            "metadata": {"resourceVersion": "5"}, "items": [route],
        });
        Reply::Json(200, list)
    };
    let groups = [refuse(404), refuse(404), routes(), refuse(404), routes()];
    let mut it = follow(
        ObjectKind::Route,
        "",
        [
            (GROUP, script(groups, [])),
            (
                ROUTES,
                script([one(), one()], [Reply::Ended(vec![]), refuse(404)]),
            ),
        ],
    );
    let begun = Instant::now();
    it.expect(&["no Route", "no Route", "+one", "Route: one"])
        .await;
    assert_eq!(begun.elapsed().as_secs(), 2 * ASK_AGAIN.as_secs());
    it.expect(&["no Route", "+one", "Route: one"]).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_too_old_to_go_on_from_is_listed_anew() {
    let event = Reply::Events(vec![event("ADDED", "three"), error_event(410)]);
    for (too_old, before) in [(event, &["+three"][..]), (refuse(410), &[][..])] {
        let lists = script(
            [list(&["one", "two"]), list(&["two"])],
            [too_old, Reply::Events(vec![])],
        );
        let mut it = follow(ObjectKind::ConfigMap, "", [(MAPS, lists)]);
        it.expect(&["+one", "+two", "ConfigMap: one two"]).await;
        // Only the list says what is gone.
        it.expect(before).await;
        it.expect(&["+two", "ConfigMap: two"]).await;
        it.expect_nothing(FOREVER).await;
        assert_eq!(it.queries(false).len(), 2);
        let restarts = &it.metrics.watch_restarts;
        assert_eq!(restarts.with_label_values(&["ConfigMap"]).get(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_that_breaks_takes_nothing_away() {
    let half =
        r#"{"kind": "List", "metadata": {"resourceVersion": "5"}, "items": [{"metadata": {"na"#;
    for broken in [Reply::Cut(half), refuse(500), refuse(410), Reply::Never] {
        let lists = [
            list(&["one", "two", "three"]),
            page("a", &["one"], "more"),
            broken,
            page("a", &["one"], "more"),
            list(&["two", "three"]),
        ];
        let watches = [Reply::Events(vec![error_event(410)])];
        let mut it = follow(ObjectKind::ConfigMap, "", [(MAPS, script(lists, watches))]);
        it.expect(&["+one", "+two", "+three", "ConfigMap: one three two"])
            .await;
        it.expect(&["+one"]).await;
        it.expect(&["+one", "+two", "+three", "ConfigMap: one three two"])
            .await;
        let goes_on = it
            .queries(false)
            .into_iter()
            .map(|q| q.contains("continue=more"));
        assert_eq!(
            goes_on.collect::<Vec<_>>(),
            [false, false, true, false, true]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_that_does_not_come_is_asked_for_again() {
    let lists = script([Reply::Never, list(&["one"])], []);
    let mut it = follow(ObjectKind::ConfigMap, "", [(MAPS, lists)]);
    let begun = Instant::now();
    it.expect(&["+one", "ConfigMap: one"]).await;
    assert_eq!(begun.elapsed().as_secs(), (PAGE + RETRY).as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_says_nothing_is_begun_anew_where_it_was() {
    let watches = [
        Reply::Events(vec![]),
        Reply::Events(vec![event("DELETED", "one")]),
    ];
    let lists = script([list(&["one"])], watches);
    let mut it = follow(ObjectKind::ConfigMap, "", [(MAPS, lists)]);
    it.expect(&["+one", "ConfigMap: one"]).await;
    let silent = Instant::now();
    it.expect(&["-one"]).await;
    assert!(
        silent.elapsed() <= Duration::from_secs(300),
        "{:?}",
        silent.elapsed()
    );
    assert_eq!(it.queries(false).len(), 1);
    let from = it
        .queries(true)
        .into_iter()
        .filter(|q| q.contains("resourceVersion=5"));
    assert_eq!(from.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_goes_on_is_up_again_though_nothing_happens() {
    let watches = [refuse(500), refuse(500), Reply::Events(vec![])];
    let lists = script([list(&["one"])], watches);
    let mut it = follow(ObjectKind::ConfigMap, "", [(MAPS, lists)]);
    it.expect(&["+one", "ConfigMap: one"]).await;
    sleep(SETTLED).await;
    assert_eq!(it.queries(true).len(), 3);
    assert_eq!(it.gauges(ObjectKind::ConfigMap), (0, 0));
    sleep(SETTLED).await;
    assert_eq!(it.gauges(ObjectKind::ConfigMap), (1, 0));
}

/// What was known is not taken away.
#[tokio::test(start_paused = true)]
async fn a_right_that_is_lost_while_a_kind_is_followed_takes_nothing_away() {
    let lists = [list(&["one"]), refuse(403), refuse(403), list(&["one"])];
    let watches = [
        Reply::Ended(vec![]),
        refuse(403),
        Reply::Events(vec![error_event(410)]),
    ];
    let mut it = follow(ObjectKind::ConfigMap, "", [(MAPS, script(lists, watches))]);
    it.expect(&["+one", "ConfigMap: one", "no watch of ConfigMap"])
        .await;
    assert_eq!(it.gauges(ObjectKind::ConfigMap), (0, 1));
    // What came last is too old to go on from, and a new list is refused, too.
    it.expect(&["no list of ConfigMap"]).await;
    assert_eq!(it.gauges(ObjectKind::ConfigMap), (0, 1));
    it.expect(&["+one", "again ConfigMap", "ConfigMap: one"])
        .await;
    assert_eq!(it.gauges(ObjectKind::ConfigMap), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn chosen_namespaces_are_followed_each_for_itself() {
    const IN_A: &str = "/api/v1/namespaces/a/configmaps";
    const IN_B: &str = "/api/v1/namespaces/b/configmaps";
    let a = script(
        [list(&["one"]), list(&[])],
        [Reply::Events(vec![error_event(410)])],
    );
    let later = Reply::Events(vec![
        json!({"type": "ADDED", "object": object("b", "three")}),
    ]);
    let b = script([refuse(403), refuse(403), page("b", &["two"], "")], [later]);
    let mut it = follow(ObjectKind::ConfigMap, "a,b", [(IN_A, a), (IN_B, b)]);
    let mut seen = Vec::new();
    for _ in 0..8 {
        seen.push(it.next().await);
        if seen.len() == 3 {
            assert_eq!(it.gauges(ObjectKind::ConfigMap), (0, 1), "{seen:?}");
        }
    }
    let of = |namespace: &str, names: &[&str]| {
        let mine = |event: &&String| event.contains(namespace) || names.contains(&&***event);
        seen.iter().filter(mine).cloned().collect::<Vec<String>>()
    };
    let a = ["+one", "ConfigMap in a: one", "ConfigMap in a: "];
    assert_eq!(of(" in a", &["+one"]), a);
    let b = [
        "no list of ConfigMap in b",
        "+two",
        "again ConfigMap in b",
        "ConfigMap in b: two",
        "+three",
    ];
    assert_eq!(of(" in b", &["+two", "+three"]), b);
    assert_eq!(it.gauges(ObjectKind::ConfigMap), (1, 0));
    assert!(it.api.asked().iter().all(|asked| asked.path != MAPS));
}

#[tokio::test(start_paused = true)]
async fn secrets_are_followed_where_they_may_be_read_and_nowhere_else() {
    const IN_A: &str = "/api/v1/namespaces/a/secrets";
    const IN_B: &str = "/api/v1/namespaces/b/secrets";
    let scope = Scope::default().with_secrets_of(&"a,b".parse().unwrap());
    let a = script([list(&["one"])], []);
    let b = script([page("b", &["two"], "")], []);
    let mut it = follow_in(ObjectKind::Secret, scope, [(IN_A, a), (IN_B, b)]);
    let mut seen = BTreeSet::new();
    for _ in 0..4 {
        seen.insert(it.next().await);
    }
    let expected = ["+one", "+two", "Secret in a: one", "Secret in b: two"];
    assert_eq!(seen, expected.map(str::to_owned).into());
    let asked = it.api.asked();
    let elsewhere = asked.iter().find(|a| ![IN_A, IN_B].contains(&&*a.path));
    assert!(elsewhere.is_none(), "{elsewhere:?}");
}

#[tokio::test(start_paused = true)]
async fn what_nobody_promised_is_asked_for_rarely() {
    const CLASSES: &str = "/apis/networking.k8s.io/v1/ingressclasses";
    let refused = (0..30).map(|_| refuse(403));
    let answers = refused.chain([list(&[])]);
    let mut it = follow(
        ObjectKind::IngressClass,
        "a",
        [(CLASSES, script(answers, []))],
    );
    let begun = Instant::now();
    it.expect(&["no list of IngressClass"]).await;
    assert!(begun.elapsed() >= BELIEVED, "{:?}", begun.elapsed());
    assert_eq!(it.gauges(ObjectKind::IngressClass), (0, 1));
    let left = 30 - it.queries(false).len();
    let begun = Instant::now();
    for _ in 0..left {
        it.expect(&["no list of IngressClass"]).await;
    }
    it.expect(&["again IngressClass", "IngressClass: "]).await;
    let rarely = ASK_AGAIN * u32::try_from(left).unwrap();
    assert!(begun.elapsed() > rarely && left > 10, "{left}");
    assert_eq!(it.gauges(ObjectKind::IngressClass), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn an_hour_without_the_api_server_is_a_line_for_each_watch_and_one_a_minute() {
    let is_away = Arc::new(AtomicBool::new(true));
    let away = Arc::clone(&is_away);
    let (client, _) = FakeApi::serving(move |asked| {
        let is_away = away.load(Ordering::Relaxed);
        async move {
            if is_away {
                return response(refusal(500));
            }
            if asked.query.contains("watch=true") {
                return pending().await;
            }
            let list = json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "5"}, "items": []});
            response((200, list))
        }
    });
    let metrics = Arc::new(Metrics::new().unwrap());
    let (sender, mut events) = mpsc::channel(64);
    let watches = Watches {
        client,
        events: sender,
        written: Arc::default(),
        metrics: Arc::clone(&metrics),
        scope: Scope::default(),
        standing: Arc::new(Standing::new(metrics)),
        pods: watch::channel(false).1,
    };
    let log = FakeLog::taking("info");
    let kinds = [
        ObjectKind::Service,
        ObjectKind::Secret,
        ObjectKind::ConfigMap,
        // It has to be asked for first.
        ObjectKind::Route,
    ];
    for kind in kinds {
        tokio::spawn(watches.clone().keep_following(kind));
    }
    sleep(FOREVER).await;
    let lines = log.lines();
    assert!(
        lines.iter().all(|line| line.starts_with("WARN ")),
        "{lines:#?}"
    );
    let count = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
    assert_eq!(count("the watch is interrupted"), kinds.len());
    let reminders = count("watches are still interrupted");
    assert!((55..=60).contains(&reminders), "{reminders}");
    assert_eq!(lines.len(), kinds.len() + reminders);
    assert_eq!(count(&format!("watches={}", kinds.len())), reminders);

    is_away.store(false, Ordering::Relaxed);
    for _ in 0..3 {
        let event = timeout(FOREVER, events.recv()).await.unwrap();
        assert!(matches!(event, Some(Event::Listed { .. })), "{event:?}");
    }
    let lines = log.lines();
    let again = lines
        .iter()
        .filter(|line| line.contains("the watch works again"));
    assert_eq!(again.count(), 3, "{lines:#?}");
}

use super::*;
use crate::fake_api::{self, Asked, FakeApi};
use crate::fake_log::FakeLog;
use crate::leader::fake::Crown;
use crate::watch::handle::Ask;
use crate::world::ObjectId;
use tokio::task::JoinHandle;

const SECOND: Duration = Duration::from_secs(1);

struct Running {
    api: FakeApi,
    crown: Crown,
    stop: CancellationToken,
    operator: JoinHandle<()>,
}

pub(super) fn plan() -> Plan {
    Plan {
        owner: ObjectId::new(ObjectKind::Gateway, "shop", "web"),
        uid: "u".to_owned(),
        class: Some("diolkos".to_owned()),
        ports: [(80, false)].into(),
        asked: Some(crds::DataPlane::default()),
        address: None,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
    }
}

/// One whose world is as `plan` says, and of which nobody tells.
pub(super) fn operator(
    client: Client,
    plan: impl Fn() -> Plan + Send + 'static,
    leadership: Leadership,
    scope: Scope,
) -> Operator {
    let world = WorldHandle::answering(move |ask| {
        if let Ask::DataPlanes(reply) = ask {
            drop(reply.send(vec![plan()]));
        }
    });
    let secrets = Api::namespaced(client.clone(), "diolkos-system");
    Operator {
        client,
        world,
        keeper: Keeper::new(secrets, "diolkos-system"),
        leadership,
        changed: watch::channel(0).1,
        scope,
        settings: Settings {
            namespace: "diolkos-system".to_owned(),
            image: "registry.example/data-plane:1".to_owned(),
            replicas: 2,
            cpu_request: "100m".to_owned(),
        },
    }
}

/// The Gateway of [`plan`], as the API server has it.
pub(super) fn owner(asked: &Asked) -> Option<Value> {
    let is_it = asked.method == "GET" && asked.path.ends_with("/namespaces/shop/gateways/web");
    is_it.then(|| {
        json!({
            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
            "metadata": {"namespace": "shop", "name": "web", "uid": "u"},
        })
    })
}

/// A leader with one Gateway, before an API server that takes a while for each answer.
fn start(takes: Duration) -> Running {
    start_in(Scope::default(), takes)
}

fn start_in(scope: Scope, takes: Duration) -> Running {
    let (client, api) = FakeApi::answering(move |asked: Asked| async move {
        sleep(takes).await;
        match owner(&asked) {
            Some(owner) => (200, owner),
            None => fake_api::empty(asked),
        }
    });
    let (crown, leadership) = Crown::new();
    let operator = operator(client, plan, leadership, scope);
    let stop = CancellationToken::new();
    let operator = tokio::spawn(operator.run(stop.clone()));
    Running {
        api,
        crown,
        stop,
        operator,
    }
}

impl Running {
    /// Waits for some writes.
    async fn writes(&self, number: usize) {
        let written = async {
            while self.api.count("PATCH") < number {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(SECOND * 10, written).await.expect("it writes");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_asked_for_after_the_lease_is_lost() {
    // Secret, ServiceAccount, PodDisruptionBudget and so on, and then what nothing asks for any more.
    for written in 1..=5 {
        let it = start(Duration::from_millis(100));
        it.writes(written).await;
        it.crown.lose();
        let lost = Instant::now();
        sleep(SECOND * 60).await;
        let late = it.api.asked().into_iter().find(|asked| asked.at > lost);
        assert!(late.is_none(), "after {written} writes: {late:?}");
        // It goes on where it leads again, from the beginning.
        it.crown.win(2);
        it.writes(written + 5).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_another_leader_may_have_applied_is_applied_anew() {
    let it = start(Duration::from_millis(1));
    it.writes(5).await;
    sleep(SECOND).await;
    assert_eq!(it.api.count("PATCH"), 5);
    // Nobody was told in between.
    it.crown.win(2);
    it.writes(10).await;
}

#[tokio::test(start_paused = true)]
async fn of_chosen_namespaces_nothing_else_is_asked_for() {
    let scope: Scope = "shop,blog".parse().unwrap();
    let it = start_in(scope, Duration::from_millis(1));
    it.writes(5).await;
    sleep(SECOND).await;
    let asked = it.api.asked().into_iter().map(|asked| asked.path);
    let paths: BTreeSet<String> = asked.collect();
    for namespace in ["shop", "blog"] {
        let list = format!("/apis/apps/v1/namespaces/{namespace}/deployments");
        assert!(paths.contains(&list), "{paths:?}");
    }
    let outside = paths.iter().find(|p| !p.contains("/namespaces/"));
    assert_eq!(outside, None);
}

#[tokio::test(start_paused = true)]
async fn where_it_may_not_write_secrets_it_makes_nothing() {
    let scope = Scope::default().with_secrets_of(&"blog".parse().unwrap());
    let it = start_in(scope, Duration::from_millis(1));
    sleep(AGAIN * 2).await;
    assert_eq!(it.api.count("PATCH"), 0);
    let asked = it.api.asked().into_iter().map(|asked| asked.path);
    let of_secrets: BTreeSet<String> = asked.filter(|path| path.contains("/secrets")).collect();
    let here = "/api/v1/namespaces/blog/secrets".to_owned();
    assert_eq!(of_secrets, [here].into(), "by the watch");
}

#[tokio::test(start_paused = true)]
async fn a_cluster_without_the_gateway_api_is_nothing_to_warn_of() {
    let log = FakeLog::taking("info");
    let (client, api) = FakeApi::answering(|asked: Asked| async move {
        match (owner(&asked), asked.path.ends_with("/gatewayclasses")) {
            (Some(owner), _) => (200, owner),
            (None, true) => fake_api::refusal(404),
            (None, false) => fake_api::empty(asked),
        }
    });
    let (_crown, leadership) = Crown::new();
    let operator = operator(client, plan, leadership, Scope::default());
    tokio::spawn(operator.run(CancellationToken::new()));
    sleep(AGAIN * 2 - SECOND).await;
    let asked = api.asked().into_iter();
    let lists = asked.filter(|asked| asked.path.ends_with("/gatewayclasses"));
    assert_eq!(
        lists.count(),
        2,
        "at the beginning, and when everything is looked at again"
    );
    let lines = log.lines();
    let warns = |line: &String| line.starts_with("WARN ") && line.contains("GatewayClass");
    assert!(!lines.iter().any(warns), "{lines:#?}");
}

/// What is deleted of the data planes of a GatewayConfig that shares those of others again.
async fn deleted(scope: Scope) -> BTreeSet<String> {
    let (client, api) = FakeApi::answering(|asked: Asked| async move {
        let last = asked.path.rsplit('/').next().unwrap_or_default();
        let metadata = json!({"namespace": "shop", "name": "c"});
        match (&*asked.method, last) {
            ("GET", "deployments") => {
                let mut made = json!({"namespace": "shop", "name": "c-diolkos-config"});
                let api = "diolkos.io/v1alpha1";
                made["ownerReferences"] =
                    json!([{"apiVersion": api, "kind": "GatewayConfig", "name": "c", "uid": "c"}]);
                let items = json!([{ "metadata": made }]);
                (
                    200,
                    json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}),
                )
            }
            ("GET", "c") => (200, json!({"metadata": metadata, "spec": {}})),
            _ => fake_api::empty(asked),
        }
    });
    let (_crown, leadership) = Crown::new();
    tokio::spawn(operator(client, plan, leadership, scope).run(CancellationToken::new()));
    sleep(AGAIN).await;
    let asked = api.asked().into_iter();
    let deletes = asked.filter(|asked| asked.method == "DELETE");
    let kind = |asked: Asked| Some(asked.path.rsplit('/').nth(1)?.to_owned());
    deletes.filter_map(kind).collect()
}

#[tokio::test(start_paused = true)]
async fn secrets_that_may_not_be_written_do_not_keep_the_rest_from_going() {
    let everything = deleted(Scope::default()).await;
    assert_eq!(everything.len(), KINDS.len(), "{everything:?}");
    let elsewhere = Scope::default().with_secrets_of(&"blog".parse().unwrap());
    let mut left = everything.clone();
    assert!(left.remove("secrets"));
    assert_eq!(deleted(elsewhere).await, left);
}

#[tokio::test(start_paused = true)]
async fn it_ends_soon_though_the_api_server_is_silent() {
    let it = start(SECOND * 3600);
    sleep(SECOND).await;
    it.stop.cancel();
    let stopped = Instant::now();
    it.operator.await.unwrap();
    assert!(stopped.elapsed() < SECOND * 2, "{:?}", stopped.elapsed());
    assert_eq!(it.api.asked().len(), 1);
}

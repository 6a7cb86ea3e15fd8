//! Versions that serve in place of present ones outlive all who have seen them.

use super::*;
use crate::leader::fake::Crown;
use crate::objects::fake::Fake;
use crate::stand_ins::{Keeper, SECRET, recall};
use k8s_openapi::api::core::v1::Secret;
use prometheus::{IntCounter, IntGauge};

impl Running {
    async fn list(&self, route: &Object) {
        self.send(apply(route.clone())).await;
        self.list_all_but(ObjectKind::Route).await;
        let (of, ids) = (ObjectKind::Route.into(), [route.id.clone()].into());
        self.send(Event::Listed { of, ids }).await;
    }
}

#[tokio::test]
async fn a_controller_that_starts_where_none_is_left_serves_what_stood_in() {
    let (good, broken) = (route("one"), broken());
    let digest = |running: &Running| running.publisher.cursor().digest;
    let secrets = Fake::<Secret>::reliable();
    let (_crown, leadership) = Crown::new();

    let (mut task, publisher) = prepared(Scope::default(), FOREVER, false);
    let (told, changed) = watch::channel(None);
    let mut seen = changed.clone();
    task.stand_ins = told;
    let first = Running::of(task, publisher);
    let keeper = Keeper {
        secrets: secrets.clone(),
        world: first.world.clone(),
        leadership,
        changed,
        kept: IntGauge::new("kept", "kept").unwrap(),
        dropped: IntCounter::new("dropped", "dropped").unwrap(),
    };
    let stop = CancellationToken::new();
    let keeping = tokio::spawn(keeper.run(stop.clone()));
    first.list(&good).await;
    first.published(1).await;
    let served = digest(&first);
    first.send(apply(broken.clone())).await;
    let stands_in = seen.wait_for(|version| version.is_some_and(|v| v > 0));
    timeout(FOREVER, stands_in).await.unwrap().unwrap();
    stop.cancel();
    keeping.await.unwrap();
    drop(first);
    assert!(secrets.peek(SECRET).is_some());

    let (mut task, publisher) = prepared(Scope::default(), FOREVER, false);
    task.can_recall = true;
    let second = Running::of(task, publisher);
    second.list(&broken).await;
    while second.world.all().await.is_empty() {
        tokio::task::yield_now().await;
    }
    let is_published = || second.publisher.subscribe().borrow().is_some();
    assert!(!is_published(), "it would answer 500 for the Route");
    recall(secrets, second.events.clone(), FOREVER).await;
    second.published(1).await;
    assert_eq!(digest(&second), served);
}

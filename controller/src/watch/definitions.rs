//! What the Gateway API's CustomResourceDefinitions say of themselves: GatewayClasses say whether their release is one this
//! release was made for (`SupportedVersion`, GEP-1364), and which features are there.

use futures_util::future::join_all;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::PartialObjectMeta;
use kube::{Api, Client};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::Event;
use super::kind::ASK_AGAIN;
use super::one::One;
use crate::world::{Definition, ObjectKind};

/// Those that are followed. All of a release come together, as a rule.
pub(super) const FOLLOWED: [(ObjectKind, &str); 2] = [
    (
        ObjectKind::GatewayClass,
        "gatewayclasses.gateway.networking.k8s.io",
    ),
    (
        ObjectKind::HTTPRoute,
        "httproutes.gateway.networking.k8s.io",
    ),
];

/// Tells the world, until it has gone.
pub(super) async fn follow(client: Client, events: mpsc::Sender<Event>) {
    let followed = FOLLOWED.map(|(kind, name)| follow_one(client.clone(), &events, kind, name));
    join_all(followed).await;
}

/// Without the permission nothing is known, and nothing said.
async fn follow_one(
    client: Client,
    events: &mpsc::Sender<Event>,
    kind: ObjectKind,
    name: &'static str,
) {
    let api = Api::<PartialObjectMeta<CustomResourceDefinition>>::all(client);
    let mut definition = One::new(api, name);
    let mut said = false;
    loop {
        let definition = match definition.next().await {
            Ok(definition) => definition,
            Err(error) => {
                if !std::mem::replace(&mut said, true) {
                    tracing::info!(%error, name, "a definition of the Gateway API cannot be read");
                }
                if error.is_forbidden() {
                    sleep(ASK_AGAIN).await;
                }
                continue;
            }
        };
        let annotations = definition.and_then(|definition| definition.metadata.annotations);
        let definition = annotations.and_then(|all| Definition::of(&all));
        if events
            .send(Event::Definition(kind, definition))
            .await
            .is_err()
        {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_api::{FakeApi, refusal, response};
    use crate::watch::following::{PAGE, RETRY};
    use axum::body::{Body, Bytes};
    use axum::response::Response;
    use futures_util::{StreamExt, stream};
    use serde_json::{Value, json};
    use std::future::pending;
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::time::{Instant, timeout};

    fn definition(name: &str, release: &str, channel: &str) -> Value {
        let annotations = json!({
            "gateway.networking.k8s.io/bundle-version": release,
            "gateway.networking.k8s.io/channel": channel,
        });
        json!({
            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
            "metadata": {"name": name, "resourceVersion": "4", "annotations": annotations},
        })
    }

    fn list(definition: &Value) -> Response {
        let list = json!({
            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList",
            "metadata": {"resourceVersion": "5"}, "items": [definition],
        });
        response((200, list))
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_permitted_is_asked_for_rarely() {
        let (client, api) = FakeApi::answering(|_| async { refusal(403) });
        let (sender, mut events) = mpsc::channel(1);
        tokio::spawn(follow(client, sender));
        assert!(timeout(ASK_AGAIN * 10, events.recv()).await.is_err());
        for (_, name) in FOLLOWED {
            let asked = api.asked();
            let asked = asked.iter().filter(|a| a.query.contains(name)).count();
            assert!((9..=11).contains(&asked), "{name} {asked}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_does_not_come_is_asked_for_again() {
        let lists = Arc::new(AtomicUsize::new(0));
        let (client, _) = FakeApi::serving(move |asked| {
            let is_list = !asked.query.contains("watch=true");
            let is_listed = is_list && asked.query.contains("gatewayclasses");
            let lists = Arc::clone(&lists);
            async move {
                if !is_listed || lists.fetch_add(1, Ordering::Relaxed) == 0 {
                    return pending().await;
                }
                list(&definition("gatewayclasses", "v1.6.1", "standard"))
            }
        });
        let (sender, mut events) = mpsc::channel(1);
        let begun = Instant::now();
        tokio::spawn(follow(client, sender));
        let Some(Event::Definition(ObjectKind::GatewayClass, Some(found))) = events.recv().await
        else {
            panic!("it is not told");
        };
        assert_eq!(&*found.release, "v1.6.1");
        assert_eq!(begun.elapsed().as_secs(), (PAGE + RETRY).as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn another_channel_and_another_release_are_told_as_they_come() {
        let (client, _) = FakeApi::serving(|asked| async move {
            let of = |release, channel| definition("httproutes", release, channel);
            if !asked.query.contains("httproutes") {
                return pending().await;
            }
            if !asked.query.contains("watch=true") {
                return list(&of("v1.6.3", "standard"));
            }
            let events = [
                json!({"type": "MODIFIED", "object": of("v1.6.3", "experimental")}),
                json!({"type": "MODIFIED", "object": of("v1.7.0", "standard")}),
                json!({"type": "DELETED", "object": of("v1.7.0", "standard")}),
            ];
            let events = stream::iter(events);
            let lines = events.map(|event| Ok::<_, io::Error>(Bytes::from(format!("{event}\n"))));
            Response::new(Body::from_stream(lines.chain(stream::pending())))
        });
        let (sender, mut events) = mpsc::channel(1);
        tokio::spawn(follow(client, sender));
        for expected in [
            Some(("v1.6.3", false)),
            Some(("v1.6.3", true)),
            Some(("v1.7.0", false)),
            None,
        ] {
            let Some(Event::Definition(ObjectKind::HTTPRoute, found)) = events.recv().await else {
                panic!("it is not told");
            };
            let found = found.as_ref().map(|d| (&*d.release, d.experimental));
            assert_eq!(found, expected);
        }
    }
}

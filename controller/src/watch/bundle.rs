//! Of which release the Gateway API's CustomResourceDefinitions are: GatewayClasses say whether that is one this release
//! was made for (`SupportedVersion`, GEP-1364).

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::PartialObjectMeta;
use kube::{Api, Client};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::Event;
use super::kind::ASK_AGAIN;
use super::one::One;

const DEFINITION: &str = "gatewayclasses.gateway.networking.k8s.io";
const ANNOTATION: &str = "gateway.networking.k8s.io/bundle-version";
/// Longer than any release is called.
const LONGEST: usize = 64;

/// Tells the world, until it has gone. Without the permission nothing is known, and nothing said.
pub(super) async fn follow(client: Client, events: mpsc::Sender<Event>) {
    let api = Api::<PartialObjectMeta<CustomResourceDefinition>>::all(client);
    let mut definition = One::new(api, DEFINITION);
    let mut said = false;
    loop {
        let definition = match definition.next().await {
            Ok(definition) => definition,
            Err(error) => {
                if !std::mem::replace(&mut said, true) {
                    tracing::info!(%error, "the release of the Gateway API cannot be read");
                }
                if error.is_forbidden() {
                    sleep(ASK_AGAIN).await;
                }
                continue;
            }
        };
        let annotations = definition.and_then(|definition| definition.metadata.annotations);
        let release = annotations.and_then(|mut all| all.remove(ANNOTATION));
        let release = release.filter(|text| text.len() <= LONGEST && text.is_ascii());
        if events
            .send(Event::Bundle(release.map(Into::into)))
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
    use serde_json::json;
    use std::future::pending;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::time::{Instant, timeout};

    #[tokio::test(start_paused = true)]
    async fn what_is_not_permitted_is_asked_for_rarely() {
        let (client, api) = FakeApi::answering(|_| async { refusal(403) });
        let (sender, mut events) = mpsc::channel(1);
        tokio::spawn(follow(client, sender));
        assert!(timeout(ASK_AGAIN * 10, events.recv()).await.is_err());
        let asked = api.asked().len();
        assert!((9..=11).contains(&asked), "{asked}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_does_not_come_is_asked_for_again() {
        let lists = Arc::new(AtomicUsize::new(0));
        let (client, _) = FakeApi::serving(move |asked| {
            let is_list = !asked.query.contains("watch=true");
            let lists = Arc::clone(&lists);
            async move {
                if !is_list || lists.fetch_add(1, Ordering::Relaxed) == 0 {
                    return pending().await;
                }
                let annotations = json!({ANNOTATION: "v1.6.1"});
                let definition = json!({
                    "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
                    "metadata": {"name": DEFINITION, "resourceVersion": "4", "annotations": annotations},
                });
                let list = json!({
                    "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList",
                    "metadata": {"resourceVersion": "5"}, "items": [definition],
                });
                response((200, list))
            }
        });
        let (sender, mut events) = mpsc::channel(1);
        let begun = Instant::now();
        tokio::spawn(follow(client, sender));
        let Some(Event::Bundle(Some(release))) = events.recv().await else {
            panic!("it is not told");
        };
        assert_eq!(&*release, "v1.6.1");
        assert_eq!(begun.elapsed().as_secs(), (PAGE + RETRY).as_secs());
    }
}

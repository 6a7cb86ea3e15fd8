//! Of which release the Gateway API's CustomResourceDefinitions are: GatewayClasses say whether that is one this release
//! was made for (`SupportedVersion`, GEP-1364).

use std::pin::pin;

use futures_util::StreamExt;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watch_object};
use kube::{Api, Client};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::Event;
use super::backoff::Pauses;
use super::kind::ASK_AGAIN;

const DEFINITION: &str = "gatewayclasses.gateway.networking.k8s.io";
const ANNOTATION: &str = "gateway.networking.k8s.io/bundle-version";
/// Longer than any release is called.
const LONGEST: usize = 64;

/// Tells the world, until it has gone. Without the permission nothing is known, and nothing said.
pub(super) async fn follow(client: Client, events: mpsc::Sender<Event>) {
    let api = Api::<PartialObjectMeta<CustomResourceDefinition>>::all(client);
    let mut states = pin!(watch_object(api, DEFINITION).backoff(Pauses::new()));
    let mut said = false;
    while let Some(state) = states.next().await {
        let definition = match state {
            Ok(definition) => definition,
            Err(error) => {
                if !std::mem::replace(&mut said, true) {
                    tracing::info!(%error, "the release of the Gateway API cannot be read");
                }
                if matches!(&error, watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.is_forbidden())
                {
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
    use crate::fake_api::{FakeApi, refusal};
    use tokio::time::timeout;

    #[tokio::test(start_paused = true)]
    async fn what_is_not_permitted_is_asked_for_rarely() {
        let (client, api) = FakeApi::answering(|_| async { refusal(403) });
        let (sender, mut events) = mpsc::channel(1);
        tokio::spawn(follow(client, sender));
        assert!(timeout(ASK_AGAIN * 10, events.recv()).await.is_err());
        let asked = api.asked().len();
        assert!((9..=11).contains(&asked), "{asked}");
    }
}

//! What every Event of ours has, and how it is written.

use crate::leader::Leadership;
use crate::report::CONTROLLER_NAME;
use crate::world::ObjectId;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use std::time::Duration;
use tokio::time::timeout;

const WRITE: Duration = Duration::from_secs(5);

/// What is told of an object.
pub(super) struct Said<'a> {
    pub id: &'a ObjectId,
    pub uid: Option<String>,
    /// What the Event's name ends with, behind that of the object.
    pub suffix: String,
    /// Who does what to what.
    pub action: &'static str,
    pub reason: &'static str,
    /// `Normal` or `Warning`.
    pub type_: &'static str,
    pub note: String,
}

/// How a write ended.
pub(super) enum Wrote {
    Told,
    /// There is an Event of this name.
    Known,
    Failed(String),
    /// This replica leads no more.
    Over,
}

/// Where Events about an object are: those about what stands outside namespaces have a place of their own.
fn namespace(id: &ObjectId) -> &str {
    match &*id.namespace {
        "" => "default",
        namespace => namespace,
    }
}

/// `identity`: of this replica.
pub(super) fn event(said: Said<'_>, identity: &str, now: Timestamp) -> Event {
    let id = said.id;
    // 253 is the most that a name may have.
    let name: String = id.name.chars().take(200).collect();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{name}.{}", said.suffix)),
            namespace: Some(namespace(id).to_owned()),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(now)),
        reporting_controller: Some(CONTROLLER_NAME.to_owned()),
        reporting_instance: Some(identity.chars().take(128).collect()),
        action: Some(said.action.to_owned()),
        reason: Some(said.reason.to_owned()),
        regarding: Some(ObjectReference {
            api_version: Some(match id.kind.group() {
                "" => "v1".to_owned(),
                _ => id.kind.api_version(),
            }),
            kind: Some(id.kind.name().to_owned()),
            namespace: Some(id.namespace.to_string()).filter(|n| !n.is_empty()),
            name: Some(id.name.to_string()),
            uid: said.uid,
            ..ObjectReference::default()
        }),
        note: Some(said.note),
        type_: Some(said.type_.to_owned()),
        ..Event::default()
    }
}

/// Writes an Event about an object, as long as this replica leads.
pub(super) async fn write(
    client: &Client,
    leadership: &Leadership,
    id: &ObjectId,
    event: &Event,
) -> Wrote {
    let events: Api<Event> = Api::namespaced(client.clone(), namespace(id));
    let parameters = PostParams::default();
    let write = timeout(WRITE, events.create(&parameters, event));
    match leadership.request(write).await {
        None => Wrote::Over,
        Some(Ok(Ok(_))) => Wrote::Told,
        Some(Ok(Err(kube::Error::Api(status)))) if status.code == 409 => Wrote::Known,
        Some(Ok(Err(error))) => Wrote::Failed(error.to_string()),
        Some(Err(_)) => Wrote::Failed("no answer".to_owned()),
    }
}

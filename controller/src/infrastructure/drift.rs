//! What others do to what was made. The API server keeps which fields are whose (`metadata.managedFields`): who changes one
//! of ours takes it over, and with a deleted object all are gone. What others may change (a status, the number of replicas of
//! a Deployment with an autoscaler) never was ours.

use super::{Applied, FIELD_MANAGER, KINDS, MANAGED_BY, SECRET, resource};
use crate::outage::Outage;
use crate::watch::following::{Following, Seen};
use crate::watch::kind::ASK_AGAIN;
use crate::world::Scope;
use futures_util::stream::{self, BoxStream, SelectAll};
use futures_util::{FutureExt, StreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DynamicObject, PartialObjectMeta};
use kube::runtime::watcher::{Config, Event};
use kube::{Api, Client};
use serde_json::json;
use snapshot::Hash;
use std::collections::BTreeSet;
use std::future::pending;
use std::sync::Arc;
use tokio::time::sleep;

/// Watches of what was made, by metadata alone.
pub(super) struct Drift(SelectAll<BoxStream<'static, Found>>);

/// How it stands in the cluster.
#[derive(Debug)]
pub(super) enum Found {
    Object {
        group: String,
        kind: &'static str,
        /// Which of its fields are ours; `None`: it is gone.
        ours: Option<Hash>,
    },
    /// There are no others of a kind, anywhere or in a namespace.
    List {
        kind: &'static str,
        namespace: Option<Arc<str>>,
        groups: BTreeSet<String>,
    },
}

impl Drift {
    pub(super) fn of(client: &Client, scope: &Scope) -> Self {
        let (key, value) = MANAGED_BY;
        let config = Config::default().labels(&format!("{key}={value}"));
        let mut watches = SelectAll::new();
        for kind in KINDS {
            let Some(resource) = resource(kind) else {
                continue;
            };
            let places = match kind {
                SECRET => scope.places_of_secrets(),
                _ => scope.places(),
            };
            for namespace in places {
                let all = Api::all_with(client.clone(), &resource);
                let api = all.constrain(namespace.as_deref().unwrap_or_default());
                let watch = Watch {
                    kind,
                    namespace,
                    following: Following::new(api, config.clone()),
                    listed: BTreeSet::new(),
                    is_refused: false,
                    outage: Outage::default(),
                };
                let found = stream::unfold(watch, |mut watch| async {
                    let found = watch.next().await;
                    Some((found, watch))
                });
                watches.push(found.boxed());
            }
        }
        Self(watches)
    }

    /// Waits until something is not as it was applied, and forgets that it was. Nothing is lost where that is given up.
    pub(super) async fn found(&mut self, applied: &mut Applied) {
        while let Some(found) = self.0.next().await {
            // Much comes at once, and others want their turn.
            if applied.compare(&found) {
                while let Some(Some(more)) = self.0.next().now_or_never() {
                    applied.compare(&more);
                }
                return;
            }
        }
        pending().await
    }
}

/// Of one kind, everywhere or in a namespace.
struct Watch {
    kind: &'static str,
    namespace: Option<Arc<str>>,
    following: Following<PartialObjectMeta<DynamicObject>>,
    listed: BTreeSet<String>,
    is_refused: bool,
    outage: Outage,
}

impl Watch {
    fn works(&mut self) {
        if let Some(after) = self.outage.ends() {
            tracing::info!(
                kind = self.kind,
                ?after,
                "the watch of what was made for data planes works again"
            );
        }
    }

    async fn next(&mut self) -> Found {
        loop {
            let event = match self.following.next().await {
                Ok(Seen::Event(event)) => event,
                Ok(Seen::Works) => {
                    self.works();
                    continue;
                }
                Err(error) if error.refusal() == Some(403) => {
                    if !std::mem::replace(&mut self.is_refused, true) {
                        tracing::error!(
                            kind = self.kind,
                            "list and watch are not permitted: what others change of data planes is put right late"
                        );
                    }
                    sleep(ASK_AGAIN).await;
                    continue;
                }
                Err(error) => {
                    if let Some(lasting) = self.outage.fails() {
                        tracing::warn!(kind = self.kind, %error, ?lasting, "the watch of what was made for data planes is interrupted");
                    }
                    continue;
                }
            };
            self.is_refused = false;
            let (metadata, is_gone) = match &event {
                Event::Init => {
                    self.listed.clear();
                    continue;
                }
                Event::InitDone => {
                    self.works();
                    return Found::List {
                        kind: self.kind,
                        namespace: self.namespace.clone(),
                        groups: std::mem::take(&mut self.listed),
                    };
                }
                Event::InitApply(object) | Event::Apply(object) => (&object.metadata, false),
                Event::Delete(object) => (&object.metadata, true),
            };
            let part = |text: &Option<String>| text.clone().unwrap_or_default();
            let group = format!("{}/{}", part(&metadata.namespace), part(&metadata.name));
            if matches!(event, Event::InitApply(_)) {
                self.listed.insert(group.clone());
            }
            return Found::Object {
                group,
                kind: self.kind,
                ours: (!is_gone).then(|| ours(metadata)),
            };
        }
    }
}

/// Which fields of an object are ours.
pub(super) fn ours(metadata: &ObjectMeta) -> Hash {
    let managed = metadata.managed_fields.iter().flatten();
    let mine = managed.filter(|entry| entry.manager.as_deref() == Some(FIELD_MANAGER));
    let fields: Vec<_> = mine.map(|entry| &entry.fields_v1).collect();
    Hash::of(json!(fields).to_string().as_bytes())
}

//! What a watch brings, read into the world's compact records.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret};
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use kube::core::PartialObjectMeta;
use serde_json::Value;

use crate::status;
use crate::world::{Object, ObjectKind};

/// What an object is read into.
pub(super) struct Read {
    pub object: Object,
    /// As it stands in the cluster, of it what is ours; kinds without one of ours have none.
    pub status: Option<Value>,
}

/// A type in which a watch brings objects.
pub(super) trait Watched {
    /// `None`: it cannot even be named.
    fn read(self, kind: ObjectKind) -> Option<Read>;
}

macro_rules! watched {
    ($($type:ty),*) => {$(
        impl Watched for $type {
            fn read(self, _: ObjectKind) -> Option<Read> {
                Some(Read { object: Object::from(&self), status: None })
            }
        }
    )*};
}

watched!(Pod, IngressClass);

impl Watched for Ingress {
    fn read(self, _: ObjectKind) -> Option<Read> {
        let managed = self.metadata.managed_fields.as_deref().unwrap_or_default();
        // Another controller's status looks no different; whose it is the server knows.
        let is_ours = managed.iter().any(|entry| {
            entry.manager.as_deref() == Some(status::FIELD_MANAGER)
                && entry.subresource.as_deref() == Some("status")
        });
        let status = self.status.as_ref().filter(|_| is_ours);
        Some(Read {
            object: Object::from(&self),
            status: status.and_then(|status| serde_json::to_value(status).ok()),
        })
    }
}

impl Watched for PartialObjectMeta<Namespace> {
    fn read(self, _: ObjectKind) -> Option<Read> {
        let namespace = Namespace {
            metadata: self.metadata,
            ..Namespace::default()
        };
        Some(Read {
            object: Object::from(&namespace),
            status: None,
        })
    }
}

macro_rules! watched_by_metadata {
    ($($type:ident),*) => {$(
        impl Watched for PartialObjectMeta<$type> {
            fn read(self, kind: ObjectKind) -> Option<Read> {
                Some(Read { object: Object::unread(kind, &self.metadata), status: None })
            }
        }
    )*};
}

watched_by_metadata!(Secret, ConfigMap);

//! One file a kind of resource: how a model type is encoded and decoded.
//!
//! To add a kind: a message in the protocol, a file here, a line in [`sections!`], a field in `model::Model`.

mod attempts;
mod certificate;
mod endpoint_shard;
mod health;
mod listener;
mod plugin;
mod route;
mod tenant;
mod upstream;

use crate::pb;
use crate::{Change, Changes};
use model::{
    Certificate, EndpointShard, Listener, Model, ObjectRef, Plugin, Route, Tenant, TlsVersion,
    Upstream, limits,
};
use prost::Message;

/// A resource that the receiver cannot use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct InvalidResource {
    pub field: &'static str,
    pub reason: String,
}

impl InvalidResource {
    pub(crate) fn new(field: &'static str, reason: impl Into<String>) -> Self {
        Self {
            field,
            reason: reason.into(),
        }
    }
}

/// A resource over [`limits::RESOURCE_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "takes {bytes} bytes of snapshot; at most {} are allowed: split the object",
    limits::RESOURCE_BYTES
)]
pub struct TooLarge {
    pub bytes: usize,
}

/// How one model type travels.
pub trait Section: Sized {
    const KIND: Kind;
    type Wire: Message + Default;

    fn to_wire(&self) -> Self::Wire;

    /// # Errors
    /// [`InvalidResource`] names the first field that is missing or has an unknown value.
    fn from_wire(wire: Self::Wire) -> Result<Self, InvalidResource>;
}

/// The canonical body of a resource.
///
/// # Errors
/// [`TooLarge`] when it would not fit a chunk.
pub fn encode<S: Section>(item: &S) -> Result<Vec<u8>, TooLarge> {
    let body = item.to_wire().encode_to_vec();
    if body.len() > limits::RESOURCE_BYTES {
        return Err(TooLarge { bytes: body.len() });
    }
    Ok(body)
}

/// A resource from its body.
///
/// # Errors
/// [`InvalidResource`] where it is not a body of this kind.
pub fn decode<S: Section>(body: &[u8]) -> Result<S, InvalidResource> {
    let wire = S::Wire::decode(body).map_err(|e| InvalidResource::new("body", e.to_string()))?;
    S::from_wire(wire)
}

macro_rules! sections {
    ($($kind:ident = $number:literal, $field:ident: $type:ty;)*) => {
        /// Kind of a resource. The numbers are the protocol.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum Kind {
            $($kind = $number,)*
        }

        impl Kind {
            pub const ALL: &'static [Self] = &[$(Self::$kind,)*];

            pub fn from_number(number: u32) -> Option<Self> {
                match number {
                    $($number => Some(Self::$kind),)*
                    _ => None,
                }
            }
        }

        impl Changes {
            /// Decodes one resource into the section of its kind.
            pub(crate) fn upsert(&mut self, kind: Kind, key: String, body: &[u8]) -> Result<(), InvalidResource> {
                match kind {
                    $(Kind::$kind => self.$field.push(Change { key, item: Some(decode::<$type>(body)?) }),)*
                }
                Ok(())
            }

            pub(crate) fn remove(&mut self, kind: Kind, key: String) {
                match kind {
                    $(Kind::$kind => self.$field.push(Change { key, item: None }),)*
                }
            }

            /// Adds what comes after.
            pub(crate) fn append(&mut self, after: Self) {
                self.full |= after.full;
                $(self.$field.extend(after.$field);)*
            }

            /// A whole model as a change from nothing.
            pub fn of(model: &Model) -> Self {
                let mut changes = Self { full: true, ..Self::default() };
                $(changes.$field = model.$field.iter().map(|(key, item)| Change { key: key.clone(), item: Some(item.clone()) }).collect();)*
                changes
            }
        }

        /// Every resource of a model with its canonical body, in the order of kind and key; what is too large is
        /// reported instead.
        pub fn bodies(model: &Model) -> impl Iterator<Item = (Kind, &str, Result<Vec<u8>, TooLarge>)> {
            std::iter::empty()$(.chain(model.$field.iter().map(|(key, item)| (Kind::$kind, key.as_str(), encode(item)))))*
        }
    };
}

sections! {
    Listener = 1, listeners: Listener;
    Route = 2, routes: Route;
    Upstream = 3, upstreams: Upstream;
    EndpointShard = 4, shards: EndpointShard;
    Plugin = 5, plugins: Plugin;
    Certificate = 6, certificates: Certificate;
    Tenant = 7, tenants: Tenant;
}

// ---- pieces that several sections share

pub(crate) fn required<T>(value: Option<T>, field: &'static str) -> Result<T, InvalidResource> {
    value.ok_or_else(|| InvalidResource::new(field, "is missing"))
}

pub(crate) fn port(value: u32, field: &'static str) -> Result<u16, InvalidResource> {
    u16::try_from(value).map_err(|_| InvalidResource::new(field, "is not a port"))
}

pub(crate) fn origin_to_wire(origin: &ObjectRef) -> Option<pb::ObjectRef> {
    let ObjectRef {
        kind,
        namespace,
        name,
    } = origin.clone();
    Some(pb::ObjectRef {
        kind,
        namespace,
        name,
    })
}

pub(crate) fn origin_from_wire(wire: Option<pb::ObjectRef>) -> Result<ObjectRef, InvalidResource> {
    let pb::ObjectRef {
        kind,
        namespace,
        name,
    } = required(wire, "origin")?;
    Ok(ObjectRef {
        kind,
        namespace,
        name,
    })
}

pub(crate) fn hostname_from_wire(
    text: &str,
    field: &'static str,
) -> Result<model::HostPattern, InvalidResource> {
    model::HostPattern::parse(text).map_err(|e| InvalidResource::new(field, e.to_string()))
}

pub(crate) fn networks_to_wire(networks: &[ipnet::IpNet]) -> Vec<String> {
    networks.iter().map(ToString::to_string).collect()
}

pub(crate) fn networks_from_wire(
    texts: &[String],
    field: &'static str,
) -> Result<Vec<ipnet::IpNet>, InvalidResource> {
    let parse = |text: &String| {
        let network = text.parse();
        network.map_err(|_| InvalidResource::new(field, "is not a network in CIDR form"))
    };
    texts.iter().map(parse).collect()
}

pub(crate) fn tls_version_to_wire(version: TlsVersion) -> i32 {
    match version {
        TlsVersion::V1_2 => pb::TlsVersion::TlsVersion12.into(),
        TlsVersion::V1_3 => pb::TlsVersion::TlsVersion13.into(),
    }
}

pub(crate) fn tls_version_from_wire(
    version: i32,
    field: &'static str,
) -> Result<TlsVersion, InvalidResource> {
    match pb::TlsVersion::try_from(version) {
        Ok(pb::TlsVersion::TlsVersion12) => Ok(TlsVersion::V1_2),
        Ok(pb::TlsVersion::TlsVersion13) => Ok(TlsVersion::V1_3),
        Err(_) => Err(InvalidResource::new(field, "is unknown to this data plane")),
    }
}

//! Endpoints of Services, in shards of one EndpointSlice and port each.

use std::net::IpAddr;
use std::sync::Arc;

/// The endpoints of one EndpointSlice for one port. Kept in the order of their addresses, so that equal slices give
/// equal bytes.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointShard {
    /// `NAMESPACE/NAME:PORT`, the service port that these endpoints serve.
    pub service: String,
    pub endpoints: Vec<Endpoint>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    pub address: IpAddr,
    pub port: u16,
    /// May take new requests.
    pub ready: bool,
    /// Answers, also while terminating.
    pub serving: bool,
    pub terminating: bool,
    /// Where its node stands (`topology.kubernetes.io/zone`), if that is known.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "text")]
    pub zone: Option<Arc<str>>,
}

fn text<S: serde::Serializer>(zone: &Option<Arc<str>>, to: S) -> Result<S::Ok, S::Error> {
    serde::Serialize::serialize(&zone.as_deref(), to)
}

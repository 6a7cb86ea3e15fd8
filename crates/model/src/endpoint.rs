//! Endpoints of Services, in shards of one EndpointSlice and port each.

use std::net::IpAddr;

/// The endpoints of one EndpointSlice for one port. Kept in the order of their addresses, so that equal slices give
/// equal bytes.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointShard {
    /// `NAMESPACE/NAME:PORT`, the service port that these endpoints serve.
    pub service: String,
    pub endpoints: Vec<Endpoint>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    pub address: IpAddr,
    pub port: u16,
    /// May take new requests.
    pub ready: bool,
    /// Answers, also while terminating.
    pub serving: bool,
    pub terminating: bool,
}

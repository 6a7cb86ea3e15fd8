//! Objects of the Gateway API and Ingresses, said in the words of our own kinds.
//!
//! A Gateway, and a ListenerSet that adds to one, has listeners as a GatewayConfig has them, and its Routes
//! have rules as a Route has them: what is common is translated once, from [`crds`]. What one of these modules gives beside
//! that are the [`Names`] under which its author knows the fields, and what cannot be said at all ([`Fault`]).
//!
//! Absent fields mean what the CustomResourceDefinitions' defaults say: in a directory nobody has filled them in.

pub(crate) mod addresses;
mod conflicts;
pub(crate) mod gateway;
pub(crate) mod grpc_route;
pub(crate) mod http_route;
pub(crate) mod ingress;
mod names;
mod retry;
pub(crate) mod stream_route;

pub(crate) use names::Names;

use crate::report::Reason;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The group of the Gateway API.
pub(crate) const GROUP: &str = "gateway.networking.k8s.io";

/// The class that is ours where there is no GatewayClass of that name (`diolkos run DIR` on a Gateway alone).
pub(crate) const CLASS: &str = "diolkos";

/// Something that our kinds have no word for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fault {
    /// As its author knows it, such as `spec.rules[0].filters[1]`.
    pub field: String,
    pub reason: Reason,
    pub message: String,
}

/// What is generated again for each kind, from equal definitions.
fn of_the_same_form<T: Serialize, U: DeserializeOwned + Default>(value: &T) -> U {
    let value = serde_json::to_value(value).unwrap_or_default();
    serde_json::from_value(value).unwrap_or_default()
}

/// A port of the schema, which allows 1 to 65535. Anything else is 0, which is refused where it is used.
fn port(port: i32) -> u16 {
    u16::try_from(port).unwrap_or(0)
}

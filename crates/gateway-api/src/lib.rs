//! Those kinds of the Gateway API that are read (standard channel, version v1.6.3) as Rust types,
//! and of the experimental channel `retry` of an HTTPRoute's rule, which is standard in v1.7.
//!
//! `generate.sh` writes `generated/` from the CustomResourceDefinitions of that version; nothing here is written by
//! hand but this list. Values that a later version adds to an enum are read as `Unknown`, so that one new filter does
//! not make an object unreadable.

#![allow(clippy::all, missing_docs, unreachable_pub)]

#[path = "generated/backendtlspolicies.rs"]
pub mod backend_tls_policy;
#[path = "generated/gateways.rs"]
pub mod gateway;
#[path = "generated/gatewayclasses.rs"]
pub mod gateway_class;
#[path = "generated/grpcroutes.rs"]
pub mod grpc_route;
#[path = "generated/httproutes.rs"]
pub mod http_route;
#[path = "generated/listenersets.rs"]
pub mod listener_set;
#[path = "generated/tcproutes.rs"]
pub mod tcp_route;
#[path = "generated/tlsroutes.rs"]
pub mod tls_route;
#[path = "generated/udproutes.rs"]
pub mod udp_route;

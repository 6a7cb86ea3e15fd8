//! A TLSRoute, TCPRoute or UDPRoute as a Route, by way of the HTTPRoute of the same form (gateway.networking.k8s.io/v1;
//! GEP-2643, GEP-735, GEP-1867).
//!
//! Each has one rule of nothing but backends, which takes every connection to its hosts.

use super::http_route::{self, Said};
use super::{Names, of_the_same_form};
use gateway_api::http_route::{HttpRouteRules, HttpRouteSpec};
use gateway_api::tcp_route::TcpRouteSpec;
use gateway_api::tls_route::TlsRouteSpec;
use gateway_api::udp_route::UdpRouteSpec;
use serde::Serialize;

/// Says a TLSRoute as a Route; the HTTPRoute has its parents.
pub(crate) fn of_tls(spec: &TlsRouteSpec) -> (Said, HttpRouteSpec) {
    as_route(
        spec.hostnames.clone(),
        &spec.parent_refs,
        (spec.rules.iter()).map(|rule| (&rule.name, &rule.backend_refs)),
    )
}

/// Says a TCPRoute as a Route; the HTTPRoute has its parents.
pub(crate) fn of_tcp(spec: &TcpRouteSpec) -> (Said, HttpRouteSpec) {
    as_route(
        Vec::new(),
        &spec.parent_refs,
        (spec.rules.iter()).map(|rule| (&rule.name, &rule.backend_refs)),
    )
}

/// Says a UDPRoute as a Route; the HTTPRoute has its parents.
pub(crate) fn of_udp(spec: &UdpRouteSpec) -> (Said, HttpRouteSpec) {
    as_route(
        Vec::new(),
        &spec.parent_refs,
        (spec.rules.iter()).map(|rule| (&rule.name, &rule.backend_refs)),
    )
}

fn as_route<'a, B: Serialize + 'a>(
    hostnames: Vec<String>,
    parents: &impl Serialize,
    rules: impl Iterator<Item = (&'a Option<String>, &'a B)>,
) -> (Said, HttpRouteSpec) {
    let rules = rules.map(|(name, backends)| HttpRouteRules {
        name: name.clone(),
        backend_refs: Some(of_the_same_form(backends)),
        ..HttpRouteRules::default()
    });
    let http = HttpRouteSpec {
        hostnames: Some(hostnames),
        parent_refs: of_the_same_form(parents),
        rules: Some(rules.collect()),
    };
    (http_route::as_route(&http, Names::unasked()), http)
}

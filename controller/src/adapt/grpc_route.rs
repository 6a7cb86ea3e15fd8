//! A GRPCRoute as a Route, by way of the HTTPRoute that does the same (gateway.networking.k8s.io/v1; GEP-1016).
//!
//! gRPC calls the method M of the service S by POST to `/S/M`, so that its methods are paths. Everything else of a GRPCRoute
//! has the form that it has in an HTTPRoute.

use super::http_route::{self, Said};
use super::{Names, of_the_same_form};
use gateway_api::grpc_route::{
    GrpcRouteRulesMatchesHeaders as HeaderMatch, GrpcRouteRulesMatchesMethod as Method,
    GrpcRouteRulesMatchesMethodType as Type, GrpcRouteSpec,
};
use gateway_api::http_route::{
    HttpRouteRules, HttpRouteRulesMatches, HttpRouteRulesMatchesHeaders,
    HttpRouteRulesMatchesHeadersType, HttpRouteRulesMatchesPath, HttpRouteRulesMatchesPathType,
    HttpRouteSpec,
};

/// Says a GRPCRoute as a Route; the HTTPRoute has its parents. `names`: to add to.
pub(crate) fn as_route(spec: &GrpcRouteSpec, names: Names) -> (Said, HttpRouteSpec) {
    let rules = spec.rules.iter().flatten();
    let rules = rules.map(|rule| HttpRouteRules {
        name: rule.name.clone(),
        matches: rule.matches.as_ref().map(|matches| {
            let matches = matches.iter();
            matches
                .map(|m| HttpRouteRulesMatches {
                    path: m.method.as_ref().and_then(path),
                    headers: m.headers.as_ref().map(|h| h.iter().map(header).collect()),
                    ..HttpRouteRulesMatches::default()
                })
                .collect()
        }),
        filters: rule.filters.as_ref().map(of_the_same_form),
        backend_refs: rule.backend_refs.as_ref().map(of_the_same_form),
        ..HttpRouteRules::default()
    });
    let http = HttpRouteSpec {
        hostnames: spec.hostnames.clone(),
        parent_refs: spec.parent_refs.as_ref().map(of_the_same_form),
        rules: Some(rules.collect()),
    };
    let mut said = http_route::as_route(&http, names);
    for (i, rule) in spec.rules.iter().flatten().enumerate() {
        for (j, m) in rule.matches.iter().flatten().enumerate() {
            let at = format_args!("spec.rules[{i}].matches[{j}]");
            for ours in ["path", "path.value"] {
                said.names
                    .add(format_args!("{at}.{ours}"), format_args!("{at}.method"));
            }
            if m.method
                .as_ref()
                .is_some_and(|m| m.r#type == Some(Type::Unknown))
            {
                let message = "must be Exact or RegularExpression";
                said.close(i, format!("{at}.method.type"), message);
            }
        }
    }
    (said, http)
}

/// The paths of the methods; all of them where neither service nor method is named.
fn path(of: &Method) -> Option<HttpRouteRulesMatchesPath> {
    let named = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
    let exact = matches!(of.r#type, None | Some(Type::Exact));
    let any = || "[^/]+".to_owned();
    let (type_, value) = match (exact, named(&of.service), named(&of.method)) {
        (_, None, None) => return None,
        (true, Some(service), Some(method)) => (
            HttpRouteRulesMatchesPathType::Exact,
            format!("/{service}/{method}"),
        ),
        (true, Some(service), None) => (
            HttpRouteRulesMatchesPathType::PathPrefix,
            format!("/{service}/"),
        ),
        (true, None, Some(method)) => (
            HttpRouteRulesMatchesPathType::RegularExpression,
            format!("/{}/{}", any(), regex::escape(&method)),
        ),
        (false, service, method) => {
            let group = |name: Option<String>| name.map_or_else(any, |name| format!("(?:{name})"));
            (
                HttpRouteRulesMatchesPathType::RegularExpression,
                format!("/{}/{}", group(service), group(method)),
            )
        }
    };
    Some(HttpRouteRulesMatchesPath {
        r#type: Some(type_),
        value: Some(value),
    })
}

fn header(of: &HeaderMatch) -> HttpRouteRulesMatchesHeaders {
    HttpRouteRulesMatchesHeaders {
        name: of.name.clone(),
        r#type: of.r#type.as_ref().map(|type_| match type_ {
            Type::Exact => HttpRouteRulesMatchesHeadersType::Exact,
            Type::RegularExpression => HttpRouteRulesMatchesHeadersType::RegularExpression,
            Type::Unknown => HttpRouteRulesMatchesHeadersType::Unknown,
        }),
        value: of.value.clone(),
    }
}

//! What the conformance suite of the Gateway API may ask of us: names of its feature registry.

use crate::world::Definition;

/// Whatever the cluster's definitions are.
const ALWAYS: &[&str] = &[
    "BackendTLSPolicy",
    "BackendTLSPolicySANValidation",
    "GRPCRoute",
    "GRPCRouteNamedRouteRule",
    "Gateway",
    "GatewayAddressEmpty",
    "GatewayBackendClientCertificate",
    "GatewayFrontendClientCertificateValidation",
    "GatewayFrontendClientCertificateValidationInsecureFallback",
    "GatewayHTTPListenerIsolation",
    "GatewayHTTPSListenerDetectMisdirectedRequests",
    "GatewayInfrastructure",
    "GatewayPort8080",
    "GatewayStaticAddresses",
    "HTTPRoute",
    "HTTPRoute303RedirectStatusCode",
    "HTTPRoute307RedirectStatusCode",
    "HTTPRoute308RedirectStatusCode",
    "HTTPRouteBackendProtocolH2C",
    "HTTPRouteBackendProtocolWebSocket",
    "HTTPRouteBackendRequestHeaderModification",
    "HTTPRouteBackendTimeout",
    "HTTPRouteCORS",
    "HTTPRouteDestinationPortMatching",
    "HTTPRouteHostRewrite",
    "HTTPRouteMethodMatching",
    "HTTPRouteNamedRouteRule",
    "HTTPRouteParentRefPort",
    "HTTPRoutePathRedirect",
    "HTTPRoutePathRewrite",
    "HTTPRoutePortRedirect",
    "HTTPRouteQueryParamMatching",
    "HTTPRouteRequestMirror",
    "HTTPRouteRequestMultipleMirrors",
    "HTTPRouteRequestPercentageMirror",
    "HTTPRouteRequestTimeout",
    "HTTPRouteResponseHeaderModification",
    "HTTPRouteSchemeRedirect",
    "ListenerSet",
    "ReferenceGrant",
    "TCPRoute",
    "TLSRoute",
    "TLSRouteModeMixed",
    "TLSRouteModeTerminate",
    "UDPRoute",
];

/// How the cluster's definitions have `retry` of an HTTPRoute's rule (GEP-1731). Of what they lack the API server stores
/// nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RouteRetry {
    #[default]
    Absent,
    /// In the experimental channel, up to v1.6.
    Experimental,
    /// Since v1.7, where the registry has other names.
    Standard,
}

impl RouteRetry {
    /// As the definition of HTTPRoutes has it; `None`: it is not known.
    pub fn of(definition: Option<&Definition>) -> Self {
        let version = definition.and_then(Definition::version);
        match version {
            Some(version) if version >= (1, 7) => Self::Standard,
            Some(version) if version >= (1, 2) && definition.is_some_and(|d| d.experimental) => {
                Self::Experimental
            }
            _ => Self::Absent,
        }
    }

    fn features(self) -> &'static [&'static str] {
        match self {
            Self::Absent => &[],
            Self::Experimental => &[
                "HTTPRouteRetry",
                "HTTPRouteRetryBackendTimeout",
                "HTTPRouteRetryConnectionError",
            ],
            Self::Standard => &["HTTPRouteRetryCodes", "HTTPRouteRetryConnectionError"],
        }
    }
}

/// All of them, sorted.
pub(super) fn features(retry: RouteRetry) -> Vec<&'static str> {
    let mut all = [ALWAYS, retry.features()].concat();
    all.sort_unstable();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_claimed_where_the_definition_of_http_routes_has_them() {
        use RouteRetry::*;
        for (release, experimental, expected) in [
            ("v1.1.1", true, Absent),
            ("v1.2.0", true, Experimental),
            ("v1.6.3", false, Absent),
            ("v1.6.3", true, Experimental),
            ("v1.7.0-rc.1", false, Standard),
            ("v1.7.0", true, Standard),
            ("v2.0.0", false, Standard),
            ("v1", true, Absent),
            ("main", true, Absent),
        ] {
            let definition = Definition {
                release: release.into(),
                experimental,
            };
            let found = RouteRetry::of(Some(&definition));
            assert_eq!(found, expected, "{release} {experimental}");
        }
        assert_eq!(RouteRetry::of(None), Absent);
    }

    #[test]
    fn names_are_sorted_and_there_once() {
        for retry in [
            RouteRetry::Absent,
            RouteRetry::Experimental,
            RouteRetry::Standard,
        ] {
            let all = features(retry);
            assert!(all.is_sorted_by(|a, b| a < b), "{all:?}");
            assert_eq!(all.len(), ALWAYS.len() + retry.features().len());
        }
    }
}

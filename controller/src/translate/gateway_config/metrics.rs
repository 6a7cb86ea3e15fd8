//! What data planes tell in their metrics, and whom (features.md F154).

use super::super::lowering::Lowering;
use super::super::upstream::credentials::field_value;
use crate::report::Reason;
use model::{CredentialHeader, Metrics, limits};

/// The schema's bound of `maxSeries`.
const MOST_SERIES: u32 = 1_000_000;

/// What the admin port answers itself, with all below it.
const TAKEN: &[&str] = &[
    "/healthz",
    "/readyz",
    "/api",
    "/metrics/summary",
    "/metrics/ui",
];

impl Lowering<'_> {
    pub(super) fn metrics(&mut self, spec: &crds::observe::Metrics) -> Metrics {
        let series = spec.max_series.unwrap_or(limits::SERIES);
        let series = self.in_range(&"spec.metrics.maxSeries", series, 0, MOST_SERIES);
        let labels = spec.labels.as_ref();
        Metrics {
            by_route: labels.and_then(|labels| labels.route) != Some(false),
            by_tenant: labels.and_then(|labels| labels.tenant) == Some(true),
            by_upstream: labels.and_then(|labels| labels.upstream) == Some(true),
            max_series: series.unwrap_or(limits::SERIES),
            path: spec.path.as_ref().and_then(|path| self.page(path)),
            tokens: match (spec.enabled, &spec.auth_ref) {
                // Nobody has what would open the page.
                (Some(false), _) => Some(Vec::new()),
                (_, auth) => auth.as_ref().map(|auth| self.tokens(auth)),
            },
        }
    }

    /// Where the page is to be; `None`: where it is anyway.
    fn page(&mut self, path: &str) -> Option<String> {
        let fault = fault_of_page(path);
        if let Some(message) = fault {
            self.error("spec.metrics.path", Reason::Invalid, message);
        }
        (fault.is_none() && path != Metrics::PATH).then(|| path.to_owned())
    }

    /// Those that can be had: without any nobody is told.
    fn tokens(&mut self, auth: &crds::observe::MetricsAuth) -> Vec<CredentialHeader> {
        // A ListenerSet has its Gateway's, of the Gateway's namespace.
        let own = self.id;
        self.id = self.gateway.unwrap_or(own);
        let mut tokens = Vec::new();
        for (i, reference) in auth.secret_key_ref.iter().enumerate() {
            let at = format!("spec.metrics.authRef.secretKeyRef[{i}]");
            let Some(value) = self.secret_value(&at, reference) else {
                continue;
            };
            match field_value("Bearer ", value) {
                Some(value) => tokens.push(CredentialHeader {
                    name: "authorization".to_owned(),
                    value,
                }),
                None => {
                    let message = "is empty or holds what no header value may hold";
                    self.error(at, Reason::InvalidValue, message);
                }
            }
        }
        self.id = own;
        tokens
    }
}

/// Why the page cannot be there. What clients rewrite before they send it would not be found.
fn fault_of_page(path: &str) -> Option<&'static str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let mut segments = path.split('/').skip(1);
    let is_plain = segments.all(|one| !matches!(one, "" | "." | "..") && one.bytes().all(plain));
    if !path.starts_with('/') || !is_plain {
        return Some(
            "must be a path like /a/b, of letters, digits and -._~, without . and .. as segments",
        );
    }
    let taken = TAKEN.iter().any(|taken| {
        let rest = path.strip_prefix(taken);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    taken.then_some("the admin port answers something else there: /healthz, /readyz, /api, /metrics/summary and /metrics/ui are its own, with all below them")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_metrics_may_be_where_nothing_else_is() {
        for good in [
            "/metrics",
            "/m",
            "/prom/v1.2~a_b-c",
            "/healthz2",
            "/apis",
            "/metrics/all",
        ] {
            assert_eq!(fault_of_page(good), None, "{good}");
        }
        for taken in [
            "/healthz",
            "/readyz/a",
            "/api",
            "/api/v1/log",
            "/metrics/ui",
        ] {
            assert!(fault_of_page(taken).unwrap().contains("its own"), "{taken}");
        }
        for bad in [
            "", "m", "/", "/m/", "//m", "/a/../m", "/./m", "/m%20", "/{a}", "/é", "/a b",
        ] {
            assert!(fault_of_page(bad).unwrap().starts_with("must be"), "{bad}");
        }
    }
}

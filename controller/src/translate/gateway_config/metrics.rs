//! What data planes tell in their metrics, and whom (features.md F154).

use super::super::lowering::Lowering;
use super::super::upstream::credentials::field_value;
use crate::report::Reason;
use model::{CredentialHeader, Metrics, limits};

/// The schema's bound of `maxSeries`.
const MOST_SERIES: u32 = 1_000_000;

impl Lowering<'_> {
    pub(super) fn metrics(&mut self, spec: &crds::observe::Metrics) -> Metrics {
        let series = spec.max_series.unwrap_or(limits::SERIES);
        let series = self.in_range("spec.metrics.maxSeries", series, 0, MOST_SERIES);
        let labels = spec.labels.as_ref();
        Metrics {
            by_route: labels.and_then(|labels| labels.route) != Some(false),
            max_series: series.unwrap_or(limits::SERIES),
            tokens: match (spec.enabled, &spec.auth_ref) {
                // Nobody has what would open the page.
                (Some(false), _) => Some(Vec::new()),
                (_, auth) => auth.as_ref().map(|auth| self.tokens(auth)),
            },
        }
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

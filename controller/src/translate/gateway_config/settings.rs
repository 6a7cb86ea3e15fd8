//! What all listeners of a GatewayConfig have in common.

use super::super::lowering::Lowering;
use crate::report::Reason;
use crds::{GatewayConfigSpec, Xff};
use model::headers::is_value;
use model::listener::Caps;
use model::{
    Edge, ErrorTemplate, EscapedSlashes, Forwarded, ForwardedFor, Listener, Underscores, limits,
};
use std::collections::BTreeSet;
use std::time::Duration;

/// Fewer bytes of a request head or target would refuse nearly every client.
const MIN_BYTES: u32 = 256;
/// Bytes of a body in `errors.templates`.
const TEMPLATE_BYTES: usize = 16 * 1024;

impl Lowering<'_> {
    /// What all listeners of a GatewayConfig have in common, as a listener to copy from.
    pub(super) fn settings(&mut self, spec: &GatewayConfigSpec) -> Listener {
        let mut caps = Caps::default();
        if let Some(given) = &spec.caps {
            for (name, size, slot) in [
                ("headerBytes", &given.header_bytes, &mut caps.header_bytes),
                ("urlBytes", &given.url_bytes, &mut caps.url_bytes),
            ] {
                if let Some(size) = size
                    && let Some(bytes) = self.valid(format!("spec.caps.{name}"), size.bytes())
                {
                    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
                    *slot = self.capped(name, bytes, MIN_BYTES, limits::HEADER_BYTES);
                }
            }
            for (name, number, slot, most) in [
                (
                    "headerCount",
                    given.header_count.map(u32::from),
                    &mut caps.header_count,
                    limits::HEADER_COUNT,
                ),
                (
                    "connections",
                    given.connections,
                    &mut caps.connections,
                    u32::MAX,
                ),
                (
                    "requestsPerConnection",
                    given.requests_per_connection,
                    &mut caps.requests_per_connection,
                    u32::MAX,
                ),
            ] {
                if let Some(number) = number {
                    *slot = self.capped(name, number, 1, most);
                }
            }
        }
        let mut times = [
            limits::REQUEST_HEADER_TIMEOUT,
            limits::KEEP_ALIVE,
            limits::DRAIN,
        ]
        .map(millis);
        if let Some(given) = &spec.timeouts {
            let fields = [
                ("requestHeader", &given.request_header),
                ("keepAlive", &given.keep_alive),
                ("drain", &given.drain),
            ];
            for ((name, value), slot) in fields.into_iter().zip(&mut times) {
                if let Some(value) = value
                    && let Some(millis) = self.millis(&format!("spec.timeouts.{name}"), value)
                {
                    *slot = millis;
                }
            }
        }
        let [request_header_ms, keep_alive_ms, drain_ms] = times;
        Listener {
            access_log: spec
                .access_log
                .as_ref()
                .filter(|log| log.enabled != Some(false))
                .map(|log| self.access_log(log)),
            tracing: spec
                .tracing
                .as_ref()
                .filter(|tracing| tracing.enabled != Some(false))
                .and_then(|tracing| self.tracing(tracing)),
            forwarded: self.forwarded(spec.forwarded.as_ref()),
            errors: self.error_templates(spec.errors.as_ref()),
            shows_revision: spec.revision_header == Some(true),
            concurrency: self.request_concurrency(&"spec.concurrency", spec.concurrency.as_ref()),
            metrics: spec.metrics.as_ref().map(|metrics| self.metrics(metrics)),
            caps,
            edge: edge(spec.edge, Edge::default()),
            request_header_ms,
            keep_alive_ms,
            drain_ms,
            ..Listener::new(self.id.origin(), "", 0)
        }
    }

    fn forwarded(&mut self, spec: Option<&crds::Forwarded>) -> Forwarded {
        let Some(spec) = spec else {
            return Forwarded::default();
        };
        Forwarded {
            xff: match spec.xff {
                Some(Xff::Append) => ForwardedFor::Append,
                Some(Xff::Set) => ForwardedFor::Set,
                Some(Xff::Drop) | None => ForwardedFor::Drop,
            },
            trusted: self.networks(&"spec.forwarded.trustedCIDRs", &spec.trusted_cidrs),
            standard_headers: spec.standard_headers == Some(true),
        }
    }

    fn error_templates(&mut self, spec: Option<&crds::Errors>) -> Vec<ErrorTemplate> {
        let mut all = Vec::new();
        let mut statuses = BTreeSet::new();
        for (i, template) in spec.iter().flat_map(|e| &e.templates).enumerate() {
            let at = format!("spec.errors.templates[{i}]");
            let status = u32::from(template.status);
            let status = self.in_range(&format!("{at}.status"), status, 400, 599);
            if status.is_some() && !statuses.insert(template.status) {
                let message = format!("another template is for {}", template.status);
                self.error(format!("{at}.status"), Reason::Invalid, message);
            }
            let content_type = template
                .content_type
                .as_deref()
                .unwrap_or("application/json");
            if content_type.is_empty() || !is_value(content_type.as_bytes()) {
                let message = "must be a media type such as text/html; charset=utf-8";
                self.error(format!("{at}.contentType"), Reason::Invalid, message);
            }
            if template.body.len() > TEMPLATE_BYTES {
                let message = format!("must be at most {TEMPLATE_BYTES} bytes");
                self.error(format!("{at}.body"), Reason::Invalid, message);
            }
            all.push(ErrorTemplate {
                status: template.status,
                content_type: content_type.to_owned(),
                body: template.body.to_string(),
            });
        }
        all
    }

    /// The nearest value that the data plane can keep to, with a warning where that is another one.
    fn capped(&mut self, name: &str, value: u32, least: u32, most: u32) -> u32 {
        let kept = value.clamp(least, most);
        if kept != value {
            let message = format!("must be from {least} to {most}: {kept} is in effect");
            self.warn(format!("spec.caps.{name}"), Reason::OutOfRange, message);
        }
        kept
    }
}

/// What is said, and otherwise what holds without it.
pub(super) fn edge(said: Option<crds::Edge>, otherwise: Edge) -> Edge {
    let said = said.unwrap_or_default();
    Edge {
        escaped_slashes: match said.escaped_slashes {
            None => otherwise.escaped_slashes,
            Some(crds::EscapedSlashes::Reject) => EscapedSlashes::Reject,
            Some(crds::EscapedSlashes::Keep) => EscapedSlashes::Keep,
        },
        underscores: match said.underscores_in_headers {
            None => otherwise.underscores,
            Some(crds::Underscores::Reject) => Underscores::Reject,
            Some(crds::Underscores::Drop) => Underscores::Drop,
            Some(crds::Underscores::Keep) => Underscores::Keep,
        },
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

//! Traces (features.md F157): which requests have one, what it tells, and how it gets to a collector over OTLP.
//!
//! Where a listener traces nothing a request costs one look at that. Where it does, the decision is that of the client's
//! `traceparent` (W3C Trace Context), else a share of the requests. A sampled request is one span of kind SERVER with one
//! of kind CLIENT for each attempt at an upstream, whose `traceparent` it gets; attributes are those of OpenTelemetry's
//! semantic conventions for HTTP.

mod export;
mod send;
mod span;

pub use export::Exporter;
pub(crate) use span::{Finished, Trace};

use super::trace;
use model::Headers;
use model::headers::Known;
use std::sync::Arc;
use tonic::metadata::MetadataMap;

/// A collector.
#[derive(Debug)]
pub struct Target {
    endpoint: http::Uri,
    grpc: bool,
    /// Sent along; marked as sensitive, so that they do not print.
    headers: http::HeaderMap,
}

impl Target {
    fn metadata(&self) -> MetadataMap {
        MetadataMap::from_headers(self.headers.clone())
    }
}

impl PartialEq for Target {
    fn eq(&self, other: &Self) -> bool {
        (&self.endpoint, self.grpc, &self.headers) == (&other.endpoint, other.grpc, &other.headers)
    }
}

/// What a listener traces.
#[derive(Clone, Debug)]
pub struct Tracing {
    target: Arc<Target>,
    /// Of what nobody has decided on: where the second half of the id is below, all ids if there is none.
    below: Option<u64>,
}

impl Tracing {
    /// # Errors
    /// An endpoint or header that is none.
    pub fn new(settings: &model::Tracing) -> Result<Self, String> {
        let endpoint: http::Uri = settings
            .endpoint
            .parse()
            .map_err(|e| format!("endpoint: {e}"))?;
        if endpoint.host().is_none() || !matches!(endpoint.scheme_str(), Some("http" | "https")) {
            return Err("endpoint: must begin with http:// or https:// and a host".to_owned());
        }
        let mut headers = http::HeaderMap::new();
        for header in &settings.headers {
            let name: http::HeaderName = header.name.parse().map_err(|e| format!("header: {e}"))?;
            let mut value = http::HeaderValue::from_bytes(header.value.reveal())
                .map_err(|e| format!("header {name}: {e}"))?;
            value.set_sensitive(true);
            headers.append(name, value);
        }
        let share = u128::from(settings.sample_millionths);
        Ok(Self {
            target: Arc::new(Target {
                endpoint,
                grpc: settings.grpc,
                headers,
            }),
            below: (share < 1_000_000).then_some(((share << 64) / 1_000_000) as u64),
        })
    }

    /// Decides on a request. What names no trace is taken away, and one that has none gets one.
    pub(crate) fn begin(&self, headers: &mut Headers) -> Option<Box<Trace>> {
        trace::remove_invalid(headers);
        if let Some(parent) = trace::parent(headers) {
            return parent
                .sampled
                .then(|| Trace::new(&self.target, parent.trace, Some(parent.span), headers));
        }
        let id: [u8; 16] = rand::random();
        let sampled = self.samples(id);
        let span: [u8; 8] = rand::random();
        let line = trace::traceparent(id, span, sampled);
        // A constant name and hexadecimal digits, so it is taken.
        let _ = headers.set(Known::Traceparent.name(), &line);
        headers.remove("tracestate");
        sampled.then(|| Trace::new(&self.target, id, None, headers).with_id(span))
    }

    fn samples(&self, id: [u8; 16]) -> bool {
        let half = u128::from_be_bytes(id) as u64;
        self.below.is_none_or(|below| half < below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{CredentialHeader, Secret};

    fn tracing(sample_millionths: u32) -> Tracing {
        Tracing::new(&model::Tracing {
            endpoint: "http://collector:4317".into(),
            grpc: true,
            headers: vec![CredentialHeader {
                name: "x-key".into(),
                value: Secret::new("hunter2"),
            }],
            sample_millionths,
        })
        .unwrap()
    }

    fn with(parent: &str) -> Headers {
        let mut headers = Headers::new();
        headers.push("traceparent", parent).unwrap();
        headers.push("tracestate", "a=1").unwrap();
        headers
    }

    fn told(headers: &Headers) -> String {
        String::from_utf8(headers.get("traceparent").unwrap().to_vec()).unwrap()
    }

    const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn the_client_decides_where_it_says_something() {
        for (flags, sampled) in [("01", true), ("00", false), ("03", true), ("02", false)] {
            let parent = format!("00-{ID}-00f067aa0ba902b7-{flags}");
            let mut headers = with(&parent);
            let trace = tracing(1_000_000 * u32::from(!sampled)).begin(&mut headers);
            assert_eq!(trace.is_some(), sampled, "{flags}");
            assert_eq!(told(&headers), parent, "it goes on as it came");
            assert!(headers.contains("tracestate"));
        }
    }

    #[test]
    fn else_a_share_is_traced_and_upstreams_learn_what_was_decided() {
        let tracing = tracing(250_000);
        let mut sampled = 0;
        for _ in 0..4000 {
            let mut headers = with("00-0-0-01");
            let is = tracing.begin(&mut headers).is_some();
            sampled += u32::from(is);
            assert!(told(&headers).ends_with(if is { "-01" } else { "-00" }));
            assert!(!headers.contains("tracestate"), "it was another trace's");
        }
        assert!((800..1200).contains(&sampled), "{sampled}");
        assert!(self::tracing(0).begin(&mut Headers::new()).is_none());
        assert!(
            self::tracing(1_000_000)
                .begin(&mut Headers::new())
                .is_some()
        );
    }

    #[test]
    fn what_is_sent_along_does_not_print() {
        assert!(!format!("{:?}", tracing(1)).contains("hunter2"));
        for wrong in ["collector:4317", "ftp://a", "http://"] {
            let settings = model::Tracing {
                endpoint: wrong.into(),
                ..model::Tracing::default()
            };
            assert!(Tracing::new(&settings).is_err(), "{wrong}");
        }
    }
}

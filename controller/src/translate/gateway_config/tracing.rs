//! Traces: where spans go and of which requests there are some (features.md F157).

use super::super::lowering::Lowering;
use super::access_log::millionths;
use crate::report::Reason;
use crds::observe::OtlpProtocol;
use model::{CredentialHeader, Secret, Tracing};
use url::Url;

/// Share of the requests, in millionths.
const SAMPLE: u32 = 10_000;

impl Lowering<'_> {
    /// `None`: it cannot be done.
    pub(super) fn tracing(&mut self, spec: &crds::observe::Tracing) -> Option<Tracing> {
        let endpoint = self.valid("spec.tracing.otlp.endpoint", endpoint(&spec.otlp.endpoint));
        let sample_millionths = match spec.sample.map(millionths) {
            None => Some(SAMPLE),
            Some(Some(millionths)) => Some(millionths),
            Some(None) => {
                self.error(
                    "spec.tracing.sample",
                    Reason::Invalid,
                    "must be from 0 to 1",
                );
                None
            }
        };
        let header = |h: &crds::header::Header| CredentialHeader {
            name: h.name.to_ascii_lowercase(),
            value: Secret::new(h.value.as_bytes()),
        };
        Some(Tracing {
            endpoint: endpoint?,
            grpc: spec.otlp.protocol != Some(OtlpProtocol::Http),
            headers: spec.otlp.headers.iter().map(header).collect(),
            sample_millionths: sample_millionths?,
        })
    }
}

fn endpoint(text: &str) -> Result<String, &'static str> {
    let url = Url::parse(text).map_err(|_| "is no URL")?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err("must begin with http:// or https:// and a host");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must have no user and password; use headers");
    }
    Ok(url.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_urls_of_collectors() {
        assert_eq!(
            endpoint("http://otel.svc:4317"),
            Ok("http://otel.svc:4317/".to_owned())
        );
        assert!(endpoint("https://[::1]/v1/traces?x=1").is_ok());
        for wrong in ["otel:4317", "ftp://a", "http://", "http://u:p@a"] {
            assert!(endpoint(wrong).is_err(), "{wrong}");
        }
    }
}

//! Registries and other sources of endpoints, several of which may stand beside each other (`discovery`). Those outside of
//! the cluster are asked by the data planes.

use super::super::lowering::Lowering;
use super::source::Origin;
use crate::report::Reason;
use crds::{DiscoveryMode, DiscoverySourceType};
use model::{Discovery, DiscoverySource, EndpointSource, HttpSource, Upstream, endpoint_filter};

/// How often registries are asked (`discovery.refreshInterval`).
const REFRESH_MS: u32 = 30_000;
const FIELD: &str = "spec.discovery";

impl Lowering<'_> {
    pub(super) fn discovery(
        &mut self,
        discovery: &crds::Discovery,
        upstream: &mut Upstream,
    ) -> Option<Origin> {
        let refresh_ms = match &discovery.refresh_interval {
            Some(interval) => {
                self.positive_millis(&format!("{FIELD}.refreshInterval"), interval)?
            }
            None => REFRESH_MS,
        };
        let mut sources = Vec::new();
        // One that cannot be read is left out: the others serve.
        for (i, source) in discovery.sources.iter().enumerate() {
            if discovery.enabled != Some(false) && source.enabled != Some(false) {
                let field = format!("{FIELD}.sources[{i}]");
                sources.extend(self.discovery_source(&field, source, refresh_ms));
            }
        }
        if sources.is_empty() {
            self.warn(
                FIELD,
                Reason::Invalid,
                "no source is asked: it has no endpoint",
            );
        }
        let filter = match &discovery.filter {
            Some(text) => Some(self.endpoint_filter(text, &sources)?),
            None => None,
        };
        upstream.source = EndpointSource::Discovery(Discovery {
            first_available: discovery.mode == Some(DiscoveryMode::FirstAvailable),
            sources,
            filter,
        });
        Some(Origin::default())
    }

    fn endpoint_filter(&mut self, text: &str, sources: &[DiscoverySource]) -> Option<String> {
        let field = format!("{FIELD}.filter");
        self.valid(field.clone(), endpoint_filter::compile(text))?;
        let has_labels = |source: &DiscoverySource| matches!(source, DiscoverySource::Http(_));
        if text.contains(endpoint_filter::LABELS) && !sources.iter().any(has_labels) {
            let message = "only HTTP sources list labels, and there is none: no endpoint has any";
            self.warn(field, Reason::Invalid, message);
        }
        Some(text.to_owned())
    }

    fn discovery_source(
        &mut self,
        field: &str,
        source: &crds::DiscoverySource,
        refresh_ms: u32,
    ) -> Option<DiscoverySource> {
        match source.type_ {
            DiscoverySourceType::Http => {
                let http =
                    self.registry(&format!("{field}.http"), source.http.as_ref()?, refresh_ms);
                http.map(DiscoverySource::Http)
            }
            DiscoverySourceType::Dns => {
                let dns = self.dns(&format!("{field}.dns"), source.dns.as_ref()?);
                dns.map(DiscoverySource::Dns)
            }
            DiscoverySourceType::Static => {
                let field = format!("{field}.static");
                let listed = self.endpoints(&field, source.static_.as_deref()?);
                Some(DiscoverySource::Static(listed))
            }
            DiscoverySourceType::Kubernetes => {
                let field = format!("{field}.kubernetes");
                match self.service_source(&field, source.kubernetes.as_ref()?)?.0 {
                    EndpointSource::Service(service) => Some(DiscoverySource::Service(service)),
                    EndpointSource::Dns(dns) => Some(DiscoverySource::Dns(dns)),
                    EndpointSource::Static(_) | EndpointSource::Discovery(_) => None,
                }
            }
            // Said by the table of what is not built.
            DiscoverySourceType::Consul | DiscoverySourceType::Etcd => None,
        }
    }

    fn registry(
        &mut self,
        field: &str,
        http: &crds::HttpSource,
        refresh_ms: u32,
    ) -> Option<HttpSource> {
        let path = match &http.json_path {
            Some(path) => self.valid(format!("{field}.jsonPath"), json_path(path)),
            None => Some(Vec::new()),
        };
        let refresh_ms = match &http.interval {
            Some(interval) => self.positive_millis(&format!("{field}.interval"), interval)?,
            None => refresh_ms,
        };
        let url = self.valid(format!("{field}.url"), registry_url(&http.url));
        Some(HttpSource {
            url: url?,
            path: path?,
            refresh_ms,
        })
    }
}

fn registry_url(text: &str) -> Result<String, String> {
    let mut url = url::Url::parse(text).map_err(|e| e.to_string())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("must begin with http:// or https://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must hold no user and no password".to_owned());
    }
    url.set_fragment(None);
    Ok(url.into())
}

/// `$` and names behind dots.
fn json_path(text: &str) -> Result<Vec<String>, &'static str> {
    const WRONG: &str = "must be $ followed by names such as $.data.items";
    let names = text.strip_prefix('$').ok_or(WRONG)?;
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let names = names.strip_prefix('.').ok_or(WRONG)?.split('.');
    names
        .map(|name| {
            let odd = |c: char| !(c.is_alphanumeric() || c == '_' || c == '-');
            match name.is_empty() || name.contains(odd) {
                true => Err(WRONG),
                false => Ok(name.to_owned()),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_names_behind_dots() {
        assert_eq!(json_path("$"), Ok(vec![]));
        let both = vec!["data".to_owned(), "the_items-2".to_owned()];
        assert_eq!(json_path("$.data.the_items-2"), Ok(both));
        for wrong in [
            "", "items", "$items", "$.", "$..a", "$.a[0]", "$.*", "$['a']",
        ] {
            assert!(json_path(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn urls_hold_no_secret_that_would_be_shown() {
        assert!(
            registry_url("https://r.test/v1?kind=web#x")
                .is_ok_and(|u| u == "https://r.test/v1?kind=web")
        );
        for wrong in [
            "ftp://r.test",
            "https://me:secret@r.test/",
            "https://me@r.test/",
            "r.test",
        ] {
            let error = registry_url(wrong).unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}

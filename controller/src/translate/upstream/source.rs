//! Where the endpoints of an Upstream come from.

use super::super::lowering::{Lowering, Unit};
use super::super::matches::normal_path;
use super::{host, host_name, port};
use crate::report::Reason;
use crate::world::{ObjectId, ObjectKind};
use crds::{TtlPolicy, UpstreamSpec};
use model::{DnsSource, EndpointSource, StaticEndpoint, Upstream};

/// How often the name of `dns` is looked up (`dns.refreshInterval`).
const DNS_REFRESH_MS: u32 = 30_000;

/// What a source says beside its endpoints.
#[derive(Default)]
pub(super) struct Origin {
    /// The one host behind it: the name that its certificate should have.
    pub host: Option<String>,
    /// The URL asks for TLS.
    pub https: bool,
    /// The port of the Service is declared as HTTP/2 in clear.
    pub h2c: bool,
}

impl Lowering<'_> {
    /// `None` when the source cannot be used.
    pub(super) fn source(
        &mut self,
        spec: &UpstreamSpec,
        upstream: &mut Upstream,
    ) -> Option<Origin> {
        if let Some(service) = &spec.service {
            return self.service_source(service, upstream);
        }
        if let Some(endpoints) = &spec.endpoints {
            let listed = self.endpoints("spec.endpoints", endpoints);
            upstream.source = EndpointSource::Static(listed);
            return Some(Origin::default());
        }
        if let Some(dns) = &spec.dns {
            let source = self.dns("spec.dns", dns)?;
            let host = Some(source.hostname.clone());
            upstream.source = EndpointSource::Dns(source);
            return Some(Origin {
                host,
                ..Origin::default()
            });
        }
        if let Some(external) = &spec.external {
            return self.external("spec.external.url", &external.url, upstream);
        }
        if let Some(selector) = &spec.selector {
            return self.pods(selector, upstream);
        }
        if let Some(discovery) = &spec.discovery {
            return self.discovery(discovery, upstream);
        }
        let message =
            "one of service, selector, endpoints, dns, external and discovery must be given";
        self.error("spec", Reason::Invalid, message);
        None
    }

    fn service_source(
        &mut self,
        service: &crds::refs::ServiceRef,
        upstream: &mut Upstream,
    ) -> Option<Origin> {
        const FIELD: &str = "spec.service";
        let namespace = service.namespace.as_deref().unwrap_or(&self.id.namespace);
        let id = ObjectId::new(ObjectKind::Service, namespace, service.name.as_str());
        if !self.may_refer(&id) {
            let message = self.world.not_granted(&id);
            self.error(FIELD, Reason::RefNotPermitted, message);
            return None;
        }
        let found = self.service(&id);
        if let Some(name) = found.and_then(|s| s.external_name.as_deref()) {
            return self.external_name(&id, name, service.port, upstream);
        }
        let port = self.service_port(FIELD, "port", &id, service.port)?;
        let app_protocol = found
            .and_then(|s| s.ports.iter().find(|p| p.port == service.port))
            .and_then(|p| p.app_protocol.as_deref());
        upstream.source = EndpointSource::Service(port.to_string());
        self.out.demands.insert(Unit::Shards(port));
        Some(Origin {
            h2c: app_protocol == Some(super::super::service::H2C),
            ..Origin::default()
        })
    }

    /// A Service of type ExternalName is a name to look up, with the rights of whoever may write it: so it serves
    /// Upstreams of its own namespace alone, whose author could write the name down as well.
    fn external_name(
        &mut self,
        id: &ObjectId,
        name: &str,
        number: u16,
        upstream: &mut Upstream,
    ) -> Option<Origin> {
        if id.namespace != self.id.namespace {
            let message =
                format!("{id} is of type ExternalName, which serves its own namespace only");
            self.error("spec.service", Reason::RefNotPermitted, message);
            return None;
        }
        self.valid("spec.service.port", port(number))?;
        let hostname = match host_name(name) {
            Ok(hostname) => hostname,
            Err(e) => {
                let message = format!("{id}: spec.externalName: {e}");
                self.error("spec.service", Reason::BackendNotFound, message);
                return None;
            }
        };
        upstream.source = EndpointSource::Dns(DnsSource {
            hostname: hostname.clone(),
            port: number,
            refresh_ms: DNS_REFRESH_MS,
            respect_ttl: true,
        });
        Some(Origin {
            host: Some(hostname),
            ..Origin::default()
        })
    }

    pub(super) fn endpoints(
        &mut self,
        field: &str,
        endpoints: &[crds::Endpoint],
    ) -> Vec<StaticEndpoint> {
        let mut all = Vec::with_capacity(endpoints.len());
        for (i, endpoint) in endpoints.iter().enumerate() {
            let at = format!("{field}[{i}]");
            let host = self.valid(format!("{at}.address"), host(&endpoint.address));
            let usable = self.valid(format!("{at}.port"), port(endpoint.port));
            if let (Some(host), Some(())) = (host, usable) {
                all.push(StaticEndpoint {
                    host,
                    port: endpoint.port,
                    weight: endpoint.weight.unwrap_or(1),
                    zone: endpoint.zone.as_deref().map(str::to_owned),
                });
            }
        }
        all
    }

    pub(super) fn dns(&mut self, field: &str, dns: &crds::Dns) -> Option<DnsSource> {
        let hostname = self.valid(format!("{field}.hostname"), host_name(&dns.hostname));
        let usable = self.valid(format!("{field}.port"), port(dns.port));
        let refresh_ms = match &dns.refresh_interval {
            Some(interval) => {
                self.positive_millis(&format!("{field}.refreshInterval"), interval)?
            }
            None => DNS_REFRESH_MS,
        };
        let hostname = hostname?;
        usable?;
        Some(DnsSource {
            hostname,
            port: dns.port,
            refresh_ms,
            respect_ttl: dns.ttl_policy != Some(TtlPolicy::Ignore),
        })
    }

    fn external(&mut self, field: &str, text: &str, upstream: &mut Upstream) -> Option<Origin> {
        let url = self.valid(field, url::Url::parse(text))?;
        let https = url.scheme() == "https";
        let problem = match url.scheme() {
            "http" | "https" if !url.username().is_empty() || url.password().is_some() => {
                Some("must hold no user and no password")
            }
            "http" | "https" if url.query().is_some() || url.fragment().is_some() => {
                Some("must have no query and no fragment")
            }
            "http" | "https" => None,
            _ => Some("must begin with http:// or https://"),
        };
        if let Some(message) = problem {
            self.error(field, Reason::Invalid, message);
            return None;
        }
        let name = url.host_str().unwrap_or_default();
        let bare = name
            .strip_prefix('[')
            .and_then(|n| n.strip_suffix(']'))
            .unwrap_or(name);
        let host = self.valid(field, host(bare))?;
        let port = url.port().unwrap_or(if https { 443 } else { 80 });
        upstream.authority = Some(match url.port() {
            Some(port) => format!("{name}:{port}"),
            None => name.to_owned(),
        });
        let prefix = url.path().trim_end_matches('/');
        if !prefix.is_empty() {
            upstream.path_prefix = self.valid(field, normal_path(prefix))?;
        }
        upstream.source = EndpointSource::Static(vec![StaticEndpoint {
            host: host.clone(),
            port,
            weight: 1,
            zone: None,
        }]);
        Some(Origin {
            host: Some(host),
            https,
            h2c: false,
        })
    }
}

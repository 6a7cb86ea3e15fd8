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
            let (source, origin) = self.service_source("spec.service", service)?;
            upstream.source = source;
            return Some(origin);
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

    /// The endpoints of a Service, or the name that it stands for.
    pub(super) fn service_source(
        &mut self,
        field: &str,
        service: &crds::refs::ServiceRef,
    ) -> Option<(EndpointSource, Origin)> {
        let namespace = service.namespace.as_deref().unwrap_or(&self.id.namespace);
        let id = ObjectId::new(ObjectKind::Service, namespace, service.name.as_str());
        if !self.may_refer(&id) {
            let message = self.world.not_granted(&id);
            self.error(field, Reason::RefNotPermitted, message);
            return None;
        }
        let found = self.service(&id);
        if let Some(name) = found.and_then(|s| s.external_name.as_deref()) {
            let name = self.external_name(field, &id, name, service.port)?;
            let origin = Origin {
                host: Some(name.hostname.clone()),
                ..Origin::default()
            };
            return Some((EndpointSource::Dns(name), origin));
        }
        let port = self.service_port(&field, "port", &id, service.port)?;
        let app_protocol = found
            .and_then(|s| s.ports.iter().find(|p| p.port == service.port))
            .and_then(|p| p.app_protocol.as_deref());
        let source = EndpointSource::Service(port.to_string());
        self.out.demands.insert(Unit::Shards(port));
        let origin = Origin {
            h2c: app_protocol == Some(super::super::service::H2C),
            ..Origin::default()
        };
        Some((source, origin))
    }

    /// A Service of type ExternalName is a name to look up, with the rights of whoever may write it: so it serves
    /// Upstreams of its own namespace alone, whose author could write the name down as well.
    fn external_name(
        &mut self,
        field: &str,
        id: &ObjectId,
        name: &str,
        number: u16,
    ) -> Option<DnsSource> {
        if id.namespace != self.id.namespace {
            let message =
                format!("{id} is of type ExternalName, which serves its own namespace only");
            self.error(field, Reason::RefNotPermitted, message);
            return None;
        }
        self.valid(format!("{field}.port"), port(number))?;
        let hostname = match host_name(name) {
            Ok(hostname) => hostname,
            Err(e) => {
                let message = format!("{id}: spec.externalName: {e}");
                self.error(field, Reason::BackendNotFound, message);
                return None;
            }
        };
        Some(DnsSource {
            hostname,
            port: number,
            refresh_ms: DNS_REFRESH_MS,
            respect_ttl: true,
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

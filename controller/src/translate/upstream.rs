//! Upstream objects.

use super::lowering::{Lowering, Unit};
use super::unbuilt;
use crate::report::Reason;
use crate::world::{ObjectId, ObjectKind};
use crds::{LbPolicy, Protocol, UpstreamSpec};
use model::{BalancePolicy, EndpointSource, HostPattern, StaticEndpoint, Upstream, limits};

impl Lowering<'_> {
    pub(super) fn upstream(&mut self, spec: &UpstreamSpec) {
        let mut usable = true;
        for found in unbuilt::find(ObjectKind::Upstream, spec) {
            usable &= !found.closes;
            self.not_built(found);
        }
        if matches!(spec.protocol, Some(Protocol::H2 | Protocol::H2C)) {
            let message = "HTTP/2 towards backends is not built yet: requests answer 500";
            self.error("spec.protocol", Reason::NotBuilt, message);
            usable = false;
        }
        let nothing = EndpointSource::Static(Vec::new());
        let mut upstream = Upstream::new(self.id.origin(), nothing);
        let policy = spec.lb.as_ref().and_then(|lb| lb.policy);
        match policy.unwrap_or(LbPolicy::RoundRobin) {
            LbPolicy::RoundRobin => {}
            LbPolicy::Weighted => upstream.balance.policy = BalancePolicy::Weighted,
            other => {
                let message = format!("{other:?} is not built yet: endpoints are taken in turn");
                self.warn("spec.lb.policy", Reason::NotBuilt, message);
            }
        }
        if let Some(connection) = &spec.connection {
            let kept = &mut upstream.connection;
            kept.pool_size = connection.pool_size.unwrap_or(kept.pool_size);
            if let Some(idle) = &connection.idle_timeout {
                let idle = self.millis_or_never("spec.connection.idleTimeout", idle);
                let kept = &mut upstream.connection;
                kept.pool_idle_ms = idle.unwrap_or(kept.pool_idle_ms);
            }
        }
        if let Some(connect) = spec.timeouts.as_ref().and_then(|t| t.connect.as_ref()) {
            let connect = self.millis_or_never("spec.timeouts.connect", connect);
            upstream.connect_ms = connect.unwrap_or(0);
        }
        if usable && self.source(spec, &mut upstream).is_some() && !self.out.is_quarantining() {
            self.put(format!("Upstream/{}", self.id.path()), upstream);
        }
    }

    /// Where the endpoints come from; `None` when that cannot be used.
    fn source(&mut self, spec: &UpstreamSpec, upstream: &mut Upstream) -> Option<()> {
        if let Some(service) = &spec.service {
            let namespace = service.namespace.as_deref().unwrap_or(&self.id.namespace);
            let id = ObjectId::new(ObjectKind::Service, namespace, service.name.as_str());
            if !self.may_refer(&id) {
                let message =
                    format!("{id} is in another namespace and no ReferenceGrant there permits it");
                self.error("spec.service", Reason::RefNotPermitted, message);
                return None;
            }
            let port = self.service_port("spec.service", "port", &id, service.port)?;
            upstream.source = EndpointSource::Service(port.to_string());
            self.out.demands.insert(Unit::Shards(port));
        } else if let Some(endpoints) = &spec.endpoints {
            let mut all = Vec::with_capacity(endpoints.len());
            for (i, endpoint) in endpoints.iter().enumerate() {
                let at = format!("spec.endpoints[{i}]");
                if let Some(host) = self.valid(format!("{at}.address"), host(&endpoint.address))
                    && self
                        .valid(format!("{at}.port"), port(endpoint.port))
                        .is_some()
                {
                    all.push(StaticEndpoint {
                        host,
                        port: endpoint.port,
                        weight: endpoint.weight.unwrap_or(1),
                        zone: endpoint.zone.as_deref().map(str::to_owned),
                    });
                }
            }
            upstream.source = EndpointSource::Static(all);
        } else if let Some(external) = &spec.external {
            self.external("spec.external.url", &external.url, upstream)?;
        } else if spec.selector.is_none() && spec.dns.is_none() && spec.discovery.is_none() {
            let message = "one of service, endpoints and external must be given";
            self.error("spec", Reason::Invalid, message);
            return None;
        }
        Some(())
    }

    fn external(&mut self, field: &str, text: &str, upstream: &mut Upstream) -> Option<()> {
        let url = self.valid(field, url::Url::parse(text))?;
        let problem = match url.scheme() {
            "https" => {
                let message = "TLS upstreams are not built yet: requests answer 500";
                self.error(field, Reason::NotBuilt, message);
                return None;
            }
            "http" if !url.username().is_empty() || url.password().is_some() => {
                Some("must hold no user and no password")
            }
            "http" if url.query().is_some() || url.fragment().is_some() => {
                Some("must have no query and no fragment")
            }
            "http" => None,
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
        let port = url.port().unwrap_or(80);
        upstream.authority = Some(match url.port() {
            Some(port) => format!("{name}:{port}"),
            None => name.to_owned(),
        });
        let prefix = url.path().trim_end_matches('/');
        if !prefix.is_empty() {
            upstream.path_prefix = self.valid(field, super::matches::normal_path(prefix))?;
        }
        upstream.source = EndpointSource::Static(vec![StaticEndpoint {
            host,
            port,
            weight: 1,
            zone: None,
        }]);
        Some(())
    }
}

fn port(port: u16) -> Result<(), &'static str> {
    if port == 0 {
        Err("must be from 1 to 65535")
    } else {
        Ok(())
    }
}

/// An IP address in canonical form, or a host name in lower case.
fn host(text: &str) -> Result<String, String> {
    if let Ok(address) = text.parse::<std::net::IpAddr>() {
        return Ok(address.to_string());
    }
    match HostPattern::parse(text.strip_suffix('.').unwrap_or(text)) {
        Ok(HostPattern::Exact(name)) => Ok(name),
        _ => Err(format!("{text:?} is neither an IP address nor a host name")),
    }
}

// The default of connecting stands in the data plane; the wire says 0.
const _: () = assert!(limits::CONNECT.as_secs() == 1);

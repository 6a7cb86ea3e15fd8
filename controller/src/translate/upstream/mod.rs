//! Upstream objects.

mod balance;
mod connection;
pub(super) mod credentials;
mod discovery;
mod health;
mod pods;
mod source;
mod tls;

pub(super) use tls::{alternative_name, tls_version};

use super::lowering::Lowering;
use super::unbuilt;
use crate::report::Reason;
use crate::world::ObjectKind;
use crds::{Protocol, UpstreamSpec};
use model::{EndpointSource, HostPattern, Upstream, UpstreamProtocol};

impl Lowering<'_> {
    pub(super) fn upstream(&mut self, spec: &UpstreamSpec) {
        let upstream = self.upstream_of(spec);
        if let Some(upstream) = upstream.filter(|_| !self.out.is_quarantining()) {
            self.put(format!("Upstream/{}", self.id.path()), &upstream);
        }
    }

    /// `None`: it cannot be used; the problems say why.
    pub(super) fn upstream_of(&mut self, spec: &UpstreamSpec) -> Option<Upstream> {
        let mut usable = true;
        for found in unbuilt::find(ObjectKind::Upstream, spec) {
            usable &= !found.closes;
            self.not_built(found);
        }
        let nothing = EndpointSource::Static(Vec::new());
        let mut upstream = Upstream::new(self.id.origin(), nothing);
        // Everything is looked at, so that all that is wrong is said at once.
        let origin = self.source(spec, &mut upstream);
        usable &= origin.is_some();
        match self.upstream_tls(spec.tls.as_ref(), origin.as_ref()) {
            Some(tls) => upstream.tls = tls,
            None => usable = false,
        }
        let h2c = origin.is_some_and(|origin| origin.h2c);
        upstream.protocol = self.protocol(spec.protocol, upstream.tls.is_some(), h2c);
        if let Some(lb) = &spec.lb {
            upstream.balance = self.balance(lb);
        }
        if let Some(health) = &spec.health {
            upstream.health = self.health(health);
        }
        let protocol = upstream.protocol;
        let breaker = spec.circuit_breaker.as_ref();
        upstream.circuit_breaker = breaker.map(|b| self.breaker(b, protocol));
        upstream.concurrency = spec.concurrency.as_ref().and_then(|c| self.concurrency(c));
        if let Some(auth) = &spec.auth {
            match self.credentials(&auth.headers) {
                Some(credentials) => upstream.credentials = credentials,
                None => usable = false,
            }
        }
        if let Some(connection) = &spec.connection {
            upstream.connection = self.connection(connection);
        }
        if let Some(connect) = spec.timeouts.as_ref().and_then(|t| t.connect.as_ref()) {
            let connect = self.millis_or_never(&"spec.timeouts.connect", connect);
            upstream.connect_ms = connect.unwrap_or(0);
        }
        usable.then_some(upstream)
    }

    fn protocol(&mut self, protocol: Option<Protocol>, tls: bool, h2c: bool) -> UpstreamProtocol {
        const FIELD: &str = "spec.protocol";
        match protocol.unwrap_or(Protocol::Auto) {
            Protocol::Auto if h2c && !tls => UpstreamProtocol::H2C,
            Protocol::Auto => UpstreamProtocol::Auto,
            Protocol::H1 => UpstreamProtocol::H1,
            Protocol::H2 => {
                if !tls {
                    let message = "H2 is HTTP/2 over TLS: give tls, or use H2C";
                    self.error(FIELD, Reason::Invalid, message);
                }
                UpstreamProtocol::H2
            }
            Protocol::H2C => {
                if tls {
                    let message =
                        "H2C is HTTP/2 without TLS: leave out tls and https://, or use H2";
                    self.error(FIELD, Reason::Invalid, message);
                }
                UpstreamProtocol::H2C
            }
        }
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
    host_name(text).map_err(|_| format!("{text:?} is neither an IP address nor a host name"))
}

/// A host name in lower case.
pub(super) fn host_name(text: &str) -> Result<String, String> {
    match HostPattern::parse(text.strip_suffix('.').unwrap_or(text)) {
        Ok(HostPattern::Exact(name)) if text.parse::<std::net::IpAddr>().is_err() => {
            Ok(name.to_string())
        }
        _ => Err(format!("{text:?} is not a host name")),
    }
}

// The default of connecting stands in the data plane; the wire says 0.
const _: () = assert!(model::limits::CONNECT.as_secs() == 1);

//! One listener.

use super::super::lowering::Lowering;
use super::certificates::Offered;
use super::ports::Ports;
use super::settings::edge;
use super::{Allowed, GatewayListener, ListenerState};
use crate::adapt::gateway::SaidListener;
use crate::report::Reason;
use crds::{FromNamespaces, ListenerProtocol, TlsMode};
use model::{ClientValidation, Edge, EscapedSlashes, HostPattern, Listener};

/// Where a listener stands, and what is known of it beside what it says itself.
pub(super) struct Place<'a> {
    pub order: usize,
    /// Where it takes its place; `None`: it has none.
    pub ports: Option<&'a mut Ports>,
    /// Clients are asked for a certificate, and let in whatever they show.
    pub any_client: bool,
    /// Certificates that Ingresses bring.
    pub offered: &'a [Offered],
}

impl Lowering<'_> {
    pub(super) fn listener(
        &mut self,
        field: &str,
        listener: &crds::Listener,
        settings: &Listener,
        place: Place<'_>,
    ) -> Option<GatewayListener> {
        let hostname = match listener.hostname.as_deref() {
            None => HostPattern::Any,
            Some(name) => self.valid(format!("{field}.hostname"), HostPattern::parse(name))?,
        };
        if listener.port == 0 {
            self.error(
                format!("{field}.port"),
                Reason::Invalid,
                "must be from 1 to 65535",
            );
            return None;
        }
        let protocol = match listener.protocol {
            ListenerProtocol::Http => model::ListenerProtocol::Http,
            ListenerProtocol::Https => model::ListenerProtocol::Https,
            ListenerProtocol::Tls => model::ListenerProtocol::Tls,
            ListenerProtocol::Tcp => model::ListenerProtocol::Tcp,
            ListenerProtocol::Udp => model::ListenerProtocol::Udp,
        };
        if !protocol.has_hosts() && hostname != HostPattern::Any {
            let message = format!("is not for {}, which names no host", protocol.name());
            self.error(format!("{field}.hostname"), Reason::Invalid, message);
            return None;
        }
        let allowed = self.allowed(field, listener)?;
        let key = self.id.listener_key(self.gateway, &listener.name);
        let mut resource = Listener {
            name: listener.name.to_string(),
            order: u32::try_from(place.order).unwrap_or(u32::MAX),
            port: listener.port,
            hostname: hostname.clone(),
            health: listener.health.unwrap_or(true) && protocol.is_http(),
            protocol,
            tls: None,
            proxy_protocol: listener.proxy_protocol == Some(true),
            // The Service of a Gateway has the ports of its listeners.
            redirect_port: self.id.kind.is_gateway_api().then_some(listener.port),
            edge: match protocol.is_http() {
                true => edge(listener.edge, settings.edge),
                false => Edge::default(),
            },
            ..settings.clone()
        };
        if protocol == model::ListenerProtocol::Udp && resource.proxy_protocol {
            let message = "datagrams have no PROXY protocol";
            self.error(format!("{field}.proxyProtocol"), Reason::Invalid, message);
            return None;
        }
        // The place is what the object asks for: it does not move with Secrets that come and go.
        let has_place = place
            .ports
            .is_some_and(|ports| match ports.take(&key, &resource) {
                Ok(()) => true,
                Err(taken) => {
                    let at = format!("{field}.{}", taken.field);
                    self.error(at, taken.reason, taken.message);
                    false
                }
            });
        let mut can_serve = true;
        if terminates_tls(listener) {
            let offered = match protocol {
                model::ListenerProtocol::Https => self.fitting(place.offered, &allowed, &hostname),
                _ => Vec::new(),
            };
            resource.tls = self.listener_tls(field, listener, &hostname, &offered);
            can_serve = resource.tls.is_some();
            if let Some(tls) = resource.tls.as_mut().filter(|_| place.any_client) {
                tls.client = Some(ClientValidation {
                    authorities: String::new(),
                    required: false,
                    any: true,
                });
            }
        }
        let keeps_slashes = resource.edge.escaped_slashes == EscapedSlashes::Keep;
        let state = match (has_place, can_serve) {
            (false, _) => ListenerState::Refused,
            (true, false) => ListenerState::Waits,
            (true, true) => {
                self.put(key.clone(), &resource);
                ListenerState::Serves
            }
        };
        Some(GatewayListener {
            name: listener.name.to_string(),
            key,
            port: listener.port,
            hostname,
            https: protocol == model::ListenerProtocol::Https,
            keeps_slashes,
            allowed,
            kinds: Vec::new(),
            state,
        })
    }

    /// A listener of a Gateway or ListenerSet that is no further known.
    pub(super) fn refused(&self, said: &SaidListener) -> GatewayListener {
        GatewayListener {
            name: said.name.clone(),
            key: self.id.listener_key(self.gateway, &said.name),
            port: said.port,
            hostname: HostPattern::Any,
            https: false,
            keeps_slashes: false,
            allowed: Allowed::All,
            kinds: said.kinds.clone(),
            state: ListenerState::Refused,
        }
    }

    fn allowed(&mut self, field: &str, listener: &crds::Listener) -> Option<Allowed> {
        let routes = listener.allowed_routes.as_ref();
        let namespaces = routes.and_then(|a| a.namespaces.as_ref());
        Some(match namespaces.and_then(|n| n.from) {
            None | Some(FromNamespaces::All) => Allowed::All,
            Some(FromNamespaces::Same) => Allowed::Same,
            Some(FromNamespaces::Selector) => {
                let selector = namespaces.and_then(|n| n.selector.clone());
                Allowed::Selector(self.valid(
                    format!("{field}.allowedRoutes.namespaces.selector"),
                    selector.ok_or("must be given where from is Selector"),
                )?)
            }
        })
    }
}

/// Whether the data plane ends its clients' TLS itself. Without a block `tls`, TLS is passed on.
pub(in crate::translate) fn terminates_tls(listener: &crds::Listener) -> bool {
    match listener.protocol {
        ListenerProtocol::Https => true,
        ListenerProtocol::Tls => {
            let tls = listener.tls.as_ref();
            tls.is_some_and(|tls| tls.mode != Some(TlsMode::Passthrough))
        }
        ListenerProtocol::Http | ListenerProtocol::Tcp | ListenerProtocol::Udp => false,
    }
}

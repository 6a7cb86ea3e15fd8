//! One listener.

use super::super::lowering::Lowering;
use super::{Allowed, GatewayListener, Ports};
use crate::report::Reason;
use crds::{FromNamespaces, ListenerProtocol};
use model::{HostPattern, Listener};

impl Lowering<'_> {
    pub(super) fn listener(
        &mut self,
        field: &str,
        order: usize,
        listener: &crds::Listener,
        settings: &Listener,
        ports: &mut Ports,
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
        let https = match listener.protocol {
            ListenerProtocol::Http => false,
            ListenerProtocol::Https => true,
            ListenerProtocol::Tls | ListenerProtocol::Tcp | ListenerProtocol::Udp => {
                let message = "only HTTP and HTTPS are built yet: the listener is not opened";
                self.error(format!("{field}.protocol"), Reason::NotBuilt, message);
                return None;
            }
        };
        let tls = match https {
            true => Some(self.listener_tls(field, listener, &hostname)?),
            false => None,
        };
        let key = format!("{}/{}", self.id.listener_owner(), listener.name);
        if let Some(other) = ports.get(&listener.port) {
            let message = format!("port {} is taken by listener {other}", listener.port);
            self.error(format!("{field}.port"), Reason::PortConflict, message);
            return None;
        }
        ports.insert(listener.port, key.clone());
        let namespaces = listener
            .allowed_routes
            .as_ref()
            .and_then(|a| a.namespaces.as_ref());
        let allowed = match namespaces.and_then(|n| n.from) {
            None | Some(FromNamespaces::All) => Allowed::All,
            Some(FromNamespaces::Same) => Allowed::Same,
            Some(FromNamespaces::Selector) => {
                let selector = namespaces.and_then(|n| n.selector.clone());
                Allowed::Selector(self.valid(
                    format!("{field}.allowedRoutes.namespaces.selector"),
                    selector.ok_or("must be given where from is Selector"),
                )?)
            }
        };
        let resource = Listener {
            name: listener.name.to_string(),
            order: u32::try_from(order).unwrap_or(u32::MAX),
            port: listener.port,
            hostname: hostname.clone(),
            health: listener.health.unwrap_or(true),
            protocol: match https {
                true => model::ListenerProtocol::Https,
                false => model::ListenerProtocol::Http,
            },
            tls,
            proxy_protocol: listener.proxy_protocol == Some(true),
            ..settings.clone()
        };
        self.put(key.clone(), resource);
        Some(GatewayListener {
            name: listener.name.to_string(),
            key,
            port: listener.port,
            hostname,
            allowed,
            kinds: Vec::new(),
        })
    }
}

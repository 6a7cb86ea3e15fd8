//! Ports that listeners share: by their hosts, where their connections begin alike.

use crate::infrastructure::ADMIN_PORT;
use crate::report::Reason;
use model::{HostPattern, Listener, ListenerProtocol};
use std::collections::BTreeMap;

/// What listeners have taken, each before those that come after it.
#[derive(Default)]
pub(super) struct Ports {
    /// Datagrams (`true`) have ports of their own.
    taken: BTreeMap<(u16, bool), Port>,
    /// The port at which the data planes show their state.
    reserved: Option<u16>,
}

/// A port in use. Networks and hosts are as text, to be compared.
struct Port {
    /// Key of the listener that opened it.
    first: String,
    protocol: ListenerProtocol,
    /// Who may speak the PROXY protocol, where it is spoken.
    proxies: Option<Vec<String>>,
    /// Keys of listeners.
    hosts: BTreeMap<HostPattern, String>,
}

/// Why a listener has no place.
pub(super) struct Taken {
    /// Below the listener.
    pub field: &'static str,
    pub reason: Reason,
    pub message: String,
}

impl Ports {
    /// Of data planes that the controller has made.
    pub(super) fn own() -> Self {
        Self {
            reserved: Some(ADMIN_PORT),
            ..Self::default()
        }
    }

    /// Gives a listener its place on its port.
    pub(super) fn take(&mut self, key: &str, listener: &Listener) -> Result<(), Taken> {
        let number = listener.port;
        let trusted = || listener.forwarded.trusted.iter().map(ToString::to_string);
        let proxies = listener.proxy_protocol.then(|| trusted().collect());
        let place = (number, listener.protocol == ListenerProtocol::Udp);
        if self.reserved.map(|reserved| (reserved, false)) == Some(place) {
            return Err(Taken {
                field: "port",
                reason: Reason::PortUnavailable,
                message: format!("data planes show their state on port {number}"),
            });
        }
        let port = self.taken.entry(place).or_insert_with(|| Port {
            first: key.to_owned(),
            protocol: listener.protocol,
            proxies: Option::clone(&proxies),
            hosts: BTreeMap::new(),
        });
        let first = &port.first;
        if !port.protocol.may_share_with(listener.protocol) {
            let spoken = port.protocol.name();
            return Err(Taken {
                field: "protocol",
                reason: Reason::ProtocolConflict,
                message: format!("listener {first} speaks {spoken} on port {number}"),
            });
        }
        if port.proxies != proxies {
            return Err(Taken {
                field: "proxyProtocol",
                reason: Reason::ProtocolConflict,
                message: format!(
                    "listener {first} has it otherwise, or from other trusted networks, on port {number}"
                ),
            });
        }
        if let Some(other) = port.hosts.get(&listener.hostname) {
            let host = match &listener.hostname {
                HostPattern::Any => "any host".to_owned(),
                name => format!("host {name}"),
            };
            return Err(Taken {
                field: "hostname",
                reason: Reason::HostnameConflict,
                message: format!("listener {other} is for {host} on port {number}"),
            });
        }
        let hostname = listener.hostname.clone();
        port.hosts.insert(hostname, key.to_owned());
        Ok(())
    }
}

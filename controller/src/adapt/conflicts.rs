//! Listeners of one Gateway that are not distinct (Gateway API, GatewaySpec.listeners): of such, none may be served.

use super::Fault;
use crate::report::Reason;
use gateway_api::gateway::GatewayListeners as Listener;

/// What is wrong with each of the listeners; `is_known`: protocols that this release implements, since only these take
/// part.
pub(super) fn find(listeners: &[Listener], is_known: impl Fn(&str) -> bool) -> Vec<Option<Fault>> {
    let known = |(_, l): &(usize, &Listener)| is_known(&l.protocol);
    let one = |(i, listener): (usize, &Listener)| {
        if !is_known(&listener.protocol) {
            return None;
        }
        let others = listeners.iter().enumerate().filter(known);
        let on_port = others.filter(|(j, other)| {
            let of_one_kind = is_of_datagrams(other) == is_of_datagrams(listener);
            *j != i && other.port == listener.port && of_one_kind
        });
        let on_port: Vec<&Listener> = on_port.map(|(_, other)| other).collect();
        let fault = |field: &str, reason, message| Fault {
            field: format!("spec.listeners[{i}].{field}"),
            reason,
            message,
        };
        let port = listener.port;
        let other = on_port.iter().find(|o| !may_share(o, listener));
        if let Some(Listener { name, protocol, .. }) = other {
            let message = format!("listener {name} speaks {protocol} on port {port}");
            return Some(fault("protocol", Reason::ProtocolConflict, message));
        }
        let other = on_port.iter().find(|o| host(o) == host(listener))?;
        let host = match host(listener).as_str() {
            "" => "any host".to_owned(),
            name => format!("host {name}"),
        };
        let message = format!("listener {} is for {host} on port {port} too", other.name);
        Some(fault("hostname", Reason::HostnameConflict, message))
    };
    listeners.iter().enumerate().map(one).collect()
}

/// Datagrams have ports of their own.
fn is_of_datagrams(listener: &Listener) -> bool {
    listener.protocol == "UDP"
}

/// Whether their connections can be told apart: by what is spoken, or by the host that a TLS handshake begins with.
fn may_share(a: &Listener, b: &Listener) -> bool {
    let names_host = |l: &Listener| matches!(&*l.protocol, "HTTPS" | "TLS");
    a.protocol == b.protocol || (names_host(a) && names_host(b))
}

/// Empty: any.
fn host(listener: &Listener) -> String {
    let name = listener.hostname.as_deref().unwrap_or_default();
    name.to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_are_not_distinct_conflict() {
        let listener = |name: &str, port, protocol: &str, host: &str| Listener {
            name: name.to_owned(),
            port,
            protocol: protocol.to_owned(),
            hostname: (!host.is_empty()).then(|| host.to_owned()),
            ..Listener::default()
        };
        let listeners = [
            listener("a", 80, "HTTP", ""),
            listener("b", 80, "HTTP", "x.test"),
            listener("c", 80, "HTTP", "X.test"),
            listener("d", 80, "TCP", ""),
            listener("e", 81, "HTTP", "x.test"),
            listener("f", 81, "HTTPS", "y.test"),
            listener("g", 81, "HTTP", "x.test"),
            listener("h", 82, "HTTPS", "x.test"),
            listener("i", 82, "HTTPS", "*.test"),
            listener("j", 82, "TLS", "y.test"),
            listener("k", 82, "UDP", ""),
            listener("l", 83, "UDP", ""),
            listener("m", 83, "SCTP", ""),
        ];
        let found = find(&listeners, |p| p != "SCTP" && p != "TCP");
        let found: Vec<Option<String>> = found
            .into_iter()
            .map(|fault| fault.map(|f| format!("{} {}: {}", f.reason, f.field, f.message)))
            .collect();
        let host = |i: usize, other| {
            let text = format!(
                "HostnameConflict spec.listeners[{i}].hostname: listener {other} is for host x.test on port 80 too"
            );
            Some(text)
        };
        let protocol = |i: usize, other: &str| {
            let text = format!(
                "ProtocolConflict spec.listeners[{i}].protocol: listener {other} on port 81"
            );
            Some(text)
        };
        let expected = [
            None,
            host(1, "c"),
            host(2, "b"),
            None,
            protocol(4, "f speaks HTTPS"),
            protocol(5, "e speaks HTTP"),
            protocol(6, "f speaks HTTPS"),
            None,
            None,
            None,
            None,
            None,
            None,
        ];
        assert_eq!(found, expected);
    }
}

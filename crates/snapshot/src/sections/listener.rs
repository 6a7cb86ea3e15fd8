use super::{
    InvalidResource, Kind, Section, hostname_from_wire, origin_from_wire, origin_to_wire, port,
};
use crate::pb;
use model::listener::Caps;
use model::{Listener, ListenerProtocol};

impl Section for Listener {
    const KIND: Kind = Kind::Listener;
    type Wire = pb::Listener;

    fn to_wire(&self) -> pb::Listener {
        let Self {
            origin,
            name,
            order,
            port,
            protocol,
            hostname,
            health,
            access_log,
            caps,
            request_header_ms,
            keep_alive_ms,
            drain_ms,
        } = self;
        let Caps {
            header_bytes,
            header_count,
            url_bytes,
            connections,
            requests_per_connection,
        } = *caps;
        pb::Listener {
            origin: origin_to_wire(origin),
            name: name.clone(),
            order: *order,
            port: u32::from(*port),
            protocol: match protocol {
                ListenerProtocol::Http => pb::listener::Protocol::Http.into(),
            },
            hostname: hostname.to_string(),
            health: *health,
            access_log: *access_log,
            header_bytes,
            header_count,
            url_bytes,
            connections,
            requests_per_connection,
            request_header_ms: *request_header_ms,
            keep_alive_ms: *keep_alive_ms,
            drain_ms: *drain_ms,
        }
    }

    fn from_wire(w: pb::Listener) -> Result<Self, InvalidResource> {
        let protocol = match w.protocol() {
            pb::listener::Protocol::Http => ListenerProtocol::Http,
            pb::listener::Protocol::Unspecified => {
                return Err(InvalidResource::new(
                    "protocol",
                    "is unknown to this data plane",
                ));
            }
        };
        Ok(Self {
            origin: origin_from_wire(w.origin)?,
            name: w.name,
            order: w.order,
            port: port(w.port, "port")?,
            protocol,
            hostname: hostname_from_wire(&w.hostname, "hostname")?,
            health: w.health,
            access_log: w.access_log,
            caps: Caps {
                header_bytes: w.header_bytes,
                header_count: w.header_count,
                url_bytes: w.url_bytes,
                connections: w.connections,
                requests_per_connection: w.requests_per_connection,
            },
            request_header_ms: w.request_header_ms,
            keep_alive_ms: w.keep_alive_ms,
            drain_ms: w.drain_ms,
        })
    }
}

//! The PROXY protocol's header, as it is sent to upstreams (HAProxy's specification, versions 1 and 2).

use model::ProxyProtocol;
use std::io::Write;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command PROXY.
const PROXY: u8 = 0x21;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// Says that `client` connected to `local`. Addresses of different families are both given as IPv6.
pub fn write(version: ProxyProtocol, client: SocketAddr, local: SocketAddr) -> Vec<u8> {
    let mut out = Vec::with_capacity(108);
    let (from, to) = (client.ip().to_canonical(), local.ip().to_canonical());
    let (from, to) = match (from, to) {
        (IpAddr::V4(_), IpAddr::V4(_)) => (from, to),
        _ => (IpAddr::V6(wide(from)), IpAddr::V6(wide(to))),
    };
    match version {
        ProxyProtocol::V1 => {
            let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
            // Writing to a vector does not fail.
            let _ = write!(
                out,
                "PROXY {family} {from} {to} {} {}\r\n",
                client.port(),
                local.port()
            );
        }
        ProxyProtocol::V2 => {
            out.extend_from_slice(SIGNATURE);
            out.push(PROXY);
            let mut addresses = Vec::with_capacity(36);
            for ip in [from, to] {
                match ip {
                    IpAddr::V4(ip) => addresses.extend_from_slice(&ip.octets()),
                    IpAddr::V6(ip) => addresses.extend_from_slice(&ip.octets()),
                }
            }
            for port in [client.port(), local.port()] {
                addresses.extend_from_slice(&port.to_be_bytes());
            }
            let (family, len) = if from.is_ipv4() {
                (TCP4, 12u16)
            } else {
                (TCP6, 36)
            };
            out.push(family);
            out.extend_from_slice(&len.to_be_bytes());
            out.extend_from_slice(&addresses);
        }
    }
    out
}

fn wide(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn version_1_is_a_line() {
        let text = write(ProxyProtocol::V1, at("192.0.2.7:4711"), at("10.0.0.1:80"));
        assert_eq!(text, b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 80\r\n");
        let text = write(ProxyProtocol::V1, at("[2001:db8::1]:1"), at("10.0.0.1:80"));
        assert_eq!(text, b"PROXY TCP6 2001:db8::1 ::ffff:10.0.0.1 1 80\r\n");
        // What comes over a dual-stack socket is IPv4.
        let text = write(
            ProxyProtocol::V1,
            at("[::ffff:192.0.2.7]:1"),
            at("10.0.0.1:80"),
        );
        assert_eq!(text, b"PROXY TCP4 192.0.2.7 10.0.0.1 1 80\r\n");
    }

    #[test]
    fn version_2_is_binary() {
        let bytes = write(ProxyProtocol::V2, at("192.0.2.7:258"), at("10.0.0.1:80"));
        let mut expected = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
        expected.extend_from_slice(&[192, 0, 2, 7, 10, 0, 0, 1, 1, 2, 0, 80]);
        assert_eq!(bytes, expected);
        let bytes = write(ProxyProtocol::V2, at("[2001:db8::1]:1"), at("[::1]:80"));
        assert_eq!(
            (bytes.len(), &bytes[12..16]),
            (52, &[0x21, 0x21, 0, 36][..])
        );
    }
}

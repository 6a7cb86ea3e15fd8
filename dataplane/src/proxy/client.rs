//! Who the client is, and what upstreams are told about it (features.md F21, F22).
//!
//! A peer within `trustedCIDRs` may speak for its client: the address is then the right-most one of its
//! `X-Forwarded-For` (where there is none: of its `Forwarded`, RFC 7239) that is not trusted itself. The forwarding
//! fields of everybody else are removed before anything looks at them, so that whoever meets one later can believe it.

use crate::engine::{Host, sanitize};
use model::headers::{InvalidHeader, Known};
use model::{Forwarded, ForwardedFor, Headers};
use std::net::{IpAddr, SocketAddr};

/// Proxies before the gateway that are looked behind; an answer to lists without end.
const HOPS: usize = 16;

/// Whom a request is from, and the scheme that `Forwarded` says it used. The port is 0 where it is not known.
pub(super) fn identify(
    forwarded: &Forwarded,
    peer: SocketAddr,
    headers: &mut Headers,
) -> (SocketAddr, Option<&'static str>) {
    let trusts = |ip: IpAddr| {
        forwarded
            .trusted
            .iter()
            .any(|network| network.contains(&ip))
    };
    if !trusts(peer.ip()) {
        sanitize::forwarded_headers(headers);
        return (peer, None);
    }
    let (mut client, mut scheme) = (peer, None);
    let mut step = |hop: Option<SocketAddr>| match hop {
        Some(address) => {
            client = address;
            trusts(address.ip())
        }
        // What is no address hides what stands before it.
        None => false,
    };
    if headers.contains_known(Known::XForwardedFor) {
        let lines = headers.get_all(Known::XForwardedFor.name()).rev();
        let mut hops = lines
            .flat_map(|line| line.rsplit(|b| *b == b','))
            .take(HOPS);
        while hops.next().is_some_and(|hop| step(address(hop))) {}
    } else if headers.contains_known(Known::Forwarded) {
        let lines = headers.get_all(Known::Forwarded.name());
        let elements: Vec<&[u8]> = lines.flat_map(|line| split(line, b',')).collect();
        for hop in elements.into_iter().rev().take(HOPS) {
            scheme = parameter(hop, b"proto").and_then(scheme_of);
            if !step(parameter(hop, b"for").and_then(address)) {
                break;
            }
        }
    }
    (client, scheme)
}

/// An address as proxies write it: with or without port, IPv6 with or without brackets.
fn address(text: &[u8]) -> Option<SocketAddr> {
    let text = std::str::from_utf8(text.trim_ascii()).ok()?;
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    let parsed = match bare.unwrap_or(text).parse::<IpAddr>() {
        Ok(ip) if bare.is_none() || ip.is_ipv6() => SocketAddr::new(ip, 0),
        _ => text.parse().ok()?,
    };
    let ip = parsed.ip().to_canonical();
    (!ip.is_unspecified()).then(|| SocketAddr::new(ip, parsed.port()))
}

/// A parameter of one element of a `Forwarded` field (RFC 7239 section 4), without its quotes.
fn parameter<'a>(element: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    split(element, b';').find_map(|pair| {
        let at = memchr::memchr(b'=', pair)?;
        let (name, value) = pair.split_at_checked(at)?;
        if !name.trim_ascii().eq_ignore_ascii_case(wanted) {
            return None;
        }
        let value = value.get(1..)?.trim_ascii();
        let quoted = value
            .strip_prefix(b"\"")
            .and_then(|v| v.strip_suffix(b"\""));
        Some(quoted.unwrap_or(value))
    })
}

/// Splits at a separator outside of quoted strings. In a text whose last quote is left open quotes mean nothing:
/// otherwise a client's open quote would swallow what a trusted proxy wrote behind it.
fn split(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut all = Quotes::default();
    for b in text {
        all.is_inside(*b);
    }
    let ignored = all.quoted;
    let mut quotes = Quotes::default();
    text.split(move |b| {
        let inside = quotes.is_inside(*b);
        *b == separator && (ignored || !inside)
    })
}

/// A walk through quoted strings (RFC 9110 section 5.6.4).
#[derive(Default)]
struct Quotes {
    quoted: bool,
    escaped: bool,
}

impl Quotes {
    /// Whether the next octet is part of a quoted string.
    fn is_inside(&mut self, b: u8) -> bool {
        let was = self.quoted;
        let escaped = std::mem::take(&mut self.escaped);
        match b {
            b'\\' if self.quoted && !escaped => self.escaped = true,
            b'"' if !escaped => self.quoted = !self.quoted,
            _ => {}
        }
        was
    }
}

/// The scheme that a trusted proxy says the client used, if it does; before that of `Forwarded`.
pub(super) fn scheme(headers: &Headers) -> Option<&'static str> {
    headers
        .get_known(Known::XForwardedProto)
        .and_then(scheme_of)
}

fn scheme_of(name: &[u8]) -> Option<&'static str> {
    ["https", "http"]
        .into_iter()
        .find(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}

/// What is known about where a request came from.
pub(super) struct Origin<'a> {
    pub peer: SocketAddr,
    pub client: SocketAddr,
    pub scheme: &'static str,
    pub host: &'a Host,
}

/// Writes the forwarding fields that an upstream gets. What a trusted proxy said about scheme, host and port stays;
/// `Forwarded` goes, because a list that we are missing in would say something wrong.
pub(super) fn tell(
    forwarded: &Forwarded,
    origin: &Origin<'_>,
    headers: &mut Headers,
) -> Result<(), InvalidHeader> {
    headers.remove_known(Known::Forwarded);
    // What a caller shows us is nobody else's (F19).
    headers.remove_known(Known::XDiolkosToken);
    const XFF: &str = Known::XForwardedFor.name();
    match forwarded.xff {
        ForwardedFor::Drop => drop(headers.remove_known(Known::XForwardedFor)),
        ForwardedFor::Set => headers.set(XFF, origin.client.ip().to_string())?,
        ForwardedFor::Append => {
            let mut list = Vec::new();
            for line in headers.get_all(XFF).filter(|line| !line.is_empty()) {
                list.extend_from_slice(line);
                list.extend_from_slice(b", ");
            }
            // Whom `Forwarded` named: that one goes.
            if list.is_empty() && origin.client.ip() != origin.peer.ip() {
                list.extend_from_slice(origin.client.ip().to_string().as_bytes());
                list.extend_from_slice(b", ");
            }
            list.extend_from_slice(origin.peer.ip().to_string().as_bytes());
            headers.set(XFF, list)?;
        }
    }
    if !forwarded.standard_headers {
        return Ok(());
    }
    headers.set(Known::XRealIp.name(), origin.client.ip().to_string())?;
    if !headers.contains_known(Known::XForwardedProto) {
        headers.push(Known::XForwardedProto.name(), origin.scheme)?;
    }
    if !headers.contains_known(Known::XForwardedHost) {
        headers.push(Known::XForwardedHost.name(), origin.host.as_str())?;
    }
    if !headers.contains_known(Known::XForwardedPort) {
        let default = if origin.scheme == "https" { 443 } else { 80 };
        let port = origin.host.port().unwrap_or(default);
        headers.push(
            Known::XForwardedPort.name(),
            itoa::Buffer::new().format(port),
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarded(trusted: &[&str]) -> Forwarded {
        Forwarded {
            trusted: trusted.iter().map(|n| n.parse().unwrap()).collect(),
            ..Forwarded::default()
        }
    }

    fn headers(lines: &[(&str, &str)]) -> Headers {
        let mut headers = Headers::new();
        for (name, value) in lines {
            headers.push(name, value).unwrap();
        }
        headers
    }

    fn who(trusted: &[&str], peer: &str, lines: &[(&str, &str)]) -> (String, usize) {
        let mut headers = headers(lines);
        let peer = SocketAddr::new(peer.parse().unwrap(), 9);
        let (client, _) = identify(&forwarded(trusted), peer, &mut headers);
        (client.to_string(), headers.len())
    }

    #[test]
    fn the_list_is_walked_from_the_right_past_trusted_addresses() {
        let inner = &["10.0.0.0/8", "fd00::/8"][..];
        for (peer, lines, client) in [
            ("10.0.0.1", &["192.0.2.1"][..], "192.0.2.1:0"),
            ("10.0.0.1", &["1.1.1.1, 192.0.2.1,10.0.0.2"], "192.0.2.1:0"),
            (
                "10.0.0.1",
                &["1.1.1.1", "192.0.2.1\t,\t10.0.0.2"],
                "192.0.2.1:0",
            ),
            ("10.0.0.1", &["192.0.2.1:4711"], "192.0.2.1:4711"),
            (
                "10.0.0.1",
                &["[2001:db8::1]:4711, fd00::1"],
                "[2001:db8::1]:4711",
            ),
            ("10.0.0.1", &["[2001:db8::1]"], "[2001:db8::1]:0"),
            ("10.0.0.1", &["2001:db8::1"], "[2001:db8::1]:0"),
            ("10.0.0.1", &["::ffff:192.0.2.1"], "192.0.2.1:0"),
            // All of them trusted: the one that is farthest away.
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3:0"),
            // What is no address hides the rest.
            ("10.0.0.1", &["192.0.2.1, what, 10.0.0.2"], "10.0.0.2:0"),
            ("10.0.0.1", &["192.0.2.1,"], "10.0.0.1:9"),
            ("10.0.0.1", &["0.0.0.0"], "10.0.0.1:9"),
            ("10.0.0.1", &["[192.0.2.1]"], "10.0.0.1:9"),
            ("10.0.0.1", &["192.0.2.1%1"], "10.0.0.1:9"),
            ("10.0.0.1", &[""], "10.0.0.1:9"),
            ("10.0.0.1", &[], "10.0.0.1:9"),
            // Nobody asked this one.
            ("192.0.2.9", &["192.0.2.1"], "192.0.2.9:9"),
        ] {
            let lines: Vec<_> = lines.iter().map(|l| ("x-forwarded-for", *l)).collect();
            assert_eq!(who(inner, peer, &lines).0, client, "{lines:?}");
        }
    }

    #[test]
    fn a_list_without_end_is_not_walked_to_its_end() {
        let list = format!("192.0.2.1{}", ", 10.0.0.2".repeat(HOPS));
        let (client, _) = who(&["10.0.0.0/8"], "10.0.0.1", &[("x-forwarded-for", &list)]);
        assert_eq!(client, "10.0.0.2:0");
    }

    #[test]
    fn forwarded_counts_where_the_other_is_absent() {
        let inner = &["10.0.0.0/8"][..];
        for (value, client) in [
            ("for=192.0.2.1", "192.0.2.1:0"),
            ("For=\"[2001:db8::1]:80\";proto=https", "[2001:db8::1]:80"),
            (
                "for=192.0.2.1, by=x;host=\"a,b;for=1.1.1.1\";for=10.0.0.2",
                "192.0.2.1:0",
            ),
            ("for=192.0.2.1;by=\"\\\",\", for=10.0.0.2", "192.0.2.1:0"),
            ("for=192.0.2.1, for=unknown", "10.0.0.1:9"),
            ("for=192.0.2.1, for=_hidden, for=10.0.0.2", "10.0.0.2:0"),
            ("proto=https", "10.0.0.1:9"),
            ("for=\"", "10.0.0.1:9"),
            // A client's open quote hides nothing of what the proxy wrote.
            ("for=\"1.1.1.1, for=192.0.2.1", "192.0.2.1:0"),
            ("for=\"\\, for=\"[2001:db8::1]\"", "[2001:db8::1]:0"),
        ] {
            let (found, left) = who(inner, "10.0.0.1", &[("forwarded", value)]);
            assert_eq!(found, client, "{value}");
            assert_eq!(left, 1);
        }
        let both = [
            ("forwarded", "for=192.0.2.1"),
            ("x-forwarded-for", "192.0.2.2"),
        ];
        assert_eq!(who(inner, "10.0.0.1", &both).0, "192.0.2.2:0");
    }

    #[test]
    fn the_scheme_is_that_of_the_hop_which_names_the_client() {
        let peer = ([10, 0, 0, 1], 9).into();
        for (value, scheme) in [
            ("for=192.0.2.1;proto=https", Some("https")),
            (
                "for=192.0.2.1;Proto=\"HTTPS\", for=10.0.0.2;proto=http",
                Some("https"),
            ),
            ("proto=https;for=1.1.1.1, for=192.0.2.1", None),
            ("proto=https", Some("https")),
            ("for=192.0.2.1;proto=gopher", None),
        ] {
            let mut headers = headers(&[("forwarded", value)]);
            let (_, said) = identify(&forwarded(&["10.0.0.0/8"]), peer, &mut headers);
            assert_eq!(said, scheme, "{value}");
            let (_, said) = identify(&forwarded(&[]), peer, &mut headers);
            assert_eq!(said, None, "{value}");
        }
    }

    #[test]
    fn fields_of_peers_that_are_not_trusted_are_gone() {
        let lines = [
            ("x-forwarded-for", "192.0.2.1"),
            ("forwarded", "for=192.0.2.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-weird", "1"),
            ("x-real-ip", "192.0.2.1"),
            ("client-cert", ":x:"),
            ("accept", "*/*"),
        ];
        assert_eq!(who(&[], "10.0.0.1", &lines), ("10.0.0.1:9".into(), 1));
        assert_eq!(who(&["10.0.0.0/8"], "11.0.0.1", &lines).1, 1);
        assert_eq!(
            who(&["10.0.0.0/8"], "10.0.0.1", &lines),
            ("192.0.2.1:0".into(), 7)
        );
    }

    #[test]
    fn upstreams_are_told_by_policy() {
        let mut host = Host::default();
        sanitize::host(b"Shop.test:8080", &mut host).unwrap();
        let told = |xff, standard_headers, scheme, lines: &[(&str, &str)]| {
            let mut headers = headers(lines);
            let origin = Origin {
                peer: ([10, 0, 0, 1], 9).into(),
                client: ([192, 0, 2, 1], 0).into(),
                scheme,
                host: &host,
            };
            let forwarded = Forwarded {
                xff,
                standard_headers,
                ..Forwarded::default()
            };
            tell(&forwarded, &origin, &mut headers).unwrap();
            let mut lines: Vec<String> = headers
                .iter()
                .map(|(n, v)| format!("{n}={}", v.escape_ascii()))
                .collect();
            lines.sort();
            lines.join(" ")
        };
        use ForwardedFor::{Append, Drop, Set};
        let given = [
            ("x-forwarded-for", "192.0.2.1"),
            ("x-forwarded-for", "10.0.0.7"),
            ("forwarded", "for=x"),
            ("x-diolkos-token", "secret"),
        ];
        assert_eq!(told(Drop, false, "http", &given), "");
        assert_eq!(
            told(Set, false, "http", &given),
            "x-forwarded-for=192.0.2.1"
        );
        assert_eq!(
            told(Append, false, "http", &given),
            "x-forwarded-for=192.0.2.1, 10.0.0.7, 10.0.0.1"
        );
        assert_eq!(
            told(Append, false, "http", &[("forwarded", "for=192.0.2.1")]),
            "x-forwarded-for=192.0.2.1, 10.0.0.1"
        );
        assert_eq!(
            told(Drop, true, "https", &[("x-real-ip", "1.1.1.1")]),
            "x-forwarded-host=shop.test:8080 x-forwarded-port=8080 x-forwarded-proto=https x-real-ip=192.0.2.1"
        );
        assert_eq!(
            told(
                Drop,
                true,
                "http",
                &[("x-forwarded-proto", "https"), ("x-forwarded-port", "443")]
            ),
            "x-forwarded-host=shop.test:8080 x-forwarded-port=443 x-forwarded-proto=https x-real-ip=192.0.2.1"
        );
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_trusted_proxy_writes_the_walk_ends(
            lines in proptest::collection::vec("[-0-9a-f.:,;=\"\\\\\\[\\] for]{0,60}", 0..4),
            which in proptest::bool::ANY,
        ) {
            let name = if which { "x-forwarded-for" } else { "forwarded" };
            let lines: Vec<_> = lines.iter().map(|l| (name, l.trim())).collect();
            let (client, _) = who(&["0.0.0.0/0", "::/0"], "10.0.0.1", &lines);
            proptest::prop_assert!(client.parse::<SocketAddr>().is_ok());
        }
    }
}

//! TLS to upstreams: who is trusted, what is shown, and that no connection is used for another identity.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use model::{
    Certificate, CredentialHeader, ObjectRef, ProxyProtocol, Secret, TlsVersion, Upstream,
    UpstreamProtocol, UpstreamTls,
};
use rustls::version::{TLS12, TLS13};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use support::Answer;
use support::config::{through, upstream};
use support::pki::{Ca, Https, Leaf, server};
use support::plane::Plane;

const BOTH: &[&rustls::SupportedProtocolVersion] = &[&TLS13, &TLS12];

fn trusting(address: SocketAddr, ca: &Ca, sni: &str) -> Upstream {
    Upstream {
        tls: Some(UpstreamTls {
            sni: Some(sni.into()),
            authorities: Some(ca.pem()),
            ..UpstreamTls::default()
        }),
        ..upstream(&[address])
    }
}

fn tls(upstream: &mut Upstream) -> &mut UpstreamTls {
    upstream.tls.as_mut().unwrap()
}

fn refused(answer: &Answer) {
    assert_eq!(answer.status, 502);
    assert_eq!(answer.body, br#"{"error":"upstream_tls_error"}"#);
}

#[test]
fn connections_are_kept_by_identity() {
    let (ca, other) = (Ca::new("one"), Ca::new("two"));
    let origin = Https::start(server(&ca.issue(&["a.example"]), None, BOTH, &[]));
    let right = trusting(origin.address, &ca, "a.example");
    let mut plane = Plane::start(&through(&right));
    for _ in 0..3 {
        let answer = plane.get("/");
        assert_eq!(
            (answer.status, answer.header("x-sni")),
            (200, Some("a.example"))
        );
        assert_eq!(answer.header("x-version"), Some("TLSv1_3"));
    }
    assert_eq!(origin.connections(), 1, "one connection for three requests");
    // Another CA at the same address: the connection that is there was not verified by it.
    plane
        .put(&through(&trusting(origin.address, &other, "a.example")))
        .unwrap();
    refused(&plane.get("/"));
    plane.metric_becomes(
        r#"diolkos_upstream_attempts_total{outcome="tls_error"}"#,
        2.0,
    );
    // Another name: a connection of its own.
    plane
        .put(&through(&trusting(origin.address, &ca, "b.example")))
        .unwrap();
    refused(&plane.get("/"));
    assert_eq!(origin.connections(), 1);
    // In clear: nothing of the pool, and no HTTP from a TLS server.
    plane.put(&through(&upstream(&[origin.address]))).unwrap();
    assert_eq!(plane.get("/").status, 502);
    // The first identity again. It may find its old connection, or, as its table is gone, need a new one.
    plane.put(&through(&right)).unwrap();
    assert_eq!(plane.get("/").status, 200);
    assert!(origin.connections() <= 2);
}

#[test]
fn subject_alt_names_are_verified_instead_of_the_name_sent() {
    let ca = Ca::new("ca");
    let leaf = ca.issue(&["*.inner.example", "spiffe://cluster/ns/shop"]);
    let origin = Https::start(server(&leaf, None, BOTH, &[]));
    let mut up = trusting(origin.address, &ca, "outer.example");
    let mut plane = Plane::start(&through(&up));
    refused(&plane.get("/"));
    for (names, good) in [
        (&["shop.inner.example"][..], true),
        (&["no.example", "shop.inner.example"], true),
        (&["spiffe://cluster/ns/shop"], true),
        (&["spiffe://cluster/ns/other"], false),
        (&["inner.example"], false),
    ] {
        tls(&mut up).subject_alt_names = names.iter().map(|n| (*n).to_owned()).collect();
        plane.put(&through(&up)).unwrap();
        let answer = plane.get("/");
        if good {
            assert_eq!(answer.header("x-sni"), Some("outer.example"), "{names:?}");
        } else {
            refused(&answer);
        }
    }
    // A good name does not make up for an unknown CA.
    let mut up = trusting(origin.address, &Ca::new("other"), "outer.example");
    tls(&mut up).subject_alt_names = vec!["shop.inner.example".into()];
    plane.put(&through(&up)).unwrap();
    refused(&plane.get("/"));
}

#[test]
fn client_certificates_are_shown_and_followed_when_renewed() {
    let (ca, clients) = (Ca::new("ca"), Ca::new("clients"));
    let config = server(&ca.issue(&["a.example"]), Some(&clients), BOTH, &[]);
    let origin = Https::start(config);
    let mut up = trusting(origin.address, &ca, "a.example");
    let mut plane = Plane::start(&through(&up));
    // TLS 1.3: the refusal comes after our side of the handshake is complete.
    assert_eq!(plane.get("/").status, 502);
    tls(&mut up).client_certificate = Some("d/client".into());
    plane.put(&through(&up)).unwrap();
    refused(&plane.get("/"));
    let with = |leaf: Leaf| {
        let mut model = through(&up);
        let certificate = Certificate {
            origin: ObjectRef::new("Secret", "d", "client"),
            chain: leaf.chain,
            key: Secret::new(leaf.key),
        };
        model.certificates.insert("d/client".into(), certificate);
        model
    };
    plane.put(&with(ca.issue(&["client"]))).unwrap();
    assert_eq!(plane.get("/").status, 502, "signed by another");
    plane.put(&with(clients.issue(&["client"]))).unwrap();
    let answer = plane.get("/");
    assert_eq!(
        (answer.status, answer.header("x-client-certs")),
        (200, Some("1"))
    );
    // Gone: nothing is sent without it, not even on the connection that is there.
    plane.put(&through(&up)).unwrap();
    refused(&plane.get("/"));
}

#[test]
fn the_certificate_of_a_listener_is_shown_where_the_upstream_has_none() {
    let (ca, clients) = (Ca::new("ca"), Ca::new("clients"));
    let config = server(&ca.issue(&["a.example"]), Some(&clients), BOTH, &[]);
    let origin = Https::start(config);
    let mut up = trusting(origin.address, &ca, "a.example");
    let certificate = |leaf: Leaf| Certificate {
        origin: ObjectRef::new("Secret", "d", "gateway"),
        chain: leaf.chain,
        key: Secret::new(leaf.key),
    };
    let with = |up: &Upstream, leaf: Option<Leaf>| {
        let mut model = through(up);
        for listener in model.listeners.values_mut() {
            listener.backend_certificate = Some("d/gateway".into());
        }
        let leaf = leaf.map(|leaf| ("d/gateway".to_owned(), certificate(leaf)));
        model.certificates.extend(leaf);
        model
    };
    let mut plane = Plane::start(&with(&up, Some(clients.issue(&["gateway"]))));
    let answer = plane.get("/");
    assert_eq!(
        (answer.status, answer.header("x-client-certs")),
        (200, Some("1"))
    );
    // Renewed, by an authority that the upstream does not know.
    plane.put(&with(&up, Some(ca.issue(&["gateway"])))).unwrap();
    assert_eq!(plane.get("/").status, 502);
    plane
        .put(&with(&up, Some(clients.issue(&["gateway"]))))
        .unwrap();
    assert_eq!(plane.get("/").status, 200);
    // The upstream's own goes before it.
    tls(&mut up).client_certificate = Some("d/gone".into());
    plane
        .put(&with(&up, Some(clients.issue(&["gateway"]))))
        .unwrap();
    refused(&plane.get("/"));
    tls(&mut up).client_certificate = None;
    plane.put(&with(&up, None)).unwrap();
    refused(&plane.get("/"));
    // The listener has none shown any more.
    plane.put(&through(&up)).unwrap();
    assert_eq!(plane.get("/").status, 502);
}

#[test]
fn versions_and_insecure() {
    let ca = Ca::new("ca");
    let old = Https::start(server(&ca.issue(&["a.example"]), None, &[&TLS12], &[]));
    let mut up = trusting(old.address, &ca, "a.example");
    let mut plane = Plane::start(&through(&up));
    assert_eq!(plane.get("/").header("x-version"), Some("TLSv1_2"));
    tls(&mut up).min_version = TlsVersion::V1_3;
    plane.put(&through(&up)).unwrap();
    refused(&plane.get("/"));
    let mut up = upstream(&[old.address]);
    up.tls = Some(UpstreamTls {
        insecure: true,
        ..UpstreamTls::default()
    });
    plane.put(&through(&up)).unwrap();
    let answer = plane.get("/");
    assert_eq!((answer.status, answer.header("x-sni")), (200, Some("-")));
}

#[test]
fn sessions_are_resumed_and_alpn_is_offered() {
    let ca = Ca::new("ca");
    let config = server(&ca.issue(&["a.example"]), None, BOTH, &["http/1.1"]);
    let origin = Https::start(config);
    let plane = Plane::start(&through(&trusting(origin.address, &ca, "a.example")));
    let first = plane.get("/close");
    assert_eq!(first.header("x-alpn"), Some("http/1.1"));
    assert_ne!(first.header("x-handshake"), Some("Resumed"));
    assert_eq!(plane.get("/close").header("x-handshake"), Some("Resumed"));
    assert_eq!(origin.connections(), 2);
}

#[test]
fn an_upstream_without_h2_is_refused_where_h2_is_asked_for() {
    let ca = Ca::new("ca");
    let origin = Https::start(server(&ca.issue(&["a.example"]), None, BOTH, &[]));
    let mut up = trusting(origin.address, &ca, "a.example");
    up.protocol = UpstreamProtocol::H2;
    let plane = Plane::start(&through(&up));
    let answer = plane.get("/");
    assert_eq!(answer.body, br#"{"error":"upstream_protocol_error"}"#);
}

#[test]
fn settings_that_make_no_identity_are_refused() {
    let ca = Ca::new("ca");
    let good = trusting("127.0.0.1:1".parse().unwrap(), &ca, "a.example");
    let mut plane = Plane::start(&through(&good));
    let mut refuse = |edit: fn(&mut UpstreamTls), why: &str| {
        let mut up = good.clone();
        edit(tls(&mut up));
        let said = format!("{:?}", plane.put(&through(&up)).unwrap_err());
        assert!(said.contains(why), "{said}");
    };
    refuse(
        |t| t.authorities = Some(String::new()),
        "tls: the CA bundle holds no certificate",
    );
    refuse(
        |t| {
            t.authorities =
                Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into())
        },
        "tls: certificate 1 of the CA bundle is not valid",
    );
    refuse(|t| t.sni = Some("a b".into()), "server name \\\"a b\\\"");
    refuse(
        |t| t.subject_alt_names = vec!["a b".into()],
        "subject alternative name \\\"a b\\\"",
    );
}

#[test]
fn credentials_replace_the_clients_own() {
    let ca = Ca::new("ca");
    let origin = Https::start(server(&ca.issue(&["a.example"]), None, BOTH, &[]));
    let mut up = trusting(origin.address, &ca, "a.example");
    up.credentials = vec![CredentialHeader {
        name: "authorization".into(),
        value: Secret::new("Bearer ours"),
    }];
    let plane = Plane::start(&through(&up));
    let fields = "Authorization: Bearer theirs\r\nAuthorization: Basic x\r\n";
    let answer = plane.client().request("GET", "/", fields, "");
    let seen = String::from_utf8(answer.body).unwrap();
    assert!(seen.contains("authorization: Bearer ours\r\n"), "{seen}");
    assert_eq!(seen.matches("authorization").count(), 1, "{seen}");
}

#[test]
fn proxy_headers_come_first_and_belong_to_one_client() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (seen_in, seen) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, seen) = (stream.unwrap(), seen_in.clone());
            std::thread::spawn(move || {
                let mut got = Vec::new();
                let mut byte = [0];
                while !got.ends_with(b"host: t\r\n\r\n") && stream.read(&mut byte).unwrap() > 0 {
                    got.push(byte[0]);
                }
                seen.send(got).unwrap();
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
                let _ = stream.read(&mut byte);
            });
        }
    });
    let mut up = upstream(&[address]);
    up.connection.proxy_protocol = Some(ProxyProtocol::V1);
    let mut plane = Plane::start(&through(&up));
    let mut client = plane.client();
    let (from, to) = (client.stream.local_addr().unwrap(), plane.address);
    let line = format!(
        "PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\nGET / HTTP/1.1\r\n",
        from.port(),
        to.port()
    );
    for _ in 0..2 {
        assert_eq!(client.get("/").status, 200);
        let got = seen.recv_timeout(support::PATIENCE).unwrap();
        assert!(
            got.starts_with(line.as_bytes()),
            "{}",
            String::from_utf8_lossy(&got)
        );
    }
    up.connection.proxy_protocol = Some(ProxyProtocol::V2);
    plane.put(&through(&up)).unwrap();
    assert_eq!(plane.get("/").status, 200);
    let got = seen.recv_timeout(support::PATIENCE).unwrap();
    assert!(got.starts_with(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01"));
    assert_eq!(&got[28..31], b"GET");
}

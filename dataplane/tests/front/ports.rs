//! Listeners that share a port by the hosts of requests, and over TLS by the names that clients ask for.

use super::*;
use diolkos_dataplane::push::Apply;

/// A listener of this name and host on the one port, with a Route that answers its name to `/NAME`.
fn add(model: &mut Model, name: &str, hostname: &str, edit: impl FnOnce(&mut Listener)) {
    let mut one = Listener {
        name: name.to_owned(),
        hostname: HostPattern::parse(hostname).unwrap(),
        ..listener(ListenerProtocol::Http)
    };
    edit(&mut one);
    let key = format!("d/gw/{name}");
    model.listeners.insert(key.clone(), one);
    let matches = vec![Match {
        path: PathMatch::prefix(&format!("/{name}")),
        ..Match::any()
    }];
    let action = Action::Respond(DirectResponse {
        status: 200,
        content_type: String::new(),
        body: name.to_owned(),
        headers: Vec::new(),
    });
    let route = Route {
        origin: ObjectRef::new("Route", "d", name),
        created: 0,
        tenant: None,
        listeners: vec![key],
        hosts: vec![HostPattern::Any],
        rules: vec![Rule::new(matches, action)],
    };
    model.routes.insert(format!("d/{name}"), route);
}

/// What a host gets for a path, over this connection.
fn get(client: &mut Client, host: &str, path: &str) -> (u16, String) {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
    let answer = client.answer("GET").unwrap();
    (answer.status, String::from_utf8(answer.body).unwrap())
}

fn found(name: &str) -> (u16, String) {
    (200, name.to_owned())
}

const NOT_FOUND: &str = "{\"error\":\"route_not_found\"}";

fn not_found() -> (u16, String) {
    (404, NOT_FOUND.to_owned())
}

#[test]
fn a_request_is_the_most_specific_listeners_alone() {
    let all = [
        ("empty", "*"),
        ("wildcard", "*.example.com"),
        ("foo", "*.foo.example.com"),
        ("abc", "abc.foo.example.com"),
    ];
    let gateway = Gateway::start(|model, _| {
        for (name, hostname) in all {
            add(model, name, hostname, |_| {});
        }
    });
    let mut client = gateway.client();
    for (host, owner) in [
        ("bar.com", "empty"),
        ("example.com:8080", "empty"),
        ("bar.example.com", "wildcard"),
        ("bar.foo.example.com", "foo"),
        ("a.b.foo.example.com", "foo"),
        ("ABC.foo.example.com.", "abc"),
    ] {
        for (name, _) in all {
            let expected = if name == owner {
                found(name)
            } else {
                not_found()
            };
            assert_eq!(
                get(&mut client, host, &format!("/{name}")),
                expected,
                "{host}/{name}"
            );
        }
    }
    for (name, good, bad) in [
        ("empty", 2.0, 6.0),
        ("wildcard", 1.0, 3.0),
        ("foo", 2.0, 6.0),
        ("abc", 1.0, 3.0),
    ] {
        let line = |class: &str| {
            format!("diolkos_requests_total{{code_class=\"{class}\",listener=\"d/gw/{name}\"}}")
        };
        gateway.metric_becomes(&line("2xx"), good);
        gateway.metric_becomes(&line("4xx"), bad);
    }
}

#[test]
fn listeners_come_and_go_on_a_port_and_connections_stay() {
    let with = |names: &'static [(&'static str, &'static str)]| {
        move |model: &mut Model, _: &Authority| {
            model.routes.clear();
            for (name, hostname) in names {
                add(model, name, hostname, |_| {});
            }
        }
    };
    let mut gateway = Gateway::start(with(&[("a", "a.test")]));
    let mut client = gateway.client();
    assert_eq!(get(&mut client, "a.test", "/a"), found("a"));
    assert_eq!(get(&mut client, "b.test", "/b"), not_found());
    gateway
        .put(with(&[("a", "a.test"), ("b", "b.test")]))
        .unwrap();
    assert_eq!(get(&mut client, "b.test", "/b"), found("b"));
    assert_eq!(get(&mut client, "a.test", "/a"), found("a"));
    // The first that was there goes; the port is that of the other.
    gateway.put(with(&[("b", "b.test")])).unwrap();
    assert_eq!(get(&mut client, "a.test", "/a"), not_found());
    assert_eq!(get(&mut client, "b.test", "/b"), found("b"));
    let states = gateway.applier.listeners();
    assert_eq!(
        (states.len(), &*states[0].key, states[0].bound),
        (1, "d/gw/b", true)
    );
    assert_eq!(states[0].address, gateway.address.to_string());
    assert_eq!(
        gateway.metric("diolkos_connections_total{protocol=\"h1\"}"),
        1.0
    );
    gateway.put(with(&[])).unwrap();
    assert!(gateway.applier.listeners().is_empty());
    let address = gateway.address;
    support::becomes("refused", true, || TcpStream::connect(address).is_err());
}

#[test]
fn listeners_that_cannot_share_a_port_are_named_and_the_others_serve() {
    let gateway = Gateway::start(|model, ca| {
        https(model, &[("a", ca.sign(&["a.test"]))], false);
        model.listeners.get_mut("d/gw/front").unwrap().order = 1;
        add(model, "early", "*", |_| {});
    });
    assert_eq!(
        get(&mut gateway.client(), "a.test", "/early"),
        found("early")
    );
    let states = gateway.applier.listeners();
    let state = |key: &str| states.iter().find(|s| s.key == key).unwrap();
    assert!(state("d/gw/early").bound);
    let refused = state("d/gw/front");
    assert!(!refused.bound);
    assert_eq!(refused.error, "port 8443: another protocol is spoken there");
}

#[test]
fn caps_of_a_port_are_the_strictest_of_its_listeners() {
    let gateway = Gateway::start(|model, _| {
        add(model, "wide", "*", |_| {});
        add(model, "narrow", "narrow.test", |l| l.caps.url_bytes = 300);
    });
    let mut client = gateway.client();
    assert_eq!(get(&mut client, "any.test", "/wide"), found("wide"));
    let long = format!("/wide/{}", "x".repeat(300));
    assert_eq!(get(&mut client, "any.test", &long).0, 414);
}

#[test]
fn each_listener_of_a_port_lets_in_what_it_may() {
    const LAX: Edge = Edge {
        escaped_slashes: EscapedSlashes::Keep,
        underscores: Underscores::Keep,
    };
    let with = |edge: Edge| {
        move |model: &mut Model, _: &Authority| {
            model.routes.clear();
            add(model, "strict", "*", |_| {});
            add(model, "lax", "lax.test", |l| l.edge = edge);
        }
    };
    let mut gateway = Gateway::start(with(LAX));
    let ask = |client: &mut Client, host: &str, path: &str, field: &str| {
        client
            .send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{field}: 1\r\n\r\n").as_bytes());
        client.answer("GET").unwrap().status
    };
    let mut client = gateway.client();
    assert_eq!(ask(&mut client, "lax.test", "/lax/a%2fb", "x_a"), 200);
    // A character of its segment: no prefix ends at it.
    assert_eq!(ask(&mut client, "lax.test", "/lax%2fb", "x-a"), 404);
    assert_eq!(ask(&mut client, "any.test", "/strict/a", "x-a"), 200);
    assert_eq!(ask(&mut client, "any.test", "/strict/a%2fb", "x-a"), 400);
    assert_eq!(
        ask(&mut gateway.client(), "any.test", "/strict", "x_a"),
        400
    );
    gateway.put(with(Edge::default())).unwrap();
    let mut client = gateway.client();
    assert_eq!(ask(&mut client, "lax.test", "/lax/a%2fb", "x-a"), 400);
}

/// An HTTPS listener that shows this certificate.
fn add_https(
    model: &mut Model,
    name: &str,
    hostname: &str,
    certificate: (&str, &Certificate),
    client: Option<ClientValidation>,
) {
    let (key, certificate) = (format!("d/{}", certificate.0), certificate.1);
    add(model, name, hostname, |l| {
        l.protocol = ListenerProtocol::Https;
        l.tls = Some(ListenerTls {
            default_certificate: Some(key.clone()),
            certificates: vec![key.clone()],
            client,
            ..ListenerTls::default()
        });
    });
    model.certificates.insert(key, certificate.clone());
}

/// Statuses of requests to these hosts on one connection over HTTP/2 that asked for this name.
fn statuses(gateway: &Gateway, sni: &str, asked: &[(&str, &str)]) -> Vec<u16> {
    gateway.run(async || {
        let config = alpn(gateway.trusting(), &["h2"]);
        let stream = gateway.connect(Some(sni), config).await.unwrap();
        let (mut send, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut all = Vec::new();
        for (host, path) in asked {
            send = send.ready().await.unwrap();
            let request = http::Request::get(format!("https://{host}{path}"))
                .body(())
                .unwrap();
            let (answer, _) = send.send_request(request, true).unwrap();
            all.push(answer.await.unwrap().status().as_u16());
        }
        drop(send);
        connection.await.unwrap().unwrap();
        all
    })
}

#[test]
fn the_name_that_a_client_asks_for_decides_the_listener_of_its_connection() {
    let hosts = [
        ("any", "*"),
        ("second", "second.test"),
        ("wild", "*.wild.test"),
        ("fourth", "fourth.wild.test"),
    ];
    // One certificate for all: it is the listeners that differ.
    let names = [
        "example.test",
        "unknown.test",
        "second.test",
        "third.wild.test",
        "fourth.wild.test",
    ];
    let gateway = Gateway::start(|model, ca| {
        let shared = ca.sign(&names);
        for (name, hostname) in hosts {
            add_https(model, name, hostname, ("shared", &shared), None);
        }
    });
    for (sni, asked) in [
        (
            "example.test",
            [
                ("example.test", "/any", 200),
                ("second.test", "/second", 421),
                ("unknown.test", "/no", 404),
            ],
        ),
        (
            "second.test",
            [
                ("second.test", "/second", 200),
                ("example.test", "/any", 421),
                ("unknown.test", "/any", 421),
            ],
        ),
        (
            "third.wild.test",
            [
                ("fifth.wild.test", "/wild", 200),
                ("fourth.wild.test", "/fourth", 421),
                ("second.test", "/second", 421),
            ],
        ),
        (
            "fourth.wild.test",
            [
                ("fourth.wild.test", "/fourth", 200),
                ("fifth.wild.test", "/wild", 421),
                ("fourth.wild.test", "/wild", 404),
            ],
        ),
        (
            "unknown.test",
            [
                ("example.test", "/any", 200),
                ("unknown.test", "/any", 200),
                ("wild.test", "/any", 200),
            ],
        ),
    ] {
        let expected = asked.map(|(_, _, status)| status);
        let asked = asked.map(|(host, path, _)| (host, path));
        assert_eq!(statuses(&gateway, sni, &asked), expected, "{sni}");
    }
    // A client that names no host is at the listener of any host.
    let answers = gateway.run(async || {
        let mut said = Vec::new();
        for host in ["example.test", "second.test"] {
            let mut config = gateway.trusting();
            config.enable_sni = false;
            let name = ServerName::try_from("example.test").unwrap();
            let tcp = tokio::net::TcpStream::connect(gateway.address)
                .await
                .unwrap();
            let connector = TlsConnector::from(Arc::new(config));
            let mut stream = connector.connect(name, tcp).await.unwrap();
            said.push(ask(&mut stream, host).await.unwrap()[..13].to_owned());
        }
        said
    });
    assert_eq!(answers, ["HTTP/1.1 404 ", "HTTP/1.1 421 "]);
}

#[test]
fn what_is_no_handshake_is_closed_on_a_port_for_https() {
    let gateway = Gateway::start(|model, ca| {
        add_https(model, "secure", "*", ("a", &ca.sign(&["a.test"])), None);
    });
    let noise = noise(1000);
    // HTTP in clear, HTTP/2 in clear, a record of TLS that is none, anything.
    let all: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",
        &noise,
    ];
    for said in all {
        let mut client = gateway.client();
        client.send(said);
        let got = client.rest();
        // An alert of TLS at most.
        assert!(got.first().is_none_or(|kind| *kind == 0x15), "{got:?}");
    }
    let failures = r#"diolkos_tls_failures_total{reason="protocol"}"#;
    gateway.metric_becomes(failures, all.len() as f64);
    assert_eq!(gateway.origin.count(), 0);
}

#[test]
fn certificates_and_client_certificates_are_those_of_the_listener() {
    let mut gateway = Gateway::start(|model, ca| {
        add_https(
            model,
            "open",
            "open.test",
            ("open", &ca.sign(&["open.test"])),
            None,
        );
    });
    let mut kept = gateway.open("open.test");
    assert!(kept.get("/open").starts_with("HTTP/1.1 200 "));
    gateway
        .put(|model, ca| {
            add_https(
                model,
                "open",
                "open.test",
                ("open", &ca.sign(&["open.test"])),
                None,
            );
            let required = ClientValidation {
                authorities: ca.0.pem(),
                required: true,
                any: false,
            };
            add_https(
                model,
                "closed",
                "closed.test",
                ("closed", &ca.sign(&["closed.test"])),
                Some(required),
            );
        })
        .unwrap();
    // Who came for the one gets nothing of the other.
    kept.host = "closed.test".to_owned();
    assert!(kept.get("/closed").starts_with("HTTP/1.1 421 "));
    kept.host = "open.test".to_owned();
    assert!(kept.get("/open").starts_with("HTTP/1.1 200 "));
    assert_eq!(
        statuses(
            &gateway,
            "open.test",
            &[("closed.test", "/closed"), ("open.test", "/open")]
        ),
        [421, 200]
    );
    let status = |config: ClientConfig| {
        gateway.run(async || {
            let mut stream = gateway.connect(Some("closed.test"), config).await?;
            ask(&mut stream, "closed.test").await
        })
    };
    let refused = status(gateway.trusting());
    assert_eq!(alert(refused), Some(AlertDescription::CertificateRequired));
    let good = gateway.authority.sign(&["client.test"]);
    let answer = status(gateway.authority.client(Some(&good))).unwrap();
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}

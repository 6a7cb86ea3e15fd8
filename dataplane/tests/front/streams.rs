//! Connections and datagrams into which nothing looks: passed on by the name of a TLS handshake, or by their port alone.

use super::*;
use rustls::{ServerConfig, ServerConnection};
use std::net::{Shutdown, SocketAddr, TcpListener, UdpSocket};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::time::Instant;

// ------------------------------------------------------------------------------------------------ peers

/// A port of this machine that nobody has, neither for connections nor for datagrams, and that none is given by chance.
pub(super) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 1000).unwrap() * 10;
    loop {
        let port = 20_000 + (start + NEXT.fetch_add(1, Relaxed)) % 12_000;
        if TcpListener::bind(("::", port)).is_ok() && UdpSocket::bind(("::", port)).is_ok() {
            return port;
        }
    }
}

/// Somebody who takes connections, each on a thread of its own.
fn origin(talk: impl Fn(TcpStream) -> std::io::Result<()> + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, talk) = (listener.local_addr().unwrap(), Arc::new(talk));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let talk = Arc::clone(&talk);
            // How a connection ends is its client's to judge.
            std::thread::spawn(move || drop(talk(stream)));
        }
    });
    address
}

/// Says its name, then everything again, and `bye` at the client's end.
fn echo(name: &'static str) -> SocketAddr {
    origin(move |stream| {
        let mut out = stream.try_clone()?;
        repeat(name, stream, &mut out)?;
        out.shutdown(Shutdown::Write)
    })
}

fn repeat(name: &str, mut input: impl Read, output: &mut impl Write) -> std::io::Result<()> {
    writeln!(output, "{name}")?;
    let mut piece = [0; 8192];
    loop {
        match input.read(&mut piece)? {
            0 => return write!(output, "bye"),
            n => output.write_all(&piece[..n])?,
        }
    }
}

/// The same within TLS; what it was asked for stands before the name.
fn tls_echo(name: &'static str, certificate: &Certificate) -> SocketAddr {
    let chain = CertificateDer::pem_slice_iter(certificate.chain.as_bytes());
    let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(certificate.key.reveal()).unwrap();
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"mqtt".to_vec()];
    let config = Arc::new(config);
    origin(move |mut stream| {
        let mut session = ServerConnection::new(Arc::clone(&config)).unwrap();
        session.complete_io(&mut stream)?;
        let sni = session.server_name().unwrap_or("-").to_owned();
        let mut stream = StreamOwned::new(session, stream);
        writeln!(stream, "{sni} {name}")?;
        let mut piece = [0; 64];
        let n = stream.read(&mut piece)?;
        stream.write_all(&piece[..n])?;
        stream.conn.send_close_notify();
        stream.flush()
    })
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn line(stream: &mut impl Read) -> String {
    let (mut line, mut byte) = (String::new(), [0]);
    while stream.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
        line.push(char::from(byte[0]));
    }
    line
}

fn rest(mut stream: impl Read) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Waits for the end; whatever comes before it.
fn is_closed(mut stream: TcpStream) -> bool {
    !matches!(stream.read_to_end(&mut Vec::new()), Err(e) if e.kind() == std::io::ErrorKind::WouldBlock)
}

// ------------------------------------------------------------------------------------------------ configurations

fn add_listener(model: &mut Model, name: &str, protocol: ListenerProtocol, port: u16, host: &str) {
    let one = Listener {
        name: name.to_owned(),
        port,
        hostname: HostPattern::parse(host).unwrap(),
        health: false,
        request_header_ms: 500,
        ..listener(protocol)
    };
    model.listeners.insert(format!("d/gw/{name}"), one);
}

/// A Route from a listener to endpoints by weight.
fn add_route(model: &mut Model, listener: &str, host: &str, to: &[(SocketAddr, u32)]) {
    let mut backends = Vec::new();
    for (address, weight) in to {
        let key = address.to_string();
        let mut one = Backend::new(Target::Upstream(key.clone()));
        one.weight = *weight;
        backends.push(one);
        model.upstreams.insert(key, upstream(&[*address]));
    }
    let mut rule = Rule::new(vec![Match::any()], Action::Forward(backends));
    rule.timeouts.stream_idle_ms = 60_000;
    let key = format!("TLSRoute/d/{listener}-{}", model.routes.len());
    let route = Route {
        origin: ObjectRef::new("TLSRoute", "d", listener),
        created: 0,
        tenant: None,
        listeners: vec![format!("d/gw/{listener}")],
        hosts: vec![HostPattern::parse(host).unwrap()],
        rules: vec![rule],
    };
    model.routes.insert(key, route);
}

fn every_rule(model: &mut Model, edit: impl Fn(&mut Rule)) {
    let routes = model.routes.values_mut();
    routes.flat_map(|route| &mut route.rules).for_each(edit);
}

/// A gateway with one listener for connections as they are.
fn tcp(port: u16, to: &[(SocketAddr, u32)]) -> Gateway {
    tcp_with(port, to, |_| {})
}

fn tcp_with(port: u16, to: &[(SocketAddr, u32)], edit: impl FnOnce(&mut Model)) -> Gateway {
    Gateway::start(|model, _| {
        model.routes.clear();
        add_listener(model, "tcp", ListenerProtocol::Tcp, port, "*");
        add_route(model, "tcp", "*", to);
        edit(model);
    })
}

// ------------------------------------------------------------------------------------------------ TLS

/// One port: `web.test` is terminated for requests, `db.test` for a stream, everything below `pass.test` is passed on.
fn mixed(authority: &Authority) -> (impl FnOnce(&mut Model, &Authority) + use<>, [SocketAddr; 3]) {
    let one = tls_echo("one", &authority.sign(&["one.pass.test"]));
    let other = tls_echo("other", &authority.sign(&["other.pass.test"]));
    let plain = echo("plain");
    let edit = move |model: &mut Model, ca: &Authority| {
        https(model, &[("web", ca.sign(&["web.test"]))], false);
        let front = model.listeners.get_mut("d/gw/front").unwrap();
        front.hostname = HostPattern::parse("web.test").unwrap();
        add_listener(model, "pass", ListenerProtocol::Tls, 8443, "*.pass.test");
        add_listener(model, "db", ListenerProtocol::Tls, 8443, "db.test");
        let db = model.listeners.get_mut("d/gw/db").unwrap();
        db.tls = Some(ListenerTls {
            certificates: vec!["d/db".into()],
            default_certificate: Some("d/db".into()),
            ..ListenerTls::default()
        });
        let certificate = ca.sign(&["db.test"]);
        model.certificates.insert("d/db".into(), certificate);
        add_route(model, "pass", "one.pass.test", &[(one, 1)]);
        add_route(model, "pass", "other.pass.test", &[(other, 1)]);
        add_route(model, "db", "db.test", &[(plain, 1)]);
    };
    (edit, [one, other, plain])
}

#[test]
fn the_name_of_the_handshake_leads_to_the_backend_and_nothing_is_decrypted() {
    let origins = Authority::new();
    let (edit, _) = mixed(&origins);
    let gateway = Gateway::start(edit);
    // Only who passes the backend's certificate through can please this client.
    for name in ["one", "other"] {
        let sni = format!("{name}.pass.test");
        let mut stream = gateway.open_with(&sni, alpn(origins.client(None), &["mqtt"]));
        stream.stream.write_all(b"ping").unwrap();
        assert_eq!(line(&mut stream.stream), format!("{sni} {name}"));
        assert_eq!(rest(&mut stream.stream), "ping");
    }
    let mut web = gateway.open("web.test");
    assert!(web.get("/").ends_with("hello"));
    let mut db = gateway.open_with("db.test", alpn(gateway.trusting(), &["postgresql"]));
    db.stream.write_all(b"select").unwrap();
    assert_eq!(line(&mut db.stream), "plain");
    db.stream.conn.send_close_notify();
    db.stream.flush().unwrap();
    assert_eq!(rest(&mut db.stream), "selectbye");
    assert_eq!(db.stream.conn.alpn_protocol(), None);
    gateway.metric_becomes(
        "diolkos_connections_total{protocol=\"tls_passthrough\"}",
        2.0,
    );
    gateway.metric_becomes("diolkos_connections_total{protocol=\"tcp\"}", 1.0);
    gateway.metric_becomes("diolkos_connections{protocol=\"tls_passthrough\"}", 0.0);
    gateway.metric_becomes("diolkos_upstream_connections{state=\"active\"}", 0.0);
}

/// What OpenSSL makes of a handshake.
fn openssl(address: SocketAddr, arguments: &[&str]) -> String {
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &address.to_string()])
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let [out, err] =
        [output.stdout, output.stderr].map(|t| String::from_utf8_lossy(&t).into_owned());
    out + &err
}

#[test]
fn who_names_no_host_or_an_unknown_one_is_closed_without_an_answer() {
    let (origins, port) = (Authority::new(), free_port());
    let backend = tls_echo("one", &origins.sign(&["one.test"]));
    let gateway = Gateway::start(|model, _| {
        model.routes.clear();
        add_listener(model, "pass", ListenerProtocol::Tls, port, "*.test");
        add_route(model, "pass", "one.test", &[(backend, 1)]);
    });
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    assert!(openssl(address, &["-servername", "one.test"]).contains("CN"));
    for arguments in [
        &["-noservername"][..],
        &["-servername", "elsewhere.example"],
        // The listener's, but no Route's.
        &["-servername", "two.test"],
    ] {
        let said = openssl(address, arguments);
        assert!(said.contains("no peer certificate available"), "{said}");
        assert!(!said.contains("alert"), "{said}");
    }
    gateway.metric_becomes("diolkos_tls_failures_total{reason=\"no_certificate\"}", 3.0);
    assert_eq!(
        gateway.metric("diolkos_errors_total{code=\"route_not_found\"}"),
        0.0
    );
}

#[test]
fn a_hello_that_is_slow_or_has_no_end_or_is_none_is_closed() {
    let port = free_port();
    let gateway = Gateway::start(|model, _| {
        model.routes.clear();
        add_listener(model, "pass", ListenerProtocol::Tls, port, "*.test");
        add_route(model, "pass", "one.test", &[(echo("one"), 1)]);
    });
    let mut slow = connect(port);
    slow.write_all(&[22, 3, 1, 0, 200, 1, 0]).unwrap();
    assert!(is_closed(slow));
    gateway.metric_becomes("diolkos_tls_failures_total{reason=\"timeout\"}", 1.0);
    // A message of 64 KiB less one byte, in records of 1 KiB.
    let mut endless = connect(port);
    let mut record = vec![22, 3, 1, 4, 0, 1, 0, 0xff, 0xff];
    record.resize(5 + 1024, 0);
    for _ in 0..17 {
        if endless.write_all(&record).is_err() {
            break;
        }
        record[5..9].fill(0);
    }
    assert!(is_closed(endless));
    let mut plain = connect(port);
    plain
        .write_all(b"GET / HTTP/1.1\r\nHost: one.test\r\n\r\n")
        .unwrap();
    assert!(is_closed(plain));
    gateway.metric_becomes("diolkos_tls_failures_total{reason=\"protocol\"}", 2.0);
}

// ------------------------------------------------------------------------------------------------ connections

#[test]
fn bytes_pass_both_ways_at_once_and_each_side_ends_for_itself() {
    let port = free_port();
    let gateway = tcp(port, &[(echo("one"), 1)]);
    let client = connect(port);
    let body = noise(8 << 20);
    let (mut output, expected) = (client.try_clone().unwrap(), body.clone());
    let sender = std::thread::spawn(move || {
        output.write_all(&body).unwrap();
        output.shutdown(Shutdown::Write).unwrap();
    });
    let mut input = client;
    assert_eq!(line(&mut input), "one");
    let mut back = Vec::new();
    input.read_to_end(&mut back).unwrap();
    sender.join().unwrap();
    assert!(back.strip_suffix(b"bye") == Some(&expected[..]));
    gateway.metric_becomes("diolkos_connections{protocol=\"tcp\"}", 0.0);
    gateway.metric_becomes("diolkos_upstream_connections{state=\"active\"}", 0.0);
}

#[test]
fn a_backend_that_does_not_read_holds_its_client_back() {
    let port = free_port();
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let backend = origin(move |mut stream| {
        let _ = wait.lock().unwrap().recv();
        std::io::copy(&mut stream, &mut std::io::sink())?;
        stream.write_all(b"done")
    });
    let _gateway = tcp(port, &[(backend, 1)]);
    let mut client = connect(port);
    client.set_nonblocking(true).unwrap();
    let (piece, mut sent) = (vec![0; 64 << 10], 0);
    let mut quiet = Instant::now();
    // The kernel's buffers on the way take some megabytes, and nothing takes the rest.
    while quiet.elapsed() < Duration::from_millis(500) {
        match client.write(&piece) {
            Ok(n) => (sent, quiet) = (sent + n, Instant::now()),
            Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::WouldBlock),
        }
        assert!(sent < 64 << 20, "nobody is held back");
    }
    release.send(()).unwrap();
    client.set_nonblocking(false).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(client), "done");
}

#[test]
fn backends_take_turns_by_weight() {
    let port = free_port();
    let backends = [(echo("seven"), 7), (echo("three"), 3), (echo("none"), 0)];
    let _gateway = tcp(port, &backends);
    let names: Vec<String> = (0..20).map(|_| line(&mut connect(port))).collect();
    let count = |name: &str| names.iter().filter(|n| *n == name).count();
    assert_eq!([count("seven"), count("three"), count("none")], [14, 6, 0]);
}

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

#[test]
fn an_endpoint_that_refuses_gives_way_to_another() {
    let port = free_port();
    let (good, bad) = (echo("good"), nobody());
    let gateway = tcp_with(port, &[(good, 1)], |model| {
        let both = upstream(&[bad, good]);
        model.upstreams.insert(good.to_string(), both);
    });
    for _ in 0..4 {
        assert_eq!(line(&mut connect(port)), "good");
    }
    let retries = "diolkos_upstream_retries_total{reason=\"connect\"}";
    assert!(gateway.metric(retries) >= 1.0);
    assert_eq!(
        gateway.metric("diolkos_errors_total{code=\"upstream_connect_error\"}"),
        0.0
    );
}

#[test]
fn without_a_backend_the_client_is_closed() {
    let ports = [free_port(), free_port(), free_port()];
    let gateway = Gateway::start(|model, _| {
        model.routes.clear();
        for (port, name) in ports.iter().zip(["refused", "unresolved", "unrouted"]) {
            add_listener(model, name, ListenerProtocol::Tcp, *port, "*");
        }
        add_route(model, "refused", "*", &[(nobody(), 1)]);
        add_route(model, "unresolved", "*", &[(nobody(), 1)]);
        let unresolved = model.routes.values_mut();
        for route in unresolved.filter(|r| r.origin.name == "unresolved") {
            let gone = Backend::new(Target::Unresolved("Service/d/gone:1".into()));
            route.rules[0].action = Action::Forward(vec![gone]);
        }
    });
    for (port, code) in ports.iter().zip([
        "upstream_connect_error",
        "invalid_backend",
        "route_not_found",
    ]) {
        assert!(is_closed(connect(*port)));
        gateway.metric_becomes(&format!("diolkos_errors_total{{code=\"{code}\"}}"), 1.0);
    }
}

#[test]
fn a_connection_on_which_nothing_moves_is_closed() {
    let port = free_port();
    let gateway = tcp_with(port, &[(echo("one"), 1)], |model| {
        every_rule(model, |rule| rule.timeouts.stream_idle_ms = 300);
    });
    let mut client = connect(port);
    assert_eq!(line(&mut client), "one");
    assert_eq!(rest(client), "");
    gateway.metric_becomes("diolkos_streams_cut_total{reason=\"idle\"}", 1.0);
}

#[test]
fn a_reset_by_one_side_reaches_the_other() {
    let port = free_port();
    let backend = origin(|mut stream| {
        stream.write_all(b"x\n")?;
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))
    });
    let gateway = tcp(port, &[(backend, 1)]);
    let mut client = connect(port);
    assert_eq!(line(&mut client), "x");
    client.write_all(b"!").unwrap();
    let error = client.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    gateway.metric_becomes("diolkos_streams_cut_total{reason=\"upstream\"}", 1.0);
}

#[test]
fn a_connection_outlives_its_listener_by_the_drain_and_no_more() {
    let port = free_port();
    let backend = echo("one");
    let mut gateway = tcp(port, &[(backend, 1)]);
    let mut client = connect(port);
    assert_eq!(line(&mut client), "one");
    let removed = Instant::now();
    gateway.put(|model, _| model.routes.clear()).unwrap();
    client.write_all(b"still\n").unwrap();
    assert_eq!(line(&mut client), "still");
    assert!(is_closed(client));
    assert!(removed.elapsed() >= Duration::from_millis(900));
    gateway.metric_becomes("diolkos_streams_cut_total{reason=\"drain\"}", 1.0);
}

#[test]
fn an_upstream_with_tls_is_spoken_to_in_tls_without_a_word_of_http() {
    let port = free_port();
    let authority = Authority::new();
    let backend = tls_echo("one", &authority.sign(&["db.test"]));
    let _gateway = tcp_with(port, &[(backend, 1)], |model| {
        let upstream = model.upstreams.get_mut(&backend.to_string()).unwrap();
        upstream.tls = Some(UpstreamTls {
            sni: Some("db.test".into()),
            authorities: Some(authority.0.pem()),
            ..UpstreamTls::default()
        });
    });
    let mut client = connect(port);
    // A server that speaks MQTT alone refuses clients that offer HTTP.
    assert_eq!(line(&mut client), "db.test one");
    client.write_all(b"ping").unwrap();
    assert_eq!(rest(client), "ping");
}

// ------------------------------------------------------------------------------------------------ datagrams

/// Answers each datagram with its name before it.
fn udp_echo(name: &'static str) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut room = [0; 65_536];
        while let Ok((n, client)) = socket.recv_from(&mut room) {
            let answer = [name.as_bytes(), b" ", &room[..n]].concat();
            let _ = socket.send_to(&answer, client);
        }
    });
    address
}

fn udp(port: u16, to: &[(SocketAddr, u32)], edit: impl FnOnce(&mut Model)) -> Gateway {
    Gateway::start(|model, _| {
        model.routes.clear();
        add_listener(model, "udp", ListenerProtocol::Udp, port, "*");
        // The same number for connections is another port.
        add_listener(model, "tcp", ListenerProtocol::Tcp, port, "*");
        add_route(model, "udp", "*", to);
        edit(model);
    })
}

fn client_of_datagrams(port: u16) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(("127.0.0.1", port)).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    socket
}

fn ask_by_datagram(client: &UdpSocket, text: &str) -> Option<String> {
    client.send(text.as_bytes()).unwrap();
    let mut room = [0; 65_536];
    let n = client.recv(&mut room).ok()?;
    Some(String::from_utf8_lossy(&room[..n]).into_owned())
}

#[test]
fn the_datagrams_of_a_client_go_to_one_endpoint_and_answers_come_back() {
    let port = free_port();
    let gateway = udp(port, &[(udp_echo("a"), 1), (udp_echo("b"), 1)], |_| {});
    let clients = [client_of_datagrams(port), client_of_datagrams(port)];
    let first = clients.each_ref().map(|c| ask_by_datagram(c, "1").unwrap());
    assert_ne!(first[0], first[1]);
    for text in ["2", "", &"x".repeat(9000)] {
        for (client, first) in clients.iter().zip(&first) {
            let answer = ask_by_datagram(client, text).unwrap();
            assert_eq!(answer, format!("{} {text}", &first[..1]));
        }
    }
    gateway.metric_becomes("diolkos_table_entries{table=\"udp_sessions\"}", 2.0);
}

#[test]
fn further_clients_than_there_is_room_for_are_dropped_until_others_are_quiet() {
    let port = free_port();
    let gateway = udp(port, &[(udp_echo("a"), 1)], |model| {
        every_rule(model, |rule| rule.timeouts.stream_idle_ms = 1500);
    });
    let served = [client_of_datagrams(port), client_of_datagrams(port)];
    for client in &served {
        assert_eq!(ask_by_datagram(client, "x").as_deref(), Some("a x"));
    }
    let late = client_of_datagrams(port);
    assert_eq!(ask_by_datagram(&late, "x"), None);
    gateway.metric_becomes("diolkos_table_evictions_total{table=\"udp_sessions\"}", 1.0);
    assert_eq!(ask_by_datagram(&served[0], "y").as_deref(), Some("a y"));
    gateway.metric_becomes("diolkos_table_entries{table=\"udp_sessions\"}", 0.0);
    assert_eq!(ask_by_datagram(&late, "z").as_deref(), Some("a z"));
}

#[test]
fn a_listeners_cap_of_connections_is_one_of_its_datagrams_clients_too() {
    let port = free_port();
    let gateway = udp(port, &[(udp_echo("a"), 1)], |model| {
        for listener in model.listeners.values_mut() {
            listener.caps.connections = 1;
        }
    });
    let served = client_of_datagrams(port);
    assert_eq!(ask_by_datagram(&served, "x").as_deref(), Some("a x"));
    assert_eq!(ask_by_datagram(&client_of_datagrams(port), "x"), None);
    gateway.metric_becomes("diolkos_table_evictions_total{table=\"udp_sessions\"}", 1.0);
    assert_eq!(ask_by_datagram(&served, "y").as_deref(), Some("a y"));
}

#[test]
fn an_endpoint_without_a_port_costs_its_session() {
    let port = free_port();
    let gone = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let gateway = udp(port, &[(gone, 1), (udp_echo("a"), 1)], |_| {});
    let client = client_of_datagrams(port);
    let refused = "diolkos_errors_total{code=\"upstream_connect_error\"}";
    let mut answers = (0..3).map(|_| ask_by_datagram(&client, "x"));
    assert!(answers.any(|answer| answer.as_deref() == Some("a x")));
    gateway.metric_becomes(refused, 1.0);
}

#[test]
fn a_port_of_datagrams_closes_and_opens_again() {
    let port = free_port();
    let backend = udp_echo("a");
    let mut gateway = udp(port, &[(backend, 1)], |_| {});
    let client = client_of_datagrams(port);
    assert_eq!(ask_by_datagram(&client, "x").as_deref(), Some("a x"));
    gateway
        .put(|model, _| {
            model.routes.clear();
            add_listener(model, "tcp", ListenerProtocol::Tcp, port, "*");
        })
        .unwrap();
    gateway.metric_becomes("diolkos_table_entries{table=\"udp_sessions\"}", 0.0);
    assert_eq!(ask_by_datagram(&client, "x"), None);
    gateway
        .put(|model, _| {
            model.routes.clear();
            add_listener(model, "udp", ListenerProtocol::Udp, port, "*");
            add_route(model, "udp", "*", &[(backend, 1)]);
        })
        .unwrap();
    let deadline = Instant::now() + PATIENCE;
    while ask_by_datagram(&client, "y").as_deref() != Some("a y") {
        assert!(Instant::now() < deadline);
    }
}

//! What comes before HTTP on a connection: TLS with its certificates, and the PROXY protocol. Configured by the bytes of
//! a snapshot; the clients are rustls, `h2` and curl.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "front/ports.rs"]
mod ports;
#[path = "front/slow.rs"]
mod slow;
#[path = "front/streams.rs"]
mod streams;
mod support;

use diolkos_dataplane::engine::TlsFront;
use diolkos_dataplane::engine::open::Opening;
use diolkos_dataplane::engine::tls::{ServerCertificate, TlsPolicy, TlsSettings};
use diolkos_dataplane::push::Reply;
use diolkos_dataplane::tls::provider;
use model::*;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned,
};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::Deref;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use support::config::{through, upstream};
use support::plane::Plane;
use support::{Client, Origin, PATIENCE, Rig, Setup, noise};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

// ------------------------------------------------------------------------------------------------ gateway

struct Gateway {
    plane: Plane,
    origin: Origin,
    authority: Authority,
}

impl Gateway {
    fn start(edit: impl FnOnce(&mut Model, &Authority)) -> Self {
        let (origin, authority) = (Origin::start(), Authority::new());
        let model = configuration(&origin, &authority, edit);
        Self {
            plane: Plane::start(&model),
            origin,
            authority,
        }
    }

    fn put(&mut self, edit: impl FnOnce(&mut Model, &Authority)) -> Result<(), Reply> {
        let model = configuration(&self.origin, &self.authority, edit);
        self.plane.put(&model)
    }

    /// A handshake that asks for this host.
    async fn connect(
        &self,
        sni: Option<&str>,
        config: ClientConfig,
    ) -> std::io::Result<TlsStream<tokio::net::TcpStream>> {
        let name = match sni {
            Some(name) => ServerName::try_from(name.to_owned()).unwrap(),
            None => ServerName::from(self.address.ip()),
        };
        let tcp = tokio::net::TcpStream::connect(self.address).await?;
        TlsConnector::from(Arc::new(config))
            .connect(name, tcp)
            .await
    }

    /// A connection that outlives what is done to the gateway meanwhile.
    fn open(&self, sni: &str) -> Kept {
        self.open_with(sni, self.trusting())
    }

    fn open_with(&self, sni: &str, config: ClientConfig) -> Kept {
        let name = ServerName::try_from(sni.to_owned()).unwrap();
        let session = ClientConnection::new(Arc::new(config), name).unwrap();
        let tcp = TcpStream::connect(self.address).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        Kept {
            stream: StreamOwned::new(session, tcp),
            host: sni.to_owned(),
        }
    }

    fn trusting(&self) -> ClientConfig {
        self.authority.client(None)
    }

    fn run<T>(&self, test: impl AsyncFnOnce() -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            tokio::time::timeout(PATIENCE, test())
                .await
                .expect("in time")
        })
    }
}

impl Deref for Gateway {
    type Target = Plane;

    fn deref(&self) -> &Plane {
        &self.plane
    }
}

/// Everything goes to the origin, from a listener `d/gw/front` that `edit` adds.
fn configuration(
    origin: &Origin,
    authority: &Authority,
    edit: impl FnOnce(&mut Model, &Authority),
) -> Model {
    let mut model = through(&upstream(&[origin.address]));
    model.listeners.clear();
    let route = model.routes.get_mut("d/r").unwrap();
    route.listeners = vec!["d/gw/front".into()];
    edit(&mut model, authority);
    model
}

/// A connection of a client that blocks.
struct Kept {
    stream: StreamOwned<ClientConnection, TcpStream>,
    host: String,
}

impl Kept {
    /// The answer, up to the end of a body with a length.
    fn get(&mut self, path: &str) -> String {
        let text = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.host);
        self.stream.write_all(text.as_bytes()).unwrap();
        let mut answer = String::new();
        loop {
            let mut piece = [0; 1024];
            let n = self.stream.read(&mut piece).unwrap();
            assert!(n > 0, "closed after {answer}");
            answer.push_str(std::str::from_utf8(&piece[..n]).unwrap());
            let Some((head, body)) = answer.split_once("\r\n\r\n") else {
                continue;
            };
            let length = head
                .lines()
                .find_map(|l| l.strip_prefix("content-length: "));
            if body.len() >= length.unwrap().parse().unwrap() {
                return answer;
            }
        }
    }
}

fn listener(protocol: ListenerProtocol) -> Listener {
    Listener {
        drain_ms: 1000,
        protocol,
        ..Listener::new(ObjectRef::new("GatewayConfig", "d", "gw"), "front", 8443)
    }
}

/// An HTTPS listener with these certificates, the first of which is the default if there is to be one.
fn https(model: &mut Model, certificates: &[(&str, Certificate)], default: bool) {
    let keys = certificates.iter().map(|(key, _)| format!("d/{key}"));
    let keys: Vec<String> = keys.collect();
    let tls = ListenerTls {
        default_certificate: keys.first().filter(|_| default).cloned(),
        certificates: keys,
        ..ListenerTls::default()
    };
    let listener = Listener {
        tls: Some(tls),
        ..listener(ListenerProtocol::Https)
    };
    model.listeners.insert("d/gw/front".into(), listener);
    for (key, certificate) in certificates {
        model
            .certificates
            .insert(format!("d/{key}"), certificate.clone());
    }
}

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        provider();
        let mut params = CertificateParams::default();
        // Another name than those that it signs: OpenSSL calls them self-signed otherwise.
        params
            .distinguished_name
            .push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn sign(&self, names: &[&str]) -> Certificate {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let params = CertificateParams::new(names).unwrap();
        let chain = params.signed_by(&key, &self.0).unwrap().pem();
        Certificate {
            origin: ObjectRef::new("Secret", "d", "c"),
            chain,
            key: Secret::new(key.serialize_pem()),
        }
    }

    /// A client that trusts this authority and shows this certificate.
    fn client(&self, shown: Option<&Certificate>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        match shown {
            None => builder.with_no_client_auth(),
            Some(c) => {
                let chain = CertificateDer::pem_slice_iter(c.chain.as_bytes());
                let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
                let key = PrivateKeyDer::from_pem_slice(c.key.reveal()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        }
    }
}

fn alpn(mut config: ClientConfig, protocols: &[&str]) -> ClientConfig {
    config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
    config
}

async fn ask(stream: &mut TlsStream<tokio::net::TcpStream>, host: &str) -> std::io::Result<String> {
    ask_with(stream, host, "").await
}

/// With these header lines, each with its CR LF.
async fn ask_with(
    stream: &mut TlsStream<tokio::net::TcpStream>,
    host: &str,
    headers: &str,
) -> std::io::Result<String> {
    let text =
        format!("GET /local-path HTTP/1.1\r\nHost: {host}\r\n{headers}Connection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

fn alert(result: std::io::Result<impl Sized>) -> Option<AlertDescription> {
    let error = result.err().expect("an error");
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        other => panic!("{other}"),
    }
}

// ------------------------------------------------------------------------------------------------ TLS

#[test]
fn http1_and_http2_over_tls_by_alpn() {
    let gateway = Gateway::start(|model, ca| https(model, &[("a", ca.sign(&["a.test"]))], false));
    gateway.run(async || {
        for protocols in [&["http/1.1"][..], &[]] {
            let config = alpn(gateway.trusting(), protocols);
            let mut stream = gateway.connect(Some("a.test"), config).await.unwrap();
            let group = stream.get_ref().1.negotiated_key_exchange_group().unwrap();
            assert_eq!(group.name(), rustls::NamedGroup::X25519MLKEM768);
            let answer = ask(&mut stream, "a.test").await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            assert!(answer.ends_with("hello"));
        }
        let config = alpn(gateway.trusting(), &["h2", "http/1.1"]);
        let stream = gateway.connect(Some("a.test"), config).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (mut send, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = http::Request::get("https://a.test/").body(()).unwrap();
        let (answer, _) = send.send_request(request, true).unwrap();
        assert_eq!(answer.await.unwrap().status(), 200);
        drop(send);
        connection.await.unwrap().unwrap();
        // Nothing in common: no connection.
        let config = alpn(gateway.trusting(), &["spdy/3"]);
        let refused = gateway.connect(Some("a.test"), config).await;
        assert_eq!(
            alert(refused),
            Some(AlertDescription::NoApplicationProtocol)
        );
    });
    gateway.metric_becomes("diolkos_tls_handshake_seconds_count", 3.0);
    gateway.metric_becomes("diolkos_tls_failures_total{reason=\"protocol\"}", 1.0);
    gateway.metric_becomes("diolkos_connections_total{protocol=\"h1\"}", 2.0);
    gateway.metric_becomes("diolkos_connections_total{protocol=\"h2\"}", 1.0);
    gateway.metric_becomes("diolkos_connections{protocol=\"h2\"}", 0.0);
}

#[test]
fn large_bodies_and_many_requests_over_one_tls_connection() {
    let gateway = Gateway::start(|model, ca| https(model, &[("a", ca.sign(&["a.test"]))], false));
    gateway.run(async || {
        let config = gateway.trusting();
        let mut stream = gateway.connect(Some("a.test"), config).await.unwrap();
        let body = noise(3 << 20);
        for _ in 0..3 {
            let head = format!(
                "POST /echo HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            let (mut input, mut output) = tokio::io::split(&mut stream);
            let send = async {
                output.write_all(head.as_bytes()).await.unwrap();
                output.write_all(&body).await.unwrap();
                output.flush().await.unwrap();
            };
            let read = async {
                let mut all = Vec::new();
                let end = loop {
                    input.read_buf(&mut all).await.unwrap();
                    if let Some(at) = all.windows(4).position(|w| w == b"\r\n\r\n") {
                        break at + 4;
                    }
                };
                while all.len() < end + body.len() {
                    assert!(input.read_buf(&mut all).await.unwrap() > 0);
                }
                assert!(all[end..] == body);
            };
            tokio::join!(send, read);
        }
    });
    assert_eq!(
        gateway
            .origin
            .connections
            .load(std::sync::atomic::Ordering::SeqCst),
        1
    );
}

#[test]
fn the_certificate_fits_the_name_and_renewals_are_served_at_once() {
    let mut gateway = Gateway::start(|model, ca| {
        let certificates = [
            ("a", ca.sign(&["a.test"])),
            ("wild", ca.sign(&["*.wild.test"])),
        ];
        https(model, &certificates, false);
    });
    let shown = |gateway: &Gateway, name: &str| {
        gateway.run(async || {
            let stream = gateway.connect(Some(name), gateway.trusting()).await?;
            let leaf = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
            std::io::Result::Ok(leaf)
        })
    };
    let before = shown(&gateway, "a.test").unwrap();
    assert!(shown(&gateway, "x.wild.test").is_ok());
    for unknown in ["wild.test", "y.x.wild.test", "b.test"] {
        let refused = shown(&gateway, unknown);
        assert_eq!(
            alert(refused),
            Some(AlertDescription::UnrecognisedName),
            "{unknown}"
        );
    }
    gateway.metric_becomes("diolkos_tls_failures_total{reason=\"no_certificate\"}", 3.0);

    // A connection that is open across a renewal stays.
    let mut kept = gateway.open("a.test");
    assert!(kept.get("/").contains("hello"));
    let renewed = gateway.put(|model, ca| {
        https(
            model,
            &[("a", ca.sign(&["a.test"])), ("b", ca.sign(&["b.test"]))],
            true,
        );
    });
    renewed.unwrap();
    assert_ne!(shown(&gateway, "a.test").unwrap(), before);
    assert!(kept.get("/").contains("hello"));
    assert!(shown(&gateway, "b.test").is_ok());
    // Others get the default, which is not theirs.
    let error = shown(&gateway, "other.test").unwrap_err().to_string();
    assert!(error.contains("not valid for name"), "{error}");
}

#[test]
fn a_certificate_that_cannot_be_used_is_refused_by_its_name() {
    let mut gateway =
        Gateway::start(|model, ca| https(model, &[("a", ca.sign(&["a.test"]))], false));
    let reply = gateway.put(|model, ca| {
        let mut broken = ca.sign(&["b.test"]);
        broken.key = ca.sign(&["b.test"]).key;
        https(model, &[("a", ca.sign(&["a.test"])), ("b", broken)], false);
    });
    let Err(Reply::Nack(nack)) = reply else {
        panic!("{reply:?}");
    };
    assert_eq!(nack.rejected.len(), 1);
    assert_eq!(nack.rejected[0].key, "d/b");
    assert_eq!(
        nack.rejected[0].reason,
        "the private key does not belong to the certificate"
    );
    assert!(!format!("{nack:?}").contains("PRIVATE"));
    gateway.run(async || {
        assert!(
            gateway
                .connect(Some("a.test"), gateway.trusting())
                .await
                .is_ok()
        );
    });
}

#[test]
fn clients_are_asked_for_certificates() {
    let with = |required: bool| {
        Gateway::start(move |model, ca| {
            https(model, &[("a", ca.sign(&["a.test"]))], false);
            let listener = model.listeners.get_mut("d/gw/front").unwrap();
            listener.tls.as_mut().unwrap().client = Some(ClientValidation {
                authorities: ca.0.pem(),
                required,
                any: false,
            });
        })
    };
    let status = |gateway: &Gateway, config: ClientConfig| {
        gateway.run(async || {
            let mut stream = gateway.connect(Some("a.test"), config).await?;
            ask(&mut stream, "a.test").await
        })
    };
    for required in [true, false] {
        let gateway = with(required);
        let good = gateway.authority.sign(&["client.test"]);
        let stranger = Authority::new();
        let bad = stranger.sign(&["client.test"]);
        assert!(status(&gateway, gateway.authority.client(Some(&good))).is_ok());
        assert_eq!(status(&gateway, gateway.trusting()).is_ok(), !required);
        // An authority that nobody knows: this client trusts ours and shows theirs.
        assert!(status(&gateway, gateway.authority.client(Some(&bad))).is_err());
        let failed = if required { 2.0 } else { 1.0 };
        gateway.metric_becomes(
            "diolkos_tls_failures_total{reason=\"client_certificate\"}",
            failed,
        );
    }
}

#[test]
fn any_certificate_is_asked_for_and_let_in_and_counts_for_nothing() {
    let with = |any: bool| {
        move |model: &mut Model, ca: &Authority| {
            https(model, &[("a", ca.sign(&["a.test"]))], false);
            let listener = model.listeners.get_mut("d/gw/front").unwrap();
            listener.tls.as_mut().unwrap().client = Some(ClientValidation {
                authorities: if any { String::new() } else { ca.0.pem() },
                required: !any,
                any,
            });
        }
    };
    let mut gateway = Gateway::start(with(true));
    let stranger = Authority::new().sign(&["client.test"]);
    let shown = gateway.authority.client(Some(&stranger));
    for config in [gateway.trusting(), shown.clone()] {
        let asked = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let mut config = config;
        config.client_auth_cert_resolver = Arc::new(Watched {
            inner: Arc::clone(&config.client_auth_cert_resolver),
            asked: Arc::clone(&asked),
        });
        let answer = gateway.run(async || {
            let mut stream = gateway.connect(Some("a.test"), config).await?;
            ask(&mut stream, "a.test").await
        });
        assert!(answer.unwrap().starts_with("HTTP/1.1 200 "));
        assert!(asked.load(std::sync::atomic::Ordering::Relaxed));
    }
    let mut kept = gateway.open_with("a.test", shown);
    assert!(kept.get("/").starts_with("HTTP/1.1 200 "));
    // Where one is required that was verified, what was shown before is none.
    gateway.put(with(false)).unwrap();
    assert!(kept.get("/").starts_with("HTTP/1.1 421 "));
}

/// Tells whether a client was asked for a certificate.
#[derive(Debug)]
struct Watched {
    inner: Arc<dyn rustls::client::ResolvesClientCert>,
    asked: Arc<std::sync::atomic::AtomicBool>,
}

impl rustls::client::ResolvesClientCert for Watched {
    fn resolve(
        &self,
        hints: &[&[u8]],
        schemes: &[rustls::SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        self.asked.store(true, std::sync::atomic::Ordering::Relaxed);
        self.inner.resolve(hints, schemes)
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[test]
fn a_certificate_that_is_required_later_is_asked_for_again() {
    let with = |required: Option<bool>| {
        move |model: &mut Model, ca: &Authority| {
            https(model, &[("a", ca.sign(&["a.test"]))], false);
            let listener = model.listeners.get_mut("d/gw/front").unwrap();
            listener.tls.as_mut().unwrap().client = required.map(|required| ClientValidation {
                authorities: ca.0.pem(),
                required,
                any: false,
            });
        }
    };
    let mut gateway = Gateway::start(with(None));
    let config = gateway.trusting();
    let mut kept = gateway.open_with("a.test", config.clone());
    assert!(kept.get("/").starts_with("HTTP/1.1 200 "));
    gateway.put(with(Some(true))).unwrap();
    // The connection stays, but is not one for these requests.
    assert!(kept.get("/").starts_with("HTTP/1.1 421 "));
    // Nor is its session of use: what it would resume was opened without a certificate.
    let refused = gateway.run(async || {
        let mut stream = gateway.connect(Some("a.test"), config).await?;
        ask(&mut stream, "a.test").await
    });
    let refused = alert(refused);
    assert_eq!(refused, Some(AlertDescription::CertificateRequired));
    // A session that was opened with one is resumed with what was shown then.
    let good = gateway.authority.sign(&["client.test"]);
    let config = gateway.authority.client(Some(&good));
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let config = config.clone();
        gateway.run(async || {
            let mut stream = gateway.connect(Some("a.test"), config).await.unwrap();
            let answer = ask(&mut stream, "a.test").await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            assert_eq!(stream.get_ref().1.handshake_kind(), Some(kind));
        });
    }
}

#[test]
fn a_request_for_a_host_with_another_certificate_is_misdirected() {
    let gateway = Gateway::start(|model, ca| {
        let certificates = [
            ("ab", ca.sign(&["a.test", "b.test"])),
            ("c", ca.sign(&["c.test"])),
        ];
        https(model, &certificates, false);
    });
    // Whoever shares connections must see the status, also where it is a call over gRPC.
    let grpc = "Content-Type: application/grpc\r\n";
    for (host, headers, status) in [
        ("a.test", "", 200),
        ("A.test.:443", "", 200),
        ("b.test", "", 200),
        ("c.test", "", 421),
        ("d.test", "", 421),
        ("c.test", grpc, 421),
    ] {
        let answer = gateway.run(async || {
            let mut stream = gateway
                .connect(Some("a.test"), gateway.trusting())
                .await
                .unwrap();
            ask_with(&mut stream, host, headers).await.unwrap()
        });
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{host}: {answer}"
        );
        if status == 421 {
            assert!(answer.ends_with("{\"error\":\"misdirected_request\"}"));
        }
    }
}

#[test]
fn a_handshake_has_a_deadline() {
    let gateway = Gateway::start(|model, ca| {
        https(model, &[("a", ca.sign(&["a.test"]))], false);
        model
            .listeners
            .get_mut("d/gw/front")
            .unwrap()
            .request_header_ms = 300;
    });
    let mut stream = TcpStream::connect(gateway.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&[22, 3, 1]).unwrap();
    assert_eq!(stream.read(&mut [0; 16]).unwrap_or(0), 0);
    gateway.metric_becomes("diolkos_tls_failures_total{reason=\"timeout\"}", 1.0);
    // Plain text is not TLS.
    let mut stream = TcpStream::connect(gateway.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .unwrap();
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    assert!(!said.starts_with(b"HTTP"));
    gateway.metric_becomes("diolkos_tls_failures_total{reason=\"protocol\"}", 1.0);
}

#[test]
fn tls_versions_and_resumption() {
    let gateway = Gateway::start(|model, ca| https(model, &[("a", ca.sign(&["a.test"]))], false));
    gateway.run(async || {
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let mut roots = RootCertStore::empty();
            roots.add(gateway.authority.0.der().clone()).unwrap();
            let config = ClientConfig::builder_with_provider(provider())
                .with_protocol_versions(&[version])
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
            let mut first = gateway
                .connect(Some("a.test"), config.clone())
                .await
                .unwrap();
            ask(&mut first, "a.test").await.unwrap();
            let second = gateway.connect(Some("a.test"), config).await.unwrap();
            let kind = second.get_ref().1.handshake_kind();
            assert_eq!(kind, Some(HandshakeKind::Resumed), "{version:?}");
        }
    });
}

#[test]
fn handshakes_that_stall_make_room_for_others() {
    let authority = Authority::new();
    let certificate = authority.sign(&["a.test"]);
    let (chain, key) = (certificate.chain.as_bytes(), certificate.key.reveal());
    let certificate = ServerCertificate::parse(chain, key, &provider()).unwrap();
    let policy = TlsPolicy::new(&TlsSettings::default(), &provider()).unwrap();
    let rig = Rig::with(Setup {
        opening: Opening {
            proxy_protocol: None,
            is_stream: false,
            tls: Some(TlsFront::new(&policy, [&certificate].into_iter(), None).into()),
        },
        openings: 2,
        ..Setup::default()
    });
    let stalled = [(), (), ()].map(|()| Client::connect(rig.address));
    let mut name = stalled.into_iter();
    // The first has had to go for the third.
    assert!(name.next().unwrap().rest().is_empty());
    // One in earnest gets through, at the cost of another.
    let server = ServerName::try_from("a.test").unwrap();
    let config = Arc::new(authority.client(None));
    let tcp = TcpStream::connect(rig.address).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    let session = ClientConnection::new(config, server).unwrap();
    let mut kept = Kept {
        stream: StreamOwned::new(session, tcp),
        host: "a.test".to_owned(),
    };
    assert!(kept.get("/").contains("hello"));
    assert!(name.next().unwrap().rest().is_empty());
    // What is open is no longer being opened, and stays.
    let _more = [(), (), ()].map(|()| Client::connect(rig.address));
    assert!(name.next().unwrap().rest().is_empty());
    assert!(kept.get("/").contains("hello"));
}

/// curl with HTTP/2, or the reason why there is none.
fn curl(arguments: &[&str]) -> Option<String> {
    let version = Command::new("curl").arg("--version").output().ok()?;
    if !String::from_utf8_lossy(&version.stdout).contains("HTTP2") {
        eprintln!("not run: curl without HTTP/2");
        return None;
    }
    let out = Command::new("curl")
        .args(["-sS", "--max-time", "20"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    Some(String::from_utf8(out.stdout).unwrap())
}

#[test]
fn curl_speaks_http2_with_and_without_tls() {
    let gateway = Gateway::start(|model, ca| https(model, &[("a", ca.sign(&["a.test"]))], false));
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, gateway.authority.0.pem()).unwrap();
    let port = gateway.address.port();
    let url = format!("https://a.test:{port}/echo");
    let resolve = format!("a.test:{port}:127.0.0.1");
    let common = [
        "--cacert",
        ca.to_str().unwrap(),
        "--resolve",
        &resolve,
        "-w",
        " %{http_version}",
    ];
    let of = |more: &[&str]| curl(&[&common[..], more, &[&url]].concat());
    if let Some(text) = of(&["--http2", "--data", "abc"]) {
        assert_eq!(text, "abc 2");
        assert_eq!(of(&["--http1.1", "--data", "abc"]).unwrap(), "abc 1.1");
        assert_eq!(of(&["--http1.0", "--data", "abc"]).unwrap(), "abc 1.1");
        assert_eq!(of(&["--tls-max", "1.2", "--data", "abc"]).unwrap(), "abc 2");
    }
    let plain = Gateway::start(|model, _| {
        let listener = listener(ListenerProtocol::Http);
        model.listeners.insert("d/gw/front".into(), listener);
    });
    let url = format!("http://{}/echo", plain.address);
    let text = curl(&[
        "--http2-prior-knowledge",
        "--data",
        "abc",
        "-w",
        " %{http_version}",
        &url,
    ]);
    assert!(text.is_none_or(|text| text == "abc 2"));
}

// ------------------------------------------------------------------------------------------------ PROXY protocol

#[test]
fn the_proxy_protocol_names_the_client() {
    let gateway = Gateway::start(|model, ca| {
        https(model, &[("a", ca.sign(&["a.test"]))], false);
        let listener = model.listeners.get_mut("d/gw/front").unwrap();
        listener.proxy_protocol = true;
        listener.forwarded.xff = ForwardedFor::Set;
        listener.request_header_ms = 300;
    });
    let request = |header: &[u8]| {
        gateway.run(async || {
            let mut tcp = tokio::net::TcpStream::connect(gateway.address)
                .await
                .unwrap();
            tcp.write_all(header).await.unwrap();
            let name = ServerName::try_from("a.test").unwrap();
            let connector = TlsConnector::from(Arc::new(gateway.trusting()));
            let mut stream = connector.connect(name, tcp).await?;
            ask(&mut stream, "a.test").await
        })
    };
    let v2 = [
        &b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..],
        &[192, 0, 2, 9, 10, 0, 0, 1, 0x30, 0x39, 1, 187],
    ]
    .concat();
    for (header, client) in [
        (
            &b"PROXY TCP4 192.0.2.7 10.0.0.1 12345 443\r\n"[..],
            "192.0.2.7",
        ),
        (&v2, "192.0.2.9"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
    ] {
        assert!(request(header).unwrap().starts_with("HTTP/1.1 200 "));
        let told = gateway.origin.last().headers;
        assert_eq!(told["x-forwarded-for"], client);
    }
    assert!(request(b"").is_err());
    assert!(request(b"PROXY TCP4 192.0.2.7\r\n").is_err());
    gateway.metric_becomes(
        "diolkos_connections_refused_total{reason=\"proxy_protocol\"}",
        2.0,
    );
    // None comes: closed at the deadline.
    let mut silent = Client::connect(gateway.address);
    assert!(silent.rest().is_empty());
    gateway.metric_becomes(
        "diolkos_connections_refused_total{reason=\"proxy_protocol\"}",
        3.0,
    );
    let stop = gateway.data.stop(Duration::ZERO, Some(Duration::ZERO));
    gateway.runtime.block_on(stop);
}

#[test]
fn a_client_has_so_many_connections_and_no_more() {
    let gateway = Gateway::start(|model, _| {
        let mut listener = listener(ListenerProtocol::Http);
        listener.proxy_protocol = true;
        model.listeners.insert("d/gw/front".into(), listener);
    });
    let open = |client: &str| {
        let mut stream = Client::connect(gateway.address);
        stream.send(format!("PROXY TCP4 {client} 10.0.0.1 1 80\r\n"));
        stream.send("GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n");
        let answer = stream.answer("GET").unwrap();
        (stream, answer)
    };
    let mut kept = Vec::new();
    for _ in 0..3 {
        let (stream, answer) = open("203.0.113.9");
        assert_eq!(answer.status, 200);
        kept.push(stream);
    }
    gateway.metric_becomes("diolkos_table_entries{table=\"sources\"}", 1.0);
    let (_stream, answer) = open("203.0.113.9");
    assert_eq!(
        (answer.status, &answer.body[..]),
        (503, &br#"{"error":"overloaded"}"#[..])
    );
    let refused = "diolkos_connections_refused_total{reason=\"source_cap\"}";
    gateway.metric_becomes(refused, 1.0);
    assert_eq!(open("203.0.113.10").1.status, 200, "another client");
    let inside: Vec<_> = (0..5).map(|_| open("10.1.2.3")).collect();
    assert!(inside.iter().all(|(_, answer)| answer.status == 200));
    drop(kept);
    gateway.metric_becomes("diolkos_table_entries{table=\"sources\"}", 0.0);
    assert_eq!(open("203.0.113.9").1.status, 200);
}

#[test]
fn the_proxy_protocol_is_believed_from_trusted_networks_alone() {
    let with = |network: &str| {
        let network = network.parse().unwrap();
        Gateway::start(move |model, _| {
            let mut listener = listener(ListenerProtocol::Http);
            listener.proxy_protocol = true;
            listener.forwarded.trusted = vec![network];
            listener.forwarded.xff = ForwardedFor::Append;
            model.listeners.insert("d/gw/front".into(), listener);
        })
    };
    let ask = |gateway: &Gateway| {
        let mut client = TcpStream::connect(gateway.address).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = String::new();
        // Broken off where the other side has closed at once.
        let _ = client
            .write_all(
                b"PROXY TCP4 192.0.2.7 10.0.0.1 12345 443\r\n\
                  GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 203.0.113.1\r\nConnection: close\r\n\r\n",
            )
            .and_then(|()| client.read_to_string(&mut answer).map(drop));
        answer
    };
    let gateway = with("127.0.0.0/8");
    assert!(ask(&gateway).starts_with("HTTP/1.1 200 "));
    // The balancer is trusted, not the client that it names.
    assert_eq!(
        gateway.origin.last().headers["x-forwarded-for"],
        "192.0.2.7"
    );
    let gateway = with("192.0.2.0/24");
    assert_eq!(ask(&gateway), "");
    gateway.metric_becomes(
        "diolkos_connections_refused_total{reason=\"proxy_protocol\"}",
        1.0,
    );
}

//! A real API server's requests, over real TLS, to the real translator.

use super::*;
use crate::groups::{Group, Groups};
use crate::health::Board;
use crate::metrics::Metrics;
use crate::publish::Publisher;
use crate::status::Queue;
use crate::tls;
use crate::watch::task::WorldTask;
use crate::watch::{EVENTS, Event};
use crate::world::ObjectKind;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;

struct Running {
    events: mpsc::Sender<Event>,
    address: SocketAddr,
    roots: RootCertStore,
    _dir: TempDir,
    _stop: tokio_util::sync::DropGuard,
}

fn write_certificate(files: &Files) -> CertificateDer<'static> {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    std::fs::write(&files.certificate, certificate.pem()).unwrap();
    std::fs::write(&files.key, key.serialize_pem()).unwrap();
    certificate.der().clone()
}

fn files(dir: &TempDir) -> Files {
    Files {
        certificate: dir.path().join("tls.crt"),
        key: dir.path().join("tls.key"),
        callers: None,
    }
}

async fn start(callers: bool) -> Running {
    tls::provider();
    let metrics = Arc::new(Metrics::new().unwrap());
    let groups = Groups::new("test/shared", |_| {
        let metrics = Metrics::new().unwrap();
        let board = Board::new(
            metrics.health_reports,
            metrics.health_reports_omitted,
            |_| {},
        );
        Group::new(Publisher::new("test"), board, CancellationToken::new())
    });
    let task = WorldTask {
        groups,
        gateways: watch::Sender::default(),
        queue: Arc::new(Queue::new(metrics.status_queue.clone())),
        objected: crate::events::objections::queue(),
        changes: crate::events::changes::queue().0,
        published: crate::translate::Published::default(),
        makes_data_planes: true,
        written: Arc::default(),
        metrics,
        wishes: Arc::default(),
        pods: watch::channel(false).0,
        sync_timeout: Duration::from_secs(60),
        removal_grace: Duration::ZERO,
        scope: crate::world::Scope::default(),
        can_roll_back: false,
        can_recall: false,
        stand_ins: watch::Sender::default(),
        recheck: Duration::ZERO,
    };
    let (events, received) = mpsc::channel(EVENTS);
    let (world, _) = task.start(received).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut files = files(&dir);
    let certificate = write_certificate(&files);
    if callers {
        files.callers = Some(files.certificate.clone());
    }
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    Webhook::new(world, files)
        .start(listener, &Parts::new().0, stop.clone())
        .unwrap();
    Running {
        events,
        address,
        roots,
        _dir: dir,
        _stop: stop.drop_guard(),
    }
}

impl Running {
    /// Status and body of the answer.
    async fn ask(&self, body: &[u8]) -> io::Result<(u16, String)> {
        let settings = ClientConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = TlsConnector::from(Arc::new(settings))
            .connect(name, stream)
            .await?;
        let head = format!(
            "POST /validate?timeout=5s HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        // A body that is too large is answered before its end.
        let _ = stream.write_all(body).await;
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let Some((head, body)) = answer.split_once("\r\n\r\n") else {
            return Err(read
                .err()
                .unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into()));
        };
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Ok((status, body.to_owned()))
    }

    async fn review(&self, object: Value) -> (u16, Value) {
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {"uid": "u-1", "operation": "CREATE", "namespace": "a", "name": "x", "object": object}});
        let (status, body) = self.ask(review.to_string().as_bytes()).await.unwrap();
        (status, serde_json::from_str(&body).unwrap_or_default())
    }

    async fn list(&self) {
        for kind in ObjectKind::ALL {
            let (kind, ids) = (*kind, BTreeSet::new());
            self.events
                .send(Event::Listed {
                    of: kind.into(),
                    ids,
                })
                .await
                .unwrap();
        }
    }
}

fn route(path_type: &str) -> Value {
    json!({"apiVersion": "diolkos.io/v1alpha1", "kind": "Route", "metadata": {"namespace": "a", "name": "x"},
        "spec": {"hostnames": ["a.test"], "rules": [{
            "matches": [{"path": {"type": path_type, "value": "/("}}], "directResponse": {"status": 200}}]}})
}

#[tokio::test]
async fn objects_are_judged_once_the_world_is_known() {
    let running = start(false).await;
    assert_eq!(running.review(route("PathPrefix")).await.0, 503);
    running.list().await;
    let known = async {
        while running.review(route("PathPrefix")).await.0 == 503 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(60), known).await.unwrap();
    let (status, good) = running.review(route("PathPrefix")).await;
    assert_eq!(
        (status, &good["response"]["allowed"]),
        (200, &json!(true)),
        "{good}"
    );
    let (status, bad) = running.review(route("RegularExpression")).await;
    assert_eq!(
        (status, &bad["response"]["allowed"]),
        (200, &json!(false)),
        "{bad}"
    );
    let message = bad["response"]["status"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("Route a/x spec.rules[0].matches[0].path"),
        "{message}"
    );
    assert_eq!(bad["response"]["uid"], "u-1");
}

#[tokio::test]
async fn requests_are_bounded_and_must_be_reviews() {
    let running = start(false).await;
    assert_eq!(running.ask(b"{}").await.unwrap().0, 400);
    let large = vec![b' '; BODY_BYTES + 1];
    assert_eq!(running.ask(&large).await.unwrap().0, 413);
}

#[tokio::test]
async fn connections_are_bounded_and_give_their_places_back() {
    let running = start(false).await;
    // They say nothing, and hold a place each.
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS {
        silent.push(TcpStream::connect(running.address).await.unwrap());
    }
    let refused = running.ask(b"{}").await;
    assert!(refused.is_err(), "{refused:?}");
    drop(silent);
    let heard = async {
        while running.ask(b"{}").await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(60), heard).await.unwrap();
    for _ in 0..CONNECTIONS {
        assert_eq!(running.ask(b"{}").await.unwrap().0, 400);
    }
}

#[tokio::test]
async fn who_has_no_certificate_is_not_heard_where_one_is_asked_for() {
    let running = start(true).await;
    let refused = running.ask(b"{}").await;
    assert!(refused.is_err(), "{refused:?}");
}

#[test]
fn a_renewed_certificate_is_shown_and_a_broken_one_is_not() {
    tls::provider();
    let dir = tempfile::tempdir().unwrap();
    let files = files(&dir);
    write_certificate(&files);
    let mut certificates = Reloading::load(files.clone()).unwrap();
    let first = certificates.settings();
    certificates.look_now();
    assert!(
        Arc::ptr_eq(&first, &certificates.settings()),
        "it is the same"
    );
    write_certificate(&files);
    certificates.look_now();
    let second = certificates.settings();
    assert!(!Arc::ptr_eq(&first, &second));
    std::fs::write(&files.certificate, "none").unwrap();
    certificates.look_now();
    assert!(Arc::ptr_eq(&second, &certificates.settings()));
    let error = Reloading::load(files).err().unwrap().to_string();
    assert!(
        error.ends_with("tls.crt: holds no certificates as PEM"),
        "{error}"
    );
}

//! A controller's end and a data plane's end of the push channel, with all that is between them.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use dataplane::push::{self, Apply, PushConfig, Reply};
use diolkos_controller::ca::authority::{Authority, Data};
use diolkos_controller::ca::keeper::server_config;
use diolkos_controller::groups::{Group, Groups};
use diolkos_controller::health::{self, Board};
use diolkos_controller::metrics::Metrics;
use diolkos_controller::publish::{DataPlane, Publisher, ResourceId};
use diolkos_controller::serve::{Security, serve};
use diolkos_controller::tls;
use model::{EndpointSource, ObjectRef, StaticEndpoint, Upstream};
use parking_lot::Mutex;
use snapshot::pb::{Ack, Chunk, ListenerState, Nack, Rejection, Resync};
use snapshot::{ApplyError, Change, Digest, Kind, Replica};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub(crate) const GROUP: &str = "diolkos-system/diolkos-dataplane";
/// Far longer than anything takes: a test that waits for this has failed.
const FOREVER: Duration = Duration::from_secs(60);

/// The key of a test's Upstream.
pub(crate) fn key(name: &str) -> ResourceId {
    (Kind::Upstream, format!("Upstream/a/{name}"))
}

/// A test's Upstream; another port is another version.
fn upstream(name: &str, port: u16) -> Upstream {
    let endpoint = StaticEndpoint {
        host: "10.0.0.1".into(),
        port,
        weight: 1,
        zone: None,
    };
    Upstream::new(
        ObjectRef::new("Upstream", "a", name),
        EndpointSource::Static(vec![endpoint]),
    )
}

/// A change of one Upstream.
pub(crate) fn change(name: &str, port: u16) -> (ResourceId, Option<Bytes>) {
    (
        key(name),
        Some(snapshot::encode(&upstream(name, port)).unwrap().into()),
    )
}

/// A controller's end.
pub(crate) struct Controller {
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) metrics: Arc<Metrics>,
    /// What data planes agree on about endpoints.
    pub(crate) changes: mpsc::UnboundedReceiver<health::Change>,
    pub(crate) address: SocketAddr,
    stop: CancellationToken,
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Controller {
    pub(crate) async fn start(authority: &Authority) -> Self {
        Self::start_at(authority, "127.0.0.1:0".parse().unwrap()).await
    }

    pub(crate) async fn start_at(authority: &Authority, address: SocketAddr) -> Self {
        tls::provider();
        let leaf = authority
            .server(&["localhost".to_owned()], SystemTime::now())
            .unwrap();
        let settings = Arc::new(server_config(authority, &leaf).unwrap());
        let settings = Arc::new(move || Some(Arc::clone(&settings)));
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let publisher = Publisher::new("test");
        let metrics = Arc::new(Metrics::new().unwrap());
        let stop = CancellationToken::new();
        let (changed, changes) = mpsc::unbounded_channel();
        let health = Board::new(
            metrics.health_reports.clone(),
            metrics.health_reports_omitted.clone(),
            move |all| {
                // The test may be over.
                all.iter().for_each(|c| drop(changed.send(c.clone())));
            },
        );
        tokio::spawn(Arc::clone(&health).run(stop.clone()));
        let security = Security::Mutual { settings };
        let group = Group::new(Arc::clone(&publisher), health, stop.child_token());
        let groups = Groups::new(GROUP, move |_| group.clone());
        let serving = tokio::spawn(serve(
            listener,
            security,
            groups,
            Arc::clone(&metrics),
            stop.clone(),
        ));
        Self {
            publisher,
            metrics,
            changes,
            address,
            stop,
            serving,
        }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// Stops in good order.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        timeout(FOREVER, self.serving)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }

    /// Waits until something is true of the connected data planes.
    pub(crate) async fn until(&self, what: impl Fn(&[DataPlane]) -> bool) -> Vec<DataPlane> {
        let mut progress = self.publisher.progress();
        let wait = async {
            loop {
                let planes = self.publisher.data_planes();
                if what(&planes) {
                    return planes;
                }
                progress.changed().await.unwrap();
            }
        };
        timeout(FOREVER, wait)
            .await
            .expect("the data planes come to the expected state")
    }

    /// Waits until one data plane has everything.
    pub(crate) async fn until_current(&self) -> DataPlane {
        let current = self.publisher.cursor();
        let mut planes = self
            .until(|planes| matches!(planes, [p] if p.acknowledged.is_some() && p.digest == current.digest))
            .await;
        planes.remove(0)
    }
}

/// Certificates as a Pod has them mounted.
pub(crate) fn mounted(data: &Data) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in data {
        std::fs::write(folder.path().join(name), &content.0).unwrap();
    }
    folder
}

/// A transaction that a data plane has put into effect.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Applied {
    pub(crate) full: bool,
    pub(crate) upserts: usize,
    pub(crate) removes: usize,
}

/// A data plane's end: it keeps a replica and says what it applies.
#[derive(Clone)]
pub(crate) struct Plane(Arc<Mutex<State>>);

struct State {
    replica: Replica,
    refuses: Option<Change<Upstream>>,
    said: mpsc::UnboundedSender<Applied>,
    upserts: usize,
    removes: usize,
}

impl Plane {
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Applied>) {
        let (said, applied) = mpsc::unbounded_channel();
        let replica = Replica::default();
        (
            Self(Arc::new(Mutex::new(State {
                replica,
                refuses: None,
                said,
                upserts: 0,
                removes: 0,
            }))),
            applied,
        )
    }

    /// From now on this version of an Upstream cannot be compiled.
    pub(crate) fn refuse(&self, name: &str, port: u16) {
        let (key, item) = (key(name).1, Some(upstream(name, port)));
        self.0.lock().refuses = Some(Change { key, item });
    }

    /// Loses everything, as if its memory were damaged.
    pub(crate) fn forget(&self) {
        self.0.lock().replica = Replica::default();
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().replica.len()
    }

    /// Follows a controller until the handle is aborted.
    pub(crate) fn follow(
        &self,
        endpoint: String,
        certificates: &Path,
        draining: &CancellationToken,
    ) -> JoinHandle<()> {
        let config = PushConfig {
            endpoint,
            tls_dir: Some(certificates.to_owned()),
            node_id: "plane-0".into(),
        };
        let (plane, draining) = (self.clone(), draining.clone());
        tokio::spawn(async move { push::run(config, plane, draining).await.unwrap() })
    }
}

impl Apply for Plane {
    fn have_digest(&self) -> Digest {
        self.0.lock().replica.digest()
    }

    fn receive(&mut self, chunk: Chunk) -> Reply {
        let mut state = self.0.lock();
        let transaction = chunk.transaction;
        if chunk.sequence == 0 {
            (state.upserts, state.removes) = (0, 0);
        }
        state.upserts += chunk.upsert.len();
        state.removes += chunk.remove.len();
        let staged = match state.replica.receive(chunk) {
            Ok(None) => return Reply::More,
            Ok(Some(staged)) => staged,
            Err(ApplyError::Resync(why)) => return Reply::Resync(Resync { why }),
            Err(error @ ApplyError::Rejected { .. }) => panic!("{error}"),
        };
        let refuses = state.refuses.as_ref();
        let refused = staged
            .changes
            .upstreams
            .iter()
            .find(|c| Some(*c) == refuses);
        if let Some(refused) = refused {
            let rejected = vec![Rejection {
                kind: Kind::Upstream as u32,
                key: refused.key.clone(),
                reason: "does not compile".into(),
            }];
            return Reply::Nack(Nack {
                transaction,
                rejected,
                message: "one Upstream".into(),
            });
        }
        let full = staged.changes.full;
        let applied = state.replica.commit(staged);
        let (upserts, removes) = (state.upserts, state.removes);
        state
            .said
            .send(Applied {
                full,
                upserts,
                removes,
            })
            .ok();
        Reply::Ack(Ack {
            transaction,
            digest: applied.digest.to_bytes().to_vec(),
            listeners: Vec::new(),
        })
    }

    fn listeners(&self) -> Vec<ListenerState> {
        Vec::new()
    }

    fn note_contact(&mut self) {}
}

/// The next transaction that a data plane applies.
pub(crate) async fn next(applied: &mut mpsc::UnboundedReceiver<Applied>) -> Applied {
    timeout(FOREVER, applied.recv())
        .await
        .expect("a transaction comes")
        .unwrap()
}

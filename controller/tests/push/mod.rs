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
use diolkos_controller::leader::{Elector, Leadership};
use diolkos_controller::metrics::Metrics;
use diolkos_controller::objects::{ApiError, Objects};
use diolkos_controller::publish::{DataPlane, Publisher, ResourceId};
use diolkos_controller::replicas::{Follower, Meeting};
use diolkos_controller::report::Programmed;
use diolkos_controller::serve::{Security, serve};
use diolkos_controller::tls;
use k8s_openapi::api::coordination::v1::Lease;
use model::{EndpointSource, ObjectRef, StaticEndpoint, Upstream};
use parking_lot::Mutex;
use snapshot::pb::{Ack, Chunk, ListenerState, Nack, Rejection, Resync};
use snapshot::{
    ApplyError, CAPABILITIES, Capability, Change, Digest, Inventory, Kind, PATCHES, Replica,
};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub(crate) const GROUP: &str = "diolkos-system/diolkos-dataplane";
/// Far longer than anything takes: a test that waits for this has failed.
const FOREVER: Duration = Duration::from_secs(60);

/// The key of a test's Upstream.
pub(crate) fn key(name: &str) -> ResourceId {
    (Kind::Upstream, format!("Upstream/a/{name}").into())
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
    pub(crate) groups: Arc<Groups>,
    pub(crate) leadership: Leadership,
    /// Whether a watch of it is.
    pub(crate) interrupted: watch::Sender<bool>,
    stop: CancellationToken,
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Controller {
    pub(crate) async fn start(authority: &Authority) -> Self {
        Self::start_at(authority, "127.0.0.1:0".parse().unwrap()).await
    }

    pub(crate) async fn start_at(authority: &Authority, address: SocketAddr) -> Self {
        let leases = Leases::default();
        let alone = Self::replica_at(authority, address, "alone", &leases, CAPABILITIES).await;
        alone.leads().await;
        alone.groups.withhold(false);
        alone
    }

    /// One of a build whose resources may need these.
    pub(crate) async fn knowing(
        authority: &Authority,
        capabilities: &'static [Capability],
    ) -> Self {
        let address = "127.0.0.1:0".parse().unwrap();
        let leases = Leases::default();
        let alone = Self::replica_at(authority, address, "alone", &leases, capabilities).await;
        alone.leads().await;
        alone.groups.withhold(false);
        alone
    }

    /// One of several, which share a Lease.
    pub(crate) async fn replica(authority: &Authority, name: &str, leases: &Leases) -> Self {
        let address = "127.0.0.1:0".parse().unwrap();
        Self::replica_at(authority, address, name, leases, CAPABILITIES).await
    }

    async fn replica_at(
        authority: &Authority,
        address: SocketAddr,
        name: &str,
        leases: &Leases,
        capabilities: &'static [Capability],
    ) -> Self {
        tls::provider();
        let leaf = authority
            .server(&["localhost".to_owned()], SystemTime::now())
            .unwrap();
        let settings = Arc::new(server_config(authority, &leaf).unwrap());
        let settings = Arc::new(move || Some(Arc::clone(&settings)));
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = Arc::new(Metrics::new().unwrap());
        let stop = CancellationToken::new();
        let (changed, changes) = mpsc::unbounded_channel();
        let health = Board::of_replica(
            name,
            metrics.health_reports.clone(),
            metrics.health_reports_omitted.clone(),
            move |all| {
                // The test may be over.
                all.iter().for_each(|c| drop(changed.send(c.clone())));
            },
        );
        tokio::spawn(Arc::clone(&health).run(stop.clone()));
        let security = Security::Mutual {
            settings,
            tokens: None,
        };
        let (server_id, end) = (name.to_owned(), stop.child_token());
        let groups = Groups::new(GROUP, move |progress| {
            let publisher = Publisher::knowing(capabilities, server_id.clone(), progress);
            Group::new(publisher, Arc::clone(&health), end.clone())
        });
        let publisher = Arc::clone(&groups.shared().publisher);
        let (elector, leadership) = Elector::new(leases.clone(), name, |_| {});
        let elector = elector.at(Some(address.to_string()));
        tokio::spawn(elector.run(stop.clone()));
        let certificates = Arc::new(authority.replica_data(SystemTime::now()).unwrap());
        let follower = Follower {
            replica: name.to_owned(),
            groups: Arc::clone(&groups),
            leadership: leadership.clone(),
            world: None,
            certificates: Some(Box::new(move || Some(Arc::clone(&certificates)))),
            server_name: "localhost".to_owned(),
        };
        groups.withhold(true);
        tokio::spawn(follower.run(stop.clone()));
        let followers = metrics.followers.clone();
        let meeting = Meeting::new(name, &groups, &leadership, None, followers, &stop);
        let interrupted = watch::Sender::new(false);
        let serving = tokio::spawn(serve(
            listener,
            security,
            Arc::clone(&groups),
            Arc::clone(&metrics),
            interrupted.subscribe(),
            Some(meeting),
            stop.clone(),
        ));
        Self {
            publisher,
            metrics,
            changes,
            address,
            groups,
            leadership,
            interrupted,
            stop,
            serving,
        }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// Waits until it leads.
    pub(crate) async fn leads(&self) {
        let mut leadership = self.leadership.clone();
        let wait = async {
            while !leadership.holds() {
                leadership.changed().await;
            }
        };
        timeout(FOREVER, wait).await.expect("it leads");
    }

    /// Waits until so many data planes are known that are connected to other replicas.
    pub(crate) async fn elsewhere(&self, count: usize) {
        let mut progress = self.publisher.progress();
        let wait = async {
            while self.publisher.elsewhere().len() != count {
                progress.changed().await.unwrap();
            }
        };
        let found = timeout(FOREVER, wait).await;
        found.expect("the data planes of other replicas are known");
    }

    /// Waits until an Upstream has come so far, by what this replica knows of all.
    pub(crate) async fn programmed(&self, name: &str, expected: &Programmed) {
        let mut progress = self.publisher.progress();
        let id = key(name);
        let wait = async {
            while self.publisher.programmed([&id]) != *expected {
                progress.changed().await.unwrap();
            }
        };
        let found = timeout(FOREVER, wait).await;
        let is = self.publisher.programmed([&id]);
        found.unwrap_or_else(|_| panic!("{name} is {is:?}, not {expected:?}"));
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

/// The Lease of some replicas, as an API server keeps it.
#[derive(Clone, Default)]
pub(crate) struct Leases(Arc<Mutex<(u64, Option<Lease>)>>);

impl Leases {
    fn write(&self, lease: &Lease, must_be: Option<&str>) -> Result<Lease, ApiError> {
        let mut state = self.0.lock();
        let version = state
            .1
            .as_ref()
            .map(|l| l.metadata.resource_version.clone());
        if version.flatten().as_deref() != must_be {
            return Err(ApiError::Conflict);
        }
        state.0 += 1;
        let mut written = lease.clone();
        written.metadata.resource_version = Some(state.0.to_string());
        state.1 = Some(written.clone());
        Ok(written)
    }
}

impl Objects<Lease> for Leases {
    async fn get(&self, _: &str) -> Result<Option<Lease>, ApiError> {
        Ok(self.0.lock().1.clone())
    }

    async fn create(&self, lease: &Lease) -> Result<Lease, ApiError> {
        self.write(lease, None)
    }

    async fn replace(&self, _: &str, lease: &Lease) -> Result<Lease, ApiError> {
        self.write(lease, lease.metadata.resource_version.as_deref())
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
    name: String,
    capabilities: &'static [Capability],
    replica: Replica,
    refuses: Option<Change<Upstream>>,
    said: mpsc::UnboundedSender<Applied>,
    upserts: usize,
    removes: usize,
}

impl Plane {
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Applied>) {
        Self::named("plane-0")
    }

    /// One of several.
    pub(crate) fn named(name: &str) -> (Self, mpsc::UnboundedReceiver<Applied>) {
        Self::knowing(name, CAPABILITIES)
    }

    /// One of a build that has these.
    pub(crate) fn knowing(
        name: &str,
        capabilities: &'static [Capability],
    ) -> (Self, mpsc::UnboundedReceiver<Applied>) {
        let (said, applied) = mpsc::unbounded_channel();
        let replica = Replica::knowing(capabilities);
        (
            Self(Arc::new(Mutex::new(State {
                name: name.to_owned(),
                capabilities,
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
        self.0.lock().refuses = Some(Change {
            key: key.to_string(),
            item,
        });
    }

    /// Loses everything, as if its memory were damaged.
    pub(crate) fn forget(&self) {
        self.0.lock().replica = Replica::default();
    }

    pub(crate) fn digest(&self) -> Digest {
        self.0.lock().replica.digest()
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
            token_file: None,
            node_id: self.0.lock().name.clone(),
        };
        let (plane, draining) = (self.clone(), draining.clone());
        tokio::spawn(async move { push::run(config, plane, draining).await.unwrap() })
    }
}

impl Apply for Plane {
    fn inventory(&self) -> Inventory {
        self.0.lock().replica.inventory()
    }

    fn capabilities(&self) -> Vec<String> {
        let known = self.0.lock().capabilities.iter().map(|c| c.name);
        let all = [PATCHES].into_iter().chain(known);
        all.map(str::to_owned).collect()
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

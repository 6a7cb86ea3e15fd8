//! A follower's stream to the leader.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use snapshot::pb;
use snapshot::pb::replica_message::Message;
use snapshot::pb::snapshot_service_client::SnapshotServiceClient;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use super::{KEEP_ALIVE, MESSAGES, Tell, hear, part};
use crate::ca::authority::Data;
use crate::groups::Groups;
use crate::leader::{Leader, Leadership};
use crate::outage::Outage;
use crate::publish::ReplicaStream;
use crate::watch::handle::WorldHandle;
use crate::world::Object;

/// Until the connection stands, and until the leader has answered.
const CONNECT: Duration = Duration::from_secs(3);
/// Pauses between attempts grow from here,
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// to here; each is random below its bound.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A replica that has just started waits so long for what the leader says, before it tells data planes anything: what
/// they refuse it does not know itself.
const PATIENCE: Duration = Duration::from_secs(3);

/// Certificates that the leader is called with, as long as there are any.
type Certificates = Box<dyn Fn() -> Option<Arc<Data>> + Send + Sync>;

/// Keeps a stream to the leader while another replica leads.
pub struct Follower {
    /// This replica's name, which differs after each start.
    pub replica: String,
    pub groups: Arc<Groups>,
    pub leadership: Leadership,
    /// Takes over which versions serve in place of others; `None`: nobody does, in tests.
    pub world: Option<WorldHandle>,
    /// `None`: without TLS, for tests.
    pub certificates: Option<Certificates>,
    /// Name in the certificates of all replicas.
    pub server_name: String,
}

/// Why a stream ended or did not come about.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("there are no certificates yet")]
    NoCertificates,
    #[error("cannot connect: {0}")]
    Connect(#[from] tonic::transport::Error),
    #[error("{}", .0.message())]
    Refused(Box<Status>),
    #[error("the leader does not answer")]
    Silent,
    #[error("the leader has ended the stream")]
    Closed,
    #[error("the leader broke the protocol: {0}")]
    Protocol(&'static str),
}

impl From<Status> for Ended {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

impl Follower {
    /// Follows whoever leads, until `stop`. What is withheld from data planes goes to them once the leader has said what
    /// they refuse, or nobody has for a while.
    pub async fn run(mut self, stop: CancellationToken) {
        let groups = Arc::clone(&self.groups);
        let patience = async {
            let mut progress = groups.progress();
            while !groups.is_published() {
                // Nothing ticks for the first publication.
                let _ = timeout(FIRST_PAUSE, progress.changed()).await;
            }
            sleep(PATIENCE).await;
            groups.withhold(false);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            // The end comes first: data planes that leave because this replica stops are not said to be gone.
            biased;
            () = stop.cancelled() => {}
            () = self.follow() => {}
            () = patience => {}
        }
    }

    async fn follow(&mut self) {
        let mut bound = FIRST_PAUSE;
        let mut leadership = self.leadership.clone();
        let mut outage = Outage::default();
        loop {
            if self.leadership.holds() {
                self.groups.withhold(false);
            }
            let leader = self.leadership.leader();
            let Some(leader) = leader else {
                bound = FIRST_PAUSE;
                tokio::select! {
                    () = leadership.leader_changed() => {}
                    () = self.leadership.changed() => {}
                }
                continue;
            };
            let mut met = None;
            let ended = tokio::select! {
                ended = self.meet(&leader, &mut met) => Some(match ended {
                    Err(ended) => ended,
                    Ok(never) => match never {},
                }),
                () = leadership.leader_changed() => None,
            };
            if let Some(met) = met {
                part(&self.groups, met);
                bound = FIRST_PAUSE;
                outage = Outage::default();
            }
            let Some(ended) = ended else {
                bound = FIRST_PAUSE;
                continue;
            };
            let pause = bound.mul_f64(rand::random());
            if let Some(lasting) = outage.fails() {
                tracing::info!(leader = leader.identity, error = %ended, ?lasting, "no stream to the leader");
            }
            tokio::select! {
                () = sleep(pause) => {}
                () = leadership.leader_changed() => {}
            }
            bound = LONGEST_PAUSE.min(bound * 2);
        }
    }

    /// One stream to a leader; `met` is what it speaks on once it has said who it is.
    async fn meet(
        &self,
        leader: &Leader,
        met: &mut Option<ReplicaStream>,
    ) -> Result<Infallible, Ended> {
        let channel = timeout(CONNECT, self.endpoint(&leader.address)?.connect()).await;
        let channel = channel.map_err(|_| Ended::Silent)??;
        let (out, messages) = mpsc::channel(MESSAGES);
        let tell = Tell::new(&self.groups, None, None);
        let mut tell = pin!(tell.run(&self.replica, &out, |message| message));
        let mut client = SnapshotServiceClient::new(channel);
        tokio::select! {
            ended = self.hear_all(&mut client, messages, met) => ended,
            _ = &mut tell => Err(Ended::Closed),
        }
    }

    async fn hear_all(
        &self,
        client: &mut SnapshotServiceClient<Channel>,
        messages: mpsc::Receiver<pb::ReplicaMessage>,
        met: &mut Option<ReplicaStream>,
    ) -> Result<Infallible, Ended> {
        let answer = timeout(CONNECT, client.meet(ReceiverStream::new(messages))).await;
        let mut inbound = answer.map_err(|_| Ended::Silent)??.into_inner();
        loop {
            let message = match met {
                // There may be nothing to say for a long time; pings find out whether the leader is still there.
                Some(_) => inbound.message().await?,
                None => timeout(CONNECT, inbound.message())
                    .await
                    .map_err(|_| Ended::Silent)??,
            };
            let message = message.ok_or(Ended::Closed)?.message;
            match (message, &*met) {
                (Some(Message::Hello(hello)), None) => {
                    tracing::info!(leader = hello.replica, "following the leader");
                    *met = Some(ReplicaStream::of(hello));
                }
                (Some(Message::Group(state)), Some(leader)) => {
                    hear(&self.groups, leader, state, true);
                }
                (Some(Message::StandIns(told)), Some(_)) => {
                    let manifests = told.manifest.iter();
                    let objects = manifests.filter_map(|text| {
                        let manifest = serde_json::from_str(text).ok()?;
                        Object::from_json(&manifest).ok().flatten()
                    });
                    if let Some(world) = &self.world {
                        world.recall(objects.collect()).await;
                    }
                }
                (Some(Message::AllSaid(_)), Some(_)) => self.groups.withhold(false),
                _ => return Err(Ended::Protocol("a message out of order")),
            }
        }
    }

    fn endpoint(&self, address: &str) -> Result<Endpoint, Ended> {
        let scheme = match &self.certificates {
            Some(_) => "https",
            None => "http",
        };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))?
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true);
        if let Some(certificates) = &self.certificates {
            let data = certificates().ok_or(Ended::NoCertificates)?;
            let pem = |name: &str| data.get(name).map_or(&[][..], |bytes| &bytes.0);
            let tls = ClientTlsConfig::new()
                .domain_name(&self.server_name)
                .ca_certificate(Certificate::from_pem(pem("ca.crt")))
                .identity(Identity::from_pem(pem("tls.crt"), pem("tls.key")))
                .timeout(CONNECT);
            endpoint = endpoint.tls_config(tls)?;
        }
        Ok(endpoint)
    }
}

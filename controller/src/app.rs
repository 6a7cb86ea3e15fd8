//! The controller as a whole, from the first connection to the last.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::admin::Admin;
use crate::ca::keeper::{self, Keeper};
use crate::config::Config;
use crate::events::changes::{self, Chronicler};
use crate::events::objections::{self, Objector};
use crate::events::{self, Announcer};
use crate::groups::{Group, Groups};
use crate::health::{Board, Change};
use crate::history::store::Store;
use crate::infrastructure::{Operator, Settings};
use crate::leader::Elector;
use crate::metrics::Metrics;
use crate::panics::{self, Parts};
use crate::publish::Publisher;
use crate::replicas::{Follower, Meeting};
use crate::serve::{Security, serve};
use crate::stand_ins;
use crate::status::{HealthNews, Queue, StatusWriter, Written};
use crate::tls;
use crate::tokens::Tokens;
use crate::watch::EVENTS;
use crate::watch::kind::Watches;
use crate::watch::reader::{Reader, Wishes};
use crate::watch::standing::Standing;
use crate::watch::task::WorldTask;
use crate::webhook::{CertificateError, Webhook};

/// Streams and requests under way have this long at the stop.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// A quiet watch says nothing until the API server ends it, after 290 s.
const SILENCE: Duration = Duration::from_secs(300);

/// Why the controller cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error("no cluster: {0}")]
    Cluster(String),
    #[error("cannot listen on {address}: {error}")]
    Listen {
        address: SocketAddr,
        error: io::Error,
    },
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    #[error("the push channel failed: {0}")]
    Push(#[from] tonic::transport::Error),
    #[error("the webhook's certificate: {0}")]
    Webhook(#[from] CertificateError),
    #[error("the thread that translates has ended")]
    World,
    #[error("a task has ended: {0}")]
    Task(String),
    #[error("part {0} has panicked")]
    Panic(&'static str),
}

/// Runs until `stop`, then ends in good order: readiness goes first, then what the leader has to write, then the Lease,
/// then the streams.
///
/// # Errors
/// [`AppError`]: it cannot start, or a part that it cannot do without has ended.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), AppError> {
    tls::provider();
    let client = client().await?;
    let metrics = Arc::new(Metrics::new()?);
    panics::tell(Arc::clone(&metrics));
    let (parts, mut fallen) = Parts::new();
    let grpc = listen(config.grpc).await?;
    let admin = listen(config.admin).await?;
    let server_id = format!("{}_{:08x}", config.identity, rand::random::<u32>());
    let stopping = Arc::new(AtomicBool::new(false));
    let end_of_writes = CancellationToken::new();
    let end_of_lease = CancellationToken::new();
    let end = CancellationToken::new();
    // Whatever way this function is left, nothing of it goes on.
    let _end = end.clone().drop_guard();
    let (changed, changes) = events::queue();
    let news = Arc::new(HealthNews::default());
    let told = (changed, Arc::clone(&news));
    let groups = groups(&config, &server_id, &metrics, told, &parts, &end);

    // What the cluster says becomes the world, and the world what is published.
    let scope = config.scope();
    let (events, received) = mpsc::channel(EVENTS);
    let written = Arc::new(Written::default());
    let queue = Arc::new(Queue::new(metrics.status_queue.clone()));
    let objected = objections::queue();
    let (config_changed, config_changes) = changes::queue();
    let wishes = Arc::new(Wishes::default());
    let (pods, asked) = watch::channel(false);
    let (gateways, gateways_changed) = watch::channel(0);
    let (stand_in, stand_ins_changed) = watch::channel(None);
    let task = WorldTask {
        pods,
        gateways,
        groups: Arc::clone(&groups),
        queue: Arc::clone(&queue),
        objected: Arc::clone(&objected),
        changes: config_changed,
        published: config.published(),
        makes_data_planes: config.makes_data_planes(),
        written: Arc::clone(&written),
        metrics: Arc::clone(&metrics),
        wishes: Arc::clone(&wishes),
        sync_timeout: config.sync_timeout,
        removal_grace: config.removal_grace,
        scope: scope.clone(),
        can_roll_back: true,
        can_recall: true,
        stand_ins: stand_in,
        recheck: config.recheck,
    };
    let (world, world_end) = task.start(received).map_err(AppError::Thread)?;
    let reader = Reader {
        source: client.clone(),
        wishes,
        events: events.clone(),
    };
    tokio::spawn(parts.part("values", reader.run()));
    let rollbacks = Store::new(client.clone(), &config.namespace);
    let follow = rollbacks
        .clone()
        .follow(events.clone(), config.sync_timeout);
    tokio::spawn(parts.part("rollback", follow));
    let own_secrets: Api<Secret> = Api::namespaced(client.clone(), &config.namespace);
    let recall = stand_ins::recall(own_secrets.clone(), events.clone(), config.sync_timeout);
    let standing = Arc::new(Standing::new(Arc::clone(&metrics)));
    Watches {
        client: client.clone(),
        events,
        written: Arc::clone(&written),
        metrics: Arc::clone(&metrics),
        scope: scope.clone(),
        standing: Arc::clone(&standing),
        pods: asked,
    }
    .start(&parts);

    if let Some((address, files)) = config.webhook_files() {
        let listener = listen(address).await?;
        Webhook::new(world.clone(), files).start(listener, &parts, end.clone())?;
    }

    // One replica leads: it writes statuses and certificates.
    let leases: Api<Lease> = Api::namespaced(client.clone(), &config.namespace);
    let counted = Arc::clone(&metrics);
    let (elector, leadership) = Elector::new(leases, &config.identity, move |leads| {
        counted.leader.set(i64::from(leads));
        counted.leader_transitions.inc();
    });
    let address = config
        .replica_ip
        .map(|ip| SocketAddr::new(ip, config.grpc.port()));
    let elector = elector.at(address.map(|a| a.to_string()));
    let elector = elector.run(end_of_lease.clone());
    let elector = tokio::spawn(parts.part("lease", elector));
    let news = news.run(world.clone(), Arc::clone(&queue), end_of_writes.clone());
    tokio::spawn(parts.part("news of endpoints", news));
    let writer = StatusWriter {
        client: client.clone(),
        world: world.clone(),
        queue,
        written,
        metrics: Arc::clone(&metrics),
        leadership: leadership.clone(),
        progress: groups.progress(),
    };
    // They end before the Lease is released.
    let mut writers = Vec::new();
    let mut write = |name: &'static str, work: BoxFuture<'static, ()>| {
        writers.push((name, tokio::spawn(parts.part(name, work))));
    };
    write("status", writer.run(end_of_writes.clone()).boxed());

    // So that no Event is written twice, it tells of endpoints, too.
    let announcer = Announcer {
        client: client.clone(),
        world: world.clone(),
        identity: config.identity.clone(),
        leadership: leadership.clone(),
        changes,
        dropped: metrics.events_dropped.clone(),
    };
    write("events", announcer.run(end_of_writes.clone()).boxed());
    let objector = Objector {
        client: client.clone(),
        world: world.clone(),
        identity: config.identity.clone(),
        leadership: leadership.clone(),
        queue: objected,
        progress: groups.progress(),
        dropped: metrics.events_dropped.clone(),
    };
    let name = "events of objects";
    write(name, objector.run(end_of_writes.clone()).boxed());
    let chronicler = Chronicler {
        client: client.clone(),
        world: world.clone(),
        identity: config.identity.clone(),
        leadership: leadership.clone(),
        changes: config_changes,
        dropped: metrics.events_dropped.clone(),
    };
    let name = "events of changes";
    write(name, chronicler.run(end_of_writes.clone()).boxed());

    let stand_ins = stand_ins::Keeper {
        secrets: own_secrets.clone(),
        world: world.clone(),
        leadership: leadership.clone(),
        changed: stand_ins_changed,
        kept: metrics.stand_ins.clone(),
        dropped: metrics.stand_ins_dropped.clone(),
    };
    let writing = end_of_writes.clone();
    let stand_ins = async move {
        // What is there is never replaced before it has been read.
        if writing.run_until_cancelled(recall).await.is_some() {
            stand_ins.run(writing).await;
        }
    };
    write("stand-ins", stand_ins.boxed());

    // Every replica serves data planes.
    let meeting = Meeting::new(
        &server_id,
        &groups,
        &leadership,
        Some(world.clone()),
        metrics.followers.clone(),
        &end_of_lease,
    );
    let mut follower = Follower {
        replica: server_id,
        groups: Arc::clone(&groups),
        leadership: leadership.clone(),
        world: Some(world.clone()),
        certificates: None,
        server_name: String::new(),
    };
    let security = if config.insecure_plaintext {
        tracing::warn!("the push channel is neither encrypted nor authenticated");
        Security::Plaintext
    } else {
        let keeper = Keeper::new(own_secrets.clone(), &config.namespace);
        if config.makes_data_planes() {
            let operator = Operator {
                client: client.clone(),
                world: world.clone(),
                keeper: Arc::clone(&keeper),
                leadership: leadership.clone(),
                changed: gateways_changed,
                scope,
                settings: Settings {
                    namespace: config.namespace.clone(),
                    image: config.dataplane_image.clone(),
                    replicas: config.dataplane_replicas,
                    cpu_request: config.dataplane_cpu_request.clone(),
                },
            };
            let operator = operator.run(end_of_writes.clone());
            write("infrastructure", operator.boxed());
        }
        let keeping = Arc::clone(&keeper).run(leadership, end_of_writes.clone());
        write("certificates", keeping.boxed());
        let calling = Arc::clone(&keeper);
        follower.certificates = Some(Box::new(move || calling.replica_data()));
        follower.server_name = keeper.server_name();
        let tokens = Tokens::new(
            client.clone(),
            metrics.tokens.clone(),
            metrics.tokens_evicted.clone(),
        );
        Security::Mutual {
            settings: Arc::new(move || keeper.server_config()),
            tokens: Some(tokens),
        }
    };
    // One that cannot be found does not look for others either.
    if address.is_some() {
        groups.withhold(true);
        tokio::spawn(parts.part("following the leader", follower.run(end.clone())));
    }
    let mut push = tokio::spawn(serve(
        grpc,
        security,
        Arc::clone(&groups),
        Arc::clone(&metrics),
        standing.interrupted(),
        address.is_some().then_some(meeting),
        end.clone(),
    ));
    let admin_port = Admin {
        world,
        groups,
        metrics,
        rollbacks,
        stopping: Arc::clone(&stopping),
    };
    let admin = admin_port.serve(admin, end.clone());
    let admin = tokio::spawn(parts.part("admin", async {
        if let Err(error) = admin.await {
            tracing::error!(%error, "the admin port has failed");
        }
    }));

    let failed = tokio::select! {
        () = stop.cancelled() => None,
        _ = world_end => Some(AppError::World),
        Some(part) = fallen.recv() => Some(AppError::Panic(part)),
        ended = &mut push => Some(match ended {
            Ok(Err(error)) => AppError::Push(error),
            other => AppError::Task(format!("{other:?}")),
        }),
    };

    if matches!(failed, Some(AppError::World)) {
        // It may have ended in the middle of something, which is for nobody. Other replicas have it whole.
        end.cancel();
    }
    // Statuses are flushed while the Lease is held, and nothing is written after it is released.
    tracing::info!("stopping");
    stopping.store(true, Ordering::Release);
    end_of_writes.cancel();
    let until = Instant::now() + LAST_WORDS;
    for (part, mut writer) in writers {
        finish(part, timeout_at(until, &mut writer).await);
        writer.abort();
    }
    end_of_lease.cancel();
    finish("lease", timeout(LAST_WORDS, elector).await);
    end.cancel();
    if failed.is_none() {
        finish("push", timeout(LAST_WORDS, push).await);
    }
    finish("admin", timeout(LAST_WORDS, admin).await);
    failed.map_or(Ok(()), Err)
}

/// Groups of data planes. Each has a board for what its data planes find out about endpoints, and a task that merges it.
fn groups(
    config: &Config,
    server_id: &str,
    metrics: &Arc<Metrics>,
    (changed, news): (mpsc::Sender<Change>, Arc<HealthNews>),
    parts: &Parts,
    end: &CancellationToken,
) -> Arc<Groups> {
    let (metrics, parts, end) = (Arc::clone(metrics), parts.clone(), end.clone());
    let server_id = server_id.to_owned();
    // Groups are made on the thread that translates, and must not run there.
    let runtime = Handle::current();
    Groups::new(&keeper::shared_group(&config.namespace), move |progress| {
        let (changed, dropped) = (changed.clone(), metrics.events_dropped.clone());
        let news = Arc::clone(&news);
        let health = Board::of_replica(
            &server_id,
            metrics.health_reports.clone(),
            metrics.health_reports_omitted.clone(),
            move |all| {
                news.note(all);
                let lost = all
                    .iter()
                    .filter(|c| changed.try_send((*c).clone()).is_err());
                dropped.inc_by(lost.count() as u64);
            },
        );
        let end = end.child_token();
        let judging = Arc::clone(&health).run(end.clone());
        runtime.spawn(parts.part("health", judging));
        let publisher = Publisher::counting(server_id.clone(), progress);
        Group::new(publisher, health, end)
    })
}

async fn client() -> Result<Client, AppError> {
    let config = kube::Config::infer()
        .await
        .map_err(|e| AppError::Cluster(e.to_string()))?;
    client_of(config, SILENCE)
}

/// A client that gives up a connection on which nothing has come for so long.
fn client_of(mut config: kube::Config, silence: Duration) -> Result<Client, AppError> {
    config.connect_timeout = Some(Duration::from_secs(5));
    config.read_timeout = Some(silence);
    // A connection of the pool that was idle meanwhile has its whole time for the next answer.
    config.reset_reader_on_write = true;
    Client::try_from(config).map_err(|e| AppError::Cluster(e.to_string()))
}

async fn listen(address: SocketAddr) -> Result<TcpListener, AppError> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| AppError::Listen { address, error })
}

/// Says when a part did not end as it should.
fn finish<T>(
    part: &str,
    ended: Result<Result<T, tokio::task::JoinError>, tokio::time::error::Elapsed>,
) {
    match ended {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::error!(part, %error, "a part has failed"),
        Err(_) => tracing::warn!(part, "a part did not end in time"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LOGGED;
    use crate::fake_log::FakeLog;
    use kube::api::WatchParams;

    /// That the API server is away is said by whoever needs it, and not with each request.
    #[tokio::test]
    async fn a_request_that_fails_is_not_logged_by_the_client() {
        tls::provider();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let url = format!("http://{address}").parse().unwrap();
        let client = client_of(kube::Config::new(url), SILENCE).unwrap();
        let secrets: Api<Secret> = Api::namespaced(client, "a");
        for (filter, is_logged) in [("warn", true), (LOGGED, false)] {
            let log = FakeLog::taking(filter);
            assert!(secrets.get("x").await.is_err());
            assert_eq!(!log.lines().is_empty(), is_logged, "{filter}");
        }
    }

    /// Nothing else bounds a watch that does not even begin.
    #[tokio::test]
    async fn an_api_server_that_does_not_answer_is_not_waited_for_for_ever() {
        tls::provider();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let silent = tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                open.push(stream);
            }
        });
        let url = format!("http://{address}").parse().unwrap();
        let client = client_of(kube::Config::new(url), Duration::from_millis(50)).unwrap();
        let secrets: Api<Secret> = Api::namespaced(client, "a");
        let parameters = WatchParams::default();
        let watch = secrets.watch(&parameters, "1");
        let watch = timeout(Duration::from_secs(30), watch).await;
        assert!(watch.expect("it gives up").is_err());
        silent.abort();
    }
}

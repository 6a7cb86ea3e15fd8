//! `diolkos run`: controller and data plane in one process. The configuration passes between them as the same
//! messages that a cluster sends over gRPC.

use anyhow::{Context, Result};
use controller::publish::{Publisher, Session};
use controller::report::Findings;
use controller::standalone::Standalone;
use dataplane::activation;
use dataplane::app::{Config, DataPlane};
use dataplane::handover::{self, Taken};
use dataplane::listeners::Binds;
use dataplane::push::{Apply, Health, Reply};
use dataplane::sync::Applier;
use dataplane::telemetry::logs::{self, LogFormat};
use snapshot::pb::{ClientMessage, Hello, client_message::Message};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Handle};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Directories or files of manifests
    #[arg(required = true)]
    dirs: Vec<PathBuf>,
    /// Address of the first HTTP listener, instead of its port on all addresses
    #[arg(long, value_name = "ADDR")]
    http: Option<SocketAddr>,
    /// Address of the first HTTPS listener, instead of its port on all addresses
    #[arg(long, value_name = "ADDR")]
    https: Option<SocketAddr>,
    /// Address of the admin port: health, metrics, status
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9090")]
    admin: SocketAddr,
    /// Zone in which this process runs, for Upstreams with `lb.zone: Prefer`
    #[arg(long, env = "DIOLKOS_ZONE")]
    zone: Option<String>,
    /// Worker threads [default: one for each core]
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    threads: usize,
    /// Client connections of one address in the public Internet (of IPv6: one /64), proxies of
    /// `forwarded.trustedCIDRs` apart; 0: any number
    #[arg(long, value_name = "N", default_value_t = model::limits::CONNECTIONS_PER_SOURCE)]
    connections_per_source: u32,
    /// Memory that this process may use, in bytes: where it comes near to it, it refuses requests and connections rather
    /// than to be killed. 0: any amount [default: the limit of its cgroup]
    #[arg(long, value_name = "BYTES", env = "DIOLKOS_MEMORY_LIMIT")]
    memory_limit: Option<u64>,
    /// Unix socket by which a later process takes over the listening sockets. Where one waits there already, this
    /// process takes over from it
    #[arg(long, value_name = "PATH")]
    handover: Option<PathBuf>,
    /// Keep accepting so many seconds after a signal to stop
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    settle: u64,
    /// Form of the process log on standard error
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,
}

pub(crate) fn run(args: Args) -> Result<ExitCode> {
    let passed = activation::passed().context("cannot take the sockets that were passed")?;
    logs::init(args.log_format);
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("control")
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let config = Config {
        threads: args.threads,
        binds: Binds {
            http: args.http,
            https: args.https,
        },
        zone: args.zone,
        per_source: args.connections_per_source,
        sessions: 0,
        memory_limit: args.memory_limit,
        name_servers: Vec::new(),
    };
    let publisher = Publisher::new("standalone".to_owned());
    let (plane, applier) =
        DataPlane::start(&config, runtime.handle()).context("cannot start the data plane")?;
    let mut taken = take(args.handover.as_deref())?;
    let handed = taken.as_mut().map(|t| std::mem::take(&mut t.sockets));
    plane
        .inherit(handed.unwrap_or_default(), passed, args.admin)
        .context("cannot take the sockets that were passed")?;
    let standalone = Arc::new(Standalone::start(args.dirs, Arc::clone(&publisher))?);
    let registry = applier.registry();
    let handle = runtime.handle().clone();
    let (running, stopped) = watch::channel(());
    let sync = std::thread::Builder::new()
        .name("sync".to_owned())
        .spawn(move || follow(&publisher, applier, &handle, stopped))
        .context("cannot start a thread")?;
    runtime.block_on(async {
        let statuses = Arc::new(move || {
            let findings = Findings::of([registry.opinions()]);
            serde_json::Value::Object(standalone.status(&findings))
        });
        plane
            .admin(args.admin, Some(statuses))
            .await
            .with_context(|| format!("cannot bind the admin port {}", args.admin))?;
        let succession = async {
            match &args.handover {
                Some(path) => plane.succession(path, taken).await,
                None => std::future::pending().await,
            }
        };
        stop(&plane, Duration::from_secs(args.settle), succession).await
    })?;
    // It uses the runtime, which ends here.
    drop(running);
    let _ = sync.join();
    Ok(ExitCode::SUCCESS)
}

/// The sockets of the process that waits at `path`.
fn take(path: Option<&Path>) -> Result<Option<Taken>> {
    let Some(path) = path else {
        return Ok(None);
    };
    handover::take(path).with_context(|| format!("cannot take over at {}", path.display()))
}

/// Waits for the first signal or for a successor, then until all exchanges are over or a further signal comes.
async fn stop(
    plane: &DataPlane,
    settle: Duration,
    succession: impl Future<Output = Result<()>>,
) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for signals")?;
    let mut next = async || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let settle = tokio::select! {
        () = next() => settle,
        handed = succession => {
            handed?;
            Duration::ZERO
        }
    };
    tracing::info!(
        event = "stopping",
        "finishing requests; a second signal ends at once"
    );
    tokio::select! {
        () = plane.stop(settle, None) => {}
        () = next() => plane.kill(),
    }
    Ok(())
}

/// The stream between controller and data plane, without a network, until the sender of `stopped` is gone.
fn follow(
    publisher: &Arc<Publisher>,
    mut applier: Applier,
    runtime: &Handle,
    mut stopped: watch::Receiver<()>,
) {
    let mut generations = publisher.subscribe();
    let mut session = Session::new(Arc::clone(publisher));
    let hello = Hello {
        node_id: "standalone".to_owned(),
        schema_min: snapshot::SCHEMA,
        schema_max: snapshot::SCHEMA,
        build: env!("CARGO_PKG_VERSION").to_owned(),
        have_digest: Vec::new(),
        shares_health: false,
        have_buckets: Vec::new(),
        capabilities: snapshot::offered(),
    };
    let say = |session: &mut Session, message: Message| {
        let message = ClientMessage {
            message: Some(message),
        };
        if let Err(error) = session.on_message(message) {
            tracing::error!(event = "stream", %error, "the configuration stream broke its rules");
        }
    };
    say(&mut session, Message::Hello(hello));
    loop {
        while let Some(chunks) = session.next_chunks() {
            for chunk in chunks {
                match applier.receive(chunk) {
                    Reply::More => continue,
                    Reply::Ack(ack) => say(&mut session, Message::Ack(ack)),
                    Reply::Nack(nack) => say(&mut session, Message::Nack(nack)),
                    Reply::Resync(resync) => say(&mut session, Message::Resync(resync)),
                }
                break;
            }
        }
        // The controller is in the same process: as long as this thread runs, it is there.
        applier.note_contact();
        let goes_on = async {
            tokio::select! {
                changed = tokio::time::timeout(Duration::from_secs(1), generations.changed()) => {
                    !matches!(changed, Ok(Err(_)))
                }
                _ = stopped.changed() => false,
            }
        };
        if !runtime.block_on(goes_on) {
            return;
        }
    }
}

//! `diolkos run`: controller and data plane in one process. The configuration passes between them as the same
//! messages that a cluster sends over gRPC.

use anyhow::{Context, Result};
use controller::publish::{Publisher, Session};
use controller::standalone::Standalone;
use dataplane::app::{Config, DataPlane};
use dataplane::listeners::Binds;
use dataplane::push::{Apply, Reply};
use dataplane::sync::Applier;
use dataplane::telemetry::logs::{self, LogFormat};
use snapshot::pb::{ClientMessage, Hello, client_message::Message};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Handle};
use tokio::signal::unix::{SignalKind, signal};

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
    /// Keep accepting so many seconds after a signal to stop
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    settle: u64,
    /// Form of the process log on standard error
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,
}

pub(crate) fn run(args: Args) -> Result<ExitCode> {
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
    };
    let publisher = Publisher::new("standalone".to_owned());
    let (plane, applier) =
        DataPlane::start(&config, runtime.handle()).context("cannot start the data plane")?;
    let standalone = Arc::new(Standalone::start(args.dirs, Arc::clone(&publisher))?);
    let handle = runtime.handle().clone();
    std::thread::Builder::new()
        .name("sync".to_owned())
        .spawn(move || follow(&publisher, applier, &handle))
        .context("cannot start a thread")?;
    runtime.block_on(async {
        let statuses = Arc::new(move || serde_json::Value::Object(standalone.status()));
        plane
            .admin(args.admin, Some(statuses))
            .await
            .with_context(|| format!("cannot bind the admin port {}", args.admin))?;
        stop(&plane, Duration::from_secs(args.settle)).await
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Waits for the first signal, then until all exchanges are over or a second signal comes.
async fn stop(plane: &DataPlane, settle: Duration) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for signals")?;
    let mut next = async || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    next().await;
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

/// The stream between controller and data plane, without a network.
fn follow(publisher: &Arc<Publisher>, mut applier: Applier, runtime: &Handle) {
    let mut generations = publisher.subscribe();
    let mut session = Session::new(Arc::clone(publisher));
    let hello = Hello {
        node_id: "standalone".to_owned(),
        schema_min: snapshot::SCHEMA,
        schema_max: snapshot::SCHEMA,
        build: env!("CARGO_PKG_VERSION").to_owned(),
        have_digest: Vec::new(),
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
        let change =
            async { tokio::time::timeout(Duration::from_secs(1), generations.changed()).await };
        if let Ok(Err(_)) = runtime.block_on(change) {
            return;
        }
    }
}

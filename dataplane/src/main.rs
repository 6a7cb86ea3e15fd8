//! `diolkos-dataplane`: serves what a controller pushes.

use anyhow::{Context, Result};
use clap::Parser;
use diolkos_dataplane::activation;
use diolkos_dataplane::app::{Config, DataPlane};
use diolkos_dataplane::handover;
use diolkos_dataplane::keep::Keep;
use diolkos_dataplane::listeners::Binds;
use diolkos_dataplane::probe;
use diolkos_dataplane::push::{self, PushConfig};
use diolkos_dataplane::telemetry::logs::{self, LogFormat};
use diolkos_dataplane::tls;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Gives memory of closed connections and of tables of the past back to the system.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Data plane of Diolkos.
#[derive(Parser)]
#[command(name = "diolkos-dataplane", version)]
struct Args {
    /// Address of the controllers, https://HOST:PORT
    #[arg(long, env = "DIOLKOS_CONTROLLER", required_unless_present = "probe")]
    controller: Option<String>,
    /// Directory with ca.crt, tls.crt and tls.key for the stream from the controller
    #[arg(long, env = "DIOLKOS_TLS_DIR")]
    tls_dir: Option<PathBuf>,
    /// File with the token of the Pod's service account that controllers ask for; read anew for each stream
    #[arg(long, env = "DIOLKOS_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Directory for the last-good copy of the configuration, private keys included: in memory, or with --state-key; none
    /// is kept without it
    #[arg(long, env = "DIOLKOS_STATE_DIR")]
    state_dir: Option<PathBuf>,
    /// File of 32 bytes that the last-good copy is encrypted with; it is made where there is none, and lies outside of
    /// --state-dir
    #[arg(long, env = "DIOLKOS_STATE_KEY", requires = "state_dir")]
    state_key: Option<PathBuf>,
    /// Address of the admin port: health and metrics
    #[arg(long, env = "DIOLKOS_ADMIN", default_value = "127.0.0.1:9090")]
    admin: SocketAddr,
    /// Zone in which this process runs, for Upstreams with `lb.zone: Prefer`
    #[arg(long, env = "DIOLKOS_ZONE")]
    zone: Option<String>,
    /// Name of this process in statuses and logs
    #[arg(long, env = "DIOLKOS_NODE_ID", default_value = "dataplane")]
    node_id: String,
    /// Address of the first HTTP listener, instead of its port on all addresses
    #[arg(long, value_name = "ADDR")]
    http: Option<SocketAddr>,
    /// Address of the first HTTPS listener, instead of its port on all addresses
    #[arg(long, value_name = "ADDR")]
    https: Option<SocketAddr>,
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
    /// Keep accepting so many seconds after a signal to stop, while readiness is off already
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    settle: u64,
    /// Finish requests for at most so many seconds after that [default: timeouts.drain of the GatewayConfig]
    #[arg(long, value_name = "SECONDS")]
    drain: Option<u64>,
    /// Form of the process log on standard error
    #[arg(long, value_enum, default_value_t = LogFormat::Json)]
    log_format: LogFormat,
    /// Ask this address, http://HOST[:PORT]/PATH, once and do nothing else; fails without an answer of success
    #[arg(long, value_name = "URL")]
    probe: Option<String>,
}

fn main() -> Result<()> {
    let passed = activation::passed().context("cannot take the sockets that were passed")?;
    tls::provider();
    let args = Args::parse();
    if let Some(url) = &args.probe {
        let status = probe::ask(url).with_context(|| url.clone())?;
        println!("{url}: {status}");
        return Ok(());
    }
    logs::init(args.log_format);
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("control")
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    // Before anything that takes time: the first process of a container is not told what it does not wait for.
    let (mut terminate, mut interrupt) = {
        let _inside = runtime.enter();
        let wait = |kind| signal(kind).context("cannot wait for signals");
        (
            wait(SignalKind::terminate())?,
            wait(SignalKind::interrupt())?,
        )
    };
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
    let (plane, mut applier) =
        DataPlane::start(&config, runtime.handle()).context("cannot start the data plane")?;
    let mut taken = match &args.handover {
        Some(path) => handover::take(path)
            .with_context(|| format!("cannot take over at {}", path.display()))?,
        None => None,
    };
    let handed = taken.as_mut().map(|t| std::mem::take(&mut t.sockets));
    plane
        .inherit(handed.unwrap_or_default(), passed, args.admin)
        .context("cannot take the sockets that were passed")?;
    if let Some(directory) = &args.state_dir {
        match Keep::open(directory, args.state_key.as_deref()) {
            Ok((keep, chunks)) => applier.restore(keep, chunks),
            Err(error) => {
                let directory = directory.display();
                tracing::error!(event = "no_last_good", %directory, %error, "the last-good copy cannot be used");
            }
        }
    }
    let draining = CancellationToken::new();
    let push = PushConfig {
        endpoint: args.controller.context("--controller is missing")?,
        tls_dir: args.tls_dir,
        token_file: args.token_file,
        node_id: args.node_id,
    };
    runtime.block_on(async {
        plane
            .admin(args.admin, None)
            .await
            .with_context(|| format!("cannot bind the admin port {}", args.admin))?;
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        let stream = tokio::spawn(push::run(push, applier, draining.clone()));
        let succession = async {
            match &args.handover {
                Some(path) => plane.succession(path, taken).await,
                None => std::future::pending().await,
            }
        };
        let mut settle = Duration::from_secs(args.settle);
        tokio::select! {
            () = next() => {}
            handed = succession => {
                handed?;
                settle = Duration::ZERO;
            }
            ended = stream => {
                // Without its applier the process would serve one configuration for ever.
                ended.context("the configuration stream broke")??;
            }
        }
        tracing::info!(
            event = "stopping",
            "finishing requests; a second signal ends at once"
        );
        draining.cancel();
        tokio::select! {
            () = plane.stop(settle, args.drain.map(Duration::from_secs)) => {}
            () = next() => plane.kill(),
        }
        Ok(())
    })
}

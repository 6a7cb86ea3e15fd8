//! The data plane as a whole, for `diolkos-dataplane` and for `diolkos run`.

use crate::admin::{Admin, Statuses};
use crate::engine::{Connections, PoolConfig, PoolCounters};
use crate::listen::{Workers, WorkersConfig};
use crate::listeners::{Binds, Listeners};
use crate::proxy::{LOG_TICK, Proxy, Shared};
use crate::sync::{Applier, Current};
use crate::table::Registry;
use crate::telemetry::{AccessLog, Metrics};
use model::limits;
use rustix::process::{Resource, getrlimit, setrlimit};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Handle;

/// Settings of the process; everything else comes with the configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Worker threads; 0: one for each core.
    pub threads: usize,
    pub binds: Binds,
    /// Where this data plane runs, for upstreams that prefer their own zone.
    pub zone: Option<String>,
}

/// Upstreams bound their own part of it.
const POOL: PoolConfig = PoolConfig {
    per_key: 4096,
    total: 4096,
    idle: Duration::from_secs(3600),
    uses: 10_000,
};

/// A running data plane.
pub struct DataPlane {
    workers: Arc<Workers>,
    current: Arc<Current>,
    registry: Arc<Registry>,
    access_log: AccessLog,
    pub metrics: Arc<Metrics>,
}

impl DataPlane {
    /// Starts the workers, without a listener yet, and gives the end that takes the configuration.
    ///
    /// # Errors
    /// A thread or a runtime cannot be made.
    pub fn start(config: &Config, runtime: &Handle) -> io::Result<(Self, Applier)> {
        let metrics = Arc::new(Metrics::new());
        let current = Arc::new(Current::default());
        let access_log = AccessLog::start(Arc::clone(&metrics))?;
        let shared = Arc::new(Shared::new(
            Arc::clone(&current),
            Arc::clone(&metrics),
            Some(access_log.clone()),
        ));
        let pools = Arc::new(PoolCounters::default());
        let of_pools = Arc::clone(&pools);
        let workers = Workers::start(workers_config(config.threads), move |_| {
            let connections = Connections::new(POOL, Arc::clone(&of_pools));
            connections.start_sweeper();
            if let Some(log) = shared.access_log.clone() {
                tokio::task::spawn_local(tick(log));
            }
            Proxy::new(Arc::clone(&shared), connections)
        })?;
        let workers = Arc::new(workers);
        runtime.spawn(gauge(Arc::clone(&metrics), workers.counters(), pools));
        let listeners = Listeners::new(Arc::clone(&workers), runtime.clone(), config.binds);
        let applier = Applier::new(
            Arc::clone(&current),
            listeners,
            runtime,
            Arc::clone(&metrics),
            config.zone.as_deref(),
        );
        let plane = Self {
            workers,
            current,
            registry: applier.registry(),
            access_log,
            metrics,
        };
        Ok((plane, applier))
    }

    /// Opens the admin port.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn admin(
        &self,
        address: SocketAddr,
        statuses: Option<Statuses>,
    ) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let admin = Admin {
            current: Arc::clone(&self.current),
            metrics: Arc::clone(&self.metrics),
            registry: Arc::clone(&self.registry),
            statuses,
        };
        tokio::spawn(async move {
            if let Err(error) = admin.serve(listener).await {
                tracing::error!(event = "admin_failed", %error, "the admin port is closed");
            }
        });
        tracing::info!(event = "admin", address = %address, "admin port open");
        Ok(address)
    }

    /// Stops in good order: readiness off, `settle` while still accepting, then no new connections and an end to
    /// those that are idle, until no exchange is left or `drain` has passed (F61); `None`: as long as
    /// the configuration says.
    pub async fn stop(&self, settle: Duration, drain: Option<Duration>) {
        self.current.begin_drain();
        let drain = drain.unwrap_or_else(|| self.longest_drain());
        tokio::time::sleep(settle).await;
        let cut = self.workers.drain(drain).await;
        if cut > 0 {
            tracing::warn!(
                event = "drain_deadline",
                connections = cut,
                "connections were cut at the drain deadline"
            );
        }
        self.access_log.flush();
    }

    /// What the configuration allows (`timeouts.drain`).
    fn longest_drain(&self) -> Duration {
        let table = self.current.table.load();
        let longest = table.listeners.values().map(|l| l.listener.drain_ms).max();
        longest.map_or(limits::DRAIN, |ms| Duration::from_millis(ms.into()))
    }

    /// Ends everything at once; a [`Self::stop`] under way returns.
    pub fn kill(&self) {
        self.workers.kill();
    }
}

/// As many descriptors as the system allows, of which four fifths are for clients and their upstream connections.
fn workers_config(threads: usize) -> WorkersConfig {
    let threads = match threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n,
    };
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, files) {
        tracing::warn!(event = "nofile", %error, "the limit of open files could not be raised");
    }
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let half_of_four_fifths = usize::try_from(files / 5 * 2).unwrap_or(usize::MAX);
    WorkersConfig {
        threads,
        connections: half_of_four_fifths.min(limits::CONNECTIONS as usize),
    }
}

/// Hands over the log lines of one worker thread.
async fn tick(log: AccessLog) {
    let mut ticks = tokio::time::interval(LOG_TICK);
    loop {
        ticks.tick().await;
        log.tick();
    }
}

/// Copies what the engine counts by itself into the metrics.
async fn gauge(
    metrics: Arc<Metrics>,
    listen: Arc<crate::listen::ListenCounters>,
    pools: Arc<PoolCounters>,
) {
    use std::sync::atomic::Ordering::Relaxed;
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    loop {
        ticks.tick().await;
        let (open, idle) = (pools.open.load(Relaxed), pools.idle.load(Relaxed));
        metrics.upstream_idle.set(signed(idle));
        metrics
            .upstream_active
            .set(signed(open.saturating_sub(idle)));
        let catch_up = |counter: &prometheus::core::GenericCounter<prometheus::core::AtomicU64>,
                        total: u64| {
            counter.inc_by(total.saturating_sub(counter.get()));
        };
        catch_up(&metrics.refused_global_cap, listen.refused.load(Relaxed));
    }
}

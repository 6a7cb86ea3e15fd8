//! The data plane as a whole, for `diolkos-dataplane` and for `diolkos run`.

use crate::admin::{Admin, Statuses};
use crate::engine::{Connections, PoolConfig, PoolCounters};
use crate::handover::{BECOME_READY, Offer, Taken};
use crate::listen::{Inherited, Workers, WorkersConfig};
use crate::listeners::{Binds, Listeners};
use crate::pressure::{Meter, Pressure};
use crate::proxy::{Proxy, Shared};
use crate::sync::{Applier, Current};
use crate::table::Registry;
use crate::telemetry::otlp::Exporter;
use crate::telemetry::{AccessLog, Metrics};
use anyhow::Context;
use model::limits;
use parking_lot::Mutex;
use rustix::process::{Resource, getrlimit, setrlimit};
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};

/// Settings of the process; everything else comes with the configuration.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Worker threads; 0: one for each core.
    pub threads: usize,
    pub binds: Binds,
    /// Where this data plane runs, for upstreams that prefer their own zone.
    pub zone: Option<String>,
    /// Client connections of one address in the public Internet, or one /64 of IPv6; 0: any number.
    pub per_source: u32,
    /// Clients whose datagrams are passed on at a time; 0: as many as the product allows.
    pub sessions: usize,
    /// Bytes of memory that the process may have; 0: any number. `None`: as its cgroup says.
    pub memory_limit: Option<u64>,
    /// Who is asked for names; nobody: those of the system's configuration.
    pub name_servers: Vec<SocketAddr>,
}

/// For the collector to take what is left when the process ends.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// Of so many descriptors one is never a client's connection.
const RESERVE: u64 = 16;
/// And so many at least.
const LEAST_RESERVE: u64 = 16;
/// Descriptors are no longer short when nobody was refused for so many seconds.
const CALM: u32 = 10;

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
    exporter: Exporter,
    pub metrics: Arc<Metrics>,
    pub pressure: Pressure,
    admin: Arc<AdminSocket>,
    threads: usize,
}

/// The admin port's socket, and how it is closed.
#[derive(Debug, Default)]
struct AdminSocket {
    /// From the process before this one.
    inherited: Mutex<Option<StdListener>>,
    own: Mutex<Option<StdListener>>,
    close: Notify,
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
        let exporter = Exporter::start(runtime, Arc::clone(&metrics));
        let log = Some(access_log.clone());
        let mut shared = Shared::new(Arc::clone(&current), Arc::clone(&metrics), log);
        shared.exporter = Some(exporter.clone());
        let settings = workers_config(config);
        // Each has a descriptor, of those that connections leave.
        shared.max_sessions = match config.sessions {
            0 => limits::SESSIONS.min(settings.connections / 4),
            n => n,
        };
        let pressure = shared.pressure.clone();
        if let Some(meter) = Meter::new(config.memory_limit) {
            runtime.spawn(pressure.clone().follow(meter));
        }
        let shared = Arc::new(shared);
        let pools = Arc::new(PoolCounters::default());
        let of_pools = Arc::clone(&pools);
        let threads = settings.threads;
        let workers = Workers::start(settings, move |_| {
            let connections = Connections::new(POOL, Arc::clone(&of_pools));
            Proxy::new(Arc::clone(&shared), connections)
        })?;
        let workers = Arc::new(workers);
        let of_gauge = Arc::downgrade(&workers);
        runtime.spawn(gauge(Arc::clone(&metrics), of_gauge, pools));
        let listeners = Listeners::new(Arc::clone(&workers), runtime.clone(), config.binds);
        let applier = Applier::new(
            Arc::clone(&current),
            listeners,
            runtime,
            Arc::clone(&metrics),
            config.zone.as_deref(),
            &config.name_servers,
        );
        let plane = Self {
            workers,
            current,
            registry: applier.registry(),
            access_log,
            exporter,
            metrics,
            pressure,
            admin: Arc::default(),
            threads,
        };
        Ok((plane, applier))
    }

    /// Takes the sockets of the process before this one, and those that the service manager has `passed`, as far as the
    /// configuration has listeners for them. To be called before there is one.
    ///
    /// # Errors
    /// There are no descriptors left.
    pub fn inherit(
        &self,
        mut sockets: Inherited,
        passed: Vec<StdListener>,
        admin: SocketAddr,
    ) -> io::Result<()> {
        let mut opened = Inherited::new();
        for socket in passed {
            opened.entry(socket.local_addr()?).or_default().push(socket);
        }
        for (address, mut group) in opened {
            tracing::info!(event = "socket_passed", %address, "the service manager has opened a socket");
            // Those of the process before this one are the same.
            if sockets.contains_key(&address) {
                continue;
            }
            // Threads that get none of their own share one: to bind another takes rights that this process may not have.
            let first = group.first().map(StdListener::try_clone).transpose()?;
            while group.len() < self.threads {
                group.extend(first.as_ref().map(StdListener::try_clone).transpose()?);
            }
            sockets.insert(address, group);
        }
        let of_admin = sockets.remove(&admin).unwrap_or_default();
        *self.admin.inherited.lock() = of_admin.into_iter().next();
        self.workers.inherit(sockets);
        Ok(())
    }

    /// Waits until this process serves, tells the one before it to stop, and from then on gives its own sockets to the
    /// one after it. Returns when that has happened; then this one has to stop.
    ///
    /// # Errors
    /// It does not come to serve, the process before it goes on, or `path` cannot be used.
    pub async fn succession(&self, path: &Path, taken: Option<Taken>) -> anyhow::Result<()> {
        if let Some(taken) = taken {
            let ready = async {
                while !self.current.is_ready() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            tokio::time::timeout(BECOME_READY, ready)
                .await
                .context("this process does not become ready; the one before it goes on")?;
            self.workers.disinherit();
            let told = tokio::task::spawn_blocking(|| taken.ready()).await;
            told.map_err(io::Error::other)
                .flatten()
                .context("the process before this one does not stop")?;
            tracing::info!(event = "taken_over", "the process before this one stops");
        }
        let offer = Offer::open(path)
            .with_context(|| format!("cannot wait at {} for a successor", path.display()))?;
        let (workers, admin) = (Arc::downgrade(&self.workers), Arc::clone(&self.admin));
        let (done, wait) = oneshot::channel();
        std::thread::Builder::new()
            .name("handover".to_owned())
            .spawn(move || {
                offer.wait(|| {
                    let workers = workers.upgrade().ok_or(io::ErrorKind::NotConnected)?;
                    let mut sockets = workers.sockets()?;
                    if let Some(own) = &*admin.own.lock() {
                        sockets.insert(own.local_addr()?, vec![own.try_clone()?]);
                    }
                    Ok(sockets)
                });
                let _ = done.send(());
            })?;
        wait.await
            .context("nobody waits for a successor any more")?;
        tracing::info!(
            event = "handed_over",
            "another process has taken the listening sockets"
        );
        // What is asked there from now on is about the other process.
        drop(self.admin.own.lock().take());
        self.admin.close.notify_one();
        Ok(())
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
        let inherited = self.admin.inherited.lock().take();
        let listener = match inherited {
            Some(listener) => TcpListener::from_std(listener)?,
            None => TcpListener::bind(address).await?,
        };
        let address = listener.local_addr()?;
        let listener = listener.into_std()?;
        *self.admin.own.lock() = Some(listener.try_clone()?);
        let listener = TcpListener::from_std(listener)?;
        let of_admin = Arc::clone(&self.admin);
        let admin = Admin {
            current: Arc::clone(&self.current),
            metrics: Arc::clone(&self.metrics),
            registry: Arc::clone(&self.registry),
            statuses,
        };
        tokio::spawn(async move {
            tokio::select! {
                served = admin.serve(listener) => if let Err(error) = served {
                    tracing::error!(event = "admin_failed", %error, "the admin port is closed");
                },
                () = of_admin.close.notified() => {}
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
        self.exporter.flush(LAST_SPANS).await;
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
fn workers_config(config: &Config) -> WorkersConfig {
    let threads = match config.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n,
    };
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, files) {
        tracing::warn!(event = "nofile", %error, "the limit of open files could not be raised");
    }
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let reserve = (files / RESERVE).max(LEAST_RESERVE);
    let half_of_four_fifths = usize::try_from(files / 5 * 2).unwrap_or(usize::MAX);
    WorkersConfig {
        threads,
        connections: half_of_four_fifths.min(limits::CONNECTIONS as usize),
        descriptors: RawFd::try_from(files.saturating_sub(reserve)).unwrap_or(RawFd::MAX),
        per_source: config.per_source,
    }
}

/// Copies what the engine counts by itself into the metrics.
async fn gauge(metrics: Arc<Metrics>, workers: Weak<Workers>, pools: Arc<PoolCounters>) {
    use std::sync::atomic::Ordering::Relaxed;
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    let mut descriptors = Descriptors::default();
    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    while let Some(workers) = workers.upgrade() {
        let (open, idle_h1) = (pools.open.load(Relaxed), pools.idle.load(Relaxed));
        let idle = idle_h1 + pools.h2.idle.load(Relaxed);
        metrics.upstream_idle.set(signed(idle));
        metrics
            .upstream_active
            .set(signed(open.saturating_sub(idle)));
        let catch_up = |counter: &prometheus::core::GenericCounter<prometheus::core::AtomicU64>,
                        total: u64| {
            counter.inc_by(total.saturating_sub(counter.get()));
        };
        let (h1, h2) = (&metrics.upstream_pool_h1, &metrics.upstream_pool_h2);
        h1.entries.set(signed(idle_h1));
        catch_up(&h1.evictions, pools.evicted.load(Relaxed));
        h2.entries.set(signed(pools.h2.kept.load(Relaxed)));
        catch_up(&h2.evictions, pools.h2.surplus.load(Relaxed));
        let resets = &metrics.connections.resets_upstream;
        catch_up(resets, pools.h2.resets.load(Relaxed));
        metrics.follow(&workers.counters());
        metrics.sources.set(signed(workers.sources() as u64));
        descriptors.note(metrics.refused_fds.get());
        drop(workers);
        ticks.tick().await;
    }
}

/// Whether clients were refused of late for want of descriptors: that is said when it begins, and when it is over.
#[derive(Default)]
struct Descriptors {
    refused: u64,
    /// Seconds since the last one; `None`: they are not short.
    quiet: Option<u32>,
}

impl Descriptors {
    /// Once a second: how many were refused so far.
    fn note(&mut self, refused: u64) {
        let more = refused > std::mem::replace(&mut self.refused, refused);
        self.quiet = match (self.quiet, more) {
            (None, false) => None,
            (None, true) => {
                tracing::warn!(
                    event = "descriptors",
                    "descriptors are short: connections are refused"
                );
                Some(0)
            }
            (Some(_), true) => Some(0),
            (Some(seconds), false) if seconds < CALM => Some(seconds + 1),
            (Some(_), false) => {
                tracing::info!(event = "descriptors", "there are descriptors again");
                None
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_short_until_nobody_was_refused_for_a_while() {
        let mut descriptors = Descriptors::default();
        descriptors.note(0);
        assert_eq!(descriptors.quiet, None);
        for refused in [1, 1, 2] {
            descriptors.note(refused);
        }
        for second in 0..=CALM {
            assert_eq!(descriptors.quiet, Some(second));
            descriptors.note(2);
        }
        assert_eq!(descriptors.quiet, None);
    }
}

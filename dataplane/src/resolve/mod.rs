//! Host names among the endpoints: looked up in the background for as long as an upstream lists them. New addresses
//! take effect in place; no table is built for them.

mod lookup;
mod memory;

use crate::table::{DnsName, Registry, Upstream};
use crate::telemetry::Bounded;
use lookup::Lookup;
use memory::{Answer, Memory, SHORTEST};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};

/// Names that are kept resolved; one more is not resolved, which log and metrics say.
const NAMES: usize = 4096;
/// Lookups at the same time.
const AT_ONCE: usize = 64;

/// Sees to it that the names of upstreams are resolved.
pub(crate) struct Resolver {
    runtime: Handle,
    /// Names that are kept resolved.
    most: usize,
    shared: Arc<Shared>,
}

struct Shared {
    registry: Arc<Registry>,
    lookup: Lookup,
    running: Running,
    at_once: Semaphore,
    names: Bounded,
    /// Answers that have taken effect.
    #[cfg(test)]
    taken: std::sync::atomic::AtomicUsize,
}

/// One name of one upstream.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Job {
    upstream: String,
    name: String,
}

/// What has a task already, and how to wake it when its upstream has changed.
type Running = Mutex<HashMap<Job, Arc<Notify>>>;

impl Resolver {
    /// `names` shows how many are kept resolved, of [`NAMES`]. `servers` are asked; none: those of the system's
    /// configuration.
    pub(crate) fn start(
        runtime: &Handle,
        registry: Arc<Registry>,
        names: Bounded,
        servers: &[SocketAddr],
    ) -> Self {
        Self::with(runtime, registry, names, Lookup::of(servers), NAMES)
    }

    fn with(
        runtime: &Handle,
        registry: Arc<Registry>,
        names: Bounded,
        lookup: Lookup,
        most: usize,
    ) -> Self {
        Self {
            runtime: runtime.clone(),
            most,
            shared: Arc::new(Shared {
                registry,
                lookup,
                running: Running::default(),
                at_once: Semaphore::new(AT_ONCE),
                names,
                #[cfg(test)]
                taken: std::sync::atomic::AtomicUsize::default(),
            }),
        }
    }

    /// Begins with the names of an upstream that has come or changed.
    pub(crate) fn follow(&self, upstream: &Upstream) {
        for name in upstream.dns_names() {
            let job = Job {
                upstream: upstream.key.to_string(),
                name: name.host.into(),
            };
            let mut running = self.shared.running.lock();
            if let Some(task) = running.get(&job) {
                task.notify_one();
            } else if running.len() < self.most {
                let wake = Arc::new(Notify::new());
                running.insert(job.clone(), Arc::clone(&wake));
                self.shared.names.entries.inc();
                self.runtime
                    .spawn(keep_resolved(Arc::clone(&self.shared), job, wake));
            } else {
                self.shared.names.evictions.inc();
                tracing::error!(
                    event = "dns_names_full",
                    name = job.name,
                    upstream = job.upstream,
                    "a name is not resolved: there are {} already",
                    self.most
                );
            }
        }
    }
}

impl Shared {
    /// The upstream of a job and what it says of the name; ends the job where there is none. Under the lock, so that
    /// an upstream that comes back at this moment finds either a task that goes on or none.
    fn goes_on(&self, job: &Job) -> Option<(Arc<Upstream>, DnsName)> {
        let mut running = self.running.lock();
        let upstream = self.registry.get(&job.upstream);
        let found = upstream.and_then(|upstream| {
            let mut names = upstream.dns_names().into_iter();
            let name = names.find(|n| *n.host == *job.name)?;
            Some((upstream, name))
        });
        if found.is_none() {
            running.remove(job);
            self.names.entries.dec();
        }
        found
    }
}

async fn keep_resolved(shared: Arc<Shared>, job: Job, wake: Arc<Notify>) {
    let mut memory = Memory::default();
    // Under which of the search list's names the answer came.
    let mut pinned = None;
    while let Some((_, name)) = shared.goes_on(&job) {
        let (v4, v6) = {
            let _permit = shared.at_once.acquire().await;
            shared.lookup.both(&job.name, &mut pinned).await
        };
        for answer in [&v4, &v6] {
            if let Answer::Failed(error) = answer {
                let (name, stale) = (&job.name, !memory.is_empty());
                tracing::warn!(
                    event = "dns_failed",
                    name,
                    error,
                    stale,
                    "a name was not resolved"
                );
            }
        }
        let was_empty = memory.is_empty();
        let wait = memory.take(v4, v6, name.refresh);
        if memory.is_empty() {
            // The name that answered is gone: the search list may have another.
            pinned = None;
            if !was_empty {
                let name = &job.name;
                tracing::warn!(event = "dns_gone", name, "a name has no address any more");
            }
        }
        // It may have been replaced meanwhile.
        let Some((upstream, _)) = shared.goes_on(&job) else {
            return;
        };
        if !(was_empty && memory.is_empty()) {
            upstream.set_resolved(&job.name, &memory.addresses());
        }
        #[cfg(test)]
        shared
            .taken
            .fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        tokio::select! {
            () = tokio::time::sleep(jittered(wait)) => {}
            () = wake.notified() => {}
        }
    }
}

/// Up to a tenth sooner, so that names that began together do not stay together.
fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(rand::random_range(0.9..=1.0)).max(SHORTEST)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

//! Names of static endpoints: resolved in the background, looked up again every half minute, stale answers kept when
//! a lookup fails.

use crate::table::{Registry, Upstream};
use hickory_resolver::TokioResolver;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

const REFRESH: Duration = Duration::from_secs(30);
/// After a lookup that failed with nothing known yet.
const RETRY: Duration = Duration::from_secs(1);
/// Names that may wait for their first lookup.
const QUEUE: usize = 4096;

/// Sees to it that the names of upstreams are resolved.
pub(crate) struct Resolver {
    queue: mpsc::Sender<Job>,
    running: Running,
}

/// One name of one upstream.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Job {
    upstream: String,
    name: String,
}

/// What has a task already.
type Running = Arc<Mutex<HashSet<Job>>>;

impl Resolver {
    /// Starts the task that resolves.
    pub(crate) fn start(runtime: &Handle, registry: Arc<Registry>) -> Self {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let running = Running::default();
        runtime.spawn(serve(jobs, registry, Arc::clone(&running)));
        Self { queue, running }
    }

    /// Begins with the names of an upstream that has come or changed.
    pub(crate) fn follow(&self, upstream: &Upstream) {
        for name in upstream.dns_names() {
            let job = Job {
                upstream: upstream.key.to_string(),
                name: name.host.into(),
            };
            if !self.running.lock().insert(job.clone()) {
                continue;
            }
            if let Err(error) = self.queue.try_send(job.clone()) {
                self.running.lock().remove(&job);
                tracing::error!(event = "dns_queue_full", name = job.name, %error, "a name is not resolved");
            }
        }
    }
}

async fn serve(mut jobs: mpsc::Receiver<Job>, registry: Arc<Registry>, running: Running) {
    let resolver = match TokioResolver::builder_tokio().and_then(|b| b.build()) {
        Ok(resolver) => resolver,
        Err(error) => {
            tracing::error!(event = "dns_unavailable", %error, "names of endpoints cannot be resolved");
            return;
        }
    };
    while let Some(job) = jobs.recv().await {
        let (resolver, registry, running) = (
            resolver.clone(),
            Arc::clone(&registry),
            Arc::clone(&running),
        );
        tokio::spawn(async move {
            keep_resolved(&job, &resolver, &registry).await;
            running.lock().remove(&job);
        });
    }
}

/// Ends when the upstream is gone or no longer lists the name.
async fn keep_resolved(job: &Job, resolver: &TokioResolver, registry: &Registry) {
    let mut known = false;
    while let Some(upstream) = registry.get(&job.upstream) {
        if !upstream.dns_names().iter().any(|n| *n.host == *job.name) {
            return;
        }
        match lookup(resolver, &job.name).await {
            Ok(addresses) => {
                upstream.set_resolved(&job.name, &addresses);
                known = true;
            }
            Err(error) => {
                let name = &job.name;
                tracing::warn!(
                    event = "dns_failed",
                    name,
                    error,
                    stale = known,
                    "a name was not resolved"
                );
            }
        }
        tokio::time::sleep(if known { REFRESH } else { RETRY }).await;
    }
}

async fn lookup(resolver: &TokioResolver, name: &str) -> Result<Vec<IpAddr>, String> {
    let answer = resolver.lookup_ip(name).await.map_err(|e| e.to_string())?;
    let mut addresses: Vec<IpAddr> = answer.iter().collect();
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

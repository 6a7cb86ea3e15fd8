//! From chunks to the table that serves: stage, compile, swap one pointer, open listeners, keep a copy.
//!
//! The same for a stream over gRPC and for standalone mode, where controller and data plane share a process.

use crate::discover::Poller;
use crate::health;
use crate::keep::Keep;
use crate::listeners::Listeners;
use crate::push::{Apply, Health, Reply};
use crate::resolve::Resolver;
use crate::table::{self, Common, Compiler, Registry, Table};
use crate::telemetry::Metrics;
use arc_swap::ArcSwap;
use model::limits;
use prost::Message as _;
use snapshot::pb::{Ack, Chunk, ListenerState, Nack, Rejection, Resync};
use snapshot::{ApplyError, Inventory, Replica, Revision};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::runtime::Handle;

/// Bytes of what one answer refuses; the controller reads messages of 1 MiB.
const REFUSAL_BYTES: usize = 512 * 1024;
/// Bytes of one reason of it.
const REASON_BYTES: usize = 1024;

/// What the rest of the process reads of the configuration.
#[derive(Debug)]
pub struct Current {
    /// The one swap point. A request loads it once.
    pub table: ArcSwap<Table>,
    /// A configuration is in effect and all its listeners are open.
    ready: AtomicBool,
    /// The process stops.
    draining: AtomicBool,
    /// Unix seconds of a controller's last word.
    contact: AtomicU64,
    /// Unix seconds of the process's begin.
    begun: u64,
}

impl Default for Current {
    fn default() -> Self {
        Self {
            table: ArcSwap::from_pointee(Table::default()),
            ready: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            contact: AtomicU64::new(0),
            begun: unix_seconds(),
        }
    }
}

impl Current {
    /// Whether traffic should come here (`/readyz`).
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire) && !self.draining.load(Ordering::Acquire)
    }

    /// Readiness goes off for good.
    pub fn begin_drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Of the configuration in effect.
    pub fn revision(&self) -> Revision {
        self.table.load().revision()
    }

    /// Seconds since a controller last said anything; `None`: none ever did.
    pub fn age_seconds(&self) -> Option<u64> {
        let contact = self.contact.load(Ordering::Relaxed);
        (contact > 0).then(|| unix_seconds().saturating_sub(contact))
    }

    /// The same, where none ever did since this process began.
    pub fn silence_seconds(&self) -> u64 {
        let begun = || unix_seconds().saturating_sub(self.begun);
        self.age_seconds().unwrap_or_else(begun)
    }
}

/// Applies transactions. It belongs to one thread that is not a runtime's own.
pub struct Applier {
    replica: Replica,
    compiler: Compiler,
    current: Arc<Current>,
    listeners: Listeners,
    resolver: Arc<Resolver>,
    poller: Poller,
    keep: Option<Keep>,
    metrics: Arc<Metrics>,
}

impl Applier {
    /// A process that stops opens nothing: the ports may be another's by now.
    fn follow(&mut self, table: &Table) {
        if !self.current.draining.load(Ordering::Acquire) {
            self.listeners.follow(table);
        }
    }

    /// The upstreams of the configuration.
    pub fn registry(&self) -> Arc<Registry> {
        self.compiler.registry()
    }

    pub fn new(
        current: Arc<Current>,
        listeners: Listeners,
        runtime: &Handle,
        metrics: Arc<Metrics>,
        zone: Option<&str>,
        name_servers: &[SocketAddr],
    ) -> Self {
        let zone = zone.filter(|zone| !zone.is_empty()).map(Into::into);
        let compiler = Compiler::with(Common::new(zone, metrics.plugins.clone()));
        health::start(runtime, compiler.registry());
        metrics.upstreams.follow(compiler.registry());
        let registry = compiler.registry();
        let names = metrics.dns_names.clone();
        let resolver = Resolver::start(runtime, Arc::clone(&registry), names, name_servers);
        let resolver = Arc::new(resolver);
        let asked = metrics.registries.clone();
        Self {
            replica: Replica::default(),
            poller: Poller::start(runtime, registry, Arc::clone(&resolver), asked),
            resolver,
            compiler,
            current,
            listeners,
            keep: None,
            metrics,
        }
    }

    /// Puts the last-good copy into effect and keeps it up to date from now on.
    pub fn restore(&mut self, mut keep: Keep, chunks: Vec<Chunk>) {
        let count = chunks.len();
        let mut transactions = 0;
        for chunk in chunks {
            match self.receive(chunk) {
                Reply::More => {}
                Reply::Ack(_) => transactions += 1,
                Reply::Nack(_) | Reply::Resync(_) => {
                    tracing::warn!(
                        event = "last_good_unusable",
                        transactions,
                        "the last-good copy does not apply to this build after so many transactions"
                    );
                    // What comes continues these.
                    let ended = keep.end_after(transactions);
                    self.kept(ended);
                    break;
                }
            }
        }
        if count > 0 {
            let revision = self.replica.digest().to_string();
            let resources = self.replica.len();
            tracing::info!(
                event = "last_good",
                revision,
                resources,
                "serving the last-good copy"
            );
        }
        self.keep = Some(keep);
    }

    fn kept(&self, kept: io::Result<()>) {
        if let Err(error) = kept {
            self.metrics.last_good_failures.inc();
            tracing::error!(event = "last_good_failed", %error, "the last-good copy cannot be written");
        }
    }

    fn apply(&mut self, chunk: Chunk) -> Result<Option<Ack>, ApplyError> {
        let (mut compiled, mut upstreams) = (table::Staged::default(), Vec::new());
        let staged = self.replica.receive_by_parts(chunk, &mut |changes| {
            upstreams.extend(changes.upstreams.iter().map(|c| c.key.clone()));
            compiled.add(changes);
        });
        let Some(staged) = staged? else {
            return Ok(None);
        };
        let transaction = staged.transaction;
        let table = self.compiler.put(compiled).map_err(|rejected| {
            let rejected = rejected.into_iter().map(|r| Rejection {
                kind: r.kind as u32,
                key: r.key,
                reason: r.reason,
            });
            ApplyError::Rejected {
                transaction,
                rejected: rejected.collect(),
            }
        })?;
        let registry = self.compiler.registry();
        for key in &upstreams {
            if let Some(upstream) = registry.get(key) {
                self.resolver.follow(&upstream);
                self.poller.follow(&upstream);
            }
        }
        // Before it serves, so that no request tells another one's.
        table.set_revision(staged.digest.revision());
        if !Arc::ptr_eq(&table, &self.current.table.load()) {
            self.current.table.store(Arc::clone(&table));
        }
        let series = table.metrics().map(|metrics| metrics.max_series).min();
        self.metrics.budget.allow(series.unwrap_or(limits::SERIES));
        self.follow(&table);
        if let Some(keep) = &mut self.keep {
            let kept = keep.append(&staged.chunks);
            self.kept(kept);
        }
        let applied = self.replica.commit(staged);
        let revision = applied.digest.revision();
        self.metrics.config_revision.set(revision.to_f64());
        self.current
            .ready
            .store(self.listeners.are_bound(), Ordering::Release);
        self.metrics.transactions_ack.inc();
        tracing::debug!(
            event = "applied",
            transaction,
            revision = %applied.digest,
            resources = applied.resources,
            "configuration applied"
        );
        Ok(Some(Ack {
            transaction,
            digest: applied.digest.to_bytes().to_vec(),
            listeners: self.listeners.states(),
        }))
    }
}

impl Apply for Applier {
    fn inventory(&self) -> Inventory {
        match &self.keep {
            // Whoever holds nothing is sent everything.
            Some(keep) if keep.needs_everything() => Inventory::default(),
            _ => self.replica.inventory(),
        }
    }

    fn receive(&mut self, chunk: Chunk) -> Reply {
        match self.apply(chunk) {
            Ok(None) => Reply::More,
            Ok(Some(ack)) => Reply::Ack(ack),
            Err(ApplyError::Resync(why)) => {
                self.metrics.transactions_resync.inc();
                tracing::warn!(
                    event = "resync",
                    why,
                    "configuration out of step, asking for all of it"
                );
                Reply::Resync(Resync { why })
            }
            Err(ApplyError::Rejected {
                transaction,
                rejected,
            }) => {
                self.metrics.transactions_nack.inc();
                let count = rejected.len();
                let rejected = as_many_as_fit(rejected);
                let message = match count - rejected.len() {
                    0 => String::new(),
                    rest => format!("{rest} more are refused"),
                };
                for r in &rejected {
                    tracing::error!(
                        event = "rejected",
                        kind = r.kind,
                        key = r.key,
                        reason = r.reason,
                        "resource refused"
                    );
                }
                Reply::Nack(Nack {
                    transaction,
                    rejected,
                    message,
                })
            }
        }
    }

    fn listeners(&self) -> Vec<ListenerState> {
        self.listeners.states()
    }

    fn health(&self) -> Option<Arc<dyn Health>> {
        Some(self.compiler.registry())
    }

    fn note_contact(&mut self) {
        let now = unix_seconds();
        self.current.contact.store(now, Ordering::Relaxed);
        if let Some(keep) = &mut self.keep {
            let kept = keep.catch_up(Instant::now());
            self.kept(kept);
        }
        if !self.listeners.are_bound() {
            // The port may have become free.
            let table = self.current.table.load_full();
            self.follow(&table);
            let bound = self.listeners.are_bound();
            self.current.ready.store(bound, Ordering::Release);
        }
    }
}

/// As many as one answer takes, and at least one. The controller puts back what is named and sends the rest again, so
/// the others come with the next answers.
fn as_many_as_fit(rejected: Vec<Rejection>) -> Vec<Rejection> {
    /// What each takes beside itself.
    const FRAME: usize = 8;
    let mut bytes = 0;
    let short = rejected.into_iter().map(|mut r| {
        let end = r.reason.floor_char_boundary(REASON_BYTES);
        r.reason.truncate(end);
        r
    });
    let fitting = short.take_while(|r| {
        let is_first = bytes == 0;
        bytes += r.encoded_len() + FRAME;
        is_first || bytes <= REFUSAL_BYTES
    });
    fitting.collect()
}

fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_never_heard_of_a_controller_has_waited_since_it_began() {
        let current = Current {
            begun: unix_seconds() - 100,
            ..Current::default()
        };
        assert_eq!(current.age_seconds(), None);
        assert!((100..200).contains(&current.silence_seconds()));
        current.contact.store(unix_seconds() - 7, Ordering::Relaxed);
        assert!((7..100).contains(&current.silence_seconds()));
    }
}

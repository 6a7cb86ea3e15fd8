//! One store of resources for any number of data planes, and the server's side of each of their streams.
//!
//! A [`Session`] is a state machine without sockets: what it is told (hello, acknowledgement, refusal) and what it has
//! to send are plain values, so that gRPC, the in-process link of standalone mode and the tests drive the same code.
//! At most one transaction is under way on a session; what changes meanwhile merges into the next one.
//!
//! A data plane that refuses a resource does not hold up the others: the [`Publisher`] puts back what was accepted
//! before (or takes the resource out), remembers why, and goes on.

use crate::report::Programmed;
use bytes::Bytes;
use parking_lot::Mutex;
use snapshot::pb::client_message::Message;
use snapshot::{Cursor, Digest, Generation, Hash, Kind, SCHEMA, Store, pb};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// A stream carries a message at least this often.
pub const HEARTBEAT: Duration = Duration::from_secs(15);

/// How many generations a stream may lag behind before it needs everything anew.
const KEPT_GENERATIONS: Generation = 1024;

/// How many generations are remembered with the time of their making.
const TIMED_GENERATIONS: usize = 1024;

/// A resource by kind and key.
pub type ResourceId = (Kind, String);

/// See the module.
pub struct Publisher {
    server_id: String,
    inner: Mutex<Inner>,
    generation: watch::Sender<Option<Generation>>,
    progress: Arc<watch::Sender<u64>>,
}

#[derive(Default)]
struct Inner {
    ready: bool,
    store: Store,
    observed_unix_ns: u64,
    peers: BTreeMap<u64, DataPlane>,
    next_peer: u64,
    /// What every data plane had accepted of resources whose present body some have not acknowledged yet. An absent
    /// body means that there was no such resource.
    accepted: BTreeMap<ResourceId, Accepted>,
    rejected: BTreeMap<ResourceId, Rejected>,
    /// When the last generations were made.
    made: VecDeque<(Generation, Instant)>,
}

struct Accepted {
    body: Option<Bytes>,
    /// Of the change that is waiting.
    since: Generation,
}

struct Rejected {
    hash: Hash,
    reason: String,
}

/// A connected data plane.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DataPlane {
    /// The name that it gives itself.
    pub node_id: String,
    pub build: String,
    /// The newest generation that it has acknowledged; `None` while it holds nothing of ours.
    pub acknowledged: Option<Generation>,
    /// Digest of what it holds.
    pub digest: Digest,
    /// It takes no new connections and is not waited for.
    pub draining: bool,
    /// As of its last acknowledgement.
    pub listeners: Vec<pb::ListenerState>,
    /// Why it refused the last transaction as a whole.
    pub refused: Option<String>,
}

impl Publisher {
    /// `server_id` must differ after each start.
    pub fn new(server_id: impl Into<String>) -> Arc<Self> {
        Self::counting(server_id, Arc::default())
    }

    /// One that counts its progress together with others.
    pub fn counting(server_id: impl Into<String>, progress: Arc<watch::Sender<u64>>) -> Arc<Self> {
        Arc::new(Self {
            server_id: server_id.into(),
            inner: Mutex::default(),
            generation: watch::Sender::new(None),
            progress,
        })
    }

    /// Makes one generation of some changed bodies (`None`: removed). Nothing is sent before the first call, which
    /// may bring nothing: a data plane may then serve an empty configuration.
    ///
    /// A body that a data plane has refused stays out until it changes. `observed_unix_ns`: when the change was seen.
    pub fn publish(
        &self,
        changes: impl IntoIterator<Item = (ResourceId, Option<Bytes>)>,
        observed_unix_ns: u64,
    ) -> Generation {
        let mut inner = self.inner.lock();
        let next = inner.store.cursor().generation + 1;
        let mut effective = Vec::new();
        for (id, body) in changes {
            let Some(body) = body else {
                inner.accepted.remove(&id);
                inner.rejected.remove(&id);
                effective.push((id.0, id.1, None));
                continue;
            };
            let hash = Hash::of(&body);
            if inner.rejected.get(&id).is_some_and(|r| r.hash == hash) {
                continue;
            }
            inner.rejected.remove(&id);
            let before = inner.store.get(id.0, &id.1).cloned();
            if before.as_ref().is_none_or(|b| Hash::of(b) != hash) {
                let entry = inner.accepted.entry(id.clone());
                let waiting = entry.or_insert(Accepted {
                    body: before,
                    since: next,
                });
                waiting.since = next;
            }
            effective.push((id.0, id.1, Some(body)));
        }
        let changed = inner.store.update(effective);
        let first = !std::mem::replace(&mut inner.ready, true);
        if changed {
            inner.observed_unix_ns = observed_unix_ns;
            inner.made.push_back((next, Instant::now()));
            if inner.made.len() > TIMED_GENERATIONS {
                inner.made.pop_front();
            }
        }
        inner.forget_tombstones();
        let generation = inner.store.cursor().generation;
        drop(inner);
        if changed || first {
            self.generation.send_replace(Some(generation));
        }
        generation
    }

    /// The generation that is served; `None` before the first publication. Notified on every change, also when a
    /// refused resource was put back.
    pub fn subscribe(&self) -> watch::Receiver<Option<Generation>> {
        self.generation.subscribe()
    }

    /// Counts what data planes did: connected, acknowledged, refused, drained, left.
    pub fn progress(&self) -> watch::Receiver<u64> {
        self.progress.subscribe()
    }

    fn advanced(&self) {
        self.progress.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// Generation and digest of what is served.
    pub fn cursor(&self) -> Cursor {
        self.inner.lock().store.cursor()
    }

    /// Number of resources and bytes of their bodies.
    pub fn size(&self) -> (usize, usize) {
        let inner = self.inner.lock();
        (inner.store.len(), inner.store.bytes())
    }

    /// The connected data planes.
    pub fn data_planes(&self) -> Vec<DataPlane> {
        self.inner.lock().peers.values().cloned().collect()
    }

    /// When the first generation was made that a data plane lacks; `None`: it has everything, or drains.
    pub fn behind_since(&self, plane: &DataPlane) -> Option<Instant> {
        let inner = self.inner.lock();
        let acknowledged = plane.acknowledged.unwrap_or(0);
        let mut later = inner.made.iter().filter(|(g, _)| *g > acknowledged);
        later.next().filter(|_| !plane.draining).map(|(_, at)| *at)
    }

    /// Resources that data planes have refused, with their words.
    pub fn rejections(&self) -> Vec<(ResourceId, String)> {
        let inner = self.inner.lock();
        let all = inner.rejected.iter();
        all.map(|(id, r)| (id.clone(), r.reason.clone())).collect()
    }

    /// How far an object of these resources has come: every connected data plane that does not drain must have
    /// acknowledged a generation that holds them as they are now.
    pub fn programmed<'a>(
        &self,
        resources: impl IntoIterator<Item = &'a ResourceId>,
    ) -> Programmed {
        let resources: BTreeSet<&ResourceId> = resources.into_iter().collect();
        let inner = self.inner.lock();
        let rejected = resources.iter().find_map(|id| inner.rejected.get(id));
        if let Some(rejected) = rejected {
            return Programmed::Rejected(rejected.reason.clone());
        }
        let mut peers = inner.peers.values().filter(|p| !p.draining).peekable();
        if peers.peek().is_none() {
            return Programmed::NoDataPlane;
        }
        let newest = resources
            .iter()
            .map(|(kind, key)| inner.store.generation_of(*kind, key))
            .collect::<Option<Vec<_>>>();
        let Some(newest) = newest.map(|all| all.into_iter().max().unwrap_or(0)) else {
            return Programmed::Pending;
        };
        let mut not_bound = None;
        for peer in peers {
            if peer
                .acknowledged
                .is_none_or(|generation| generation < newest)
            {
                return Programmed::Pending;
            }
            not_bound = not_bound.or_else(|| {
                let mine = |s: &&pb::ListenerState| {
                    !s.bound && resources.contains(&(Kind::Listener, s.key.clone()))
                };
                peer.listeners.iter().find(mine)
            });
        }
        match not_bound {
            Some(state) => Programmed::NotBound(format!("{}: {}", state.key, state.error)),
            None => Programmed::Yes,
        }
    }
}

impl Inner {
    /// The generation that every connected data plane has acknowledged.
    fn passed(&self) -> Option<Generation> {
        self.peers
            .values()
            .map(|p| p.acknowledged.unwrap_or(0))
            .min()
    }

    fn forget_tombstones(&mut self) {
        let horizon = self
            .store
            .cursor()
            .generation
            .saturating_sub(KEPT_GENERATIONS);
        let holding = self.peers.values().filter_map(|p| p.acknowledged).min();
        self.store.forget(holding.unwrap_or(horizon).max(horizon));
    }

    fn acknowledged(&mut self, peer: u64, cursor: Cursor) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.acknowledged = Some(cursor.generation);
            peer.digest = cursor.digest;
            peer.refused = None;
        }
        if let Some(passed) = self.passed() {
            self.accepted.retain(|_, a| a.since > passed);
        }
        self.forget_tombstones();
    }

    /// Puts back what was accepted before. Returns whether any of it concerned what is served.
    fn reject(&mut self, rejected: &[pb::Rejection], transaction: Generation) -> bool {
        let mut restore = Vec::new();
        for rejection in rejected {
            let Some(kind) = Kind::from_number(rejection.kind) else {
                continue;
            };
            let id = (kind, rejection.key.clone());
            let Some(body) = self.store.get(kind, &id.1) else {
                continue;
            };
            if self
                .store
                .generation_of(kind, &id.1)
                .is_none_or(|g| g > transaction)
            {
                continue; // It has changed since; the new body gets its own chance.
            }
            let (hash, reason) = (Hash::of(body), rejection.reason.clone());
            let before = self.accepted.remove(&id).and_then(|a| a.body);
            self.rejected.insert(id.clone(), Rejected { hash, reason });
            restore.push((id.0, id.1, before));
        }
        self.store.update(restore)
    }
}

/// Why a stream has to end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    #[error("the first message must be Hello, and only the first")]
    Order,
    #[error("schema {SCHEMA} is outside of what the data plane reads ({min} to {max})")]
    Schema { min: u32, max: u32 },
    #[error("a message without content")]
    Empty,
    #[error("acknowledged a transaction that is not under way")]
    NotUnderWay,
    #[error("acknowledged another digest than that of the transaction")]
    Digest,
}

/// The server's side of one stream; dropping it disconnects the data plane.
pub struct Session {
    publisher: Arc<Publisher>,
    /// Set by Hello.
    peer: Option<u64>,
    /// What the data plane has acknowledged; `None`: nothing that is known here.
    held: Option<Cursor>,
    under_way: Option<(u64, Cursor)>,
    last_transaction: u64,
    /// Refused for a reason that names no resource: not sent again before something changes.
    refused: Option<Generation>,
}

impl Session {
    pub fn new(publisher: Arc<Publisher>) -> Self {
        Self {
            publisher,
            peer: None,
            held: None,
            under_way: None,
            last_transaction: 0,
            refused: None,
        }
    }

    /// Takes any message of the data plane; gives the answer to Hello.
    ///
    /// # Errors
    /// [`SessionError`]: the stream has to end.
    pub fn on_message(
        &mut self,
        message: pb::ClientMessage,
    ) -> Result<Option<pb::Welcome>, SessionError> {
        match message.message.ok_or(SessionError::Empty)? {
            Message::Hello(hello) => return self.on_hello(&hello).map(Some),
            _ if self.peer.is_none() => return Err(SessionError::Order),
            Message::Ack(ack) => self.on_ack(&ack)?,
            Message::Nack(nack) => self.on_nack(&nack)?,
            Message::Resync(resync) => self.on_resync(&resync),
            Message::Draining(_) => self.on_draining(),
            // It is no part of the configuration.
            Message::Health(_) => {}
        }
        Ok(None)
    }

    /// # Errors
    /// [`SessionError::Order`] for a second Hello, [`SessionError::Schema`] when it cannot read what we write.
    pub fn on_hello(&mut self, hello: &pb::Hello) -> Result<pb::Welcome, SessionError> {
        if self.peer.is_some() {
            return Err(SessionError::Order);
        }
        if !(hello.schema_min..=hello.schema_max).contains(&SCHEMA) {
            let (min, max) = (hello.schema_min, hello.schema_max);
            return Err(SessionError::Schema { min, max });
        }
        let mut inner = self.publisher.inner.lock();
        self.held = Digest::from_slice(&hello.have_digest).and_then(|d| inner.store.resume(d));
        inner.next_peer += 1;
        let peer = inner.next_peer;
        self.peer = Some(peer);
        let data_plane = DataPlane {
            node_id: printable(&hello.node_id),
            build: printable(&hello.build),
            acknowledged: self.held.map(|c| c.generation),
            digest: self.held.map(|c| c.digest).unwrap_or_default(),
            ..DataPlane::default()
        };
        inner.peers.insert(peer, data_plane);
        drop(inner);
        self.publisher.advanced();
        Ok(pb::Welcome {
            server_id: self.publisher.server_id.clone(),
            schema: SCHEMA,
            heartbeat_ms: HEARTBEAT.as_millis() as u64,
            shares_health: false,
        })
    }

    /// The next transaction; `None` when there is nothing to send now: nothing is published yet, nothing is lacking,
    /// or one is not acknowledged yet. Ask again after each message and each change of [`Publisher::subscribe`].
    pub fn next_chunks(&mut self) -> Option<Vec<pb::Chunk>> {
        let peer = self.peer?;
        if self.under_way.is_some() {
            return None;
        }
        let mut inner = self.publisher.inner.lock();
        let current = inner.store.cursor();
        if !inner.ready || self.refused == Some(current.generation) {
            return None;
        }
        let Some(transaction) = inner.store.since(self.held) else {
            // It holds all of this already, perhaps as another generation.
            if self
                .held
                .is_some_and(|c| c.generation != current.generation)
            {
                self.held = Some(current);
                inner.acknowledged(peer, current);
                drop(inner);
                self.publisher.advanced();
            }
            return None;
        };
        let observed = inner.observed_unix_ns;
        drop(inner);
        self.last_transaction += 1;
        self.under_way = Some((self.last_transaction, transaction.result));
        Some(transaction.into_chunks(self.last_transaction, observed))
    }

    /// # Errors
    /// For another transaction or another digest than what is under way.
    pub fn on_ack(&mut self, ack: &pb::Ack) -> Result<(), SessionError> {
        let cursor = self.take_under_way(ack.transaction)?;
        if Digest::from_slice(&ack.digest) != Some(cursor.digest) {
            return Err(SessionError::Digest);
        }
        self.held = Some(cursor);
        self.refused = None;
        if let Some(peer) = self.peer {
            let mut inner = self.publisher.inner.lock();
            if let Some(data_plane) = inner.peers.get_mut(&peer) {
                data_plane.listeners.clone_from(&ack.listeners);
            }
            inner.acknowledged(peer, cursor);
        }
        self.publisher.advanced();
        Ok(())
    }

    /// # Errors
    /// For another transaction than the one under way.
    pub fn on_nack(&mut self, nack: &pb::Nack) -> Result<(), SessionError> {
        let cursor = self.take_under_way(nack.transaction)?;
        let mut inner = self.publisher.inner.lock();
        let changed = inner.reject(&nack.rejected, cursor.generation);
        let current = inner.store.cursor().generation;
        if current == cursor.generation {
            self.refused = Some(current);
        }
        if let Some(data_plane) = self.peer.and_then(|peer| inner.peers.get_mut(&peer)) {
            data_plane.refused = Some(printable(&nack.message));
        }
        drop(inner);
        if changed {
            self.publisher.generation.send_replace(Some(current));
        }
        self.publisher.advanced();
        Ok(())
    }

    /// The data plane cannot apply what was sent to what it holds: it gets everything.
    pub fn on_resync(&mut self, _: &pb::Resync) {
        self.under_way = None;
        self.held = None;
        let mut inner = self.publisher.inner.lock();
        if let Some(data_plane) = self.peer.and_then(|peer| inner.peers.get_mut(&peer)) {
            data_plane.acknowledged = None;
        }
    }

    fn on_draining(&mut self) {
        let mut inner = self.publisher.inner.lock();
        if let Some(data_plane) = self.peer.and_then(|peer| inner.peers.get_mut(&peer)) {
            data_plane.draining = true;
        }
        drop(inner);
        self.publisher.advanced();
    }

    fn take_under_way(&mut self, transaction: u64) -> Result<Cursor, SessionError> {
        match self.under_way.take() {
            Some((number, cursor)) if number == transaction => Ok(cursor),
            other => {
                self.under_way = other;
                Err(SessionError::NotUnderWay)
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(peer) = self.peer {
            self.publisher.inner.lock().peers.remove(&peer);
            self.publisher.advanced();
        }
    }
}

/// Text of a peer as it may stand in logs and status.
fn printable(text: &str) -> String {
    const MAX: usize = 512;
    text.chars().filter(|c| !c.is_control()).take(MAX).collect()
}

#[cfg(test)]
#[path = "publish_tests.rs"]
mod tests;

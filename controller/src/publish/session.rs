//! The server's side of one data plane's stream, without any socket.

use super::lacks::Lacks;
use super::{DataPlane, HEARTBEAT, Publisher};
use parking_lot::MutexGuard;
use snapshot::pb::client_message::Message;
use snapshot::{Buckets, Cursor, Digest, Generation, Inventory, PATCHES, SCHEMA, pb};
use std::sync::Arc;

/// Bytes of a name that a data plane gives itself.
pub(crate) const NAME: usize = 512;
/// Bytes of a reason that a data plane gives.
pub(crate) const REASON: usize = 1024;

/// Changed resources in a transaction up to which those that may are sent as patches: to make one takes tens of microseconds,
/// and the other streams of the thread wait.
const PATCHED: usize = 256;

/// Why a stream has to end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    #[error("the first message must be Hello, and only the first")]
    Order,
    #[error(
        "the data plane reads revisions {min} to {max} of the schema, and this controller writes {SCHEMA}"
    )]
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
    /// The name of the Pod that it is with, where that is proven.
    pod: Option<String>,
    /// Set by Hello.
    peer: Option<u64>,
    /// The same of one that is turned away.
    turned_away: Option<u64>,
    /// What the data plane has acknowledged; `None`: nothing that is known here.
    held: Option<Held>,
    /// What it holds beside that by its own words, until the first transaction.
    said: Option<Inventory>,
    /// It reads patches.
    pub(super) patches: bool,
    under_way: Option<UnderWay>,
    last_transaction: u64,
    /// Refused for a reason that names no resource: not sent again before something changes.
    refused: Option<Generation>,
}

/// What a data plane holds.
#[derive(Clone, Copy)]
struct Held {
    /// What those hold that go without nothing.
    of_all: Cursor,
    /// Of what it holds itself.
    digest: Digest,
}

impl Held {
    /// It holds the same as others.
    fn all(of_all: Cursor) -> Self {
        let digest = of_all.digest;
        Self { of_all, digest }
    }
}

/// A transaction that has been sent.
struct UnderWay {
    number: u64,
    result: Held,
    /// What the data plane goes without when it has it.
    lacks: Lacks,
}

impl Session {
    pub fn new(publisher: Arc<Publisher>) -> Self {
        Self {
            publisher,
            pod: None,
            peer: None,
            turned_away: None,
            held: None,
            said: None,
            patches: false,
            under_way: None,
            last_transaction: 0,
            refused: None,
        }
    }

    /// One with the Pod of this name, whatever it calls itself.
    #[must_use]
    pub fn with_pod(mut self, name: &str) -> Self {
        self.pod = Some(name.to_owned());
        self
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
        if self.peer.or(self.turned_away).is_some() {
            return Err(SessionError::Order);
        }
        let data_plane = DataPlane {
            node_id: printable(self.pod.as_ref().unwrap_or(&hello.node_id), NAME),
            build: printable(&hello.build, NAME),
            ..DataPlane::default()
        };
        if !(hello.schema_min..=hello.schema_max).contains(&SCHEMA) {
            let (min, max) = (hello.schema_min, hello.schema_max);
            let error = SessionError::Schema { min, max };
            self.turned_away = Some(self.publisher.turn_away(data_plane, &error));
            return Err(error);
        }
        self.patches = hello.capabilities.iter().any(|c| c == PATCHES);
        let mut inner = self.publisher.inner.lock();
        let digest = Digest::from_slice(&hello.have_digest);
        self.held = digest.and_then(|d| inner.store.resume(d)).map(Held::all);
        let holds_any = digest.is_some_and(|d| d != Digest::default());
        if self.held.is_none() && holds_any {
            let buckets = Buckets::from_wire(hello.have_buckets.clone());
            self.said = digest
                .zip(buckets)
                .map(|(digest, buckets)| Inventory { digest, buckets });
        }
        let data_plane = DataPlane {
            acknowledged: self.held.map(|held| held.of_all.generation),
            digest: self.held.map(|held| held.digest).unwrap_or_default(),
            missing: inner.store.lacking(&hello.capabilities),
            ..data_plane
        };
        self.peer = Some(inner.join(data_plane));
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
        if !inner.ready || self.refused == Some(inner.store.cursor().generation) {
            return None;
        }
        let withheld = inner.withhold(peer);
        if withheld.all {
            self.refused = Some(inner.store.cursor().generation);
            self.publisher.settle(inner, false);
            return None;
        }
        if let Some(since) = withheld.since {
            self.said = None;
            // What it holds may have come from another build, on a disk perhaps: this very body.
            if self.held.is_some_and(|h| since <= h.of_all.generation) {
                self.held = None;
                inner.knows_nothing_of(peer);
            }
        }
        let said = self.said.take().filter(|_| self.held.is_none());
        let known = said.as_ref().and_then(|s| inner.store.resume(s.digest));
        let part = match (known, said) {
            // Nothing had been published yet when it said so.
            (Some(held), _) => {
                self.held = Some(Held::all(held));
                inner.acknowledged(peer, held.generation, held.digest);
                self.publisher.advanced();
                None
            }
            (None, Some(said)) => {
                let listing = inner.store.listing();
                let different = MutexGuard::unlocked(&mut inner, || listing.different(&said));
                inner.store.since_listing(said.digest, different)
            }
            (None, None) => None,
        };
        let of_all = self.held.map(|held| held.of_all);
        let Some(mut transaction) = part.or_else(|| inner.store.since(of_all)) else {
            // It holds all of this already, perhaps as another generation.
            let current = inner.store.cursor();
            if let Some(held) = &mut self.held
                && held.of_all.generation != current.generation
            {
                held.of_all = current;
                inner.acknowledged(peer, current.generation, held.digest);
                drop(inner);
                self.publisher.advanced();
            }
            return None;
        };
        let lacks = inner.peers.get(&peer);
        let lacks = lacks.map_or_else(Lacks::default, |plane| plane.lacks.clone());
        let few = !transaction.full && transaction.upsert.len() <= PATCHED;
        // Of one that goes without something it is not known what it could be a patch of.
        let patches = self.patches && few && lacks.is_empty();
        let of_all = of_all.filter(|_| patches);
        let bases = of_all.map(|of_all| inner.store.bases(&transaction, of_all));
        let observed = inner.observed_unix_ns;
        let lacks = lacks.present(&inner.store);
        let capabilities = inner.store.capabilities();
        drop(inner);
        if let Some(bases) = bases {
            transaction.patch(bases);
        }
        let of_all = transaction.result;
        let digest = lacks.digest(of_all.digest);
        transaction.result.digest = digest;
        if let Some(held) = self.held.filter(|_| !transaction.full) {
            transaction.base = held.digest;
        }
        lacks.replace(&mut transaction.upsert, capabilities);
        self.last_transaction += 1;
        self.under_way = Some(UnderWay {
            number: self.last_transaction,
            result: Held { of_all, digest },
            lacks,
        });
        Some(transaction.into_chunks(self.last_transaction, observed))
    }

    /// Whether the data plane cannot read what is written here. It is in status as long as the session is there, although its
    /// stream ends.
    pub fn is_turned_away(&self) -> bool {
        self.turned_away.is_some()
    }

    /// Whether the data plane holds, by its own words, what is not known here: what another replica knows may be newer.
    pub fn is_ahead(&self) -> bool {
        let inner = self.publisher.inner.lock();
        let unknown = |said: &Inventory| inner.store.resume(said.digest).is_none();
        self.said.as_ref().is_some_and(unknown)
    }

    /// # Errors
    /// For another transaction or another digest than what is under way.
    pub fn on_ack(&mut self, ack: &pb::Ack) -> Result<(), SessionError> {
        let UnderWay { result, lacks, .. } = self.take_under_way(ack.transaction)?;
        if Digest::from_slice(&ack.digest) != Some(result.digest) {
            return Err(SessionError::Digest);
        }
        self.held = Some(result);
        self.refused = None;
        if let Some(peer) = self.peer {
            let mut inner = self.publisher.inner.lock();
            if let Some(data_plane) = inner.peers.get_mut(&peer) {
                data_plane.listeners = ack.listeners.iter().map(readable).collect();
                data_plane.lacks = lacks;
            }
            inner.acknowledged(peer, result.of_all.generation, result.digest);
        }
        self.publisher.advanced();
        Ok(())
    }

    /// # Errors
    /// For another transaction than the one under way.
    pub fn on_nack(&mut self, nack: &pb::Nack) -> Result<(), SessionError> {
        let sent = self.take_under_way(nack.transaction)?.result.of_all;
        let Some(peer) = self.peer else {
            return Err(SessionError::Order);
        };
        let mut inner = self.publisher.inner.lock();
        let consequence = inner.reject(peer, &nack.rejected, sent.generation);
        if consequence.lacks {
            // Which version it has of what it refuses is not known: it gets everything else anew.
            self.held = None;
        } else if inner.store.cursor().generation == sent.generation {
            self.refused = Some(sent.generation);
        }
        if let Some(data_plane) = inner.peers.get_mut(&peer) {
            data_plane.refused = Some(printable(&nack.message, REASON));
        }
        self.publisher.settle(inner, consequence.serves);
        Ok(())
    }

    /// The data plane cannot apply what was sent to what it holds: it gets everything.
    pub fn on_resync(&mut self, _: &pb::Resync) {
        self.under_way = None;
        self.held = None;
        self.said = None;
        if let Some(peer) = self.peer {
            self.publisher.inner.lock().knows_nothing_of(peer);
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

    fn take_under_way(&mut self, transaction: u64) -> Result<UnderWay, SessionError> {
        match self.under_way.take() {
            Some(under_way) if under_way.number == transaction => Ok(under_way),
            other => {
                self.under_way = other;
                Err(SessionError::NotUnderWay)
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(peer) = self.peer.or(self.turned_away) {
            let mut inner = self.publisher.inner.lock();
            let changed = inner.leave(peer);
            self.publisher.settle(inner, changed);
        }
    }
}

/// A listener's state as it may stand in status, and be told to other replicas.
fn readable(state: &pb::ListenerState) -> pb::ListenerState {
    pb::ListenerState {
        key: printable(&state.key, REASON),
        bound: state.bound,
        address: printable(&state.address, NAME),
        error: printable(&state.error, REASON),
    }
}

/// Text of a peer as it may stand in logs and status: one line, of so many bytes at most.
pub(crate) fn printable(text: &str, most: usize) -> String {
    let fitting = text.char_indices();
    let fitting = fitting.take_while(|(at, c)| at + c.len_utf8() <= most);
    let line = fitting.map(|(_, c)| if c.is_control() { ' ' } else { c });
    line.collect()
}

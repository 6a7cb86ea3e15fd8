//! Idle upstream connections of one worker thread.
//!
//! The last connection put back is the first taken, so that the surplus of a busy minute grows old and goes. Bounds:
//! so many a key, so many altogether (the oldest of all makes room), so long idle, so many exchanges each. A
//! connection is looked at when it is taken, without a system call while nothing has happened on it.

use super::io::Socket;
use super::up::H1Up;
use hashbrown::HashMap;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::Instant;

/// What two exchanges must have in common to share a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolKey {
    pub address: SocketAddr,
    /// Identity of everything that made the TLS session what it is (names, CA, client certificate, protocols); 0 for
    /// a plain connection.
    pub tls: u64,
}

/// Bounds of one thread's pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// Idle connections of one key.
    pub per_key: usize,
    /// Idle connections altogether.
    pub total: usize,
    /// How long one may be idle.
    pub idle: Duration,
    /// Exchanges on one connection.
    pub uses: u32,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            per_key: 128,
            total: 1024,
            idle: Duration::from_secs(60),
            uses: 10_000,
        }
    }
}

/// Counted since the start; shared between threads.
#[derive(Debug, Default)]
pub struct PoolCounters {
    /// Connections opened.
    pub opened: AtomicU64,
    /// Connects that failed or timed out.
    pub failed: AtomicU64,
    /// Exchanges that found an idle connection.
    pub reused: AtomicU64,
    /// Idle connections closed because a bound was reached.
    pub evicted: AtomicU64,
    /// Idle connections closed because of their age.
    pub expired: AtomicU64,
    /// Idle connections that the upstream had closed or written to.
    pub dead: AtomicU64,
    /// Idle connections over HTTP/1 at the moment: what the pools hold.
    pub idle: AtomicU64,
    /// Connections at the moment, the idle ones included.
    pub open: AtomicU64,
    pub h2: H2Counters,
}

/// The same of connections over HTTP/2, which exchanges share.
#[derive(Debug, Default)]
pub struct H2Counters {
    /// Connections that are there for others at the moment: what the pools hold.
    pub kept: AtomicU64,
    /// Connections that serve nobody else because a bound was reached.
    pub surplus: AtomicU64,
    /// Connections without an exchange at the moment.
    pub idle: AtomicU64,
    /// Streams that upstreams have reset.
    pub resets: AtomicU64,
}

/// What an upstream asks of its idle connections, within the bounds of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Idle connections of one key.
    pub connections: usize,
    /// How long one may be idle.
    pub idle: Duration,
}

impl Default for Keep {
    /// Whatever the pool allows.
    fn default() -> Self {
        Self {
            connections: usize::MAX,
            idle: Duration::MAX,
        }
    }
}

/// What is kept about a connection between two exchanges.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Idle {
    /// Exchanges so far.
    pub(crate) uses: u32,
    pub(crate) keep: Keep,
}

/// Where a connection goes when its exchange is over.
#[derive(Debug)]
pub(crate) struct Home<S: Socket> {
    pool: Rc<Pool<S>>,
    key: PoolKey,
}

impl<S: Socket> Home<S> {
    pub(crate) fn put(self, mut conn: Box<H1Up<S>>) {
        conn.idle.uses += 1;
        self.pool.put(self.key, conn);
    }
}

/// The idle connections of one thread.
#[derive(Debug)]
pub struct Pool<S: Socket> {
    config: PoolConfig,
    counters: Arc<PoolCounters>,
    inner: RefCell<Inner<S>>,
}

/// Slots in two lists each: by age over all keys, and by age within a key. Both newest first.
#[derive(Debug)]
struct Inner<S: Socket> {
    slots: Vec<Slot<S>>,
    free: Vec<usize>,
    keys: HashMap<PoolKey, List, foldhash::fast::RandomState>,
    all: List,
}

#[derive(Debug)]
struct Slot<S: Socket> {
    /// `None` while the slot is free.
    entry: Option<Entry<S>>,
    in_all: Link,
    in_key: Link,
}

#[derive(Debug)]
struct Entry<S: Socket> {
    key: PoolKey,
    conn: Box<H1Up<S>>,
    since: Instant,
}

#[derive(Clone, Copy, Debug, Default)]
struct Link {
    newer: Option<usize>,
    older: Option<usize>,
}

#[derive(Clone, Copy, Debug, Default)]
struct List {
    newest: Option<usize>,
    oldest: Option<usize>,
    len: usize,
}

impl List {
    /// Inserts at the newest end.
    fn link<S: Socket>(
        &mut self,
        slots: &mut [Slot<S>],
        at: usize,
        link: fn(&mut Slot<S>) -> &mut Link,
    ) {
        if let Some(newest) = self.newest.and_then(|n| slots.get_mut(n)) {
            link(newest).newer = Some(at);
        }
        if let Some(slot) = slots.get_mut(at) {
            *link(slot) = Link {
                newer: None,
                older: self.newest,
            };
        }
        self.newest = Some(at);
        self.oldest = self.oldest.or(Some(at));
        self.len += 1;
    }

    fn unlink<S: Socket>(
        &mut self,
        slots: &mut [Slot<S>],
        at: usize,
        link: fn(&mut Slot<S>) -> &mut Link,
    ) {
        let Some(Link { newer, older }) = slots.get_mut(at).map(|s| *link(s)) else {
            return;
        };
        match newer.and_then(|n| slots.get_mut(n)) {
            Some(slot) => link(slot).older = older,
            None => self.newest = older,
        }
        match older.and_then(|o| slots.get_mut(o)) {
            Some(slot) => link(slot).newer = newer,
            None => self.oldest = newer,
        }
        self.len -= 1;
    }
}

impl<S: Socket> Default for Inner<S> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            keys: HashMap::default(),
            all: List::default(),
        }
    }
}

impl<S: Socket> Inner<S> {
    fn insert(&mut self, entry: Entry<S>) {
        let key = entry.key;
        let slot = Slot {
            entry: Some(entry),
            in_all: Link::default(),
            in_key: Link::default(),
        };
        let at = self.free.pop().unwrap_or(self.slots.len());
        match self.slots.get_mut(at) {
            Some(free) => *free = slot,
            None => self.slots.push(slot),
        }
        self.all.link(&mut self.slots, at, |s| &mut s.in_all);
        self.keys
            .entry(key)
            .or_default()
            .link(&mut self.slots, at, |s| &mut s.in_key);
    }

    /// The key stays, so that a busy endpoint costs no insertion each time; a sweep removes empty ones.
    fn remove(&mut self, at: usize) -> Option<Entry<S>> {
        let entry = self.slots.get_mut(at)?.entry.take()?;
        self.all.unlink(&mut self.slots, at, |s| &mut s.in_all);
        if let Some(list) = self.keys.get_mut(&entry.key) {
            list.unlink(&mut self.slots, at, |s| &mut s.in_key);
        }
        self.free.push(at);
        Some(entry)
    }

    fn entry_mut(&mut self, at: usize) -> Option<&mut Entry<S>> {
        self.slots.get_mut(at)?.entry.as_mut()
    }
}

impl<S: Socket> Pool<S> {
    pub fn new(config: PoolConfig, counters: Arc<PoolCounters>) -> Rc<Self> {
        Rc::new(Self {
            config,
            counters,
            inner: RefCell::default(),
        })
    }

    /// The newest idle connection to `key` that is still good.
    pub fn take(self: &Rc<Self>, key: PoolKey) -> Option<Box<H1Up<S>>> {
        loop {
            let mut entry = {
                let mut inner = self.inner.borrow_mut();
                let at = inner.keys.get(&key)?.newest?;
                inner.remove(at)?
            };
            self.counters.idle.fetch_sub(1, Relaxed);
            if !entry.conn.is_quiet() {
                self.counters.dead.fetch_add(1, Relaxed);
            } else if entry.since.elapsed() > self.config.idle.min(entry.conn.idle.keep.idle) {
                self.counters.expired.fetch_add(1, Relaxed);
            } else {
                self.counters.reused.fetch_add(1, Relaxed);
                entry.conn.again(self.home(key));
                return Some(entry.conn);
            }
        }
    }

    /// An exchange on a connection that has just been opened; it comes back to this pool.
    pub fn adopt_new(self: &Rc<Self>, key: PoolKey, socket: S, keep: Keep) -> Box<H1Up<S>> {
        H1Up::on(socket, Some(self.home(key)), Idle { uses: 0, keep })
    }

    fn home(self: &Rc<Self>, key: PoolKey) -> Home<S> {
        let pool = Rc::clone(self);
        Home { pool, key }
    }

    fn put(&self, key: PoolKey, conn: Box<H1Up<S>>) {
        let idle = conn.idle;
        let per_key = self.config.per_key.min(idle.keep.connections);
        if idle.uses >= self.config.uses || per_key == 0 || self.config.total == 0 {
            return;
        }
        let mut inner = self.inner.borrow_mut();
        let of_key = inner.keys.get(&key).copied().unwrap_or_default();
        let surplus = if of_key.len >= per_key {
            of_key.oldest
        } else if inner.all.len >= self.config.total {
            inner.all.oldest
        } else {
            None
        };
        let evicted = surplus.and_then(|at| inner.remove(at));
        inner.insert(Entry {
            key,
            conn,
            since: Instant::now(),
        });
        drop(inner);
        match evicted {
            Some(_) => self.counters.evicted.fetch_add(1, Relaxed),
            None => self.counters.idle.fetch_add(1, Relaxed),
        };
    }

    /// Closes the connections that have been idle too long or that the upstream has closed.
    pub fn sweep(&self) {
        let now = Instant::now();
        let mut inner = self.inner.borrow_mut();
        let mut next = inner.all.oldest;
        while let Some(at) = next {
            next = inner.slots.get(at).and_then(|s| s.in_all.newer);
            let Some(entry) = inner.entry_mut(at) else {
                break;
            };
            let counter = if now.duration_since(entry.since)
                > self.config.idle.min(entry.conn.idle.keep.idle)
            {
                &self.counters.expired
            } else if !entry.conn.is_quiet() {
                &self.counters.dead
            } else {
                continue;
            };
            counter.fetch_add(1, Relaxed);
            self.counters.idle.fetch_sub(1, Relaxed);
            inner.remove(at);
        }
        inner.keys.retain(|_, list| list.len > 0);
    }

    /// Closes all idle connections to `key`: its endpoint is gone.
    pub fn forget(&self, key: PoolKey) {
        let mut inner = self.inner.borrow_mut();
        while let Some(at) = inner.keys.get(&key).and_then(|l| l.newest) {
            inner.remove(at);
            self.counters.idle.fetch_sub(1, Relaxed);
        }
        inner.keys.remove(&key);
    }

    /// Idle connections of this thread.
    pub fn len(&self) -> usize {
        self.inner.borrow().all.len
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<S: Socket> Drop for Pool<S> {
    fn drop(&mut self) {
        self.counters
            .idle
            .fetch_sub(self.inner.get_mut().all.len as u64, Relaxed);
    }
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;

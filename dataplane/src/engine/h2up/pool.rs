//! The HTTP/2 connections of one worker thread, by key.
//!
//! Whoever wants an exchange makes a [`Claim`]: it gets one on a connection with room, or waits for a connection that
//! somebody opens, or opens one itself. So a burst on a cold key opens as many connections as it needs, not one each.

use super::conn::H2Conn;
use super::exchange::H2Up;
use crate::engine::fault::UpFault;
use crate::engine::pool::{PoolConfig, PoolCounters, PoolKey};
use hashbrown::HashMap;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How long it is remembered that an upstream chose HTTP/1.1.
const MEMORY: Duration = Duration::from_secs(60);

/// The connections of one thread.
#[derive(Debug)]
pub struct H2Pool {
    config: PoolConfig,
    counters: Arc<PoolCounters>,
    keys: RefCell<HashMap<PoolKey, Known, foldhash::fast::RandomState>>,
}

#[derive(Debug, Default)]
struct Known {
    conns: Vec<Rc<H2Conn>>,
    /// Connections that are being opened.
    gates: Vec<Rc<Gate>>,
    /// When the upstream last chose HTTP/1.1.
    http1: Option<Instant>,
}

/// What came of asking for an exchange.
#[derive(Debug)]
pub enum Claim {
    Exchange(Box<H2Up>),
    /// Somebody opens a connection: ask again after it.
    Wait(Rc<Gate>),
    /// Open one.
    Lead(Lead),
    /// The upstream prefers HTTP/1.1.
    Http1,
}

impl H2Pool {
    pub fn new(config: PoolConfig, counters: Arc<PoolCounters>) -> Rc<Self> {
        Rc::new(Self {
            config,
            counters,
            keys: RefCell::default(),
        })
    }

    /// Asks for an exchange. `waiters`: how many may wait for one connection that is being opened.
    pub async fn claim(self: &Rc<Self>, key: PoolKey, waiters: usize) -> Claim {
        loop {
            let conn = {
                let mut keys = self.keys.borrow_mut();
                let known = keys.entry(key).or_default();
                let before = known.conns.len();
                known.conns.retain(|conn| !conn.is_over());
                self.lost(before - known.conns.len());
                known.gates.retain(|gate| !gate.is_open());
                match known.conns.iter().find(|conn| conn.has_room()) {
                    Some(conn) => Rc::clone(conn),
                    None if known.prefers_http1() => return Claim::Http1,
                    None => {
                        let waiting = |gate: &&Rc<Gate>| gate.waiting.get() < waiters;
                        if let Some(gate) = known.gates.iter().find(waiting) {
                            return Claim::Wait(Rc::clone(gate));
                        }
                        let gate = Rc::new(Gate::default());
                        known.gates.push(Rc::clone(&gate));
                        return Claim::Lead(Lead {
                            pool: Rc::clone(self),
                            key,
                            gate,
                            handed_over: false,
                        });
                    }
                }
            };
            // In vain only if it is full or over, as the next turn will see.
            if let Some(up) = conn.open().await {
                return Claim::Exchange(Box::new(up));
            }
        }
    }

    /// Keeps a connection for others, within the bounds.
    fn keep(&self, key: PoolKey, conn: &Rc<H2Conn>) {
        let mut keys = self.keys.borrow_mut();
        let total: usize = keys.values().map(|known| known.conns.len()).sum();
        let known = keys.entry(key).or_default();
        let per_key = self.config.per_key.min(conn.keep().connections);
        if known.conns.len() < per_key && total < self.config.total {
            known.conns.push(Rc::clone(conn));
            self.counters.h2.kept.fetch_add(1, Relaxed);
        } else {
            self.counters.h2.surplus.fetch_add(1, Relaxed);
        }
    }

    /// So many are kept no longer.
    fn lost(&self, count: usize) {
        if count > 0 {
            self.counters.h2.kept.fetch_sub(count as u64, Relaxed);
        }
    }

    /// Lets go of the connections that are over or have been idle too long.
    pub fn sweep(&self) {
        let mut gone = Vec::new();
        self.keys.borrow_mut().retain(|_, known| {
            gone.extend(known.conns.extract_if(.., |conn| {
                let counter = if conn.is_over() {
                    &self.counters.dead
                } else if conn.is_expired(self.config.idle) {
                    &self.counters.expired
                } else {
                    return false;
                };
                counter.fetch_add(1, Relaxed);
                true
            }));
            known.gates.retain(|gate| !gate.is_open());
            !known.conns.is_empty() || !known.gates.is_empty() || known.prefers_http1()
        });
        self.lost(gone.len());
    }

    /// Connections of this thread.
    pub fn len(&self) -> usize {
        self.keys
            .borrow()
            .values()
            .map(|known| known.conns.len())
            .sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Drop for H2Pool {
    fn drop(&mut self) {
        self.lost(self.len());
    }
}

impl Known {
    fn prefers_http1(&self) -> bool {
        self.http1.is_some_and(|at| at.elapsed() < MEMORY)
    }
}

/// The duty to open a connection, for oneself and for those who wait. Dropped without success, it passes on to one of
/// them.
#[derive(Debug)]
pub struct Lead {
    pool: Rc<H2Pool>,
    key: PoolKey,
    gate: Rc<Gate>,
    /// The gate is the connection's now.
    handed_over: bool,
}

impl Lead {
    /// For [`handshake`](super::handshake).
    pub fn gate(&self) -> Rc<Gate> {
        Rc::clone(&self.gate)
    }

    /// The connection is open.
    pub fn opened(mut self, conn: &Rc<H2Conn>) {
        self.handed_over = true;
        self.pool.keep(self.key, conn);
    }

    /// The upstream chose HTTP/1.1.
    pub fn http1(self) {
        let mut keys = self.pool.keys.borrow_mut();
        keys.entry(self.key).or_default().http1 = Some(Instant::now());
    }

    /// It failed, for those who wait as well.
    pub fn failed(self, fault: UpFault) {
        self.gate.open(Some(fault));
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if !self.handed_over {
            self.gate.open(None);
        }
    }
}

/// Where exchanges wait for a connection that is being opened.
#[derive(Debug, Default)]
pub struct Gate {
    open: Cell<bool>,
    fault: Cell<Option<UpFault>>,
    waiting: Cell<usize>,
    opened: Notify,
}

impl Gate {
    pub(super) fn open(&self, fault: Option<UpFault>) {
        if !self.open.replace(true) {
            self.fault.set(fault);
            self.opened.notify_waiters();
        }
    }

    fn is_open(&self) -> bool {
        self.open.get()
    }

    /// Waits for the outcome.
    ///
    /// # Errors
    /// The connection could not be opened.
    pub async fn wait(&self) -> Result<(), UpFault> {
        struct Waiting<'a>(&'a Cell<usize>);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.set(self.0.get() - 1);
            }
        }
        self.waiting.set(self.waiting.get() + 1);
        let _waiting = Waiting(&self.waiting);
        // Nothing can open it between the question and the wait: both are on this thread.
        if !self.is_open() {
            self.opened.notified().await;
        }
        self.fault.get().map_or(Ok(()), Err)
    }
}

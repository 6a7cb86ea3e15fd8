//! How much may be under way at once, over all threads of the process: permits, and a queue for those who wait.
//!
//! A permit costs one atomic operation as long as nobody waits. The queue is first come, first served, under a lock
//! that is held for moments; a permit that is given back goes straight to the one who has waited longest, on whatever
//! thread. Permits and places in the queue are guards: however a request ends, they are given back.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::task::{Context, Poll, ready};
use tokio::sync::oneshot;

/// So many at once, and so many that wait.
#[derive(Debug)]
pub struct Gate {
    used: AtomicU32,
    limit: AtomicU32,
    depth: AtomicU32,
    /// Length of the queue, to be read without the lock.
    waiting: AtomicU32,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    waiters: VecDeque<(u64, oneshot::Sender<()>)>,
    next: u64,
}

/// What [`Gate::enter`] comes to.
#[derive(Debug)]
pub enum Entry {
    Permitted(Permit),
    /// A place in the queue: wait for it.
    Queued(Waiting),
    /// The queue is full, or there is none.
    Full,
}

impl Gate {
    pub fn new(limit: u32, depth: u32) -> Arc<Self> {
        Arc::new(Self {
            used: AtomicU32::new(0),
            limit: AtomicU32::new(limit),
            depth: AtomicU32::new(depth),
            waiting: AtomicU32::new(0),
            queue: Mutex::default(),
        })
    }

    /// New bounds for what is under way already. Who has a permit keeps it, who waits goes on waiting.
    pub fn set(&self, limit: u32, depth: u32) {
        self.depth.store(depth, SeqCst);
        self.limit.store(limit, SeqCst);
        self.admit(&mut self.queue.lock());
    }

    /// A permit, or a place in the queue.
    pub fn enter(self: &Arc<Self>) -> Entry {
        if self.waiting.load(SeqCst) == 0 && self.take() {
            return Entry::Permitted(Permit(Arc::clone(self)));
        }
        let depth = self.depth.load(SeqCst) as usize;
        if depth == 0 {
            return Entry::Full;
        }
        let mut queue = self.queue.lock();
        if queue.waiters.len() >= depth {
            return Entry::Full;
        }
        let id = queue.next;
        queue.next += 1;
        let (sender, granted) = oneshot::channel();
        queue.waiters.push_back((id, sender));
        self.note(&queue);
        // Whoever gave a permit back before it could see this place has left it free.
        self.admit(&mut queue);
        Entry::Queued(Waiting {
            gate: Some(Arc::clone(self)),
            id,
            granted,
        })
    }

    /// Permits in use.
    pub fn used(&self) -> u32 {
        self.used.load(SeqCst)
    }

    pub fn limit(&self) -> u32 {
        self.limit.load(SeqCst)
    }

    /// Whether any request may wait.
    pub fn has_queue(&self) -> bool {
        self.depth.load(SeqCst) > 0
    }

    /// Requests in the queue.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(SeqCst)
    }

    fn take(&self) -> bool {
        let limit = self.limit.load(SeqCst);
        let more = |used: u32| (used < limit).then_some(used + 1);
        self.used.try_update(SeqCst, SeqCst, more).is_ok()
    }

    /// Gives free permits to those who wait.
    fn admit(&self, queue: &mut Queue) {
        while !queue.waiters.is_empty() && self.take() {
            self.grant(queue);
        }
    }

    /// Hands a permit that is counted already to the first in the queue.
    fn grant(&self, queue: &mut Queue) {
        if let Some((_, sender)) = queue.waiters.pop_front() {
            self.note(queue);
            // It is there: a place is given up under the lock.
            let _ = sender.send(());
        }
    }

    fn note(&self, queue: &Queue) {
        let len = u32::try_from(queue.waiters.len()).unwrap_or(u32::MAX);
        self.waiting.store(len, SeqCst);
    }

    fn give_back(&self) {
        if self.waiting.load(SeqCst) > 0 {
            let mut queue = self.queue.lock();
            if !queue.waiters.is_empty() && self.used.load(SeqCst) <= self.limit.load(SeqCst) {
                return self.grant(&mut queue);
            }
        }
        self.used.fetch_sub(1, SeqCst);
        // Somebody may have begun to wait in between.
        if self.waiting.load(SeqCst) > 0 {
            self.admit(&mut self.queue.lock());
        }
    }
}

/// Something may be under way until this is dropped.
#[derive(Debug)]
pub struct Permit(Arc<Gate>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.give_back();
    }
}

/// A place in a queue, given up when dropped. Ready with a permit.
#[derive(Debug)]
pub struct Waiting {
    /// `None`: the permit has been handed out.
    gate: Option<Arc<Gate>>,
    id: u64,
    granted: oneshot::Receiver<()>,
}

impl Future for Waiting {
    type Output = Permit;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Permit> {
        // The sender is dropped only when it has sent.
        let _ = ready!(Pin::new(&mut self.granted).poll(cx));
        match self.gate.take() {
            Some(gate) => Poll::Ready(Permit(gate)),
            None => Poll::Pending,
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Some(gate) = self.gate.take() else {
            return;
        };
        let mut queue = gate.queue.lock();
        let place = queue.waiters.iter().position(|(id, _)| *id == self.id);
        match place {
            Some(at) => {
                queue.waiters.remove(at);
                gate.note(&queue);
            }
            None => {
                // It has been granted and not been taken.
                drop(queue);
                gate.give_back();
            }
        }
    }
}

#[cfg(test)]
#[path = "tests/gate.rs"]
mod tests;

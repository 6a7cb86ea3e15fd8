//! Telling the connections of a listener that they shall end, or those that are idle: flags, and the wakers of those that
//! wait.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};

/// One listener's end, on one thread.
#[derive(Debug, Default)]
pub struct Drain {
    begun: Cell<bool>,
    hurried: Cell<bool>,
    inner: RefCell<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    slots: Vec<Option<Waker>>,
    free: Vec<usize>,
}

impl Drain {
    /// From now on answers say `Connection: close`, and idle connections close.
    pub fn begin(&self) {
        self.begun.set(true);
        self.wake();
    }

    /// For as long as this holds, idle connections close, and nothing else.
    pub fn hurry(&self, on: bool) {
        if self.hurried.replace(on) != on && on {
            self.wake();
        }
    }

    fn wake(&self) {
        let wakers: Vec<Waker> = self
            .inner
            .borrow_mut()
            .slots
            .iter_mut()
            .filter_map(Option::take)
            .collect();
        for waker in wakers {
            waker.wake();
        }
    }

    pub fn has_begun(&self) -> bool {
        self.begun.get()
    }
}

/// One connection's place among those to be told.
#[derive(Debug)]
pub struct Ticket {
    drain: Rc<Drain>,
    slot: Option<usize>,
}

impl Ticket {
    pub fn new(drain: Rc<Drain>) -> Self {
        Self { drain, slot: None }
    }

    /// Whether the end has begun.
    pub fn has_begun(&self) -> bool {
        self.drain.has_begun()
    }

    /// Whether idle connections shall end.
    pub fn is_hurried(&self) -> bool {
        self.drain.hurried.get()
    }

    /// As [`Self::has_begun`]; if not, the task is woken when it begins, or idle connections shall end.
    pub fn poll(&mut self, cx: &Context<'_>) -> bool {
        if self.drain.has_begun() {
            return true;
        }
        let mut guard = self.drain.inner.borrow_mut();
        let inner = &mut *guard;
        let at = *self.slot.get_or_insert_with(|| {
            inner.free.pop().unwrap_or_else(|| {
                inner.slots.push(None);
                inner.slots.len() - 1
            })
        });
        match inner.slots.get_mut(at) {
            Some(Some(waker)) if waker.will_wake(cx.waker()) => {}
            Some(slot) => *slot = Some(cx.waker().clone()),
            None => {}
        }
        false
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(at) = self.slot {
            let mut inner = self.drain.inner.borrow_mut();
            if let Some(slot) = inner.slots.get_mut(at) {
                *slot = None;
            }
            inner.free.push(at);
        }
    }
}

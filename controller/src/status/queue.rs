//! Names of objects whose status may have to be written.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use prometheus::IntGauge;
use tokio::sync::Notify;

use crate::world::ObjectId;

/// Beyond this it is cheaper to look at all objects.
const MAX: usize = 100_000;

/// A set of names; whoever waits for one is woken.
pub struct Queue {
    state: Mutex<State>,
    wake: Notify,
    depth: Option<IntGauge>,
}

#[derive(Default)]
struct State {
    /// Those with listeners come first: they count Routes, are few, and do not wait for what they count.
    ids: BTreeSet<(bool, ObjectId)>,
    all: bool,
}

/// The next piece of work.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Look at every object.
    All,
    Some(Vec<ObjectId>),
}

impl Queue {
    /// `depth` shows how many names wait.
    pub fn new(depth: IntGauge) -> Self {
        Self {
            state: Mutex::default(),
            wake: Notify::new(),
            depth: Some(depth),
        }
    }

    /// Without a gauge.
    pub fn uncounted() -> Self {
        Self {
            state: Mutex::default(),
            wake: Notify::new(),
            depth: None,
        }
    }

    /// Adds names of our own kinds.
    pub fn push(&self, ids: impl IntoIterator<Item = ObjectId>) {
        let mut state = self.state.lock();
        let ids = ids.into_iter().filter(|id| id.kind.has_status());
        state
            .ids
            .extend(ids.map(|id| (!id.kind.has_listeners(), id)));
        if state.ids.len() > MAX {
            state.ids.clear();
            state.all = true;
        }
        self.changed(&state);
    }

    /// Asks for every object to be looked at.
    pub fn push_all(&self) {
        let mut state = self.state.lock();
        state.all = true;
        self.changed(&state);
    }

    /// Forgets everything: somebody else writes.
    pub fn clear(&self) {
        let mut state = self.state.lock();
        *state = State::default();
        self.changed(&state);
    }

    /// Takes up to `most` names, when there is anything to do.
    pub fn take(&self, most: usize) -> Option<Next> {
        let mut state = self.state.lock();
        if std::mem::replace(&mut state.all, false) {
            return Some(Next::All);
        }
        let mut ids = Vec::new();
        while ids.len() < most {
            let Some((_, id)) = state.ids.pop_first() else {
                break;
            };
            ids.push(id);
        }
        self.changed(&state);
        (!ids.is_empty()).then_some(Next::Some(ids))
    }

    /// Returns when there may be something to do.
    pub async fn wait(&self) {
        self.wake.notified().await;
    }

    fn changed(&self, state: &State) {
        if let Some(depth) = &self.depth {
            depth.set(i64::try_from(state.ids.len()).unwrap_or(i64::MAX));
        }
        if state.all || !state.ids.is_empty() {
            self.wake.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::ObjectKind;

    #[test]
    fn names_are_taken_once_and_an_overflow_becomes_all() {
        let queue = Queue::new(IntGauge::new("depth", "depth").unwrap());
        let route = |n: usize| ObjectId::new(ObjectKind::Route, "a", n.to_string());
        queue.push([
            route(1),
            route(2),
            route(1),
            ObjectId::new(ObjectKind::Service, "a", "s"),
        ]);
        assert_eq!(queue.depth.as_ref().unwrap().get(), 2);
        // What counts others does not wait for them.
        let gateway = ObjectId::new(ObjectKind::Gateway, "a", "g");
        queue.push([gateway.clone()]);
        assert_eq!(queue.take(1), Some(Next::Some(vec![gateway])));
        assert_eq!(queue.take(1), Some(Next::Some(vec![route(1)])));
        assert_eq!(queue.take(9), Some(Next::Some(vec![route(2)])));
        assert_eq!(queue.take(9), None);
        queue.push((0..=MAX).map(route));
        assert_eq!(queue.take(9), Some(Next::All));
        assert_eq!(queue.take(9), None);
        queue.push_all();
        queue.clear();
        assert_eq!(queue.take(9), None);
    }
}

//! Requests by listener.

use super::metrics::CLASSES;
use super::routes::OTHER;
use parking_lot::Mutex;
use prometheus::core::{AtomicU64, GenericCounter};
use prometheus::{IntCounterVec, Opts, Registry};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Listeners with series of their own; the others share [`OTHER`].
pub const MAX_LISTENERS: usize = 16;

/// Requests of one listener by status class, found once for each listener of a table.
#[derive(Debug)]
pub struct ListenerCounters([GenericCounter<AtomicU64>; 5]);

impl ListenerCounters {
    /// Counts an answer; a request that got none counts as 4xx when the client left, so as not to be lost.
    pub fn count(&self, status: u16) {
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        if let Some(counter) = self.0.get(class) {
            counter.inc();
        }
    }
}

/// The listeners that were asked for so far.
pub struct Listeners {
    requests: IntCounterVec,
    known: Mutex<BTreeMap<String, Arc<ListenerCounters>>>,
}

impl Listeners {
    #[allow(
        clippy::unwrap_used,
        reason = "names and labels are constants of this function: the first call in any test would fail"
    )]
    pub(super) fn register(registry: &Registry) -> Self {
        let opts = Opts::new("diolkos_requests_total", "Requests answered.");
        let requests = IntCounterVec::new(opts, &["listener", "code_class"]).unwrap();
        registry.register(Box::new(requests.clone())).unwrap();
        Self {
            requests,
            known: Mutex::default(),
        }
    }

    /// Requests of listeners that have no series of their own.
    pub(super) fn others(&self) -> u64 {
        let known = self.known.lock();
        let others = known.get(OTHER).map(|other| &other.0);
        others.into_iter().flatten().map(GenericCounter::get).sum()
    }

    /// The counters of a listener by its key, or of those that are no more.
    pub fn of(&self, listener: Option<&str>) -> Arc<ListenerCounters> {
        let mut known = self.known.lock();
        let named = listener.filter(|key| known.contains_key(*key) || known.len() < MAX_LISTENERS);
        let label = named.unwrap_or(OTHER);
        if let Some(counters) = known.get(label) {
            return Arc::clone(counters);
        }
        let counters = CLASSES.map(|class| self.requests.with_label_values(&[label, class]));
        let counters = Arc::new(ListenerCounters(counters));
        known.insert(label.to_owned(), Arc::clone(&counters));
        counters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_beyond_the_cap_share_one_label() {
        let listeners = Listeners::register(&Registry::new());
        for i in 0..MAX_LISTENERS * 2 {
            listeners.of(Some(&format!("ns/gw/{i}"))).count(200);
        }
        listeners.of(None).count(404);
        assert_eq!(listeners.known.lock().len(), MAX_LISTENERS + 1);
        let [_, good, _, bad, _] = &listeners.of(Some("ns/gw/more")).0;
        assert_eq!((good.get(), bad.get()), (MAX_LISTENERS as u64, 1));
        assert_eq!(listeners.others(), MAX_LISTENERS as u64 + 1);
        assert_eq!(listeners.of(Some("ns/gw/0")).0[1].get(), 1);
    }
}

//! Requests by listener.

use super::metrics::{CLASSES, class_of};
use super::requests::LABELS;
use super::routes::OTHER;
use parking_lot::Mutex;
use prometheus::core::{AtomicU64, GenericCounter};
use prometheus::{IntCounterVec, Opts, Registry};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Listeners with series of their own; the others share [`OTHER`].
pub const MAX_LISTENERS: usize = 16;
/// Labels that there may be.
pub(super) const PLACES: usize = MAX_LISTENERS + 1;

/// Requests of one listener by status class, found once for each listener of a table.
#[derive(Debug)]
pub struct ListenerCounters {
    label: Box<str>,
    /// Below [`PLACES`], another one for each label.
    place: usize,
    classes: [GenericCounter<AtomicU64>; CLASSES.len()],
}

impl ListenerCounters {
    /// Counts an answer; a request that got none counts as 4xx when the client left, so as not to be lost.
    pub fn count(&self, status: u16) {
        let counter = self.classes.get(class_of(status));
        counter.into_iter().for_each(GenericCounter::inc);
    }

    pub(super) fn label(&self) -> &str {
        &self.label
    }

    pub(super) fn place(&self) -> usize {
        self.place
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
        let labels = ["listener", "code_class", LABELS[0], LABELS[1]];
        let requests = IntCounterVec::new(opts, &labels).unwrap();
        registry.register(Box::new(requests.clone())).unwrap();
        Self {
            requests,
            known: Mutex::default(),
        }
    }

    /// For requests of listeners that are counted apart.
    pub(super) fn family(&self) -> IntCounterVec {
        self.requests.clone()
    }

    /// Requests of listeners that have no series of their own.
    pub(super) fn others(&self) -> u64 {
        let known = self.known.lock();
        let others = known.get(OTHER).map(|other| &other.classes);
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
        let series = |class| self.requests.with_label_values(&[label, class, "", ""]);
        let counters = Arc::new(ListenerCounters {
            label: label.into(),
            place: known.len(),
            classes: CLASSES.map(series),
        });
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
        let others = listeners.of(Some("ns/gw/more"));
        let [_, good, _, bad, _] = &others.classes;
        assert_eq!((good.get(), bad.get()), (MAX_LISTENERS as u64, 1));
        assert_eq!(others.place(), PLACES - 1);
        assert_eq!(listeners.others(), MAX_LISTENERS as u64 + 1);
        assert_eq!(listeners.of(Some("ns/gw/0")).classes[1].get(), 1);
    }
}

//! What is counted of requests and of the attempts at them: in one set of series for all, and where the configuration
//! wants the labels `tenant` and `upstream`, in a set of their own for each pair of values that occurs.
//!
//! A series is made when something is to be counted in it, within the [`Budget`]. What would be beyond that is counted
//! under [`OTHER`] in place of the Tenant and the upstream.

use super::budget::Budget;
use super::listeners::{ListenerCounters, Listeners, PLACES};
use super::metrics::{Attempt, CLASSES, Kind, LATENCY, class_of};
use super::routes::OTHER;
use crate::proxy::fail::CATALOGUE;
use parking_lot::Mutex;
use prometheus::core::{AtomicU64, GenericCounter};
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64 as Count, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

type Counter = GenericCounter<AtomicU64>;

/// Labels with values from the configuration. An empty value is none.
pub(super) const LABELS: [&str; 2] = ["tenant", "upstream"];

/// Lines of a histogram of latencies.
const HISTOGRAM: usize = LATENCY.len() + 3;

/// All sets of series.
pub struct Requests {
    families: Arc<Families>,
    /// Of requests for which no label is wanted.
    pub plain: Arc<RequestSeries>,
    known: Mutex<HashMap<[Box<str>; 2], Arc<RequestSeries>>>,
    pub(super) endpoints: Arc<OwnEndpoints>,
}

/// Upstreams whose endpoints are counted apart from others: those that requests are counted by, as far as the budget
/// goes.
#[derive(Debug, Default)]
pub struct OwnEndpoints(Mutex<HashSet<Box<str>>>);

impl OwnEndpoints {
    /// By state.
    const SERIES: usize = 4;

    pub(super) fn has(&self, upstream: &str) -> bool {
        self.0.lock().contains(upstream)
    }

    fn add(&self, upstream: &str, budget: &Budget) {
        let mut known = self.0.lock();
        if !known.contains(upstream) && budget.take(Self::SERIES) {
            known.insert(upstream.into());
        }
    }
}

#[derive(Debug)]
struct Families {
    requests: IntCounterVec,
    errors: IntCounterVec,
    durations: HistogramVec,
    in_flight: IntGaugeVec,
    request_bytes: IntCounterVec,
    response_bytes: IntCounterVec,
    attempts: IntCounterVec,
    first_byte: HistogramVec,
    /// Of requests without labels, by [`Kind`].
    all_in_flight: [IntGauge; Kind::ALL.len()],
    budget: Arc<Budget>,
    /// Samples that were counted under [`OTHER`].
    overflow: Count,
}

/// The series of one pair of values, as far as there are any.
#[derive(Debug)]
pub struct RequestSeries {
    labels: [Box<str>; 2],
    families: Arc<Families>,
    /// What counts in their place where there may be no more; `None`: these are never too many.
    others: Option<Arc<Self>>,
    /// By the listener's place.
    requests: [OnceLock<[Counter; CLASSES.len()]>; PLACES],
    /// By the place in the catalogue.
    errors: [OnceLock<Counter>; CATALOGUE.len()],
    kinds: [OnceLock<OfKind>; Kind::ALL.len()],
    bytes: OnceLock<Bytes>,
    attempts: OnceLock<[Counter; Attempt::ALL.len()]>,
    first_byte: OnceLock<Histogram>,
}

#[derive(Debug)]
struct OfKind {
    in_flight: IntGauge,
    duration: Histogram,
}

#[derive(Debug)]
struct Bytes {
    request: Counter,
    response: Counter,
}

impl Requests {
    #[allow(
        clippy::unwrap_used,
        reason = "names and labels are constants of this function: the first call in any test would fail"
    )]
    pub(super) fn register(
        registry: &Registry,
        listeners: &Listeners,
        budget: &Arc<Budget>,
    ) -> Self {
        let with =
            |own: &[&'static str]| -> Vec<&str> { own.iter().copied().chain(LABELS).collect() };
        let counter = |name: &str, help: &str, own: &[&'static str]| {
            let family = IntCounterVec::new(Opts::new(name, help), &with(own)).unwrap();
            registry.register(Box::new(family.clone())).unwrap();
            family
        };
        let histogram = |name: &str, help: &str, own: &[&'static str]| {
            let opts = HistogramOpts::new(name, help).buckets(LATENCY.to_vec());
            let family = HistogramVec::new(opts, &with(own)).unwrap();
            registry.register(Box::new(family.clone())).unwrap();
            family
        };
        let in_flight = Opts::new(
            "diolkos_requests_in_flight",
            "Requests whose answer is not complete.",
        );
        let in_flight = IntGaugeVec::new(in_flight, &with(&["kind"])).unwrap();
        registry.register(Box::new(in_flight.clone())).unwrap();
        let families = Families {
            requests: listeners.family(),
            errors: counter(
                "diolkos_errors_total",
                "Answers of the gateway's own that tell of a failure, and exchanges it had to cut.",
                &["code"],
            ),
            durations: histogram(
                "diolkos_request_duration_seconds",
                "From the request's head to the last byte of its answer.",
                &["kind"],
            ),
            request_bytes: counter(
                "diolkos_request_bytes_total",
                "Bytes of request bodies.",
                &[],
            ),
            response_bytes: counter(
                "diolkos_response_bytes_total",
                "Bytes of response bodies.",
                &[],
            ),
            attempts: counter(
                "diolkos_upstream_attempts_total",
                "Attempts at upstreams.",
                &["outcome"],
            ),
            first_byte: histogram(
                "diolkos_upstream_first_byte_seconds",
                "From the beginning of an attempt to the answer's head.",
                &[],
            ),
            all_in_flight: Kind::ALL
                .map(|kind| in_flight.with_label_values(&[kind.label(), "", ""])),
            in_flight,
            budget: Arc::clone(budget),
            overflow: Count::new(0),
        };
        let families = Arc::new(families);
        let plain = RequestSeries::new(&families, ["", ""], None);
        plain.begin();
        Self {
            families,
            plain: Arc::new(plain),
            known: Mutex::default(),
            endpoints: Arc::default(),
        }
    }

    /// Samples that were counted under [`OTHER`].
    pub(super) fn overflow(&self) -> u64 {
        self.families.overflow.load(Relaxed)
    }

    /// The series of a pair of values, of which an empty one is none.
    pub fn of(&self, tenant: &str, upstream: &str) -> Arc<RequestSeries> {
        let labels = [tenant, upstream];
        if labels == ["", ""] {
            return Arc::clone(&self.plain);
        }
        let mut known = self.known.lock();
        let key = labels.map(Box::from);
        if let Some(series) = known.get(&key) {
            return Arc::clone(series);
        }
        let other = labels.map(|label| if label.is_empty() { "" } else { OTHER });
        let others = known
            .entry(other.map(Box::from))
            .or_insert_with(|| Arc::new(RequestSeries::new(&self.families, other, None)));
        let others = Arc::clone(others);
        let series = RequestSeries::new(&self.families, labels, Some(Arc::clone(&others)));
        // Each takes some at once, so that there are not more of them than series.
        let bytes = series.cell(Bytes::SERIES, |set| Some(&set.bytes), Bytes::of);
        if bytes.is_none_or(|(set, _)| !std::ptr::eq(set, &series)) {
            return others;
        }
        if !upstream.is_empty() {
            self.endpoints.add(upstream, &self.families.budget);
        }
        let series = Arc::new(series);
        known.insert(key, Arc::clone(&series));
        series
    }
}

impl RequestSeries {
    fn new(families: &Arc<Families>, labels: [&str; 2], others: Option<Arc<Self>>) -> Self {
        Self {
            labels: labels.map(Box::from),
            families: Arc::clone(families),
            others,
            requests: [const { OnceLock::new() }; PLACES],
            errors: [const { OnceLock::new() }; CATALOGUE.len()],
            kinds: [const { OnceLock::new() }; Kind::ALL.len()],
            bytes: OnceLock::new(),
            attempts: OnceLock::new(),
            first_byte: OnceLock::new(),
        }
    }

    /// Shows what is always there.
    fn begin(&self) {
        for kind in Kind::ALL {
            self.in_flight(kind);
        }
        for (at, cell) in self.errors.iter().enumerate() {
            cell.get_or_init(|| self.make_error(at));
        }
        self.attempts.get_or_init(|| self.make_attempts());
        self.bytes.get_or_init(|| Bytes::of(self));
        self.first_byte.get_or_init(|| self.make_first_byte());
    }

    /// A cell of this set, made if need be; where there may be no more series, that of the others. With the set that it
    /// is of.
    fn cell<'a, T>(
        &'a self,
        series: usize,
        place: impl Fn(&'a Self) -> Option<&'a OnceLock<T>>,
        make: impl Fn(&'a Self) -> T,
    ) -> Option<(&'a Self, &'a T)> {
        let own = place(self)?;
        if let Some(value) = own.get() {
            return Some((self, value));
        }
        let Some(others) = &self.others else {
            return Some((self, own.get_or_init(|| make(self))));
        };
        let budget = &self.families.budget;
        if !budget.take(series) {
            return others.cell(series, place, make);
        }
        let mut is_new = false;
        let value = own.get_or_init(|| {
            is_new = true;
            make(self)
        });
        if !is_new {
            budget.give_back(series);
        }
        Some((self, value))
    }

    /// The cell in which something is counted now.
    fn sample<'a, T>(
        &'a self,
        series: usize,
        place: impl Fn(&'a Self) -> Option<&'a OnceLock<T>>,
        make: impl Fn(&'a Self) -> T,
    ) -> Option<&'a T> {
        let (set, value) = self.cell(series, place, make)?;
        if set.labels.iter().any(|label| &**label == OTHER) {
            set.families.overflow.fetch_add(1, Relaxed);
        }
        Some(value)
    }

    /// The values of the labels of one series.
    fn values<'a, const N: usize>(&'a self, own: [&'a str; N]) -> Vec<&'a str> {
        let labels = self.labels.iter().map(|label| &**label);
        own.into_iter().chain(labels).collect()
    }

    /// Counts an answer for its listener.
    pub fn answered(&self, listener: &ListenerCounters, status: u16) {
        let classes = self.sample(
            CLASSES.len(),
            |set| set.requests.get(listener.place()),
            |set| {
                let series = |class| set.values([listener.label(), class]);
                CLASSES.map(|class| set.families.requests.with_label_values(&series(class)))
            },
        );
        let counter = classes.and_then(|classes| classes.get(class_of(status)));
        counter.into_iter().for_each(Counter::inc);
    }

    /// Counts an entry of the error catalogue.
    pub fn error(&self, code: &str) {
        let at = CATALOGUE.iter().position(|failure| failure.code == code);
        debug_assert!(at.is_some(), "{code} is not in the catalogue");
        let Some(at) = at else { return };
        let counter = self.sample(1, |set| set.errors.get(at), |set| set.make_error(at));
        counter.into_iter().for_each(Counter::inc);
    }

    /// From a request's head to the last byte of its answer.
    pub fn duration(&self, kind: Kind, time: Duration) {
        let of_kind = self.sample(
            OfKind::SERIES,
            |set| set.kinds.get(kind as usize),
            OfKind::of(kind),
        );
        if let Some(of_kind) = of_kind {
            of_kind.duration.observe(time.as_secs_f64());
        }
    }

    /// Requests of this kind that are under way.
    pub(super) fn in_flight(&self, kind: Kind) -> Option<&IntGauge> {
        let of_kind = self.cell(
            OfKind::SERIES,
            |set| set.kinds.get(kind as usize),
            OfKind::of(kind),
        );
        Some(&of_kind?.1.in_flight)
    }

    /// Those that are counted without labels.
    pub(super) fn all_in_flight(&self, kind: Kind) -> Option<&IntGauge> {
        self.families.all_in_flight.get(kind as usize)
    }

    /// Counts the bytes of both bodies.
    pub fn bytes(&self, request: u64, response: u64) {
        let bytes = self.sample(Bytes::SERIES, |set| Some(&set.bytes), Bytes::of);
        if let Some(bytes) = bytes {
            if request > 0 {
                bytes.request.inc_by(request);
            }
            bytes.response.inc_by(response);
        }
    }

    pub fn attempt(&self, outcome: Attempt) {
        let attempts = self.sample(
            Attempt::ALL.len(),
            |set| Some(&set.attempts),
            Self::make_attempts,
        );
        let counter = attempts.and_then(|attempts| attempts.get(outcome as usize));
        counter.into_iter().for_each(Counter::inc);
    }

    /// From the beginning of an attempt to the answer's head.
    pub fn first_byte(&self, time: Duration) {
        let histogram = self.sample(
            HISTOGRAM,
            |set| Some(&set.first_byte),
            Self::make_first_byte,
        );
        if let Some(histogram) = histogram {
            histogram.observe(time.as_secs_f64());
        }
    }

    fn make_error(&self, at: usize) -> Counter {
        let code = CATALOGUE.get(at).map_or("", |failure| failure.code);
        self.families.errors.with_label_values(&self.values([code]))
    }

    fn make_attempts(&self) -> [Counter; Attempt::ALL.len()] {
        let family = &self.families.attempts;
        Attempt::ALL.map(|a| family.with_label_values(&self.values([a.label()])))
    }

    fn make_first_byte(&self) -> Histogram {
        self.families.first_byte.with_label_values(&self.values([]))
    }
}

impl OfKind {
    const SERIES: usize = HISTOGRAM + 1;

    fn of(kind: Kind) -> impl Fn(&RequestSeries) -> Self {
        move |set| {
            let values = set.values([kind.label()]);
            Self {
                in_flight: set.families.in_flight.with_label_values(&values),
                duration: set.families.durations.with_label_values(&values),
            }
        }
    }
}

impl Bytes {
    const SERIES: usize = 2;

    fn of(set: &RequestSeries) -> Self {
        let values = set.values([]);
        Self {
            request: set.families.request_bytes.with_label_values(&values),
            response: set.families.response_bytes.with_label_values(&values),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::telemetry) fn requests(most: u32) -> (Registry, Listeners, Requests) {
        let registry = Registry::new();
        let listeners = Listeners::register(&registry);
        let budget = Arc::new(Budget::default());
        budget.allow(most);
        let requests = Requests::register(&registry, &listeners, &budget);
        (registry, listeners, requests)
    }

    /// Lines with this label and value.
    fn lines(registry: &Registry, label: &str, value: &str) -> usize {
        let families = registry.gather();
        let with = |family: &prometheus::proto::MetricFamily| {
            let metrics = family.get_metric().iter().filter(|metric| {
                let mut labels = metric.get_label().iter();
                labels.any(|l| (l.name(), l.value()) == (label, value))
            });
            let series = match family.get_field_type() {
                prometheus::proto::MetricType::HISTOGRAM => HISTOGRAM,
                _ => 1,
            };
            metrics.count() * series
        };
        families.iter().map(with).sum()
    }

    #[test]
    fn each_pair_of_values_has_its_series_as_far_as_they_occur() {
        let (registry, listeners, requests) = requests(1000);
        let listener = listeners.of(Some("d/gw/http"));
        let acme = requests.of("acme", "");
        acme.answered(&listener, 200);
        acme.duration(Kind::Plain, Duration::from_millis(3));
        acme.error("queue_full");
        // Two for bytes, five classes, one kind, one code.
        assert_eq!(lines(&registry, "tenant", "acme"), 2 + 5 + 20 + 1);
        assert!(Arc::ptr_eq(&acme, &requests.of("acme", "")));
        assert!(!Arc::ptr_eq(&acme, &requests.of("acme", "web")));
        assert!(Arc::ptr_eq(&requests.plain, &requests.of("", "")));
        assert_eq!(
            (lines(&registry, "tenant", OTHER), requests.overflow()),
            (0, 0)
        );
    }

    #[test]
    fn what_is_beyond_the_bound_is_counted_as_that_of_others() {
        // For the endpoints of one upstream, and nine.
        let (registry, listeners, requests) = requests(4 + 9);
        let listener = listeners.of(Some("d/gw/http"));
        let first = requests.of("a", "up");
        assert!(requests.endpoints.has("up"));
        first.answered(&listener, 200);
        assert_eq!(lines(&registry, "tenant", "a"), 7);
        // There is room for another pair, and nothing else.
        let second = requests.of("b", "up");
        first.attempt(Attempt::Ok);
        second.answered(&listener, 500);
        let third = requests.of("c", "late");
        assert!(!requests.endpoints.has("late"));
        third.answered(&listener, 500);
        assert!(Arc::ptr_eq(&third, &requests.of("d", "up")));
        assert!(
            !Arc::ptr_eq(&third, &requests.of("d", "")),
            "what is not wanted has no value"
        );
        assert_eq!(lines(&registry, "tenant", "a"), 7);
        assert_eq!(lines(&registry, "tenant", "b"), 2);
        assert_eq!(lines(&registry, "tenant", "c"), 0);
        assert_eq!(requests.overflow(), 3);
        // As soon as there may be more, what has a place is counted in it.
        requests.families.budget.allow(4 + 16);
        first.attempt(Attempt::Ok);
        assert_eq!(lines(&registry, "tenant", "a"), 14);
        assert_eq!(requests.overflow(), 3);
    }
}

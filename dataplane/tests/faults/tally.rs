//! What became of requests: each is counted, none is forgotten.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

/// What a request came to, as its client saw it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Came {
    /// The whole answer of a backend, which was for this request.
    Whole,
    /// A whole answer of the gateway's own: status and code of the catalogue.
    Error(u16, String),
    /// An answer that began and was cut so that it does not look whole.
    Cut,
    /// The connection or stream ended before any answer.
    Lost,
    /// Over HTTP/2, the word that nobody has looked at it: its connection has had as many requests as one may have.
    Unprocessed,
    /// Nothing, for longer than any timeout.
    Hung,
    /// What must never come, such as somebody else's answer.
    Wrong(String),
}

/// Requests that one connection may have at least: `ConnConfig::requests` less a tenth.
const OF_ONE_CONNECTION: u64 = 9000;
/// Clients that share a connection with the one that sends its last request.
const OTHERS: u64 = 2;

/// What the requests of one path came to.
#[derive(Clone, Default)]
pub struct Tally(Arc<Counts>);

#[derive(Default)]
struct Counts {
    sent: AtomicU64,
    came: Mutex<BTreeMap<Came, u64>>,
    backends: Mutex<BTreeMap<String, u64>>,
}

impl Tally {
    pub fn sends(&self) {
        self.0.sent.fetch_add(1, SeqCst);
    }

    pub fn sent(&self) -> u64 {
        self.0.sent.load(SeqCst)
    }

    pub fn came(&self, what: Came) {
        *self.0.came.lock().unwrap().entry(what).or_default() += 1;
    }

    /// A whole answer came from this backend.
    pub fn from(&self, backend: &str) {
        let mut backends = self.0.backends.lock().unwrap();
        *backends.entry(backend.to_owned()).or_default() += 1;
        drop(backends);
        self.came(Came::Whole);
    }

    /// Whole answers by backend.
    pub fn backends(&self) -> BTreeMap<String, u64> {
        self.0.backends.lock().unwrap().clone()
    }

    pub fn whole(&self) -> u64 {
        self.count(|came| *came == Came::Whole)
    }

    /// What has come to an end, whatever end.
    pub fn all(&self) -> u64 {
        self.count(|_| true)
    }

    pub fn count(&self, which: impl Fn(&Came) -> bool) -> u64 {
        let came = self.0.came.lock().unwrap();
        came.iter().filter(|(c, _)| which(c)).map(|(_, n)| n).sum()
    }

    /// Everything that was sent has come to one of these.
    ///
    /// A connection over HTTP/2 that has had its requests ends in the two steps of RFC 9113 section 6.8. The client of
    /// these tests says that it has heard of the first one (PONG) before it sends the heads it had at hand: they are
    /// beyond the end that the second step names, which is the protocol's word that they may be repeated. There can be
    /// one of each other client for each connection that ended, and `settles` sees that none of them was served.
    pub fn is_only(&self, what: &str, allowed: impl Fn(&Came) -> bool) {
        let came = self.0.came.lock().unwrap().clone();
        let unprocessed = came.get(&Came::Unprocessed).copied().unwrap_or_default();
        let most = self.sent() / OF_ONE_CONNECTION * OTHERS;
        assert!(unprocessed <= most, "{what}: more than {most}: {came:?}");
        let bad: Vec<_> = came
            .iter()
            .filter(|(c, _)| !allowed(c) && **c != Came::Unprocessed)
            .collect();
        assert!(bad.is_empty(), "{what}: {bad:?} of {came:?}");
        let all: u64 = came.values().sum();
        assert_eq!(all, self.sent(), "{what}: {came:?}");
    }

    /// Takes over what another has counted.
    pub fn add(&self, other: &Self) {
        self.0.sent.fetch_add(other.sent(), SeqCst);
        for (what, n) in other.0.came.lock().unwrap().iter() {
            *self.0.came.lock().unwrap().entry(what.clone()).or_default() += n;
        }
        for (backend, n) in other.backends() {
            *self.0.backends.lock().unwrap().entry(backend).or_default() += n;
        }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0.came.lock().unwrap())
    }
}

//! The data plane under test, and what has to be as before when a fault is over.

use super::backend::Backend;
use super::load::Load;
use super::support::config::{base, rule, to, upstream};
use super::support::plane::Plane;
use super::support::{Client, becomes};
use super::tally::{Came, Tally};
use model::{Model, PathMatch, Rule, Target, Timeouts};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// Workers of the data plane.
pub const WORKERS: usize = 2;

/// A runtime for the other side.
pub fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().unwrap()
}

/// These tests measure their process and load it: one at a time.
pub fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As many rounds as `FAULT_SECONDS` has room for; without it one.
pub fn rounds() -> impl Iterator<Item = usize> {
    let seconds = std::env::var("FAULT_SECONDS");
    let length = seconds.map_or(0, |s| s.parse().expect("FAULT_SECONDS is a number"));
    let end = Instant::now() + Duration::from_secs(length);
    (0..).take_while(move |n| *n == 0 || Instant::now() < end)
}

/// For what must not fail, also on a machine that is busy with other things.
pub fn patient(path: &str, upstream: &str) -> Rule {
    let target = Target::Upstream(upstream.into());
    rule(PathMatch::prefix(path), to(target))
}

/// Timeouts short enough to be waited for.
pub fn impatient(path: &str, upstream: &str) -> Rule {
    Rule {
        timeouts: Timeouts {
            first_byte_ms: 1000,
            stream_idle_ms: 1000,
            ..Timeouts::default()
        },
        ..patient(path, upstream)
    }
}

/// Upstreams with these backends each.
pub fn upstreams(of: &[(&str, &[&Backend])]) -> Model {
    let mut model = base(&[]);
    for (key, backends) in of {
        let addresses: Vec<_> = backends.iter().map(|b| b.address).collect();
        model.upstreams.insert((*key).into(), upstream(&addresses));
    }
    model
}

/// Anonymous memory of this process in KiB: heaps and stacks.
pub fn memory() -> i64 {
    memory_of("self")
}

pub fn memory_of(process: &str) -> i64 {
    let path = format!("/proc/{process}/smaps_rollup");
    let text = std::fs::read_to_string(path).unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix("Anonymous:"));
    let number = line.unwrap().trim().trim_end_matches(" kB");
    number.parse().unwrap()
}

/// Nothing is left of the load: every request is accounted for once, and every gauge is back.
pub fn settles(plane: &Plane, mut load: Load, tallies: &[&Tally]) {
    load.finish();
    drop(load);
    for gauge in [
        r#"diolkos_requests_in_flight{kind="plain"}"#,
        r#"diolkos_connections{protocol="h1"}"#,
        r#"diolkos_connections{protocol="h2"}"#,
        r#"diolkos_queue_depth{band="standard"}"#,
        r#"diolkos_concurrency_permits{scope="route",state="used"}"#,
        r#"diolkos_concurrency_permits{scope="upstream",state="used"}"#,
        r#"diolkos_upstream_connections{state="active"}"#,
    ] {
        plane.metric_becomes(gauge, 0.0);
    }
    let read = |t: &&Tally| t.sent() - t.count(|c| *c == Came::Unprocessed);
    let sent: u64 = tallies.iter().map(read).sum();
    becomes("requests answered", sent, || answered(plane));
    let admin = plane.data.admin(([127, 0, 0, 1], 0).into(), None);
    let admin = plane.runtime.block_on(admin).unwrap();
    assert_eq!(Client::connect(admin).get("/readyz").status, 200);
}

/// Numbers that look random and are the same each time (xorshift).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

/// Requests that the data plane has answered, by its own account.
pub fn answered(plane: &Plane) -> u64 {
    let text = plane.data.metrics.text();
    let lines = text
        .lines()
        .filter(|l| l.starts_with("diolkos_requests_total{"));
    let values = lines.map(|l| l.rsplit(' ').next().unwrap().parse::<f64>().unwrap());
    values.sum::<f64>() as u64
}

//! Active checks: each upstream that asks for them has a task that goes around its endpoints (features.md F57, F58).

use super::check::check;
use crate::table::pick::{Checks, draw};
use crate::table::{Registry, Upstream};
use model::ActiveHealth;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

/// Checks of one upstream that are under way at once.
const AT_ONCE: usize = 32;

/// The tasks, by the key of their upstream.
#[derive(Default)]
pub(super) struct Checkers(HashMap<Arc<str>, (ActiveHealth, Task)>);

/// Ends with its handle.
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Checkers {
    /// Begins and ends tasks, so that there is one for each of these upstreams that asks for it, with its settings.
    pub(super) fn follow(&mut self, upstreams: &[Arc<Upstream>], registry: &Arc<Registry>) {
        let wanted: BTreeMap<&str, (&Arc<Upstream>, &ActiveHealth)> = upstreams
            .iter()
            .filter_map(|u| Some((&*u.key, (u, u.settings.health.active.as_ref()?))))
            // The first endpoints are news, so that the first round finds some.
            .filter(|(_, (u, _))| !u.endpoints().endpoints().is_empty())
            .collect();
        self.0.retain(|key, (settings, _)| {
            let same = wanted.get(&**key).is_some_and(|(_, s)| *s == settings);
            if !wanted.contains_key(&**key)
                && let Some(upstream) = registry.get(key)
            {
                upstream.forget_checks();
            }
            same
        });
        for (upstream, settings) in wanted.into_values() {
            if !self.0.contains_key(&upstream.key) {
                let (key, registry) = (Arc::clone(&upstream.key), Arc::downgrade(registry));
                let rounds = rounds(key, settings.clone(), registry);
                let task = Task(tokio::spawn(rounds).abort_handle());
                self.0
                    .insert(Arc::clone(&upstream.key), (settings.clone(), task));
            }
        }
    }
}

/// What is known about an endpoint: so many equal results in a row.
#[derive(Clone, Copy, Default)]
struct Record {
    failing: bool,
    /// Results that speak against `failing`.
    against: u32,
}

impl Record {
    /// Notes a result, which may be enough to change what is thought of the endpoint.
    fn note(&mut self, good: bool, settings: &ActiveHealth) {
        if good != self.failing {
            self.against = 0;
            return;
        }
        self.against += 1;
        let enough = match good {
            true => settings.healthy_threshold,
            false => settings.unhealthy_threshold,
        };
        if self.against >= enough {
            *self = Self {
                failing: !self.failing,
                against: 0,
            };
        }
    }
}

/// Goes around the endpoints as long as the upstream is there.
async fn rounds(key: Arc<str>, settings: ActiveHealth, registry: Weak<Registry>) {
    let interval = Duration::from_millis(settings.interval_ms.max(1).into());
    let settings = Arc::new(settings);
    let mut records: HashMap<SocketAddr, Record> = HashMap::new();
    // Not all data planes at the same moment; up to a tenth later.
    let late = draw::below(settings.interval_ms as usize / 10 + 1) as u64;
    let mut next = Instant::now() + Duration::from_millis(late.min(1000));
    loop {
        sleep_until(next).await;
        next = Instant::now() + interval;
        let upstream = registry.upgrade().and_then(|r| r.get(&key));
        let Some(upstream) = upstream else { return };
        let set = upstream.endpoints();
        let (ours, others): (Vec<_>, Vec<_>) = set
            .endpoints()
            .iter()
            .partition(|e| upstream.checks(e.addr));
        for e in others {
            if e.state.checks() != Checks::Silent {
                upstream.checked(e.addr, Checks::Silent);
            }
        }
        records.retain(|addr, _| ours.binary_search_by_key(addr, |e| e.addr).is_ok());
        for e in &ours {
            if e.state.checks() == Checks::Silent && e.state.is_pruned_by_checks() {
                upstream.adopt_failing(e.addr);
            }
            // An endpoint that went and came back is a new one, and a new task finds what another has left.
            let record = records.entry(e.addr).or_default();
            let failing = e.state.is_failing_checks();
            if record.failing != failing {
                *record = Record {
                    failing,
                    against: 0,
                };
            }
        }
        let states = ours.iter().map(|e| (e.addr, Arc::clone(&e.state)));
        let mut left = states.collect::<Vec<_>>().into_iter();
        drop(set);
        let mut under_way = JoinSet::new();
        loop {
            while under_way.len() < AT_ONCE
                && let Some((addr, state)) = left.next()
            {
                let (upstream, settings) = (Arc::clone(&upstream), Arc::clone(&settings));
                under_way.spawn(async move {
                    let limit = Duration::from_millis(settings.timeout_ms.into());
                    let result = timeout(limit, check(&settings.check, &upstream, addr)).await;
                    (addr, state, matches!(result, Ok(Ok(()))))
                });
            }
            let Some(result) = under_way.join_next().await else {
                break;
            };
            let Ok((addr, state, good)) = result else {
                continue;
            };
            let record = records.entry(addr).or_default();
            record.note(good, &settings);
            let said = match (record.failing, good) {
                (true, _) => Checks::Failing,
                (false, true) => Checks::Passing,
                // One bad result says nothing yet.
                (false, false) => continue,
            };
            if state.checks() != said || state.is_pruned() {
                upstream.checked(addr, said);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_in_a_row() {
        let settings = ActiveHealth {
            check: model::Check::Tcp,
            interval_ms: 1,
            timeout_ms: 1,
            unhealthy_threshold: 3,
            healthy_threshold: 2,
        };
        let mut record = Record::default();
        let mut note = |results: &str| -> Vec<bool> {
            let results = results.chars().map(|c| c == '+');
            results
                .map(|good| {
                    record.note(good, &settings);
                    record.failing
                })
                .collect()
        };
        assert_eq!(
            note("+--+---"),
            [false, false, false, false, false, false, true]
        );
        assert_eq!(note("-+-++"), [true, true, true, true, false]);
    }
}

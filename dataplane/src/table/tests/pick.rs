use super::*;
use model::{ConsistentHash, HashSource, HashTable};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn endpoint(last: u16, weight: u32, ready: bool, serving: bool) -> Endpoint {
    Endpoint {
        addr: addr(last),
        weight,
        ready,
        serving,
        zone: None,
        tag: hash::address(addr(last)),
        warmth: WARM,
        state: Arc::default(),
    }
}

fn addr(last: u16) -> SocketAddr {
    let [high, low] = last.to_be_bytes();
    SocketAddr::from(([10, 0, high, low], 80))
}

/// The number that [`addr`] made an address of.
fn number(e: &Endpoint) -> u16 {
    match e.addr.ip() {
        std::net::IpAddr::V4(ip) => u16::from_be_bytes([ip.octets()[2], ip.octets()[3]]),
        std::net::IpAddr::V6(_) => 0,
    }
}

fn ready(weights: &[u32]) -> Vec<Endpoint> {
    let endpoint = |(i, w): (u16, &u32)| endpoint(i, *w, true, true);
    (1..).zip(weights).map(endpoint).collect()
}

fn terms(policy: BalancePolicy) -> Terms {
    Terms {
        balance: policy.into(),
        min_healthy_percent: 50,
        own_zone: None,
    }
}

fn consistent(table: HashTable, bounded_load_percent: u32) -> Terms {
    let mut terms = terms(BalancePolicy::ConsistentHash);
    terms.balance.hash = Some(ConsistentHash {
        source: HashSource::Path,
        table,
        bounded_load_percent,
    });
    terms
}

fn set(terms: &Terms, all: Vec<Endpoint>) -> EndpointSet {
    EndpointSet::new(terms, all, None)
}

/// A client of a set, with turns of its own.
struct Draws<'a>(&'a EndpointSet, AtomicU64);

impl<'a> Draws<'a> {
    fn of(set: &'a EndpointSet) -> Self {
        Self(set, AtomicU64::new(0))
    }

    fn ask(&self, hash: Option<u64>, tried: &[SocketAddr]) -> Option<&'a Endpoint> {
        let turn = &self.1;
        self.0.pick(&Ask { turn, hash, tried })
    }

    fn take(&self, n: usize) -> Vec<u16> {
        (0..n)
            .map(|_| self.ask(None, &[]).map_or(0, number))
            .collect()
    }
}

fn counts(picks: impl IntoIterator<Item = u16>) -> BTreeMap<u16, u32> {
    let mut counts = BTreeMap::new();
    for pick in picks {
        *counts.entry(pick).or_default() += 1;
    }
    counts
}

/// Within so many standard deviations of what chance allows; five are exceeded once in two million times.
fn is_about(count: u32, expected: f64) -> bool {
    (f64::from(count) - expected).abs() <= 5.0 * expected.sqrt() + 1.0
}

#[test]
fn in_turn_and_by_weight() {
    let all = || ready(&[3, 1, 0]);
    let even = set(&terms(BalancePolicy::RoundRobin), all());
    assert_eq!(Draws::of(&even).take(6), [1, 2, 3, 1, 2, 3]);
    let weighted = set(&terms(BalancePolicy::Weighted), all());
    assert_eq!(Draws::of(&weighted).take(8), [1, 1, 2, 1, 1, 1, 2, 1]);
}

#[test]
fn ready_ones_first_then_those_that_still_serve() {
    let terms = terms(BalancePolicy::RoundRobin);
    let some = vec![
        endpoint(1, 1, false, true),
        endpoint(2, 1, true, true),
        endpoint(3, 1, false, false),
    ];
    assert_eq!(Draws::of(&set(&terms, some)).take(3), [2, 2, 2]);
    let none_ready = vec![endpoint(1, 1, false, true), endpoint(3, 1, false, false)];
    assert_eq!(Draws::of(&set(&terms, none_ready)).take(2), [1, 1]);
    for none in [vec![endpoint(3, 1, false, false)], Vec::new()] {
        assert_eq!(Draws::of(&set(&terms, none)).take(1), [0]);
    }
}

#[test]
fn a_retry_goes_elsewhere_while_there_is_another() {
    for terms in every_policy() {
        let two = set(&terms, ready(&[1, 1]));
        let draws = Draws::of(&two);
        for key in 0..20 {
            let elsewhere = draws.ask(Some(key), &[addr(1)]).unwrap();
            assert_eq!(elsewhere.addr, addr(2), "{terms:?}");
            assert!(draws.ask(Some(key), &[addr(1), addr(2)]).is_some());
        }
    }
}

fn every_policy() -> Vec<Terms> {
    vec![
        terms(BalancePolicy::RoundRobin),
        terms(BalancePolicy::Weighted),
        terms(BalancePolicy::LeastRequest),
        terms(BalancePolicy::Random),
        terms(BalancePolicy::P2C),
        consistent(HashTable::Ring, 0),
        consistent(HashTable::Maglev, 0),
        consistent(HashTable::Maglev, 150),
    ]
}

#[test]
fn the_ill_are_left_out_until_too_few_are_well() {
    for terms in every_policy() {
        let all = ready(&[1, 1, 1, 1]);
        all[0].state.eject(1000, 1);
        all[1].state.set_checks(Checks::Failing, 1);
        let half = set(&terms, all.clone());
        assert!(!half.is_panicking());
        let draws = Draws::of(&half);
        let seen: BTreeSet<u16> = (0..200)
            .map(|key| number(draws.ask(Some(hash::mix(key)), &[]).unwrap()))
            .collect();
        assert_eq!(seen, [3, 4].into(), "{terms:?}");
        all[2].state.eject(1000, 1);
        let panic = set(&terms, all);
        assert!(panic.is_panicking());
        let draws = Draws::of(&panic);
        let seen: BTreeSet<u16> = (0..200)
            .map(|key| number(draws.ask(Some(hash::mix(key)), &[]).unwrap()))
            .collect();
        assert_eq!(seen, [1, 2, 3, 4].into(), "{terms:?}");
        assert!(panic.has_healthy(&[]) && !panic.has_healthy(&[addr(4)]));
    }
}

#[test]
fn without_panic_mode_nobody_is_left() {
    let mut terms = terms(BalancePolicy::RoundRobin);
    terms.min_healthy_percent = 0;
    let all = ready(&[1]);
    all[0].state.eject(1000, 1);
    let set = set(&terms, all);
    assert!(set.candidates().is_empty() && !set.has_healthy(&[]));
}

#[test]
fn least_request_takes_the_least_busy_in_proportion() {
    let all = ready(&[2, 1, 1]);
    let busy: Vec<_> = [0, 0, 1]
        .into_iter()
        .map(|i: usize| all[i].state.start())
        .collect();
    let set = set(&terms(BalancePolicy::LeastRequest), all);
    // 2 of 2, 1 of 1, 0 of 1
    assert_eq!(Draws::of(&set).take(4), [3, 3, 3, 3]);
    drop(busy);
    // Idle: by weight.
    assert_eq!(
        counts(Draws::of(&set).take(400)),
        [(1, 200), (2, 100), (3, 100)].into()
    );
}

#[test]
fn least_request_shares_held_requests_by_weight_also_among_many() {
    for n in [3_usize, 40] {
        let weights: Vec<u32> = (0..n).map(|i| if i % 2 == 0 { 3 } else { 1 }).collect();
        let total: u32 = weights.iter().sum();
        let set = set(&terms(BalancePolicy::LeastRequest), ready(&weights));
        let draws = Draws::of(&set);
        let held: Vec<_> = (0..total * 20)
            .map(|_| draws.ask(None, &[]).unwrap().state.start())
            .collect();
        for (e, weight) in set.endpoints().iter().zip(&weights) {
            let share = u64::from(weight * 20);
            let off = e.state.in_flight().abs_diff(share);
            assert!(
                off <= share / 4,
                "{} of {share} among {n}",
                e.state.in_flight()
            );
        }
        drop(held);
    }
}

#[test]
fn random_is_uniform() {
    let set = set(&terms(BalancePolicy::Random), ready(&[1, 9, 1, 1]));
    for (_, count) in counts(Draws::of(&set).take(40_000)) {
        assert!(is_about(count, 10_000.0), "{count}");
    }
}

#[test]
fn two_choices_keep_queues_short() {
    const N: u32 = 100;
    let set = set(&terms(BalancePolicy::P2C), ready(&[1; N as usize]));
    let draws = Draws::of(&set);
    let held: Vec<_> = (0..N * 10)
        .map(|_| draws.ask(None, &[]).unwrap().state.start())
        .collect();
    let most = set
        .endpoints()
        .iter()
        .map(|e| e.state.in_flight())
        .max()
        .unwrap();
    // One choice would give about 20.
    assert!(most <= 14, "{most}");
    drop(held);
}

/// Where keys go.
fn owners(set: &EndpointSet, keys: u64) -> Vec<u16> {
    let draws = Draws::of(set);
    (0..keys)
        .map(|key| number(draws.ask(Some(hash::mix(key)), &[]).unwrap()))
        .collect()
}

#[test]
fn keys_are_shared_by_weight() {
    const KEYS: u64 = 60_000;
    for (table, tolerance) in [(HashTable::Maglev, 0.03), (HashTable::Ring, 0.25)] {
        let weights = [1, 2, 3, 1, 2, 3];
        let set = set(&consistent(table, 0), ready(&weights));
        for (number, count) in counts(owners(&set, KEYS)) {
            let due = f64::from(weights[usize::from(number) - 1]) / 12.0 * KEYS as f64;
            let off = (f64::from(count) - due).abs() / due;
            assert!(off < tolerance, "{table:?} {number}: {count} of {due}");
        }
    }
}

#[test]
fn a_key_without_value_goes_anywhere() {
    let set = set(&consistent(HashTable::Maglev, 0), ready(&[1; 4]));
    assert_eq!(counts(Draws::of(&set).take(1000)).len(), 4);
}

/// How many of the keys that did not belong to the one that left have moved.
fn disruption(table: HashTable, n: u16, leaves: u16) -> f64 {
    const KEYS: u64 = 20_000;
    let terms = consistent(table, 0);
    let all = ready(&vec![1; n.into()]);
    let without = all
        .iter()
        .filter(|e| number(e) != leaves)
        .cloned()
        .collect();
    let before = owners(&set(&terms, all), KEYS);
    let after = owners(&set(&terms, without), KEYS);
    let stayed = before.iter().zip(&after).filter(|(b, _)| **b != leaves);
    let moved = stayed.clone().filter(|(b, a)| b != a).count();
    moved as f64 / stayed.count() as f64
}

#[test]
fn when_one_leaves_a_ring_moves_only_its_keys_and_maglev_few_others() {
    for (n, leaves) in [(3, 2), (10, 1), (50, 50)] {
        assert_eq!(disruption(HashTable::Ring, n, leaves), 0.0, "ring of {n}");
        let moved = disruption(HashTable::Maglev, n, leaves);
        assert!(moved < 0.05, "maglev of {n}: {moved}");
    }
}

#[test]
fn an_ejected_endpoint_moves_only_its_keys_and_gets_them_back() {
    for table in [HashTable::Ring, HashTable::Maglev] {
        let terms = consistent(table, 0);
        let all = ready(&[1; 8]);
        let first = set(&terms, all.clone());
        let before = owners(&first, 5000);
        all[3].state.eject(1000, 1);
        let second = EndpointSet::new(&terms, all.clone(), Some(&first));
        for (b, a) in before.iter().zip(owners(&second, 5000)) {
            assert!(a != 4 && (*b == 4 || *b == a), "{table:?}: from {b} to {a}");
        }
        all[3].state.restore(2);
        let third = EndpointSet::new(&terms, all, Some(&second));
        assert_eq!(owners(&third, 5000), before);
    }
}

/// Replicas and versions must agree: the owners of these keys are for ever.
#[test]
fn owners_are_fixed() {
    let maglev = set(&consistent(HashTable::Maglev, 0), ready(&[1, 1, 2]));
    let ring = set(&consistent(HashTable::Ring, 0), ready(&[1, 1, 2]));
    assert_eq!(
        owners(&maglev, 16),
        [3, 3, 3, 3, 1, 3, 1, 3, 1, 1, 3, 3, 3, 1, 2, 3]
    );
    assert_eq!(
        owners(&ring, 16),
        [1, 3, 3, 1, 3, 2, 2, 1, 3, 3, 1, 1, 1, 2, 3, 3]
    );
}

#[test]
fn a_cold_endpoint_gets_its_tenth_and_then_more() {
    const PICKS: usize = 22_000;
    for policy in [
        BalancePolicy::RoundRobin,
        BalancePolicy::Weighted,
        BalancePolicy::Random,
        BalancePolicy::LeastRequest,
    ] {
        let mut last = 0;
        for warmth in 1..=WARM {
            let mut all = ready(&[1; 2]);
            all[1].warmth = warmth;
            let set = set(&terms(policy), all);
            let count = counts(Draws::of(&set).take(PICKS))[&2];
            let expected = PICKS as f64 * f64::from(warmth) / f64::from(warmth + WARM);
            assert!(
                is_about(count, expected),
                "{policy:?} {warmth}: {count} of {expected}"
            );
            assert!(count > last, "{policy:?} {warmth}");
            last = count;
        }
    }
}

#[test]
fn the_own_zone_is_preferred_as_far_as_it_is_fair() {
    let zoned = |near: usize, far: usize| {
        let mut all = ready(&vec![1; near + far]);
        for (i, e) in all.iter_mut().enumerate() {
            e.zone = Some(if i < near { "here" } else { "there" }.into());
        }
        let mut terms = terms(BalancePolicy::RoundRobin);
        terms.balance.prefer_zone = true;
        terms.own_zone = Some("here".into());
        let set = set(&terms, all);
        let picks = Draws::of(&set).take(10_000);
        picks
            .into_iter()
            .filter(|n| usize::from(*n) <= near)
            .count()
    };
    // Half of the endpoints and half of the requests are here: all stay.
    assert_eq!(zoned(2, 2), 10_000);
    assert_eq!(zoned(3, 1), 10_000);
    // A quarter of the endpoints is due half of our half.
    assert!(is_about(u32::try_from(zoned(1, 3)).unwrap(), 5000.0));
    assert_eq!(zoned(0, 3), 0);
    assert_eq!(zoned(3, 0), 10_000);
}

#[test]
fn affinity_finds_its_endpoint_while_it_takes_requests() {
    let terms = terms(BalancePolicy::RoundRobin);
    let all = ready(&[1; 4]);
    let tag = all[2].tag;
    let before = set(&terms, all.clone());
    assert_eq!(before.by_tag(tag).map(number), Some(3));
    let value = (0..)
        .find(|v| before.by_rendezvous(*v, &[]).map(number) == Some(3))
        .unwrap();
    let second = before.by_rendezvous(value, &[addr(3)]).map(number).unwrap();
    assert_ne!(second, 3);
    all[2].state.eject(1000, 1);
    let after = set(&terms, all);
    assert!(after.by_tag(tag).is_none());
    assert_eq!(after.by_rendezvous(value, &[]).map(number), Some(second));
}

proptest! {
    #[test]
    fn only_candidates_are_picked(
        flags in prop::collection::vec((0_u32..3, any::<bool>(), any::<bool>(), any::<bool>()), 0..8),
        policy in 0_usize..8,
        key: Option<u64>,
        tried in prop::collection::vec((0_u16..8).prop_map(addr), 0..3),
    ) {
        let terms = &every_policy()[policy];
        let unweighted = matches!(terms.balance.policy, BalancePolicy::RoundRobin | BalancePolicy::Random);
        let all: Vec<_> = (0..).zip(flags).map(|(i, (w, ready, serving, ill))| {
            let e = endpoint(i, w, ready, serving);
            let checks = if ill { Checks::Failing } else { Checks::Passing };
            e.state.set_checks(checks, 1);
            e
        }).collect();
        let usable = |e: &Endpoint| unweighted || e.weight > 0;
        let ready = all.iter().filter(|e| usable(e) && e.ready).count();
        let serving = all.iter().filter(|e| usable(e) && e.serving).count();
        let set = set(terms, all);
        match Draws::of(&set).ask(key, &tried) {
            None => prop_assert!(ready == 0 && serving == 0),
            Some(e) => {
                prop_assert!(usable(e) && (e.ready || (ready == 0 && e.serving)));
                prop_assert!(e.state.is_healthy() || set.is_panicking());
                let untried = set.candidates().iter().filter(|c| !tried.contains(&c.addr)).count();
                prop_assert!(!tried.contains(&e.addr) || untried == 0);
            }
        }
    }

    #[test]
    fn a_bounded_load_is_never_exceeded(
        weights in prop::collection::vec(1_u32..4, 1..9),
        ring: bool,
        percent in 101_u32..300,
        keys in prop::collection::vec(0_u64..5, 1..120),
    ) {
        let kind = if ring { HashTable::Ring } else { HashTable::Maglev };
        let set = set(&consistent(kind, percent), ready(&weights));
        let total: u32 = weights.iter().sum();
        let draws = Draws::of(&set);
        let mut held = Vec::new();
        for key in keys {
            let e = draws.ask(Some(hash::mix(key)), &[]).unwrap();
            held.push(e.state.start());
            let due = held.len() as f64 * f64::from(e.weight) / f64::from(total);
            let bound = (due * f64::from(percent) / 100.0 - 1e-9).ceil();
            prop_assert!(e.state.in_flight() as f64 <= bound, "{} of {bound}", e.state.in_flight());
        }
    }

    /// However it came to be, a set sends keys to the same endpoints.
    #[test]
    fn places_kept_from_before_are_those_of_a_new_set(
        steps in prop::collection::vec(prop::collection::btree_set(1_u16..12, 1..10), 1..5),
        ring: bool,
    ) {
        let terms = consistent(if ring { HashTable::Ring } else { HashTable::Maglev }, 0);
        let of = |members: &BTreeSet<u16>| members.iter().map(|n| endpoint(*n, 1, true, true)).collect();
        let mut kept = set(&terms, Vec::new());
        for members in &steps {
            kept = EndpointSet::new(&terms, of(members), Some(&kept));
        }
        let fresh = set(&terms, of(steps.last().unwrap()));
        prop_assert_eq!(owners(&kept, 200), owners(&fresh, 200));
    }
}

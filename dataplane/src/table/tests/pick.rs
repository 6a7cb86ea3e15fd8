use super::*;
use proptest::prelude::*;

fn endpoint(last: u8, weight: u32, ready: bool, serving: bool) -> Endpoint {
    Endpoint {
        addr: addr(last),
        weight,
        ready,
        serving,
        state: Arc::default(),
    }
}

fn addr(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 80))
}

fn turns(set: &EndpointSet, n: u64) -> Vec<u8> {
    let last = |e: &Endpoint| match e.addr.ip() {
        std::net::IpAddr::V4(ip) => ip.octets()[3],
        std::net::IpAddr::V6(_) => 0,
    };
    (0..n)
        .map(|turn| set.pick(turn, None).map_or(0, last))
        .collect()
}

#[test]
fn in_turn_and_by_weight() {
    let all = || {
        vec![
            endpoint(1, 3, true, true),
            endpoint(2, 1, true, true),
            endpoint(3, 0, true, true),
        ]
    };
    let even = EndpointSet::new(BalancePolicy::RoundRobin, all());
    assert_eq!(turns(&even, 6), [1, 2, 3, 1, 2, 3]);
    let weighted = EndpointSet::new(BalancePolicy::Weighted, all());
    assert_eq!(turns(&weighted, 8), [1, 1, 2, 1, 1, 1, 2, 1]);
}

#[test]
fn ready_ones_first_then_those_that_still_serve() {
    let policy = BalancePolicy::RoundRobin;
    let some = vec![
        endpoint(1, 1, false, true),
        endpoint(2, 1, true, true),
        endpoint(3, 1, false, false),
    ];
    assert_eq!(turns(&EndpointSet::new(policy, some), 3), [2, 2, 2]);
    let none_ready = vec![endpoint(1, 1, false, true), endpoint(3, 1, false, false)];
    assert_eq!(turns(&EndpointSet::new(policy, none_ready), 2), [1, 1]);
    let none = EndpointSet::new(policy, vec![endpoint(3, 1, false, false)]);
    assert!(none.pick(0, None).is_none());
    assert!(
        EndpointSet::new(BalancePolicy::Weighted, Vec::new())
            .pick(0, None)
            .is_none()
    );
}

#[test]
fn a_retry_goes_elsewhere_while_there_is_another() {
    let policy = BalancePolicy::RoundRobin;
    let two = EndpointSet::new(
        policy,
        vec![endpoint(1, 1, true, true), endpoint(2, 1, true, true)],
    );
    for turn in 0..4 {
        assert_eq!(two.pick(turn, Some(addr(1))).unwrap().addr, addr(2));
    }
    let one = EndpointSet::new(policy, vec![endpoint(1, 1, true, true)]);
    assert_eq!(one.pick(0, Some(addr(1))).unwrap().addr, addr(1));
}

#[test]
fn counters() {
    let state = Arc::new(EndpointState::default());
    let (a, b) = (state.start(), state.start());
    state.failed();
    drop(a);
    assert_eq!(
        (state.in_flight(), state.requests(), state.failures()),
        (1, 2, 1)
    );
    drop(b);
    assert_eq!(state.in_flight(), 0);
}

proptest! {
    #[test]
    fn only_candidates_are_picked(
        flags in prop::collection::vec((0_u32..3, any::<bool>(), any::<bool>()), 0..8),
        weighted: bool,
        turn: u64,
        except in proptest::option::of(0_u8..8),
    ) {
        let policy = if weighted { BalancePolicy::Weighted } else { BalancePolicy::RoundRobin };
        let all: Vec<_> = (0..).zip(flags).map(|(i, (w, ready, serving))| endpoint(i, w, ready, serving)).collect();
        let usable = |e: &Endpoint| !weighted || e.weight > 0;
        let ready = all.iter().filter(|e| usable(e) && e.ready).count();
        let serving = all.iter().filter(|e| usable(e) && e.serving).count();
        let set = EndpointSet::new(policy, all);
        match set.pick(turn, except.map(addr)) {
            None => prop_assert!(ready == 0 && serving == 0),
            Some(e) => {
                prop_assert!(usable(e) && (e.ready || (ready == 0 && e.serving)));
                prop_assert!(Some(e.addr) != except.map(addr) || set.candidates().len() == 1);
            }
        }
    }
}

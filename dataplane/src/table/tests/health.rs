use super::super::upstream::Upstream;
use super::super::wire::Wire;
use super::*;
use model::{Balance, BalancePolicy, EndpointSource, Health, ObjectRef, StaticEndpoint};
use std::sync::Arc;

fn passive() -> PassiveHealth {
    PassiveHealth {
        consecutive_errors: 3,
        error_rate_percent: 0,
        min_requests: 10,
        window_ms: 1000,
        ejection_ms: 1000,
        max_eject_percent: 50,
    }
}

/// Endpoints 10.0.0.1 to n.
fn endpoints(n: u8, balance: Balance) -> Endpoints {
    let endpoints = Endpoints::default();
    resize(&endpoints, n, balance, 1);
    endpoints
}

fn resize(endpoints: &Endpoints, n: u8, balance: Balance, now: Moment) {
    endpoints.change(now, |sources| {
        sources.terms = Terms {
            balance,
            min_healthy_percent: 0,
            own_zone: None,
        };
        let members = (1..=n).map(|i| Member::fixed(addr(i), 1, None)).collect();
        let group = Group {
            members,
            ..Group::default()
        };
        sources.replace(false, vec![group]);
    });
}

fn addr(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 80))
}

fn report(
    endpoints: &Endpoints,
    common: &Common,
    passive: &PassiveHealth,
    last: u8,
    good: bool,
    now: Moment,
) {
    let set = endpoints.set();
    let state = &find(set.endpoints(), addr(last)).unwrap().state;
    judge(endpoints, passive, common, addr(last), state, good, || now);
}

fn candidates(endpoints: &Endpoints) -> Vec<u8> {
    let last = |e: &Endpoint| match e.addr.ip() {
        IpAddr::V4(ip) => ip.octets()[3],
        IpAddr::V6(_) => 0,
    };
    endpoints.set().candidates().iter().map(last).collect()
}

#[test]
fn failures_in_a_row_eject_and_time_restores() {
    let (endpoints, common, passive) = (
        endpoints(4, Balance::default()),
        Common::default(),
        passive(),
    );
    for good in [false, false, true, false, false] {
        report(&endpoints, &common, &passive, 2, good, 10);
    }
    assert_eq!(candidates(&endpoints), [1, 2, 3, 4]);
    report(&endpoints, &common, &passive, 2, false, 10);
    assert_eq!(candidates(&endpoints), [1, 3, 4]);
    assert_eq!(common.ejections(Reason::Consecutive), 1);
    assert_eq!(endpoints.refresh(500), 1010);
    assert_eq!(candidates(&endpoints), [1, 3, 4]);
    assert_eq!(endpoints.refresh(1010), NEVER);
    assert_eq!(candidates(&endpoints), [1, 2, 3, 4]);
    // The second time it takes twice as long.
    for _ in 0..3 {
        report(&endpoints, &common, &passive, 2, false, 1100);
    }
    assert_eq!(endpoints.refresh(1100), 3100);
}

#[test]
fn only_so_many_are_ejected_but_always_one() {
    for (n, percent, most) in [(4, 50, 2), (3, 50, 1), (1, 0, 1), (4, 100, 4)] {
        let (endpoints, common) = (endpoints(n, Balance::default()), Common::default());
        let passive = PassiveHealth {
            max_eject_percent: percent,
            ..passive()
        };
        for last in 1..=n {
            for _ in 0..7 {
                report(&endpoints, &common, &passive, last, false, 10);
            }
        }
        assert_eq!(common.ejections(Reason::Consecutive), most, "{n} {percent}");
    }
}

#[test]
fn the_error_rate_of_a_window_ejects() {
    let (endpoints, common) = (endpoints(2, Balance::default()), Common::default());
    let passive = PassiveHealth {
        consecutive_errors: 1000,
        error_rate_percent: 40,
        ..passive()
    };
    // Four of ten, but over two windows.
    for i in 0..10 {
        report(&endpoints, &common, &passive, 1, i % 3 != 0, 900 + i * 20);
    }
    assert_eq!(candidates(&endpoints), [1, 2]);
    for i in 0..10 {
        report(&endpoints, &common, &passive, 1, i % 3 != 0, 2000 + i);
    }
    assert_eq!(candidates(&endpoints), [2]);
    assert_eq!(common.ejections(Reason::ErrorRate), 1);
}

#[test]
fn checks_and_ejections_are_joined() {
    let (endpoints, common, passive) = (
        endpoints(3, Balance::default()),
        Common::default(),
        passive(),
    );
    assert!(endpoints.checked(addr(1), Checks::Failing, false, 10));
    assert!(
        !endpoints.checked(addr(1), Checks::Failing, false, 11),
        "no news"
    );
    for _ in 0..3 {
        report(&endpoints, &common, &passive, 1, false, 20);
    }
    assert_eq!(candidates(&endpoints), [2, 3]);
    assert!(endpoints.checked(addr(1), Checks::Passing, false, 30));
    assert_eq!(candidates(&endpoints), [2, 3], "still ejected");
    endpoints.refresh(1020);
    assert_eq!(candidates(&endpoints), [1, 2, 3]);
    assert!(
        !endpoints.checked(addr(9), Checks::Failing, false, 40),
        "not ours"
    );
}

#[test]
fn new_endpoints_warm_up_in_steps() {
    let balance = Balance {
        slow_start_ms: 900,
        ..BalancePolicy::RoundRobin.into()
    };
    let endpoints = endpoints(1, balance.clone());
    let warmth = || -> Vec<u8> {
        endpoints
            .set()
            .endpoints()
            .iter()
            .map(|e| e.warmth)
            .collect()
    };
    endpoints.refresh(5000);
    assert_eq!(warmth(), [10]);
    resize(&endpoints, 2, balance, 10_000);
    assert_eq!(warmth(), [10, 1]);
    let mut last = 1;
    let mut now = 10_000;
    while endpoints.has_plans() {
        let due = endpoints.refresh(now);
        assert!(warmth()[1] >= last && warmth()[0] == 10);
        last = warmth()[1];
        now = due;
    }
    assert_eq!(warmth(), [10, 10]);
    assert_eq!(warmth().len(), 2);
}

#[test]
fn a_moment_is_as_warm_as_it_is_old() {
    assert_eq!(super::warmth(0, 900, 5), (10, NEVER));
    assert_eq!(super::warmth(100, 0, 100), (10, NEVER));
    assert_eq!(super::warmth(100, 900, 100), (1, 200));
    assert_eq!(super::warmth(100, 900, 550), (5, 600));
    assert_eq!(super::warmth(100, 900, 1000), (10, NEVER));
    // Shorter than its steps.
    let (mut now, mut steps) = (100, 0);
    while now != NEVER {
        (_, now) = super::warmth(100, 3, now);
        steps += 1;
        assert!(steps <= 10);
    }
}

#[test]
fn what_is_known_of_an_endpoint_survives_other_settings() {
    let common = Arc::new(Common::default());
    let origin = ObjectRef::new("Upstream", "n", "u");
    let mut settings = model::Upstream::new(origin, EndpointSource::Static(Vec::new()));
    settings.health = Health {
        passive: Some(passive()),
        min_healthy_percent: 0,
        ..Health::default()
    };
    settings.concurrency = Some(model::Concurrency {
        max: 1,
        queue_depth: 0,
        queue_timeout_ms: 0,
    });
    let listed = [1, 2].map(|last| StaticEndpoint {
        host: addr(last).ip().to_string(),
        port: 80,
        weight: 1,
        zone: None,
    });
    let wire = Wire::compile(&settings, |_| None).unwrap();
    let before = Upstream::new("u", &settings, wire.clone(), None, &common);
    before.set_static(&listed);
    let picked = before.pick(None, &[]).unwrap();
    let _under_way = picked.endpoint.start();
    let _permit = before.gates.concurrency.as_ref().unwrap().0.enter();
    (0..3).for_each(|_| before.report(&picked, false));
    settings.connect_ms = 7;
    settings.concurrency = settings
        .concurrency
        .map(|c| model::Concurrency { max: 5, ..c });
    let after = Upstream::new("u", &settings, wire, Some(&before), &common);
    after.set_static(&listed);
    let gate = after.gates.concurrency.as_ref().unwrap();
    assert_eq!((gate.0.used(), gate.0.limit()), (1, 5));
    assert_eq!(picked.endpoint.in_flight(), 1);
    assert!(
        after
            .endpoints()
            .candidates()
            .iter()
            .all(|e| e.addr != picked.addr)
    );
    assert!(after.can_serve(&[]) && !after.can_serve(&[after.pick(None, &[]).unwrap().addr]));
    let permits = common.permits(crate::table::Scope::Upstream);
    assert_eq!((permits.used, permits.limit), (1, 5));
}

#[test]
fn what_others_say_holds_for_its_time() {
    let endpoints = endpoints(4, Balance::default());
    let verdicts = BTreeMap::from([(addr(1), Opinion::FailsChecks), (addr(9), Opinion::Ejected)]);
    assert!(endpoints.prune(Some(&verdicts), 1000, 10));
    assert_eq!(candidates(&endpoints), [2, 3, 4]);
    // Said again: no other set, but for longer.
    assert!(!endpoints.prune(Some(&verdicts), 2000, 500));
    assert_eq!(endpoints.refresh(1000), 2000);
    assert_eq!(candidates(&endpoints), [2, 3, 4]);
    assert_eq!(endpoints.refresh(2000), NEVER);
    assert_eq!(candidates(&endpoints), [1, 2, 3, 4]);
    // And it can be taken back.
    assert!(endpoints.prune(Some(&verdicts), 3000, 2500));
    assert!(endpoints.prune(None, 3000, 2600));
    assert_eq!(candidates(&endpoints), [1, 2, 3, 4]);
}

#[test]
fn the_floor_holds_against_what_others_say() {
    let endpoints = endpoints(4, Balance::default());
    endpoints.change(1, |s| s.terms.min_healthy_percent = 50);
    let verdicts = (1..=3).map(|n| (addr(n), Opinion::FailsChecks)).collect();
    endpoints.prune(Some(&verdicts), 1000, 10);
    assert!(endpoints.set().is_panicking());
    assert_eq!(candidates(&endpoints), [1, 2, 3, 4]);
}

#[test]
fn own_checks_overrule_only_where_nobody_else_checks() {
    let endpoints = endpoints(2, Balance::default());
    let verdicts = BTreeMap::from([(addr(1), Opinion::FailsChecks)]);
    endpoints.prune(Some(&verdicts), 1000, 10);
    endpoints.checked(addr(1), Checks::Passing, false, 20);
    assert_eq!(candidates(&endpoints), [2]);
    endpoints.checked(addr(1), Checks::Passing, true, 30);
    assert_eq!(candidates(&endpoints), [1, 2]);
}

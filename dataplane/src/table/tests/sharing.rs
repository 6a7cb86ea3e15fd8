//! What a change leaves alone stays the same object: that is what makes large tables cheap to change.

use super::*;

const SERVICE: &str = "Service/n/a:80";

fn started() -> (Compiler, Arc<Table>) {
    let mut model = model(
        (0..50)
            .map(|i| {
                let rules = vec![rule(vec![prefix("/")], forward(&[SERVICE]))];
                route(
                    &format!("r{i}"),
                    &[&format!("h{i}.com"), &format!("*.w{i}.com")],
                    rules,
                )
            })
            .collect(),
    );
    model.upstreams.insert(
        SERVICE.into(),
        upstream(EndpointSource::Service("n/a:80".into())),
    );
    model.shards.insert(
        "n/a:80/1".into(),
        shard("n/a:80", &[("10.0.0.1:80", true), ("10.0.0.2:80", true)]),
    );
    let mut compiler = Compiler::new();
    let table = compiler.apply(Changes::of(&model)).unwrap();
    (compiler, table)
}

#[test]
fn the_listeners_of_an_owner_have_one_gate_which_outlives_changes() {
    let listener = |max| Listener {
        concurrency: Some(model::Concurrency {
            max,
            queue_depth: 0,
            queue_timeout_ms: 0,
        }),
        ..listener("*")
    };
    let all = |max| {
        // The last one is that of a ListenerSet.
        let keys = [
            "d/a/x",
            "d/a/y",
            "d/b/x",
            "Gateway/d/g/x",
            "Gateway/d/g/t:s:x",
        ];
        let listeners = keys.map(|key| put(key, listener(max)));
        Changes {
            listeners: listeners.into_iter().flatten().collect(),
            ..Changes::default()
        }
    };
    let gate = |table: &Table, key: &str| {
        let (gate, _) = table.listeners[key].gate.as_ref().unwrap();
        Arc::clone(gate)
    };
    let mut compiler = Compiler::new();
    let before = compiler.apply(all(1)).unwrap();
    let of_a = gate(&before, "d/a/x");
    assert!(Arc::ptr_eq(&of_a, &gate(&before, "d/a/y")));
    assert!(!Arc::ptr_eq(&of_a, &gate(&before, "d/b/x")));
    let of_g = gate(&before, "Gateway/d/g/x");
    assert!(Arc::ptr_eq(&of_g, &gate(&before, "Gateway/d/g/t:s:x")));

    let Entry::Permitted(permit) = of_a.enter() else {
        panic!("the first one is let in");
    };
    let after = compiler.apply(all(2)).unwrap();
    let same = gate(&after, "d/a/y");
    assert!(Arc::ptr_eq(&of_a, &same));
    assert_eq!((same.used(), same.limit()), (1, 2));
    drop(permit);
    assert_eq!(same.used(), 0);
    let gone = Changes {
        listeners: put("d/a/x", super::listener("*")),
        ..Changes::default()
    };
    let table = compiler.apply(gone).unwrap();
    assert!(table.listeners["d/a/x"].gate.is_none());
}

#[test]
fn endpoints_build_no_table() {
    let (mut compiler, before) = started();
    let upstream = compiler.registry().get(SERVICE).unwrap();
    let first = upstream.pick(None, &[]).unwrap();
    let guard = first.endpoint.start();
    let shards = put(
        "n/a:80/1",
        shard("n/a:80", &[("10.0.0.1:80", true), ("10.0.0.3:80", true)]),
    );
    let after = compiler
        .apply(Changes {
            shards,
            ..Changes::default()
        })
        .unwrap();
    assert!(Arc::ptr_eq(&before, &after));
    let addrs: Vec<_> = upstream
        .endpoints()
        .endpoints()
        .iter()
        .map(|e| e.addr.to_string())
        .collect();
    assert_eq!(addrs, ["10.0.0.1:80", "10.0.0.3:80"]);
    assert_eq!(
        upstream.endpoints().endpoints()[0].state.in_flight(),
        1,
        "the address keeps its state"
    );
    drop(guard);
    assert_eq!(upstream.endpoints().endpoints()[0].state.in_flight(), 0);

    let other_source = super::upstream(EndpointSource::Static(Vec::new()));
    let upstreams = put(SERVICE, other_source);
    let after = compiler
        .apply(Changes {
            upstreams,
            ..Changes::default()
        })
        .unwrap();
    assert!(
        Arc::ptr_eq(&before, &after),
        "where endpoints come from is no matter of the table"
    );
    assert!(upstream.pick(None, &[]).is_none());
    assert!(
        Arc::ptr_eq(&after, &compiler.apply(Changes::default()).unwrap()),
        "nothing is nothing"
    );
}

#[test]
fn a_route_touches_the_shards_of_its_hosts_only() {
    let (mut compiler, before) = started();
    let routes = put(
        "n/r7",
        route(
            "r7",
            &["h7.com"],
            vec![rule(vec![prefix("/x")], respond("x"))],
        ),
    );
    let after = compiler
        .apply(Changes {
            routes,
            ..Changes::default()
        })
        .unwrap();
    let (old, new) = (only(&before), only(&after));
    let changed = |old: &Sharded, new: &Sharded| {
        old.shards()
            .iter()
            .zip(new.shards())
            .filter(|(a, b)| !Arc::ptr_eq(a, b))
            .count()
    };
    assert_eq!(changed(&old.exact, &new.exact), 1);
    assert_eq!(
        changed(&old.wildcard, &new.wildcard),
        1,
        "its wildcard is gone"
    );
    let rules = |table: &ListenerTable| -> Vec<_> {
        let entries = table.hosts().flat_map(|host| host.entries());
        entries.map(|entry| Arc::as_ptr(&entry.rule)).collect()
    };
    let new = rules(new);
    let kept = rules(old).into_iter().filter(|rule| new.contains(rule));
    assert_eq!(kept.count(), 98);
    assert_eq!(
        ask(&before, "GET", "h7.com/x", &[]),
        "forward",
        "the table before still serves"
    );
    assert_eq!(ask(&after, "GET", "h7.com/x", &[]), "x");
    assert_eq!(ask(&after, "GET", "a.w7.com/x", &[]), "404");
}

#[test]
fn an_upstream_with_other_settings_keeps_its_endpoints_and_their_state() {
    let (mut compiler, before) = started();
    let old = compiler.registry().get(SERVICE).unwrap();
    old.pick(None, &[]).unwrap().endpoint.failed();
    let mut settings = super::upstream(EndpointSource::Service("n/a:80".into()));
    settings.path_prefix = "/v1".into();
    let upstreams = put(SERVICE, settings);
    let after = compiler
        .apply(Changes {
            upstreams,
            ..Changes::default()
        })
        .unwrap();
    assert!(!Arc::ptr_eq(&before, &after));
    let new = compiler.registry().get(SERVICE).unwrap();
    assert_eq!(new.settings.path_prefix, "/v1");
    let failures: u64 = new
        .endpoints()
        .endpoints()
        .iter()
        .map(|e| e.state.failures())
        .sum();
    assert_eq!(failures, 1);
}

#[test]
fn an_upstream_that_goes_leaves_its_endpoints_to_requests_under_way() {
    let (mut compiler, _) = started();
    let old = compiler.registry().get(SERVICE).unwrap();
    let table = compiler
        .apply(Changes {
            upstreams: gone(SERVICE),
            shards: gone("n/a:80/1"),
            ..Changes::default()
        })
        .unwrap();
    assert!(old.pick(None, &[]).is_some());
    let headers = Headers::new();
    let q = Query {
        method: "GET",
        host: "h1.com",
        path: "/",
        query: None,
        headers: &headers,
        client: NOBODY,
    };
    let Found::Rule(matched) = only(&table).find_silently(&q) else {
        panic!("the Route is still there")
    };
    let Action::Forward(backends) = matched.rule.action() else {
        panic!("it still forwards")
    };
    assert!(backends.next().unwrap().upstream.is_none());
}

#[test]
fn a_listener_with_other_limits_keeps_its_hosts() {
    let (mut compiler, before) = started();
    let mut changed = listener("*");
    changed.keep_alive_ms = 1;
    let listeners = put(LISTENER, changed);
    let after = compiler
        .apply(Changes {
            listeners,
            ..Changes::default()
        })
        .unwrap();
    assert_eq!(only(&after).listener.keep_alive_ms, 1);
    let same = only(&before)
        .exact
        .shards()
        .iter()
        .zip(only(&after).exact.shards())
        .all(|(a, b)| Arc::ptr_eq(a, b));
    assert!(same);
}

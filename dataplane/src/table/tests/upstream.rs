use super::*;

fn upstream() -> Upstream {
    let origin = model::ObjectRef::new("Upstream", "n", "u");
    let settings = model::Upstream::new(origin, EndpointSource::Static(Vec::new()));
    let wire = Wire::compile(&settings, |_| None).unwrap();
    Upstream::new("Upstream/n/u", &settings, wire, None, &Arc::default())
}

fn listed(list: &[(&str, u16)]) -> Vec<StaticEndpoint> {
    let endpoint = |(host, port): &(&str, u16)| StaticEndpoint {
        host: (*host).to_owned(),
        port: *port,
        weight: 1,
        zone: None,
    };
    list.iter().map(endpoint).collect()
}

fn addresses(u: &Upstream) -> Vec<String> {
    u.endpoints()
        .endpoints()
        .iter()
        .map(|e| e.addr.to_string())
        .collect()
}

#[test]
fn names_contribute_once_they_are_resolved() {
    let u = upstream();
    u.set_static(&listed(&[
        ("10.0.0.9", 80),
        ("web.local", 81),
        ("[::1]", 82),
        ("web.local", 83),
    ]));
    assert_eq!(addresses(&u), ["10.0.0.9:80", "[::1]:82"]);
    let names: Vec<_> = u
        .dns_names()
        .into_iter()
        .map(|n| (n.host.to_string(), n.port))
        .collect();
    assert_eq!(
        names,
        [("web.local".to_owned(), 81), ("web.local".to_owned(), 83)]
    );
    u.set_resolved("web.local", &["10.0.0.1".parse().unwrap()]);
    u.set_resolved("other.local", &["10.0.0.2".parse().unwrap()]);
    assert_eq!(
        addresses(&u),
        ["10.0.0.1:81", "10.0.0.1:83", "10.0.0.9:80", "[::1]:82"]
    );
    u.set_resolved("web.local", &[]);
    assert_eq!(addresses(&u), ["10.0.0.9:80", "[::1]:82"]);
}

#[test]
fn services_stand_beside_other_sources() {
    let u = upstream();
    let service = |ready| {
        vec![model::Endpoint {
            address: "10.1.0.1".parse().unwrap(),
            port: 8080,
            ready,
            serving: true,
            terminating: !ready,
            zone: None,
        }]
    };
    let set = |first_available, of_service: Vec<model::Endpoint>| {
        let discovery = Discovery {
            first_available,
            sources: vec![
                DiscoverySource::Service("n/web:80".into()),
                DiscoverySource::Static(listed(&[("10.0.0.9", 80)])),
            ],
            filter: None,
        };
        u.set_discovery(&discovery, |name| {
            assert_eq!(name, "n/web:80");
            of_service.iter()
        });
        addresses(&u)
    };
    assert_eq!(set(false, service(true)), ["10.0.0.9:80", "10.1.0.1:8080"]);
    assert_eq!(set(true, service(true)), ["10.1.0.1:8080"]);
    // One that is on its way out is nothing to go on with.
    assert_eq!(set(true, service(false)), ["10.0.0.9:80", "10.1.0.1:8080"]);
    assert_eq!(u.pick(None, &[]).unwrap().addr.to_string(), "10.0.0.9:80");
    assert_eq!(set(true, Vec::new()), ["10.0.0.9:80"]);
}

#[test]
fn addresses_of_a_name_outlive_a_change_of_the_list() {
    let u = upstream();
    u.set_static(&listed(&[("web.local", 81)]));
    u.set_resolved("web.local", &["10.0.0.1".parse().unwrap()]);
    u.set_static(&listed(&[("web.local", 90), ("10.0.0.9", 80)]));
    assert_eq!(addresses(&u), ["10.0.0.1:90", "10.0.0.9:80"]);
    u.set_static(&listed(&[("10.0.0.9", 80)]));
    u.set_static(&listed(&[("web.local", 81)]));
    assert!(addresses(&u).is_empty(), "forgotten with the name");
}

#[test]
fn slices_are_merged_and_one_address_is_one_endpoint() {
    let endpoint = |last: u8, ready| model::Endpoint {
        address: IpAddr::from([10, 0, 0, last]),
        port: 80,
        ready,
        serving: true,
        terminating: !ready,
        zone: None,
    };
    let u = upstream();
    u.set_service([endpoint(2, true), endpoint(1, false), endpoint(1, true)].iter());
    let set = u.endpoints();
    let seen: Vec<_> = set
        .endpoints()
        .iter()
        .map(|e| (e.addr.to_string(), e.ready))
        .collect();
    assert_eq!(
        seen,
        [
            ("10.0.0.1:80".to_owned(), true),
            ("10.0.0.2:80".to_owned(), true)
        ]
    );
}

#[test]
fn picks_go_round_over_a_change_of_endpoints() {
    let u = upstream();
    u.set_static(&listed(&[("10.0.0.1", 80), ("10.0.0.2", 80)]));
    let first = u.pick(None, &[]).unwrap();
    first.endpoint.failed();
    let second = u.pick(None, &[]).unwrap();
    assert_ne!(first.addr, second.addr);
    u.set_static(&listed(&[
        ("10.0.0.1", 80),
        ("10.0.0.2", 80),
        ("10.0.0.3", 80),
    ]));
    let mut taken: Vec<_> = (0..3).map(|_| u.pick(None, &[]).unwrap().addr).collect();
    taken.sort();
    taken.dedup();
    assert_eq!(taken.len(), 3);
    assert_eq!(u.endpoints().endpoints()[0].state.failures(), 1);
}

#[test]
fn connections_are_bounded_only_where_each_exchange_has_its_own() {
    use model::UpstreamProtocol::{Auto, H1, H2, H2C};
    for (protocol, bounded) in [(Auto, true), (H1, true), (H2, false), (H2C, false)] {
        let origin = model::ObjectRef::new("Upstream", "n", "u");
        let mut settings = model::Upstream::new(origin, EndpointSource::Static(Vec::new()));
        settings.protocol = protocol;
        settings.circuit_breaker = Some(model::CircuitBreaker {
            max_connections: 1,
            max_requests: 1,
            max_pending: 0,
        });
        let wire = Wire::compile(&settings, |_| None).unwrap();
        let gates = Upstream::new("u", &settings, wire, None, &Arc::default()).gates;
        assert_eq!(gates.connections.is_some(), bounded, "{protocol:?}");
        assert!(gates.requests.is_some());
    }
}

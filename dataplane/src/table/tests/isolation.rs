//! Listeners that share a port: each request is one listener's, and no other's Routes are asked.

use super::*;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

const HOSTNAMES: &[&str] = &["*", "*.a", "*.b.a", "x.b.a", "y.a"];
const HOSTS: &[&str] = &[
    "", "a", "y.a", "z.a", "b.a", "x.b.a", "y.b.a", "z.y.b.a", "c",
];
const PORTS: &[u16] = &[80, 81];

/// One of these patterns on each port at most.
fn any_listeners() -> impl Strategy<Value = Vec<Listener>> {
    let on_port = |port: u16| {
        let some = subsequence(HOSTNAMES.to_vec(), 0..=HOSTNAMES.len()).prop_shuffle();
        some.prop_map(move |names| (port, names))
    };
    (on_port(PORTS[0]), on_port(PORTS[1])).prop_map(|ports| {
        let one = |(port, names): (u16, Vec<&'static str>)| {
            let names = names.into_iter().enumerate();
            names.map(move |(order, name)| Listener {
                name: format!("{port}-{order}"),
                order: u32::try_from(order).unwrap(),
                port,
                ..listener(name)
            })
        };
        one(ports.0).chain(one(ports.1)).collect()
    })
}

/// Hosts, and which of the listeners it names by position.
fn any_route() -> impl Strategy<Value = (Vec<&'static str>, Vec<usize>)> {
    let hosts = subsequence(vec!["*", "*.a", "x.b.a", "*.b.a", "y.a", "c"], 1..3);
    (hosts, subsequence((0..10).collect::<Vec<_>>(), 0..4))
}

fn key(listener: &Listener) -> String {
    format!("d/default/{}", listener.name)
}

/// The Gateway API as it is written: exact before wildcard before any, of wildcards the one with more dots.
fn owner<'m>(listeners: &'m [Listener], port: u16, host: &str) -> Option<&'m Listener> {
    let here = listeners.iter().filter(|l| l.port == port);
    let covering = here.filter(|l| match l.hostname.to_string().as_str() {
        "*" => true,
        pattern => match pattern.strip_prefix('*') {
            Some(suffix) => host.ends_with(suffix) && host.len() > suffix.len(),
            None => pattern == host,
        },
    });
    covering.max_by_key(|l| {
        let pattern = l.hostname.to_string();
        let dots = pattern.matches('.').count();
        (pattern != "*", !pattern.starts_with('*'), dots)
    })
}

proptest! {
    #[test]
    fn isolation_is_as_it_is_written(
        listeners in any_listeners(),
        routes in prop::collection::vec(any_route(), 0..6),
        host in select(HOSTS.to_vec()),
        port in select(PORTS.to_vec()),
    ) {
        let mut model = Model::default();
        for listener in &listeners {
            model.listeners.insert(key(listener), listener.clone());
        }
        for (i, (hosts, named)) in routes.iter().enumerate() {
            let named = named.iter().filter_map(|at| listeners.get(*at));
            let mut one = route(&format!("r{i}"), hosts, vec![rule(
                vec![prefix(&format!("/r{i}"))],
                respond(&format!("r{i}")),
            )]);
            one.listeners = named.map(key).collect();
            model.routes.insert(one.origin.key(), one);
        }
        let table = compile(&model);
        let owner = owner(&listeners, port, host);
        let here = table.ports.get(&port).map(|of_port| of_port.of(host));
        // Where nobody has it, the first listener says so.
        if let (Some(owner), Some(here)) = (owner, here) {
            prop_assert_eq!(here.key.to_string(), key(owner));
        }
        for i in 0..routes.len() {
            let path = format!("/r{i}");
            let headers = Headers::new();
            let q = Query { method: "GET", host, path: &path, query: None, headers: &headers, client: NOBODY };
            let is_found = here.is_some_and(|here| match here.find_silently(&q) {
                Found::Rule(matched) => *matched.rule.spec.route.key == format!("n/r{i}"),
                _ => false,
            });
            let route = &model.routes[&route(&format!("r{i}"), &[], Vec::new()).origin.key()];
            let is_meant = owner.is_some_and(|owner| {
                route.listeners.contains(&key(owner)) && route.hosts.iter().any(|h| h.covers(host))
            });
            prop_assert_eq!(is_found, is_meant, "{} at {:?} of {:?}", path, host, listeners);
        }
    }
}

#[test]
fn what_cannot_share_a_port_is_told_and_the_others_serve() {
    let mut model = model(vec![route(
        "r",
        &[],
        vec![rule(vec![Match::any()], respond("r"))],
    )]);
    for (name, edit) in [
        (
            "proxied",
            (|l| l.proxy_protocol = true) as fn(&mut Listener),
        ),
        ("secure", |l| {
            l.protocol = model::ListenerProtocol::Https;
            l.tls = Some(model::ListenerTls::default());
        }),
        ("twice", |l| l.hostname = HostPattern::Any),
        ("beside", |_| {}),
    ] {
        let mut one = listener(&format!("{name}.a"));
        (one.name, one.order) = (name.to_owned(), 1);
        edit(&mut one);
        model.listeners.insert(key(&one), one);
    }
    let table = compile(&model);
    let port = &table.ports[&8080];
    let states: Vec<_> = port
        .listeners()
        .map(|(l, refused)| (&*l.key, refused))
        .collect();
    assert_eq!(
        states,
        [
            (LISTENER, None),
            ("d/default/beside", None),
            (
                "d/default/proxied",
                Some("port 8080: the PROXY protocol is spoken there in another way")
            ),
            (
                "d/default/secure",
                Some("port 8080: another protocol is spoken there")
            ),
            (
                "d/default/twice",
                Some("port 8080: another listener has host *")
            ),
        ]
    );
    assert!(port.tls.is_none());
    for host in ["proxied.a", "secure.a", "any.other"] {
        assert_eq!(&*port.of(host).key, LISTENER);
    }
    assert_eq!(&*port.of("beside.a").key, "d/default/beside");
}

#[test]
fn a_changed_route_leaves_the_rest_of_its_port_as_it_was() {
    let mut model = model(vec![route(
        "r",
        &[],
        vec![rule(vec![Match::any()], respond("r"))],
    )]);
    let mut beside = listener("x.a");
    beside.name = "beside".into();
    model.listeners.insert(key(&beside), beside);
    let mut compiler = Compiler::new();
    let before = compiler.apply(Changes::of(&model)).unwrap();
    let again = route("r", &[], vec![rule(vec![Match::any()], respond("again"))]);
    let changes = Changes {
        routes: put("Route/n/r", again),
        ..Changes::default()
    };
    let after = compiler.apply(changes).unwrap();
    let (a, b) = (before.ports[&8080].of("x.a"), after.ports[&8080].of("x.a"));
    assert!(std::ptr::eq(a, b));
    assert!(!std::ptr::eq(
        before.ports[&8080].of("y.a"),
        after.ports[&8080].of("y.a")
    ));
}

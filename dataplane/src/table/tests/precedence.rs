//! F3, pair by pair: for each step of the order, two rules that differ in it alone as far as that can be.

use super::*;
use model::{HeaderMatch, QueryMatch, ValueMatch};

fn exact(path: &str) -> Match {
    Match {
        path: PathMatch::Exact(path.into()),
        ..Match::any()
    }
}

fn regex(path: &str) -> Match {
    Match {
        path: PathMatch::Regex(path.into()),
        ..Match::any()
    }
}

fn with(m: Match, method: bool, headers: usize, query: usize) -> Match {
    let names = ["a", "b", "c"];
    let header = |name: &&str| HeaderMatch {
        name: (*name).to_owned(),
        value: ValueMatch::Present,
    };
    let parameter = |name: &&str| QueryMatch {
        name: (*name).to_owned(),
        value: ValueMatch::Present,
    };
    Match {
        methods: if method {
            methods(&["GET"])
        } else {
            Vec::new()
        },
        headers: names.iter().take(headers).map(header).collect(),
        query: names.iter().take(query).map(parameter).collect(),
        ..m
    }
}

fn any_host(m: Match) -> (&'static str, Match) {
    ("*", m)
}

/// Both match the request; the first has to win, whichever Route comes first by name.
fn wins(better: (&str, Match), worse: (&str, Match)) {
    let lines = [("a", "1"), ("b", "1"), ("c", "1")];
    for names in [("m", "n"), ("n", "m")] {
        let table = compile(&model(vec![
            route(
                names.0,
                &[better.0],
                vec![rule(vec![better.1.clone()], respond("better"))],
            ),
            route(
                names.1,
                &[worse.0],
                vec![rule(vec![worse.1.clone()], respond("worse"))],
            ),
        ]));
        assert_eq!(
            ask(&table, "GET", "www.shop.com/aa/b?a&b&c", &lines),
            "better",
            "{better:?} before {worse:?}"
        );
    }
}

#[test]
fn the_default_order() {
    let root = || prefix("/");
    wins(("www.shop.com", root()), ("*.shop.com", exact("/aa/b")));
    wins(("*.shop.com", root()), ("*.com", exact("/aa/b")));
    wins(("*.com", root()), any_host(exact("/aa/b")));
    wins(
        any_host(exact("/aa/b")),
        any_host(with(prefix("/aa/b"), true, 3, 3)),
    );
    wins(
        any_host(prefix("/aa/b")),
        any_host(with(prefix("/aa"), true, 3, 3)),
    );
    wins(any_host(root()), any_host(with(regex("/aa/b"), true, 3, 3)));
    wins(
        any_host(regex("/[a-z]+/b")),
        any_host(with(regex("/aa/.*"), true, 3, 3)),
    );
    wins(
        any_host(with(root(), true, 0, 0)),
        any_host(with(root(), false, 3, 3)),
    );
    wins(
        any_host(with(root(), false, 2, 0)),
        any_host(with(root(), false, 1, 3)),
    );
    wins(
        any_host(with(root(), false, 1, 2)),
        any_host(with(root(), false, 1, 1)),
    );
}

#[test]
fn of_equals_the_older_then_the_lesser_name_then_the_earlier_rule() {
    let mut young = route("a", &[], vec![rule(vec![prefix("/")], respond("young"))]);
    young.created = 2;
    let mut old = route("b", &[], vec![rule(vec![prefix("/")], respond("old"))]);
    old.created = 1;
    assert_eq!(
        ask(&compile(&model(vec![young.clone(), old])), "GET", "h/", &[]),
        "old"
    );
    let mut twin = route("b", &[], vec![rule(vec![prefix("/")], respond("twin"))]);
    twin.created = 2;
    assert_eq!(
        ask(&compile(&model(vec![twin, young])), "GET", "h/", &[]),
        "young"
    );
    let rules = vec![
        rule(vec![prefix("/x"), prefix("/")], respond("first")),
        rule(vec![prefix("/")], respond("second")),
    ];
    assert_eq!(
        ask(
            &compile(&model(vec![route("a", &[], rules)])),
            "GET",
            "h/",
            &[]
        ),
        "first"
    );
}

#[test]
fn precedence_stands_above_host_and_path() {
    let mut high = rule(vec![regex("/m.*")], respond("high"));
    high.precedence = 1;
    let mut low = rule(vec![exact("/last")], respond("low"));
    low.precedence = -1;
    let table = compile(&model(vec![
        route(
            "a",
            &["h"],
            vec![rule(vec![exact("/m"), prefix("/")], respond("host"))],
        ),
        route("b", &[], vec![high]),
        route("c", &["h", "g"], vec![low]),
    ]));
    assert!(only(&table).has_precedence());
    assert_eq!(ask(&table, "GET", "h/m", &[]), "high");
    assert_eq!(ask(&table, "GET", "h/last", &[]), "host");
    assert_eq!(ask(&table, "GET", "g/last", &[]), "low");
}

#[test]
fn precedence_counts_within_one_path_and_among_expressions() {
    let mut shorter = rule(vec![regex("/.*")], respond("shorter"));
    shorter.precedence = 2;
    let mut same_path = rule(vec![prefix("/p")], respond("raised"));
    same_path.precedence = 3;
    let table = compile(&model(vec![route(
        "a",
        &[],
        vec![
            rule(
                vec![regex("/[a-z]+"), with(prefix("/p"), true, 0, 0)],
                respond("plain"),
            ),
            shorter,
            same_path,
        ],
    )]));
    assert_eq!(ask(&table, "GET", "h/x", &[]), "shorter");
    assert_eq!(ask(&table, "GET", "h/p", &[]), "raised");
}

#[test]
fn the_flag_goes_when_the_last_precedence_goes() {
    let mut raised = rule(vec![prefix("/")], respond("x"));
    raised.precedence = 5;
    let mut compiler = Compiler::new();
    let table = compiler
        .apply(Changes::of(&model(vec![route(
            "a",
            &["h", "*.g"],
            vec![raised],
        )])))
        .unwrap();
    assert!(only(&table).has_precedence());
    let routes = put(
        "n/a",
        route("a", &["h"], vec![rule(vec![prefix("/")], respond("x"))]),
    );
    let table = compiler
        .apply(Changes {
            routes,
            ..Changes::default()
        })
        .unwrap();
    assert!(!only(&table).has_precedence());
}

//! Hosts, paths, methods, headers and query parameters.

use super::*;
use crate::table::explain::{Asked, explain};
use model::{CookieMatch, HeaderMatch, QueryMatch, ValueMatch};
use proptest::prelude::*;

fn answer(path: &str, body: &str) -> model::Rule {
    rule(vec![prefix(path)], respond(body))
}

#[test]
fn prefixes_end_at_segments_and_the_longest_wins() {
    let table = compile(&model(vec![route(
        "a",
        &[],
        vec![
            answer("/open", "open"),
            answer("/open/deep/", "deep"),
            answer("/é", "accent"),
        ],
    )]));
    for (path, body) in [
        ("/open", "open"),
        ("/open/", "open"),
        ("/open/x", "open"),
        ("/openai", "404"),
        ("/open/deep", "deep"),
        ("/open/deep/x", "deep"),
        ("/open/deeper", "open"),
        ("/OPEN", "404"),
        ("/é/x", "accent"),
        ("/\u{e8}", "404"),
        ("/", "404"),
    ] {
        assert_eq!(ask(&table, "GET", &format!("h{path}"), &[]), body, "{path}");
    }
}

#[test]
fn a_level_without_a_match_hands_over_to_the_next() {
    let table = compile(&model(vec![
        route("a", &["www.shop.com"], vec![answer("/exact", "exact")]),
        route("b", &["*.shop.com"], vec![answer("/long", "long")]),
        route(
            "c",
            &["*.com"],
            vec![answer("/long", "short"), answer("/short", "short")],
        ),
        route("d", &[], vec![answer("/any", "any")]),
    ]));
    for (url, body) in [
        ("www.shop.com/exact", "exact"),
        ("www.shop.com/long", "long"),
        ("www.shop.com/short", "short"),
        ("www.shop.com/any", "any"),
        ("a.b.shop.com/long", "long"),
        ("shop.com/long", "short"),
        ("com/short", "404"),
        (".com/short", "404"),
        ("xshop.com/long", "short"),
        ("/any", "any"),
        ("www.shop.com/none", "404"),
    ] {
        assert_eq!(ask(&table, "GET", url, &[]), body, "{url}");
    }
}

#[test]
fn a_listener_serves_no_other_hosts() {
    let mut model = model(vec![
        route("a", &[], vec![answer("/a", "any")]),
        route("b", &["x.shop.com", "y.com"], vec![answer("/b", "exact")]),
        route("c", &["*.x.shop.com"], vec![answer("/c", "narrow")]),
    ]);
    model
        .listeners
        .insert(LISTENER.into(), listener("*.shop.com"));
    let table = compile(&model);
    for (url, body) in [
        ("x.shop.com/a", "any"),
        ("x.shop.com/b", "exact"),
        ("y.com/a", "404"),
        ("y.com/b", "404"),
        ("z.x.shop.com/c", "narrow"),
        ("/a", "404"),
    ] {
        assert_eq!(ask(&table, "GET", url, &[]), body, "{url}");
    }
}

#[test]
fn only_a_wrong_method_is_405_and_allow_is_the_union() {
    let on = |m: &[&str], m2: Match, body: &str| {
        rule(
            vec![Match {
                methods: methods(m),
                ..m2
            }],
            respond(body),
        )
    };
    let header = Match {
        headers: vec![HeaderMatch {
            name: "x-a".into(),
            value: ValueMatch::Present,
        }],
        ..prefix("/p")
    };
    let table = compile(&model(vec![
        route(
            "a",
            &["h"],
            vec![
                on(&["POST"], prefix("/p"), "post"),
                on(&["DELETE"], header, "delete"),
            ],
        ),
        route(
            "b",
            &[],
            vec![
                on(&["PUT", "POST"], prefix("/"), "put"),
                answer("/p/free", "free"),
            ],
        ),
    ]));
    assert_eq!(ask(&table, "POST", "h/p", &[]), "post");
    assert_eq!(ask(&table, "PUT", "h/p", &[]), "put");
    assert_eq!(ask(&table, "GET", "h/p", &[]), "405 POST, PUT");
    assert_eq!(
        ask(&table, "GET", "h/p", &[("x-a", "1")]),
        "405 DELETE, POST, PUT"
    );
    assert_eq!(ask(&table, "HEAD", "g/", &[]), "405 POST, PUT");
    assert_eq!(ask(&table, "GET", "h/p/free", &[]), "free");
    assert_eq!(ask(&table, "get", "h/p/free", &[]), "free");
}

#[test]
fn a_method_that_is_hidden_is_no_405() {
    let on = |method: &str, path: &str, hides_methods| model::Rule {
        hides_methods,
        ..rule(
            vec![Match {
                methods: methods(&[method]),
                ..prefix(path)
            }],
            respond(method),
        )
    };
    let rules = vec![on("GET", "/", true), on("PUT", "/p", false)];
    let table = compile(&model(vec![route("a", &[], rules)]));
    assert_eq!(ask(&table, "GET", "h/p", &[]), "GET");
    assert_eq!(ask(&table, "POST", "h/", &[]), "404");
    assert_eq!(ask(&table, "POST", "h/p", &[]), "405 PUT");
}

fn with_value(value: ValueMatch) -> Arc<Table> {
    let header = Match {
        headers: vec![HeaderMatch {
            name: "x-env".into(),
            value: value.clone(),
        }],
        ..prefix("/h")
    };
    let query = Match {
        query: vec![QueryMatch {
            name: "v".into(),
            value,
        }],
        ..prefix("/q")
    };
    compile(&model(vec![route(
        "a",
        &[],
        vec![rule(vec![header, query], respond("yes"))],
    )]))
}

#[test]
fn kinds_of_values() {
    let text = |kind: fn(String) -> ValueMatch, v: &str| kind(v.to_owned());
    // What is asked, lines that do, lines that do not.
    type Lines = &'static [&'static [&'static str]];
    let cases: [(ValueMatch, Lines, Lines); 6] = [
        (
            text(ValueMatch::Exact, "a b"),
            &[&["a b"], &["x", "a b"]],
            &[&[], &["a b c"], &["A b"]],
        ),
        (
            text(ValueMatch::Prefix, "ab"),
            &[&["ab"], &["abc"], &["x", "abc"]],
            &[&[], &["xab"]],
        ),
        (
            text(ValueMatch::Regex, "a|ab+"),
            &[&["a"], &["abb"], &["x", "ab"]],
            &[&[], &["ac"], &["xa"]],
        ),
        (text(ValueMatch::Regex, "(?i)a"), &[&["A"]], &[&["b"]]),
        (ValueMatch::Present, &[&[""], &["x"]], &[&[]]),
        (ValueMatch::Absent, &[&[]], &[&[""], &["x"]]),
    ];
    for (value, good, bad) in cases {
        let table = with_value(value.clone());
        for (lists, answer) in [(good, "yes"), (bad, "404")] {
            for values in lists {
                let lines: Vec<_> = values.iter().map(|v| ("x-env", *v)).collect();
                assert_eq!(
                    ask(&table, "GET", "h/h", &lines),
                    answer,
                    "header {values:?} {value}"
                );
            }
            // Of a query parameter only the first value counts.
            for values in lists.iter().filter(|v| v.len() < 2) {
                let url = match values.first() {
                    None => "h/q?w=1".to_owned(),
                    Some(v) => format!("h/q?w=1&v={}", v.replace(' ', "%20")),
                };
                assert_eq!(ask(&table, "GET", &url, &[]), answer, "{url} {value}");
            }
        }
    }
}

#[test]
fn a_value_that_is_no_text_matches_no_expression() {
    let table = with_value(ValueMatch::Regex(".*".into()));
    let mut headers = Headers::new();
    headers.push("x-env", b"\xff\xfe").unwrap();
    let q = Query {
        method: "GET",
        host: "h",
        path: "/h",
        query: None,
        headers: &headers,
        client: NOBODY,
    };
    assert!(matches!(only(&table).find_silently(&q), Found::NotFound));
}

#[test]
fn the_prefix_of_a_match() {
    let m = |path| Match {
        path,
        ..Match::any()
    };
    let table = compile(&model(vec![route(
        "a",
        &[],
        vec![rule(
            vec![
                prefix("/p/"),
                m(PathMatch::Exact("/e/x".into())),
                m(PathMatch::Regex("/r/.*".into())),
                prefix("/"),
            ],
            respond(""),
        )],
    )]));
    for (path, len, index) in [
        ("/p/x", 2, 0),
        ("/e/x", 4, 1),
        ("/r/xyz", 0, 3),
        ("/", 0, 3),
    ] {
        let q = Query {
            method: "GET",
            host: "",
            path,
            query: None,
            headers: &Headers::new(),
            client: NOBODY,
        };
        let Found::Rule(matched) = only(&table).find_silently(&q) else {
            panic!("{path}")
        };
        assert_eq!(
            (matched.prefix_len, matched.matcher.index),
            (len, index),
            "{path}"
        );
    }
}

proptest! {
    #[test]
    fn never_panics(host in ".{0,20}", path in ".{0,40}", method in ".{0,8}", query in proptest::option::of(".{0,20}")) {
        let m = |path| Match { path, ..Match::any() };
        let value = ValueMatch::Regex(".+".into());
        let asks = Match { query: vec![QueryMatch { name: "a".into(), value }], ..prefix("/a") };
        let table = compile(&model(vec![
            route("a", &["a.b", "*.b"], vec![rule(vec![prefix("/a"), asks, prefix("/é/ü")], respond("a"))]),
            route("b", &[], vec![rule(vec![m(PathMatch::Regex("/.{3}".into())), prefix("/")], respond("b"))]),
        ]));
        let q = Query { method: &method, host: &host, path: &path, query: query.as_deref(), headers: &Headers::new(), client: NOBODY };
        let found = format!("{:?}", only(&table).find_silently(&q));
        let mut trace = Trace::new(&q);
        prop_assert_eq!(found, format!("{:?}", only(&table).find(&q, &mut trace)));
        prop_assert!(trace.near_misses().len() <= observe::NEAR_MISSES);
    }
}

#[test]
fn cookies_and_clients() {
    let cookie = |name: &str, value| CookieMatch {
        name: name.into(),
        value,
    };
    let by_cookie = Match {
        cookies: vec![cookie("beta", ValueMatch::Exact("1".into()))],
        ..Match::any()
    };
    let inside = Match {
        clients: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
        ..Match::any()
    };
    let table = compile(&model(vec![route(
        "a",
        &[],
        vec![
            rule(vec![Match::any()], respond("plain")),
            rule(vec![inside], respond("inside")),
            rule(vec![by_cookie], respond("beta")),
        ],
    )]));
    for (client, cookies, body) in [
        ("192.0.2.1", "", "plain"),
        ("10.9.9.9", "", "inside"),
        ("fd00::1", "", "inside"),
        ("0.0.0.0", "", "plain"),
        ("192.0.2.1", "alpha=1; beta=1", "beta"),
        // The first of a name counts, and a cookie counts more than a network.
        ("10.9.9.9", "beta=1; beta=2", "beta"),
        ("10.9.9.9", "beta=2; beta=1", "inside"),
    ] {
        let mut headers = Headers::new();
        headers.push("cookie", cookies).unwrap();
        let q = Query {
            method: "GET",
            host: "h",
            path: "/",
            query: None,
            headers: &headers,
            client: client.parse().unwrap(),
        };
        let Found::Rule(matched) = only(&table).find_silently(&q) else {
            panic!("{client} {cookies}");
        };
        let Action::Respond(response) = matched.rule.action() else {
            panic!("{client} {cookies}");
        };
        assert_eq!(response.body, body, "{client} {cookies}");
    }
}

#[test]
fn expressions_stand_between_wildcards_and_any_host_and_feed_rewrites() {
    let regex = r"~(?<team>[a-z]+)\.(?<zone>eu|us)\.example\.com";
    let to = |with: &str, host: &str| model::Rule {
        rewrite: model::Rewrite {
            path: Some(model::PathRewrite::ReplacePrefix(with.into())),
            host: Some(host.into()),
        },
        ..rule(vec![prefix("/api")], forward(&["u"]))
    };
    let away = model::Redirect {
        scheme: None,
        hostname: Some("${zone}.example.com".into()),
        port: None,
        path: Some(model::RedirectPath::ReplaceFull("/${team}/".into())),
        status: 302,
    };
    let swap = model::Rule {
        rewrite: model::Rewrite {
            path: Some(model::PathRewrite::Regex {
                pattern: "^/swap/(?<id>[0-9]+)".into(),
                replacement: "/${zone}/${id}/${team}/$1".into(),
            }),
            host: None,
        },
        ..rule(vec![prefix("/swap")], forward(&["u"]))
    };
    let mut all = model(vec![
        route(
            "a",
            &[regex],
            vec![
                to("/t/${team}", "${team}.${zone}.internal"),
                rule(vec![prefix("/away")], model::Action::Redirect(away)),
                swap,
                rule(vec![prefix("/")], respond("regex")),
            ],
        ),
        route(
            "b",
            &["*.us.example.com"],
            vec![rule(vec![prefix("/w")], respond("wildcard"))],
        ),
        route("c", &[], vec![rule(vec![prefix("/")], respond("any"))]),
    ]);
    let up = model::Upstream::new(
        ObjectRef::new("Upstream", "n", "u"),
        EndpointSource::Static(Vec::new()),
    );
    all.upstreams.insert("u".into(), up);
    let table = compile(&all);
    for (url, body) in [
        ("red.eu.example.com/", "regex"),
        ("red.us.example.com/w", "wildcard"),
        ("red.us.example.com/v", "regex"),
        ("red.fr.example.com/v", "any"),
        ("red.eu.example.com.x/v", "any"),
    ] {
        assert_eq!(ask(&table, "GET", url, &[]), body, "{url}");
    }
    let headers = Headers::new();
    let explained = |path| {
        let query = Query {
            method: "GET",
            host: "red.eu.example.com",
            path,
            query: Some("q=1"),
            headers: &headers,
            client: NOBODY,
        };
        let asked = Asked {
            query,
            scheme: "http",
            port: None,
        };
        explain(&table, LISTENER, &asked).unwrap().to_string()
    };
    let text = explained("/api/x");
    assert!(
        text.contains("/t/red/x?q=1, host red.eu.internal"),
        "{text}"
    );
    assert!(text.contains("host=regex("), "{text}");
    let text = explained("/away/x");
    assert!(
        text.contains("302 http://eu.example.com/red/?q=1"),
        "{text}"
    );
    let text = explained("/swap/7/y");
    assert!(text.contains("/eu/7/red/7/y?q=1"), "{text}");
}

//! The explanation of a request, as text and as JSON.

use super::*;
use crate::table::explain::{Asked, explain};
use model::{
    Discovery, DiscoverySource, FailurePolicy, HeaderMatch, HttpSource, Plugin, PluginUse,
    StaticEndpoint, ValueMatch,
};

fn shop() -> Arc<Table> {
    let canary = Match {
        headers: vec![HeaderMatch {
            name: "x-env".into(),
            value: ValueMatch::Exact("canary".into()),
        }],
        ..prefix("/api")
    };
    let mut api = rule(
        vec![prefix("/api")],
        forward(&["Upstream/n/web", "Upstream/n/missing"]),
    );
    api.name = "api".into();
    api.rewrite.path = Some(model::PathRewrite::StripPrefix);
    api.request_headers.set = vec![("x-via".into(), "shop".into())];
    api.plugins = vec![PluginUse::Inline(Box::new(Plugin {
        origin: ObjectRef::new("Route", "n", "shop"),
        name: "check".into(),
        kind: "RequestValidation".into(),
        stage: None,
        priority: 0,
        parallel: false,
        failure_policy: FailurePolicy::Fail,
        run_on_local_reply: false,
        settings: "{}".into(),
    }))];
    let redirect = model::Action::Redirect(model::Redirect {
        scheme: Some("https".into()),
        hostname: None,
        port: None,
        path: None,
        status: 301,
    });
    let post = Match {
        methods: methods(&["POST"]),
        ..prefix("/form")
    };
    let mut model = model(vec![
        route(
            "shop",
            &["shop.com"],
            vec![
                api,
                rule(vec![canary], respond("canary")),
                rule(vec![prefix("/old")], redirect),
                rule(vec![post], respond("thanks")),
            ],
        ),
        route("any", &[], vec![rule(vec![prefix("/api")], respond("any"))]),
    ]);
    let endpoints = vec![
        StaticEndpoint {
            host: "10.0.0.1".into(),
            port: 80,
            weight: 1,
            zone: None,
        },
        StaticEndpoint {
            host: "web.local".into(),
            port: 80,
            weight: 1,
            zone: None,
        },
    ];
    let mut web = upstream(EndpointSource::Static(endpoints));
    web.path_prefix = "/v1".into();
    model.upstreams.insert("Upstream/n/web".into(), web);
    compile(&model)
}

fn explained(method: &str, path: &str) -> Explanation {
    explained_by(&shop(), method, path)
}

fn explained_by(table: &Table, method: &str, path: &str) -> Explanation {
    let headers = headers(&[("x-env", "prod")]);
    let query = Query {
        method,
        host: "shop.com",
        path,
        query: Some("q=1"),
        headers: &headers,
        client: NOBODY,
    };
    let asked = Asked {
        query,
        scheme: "http",
        port: Some(8080),
    };
    explain(table, LISTENER, &asked).unwrap()
}

#[test]
fn a_forwarded_request() {
    let e = explained("GET", "/api/items");
    assert_eq!(
        e.to_string(),
        "\
GET http://shop.com:8080/api/items?q=1 on listener d/default/http
Route n/shop api, match 0
  host  shop.com
  path  PathPrefix /api
  rank  precedence=0 host=exact path=prefix(4) method=no headers=0 query=0 clients=no
  PreRequest: check
  request header x-via: set to \"shop\"
forwards 1 of 2 to Upstream/n/web
  by    RoundRobin
  as    /v1/items?q=1, host shop.com:8080
  name  web.local:80
  to    10.0.0.1:80 ready, weight 1
forwards 1 of 2 to Upstream/n/missing
  answers: 500 invalid_backend
near misses:
  Route n/shop rules[1], host shop.com, PathPrefix /api: header x-env is \"prod\", wants = \"canary\"
    rank  precedence=0 host=exact path=prefix(4) method=no headers=1 query=0 clients=no
  Route n/any rules[0], host *, PathPrefix /api: matches, but ranks lower
    rank  precedence=0 host=any path=prefix(4) method=no headers=0 query=0 clients=no
  Route n/shop rules[3], host shop.com, PathPrefix /form: path \"/api/items\" is not covered by PathPrefix /form
    rank  precedence=0 host=exact path=prefix(5) method=yes headers=0 query=0 clients=no
  Route n/shop rules[2], host shop.com, PathPrefix /old: path \"/api/items\" is not covered by PathPrefix /old
    rank  precedence=0 host=exact path=prefix(4) method=no headers=0 query=0 clients=no
"
    );
    let json = serde_json::to_value(&e).unwrap();
    assert_eq!(
        json["outcome"]["forward"][0]["requestTarget"],
        "/v1/items?q=1"
    );
    assert_eq!(json["nearMisses"][0]["route"], "n/shop");
    assert_eq!(json["rule"]["plugins"][0]["stage"], "PreRequest");
}

#[test]
fn a_redirect_and_refusals() {
    let json = serde_json::to_value(explained("GET", "/old/x")).unwrap();
    assert_eq!(
        json["outcome"]["redirect"]["location"],
        "https://shop.com/old/x?q=1"
    );
    let refused = explained("GET", "/form").to_string();
    assert!(
        refused.contains("no rule takes it\nanswers: 405 method_not_allowed, Allow: POST\n"),
        "{refused}"
    );
    assert!(refused.contains("method is GET, wants POST"), "{refused}");
    assert!(
        explained("GET", "/none")
            .to_string()
            .contains("answers: 404 route_not_found")
    );
    let headers = Headers::new();
    let asked = Asked {
        query: Query {
            method: "GET",
            host: "",
            path: "/",
            query: None,
            headers: &headers,
            client: NOBODY,
        },
        scheme: "http",
        port: None,
    };
    assert!(explain(&shop(), "nope", &asked).is_none());
}

#[test]
fn explaining_takes_no_turn() {
    let table = shop();
    let backend = || {
        let headers = Headers::new();
        let q = Query {
            method: "GET",
            host: "shop.com",
            path: "/api",
            query: None,
            headers: &headers,
            client: NOBODY,
        };
        let asked = Asked {
            query: q,
            scheme: "http",
            port: None,
        };
        explain(&table, LISTENER, &asked).unwrap();
        let Found::Rule(matched) = only(&table).find_silently(&q) else {
            panic!("it matches")
        };
        let Action::Forward(backends) = matched.rule.action() else {
            panic!("it forwards")
        };
        backends.next().unwrap().target.to_owned()
    };
    let taken: Vec<_> = (0..4).map(|_| backend()).collect();
    assert_eq!(
        taken,
        [
            "Upstream/n/web",
            "Upstream/n/missing",
            "Upstream/n/web",
            "Upstream/n/missing"
        ]
    );
}

#[test]
fn credentials_are_never_shown() {
    let secret = Match {
        headers: vec![HeaderMatch {
            name: "authorization".into(),
            value: ValueMatch::Exact("Bearer wanted".into()),
        }],
        ..prefix("/")
    };
    let table = compile(&model(vec![route(
        "a",
        &[],
        vec![rule(vec![secret], respond(""))],
    )]));
    let headers = headers(&[("authorization", "Bearer sent")]);
    let asked = Asked {
        query: Query {
            method: "GET",
            host: "h",
            path: "/",
            query: None,
            headers: &headers,
            client: NOBODY,
        },
        scheme: "http",
        port: None,
    };
    let text = explain(&table, LISTENER, &asked).unwrap().to_string();
    assert!(
        text.contains("header authorization is not as the rule wants it"),
        "{text}"
    );
    assert!(!text.contains("Bearer"), "{text}");
}

#[test]
fn registries_are_named_without_their_queries() {
    let everything = rule(vec![prefix("/")], forward(&["Upstream/n/found"]));
    let mut model = model(vec![route("shop", &["shop.com"], vec![everything])]);
    let source = HttpSource {
        url: "http://registry.test/v1?key=secret".into(),
        path: Vec::new(),
        refresh_ms: 1000,
    };
    let discovery = Discovery {
        first_available: false,
        sources: vec![DiscoverySource::Http(source)],
        filter: None,
    };
    let found = upstream(EndpointSource::Discovery(discovery));
    model.upstreams.insert("Upstream/n/found".into(), found);
    let e = explained_by(&compile(&model), "GET", "/").to_string();
    assert!(e.contains("  asks  http://registry.test/v1\n"), "{e}");
    assert!(!e.contains("secret"), "{e}");
}

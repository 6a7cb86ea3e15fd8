//! A request's journey through a whole data plane: table, plugins, forwarding, local answers, metrics. The
//! configuration comes as the bytes of a snapshot, requests on real sockets.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use diolkos_dataplane::keep::Keep;
use diolkos_dataplane::push::{Apply, Reply};
use model::*;
use std::net::SocketAddr;
use std::time::Duration;
use support::config::*;
use support::gateway::*;
use support::plane::{Plane, snapshot};
use support::{Answer, Client, PATIENCE, becomes, chunked, logs, noise};

#[test]
fn forwards_rewrites_and_edits() {
    let mut rule = rule(PathMatch::prefix("/api"), to(Target::Upstream("up".into())));
    rule.rewrite = Rewrite {
        path: Some(PathRewrite::StripPrefix),
        host: Some("inner.test".into()),
    };
    rule.request_headers
        .set
        .push(("x-added".into(), "1".into()));
    rule.response_headers.set.push(("x-out".into(), "2".into()));
    let gateway = gateway(vec![rule]);
    let answer = gateway
        .client()
        .request("POST", "/api/echo?q=1", "Content-Length: 3\r\n", "abc");
    assert_eq!((answer.status, &answer.body[..]), (200, &b"abc"[..]));
    assert_eq!(answer.header("x-out"), Some("2"));
    let seen = gateway.origin.last();
    assert_eq!(seen.line.split(' ').nth(1), Some("/echo?q=1"));
    assert_eq!(seen.headers["host"], "inner.test");
    assert_eq!(seen.headers["x-added"], "1");
    gateway.metric_becomes(
        r#"diolkos_route_requests_total{code_class="2xx",route="d/r"}"#,
        1.0,
    );
    gateway.metric_becomes("diolkos_request_bytes_total", 3.0);
    gateway.metric_becomes(r#"diolkos_requests_in_flight{kind="plain"}"#, 0.0);
}

#[test]
fn answers_of_its_own() {
    let mut get_only = rule(
        PathMatch::Exact("/m".into()),
        to(Target::Upstream("up".into())),
    );
    get_only.matches[0].methods =
        vec![Method::parse("GET").unwrap(), Method::parse("PUT").unwrap()];
    let redirect = Redirect {
        scheme: Some("https".into()),
        hostname: None,
        port: None,
        path: None,
        status: 308,
    };
    let direct = DirectResponse {
        status: 418,
        content_type: "text/x".into(),
        body: "short and stout".into(),
        headers: vec![("x-pot".into(), "tea".into())],
    };
    let gateway = gateway(vec![
        get_only,
        rule(PathMatch::prefix("/r"), Action::Redirect(redirect)),
        rule(PathMatch::prefix("/d"), Action::Respond(direct)),
        rule(
            PathMatch::prefix("/closed"),
            Action::Closed {
                code: "plugin_error".into(),
            },
        ),
        rule(
            PathMatch::prefix("/gone"),
            to(Target::Unresolved("Service d/x:80".into())),
        ),
        rule(
            PathMatch::prefix("/none"),
            to(Target::Upstream("no such key".into())),
        ),
    ]);
    let mut client = gateway.client();
    assert_eq!(
        error(&client.get("/nowhere")),
        (404, r#"{"error":"route_not_found"}"#)
    );
    let answer = client.request("POST", "/m", "Content-Length: 0\r\n", "");
    assert_eq!(error(&answer), (405, r#"{"error":"method_not_allowed"}"#));
    assert_eq!(answer.header("allow"), Some("GET, PUT"));
    let answer = client.get("/r/a?b=c");
    assert_eq!(
        (answer.status, answer.header("location")),
        (308, Some("https://t/r/a?b=c"))
    );
    let answer = client.get("/d");
    assert_eq!(error(&answer), (418, "short and stout"));
    assert_eq!(
        (answer.header("x-pot"), answer.header("content-type")),
        (Some("tea"), Some("text/x"))
    );
    assert_eq!(
        error(&client.get("/closed")),
        (500, r#"{"error":"plugin_error"}"#)
    );
    assert_eq!(
        error(&client.get("/gone")),
        (500, r#"{"error":"invalid_backend"}"#)
    );
    assert_eq!(
        error(&client.get("/none")),
        (500, r#"{"error":"invalid_backend"}"#)
    );
    assert_eq!(error(&client.get("/healthz")), (200, r#"{"status":"ok"}"#));
    assert_eq!(gateway.origin.count(), 0);
    gateway.metric_becomes(r#"diolkos_errors_total{code="invalid_backend"}"#, 2.0);
}

#[test]
fn a_redirect_leads_to_the_port_of_a_listener_that_is_its_public_one() {
    let redirect = |scheme: Option<&str>| {
        Action::Redirect(Redirect {
            scheme: scheme.map(Into::into),
            hostname: None,
            port: None,
            path: None,
            status: 302,
        })
    };
    let mut model = base(&[]);
    for listener in model.listeners.values_mut() {
        listener.redirect_port = Some(8080);
    }
    let rules = vec![
        rule(PathMatch::prefix("/same"), redirect(None)),
        rule(PathMatch::prefix("/https"), redirect(Some("https"))),
    ];
    routes(&mut model, rules);
    let plane = Plane::start(&model);
    let location = |host: &str, path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let answer = plane.client().send(request).answer("GET").unwrap();
        answer.header("location").unwrap().to_owned()
    };
    assert_eq!(location("t", "/same"), "http://t:8080/same");
    assert_eq!(location("t:81", "/same"), "http://t:81/same");
    assert_eq!(location("t", "/https"), "https://t/https");
}

#[test]
fn a_refusal_of_the_edge_gate_is_counted_and_has_the_same_body_form() {
    let gateway = gateway(vec![forward()]);
    let long = "x".repeat(9000);
    let many = "a: b\r\n".repeat(101);
    for (text, status, code, rule) in [
        ("GET / HTTP/1.1\r\n\r\n", 400, "bad_request", "host"),
        (
            "GET / HTTP/1.1\nHost: t\r\n\r\n",
            400,
            "bad_request",
            "framing",
        ),
        (
            "GET /%00 HTTP/1.1\r\nHost: t\r\n\r\n",
            400,
            "bad_request",
            "path",
        ),
        (
            "GET / HTTP/1.1\r\nHost: t\r\na_b: c\r\n\r\n",
            400,
            "bad_request",
            "header",
        ),
        (
            &format!("GET /{long} HTTP/1.1\r\nHost: t\r\n\r\n"),
            414,
            "uri_too_long",
            "target_size",
        ),
        (
            &format!("GET / HTTP/1.1\r\nHost: t\r\n{many}\r\n"),
            431,
            "header_too_large",
            "header_count",
        ),
        (
            &format!("GET / HTTP/1.1\r\nHost: t\r\na: {}\r\n\r\n", long.repeat(8)),
            431,
            "header_too_large",
            "header_size",
        ),
    ] {
        let answer = gateway.client().send(text).answer("GET").unwrap();
        let body = format!("{{\"error\":\"{code}\"}}");
        assert_eq!(error(&answer), (status, &*body), "{rule}");
        let line = format!("diolkos_edge_rejected_total{{reason=\"{rule}\"}}");
        gateway.metric_becomes(&line, 1.0);
    }
}

#[test]
fn requests_are_counted_by_route_as_far_as_the_configuration_wants() {
    let mut gateway = Gateway::start(|_, _| {});
    let mut with = |metrics| {
        gateway.put(|model, _| {
            let listener = model.listeners.get_mut("d/gw/http").unwrap();
            listener.metrics = Some(metrics);
            routes(model, vec![forward()]);
        });
        assert_eq!(gateway.get("/").status, 200);
        let all = r#"diolkos_requests_total{code_class="2xx",listener="d/gw/http"}"#;
        let by_route =
            |route| format!(r#"diolkos_route_requests_total{{code_class="2xx",route="{route}"}}"#);
        let lines = [
            all,
            &by_route("d/r"),
            &by_route("__other__"),
            "diolkos_series_overflow_total",
        ];
        gateway.metric_becomes(r#"diolkos_requests_in_flight{kind="plain"}"#, 0.0);
        lines.map(|line| gateway.metric(line))
    };
    let metrics = Metrics::default();
    let by_none = Metrics {
        by_route: false,
        ..metrics.clone()
    };
    assert_eq!(with(by_none), [1.0, 0.0, 0.0, 0.0]);
    let none_more = Metrics {
        max_series: 6,
        ..metrics.clone()
    };
    assert_eq!(with(none_more), [2.0, 0.0, 1.0, 1.0]);
    // It stays where it is counted as long as it stays as it is.
    assert_eq!(with(metrics), [3.0, 0.0, 2.0, 2.0]);
}

#[test]
fn requests_are_counted_by_tenant_and_upstream_where_the_configuration_wants_it() {
    let mut gateway = Gateway::start(|_, _| {});
    let mut requests = 0;
    let mut labels = |by_tenant, by_upstream, tenant: Option<&str>| {
        gateway.put(|model, _| {
            model.listeners.get_mut("d/gw/http").unwrap().metrics = Some(Metrics {
                by_tenant,
                by_upstream,
                ..Metrics::default()
            });
            let direct = DirectResponse {
                status: 200,
                content_type: String::new(),
                body: "no upstream".into(),
                headers: Vec::new(),
            };
            let direct = rule(PathMatch::prefix("/direct"), Action::Respond(direct));
            routes(model, vec![direct, forward()]);
            model.routes.get_mut("d/r").unwrap().tenant = tenant.map(str::to_owned);
        });
        let mut client = gateway.client();
        client.request("POST", "/echo", "Content-Length: 3\r\n", "abc");
        assert_eq!(client.get("/die").status, 502);
        assert_eq!(client.get("/direct").status, 200);
        assert_eq!(client.get("/direct").status, 200);
        let sum = |family: &str, part: &str| {
            let text = gateway.data.metrics.text();
            let lines = text.lines().filter(|l| l.starts_with(family));
            let with = lines.filter(|line| line.contains(part));
            let value = |line: &str| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
            with.map(value).sum::<f64>() as u64
        };
        requests += 4;
        becomes("all are settled", (requests, 0), || {
            let settled = sum("diolkos_request_duration_seconds_count{", "");
            (settled, sum("diolkos_requests_in_flight{", ""))
        });
        // Of the request to /echo, the one to /die with its second attempt, and the two that go nowhere.
        let sum = |part: &str| {
            let families = [
                r#"diolkos_requests_total{code_class="2xx",listener="d/gw/http""#,
                r#"diolkos_errors_total{code="upstream_reset""#,
                r#"diolkos_request_duration_seconds_count{kind="plain""#,
                "diolkos_request_bytes_total{",
                r#"diolkos_upstream_attempts_total{outcome="reset""#,
                "diolkos_upstream_first_byte_seconds_count{",
            ];
            families.map(|family| sum(family, part))
        };
        (
            sum(r#"tenant="acme""#),
            sum(r#"upstream="up""#),
            sum(r#"tenant="acme",upstream="up""#),
        )
    };
    let nothing = [0; 6];
    assert_eq!(
        labels(false, false, Some("acme")),
        (nothing, nothing, nothing)
    );
    // Nobody's Route has no Tenant.
    assert_eq!(labels(true, false, None), (nothing, nothing, nothing));
    let all = [3, 1, 4, 3, 2, 1];
    assert_eq!(labels(true, false, Some("acme")), (all, nothing, nothing));
    let forwarded = [1, 1, 2, 3, 2, 1];
    assert_eq!(labels(false, true, Some("acme")), (all, forwarded, nothing));
    let twice = |counts: [u64; 6]| counts.map(|count| 2 * count);
    assert_eq!(
        labels(true, true, Some("acme")),
        (twice(all), twice(forwarded), forwarded)
    );
    let healthy = |upstream| {
        let line = format!(r#"diolkos_endpoints{{state="healthy"{upstream}}}"#);
        gateway.metric(&line)
    };
    assert_eq!((healthy(r#",upstream="up""#), healthy("")), (1.0, 0.0));
}

#[test]
fn time_in_the_gateway_is_told_without_what_it_waits_for() {
    let mut rule = forward();
    rule.timeouts.request_ms = 300;
    let gateway = gateway(vec![rule]);
    assert_eq!(gateway.get("/hold").status, 504);
    gateway.metric_becomes("diolkos_overhead_seconds_count", 1.0);
    assert!(gateway.metric(r#"diolkos_request_duration_seconds_sum{kind="plain"}"#) >= 0.3);
    let overhead = gateway.metric("diolkos_overhead_seconds_sum");
    assert!(overhead > 0.0 && overhead < 0.15, "{overhead}");
}

#[test]
fn no_endpoint_and_a_dead_endpoint() {
    let dead = || {
        std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
    };
    let (one, two) = (dead(), dead());
    let gateway = Gateway::start(|model, origin| {
        model.upstreams.insert("empty".into(), upstream(&[]));
        model.upstreams.insert("dead".into(), upstream(&[one]));
        model
            .upstreams
            .insert("half".into(), upstream(&[origin, two]));
        let key = |k: &str| to(Target::Upstream(k.into()));
        routes(
            model,
            vec![
                rule(PathMatch::prefix("/empty"), key("empty")),
                rule(PathMatch::prefix("/dead"), key("dead")),
                rule(PathMatch::prefix("/"), key("half")),
            ],
        );
    });
    let answer = gateway.get("/empty");
    assert_eq!(error(&answer), (503, r#"{"error":"no_healthy_upstream"}"#));
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(
        error(&gateway.get("/dead")),
        (502, r#"{"error":"upstream_connect_error"}"#)
    );
    // One endpoint of two refuses: one more attempt finds the other, for any method.
    for _ in 0..6 {
        let answer = gateway
            .client()
            .request("POST", "/echo", "Content-Length: 2\r\n", "ok");
        assert_eq!((answer.status, &answer.body[..]), (200, &b"ok"[..]));
    }
    assert!(gateway.metric(r#"diolkos_upstream_retries_total{reason="connect"}"#) >= 3.0);
}

#[test]
fn upstream_failures_have_their_codes() {
    let mut slow = rule(
        PathMatch::prefix("/gated"),
        to(Target::Upstream("up".into())),
    );
    slow.timeouts.request_ms = 50;
    let gateway = gateway(vec![slow, forward()]);
    assert_eq!(
        error(&gateway.get("/die")),
        (502, r#"{"error":"upstream_reset"}"#)
    );
    assert_eq!(
        error(&gateway.get("/gated")),
        (504, r#"{"error":"upstream_timeout"}"#)
    );
    gateway.metric_becomes(r#"diolkos_upstream_attempts_total{outcome="reset"}"#, 1.0);
}

/// What an upstream is taken to say that sends these bytes: informational statuses, then the answer.
fn taken(gateway: &Gateway, text: &str) -> (Vec<u16>, Answer) {
    let mut client = gateway.client();
    let length = text.len();
    client.send(format!(
        "POST /raw HTTP/1.1\r\nHost: t\r\nContent-Length: {length}\r\n\r\n{text}"
    ));
    let mut before = Vec::new();
    loop {
        let answer = client.answer("POST").unwrap();
        match answer.status {
            100..200 => before.push(answer.status),
            _ => return (before, answer),
        }
    }
}

/// Two fields, and room for more.
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n";
const NOT_HTTP: (u16, &str) = (502, r#"{"error":"upstream_protocol_error"}"#);

#[test]
fn an_upstream_has_sixteen_informational_heads_and_no_more() {
    let gateway = gateway(vec![forward()]);
    let said = |count: usize| {
        let hints = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(count);
        taken(&gateway, &format!("{hints}{OK}\r\nok"))
    };
    let (before, answer) = said(16);
    assert_eq!((before, error(&answer)), (vec![103; 16], (200, "ok")));
    let (before, answer) = said(17);
    assert_eq!((before, error(&answer)), (vec![103; 16], NOT_HTTP));
}

#[test]
fn the_head_of_an_answer_has_64_kib_and_a_hundred_fields() {
    let gateway = gateway(vec![forward()]);
    let said = |fields: &str| taken(&gateway, &format!("{OK}{fields}\r\nok")).1;
    let long = |length: usize| format!("x: {}\r\n", "y".repeat(length));
    assert_eq!(error(&said(&long(65_000))), (200, "ok"));
    assert_eq!(error(&said(&long(65_536))), NOT_HTTP);
    assert_eq!(error(&said(&"x: y\r\n".repeat(98))), (200, "ok"));
    assert_eq!(error(&said(&"x: y\r\n".repeat(99))), NOT_HTTP);
}

#[test]
fn bodies_over_the_cap_are_refused_with_and_without_a_length() {
    let mut small = forward();
    small.max_request_body = 10;
    let gateway = gateway(vec![small]);
    let body = noise(11);
    let answer = gateway
        .client()
        .request("POST", "/echo", "Content-Length: 11\r\n", &body);
    assert_eq!(error(&answer), (413, r#"{"error":"request_too_large"}"#));
    assert_eq!(gateway.origin.count(), 0);
    let answer = gateway.client().request(
        "POST",
        "/echo",
        "Transfer-Encoding: chunked\r\n",
        chunked(&body, 4),
    );
    assert_eq!(error(&answer), (413, r#"{"error":"request_too_large"}"#));
    let answer = gateway
        .client()
        .request("POST", "/echo", "Content-Length: 10\r\n", &body[..10]);
    assert_eq!(answer.status, 200);
}

#[test]
fn the_chain_validates_mocks_and_edits() {
    let validation = inline(
        "RequestValidation",
        r#"{"requiredHeaders":["X-Request-ID"]}"#,
    );
    let mock = inline(
        "Mock",
        r#"{"status":201,"body":"mocked","headers":[{"name":"x-mock","value":"1"}]}"#,
    );
    let mut headers = inline(
        "ResponseHeaders",
        r#"{"set":[{"name":"x-last","value":"w"}]}"#,
    );
    let plain = rule(
        PathMatch::prefix("/plain"),
        to(Target::Upstream("up".into())),
    );
    let mut stripped = with(plain, &[validation, headers.clone()]);
    stripped.rewrite.path = Some(PathRewrite::StripPrefix);
    let mocked = rule(
        PathMatch::prefix("/mock"),
        to(Target::Upstream("up".into())),
    );
    headers.run_on_local_reply = true;
    let also = rule(
        PathMatch::prefix("/mock/also"),
        to(Target::Upstream("up".into())),
    );
    let quiet = inline(
        "ResponseHeaders",
        r#"{"set":[{"name":"x-quiet","value":"1"}]}"#,
    );
    let gateway = gateway(vec![
        stripped,
        with(mocked, &[mock.clone(), quiet]),
        with(also, &[mock, headers]),
    ]);
    let mut client = gateway.client();
    assert_eq!(
        error(&client.get("/plain")),
        (400, r#"{"error":"missing_required_header"}"#)
    );
    assert_eq!(gateway.origin.count(), 0);
    let answer = client.request("GET", "/plain", "X-Request-ID: 7\r\n", "");
    assert_eq!((answer.status, answer.header("x-last")), (200, Some("w")));
    let answer = client.get("/mock");
    assert_eq!(error(&answer), (201, "mocked"));
    assert_eq!(
        (answer.header("x-mock"), answer.header("x-quiet")),
        (Some("1"), None)
    );
    assert_eq!(client.get("/mock/also").header("x-last"), Some("w"));
}

#[test]
fn trace_goes_nowhere_and_options_as_far_as_it_says() {
    let gateway = gateway(vec![forward()]);
    let mut client = gateway.client();
    let answer = client.request("TRACE", "/", "", "");
    assert_eq!(error(&answer), (405, r#"{"error":"method_not_allowed"}"#));
    assert!(answer.header("allow").unwrap().contains("GET"));
    let mut options = |hops: &str| {
        let headers = format!("Max-Forwards: {hops}\r\n");
        client.request("OPTIONS", "/", &headers, "")
    };
    let answer = options("0");
    assert_eq!(error(&answer), (200, ""));
    assert_eq!(answer.header("content-length"), Some("0"));
    assert!(answer.header("allow").unwrap().contains("GET"));
    assert_eq!(gateway.origin.count(), 0);
    assert_eq!(error(&options("1")), (200, "hello"));
    assert_eq!(gateway.origin.last().headers["max-forwards"], "0");
}

#[test]
fn of_an_answer_is_counted_what_its_client_gets() {
    let packs = inline("Compression", "{}");
    let judges = inline(
        "ContentValidation",
        r#"{"on":"Response","maxSize":"64Ki","deny":[{"pattern":"secret"}]}"#,
    );
    let at = |path: &str, plugins: &[Plugin]| {
        let mut r = with(
            rule(PathMatch::prefix(path), to(Target::Upstream("up".into()))),
            plugins,
        );
        r.rewrite.path = Some(PathRewrite::StripPrefix);
        let text = ("content-type".into(), "text/plain".into());
        r.response_headers.set.push(text);
        r
    };
    let direct = DirectResponse {
        status: 200,
        content_type: String::new(),
        body: "no upstream".into(),
        headers: Vec::new(),
    };
    let gateway = gateway(vec![
        at("/packed", std::slice::from_ref(&packs)),
        at("/judged", &[packs, judges]),
        rule(PathMatch::prefix("/direct"), Action::Respond(direct)),
    ]);
    let mut counted = 0.0;
    let mut ask = |method: &str, path: &str, body: &str| {
        let length = format!(
            "Content-Length: {}\r\nAccept-Encoding: gzip\r\n",
            body.len()
        );
        let answer = gateway.client().request(method, path, &length, body);
        counted += answer.body.len() as f64;
        gateway.metric_becomes("diolkos_response_bytes_total", counted);
        answer.body.len()
    };
    let text = "to be or not to be, ".repeat(500);
    assert!((1..1000).contains(&ask("POST", "/packed/echo", &text)));
    assert!((1..1000).contains(&ask("POST", "/judged/echo", &text)));
    let refused = r#"{"error":"content_filter"}"#.len();
    assert_eq!(ask("POST", "/judged/echo", "my secret"), refused);
    assert_eq!(ask("GET", "/direct", ""), "no upstream".len());
    assert_eq!(ask("HEAD", "/direct", ""), 0);
    assert_eq!(ask("HEAD", "/packed/echo", ""), 0);
}

#[test]
fn what_plugins_refuse_is_counted_by_its_code() {
    let nobody = inline("IPAccess", r#"{"deny":["127.0.0.0/8"]}"#);
    let checked = inline("RequestValidation", r#"{"requiredHeaders":["x-id"]}"#);
    let to_up = |path| rule(PathMatch::prefix(path), to(Target::Upstream("up".into())));
    let gateway = gateway(vec![
        with(to_up("/nobody"), &[nobody]),
        with(to_up("/checked"), &[checked]),
    ]);
    for (path, status, code) in [
        ("/nobody", 403, "forbidden"),
        ("/checked", 400, "missing_required_header"),
    ] {
        let body = format!(r#"{{"error":"{code}"}}"#);
        assert_eq!(error(&gateway.get(path)), (status, &*body));
        gateway.metric_becomes(&format!(r#"diolkos_errors_total{{code="{code}"}}"#), 1.0);
    }
}

#[test]
fn content_is_judged_whole_in_both_directions() {
    let both = inline(
        "ContentValidation",
        r#"{"on":"Both","maxSize":"64","deny":[{"pattern":"secret","message":"no secrets"}]}"#,
    );
    let mut lenient = inline(
        "ContentValidation",
        r#"{"on":"Response","maxSize":"64","deny":[{"pattern":"^x"}]}"#,
    );
    lenient.failure_policy = FailurePolicy::Ignore;
    let strict = inline("ContentValidation", r#"{"on":"Response","maxSize":"64"}"#);
    let at = |path: &str, plugin: Plugin| {
        let mut r = with(
            rule(PathMatch::prefix(path), to(Target::Upstream("up".into()))),
            &[plugin],
        );
        r.rewrite.path = Some(PathRewrite::StripPrefix);
        r
    };
    let gateway = gateway(vec![
        at("/both", both),
        at("/lenient", lenient),
        at("/strict", strict),
    ]);
    let post = |path: &str, body: &[u8]| {
        let length = format!(
            "Content-Length: {}\r\nAccept-Encoding: gzip\r\n",
            body.len()
        );
        gateway.client().request("POST", path, &length, body)
    };
    let answer = post("/both/echo", b"nothing");
    assert_eq!((answer.status, &answer.body[..]), (200, &b"nothing"[..]));
    assert_eq!(answer.header("content-length"), Some("7"));
    assert!(
        !gateway
            .origin
            .last()
            .headers
            .contains_key("accept-encoding")
    );
    let refused = (403, r#"{"error":"content_filter","message":"no secrets"}"#);
    let before = gateway.origin.count();
    assert_eq!(error(&post("/both/echo", b"my secret")), refused);
    assert_eq!(
        gateway.origin.count(),
        before,
        "a refused request goes nowhere"
    );
    assert_eq!(post("/both/echo", &[b'x'; 65]).status, 413);
    let long = vec![b'x'; 65];
    let answer = post("/lenient/echo", &long);
    assert_eq!(
        (answer.status, answer.body),
        (200, long.clone()),
        "over the size it passes unjudged"
    );
    assert_eq!(post("/lenient/echo", b"xyz").status, 403);
    assert_eq!(
        error(&post("/strict/echo", &long)),
        (500, r#"{"error":"plugin_error"}"#)
    );
    let failures = |policy| {
        format!(r#"diolkos_plugin_failures_total{{policy="{policy}",type="ContentValidation"}}"#)
    };
    gateway.metric_becomes(&failures("fail"), 1.0);
    assert_eq!(gateway.metric(&failures("ignore")), 0.0);
    // Two runs for the first, one for each that was refused for what is in it.
    let runs = r#"diolkos_plugin_seconds_count{type="ContentValidation"}"#;
    assert_eq!(gateway.metric(runs), 4.0);
    assert!(!gateway.data.metrics.text().contains(r#"type="CORS""#));
    let chunks = gateway.client().request(
        "POST",
        "/both/echo",
        "Transfer-Encoding: chunked\r\n",
        chunked(b"so secret", 3),
    );
    assert_eq!(error(&chunks), refused);
    let mut client = gateway.client();
    client.send(
        "POST /both/echo HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
    );
    assert_eq!(client.answer("POST").unwrap().status, 100);
    assert_eq!(client.send("ok").answer("POST").unwrap().body, b"ok");
}

#[test]
fn a_stale_pooled_connection_is_replaced_for_idempotent_requests() {
    // Each connection answers once, and closes when it is asked again.
    let origin = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = origin.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in origin.incoming() {
            let mut connection = Client::on(stream.unwrap());
            connection.head();
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            connection.head();
        }
    });
    let gateway = Gateway::start(|model, _| {
        model.upstreams.insert("up".into(), upstream(&[address]));
        routes(model, vec![forward()]);
    });
    let reused = r#"diolkos_upstream_retries_total{reason="reused_connection"}"#;
    let mut client = gateway.client();
    for retries in [0.0, 1.0, 2.0] {
        assert_eq!(error(&client.get("/")), (200, "ok"));
        assert_eq!(gateway.metric(reused), retries);
    }
    // What may have been done is not done again.
    let answer = client.request("POST", "/", "Content-Length: 0\r\n", "");
    assert_eq!(error(&answer), (502, r#"{"error":"upstream_reset"}"#));
    assert_eq!(gateway.metric(reused), 2.0);
}

/// Head and part of a body are there; the rest does not come.
#[test]
fn an_answer_that_the_drain_does_not_wait_for_is_cut() {
    let gateway = gateway(vec![forward()]);
    let mut client = gateway.client();
    client.send("POST /duplex HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nhalf");
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(client.take(9), b"4\r\nhalf\r\n");
    let stop = gateway
        .data
        .stop(Duration::ZERO, Some(Duration::from_millis(100)));
    gateway.runtime.block_on(stop);
    assert_eq!(client.rest(), b"");
    gateway.metric_becomes(r#"diolkos_streams_cut_total{reason="drain"}"#, 1.0);
    gateway
        .origin
        .closed
        .recv_timeout(support::PATIENCE)
        .unwrap();
}

/// Something stands where it would be written anew, as on a disk that is full.
#[test]
fn a_last_good_copy_that_cannot_be_written_costs_no_configuration() {
    logs::listen();
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let mut gateway = gateway(Vec::new());
    let (keep, nothing) = Keep::open(directory.path(), None).unwrap();
    gateway.applier.restore(keep, nothing);
    let obstacle = directory.path().join("last-good.new");
    std::fs::create_dir(&obstacle).unwrap();
    let take_whole = |gateway: &mut Gateway, path: &str| {
        let mut model = base(&[]);
        let only = rule(PathMatch::prefix(path), to(Target::Upstream("up".into())));
        routes(&mut model, vec![only]);
        for chunk in snapshot(&model) {
            let reply = gateway.applier.receive(chunk);
            assert!(matches!(reply, Reply::More | Reply::Ack(_)), "{reply:?}");
        }
        assert_eq!(gateway.get(path).status, 503, "it is in effect");
        gateway.metric("diolkos_last_good_write_failures_total")
    };
    assert_eq!(take_whole(&mut gateway, "/one"), 1.0);
    assert_eq!(take_whole(&mut gateway, "/two"), 2.0);
    logs::come("last_good_failed", &[]);
    std::fs::remove_dir(&obstacle).unwrap();
    assert_eq!(take_whole(&mut gateway, "/three"), 2.0);
    let (_, kept) = Keep::open(directory.path(), None).unwrap();
    assert!(!kept.is_empty());
}

/// As one that a later build has written, and this one cannot read.
#[test]
fn a_last_good_copy_goes_on_after_what_of_it_was_refused_at_the_start() {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let open = || Keep::open(directory.path(), None).unwrap();
    let mut store = snapshot::Store::default();
    let mut held = None;
    let mut change = |port: u16| {
        let body = snapshot::encode(&upstream(&[([127, 0, 0, 1], port).into()])).unwrap();
        store.update([(snapshot::Kind::Upstream, "up".to_owned(), Some(body))]);
        let transaction = store.since(held).unwrap();
        held = Some(transaction.result);
        transaction.into_chunks(1, 0)
    };
    let (first, second) = (change(1), change(2));
    let mut refused = second.clone();
    refused[0].base_digest[0] ^= 1;
    let (mut keep, _) = open();
    keep.append(&first).unwrap();
    keep.append(&refused).unwrap();

    let mut gateway = gateway(Vec::new());
    let (keep, chunks) = open();
    gateway.applier.restore(keep, chunks);
    for chunk in second {
        let reply = gateway.applier.receive(chunk);
        assert!(matches!(reply, Reply::Ack(_)), "{reply:?}");
    }
    let acknowledged = gateway.applier.inventory().digest;
    drop(gateway);
    let mut replica = snapshot::Replica::default();
    for chunk in open().1 {
        let staged = replica.receive(chunk).unwrap().unwrap();
        replica.commit(staged);
    }
    assert_eq!(replica.digest(), acknowledged);
}

#[test]
fn a_changed_table_serves_the_next_request_on_the_same_connection() {
    let mut gateway = gateway(vec![forward()]);
    let mut client = gateway.client();
    assert_eq!(client.get("/").status, 200);
    gateway.put(|model, _| {
        routes(
            model,
            vec![rule(
                PathMatch::any(),
                Action::Closed {
                    code: "plugin_error".into(),
                },
            )],
        );
    });
    assert_eq!(client.get("/").status, 500);
    gateway.put(|_, _| {});
    assert_eq!(client.get("/").status, 404);
}

#[test]
fn a_stop_lets_the_exchange_under_way_finish() {
    let gateway = gateway(vec![forward()]);
    let mut client = gateway.client();
    client.send("GET /gated HTTP/1.1\r\nHost: t\r\n\r\n");
    gateway
        .origin
        .arrived
        .recv_timeout(support::PATIENCE)
        .unwrap();
    let Gateway { plane, origin } = gateway;
    let Plane { runtime, data, .. } = plane;
    let stop = runtime.spawn(async move {
        data.stop(Duration::ZERO, Some(Duration::from_secs(20)))
            .await;
    });
    origin.gate.send(()).unwrap();
    let answer = client.answer("GET").unwrap();
    assert_eq!(answer.status, 200);
    assert!(client.rest().is_empty(), "the connection ends after it");
    runtime.block_on(stop).unwrap();
}

#[test]
fn upstream_connections_for_which_there_is_no_room_are_counted() {
    let gateway = Gateway::start(|model, origin| {
        let mut up = upstream(&[origin]);
        up.connection.pool_size = 1;
        model.upstreams.insert("up".into(), up);
        routes(model, vec![forward()]);
    });
    let mut clients = [gateway.client(), gateway.client()];
    for client in &mut clients {
        client.send("GET /gated HTTP/1.1\r\nHost: t\r\n\r\n");
        gateway.origin.arrived.recv_timeout(PATIENCE).unwrap();
    }
    for _ in &clients {
        gateway.origin.gate.send(()).unwrap();
    }
    for client in &mut clients {
        assert_eq!(client.answer("GET").unwrap().status, 200);
    }
    for family in ["entries", "evictions_total"] {
        let line = format!(r#"diolkos_table_{family}{{table="upstream_pool_h1"}}"#);
        gateway.metric_becomes(&line, 1.0);
    }
}

#[test]
fn the_settings_of_listener_and_upstream_reach_the_engine_and_change_at_run_time() {
    let small = |model: &mut Model, origin: SocketAddr| {
        let listener = model.listeners.get_mut("d/gw/http").unwrap();
        listener.caps.header_count = 3;
        listener.caps.url_bytes = 300;
        listener.caps.header_bytes = 600;
        listener.caps.requests_per_connection = 2;
        let mut up = upstream(&[origin]);
        up.connection.pool_size = 0;
        model.upstreams.insert("up".into(), up);
        routes(model, vec![forward()]);
    };
    let mut gateway = Gateway::start(small);
    let send = |gateway: &Gateway, head: &str| {
        let mut client = gateway.client();
        client.send(head).answer("GET").unwrap().status
    };
    let fields = "GET / HTTP/1.1\r\nHost: t\r\na: 1\r\nb: 2\r\nc: 3\r\n\r\n";
    let target = format!("GET /{} HTTP/1.1\r\nHost: t\r\n\r\n", "x".repeat(300));
    let bytes = format!(
        "GET / HTTP/1.1\r\nHost: t\r\na: {}\r\n\r\n",
        "x".repeat(600)
    );
    assert_eq!(send(&gateway, fields), 431);
    assert_eq!(send(&gateway, &target), 414);
    assert_eq!(send(&gateway, &bytes), 431);
    let mut client = gateway.client();
    assert_eq!(client.get("/").header("connection"), None);
    assert_eq!(client.get("/").header("connection"), Some("close"));
    let connections = gateway
        .origin
        .connections
        .load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!(connections, 2, "the upstream's pool keeps nothing");
    // The same listener with other settings: it stays open, new connections have them.
    let address = gateway.address;
    gateway.put(|model, _| routes(model, vec![forward()]));
    assert_eq!(gateway.applier.listeners()[0].address, address.to_string());
    assert_eq!(send(&gateway, fields), 200);
    assert_eq!(send(&gateway, &bytes), 200);
}

#[test]
fn a_connection_over_the_listeners_cap_is_told_so() {
    let gateway = Gateway::start(|model, _| {
        model
            .listeners
            .get_mut("d/gw/http")
            .unwrap()
            .caps
            .connections = 1;
        routes(model, vec![forward()]);
    });
    let mut first = gateway.client();
    assert_eq!(first.get("/").status, 200);
    let answer = gateway.client().answer("GET").unwrap();
    assert_eq!(error(&answer), (503, r#"{"error":"overloaded"}"#));
    assert_eq!(first.get("/").status, 200);
    gateway.metric_becomes(
        r#"diolkos_connections_refused_total{reason="global_cap"}"#,
        1.0,
    );
}

#[test]
fn a_listener_whose_port_is_taken_says_so_and_opens_when_it_becomes_free() {
    let taken = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut gateway = Gateway::start(|model, _| {
        let mut second = listener();
        second.order = 1;
        second.port = port;
        model.listeners.insert("d/gw/second".into(), second);
    });
    let state = |gateway: &Gateway| {
        let states = gateway.applier.listeners();
        states.into_iter().find(|s| s.key == "d/gw/second").unwrap()
    };
    assert!(!state(&gateway).bound);
    assert!(state(&gateway).error.contains(&port.to_string()));
    assert_eq!(
        gateway.get("/healthz").status,
        200,
        "the other listener serves"
    );
    drop(taken);
    gateway.applier.note_contact();
    assert!(state(&gateway).bound, "{}", state(&gateway).error);
    let mut client = Client::connect(([127, 0, 0, 1], port).into());
    assert_eq!(client.get("/healthz").status, 200);
}

#[test]
fn only_trusted_peers_speak_for_their_clients() {
    let inside = Match {
        clients: vec!["192.0.2.0/24".parse().unwrap()],
        ..Match::any()
    };
    let reply = |body: &str| {
        Action::Respond(DirectResponse {
            status: 200,
            content_type: String::new(),
            body: body.into(),
            headers: Vec::new(),
        })
    };
    let with_trust = |trusted: &[&str]| {
        let trusted: Vec<_> = trusted.iter().map(|n| n.parse().unwrap()).collect();
        let rules = vec![
            Rule::new(vec![inside.clone()], reply("inside")),
            Rule::new(vec![Match::any()], reply("outside")),
        ];
        move |model: &mut Model, _: SocketAddr| {
            routes(model, rules);
            let listener = model.listeners.get_mut("d/gw/http").unwrap();
            listener.forwarded.trusted = trusted;
        }
    };
    let mut gateway = Gateway::start(with_trust(&[]));
    // One connection throughout: trust is judged request by request.
    let mut client = gateway.client();
    let mut ask = |fields: &str| {
        client.send(format!("GET / HTTP/1.1\r\nhost: a.test\r\n{fields}\r\n"));
        let answer = client.answer("GET").unwrap();
        String::from_utf8(answer.body).unwrap()
    };
    let says = "x-forwarded-for: 192.0.2.1\r\n";
    assert_eq!(ask(says), "outside");
    gateway.put(with_trust(&["127.0.0.1/32"]));
    assert_eq!(ask(says), "inside");
    assert_eq!(ask("forwarded: for=192.0.2.1\r\n"), "inside");
    assert_eq!(ask(""), "outside");
    assert_eq!(
        ask("x-forwarded-for: 192.0.2.1, 198.51.100.1\r\n"),
        "outside"
    );
    gateway.put(with_trust(&["10.0.0.0/8"]));
    assert_eq!(ask(says), "outside");
}

#[test]
fn copies_go_their_own_way() {
    let (shadow, never) = (support::Origin::start(), support::Origin::start());
    let (to_shadow, to_never) = (shadow.address, never.address);
    let gateway = Gateway::start(move |model, _| {
        let mirror = |key: &str, millionths| Mirror {
            target: Target::Upstream(key.into()),
            millionths,
        };
        let copied = Rule {
            mirrors: vec![
                mirror("gone", 1_000_000),
                mirror("shadow", 1_000_000),
                mirror("never", 0),
            ],
            ..forward()
        };
        model
            .upstreams
            .insert("shadow".into(), upstream(&[to_shadow]));
        model
            .upstreams
            .insert("never".into(), upstream(&[to_never]));
        model.upstreams.insert("gone".into(), upstream(&[]));
        routes(model, vec![copied]);
    });
    let mut client = gateway.client();
    assert_eq!(client.get("/a?b=1").status, 200);
    becomes("copies without a body", 1, || shadow.count());
    assert!(shadow.last().line.starts_with("GET /a?b=1 "));
    for (n, fields, body) in [
        (2, "content-length: 5", b"hello".to_vec()),
        (
            3,
            "transfer-encoding: chunked",
            chunked(&noise(20_000), 999),
        ),
    ] {
        client.send(format!(
            "POST /b HTTP/1.1\r\nhost: a.test\r\n{fields}\r\n\r\n"
        ));
        client.send(&body);
        assert_eq!(client.answer("POST").unwrap().status, 200);
        becomes("copies with a body", n, || shadow.count());
        assert_eq!(shadow.last().body, gateway.origin.last().body);
    }
    // One that is too long to keep: known at once, and known on the way.
    let long = noise(100_000);
    for (fields, body) in [
        ("content-length: 100000", long.clone()),
        ("transfer-encoding: chunked", chunked(&long, 9999)),
    ] {
        client.send(format!(
            "POST /c HTTP/1.1\r\nhost: a.test\r\n{fields}\r\n\r\n"
        ));
        client.send(&body);
        assert_eq!(client.answer("POST").unwrap().status, 200);
        assert_eq!(gateway.origin.last().body, long);
    }
    // Two mirrors were drawn for each of the two.
    gateway.metric_becomes("diolkos_table_evictions_total{table=\"mirrors\"}", 4.0);
    gateway.metric_becomes("diolkos_table_entries{table=\"mirrors\"}", 0.0);
    assert_eq!((shadow.count(), never.count()), (3, 0));
}

#[test]
fn copies_for_the_dead_and_the_silent_hold_nobody_up() {
    // The kernel takes connections to it, and nobody answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = |listener: &std::net::TcpListener| upstream(&[listener.local_addr().unwrap()]);
    let (to_silent, to_dead) = (at(&silent), at(&dead));
    drop(dead);
    let gateway = Gateway::start(move |model, _| {
        let mirror = |key: &str| Mirror {
            target: Target::Upstream(key.into()),
            millionths: 1_000_000,
        };
        let copied = Rule {
            mirrors: vec![mirror("dead"), mirror("silent")],
            ..forward()
        };
        model.upstreams.insert("dead".into(), to_dead);
        model.upstreams.insert("silent".into(), to_silent);
        routes(model, vec![copied]);
    });
    // More than the copies that there may be.
    let (mut client, begun) = (gateway.client(), std::time::Instant::now());
    for _ in 0..140 {
        assert_eq!(client.get("/").status, 200);
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "none waited");
    assert_eq!(gateway.origin.count(), 140);
    let dropped = r#"diolkos_table_evictions_total{table="mirrors"}"#;
    assert!(gateway.metric(dropped) >= 1.0);
    assert!(gateway.metric(r#"diolkos_table_entries{table="mirrors"}"#) >= 1.0);
}

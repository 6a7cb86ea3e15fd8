//! Several attempts at one request, and which endpoint each goes to: retries, ejection, permits, affinity, hashing,
//! tiers. A whole data plane before origins that answer by a script.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use model::*;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::config::{forward, inline, routes, rule, to, upstream, with};
use support::gateway::{Gateway, error};
use support::pki::{Ca, Https, server};
use support::{Client, Origin, PATIENCE, becomes, chunked, logs, noise};
use tokio::io::{AsyncRead, AsyncWrite};

/// With these upstreams, and one Route of these rules.
fn start(upstreams: &[(&str, Upstream)], rules: &[Rule]) -> Gateway {
    Gateway::start(|model, _| fill(model, upstreams, rules))
}

fn put(gateway: &mut Gateway, upstreams: &[(&str, Upstream)], rules: &[Rule]) {
    gateway.put(|model, _| fill(model, upstreams, rules));
}

fn fill(model: &mut Model, upstreams: &[(&str, Upstream)], rules: &[Rule]) {
    model.upstreams.clear();
    for (key, upstream) in upstreams {
        model.upstreams.insert((*key).into(), upstream.clone());
    }
    routes(model, rules.to_vec());
}

/// At once, so that no test waits.
fn retry(attempts: u32, on: RetryOn) -> Retry {
    Retry {
        attempts,
        on,
        initial_ms: 0,
        max_ms: 0,
        multiplier_percent: 200,
        jitter: true,
        per_try_ms: 0,
        budget_percent: 100,
    }
}

fn on_status(from: u16, to: u16) -> RetryOn {
    RetryOn {
        statuses: vec![(from, to)],
        ..RetryOn::default()
    }
}

fn repeating(retry: Retry) -> Rule {
    Rule {
        retry: Some(retry),
        ..forward()
    }
}

fn dead() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

// ------------------------------------------------------------------------------------------------ origin

/// What a scripted origin does with each request.
#[derive(Clone, Copy)]
enum Does {
    /// This status; the body is the origin's name.
    Status(u16),
    /// 503 so many times in a row, then 200 once, again and again.
    Fails(usize),
    /// Closes the connection when the request is there.
    Die,
    /// Never answers.
    Hold,
    /// A head at once, the body after this time.
    Late(&'static str, Duration),
}

/// A request as an origin read it.
#[derive(Clone, Debug, Default)]
struct Seen {
    line: String,
    host: String,
    body: Vec<u8>,
}

struct Scripted {
    address: SocketAddr,
    does: Arc<Mutex<Does>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Scripted {
    fn start(name: &'static str, does: Does) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let this = Self {
            address: listener.local_addr().unwrap(),
            does: Arc::new(Mutex::new(does)),
            seen: Arc::default(),
        };
        let (does, seen) = (Arc::clone(&this.does), Arc::clone(&this.seen));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (does, seen) = (Arc::clone(&does), Arc::clone(&seen));
                std::thread::spawn(move || serve(stream.unwrap(), name, &does, &seen));
            }
        });
        this
    }

    fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    fn last(&self) -> Seen {
        self.seen.lock().unwrap().last().cloned().unwrap()
    }

    fn does(&self, what: Does) {
        *self.does.lock().unwrap() = what;
    }
}

fn serve(
    mut out: TcpStream,
    name: &str,
    does: &Mutex<Does>,
    log: &Mutex<Vec<Seen>>,
) -> std::io::Result<()> {
    let mut input = BufReader::new(out.try_clone()?);
    loop {
        let mut seen = Seen::default();
        if input.read_line(&mut seen.line)? == 0 {
            return Ok(());
        }
        let (mut length, mut is_chunked) = (0, false);
        loop {
            let mut line = String::new();
            input.read_line(&mut line)?;
            let Some((field, value)) = line.trim().split_once(": ") else {
                break;
            };
            match field.to_ascii_lowercase().as_str() {
                "host" => seen.host = value.to_owned(),
                "content-length" => length = value.parse().unwrap(),
                "transfer-encoding" => is_chunked = true,
                _ => {}
            }
        }
        seen.body = vec![0; length];
        input.read_exact(&mut seen.body)?;
        while is_chunked {
            let mut line = String::new();
            input.read_line(&mut line)?;
            let n = usize::from_str_radix(line.trim(), 16).unwrap();
            let mut piece = vec![0; n + 2];
            input.read_exact(&mut piece)?;
            seen.body.extend_from_slice(&piece[..n]);
            is_chunked = n > 0;
        }
        let before = {
            let mut log = log.lock().unwrap();
            log.push(seen);
            log.len() - 1
        };
        let now = match *does.lock().unwrap() {
            Does::Fails(times) if before % (times + 1) < times => Does::Status(503),
            Does::Fails(_) => Does::Status(200),
            other => other,
        };
        match now {
            Does::Status(status) => {
                let length = name.len();
                let answer =
                    format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n{name}");
                out.write_all(answer.as_bytes())?;
            }
            Does::Die | Does::Fails(_) => return Ok(()),
            Does::Hold => {
                let _ = input.read(&mut [0])?;
                return Ok(());
            }
            Does::Late(kind, after) => {
                let head =
                    format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nConnection: close\r\n\r\n");
                out.write_all(head.as_bytes())?;
                std::thread::sleep(after);
                out.write_all(b"data: 1\n\n")?;
                return Ok(());
            }
        }
    }
}

/// Two origins, one of which does this; the other answers 200.
fn pair(one: Does) -> (Scripted, Scripted, Upstream) {
    let one = Scripted::start("one", one);
    let two = Scripted::start("two", Does::Status(200));
    let upstream = upstream(&[one.address, two.address]);
    (one, two, upstream)
}

// ----------------------------------------------------------------------------------------------- retries

#[test]
fn a_status_that_is_to_be_repeated_is_repeated_elsewhere() {
    let (one, _two, up) = pair(Does::Status(503));
    let gateway = start(&[("up", up)], &[repeating(retry(1, on_status(502, 504)))]);
    for _ in 0..8 {
        assert_eq!(error(&gateway.get("/")), (200, "two"));
    }
    assert!(one.count() >= 2);
    let line = r#"diolkos_upstream_retries_total{reason="status"}"#;
    gateway.metric_becomes(line, one.count() as f64);
    one.does(Does::Status(500));
    let others = (0..4).filter(|_| gateway.get("/").status == 500).count();
    assert!(others > 0, "500 is not among them");
}

#[test]
fn so_many_attempts_and_the_last_answer_is_the_clients() {
    let one = Scripted::start("one", Does::Status(503));
    let gateway = start(
        &[("up", upstream(&[one.address]))],
        &[repeating(retry(2, on_status(503, 503)))],
    );
    assert_eq!(error(&gateway.get("/")), (503, "one"));
    assert_eq!(one.count(), 3);
}

#[test]
fn a_body_is_sent_again_whole_for_methods_that_may() {
    let (one, two, up) = pair(Does::Status(503));
    let on = RetryOn {
        non_idempotent: true,
        ..on_status(503, 503)
    };
    let mut again = repeating(retry(1, on));
    again.matches[0].path = PathMatch::prefix("/again");
    let gateway = start(
        &[("up", up)],
        &[again, repeating(retry(1, on_status(503, 503)))],
    );
    let body = noise(20_000);
    let plain = format!("Content-Length: {}\r\n", body.len());
    let pieces = chunked(&body, 700);
    for _ in 0..2 {
        let mut client = gateway.client();
        let answer = client.request("POST", "/again", &plain, &body);
        assert_eq!(error(&answer), (200, "two"));
        assert_eq!(two.last().body, body);
        let answer = client.request("POST", "/again", "Transfer-Encoding: chunked\r\n", &pieces);
        assert_eq!(error(&answer), (200, "two"));
        assert_eq!(two.last().body, body);
    }
    assert!(one.count() >= 2);
    let post = || gateway.client().request("POST", "/", &plain, &body).status;
    let seen: Vec<u16> = (0..4).map(|_| post()).collect();
    assert!(
        seen.contains(&503),
        "POST is repeated only where that is said: {seen:?}"
    );
    let put = || gateway.client().request("PUT", "/", &plain, &body).status;
    assert!((0..4).all(|_| put() == 200), "PUT is idempotent");
}

#[test]
fn a_body_that_is_longer_than_what_is_kept_is_not_sent_again() {
    let (one, _two, up) = pair(Does::Status(503));
    let gateway = start(&[("up", up)], &[repeating(retry(1, on_status(503, 503)))]);
    let body = noise(70_000);
    let length = format!("Content-Length: {}\r\n", body.len());
    let put = || gateway.client().request("PUT", "/", &length, &body).status;
    let seen: Vec<u16> = (0..4).map(|_| put()).collect();
    assert!(seen.contains(&503) && seen.contains(&200), "{seen:?}");
    assert!(one.seen.lock().unwrap().iter().all(|s| s.body == body));
}

#[test]
fn a_lost_connection_and_a_refused_one() {
    let (one, _two, up) = pair(Does::Die);
    let on = RetryOn {
        reset: true,
        ..RetryOn::default()
    };
    let gateway = start(&[("up", up)], &[repeating(retry(1, on.clone()))]);
    for _ in 0..6 {
        assert_eq!(gateway.get("/").status, 200);
    }
    assert!(one.count() >= 2);
    assert!(gateway.metric(r#"diolkos_upstream_retries_total{reason="reset"}"#) >= 2.0);

    let two = Scripted::start("two", Does::Status(200));
    let half = upstream(&[dead(), two.address]);
    let gateway = start(&[("up", half)], &[repeating(retry(1, on))]);
    let seen: Vec<u16> = (0..6).map(|_| gateway.get("/").status).collect();
    assert!(
        seen.contains(&502),
        "connect failures are not in this list: {seen:?}"
    );
}

#[test]
fn no_attempts_means_none_even_after_a_connect_failure() {
    let two = Scripted::start("two", Does::Status(200));
    let up = upstream(&[dead(), two.address]);
    let on = RetryOn {
        connect_failure: true,
        ..RetryOn::default()
    };
    let gateway = start(&[("up", up)], &[repeating(retry(0, on))]);
    let seen: Vec<u16> = (0..6).map(|_| gateway.get("/").status).collect();
    assert!(seen.contains(&502) && seen.contains(&200), "{seen:?}");
}

#[test]
fn an_attempt_that_takes_too_long_gives_way_to_another() {
    let (one, _two, up) = pair(Does::Hold);
    let on = RetryOn {
        timeout: true,
        ..RetryOn::default()
    };
    let mut patient = retry(1, on);
    patient.per_try_ms = 100;
    let gateway = start(&[("up", up)], &[repeating(patient)]);
    for _ in 0..4 {
        assert_eq!(error(&gateway.get("/")), (200, "two"));
    }
    assert!(one.count() >= 1);
    assert!(gateway.metric(r#"diolkos_upstream_retries_total{reason="timeout"}"#) >= 1.0);
    assert!(gateway.metric(r#"diolkos_upstream_attempts_total{outcome="timeout"}"#) >= 1.0);
}

#[test]
fn the_whole_request_has_a_time_limit_that_waits_count_in() {
    let one = Scripted::start("one", Does::Status(503));
    let mut slow = retry(9, on_status(503, 503));
    (slow.initial_ms, slow.max_ms) = (1, 60_000);
    (slow.multiplier_percent, slow.jitter) = (6_000_000, false);
    let mut rule = repeating(slow);
    rule.timeouts.request_ms = 30_000;
    let gateway = start(&[("up", upstream(&[one.address]))], &[rule]);
    // The second wait would be a minute, which there is not.
    assert_eq!(error(&gateway.get("/")), (503, "one"));
    assert_eq!(one.count(), 2);
}

/// Also where a plugin reads it before it goes anywhere.
#[test]
fn the_time_limit_of_a_request_counts_its_body_in() {
    let origin = Origin::start();
    let settings = r#"{"on":"Request","deny":[{"pattern":"secret"}]}"#;
    let mut judged = with(forward(), &[inline("ContentValidation", settings)]);
    judged.timeouts.request_ms = 100;
    let gateway = start(&[("up", upstream(&[origin.address]))], &[judged]);
    let mut client = gateway.client();
    let begun = Instant::now();
    client.send("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nab");
    let answer = client.answer("POST").unwrap();
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(5), "without it, ten: {took:?}");
    let timeout = (504, r#"{"error":"upstream_timeout"}"#);
    assert_eq!(error(&answer), timeout);
    assert_eq!(origin.count(), 0);
}

#[test]
fn retries_have_a_budget_for_each_upstream() {
    let one = Scripted::start("one", Does::Status(503));
    let two = Scripted::start("two", Does::Status(200));
    let mut eager = retry(10, on_status(503, 503));
    eager.budget_percent = 0;
    let neighbour = rule(
        PathMatch::prefix("/neighbour"),
        to(Target::Upstream("neighbour".into())),
    );
    let upstreams = [
        ("up", upstream(&[one.address])),
        ("neighbour", upstream(&[dead(), two.address])),
    ];
    let gateway = start(&upstreams, &[repeating(eager), neighbour]);
    let mut client = gateway.client();
    // Ten a second are always allowed, so two requests within one second cannot have ten each.
    let line = r#"diolkos_upstream_retries_total{reason="budget"}"#;
    let begun = Instant::now();
    while gateway.metric(line) == 0.0 {
        assert!(begun.elapsed() < PATIENCE);
        assert_eq!(client.get("/").status, 503);
    }
    // Half of these need a second attempt.
    for _ in 0..10 {
        assert_eq!(client.get("/neighbour").status, 200);
        assert_eq!(client.get("/").status, 503);
    }
}

#[test]
fn an_event_stream_is_limited_only_up_to_its_head() {
    let late = |kind| Scripted::start("late", Does::Late(kind, Duration::from_millis(400)));
    let (events, page) = (late("text/event-stream; charset=utf-8"), late("text/html"));
    let mut limited = forward();
    limited.timeouts.request_ms = 200;
    let before = |origin: &Scripted, rule| start(&[("up", upstream(&[origin.address]))], &[rule]);
    let gateway = before(&page, limited.clone());
    let mut cut = gateway.client();
    cut.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n");
    assert!(!String::from_utf8_lossy(&cut.rest()).contains("data: 1"));
    gateway.metric_becomes(r#"diolkos_streams_cut_total{reason="deadline"}"#, 1.0);
    gateway.metric_becomes(r#"diolkos_errors_total{code="upstream_timeout"}"#, 1.0);
    limited.timeouts.stream_idle_ms = 100;
    let answer = before(&events, limited).get("/");
    assert_eq!(error(&answer), (200, "data: 1\n\n"));
}

#[test]
fn an_event_stream_without_a_first_event_is_cut() {
    let kind = "text/event-stream";
    let late = Scripted::start("late", Does::Late(kind, Duration::from_millis(1500)));
    let mut limited = forward();
    limited.timeouts.first_event_ms = 200;
    let gateway = start(&[("up", upstream(&[late.address]))], &[limited]);
    let mut cut = gateway.client();
    cut.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n");
    let rest = cut.rest();
    let rest = String::from_utf8_lossy(&rest);
    assert!(rest.starts_with("HTTP/1.1 200 "), "{rest}");
    assert!(!rest.contains("data: 1"), "{rest}");
    let line = r#"diolkos_streams_cut_total{reason="idle"}"#;
    gateway.metric_becomes(line, 1.0);
    // The limit is one of events: another body has the gap between its bytes.
    let page = Scripted::start("late", Does::Late("text/html", Duration::from_millis(500)));
    let mut limited = forward();
    limited.timeouts.first_event_ms = 200;
    let gateway = start(&[("up", upstream(&[page.address]))], &[limited]);
    assert_eq!(gateway.get("/").status, 200);
}

/// Neither side owes the other anything: nobody was slow.
#[test]
fn two_that_talk_and_fall_silent_are_idle() {
    let origin = Origin::start();
    let mut limited = forward();
    limited.timeouts.stream_idle_ms = 200;
    let gateway = start(&[("up", upstream(&[origin.address]))], &[limited]);
    let mut client = gateway.client();
    client.send("POST /duplex HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nab");
    let rest = client.rest();
    let rest = String::from_utf8_lossy(&rest);
    assert!(
        rest.starts_with("HTTP/1.1 200 ") && rest.ends_with("2\r\nab\r\n"),
        "{rest}"
    );
    gateway.metric_becomes(r#"diolkos_streams_cut_total{reason="idle"}"#, 1.0);
    assert_eq!(
        gateway.metric(r#"diolkos_streams_cut_total{reason="slow_reader"}"#),
        0.0
    );
}

// ---------------------------------------------------------------------------------------------- endpoints

#[test]
fn an_endpoint_that_fails_in_a_row_is_set_aside() {
    let (one, _two, mut up) = pair(Does::Status(500));
    up.health.passive = Some(PassiveHealth {
        consecutive_errors: 3,
        error_rate_percent: 0,
        min_requests: 20,
        window_ms: 10_000,
        ejection_ms: 600_000,
        max_eject_percent: 50,
    });
    let mut gateway = start(&[("up", up.clone())], &[forward()]);
    let bad = (0..20).filter(|_| gateway.get("/").status == 500).count();
    assert_eq!((bad, one.count()), (3, 3));
    assert_eq!(
        gateway.metric(r#"diolkos_ejections_total{reason="consecutive"}"#),
        1.0
    );
    assert_eq!(gateway.metric(r#"diolkos_endpoints{state="ejected"}"#), 1.0);
    assert_eq!(gateway.metric(r#"diolkos_endpoints{state="healthy"}"#), 1.0);
    // Another snapshot is no amnesty.
    up.connect_ms = 900;
    put(&mut gateway, &[("up", up)], &[forward()]);
    assert!((0..6).all(|_| gateway.get("/").status == 200));
    assert_eq!(one.count(), 3);
}

fn at_the_first_error() -> Option<PassiveHealth> {
    Some(PassiveHealth {
        consecutive_errors: 1,
        error_rate_percent: 0,
        min_requests: 20,
        window_ms: 10_000,
        ejection_ms: 600_000,
        max_eject_percent: 100,
    })
}

/// However little time a client of gRPC gives them: it must not be able to take them from others.
#[test]
fn a_client_in_a_hurry_sets_no_endpoint_aside() {
    let ejections = r#"diolkos_ejections_total{reason="consecutive"}"#;
    let silent = Scripted::start("silent", Does::Hold);
    // The kernel takes its connections, but nobody begins with TLS.
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut secure = upstream(&[deaf.local_addr().unwrap()]);
    secure.tls = Some(UpstreamTls {
        sni: Some("a.example".into()),
        authorities: Some(Ca::new("one").pem()),
        ..UpstreamTls::default()
    });
    for mut up in [upstream(&[silent.address]), secure] {
        up.health.passive = at_the_first_error();
        up.connect_ms = 60_000;
        let mut gateway = start(&[("up", up.clone())], &[forward()]);
        let hurried = |gateway: &Gateway, timeout: &str| {
            let headers = format!("Content-Type: application/grpc\r\nGrpc-Timeout: {timeout}\r\n");
            let answer = gateway.client().request("GET", "/", &headers, "");
            assert_eq!(answer.header("grpc-status"), Some("4"), "{answer:?}");
        };
        for _ in 0..3 {
            hurried(&gateway, "30m");
        }
        // The rule would wait a little longer.
        let mut limited = forward();
        limited.timeouts.request_ms = 1_000;
        put(
            &mut gateway,
            &[("up", up.clone())],
            std::slice::from_ref(&limited),
        );
        hurried(&gateway, "30m");
        assert_eq!(gateway.metric(ejections), 0.0);
        // Nor would the rule.
        limited.timeouts.request_ms = 30;
        put(&mut gateway, &[("up", up)], &[limited]);
        hurried(&gateway, "1S");
        gateway.metric_becomes(ejections, 1.0);
    }
}

/// Nor by silence: a call may send as slowly as it likes, and its endpoint need not answer before it has all of it.
#[test]
fn a_call_that_falls_silent_sets_no_endpoint_aside() {
    let origin = Scripted::start("waits", Does::Hold);
    let mut up = upstream(&[origin.address]);
    up.health.passive = at_the_first_error();
    let mut limited = forward();
    limited.timeouts.stream_idle_ms = 100;
    let gateway = start(&[("up", up)], &[limited]);
    let mut client = gateway.client();
    client.send(
        "POST / HTTP/1.1\r\nHost: t\r\nContent-Type: application/grpc\r\nContent-Length: 9\r\n\r\nabc",
    );
    let answer = client.answer("POST").unwrap();
    assert_eq!(answer.header("grpc-status"), Some("4"), "{answer:?}");
    let ejections = r#"diolkos_ejections_total{reason="consecutive"}"#;
    assert_eq!(gateway.metric(ejections), 0.0);
}

#[test]
fn backends_of_a_later_tier_serve_when_those_before_cannot() {
    let spare = Scripted::start("spare", Does::Status(200));
    let mut first = upstream(&[dead()]);
    first.authority = Some("first.test".into());
    first.path_prefix = "/first".into();
    let mut second = upstream(&[spare.address]);
    second.authority = Some("second.test".into());
    second.path_prefix = "/second".into();
    let mut tiered = forward();
    let to = |key: &str, priority| Backend {
        priority,
        ..Backend::new(Target::Upstream(key.into()))
    };
    tiered.action = Action::Forward(vec![to("first", 0), to("second", 1)]);
    tiered.rewrite.path = Some(PathRewrite::ReplacePrefix("/v1".into()));
    let gateway = start(&[("first", first), ("second", second)], &[tiered]);
    assert_eq!(error(&gateway.get("/x?q=1")), (200, "spare"));
    let seen = spare.last();
    assert_eq!(seen.host, "second.test");
    assert_eq!(seen.line.split(' ').nth(1), Some("/second/v1/x?q=1"));
}

#[test]
fn equal_values_go_to_the_same_endpoint() {
    for source in [
        HashSource::Header("x-user".into()),
        HashSource::Cookie("user".into()),
        HashSource::Query("user".into()),
        HashSource::Path,
    ] {
        let (one, two, mut up) = pair(Does::Status(200));
        up.balance = Balance {
            policy: BalancePolicy::ConsistentHash,
            hash: Some(ConsistentHash {
                source: source.clone(),
                table: HashTable::Ring,
                bounded_load_percent: 0,
            }),
            ..Balance::default()
        };
        let gateway = start(&[("up", up)], &[forward()]);
        let mut client = gateway.client();
        for user in 0..20 {
            let (path, headers) = match &source {
                HashSource::Header(_) => ("/".to_owned(), format!("X-User: {user}\r\n")),
                HashSource::Cookie(_) => ("/".to_owned(), format!("Cookie: a=b; user={user}\r\n")),
                HashSource::Query(_) => (format!("/?user={user}"), String::new()),
                _ => (format!("/{user}"), String::new()),
            };
            let first = client.request("GET", &path, &headers, "").body;
            for _ in 0..3 {
                assert_eq!(client.request("GET", &path, &headers, "").body, first);
            }
        }
        assert!(one.count() >= 4 && two.count() >= 4, "{source:?}");
    }
}

fn by_cookie() -> Option<Affinity> {
    Some(Affinity::Cookie(AffinityCookie {
        name: "route".into(),
        ttl_seconds: 60,
        path: "/".into(),
        secure: None,
        same_site: Some(SameSite::Lax),
    }))
}

#[test]
fn a_cookie_keeps_a_client_where_it_was_served_first() {
    let (one, two, up) = pair(Does::Status(200));
    let sticky = Rule {
        affinity: by_cookie(),
        ..forward()
    };
    let mut gateway = start(&[("up", up)], std::slice::from_ref(&sticky));
    let answer = gateway.get("/");
    let cookie = answer.header("set-cookie").unwrap().to_owned();
    assert!(cookie.starts_with("route="), "{cookie}");
    assert!(
        cookie.ends_with("; Path=/; HttpOnly; Max-Age=60; SameSite=Lax"),
        "{cookie}"
    );
    let mine = answer.body;
    let cookie = format!("Cookie: x=1; {}\r\n", cookie.split(';').next().unwrap());
    let mut client = gateway.client();
    for _ in 0..10 {
        let answer = client.request("GET", "/", &cookie, "");
        assert_eq!(
            (answer.body, answer.headers.get("set-cookie")),
            (mine.clone(), None)
        );
    }
    // Without one, and with one that means nothing, requests go anywhere, with a new cookie.
    for headers in [
        "",
        "Cookie: route=zzz\r\n",
        "Cookie: route=0123456789abcdef\r\n",
    ] {
        let answers = [(); 4].map(|()| client.request("GET", "/", headers, ""));
        assert!(answers.iter().all(|a| a.header("set-cookie").is_some()));
        assert!(answers.iter().any(|a| a.body != mine));
    }
    // Its endpoint goes: the client moves, and is told.
    let rest = if mine == b"one" {
        two.address
    } else {
        one.address
    };
    put(&mut gateway, &[("up", upstream(&[rest]))], &[sticky]);
    let answer = client.request("GET", "/", &cookie, "");
    assert!(answer.body != mine && answer.header("set-cookie").is_some());
}

#[test]
fn a_cookie_keeps_no_client_on_a_later_tier() {
    let first = Scripted::start("first", Does::Status(200));
    let spare = Scripted::start("spare", Does::Status(200));
    let to = |key: &str, priority| Backend {
        priority,
        ..Backend::new(Target::Upstream(key.into()))
    };
    let sticky = Rule {
        affinity: by_cookie(),
        action: Action::Forward(vec![to("spare", 1), to("first", 0)]),
        ..forward()
    };
    let of = |first: &[SocketAddr]| {
        let spare = upstream(&[spare.address]);
        [("first", upstream(first)), ("spare", spare)]
    };
    let mut gateway = start(&of(&[]), std::slice::from_ref(&sticky));
    let mut client = gateway.client();
    let mut cookie = String::new();
    // It goes where requests without a cookie go, and stays there as long as they do.
    let mut served = |cookie: &mut String| {
        let answer = client.request("GET", "/", &*cookie, "");
        let set = answer.header("set-cookie");
        if let Some(set) = set {
            *cookie = format!("Cookie: {}\r\n", set.split(';').next().unwrap());
        }
        (
            String::from_utf8(answer.body.clone()).unwrap(),
            set.is_some(),
        )
    };
    assert_eq!(served(&mut cookie), ("spare".into(), true));
    assert_eq!(served(&mut cookie), ("spare".into(), false));
    put(&mut gateway, &of(&[first.address]), &[sticky]);
    assert_eq!(served(&mut cookie), ("first".into(), true));
    assert_eq!(served(&mut cookie), ("first".into(), false));
}

#[test]
fn a_header_keeps_a_client_too() {
    let (one, two, up) = pair(Does::Status(200));
    let sticky = Rule {
        affinity: Some(Affinity::Header("x-session".into())),
        ..forward()
    };
    let gateway = start(&[("up", up)], &[sticky]);
    let mut client = gateway.client();
    for session in 0..20 {
        let headers = format!("X-Session: {session}\r\n");
        let first = client.request("GET", "/", &headers, "").body;
        assert!((0..3).all(|_| client.request("GET", "/", &headers, "").body == first));
    }
    assert!(one.count() >= 4 && two.count() >= 4);
}

#[test]
fn a_header_keeps_a_client_on_its_backend() {
    let (one, two, _) = pair(Does::Status(200));
    let of = |origin: &Scripted| upstream(&[origin.address]);
    let mut sticky = Rule {
        affinity: Some(Affinity::Header("x-session".into())),
        ..forward()
    };
    let to = |key: &str| Backend::new(Target::Upstream(key.into()));
    sticky.action = Action::Forward(vec![to("one"), to("two")]);
    let ups = [("one", of(&one)), ("two", of(&two))];
    let gateway = start(&ups, &[sticky]);
    let mut client = gateway.client();
    for session in 0..20 {
        let headers = format!("X-Session: {session}\r\n");
        let first = client.request("GET", "/", &headers, "").body;
        assert!((0..3).all(|_| client.request("GET", "/", &headers, "").body == first));
    }
    assert!(one.count() >= 4 && two.count() >= 4);
}

// ------------------------------------------------------------------------------------------------ permits

fn bounds(queue_depth: u32, queue_timeout_ms: u32) -> Concurrency {
    Concurrency {
        max: 1,
        queue_depth,
        queue_timeout_ms,
    }
}

/// A gateway before an origin that has one request under way, which waits for the gate.
fn busy(edit: impl FnOnce(&mut Upstream, &mut Rule)) -> (Gateway, Origin, Client) {
    let origin = Origin::start();
    let (mut up, mut rule) = (upstream(&[origin.address]), forward());
    edit(&mut up, &mut rule);
    let gateway = start(&[("up", up)], &[rule]);
    let mut first = gateway.client();
    first.send("GET /gated HTTP/1.1\r\nHost: t\r\n\r\n");
    origin.arrived.recv_timeout(PATIENCE).unwrap();
    (gateway, origin, first)
}

#[test]
fn more_than_may_be_under_way_is_refused() {
    let breaker = CircuitBreaker {
        max_connections: 1,
        max_requests: 10,
        max_pending: 0,
    };
    let refused = (503, r#"{"error":"upstream_concurrency_exceeded"}"#);
    let cases: [fn(&mut Upstream, &mut Rule, CircuitBreaker); 4] = [
        |up, _, _| up.concurrency = Some(bounds(0, 0)),
        |_, rule, _| rule.concurrency = Some(bounds(0, 0)),
        |up, _, breaker| up.circuit_breaker = Some(breaker),
        |up, _, breaker| {
            up.circuit_breaker = Some(CircuitBreaker {
                max_connections: 10,
                max_requests: 1,
                ..breaker
            });
        },
    ];
    for case in cases {
        let (gateway, origin, mut first) = busy(|up, rule| case(up, rule, breaker));
        let answer = gateway.get("/");
        assert_eq!(error(&answer), refused);
        assert_eq!(answer.header("retry-after"), Some("1"));
        origin.gate.send(()).unwrap();
        assert_eq!(first.answer("GET").unwrap().body, b"ok");
        // The permit comes back a moment after the last byte has left.
        gateway.metric_becomes(r#"diolkos_requests_in_flight{kind="plain"}"#, 0.0);
        assert_eq!(gateway.get("/").status, 200);
    }
}

#[test]
fn a_request_waits_for_its_turn() {
    let (gateway, origin, mut first) = busy(|up, _| up.concurrency = Some(bounds(1, 60_000)));
    let mut second = gateway.client();
    second.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n");
    let waiting = r#"diolkos_queue_depth{band="standard"}"#;
    gateway.metric_becomes(waiting, 1.0);
    let permits = r#"diolkos_concurrency_permits{scope="upstream",state="used"}"#;
    assert_eq!(gateway.metric(permits), 1.0);
    assert_eq!(error(&gateway.get("/")), (429, r#"{"error":"queue_full"}"#));
    // Who leaves makes room.
    drop(second);
    gateway.metric_becomes(waiting, 0.0);
    let mut third = gateway.client();
    third.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n");
    gateway.metric_becomes(waiting, 1.0);
    origin.gate.send(()).unwrap();
    assert_eq!(first.answer("GET").unwrap().status, 200);
    assert_eq!(third.answer("GET").unwrap().body, b"hello");
    gateway.metric_becomes(permits, 0.0);
    gateway.metric_becomes(r#"diolkos_queue_wait_seconds_count{band="standard"}"#, 2.0);
}

#[test]
fn a_turn_that_does_not_come_in_time() {
    let (gateway, origin, mut first) = busy(|_, rule| rule.concurrency = Some(bounds(1, 20)));
    assert_eq!(
        error(&gateway.get("/")),
        (503, r#"{"error":"queue_timeout"}"#)
    );
    origin.gate.send(()).unwrap();
    assert_eq!(first.answer("GET").unwrap().status, 200);
}

#[test]
fn a_turn_is_not_waited_for_longer_than_the_request_has_time() {
    let origin = Origin::start();
    let gates: [fn(&mut Upstream, &mut Rule); 2] = [
        |up, _| up.concurrency = Some(bounds(1, 60_000)),
        |_, rule| rule.concurrency = Some(bounds(1, 60_000)),
    ];
    for gate in gates {
        let (mut up, mut rule) = (upstream(&[origin.address]), forward());
        gate(&mut up, &mut rule);
        rule.timeouts.request_ms = 1_000;
        let gateway = start(&[("up", up)], &[rule]);
        let mut first = gateway.client();
        first.send("GET /gated HTTP/1.1\r\nHost: t\r\n\r\n");
        origin.arrived.recv_timeout(PATIENCE).unwrap();
        let timeout = (504, r#"{"error":"upstream_timeout"}"#);
        // It came later, and would have its turn when the other one's time is over, with a little left.
        let mut second = gateway.client();
        second.send("GET / HTTP/1.1\r\nHost: t\r\nContent-Type: application/grpc\r\nGrpc-Timeout: 50m\r\n\r\n");
        let answer = second.answer("GET").unwrap();
        assert_eq!(answer.header("grpc-status"), Some("4"), "{answer:?}");
        assert_eq!(error(&first.answer("GET").unwrap()), timeout);
        origin.gate.send(()).unwrap();
    }
}

// ------------------------------------------------------------------------------------------------- checks

fn checks(check: Check) -> Option<ActiveHealth> {
    Some(ActiveHealth {
        check,
        interval_ms: 20,
        timeout_ms: 5_000,
        unhealthy_threshold: 2,
        healthy_threshold: 2,
    })
}

#[test]
fn an_endpoint_that_fails_its_checks_gets_nothing_until_it_passes_them_again() {
    let (one, _two, mut up) = pair(Does::Status(200));
    up.health.active = checks(Check::Http {
        path: "/health?deep".into(),
        expect: vec![(200, 299)],
        host: Some("checked.test".into()),
    });
    let mut gateway = start(&[("up", up.clone())], &[forward()]);
    let (healthy, ejected) = (
        r#"diolkos_endpoints{state="healthy"}"#,
        r#"diolkos_endpoints{state="ejected"}"#,
    );
    let is_check = |s: &Seen| s.line == "GET /health?deep HTTP/1.1\r\n" && s.host == "checked.test";
    becomes("asked", true, || {
        one.seen.lock().unwrap().iter().any(is_check)
    });
    assert_eq!(gateway.metric(healthy), 2.0);
    one.does(Does::Status(503));
    gateway.metric_becomes(ejected, 1.0);
    let line = r#"diolkos_ejections_total{reason="active_check"}"#;
    assert_eq!(gateway.metric(line), 1.0);
    assert!((0..6).all(|_| gateway.get("/").body == b"two"));
    one.does(Does::Status(204));
    gateway.metric_becomes(healthy, 2.0);
    assert!((0..6).any(|_| gateway.get("/").status == 204));
    // Without checks nothing is known against it.
    one.does(Does::Die);
    gateway.metric_becomes(ejected, 1.0);
    up.health.active = None;
    put(&mut gateway, &[("up", up)], &[forward()]);
    gateway.metric_becomes(healthy, 2.0);
}

#[test]
fn one_bad_check_less_than_it_takes_costs_an_endpoint_nothing() {
    logs::listen();
    let (one, _two, mut up) = pair(Does::Fails(2));
    up.health.active = checks(Check::Http {
        path: "/".into(),
        expect: vec![(200, 299)],
        host: None,
    });
    up.health.active.as_mut().unwrap().unhealthy_threshold = 3;
    let gateway = start(&[("up", up)], &[forward()]);
    let ejections = r#"diolkos_ejections_total{reason="active_check"}"#;
    let endpoint = one.address.to_string();
    becomes("asked", true, || one.count() >= 10);
    assert_eq!(gateway.metric(ejections), 0.0);
    assert_eq!(logs::count("backend_unhealthy", &[&endpoint]), 0);
    one.does(Does::Fails(3));
    gateway.metric_becomes(ejections, 1.0);
    logs::come("backend_unhealthy", &[&endpoint]);
    assert_eq!(logs::count("backend_healthy", &[&endpoint]), 0);
    one.does(Does::Status(200));
    logs::come("backend_healthy", &[&endpoint]);
    gateway.metric_becomes(r#"diolkos_endpoints{state="healthy"}"#, 2.0);
    assert_eq!(logs::count("backend_unhealthy", &[&endpoint]), 1);
}

#[test]
fn an_endpoint_that_takes_no_connections_fails_its_check() {
    let two = Scripted::start("two", Does::Status(200));
    let mut up = upstream(&[dead(), two.address]);
    up.health.active = checks(Check::Tcp);
    let gateway = start(&[("up", up)], &[forward()]);
    gateway.metric_becomes(r#"diolkos_endpoints{state="ejected"}"#, 1.0);
    assert!((0..6).all(|_| gateway.get("/").status == 200));
    assert_eq!(
        gateway.metric(r#"diolkos_upstream_retries_total{reason="connect"}"#),
        0.0
    );
}

#[test]
fn where_too_few_are_healthy_all_are_used() {
    let one = Scripted::start("one", Does::Status(503));
    let two = Scripted::start("two", Does::Status(503));
    let mut up = upstream(&[one.address, two.address]);
    up.health.active = checks(Check::Http {
        path: "/".into(),
        expect: vec![(200, 200)],
        host: None,
    });
    let gateway = start(&[("up", up.clone())], &[forward()]);
    gateway.metric_becomes("diolkos_panic_mode_upstreams", 1.0);
    gateway.metric_becomes(r#"diolkos_endpoints{state="ejected"}"#, 2.0);
    assert_eq!(gateway.get("/").status, 503);
    let seen = || one.count() + two.count();
    let before = seen();
    up.health.min_healthy_percent = 0;
    let gateway = start(&[("up", up)], &[forward()]);
    gateway.metric_becomes(r#"diolkos_endpoints{state="ejected"}"#, 2.0);
    let answer = gateway.get("/");
    assert_eq!(error(&answer), (503, r#"{"error":"no_healthy_upstream"}"#));
    assert!(seen() > before, "checks go on");
}

/// A server of HTTP/2 that answers health checks, of gRPC and others, by this number; in clear by prior knowledge. It
/// serves nothing but the scheme of its connections.
fn h2_server(status: Arc<Mutex<u8>>, tls: Option<Arc<rustls::ServerConfig>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let serve = async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let status = Arc::clone(&status);
            let tls = tls.clone().map(tokio_rustls::TlsAcceptor::from);
            tokio::spawn(async move {
                match tls {
                    None => answer_checks(socket, "http", &status).await,
                    Some(tls) => {
                        if let Ok(socket) = tls.accept(socket).await {
                            answer_checks(socket, "https", &status).await;
                        }
                    }
                }
            });
        }
    };
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread();
        { runtime }.enable_all().build().unwrap().block_on(serve);
    });
    address
}

async fn answer_checks(
    socket: impl AsyncRead + AsyncWrite + Unpin,
    scheme: &str,
    status: &Mutex<u8>,
) {
    let Ok(mut connection) = h2::server::handshake(socket).await else {
        return;
    };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let now = *status.lock().unwrap();
        let (head, body) = request.into_parts();
        let is_grpc = head.uri.path() == "/grpc.health.v1.Health/Check";
        let code = match (is_grpc, now) {
            _ if head.uri.scheme_str() != Some(scheme) => 400,
            (false, 2) => 503,
            _ => 200,
        };
        drop(body);
        let answer = http::Response::builder().status(code).body(()).unwrap();
        let mut stream = respond.send_response(answer, false).unwrap();
        let message = [0, 0, 0, 0, 2, 0x08, now];
        stream.send_data(message.to_vec().into(), false).unwrap();
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        stream.send_trailers(trailers).unwrap();
    }
}

#[test]
fn checks_over_http2() {
    let ca = Ca::new("one");
    let version = [&rustls::version::TLS13];
    let secure = server(&ca.issue(&["a.example"]), None, &version, &["h2"]);
    let deep = Check::Http {
        path: "/deep".into(),
        expect: vec![(200, 200)],
        host: None,
    };
    let service = |service: &str| Check::Grpc {
        service: service.into(),
    };
    for (check, tls) in [
        (deep.clone(), None),
        (service(""), None),
        (service("shop.Cart"), None),
        (deep, Some(&secure)),
        (service(""), Some(&secure)),
    ] {
        let status = Arc::new(Mutex::new(1));
        let mut up = upstream(&[h2_server(Arc::clone(&status), tls.cloned())]);
        up.protocol = UpstreamProtocol::H2C;
        if tls.is_some() {
            up.protocol = UpstreamProtocol::H2;
            up.tls = Some(UpstreamTls {
                sni: Some("a.example".into()),
                authorities: Some(ca.pem()),
                ..UpstreamTls::default()
            });
        }
        up.health.active = checks(check);
        let gateway = start(&[("up", up)], &[forward()]);
        let (healthy, ejected) = (
            r#"diolkos_endpoints{state="healthy"}"#,
            r#"diolkos_endpoints{state="ejected"}"#,
        );
        for (now, line) in [(2, ejected), (1, healthy), (2, ejected)] {
            *status.lock().unwrap() = now;
            gateway.metric_becomes(line, 1.0);
        }
    }
}

#[test]
fn checks_speak_tls_as_requests_do() {
    let (ca, other) = (Ca::new("one"), Ca::new("two"));
    let version = [&rustls::version::TLS13];
    let origin = Https::start(server(&ca.issue(&["a.example"]), None, &version, &[]));
    let trusting = |ca: &Ca| {
        let mut up = upstream(&[origin.address]);
        up.tls = Some(UpstreamTls {
            sni: Some("a.example".into()),
            authorities: Some(ca.pem()),
            ..UpstreamTls::default()
        });
        up.health.active = checks(Check::Http {
            path: "/".into(),
            expect: vec![(200, 200)],
            host: None,
        });
        up
    };
    let mut gateway = start(&[("up", trusting(&other))], &[forward()]);
    gateway.metric_becomes(r#"diolkos_endpoints{state="ejected"}"#, 1.0);
    put(&mut gateway, &[("up", trusting(&ca))], &[forward()]);
    gateway.metric_becomes(r#"diolkos_endpoints{state="healthy"}"#, 1.0);
    assert_eq!(gateway.get("/").status, 200);
}

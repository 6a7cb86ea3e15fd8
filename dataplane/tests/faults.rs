//! Faults under load: every request comes to an end that is documented, no neighbour is hurt, and nothing is left.
//!
//! In `make test` each is one round of a fixed amount; `make faults FAULT_SECONDS=300` repeats the rounds for so long.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

#[allow(unreachable_pub, reason = "seen by this program alone")]
#[path = "faults/mod.rs"]
mod faults;

use diolkos_dataplane::push::Reply;
use faults::backend::{Backend, Does, Speaks};
use faults::load::{Amount, Load};
use faults::process::Process;
use faults::rig::{
    Random, WORKERS, alone, impatient, memory, patient, rounds, runtime, settles, upstreams,
};
use faults::tally::{Came, Tally};
use model::{
    Concurrency, DnsSource, Endpoint, EndpointShard, EndpointSource, HostPattern, Listener,
    ObjectRef, PassiveHealth, Retry, RetryOn, Rule, Upstream, UpstreamProtocol, UpstreamTls,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::version::TLS13;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use support::config::{listener, routes};
use support::names::{self, BROKEN, GONE, NONE, REFUSED, Says, some};
use support::pki::{Ca, server};
use support::plane::Plane;
use support::{Client, PATIENCE, becomes, logs};
use tokio_util::sync::CancellationToken;

/// Of a backend, whatever it does, the rule with nothing but it may say this.
fn documented(does: Does, came: &Came) -> bool {
    let error = |status: u16, code: &str| *came == Came::Error(status, code.to_owned());
    match does {
        Does::Well | Does::Slow => *came == Came::Whole,
        // Those that are under way when it dies are reset.
        Does::Dead => {
            error(502, "upstream_connect_error")
                || error(502, "upstream_reset")
                || *came == Came::Cut
        }
        Does::Paused | Does::Silent => error(504, "upstream_timeout"),
        Does::ResetBefore | Does::ResetInHead => error(502, "upstream_reset"),
        Does::ResetInBody | Does::EndInBody => *came == Came::Cut,
        Does::Garbage => error(502, "upstream_protocol_error"),
    }
}

/// Elsewhere at once, as long as the budget lasts.
fn repeating(rule: Rule) -> Rule {
    let on = RetryOn {
        connect_failure: true,
        reset: true,
        timeout: true,
        reused_connection: true,
        non_idempotent: true,
        statuses: Vec::new(),
    };
    Rule {
        retry: Some(Retry {
            attempts: 2,
            on,
            initial_ms: 0,
            max_ms: 0,
            multiplier_percent: 100,
            jitter: false,
            per_try_ms: 1000,
            budget_percent: 100,
        }),
        ..rule
    }
}

#[test]
fn a_backend_that_fails_is_answered_for_and_hurts_nobody_else() {
    a_backend_fails(&Speaks::Http1, |_| {}, documented);
}

#[test]
fn the_same_holds_over_tls() {
    let ca = Ca::new("ca");
    let config = server(&ca.issue(&["backend.test"]), None, &[&TLS13], &[]);
    let trusts = |up: &mut Upstream| {
        up.tls = Some(UpstreamTls {
            sni: Some("backend.test".into()),
            authorities: Some(ca.pem()),
            ..UpstreamTls::default()
        });
    };
    let may = |does, came: &Came| {
        let shakes = Came::Error(502, "upstream_tls_error".into());
        // It dies while a handshake is under way.
        documented(does, came) || (does == Does::Dead && *came == shakes)
    };
    a_backend_fails(&Speaks::Http1OverTls(config.into()), trusts, may);
}

#[test]
fn the_same_holds_over_http_2() {
    let speaks = |up: &mut Upstream| up.protocol = UpstreamProtocol::H2C;
    let may = |does, came: &Came| {
        let reset = Came::Error(502, "upstream_reset".into());
        // The connection that is there ends, and the next one begins with what is no HTTP/2.
        documented(does, came) || (does == Does::Garbage && *came == reset)
    };
    a_backend_fails(&Speaks::Http2, speaks, may);
}

/// `reach`: how backends are spoken to. `may`: what the rule with nothing but one that fails may say.
fn a_backend_fails(
    speaks: &Speaks,
    reach: impl Fn(&mut Upstream),
    may: impl Fn(Does, &Came) -> bool,
) {
    let _alone = alone();
    let others = runtime();
    let port = ([127, 0, 0, 1], 0).into();
    let backend = |name| Backend::speaking(others.handle(), name, port, speaks.clone());
    let (good, bad, spare) = (backend("good"), backend("bad"), backend("spare"));
    let mut model = upstreams(&[
        ("good", &[&good]),
        ("bad", &[&bad]),
        ("mixed", &[&bad, &spare, &good]),
    ]);
    model.upstreams.values_mut().for_each(reach);
    let rules = vec![
        patient("/good", "good"),
        impatient("/bad", "bad"),
        repeating(impatient("/mixed", "mixed")),
    ];
    routes(&mut model, rules);
    let plane = Plane::with_workers(WORKERS, &model);
    let (of_good, of_bad, of_mixed) = (Tally::default(), Tally::default(), Tally::default());
    let stop = CancellationToken::new();
    let mut steady = Load::on(plane.address);
    steady.send("/good", &Amount::Until(stop.clone()), &of_good);
    let budget = || plane.metric(r#"diolkos_upstream_retries_total{reason="budget"}"#);
    let mut levels = Vec::new();
    for _ in rounds() {
        for does in [
            Does::Dead,
            Does::Paused,
            Does::Silent,
            Does::ResetBefore,
            Does::ResetInHead,
            Does::ResetInBody,
            Does::EndInBody,
            Does::Slow,
            Does::Garbage,
        ] {
            bad.does(does);
            let (bad_now, mixed_now) = (Tally::default(), Tally::default());
            let mut load = Load::on(plane.address);
            let refused = budget();
            load.send("/mixed", &Amount::Of(3), &mixed_now);
            load.finish();
            let refused = budget() - refused;
            load.send("/bad", &Amount::Of(3), &bad_now);
            load.finish();
            bad_now.is_only(&format!("{does:?} alone"), |came| may(does, came));
            // Only an answer that had begun cannot be had elsewhere, and what the retry budget has no room for.
            mixed_now.is_only(&format!("{does:?} among others"), |came| {
                *came == Came::Whole || may(does, came)
            });
            let failed = mixed_now.count(|came| matches!(came, Came::Error(..)));
            assert_eq!(failed as f64, refused, "{does:?} among others: {mixed_now}");
            of_bad.add(&bad_now);
            of_mixed.add(&mixed_now);
            // And it is back at once.
            bad.does(Does::Well);
            let well = Tally::default();
            let mut load = Load::on(plane.address);
            load.send("/bad", &Amount::Of(2), &well);
            load.finish();
            well.is_only(&format!("after {does:?}"), |came| *came == Came::Whole);
            of_bad.add(&well);
        }
        levels.push(memory());
    }
    stop.cancel();
    settles(&plane, steady, &[&of_good, &of_bad, &of_mixed]);
    of_good.is_only("the neighbour", |came| *came == Came::Whole);
    eprintln!("good {of_good}\nbad {of_bad}\nmixed {of_mixed}\nmemory {levels:?} KiB");
}

#[test]
fn a_backend_that_comes_and_goes_costs_what_was_under_way() {
    let _alone = alone();
    let others = runtime();
    let backend = |name| Backend::start(others.handle(), name);
    let (flapping, steady) = (backend("flapping"), backend("steady"));
    let mut model = upstreams(&[
        ("flapping", &[&flapping]),
        ("both", &[&flapping, &steady]),
        ("steady", &[&steady]),
    ]);
    model.upstreams.get_mut("both").unwrap().health.passive = Some(PassiveHealth {
        consecutive_errors: 2,
        error_rate_percent: 0,
        min_requests: 0,
        window_ms: 1000,
        ejection_ms: 50,
        max_eject_percent: 50,
    });
    let rules = vec![
        impatient("/flapping", "flapping"),
        impatient("/both", "both"),
        patient("/steady", "steady"),
    ];
    routes(&mut model, rules);
    let plane = Plane::with_workers(WORKERS, &model);
    let [of_flapping, of_both, of_steady] = [(); 3].map(|()| Tally::default());
    let stop = CancellationToken::new();
    let until = Amount::Until(stop.clone());
    let mut load = Load::on(plane.address);
    load.send("/flapping", &until, &of_flapping);
    load.send("/both", &until, &of_both);
    load.send("/steady", &until, &of_steady);
    for _ in rounds() {
        for _ in 0..20 {
            // In the midst of the load, each time.
            for does in [Does::Dead, Does::Well] {
                let seen = of_flapping.all();
                flapping.does(does);
                becomes("more requests", true, || of_flapping.all() >= seen + 20);
            }
        }
    }
    stop.cancel();
    settles(&plane, load, &[&of_flapping, &of_both, &of_steady]);
    eprintln!("flapping {of_flapping}\nboth {of_both}\nsteady {of_steady}");
    let documented = |came: &Came| *came == Came::Whole || documented(Does::Dead, came);
    of_flapping.is_only("flapping", documented);
    of_both.is_only("both", documented);
    of_steady.is_only("the neighbour", |came| *came == Came::Whole);
    assert!(of_flapping.whole() > 0 && of_flapping.whole() < of_flapping.sent());
    // Set aside, the one that flaps gets a few requests of each of its absences.
    assert!(of_both.whole() * 10 > of_both.sent() * 9, "{of_both}");
}

#[test]
fn endpoints_that_come_and_go_cost_no_request() {
    let _alone = alone();
    let others = runtime();
    let backends = ["a", "b", "c", "d", "e", "f"].map(|n| Backend::start(others.handle(), n));
    let mut model = upstreams(&[]);
    let service = "d/web:80".to_owned();
    let origin = ObjectRef::new("Service", "d", "web");
    let up = Upstream::new(origin, EndpointSource::Service(service.clone()));
    model.upstreams.insert("web".into(), up);
    routes(&mut model, vec![patient("/web", "web")]);
    // A bit for each backend: whether it is there, and whether it is on its way out if it is not.
    let shard = |there: usize, leaving: usize| {
        let mut endpoints = Vec::new();
        for (n, backend) in backends.iter().enumerate() {
            let (ready, terminating) = (there >> n & 1 == 1, leaving >> n & 1 == 1);
            if ready || terminating {
                endpoints.push(Endpoint {
                    address: backend.address.ip(),
                    port: backend.address.port(),
                    ready,
                    serving: true,
                    terminating: !ready,
                    zone: None,
                });
            }
        }
        let service = service.clone();
        EndpointShard { service, endpoints }
    };
    model.shards.insert("d/web:80/s".into(), shard(63, 0));
    let mut plane = Plane::with_workers(WORKERS, &model);
    let (tally, stop) = (Tally::default(), CancellationToken::new());
    let mut load = Load::on(plane.address);
    load.send("/web", &Amount::Until(stop.clone()), &tally);
    load.send("/web", &Amount::Until(stop.clone()), &tally);
    let (mut random, begun, mut changes) = (Random::new(7), Instant::now(), 0);
    for _ in rounds() {
        for _ in 0..300 {
            changes += 1;
            pace(begun, changes);
            let (there, leaving) = (random.below(63) + 1, random.below(64));
            model
                .shards
                .insert("d/web:80/s".into(), shard(there, leaving));
            plane.put(&model).unwrap();
        }
    }
    let took = begun.elapsed();
    // What has been acknowledged is in effect.
    let last = Tally::default();
    model.shards.insert("d/web:80/s".into(), shard(4, 59));
    plane.put(&model).unwrap();
    let mut after = Load::on(plane.address);
    after.send("/web", &Amount::Of(5), &last);
    after.finish();
    assert_eq!(last.backends().into_keys().collect::<Vec<_>>(), ["c"]);
    stop.cancel();
    settles(&plane, load, &[&tally, &last]);
    eprintln!(
        "{changes} changes in {took:.1?}: {tally} from {:?}",
        tally.backends()
    );
    tally.is_only("churn", |came| *came == Came::Whole);
    assert_eq!(tally.backends().len(), backends.len());
}

#[test]
fn names_that_flap_cost_no_request() {
    let _alone = alone();
    logs::listen();
    let others = runtime();
    let names = names::Server::start();
    let one = Backend::start(others.handle(), "one");
    let port = one.address.port();
    let _two = Backend::at(others.handle(), "two", ([127, 0, 0, 2], port).into());
    let source = DnsSource {
        hostname: "flaps.test".into(),
        port,
        refresh_ms: 1000,
        respect_ttl: true,
    };
    names.says(some(&["127.0.0.1"], 0), NONE);
    let mut model = upstreams(&[]);
    let origin = ObjectRef::new("Upstream", "d", "names");
    let up = Upstream::new(origin, EndpointSource::Dns(source));
    model.upstreams.insert("names".into(), up);
    routes(&mut model, vec![patient("/names", "names")]);
    let mut plane = Plane::with_names(WORKERS, &[names.address], &model);
    let probes = Tally::default();
    // The first answer has to come before anything can be served.
    becomes("served", 200, || {
        probes.sends();
        plane.get("/names/get").status
    });
    let (tally, stop) = (Tally::default(), CancellationToken::new());
    let mut load = Load::on(plane.address);
    load.send("/names", &Amount::Until(stop.clone()), &tally);
    load.send("/names", &Amount::Until(stop.clone()), &tally);
    for round in rounds() {
        // The name is asked for at once, however long there was no answer.
        model.upstreams.get_mut("names").unwrap().connect_ms = 1000 + round as u32;
        plane.put(&model).unwrap();
        for (list, expected) in [
            (&["127.0.0.1", "127.0.0.2"][..], &["one", "two"][..]),
            (&["127.0.0.1"], &["one"]),
            (&["127.0.0.2"], &["two"]),
        ] {
            names.says(some(list, 0), NONE);
            becomes("who serves", expected.to_vec(), || {
                served_by(&plane, &probes)
            });
        }
        // Whatever goes wrong, the last answer holds. Twice "gone" is not believed.
        let wrong = [GONE, REFUSED, GONE, BROKEN].map(|says| (says.clone(), says));
        names.says_in_turn(wrong);
        let begun = names.asked();
        becomes("more questions", true, || names.asked() >= begun + 6);
        assert_eq!(served_by(&plane, &probes), ["two"]);
        names.says(Says::Silence, Says::Silence);
        let begun = names.asked();
        becomes("a question", true, || names.asked() > begun);
        assert_eq!(served_by(&plane, &probes), ["two"]);
    }
    stop.cancel();
    settles(&plane, load, &[&tally, &probes]);
    let (from, asked) = (tally.backends(), names.asked());
    eprintln!("{tally} from {from:?}; {asked} questions");
    tally.is_only("names that flap", |came| *came == Came::Whole);
    assert_eq!(from.len(), 2);
    logs::come("dns_failed", &["flaps.test", r#""stale":true"#]);
    assert_eq!(logs::count("dns_gone", &["flaps.test"]), 0);
}

/// Whom new requests go to.
fn served_by(plane: &Plane, probes: &Tally) -> Vec<&'static str> {
    let mut seen = BTreeSet::new();
    let mut client = plane.client();
    for _ in 0..8 {
        probes.sends();
        let said = client.get("/names/get");
        let text = String::from_utf8(said.body).unwrap();
        assert_eq!(said.status, 200, "{text}");
        seen.insert(match text.contains(" one ") {
            true => "one",
            false => "two",
        });
    }
    seen.into_iter().collect()
}

#[test]
fn tables_that_change_cost_no_request_and_each_request_sees_one() {
    let _alone = alone();
    let others = runtime();
    let backend = Backend::start(others.handle(), "steady");
    let mut model = upstreams(&[("up", &[&backend])]);
    // What the backend saw and what the client sees come from one table, or `Asked::judge` objects.
    let generation = |number: u64| {
        let mut rule = patient("/", "up");
        let field = ("x-generation".to_owned(), number.to_string());
        rule.request_headers.set = vec![field.clone()];
        rule.response_headers.set = vec![field];
        rule
    };
    routes(&mut model, vec![generation(0)]);
    let mut plane = Plane::with_workers(WORKERS, &model);
    let (tally, stop) = (Tally::default(), CancellationToken::new());
    let mut load = Load::on(plane.address);
    load.send("/any", &Amount::Until(stop.clone()), &tally);
    load.send("/any", &Amount::Until(stop.clone()), &tally);
    let mut kept = plane.client();
    let (mut random, begun, mut changes, mut asked) = (Random::new(7), Instant::now(), 0, 0);
    for _ in rounds() {
        for _ in 0..300 {
            changes += 1;
            pace(begun, changes);
            routes(&mut model, vec![generation(changes)]);
            // Other Routes come and go, and with them a listener.
            let other = format!("d/other-{}", random.below(20));
            if model.routes.remove(&other).is_none() {
                let mut route = model.routes["d/r"].clone();
                route.hosts = vec![HostPattern::parse("other.test").unwrap()];
                model.routes.insert(other, route);
            }
            if changes % 20 == 0 && model.listeners.remove("d/gw/other").is_none() {
                let other = Listener {
                    order: 1,
                    port: free_port(),
                    ..listener()
                };
                model.listeners.insert("d/gw/other".into(), other);
            }
            if changes % 25 == 0 {
                // What is refused changes nothing.
                let mut refused = model.clone();
                let up = refused.upstreams.get_mut("up").unwrap();
                up.tls = Some(UpstreamTls {
                    authorities: Some("none".into()),
                    ..UpstreamTls::default()
                });
                routes(&mut refused, vec![generation(u64::MAX)]);
                assert!(matches!(plane.put(&refused), Err(Reply::Nack(_))));
            }
            plane.put(&model).unwrap();
            if changes % 10 == 0 {
                // What has been acknowledged is in effect, also for a connection that is there.
                asked += 1;
                let answer = kept.get("/any/get");
                assert_eq!(answer.header("x-generation"), Some(&*changes.to_string()));
            }
        }
    }
    let took = begun.elapsed();
    drop(kept);
    stop.cancel();
    let probes = Tally::default();
    (0..asked).for_each(|_| probes.sends());
    settles(&plane, load, &[&tally, &probes]);
    eprintln!("{changes} changes in {took:.1?}: {tally}");
    tally.is_only("swaps", |came| *came == Came::Whole);
}

/// A hundred a second, as far as the machine can.
fn pace(begun: Instant, changes: u64) {
    let due = Duration::from_millis(10 * changes);
    std::thread::sleep(due.saturating_sub(begun.elapsed()));
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    listener.local_addr().unwrap().port()
}

#[test]
fn ten_thousand_idle_connections_are_held_while_others_are_served() {
    /// What an idle connection may cost, without optimisation, where the states of tasks are large.
    const EACH_KIB: i64 = 12;
    /// What may be left of all of them: pages that others use too.
    const LEFT_KIB: i64 = 8 << 10;
    let _alone = alone();
    let connections = room_for(10_000);
    let others = runtime();
    let backend = Backend::start(others.handle(), "steady");
    let mut model = upstreams(&[("up", &[&backend])]);
    routes(&mut model, vec![patient("/", "up")]);
    let process = Process::start(&model);
    let tally = Tally::default();
    let serves = || {
        let mut load = Load::on(process.address);
        load.send("/any", &Amount::Of(100), &tally);
        load.finish();
    };
    let open = r#"diolkos_connections{protocol="h1"}"#;
    serves();
    process.metric_becomes(open, 0.0);
    let before = process.memory();
    let mut levels = Vec::new();
    for _ in rounds() {
        let mut held: Vec<TcpStream> = Vec::new();
        while held.len() < connections {
            let more = 100.min(connections - held.len());
            let begun = held.len();
            for _ in 0..more {
                let mut stream = TcpStream::connect(process.address).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let ask = b"GET /any/get HTTP/1.1\r\nhost: t\r\n\r\n";
                stream.write_all(ask).unwrap();
                held.push(stream);
            }
            for stream in &mut held[begun..] {
                let mut answer = [0; 512];
                let n = stream.read(&mut answer).unwrap();
                assert!(answer[..n].starts_with(b"HTTP/1.1 200 OK\r\n"));
            }
        }
        process.metric_becomes(open, connections as f64);
        let most = before + EACH_KIB * i64::try_from(connections).unwrap();
        // They have one state while requests follow each other, and a small one when they rest.
        process.memory_becomes_at_most(most);
        let full = process.memory();
        serves();
        drop(held);
        process.metric_becomes(open, 0.0);
        serves();
        process.metric_becomes(open, 0.0);
        process.memory_becomes_at_most(before + LEFT_KIB);
        levels.push((full, process.memory()));
    }
    assert_eq!(process.ask("/readyz").status, 200);
    eprintln!("{connections} connections: {before} KiB before, (held, gone) {levels:?}; {tally}");
    tally.is_only("while they are held", |came| *came == Came::Whole);
}

/// So many connections, or as many as a process may have: each is one descriptor here and one there, where four fifths
/// are for connections and half of those for clients.
fn room_for(wanted: usize) -> usize {
    let mut files = getrlimit(Resource::Nofile);
    let enough = (wanted * 3) as u64;
    if files.maximum.is_some_and(|most| most < enough) {
        let more = Rlimit {
            current: Some(enough),
            maximum: Some(enough),
        };
        // Only root may.
        let _ = setrlimit(Resource::Nofile, more);
        files = getrlimit(Resource::Nofile);
    }
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files).unwrap();
    let room = files
        .maximum
        .map_or(wanted, |most| most as usize / 5 * 2 - 100);
    if room < wanted {
        eprintln!("{room} connections instead of {wanted}: RLIMIT_NOFILE is too low");
    }
    room.min(wanted)
}

#[test]
fn clients_that_leave_leave_nothing_behind() {
    let _alone = alone();
    let others = runtime();
    let (silent, steady) = (
        Backend::start(others.handle(), "silent"),
        Backend::start(others.handle(), "steady"),
    );
    silent.does(Does::Silent);
    let mut model = upstreams(&[("silent", &[&silent]), ("steady", &[&steady])]);
    let bounds = Concurrency {
        max: 4,
        queue_depth: 100,
        queue_timeout_ms: 10_000,
    };
    model.upstreams.get_mut("silent").unwrap().concurrency = Some(bounds);
    let rules = vec![patient("/silent", "silent"), patient("/steady", "steady")];
    routes(&mut model, rules);
    let plane = Plane::with_workers(WORKERS, &model);
    let (tally, stop) = (Tally::default(), CancellationToken::new());
    let mut load = Load::on(plane.address);
    load.send("/steady", &Amount::Until(stop.clone()), &tally);
    let permits = r#"diolkos_concurrency_permits{scope="upstream",state="used"}"#;
    let queue = r#"diolkos_queue_depth{band="standard"}"#;
    let left = Tally::default();
    let mut levels = Vec::new();
    for _ in rounds() {
        for n in 0..20 {
            // Some have a permit and wait for the backend, most wait for a permit.
            let mut clients: Vec<Client> = (0..20).map(|_| plane.client()).collect();
            for client in &mut clients {
                left.sends();
                match n % 3 {
                    0 => client.send("GET /silent/get HTTP/1.1\r\nhost: t\r\n\r\n"),
                    1 => client.send(
                        "POST /silent/post HTTP/1.1\r\nhost: t\r\ncontent-length: 5\r\n\r\nwhole",
                    ),
                    _ => client.send(
                        "POST /silent/post HTTP/1.1\r\nhost: t\r\ncontent-length: 99\r\n\r\nhalf",
                    ),
                };
            }
            plane.metric_becomes(permits, 4.0);
            plane.metric_becomes(queue, 16.0);
            for client in clients {
                if n % 2 == 0 {
                    let socket = socket2::SockRef::from(&client.stream);
                    socket.set_linger(Some(Duration::ZERO)).unwrap();
                }
            }
            plane.metric_becomes(queue, 0.0);
            plane.metric_becomes(permits, 0.0);
        }
        levels.push(memory());
    }
    stop.cancel();
    settles(&plane, load, &[&tally, &left]);
    eprintln!("{} left; {tally}; memory {levels:?} KiB", left.sent());
    tally.is_only("the neighbour", |came| *came == Came::Whole);
}

//! A real registry on the loopback, which answers what a test tells it to.

use super::*;
use crate::logs;
use crate::table::{Compiler, Wire};
use crate::telemetry::Metrics;
use model::{Discovery, DiscoverySource, EndpointSource, ObjectRef, StaticEndpoint};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::Instant;
use tokio::runtime::Runtime;

const PATIENCE: Duration = Duration::from_secs(20);

struct Server {
    address: SocketAddr,
    /// Status and body; `None`: the connection closes without an answer.
    says: Arc<Mutex<Option<(u16, String)>>>,
    /// Lines and fields of the requests.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(body: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            says: Arc::new(Mutex::new(Some((200, body.to_owned())))),
            asked: Arc::default(),
        };
        let (says, asked) = (Arc::clone(&server.says), Arc::clone(&server.asked));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let mut head = String::new();
                while let Some(Ok(line)) = lines.next()
                    && !line.is_empty()
                {
                    head.push_str(&line);
                    head.push('\n');
                }
                let says = says.lock().clone();
                if let Some((status, body)) = says {
                    let length = body.len();
                    let text = format!(
                        "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nlocation: /\r\n\r\n{body}"
                    );
                    // A client that has had enough leaves.
                    let _ = (&stream).write_all(text.as_bytes());
                }
                asked.lock().push(head);
            }
        });
        server
    }

    /// Lines of an event that are about it.
    fn said(&self, event: &str) -> usize {
        logs::count(event, &[&format!("http://{}/", self.address)])
    }

    fn says(&self, status: u16, body: &str) {
        *self.says.lock() = Some((status, body.to_owned()));
    }

    fn asked(&self) -> usize {
        self.asked.lock().len()
    }

    fn source(&self) -> HttpSource {
        HttpSource {
            url: format!("http://{}/v1/list?key=k", self.address),
            path: vec!["items".into()],
            refresh_ms: 300_000,
        }
    }
}

/// Registries that a rig asks.
const MOST: usize = 2;

struct Rig {
    registry: Arc<Registry>,
    poller: Poller,
    upstream: Arc<Upstream>,
    _runtime: Runtime,
}

impl Rig {
    fn start(discovery: &Discovery) -> Self {
        logs::listen();
        let runtime = Runtime::new().unwrap();
        let registry = Compiler::default().registry();
        let Metrics {
            dns_names,
            registries,
            ..
        } = Metrics::new();
        let resolver = Resolver::start(runtime.handle(), Arc::clone(&registry), dns_names, &[]);
        let resolver = Arc::new(resolver);
        let of_poller = Arc::clone(&registry);
        let poller = Poller::with(runtime.handle(), of_poller, resolver, registries, MOST);
        let origin = ObjectRef::new("Upstream", "n", "u");
        let source = EndpointSource::Discovery(discovery.clone());
        let settings = model::Upstream::new(origin, source);
        let wire = Wire::compile(&settings, |_| None).unwrap();
        let upstream = Upstream::new("Upstream/n/u", &settings, wire, None, &Arc::default());
        upstream.set_discovery(discovery, |_| std::iter::empty());
        let rig = Self {
            registry,
            poller,
            upstream: Arc::new(upstream),
            _runtime: runtime,
        };
        rig.follow();
        rig
    }

    fn of(sources: Vec<DiscoverySource>, first_available: bool) -> Self {
        Self::start(&Discovery {
            first_available,
            sources,
            filter: None,
        })
    }

    fn follow(&self) {
        self.registry.insert(Arc::clone(&self.upstream));
        self.poller.follow(&self.upstream);
    }

    fn become_(&self, expected: &[&str]) {
        let addresses = || {
            let set = self.upstream.endpoints();
            let all = set.endpoints().iter();
            all.map(|e| e.addr.to_string()).collect::<Vec<_>>()
        };
        until(|| addresses() == expected, || format!("{:?}", addresses()));
    }

    /// What the last answer came to.
    fn trouble(&self) -> Option<String> {
        let registries = self.upstream.registries();
        registries[0].trouble.as_deref().map(str::to_owned)
    }

    /// Asks again at once, until the answer came to this.
    fn troubled(&self, expected: &str) {
        self.poller.follow(&self.upstream);
        let is = || self.trouble().is_some_and(|t| t.contains(expected));
        until(is, || format!("{expected}: {:?}", self.trouble()));
    }
}

fn until(condition: impl Fn() -> bool, state: impl Fn() -> String) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "{}", state());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn listed(addresses: &[&str]) -> String {
    let all: Vec<String> = addresses.iter().map(|a| format!("{a:?}")).collect();
    format!(r#"{{"items": [{}]}}"#, all.join(","))
}

#[test]
fn a_registry_is_asked_again_and_again_and_its_word_takes_effect() {
    let server = Server::start(&listed(&["10.0.0.1:80", "[fd00::1]:80"]));
    let source = HttpSource {
        refresh_ms: 1000,
        ..server.source()
    };
    let rig = Rig::of(vec![DiscoverySource::Http(source)], false);
    rig.become_(&["10.0.0.1:80", "[fd00::1]:80"]);
    let head = server.asked.lock()[0].to_lowercase();
    assert!(head.starts_with("get /v1/list?key=k http/1.1\n"), "{head}");
    assert!(
        head.contains(&format!("\nhost: {}\n", server.address)),
        "{head}"
    );
    server.says(200, &listed(&["10.0.0.2:81"]));
    rig.become_(&["10.0.0.2:81"]);
    assert_eq!(rig.trouble(), None);
}

#[test]
fn the_last_list_outlives_whatever_goes_wrong() {
    let server = Server::start(&listed(&["10.0.0.1:80"]));
    let rig = Rig::of(vec![DiscoverySource::Http(server.source())], false);
    rig.become_(&["10.0.0.1:80"]);
    let huge = format!(
        r#"{{"items": ["10.0.0.9:80", "{}"]}}"#,
        "x".repeat(DOCUMENT)
    );
    for (status, body, why) in [
        (503, "out", "answers 503"),
        (301, "there", "answers 301"),
        (200, "<html>", "no JSON"),
        (200, "{}", "has no \"items\""),
        (200, r#"{"items": ["no port"]}"#, "must be ADDRESS:PORT"),
        (200, &huge, "length limit"),
    ] {
        server.says(status, body);
        rig.troubled(why);
        rig.become_(&["10.0.0.1:80"]);
    }
    *server.says.lock() = None;
    rig.troubled("before message completed");
    rig.become_(&["10.0.0.1:80"]);
    assert!(server.said("discovery_failed") >= 7);
    let at = format!("http://{}/", server.address);
    let stale = logs::count("discovery_failed", &[&at, r#""stale":true"#]);
    assert_eq!(stale, server.said("discovery_failed"));
    server.says(200, &listed(&["10.0.0.3:80"]));
    rig.poller.follow(&rig.upstream);
    rig.become_(&["10.0.0.3:80"]);
    assert_eq!(rig.trouble(), None);
}

#[test]
fn an_empty_list_is_believed_the_third_time() {
    let server = Server::start(&listed(&["10.0.0.1:80"]));
    let rig = Rig::of(vec![DiscoverySource::Http(server.source())], false);
    rig.become_(&["10.0.0.1:80"]);
    let before = server.asked();
    server.says(200, &listed(&[]));
    rig.troubled("not believed yet");
    rig.become_(&[]);
    assert_eq!(server.asked() - before, 3);
    assert_eq!(server.said("discovery_failed"), 2, "what is not believed");
}

#[test]
fn what_is_no_endpoint_is_said_and_left_out() {
    let server = Server::start(&listed(&["10.0.0.1:80", "no port", "10.0.0.2:0"]));
    let rig = Rig::of(vec![DiscoverySource::Http(server.source())], false);
    rig.become_(&["10.0.0.1:80"]);
    until(
        || server.said("discovery_partly") == 1,
        || "not said".into(),
    );
    assert_eq!(rig.trouble(), None);
}

#[test]
fn so_many_registries_are_asked_and_those_go_on() {
    let servers: Vec<Server> = (1..=MOST + 1)
        .map(|n| Server::start(&listed(&[&format!("10.0.0.{n}:80")])))
        .collect();
    let sources = servers.iter().map(|s| DiscoverySource::Http(s.source()));
    let rig = Rig::of(sources.collect(), false);
    rig.become_(&["10.0.0.1:80", "10.0.0.2:80"]);
    let count = &rig.poller.shared.count;
    assert_eq!(
        (count.entries.get(), count.evictions.get()),
        (MOST as i64, 1)
    );
    let last = &servers[MOST];
    assert_eq!((last.asked(), last.said("registries_full")), (0, 1));
    servers[0].says(200, &listed(&["10.0.0.9:80"]));
    rig.poller.follow(&rig.upstream);
    rig.become_(&["10.0.0.2:80", "10.0.0.9:80"]);
}

#[test]
fn a_registry_that_cannot_be_reached_leaves_the_other_sources() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut gone = Server::start("").source();
    gone.url = format!("http://{}/", taken.local_addr().unwrap());
    drop(taken);
    let fixed = StaticEndpoint {
        host: "10.0.0.7".into(),
        port: 80,
        weight: 1,
        zone: None,
    };
    let sources = vec![
        DiscoverySource::Http(gone),
        DiscoverySource::Static(vec![fixed]),
    ];
    let rig = Rig::of(sources, false);
    rig.troubled("refused");
    rig.become_(&["10.0.0.7:80"]);
}

#[test]
fn sources_count_together_or_the_first_that_has_any() {
    let (one, two) = (
        Server::start(&listed(&[])),
        Server::start(&listed(&["10.0.0.2:80"])),
    );
    let sources = vec![
        DiscoverySource::Http(one.source()),
        DiscoverySource::Http(two.source()),
    ];
    let first = Rig::of(sources.clone(), true);
    first.become_(&["10.0.0.2:80"]);
    one.says(200, &listed(&["10.0.0.1:80"]));
    first.poller.follow(&first.upstream);
    first.become_(&["10.0.0.1:80"]);
    let merged = Rig::of(sources, false);
    merged.become_(&["10.0.0.1:80", "10.0.0.2:80"]);
}

#[test]
fn only_what_passes_the_filter_is_used() {
    let server = Server::start(
        r#"{"items": [{"address": "10.0.0.1", "port": 80, "labels": {"tier": "gold"}},
            {"address": "10.0.0.2", "port": 80, "labels": {"tier": "iron"}}, "10.0.0.3:80"]}"#,
    );
    let fixed = StaticEndpoint {
        host: "10.0.0.7".into(),
        port: 81,
        weight: 1,
        zone: None,
    };
    let discovery = |filter: Option<&str>| Discovery {
        first_available: true,
        sources: vec![
            DiscoverySource::Http(server.source()),
            DiscoverySource::Static(vec![fixed.clone()]),
        ],
        filter: filter.map(str::to_owned),
    };
    let rig = Rig::start(&discovery(Some("endpoint.labels.tier == 'gold'")));
    rig.become_(&["10.0.0.1:80"]);
    // What was listed before is known, also where it cannot be asked for again.
    let shows = |filter: Option<&str>| {
        let none = |_: &str| std::iter::empty();
        rig.upstream.set_discovery(&discovery(filter), none);
        let set = rig.upstream.endpoints();
        let all = set.endpoints().iter();
        all.map(|e| e.addr.to_string()).collect::<Vec<_>>()
    };
    let iron = "endpoint.labels.tier == 'iron'";
    assert_eq!(shows(Some(iron)), ["10.0.0.2:80"]);
    assert_eq!(shows(Some("endpoint.port == 81")), ["10.0.0.7:81"]);
    assert!(shows(Some("endpoint.port == 82")).is_empty());
    assert_eq!(shows(None).len(), 3);
}

#[test]
fn names_in_a_list_are_resolved() {
    let server = Server::start(&listed(&["localhost:80"]));
    let rig = Rig::of(vec![DiscoverySource::Http(server.source())], false);
    let loopback = || {
        let set = rig.upstream.endpoints();
        set.endpoints().iter().any(|e| e.addr.ip().is_loopback())
    };
    until(loopback, || "localhost is not resolved".into());
}

#[test]
fn a_registry_is_asked_for_as_long_as_its_upstream_is_there() {
    let server = Server::start(&listed(&["10.0.0.1:80"]));
    let rig = Rig::of(vec![DiscoverySource::Http(server.source())], false);
    rig.become_(&["10.0.0.1:80"]);
    let count = &rig.poller.shared.count.entries;
    assert_eq!(count.get(), 1);
    // The same source in other settings: what it has said goes on.
    let discovery = Discovery {
        first_available: true,
        sources: vec![DiscoverySource::Http(server.source())],
        filter: None,
    };
    rig.upstream
        .set_discovery(&discovery, |_| std::iter::empty());
    rig.become_(&["10.0.0.1:80"]);
    rig.registry.remove(&rig.upstream.key);
    rig.poller.follow(&rig.upstream);
    until(|| count.get() == 0, || "goes on".into());
    rig.follow();
    until(|| count.get() == 1, || "is not asked".into());
}

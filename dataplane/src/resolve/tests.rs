//! Names as a real server of names on the loopback has them.

use super::*;
use crate::logs;
use crate::table::Wire;
use crate::telemetry::Metrics;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use model::{DnsSource, EndpointSource, ObjectRef};
use names::{BROKEN, GONE, NONE, REFUSED, Says, Server, some};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Instant;
use tokio::runtime::Runtime;

#[allow(dead_code, unreachable_pub, reason = "other tests use the rest of it")]
#[path = "../../tests/support/names.rs"]
mod names;

const PATIENCE: Duration = Duration::from_secs(20);

fn lookup(server: &Server) -> Lookup {
    let mut by = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
    for connection in &mut by {
        connection.port = server.address.port();
    }
    let name_server = NameServerConfig::new(server.address.ip(), true, by.into());
    let config = ResolverConfig::from_name_servers(vec![name_server]);
    let provider = TokioRuntimeProvider::default();
    let mut builder = TokioResolver::builder_with_config(config, provider);
    let options = builder.options_mut();
    options.cache_size = 0;
    options.attempts = 1;
    options.timeout = Duration::from_millis(500);
    Lookup::with(builder.build().unwrap())
}

/// One upstream whose endpoints are the addresses of one name.
struct Rig {
    server: Server,
    registry: Arc<Registry>,
    resolver: Resolver,
    upstream: Arc<Upstream>,
    name: String,
    _runtime: Runtime,
}

/// Names that a rig keeps resolved.
const MOST: usize = 3;

impl Rig {
    fn start(v4: Says, v6: Says) -> Self {
        logs::listen();
        let server = Server::start();
        server.says(v4, v6);
        let runtime = Runtime::new().unwrap();
        let registry = Arc::new(Registry::default());
        let lookup = {
            let _inside = runtime.enter();
            lookup(&server)
        };
        let names = Metrics::new().dns_names;
        let registry_ = Arc::clone(&registry);
        let resolver = Resolver::with(runtime.handle(), registry_, names, lookup, MOST);
        // No other test has this one.
        let name = format!("web-{}.test", server.address.port());
        let rig = Self {
            upstream: upstream("u", &name),
            server,
            registry,
            resolver,
            name,
            _runtime: runtime,
        };
        rig.follow();
        rig
    }

    fn follow(&self) {
        self.registry.insert(Arc::clone(&self.upstream));
        self.resolver.follow(&self.upstream);
    }

    /// Lines of an event that are about its name.
    fn said(&self, event: &str) -> usize {
        logs::count(event, &[&self.name])
    }

    fn addresses(&self) -> Vec<IpAddr> {
        let set = self.upstream.endpoints();
        set.endpoints().iter().map(|e| e.addr.ip()).collect()
    }

    fn become_(&self, expected: &[&str]) {
        let expected: Vec<IpAddr> = expected.iter().map(|a| a.parse().unwrap()).collect();
        until(
            || self.addresses() == expected,
            || format!("{:?}", self.addresses()),
        );
    }

    /// Asks again, until an answer of after this moment has been taken.
    fn ask(&self) {
        let taken = &self.resolver.shared.taken;
        // One lookup may be under way.
        for _ in 0..2 {
            let before = taken.load(SeqCst);
            self.resolver.follow(&self.upstream);
            until(|| taken.load(SeqCst) > before, || "not asked".into());
        }
    }
}

fn until(condition: impl Fn() -> bool, state: impl Fn() -> String) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "{}", state());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn upstream(key: &str, name: &str) -> Arc<Upstream> {
    let source = DnsSource {
        hostname: name.into(),
        port: 80,
        refresh_ms: 300_000,
        respect_ttl: true,
    };
    let origin = ObjectRef::new("Upstream", "n", key);
    let settings = model::Upstream::new(origin, EndpointSource::Dns(source.clone()));
    let wire = Wire::compile(&settings, |_| None).unwrap();
    let key = format!("Upstream/n/{key}");
    let upstream = Upstream::new(&key, &settings, wire, None, &Arc::default());
    upstream.set_dns(&source);
    Arc::new(upstream)
}

#[test]
fn a_name_is_asked_for_again_when_its_time_to_live_is_over() {
    let rig = Rig::start(some(&["10.0.0.1"], 1), some(&["fd00::1"], 1));
    rig.become_(&["10.0.0.1", "fd00::1"]);
    // The upstream's own interval is five minutes.
    rig.server.says(some(&["10.0.0.2", "10.0.0.3"], 1), NONE);
    rig.become_(&["10.0.0.2", "10.0.0.3", "fd00::1"]);
    rig.become_(&["10.0.0.2", "10.0.0.3"]);
}

#[test]
fn addresses_outlive_failures_and_silence_and_a_doubtful_word() {
    let rig = Rig::start(some(&["10.0.0.1"], 60), NONE);
    rig.become_(&["10.0.0.1"]);
    for says in [BROKEN, REFUSED, GONE, Says::Garbage, GONE, BROKEN] {
        // Said once: the third time in a row "there is none" would be believed.
        rig.server
            .says_in_turn([(says.clone(), says), (BROKEN, BROKEN)]);
        rig.ask();
        assert_eq!(rig.addresses(), ["10.0.0.1".parse::<IpAddr>().unwrap()]);
    }
    // Each look asks for both families, and in each turn at least one came to nothing.
    assert!(rig.said("dns_failed") >= 6, "{}", rig.said("dns_failed"));
    assert_eq!(rig.said("dns_gone"), 0);
    rig.server.says(Says::Silence, Says::Silence);
    rig.ask();
    assert_eq!(rig.addresses(), ["10.0.0.1".parse::<IpAddr>().unwrap()]);
    rig.server.says(some(&["10.0.0.7"], 60), BROKEN);
    rig.ask();
    rig.become_(&["10.0.0.7"]);
}

#[test]
fn a_name_that_is_gone_for_good_has_no_address() {
    let rig = Rig::start(some(&["10.0.0.1"], 60), NONE);
    rig.become_(&["10.0.0.1"]);
    rig.server.says(GONE, GONE);
    rig.ask();
    rig.become_(&[]);
    until(|| rig.said("dns_gone") == 1, || "not said".into());
    rig.server.says(some(&["10.0.0.2"], 60), NONE);
    rig.become_(&["10.0.0.2"]);
}

#[test]
fn an_answer_that_is_too_long_for_a_packet_comes_by_tcp_and_has_a_bound() {
    let many: Vec<IpAddr> = (0..300u32)
        .map(|n| Ipv4Addr::from(0x0a00_0000 + n).into())
        .collect();
    let rig = Rig::start(Says::TooMuch(many.clone()), NONE);
    until(|| !rig.addresses().is_empty(), || "none".into());
    assert_eq!(rig.addresses(), many[..memory::ADDRESSES]);
}

#[test]
fn what_is_no_hosts_address_is_none() {
    let rig = Rig::start(some(&["0.0.0.0", "10.0.0.1", "224.0.0.1"], 60), NONE);
    rig.become_(&["10.0.0.1"]);
    let nobody = some(&["0.0.0.0", "239.1.1.1"], 60);
    let nobody_v6 = some(&["::", "ff02::1"], 60);
    rig.server
        .says_in_turn([(nobody.clone(), nobody_v6.clone()), (BROKEN, BROKEN)]);
    rig.ask();
    rig.become_(&["10.0.0.1"]);
    rig.server.says(nobody, nobody_v6);
    rig.ask();
    rig.become_(&[]);
    until(|| rig.said("dns_gone") == 1, || "not said".into());
}

#[test]
fn so_many_names_are_resolved_and_those_go_on() {
    let rig = Rig::start(some(&["10.0.0.1"], 1), NONE);
    let others: Vec<_> = (1..=MOST)
        .map(|n| upstream(&format!("other-{n}"), &format!("{n}.{}", rig.name)))
        .collect();
    for other in &others {
        rig.registry.insert(Arc::clone(other));
        rig.resolver.follow(other);
    }
    let has_address = |upstream: &Upstream| upstream.endpoints().endpoints().len() == 1;
    until(
        || others[..MOST - 1].iter().all(|u| has_address(u)),
        || "none".into(),
    );
    rig.become_(&["10.0.0.1"]);
    let names = &rig.resolver.shared.names;
    assert_eq!(
        (names.entries.get(), names.evictions.get()),
        (MOST as i64, 1)
    );
    assert!(!has_address(&others[MOST - 1]));
    assert_eq!(rig.said("dns_names_full"), 1);
    // Who is first told of when there is room again is resolved.
    rig.registry.remove(&others[0].key);
    rig.resolver.follow(&others[0]);
    until(|| names.entries.get() < MOST as i64, || "goes on".into());
    rig.resolver.follow(&others[MOST - 1]);
    until(|| has_address(&others[MOST - 1]), || "not resolved".into());
}

#[test]
fn a_name_has_a_task_for_as_long_as_its_upstream_is_there() {
    let rig = Rig::start(some(&["10.0.0.1"], 1), NONE);
    rig.become_(&["10.0.0.1"]);
    let names = &rig.resolver.shared.names.entries;
    assert_eq!(names.get(), 1);
    rig.registry.remove(&rig.upstream.key);
    until(|| names.get() == 0, || "goes on".into());
    rig.server.says(some(&["10.0.0.2"], 1), NONE);
    rig.follow();
    rig.become_(&["10.0.0.2"]);
}

#[test]
fn a_name_that_comes_later_is_found() {
    let rig = Rig::start(GONE, GONE);
    until(|| rig.server.asked() >= 2, || "not asked".into());
    assert!(rig.addresses().is_empty());
    rig.server.says(NONE, some(&["fd00::1"], 60));
    rig.become_(&["fd00::1"]);
}

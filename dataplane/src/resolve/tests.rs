//! A real server of names on the loopback, which answers what a test tells it to.

use super::*;
use crate::table::Wire;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use model::{DnsSource, EndpointSource, ObjectRef};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::Instant;
use tokio::runtime::Runtime;

const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone)]
enum Says {
    Addresses(Vec<IpAddr>, u32),
    Code(ResponseCode),
    /// Over UDP nothing but "ask by TCP".
    TooMuch(Vec<IpAddr>),
    Silence,
}

struct Zone {
    v4: Says,
    v6: Says,
    asked: usize,
}

struct Server {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
}

impl Server {
    fn start() -> Self {
        let zone = Arc::new(Mutex::new(Zone {
            v4: Says::Code(ResponseCode::NXDomain),
            v6: Says::Code(ResponseCode::NoError),
            asked: 0,
        }));
        // The same port for both, as name servers have it.
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let (by_udp, by_tcp) = (Arc::clone(&zone), Arc::clone(&zone));
        std::thread::spawn(move || {
            let mut packet = [0; 4096];
            while let Ok((n, from)) = udp.recv_from(&mut packet) {
                if let Some(answer) = answer(&by_udp, &packet[..n], false) {
                    udp.send_to(&answer, from).unwrap();
                }
            }
        });
        std::thread::spawn(move || {
            for stream in tcp.incoming() {
                let mut stream = stream.unwrap();
                let mut length = [0; 2];
                while stream.read_exact(&mut length).is_ok() {
                    let mut packet = vec![0; usize::from(u16::from_be_bytes(length))];
                    stream.read_exact(&mut packet).unwrap();
                    let Some(answer) = answer(&by_tcp, &packet, true) else {
                        break;
                    };
                    let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
                    stream.write_all(&[&length[..], &answer].concat()).unwrap();
                }
            }
        });
        Self { address, zone }
    }

    fn says(&self, v4: Says, v6: Says) {
        let mut zone = self.zone.lock();
        (zone.v4, zone.v6) = (v4, v6);
    }

    fn asked(&self) -> usize {
        self.zone.lock().asked
    }

    fn lookup(&self) -> Lookup {
        let mut by = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
        for connection in &mut by {
            connection.port = self.address.port();
        }
        let server = NameServerConfig::new(self.address.ip(), true, by.into());
        let config = ResolverConfig::from_name_servers(vec![server]);
        let provider = TokioRuntimeProvider::default();
        let mut builder = TokioResolver::builder_with_config(config, provider);
        let options = builder.options_mut();
        options.cache_size = 0;
        options.attempts = 1;
        options.timeout = Duration::from_millis(500);
        Lookup::given(builder.build().unwrap())
    }
}

fn answer(zone: &Mutex<Zone>, question: &[u8], tcp: bool) -> Option<Vec<u8>> {
    let question = Message::from_vec(question).unwrap();
    let query = question.queries[0].clone();
    let says = {
        let mut zone = zone.lock();
        zone.asked += 1;
        match query.query_type() {
            RecordType::A => zone.v4.clone(),
            _ => zone.v6.clone(),
        }
    };
    let mut message = question.into_response();
    let mut put = |list: Vec<IpAddr>, ttl| {
        for ip in list {
            let data = match ip {
                IpAddr::V4(ip) => RData::A(ip.into()),
                IpAddr::V6(ip) => RData::AAAA(ip.into()),
            };
            message.add_answer(Record::from_rdata(query.name().clone(), ttl, data));
        }
    };
    match says {
        Says::Addresses(list, ttl) => put(list, ttl),
        Says::TooMuch(list) if tcp => put(list, 60),
        Says::TooMuch(_) => message.metadata.truncation = true,
        Says::Code(code) => message.metadata.response_code = code,
        Says::Silence => return None,
    }
    Some(message.to_vec().unwrap())
}

/// One upstream whose endpoints are the addresses of one name.
struct Rig {
    server: Server,
    registry: Arc<Registry>,
    resolver: Resolver,
    upstream: Arc<Upstream>,
    _runtime: Runtime,
}

impl Rig {
    fn start(v4: Says, v6: Says) -> Self {
        let server = Server::start();
        server.says(v4, v6);
        let runtime = Runtime::new().unwrap();
        let registry = Arc::new(Registry::default());
        let lookup = {
            let _inside = runtime.enter();
            server.lookup()
        };
        let names = IntGauge::new("names", "names").unwrap();
        let resolver = Resolver::with(runtime.handle(), Arc::clone(&registry), names, lookup);
        let rig = Self {
            server,
            registry,
            resolver,
            upstream: upstream(),
            _runtime: runtime,
        };
        rig.follow();
        rig
    }

    fn follow(&self) {
        self.registry.insert(Arc::clone(&self.upstream));
        self.resolver.follow(&self.upstream);
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

    /// Asks again at once, and waits until it has.
    fn ask(&self) {
        let before = self.server.asked();
        self.resolver.follow(&self.upstream);
        until(|| self.server.asked() >= before + 2, || "not asked".into());
    }
}

fn until(condition: impl Fn() -> bool, state: impl Fn() -> String) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "{}", state());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn upstream() -> Arc<Upstream> {
    let source = DnsSource {
        hostname: "web.test".into(),
        port: 80,
        refresh_ms: 300_000,
        respect_ttl: true,
    };
    let origin = ObjectRef::new("Upstream", "n", "u");
    let settings = model::Upstream::new(origin, EndpointSource::Dns(source.clone()));
    let wire = Wire::compile(&settings, |_| None).unwrap();
    let upstream = Upstream::new("Upstream/n/u", &settings, wire, None, &Arc::default());
    upstream.set_dns(&source);
    Arc::new(upstream)
}

fn some(list: &[&str], ttl: u32) -> Says {
    Says::Addresses(list.iter().map(|a| a.parse().unwrap()).collect(), ttl)
}

const NONE: Says = Says::Code(ResponseCode::NoError);
const GONE: Says = Says::Code(ResponseCode::NXDomain);
const BROKEN: Says = Says::Code(ResponseCode::ServFail);

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
    for says in [
        BROKEN,
        Says::Code(ResponseCode::Refused),
        GONE,
        Says::Silence,
        BROKEN,
    ] {
        rig.server.says(says.clone(), says);
        rig.ask();
        assert_eq!(rig.addresses().len(), 1);
    }
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
fn a_name_has_a_task_for_as_long_as_its_upstream_is_there() {
    let rig = Rig::start(some(&["10.0.0.1"], 1), NONE);
    rig.become_(&["10.0.0.1"]);
    let names = &rig.resolver.shared.names;
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

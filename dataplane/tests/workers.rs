//! Panics where none is expected: in the task of a connection, and in what a worker does itself.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use bytes::Bytes;
use diolkos_dataplane::engine::conn::Event;
use diolkos_dataplane::engine::{Down, DownExt, Exchange, Outcome, Service};
use diolkos_dataplane::listen::{ListenerConfig, Workers, WorkersConfig};
use diolkos_dataplane::telemetry::Metrics;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use support::{Client, becomes, logs, value};
use tokio::runtime::Runtime;
use tokio::sync::Notify;

/// Says which worker it is and how many there have been, and panics when it is told to.
struct Fragile {
    index: usize,
    number: usize,
    traps: Arc<Traps>,
}

#[derive(Default)]
struct Traps {
    /// The next connection panics as soon as it speaks.
    connection: AtomicBool,
    /// The first worker panics.
    worker: Notify,
    started: AtomicUsize,
}

impl Service for Fragile {
    async fn serve<D: Down>(&self, x: Exchange<'_, D>) -> Outcome {
        x.answer.reset(200);
        let said = Bytes::from(format!("{} {}", self.index, self.number));
        let _ = x.down.respond(x.answer, said).await;
        Outcome::Done
    }

    fn note(&self, event: Event) {
        assert!(
            !(matches!(event, Event::Spoke(_)) && self.traps.connection.swap(false, SeqCst)),
            "a trap of a test"
        );
    }

    async fn keep_house(&self) {
        if self.index == 0 {
            self.traps.worker.notified().await;
            panic!("a trap of a test");
        }
        std::future::pending().await
    }
}

struct Fixture {
    runtime: Runtime,
    workers: Workers,
    traps: Arc<Traps>,
    metrics: Metrics,
    address: SocketAddr,
}

impl Fixture {
    fn start(threads: usize) -> Self {
        let traps = Arc::new(Traps::default());
        let config = WorkersConfig {
            threads,
            connections: 1000,
            descriptors: i32::MAX,
            per_source: 0,
        };
        let of_workers = Arc::clone(&traps);
        let workers = Workers::start(config, move |index| Fragile {
            index,
            number: of_workers.started.fetch_add(1, SeqCst),
            traps: Arc::clone(&of_workers),
        })
        .unwrap();
        let runtime = Runtime::new().unwrap();
        let local = "127.0.0.1:0".parse().unwrap();
        let listening = workers.listen(1, local, ListenerConfig::default());
        let address = runtime.block_on(listening).unwrap();
        Self {
            runtime,
            workers,
            traps,
            metrics: Metrics::new(),
            address,
        }
    }

    /// A connection to this worker, of as many as it takes to meet it.
    fn client_of(&self, worker: usize) -> Client {
        let mut others = Vec::new();
        loop {
            let mut client = Client::connect(self.address);
            if said(&mut client).0 == worker {
                return client;
            }
            others.push(client);
            assert!(others.len() < 500, "worker {worker} is not met");
        }
    }

    /// As the metrics page has it.
    fn panics(&self) -> u64 {
        self.metrics.follow(&self.workers.counters());
        value(&self.metrics, r#"diolkos_panics_total{where="task"}"#) as u64
    }
}

/// Worker and number of its service.
fn said(client: &mut Client) -> (usize, usize) {
    let answer = client.get("/");
    let text = String::from_utf8(answer.body).unwrap();
    let (worker, number) = text.split_once(' ').unwrap();
    (worker.parse().unwrap(), number.parse().unwrap())
}

#[test]
fn a_panic_in_a_connections_task_ends_that_connection_alone() {
    let fixture = Fixture::start(1);
    let mut other = Client::connect(fixture.address);
    let before = said(&mut other);
    fixture.traps.connection.store(true, SeqCst);
    let mut client = Client::connect(fixture.address);
    client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n");
    assert_eq!(client.rest(), b"");
    becomes("panics", 1, || fixture.panics());
    assert_eq!(said(&mut other), before, "the same worker goes on");
    assert_eq!(said(&mut Client::connect(fixture.address)), before);
    drop((client, other));
    becomes("places given back", 0, || {
        fixture.workers.counters().open.load(SeqCst)
    });
}

#[test]
fn a_worker_that_falls_is_started_anew_with_its_listeners() {
    logs::listen();
    let fixture = Fixture::start(2);
    let mut lost = fixture.client_of(0);
    let mut other = fixture.client_of(1);
    let before = said(&mut other);
    for fall in 1..=3 {
        fixture.traps.worker.notify_one();
        assert_eq!(lost.rest(), b"", "its connections are lost");
        becomes("panics", fall, || fixture.panics());
        assert_eq!(said(&mut other), before, "others do not notice");
        // Nobody is refused meanwhile: who comes to its socket waits.
        lost = fixture.client_of(0);
    }
    assert_eq!(fixture.traps.started.load(SeqCst), 5);
    logs::come("worker_restarted", &[r#""pause_ms":100"#]);
    // What is told to it is heard as before.
    fixture.runtime.block_on(fixture.workers.close(1));
    becomes("refused", true, || {
        TcpStream::connect(fixture.address).is_err()
    });
    drop((lost, other));
    let drained = fixture.workers.drain(Duration::from_secs(10));
    assert_eq!(fixture.runtime.block_on(drained), 0);
}

/// One client after another request, on one connection as long as it lasts: how many were answered, and how many
/// connections it lost. Of a connection to a worker that does not fall none is lost.
fn keeps_asking(address: SocketAddr, stop: &AtomicBool) -> (u64, u64) {
    let (mut answered, mut lost) = (0, 0);
    while !stop.load(SeqCst) {
        // Never refused, also while nobody accepts.
        let mut client = Client::connect(address);
        let mut worker = None;
        while !stop.load(SeqCst) {
            let sent = client
                .stream
                .write_all(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n");
            let answer = sent.ok().and_then(|()| client.answer("GET"));
            let Some(answer) = answer else {
                assert_ne!(
                    worker,
                    Some(1),
                    "a connection that has nothing to do with it"
                );
                lost += 1;
                break;
            };
            let text = String::from_utf8(answer.body).unwrap();
            let index = text.split(' ').next().unwrap().parse().unwrap();
            assert_eq!((answer.status, *worker.get_or_insert(index)), (200, index));
            answered += 1;
        }
    }
    (answered, lost)
}

#[test]
fn a_worker_that_falls_under_load_costs_its_own_connections_and_nothing_else() {
    const FALLS: u64 = 3;
    const CLIENTS: u64 = 8;
    let fixture = Fixture::start(2);
    let (stop, address) = (AtomicBool::new(false), fixture.address);
    let (answered, lost) = std::thread::scope(|scope| {
        let all: Vec<_> = (0..CLIENTS)
            .map(|_| scope.spawn(|| keeps_asking(address, &stop)))
            .collect();
        for fall in 1..=FALLS {
            // One that the fall costs its connection is under way.
            drop(fixture.client_of(0));
            fixture.traps.worker.notify_one();
            becomes("panics", fall, || fixture.panics());
        }
        drop(fixture.client_of(0));
        stop.store(true, SeqCst);
        all.into_iter()
            .map(|client| client.join().unwrap())
            .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    });
    assert!(lost <= FALLS * CLIENTS, "{lost} connections");
    assert!(answered > 100, "{answered} answers");
    becomes("places given back", 0, || {
        fixture.workers.counters().open.load(SeqCst)
    });
    eprintln!("{answered} answers, {lost} connections lost in {FALLS} falls");
}

#[test]
fn a_worker_that_falls_hears_what_comes_before_the_next_one_accepts() {
    let fixture = Fixture::start(1);
    let _ = said(&mut Client::connect(fixture.address));
    for fall in 1..=2 {
        fixture.traps.worker.notify_one();
        becomes("panics", fall, || fixture.panics());
    }
    // It pauses now: a listener can be opened and closed all the same, and it can be stopped.
    let local = "127.0.0.1:0".parse().unwrap();
    let listening = fixture.workers.listen(2, local, ListenerConfig::default());
    let second = fixture.runtime.block_on(listening).unwrap();
    fixture.runtime.block_on(fixture.workers.close(1));
    assert_eq!(said(&mut Client::connect(second)).1, 2);
    assert!(TcpStream::connect(fixture.address).is_err());
    let drained = fixture.workers.drain(Duration::ZERO);
    fixture.runtime.block_on(drained);
}

//! What the engine's tests share: an origin that does what the path says, a client on a raw socket, and the smallest
//! service there is, which forwards everything to the origin.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses a part of it"
)]
#![allow(clippy::unwrap_used, reason = "tests")]

pub mod config;
pub mod gateway;
pub mod logs;
pub mod names;
pub mod pki;
pub mod plane;

use bytes::Bytes;
use diolkos_dataplane::engine::open::Opening;
use diolkos_dataplane::engine::{
    Abort, BodyTap, ClientTimeouts, ConnConfig, ConnInfo, Connections, Down, DownExt, DownFault,
    Event, Exchange, Fault, Outcome, PoolConfig, PoolCounters, Progress, ResponseHead, Service,
    Timeouts, Want, relay,
};
use diolkos_dataplane::h1::Reject;
use diolkos_dataplane::listen::{ListenCounters, ListenerConfig, Workers, WorkersConfig};
use diolkos_dataplane::telemetry::Metrics;
use diolkos_dataplane::telemetry::metrics::Cut;
use std::collections::HashMap;
use std::fmt::Debug;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, LazyLock, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// No test waits longer than this for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);

// ------------------------------------------------------------------------------------------------ origin

/// One request as the origin read it.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub connection: usize,
    pub line: String,
    /// Head as it came, without the first line.
    pub head: String,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
    pub trailers: String,
}

pub struct Origin {
    pub address: SocketAddr,
    pub connections: Arc<AtomicUsize>,
    pub seen: Arc<Mutex<Vec<Seen>>>,
    /// One message for each connection that has ended.
    pub closed: Receiver<usize>,
    /// One message for each request head that has arrived, before it is answered.
    pub arrived: Receiver<String>,
    /// What `/gated` answers wait for.
    pub gate: Sender<()>,
    /// Bytes that `/big/N` answers have written.
    pub written: Arc<AtomicUsize>,
}

impl Origin {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (closed_in, closed) = channel();
        let (arrived_in, arrived) = channel();
        let (gate, gate_out) = channel();
        let gate_out = Arc::new(Mutex::new(gate_out));
        let written = Arc::new(AtomicUsize::new(0));
        let out = written.clone();
        let (count, log) = (connections.clone(), seen.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let connection = count.fetch_add(1, SeqCst);
                let (log, closed, arrived) = (log.clone(), closed_in.clone(), arrived_in.clone());
                let (gate, out) = (gate_out.clone(), out.clone());
                std::thread::spawn(move || {
                    let _ = serve(stream, connection, &log, &arrived, &gate, &out);
                    let _ = closed.send(connection);
                });
            }
        });
        Self {
            address,
            connections,
            seen,
            closed,
            arrived,
            gate,
            written,
        }
    }

    pub fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    pub fn last(&self) -> Seen {
        self.seen
            .lock()
            .unwrap()
            .last()
            .cloned()
            .unwrap_or_default()
    }
}

fn serve(
    mut out: TcpStream,
    connection: usize,
    log: &Mutex<Vec<Seen>>,
    arrived: &Sender<String>,
    gate: &Mutex<Receiver<()>>,
    written: &AtomicUsize,
) -> std::io::Result<()> {
    let mut input = BufReader::new(out.try_clone()?);
    loop {
        let mut seen = Seen {
            connection,
            ..Seen::default()
        };
        if input.read_line(&mut seen.line)? == 0 {
            return Ok(());
        }
        loop {
            let mut line = String::new();
            input.read_line(&mut line)?;
            if line.trim().is_empty() {
                break;
            }
            if let Some((n, v)) = line.split_once(':') {
                seen.headers
                    .insert(n.to_ascii_lowercase(), v.trim().to_owned());
            }
            seen.head.push_str(&line);
        }
        let path = seen.line.split(' ').nth(1).unwrap_or_default().to_owned();
        let is_head = seen.line.starts_with("HEAD ");
        let _ = arrived.send(path.clone());
        if path == "/early" {
            out.write_all(
                b"HTTP/1.1 413 Too Big\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig",
            )?;
            // The rest is read so that the answer is not lost; it is nobody's request.
            std::io::copy(&mut input, &mut std::io::sink())?;
            return Ok(());
        }
        if path == "/early-keep" {
            out.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")?;
            std::io::copy(&mut input, &mut std::io::sink())?;
            return Ok(());
        }
        if path == "/duplex" {
            // Answers while it reads, without a buffer that could hold the body.
            out.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            let length: usize = seen
                .headers
                .get("content-length")
                .and_then(|n| n.parse().ok())
                .unwrap_or(0);
            let mut left = length;
            let mut piece = vec![0; 8192];
            while left > 0 {
                let n = input.read(&mut piece[..left.min(8192)])?;
                if n == 0 {
                    return Ok(());
                }
                left -= n;
                write!(out, "{n:x}\r\n")?;
                out.write_all(&piece[..n])?;
                out.write_all(b"\r\n")?;
            }
            out.write_all(b"0\r\n\r\n")?;
            log.lock().unwrap().push(seen);
            continue;
        }
        if seen.headers.contains_key("expect") {
            out.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        if seen
            .headers
            .get("transfer-encoding")
            .is_some_and(|v| v == "chunked")
        {
            if !read_chunked(&mut input, &mut seen)? {
                return Ok(());
            }
        } else if let Some(n) = seen.headers.get("content-length") {
            seen.body = vec![0; n.parse().unwrap()];
            input.read_exact(&mut seen.body)?;
        }
        let body = seen.body.clone();
        let coding = seen
            .headers
            .get("transfer-encoding")
            .cloned()
            .unwrap_or_else(|| "-".into());
        log.lock().unwrap().push(seen);
        if let Some(size) = path.strip_prefix("/big/") {
            let size: usize = size.parse().unwrap();
            write!(out, "HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n")?;
            let mut sent = 0;
            while sent < size {
                let piece = big(sent, (size - sent).min(8192));
                out.write_all(piece)?;
                written.fetch_add(piece.len(), SeqCst);
                sent += piece.len();
            }
            continue;
        }
        match path.split('?').next().unwrap_or_default() {
            "/echo" => {
                write!(out, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nX-Te: {coding}\r\n\r\n", body.len())?;
                out.write_all(&body)?;
            }
            "/echochunk" => {
                out.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
                for piece in body.chunks(50_000) {
                    write!(out, "{:x}\r\n", piece.len())?;
                    out.write_all(piece)?;
                    out.write_all(b"\r\n")?;
                }
                out.write_all(b"0\r\n\r\n")?;
            }
            "/204" => out.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?,
            "/304" => out.write_all(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\nETag: x\r\n\r\n")?,
            "/head" => {
                out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n")?;
                if !is_head {
                    out.write_all(&[b'y'; 99])?;
                }
            }
            "/closing" => {
                out.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil close")?;
                return Ok(());
            }
            "/break" => {
                out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")?;
                return Ok(());
            }
            "/break-chunked" => {
                out.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")?;
                return Ok(());
            }
            "/die" => return Ok(()),
            "/thenclose" => {
                out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
                return Ok(());
            }
            "/hop" => out.write_all(
                b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nKeep-Alive: timeout=5\r\n\
                  Connection: keep-alive, x-priv\r\nX-Priv: 1\r\nTrailer: a\r\nX-End: 1\r\n\r\nok",
            )?,
            "/103" => out.write_all(
                b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            )?,
            "/trailers" => out.write_all(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\nsum_of.x: 8\r\nSet-Cookie: a=b\r\n\r\n",
            )?,
            "/gated" => {
                // Until the test opens the gate. A dropped gate ends the origin.
                if gate.lock().unwrap().recv().is_err() {
                    return Ok(());
                }
                out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
            }
            "/hold" => {
                // Never answers: waits for the other side to go.
                let _ = input.read(&mut [0; 1])?;
                return Ok(());
            }
            "/raw" => {
                // The request's body is the answer, byte for byte.
                out.write_all(&body)?;
                return Ok(());
            }
            _ => out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")?,
        }
    }
}

fn read_chunked(input: &mut impl BufRead, seen: &mut Seen) -> std::io::Result<bool> {
    loop {
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Ok(false);
        }
        let n = usize::from_str_radix(line.trim(), 16).expect("clean chunk size");
        if n == 0 {
            break;
        }
        let at = seen.body.len();
        seen.body.resize(at + n, 0);
        input.read_exact(&mut seen.body[at..])?;
        let mut end = [0; 2];
        input.read_exact(&mut end)?;
        assert_eq!(&end, b"\r\n");
    }
    loop {
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Ok(false);
        }
        if line == "\r\n" {
            return Ok(true);
        }
        seen.trailers.push_str(&line);
    }
}

// ------------------------------------------------------------------------------------------------ service

/// Forwards everything to one origin, except paths under `/local/`, which it answers with the status they name.
pub struct Forward {
    origin: SocketAddr,
    connections: Connections,
    timeouts: Timeouts,
    tapped: Arc<Tapped>,
    metrics: Arc<Metrics>,
}

/// Bytes that the counting tap has seen.
#[derive(Default)]
pub struct Tapped {
    pub request: AtomicU64,
    pub response: AtomicU64,
}

struct Count<'a>(&'a Tapped);

impl BodyTap for Count<'_> {
    fn request_chunk(&mut self, data: Bytes) -> Result<Bytes, Abort> {
        if data.starts_with(b"abort") {
            return Err(Abort);
        }
        self.0.request.fetch_add(data.len() as u64, SeqCst);
        Ok(data)
    }
    fn poll_response_head(
        &mut self,
        _: &mut Context<'_>,
        head: &mut ResponseHead,
    ) -> Poll<Result<(), Abort>> {
        Poll::Ready(head.headers.push("x-tapped", "1").map_err(|_| Abort))
    }
    fn response_chunk(&mut self, data: Bytes) -> Result<Bytes, Abort> {
        self.0.response.fetch_add(data.len() as u64, SeqCst);
        Ok(data)
    }
}

impl Service for Forward {
    async fn serve<D: Down>(&self, x: Exchange<'_, D>) -> Outcome {
        let Exchange {
            request,
            answer,
            down,
            ..
        } = x;
        if let Some(status) = request.path().strip_prefix("/local/") {
            answer.reset(status.parse().unwrap());
            return match down.respond(answer, Bytes::from_static(b"local")).await {
                Ok(()) => Outcome::Done,
                Err(_) => Outcome::Close,
            };
        }
        match request.path() {
            "/panic" => panic!("asked for"),
            "/silent" => return Outcome::Done,
            _ => {}
        }
        let mut progress = Progress::default();
        for attempt in 0.. {
            let timer = down.timer();
            let connect = self.timeouts.connect;
            let want = Want::http1(self.origin);
            let up = match self.connections.idle_h1(&want) {
                Some(up) => Ok(up),
                None => {
                    let opened = self.connections.connect(&want, connect, timer).await;
                    opened.map(|c| c.up)
                }
            };
            let Ok(up) = up else {
                return local(answer, down, 502).await;
            };
            let mut tap = Count(&self.tapped);
            let fault = match relay(
                down,
                up,
                request,
                answer,
                &mut tap,
                &self.timeouts,
                &mut progress,
            )
            .await
            {
                Ok(()) => return Outcome::Done,
                Err(fault) => fault,
            };
            if progress.answered.is_some() {
                let cut = Cut::of(&fault);
                cut.into_iter().for_each(|cut| self.metrics.stream_cut(cut));
                return Outcome::Close;
            }
            return match fault {
                Fault::Up(up)
                    if up.is_stale_connection() && progress.request_bytes == 0 && attempt == 0 =>
                {
                    continue;
                }
                Fault::Up(diolkos_dataplane::engine::UpFault::Timeout)
                | Fault::Total
                | Fault::Idle => local(answer, down, 504).await,
                Fault::Up(_) | Fault::NoTunnel => local(answer, down, 502).await,
                Fault::Down(DownFault::Reject(reject)) => Outcome::Reject(reject),
                Fault::Down(DownFault::Timeout) => Outcome::Reject(Reject::timeout("body")),
                Fault::Down(DownFault::Closed) => Outcome::Close,
                Fault::Aborted => local(answer, down, 413).await,
                Fault::Length => local(answer, down, 500).await,
            };
        }
        Outcome::Close
    }

    fn note(&self, event: Event) {
        self.metrics.note(event);
    }

    fn refuse(&self, _: &ConnInfo, reject: &Reject, head: &mut ResponseHead) -> Bytes {
        self.metrics.refused(reject);
        head.headers
            .push("content-type", "application/json")
            .unwrap();
        Bytes::from([r#"{"error":""#, reject.code, r#""}"#].concat())
    }
}

async fn local<D: Down>(answer: &mut ResponseHead, down: &mut D, status: u16) -> Outcome {
    answer.reset(status);
    match down.respond(answer, Bytes::new()).await {
        Ok(()) => Outcome::Done,
        Err(_) => Outcome::Close,
    }
}

// ------------------------------------------------------------------------------------------------ rig

#[derive(Clone)]
pub struct Setup {
    pub conn: ConnConfig,
    pub timeouts: Timeouts,
    pub connections: usize,
    pub opening: Opening,
    pub openings: usize,
}

impl Default for Setup {
    fn default() -> Self {
        // A stalled test fails by its client's patience, not by the proxy's.
        let timeouts = Timeouts {
            connect: PATIENCE,
            ..Timeouts::default()
        };
        let client = ClientTimeouts {
            header: PATIENCE * 2,
            ..ClientTimeouts::default()
        };
        let conn = ConnConfig {
            timeouts: client,
            ..ConnConfig::default()
        };
        Self {
            conn,
            timeouts,
            connections: 1000,
            opening: Opening::default(),
            openings: 1000,
        }
    }
}

/// A proxy with one worker in front of one origin.
pub struct Rig {
    pub origin: Origin,
    pub address: SocketAddr,
    pub workers: Workers,
    pub tapped: Arc<Tapped>,
    pub pool: Arc<PoolCounters>,
    pub listen: Arc<ListenCounters>,
    pub metrics: Arc<Metrics>,
    pub runtime: tokio::runtime::Runtime,
}

impl Rig {
    pub fn start() -> Self {
        Self::with(Setup::default())
    }

    pub fn with(setup: Setup) -> Self {
        let origin = Origin::start();
        let address = origin.address;
        Self::forwarding(origin, address, setup)
    }

    /// In front of an upstream that the test plays itself.
    pub fn before(upstream: SocketAddr, setup: Setup) -> Self {
        Self::forwarding(Origin::start(), upstream, setup)
    }

    fn forwarding(origin: Origin, key: SocketAddr, setup: Setup) -> Self {
        let (tapped, pool) = (
            Arc::new(Tapped::default()),
            Arc::new(PoolCounters::default()),
        );
        let (tapped2, pool2) = (tapped.clone(), pool.clone());
        let metrics = Arc::new(Metrics::new());
        let metrics2 = metrics.clone();
        let timeouts = setup.timeouts;
        let config = WorkersConfig {
            threads: 1,
            connections: setup.connections,
            descriptors: i32::MAX,
            per_source: 1,
        };
        let listener = ListenerConfig {
            conn: setup.conn,
            opening: setup.opening,
            openings: setup.openings,
            ..ListenerConfig::default()
        };
        let workers = Workers::start(config, move |_| Forward {
            origin: key,
            connections: Connections::new(PoolConfig::default(), pool2.clone()),
            timeouts,
            tapped: tapped2.clone(),
            metrics: metrics2.clone(),
        })
        .unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let address = runtime
            .block_on(workers.listen(1, "127.0.0.1:0".parse().unwrap(), listener))
            .unwrap();
        let listen = workers.counters();
        Self {
            origin,
            address,
            workers,
            tapped,
            pool,
            listen,
            metrics,
            runtime,
        }
    }

    /// The value on the line of the metrics page that begins so.
    pub fn metric(&self, line: &str) -> f64 {
        self.metrics.follow(&self.listen);
        value(&self.metrics, line)
    }

    /// An exchange is accounted for after its last byte has left.
    pub fn metric_becomes(&self, line: &str, value: f64) {
        becomes(line, value, || self.metric(line));
    }

    /// So many answers have been cut for this reason.
    pub fn cuts(&self, reason: &str, count: f64) {
        let line = format!(r#"diolkos_streams_cut_total{{reason="{reason}"}}"#);
        self.metric_becomes(&line, count);
    }

    pub fn client(&self) -> Client {
        Client::connect(self.address)
    }
}

// ------------------------------------------------------------------------------------------------ client

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
    pub trailers: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

pub struct Client {
    pub stream: TcpStream,
    input: BufReader<TcpStream>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        Self::on(TcpStream::connect(address).unwrap())
    }

    /// One end of a connection, whichever.
    pub fn on(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            input: BufReader::new(stream.try_clone().unwrap()),
            stream,
        }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(bytes.as_ref()).unwrap();
        self
    }

    /// Whether something comes within this time.
    pub fn has_input(&mut self, within: Duration) -> bool {
        self.stream.set_read_timeout(Some(within)).unwrap();
        let come = self.input.fill_buf().is_ok();
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        come
    }

    /// The next head, as it came.
    pub fn head(&mut self) -> String {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(self.input.read_line(&mut head).unwrap(), 0, "{head:?}");
        }
        head
    }

    /// Exactly so many bytes.
    pub fn take(&mut self, n: usize) -> Vec<u8> {
        let mut bytes = vec![0; n];
        self.input.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// A request with Host and these header lines (each with its CR LF).
    pub fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &str,
        body: impl AsRef<[u8]>,
    ) -> Answer {
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: t\r\n{headers}\r\n").into_bytes();
        text.extend_from_slice(body.as_ref());
        self.send(text).answer(method).expect("an answer")
    }

    pub fn get(&mut self, path: &str) -> Answer {
        self.request("GET", path, "", "")
    }

    /// Reads one answer; `None` when the connection ends before or within it.
    pub fn answer(&mut self, method: &str) -> Option<Answer> {
        let mut line = String::new();
        if self.input.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let mut answer = Answer {
            status: line.split(' ').nth(1)?.parse().ok()?,
            ..Answer::default()
        };
        loop {
            let mut line = String::new();
            self.input.read_line(&mut line).ok()?;
            let (name, value) = match line.trim() {
                "" => break,
                other => other.split_once(':')?,
            };
            answer
                .headers
                .insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        if method == "HEAD" || answer.status < 200 || matches!(answer.status, 204 | 304) {
            return Some(answer);
        }
        if answer.header("transfer-encoding").is_some() {
            loop {
                let mut line = String::new();
                if self.input.read_line(&mut line).ok()? == 0 {
                    return None;
                }
                let n = usize::from_str_radix(line.trim(), 16).ok()?;
                if n == 0 {
                    break;
                }
                let at = answer.body.len();
                answer.body.resize(at + n + 2, 0);
                self.input.read_exact(&mut answer.body[at..]).ok()?;
                assert!(answer.body.ends_with(b"\r\n"));
                answer.body.truncate(at + n);
            }
            loop {
                let mut line = String::new();
                if self.input.read_line(&mut line).ok()? == 0 {
                    return None;
                }
                if line == "\r\n" {
                    break;
                }
                answer.trailers.push_str(&line);
            }
        } else if let Some(n) = answer.header("content-length") {
            answer.body = vec![0; n.parse().unwrap()];
            self.input.read_exact(&mut answer.body).ok()?;
        } else {
            self.input.read_to_end(&mut answer.body).ok()?;
        }
        Some(answer)
    }

    /// Everything until the connection ends, in order or by a reset.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        let mut piece = [0; 4096];
        loop {
            match self.input.read(&mut piece) {
                Ok(0) => return all,
                Ok(n) => all.extend_from_slice(&piece[..n]),
                Err(e)
                    if matches!(
                        e.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) =>
                {
                    panic!("connection was not closed")
                }
                Err(_) => return all,
            }
        }
    }
}

/// The value on the line of the metrics page that begins so; 0 where there is none.
pub fn value(metrics: &Metrics, line: &str) -> f64 {
    let text = metrics.text();
    let found = text
        .lines()
        .find_map(|l| l.strip_prefix(line)?.trim().parse().ok());
    found.unwrap_or(0.0)
}

/// Waits until what is read is this.
pub fn becomes<T: PartialEq + Debug>(what: &str, value: T, read: impl Fn() -> T) {
    let begun = Instant::now();
    loop {
        let is = read();
        if is == value {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: {is:?}, not {value:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Bytes that look random and are the same each time.
pub fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

/// What a large body has from a place on, at most so many bytes: nothing that is missing, twice there or in another
/// place looks right.
pub fn big(at: usize, most: usize) -> &'static [u8] {
    static ROUND: LazyLock<Vec<u8>> = LazyLock::new(|| noise(1_000_003));
    let at = at % ROUND.len();
    &ROUND[at..ROUND.len().min(at + most)]
}

/// Whether this is the piece from there on.
pub fn is_big(mut at: usize, mut piece: &[u8]) -> bool {
    while !piece.is_empty() {
        let expected = big(at, piece.len());
        let (now, rest) = piece.split_at(expected.len());
        if now != expected {
            return false;
        }
        (at, piece) = (at + now.len(), rest);
    }
    true
}

pub fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in body.chunks(size) {
        out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

//! One line for each request, on standard output or standard error: JSON, or by a template.
//!
//! Threads gather lines in a buffer of their own and hand full ones, or those of the last tick, to one writer thread.
//! When the writer cannot keep up, buffers are dropped and counted; a request never waits for its log line.

use super::trace::trace_id;
use super::{Metrics, log_template};
use model::expression::Expression;
use model::headers::Known;
use model::log_template::{Segment, parse};
use model::{Headers, LogFormat, log_filter};
use snapshot::Revision;
use std::cell::RefCell;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Bytes gathered before they are handed over.
const BUFFER: usize = 16 << 10;
/// Buffers that may wait for the writer.
const QUEUE: usize = 256;

/// What is told about one request.
#[derive(Debug)]
pub struct Record<'a> {
    pub listener: &'a str,
    pub client: SocketAddr,
    /// Empty: nothing is known but the connection.
    pub method: &'a str,
    pub host: &'a str,
    /// Path and query in normal form.
    pub uri: &'a str,
    pub protocol: &'static str,
    /// Status that the client got; 0: it asked for none, because what it sent was passed on as it was.
    pub status: u16,
    /// Code of the error catalogue, where the gateway answered with one or cut the exchange.
    pub error: Option<&'static str>,
    /// `NAMESPACE/NAME` of the Route.
    pub route: Option<&'a str>,
    pub rule: Option<&'a str>,
    pub upstream: Option<SocketAddr>,
    pub attempts: u32,
    /// Of the configuration that it was served by.
    pub revision: Revision,
    pub request_bytes: u64,
    pub response_bytes: u64,
    pub duration: Duration,
    pub scheme: &'static str,
    pub path: &'a str,
    pub query: Option<&'a str>,
    pub request: &'a Headers,
    /// Of the final head; those of an earlier answer where there was none.
    pub response: &'a Headers,
}

/// What a listener logs, and how.
#[derive(Debug, Default)]
pub struct Plan {
    /// `None`: JSON.
    template: Option<Box<[Segment]>>,
    /// Share that is not logged, in millionths.
    left_out: u32,
    /// What a request must fulfil.
    filter: Option<Box<Expression>>,
    to_stderr: bool,
}

/// Where nothing is said.
pub static JSON: Plan = Plan {
    template: None,
    left_out: 0,
    filter: None,
    to_stderr: false,
};

impl Plan {
    /// # Errors
    /// A placeholder that does not exist, or a filter that is no condition.
    pub fn compile(settings: &model::AccessLog) -> Result<Self, String> {
        let template = match &settings.format {
            LogFormat::Json => None,
            LogFormat::Template(line) => Some(parse(line)?.into()),
        };
        let filter = settings.filter.as_deref().map(log_filter::compile);
        Ok(Self {
            template,
            left_out: SHARES.saturating_sub(settings.sample_millionths),
            filter: filter.transpose()?.map(Box::new),
            to_stderr: settings.to_stderr,
        })
    }

    /// Whether a request is logged: all that failed, of the others a share.
    pub fn wants(&self, failed: bool) -> bool {
        self.left_out == 0 || failed || rand::random_range(0..SHARES) >= self.left_out
    }
}

const SHARES: u32 = 1_000_000;

/// The log's sending end; cheap to clone.
#[derive(Clone)]
pub struct AccessLog {
    queue: SyncSender<Message>,
    metrics: Arc<Metrics>,
}

#[derive(Clone, Copy)]
enum Target {
    Stdout,
    Stderr,
}

enum Message {
    Lines(Target, Vec<u8>),
    /// Everything before it has been written when the sender is dropped.
    Flush(SyncSender<()>),
}

thread_local! {
    static LINES: RefCell<Lines> = const { RefCell::new(Lines { buffer: Vec::new(), errors: Vec::new(), second: 0, stamp: String::new() }) };
}

/// A thread's buffers, and the date of the current second.
struct Lines {
    buffer: Vec<u8>,
    /// For standard error.
    errors: Vec<u8>,
    second: u64,
    stamp: String,
}

impl AccessLog {
    /// Starts the writer on standard output and standard error.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(metrics: Arc<Metrics>) -> std::io::Result<Self> {
        Self::to(std::io::stdout(), std::io::stderr(), metrics)
    }

    fn to(
        out: impl Write + Send + 'static,
        errors: impl Write + Send + 'static,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Self> {
        let (queue, receiver) = sync_channel(QUEUE);
        std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || write(receiver, out, errors))?;
        Ok(Self { queue, metrics })
    }

    /// Notes one request in this thread's buffer, if the plan's filter takes it.
    pub fn note(&self, plan: &Plan, record: &Record<'_>) {
        if let Some(filter) = &plan.filter
            && !filter.holds(record)
        {
            return;
        }
        LINES.with_borrow_mut(|lines| {
            lines.push(plan, record);
            if lines.buffer.len() >= BUFFER {
                self.hand_over(Target::Stdout, &mut lines.buffer);
            }
            if lines.errors.len() >= BUFFER {
                self.hand_over(Target::Stderr, &mut lines.errors);
            }
        });
    }

    /// Hands this thread's lines to the writer; called by each worker at every tick.
    pub fn tick(&self) {
        LINES.with_borrow_mut(|lines| {
            if !lines.buffer.is_empty() {
                self.hand_over(Target::Stdout, &mut lines.buffer);
            }
            if !lines.errors.is_empty() {
                self.hand_over(Target::Stderr, &mut lines.errors);
            }
        });
    }

    /// Waits until what was handed over before has been written.
    pub fn flush(&self) {
        self.tick();
        let (done, wait) = sync_channel(0);
        if self.queue.send(Message::Flush(done)).is_ok() {
            // An error is what is waited for: the writer dropped its end.
            let _ = wait.recv();
        }
    }

    fn hand_over(&self, target: Target, buffer: &mut Vec<u8>) {
        let full = std::mem::replace(buffer, Vec::with_capacity(BUFFER + 1024));
        if let Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) =
            self.queue.try_send(Message::Lines(target, full))
            && let Message::Lines(_, lost) = message
        {
            let count = memchr::memchr_iter(b'\n', &lost).count() as u64;
            self.metrics.log_dropped.inc_by(count);
        }
    }
}

fn write(queue: Receiver<Message>, mut out: impl Write, mut errors: impl Write) {
    while let Ok(message) = queue.recv() {
        match message {
            // Nobody is left to tell when standard output is gone.
            Message::Lines(Target::Stdout, lines) => {
                drop(out.write_all(&lines).and_then(|()| out.flush()));
            }
            Message::Lines(Target::Stderr, lines) => {
                drop(errors.write_all(&lines).and_then(|()| errors.flush()));
            }
            Message::Flush(done) => drop(done),
        }
    }
}

impl Lines {
    fn push(&mut self, plan: &Plan, r: &Record<'_>) {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        if now.as_secs() != self.second || self.stamp.is_empty() {
            self.second = now.as_secs();
            let second = jiff::Timestamp::from_second(now.as_secs() as i64).unwrap_or_default();
            self.stamp = second.strftime("%Y-%m-%dT%H:%M:%S").to_string();
        }
        let b = match plan.to_stderr {
            false => &mut self.buffer,
            true => &mut self.errors,
        };
        if let Some(segments) = &plan.template {
            let when = format!("{}.{:03}Z", self.stamp, now.subsec_millis());
            log_template::line(b, segments, r, (&when, now.as_secs()));
            b.push(b'\n');
            return;
        }
        b.extend_from_slice(b"{\"time\":\"");
        b.extend_from_slice(self.stamp.as_bytes());
        let millis = now.subsec_millis();
        b.extend_from_slice(&[
            b'.',
            b'0' + (millis / 100) as u8,
            b'0' + (millis / 10 % 10) as u8,
            b'0' + (millis % 10) as u8,
        ]);
        b.extend_from_slice(b"Z\",\"listener\":");
        string(b, r.listener);
        b.extend_from_slice(b",\"client\":");
        address(b, r.client);
        // A connection or datagrams that are passed on are no request, and what the edge gate refuses has not become one.
        let is_request = !r.method.is_empty();
        if is_request {
            b.extend_from_slice(b",\"method\":");
            string(b, r.method);
        }
        b.extend_from_slice(b",\"host\":");
        string(b, r.host);
        if is_request {
            b.extend_from_slice(b",\"uri\":");
            string(b, r.uri);
        }
        b.extend_from_slice(b",\"protocol\":\"");
        b.extend_from_slice(r.protocol.as_bytes());
        b.push(b'"');
        if r.status != 0 {
            number(b, b",\"status\":", r.status.into());
        }
        if let Some(code) = r.error {
            b.extend_from_slice(b",\"error\":\"");
            b.extend_from_slice(code.as_bytes());
            b.push(b'"');
        }
        if let Some(route) = r.route {
            b.extend_from_slice(b",\"route\":");
            string(b, route);
        }
        if let Some(rule) = r.rule.filter(|r| !r.is_empty()) {
            b.extend_from_slice(b",\"rule\":");
            string(b, rule);
        }
        if let Some(upstream) = r.upstream {
            b.extend_from_slice(b",\"upstream\":");
            address(b, upstream);
            number(b, b",\"attempts\":", r.attempts.into());
        }
        number(b, b",\"request_bytes\":", r.request_bytes);
        number(b, b",\"response_bytes\":", r.response_bytes);
        number(
            b,
            b",\"duration_us\":",
            u64::try_from(r.duration.as_micros()).unwrap_or(u64::MAX),
        );
        b.extend_from_slice(b",\"revision\":\"");
        b.extend_from_slice(&r.revision.digits());
        b.push(b'"');
        if let Some(trace) = trace_id(r.request) {
            b.extend_from_slice(b",\"trace_id\":");
            string(b, trace);
        }
        if let Some(agent) = r.request.get_known(Known::UserAgent) {
            b.extend_from_slice(b",\"user_agent\":");
            match std::str::from_utf8(agent) {
                Ok(text) => string(b, text),
                Err(_) => string(b, &String::from_utf8_lossy(agent)),
            }
        }
        b.extend_from_slice(b"}\n");
    }
}

/// `before` is the comma, the member's name and the colon.
fn number(b: &mut Vec<u8>, before: &[u8], value: u64) {
    b.extend_from_slice(before);
    b.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn string(b: &mut Vec<u8>, text: &str) {
    // All bytes are looked at, whatever comes, so that the compiler can take many at a time.
    let escapes = text.bytes().fold(false, |found, byte| {
        found | (byte < 0x20) | (byte == b'"') | (byte == b'\\')
    });
    if escapes {
        // Writing to a vector cannot fail.
        let _ = serde_json::to_writer(b, text);
    } else {
        b.push(b'"');
        b.extend_from_slice(text.as_bytes());
        b.push(b'"');
    }
}

fn address(b: &mut Vec<u8>, address: SocketAddr) {
    b.push(b'"');
    push_address(b, address);
    b.push(b'"');
}

/// `ADDRESS:PORT`, without a port that is not known (0). IPv4 by hand: the formatting machinery takes ten times as
/// long, twice a line.
pub(super) fn push_address(b: &mut Vec<u8>, address: SocketAddr) {
    match address {
        SocketAddr::V4(v4) => {
            let mut digits = itoa::Buffer::new();
            for (octet, end) in v4.ip().octets().into_iter().zip(b"...:") {
                b.extend_from_slice(digits.format(octet).as_bytes());
                b.push(*end);
            }
            match v4.port() {
                0 => drop(b.pop()),
                port => b.extend_from_slice(digits.format(port).as_bytes()),
            }
        }
        // Writing to a vector cannot fail.
        SocketAddr::V6(v6) if v6.port() == 0 => drop(write!(b, "{}", v6.ip())),
        SocketAddr::V6(v6) => drop(write!(b, "{v6}")),
    }
}

#[cfg(test)]
impl Record<'static> {
    /// A request like any other.
    pub(super) fn example() -> Self {
        static NONE: Headers = Headers::new();
        Self {
            listener: "ns/gw/http",
            client: ([192, 0, 2, 1], 5).into(),
            method: "GET",
            host: "a.test",
            uri: "/x?q=1",
            protocol: "HTTP/1.1",
            status: 200,
            error: None,
            route: Some("shop/a"),
            rule: Some(""),
            upstream: Some(([10, 0, 0, 1], 80).into()),
            attempts: 2,
            revision: Revision(42),
            request_bytes: 0,
            response_bytes: 0,
            duration: Duration::ZERO,
            scheme: "http",
            path: "/x",
            query: Some("q=1"),
            request: &NONE,
            response: &NONE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;

    #[test]
    fn strings_and_addresses_are_written_as_the_library_would() {
        for text in [
            "",
            "/plain?a=b",
            "\"",
            "a\\b",
            "a\u{1f}b",
            "\u{e9}\u{7f}",
            &"x".repeat(99),
        ] {
            let mut out = Vec::new();
            string(&mut out, text);
            assert_eq!(out, serde_json::to_vec(text).unwrap());
        }
        for text in [
            "0.0.0.0:1",
            "255.10.0.1:65535",
            "[2001:db8::1]:443",
            "[::ffff:1.2.3.4]:1",
        ] {
            let parsed: SocketAddr = text.parse().unwrap();
            let mut out = Vec::new();
            address(&mut out, parsed);
            assert_eq!(out, format!("\"{parsed}\"").into_bytes());
        }
    }

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);
    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// Takes nothing for as long as the other end is held.
    struct Stuck(Receiver<()>, Shared);
    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _ = self.0.recv();
            self.1.write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_nobody_takes_are_dropped_and_counted() {
        let (held, until) = sync_channel(0);
        let (out, metrics) = (Shared::default(), Arc::new(Metrics::new()));
        let stuck = Stuck(until, out.clone());
        let log = AccessLog::to(stuck, std::io::sink(), Arc::clone(&metrics)).unwrap();
        let mut noted = 0;
        while metrics.log_dropped.get() == 0 {
            log.note(&JSON, &Record::example());
            noted += 1;
            assert!(noted < 1_000_000, "there is no end");
        }
        drop(held);
        log.flush();
        let written = out.0.lock().iter().filter(|byte| **byte == b'\n').count() as u64;
        assert_eq!(written + metrics.log_dropped.get(), noted);
        // One at the writer, those that wait, and what was gathered last.
        let most = (QUEUE + 2) * (BUFFER + 1024);
        assert!((QUEUE * BUFFER..most).contains(&out.0.lock().len()));
    }

    #[test]
    fn what_was_passed_on_is_no_request() {
        let out = Shared::default();
        let log = AccessLog::to(out.clone(), std::io::sink(), Arc::new(Metrics::new())).unwrap();
        let record = Record {
            method: "",
            uri: "",
            protocol: "TCP",
            status: 0,
            ..Record::example()
        };
        log.note(&JSON, &record);
        log.flush();
        let line: serde_json::Value = serde_json::from_slice(&out.0.lock()).unwrap();
        assert_eq!(line["protocol"], "TCP");
        for field in ["method", "uri", "status"] {
            assert!(line.get(field).is_none(), "{field} of {line}");
        }
    }

    #[test]
    fn each_record_is_one_line_of_json_whatever_the_client_sends() {
        let out = Shared::default();
        let log = AccessLog::to(out.clone(), std::io::sink(), Arc::new(Metrics::new())).unwrap();
        let mut request = Headers::new();
        request.push("user-agent", b"curl\xff").unwrap();
        for route in [None, Some("shop/a")] {
            log.note(
                &JSON,
                &Record {
                    uri: "/x?q=\"\u{e9}\n",
                    route,
                    request_bytes: 3,
                    response_bytes: 4,
                    duration: Duration::from_micros(1500),
                    request: &request,
                    ..Record::example()
                },
            );
        }
        log.flush();
        let text = String::from_utf8(out.0.lock().clone()).unwrap();
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["uri"], "/x?q=\"\u{e9}\n");
        assert_eq!(lines[0]["client"], "192.0.2.1:5");
        assert_eq!(lines[0]["upstream"], "10.0.0.1:80");
        assert_eq!(lines[0]["route"], serde_json::Value::Null);
        assert_eq!(lines[1]["route"], "shop/a");
        assert_eq!(lines[1]["duration_us"], 1500);
        assert_eq!(lines[1]["revision"], "00000000002a");
        assert_eq!(lines[1]["user_agent"], "curl\u{fffd}");
        let time = lines[0]["time"].as_str().unwrap();
        assert!(time.parse::<jiff::Timestamp>().is_ok(), "{time}");
    }

    #[test]
    fn templates_samples_and_targets() {
        let (out, errors) = (Shared::default(), Shared::default());
        let log = AccessLog::to(out.clone(), errors.clone(), Arc::new(Metrics::new())).unwrap();
        let mut settings = model::AccessLog {
            format: LogFormat::Template("{method} {status}".into()),
            sample_millionths: 0,
            filter: None,
            to_stderr: true,
        };
        let plan = Plan::compile(&settings).unwrap();
        assert!(plan.wants(true) && !plan.wants(false));
        log.note(&plan, &Record::example());
        log.note(&JSON, &Record::example());
        log.flush();
        assert_eq!(*errors.0.lock(), b"GET 200\n");
        assert!(out.0.lock().starts_with(b"{"));
        settings.sample_millionths = 500_000;
        let plan = Plan::compile(&settings).unwrap();
        let logged = (0..10_000).filter(|_| plan.wants(false)).count();
        assert!((4000..6000).contains(&logged), "{logged}");
        settings.format = LogFormat::Template("{nothing}".into());
        assert!(Plan::compile(&settings).is_err());
        settings.format = LogFormat::Json;
        settings.filter = Some("response.status".into());
        assert!(Plan::compile(&settings).is_err());
    }

    #[test]
    fn what_the_filter_does_not_take_is_not_logged() {
        let out = Shared::default();
        let log = AccessLog::to(out.clone(), std::io::sink(), Arc::new(Metrics::new())).unwrap();
        let plan = Plan::compile(&model::AccessLog {
            format: LogFormat::Template("{status}".into()),
            filter: Some("response.status >= 400".into()),
            ..model::AccessLog::default()
        });
        let plan = plan.unwrap();
        for status in [200, 404, 503] {
            log.note(
                &plan,
                &Record {
                    status,
                    ..Record::example()
                },
            );
        }
        log.flush();
        assert_eq!(*out.0.lock(), b"404\n503\n");
    }

    #[test]
    fn the_last_lines_of_a_worker_are_written_when_it_ends() {
        use crate::engine::{Connections, PoolConfig};
        use crate::proxy::{Proxy, Shared as SharedByWorkers};
        let (out, metrics) = (Shared::default(), Arc::new(Metrics::new()));
        let log = AccessLog::to(out.clone(), std::io::sink(), Arc::clone(&metrics)).unwrap();
        let of_worker = log.clone();
        let worker = std::thread::spawn(move || {
            let shared = SharedByWorkers::new(Arc::default(), metrics, Some(of_worker.clone()));
            let connections = Connections::new(PoolConfig::default(), Arc::default());
            let proxy = Proxy::new(Arc::new(shared), connections);
            of_worker.note(
                &JSON,
                &Record {
                    uri: "/last",
                    ..Record::example()
                },
            );
            drop(proxy);
        });
        worker.join().unwrap();
        log.flush();
        assert!(String::from_utf8_lossy(&out.0.lock()).contains("/last"));
    }
}

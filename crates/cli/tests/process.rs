//! `diolkos run` as a process: it is replaced by another one, again and again, while clients send requests; and it stops.
#![allow(clippy::unwrap_used, reason = "tests")]

use dataplane::handover;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tempfile::NamedTempFile;

/// No test waits longer than this for anything.
const PATIENCE: Duration = Duration::from_secs(60);

const MANIFESTS: &str = r#"
apiVersion: diolkos.io/v1alpha1
kind: GatewayConfig
metadata: {name: default, namespace: d}
spec:
  default: true
  listeners: [{name: http, port: 80, protocol: HTTP}]
  timeouts: {drain: 30s}
---
apiVersion: diolkos.io/v1alpha1
kind: Upstream
metadata: {name: up, namespace: d}
spec:
  endpoints: [{address: 127.0.0.1, port: PORT}]
---
apiVersion: diolkos.io/v1alpha1
kind: Route
metadata: {name: r, namespace: d}
spec:
  rules:
  - matches: [{path: {value: /slow}}]
    backends: [{kind: Upstream, name: up}]
  - directResponse: {status: 200, body: hello}
"#;

/// One `diolkos run`. It is killed when it is dropped.
struct Gateway {
    child: Child,
    log: NamedTempFile,
}

impl Gateway {
    fn start(directory: &Path, http: SocketAddr, admin: SocketAddr) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_diolkos"));
        command.arg("run").arg(directory.join("manifests"));
        command.args(["--http", &http.to_string(), "--admin", &admin.to_string()]);
        command.args(["--threads", "2", "--handover"]);
        command.arg(directory.join("handover.sock"));
        Self::logged(&mut command)
    }

    fn logged(command: &mut Command) -> Self {
        let log = NamedTempFile::new().unwrap();
        command.args(["--log-format", "json"]).stdout(Stdio::null());
        let child = command.stderr(log.reopen().unwrap()).spawn().unwrap();
        Self { child, log }
    }

    /// Waits for a line of the log.
    fn says(&self, event: &str) {
        let line = format!(r#""event":"{event}""#);
        let text = || fs::read_to_string(self.log.path()).unwrap();
        until(event, || text().contains(&line).then_some(()));
    }

    fn ended(&mut self) -> ExitStatus {
        until("the process has ended", || self.child.try_wait().unwrap())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = fs::read_to_string(self.log.path());
            eprintln!("{}", log.unwrap_or_default());
        }
    }
}

fn until<T>(what: &str, mut read: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = read() {
            return value;
        }
        assert!(begun.elapsed() < PATIENCE, "not in time: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A process that has one listening socket as the service manager passes it, as its fourth descriptor.
fn activated(directory: &Path, socket: &TcpListener, admin: SocketAddr) -> Gateway {
    const START: &str = r#"exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" "$@""#;
    let address = socket.local_addr().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", START, env!("CARGO_BIN_EXE_diolkos"), "run"]);
    command.arg(directory.join("manifests"));
    command.args(["--http", &address.to_string()]);
    command.args(["--admin", &admin.to_string(), "--threads", "2"]);
    command.stdin(Stdio::from(OwnedFd::from(socket.try_clone().unwrap())));
    Gateway::logged(&mut command)
}

/// An address that is free at the moment.
fn free() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

struct Client {
    input: BufReader<TcpStream>,
}

impl Client {
    fn connect(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            input: BufReader::new(stream),
        })
    }

    /// Status, body, and whether the connection goes on.
    fn get(&mut self, path: &str) -> std::io::Result<(String, Vec<u8>, bool)> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: t\r\n\r\n");
        self.input.get_mut().write_all(request.as_bytes())?;
        let (mut status, mut length, mut goes_on) = (String::new(), 0, true);
        loop {
            let mut line = String::new();
            if self.input.read_line(&mut line)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let line = line.trim_end().to_ascii_lowercase();
            match line.split_once(": ") {
                Some(("content-length", n)) => length = n.parse().unwrap(),
                Some(("connection", "close")) => goes_on = false,
                _ if line.is_empty() => break,
                _ if status.is_empty() => status = line,
                _ => {}
            }
        }
        let mut body = vec![0; length];
        self.input.read_exact(&mut body)?;
        Ok((status, body, goes_on))
    }
}

/// Clients that ask as fast as they can: some on kept connections, some on a new one for each request.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Result<(), String>>>,
}

impl Load {
    fn start(address: SocketAddr) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let client = |kept: bool| {
            let (stop, answered) = (Arc::clone(&stop), Arc::<AtomicUsize>::clone(&answered));
            thread::spawn(move || {
                let mut connection = None;
                while !stop.load(SeqCst) {
                    let mut client = match connection.take() {
                        Some(client) => client,
                        None => Client::connect(address).map_err(|e| format!("connect: {e}"))?,
                    };
                    let (status, body, goes_on) =
                        client.get("/").map_err(|e| format!("exchange: {e}"))?;
                    if !status.contains("200") || body != b"hello" {
                        return Err(format!("{status} {body:?}"));
                    }
                    answered.fetch_add(1, SeqCst);
                    connection = (kept && goes_on).then_some(client);
                }
                Ok(())
            })
        };
        let clients = [true, true, true, false, false].map(client).into();
        Self {
            stop,
            answered,
            clients,
        }
    }

    /// Waits for so many further answers.
    fn goes_on(&self, n: usize) {
        let before = self.answered.load(SeqCst);
        until("the load is answered", || {
            let failed = self.clients.iter().any(JoinHandle::is_finished);
            (failed || self.answered.load(SeqCst) >= before + n).then_some(())
        });
    }

    fn end(self) {
        self.stop.store(true, SeqCst);
        for client in self.clients {
            client.join().unwrap().unwrap();
        }
    }
}

/// An upstream that answers when it is told to.
fn slow_upstream() -> (
    SocketAddr,
    std::sync::mpsc::Sender<()>,
    std::sync::mpsc::Receiver<()>,
) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let (came, arrived) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = [0; 4096];
        let _ = stream.read(&mut head).unwrap();
        came.send(()).unwrap();
        if wait.recv().is_err() {
            return;
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow")
            .unwrap();
    });
    (address, go, arrived)
}

#[test]
fn processes_take_over_from_each_other_and_no_request_fails() {
    let directory = tempfile::tempdir().unwrap();
    let (upstream, go, arrived) = slow_upstream();
    fs::create_dir(directory.path().join("manifests")).unwrap();
    let manifests = MANIFESTS.replace("PORT", &upstream.port().to_string());
    fs::write(directory.path().join("manifests/all.yaml"), manifests).unwrap();
    let (http, admin) = (free(), free());
    let socket = directory.path().join("handover.sock");
    let serves = |path: &str| Client::connect(http).ok()?.get(path).ok();

    let mut running = Gateway::start(directory.path(), http, admin);
    until("the first serves", || {
        serves("/").filter(|a| a.0.contains("200"))
    });
    until("it waits for a successor", || socket.exists().then_some(()));
    let mode = fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // One exchange of the first process, which it finishes when it has been replaced.
    let slow = thread::spawn(move || Client::connect(http).unwrap().get("/slow").unwrap());
    arrived.recv_timeout(PATIENCE).unwrap();
    let load = Load::start(http);
    load.goes_on(200);
    let mut first = None;
    for round in 0..5 {
        let inode = |path: &Path| {
            use std::os::unix::fs::MetadataExt;
            fs::metadata(path).map(|m| m.ino()).ok()
        };
        let before = inode(&socket);
        let next = Gateway::start(directory.path(), http, admin);
        let old = std::mem::replace(&mut running, next);
        until("the next one waits for its successor", || {
            inode(&socket).filter(|now| Some(*now) != before)
        });
        match round {
            0 => first = Some(old),
            _ => {
                let mut old = old;
                assert!(old.ended().success());
                old.says("handed_over");
                running.says("taken_over");
            }
        }
        load.goes_on(200);
    }
    load.end();
    go.send(()).unwrap();
    let (status, body, goes_on) = slow.join().unwrap();
    assert!(status.contains("200") && !goes_on, "{status}");
    assert_eq!(body, b"slow");
    assert!(first.unwrap().ended().success());
    let (ready, _, _) = Client::connect(admin).unwrap().get("/readyz").unwrap();
    assert!(ready.contains("200"), "the admin port went along: {ready}");
}

#[test]
fn a_successor_that_does_not_come_to_serve_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let manifests = directory.path().join("manifests");
    fs::create_dir(&manifests).unwrap();
    let text = MANIFESTS.replace("PORT", "1");
    fs::write(manifests.join("all.yaml"), text).unwrap();
    let (http, admin) = (free(), free());
    let socket = directory.path().join("handover.sock");
    let mut running = Gateway::start(directory.path(), http, admin);
    until("it waits for a successor", || socket.exists().then_some(()));
    until("it serves", || Client::connect(http).ok());
    let load = Load::start(http);
    load.goes_on(50);
    // One dies on its way, and one has the sockets when it goes.
    let mut next = Gateway::start(directory.path(), http, admin);
    next.child.kill().unwrap();
    assert!(!next.ended().success());
    load.goes_on(100);
    let taken = handover::take(&socket).unwrap().unwrap();
    assert!(taken.sockets.contains_key(&http));
    load.goes_on(100);
    drop(taken);
    running.says("handover_not_finished");
    load.goes_on(100);
    assert!(running.child.try_wait().unwrap().is_none());
    load.end();
}

#[test]
fn sockets_that_were_passed_outlive_the_process_and_refuse_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let manifests = directory.path().join("manifests");
    fs::create_dir(&manifests).unwrap();
    fs::write(manifests.join("all.yaml"), MANIFESTS.replace("PORT", "1")).unwrap();
    // Bound as the service manager does it: nobody else can bind the address, on any thread.
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    for _ in 0..3 {
        // It comes before the process does.
        let mut early = Client::connect(address).unwrap();
        let asked = thread::spawn(move || early.get("/").unwrap());
        let mut gateway = activated(directory.path(), &socket, free());
        let (status, body, _) = asked.join().unwrap();
        assert!(status.contains("200"), "{status}");
        assert_eq!(body, b"hello");
        let load = Load::start(address);
        load.goes_on(50);
        load.end();
        let id = gateway.child.id().to_string();
        assert!(Command::new("kill").arg(id).status().unwrap().success());
        assert!(gateway.ended().success());
        gateway.says("socket_passed");
    }
}

#[test]
fn a_signal_lets_exchanges_finish_and_a_second_one_does_not_wait() {
    let directory = tempfile::tempdir().unwrap();
    let manifests = directory.path().join("manifests");
    fs::create_dir(&manifests).unwrap();
    let (upstream, go, arrived) = slow_upstream();
    let text = MANIFESTS.replace("PORT", &upstream.port().to_string());
    fs::write(manifests.join("all.yaml"), text).unwrap();
    let (http, admin) = (free(), free());
    let mut running = Gateway::start(directory.path(), http, admin);
    let ready = || Some(Client::connect(admin).ok()?.get("/readyz").ok()?.0);
    until("it is ready", || ready().filter(|s| s.contains("200")));
    let slow = thread::spawn(move || Client::connect(http).unwrap().get("/slow"));
    arrived.recv_timeout(PATIENCE).unwrap();
    let id = running.child.id().to_string();
    let signal = || assert!(Command::new("kill").arg(&id).status().unwrap().success());
    signal();
    until("it is no longer ready", || {
        ready().filter(|s| s.contains("503"))
    });
    assert!(running.child.try_wait().unwrap().is_none(), "it waits");
    let begun = Instant::now();
    signal();
    assert!(running.ended().success());
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "not for the drain's 30 s"
    );
    assert!(slow.join().unwrap().is_err(), "its exchange was cut");
    drop(go);
}

/// Every request takes two descriptors, of the client and of the upstream; the last sixteen are no client's.
#[test]
fn clients_leave_descriptors_for_the_admin_port() {
    const START: &str = r#"ulimit -n 96; exec "$0" "$@""#;
    let directory = tempfile::tempdir().unwrap();
    let up = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = up.local_addr().unwrap().port().to_string();
    fs::create_dir(directory.path().join("manifests")).unwrap();
    let manifests = MANIFESTS.replace("PORT", &port);
    fs::write(directory.path().join("manifests/all.yaml"), manifests).unwrap();
    let (http, admin) = (free(), free());
    let mut command = Command::new("sh");
    command.args(["-c", START, env!("CARGO_BIN_EXE_diolkos"), "run"]);
    command.arg(directory.path().join("manifests"));
    command.args(["--http", &http.to_string()]);
    command.args(["--admin", &admin.to_string(), "--threads", "1"]);
    let gateway = Gateway::logged(&mut command);
    let get = |address, path| Client::connect(address).ok()?.get(path).ok();
    until("it serves", || get(http, "/"));

    let mut held = Vec::new();
    let refused = loop {
        let mut client = Client::connect(http).unwrap();
        client
            .input
            .get_mut()
            .write_all(b"GET /slow HTTP/1.1\r\nHost: t\r\n\r\n")
            .unwrap();
        // It is either refused at once, or forwarded.
        up.set_nonblocking(true).unwrap();
        client
            .input
            .get_mut()
            .set_read_timeout(Some(Duration::from_millis(5)))
            .unwrap();
        let end = until("an end of it", || {
            if let Ok((upstream, _)) = up.accept() {
                return Some(Ok(upstream));
            }
            let mut line = String::new();
            let read = client.input.read_line(&mut line);
            read.is_ok().then_some(Err(line))
        });
        match end {
            Ok(upstream) => held.push((client, upstream)),
            Err(line) => break line,
        }
    };
    assert_eq!(refused, "HTTP/1.1 503 Service Unavailable\r\n");
    gateway.says("descriptors");
    let refusals = |reason: &str| {
        let (_, page, _) = get(admin, "/metrics").unwrap();
        let page = String::from_utf8(page).unwrap();
        let name = format!("diolkos_connections_refused_total{{reason=\"{reason}\"}} ");
        let value = page.lines().find_map(|line| line.strip_prefix(&*name));
        value.unwrap().to_owned()
    };
    assert_eq!(
        (refusals("fds").as_str(), refusals("global_cap").as_str()),
        ("1", "0")
    );
    drop(held);
    until("it serves again", || {
        get(http, "/").filter(|(status, ..)| status.contains(" 200 "))
    });
}

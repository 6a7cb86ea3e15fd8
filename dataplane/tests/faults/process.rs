//! The data plane as a process of its own, whose memory is nobody else's. It serves a last-good copy; no controller
//! answers.

use super::rig::memory_of;
use super::support::plane::snapshot;
use super::support::{Answer, Client, PATIENCE, becomes};
use diolkos_dataplane::keep::Keep;
use model::Model;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub struct Process {
    child: Child,
    pub address: SocketAddr,
    admin: SocketAddr,
    _state: tempfile::TempDir,
}

impl Process {
    pub fn start(model: &Model) -> Self {
        let state = tempfile::tempdir_in("/dev/shm").unwrap();
        let (mut keep, _) = Keep::open(state.path(), None).unwrap();
        keep.append(&snapshot(model)).unwrap();
        drop(keep);
        let (address, admin) = (free(), free());
        let child = Command::new(env!("CARGO_BIN_EXE_diolkos-dataplane"))
            .args(["--controller", "http://127.0.0.1:1", "--threads", "2"])
            .arg("--state-dir")
            .arg(state.path())
            .args(["--http", &address.to_string()])
            .args(["--admin", &admin.to_string()])
            .env("RUST_LOG", "error")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let this = Self {
            child,
            address,
            admin,
            _state: state,
        };
        let begun = Instant::now();
        while TcpStream::connect(address)
            .and_then(|_| TcpStream::connect(admin))
            .is_err()
        {
            assert!(begun.elapsed() < PATIENCE, "it does not start");
            std::thread::sleep(Duration::from_millis(5));
        }
        this
    }

    pub fn ask(&self, path: &str) -> Answer {
        Client::connect(self.admin).get(path)
    }

    pub fn metric_becomes(&self, line: &str, value: f64) {
        becomes(line, value, || {
            let page = String::from_utf8(self.ask("/metrics").body).unwrap();
            let found = page
                .lines()
                .find_map(|l| l.strip_prefix(line)?.trim().parse().ok());
            found.unwrap_or(0.0)
        });
    }

    /// Waits until the allocator has given back what is not needed.
    pub fn memory_becomes_at_most(&self, kib: i64) {
        let begun = Instant::now();
        while self.memory() > kib {
            let memory = self.memory();
            assert!(begun.elapsed() < PATIENCE, "{memory} KiB, not {kib}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Anonymous memory in KiB.
    pub fn memory(&self) -> i64 {
        memory_of(&self.child.id().to_string())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

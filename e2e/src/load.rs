//! Steady load from the side: requests at a fixed rate while a test changes things, and a count of those that went wrong.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::client::{Answer, Connection, Request};
use crate::gateway::eventually;

/// Connections, each with its own thread.
const CONNECTIONS: u32 = 4;
/// Requests in a second, over all connections.
const RATE: u32 = 200;
/// Requests after which a connection is given up for a new one, so that accepting is under load too.
const PER_CONNECTION: usize = 50;
/// Failures kept for the report.
const KEPT: usize = 5;

/// Load that runs until it is stopped.
pub struct Load {
    stop: Arc<AtomicBool>,
    outcome: Arc<Mutex<Outcome>>,
    threads: Vec<JoinHandle<()>>,
}

/// What is wrong with an answer.
type Check = dyn Fn(&Answer) -> Option<String> + Send + Sync;

#[derive(Default)]
struct Outcome {
    sent: usize,
    failed: usize,
    examples: Vec<String>,
}

impl Load {
    /// Send GETs for `http://host/target`; every answer must have status 200. Requests are due at fixed times: one that is late
    /// because its predecessor was slow is sent at once, never left out.
    pub fn start(address: SocketAddr, host: &str, target: &str) -> Self {
        Self::checked(address, host, target, |_| None)
    }

    /// The same with a further check, which says what is wrong with an answer of status 200.
    pub fn checked(
        address: SocketAddr,
        host: &str,
        target: &str,
        check: impl Fn(&Answer) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let outcome = Arc::new(Mutex::new(Outcome::default()));
        let check: Arc<Check> = Arc::new(check);
        let request = Request {
            method: "GET".into(),
            host: host.into(),
            target: target.into(),
            ..Request::default()
        };
        let threads = (0..CONNECTIONS)
            .map(|_| {
                let (stop, outcome, request) =
                    (Arc::clone(&stop), Arc::clone(&outcome), request.clone());
                let check = Arc::clone(&check);
                std::thread::spawn(move || drive(address, &request, &*check, &stop, &outcome))
            })
            .collect();
        Self {
            stop,
            outcome,
            threads,
        }
    }

    /// Requests answered or failed so far.
    pub fn sent(&self) -> usize {
        lock(&self.outcome).sent
    }

    /// Wait until so many further requests have been answered or failed.
    pub fn pass(&self, requests: usize) -> Result<()> {
        let from = self.sent();
        eventually(|| {
            ensure!(self.sent() >= from + requests, "the load stands still");
            Ok(())
        })
    }

    /// End the load. An error when a single request failed.
    pub fn finish(mut self) -> Result<usize> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in std::mem::take(&mut self.threads) {
            ensure!(thread.join().is_ok(), "a load thread panicked");
        }
        let outcome = lock(&self.outcome);
        ensure!(outcome.sent > 0, "no request was sent");
        ensure!(
            outcome.failed == 0,
            "{} of {} requests failed, such as: {}",
            outcome.failed,
            outcome.sent,
            outcome.examples.join("; ")
        );
        Ok(outcome.sent)
    }
}

/// A case that fails leaves no load behind for the next one.
impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn lock(outcome: &Mutex<Outcome>) -> std::sync::MutexGuard<'_, Outcome> {
    outcome
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn drive(
    address: SocketAddr,
    request: &Request,
    check: &Check,
    stop: &AtomicBool,
    outcome: &Mutex<Outcome>,
) {
    let interval = Duration::from_secs(1) * CONNECTIONS / RATE;
    let begun = Instant::now();
    let mut due = begun;
    let mut connection: Option<(Connection, usize)> = None;
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        due += interval;
        let result = one(address, request, &mut connection);
        let mut outcome = lock(outcome);
        outcome.sent += 1;
        if let Some(failure) = match result {
            Ok(answer) if answer.status == 200 => check(&answer),
            Ok(answer) => Some(format!(
                "status {} {}",
                answer.status,
                String::from_utf8_lossy(&answer.body)
            )),
            Err(e) => Some(format!("{e:#}")),
        } {
            outcome.failed += 1;
            if outcome.examples.len() < KEPT {
                let after = begun.elapsed().as_secs_f32();
                outcome
                    .examples
                    .push(format!("after {after:.1} s {failure}"));
            }
        }
    }
}

fn one(
    address: SocketAddr,
    request: &Request,
    connection: &mut Option<(Connection, usize)>,
) -> Result<Answer> {
    let (mut open, used) = match connection.take() {
        Some(kept) => kept,
        None => (Connection::open(address)?, 0),
    };
    let answer = open.send(request)?;
    if answer.keep_alive && used + 1 < PER_CONNECTION {
        *connection = Some((open, used + 1));
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::echo::Server;

    fn backend() -> SocketAddr {
        let server = Server::bind("b", "127.0.0.1:0").unwrap();
        let address = server.address().unwrap();
        std::thread::spawn(move || server.run());
        address
    }

    fn run(target: &str) -> Result<usize> {
        let load = Load::start(backend(), "h", target);
        while load.sent() < 60 {
            std::thread::yield_now();
        }
        load.finish()
    }

    #[test]
    fn good_answers_are_counted_and_one_bad_answer_is_an_error() {
        assert!(run("/").unwrap() >= 60);
        assert!(
            run("/status/503")
                .unwrap_err()
                .to_string()
                .contains("status 503")
        );
    }
}

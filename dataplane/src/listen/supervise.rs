//! A worker that falls is started anew on its thread, with its listeners. Its connections are lost; those of other threads
//! do not notice.

use super::SharedByWorkers;
use super::worker::{Command, Estate, Worker};
use crate::engine::Service;
use futures_util::FutureExt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::SyncSender;
use std::time::Duration;
use tokio::runtime::{LocalOptions, LocalRuntime};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Before the next worker accepts, after the first fall; twice as long after each further one.
const PAUSE: Duration = Duration::from_millis(100);
/// At most.
const LONGEST: Duration = Duration::from_secs(5);
/// A worker that ran so long had not fallen because of what let the one before it fall.
const WELL: Duration = Duration::from_secs(60);

/// Runs workers until one ends as it should. What is sent to `started` says whether there is a first one.
pub(super) fn run<S: Service>(
    shared: &Arc<SharedByWorkers>,
    commands: mpsc::Receiver<Command>,
    make: impl Fn() -> S,
    started: &SyncSender<io::Result<()>>,
) {
    let mut estate = Estate::new(commands);
    let mut runtime = match runtime() {
        Ok(runtime) => runtime,
        // Whoever starts workers waits for this.
        Err(error) => return drop(started.send(Err(error))),
    };
    let _ = started.send(Ok(()));
    let mut pause = Duration::ZERO;
    loop {
        let begun = Instant::now();
        let worker = async {
            Worker::new(Arc::clone(shared), make(), begun + pause)
                .run(&mut estate)
                .await
        };
        let ended = runtime.block_on(AssertUnwindSafe(worker).catch_unwind());
        // What is left of its connections ends here, and may panic once more.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(runtime)));
        if matches!(ended, Ok(Ok(()))) {
            return;
        }
        shared.counters.panics.fetch_add(1, Relaxed);
        if begun.elapsed() >= WELL {
            pause = Duration::ZERO;
        }
        pause = (pause * 2).clamp(PAUSE, LONGEST);
        tracing::error!(
            event = "worker_restarted",
            pause_ms = pause.as_millis() as u64,
            "a worker has panicked, its connections are lost; it is started anew"
        );
        if estate.is_draining() {
            return;
        }
        runtime = loop {
            match self::runtime() {
                Ok(runtime) => break runtime,
                Err(error) => {
                    tracing::error!(event = "worker_not_started", %error, "no runtime for a worker");
                    std::thread::sleep(pause);
                }
            }
        };
    }
}

/// A runtime whose tasks are bound to their thread cannot be made elsewhere and handed over. It spares every wake-up the
/// way through a LocalSet, which polls its root future each time.
fn runtime() -> io::Result<LocalRuntime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
}

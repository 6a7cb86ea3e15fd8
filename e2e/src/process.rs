//! Child processes that end with the test, and waiting for what they print.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// Lines kept of one stream; a process that says more keeps its newest.
const KEPT_LINES: usize = 20_000;

/// The lines that a process printed on one stream so far.
#[derive(Clone, Default)]
pub struct Lines {
    shared: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    lines: std::collections::VecDeque<String>,
    ended: bool,
}

impl Lines {
    fn collect(from: impl Read + Send + 'static) -> Self {
        let lines = Self::default();
        let shared = Arc::clone(&lines.shared);
        std::thread::spawn(move || {
            for line in BufReader::new(from).lines() {
                let Ok(line) = line else { break };
                let mut state = lock(&shared.0);
                if state.lines.len() == KEPT_LINES {
                    state.lines.pop_front();
                }
                state.lines.push_back(line);
                shared.1.notify_all();
            }
            lock(&shared.0).ended = true;
            shared.1.notify_all();
        });
        lines
    }

    /// The first thing that `find` makes of a line, waiting for it until the deadline or the end of the stream.
    pub fn wait<T>(&self, limit: Duration, mut find: impl FnMut(&str) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + limit;
        let mut state = lock(&self.shared.0);
        loop {
            if let Some(found) = state.lines.iter().find_map(|l| find(l)) {
                return Some(found);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            if state.ended {
                return None;
            }
            state = self
                .shared
                .1
                .wait_timeout(state, left)
                .map_or_else(|e| e.into_inner().0, |(s, _)| s);
        }
    }

    /// Everything printed so far.
    pub fn all(&self) -> Vec<String> {
        lock(&self.shared.0).lines.iter().cloned().collect()
    }

    /// The last lines, for an error message.
    pub fn tail(&self, count: usize) -> String {
        let lines = self.all();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A child process, killed and reaped when dropped.
pub struct Process {
    child: Child,
    /// Its standard output.
    pub stdout: Lines,
    /// Its standard error.
    pub stderr: Lines,
}

impl Process {
    /// Start a command with both output streams collected.
    pub fn start(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", command.get_program().display()))?;
        let stdout = child.stdout.take().context("no stdout")?;
        let stderr = child.stderr.take().context("no stderr")?;
        Ok(Self {
            child,
            stdout: Lines::collect(stdout),
            stderr: Lines::collect(stderr),
        })
    }

    /// Whether it still runs.
    pub fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already gone is fine: the test reports that, not the clean-up.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program of this workspace, built beside the running test.
pub fn program(name: &str) -> Result<PathBuf> {
    let exe = std::env::current_exe()?;
    let dir = exe
        .parent()
        .and_then(Path::parent)
        .context("the test does not lie in a cargo target directory")?;
    // The test itself lies in `deps/`, a program started by `cargo run` one level up.
    let candidates = [dir.join(name), exe.with_file_name(name)];
    match candidates.iter().find(|p| p.is_file()) {
        Some(found) => Ok(found.clone()),
        None => bail!(
            "{} is not built: cargo build --workspace --bins",
            candidates[0].display()
        ),
    }
}

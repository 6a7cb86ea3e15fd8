//! What this process logs, for tests that look for a line of theirs.

use std::collections::VecDeque;
use std::io;
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};
use tracing::Level;

/// Lines that are kept; the oldest go first.
const KEPT: usize = 10_000;
const PATIENCE: Duration = Duration::from_secs(20);

static LINES: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());

struct Kept;

impl io::Write for Kept {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == KEPT {
            lines.pop_front();
        }
        lines.push_back(String::from_utf8_lossy(line).into_owned());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// From now on; to be called before what is looked for happens.
pub fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let lines = tracing_subscriber::fmt().json().flatten_event(true);
        lines
            .with_max_level(Level::INFO)
            .with_writer(|| Kept)
            .init();
    });
}

/// How many lines of an event have been written that have these parts.
pub fn count(event: &str, parts: &[&str]) -> usize {
    let event = format!(r#""event":"{event}""#);
    let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    let of_it = |line: &&String| line.contains(&event) && parts.iter().all(|p| line.contains(p));
    lines.iter().filter(of_it).count()
}

/// Waits for one.
pub fn come(event: &str, parts: &[&str]) {
    let begun = Instant::now();
    while count(event, parts) == 0 {
        let more = begun.elapsed() < PATIENCE;
        assert!(more, "no line of {event} with {parts:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

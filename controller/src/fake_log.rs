//! What is logged on the thread of a test.

use std::io::{self, Write};
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;
use tracing::Dispatch;
use tracing::subscriber::{DefaultGuard, NoSubscriber, set_default};
use tracing_subscriber::EnvFilter;

/// As long as there is only one subscriber, each place that logs asks the thread that comes there first whether anybody wants
/// its lines, and keeps to that: a test beside this one has none.
static ANOTHER: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(NoSubscriber::default()));

/// Takes what passes a filter, until it is dropped.
pub(crate) struct FakeLog {
    text: Text,
    _taking: DefaultGuard,
}

#[derive(Clone, Default)]
struct Text(Arc<Mutex<Vec<u8>>>);

impl Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl FakeLog {
    pub(crate) fn taking(filter: &str) -> Self {
        LazyLock::force(&ANOTHER);
        let text = Text::default();
        let written = text.clone();
        let lines = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(filter))
            .with_ansi(false)
            .without_time()
            .with_writer(move || written.clone())
            .finish();
        let taking = set_default(lines);
        Self {
            text,
            _taking: taking,
        }
    }

    /// The lines since the last call.
    pub(crate) fn lines(&self) -> Vec<String> {
        let text = std::mem::take(&mut *self.text.0.lock());
        let text = String::from_utf8(text).unwrap();
        text.lines().map(|line| line.trim().to_owned()).collect()
    }
}

//! What is told of a panic, and who ends after it. In a process of its own: its hook is the process's.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use diolkos_controller::metrics::Metrics;
use diolkos_controller::panics::{self, Parts, TRANSLATING};
use serde_json::Value;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::timeout;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// What was logged since the last call.
    fn take(&self) -> Vec<Value> {
        let text = std::mem::take(&mut *self.0.lock().unwrap());
        let lines = text.split(|byte| *byte == b'\n').filter(|l| !l.is_empty());
        lines
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    }
}

#[tokio::test]
async fn a_panic_is_told_and_ends_what_cannot_go_on() {
    let log = Log::default();
    let writer = log.clone();
    let lines = tracing_subscriber::fmt().json().flatten_event(true);
    lines.with_writer(move || writer.clone()).init();
    let metrics = Arc::new(Metrics::new().unwrap());
    panics::tell(Arc::clone(&metrics));
    let count = |place: &str| metrics.panics.with_label_values(&[place]).get();

    let translating = std::thread::Builder::new().name(TRANSLATING.into());
    let fallen = translating.spawn(|| panic!("a constant")).unwrap().join();
    assert!(fallen.is_err());
    assert_eq!((count("translate"), count("task")), (1, 0));
    let lines = log.take();
    let [line] = &lines[..] else {
        panic!("{lines:?}")
    };
    assert_eq!(
        (&line["level"], &line["event"]),
        (&"ERROR".into(), &"panic".into())
    );
    assert_eq!(
        (&line["thread"], &line["what"]),
        (&"world".into(), &"a constant".into())
    );
    assert!(line["at"].as_str().unwrap().contains("tests/panics.rs:"));

    let (parts, mut fallen) = Parts::new();
    let secret = String::from("s3cret");
    // What was put together may be anything.
    let work = async move { panic!("{secret}") };
    tokio::spawn(parts.part("status", work)).await.unwrap();
    tokio::spawn(parts.part("quiet", async {})).await.unwrap();
    tokio::spawn(parts.part("another", async { panic!() }))
        .await
        .unwrap();
    let first = timeout(Duration::from_secs(60), fallen.recv()).await;
    assert_eq!(first.unwrap(), Some("status"));
    assert_eq!((count("translate"), count("task")), (1, 2));
    let lines = log.take();
    let parts: Vec<&Value> = lines.iter().map(|line| &line["part"]).collect();
    assert_eq!(parts, ["status", "another"]);
    assert!(
        lines
            .iter()
            .all(|line| !line.to_string().contains("s3cret"))
    );
}

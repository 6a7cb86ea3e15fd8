//! When a data plane says what it thinks of its endpoints: at once after a while of silence, then not too often, and
//! only what is news.

use super::Health;
use snapshot::health::Opinions;
use snapshot::pb;
use std::future;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// Between two reports.
const PACE: Duration = Duration::from_millis(200);

/// Of one stream; its first report is what it thinks when the stream begins.
pub(super) struct Reports<'a> {
    health: Option<(&'a dyn Health, watch::Receiver<u64>)>,
    /// When the next one may be sent.
    due: Instant,
    said: Opinions,
}

impl<'a> Reports<'a> {
    /// `None`: nothing is ever said, or taken.
    pub(super) fn new(health: Option<&'a dyn Health>) -> Self {
        let health = health.map(|health| {
            let mut changes = health.changes();
            changes.mark_changed();
            (health, changes)
        });
        Self {
            health,
            due: Instant::now(),
            said: Opinions::default(),
        }
    }

    /// The next report, when there is one. It may be asked for anew at any time.
    pub(super) async fn next(&mut self) -> pb::HealthReport {
        let Some((health, changes)) = &mut self.health else {
            return future::pending().await;
        };
        loop {
            sleep_until(self.due).await;
            if changes.changed().await.is_err() {
                return future::pending().await;
            }
            self.due = Instant::now() + PACE;
            let opinions = health.opinions();
            if opinions == self.said {
                continue;
            }
            let report = pb::HealthReport {
                upstreams: opinions.to_wire(),
                omitted: opinions.omitted(),
            };
            self.said = opinions;
            return report;
        }
    }

    pub(super) fn take(&self, verdicts: &pb::Verdicts) {
        if let Some((health, _)) = &self.health {
            health.take(verdicts);
        }
    }
}

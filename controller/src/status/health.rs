//! Which statuses change because endpoints work no longer, or again: told to the queue at once, then not too often.

use super::Queue;
use crate::health::Change;
use crate::watch::handle::WorldHandle;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// No status is written more often for this.
const PACE: Duration = Duration::from_secs(5);
/// Beyond this it is cheaper to look at all objects.
const MAX: usize = 4096;

/// Upstreams of whose endpoints something has become known since the last round.
#[derive(Default)]
pub struct HealthNews {
    upstreams: Mutex<BTreeSet<Arc<str>>>,
    wake: Notify,
}

impl HealthNews {
    pub fn note(&self, changes: &[Change]) {
        let mut upstreams = self.upstreams.lock();
        // One more than there is room for says that all are meant.
        let all = changes.iter().map(|c| Arc::clone(&c.upstream));
        for upstream in all {
            if upstreams.len() <= MAX {
                upstreams.insert(upstream);
            }
        }
        self.wake.notify_one();
    }

    /// Asks for the statuses to be looked at, until `stop`.
    pub async fn run(
        self: Arc<Self>,
        world: WorldHandle,
        queue: Arc<Queue>,
        stop: CancellationToken,
    ) {
        let work = async {
            loop {
                self.wake.notified().await;
                let upstreams = std::mem::take(&mut *self.upstreams.lock());
                if upstreams.len() > MAX {
                    queue.push_all();
                } else {
                    queue.push(world.depend_on(upstreams).await);
                }
                sleep(PACE).await;
            }
        };
        stop.run_until_cancelled(work).await;
    }
}

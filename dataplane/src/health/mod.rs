//! What happens to endpoints by the clock: ejections end, new ones warm up, and where an upstream wants that they are
//! checked. Tasks of the background runtime; they sleep until something is due or an upstream has news.

mod active;
mod check;
mod link;

use crate::table::Registry;
use crate::table::pick::now;
use active::Checkers;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

/// Looks after the endpoints of a registry as long as the runtime lives.
pub(crate) fn start(runtime: &Handle, registry: Arc<Registry>) {
    runtime.spawn(async move {
        let mut checkers = Checkers::default();
        loop {
            let now = now();
            let upstreams = registry.all();
            let due = upstreams.iter().filter_map(|u| u.refresh(now)).min();
            checkers.follow(&upstreams, &registry);
            drop(upstreams);
            // An ejection may have begun or ended.
            registry.common.health.changed();
            let news = registry.common.changed.notified();
            match due {
                None => news.await,
                Some(due) => {
                    let wait = Duration::from_millis(due.saturating_sub(now).max(1));
                    let _ = tokio::time::timeout(wait, news).await;
                }
            }
        }
    });
}

//! The connection for one attempt at an upstream.

use super::Proxy;
use crate::engine::{Down, H1Up, Keep, PoolKey, UpFault};
use crate::table::{Picked, Upstream};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Instant;

impl Proxy {
    /// `fresh`: an idle connection is most likely stale.
    pub(super) async fn connect<D: Down>(
        &self,
        down: &mut D,
        upstream: &Upstream,
        picked: &Picked,
        fresh: bool,
        limit: Duration,
    ) -> Result<H1Up<TcpStream>, UpFault> {
        let key = PoolKey {
            address: picked.addr,
            tls: 0,
        };
        if !fresh && let Some(up) = self.pool.take(key) {
            return Ok(up);
        }
        let begun = Instant::now();
        let kept = &upstream.settings.connection;
        let keep = Keep {
            connections: usize::try_from(kept.pool_size).unwrap_or(usize::MAX),
            idle: Duration::from_millis(kept.pool_idle_ms.into()),
        };
        let up = self.pool.connect(key, keep, limit, down.timer()).await?;
        self.shared
            .metrics
            .connect_seconds
            .observe(begun.elapsed().as_secs_f64());
        Ok(up)
    }
}

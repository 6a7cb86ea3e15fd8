//! The connection for one attempt at an upstream.

use super::Proxy;
use super::forward::Request;
use crate::engine::{AnyUp, Connected, Down, UpFault, proxy_header};
use crate::table::{Picked, Upstream};
use std::time::Duration;
use tokio::time::Instant;

impl Proxy {
    /// `fresh`: an idle connection is most likely stale.
    pub(super) async fn connect<D: Down>(
        &self,
        down: &mut D,
        upstream: &Upstream,
        picked: &Picked,
        request: &Request<'_>,
        fresh: bool,
        limit: Duration,
    ) -> Result<AnyUp, UpFault> {
        let wire = &upstream.wire;
        let preface = match wire.proxy {
            None => Vec::new(),
            Some(version) => proxy_header::write(version, request.client, request.local),
        };
        let upgrade = request.head.upgrade.is_some();
        let want = wire.want(picked.addr, &preface, upgrade, fresh, request.shows)?;
        if let Some(up) = self.connections.idle_h1(&want) {
            return Ok(up);
        }
        let begun = Instant::now();
        let Connected { up, opened } = self.connections.connect(&want, limit, down.timer()).await?;
        if opened {
            let took = begun.elapsed().as_secs_f64();
            self.shared.metrics.connect_seconds.observe(took);
        }
        Ok(up)
    }
}

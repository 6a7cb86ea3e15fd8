//! The connection for one attempt at an upstream.

use super::Proxy;
use super::forward::Request;
use crate::engine::{
    AnyUp, Connected, Down, DownFault, Fault, RequestHead, Tunnel, proxy_header, websocket,
};
use crate::h1::Reject;
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
    ) -> Result<AnyUp, Fault> {
        let wire = &upstream.wire;
        let preface = match wire.proxy {
            None => Vec::new(),
            Some(version) => proxy_header::write(version, request.client, request.local),
        };
        let tunnel = Tunnel::of(request.head);
        let want = wire.want(picked.addr, &preface, tunnel, fresh, request.shows)?;
        if let Some(up) = self.connections.idle_h1(&want) {
            return Ok(up);
        }
        let begun = Instant::now();
        let Connected { up, opened } = self.connections.connect(&want, limit, down.timer()).await?;
        if opened {
            let took = begun.elapsed().as_secs_f64();
            self.shared.metrics.connect_seconds.observe(took);
        }
        check_websocket(&up, request.head)?;
        Ok(up)
    }
}

/// A WebSocket is nothing without its tunnel: other protocols may be left out, as HTTP allows. Over HTTP/2 its key goes
/// no further, so that it is looked at here.
fn check_websocket(up: &AnyUp, head: &RequestHead) -> Result<(), Fault> {
    if !up.is_h2() || !websocket::is_asked_for(head) {
        return Ok(());
    }
    if !up.takes_tunnel() {
        return Err(Fault::NoTunnel);
    }
    if websocket::key_of(head).is_none() {
        let reject = Reject::bad_request("key of a WebSocket is not valid");
        return Err(Fault::Down(DownFault::Reject(reject)));
    }
    Ok(())
}

//! Where an attempt goes: the request made one for its backend, and how long it may take.

use super::Proxy;
use super::affinity::hash_of;
use super::fail::{self, Failure};
use super::forward::Request;
use super::retry::Retries;
use crate::engine::{PaceLimits, Timeouts};
use crate::table::{Backend, Rule, Upstream};
use model::limits;
use plugins::Side;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Where an attempt goes.
pub(super) struct Aim<'a> {
    pub backend: Backend<'a>,
    pub upstream: &'a Arc<Upstream>,
    /// Of what the upstream's policy hashes.
    pub hash: Option<u64>,
    /// With the limit of one attempt as the total.
    pub timeouts: Timeouts,
}

impl Proxy {
    /// Makes the request one for this backend.
    pub(super) fn aim<'a>(
        &self,
        request: &mut Request<'_>,
        backend: Backend<'a>,
    ) -> Result<Aim<'a>, Failure> {
        let upstream = backend.upstream.ok_or(fail::INVALID_BACKEND)?;
        // What clients send is hashed, not what it is rewritten to.
        let hash = hash_of(upstream, request.head, request.client.ip());
        self.address_to(request, &backend, upstream)
            .map_err(|_| fail::INTERNAL_ERROR)?;
        Ok(Aim {
            backend,
            upstream,
            hash,
            timeouts: timeouts(request.rule, upstream),
        })
    }

    /// Rewrites the target and host, and makes the header edits of rule and backend.
    fn address_to(
        &self,
        request: &mut Request<'_>,
        backend: &Backend<'_>,
        upstream: &Upstream,
    ) -> Result<(), model::headers::InvalidHeader> {
        let Request {
            head,
            rule,
            prefix_len,
            ..
        } = request;
        let mut room = self.scratch.take();
        let host = head.host.name();
        let path = head.target.path();
        if let Some(path) = rule.target(host, path, None, *prefix_len, upstream, &mut room) {
            head.target.set_path(path);
        }
        self.scratch.replace(room);
        if let Some(host) = rule.host(head.host.name(), upstream) {
            head.headers.set("host", host.as_bytes())?;
        }
        let chain = rule.chain();
        if chain.buffers(Side::Response).is_some() || chain.streams(Side::Response) {
            // A body that a plugin reads must come as it is.
            head.headers.remove("accept-encoding");
        }
        rule.request_headers().apply(&mut head.headers)?;
        backend.request_headers.apply(&mut head.headers)?;
        for credential in &upstream.settings.credentials {
            head.headers
                .set(&credential.name, credential.value.reveal())?;
        }
        Ok(())
    }
}

/// The rule's timeouts; its connect timeout gives way to the upstream's, and that to the default.
fn timeouts(rule: &Rule, upstream: &Upstream) -> Timeouts {
    let t = rule.timeouts();
    let ms = |ms: u32| Duration::from_millis(ms.into());
    let connect = match (t.connect_ms, upstream.settings.connect_ms) {
        (0, 0) => limits::CONNECT,
        (0, own) => ms(own),
        (rule, _) => ms(rule),
    };
    Timeouts {
        connect,
        first_byte: ms(t.first_byte_ms),
        stream_idle: ms(t.stream_idle_ms),
        first_event: ms(t.first_event_ms),
        head: None,
        total: (t.backend_request_ms > 0).then(|| ms(t.backend_request_ms)),
        pace: PaceLimits::default(),
    }
}

/// The timeouts of an attempt that begins now; `None`: there is no time left.
pub(super) fn within(timeouts: Timeouts, retries: &Retries<'_>) -> Option<Timeouts> {
    let left = match retries.due.at {
        None => None,
        Some(at) => Some(at.checked_duration_since(Instant::now())?),
    };
    let total = [timeouts.total, left].into_iter().flatten().min();
    let head = retries.per_try();
    let connect = [Some(timeouts.connect), total, head]
        .into_iter()
        .flatten()
        .min();
    Some(Timeouts {
        connect: connect.unwrap_or(timeouts.connect),
        head,
        total,
        ..timeouts
    })
}

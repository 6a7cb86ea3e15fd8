//! How connections are kept, and how much may be under way.

use super::super::lowering::Lowering;
use crate::report::Reason;
use model::{CircuitBreaker, Concurrency, Connection, ProxyProtocol, UpstreamProtocol};

/// Connections, requests and waiting requests (`circuitBreaker`).
const UNDER_WAY: u32 = 1024;
/// How long a request waits for its turn (`concurrency.queue.timeout`).
const QUEUE_TIMEOUT_MS: u32 = 5_000;
/// The most that any of these bounds may say.
const MOST: u32 = 1_000_000;

impl Lowering<'_> {
    pub(super) fn connection(&mut self, spec: &crds::Connection) -> Connection {
        let mut kept = Connection::default();
        kept.pool_size = spec.pool_size.unwrap_or(kept.pool_size);
        if let Some(idle) = &spec.idle_timeout {
            let idle = self.millis_or_never(&"spec.connection.idleTimeout", idle);
            kept.pool_idle_ms = idle.unwrap_or(kept.pool_idle_ms);
        }
        if let Some(streams) = spec.max_streams {
            let at = "spec.connection.maxStreams";
            let streams = self.in_range(&at, u32::from(streams), 1, 1000);
            kept.max_streams = streams.unwrap_or(kept.max_streams);
        }
        if let Some(keepalive) = &spec.tcp_keepalive {
            let keepalive = self.millis(&"spec.connection.tcpKeepalive", keepalive);
            kept.tcp_keepalive_ms = keepalive.unwrap_or(kept.tcp_keepalive_ms);
        }
        kept.proxy_protocol = spec.proxy_protocol.map(|version| match version {
            crds::ProxyProtocol::V1 => ProxyProtocol::V1,
            crds::ProxyProtocol::V2 => ProxyProtocol::V2,
        });
        kept
    }

    pub(super) fn breaker(
        &mut self,
        spec: &crds::CircuitBreaker,
        protocol: UpstreamProtocol,
    ) -> CircuitBreaker {
        if matches!(protocol, UpstreamProtocol::H2 | UpstreamProtocol::H2C) {
            let of_connections = [
                ("maxConnections", spec.max_connections),
                ("maxPending", spec.max_pending),
            ];
            for (name, _) in of_connections.iter().filter(|(_, given)| given.is_some()) {
                let message = "has no effect over HTTP/2, where requests share connections: maxRequests bounds them";
                self.warn(
                    format!("spec.circuitBreaker.{name}"),
                    Reason::Invalid,
                    message,
                );
            }
        }
        let mut bound = |name: &str, given: Option<u32>, least| {
            let at = format!("spec.circuitBreaker.{name}");
            let given = given.unwrap_or(UNDER_WAY);
            self.in_range(&at, given, least, MOST).unwrap_or(UNDER_WAY)
        };
        CircuitBreaker {
            max_connections: bound("maxConnections", spec.max_connections, 1),
            max_requests: bound("maxRequests", spec.max_requests, 1),
            max_pending: bound("maxPending", spec.max_pending, 0),
        }
    }

    /// `None`: no bound, or one that is switched off.
    pub(super) fn concurrency(&mut self, spec: &crds::UpstreamConcurrency) -> Option<Concurrency> {
        const FIELD: &str = "spec.concurrency";
        if spec.enabled == Some(false) {
            return None;
        }
        let max = self.in_range(&format!("{FIELD}.max"), spec.max?, 1, MOST)?;
        let mut concurrency = Concurrency {
            max,
            queue_depth: 0,
            queue_timeout_ms: QUEUE_TIMEOUT_MS,
        };
        if let Some(queue) = &spec.queue {
            let depth = self.in_range(&format!("{FIELD}.queue.depth"), queue.depth, 1, MOST);
            concurrency.queue_depth = depth.unwrap_or(0);
            if let Some(timeout) = &queue.timeout {
                let timeout = self.millis(&format!("{FIELD}.queue.timeout"), timeout);
                concurrency.queue_timeout_ms = timeout.unwrap_or(QUEUE_TIMEOUT_MS);
            }
        }
        Some(concurrency)
    }
}

//! A listener, and which hosts of a Route it serves.

use crate::engine::tls::TlsPolicy;
use crate::telemetry::access_log::Plan;
use crate::telemetry::otlp::Tracing;
use model::{HostPattern, Listener};
use std::sync::Arc;

/// What is known of one listener.
pub(super) struct ListenerState {
    pub listener: Arc<Listener>,
    pub tls: Option<TlsPolicy>,
    pub access_log: Option<Arc<Plan>>,
    pub tracing: Option<Tracing>,
}

impl ListenerState {
    /// The part of a Route's hosts that this listener lets through.
    pub(super) fn effective(&self, hosts: &[HostPattern]) -> impl Iterator<Item = HostPattern> {
        hosts
            .iter()
            .filter_map(|host| host.intersect(&self.listener.hostname))
    }
}

//! A listener, and which Routes have which of its hosts.

use super::index::Index;
use crate::engine::tls::TlsPolicy;
use crate::table::stage::Key;
use crate::telemetry::access_log::Plan;
use crate::telemetry::otlp::Tracing;
use model::{HostPattern, Listener};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What is known of one listener.
pub(super) struct ListenerState {
    pub listener: Arc<Listener>,
    pub tls: Option<TlsPolicy>,
    pub access_log: Option<Arc<Plan>>,
    pub tracing: Option<Tracing>,
    /// Routes by the hosts that they have on this listener.
    pub claims: Index<HostPattern>,
}

impl ListenerState {
    /// The part of a Route's hosts that this listener lets through.
    pub(super) fn effective(&self, hosts: &[HostPattern]) -> impl Iterator<Item = HostPattern> {
        hosts
            .iter()
            .filter_map(|host| host.intersect(&self.listener.hostname))
    }

    pub(super) fn claim(
        &mut self,
        route: &Key,
        hosts: &[HostPattern],
        dirty: &mut BTreeSet<HostPattern>,
    ) {
        let effective: Vec<_> = self.effective(hosts).collect();
        for host in effective {
            self.claims.add(&host, route);
            dirty.insert(host);
        }
    }

    pub(super) fn unclaim(
        &mut self,
        route: &Key,
        hosts: &[HostPattern],
        dirty: &mut BTreeSet<HostPattern>,
    ) {
        let effective: Vec<_> = self.effective(hosts).collect();
        for host in effective {
            self.claims.remove(&host, route);
            dirty.insert(host);
        }
    }
}

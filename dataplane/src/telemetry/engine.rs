//! What the engine tells and counts by itself, as metrics have it.

use super::Metrics;
use super::metrics::Cut;
use crate::engine::{DownFault, Event, Fault, Shortage, UpFault};
use crate::h1::{EdgeRule, Reject};
use crate::listen::ListenCounters;
use prometheus::core::{AtomicU64, GenericCounter};
use std::sync::atomic::Ordering::Relaxed;

impl Metrics {
    /// Counts what happens to connections.
    pub fn note(&self, event: Event) {
        self.connections.note(event);
        match event {
            Event::H2Budget => self.edge_rejected(EdgeRule::H2Budget),
            Event::NoProxyHeader => self.refused_proxy_protocol.inc(),
            Event::OpeningCut => self.refused_tls.inc(),
            Event::Refused(Shortage::Memory) => self.refused_memory.inc(),
            Event::Refused(Shortage::Descriptors) => self.refused_fds.inc(),
            _ => {}
        }
    }

    /// Counts a message that never became a request, or a request whose service panicked.
    pub fn refused(&self, reject: &Reject) {
        match reject.rule {
            Some(rule) => self.edge_rejected(rule),
            None => self.panics_request.inc(),
        }
        self.error(reject.code);
    }

    /// Follows what listeners have counted so far.
    pub fn follow(&self, listen: &ListenCounters) {
        let catch_up = |counter: &GenericCounter<AtomicU64>, total: u64| {
            counter.inc_by(total.saturating_sub(counter.get()));
        };
        catch_up(&self.refused_global_cap, listen.refused.load(Relaxed));
        let of_source = listen.refused_source.load(Relaxed);
        catch_up(&self.refused_source_cap, of_source);
        catch_up(&self.panics_task, listen.panics.load(Relaxed));
    }
}

impl Cut {
    /// Why an answer that had begun came to no end; `None`: a fault of ours or of a plugin.
    pub fn of(fault: &Fault) -> Option<Self> {
        Some(match fault {
            Fault::Down(DownFault::Closed | DownFault::Reject(_)) => Self::Client,
            Fault::Down(DownFault::Timeout) => Self::SlowReader,
            Fault::Up(UpFault::Timeout) | Fault::Idle => Self::Idle,
            Fault::Up(_) => Self::Upstream,
            Fault::Total => Self::Deadline,
            Fault::Aborted | Fault::Length | Fault::NoTunnel => return None,
        })
    }
}

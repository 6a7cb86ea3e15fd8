//! A port: the listeners that share it, of which each request belongs to one (Gateway API, listener isolation).

use super::ListenerTable;
use crate::by_host::ByHost;
use crate::engine::tls::{Door, TlsFronts, TlsInfo};
use model::{Listener, ListenerProtocol};
use std::sync::Arc;

/// What is served on one port.
#[derive(Clone, Debug)]
pub struct PortTable {
    /// The one that comes first: its are the requests that belong to none, and it finds no rule for them.
    lead: Arc<ListenerTable>,
    /// All of them, by position, then key.
    listeners: Box<[Arc<ListenerTable>]>,
    /// Which of them a host belongs to; `None`: there is only one.
    by_host: Option<Arc<ByHost<usize>>>,
    /// What new connections get that begin with a TLS handshake.
    pub tls: Option<TlsFronts>,
    /// Why some cannot be served beside those before them, by their place.
    refused: Vec<(usize, String)>,
}

impl PortTable {
    /// `None` without listeners. What is the same as on the port `before` is taken from there.
    pub(super) fn new(
        mut listeners: Vec<Arc<ListenerTable>>,
        before: Option<&Self>,
    ) -> Option<Self> {
        listeners.sort_by(|a, b| {
            let place = |l: &ListenerTable| (l.listener.order, Arc::clone(&l.key));
            place(a).cmp(&place(b))
        });
        let lead = Arc::clone(listeners.first()?);
        let listeners = listeners.into_boxed_slice();
        if let Some(before) = before.filter(|before| before.has_settings_of(&listeners)) {
            return Some(Self {
                lead,
                listeners,
                ..before.clone()
            });
        }
        let (mut by_host, mut refused) = (ByHost::default(), Vec::new());
        // Requests to hosts that no listener has are refused by an answer; of streams there is none.
        let mut requests = listeners.iter().filter_map(|l| match door(l) {
            Some(Door::Requests(front)) => Some(Door::Requests(front)),
            _ => None,
        });
        let (first, mut doors) = (requests.next(), ByHost::default());
        let mut has_streams = false;
        for (i, one) in listeners.iter().enumerate() {
            let hostname = &one.listener.hostname;
            if let Err(why) = share(&lead.listener, &one.listener) {
                refused.push((i, format!("port {}: {why}", one.listener.port)));
            } else if !by_host.add(hostname, i) && listeners.len() > 1 {
                let port = one.listener.port;
                refused.push((
                    i,
                    format!("port {port}: another listener has host {hostname}"),
                ));
            } else if let Some(door) = door(one) {
                has_streams |= matches!(door, Door::Stream(_));
                doors.add(hostname, door);
            }
        }
        let is_shared = listeners.len() > 1;
        let is_encrypted = lead.listener.protocol.is_encrypted();
        Some(Self {
            lead,
            listeners,
            by_host: is_shared.then(|| Arc::new(by_host)),
            tls: is_encrypted
                .then(|| TlsFronts::new(first, (is_shared || has_streams).then_some(doors))),
            refused,
        })
    }

    fn has_settings_of(&self, listeners: &[Arc<ListenerTable>]) -> bool {
        let same = |(a, b): (&Arc<ListenerTable>, &Arc<ListenerTable>)| {
            let same_front = match (&a.tls, &b.tls) {
                (None, None) => true,
                (Some(a), Some(b)) => a.is_same(b),
                _ => false,
            };
            same_front && Arc::ptr_eq(&a.listener, &b.listener)
        };
        self.listeners.len() == listeners.len() && self.listeners.iter().zip(listeners).all(same)
    }

    /// The listener that a canonical host belongs to.
    pub fn of(&self, host: &str) -> &ListenerTable {
        let Some(by_host) = &self.by_host else {
            return &self.lead;
        };
        let found = by_host.get(host).and_then(|i| self.listeners.get(*i));
        found.unwrap_or(&self.lead)
    }

    /// Whether requests to `host`, which belongs to `listener`, may come over a connection with this handshake
    /// (RFC 9110 section 7.4, GEP-3567).
    pub fn may_carry(&self, tls: &TlsInfo, listener: &ListenerTable, host: &str) -> bool {
        let of_handshake = self.of(tls.sni.as_deref().unwrap_or_default());
        let front = listener.tls.as_ref();
        std::ptr::eq(of_handshake, listener) && front.is_none_or(|f| f.is_one_for(tls, host))
    }

    /// The one by which the port is opened.
    pub fn lead(&self) -> &ListenerTable {
        &self.lead
    }

    /// Each with the reason why it is not served.
    pub fn listeners(&self) -> impl Iterator<Item = (&Arc<ListenerTable>, Option<&str>)> {
        self.listeners.iter().enumerate().map(|(i, listener)| {
            let refused = self.refused.iter().find(|(refused, _)| *refused == i);
            (listener, refused.map(|(_, why)| why.as_str()))
        })
    }
}

/// What a listener makes of a connection that begins with a TLS handshake; `None`: none does.
fn door(table: &ListenerTable) -> Option<Door> {
    match (table.listener.protocol, &table.tls) {
        (ListenerProtocol::Https, Some(front)) => Some(Door::Requests(front.clone())),
        (ListenerProtocol::Tls, front) => Some(Door::Stream(front.clone())),
        _ => None,
    }
}

/// Whether the connections of two listeners begin alike, so that they can share a port.
fn share(a: &Listener, b: &Listener) -> Result<(), &'static str> {
    if !a.protocol.may_share_with(b.protocol) {
        return Err("another protocol is spoken there");
    }
    let proxies = |l: &Listener| l.proxy_protocol.then(|| l.forwarded.trusted.clone());
    if proxies(a) != proxies(b) {
        return Err("the PROXY protocol is spoken there in another way");
    }
    Ok(())
}

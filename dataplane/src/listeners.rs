//! Which ports are open: follows the table and remembers what each listener came to.

use crate::engine::open::Opening;
use crate::engine::{ClientTimeouts, ConnConfig, EdgePolicies, HeadLimits};
use crate::listen::{ListenerConfig, Workers};
use crate::table::{PortTable, Table};
use model::{Listener, ListenerProtocol};
use snapshot::pb::ListenerState;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

/// Addresses that replace those of the configuration (`--http`, `--https`).
#[derive(Clone, Copy, Debug, Default)]
pub struct Binds {
    /// For the port of the first HTTP listener: the one with the lowest position, then key.
    pub http: Option<SocketAddr>,
    /// For the port of the first HTTPS listener.
    pub https: Option<SocketAddr>,
}

/// Opens and closes ports on the worker threads.
pub struct Listeners {
    workers: Arc<Workers>,
    runtime: Handle,
    binds: Binds,
    open: BTreeMap<Place, Open>,
}

/// A port; datagrams (`true`) have ports of their own.
type Place = (u16, bool);

/// A port that is wanted.
struct Open {
    /// What was asked for; a port for which something else is asked is opened anew.
    wanted: Wanted,
    result: Result<SocketAddr, String>,
    /// Keys of the listeners that share it, each with the reason why it is not served.
    listeners: Vec<(Arc<str>, Option<String>)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Address(SocketAddr),
    Port(u16),
}

impl Listeners {
    pub fn new(workers: Arc<Workers>, runtime: Handle, binds: Binds) -> Self {
        Self {
            workers,
            runtime,
            binds,
            open: BTreeMap::new(),
        }
    }

    /// Opens what the table has and this has not, closes what it no longer has, and tries again what could not be
    /// bound. A port stays open as long as it has listeners. Must not be called on a runtime's own thread: it waits for
    /// the workers.
    pub fn follow(&mut self, table: &Table) {
        let wanted = self.wanted(table);
        let stale: Vec<Place> = self
            .open
            .iter()
            .filter(|(place, open)| {
                open.result.is_err() || wanted.get(*place) != Some(&open.wanted)
            })
            .map(|(place, _)| *place)
            .collect();
        let mut failed = BTreeSet::new();
        for place in stale {
            let (port, is_of_datagrams) = place;
            match self.open.remove(&place).map(|open| open.result) {
                Some(Ok(address)) => {
                    self.runtime.block_on(async {
                        match is_of_datagrams {
                            true => self.workers.close_datagrams(port).await,
                            false => self.workers.close(port).await,
                        }
                    });
                    tracing::info!(event = "closed", port, address = %address, "port closed");
                }
                _ => drop(failed.insert(place)),
            }
        }
        for (place, wanted) in wanted {
            let (port, is_of_datagrams) = place;
            let (config, listeners) = match (is_of_datagrams, table.ports.get(&port)) {
                (true, _) => (None, of_datagrams(table, port)),
                (false, Some(of_port)) => {
                    let all = of_port.listeners();
                    let all =
                        all.map(|(l, refused)| (Arc::clone(&l.key), refused.map(str::to_owned)));
                    (Some(config(of_port)), all.collect())
                }
                (false, None) => continue,
            };
            if let Some(open) = self.open.get_mut(&place) {
                if let Some(config) = config {
                    self.workers.configure(port, config);
                }
                open.listeners = listeners;
                continue;
            }
            let result = self
                .runtime
                .block_on(bind(&self.workers, port, wanted, config));
            let keys: Vec<&str> = listeners.iter().map(|(key, _)| &**key).collect();
            let keys = keys.join(", ");
            match &result {
                Ok(address) => {
                    tracing::info!(event = "listening", listener = keys, address = %address, "port open");
                }
                // Said once, not with every further attempt.
                Err(error) if failed.contains(&place) => {
                    tracing::debug!(
                        event = "bind_failed",
                        listener = keys,
                        error,
                        "port cannot be opened yet"
                    );
                }
                Err(error) => {
                    tracing::error!(
                        event = "bind_failed",
                        listener = keys,
                        error,
                        "port cannot be opened"
                    );
                }
            }
            let open = Open {
                wanted,
                result,
                listeners,
            };
            self.open.insert(place, open);
        }
    }

    /// All wanted ports are open.
    pub fn are_bound(&self) -> bool {
        self.open.values().all(|o| o.result.is_ok())
    }

    /// For the acknowledgement: what each listener came to, by key.
    pub fn states(&self) -> Vec<ListenerState> {
        let of_port = |open: &Open| {
            let address = open.result.as_ref().map(ToString::to_string);
            let state = |(key, refused): &(Arc<str>, Option<String>)| {
                let error = refused.as_ref().or_else(|| open.result.as_ref().err());
                ListenerState {
                    key: key.to_string(),
                    bound: error.is_none(),
                    address: match error {
                        None => address.clone().unwrap_or_default(),
                        Some(_) => String::new(),
                    },
                    error: error.cloned().unwrap_or_default(),
                }
            };
            open.listeners.iter().map(state).collect::<Vec<_>>()
        };
        let mut states: Vec<ListenerState> = self.open.values().flat_map(of_port).collect();
        states.sort_by(|a, b| a.key.cmp(&b.key));
        states
    }

    fn wanted(&self, table: &Table) -> BTreeMap<Place, Wanted> {
        let first = |protocol| {
            let all = table.ports.values().flat_map(|port| port.listeners());
            let of_protocol = all.filter(|(l, _)| l.listener.protocol == protocol);
            let first = of_protocol.min_by_key(|(l, _)| (l.listener.order, Arc::clone(&l.key)));
            first.map(|(l, _)| l.listener.port)
        };
        let replaced = [
            (first(ListenerProtocol::Http), self.binds.http),
            (first(ListenerProtocol::Https), self.binds.https),
        ];
        let want = |port: &u16| {
            let address = replaced.iter().find(|(first, _)| *first == Some(*port));
            let wanted = match address.and_then(|(_, address)| *address) {
                Some(address) => Wanted::Address(address),
                None => Wanted::Port(*port),
            };
            ((*port, false), wanted)
        };
        let datagrams = table.datagrams.keys();
        let datagrams = datagrams.map(|port| ((*port, true), Wanted::Port(*port)));
        table.ports.keys().map(want).chain(datagrams).collect()
    }
}

/// The listeners of a port of datagrams, each with the reason why it is not served.
fn of_datagrams(table: &Table, port: u16) -> Vec<(Arc<str>, Option<String>)> {
    let first = table.datagrams.get(&port).map(|first| &first.key);
    let all = table.listeners.values().map(|table| &**table);
    let all =
        all.filter(|l| l.listener.port == port && l.listener.protocol == ListenerProtocol::Udp);
    all.map(|l| {
        let refused =
            (first != Some(&l.key)).then(|| format!("port {port}: another listener has it"));
        (Arc::clone(&l.key), refused)
    })
    .collect()
}

/// What the connections of a port may use: of caps and times that its listeners do not agree about, the strictest, because
/// a connection is no listener's before it has sent a request. In which forms requests may come is each listener's own.
fn config(of_port: &PortTable) -> ListenerConfig {
    let lead = &*of_port.lead().listener;
    let served = || {
        let served = of_port.listeners().filter(|(_, refused)| refused.is_none());
        served.map(|(table, _)| &*table.listener)
    };
    let least = |of: fn(&Listener) -> u32| served().map(of).min().unwrap_or_default();
    let ms = |of| Duration::from_millis(least(of).into());
    let size = |of| usize::try_from(least(of)).unwrap_or(usize::MAX);
    let of_requests = served().filter(|l| l.protocol.is_http());
    let edges: Vec<_> = of_requests.map(|l| (&l.hostname, l.edge)).collect();
    ListenerConfig {
        connections: size(|l| l.caps.connections),
        trusted: lead.forwarded.trusted.as_slice().into(),
        conn: ConnConfig {
            timeouts: ClientTimeouts {
                idle: ms(|l| l.keep_alive_ms),
                header: ms(|l| l.request_header_ms),
                ..ClientTimeouts::default()
            },
            requests: least(|l| l.caps.requests_per_connection),
            head: HeadLimits {
                bytes: size(|l| l.caps.header_bytes),
                fields: size(|l| l.caps.header_count),
                target: size(|l| l.caps.url_bytes),
            },
            edge: EdgePolicies::of(&edges),
            ..ConnConfig::default()
        },
        opening: Opening {
            proxy_protocol: lead
                .proxy_protocol
                .then(|| lead.forwarded.trusted.as_slice().into()),
            tls: of_port.tls.clone(),
            is_stream: lead.protocol == ListenerProtocol::Tcp,
        },
        ..ListenerConfig::default()
    }
}

/// Every address of both families, or of IPv4 alone where the machine has no IPv6. `config`: of connections; `None`: for
/// datagrams.
async fn bind(
    workers: &Workers,
    port: u16,
    wanted: Wanted,
    config: Option<ListenerConfig>,
) -> Result<SocketAddr, String> {
    let (address, fallback) = match wanted {
        Wanted::Address(address) => (address, None),
        Wanted::Port(port) => (
            SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port),
            Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)),
        ),
    };
    let describe = |address: SocketAddr, e: &io::Error| format!("cannot bind {address}: {e}");
    let open = async |address| match &config {
        Some(config) => workers.listen(port, address, config.clone()).await,
        None => workers.receive(port, address).await,
    };
    match (open(address).await, fallback) {
        (Ok(address), _) => Ok(address),
        (Err(e), Some(fallback)) if e.kind() != io::ErrorKind::AddrInUse => {
            open(fallback).await.map_err(|e| describe(fallback, &e))
        }
        (Err(e), _) => Err(describe(address, &e)),
    }
}

//! Which listeners are open: follows the table and remembers what each came to.

use crate::engine::open::Opening;
use crate::engine::{ClientTimeouts, ConnConfig, HeadLimits};
use crate::listen::{ListenerConfig, Workers};
use crate::table::{ListenerTable, Table};
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
    /// For the first HTTP listener: the one with the lowest position, then key.
    pub http: Option<SocketAddr>,
    /// For the first HTTPS listener.
    pub https: Option<SocketAddr>,
}

/// Opens and closes listeners on the worker threads.
pub struct Listeners {
    workers: Arc<Workers>,
    runtime: Handle,
    binds: Binds,
    open: BTreeMap<String, Open>,
}

struct Open {
    /// What was asked for; a listener that asks for something else is opened anew.
    wanted: Wanted,
    result: Result<SocketAddr, String>,
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
    /// bound. Must not be called on a runtime's own thread: it waits for the workers.
    pub fn follow(&mut self, table: &Table) {
        let wanted = self.wanted(table);
        let stale: Vec<String> = self
            .open
            .iter()
            .filter(|(key, open)| open.result.is_err() || wanted.get(*key) != Some(&open.wanted))
            .map(|(key, _)| key.clone())
            .collect();
        let mut failed = BTreeSet::new();
        for key in stale {
            if self.open.get(&key).is_some_and(|open| open.result.is_err()) {
                failed.insert(key.clone());
            }
            if let Some(Open {
                result: Ok(address),
                ..
            }) = self.open.remove(&key)
            {
                self.runtime.block_on(self.workers.close(&key));
                tracing::info!(event = "closed", listener = key, address = %address, "listener closed");
            }
        }
        for (key, wanted) in wanted {
            let config = table
                .listeners
                .get(&*key)
                .map(|l| config(l))
                .unwrap_or_default();
            if self.open.contains_key(&key) {
                self.workers.configure(&key, config);
                continue;
            }
            let result = self
                .runtime
                .block_on(bind(&self.workers, &key, wanted, config));
            match &result {
                Ok(address) => {
                    tracing::info!(event = "listening", listener = key, address = %address, "listener open");
                }
                // Said once, not with every further attempt.
                Err(error) if failed.contains(&key) => {
                    tracing::debug!(
                        event = "bind_failed",
                        listener = key,
                        error,
                        "listener cannot be opened yet"
                    );
                }
                Err(error) => {
                    tracing::error!(
                        event = "bind_failed",
                        listener = key,
                        error,
                        "listener cannot be opened"
                    );
                }
            }
            self.open.insert(key, Open { wanted, result });
        }
    }

    /// All wanted listeners are open.
    pub fn are_bound(&self) -> bool {
        self.open.values().all(|o| o.result.is_ok())
    }

    /// For the acknowledgement.
    pub fn states(&self) -> Vec<ListenerState> {
        let state = |(key, open): (&String, &Open)| ListenerState {
            key: key.clone(),
            bound: open.result.is_ok(),
            address: open
                .result
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            error: open.result.as_ref().err().cloned().unwrap_or_default(),
        };
        self.open.iter().map(state).collect()
    }

    fn wanted(&self, table: &Table) -> BTreeMap<String, Wanted> {
        let listeners = table.listeners.iter();
        let listeners: Vec<(&str, &Listener)> =
            listeners.map(|(key, l)| (&**key, &*l.listener)).collect();
        let first = |protocol| {
            let of_protocol = listeners.iter().filter(|(_, l)| l.protocol == protocol);
            let first = of_protocol.min_by_key(|(key, l)| (l.order, *key));
            first.map(|(key, _)| *key)
        };
        let replaced = [
            (first(ListenerProtocol::Http), self.binds.http),
            (first(ListenerProtocol::Https), self.binds.https),
        ];
        let want = |(key, l): (&str, &Listener)| {
            let address = replaced.iter().find(|(first, _)| *first == Some(key));
            let wanted = match address.and_then(|(_, address)| *address) {
                Some(address) => Wanted::Address(address),
                None => Wanted::Port(l.port),
            };
            (key.to_owned(), wanted)
        };
        listeners.iter().copied().map(want).collect()
    }
}

/// What the connections of a listener may use.
fn config(table: &ListenerTable) -> ListenerConfig {
    let listener = &*table.listener;
    let ms = |ms: u32| Duration::from_millis(ms.into());
    let caps = &listener.caps;
    let size = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
    ListenerConfig {
        connections: size(caps.connections),
        trusted: listener.forwarded.trusted.as_slice().into(),
        conn: ConnConfig {
            timeouts: ClientTimeouts {
                idle: ms(listener.keep_alive_ms),
                header: ms(listener.request_header_ms),
                ..ClientTimeouts::default()
            },
            requests: caps.requests_per_connection,
            head: HeadLimits {
                bytes: size(caps.header_bytes),
                fields: size(caps.header_count),
                target: size(caps.url_bytes),
            },
        },
        opening: Opening {
            proxy_protocol: listener
                .proxy_protocol
                .then(|| listener.forwarded.trusted.as_slice().into()),
            tls: table.tls.clone(),
        },
        ..ListenerConfig::default()
    }
}

/// Every address of both families, or of IPv4 alone where the machine has no IPv6.
async fn bind(
    workers: &Workers,
    key: &str,
    wanted: Wanted,
    config: ListenerConfig,
) -> Result<SocketAddr, String> {
    let (address, fallback) = match wanted {
        Wanted::Address(address) => (address, None),
        Wanted::Port(port) => (
            SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port),
            Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)),
        ),
    };
    let describe = |address: SocketAddr, e: &io::Error| format!("cannot bind {address}: {e}");
    match (workers.listen(key, address, config.clone()).await, fallback) {
        (Ok(address), _) => Ok(address),
        (Err(e), Some(fallback)) if e.kind() != io::ErrorKind::AddrInUse => workers
            .listen(key, fallback, config)
            .await
            .map_err(|e| describe(fallback, &e)),
        (Err(e), _) => Err(describe(address, &e)),
    }
}

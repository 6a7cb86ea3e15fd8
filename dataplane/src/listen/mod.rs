//! Worker threads and their listeners.
//!
//! Each worker is one thread with its own runtime, its own accept queue for every listener (SO_REUSEPORT) and its
//! own service value: a connection lives and dies on the thread that accepted it. Listeners come and go at run time.
//!
//! A panic in a connection's task ends that connection. One in what a worker itself does ends the worker, and `supervise`
//! starts another in its place.

mod accept;
mod datagrams;
mod sources;
mod supervise;
mod worker;

use crate::engine::open::Opening;
use crate::engine::{ConnConfig, Service};
use arc_swap::ArcSwap;
use ipnet::IpNet;
use parking_lot::Mutex;
use socket2::{Domain, SockRef, Socket, Type};
use sources::Sources;
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use worker::{Command, Kept};

/// How many workers there are and what they may hold.
#[derive(Clone, Copy, Debug)]
pub struct WorkersConfig {
    /// Threads; at least one is started.
    pub threads: usize,
    /// Client connections of all threads together; further ones are refused.
    pub connections: usize,
    /// Client connections have descriptors below this one: from there on they are for upstreams, files and the admin port.
    pub descriptors: RawFd,
    /// Client connections of one address, or one /64 of IPv6, in the public Internet; 0: any number.
    pub per_source: u32,
}

/// What all threads share.
#[derive(Debug)]
struct SharedByWorkers {
    config: WorkersConfig,
    counters: Arc<ListenCounters>,
    sources: Arc<Sources>,
}

/// Settings of one port. They can change while it is open: connections accepted from then on have the new ones.
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    /// Client connections of this port on all threads; further ones are refused.
    pub connections: usize,
    /// Networks of proxies, whose connections are those of many clients.
    pub trusted: Arc<[IpNet]>,
    pub conn: ConnConfig,
    /// What comes before HTTP on every connection.
    pub opening: Opening,
    /// Connections of one thread at a time for which that is not done, as they were when the listener was opened.
    pub openings: usize,
}

impl Default for ListenerConfig {
    fn default() -> Self {
        Self {
            connections: usize::MAX,
            trusted: Arc::default(),
            conn: ConnConfig::default(),
            opening: Opening::default(),
            openings: 1000,
        }
    }
}

/// What the threads share about one port.
#[derive(Debug)]
struct Settings {
    config: ArcSwap<ListenerConfig>,
    open: AtomicUsize,
}

/// Connections handed over by the kernel before a worker accepts them, per listener and thread.
const BACKLOG: i32 = 1024;
/// Bytes of answers on a connection that the kernel takes beyond those that are on their way.
const UNSENT: u32 = 128 << 10;
/// Commands that may wait for a worker.
const COMMANDS: usize = 16;

/// What happened at the listeners; shared by all threads.
#[derive(Debug, Default)]
pub struct ListenCounters {
    /// Client connections at the moment.
    pub open: AtomicUsize,
    /// Connections accepted since the start.
    pub accepted: AtomicU64,
    /// Connections refused because of [`WorkersConfig::connections`] or [`ListenerConfig::connections`].
    pub refused: AtomicU64,
    /// Connections refused because of [`WorkersConfig::per_source`].
    pub refused_source: AtomicU64,
    /// Panics in tasks of connections, and in workers.
    pub panics: AtomicU64,
    /// Accepts that failed.
    pub errors: AtomicU64,
}

/// The running workers. Dropping them ends all connections at once; [`Workers::drain`] ends them in good order.
#[derive(Debug)]
pub struct Workers {
    commands: Vec<mpsc::Sender<Command>>,
    /// Until somebody waits for their end.
    threads: Mutex<Vec<JoinHandle<()>>>,
    shared: Arc<SharedByWorkers>,
    /// By port; where `--http` or `--https` stand in for it, their address is another.
    listeners: Mutex<HashMap<u16, OpenListener>>,
    /// From the process before this one.
    inherited: Mutex<Inherited>,
    /// Until that one stops, its ports of datagrams are bound too.
    succeeds: AtomicBool,
}

/// Sockets that are bound and listen, by their address.
pub type Inherited = HashMap<SocketAddr, Vec<StdListener>>;

#[derive(Debug)]
struct OpenListener {
    address: SocketAddr,
    settings: Arc<Settings>,
    sockets: Vec<Arc<StdListener>>,
}

impl Workers {
    /// Starts the threads. `make` builds each thread's service, on that thread, within its runtime, and again after it has
    /// fallen.
    ///
    /// # Errors
    /// A runtime or thread that cannot be made.
    pub fn start<S, F>(config: WorkersConfig, make: F) -> io::Result<Self>
    where
        S: Service,
        F: Fn(usize) -> S + Send + Sync + 'static,
    {
        let make = Arc::new(make);
        let shared = Arc::new(SharedByWorkers {
            config,
            counters: Arc::default(),
            sources: Arc::new(Sources::new(config.per_source)),
        });
        let (mut commands, mut threads) = (Vec::new(), Vec::new());
        for index in 0..config.threads.max(1) {
            let (sender, receiver) = mpsc::channel(COMMANDS);
            let (make, shared) = (make.clone(), shared.clone());
            let (started, wait) = sync_channel(1);
            let thread = std::thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || supervise::run(&shared, receiver, || make(index), &started))?;
            wait.recv()
                .map_err(|_| io::Error::other("worker did not start"))??;
            commands.push(sender);
            threads.push(thread);
        }
        Ok(Self {
            commands,
            threads: Mutex::new(threads),
            shared,
            listeners: Mutex::default(),
            inherited: Mutex::default(),
            succeeds: AtomicBool::new(false),
        })
    }

    /// Listeners that are opened from now on take these sockets where the address is the same.
    pub fn inherit(&self, sockets: Inherited) {
        self.succeeds.store(!sockets.is_empty(), Relaxed);
        *self.inherited.lock() = sockets;
    }

    /// Closes what no listener has taken.
    pub fn disinherit(&self) {
        self.succeeds.store(false, Relaxed);
        self.inherited.lock().clear();
    }

    /// Copies of the sockets of all listeners, by their address.
    ///
    /// # Errors
    /// There are no descriptors left.
    pub fn sockets(&self) -> io::Result<Inherited> {
        let copies = |open: &OpenListener| {
            let copies = open.sockets.iter().map(|socket| socket.try_clone());
            Ok((open.address, copies.collect::<io::Result<_>>()?))
        };
        self.listeners.lock().values().map(copies).collect()
    }

    /// Listens for a port on all threads, at this address, and returns the real one (of interest for port 0).
    ///
    /// # Errors
    /// The address cannot be bound, also when another process listens there.
    pub async fn listen(
        &self,
        port: u16,
        address: SocketAddr,
        config: ListenerConfig,
    ) -> io::Result<SocketAddr> {
        let inherited = self.inherited.lock().remove(&address).unwrap_or_default();
        let (address, sockets) = bind(address, self.commands.len(), inherited)?;
        let settings = Arc::new(Settings {
            config: ArcSwap::from_pointee(config),
            open: AtomicUsize::new(0),
        });
        let sockets: Vec<Arc<StdListener>> = sockets.into_iter().map(Arc::new).collect();
        self.listeners.lock().insert(
            port,
            OpenListener {
                address,
                settings: Arc::clone(&settings),
                sockets: sockets.clone(),
            },
        );
        for (index, worker) in self.commands.iter().enumerate() {
            // More sockets than threads were inherited perhaps: somebody must accept from each.
            let of_worker = sockets.iter().skip(index).step_by(self.commands.len());
            let kept = Kept {
                sockets: of_worker.cloned().collect(),
                settings: settings.clone(),
            };
            worker
                .send(Command::Listen(port, kept))
                .await
                .map_err(|_| io::Error::other("worker has ended"))?;
        }
        Ok(address)
    }

    /// Receives datagrams of a port on all threads, at this address, and returns the real one.
    ///
    /// # Errors
    /// The address cannot be bound, also when another process receives there.
    pub async fn receive(&self, port: u16, address: SocketAddr) -> io::Result<SocketAddr> {
        let shares = self.succeeds.load(Relaxed);
        let (address, sockets) = datagrams::bind(address, self.commands.len(), shares)?;
        for (worker, socket) in self.commands.iter().zip(sockets) {
            worker
                .send(Command::Receive(port, Arc::new(socket)))
                .await
                .map_err(|_| io::Error::other("worker has ended"))?;
        }
        Ok(address)
    }

    /// Closes a port of datagrams. Answers that are under way are still passed on.
    pub async fn close_datagrams(&self, port: u16) {
        for worker in &self.commands {
            // A worker that has ended has no listener.
            let _ = worker.send(Command::CloseDatagrams { port }).await;
        }
    }

    /// Changes the settings of an open port; connections that it has accepted before keep theirs.
    pub fn configure(&self, port: u16, config: ListenerConfig) {
        if let Some(open) = self.listeners.lock().get(&port) {
            open.settings.config.store(Arc::new(config));
        }
    }

    /// Closes a port. What its accept queues hold is still served; answers on its connections say
    /// `Connection: close`, and idle ones are closed.
    pub async fn close(&self, port: u16) {
        self.listeners.lock().remove(&port);
        for worker in &self.commands {
            // A worker that has ended has no listener.
            let _ = worker.send(Command::Close { port }).await;
        }
    }

    /// Closes all listeners, waits until the last exchange is over or `limit` has passed, then cuts what is left and
    /// ends the threads. Returns how many connections were cut.
    pub async fn drain(&self, limit: Duration) -> usize {
        let until = Instant::now() + limit;
        self.listeners.lock().clear();
        let mut waits = Vec::new();
        for worker in &self.commands {
            let (done, wait) = oneshot::channel();
            if worker.send(Command::Drain { until, done }).await.is_ok() {
                waits.push(wait);
            }
        }
        let mut cut = 0;
        for wait in waits {
            // A killed worker answers nothing.
            cut += wait.await.unwrap_or(0);
        }
        // What the threads still hold, such as log lines, is let go of before this returns.
        let threads = std::mem::take(&mut *self.threads.lock());
        let ended =
            tokio::task::spawn_blocking(|| threads.into_iter().try_for_each(JoinHandle::join));
        if !matches!(ended.await, Ok(Ok(()))) {
            tracing::error!(
                event = "worker_panicked",
                "a worker thread did not end as it should"
            );
        }
        cut
    }

    /// Ends all connections and threads now; a [`Workers::drain`] under way returns.
    pub fn kill(&self) {
        for worker in &self.commands {
            // Full: it is asked again when its sender is dropped.
            let _ = worker.try_send(Command::Kill);
        }
    }

    pub fn counters(&self) -> Arc<ListenCounters> {
        self.shared.counters.clone()
    }

    /// Clients whose connections are counted at the moment.
    pub fn sources(&self) -> usize {
        self.shared.sources.len()
    }
}

/// Binds sockets to the same address until each thread has one. With `inherited` ones it is shared with the process that
/// they are from.
fn bind(
    address: SocketAddr,
    threads: usize,
    inherited: Vec<StdListener>,
) -> io::Result<(SocketAddr, Vec<StdListener>)> {
    if address.port() != 0 && inherited.is_empty() {
        // With SO_REUSEPORT alone, a second process of the same user would silently share the port.
        socket(address, Type::STREAM)?.bind(&address.into())?;
    }
    let mut listeners = inherited;
    for listener in &listeners {
        hold_little(&SockRef::from(listener));
    }
    let mut address = address;
    while listeners.len() < threads {
        let socket = socket(address, Type::STREAM)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let listener = StdListener::from(socket);
        address = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok((address, listeners))
}

fn socket(address: SocketAddr, kind: Type) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    // For datagrams it would let two processes share a port.
    if kind == Type::STREAM {
        socket.set_reuse_address(true)?;
        hold_little(&SockRef::from(&socket));
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Has the kernel take only so much of answers as it can soon send, on this socket and those that are accepted from it:
/// else it holds megabytes for a slow client, who for minutes looks as if it took nothing.
fn hold_little(socket: &SockRef<'_>) {
    if let Err(error) = socket.set_tcp_notsent_lowat(UNSENT) {
        tracing::debug!(%error, "the kernel holds what it likes");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_refused() {
        let (address, kept) = bind("127.0.0.1:0".parse().unwrap(), 2, Vec::new()).unwrap();
        assert_eq!(kept.len(), 2);
        assert!(kept.iter().all(|l| l.local_addr().unwrap() == address));
        let error = bind(address, 1, Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        let (same, all) = bind(address, 3, kept).unwrap();
        assert_eq!((same, all.len()), (address, 3), "two of them were there");
        let (_, all) = bind(address, 1, all).unwrap();
        assert_eq!(all.len(), 3, "none may be dropped with what it has queued");
    }
}

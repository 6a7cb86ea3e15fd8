//! Worker threads and their listeners.
//!
//! Each worker is one thread with its own runtime, its own accept queue for every listener (SO_REUSEPORT) and its
//! own service value: a connection lives and dies on the thread that accepted it. Listeners come and go at run time.
mod accept;
mod worker;

use crate::engine::open::Opening;
use crate::engine::{ConnConfig, Service};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::LocalOptions;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use worker::{Command, Worker};

/// How many workers there are and what they may hold.
#[derive(Clone, Copy, Debug)]
pub struct WorkersConfig {
    /// Threads; at least one is started.
    pub threads: usize,
    /// Client connections of all threads together; further ones are refused.
    pub connections: usize,
}

/// Settings of one listener. They can change while it is open: connections accepted from then on have the new ones.
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    /// Client connections of this listener on all threads; further ones are refused.
    pub connections: usize,
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
            conn: ConnConfig::default(),
            opening: Opening::default(),
            openings: 1000,
        }
    }
}

/// What the threads share about one listener.
#[derive(Debug)]
struct Settings {
    config: ArcSwap<ListenerConfig>,
    open: AtomicUsize,
}

/// Connections handed over by the kernel before a worker accepts them, per listener and thread.
const BACKLOG: i32 = 1024;
/// Commands that may wait for a worker.
const COMMANDS: usize = 16;

/// What happened at the listeners; shared by all threads.
#[derive(Debug, Default)]
pub struct ListenCounters {
    /// Client connections at the moment.
    pub open: AtomicUsize,
    /// Connections accepted since the start.
    pub accepted: AtomicU64,
    /// Connections refused because of [`WorkersConfig::connections`].
    pub refused: AtomicU64,
    /// Accepts that failed.
    pub errors: AtomicU64,
}

/// The running workers. Dropping them ends all connections at once; [`Workers::drain`] ends them in good order.
#[derive(Debug)]
pub struct Workers {
    commands: Vec<mpsc::Sender<Command>>,
    /// Until somebody waits for their end.
    threads: Mutex<Vec<JoinHandle<()>>>,
    counters: Arc<ListenCounters>,
    settings: Mutex<HashMap<String, Arc<Settings>>>,
}

impl Workers {
    /// Starts the threads. `make` builds each thread's service, on that thread, within its runtime.
    ///
    /// # Errors
    /// A runtime or thread that cannot be made.
    pub fn start<S, F>(config: WorkersConfig, make: F) -> io::Result<Self>
    where
        S: Service,
        F: Fn(usize) -> S + Send + Sync + 'static,
    {
        let make = Arc::new(make);
        let counters = Arc::new(ListenCounters::default());
        let (mut commands, mut threads) = (Vec::new(), Vec::new());
        for index in 0..config.threads.max(1) {
            let (sender, receiver) = mpsc::channel(COMMANDS);
            let (make, counters) = (make.clone(), counters.clone());
            let (started, wait) = sync_channel(1);
            let thread = std::thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || {
                    // A runtime whose tasks are bound to their thread cannot be made elsewhere and handed over. It
                    // spares every wake-up the way through a LocalSet, which polls its root future each time.
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build_local(LocalOptions::default());
                    // Whoever starts workers waits for what is sent here.
                    let runtime = match runtime {
                        Ok(runtime) => runtime,
                        Err(error) => return drop(started.send(Err(error))),
                    };
                    let _ = started.send(Ok(()));
                    runtime.block_on(async move {
                        let worker = Worker::new(config, counters, make(index));
                        worker.run(receiver).await;
                    });
                })?;
            wait.recv()
                .map_err(|_| io::Error::other("worker did not start"))??;
            commands.push(sender);
            threads.push(thread);
        }
        Ok(Self {
            commands,
            threads: Mutex::new(threads),
            counters,
            settings: Mutex::default(),
        })
    }

    /// Opens a listener on all threads and returns its real address (of interest for port 0).
    ///
    /// # Errors
    /// The address cannot be bound, also when another process listens there.
    pub async fn listen(
        &self,
        key: &str,
        address: SocketAddr,
        config: ListenerConfig,
    ) -> io::Result<SocketAddr> {
        let (address, listeners) = bind(address, self.commands.len())?;
        let settings = Arc::new(Settings {
            config: ArcSwap::from_pointee(config),
            open: AtomicUsize::new(0),
        });
        self.settings
            .lock()
            .insert(key.to_owned(), Arc::clone(&settings));
        let key: Arc<str> = key.into();
        for (worker, listener) in self.commands.iter().zip(listeners) {
            let command = Command::Listen {
                key: key.clone(),
                listener,
                settings: settings.clone(),
            };
            worker
                .send(command)
                .await
                .map_err(|_| io::Error::other("worker has ended"))?;
        }
        Ok(address)
    }

    /// Changes the settings of an open listener; connections that it has accepted before keep theirs.
    pub fn configure(&self, key: &str, config: ListenerConfig) {
        if let Some(settings) = self.settings.lock().get(key) {
            settings.config.store(Arc::new(config));
        }
    }

    /// Closes a listener. What its accept queues hold is still served; answers on its connections say
    /// `Connection: close`, and idle ones are closed.
    pub async fn close(&self, key: &str) {
        self.settings.lock().remove(key);
        let key: Arc<str> = key.into();
        for worker in &self.commands {
            // A worker that has ended has no listener.
            let _ = worker.send(Command::Close { key: key.clone() }).await;
        }
    }

    /// Closes all listeners, waits until the last exchange is over or `limit` has passed, then cuts what is left and
    /// ends the threads. Returns how many connections were cut.
    pub async fn drain(&self, limit: Duration) -> usize {
        let until = Instant::now() + limit;
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
        self.counters.clone()
    }
}

/// Binds one socket a thread to the same address.
fn bind(address: SocketAddr, threads: usize) -> io::Result<(SocketAddr, Vec<StdListener>)> {
    if address.port() != 0 {
        // With SO_REUSEPORT alone, a second process of the same user would silently share the port.
        socket(address)?.bind(&address.into())?;
    }
    let mut listeners: Vec<StdListener> = Vec::with_capacity(threads);
    let mut address = address;
    for _ in 0..threads {
        let socket = socket(address)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let listener = StdListener::from(socket);
        address = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok((address, listeners))
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_refused() {
        let (address, kept) = bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        assert_eq!(kept.len(), 2);
        assert!(kept.iter().all(|l| l.local_addr().unwrap() == address));
        let error = bind(address, 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}

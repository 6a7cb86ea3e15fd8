//! Worker threads and their listeners.
//!
//! Each worker is one thread with its own runtime, its own accept queue for every listener (SO_REUSEPORT) and its
//! own service value: a connection lives and dies on the thread that accepted it. Listeners come and go at run time.

use crate::engine::drain::{Drain, Ticket};
use crate::engine::open::{Opening, Openings};
use crate::engine::{ClientSocket, ConnConfig, ConnInfo, Service, serve_connection};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use socket2::{Domain, Protocol, Socket, Type};
use std::cell::Cell;
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::LocalOptions;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep_until};

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
/// Pause after an accept that failed for want of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(50);

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

#[derive(Debug)]
enum Command {
    Listen {
        key: Arc<str>,
        listener: StdListener,
        settings: Arc<Settings>,
    },
    Close {
        key: Arc<str>,
    },
    Drain {
        until: Instant,
        done: oneshot::Sender<usize>,
    },
    Kill,
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
                        let worker = Worker {
                            service: Rc::new(make(index)),
                            config,
                            counters,
                            open: Rc::default(),
                            listeners: HashMap::new(),
                        };
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

/// One thread's part.
struct Worker<S> {
    service: Rc<S>,
    config: WorkersConfig,
    counters: Arc<ListenCounters>,
    open: Rc<Open>,
    listeners: HashMap<Arc<str>, Rc<Listening>>,
}

/// Connections of one thread.
#[derive(Default)]
struct Open {
    count: Cell<usize>,
    /// Listeners that still accept count as open, so that a drain waits for what they hold.
    changed: Notify,
}

/// One listener on one thread.
#[derive(Default)]
struct Listening {
    stop: Notify,
    drain: Rc<Drain>,
}

/// Counts something as open until it is dropped.
struct OpenGuard(Rc<Open>);

impl OpenGuard {
    fn new(open: &Rc<Open>) -> Self {
        open.count.set(open.count.get() + 1);
        Self(open.clone())
    }
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.0.count.set(self.0.count.get() - 1);
        self.0.changed.notify_one();
    }
}

/// Counts a connection among those of its listener and of the process until it is dropped.
struct Admission {
    counters: Arc<ListenCounters>,
    settings: Arc<Settings>,
}

impl Admission {
    fn new(
        counters: &Arc<ListenCounters>,
        settings: &Arc<Settings>,
        limit: usize,
        of_listener: usize,
    ) -> Option<Self> {
        // The guard gives the places back also when it was one too many.
        let admission = Self {
            counters: counters.clone(),
            settings: settings.clone(),
        };
        let in_process = counters.open.fetch_add(1, Relaxed) < limit;
        let in_listener = settings.open.fetch_add(1, Relaxed) < of_listener;
        (in_process && in_listener).then_some(admission)
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.counters.open.fetch_sub(1, Relaxed);
        self.settings.open.fetch_sub(1, Relaxed);
    }
}

impl<S: Service> Worker<S> {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut draining: Option<(Instant, oneshot::Sender<usize>)> = None;
        loop {
            let ended = async {
                match &draining {
                    None => std::future::pending().await,
                    Some((until, _)) => self.drained(*until).await,
                }
            };
            let command = tokio::select! {
                command = commands.recv() => command,
                () = ended => {
                    if let Some((_, done)) = draining {
                        // The caller may have gone.
                        let _ = done.send(self.open.count.get());
                    }
                    return;
                }
            };
            match command {
                Some(Command::Listen {
                    key,
                    listener,
                    settings,
                }) => self.listen(key, listener, settings),
                Some(Command::Close { key }) => self.close(&key),
                Some(Command::Drain { until, done }) => {
                    let keys: Vec<Arc<str>> = self.listeners.keys().cloned().collect();
                    keys.iter().for_each(|key| self.close(key));
                    draining = Some((until, done));
                }
                Some(Command::Kill) | None => return,
            }
        }
    }

    async fn drained(&self, until: Instant) {
        let empty = async {
            while self.open.count.get() > 0 {
                self.open.changed.notified().await;
            }
        };
        tokio::select! { () = empty => {}, () = sleep_until(until) => {} }
    }

    fn listen(&mut self, key: Arc<str>, listener: StdListener, settings: Arc<Settings>) {
        // Fails only without a reactor.
        let listener = match TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(listener = &*key, %error, "listener cannot be served");
                return;
            }
        };
        self.close(&key);
        let listening = Rc::new(Listening::default());
        self.listeners.insert(key.clone(), listening.clone());
        let openings = Openings::new(settings.config.load().openings);
        let acceptor = Acceptor {
            key,
            openings: Rc::new(openings),
            service: self.service.clone(),
            connections: self.config.connections,
            settings,
            counters: self.counters.clone(),
            open: self.open.clone(),
            drain: listening.drain.clone(),
        };
        let guard = OpenGuard::new(&self.open);
        spawn_local(async move {
            acceptor.run(listener, &listening).await;
            drop(guard);
        });
    }

    fn close(&mut self, key: &str) {
        if let Some(listening) = self.listeners.remove(key) {
            listening.stop.notify_one();
        }
    }
}

/// Takes one listener's connections on one thread.
struct Acceptor<S> {
    key: Arc<str>,
    service: Rc<S>,
    /// Connections of the whole process.
    connections: usize,
    settings: Arc<Settings>,
    counters: Arc<ListenCounters>,
    open: Rc<Open>,
    openings: Rc<Openings>,
    drain: Rc<Drain>,
}

impl<S: Service> Acceptor<S> {
    async fn run(&self, listener: TcpListener, listening: &Listening) {
        let stop = async {
            listening.stop.notified().await;
        };
        tokio::pin!(stop);
        loop {
            tokio::select! { biased;
                () = &mut stop => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => self.admit(stream, peer),
                    Err(error) => self.failed(&error).await,
                },
            }
        }
        // Closing a listener resets what it still holds: take it first. Readiness is not asked, the queue is.
        if let Ok(listener) = listener.into_std() {
            while let Ok((stream, peer)) = listener.accept() {
                if stream.set_nonblocking(true).is_ok()
                    && let Ok(stream) = TcpStream::from_std(stream)
                {
                    self.admit(stream, peer);
                }
            }
        }
        self.drain.begin();
    }

    async fn failed(&self, error: &io::Error) {
        self.counters.errors.fetch_add(1, Relaxed);
        // The client went away before it was accepted: the next one is already there. All else is a shortage.
        if error.kind() != io::ErrorKind::ConnectionAborted {
            tracing::warn!(listener = &*self.key, %error, "accept failed");
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn admit(&self, stream: TcpStream, peer: SocketAddr) {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        self.counters.accepted.fetch_add(1, Relaxed);
        let config = self.settings.config.load_full();
        let admission = Admission::new(
            &self.counters,
            &self.settings,
            self.connections,
            config.connections,
        );
        let Some(admission) = admission else {
            self.counters.refused.fetch_add(1, Relaxed);
            if config.opening.tls.is_none() {
                // One attempt: the socket of a new connection has room for it.
                let _ = stream.try_write(REFUSAL);
            }
            return;
        };
        // Without it answers are only slower.
        let _ = stream.set_nodelay(true);
        let Ok(local) = stream.local_addr() else {
            return;
        };
        let mut info = ConnInfo {
            id: NEXT_ID.fetch_add(1, Relaxed),
            peer,
            local,
            listener: self.key.clone(),
            tls: None,
        };
        let (service, openings) = (self.service.clone(), self.openings.clone());
        let (ticket, guard) = (Ticket::new(self.drain.clone()), OpenGuard::new(&self.open));
        spawn_local(async move {
            let opening = &config.opening;
            let socket = if opening.is_nothing() {
                Some(ClientSocket::Plain(stream))
            } else {
                // As long as for a request's head.
                let limit = config.conn.timeouts.header;
                let opened = opening.run(stream, &mut info, limit, &openings, &*service);
                // Apart, so that its state costs other connections nothing.
                Box::pin(opened).await
            };
            if let Some(socket) = socket {
                serve_connection(socket, &info, &*service, &config.conn, ticket).await;
            }
            drop((admission, guard));
        });
    }
}

/// What a connection above the cap gets.
const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
    content-length: 22\r\nretry-after: 1\r\nconnection: close\r\n\r\n{\"error\":\"overloaded\"}";

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

    #[test]
    fn the_refusal_states_its_length() {
        let text = std::str::from_utf8(REFUSAL).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())));
    }
}

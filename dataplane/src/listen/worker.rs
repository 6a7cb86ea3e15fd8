//! One worker thread: what it is told, what it has open, and its end.

use super::accept::Acceptor;
use super::{ListenCounters, Settings, WorkersConfig};
use crate::engine::Service;
use crate::engine::drain::Drain;
use crate::engine::open::Openings;
use std::cell::Cell;
use std::collections::HashMap;
use std::net::TcpListener as StdListener;
use std::rc::Rc;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep_until};

/// What a worker is told.
#[derive(Debug)]
pub(super) enum Command {
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

/// One thread's part.
pub(super) struct Worker<S> {
    service: Rc<S>,
    config: WorkersConfig,
    counters: Arc<ListenCounters>,
    open: Rc<Open>,
    listeners: HashMap<Arc<str>, Rc<Listening>>,
}

/// Connections of one thread.
#[derive(Default)]
pub(super) struct Open {
    count: Cell<usize>,
    /// Listeners that still accept count as open, so that a drain waits for what they hold.
    changed: Notify,
}

/// One listener on one thread.
#[derive(Default)]
pub(super) struct Listening {
    pub stop: Notify,
    drain: Rc<Drain>,
}

/// Counts something as open until it is dropped.
pub(super) struct OpenGuard(Rc<Open>);

impl OpenGuard {
    pub(super) fn new(open: &Rc<Open>) -> Self {
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

impl<S: Service> Worker<S> {
    pub(super) fn new(config: WorkersConfig, counters: Arc<ListenCounters>, service: S) -> Self {
        Self {
            service: Rc::new(service),
            config,
            counters,
            open: Rc::default(),
            listeners: HashMap::new(),
        }
    }

    /// Until it has been drained or killed.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
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

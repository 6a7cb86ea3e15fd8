//! One worker thread: what it is told, what it has open, and its end.

use super::accept::Acceptor;
use super::{Settings, SharedByWorkers, datagrams};
use crate::engine::Service;
use crate::engine::drain::Drain;
use crate::engine::open::Openings;
use futures_util::FutureExt;
use std::cell::Cell;
use std::collections::HashMap;
use std::net::{TcpListener as StdListener, UdpSocket as StdUdpSocket};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep_until};

/// What a worker is told.
#[derive(Debug)]
pub(super) enum Command {
    Listen(u16, Kept),
    Close {
        port: u16,
    },
    /// For datagrams, whose ports are others.
    Receive(u16, Arc<StdUdpSocket>),
    CloseDatagrams {
        port: u16,
    },
    Drain {
        until: Instant,
        done: oneshot::Sender<usize>,
    },
    Kill,
}

/// A thread's sockets of one port, as they are bound; it accepts from copies of them. So what the kernel has queued
/// there outlives a worker that falls.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub sockets: Vec<Arc<StdListener>>,
    pub settings: Arc<Settings>,
}

/// What a worker that falls leaves to the next one on its thread.
pub(super) struct Estate {
    commands: mpsc::Receiver<Command>,
    listeners: HashMap<u16, Kept>,
    datagrams: HashMap<u16, Arc<StdUdpSocket>>,
    draining: Option<(Instant, oneshot::Sender<usize>)>,
}

impl Estate {
    pub(super) fn new(commands: mpsc::Receiver<Command>) -> Self {
        Self {
            commands,
            listeners: HashMap::new(),
            datagrams: HashMap::new(),
            draining: None,
        }
    }

    /// Nothing is to be accepted any more.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.is_some()
    }
}

/// A worker cannot go on: a part of it that must not end has panicked.
#[derive(Debug)]
pub(super) struct Fallen;

/// One thread's part.
pub(super) struct Worker<S> {
    service: Rc<S>,
    shared: Arc<SharedByWorkers>,
    open: Rc<Open>,
    listeners: HashMap<u16, Vec<Rc<Listening>>>,
    datagrams: HashMap<u16, Rc<Listening>>,
    /// Nothing is accepted before.
    begins: Instant,
    /// Memory is too short for idle connections.
    hurried: bool,
    /// An acceptor has panicked.
    fell: Rc<Notify>,
}

/// Connections of one thread.
#[derive(Default)]
pub(super) struct Open {
    count: Cell<usize>,
    /// Listeners that still accept count as open, so that a drain waits for what they hold.
    changed: Notify,
}

/// One socket on one thread.
#[derive(Default)]
pub(super) struct Listening {
    pub stop: Notify,
    pub drain: Rc<Drain>,
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
    pub(super) fn new(shared: Arc<SharedByWorkers>, service: S, begins: Instant) -> Self {
        Self {
            service: Rc::new(service),
            shared,
            open: Rc::default(),
            listeners: HashMap::new(),
            datagrams: HashMap::new(),
            begins,
            hurried: false,
            fell: Rc::default(),
        }
    }

    /// Until it has been drained or killed, or has fallen.
    pub(super) async fn run(mut self, estate: &mut Estate) -> Result<(), Fallen> {
        let (service, fell) = (Rc::clone(&self.service), Rc::clone(&self.fell));
        let begins = self.begins;
        let mut house = pin!(async {
            sleep_until(begins).await;
            service.keep_house().await;
        });
        let mut begun = begins <= Instant::now();
        if begun {
            self.open_all(estate);
        }
        loop {
            let ended = async {
                match &estate.draining {
                    None => std::future::pending().await,
                    Some((until, _)) => self.drained(*until).await,
                }
            };
            let command = tokio::select! {
                command = estate.commands.recv() => command,
                () = ended => {
                    if let Some((_, done)) = estate.draining.take() {
                        // The caller may have gone.
                        let _ = done.send(self.open.count.get());
                    }
                    return Ok(());
                }
                () = &mut house => return Err(Fallen),
                hurried = self.service.hurries(self.hurried) => {
                    self.hurry(hurried);
                    continue;
                }
                () = fell.notified() => return Err(Fallen),
                () = sleep_until(begins), if !begun => {
                    begun = true;
                    self.open_all(estate);
                    continue;
                }
            };
            match command {
                Some(Command::Listen(port, kept)) => {
                    if begun {
                        self.listen(port, &kept);
                    }
                    estate.listeners.insert(port, kept);
                }
                Some(Command::Close { port }) => {
                    // First, so that the acceptors have the last copies of the sockets.
                    estate.listeners.remove(&port);
                    self.close(port);
                }
                Some(Command::Receive(port, socket)) => {
                    if begun {
                        self.receive(port, &socket);
                    }
                    estate.datagrams.insert(port, socket);
                }
                Some(Command::CloseDatagrams { port }) => {
                    estate.datagrams.remove(&port);
                    self.close_datagrams(port);
                }
                Some(Command::Drain { until, done }) => {
                    estate.listeners.clear();
                    estate.datagrams.clear();
                    let ports: Vec<u16> = self.listeners.keys().copied().collect();
                    ports.into_iter().for_each(|port| self.close(port));
                    let ports: Vec<u16> = self.datagrams.keys().copied().collect();
                    ports
                        .into_iter()
                        .for_each(|port| self.close_datagrams(port));
                    estate.draining = Some((until, done));
                }
                Some(Command::Kill) | None => return Ok(()),
            }
        }
    }

    /// Closes idle connections for as long as memory is too short for them.
    fn hurry(&mut self, on: bool) {
        self.hurried = on;
        for listening in self.listeners.values().flatten() {
            listening.drain.hurry(on);
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

    fn open_all(&mut self, estate: &Estate) {
        for (port, kept) in &estate.listeners {
            self.listen(*port, kept);
        }
        for (port, socket) in &estate.datagrams {
            self.receive(*port, socket);
        }
    }

    fn receive(&mut self, port: u16, socket: &Arc<StdUdpSocket>) {
        self.close_datagrams(port);
        let listening = Rc::new(Listening::default());
        self.datagrams.insert(port, Rc::clone(&listening));
        let (guard, fell) = (OpenGuard::new(&self.open), Rc::clone(&self.fell));
        let (service, socket) = (self.service.clone(), Arc::downgrade(socket));
        spawn_local(async move {
            let run = AssertUnwindSafe(datagrams::run(service, port, socket, &listening));
            if run.catch_unwind().await.is_err() {
                fell.notify_one();
            }
            drop(guard);
        });
    }

    fn close_datagrams(&mut self, port: u16) {
        if let Some(listening) = self.datagrams.remove(&port) {
            listening.drain.begin();
        }
    }

    fn listen(&mut self, port: u16, kept: &Kept) {
        self.close(port);
        let openings = Rc::new(Openings::new(kept.settings.config.load().openings));
        for socket in &kept.sockets {
            let listening = Rc::new(Listening::default());
            listening.drain.hurry(self.hurried);
            self.listeners
                .entry(port)
                .or_default()
                .push(Rc::clone(&listening));
            let acceptor = Acceptor {
                port,
                openings: Rc::clone(&openings),
                service: self.service.clone(),
                shared: Arc::clone(&self.shared),
                settings: Arc::clone(&kept.settings),
                open: self.open.clone(),
                drain: listening.drain.clone(),
            };
            let (guard, fell) = (OpenGuard::new(&self.open), Rc::clone(&self.fell));
            let socket = Arc::downgrade(socket);
            spawn_local(async move {
                let run = AssertUnwindSafe(acceptor.run(socket, &listening));
                if run.catch_unwind().await.is_err() {
                    fell.notify_one();
                }
                drop(guard);
            });
        }
    }

    fn close(&mut self, port: u16) {
        for listening in self.listeners.remove(&port).unwrap_or_default() {
            listening.stop.notify_one();
        }
    }
}

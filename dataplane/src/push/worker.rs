//! The thread that owns the [`Apply`]: compiling a configuration never holds up the network.

use std::io;
use std::thread;

use snapshot::Inventory;
use snapshot::pb::Chunk;
use tokio::sync::{mpsc, oneshot};

use super::{Apply, Reply};

enum Job {
    Inventory(oneshot::Sender<Inventory>),
    Receive(Box<Chunk>, oneshot::Sender<Reply>),
    Contact,
}

/// Speaks with the thread. Dropping it ends the thread after the job at hand.
pub(super) struct Worker(mpsc::Sender<Job>);

/// The thread is gone: the applier has panicked.
#[derive(Debug, thiserror::Error)]
#[error("the thread that applies configurations has ended")]
pub(super) struct WorkerGone;

impl Worker {
    /// # Errors
    /// No thread can be started.
    pub(super) fn start(mut applier: impl Apply + 'static) -> io::Result<Self> {
        // One transaction is under way at a time, and each chunk waits for its reply.
        let (jobs, mut queue) = mpsc::channel(4);
        thread::Builder::new().name("apply".into()).spawn(move || {
            while let Some(job) = queue.blocking_recv() {
                // Whoever asked may be gone: a stream ended meanwhile.
                match job {
                    Job::Inventory(reply) => drop(reply.send(applier.inventory())),
                    Job::Receive(chunk, reply) => drop(reply.send(applier.receive(*chunk))),
                    Job::Contact => applier.note_contact(),
                }
            }
        })?;
        Ok(Self(jobs))
    }

    pub(super) async fn inventory(&self) -> Result<Inventory, WorkerGone> {
        self.ask(Job::Inventory).await
    }

    pub(super) async fn receive(&self, chunk: Chunk) -> Result<Reply, WorkerGone> {
        self.ask(|reply| Job::Receive(Box::new(chunk), reply)).await
    }

    pub(super) async fn contact(&self) -> Result<(), WorkerGone> {
        self.0.send(Job::Contact).await.map_err(|_| WorkerGone)
    }

    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<T>) -> Job) -> Result<T, WorkerGone> {
        let (reply, answer) = oneshot::channel();
        self.0.send(job(reply)).await.map_err(|_| WorkerGone)?;
        answer.await.map_err(|_| WorkerGone)
    }
}

//! The stream from a controller: what it feeds, and the client that keeps it open.

mod client;
mod lookup;
mod pauses;
mod report;
mod worker;

pub use client::{PushConfig, run};

use snapshot::Inventory;
use snapshot::health::Opinions;
use snapshot::pb::{Ack, Chunk, ListenerState, Nack, Resync, Verdicts};
use std::sync::Arc;
use tokio::sync::watch;

/// Takes chunks and brings complete transactions into effect.
pub trait Apply: Send {
    /// What is in effect.
    fn inventory(&self) -> Inventory;

    /// Takes the next chunk. It may compile and open listeners, so it must not run on a runtime's own thread.
    fn receive(&mut self, chunk: Chunk) -> Reply;

    /// State of all listeners.
    fn listeners(&self) -> Vec<ListenerState>;

    /// A controller has said something.
    fn note_contact(&mut self);

    /// What it can do that others may not.
    fn capabilities(&self) -> Vec<String> {
        snapshot::offered()
    }

    /// What is known of endpoints; `None`: it is not shared.
    fn health(&self) -> Option<Arc<dyn Health>> {
        None
    }
}

/// What a data plane finds out about its endpoints, and takes from the others that follow the same controller.
pub trait Health: Send + Sync {
    /// Ticks when [`Self::opinions`] may have changed.
    fn changes(&self) -> watch::Receiver<u64>;

    /// What it has to say.
    fn opinions(&self) -> Opinions;

    /// Takes what all say together.
    fn take(&self, verdicts: &Verdicts);

    /// No controller says anything any more: it checks everything itself, and what was said holds for its time.
    fn alone(&self);
}

/// What a chunk led to.
#[derive(Debug)]
pub enum Reply {
    /// The transaction is not complete.
    More,
    Ack(Ack),
    Nack(Nack),
    Resync(Resync),
}

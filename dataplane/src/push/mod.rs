//! The stream from a controller: what it feeds, and the client that keeps it open.

mod client;
mod worker;

pub use client::{PushConfig, run};

use snapshot::Digest;
use snapshot::pb::{Ack, Chunk, ListenerState, Nack, Resync};

/// Takes chunks and brings complete transactions into effect.
pub trait Apply: Send {
    /// Root digest of what is in effect.
    fn have_digest(&self) -> Digest;

    /// Takes the next chunk. It may compile and open listeners, so it must not run on a runtime's own thread.
    fn receive(&mut self, chunk: Chunk) -> Reply;

    /// State of all listeners.
    fn listeners(&self) -> Vec<ListenerState>;

    /// A controller has said something.
    fn note_contact(&mut self);
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

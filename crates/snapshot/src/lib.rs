//! The wire between controller and data plane: encoding, content hashes and transactions.
//!
//! A snapshot is a list of [sections](sections): each model type has one file that says how it is encoded, and a new
//! kind is one new section. [`Store`] is the sending side (what a stream lacks, as one transaction), [`Replica`] the
//! receiving side (stage, check, commit). Standalone mode sends the same bytes through the same two.

pub mod health;
pub mod sections;

mod capability;
mod diff;
mod digest;
mod inventory;
mod patch;
mod redact;
mod replica;
mod store;

/// Generated from the files of `proto/diolkos/snapshot/v1`.
#[allow(
    clippy::all,
    unreachable_pub,
    missing_docs,
    unused_qualifications,
    clippy::use_self,
    clippy::or_fun_call
)]
pub mod pb {
    tonic::include_proto!("diolkos.snapshot.v1");
}

pub use capability::{CAPABILITIES, Capability, Needing, needed, offered};
pub use diff::{Change, Changes};
pub use digest::{Digest, Hash, NoRevision, Revision};
pub use inventory::{Buckets, Inventory};
pub use patch::PATCHES;
pub use replica::{Applied, ApplyError, Replica, Staged};
pub use sections::{InvalidResource, Kind, Section, TooLarge, decode, encode};
pub use store::{Bases, Cursor, Different, Generation, Listing, ResourceId, Store, Transaction};

/// Revision of the resource bodies that this build writes and reads.
pub const SCHEMA: u32 = 1;

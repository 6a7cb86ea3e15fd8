//! From the API server to the world: one task a kind, one thread for everything else.
//!
//! A [`kind`] task follows one kind, everywhere or in the namespaces of its [`crate::world::Scope`], turns each object into
//! the world's compact record ([`read`], [`lean`]) and drops the object. The
//! [`task`] owns world and translator on a thread of its own: it waits until everything is listed ([`gate`]), collects
//! what changes together ([`pacer`]), translates it and hands it to the publisher.
//!
//! Of Secrets and ConfigMaps the watches bring metadata alone. Translation says which of them something refers to
//! ([`held`]); the values of those are read by name ([`reader`]), and wiped when nothing refers to them any more.

mod backoff;
mod brake;
mod definitions;
pub mod expected;
pub(crate) mod following;
pub mod gate;
pub mod handle;
pub mod held;
pub mod kind;
mod lean;
pub(crate) mod one;
pub mod pacer;
#[cfg(test)]
mod permissions;
mod read;
pub mod reader;
pub mod standing;
pub mod target;
pub mod task;

use std::collections::BTreeSet;
use std::fmt;
use std::time::SystemTime;

use crate::history::Rollback;
use crate::world::{Definition, Object, ObjectId, ObjectKind};
use reader::Version;
use target::Target;

/// What a kind's task has seen.
#[derive(Debug)]
pub enum Event {
    Apply {
        object: Box<Object>,
        /// When it was seen, in nanoseconds since the epoch.
        at: u64,
    },
    /// Some of a list. To wake the world for each object takes longer than the world does with most.
    Some {
        objects: Vec<Object>,
        at: u64,
    },
    Delete {
        id: ObjectId,
        at: u64,
    },
    /// A list is complete: these are all there are of what it is of.
    Listed {
        of: Target,
        ids: BTreeSet<ObjectId>,
    },
    /// What came of reading the values of an object; `None`: there is no such object.
    Values {
        id: ObjectId,
        outcome: Result<Option<Version>, String>,
        at: u64,
    },
    /// The CustomResourceDefinition of a kind of the Gateway API, where it is known.
    Definition(ObjectKind, Option<Definition>),
    /// What is held as it was from now on.
    RolledBack(Option<Box<Rollback>>),
    /// Versions that stood in for others when somebody led last.
    Recalled(Vec<Object>),
    /// The cluster does not know the kind.
    Absent(ObjectKind),
    /// It may not be listed or watched.
    Forbidden(Target, Verb),
    /// It may be again.
    Permitted(Target),
}

/// What may not be done with a kind. A list is the first thing that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    List,
    Watch,
}

/// As a Role has it.
impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::List => "list",
            Self::Watch => "watch",
        })
    }
}

/// How many events wait for the world at most; then the watches wait.
pub const EVENTS: usize = 1024;

/// Objects of a list in one event at most.
const SOME: usize = 16;

/// Nanoseconds since the epoch.
pub(crate) fn unix_ns() -> u64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

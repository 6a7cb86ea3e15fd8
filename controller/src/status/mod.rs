//! Writes what the report says into the status of our own kinds and those of the Gateway API; the leader alone does.
//!
//! Statuses are computed when they are written, from the report of that moment: what waits in the [`Queue`] are names,
//! so the latest state wins whatever happened in between. What objects carry already is kept in [`Written`] as a hash
//! and the times of their conditions, so that equal statuses are not written and times move only with their value.
//!
//! A status that is ours alone is applied by the server, under our name. Where controllers share a list ([`shared`])
//! the object is read, our entries are replaced, and all of it is written back on condition that nobody was faster.

mod health;
mod imprint;
mod queue;
mod shared;
mod writer;

pub use health::HealthNews;
pub use imprint::Written;
pub use queue::{Next, Queue};
pub(crate) use shared::ours;
pub(crate) use writer::FIELD_MANAGER;
pub use writer::StatusWriter;

//! Writes what the report says into the status of our own kinds; the leader alone does.
//!
//! Statuses are computed when they are written, from the report of that moment: what waits in the [`Queue`] are names,
//! so the latest state wins whatever happened in between. What objects carry already is kept in [`Written`] as a hash
//! and the times of their conditions, so that equal statuses are not written and times move only with their value.

mod imprint;
mod queue;
mod writer;

pub use imprint::Written;
pub use queue::Queue;
pub use writer::StatusWriter;

//! What a plugin wants changed. It never changes anything itself, so that plugins of a parallel group cannot see each
//! other and their order is the order of the list.

use crate::BodyFilter;
use model::headers::{Headers, InvalidHeader};
use std::fmt;

/// Header changes in the order in which they were asked for. They concern the request in `pre_request` and the
/// response in later stages.
#[derive(Default)]
pub struct Edits {
    ops: Vec<Op>,
    filters: Vec<Box<dyn BodyFilter>>,
}

#[derive(Debug)]
enum Op {
    Set(String, Vec<u8>),
    Append(String, Vec<u8>),
    Remove(String),
}

impl Edits {
    /// Replaces every line of that name by one.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) {
        self.ops.push(Op::Set(name.into(), value.into()));
    }

    pub fn append(&mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) {
        self.ops.push(Op::Append(name.into(), value.into()));
    }

    pub fn remove(&mut self, name: impl Into<String>) {
        self.ops.push(Op::Remove(name.into()));
    }

    /// Sends the answer's body through a filter, behind those of earlier plugins. For `pre_response`, by a plugin that
    /// has seen from the head that it wants to; one that wants every body declares [`crate::BodyMode::Stream`]. Its
    /// failure always aborts the exchange, as part of what it made may have left.
    pub fn filter_answer(&mut self, filter: Box<dyn BodyFilter>) {
        self.filters.push(filter);
    }

    pub fn is_empty(&self) -> bool {
        self.ops.is_empty() && self.filters.is_empty()
    }

    /// Takes over the edits of a later list member.
    pub(crate) fn merge(&mut self, mut later: Self) {
        self.ops.append(&mut later.ops);
        self.filters.append(&mut later.filters);
    }

    pub(crate) fn take_filters(&mut self) -> Vec<Box<dyn BodyFilter>> {
        std::mem::take(&mut self.filters)
    }

    /// # Errors
    /// [`InvalidHeader`] where a name or value is not allowed on the wire or the list is full; the edits before it
    /// have been made.
    pub fn apply(&self, headers: &mut Headers) -> Result<(), InvalidHeader> {
        for op in &self.ops {
            match op {
                Op::Set(name, value) => headers.set(name, value)?,
                Op::Append(name, value) => headers.append(name, value)?,
                Op::Remove(name) => {
                    headers.remove(&name.to_ascii_lowercase());
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Edits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Edits")
            .field("ops", &self.ops)
            .field("filters", &self.filters.len())
            .finish()
    }
}

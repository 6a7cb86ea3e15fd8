//! Header changes that a rule, a backend or a plugin asks for.

use crate::headers::{Headers, InvalidHeader};

/// Applied in this order: remove, set, add.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HeaderEdits {
    /// Replace every line of that name by one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<(String, String)>,
    /// Append a line.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<(String, String)>,
    /// Names, lower case.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
}

impl HeaderEdits {
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }

    /// # Errors
    /// [`InvalidHeader`] when a name or value is not allowed on the wire, or the list is full. The edits before it
    /// have been made.
    pub fn apply(&self, headers: &mut Headers) -> Result<(), InvalidHeader> {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.set(name, value.as_bytes())?;
        }
        for (name, value) in &self.add {
            headers.append(name, value.as_bytes())?;
        }
        Ok(())
    }
}

//! References that statuses repeat.

use serde::Serialize;
use serde_json::Value;

/// What an object names, as it does so in JSON. Kept as text, which is a tenth of a [`Value`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference(Box<str>);

impl Reference {
    pub fn new(said: &impl Serialize) -> Self {
        Self(serde_json::to_string(said).unwrap_or_default().into())
    }

    pub fn value(&self) -> Value {
        serde_json::from_str(&self.0).unwrap_or_default()
    }
}

//! What one watch follows.

use std::fmt;
use std::sync::Arc;

use crate::world::{ObjectId, ObjectKind, Scope};

/// A kind, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    pub kind: ObjectKind,
    /// `None`: everywhere.
    pub namespace: Option<Arc<str>>,
}

impl Target {
    /// What is to be followed of a kind.
    pub fn of(kind: ObjectKind, scope: &Scope) -> Vec<Self> {
        let places = match kind.is_cluster_scoped() {
            true => vec![None],
            false => scope.places(),
        };
        let target = |namespace| Self { kind, namespace };
        places.into_iter().map(target).collect()
    }

    /// Whether an object is one of those that it brings.
    pub fn holds(&self, id: &ObjectId) -> bool {
        let is_here = |namespace: &Arc<str>| **namespace == *id.namespace;
        id.kind == self.kind && self.namespace.as_ref().is_none_or(is_here)
    }
}

/// Everywhere.
impl From<ObjectKind> for Target {
    fn from(kind: ObjectKind) -> Self {
        Self {
            kind,
            namespace: None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            None => f.write_str(self.kind.name()),
            Some(namespace) => write!(f, "{} in {namespace}", self.kind.name()),
        }
    }
}

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
        let places = match kind {
            kind if kind.is_cluster_scoped() => vec![None],
            ObjectKind::Secret => scope.places_of_secrets(),
            _ => scope.places(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_may_be_followed_elsewhere_than_everything_else() {
        let scope = Scope::default().with_secrets_of(&"a,b".parse().unwrap());
        for kind in ObjectKind::ALL {
            let targets = Target::of(*kind, &scope).into_iter();
            let places: Vec<_> = targets.map(|target| target.namespace).collect();
            match kind {
                ObjectKind::Secret => assert_eq!(places, ["a", "b"].map(|n| Some(n.into()))),
                kind => assert_eq!(places, [None], "{kind}"),
            }
        }
    }
}

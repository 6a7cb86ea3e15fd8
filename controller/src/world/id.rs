//! Kinds and identities of objects.

use std::fmt;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident, $group:literal, $ours:literal;)*) => {
        /// The kinds that a [`super::World`] holds.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum ObjectKind {
            $($(#[$doc])* $kind,)*
        }

        impl ObjectKind {
            pub const ALL: &'static [Self] = &[$(Self::$kind,)*];

            /// As `kind` of a manifest.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => stringify!($kind),)*
                }
            }

            /// API group; empty for the core group.
            pub fn group(self) -> &'static str {
                match self {
                    $(Self::$kind => $group,)*
                }
            }

            /// Whether it is one of the kinds of `diolkos.io`, which have a status of ours.
            pub fn is_ours(self) -> bool {
                match self {
                    $(Self::$kind => $ours,)*
                }
            }
        }
    };
}

kinds! {
    GatewayConfig, "diolkos.io", true;
    Route, "diolkos.io", true;
    Upstream, "diolkos.io", true;
    Plugin, "diolkos.io", true;
    Tenant, "diolkos.io", true;
    Consumer, "diolkos.io", true;
    ModelCatalog, "diolkos.io", true;
    Service, "", false;
    EndpointSlice, "discovery.k8s.io", false;
    Secret, "", false;
    ConfigMap, "", false;
    Namespace, "", false;
    ReferenceGrant, "gateway.networking.k8s.io", false;
}

impl ObjectKind {
    /// The kind of a manifest, in any version of its group.
    pub fn of(api_version: &str, kind: &str) -> Option<Self> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let same = |k: &&Self| k.name() == kind && k.group() == group;
        Self::ALL.iter().find(same).copied()
    }

    /// Whether objects of the kind hold values, which are read only where something refers to them.
    pub fn has_values(self) -> bool {
        matches!(self, Self::Secret | Self::ConfigMap)
    }

    /// Whether objects of the kind stand outside namespaces.
    pub fn is_cluster_scoped(self) -> bool {
        matches!(self, Self::Tenant | Self::Namespace)
    }
}

/// An object by kind, namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId {
    pub kind: ObjectKind,
    /// Empty for kinds outside namespaces.
    pub namespace: String,
    pub name: String,
}

impl ObjectId {
    pub fn new(kind: ObjectKind, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            kind,
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// `Kind/namespace/name`, or `Kind/name` outside namespaces: the key of a status.
    pub fn key(&self) -> String {
        if self.namespace.is_empty() {
            format!("{}/{}", self.kind.name(), self.name)
        } else {
            format!("{}/{}/{}", self.kind.name(), self.namespace, self.name)
        }
    }

    /// `namespace/name`, the key of resources.
    pub fn path(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// The same for the model, which knows no Kubernetes.
    pub fn origin(&self) -> model::ObjectRef {
        model::ObjectRef::new(self.kind.name(), &*self.namespace, &*self.name)
    }
}

/// `Kind namespace/name`, or `Kind name` outside namespaces.
impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{} {}", self.kind.name(), self.name)
        } else {
            write!(f, "{} {}/{}", self.kind.name(), self.namespace, self.name)
        }
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

//! Kinds and identities of objects.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

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

            /// Whether it is one of the kinds of `diolkos.io`.
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
    /// Only where an Upstream selects Pods by labels.
    Pod, "", false;
    Secret, "", false;
    ConfigMap, "", false;
    Namespace, "", false;
    ReferenceGrant, "gateway.networking.k8s.io", false;
    GatewayClass, "gateway.networking.k8s.io", false;
    Gateway, "gateway.networking.k8s.io", false;
    ListenerSet, "gateway.networking.k8s.io", false;
    HTTPRoute, "gateway.networking.k8s.io", false;
    GRPCRoute, "gateway.networking.k8s.io", false;
    TLSRoute, "gateway.networking.k8s.io", false;
    TCPRoute, "gateway.networking.k8s.io", false;
    UDPRoute, "gateway.networking.k8s.io", false;
    BackendTLSPolicy, "gateway.networking.k8s.io", false;
    Ingress, "networking.k8s.io", false;
    IngressClass, "networking.k8s.io", false;
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

    /// Whether it is a kind of the Gateway API whose objects get a status where they are ours.
    pub fn is_gateway_api(self) -> bool {
        self.is_gateway_api_route()
            || matches!(
                self,
                Self::GatewayClass | Self::Gateway | Self::ListenerSet | Self::BackendTLSPolicy
            )
    }

    /// Whether objects of the kind may get a status from us.
    pub fn has_status(self) -> bool {
        self.is_ours() || self.is_gateway_api() || self == Self::Ingress
    }

    /// Whether objects of the kind have listeners, to which Routes attach.
    pub fn has_listeners(self) -> bool {
        matches!(
            self,
            Self::GatewayConfig | Self::Gateway | Self::ListenerSet
        )
    }

    /// Whether objects of the kind are Routes: they have rules and attach to listeners.
    pub fn is_route(self) -> bool {
        matches!(self, Self::Route | Self::Ingress) || self.is_gateway_api_route()
    }

    /// Whether it is one of the Routes of the Gateway API.
    pub fn is_gateway_api_route(self) -> bool {
        matches!(self, Self::HTTPRoute | Self::GRPCRoute) || self.is_of_streams()
    }

    /// Whether objects of the kind are Routes of connections or datagrams, into which nothing looks.
    pub fn is_of_streams(self) -> bool {
        matches!(self, Self::TLSRoute | Self::TCPRoute | Self::UDPRoute)
    }

    /// Whether objects of the kind stand outside namespaces.
    pub fn is_cluster_scoped(self) -> bool {
        matches!(
            self,
            Self::Tenant | Self::Namespace | Self::GatewayClass | Self::IngressClass
        )
    }
}

/// An object by kind, namespace and name. A clone is a pointer to the same: an object is spoken of in many places.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId(Arc<Parts>);

/// What an [`ObjectId`] says.
#[derive(PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Parts {
    pub kind: ObjectKind,
    /// Empty for kinds outside namespaces.
    pub namespace: Box<str>,
    pub name: Box<str>,
}

impl Deref for ObjectId {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl ObjectId {
    pub fn new(
        kind: ObjectKind,
        namespace: impl Into<Box<str>>,
        name: impl Into<Box<str>>,
    ) -> Self {
        Self(Arc::new(Parts {
            kind,
            namespace: namespace.into(),
            name: name.into(),
        }))
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

    /// Key of the resource of a Route: two of different kinds may have one name.
    pub fn route_key(&self) -> String {
        match self.kind {
            ObjectKind::Route => self.path(),
            _ => self.key(),
        }
    }

    /// Key of the resource of one of its listeners. `gateway`: of a ListenerSet, the Gateway that it adds to. Names of
    /// listeners have no colon.
    pub fn listener_key(&self, gateway: Option<&Self>, listener: &str) -> String {
        match (self.kind, gateway) {
            (_, Some(gateway)) => {
                let owner = gateway.key();
                format!("{owner}/{}:{}:{listener}", self.namespace, self.name)
            }
            (ObjectKind::GatewayConfig, None) => format!("{}/{listener}", self.path()),
            (_, None) => format!("{}/{listener}", self.key()),
        }
    }

    /// What a listener's key says whose data planes serve it.
    pub fn of_listener_owner(key: &str) -> Option<Self> {
        Self::of_listener_key(key).or_else(|| {
            let mut parts = key.split('/');
            let (namespace, name, _) = (parts.next()?, parts.next()?, parts.next()?);
            parts
                .next()
                .is_none()
                .then(|| Self::new(ObjectKind::GatewayConfig, namespace, name))
        })
    }

    /// The Gateway of a listener's key; `None` where it is a GatewayConfig's.
    pub fn of_listener_key(key: &str) -> Option<Self> {
        let (owner, _) = key.rsplit_once('/')?;
        let rest = owner.strip_prefix("Gateway/")?;
        let (namespace, name) = rest.split_once('/')?;
        Some(Self::new(ObjectKind::Gateway, namespace, name))
    }

    /// The object whose status speaks of the listener of a key: a ListenerSet, a Gateway or a GatewayConfig.
    pub fn of_listener_status(key: &str) -> Option<Self> {
        let owner = Self::of_listener_owner(key)?;
        let (_, name) = key.rsplit_once('/')?;
        let mut parts = name.splitn(3, ':');
        Some(match (parts.next(), parts.next(), parts.next()) {
            (Some(namespace), Some(name), Some(_)) => {
                Self::new(ObjectKind::ListenerSet, namespace, name)
            }
            _ => owner,
        })
    }

    /// The Route of a resource key. An Ingress gives several, whose names continue its own.
    pub fn of_route_key(key: &str) -> Option<Self> {
        let mut parts = key.split('/');
        let (first, second, third) = (parts.next()?, parts.next()?, parts.next());
        Some(match third {
            Some(name) => {
                let kind = ObjectKind::ALL
                    .iter()
                    .find(|k| k.is_route() && k.name() == first)?;
                Self::new(*kind, second, name)
            }
            None => Self::new(ObjectKind::Route, first, second),
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_of_a_set_is_its_gateways_and_told_of_by_the_set() {
        let gateway = ObjectId::new(ObjectKind::Gateway, "infra", "gw");
        let set = ObjectId::new(ObjectKind::ListenerSet, "team", "set.one");
        let of_set = set.listener_key(Some(&gateway), "http");
        assert_eq!(of_set, "Gateway/infra/gw/team:set.one:http");
        assert_ne!(of_set, gateway.listener_key(None, "http"));
        for (key, status) in [
            (&of_set, &set),
            (&gateway.listener_key(None, "http"), &gateway),
        ] {
            assert_eq!(ObjectId::of_listener_key(key).as_ref(), Some(&gateway));
            assert_eq!(ObjectId::of_listener_owner(key).as_ref(), Some(&gateway));
            assert_eq!(ObjectId::of_listener_status(key).as_ref(), Some(status));
        }
        let config = ObjectId::new(ObjectKind::GatewayConfig, "a", "b");
        let key = config.listener_key(None, "http");
        assert_eq!(key, "a/b/http");
        assert_eq!(ObjectId::of_listener_owner(&key).as_ref(), Some(&config));
        assert_eq!(ObjectId::of_listener_status(&key), Some(config));
    }
}

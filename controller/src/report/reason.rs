//! Why something is not as an object asks.

use std::fmt;

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $reason:ident,)*) => {
        /// Why something is not as the object asks; the `reason` of conditions. The list is closed and stable.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[doc = $doc])+ $reason,)*
        }

        impl Reason {
            pub const ALL: &'static [Self] = &[$(Self::$reason,)*];

            /// As it stands in conditions.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$reason => stringify!($reason),)*
                }
            }

            /// One sentence for the reference.
            pub fn describe(self) -> &'static str {
                match self {
                    $(Self::$reason => concat!($($doc),+).trim_ascii(),)*
                }
            }
        }
    };
}

reasons! {
    /// A value cannot be used: an expression does not compile, a duration is out of range, a type is unknown. The last accepted version serves; without one the rules concerned answer 500, and requests to the Services of a BackendTLSPolicy 503.
    Invalid,
    /// A fault of the controller's own while it translated the object, of which the log has the place: please report it. What served before serves on.
    InternalError,
    /// The object takes more than 448 KiB of snapshot. The last accepted version serves.
    TooLarge,
    /// `enabled: false`: the object is as if it were not there.
    Disabled,
    /// A field or kind that this release does not implement. Where it is about access or limits its rules answer 500.
    NotBuilt,
    /// No parentRef names a GatewayConfig, Gateway or listener that exists.
    NoMatchingParent,
    /// The listener does not take Routes of this kind, or from this namespace.
    NotAllowedByListeners,
    /// A Gateway takes no ListenerSets, or none from this namespace.
    NotAllowed,
    /// A Gateway asks for an address of a type that cannot be asked for: nothing of it serves elsewhere.
    UnsupportedAddress,
    /// The Gateway of a ListenerSet is not accepted itself.
    ParentNotAccepted,
    /// A Gateway has 2048 listeners with those of its ListenerSets: this one is not opened.
    TooManyListeners,
    /// No host of the Route is served by the listeners that it names.
    NoMatchingListenerHostname,
    /// A Tenant owns the host, and the namespace of the Route is not the Tenant's: for that host the Route is as if it were not there.
    HostnameNotOwned,
    /// A bound that the data plane cannot keep to; the nearest one is in effect.
    OutOfRange,
    /// An older object claims the same host and match, or of two Tenants the same host or namespace; that one has it.
    Conflict,
    /// Another listener has the same host on the same port. Of two listeners of one Gateway neither serves; of others the first of the object, or of the older object, does, and a Gateway's own before those of its ListenerSets.
    HostnameConflict,
    /// Another listener speaks another protocol on the same port. Of two listeners of one Gateway neither serves; of others the first of the object, or of the older object, does, and a Gateway's own before those of its ListenerSets.
    ProtocolConflict,
    /// A listener asks for the port at which data planes of its Gateway's or GatewayConfig's own show their state (19090 over TCP): it is not opened.
    PortUnavailable,
    /// Another, older GatewayConfig is the default.
    NotDefault,
    /// A backend does not exist, or cannot serve the Route: its share of the requests answers 500 `invalid_backend`, of connections and datagrams it is dropped.
    BackendNotFound,
    /// A Plugin does not exist or cannot be used: the rules that name it answer 500 `plugin_error`.
    PluginNotFound,
    /// A Secret or ConfigMap, or a key in it, does not exist: what needs it is not in effect. A certificate that was good before serves on.
    RefNotFound,
    /// A Secret or ConfigMap cannot be read, or may not be in its namespace: whether it exists is not known. A certificate that was good before serves on.
    RefNotReadable,
    /// A Secret or ConfigMap is being read. Until then the last accepted version serves.
    RefPending,
    /// A Secret does not hold a certificate with its key, or a Secret or ConfigMap no authorities. What was last good of it serves on; without that, what needs it is not in effect.
    InvalidCertificate,
    /// A Secret holds a value that cannot stand where it is to stand: what needs it is not in effect.
    InvalidValue,
    /// A certificate has expired. It is used all the same.
    CertificateExpired,
    /// No certificate of a listener carries its host name, or a certificate carries no name at all.
    CertificateNameMismatch,
    /// A reference to another namespace without a ReferenceGrant there.
    RefNotPermitted,
    /// A reference to a kind that cannot stand there.
    InvalidKind,
    /// A filter or value of an HTTPRoute or GRPCRoute that this release does not know or does not support there. Its rule answers 500.
    UnsupportedValue,
    /// A Gateway or its class names parameters that are no GatewayConfig, or one that is not there: nothing of the Gateway serves with other ones.
    InvalidParameters,
    /// A GatewayClass while the CustomResourceDefinitions of the Gateway API are of a release that this one was not made for: it is served as far as they agree.
    UnsupportedVersion,
    /// A GatewayClass while the controller may not list or watch kinds that it reads: the message names them with the verb that is missing, and says whether anything is published.
    MissingPermissions,
    /// An older policy speaks for the same Service and port.
    Conflicted,
    /// A BackendTLSPolicy, or what a Gateway asks of clients, names no authorities that can be used. What was last good of them serves on; without that, requests to the policy's Services answer 503, and the listeners concerned are not opened.
    NoValidCACertificate,
    /// An annotation of ingress-nginx that is not known, or not implemented: it has no effect. Where it is about access or limits the paths of its Ingress answer 500.
    AnnotationNotSupported,
    /// A listener of a Gateway or ListenerSet asks for a protocol that this release does not implement.
    UnsupportedProtocol,
    /// A listener of a Gateway or ListenerSet asks for Routes of a kind that cannot attach to it.
    InvalidRouteKinds,
    /// A Service without endpoints for the port: requests answer 503 `no_healthy_upstream`.
    NoEndpoints,
    /// Endpoints do not work, as checks or failed requests show: they get no requests until they do. It does not enter `Ready`.
    EndpointsUnhealthy,
    /// A port of a Service is declared as TLS, and no Upstream says how its certificate is checked: it is spoken to in clear.
    TlsNotConfigured,
    /// A data plane refused the resource. All have what was accepted before; where there is nothing before it, or the data plane has come anew, only that one does without.
    RejectedByDataPlane,
    /// A data plane is of a build that would pass over a part of the object; the message names it and the capability that it lacks. It alone keeps the version before; where there is none, a Route answers 500 there, and anything else is not there. Or it reads other revisions of the schema than the controller writes, which the message names: it goes on with what it has, of all objects.
    DataPlaneTooOld,
    /// A data plane could not open the listener, for example because the port is taken.
    ListenerNotBound,
    /// The Service of data planes of its own has no address yet.
    AddressNotAssigned,
    /// Data planes of its own need a Secret with their certificate in its namespace, where the controller may not write one: none are made, and those that are there are left as they are.
    DataPlanesNotPermitted,
    /// The configuration is rolled back: the object is held as it was then, or as if it were not there.
    RolledBack,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Reason {
    /// Whether an object with such a problem is quarantined: its last accepted version serves.
    pub fn quarantines(self) -> bool {
        matches!(
            self,
            Self::Invalid | Self::InternalError | Self::TooLarge | Self::RefPending
        )
    }

    /// Whether it belongs to the condition `Conflicted` of a listener.
    pub(super) fn is_conflict(self) -> bool {
        matches!(self, Self::HostnameConflict | Self::ProtocolConflict)
    }

    /// Whether only another version of the object helps: nothing that comes later does.
    pub(super) fn is_final(self) -> bool {
        matches!(
            self,
            Self::Invalid
                | Self::TooLarge
                | Self::NotBuilt
                | Self::InvalidKind
                | Self::UnsupportedValue
                | Self::PortUnavailable
        )
    }

    /// Whether it belongs to the condition `ResolvedRefs`.
    pub(crate) fn is_about_references(self) -> bool {
        matches!(
            self,
            Self::BackendNotFound
                | Self::PluginNotFound
                | Self::RefNotFound
                | Self::RefNotReadable
                | Self::RefPending
                | Self::InvalidCertificate
                | Self::InvalidValue
                | Self::RefNotPermitted
                | Self::InvalidKind
                | Self::InvalidRouteKinds
        )
    }
}

//! Any resource of the model.

use model::{Certificate, EndpointShard, Listener, Model, Plugin, Route, Tenant, Upstream};
use snapshot::{Kind, TooLarge};

macro_rules! resources {
    ($($kind:ident($type:ty), $field:ident;)*) => {
        /// One resource, of whatever kind.
        #[derive(Clone, Debug, PartialEq)]
        pub(crate) enum Resource {
            $($kind($type),)*
        }

        $(impl From<$type> for Resource {
            fn from(item: $type) -> Self {
                Self::$kind(item)
            }
        })*

        impl Resource {
            pub(super) fn kind(&self) -> Kind {
                match self {
                    $(Self::$kind(_) => Kind::$kind,)*
                }
            }

            /// The canonical body.
            pub(super) fn encode(&self) -> Result<Vec<u8>, TooLarge> {
                match self {
                    $(Self::$kind(item) => snapshot::encode(item),)*
                }
            }

            /// Puts the resource into its section. Returns whether that changed anything.
            pub(super) fn put(self, key: &str, model: &mut Model) -> bool {
                match self {
                    $(Self::$kind(item) => {
                        if model.$field.get(key) == Some(&item) {
                            return false;
                        }
                        model.$field.insert(key.to_owned(), item);
                        true
                    })*
                }
            }
        }

        /// Takes a resource out of its section.
        pub(super) fn take(kind: Kind, key: &str, model: &mut Model) {
            match kind {
                $(Kind::$kind => drop(model.$field.remove(key)),)*
            }
        }
    };
}

resources! {
    Listener(Listener), listeners;
    Route(Route), routes;
    Upstream(Upstream), upstreams;
    EndpointShard(EndpointShard), shards;
    Plugin(Plugin), plugins;
    Certificate(Certificate), certificates;
    Tenant(Tenant), tenants;
}

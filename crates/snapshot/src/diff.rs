//! A decoded transaction: what changes in the model.

use model::{Certificate, EndpointShard, Listener, Plugin, Route, Tenant, Upstream};

/// A resource that appeared, changed or went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change<T> {
    pub key: String,
    /// `None`: it is gone.
    pub item: Option<T>,
}

/// Everything one transaction changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Everything that was there before is gone.
    pub full: bool,
    pub listeners: Vec<Change<Listener>>,
    pub routes: Vec<Change<Route>>,
    pub upstreams: Vec<Change<Upstream>>,
    pub shards: Vec<Change<EndpointShard>>,
    pub plugins: Vec<Change<Plugin>>,
    pub certificates: Vec<Change<Certificate>>,
    pub tenants: Vec<Change<Tenant>>,
}

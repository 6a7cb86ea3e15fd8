//! Tenants: whose a host is.

use crate::{HostPattern, ObjectRef};

/// Owner of hosts: of all Routes that cover one of them only those of the Tenant are found for it.
///
/// Where patterns of several Tenants cover a host it is of the most specific one, as for listeners; no two Tenants of
/// a model have the same pattern.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tenant {
    pub origin: ObjectRef,
    /// Names and wildcards, never [`HostPattern::Any`] or an expression.
    pub hosts: Vec<HostPattern>,
}

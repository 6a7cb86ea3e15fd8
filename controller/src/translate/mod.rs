//! From the world to the model: pure, total and deterministic.
//!
//! Whatever an object holds, translation ends with a model and a report; what cannot be honoured becomes a
//! [`Problem`](crate::report::Problem) that names the field. No clocks and no randomness: equal worlds give equal bytes on every replica (the
//! world's time only decides whether a certificate is said to have expired).
//!
//! The work is cut into units: one for each object, one for all GatewayConfigs together (ports and the default are
//! theirs in common), one for all Tenants, and one for each Service port that something refers to. A unit is lowered by a pure function
//! that also says what it looked at; the [`Translator`] remembers that and lowers again what an event concerns.
//!
//! Quarantine: where a version of an object is not acceptable as a whole ([`Reason::quarantines`]), the unit is lowered
//! from the last accepted version instead, against the present world.
//!
//! [`Reason::quarantines`]: crate::report::Reason::quarantines

mod attempts;
mod backend;
mod backend_tls;
mod certificate;
mod conflict;
mod delta;
mod effective;
mod gateway_config;
mod grants;
mod ingress;
mod lowering;
mod matches;
mod parents;
mod plugin;
mod references;
mod resources;
mod rewrite;
mod route;
mod rule;
mod service;
mod tenants;
mod translator;
mod unbuilt;
mod upstream;
mod values;

#[cfg(test)]
mod golden_tests;
#[cfg(test)]
mod property_tests;

pub use delta::Delta;
pub use resources::Resources;
pub(crate) use translator::class_reports;
pub use translator::{Mismatch, Published, Recheck, Translator};

use crate::report::Report;
use crate::world::{Object, World};
use gateway_api::gateway::GatewaySpec;

/// What a world comes to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Translation {
    pub resources: Resources,
    pub report: Report,
}

/// The whole world at once, without a past: nothing is quarantined to an older version.
pub fn translate(world: &World) -> Translation {
    let mut translator = Translator::default();
    translator.update(world, &world.ids().cloned().collect());
    translator.into_translation()
}

/// What the GatewayConfig that a Gateway names says about its data planes; `None`: that cannot be known.
pub(crate) fn data_plane(
    world: &World,
    gateway: &Object,
    spec: &GatewaySpec,
) -> Option<crds::DataPlane> {
    let base = gateway_config::base(world, gateway, spec).ok()?;
    let asked = base.and_then(|config| config.data_plane.clone());
    Some(asked.unwrap_or_default())
}

//! The control plane: from objects to what data planes serve.
//!
//! The pure half reads objects from anywhere and knows neither sockets nor clocks: [`world`] (a compact index),
//! [`translate`] (world to model, total and deterministic), [`report`] (what is wrong with which object),
//! [`publish`] (one store, one state machine a data plane). [`load`] reads directories, and [`standalone`] runs all of
//! it for `diolkos run DIR`.
//!
//! The cluster half talks: [`watch`] (API server to world), [`serve`] (gRPC to data planes), [`ca`] (certificates of
//! that channel), [`tokens`] (which Pod a data plane is), [`health`] (what data planes find out together about endpoints), [`events`] (who is told of it),
//! [`leader`] (who writes), [`replicas`] (what the others know), [`status`] (what is written) and [`admin`] (health and metrics). [`app`] puts them together
//! for `diolkos-controller`.

mod adapt;
pub mod admin;
pub mod app;
pub mod ca;
pub mod config;
pub mod events;
#[cfg(test)]
mod fake_api;
#[cfg(test)]
mod fake_log;
mod few;
mod fill;
pub mod groups;
pub mod health;
pub mod history;
pub mod infrastructure;
pub mod leader;
pub mod metrics;
pub mod objects;
mod outage;
pub mod panics;
pub mod replicas;
pub mod serve;
pub mod stand_ins;
pub mod status;
pub mod tls;
pub mod tokens;
pub mod watch;
pub mod webhook;

pub mod load;
pub mod publish;
pub mod report;
pub mod standalone;
pub mod translate;
pub mod world;

pub use adapt::ingress::annotations::documented as ingress_annotations;

//! The kinds of `diolkos.io/v1alpha1` as Rust types, and all that follows from them: the
//! CustomResourceDefinitions, their YAML, and the admission of objects without a cluster.
//!
//! A field's docstring is what `kubectl explain` prints. Defaults stand in the docstrings and are applied
//! when objects are compiled, never in the schema: a server that fills in fields makes GitOps tools see drift.
//! Reading is lenient, because an older controller must read what a newer one accepted: unknown fields are
//! skipped here and reported by [`admission`].

// Printer columns share their types: the lint takes them for one attribute written twice.
#![allow(clippy::duplicated_attributes)]
// Docstrings of fields are what `kubectl explain` prints: plain text, in which <, > and URLs mean themselves.
#![allow(rustdoc::bare_urls, rustdoc::invalid_html_tags)]

pub mod access;
pub mod admission;
pub mod ai;
mod consumer;
mod definitions;
mod duration;
mod gateway_config;
pub mod header;
pub mod limits;
mod model_catalog;
pub mod observe;
mod plugin;
mod quantity;
pub mod refs;
mod route;
mod schema;
mod status;
mod tenant;
pub mod text;
mod timestamp;
mod tls;
mod upstream;

pub use consumer::*;
pub use definitions::{GROUP, KINDS, VERSION, all, yaml};
pub use duration::Duration;
pub use gateway_config::*;
pub use model_catalog::*;
pub use plugin::*;
pub use quantity::Quantity;
pub use route::*;
pub use status::{Condition, Status};
pub use tenant::*;
pub use timestamp::{Timestamp, TimestampError};
pub use tls::TlsVersion;
pub use upstream::*;

//! What the data plane tells about itself: metrics and the access log.

pub mod access_log;
pub mod apart;
mod budget;
pub mod connections;
mod engine;
pub mod listeners;
mod log_filter;
mod log_template;
pub mod logs;
pub mod metrics;
pub mod otlp;
mod plugins;
pub mod requests;
pub mod routes;
pub(crate) mod trace;
mod upstreams;

pub use access_log::AccessLog;
pub use metrics::{Bounded, Metrics};
pub use plugins::PluginMetrics;
pub use requests::RequestSeries;
pub use routes::{RouteStats, Routes};

//! The data plane: listen, route, relay.
//!
//! A request's journey is [`proxy`]; below it stands the [`engine`] with the [`h1`] codec, on worker threads of
//! [`listen`]. A configuration's journey is [`push`] (the stream from a controller) into [`sync`] (stage, compile to a
//! [`table`], swap, open [`listeners`], [`keep`] a copy). [`app`] puts them together; [`pressure`] is what is given up where
//! memory is short.

pub mod activation;
pub mod admin;
pub mod app;
mod by_host;
mod discover;
pub mod engine;
pub mod h1;
pub mod handover;
mod health;
pub mod keep;
pub mod listen;
pub mod listeners;
#[cfg(test)]
#[allow(dead_code, unreachable_pub, reason = "other tests use the rest of it")]
#[path = "../tests/support/logs.rs"]
mod logs;
mod outside;
pub mod pressure;
pub mod probe;
pub mod proxy;
pub mod push;
mod resolve;
pub mod sync;
pub mod table;
pub mod telemetry;
pub mod tls;

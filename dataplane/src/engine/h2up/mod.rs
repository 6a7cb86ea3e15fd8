//! Upstreams over HTTP/2.
//!
//! [`pool`] keeps the connections of one thread by key and lets several exchanges share one; [`conn`] is one
//! connection with its driver and its probe; [`exchange`] is one exchange behind [`Up`](super::Up); [`fields`]
//! turns heads into their HTTP/2 form and back; [`slots`] counts streams.

mod conn;
mod exchange;
mod fields;
mod pool;
mod slots;

pub(crate) use conn::{Limits, handshake};
pub use exchange::H2Up;
pub(crate) use fields::is_grpc;
pub use pool::H2Pool;
pub(crate) use pool::{Claim, Lead};

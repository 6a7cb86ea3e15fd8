//! The engine: connections, exchanges and their relay, below everything that knows routes.
//!
//! Reading order: [`head`] (what a request is here), [`traits`] (the seam between client's and upstream's side),
//! [`relay`](mod@relay) (one exchange), [`conn`] (a client's connection), [`pool`] (idle upstream connections).
//! `down` and `up` are the two sides over HTTP/1, `h2` is the client's over HTTP/2; [`sanitize`] is the edge gate's grammar of path and host.

mod buffers;
mod client;
pub mod conn;
pub(crate) mod date;
pub mod deadline;
mod down;
pub mod drain;
pub mod fault;
mod h2;
pub mod head;
mod io;
pub mod open;
pub mod outbox;
mod pingora;
pub mod pool;
pub mod proxy_protocol;
pub mod relay;
pub mod sanitize;
pub mod tls;
pub mod traits;
mod tunnel;
mod up;
mod websocket;

pub use crate::h1::HeadLimits;
pub use client::ClientSocket;
pub use conn::{
    ConnConfig, ConnInfo, Event, Exchange, Outcome, Protocol, Service, serve_connection,
};
pub use deadline::{ClientTimeouts, Elapsed, Timeouts, Timer};
pub use down::H1Down;
pub use fault::{DownFault, Fault, Progress, UpFault};
pub use h2::H2Down;
pub use head::{Framing, Method, RequestHead, ResponseHead, Target, Version};
pub use io::Socket;
pub use pool::{Keep, Pool, PoolConfig, PoolCounters, PoolKey};
pub use relay::relay;
pub use sanitize::Host;
pub use tls::{TlsFailure, TlsFront, TlsInfo};
pub use traits::{Abort, BodyTap, Down, DownExt, Up};
pub use up::H1Up;

//! The engine: connections, exchanges and their relay, below everything that knows routes.
//!
//! Reading order: [`head`] (what a request is here), [`traits`] (the seam between client's and upstream's side),
//! [`relay`](mod@relay) (one exchange), [`conn`] (a client's connection), [`connections`] (connections to
//! upstreams: opened by `dial`, kept in [`pool`] for HTTP/1 and in `h2up` for HTTP/2, where exchanges share them).
//! `down` and `up` are the two sides over HTTP/1, `h2` is the client's over HTTP/2; [`sanitize`] is the edge gate's
//! grammar of path and host, [`edge`] what each listener lets in beyond it.

mod buffers;
mod client;
pub mod conn;
pub mod connections;
pub(crate) mod date;
pub mod deadline;
mod dial;
mod down;
pub mod drain;
pub mod edge;
pub mod fault;
mod h2;
mod h2up;
pub mod head;
mod io;
pub mod open;
pub mod outbox;
pub mod pace;
mod pingora;
pub mod pool;
pub mod proxy_header;
pub mod proxy_protocol;
pub mod relay;
pub mod sanitize;
pub mod splice;
pub mod tls;
pub mod tls_client;
pub mod traits;
mod tunnel;
mod up;
pub(crate) mod websocket;

pub use crate::h1::HeadLimits;
pub use client::ClientSocket;
pub use conn::{
    ConnConfig, ConnInfo, Event, Exchange, Outcome, Protocol, Service, Shortage, serve_connection,
};
pub use connections::{AnyUp, Connected, Connections, Tunnel, Want};
pub use deadline::{ClientTimeouts, Elapsed, Timeouts, Timer};
pub use dial::{Dial, UpSocket};
pub use down::H1Down;
pub use edge::EdgePolicies;
pub use fault::{DownFault, Fault, Progress, UpFault};
pub use h2::H2Down;
pub(crate) use h2up::is_grpc;
pub use h2up::{H2Pool, H2Up};
pub use head::{Framing, Method, RequestHead, ResponseHead, Target, Version};
pub use io::Socket;
pub use pace::{Pace, PaceLimits};
pub use pool::{H2Counters, Keep, Pool, PoolConfig, PoolCounters, PoolKey};
pub use relay::relay;
pub use sanitize::Host;
pub use tls::{TlsFailure, TlsFront, TlsInfo};
pub use tls_client::{Alpn, SubjectName, TlsClient, TlsError, TlsSettings};
pub use traits::{Abort, BodyTap, Down, DownExt, Up};
pub use up::H1Up;

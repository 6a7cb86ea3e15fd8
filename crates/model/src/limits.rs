//! The bounds and defaults of the product, in one place. Field descriptions, documentation and tests refer to these.

use std::time::Duration;

/// Bytes of a request head or response head in HTTP/1 (`caps.headerBytes`).
pub const HEADER_BYTES: u32 = 64 * 1024;
/// Header fields of one message, trailers included (`caps.headerCount`).
pub const HEADER_COUNT: u32 = 100;
/// Bytes of a request target (`caps.urlBytes`).
pub const URL_BYTES: u32 = 8 * 1024;
/// Client connections of one process (`caps.connections`).
pub const CONNECTIONS: u32 = 100_000;
/// Requests on one client connection before it is closed (`caps.requestsPerConnection`).
pub const REQUESTS_PER_CONNECTION: u32 = 10_000;
/// Bytes of a request body (`rules[].maxRequestBody`).
pub const REQUEST_BODY: u64 = 10 * 1024 * 1024;
/// Series of metrics for labels with values from the configuration (`metrics.maxSeries`).
pub const SERIES: u32 = 2_000;
/// Bytes that a body may have where a plugin needs it whole.
pub const BUFFERED_BODY: u64 = 32 * 1024 * 1024;
/// Bodies that one process compresses at the same time; one more goes out as it is. Each takes up to about 2 MiB.
pub const ENCODERS: usize = 1024;
/// Decoded bytes for each encoded byte of a compressed body, beyond the first 64 KiB. Text reaches about 20.
pub const DECODED_RATIO: u64 = 200;
/// Bytes of one encoded resource of a snapshot.
pub const RESOURCE_BYTES: usize = 448 * 1024;
/// Bytes of one chunk of a transaction.
pub const CHUNK_BYTES: usize = 512 * 1024;
/// Memory that one compiled regular expression may take, in bytes.
pub const REGEX_BYTES: usize = 1024 * 1024;

/// From the first byte of a request head to its last (`timeouts.requestHeader`).
pub const REQUEST_HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// An idle client connection (`timeouts.keepAlive`).
pub const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// A connection of a client: what is under way then is finished, and no further request taken.
pub const CLIENT_LIFETIME: Duration = Duration::from_secs(3600);
/// What a client must send of a body or take of an answer, in bytes a second while it is waited for.
pub const CLIENT_RATE: u64 = 240;
/// How long it may do nothing at first.
pub const CLIENT_GRACE: Duration = Duration::from_secs(10);
/// How long it may pause after having been faster.
pub const CLIENT_CREDIT: Duration = Duration::from_secs(30);
/// Connections of one client address, or of one /64 of IPv6.
pub const CONNECTIONS_PER_SOURCE: u32 = 256;
/// How long a stopping process waits for its exchanges (`timeouts.drain`).
pub const DRAIN: Duration = Duration::from_secs(300);
/// Connection establishment to an upstream (`timeouts.connect`).
pub const CONNECT: Duration = Duration::from_secs(1);
/// From the request's last byte to the answer's head (`timeouts.firstByte`).
pub const FIRST_BYTE: Duration = Duration::from_secs(60);
/// Between two body bytes (`timeouts.streamIdle`).
pub const STREAM_IDLE: Duration = Duration::from_secs(90);
/// From the head of an event stream to its first event (`timeouts.firstEvent`).
pub const FIRST_EVENT: Duration = Duration::from_secs(300);
/// Without a byte in either direction on a connection that is passed on as it is (TLSRoute, TCPRoute).
pub const CONNECTION_IDLE: Duration = Duration::from_secs(3600);
/// Without a datagram in either direction (UDPRoute).
pub const SESSION_IDLE: Duration = Duration::from_secs(60);
/// Clients of one process whose datagrams are passed on at a time.
pub const SESSIONS: usize = 16 * 1024;
/// Bytes that a client may send before it is known which host its TLS connection is for.
pub const CLIENT_HELLO_BYTES: usize = 16 * 1024;

//! The life of a client's HTTP/1 connection: request after request into a service.

use super::buffers::{self, Scratch};
use super::deadline::ClientTimeouts;
use super::down::{H1Down, Next};
use super::drain::Ticket;
use super::head::{RequestHead, ResponseHead};
use super::io::Socket;
use super::sanitize;
use super::traits::{Down, DownExt};
use crate::h1::{HeadLimits, Reject};
use bytes::Bytes;
use futures_util::FutureExt;
use std::future::Future;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

/// Where a connection came from.
#[derive(Clone, Debug)]
pub struct ConnInfo {
    /// Unique within the process.
    pub id: u64,
    pub peer: SocketAddr,
    pub local: SocketAddr,
    /// Key of the listener that accepted it.
    pub listener: Arc<str>,
}

/// Bounds of one client connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnConfig {
    pub timeouts: ClientTimeouts,
    /// Requests on one connection; by up to a tenth less, so that connections opened together do not end together.
    pub requests: u32,
    pub head: HeadLimits,
}

impl Default for ConnConfig {
    fn default() -> Self {
        Self {
            timeouts: ClientTimeouts::default(),
            requests: 10_000,
            head: HeadLimits::default(),
        }
    }
}

/// One request and what is needed to answer it.
#[derive(Debug)]
pub struct Exchange<'a, D> {
    pub conn: &'a ConnInfo,
    /// Sanitised.
    pub request: &'a mut RequestHead,
    /// Room for the answer's head, reused from exchange to exchange. Holds an old answer at first.
    pub answer: &'a mut ResponseHead,
    pub down: &'a mut D,
}

/// How a service left an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered completely.
    Done,
    /// To be answered with this refusal if nothing was sent; the connection closes.
    Reject(Reject),
    /// The connection is cut: the client is gone, or its answer is broken.
    Close,
}

/// Answers requests. One value serves all connections of a thread.
pub trait Service: 'static {
    /// Answers one request: locally by [`DownExt::respond`] or from an upstream by [`relay`](super::relay::relay).
    fn serve<D: Down>(&self, exchange: Exchange<'_, D>) -> impl Future<Output = Outcome>;

    /// Whether forwarding fields of this client are believed; else the edge gate removes them.
    fn trusts_forwarded(&self, conn: &ConnInfo) -> bool {
        let _ = conn;
        false
    }

    /// The answer to a message that never became a request, or to a request whose service panicked: for the log and
    /// for answers in another form than the catalogue's `{"error":"CODE"}`. `head` has status and no fields.
    fn refuse(&self, conn: &ConnInfo, reject: &Reject, head: &mut ResponseHead) -> Bytes {
        let _ = conn;
        // A constant name and value, so it is taken.
        let _ = head.headers.push("content-type", "application/json");
        Bytes::from([r#"{"error":""#, reject.code, r#""}"#].concat())
    }
}

/// Serves one connection to its end.
pub async fn serve_connection<S: Socket, V: Service>(
    socket: S,
    info: &ConnInfo,
    service: &V,
    config: &ConnConfig,
    ticket: Ticket,
) {
    let mut down = H1Down::new(socket, config.timeouts, config.head, ticket);
    let trust = service.trusts_forwarded(info);
    let mut left = config.requests - (info.id % u64::from(config.requests / 10 + 1)) as u32;
    while down.wait().await {
        let mut scratch = buffers::take_scratch();
        left = left.saturating_sub(1);
        if left == 0 {
            down.close_after_answer();
        }
        let go_on = exchange(&mut down, info, service, trust, &mut scratch).await;
        buffers::put_scratch(scratch);
        if !go_on {
            break;
        }
    }
    down.close().await;
}

/// Serves one request; whether the connection can serve another.
async fn exchange<S: Socket, V: Service>(
    down: &mut H1Down<S>,
    info: &ConnInfo,
    service: &V,
    trust: bool,
    scratch: &mut Scratch,
) -> bool {
    let Scratch { request, answer } = scratch;
    let outcome = match down.next(request).await {
        Next::Closed => return false,
        Next::Reject(reject) => Outcome::Reject(reject),
        Next::Request => {
            sanitize::client_headers(&mut request.headers, trust);
            let exchange = Exchange {
                conn: info,
                request,
                answer,
                down: &mut *down,
            };
            // A panic ends this exchange and nothing else.
            AssertUnwindSafe(service.serve(exchange))
                .catch_unwind()
                .await
                .unwrap_or(Outcome::Reject(Reject::internal_error(
                    "panic in a request",
                )))
        }
    };
    let reject = match outcome {
        Outcome::Close => {
            down.close_after_answer();
            return false;
        }
        _ if down.has_answered() => None,
        Outcome::Done => Some(Reject::internal_error(
            "service left a request without answer",
        )),
        Outcome::Reject(reject) => Some(reject),
    };
    if let Some(reject) = reject {
        down.close_after_answer();
        answer.reset(reject.status);
        let body = service.refuse(info, &reject, answer);
        // The connection ends in any case.
        let _ = down.respond(answer, body).await;
        return false;
    }
    down.drain().await;
    down.is_reusable()
}

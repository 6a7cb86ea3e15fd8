//! The validating webhook: objects are judged by the translator that would lower them, before they are stored.
//!
//! It is off unless it has an address. It reads bounded requests over TLS, writes nothing, and answers 503 where it does
//! not know the world yet or has too much to do: with `failurePolicy: Ignore` the object is then stored, and its
//! conditions say what is wrong as ever.

mod certificate;
mod connection;
mod review;

use crate::panics::Parts;
use crate::watch::handle::WorldHandle;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::serve::Listener;
use certificate::Reloading;
pub use certificate::{CertificateError, Files};
use connection::Connection;
use review::{Asked, Review};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// As much as the API server sends of an object of 1.5 MiB, old and new.
const BODY_BYTES: usize = 3 << 20;
/// Reviews at a time; the owner of the world takes one after the other anyway.
const REVIEWS: usize = 8;
/// How long one may wait for its turn and its answer: the API server waits no longer either.
const PATIENCE: Duration = Duration::from_secs(5);
/// Connections at a time.
const CONNECTIONS: usize = 256;
/// TLS must stand after this.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// See the module.
pub struct Webhook {
    world: WorldHandle,
    files: Files,
}

#[derive(Clone)]
struct Reviewer {
    world: WorldHandle,
    turns: Arc<Semaphore>,
}

impl Webhook {
    pub fn new(world: WorldHandle, files: Files) -> Self {
        Self { world, files }
    }

    /// Serves until `stop`.
    ///
    /// # Errors
    /// [`CertificateError`] when the files cannot be used at the start; later ones are logged, and the last good
    /// certificate is shown.
    pub fn start(
        self,
        listener: TcpListener,
        parts: &Parts,
        stop: CancellationToken,
    ) -> Result<(), CertificateError> {
        let certificates = Reloading::load(self.files)?;
        let (connections, incoming) = mpsc::channel(8);
        let address = listener.local_addr();
        let accept = accept(listener, certificates, connections, stop.clone());
        tokio::spawn(parts.part("connections of the webhook", accept));
        let reviewer = Reviewer {
            world: self.world,
            turns: Arc::new(Semaphore::new(REVIEWS)),
        };
        let routes = Router::new()
            .route("/validate", post(validate))
            .layer(DefaultBodyLimit::max(BODY_BYTES))
            .with_state(reviewer);
        let incoming = Incoming { incoming, address };
        tokio::spawn(parts.part("webhook", async move {
            let served =
                axum::serve(incoming, routes).with_graceful_shutdown(stop.cancelled_owned());
            if let Err(error) = served.await {
                tracing::error!(%error, "the webhook has failed");
            }
        }));
        Ok(())
    }
}

async fn validate(State(reviewer): State<Reviewer>, body: Bytes) -> Response {
    let answered = timeout(PATIENCE, reviewer.answer(&body)).await;
    answered
        .unwrap_or_else(|_| (StatusCode::SERVICE_UNAVAILABLE, "too much to do\n").into_response())
}

impl Reviewer {
    async fn answer(&self, body: &[u8]) -> Response {
        let Ok(_turn) = self.turns.acquire().await else {
            return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response();
        };
        let review: Review = match serde_json::from_slice(body) {
            Ok(review) => review,
            // What serde says might quote the object.
            Err(_) => {
                return (
                    StatusCode::BAD_REQUEST,
                    "not an AdmissionReview of admission.k8s.io/v1\n",
                )
                    .into_response();
            }
        };
        let answer = match review.asked() {
            Asked::Nothing => review.answer(&[]),
            Asked::Unreadable(message) => review.refusal(&message),
            Asked::Object(object) => match self.world.review(*object).await {
                Some(problems) => review.answer(&problems),
                None => {
                    return (
                        StatusCode::SERVICE_UNAVAILABLE,
                        "waiting for the first translation\n",
                    )
                        .into_response();
                }
            },
        };
        axum::Json(answer).into_response()
    }
}

/// Connections whose TLS stands.
struct Incoming {
    incoming: mpsc::Receiver<(Connection, SocketAddr)>,
    address: io::Result<SocketAddr>,
}

impl Listener for Incoming {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.incoming.recv().await {
            Some(connection) => connection,
            // It stops.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        match &self.address {
            Ok(address) => Ok(*address),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        }
    }
}

async fn accept(
    listener: TcpListener,
    mut certificates: Reloading,
    connections: mpsc::Sender<(Connection, SocketAddr)>,
    stop: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "the webhook cannot accept connections");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // Closed at once where there are too many; the API server tries again.
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            continue;
        };
        let acceptor = TlsAcceptor::from(certificates.settings());
        let connections = connections.clone();
        tokio::spawn(async move {
            let handshake = timeout(HANDSHAKE, acceptor.accept(stream)).await;
            if let Ok(Ok(stream)) = handshake {
                let connection = Connection::new(stream, slot);
                drop(connections.send((connection, address)).await);
            }
        });
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

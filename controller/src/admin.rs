//! The admin port: health, readiness, metrics and what the controller thinks of each object.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::groups::Groups;
use crate::metrics::Metrics;
use crate::watch::handle::WorldHandle;

/// What the admin port shows.
#[derive(Clone)]
pub struct Admin {
    pub world: WorldHandle,
    pub groups: Arc<Groups>,
    pub metrics: Arc<Metrics>,
    /// The process stops: it takes no new streams.
    pub stopping: Arc<AtomicBool>,
}

impl Admin {
    /// Serves until `stop`.
    ///
    /// # Errors
    /// The listener fails.
    pub async fn serve(
        self,
        listener: TcpListener,
        stop: CancellationToken,
    ) -> std::io::Result<()> {
        let routes = Router::new()
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            .route("/metrics", get(metrics))
            .route("/api/v1/status", get(status))
            .with_state(self);
        axum::serve(listener, routes)
            .with_graceful_shutdown(stop.cancelled_owned())
            .await
    }
}

/// Ready: every watch has listed its objects, and the first translation is published.
async fn ready(State(admin): State<Admin>) -> Response {
    if admin.stopping.load(Ordering::Acquire) {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response();
    }
    if admin.groups.is_ready() {
        return "ready\n".into_response();
    }
    let missing: Vec<_> = admin
        .world
        .missing()
        .into_iter()
        .map(|kind| kind.name())
        .collect();
    let text = match missing.as_slice() {
        [] if admin.groups.is_published() => "waiting for the leader\n".to_owned(),
        [] => "waiting for the first translation\n".to_owned(),
        kinds => format!("waiting for the list of {}\n", kinds.join(", ")),
    };
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

async fn metrics(State(admin): State<Admin>) -> Response {
    admin.world.count().await;
    match admin.metrics.render(&admin.groups) {
        Ok(text) => (
            [(
                header::CONTENT_TYPE,
                "text/plain; version=0.0.4; charset=utf-8",
            )],
            text,
        )
            .into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn status(State(admin): State<Admin>) -> Response {
    Json(admin.world.all().await).into_response()
}

//! The admin port: health, readiness, metrics, what the controller thinks of each object, and the way back to a former
//! configuration, over loopback only (`docs/admin.md`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{ConnectInfo, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use serde_json::json;
use snapshot::Revision;
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::groups::Groups;
use crate::history::store::Store;
use crate::metrics::Metrics;
use crate::watch::handle::WorldHandle;
use crate::world::ObjectId;

/// What the admin port shows.
#[derive(Clone)]
pub struct Admin {
    pub world: WorldHandle,
    pub groups: Arc<Groups>,
    pub metrics: Arc<Metrics>,
    pub rollbacks: Store,
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
            .route("/api/v1/revisions", get(revisions))
            .route("/api/v1/rollback", put(roll_back).delete(roll_on))
            .with_state(self)
            .into_make_service_with_connect_info::<SocketAddr>();
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

async fn revisions(State(admin): State<Admin>) -> Response {
    Json(admin.world.revisions().await).into_response()
}

fn refuse(status: StatusCode, error: &str, message: impl ToString) -> Response {
    let body = json!({"error": error, "message": message.to_string()});
    (status, Json(body)).into_response()
}

/// What changes traffic is asked for over loopback only, which `kubectl port-forward` is.
fn from_afar(peer: SocketAddr) -> Option<Response> {
    let message = "a rollback is asked for over loopback only, such as by kubectl port-forward";
    let is_far = !peer.ip().to_canonical().is_loopback();
    is_far.then(|| refuse(StatusCode::FORBIDDEN, "forbidden", message))
}

/// The body is a revision, as 12 hexadecimal digits.
async fn roll_back(
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    State(admin): State<Admin>,
    body: String,
) -> Response {
    if let Some(refused) = from_afar(peer) {
        return refused;
    }
    let revision: Revision = match body.trim().parse() {
        Ok(revision) => revision,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, "invalid_request", error),
    };
    let Some(rollback) = admin.world.back_to(revision).await else {
        let message = format!(
            "revision {revision} is not remembered here; /api/v1/revisions lists those that are"
        );
        return refuse(StatusCode::NOT_FOUND, "not_found", message);
    };
    if rollback.objects.is_empty() {
        let message = format!("no object is another one than at revision {revision}");
        return refuse(StatusCode::CONFLICT, "conflict", message);
    }
    if let Err(error) = admin.rollbacks.set(&rollback).await {
        return refuse(StatusCode::BAD_GATEWAY, "internal_error", error);
    }
    let objects: Vec<String> = rollback.objects.keys().map(ObjectId::key).collect();
    Json(json!({"revision": revision.to_string(), "objects": objects})).into_response()
}

async fn roll_on(
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    State(admin): State<Admin>,
) -> Response {
    if let Some(refused) = from_afar(peer) {
        return refused;
    }
    match admin.rollbacks.clear().await {
        Ok(()) => Json(json!({"revision": null, "objects": []})).into_response(),
        Err(error) => refuse(StatusCode::BAD_GATEWAY, "internal_error", error),
    }
}

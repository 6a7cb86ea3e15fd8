//! The admin port: health, metrics, and what is in effect. Read-only; it listens on loopback unless told otherwise.

use crate::sync::Current;
use crate::telemetry::Metrics;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, routing::get};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::net::TcpListener;

/// Gives the statuses of all objects, where a controller runs in the same process.
pub type Statuses = Arc<dyn Fn() -> Value + Send + Sync>;

#[derive(Clone)]
pub struct Admin {
    pub current: Arc<Current>,
    pub metrics: Arc<Metrics>,
    pub statuses: Option<Statuses>,
}

impl Admin {
    /// Serves until the process ends.
    ///
    /// # Errors
    /// The listener failed for good.
    pub async fn serve(self, listener: TcpListener) -> std::io::Result<()> {
        let router = Router::new()
            .route("/healthz", get(|| async { Json(json!({"status": "ok"})) }))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .route("/api/v1/status", get(status))
            .route("/api/v1/snapshot", get(snapshot))
            .with_state(self);
        axum::serve(listener, router).await
    }
}

async fn readyz(State(admin): State<Admin>) -> Response {
    if admin.current.is_ready() {
        Json(json!({"status": "ready"})).into_response()
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(json!({"status": "not ready"})),
        )
            .into_response()
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    if let Some(age) = admin.current.age_seconds() {
        admin.metrics.config_age.set(age as f64);
    }
    let kind = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    (kind, admin.metrics.text()).into_response()
}

async fn status(State(admin): State<Admin>) -> Response {
    match &admin.statuses {
        Some(statuses) => Json(json!({"status": statuses()})).into_response(),
        None => {
            let why =
                json!({"error": "not_found", "message": "the statuses are in the API server"});
            (StatusCode::NOT_FOUND, Json(why)).into_response()
        }
    }
}

async fn snapshot(State(admin): State<Admin>) -> Json<Value> {
    let table = admin.current.table.load();
    Json(json!({
        "revision": format!("{:012x}", admin.current.revision()),
        "ready": admin.current.is_ready(),
        "ageSeconds": admin.current.age_seconds(),
        "listeners": table.listeners.iter().map(|(key, l)| json!({"key": &**key, "port": l.listener.port})).collect::<Vec<_>>(),
    }))
}

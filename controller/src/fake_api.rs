//! An API server for tests, behind a real client: it answers as the test says, and remembers what it was asked.

use std::future::Future;
use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use kube::Client;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::Instant;

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) at: Instant,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) body: Value,
}

/// The status and body of an answer.
pub(crate) type Answer = (u16, Value);

#[derive(Clone, Default)]
pub(crate) struct FakeApi(Arc<Mutex<Vec<Asked>>>);

impl FakeApi {
    /// A client of one that answers like this.
    pub(crate) fn answering<A>(
        answer: impl Fn(Asked) -> A + Clone + Send + Sync + 'static,
    ) -> (Client, Self)
    where
        A: Future<Output = Answer> + Send + 'static,
    {
        Self::serving(move |asked| {
            let answer = answer(asked);
            async move { response(answer.await) }
        })
    }

    /// A client of one that says itself how its answers come.
    pub(crate) fn serving<A>(
        answer: impl Fn(Asked) -> A + Clone + Send + Sync + 'static,
    ) -> (Client, Self)
    where
        A: Future<Output = Response> + Send + 'static,
    {
        let api = Self::default();
        let asked = api.clone();
        let serve = move |request: Request| {
            let (asked, answer) = (asked.clone(), answer.clone());
            async move {
                let at = Instant::now();
                let method = request.method().to_string();
                let path = request.uri().path().to_owned();
                let query = request.uri().query().unwrap_or_default().to_owned();
                let body = to_bytes(request.into_body(), usize::MAX).await.unwrap();
                let body = serde_json::from_slice(&body).unwrap_or_default();
                let request = Asked {
                    at,
                    method,
                    path,
                    query,
                    body,
                };
                asked.0.lock().push(request.clone());
                answer(request).await
            }
        };
        let client = Client::new(Router::new().fallback(serve), "default");
        (client, api)
    }

    /// All that was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.0.lock().clone()
    }

    /// As if nothing had been asked yet.
    pub(crate) fn forget(&self) {
        self.0.lock().clear();
    }

    /// Requests of a method so far.
    pub(crate) fn count(&self, method: &str) -> usize {
        self.0.lock().iter().filter(|a| a.method == method).count()
    }
}

/// An answer as a whole.
pub(crate) fn response((status, body): Answer) -> Response {
    (StatusCode::from_u16(status).unwrap(), Json(body)).into_response()
}

/// Nothing is there, and whatever is written is taken.
pub(crate) fn empty(asked: Asked) -> Answer {
    const LISTS: [&str; 2] = ["gatewayclasses", "deployments"];
    let last = asked.path.rsplit('/').next().unwrap_or_default();
    match &*asked.method {
        "GET" if LISTS.contains(&last) => {
            let list = json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": []});
            (200, list)
        }
        "GET" | "DELETE" => refusal(404),
        _ => (200, asked.body),
    }
}

/// What the API server says when it refuses.
pub(crate) fn refusal(code: u16) -> Answer {
    let reason = match code {
        403 => "Forbidden",
        404 => "NotFound",
        409 => "AlreadyExists",
        410 => "Expired",
        _ => "InternalError",
    };
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {},
        "status": "Failure", "message": "no", "reason": reason, "code": code,
    });
    (code, status)
}

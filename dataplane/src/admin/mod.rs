//! The admin port: health, metrics, and what is in effect (`docs/admin.md`). It listens on loopback unless told
//! otherwise; the one thing that can be changed, the log level, can be changed over loopback only.

mod inspect;
mod page;

use crate::sync::Current;
use crate::table::{Registry, Table};
use crate::telemetry::{Metrics, logs};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::extract::{ConnectInfo, Query, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, routing::get};
use page::Page;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;

/// Gives the statuses of all objects, where a controller runs in the same process.
pub type Statuses = Arc<dyn Fn() -> Value + Send + Sync>;

#[derive(Clone)]
pub struct Admin {
    pub current: Arc<Current>,
    pub metrics: Arc<Metrics>,
    pub registry: Arc<Registry>,
    pub statuses: Option<Statuses>,
}

impl Admin {
    /// Serves until the process ends.
    ///
    /// # Errors
    /// The listener failed for good.
    pub async fn serve(self, listener: TcpListener) -> std::io::Result<()> {
        let router = self.router();
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        axum::serve(listener, service).await
    }

    fn router(self) -> Router {
        Router::new()
            .route("/healthz", get(|| async { Json(json!({"status": "ok"})) }))
            .route("/readyz", get(readyz))
            .route("/api/v1/status", get(status))
            .route("/api/v1/snapshot", get(snapshot))
            .route("/api/v1/routes", get(routes))
            .route("/api/v1/upstreams", get(upstreams))
            .route("/api/v1/health", get(health))
            .route("/api/v1/connections", get(connections))
            .route("/api/v1/log", get(log).put(set_log))
            .fallback(elsewhere)
            .with_state(self)
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

/// The page of metrics, wherever the configuration has it.
async fn elsewhere(
    State(admin): State<Admin>,
    method: Method,
    uri: Uri,
    fields: HeaderMap,
) -> Response {
    if !admin.current.table.load().shows_metrics_at(uri.path()) {
        return StatusCode::NOT_FOUND.into_response();
    }
    match method {
        Method::GET | Method::HEAD => metrics(&admin, &fields),
        _ => (
            StatusCode::METHOD_NOT_ALLOWED,
            [(header::ALLOW, "GET,HEAD")],
        )
            .into_response(),
    }
}

fn metrics(admin: &Admin, fields: &HeaderMap) -> Response {
    if !may_scrape(&admin.current.table.load(), fields) {
        let asks = [(header::WWW_AUTHENTICATE, "Bearer")];
        let why = Json(json!({"error": "unauthorized"}));
        return (StatusCode::UNAUTHORIZED, asks, why).into_response();
    }
    let silence = admin.current.silence_seconds();
    admin.metrics.config_age.set(silence as f64);
    let kind = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    (kind, admin.metrics.text()).into_response()
}

/// Whether a scraper shows one of the tokens that listeners ask for, if any does.
fn may_scrape(table: &Table, fields: &HeaderMap) -> bool {
    let mut asked = table.metrics().filter_map(|m| m.tokens.as_ref()).peekable();
    if asked.peek().is_none() {
        return true;
    }
    let shown = fields.get(header::AUTHORIZATION);
    let shown = shown.map_or(&b""[..], |value| value.as_bytes());
    // All of them, so that the time does not tell which.
    asked.flatten().fold(false, |known, token| {
        known | verify_slices_are_equal(shown, token.value.reveal()).is_ok()
    })
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
        "revision": admin.current.revision().to_string(),
        "ready": admin.current.is_ready(),
        "ageSeconds": admin.current.age_seconds(),
        "listeners": inspect::listeners(&table),
    }))
}

async fn routes(State(admin): State<Admin>, Query(page): Query<Page>) -> Json<Value> {
    Json(inspect::routes(&admin.current.table.load(), &page))
}

async fn upstreams(State(admin): State<Admin>, Query(page): Query<Page>) -> Json<Value> {
    Json(inspect::upstreams(&admin.registry, &page))
}

async fn health(State(admin): State<Admin>, Query(page): Query<Page>) -> Json<Value> {
    Json(inspect::health(&admin.registry, &page))
}

async fn connections(State(admin): State<Admin>) -> Json<Value> {
    Json(json!({
        "open": admin.metrics.connections.open(),
        "upstreamIdle": admin.metrics.upstream_idle.get(),
    }))
}

async fn log() -> Json<Value> {
    Json(json!({"filter": logs::filter()}))
}

/// The body is the new filter, such as `info,diolkos_dataplane=debug`.
async fn set_log(ConnectInfo(peer): ConnectInfo<SocketAddr>, filter: String) -> Response {
    let refuse = |status: StatusCode, error: &str, message: String| {
        (status, Json(json!({"error": error, "message": message}))).into_response()
    };
    if !peer.ip().to_canonical().is_loopback() {
        let message = "the log is changed over loopback only, such as by kubectl port-forward";
        return refuse(StatusCode::FORBIDDEN, "forbidden", message.to_owned());
    }
    match logs::set_filter(filter.trim()) {
        Ok(()) => log().await.into_response(),
        Err(message) => refuse(StatusCode::BAD_REQUEST, "invalid_request", message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::HostPattern;
    use std::io::{Read, Write};
    use std::net::TcpStream;

    /// Status and body.
    fn ask(address: SocketAddr, method: &str, target: &str, body: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(address).unwrap();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }

    /// Of listeners that say this of metrics.
    fn table(listeners: impl IntoIterator<Item = Option<model::Metrics>>) -> Arc<Table> {
        let mut model = model::Model::default();
        for (port, metrics) in (8080..).zip(listeners) {
            let origin = model::ObjectRef::new("GatewayConfig", "d", "gw");
            let listener = model::Listener {
                metrics,
                ..model::Listener::new(origin, "http", port)
            };
            model.listeners.insert(format!("d/gw/{port}"), listener);
        }
        let mut compiler = crate::table::Compiler::new();
        compiler.apply(snapshot::Changes::of(&model)).unwrap()
    }

    #[test]
    fn the_page_of_metrics_is_where_each_listener_has_it() {
        let at = |path: &str| {
            Some(model::Metrics {
                path: Some(path.to_owned()),
                ..model::Metrics::default()
            })
        };
        let shown = |table: &Table| {
            let places = ["/metrics", "/a", "/b"].into_iter();
            let shown: Vec<_> = places.filter(|p| table.shows_metrics_at(p)).collect();
            shown
        };
        assert_eq!(shown(&Table::default()), ["/metrics"]);
        assert_eq!(shown(&table([at("/a")])), ["/a"]);
        assert_eq!(shown(&table([at("/a"), at("/b")])), ["/a", "/b"]);
        assert_eq!(shown(&table([at("/a"), None])), ["/metrics", "/a"]);
        let default = Some(model::Metrics::default());
        assert_eq!(shown(&table([at("/b"), default])), ["/metrics", "/b"]);
    }

    #[test]
    fn a_scraper_shows_one_of_the_tokens_that_are_asked_for() {
        let token = |text: &str| model::CredentialHeader {
            name: "authorization".into(),
            value: model::Secret::new(text),
        };
        let may = |tokens: Option<Vec<_>>, shown: Option<&'static str>| {
            let metrics = model::Metrics {
                tokens,
                ..model::Metrics::default()
            };
            let table = table([Some(metrics)]);
            let shown = shown.map(|text| (header::AUTHORIZATION, text.parse().unwrap()));
            may_scrape(&table, &shown.into_iter().collect())
        };
        let two = || Some(vec![token("Bearer a"), token("Bearer b")]);
        assert!(may(None, None) && may(None, Some("Bearer x")));
        assert!(may(two(), Some("Bearer a")) && may(two(), Some("Bearer b")));
        for wrong in [
            None,
            Some("Bearer c"),
            Some("a"),
            Some("Bearer ab"),
            Some(""),
        ] {
            assert!(!may(two(), wrong), "{wrong:?}");
        }
        assert!(!may(Some(Vec::new()), Some("")), "none can be had");
        assert!(!may(Some(Vec::new()), None));
    }

    #[test]
    fn what_is_in_effect_is_shown() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let mut model = model::Model::default();
        let origin = model::ObjectRef::new("GatewayConfig", "d", "gw");
        let listener = model::Listener::new(origin, "http", 8080);
        model.listeners.insert("d/gw/http".into(), listener);
        let up = model::Upstream::new(
            model::ObjectRef::new("Upstream", "d", "up"),
            model::EndpointSource::Static(vec![model::StaticEndpoint {
                host: "192.0.2.1".into(),
                port: 80,
                weight: 1,
                zone: None,
            }]),
        );
        model.upstreams.insert("Upstream/d/up".into(), up);
        let to = model::Action::Forward(vec![model::Backend::new(model::Target::Upstream(
            "Upstream/d/up".into(),
        ))]);
        let route = model::Route {
            origin: model::ObjectRef::new("Route", "d", "r"),
            created: 0,
            tenant: None,
            listeners: vec!["d/gw/http".into()],
            hosts: vec![HostPattern::parse("a.test").unwrap(), HostPattern::Any],
            rules: vec![model::Rule::new(vec![model::Match::any()], to)],
        };
        model.routes.insert("d/r".into(), route);
        let mut compiler = crate::table::Compiler::new();
        let current = Arc::new(Current::default());
        let changes = snapshot::Changes::of(&model);
        current.table.store(compiler.apply(changes).unwrap());
        let admin = Admin {
            current,
            metrics: Arc::new(Metrics::new()),
            registry: compiler.registry(),
            statuses: None,
        };
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(admin.serve(listener));

        let (status, snapshot) = ask(address, "GET", "/api/v1/snapshot", "");
        assert_eq!(
            (status, &snapshot["listeners"][0]["hosts"]),
            (200, &json!(2))
        );
        let (_, first) = ask(address, "GET", "/api/v1/routes?limit=1", "");
        let next = first["continue"].as_str().unwrap().replace(' ', "%20");
        let (_, second) = ask(
            address,
            "GET",
            &format!("/api/v1/routes?continue={next}"),
            "",
        );
        assert_eq!(second["continue"], Value::Null);
        let hosts = [&first["items"][0]["host"], &second["items"][0]["host"]];
        assert_eq!(hosts, ["*", "a.test"]);
        let to = &second["items"][0]["action"]["forward"][0];
        assert_eq!(
            to,
            &json!({"target": "Upstream/d/up", "weight": 1, "resolved": true})
        );
        let (_, upstreams) = ask(address, "GET", "/api/v1/upstreams", "");
        let endpoint = &upstreams["items"][0]["endpoints"][0];
        assert_eq!(endpoint["address"], "192.0.2.1:80");
        let (_, health) = ask(address, "GET", "/api/v1/health", "");
        assert_eq!(health["items"][0]["serves"], true);
        let (status, connections) = ask(address, "GET", "/api/v1/connections", "");
        assert_eq!((status, &connections["open"]["h1"]), (200, &json!(0)));
        assert_eq!(ask(address, "GET", "/api/v1/routes?limit=x", "").0, 400);
        assert_eq!(ask(address, "GET", "/metrics", "").0, 200);
        assert_eq!(ask(address, "PUT", "/metrics", "").0, 405);
        assert_eq!(ask(address, "GET", "/elsewhere", "").0, 404);
    }
}

//! Spans at a collector: one that speaks OTLP over gRPC or HTTP with the official messages, or one that does not answer.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use model::{CredentialHeader, Model, Secret, Tracing};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::plane::Plane;
use support::{Origin, PATIENCE, becomes, config};
use tokio::runtime::Runtime;
use tonic::{Request, Response, Status};

/// The `x-key` of a batch, the name of the service, and a span.
type Told = (Option<String>, String, Span);

/// What a collector got.
#[derive(Clone, Default)]
struct Got(Arc<Mutex<Vec<Told>>>);

impl Got {
    fn take(&self, key: Option<&str>, request: ExportTraceServiceRequest) {
        for of_resource in request.resource_spans {
            let resource = of_resource.resource.unwrap();
            let service = resource.attributes.iter().find(|a| a.key == "service.name");
            let service = text(service.unwrap().value.clone().unwrap().value.unwrap());
            for span in of_resource.scope_spans.into_iter().flat_map(|s| s.spans) {
                let key = key.map(str::to_owned);
                self.0.lock().unwrap().push((key, service.clone(), span));
            }
        }
    }

    /// Waits for so many spans.
    fn spans(&self, n: usize) -> Vec<Span> {
        becomes("spans", true, || self.0.lock().unwrap().len() >= n);
        let all = self.0.lock().unwrap();
        assert_eq!(all.len(), n);
        for (key, service, _) in &*all {
            assert_eq!((key.as_deref(), &**service), (Some("hunter2"), "diolkos"));
        }
        all.iter().map(|(_, _, span)| span.clone()).collect()
    }
}

#[tonic::async_trait]
impl TraceService for Got {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let key = request.metadata().get("x-key").cloned();
        let key = key.as_ref().and_then(|key| key.to_str().ok());
        self.take(key, request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn text(value: Value) -> String {
    match value {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    }
}

fn attribute(span: &Span, key: &str) -> Option<String> {
    let found = span.attributes.iter().find(|a| a.key == key)?;
    Some(text(found.value.clone()?.value?))
}

fn grpc_collector(runtime: &Runtime) -> (String, Got) {
    let got = Got::default();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let service = TraceServiceServer::new(got.clone());
    runtime.spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let server = tonic::transport::Server::builder();
        server.serve_with_incoming(service, incoming).await.unwrap();
    });
    (format!("http://{address}"), got)
}

fn http_collector(runtime: &Runtime) -> (String, Got) {
    let got = Got::default();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let of_route = got.clone();
    let export = move |headers: HeaderMap, body: Bytes| {
        let is_otlp = headers["content-type"] == "application/x-protobuf";
        if is_otlp {
            let key = headers.get("x-key").and_then(|key| key.to_str().ok());
            of_route.take(key, ExportTraceServiceRequest::decode(body).unwrap());
        }
        let status = match is_otlp {
            true => StatusCode::OK,
            false => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        };
        let answer = ExportTraceServiceResponse::default().encode_to_vec();
        async move { (status, answer) }
    };
    let router = Router::new().route("/v1/traces", post(export));
    runtime.spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        axum::serve(listener, router).await.unwrap();
    });
    (format!("http://{address}"), got)
}

/// Everything goes to `endpoints`; all requests are traced.
fn traced(endpoints: &[SocketAddr], endpoint: &str, grpc: bool) -> Model {
    let mut model = config::base(endpoints);
    config::routes(&mut model, vec![config::forward()]);
    model.listeners.get_mut("d/gw/http").unwrap().tracing = Some(Tracing {
        endpoint: endpoint.to_owned(),
        grpc,
        headers: vec![CredentialHeader {
            name: "x-key".into(),
            value: Secret::new("hunter2"),
        }],
        sample_millionths: 1_000_000,
    });
    model
}

const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn a_request_is_a_server_span_with_a_client_span(grpc: bool) {
    let runtime = Runtime::new().unwrap();
    let (endpoint, got) = match grpc {
        true => grpc_collector(&runtime),
        false => http_collector(&runtime),
    };
    let origin = Origin::start();
    let plane = Plane::start(&traced(&[origin.address], &endpoint, grpc));
    let parent = format!("traceparent: 00-{ID}-00f067aa0ba902b7-01\r\ntracestate: a=1\r\n");
    let answer = plane.client().request("GET", "/x?key=hunter2", &parent, "");
    assert_eq!(answer.status, 200);
    let spans = got.spans(2);
    let of_kind = |kind: SpanKind| spans.iter().find(|s| s.kind == kind as i32).unwrap();
    let (server, client) = (of_kind(SpanKind::Server), of_kind(SpanKind::Client));
    for span in [server, client] {
        assert_eq!(hex(&span.trace_id), ID);
        assert_eq!(span.trace_state, "a=1");
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
        assert!(span.status.is_none());
        assert_eq!(attribute(span, "http.request.method").unwrap(), "GET");
        assert_eq!(attribute(span, "http.response.status_code").unwrap(), "200");
        assert!(!format!("{span:?}").contains("hunter2"), "no query");
    }
    assert_eq!(hex(&server.parent_span_id), "00f067aa0ba902b7");
    assert_eq!(client.parent_span_id, server.span_id);
    assert!(client.start_time_unix_nano >= server.start_time_unix_nano);
    assert!(client.end_time_unix_nano <= server.end_time_unix_nano);
    assert_eq!(server.name, "GET d/r");
    assert_eq!(attribute(server, "url.path").unwrap(), "/x");
    assert_eq!(attribute(server, "server.address").unwrap(), "t");
    assert_eq!(
        attribute(server, "network.protocol.version").unwrap(),
        "1.1"
    );
    let port = origin.address.port().to_string();
    assert_eq!(attribute(client, "server.port").unwrap(), port);
    let told = format!("00-{ID}-{}-01", hex(&client.span_id));
    assert_eq!(origin.last().headers["traceparent"], told);
    assert_eq!(origin.last().headers["tracestate"], "a=1");
    // What the client does not want traced is not, and goes on as it came.
    let unwanted = format!("00-{ID}-00f067aa0ba902b7-00");
    let header = format!("traceparent: {unwanted}\r\n");
    assert_eq!(plane.client().request("GET", "/", &header, "").status, 200);
    assert_eq!(origin.last().headers["traceparent"], unwanted);
    // Without a word of the client a trace begins here. The end of the process waits for its spans.
    assert_eq!(plane.get("/").status, 200);
    let stop = plane.data.stop(Duration::ZERO, Some(PATIENCE));
    plane.runtime.block_on(stop);
    let spans = got.spans(4);
    let of_new: Vec<_> = spans.iter().filter(|s| hex(&s.trace_id) != ID).collect();
    assert_eq!(of_new.len(), 2);
    assert_eq!(of_new[0].trace_id, of_new[1].trace_id);
    assert!(of_new.iter().any(|s| s.parent_span_id.is_empty()));
}

#[test]
fn over_grpc_a_request_is_a_server_span_with_a_client_span() {
    a_request_is_a_server_span_with_a_client_span(true);
}

#[test]
fn over_http_a_request_is_a_server_span_with_a_client_span() {
    a_request_is_a_server_span_with_a_client_span(false);
}

#[test]
fn each_attempt_is_a_span_and_failures_are_errors() {
    let runtime = Runtime::new().unwrap();
    let (endpoint, got) = grpc_collector(&runtime);
    let closed = [(); 2].map(|()| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    });
    let plane = Plane::start(&traced(&closed, &endpoint, true));
    assert_eq!(plane.get("/").status, 502);
    let spans = got.spans(3);
    let (servers, clients): (Vec<_>, Vec<_>) = spans
        .iter()
        .partition(|s| s.kind == SpanKind::Server as i32);
    let [server] = servers[..] else {
        panic!("{servers:?}")
    };
    assert_eq!(server.status.as_ref().unwrap().code, 2);
    let error = attribute(server, "error.type").unwrap();
    assert_eq!(error, "upstream_connect_error");
    let resent = clients
        .iter()
        .map(|c| attribute(c, "http.request.resend_count"));
    assert_eq!(resent.collect::<Vec<_>>(), [None, Some("1".to_owned())]);
    for client in clients {
        assert_eq!(client.parent_span_id, server.span_id);
        assert_eq!(client.status.as_ref().unwrap().code, 2);
        assert_eq!(attribute(client, "error.type").unwrap(), "connect_error");
    }
}

#[test]
fn a_collector_that_does_not_answer_slows_nothing_down_and_what_it_misses_is_counted() {
    // It accepts, by the kernel, and never says a word; another refuses connections.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let refusing = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let origin = Origin::start();
    for (address, grpc) in [
        (silent.local_addr().unwrap(), false),
        (silent.local_addr().unwrap(), true),
        (refusing, true),
    ] {
        let endpoint = format!("http://{address}");
        let plane = Plane::start(&traced(&[origin.address], &endpoint, grpc));
        let mut client = plane.client();
        let begun = Instant::now();
        for _ in 0..200 {
            assert_eq!(client.get("/").status, 200);
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{address}");
        if address == refusing {
            let dropped = "diolkos_log_records_dropped_total{sink=\"otlp\"}";
            becomes("dropped", true, || plane.metric(dropped) > 0.0);
        }
        let stopping = Instant::now();
        let stop = plane.data.stop(Duration::ZERO, Some(Duration::ZERO));
        plane.runtime.block_on(stop);
        assert!(stopping.elapsed() < Duration::from_secs(8));
    }
}

//! One collector's connection: OTLP over gRPC, or as protobuf over HTTP/1.1.

use super::Target;
use crate::outside::{chain, dial};
use http::uri::PathAndQuery;
use http::{Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use tonic::transport::{Channel, Endpoint};

/// Path of OTLP over HTTP, where the endpoint has none.
const PATH: &str = "/v1/traces";
/// Bytes of an answer.
const ANSWER: usize = 64 << 10;

/// Sends batches to one collector.
pub(super) enum Sender {
    Grpc(TraceServiceClient<Channel>),
    Http(http1::SendRequest<Full<Bytes>>),
}

impl Sender {
    /// # Errors
    /// What is in the way.
    pub(super) async fn connect(target: &Target) -> Result<Self, String> {
        let endpoint = &target.endpoint;
        if target.grpc {
            // TLS is the connector's, so that trust is the same in both protocols; the channel has none of its own.
            let real = endpoint.clone();
            let connector = tower::service_fn(move |_: Uri| {
                let real = real.clone();
                async move { dial(&real, b"h2").await.map(TokioIo::new) }
            });
            let channel = Endpoint::from_static("http://collector").origin(endpoint.clone());
            let channel = channel.connect_with_connector(connector).await;
            let channel = channel.map_err(|e| chain(&e))?;
            return Ok(Self::Grpc(TraceServiceClient::new(channel)));
        }
        let stream = dial(endpoint, b"http/1.1")
            .await
            .map_err(|e| e.to_string())?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| chain(&e))?;
        // Ends with the sender, or when the collector closes.
        tokio::spawn(connection);
        Ok(Self::Http(sender))
    }

    /// How many spans the collector did not take.
    ///
    /// # Errors
    /// It got none of them, or none is certain.
    pub(super) async fn send(
        &mut self,
        target: &Target,
        spans: Vec<Span>,
    ) -> Result<usize, String> {
        let message = request(spans);
        let answer = match self {
            Self::Grpc(client) => {
                let mut request = tonic::Request::new(message);
                *request.metadata_mut() = target.metadata();
                let answer = client.export(request).await;
                answer
                    .map_err(|status| format!("{:?}: {}", status.code(), status.message()))?
                    .into_inner()
            }
            Self::Http(sender) => post(sender, target, message.encode_to_vec()).await?,
        };
        let rejected = answer.partial_success.map_or(0, |p| p.rejected_spans);
        Ok(usize::try_from(rejected).unwrap_or(0))
    }
}

async fn post(
    sender: &mut http1::SendRequest<Full<Bytes>>,
    target: &Target,
    body: Vec<u8>,
) -> Result<ExportTraceServiceResponse, String> {
    let path = target.endpoint.path_and_query().map(PathAndQuery::as_str);
    let path = path
        .filter(|path| !matches!(*path, "" | "/"))
        .unwrap_or(PATH);
    let mut request = Request::post(path)
        .header(
            header::HOST,
            target.endpoint.authority().map_or("", |a| a.as_str()),
        )
        .header(header::CONTENT_TYPE, "application/x-protobuf")
        .body(Full::new(Bytes::from(body)))
        .map_err(|e| e.to_string())?;
    for (name, value) in &target.headers {
        request.headers_mut().append(name, value.clone());
    }
    sender.ready().await.map_err(|e| chain(&e))?;
    let answer = sender.send_request(request).await.map_err(|e| chain(&e))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER).collect().await;
    let body = body.map_err(|e| e.to_string())?.to_bytes();
    if !status.is_success() {
        return Err(format!("the collector answers {status}"));
    }
    ExportTraceServiceResponse::decode(body).map_err(|_| "the answer is no OTLP".to_owned())
}

fn request(spans: Vec<Span>) -> ExportTraceServiceRequest {
    let text = |key: &str, value: &str| KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(Value::StringValue(value.to_owned())),
        }),
        ..KeyValue::default()
    };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                attributes: vec![
                    text("service.name", "diolkos"),
                    text("service.version", env!("CARGO_PKG_VERSION")),
                ],
                ..Resource::default()
            }),
            scope_spans: vec![ScopeSpans {
                scope: Some(InstrumentationScope {
                    name: "diolkos".to_owned(),
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                    ..InstrumentationScope::default()
                }),
                spans,
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
}

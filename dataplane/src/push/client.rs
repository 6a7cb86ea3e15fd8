//! Keeps a stream to some controller open and feeds what it brings to the applier.
//!
//! A data plane without a controller serves what it has for ever; so nothing here ends the process. Each attempt reads
//! the certificates anew, because the controller replaces them twice a day.

use std::error::Error;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::GaiResolver;
use snapshot::pb::client_message::Message as Out;
use snapshot::pb::server_message::Message as In;
use snapshot::pb::snapshot_service_client::SnapshotServiceClient;
use snapshot::pb::{Chunk, ClientMessage, Draining, Hello, ServerMessage};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status, Streaming};

use super::lookup::Lookup;
use super::pauses::Pauses;
use super::report::Reports;
use super::worker::{Worker, WorkerGone};
use super::{Apply, Health, Reply};
use crate::tls;

/// Until TCP stands. The address is that of a Service: the next attempt goes to another controller than to the one that
/// has gone without a word.
const TCP: Duration = Duration::from_secs(2);
/// Until the connection stands, until the stream is answered, and until it is welcomed.
const CONNECT: Duration = Duration::from_secs(10);
/// So many heartbeats may be missing.
const PATIENCE: u32 = 3;
const HEARTBEAT_BOUNDS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// HTTP/2 pings find a peer that is gone without a word.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

type Names = Lookup<GaiResolver>;

/// Where configurations come from.
#[derive(Clone, Debug)]
pub struct PushConfig {
    /// `https://HOST:PORT` of the controllers; `http://` without TLS, for tests.
    pub endpoint: String,
    /// Folder with `ca.crt`, `tls.crt` and `tls.key`. `None`: without TLS.
    pub tls_dir: Option<PathBuf>,
    /// File with a token of the Pod's service account. `None`: none is sent.
    pub token_file: Option<PathBuf>,
    /// How this data plane is called in status and logs.
    pub node_id: String,
}

/// Why a stream ended or did not come about.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error("cannot read {}: {error}", path.display())]
    File {
        path: PathBuf,
        error: std::io::Error,
    },
    #[error("there is no token in {}", .0.display())]
    Token(PathBuf),
    #[error("cannot connect: {0}")]
    Connect(String),
    #[error("{}: {}", .0.code(), .0.message())]
    Refused(Box<Status>),
    #[error("the controller said nothing for {0:?}")]
    Silent(Duration),
    #[error("the controller closed the stream")]
    Closed,
    #[error("the controller broke the protocol: {0}")]
    Protocol(&'static str),
    #[error(transparent)]
    Worker(#[from] WorkerGone),
}

impl From<Status> for StreamError {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

impl From<tonic::transport::Error> for StreamError {
    fn from(error: tonic::transport::Error) -> Self {
        Self::Connect(with_causes(&error))
    }
}

/// Follows a controller until dropped. When `draining` is cancelled the controllers are told, and configurations are
/// still followed: requests under way need them.
///
/// # Errors
/// No thread can be started for the applier, or it panicked.
pub async fn run(
    config: PushConfig,
    applier: impl Apply + 'static,
    draining: CancellationToken,
) -> Result<(), std::io::Error> {
    tls::provider();
    let health = applier.health();
    let capabilities = applier.capabilities();
    let worker = Worker::start(applier)?;
    let mut pauses = Pauses::new();
    let names = Lookup::new(GaiResolver::new());
    loop {
        let mut welcomed = None;
        let ended = follow(
            &config,
            &names,
            &worker,
            health.as_deref(),
            &capabilities,
            &draining,
            &mut welcomed,
        )
        .await;
        if let Some(health) = &health {
            health.alone();
        }
        let error = match ended {
            Err(StreamError::Worker(gone)) => return Err(std::io::Error::other(gone)),
            Err(error) => error,
            Ok(never) => match never {},
        };
        let stood = welcomed.map_or(Duration::ZERO, |at: Instant| at.elapsed());
        let pause = pauses.after(stood);
        match &error {
            // Replicas that stop, and streams that grew old, end like this.
            StreamError::Refused(status)
                if Pauses::is_proven(stood) && status.code() == Code::Unavailable =>
            {
                tracing::info!(event = "push_moved", controller = config.endpoint, %error, "connecting again");
            }
            error => {
                tracing::warn!(event = "push_lost", controller = config.endpoint, %error, again_in = ?pause, "no configuration stream");
            }
        }
        sleep(pause).await;
    }
}

/// One stream from its beginning to its end, which is always an error. `welcomed`: since when it stands.
async fn follow(
    config: &PushConfig,
    names: &Names,
    worker: &Worker,
    health: Option<&dyn Health>,
    capabilities: &[String],
    draining: &CancellationToken,
    welcomed: &mut Option<Instant>,
) -> Result<std::convert::Infallible, StreamError> {
    let channel = connect(config, names).await?;
    let (out, messages) = mpsc::channel(8);
    let have = worker.inventory().await?;
    let capabilities = capabilities.to_vec();
    let hello = Hello {
        node_id: config.node_id.clone(),
        schema_min: snapshot::SCHEMA,
        schema_max: snapshot::SCHEMA,
        build: env!("CARGO_PKG_VERSION").to_owned(),
        have_digest: have.digest.to_bytes().to_vec(),
        shares_health: health.is_some(),
        have_buckets: have.buckets.into_wire(),
        capabilities,
    };
    send(&out, Out::Hello(hello)).await?;
    let mut client = SnapshotServiceClient::new(channel);
    let mut request = Request::new(ReceiverStream::new(messages));
    if let Some(path) = &config.token_file {
        let token = token(path).await?;
        request.metadata_mut().insert("authorization", token);
    }
    let answer = timeout(CONNECT, client.sync(request)).await;
    let mut inbound = answer
        .map_err(|_| StreamError::Silent(CONNECT))??
        .into_inner();

    let In::Welcome(welcome) = next(&mut inbound, CONNECT).await? else {
        return Err(StreamError::Protocol("the first message is not Welcome"));
    };
    tracing::info!(
        event = "push_open",
        controller = config.endpoint,
        server = welcome.server_id,
        "following a controller"
    );
    *welcomed = Some(Instant::now());
    worker.contact().await?;
    let (shortest, longest) = HEARTBEAT_BOUNDS;
    let patience = Duration::from_millis(welcome.heartbeat_ms).clamp(shortest, longest) * PATIENCE;

    // A transaction that was refused before its last part: its other parts mean nothing any more.
    let mut refused = None;
    let mut told = false;
    let mut reports = Reports::new(health.filter(|_| welcome.shares_health));
    loop {
        let message = tokio::select! {
            message = next(&mut inbound, patience) => message?,
            () = draining.cancelled(), if !told => {
                told = true;
                send(&out, Out::Draining(Draining {})).await?;
                continue;
            }
            report = reports.next() => {
                send(&out, Out::Health(report)).await?;
                continue;
            }
        };
        worker.contact().await?;
        match message {
            In::Ping(_) => {}
            In::Verdicts(verdicts) => reports.take(&verdicts),
            In::Welcome(_) => return Err(StreamError::Protocol("a second Welcome")),
            In::Chunk(chunk) if refused == Some(chunk.transaction) => {}
            In::Chunk(chunk) => {
                let transaction = chunk.transaction;
                if let Some(reply) = apply(worker, chunk).await? {
                    refused = (!matches!(reply, Out::Ack(_))).then_some(transaction);
                    send(&out, reply).await?;
                }
            }
        }
    }
}

async fn apply(worker: &Worker, chunk: Chunk) -> Result<Option<Out>, StreamError> {
    Ok(match worker.receive(chunk).await? {
        Reply::More => None,
        Reply::Ack(ack) => Some(Out::Ack(ack)),
        Reply::Nack(nack) => {
            let resources = nack.rejected.len();
            tracing::error!(
                event = "config_refused",
                resources,
                message = nack.message,
                "a configuration cannot be used"
            );
            Some(Out::Nack(nack))
        }
        Reply::Resync(resync) => {
            tracing::warn!(
                event = "config_resync",
                why = resync.why,
                "out of step with the controller"
            );
            Some(Out::Resync(resync))
        }
    })
}

async fn connect(config: &PushConfig, names: &Names) -> Result<Channel, StreamError> {
    let mut endpoint = Endpoint::from_shared(config.endpoint.clone())?
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true);
    if let Some(folder) = &config.tls_dir {
        endpoint = endpoint.tls_config(certificates(folder).await?)?;
    }
    let mut connector = HttpConnector::new_with_resolver(names.clone());
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(TCP));
    let channel = timeout(CONNECT, endpoint.connect_with_connector(connector)).await;
    Ok(channel.map_err(|_| StreamError::Silent(CONNECT))??)
}

/// Roots that a controller's certificate must come from, and what we show ourselves.
async fn certificates(folder: &Path) -> Result<ClientTlsConfig, StreamError> {
    let read = async |name: &str| {
        let path = folder.join(name);
        let content = tokio::fs::read(&path).await;
        content.map_err(|error| StreamError::File { path, error })
    };
    let roots = Certificate::from_pem(read("ca.crt").await?);
    let identity = Identity::from_pem(read("tls.crt").await?, read("tls.key").await?);
    Ok(ClientTlsConfig::new()
        .ca_certificate(roots)
        .identity(identity)
        .timeout(CONNECT))
}

/// Kubernetes replaces it long before it runs out.
async fn token(path: &Path) -> Result<MetadataValue<Ascii>, StreamError> {
    let content = tokio::fs::read_to_string(path).await;
    let content = content.map_err(|error| StreamError::File {
        path: path.to_owned(),
        error,
    })?;
    let value = MetadataValue::try_from(format!("Bearer {}", content.trim()));
    let mut value = value.map_err(|_| StreamError::Token(path.to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

async fn next(
    inbound: &mut Streaming<ServerMessage>,
    patience: Duration,
) -> Result<In, StreamError> {
    let message = timeout(patience, inbound.message()).await;
    let message = message
        .map_err(|_| StreamError::Silent(patience))??
        .ok_or(StreamError::Closed)?;
    message
        .message
        .ok_or(StreamError::Protocol("a message without content"))
}

async fn send(out: &mpsc::Sender<ClientMessage>, message: Out) -> Result<(), StreamError> {
    let message = ClientMessage {
        message: Some(message),
    };
    out.send(message).await.map_err(|_| StreamError::Closed)
}

/// An error with what caused it, in one line.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}

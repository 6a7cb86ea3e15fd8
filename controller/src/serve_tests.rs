use super::*;
use crate::ca::authority::Authority;
use crate::ca::keeper::server_config;
use crate::publish::DataPlane;
use crate::report::Programmed;
use crate::tls;
use crate::tokens::{AUDIENCE, fake};
use k8s_openapi::api::authentication::v1::TokenReviewStatus;
use snapshot::SCHEMA;
use snapshot::pb::snapshot_service_client::SnapshotServiceClient;
use std::time::SystemTime;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};

const GROUP: &str = "shop/web-diolkos";
/// Far longer than anything takes: a test that waits for this has failed.
const FOREVER: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn a_stream_grows_no_older_than_it_must() {
    let began = Instant::now();
    old(None).await;
    let api = fake::start(Ok(TokenReviewStatus::default()));
    old(Some(Arc::clone(&api.tokens))).await;
    assert!((AGE.0 * 2..=AGE.1 * 2).contains(&began.elapsed()));

    let api = fake::start(Err("no answer".to_owned()));
    let ended = timeout(AGE.1 * 4, old(Some(Arc::clone(&api.tokens)))).await;
    assert!(ended.is_err(), "its data plane would be refused");
}

/// A controller that asks for tokens, and what the API server says of all of them.
struct Controller {
    authority: Authority,
    address: SocketAddr,
    groups: Arc<Groups>,
    metrics: Arc<Metrics>,
    api: fake::Fixture,
    stop: CancellationToken,
}

impl Controller {
    async fn start() -> Self {
        tls::provider();
        let authority = Authority::generate(SystemTime::now()).unwrap();
        let leaf = authority.server(&["localhost".to_owned()], SystemTime::now());
        let settings = Arc::new(server_config(&authority, &leaf.unwrap()).unwrap());
        let metrics = Arc::new(Metrics::new().unwrap());
        let (reports, omitted) = (&metrics.health_reports, &metrics.health_reports_omitted);
        let health = Board::new(reports.clone(), omitted.clone(), |_| {});
        let groups = Groups::new(GROUP, move |progress| {
            let publisher = Publisher::counting("test", progress);
            Group::new(publisher, Arc::clone(&health), CancellationToken::new())
        });
        groups.shared().publisher.publish([], 0);
        let account = "system:serviceaccount:shop:web-diolkos";
        let api = fake::start(Ok(fake::token_of(account, AUDIENCE, "web-7")));
        let security = Security::Mutual {
            settings: Arc::new(move || Some(Arc::clone(&settings))),
            tokens: Some(Arc::clone(&api.tokens)),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, works) = (CancellationToken::new(), watch::Sender::new(false));
        tokio::spawn(serve(
            listener,
            security,
            Arc::clone(&groups),
            Arc::clone(&metrics),
            works.subscribe(),
            None,
            stop.clone(),
        ));
        Self {
            authority,
            address,
            groups,
            metrics,
            api,
            stop,
        }
    }

    /// A stream with a token, on which a data plane has said Hello.
    async fn open(&self, hello: Hello) -> Result<Streaming<ServerMessage>, Status> {
        let shown = self
            .authority
            .client_data(GROUP, SystemTime::now())
            .unwrap();
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(self.authority.bundle()))
            .identity(Identity::from_pem(&shown["tls.crt"].0, &shown["tls.key"].0));
        let endpoint = format!("https://localhost:{}", self.address.port());
        let endpoint = Channel::from_shared(endpoint).unwrap();
        let channel = endpoint.tls_config(tls).unwrap().connect().await.unwrap();
        let hello = ClientMessage {
            message: Some(In::Hello(hello)),
        };
        // The data plane says nothing more, and stays.
        let said = tokio_stream::StreamExt::chain(
            tokio_stream::iter([hello]),
            tokio_stream::pending::<ClientMessage>(),
        );
        let mut request = Request::new(said);
        let token = "Bearer abc".parse().unwrap();
        request.metadata_mut().insert("authorization", token);
        let answer = SnapshotServiceClient::new(channel).sync(request).await;
        answer.map(Response::into_inner)
    }

    /// How many data planes were refused.
    fn refused(&self, reason: &str) -> bool {
        let page = self.metrics.render(&self.groups).unwrap();
        let name = "diolkos_dataplanes_refused_total";
        page.contains(&format!("{name}{{reason=\"{reason}\"}} 1\n"))
    }

    async fn until(&self, what: impl Fn(&[DataPlane]) -> bool) {
        let mut progress = self.groups.progress();
        let publisher = &self.groups.shared().publisher;
        let wait = async {
            while !what(&publisher.data_planes()) {
                progress.changed().await.unwrap();
            }
        };
        timeout(FOREVER, wait).await.expect("it comes to that");
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn hello(name: &str) -> Hello {
    Hello {
        node_id: name.into(),
        schema_min: SCHEMA,
        schema_max: SCHEMA,
        ..Hello::default()
    }
}

#[tokio::test]
async fn a_data_plane_is_the_pod_of_its_token_whatever_it_calls_itself() {
    let controller = Controller::start().await;
    // As one would that speaks in the name of another.
    let mut stream = controller.open(hello("web-1")).await.unwrap();
    let first = stream.message().await.unwrap().unwrap().message;
    assert!(matches!(first, Some(Out::Welcome(_))), "{first:?}");
    controller
        .until(|planes| matches!(planes, [plane] if plane.node_id == "web-7"))
        .await;
}

#[tokio::test]
async fn whoever_shows_a_token_that_is_no_pods_is_no_data_plane() {
    let controller = Controller::start().await;
    let mut unbound = controller.api.answer.lock().clone().unwrap();
    unbound.user.as_mut().unwrap().extra = None;
    *controller.api.answer.lock() = Ok(unbound);
    let refused = controller.open(hello("web-1")).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated);
    assert!(refused.message().contains("bound to a Pod"), "{refused}");
    controller.until(<[_]>::is_empty).await;
    assert!(controller.refused("token"));
}

#[tokio::test]
async fn a_data_plane_of_another_schema_is_turned_away_and_seen() {
    let controller = Controller::start().await;
    let hello = Hello {
        schema_min: SCHEMA + 1,
        schema_max: SCHEMA + 2,
        ..hello("web-7")
    };
    // What it reads is not known before it has said so: the stream is answered, and ends.
    let mut stream = controller.open(hello).await.unwrap();
    let refused = stream.message().await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    let words = "reads revisions 2 to 3 of the schema, and this controller writes 1";
    assert!(refused.message().contains(words), "{refused}");
    assert!(controller.refused("schema"));
    drop(stream);

    let publisher = &controller.groups.shared().publisher;
    let said = || match publisher.programmed([]) {
        Programmed::TooOld(text) => text,
        other => panic!("{other:?}"),
    };
    assert!(
        said().contains("web-7") && said().contains(words),
        "{}",
        said()
    );
    // It is one, however often it comes.
    let again = Hello {
        schema_max: SCHEMA - 1,
        ..self::hello("web-7")
    };
    let mut stream = controller.open(again).await.unwrap();
    stream.message().await.unwrap_err();
    assert_eq!(publisher.data_planes().len(), 1);
    assert!(said().contains("reads revisions 1 to 0"), "{}", said());
    // Another build takes its place.
    let mut stream = controller.open(self::hello("web-7")).await.unwrap();
    stream.message().await.unwrap().unwrap();
    controller
        .until(|planes| matches!(planes, [plane] if plane.turned_away.is_none()))
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_data_plane_that_does_not_come_again_is_forgotten() {
    let publisher = Publisher::new("s");
    let turned_away = || {
        let mut session = Session::new(Arc::clone(&publisher));
        session.on_hello(&Hello::default()).unwrap_err();
        session
    };
    let (slots, stop) = (Semaphore::new(1), CancellationToken::new());
    let began = Instant::now();
    linger(turned_away(), &slots, &stop).await;
    assert_eq!(began.elapsed(), TURNED_AWAY);
    assert!(publisher.data_planes().is_empty());
    // Nor is it remembered where there are too many.
    let _taken = slots.try_acquire().unwrap();
    linger(turned_away(), &slots, &stop).await;
    assert_eq!(began.elapsed(), TURNED_AWAY);
    assert!(publisher.data_planes().is_empty());
}

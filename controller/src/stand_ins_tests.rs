use super::*;
use crate::leader::fake::Crown;
use crate::objects::fake::Fake;
use crate::watch::handle::{Ask, StandIns};
use prometheus::{IntCounter, IntGauge};
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::task::JoinHandle;

const FOREVER: Duration = Duration::from_secs(600);

fn route(name: &str, padding: usize) -> Value {
    json!({
        "apiVersion": "diolkos.io/v1", "kind": "Route",
        "metadata": {"namespace": "a", "name": name, "uid": "u"},
        "spec": {"hostnames": ["a.test"], "rules": [{"directResponse": {"status": 200, "body": "x".repeat(padding)}}]},
    })
}

/// A world of which a test says what stands in, and who writes that down.
struct Kept {
    secrets: Fake<Secret>,
    crown: Crown,
    changed: watch::Sender<Option<u64>>,
    manifests: watch::Sender<Vec<Value>>,
    kept: IntGauge,
    dropped: IntCounter,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Kept {
    fn over(secrets: Fake<Secret>) -> Self {
        let (manifests, standing) = watch::channel(Vec::new());
        let world = WorldHandle::answering(move |ask| {
            if let Ask::StandIns(_, reply) = ask {
                let manifests = standing.borrow().clone();
                drop(reply.send(Some(StandIns {
                    version: 0,
                    manifests,
                })));
            }
        });
        let (crown, leadership) = Crown::new();
        let (changed, changes) = watch::channel(None);
        let kept = IntGauge::new("kept", "kept").unwrap();
        let dropped = IntCounter::new("dropped", "dropped").unwrap();
        let keeper = Keeper {
            secrets: secrets.clone(),
            world,
            leadership,
            changed: changes,
            kept: kept.clone(),
            dropped: dropped.clone(),
        };
        let stop = CancellationToken::new();
        let task = tokio::spawn(keeper.run(stop.clone()));
        Self {
            secrets,
            crown,
            changed,
            manifests,
            kept,
            dropped,
            stop,
            task,
        }
    }

    fn stand_in(&self, version: u64, manifests: Vec<Value>) {
        self.manifests.send_replace(manifests);
        self.changed.send_replace(Some(version));
    }

    /// What is written once everybody has had time; `None`: there is no Secret.
    async fn written(&self) -> Option<Vec<Value>> {
        sleep(FOREVER).await;
        let secret = self.secrets.peek(SECRET)?;
        Some(serde_json::from_slice(&secret.data?[KEY].0).unwrap())
    }
}

#[tokio::test(start_paused = true)]
async fn the_leader_writes_what_stands_in_once_something_is_published() {
    let kept = Kept::over(Fake::reliable());
    kept.manifests.send_replace(vec![route("x", 1)]);
    assert_eq!(kept.written().await, None, "nothing is published");
    kept.stand_in(1, vec![]);
    assert_eq!(kept.written().await, None, "there is nothing to say");
    kept.stand_in(2, vec![route("x", 1)]);
    assert_eq!(kept.written().await, Some(vec![route("x", 1)]));
    assert_eq!(kept.kept.get(), 1);

    kept.crown.lose();
    kept.stand_in(3, vec![route("y", 1)]);
    assert_eq!(kept.written().await, Some(vec![route("x", 1)]));
    kept.crown.win(2);
    assert_eq!(kept.written().await, Some(vec![route("y", 1)]));
    kept.stand_in(4, vec![]);
    assert_eq!(kept.written().await, Some(vec![]));

    // What is not written yet is written at the end.
    kept.stand_in(5, vec![route("z", 1)]);
    tokio::task::yield_now().await;
    kept.stop.cancel();
    timeout(GATHER / 2, kept.task).await.unwrap().unwrap();
    let secret = kept.secrets.peek(SECRET).unwrap();
    assert_eq!(read(&secret).len(), 1);
    assert_eq!(&*read(&secret)[0].id.name, "z");
}

#[tokio::test(start_paused = true)]
async fn what_gets_lost_is_written_again() {
    let travel = Duration::from_millis(10);
    let kept = Kept::over(Fake::new(7, travel, 0.4));
    for version in 1..20 {
        let manifest = route(&format!("r{version}"), 1);
        kept.stand_in(version, vec![manifest.clone()]);
        assert_eq!(kept.written().await, Some(vec![manifest]));
    }
}

#[tokio::test(start_paused = true)]
async fn what_there_is_no_room_for_is_counted() {
    let kept = Kept::over(Fake::reliable());
    let half = MOST_BYTES / 2;
    let all = vec![
        route("a", half),
        route("b", half),
        route("c", 1),
        route("d", half / 2),
    ];
    kept.stand_in(1, all.clone());
    let written = kept.written().await.unwrap();
    let expected = [&all[0], &all[2], &all[3]];
    assert!(written.iter().eq(expected), "one that is smaller has room");
    assert_eq!((kept.kept.get(), kept.dropped.get()), (3, 1));
    let secret = kept.secrets.peek(SECRET).unwrap();
    assert!(secret.data.unwrap()[KEY].0.len() <= MOST_BYTES);
}

/// An API server that refuses at first.
struct Late(AtomicUsize, Secret);

impl Objects<Secret> for Late {
    async fn get(&self, _: &str) -> Result<Option<Secret>, ApiError> {
        match self.0.fetch_sub(1, Ordering::Relaxed) {
            1 => Ok(Some(self.1.clone())),
            _ => Err(ApiError::Failed("not yet".into())),
        }
    }

    async fn create(&self, _: &Secret) -> Result<Secret, ApiError> {
        Err(ApiError::Conflict)
    }

    async fn replace(&self, _: &str, _: &Secret) -> Result<Secret, ApiError> {
        Err(ApiError::Conflict)
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_holds_nobody_up_for_ever_and_comes_later() {
    let other = json!({"apiVersion": "diolkos.io/v9", "kind": "Other", "metadata": {"name": "o"}});
    let text = json!([other, route("x", 1), 7]).to_string();
    let secret = Secret {
        data: Some([(KEY.to_owned(), ByteString(text.into_bytes()))].into()),
        ..Secret::default()
    };
    let (events, mut received) = mpsc::channel(1);
    let began = Instant::now();
    let late = Late(AtomicUsize::new(9), secret);
    tokio::spawn(recall(late, events, Duration::from_secs(30)));
    let mut recalled = Vec::new();
    while let Some(event) = received.recv().await {
        let Event::Recalled(objects) = event else {
            panic!("{event:?}")
        };
        let names = objects.into_iter().map(|o| o.id.name.to_string());
        recalled.push((began.elapsed().as_secs(), names.collect::<Vec<_>>()));
    }
    assert_eq!(recalled, [(30, vec![]), (40, vec!["x".to_owned()])]);
}

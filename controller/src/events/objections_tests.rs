use super::*;
use crate::fake_api::{self, FakeApi};
use crate::leader::fake::Crown;
use crate::watch::handle::Ask;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

const SECOND: Duration = Duration::from_secs(1);
const REASON: &str = "AnnotationNotSupported";

fn objections(texts: &[&str]) -> Objections {
    Objections {
        id: ObjectId::new(ObjectKind::Ingress, "shop", "web"),
        uid: Some("u".to_owned()),
        generation: 1,
        all: texts
            .iter()
            .map(|text| (REASON, (*text).to_owned()))
            .collect(),
    }
}

/// Of a Tenant, which stands outside namespaces.
fn of_tenant(generation: i64, texts: &[&str]) -> Objections {
    Objections {
        id: ObjectId::new(ObjectKind::Tenant, "", "acme"),
        generation,
        ..objections(texts)
    }
}

#[test]
fn a_note_says_what_fits() {
    assert_eq!(note(&objections(&[])), None);
    assert_eq!(note(&objections(&["a", "b"])).as_deref(), Some("a; b"));
    let long = "x".repeat(400);
    let note_of_four = note(&objections(&[&long, &long, &long, &long])).unwrap();
    assert!(note_of_four.ends_with("; and 2 more") && note_of_four.len() <= NOTE);
    let longer = note(&objections(&[&"ä".repeat(2_000)])).unwrap();
    assert!(longer.ends_with('…') && longer.len() <= NOTE);
}

#[test]
fn the_same_has_the_same_name() {
    let now = |second| Timestamp::from_second(second).unwrap();
    let of = |text: &str, second| {
        let objections = objections(&[text]);
        let note = note(&objections).unwrap();
        event(&objections, note, "replica-0", now(second))
    };
    let (first, again, other) = (of("a", 1), of("a", 2), of("b", 3));
    assert_eq!(first.metadata.name, again.metadata.name);
    assert_ne!(first.metadata.name, other.metadata.name);
    let json = serde_json::to_value(first).unwrap();
    assert_eq!(json["regarding"]["kind"], "Ingress");
    assert_eq!(json["reason"], "AnnotationNotSupported");
    assert_eq!(json["type"], "Warning");
    assert_eq!(json["note"], "a");
}

#[test]
fn the_same_of_a_later_version_has_another_name_and_a_place() {
    let of = |generation| {
        let objections = of_tenant(generation, &["a"]);
        event(
            &objections,
            "a".to_owned(),
            "replica-0",
            Timestamp::UNIX_EPOCH,
        )
    };
    assert_eq!(of(1).metadata.name, of(1).metadata.name);
    assert_ne!(of(1).metadata.name, of(2).metadata.name);
    let other = Objections {
        id: ObjectId::new(ObjectKind::GatewayClass, "", "acme"),
        ..of_tenant(1, &["a"])
    };
    let other = event(&other, "a".to_owned(), "replica-0", Timestamp::UNIX_EPOCH);
    assert_ne!(of(1).metadata.name, other.metadata.name, "of another kind");
    let json = serde_json::to_value(of(1)).unwrap();
    assert_eq!(json["metadata"]["namespace"], "default");
    assert_eq!(json["regarding"]["apiVersion"], "diolkos.io/v1alpha1");
    assert_eq!(json["regarding"]["namespace"], serde_json::Value::Null);
}

/// Tells of one Ingress, before an API server that takes no Event as long as there are refusals left.
fn start(refusals: usize, code: u16) -> (FakeApi, Crown, CancellationToken) {
    let left = Arc::new(AtomicUsize::new(refusals));
    let (client, api) = FakeApi::answering(move |asked| {
        let refused = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        async move {
            match refused {
                Ok(_) => fake_api::refusal(code),
                Err(_) => fake_api::empty(asked),
            }
        }
    });
    let world = WorldHandle::answering(|ask| match ask {
        Ask::Ids(reply) => drop(reply.send(vec![objections(&[]).id])),
        Ask::Objections(ids, reply) => {
            let all = ids.iter().map(|_| objections(&["a"])).collect();
            drop(reply.send(all));
        }
        _ => {}
    });
    let (crown, leadership) = Crown::new();
    let objector = objector(client, world, leadership, watch::channel(0).1);
    let stop = CancellationToken::new();
    tokio::spawn(objector.run(stop.clone()));
    (api, crown, stop)
}

fn objector(
    client: Client,
    world: WorldHandle,
    leadership: Leadership,
    progress: watch::Receiver<u64>,
) -> Objector {
    Objector {
        client,
        world,
        identity: "replica-0".to_owned(),
        leadership,
        queue: queue(),
        progress,
        dropped: IntCounter::new("dropped", "dropped").unwrap(),
    }
}

/// An Objector before an API server that takes everything, and a world in which one Tenant is like this; `None`: it is
/// not there.
struct Tenancy {
    api: FakeApi,
    crown: Crown,
    queue: Arc<Queue>,
    progress: watch::Sender<u64>,
    is: Arc<Mutex<Option<Objections>>>,
}

impl Tenancy {
    fn new() -> Self {
        let (client, api) = FakeApi::answering(|asked| async { fake_api::empty(asked) });
        let is: Arc<Mutex<Option<Objections>>> = Arc::default();
        let known = Arc::clone(&is);
        let answer = move || {
            let known = known.lock();
            let gone = || Objections {
                uid: None,
                ..of_tenant(0, &[])
            };
            known.as_ref().map_or_else(gone, |is| Objections {
                id: is.id.clone(),
                uid: is.uid.clone(),
                generation: is.generation,
                all: is.all.clone(),
            })
        };
        let world = WorldHandle::answering(move |ask| match ask {
            Ask::Objections(_, reply) => drop(reply.send(vec![answer()])),
            Ask::Refused(reply) => {
                let Objections { id, all, .. } = answer();
                let words = all.into_iter().next();
                let refused = words.map(|(_, words)| (id, words));
                drop(reply.send(refused.into_iter().collect()));
            }
            Ask::Ids(reply) => drop(reply.send(vec![answer().id])),
            _ => {}
        });
        let (crown, leadership) = Crown::new();
        let (progress, ticks) = watch::channel(0);
        let objector = objector(client, world, leadership, ticks);
        let queue = Arc::clone(&objector.queue);
        tokio::spawn(objector.run(CancellationToken::new()));
        Self {
            api,
            crown,
            queue,
            progress,
            is,
        }
    }

    fn becomes(&self, is: Option<Objections>) {
        *self.is.lock() = is;
    }

    /// It is translated anew, and looked at.
    async fn changes(&self, is: Option<Objections>) {
        self.becomes(is);
        self.queue.push([of_tenant(0, &[]).id]);
        sleep(SECOND * 60).await;
    }

    /// Reasons of the Events so far.
    fn told(&self) -> Vec<String> {
        let all = self.api.asked();
        let reasons = all.iter().filter_map(|asked| asked.body["reason"].as_str());
        reasons.map(str::to_owned).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn an_older_version_is_told_of_once_and_that_it_is_over() {
    let it = Tenancy::new();
    it.changes(Some(of_tenant(1, &[]))).await;
    assert!(it.told().is_empty(), "nothing has ended");
    for generation in [2, 2, 3] {
        it.changes(Some(of_tenant(generation, &["x"]))).await;
        assert_eq!(it.told(), [REASON]);
    }
    for _ in 0..2 {
        it.changes(Some(of_tenant(4, &[]))).await;
        assert_eq!(it.told(), [REASON, "Restored"]);
    }
    // Of what is gone there is nothing to say.
    it.changes(Some(of_tenant(5, &["x"]))).await;
    it.changes(None).await;
    assert_eq!(it.told(), [REASON, "Restored", REASON]);
    let paths: BTreeSet<String> = it.api.asked().into_iter().map(|asked| asked.path).collect();
    let path = "/apis/events.k8s.io/v1/namespaces/default/events";
    assert_eq!(paths, BTreeSet::from([path.to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn what_data_planes_refuse_is_told_once_however_often_they_answer() {
    let it = Tenancy::new();
    it.becomes(Some(of_tenant(1, &[])));
    sleep(SECOND * 60).await;
    it.becomes(Some(of_tenant(1, &["bad"])));
    for _ in 0..100 {
        it.progress.send_modify(|n| *n += 1);
        sleep(SECOND / 4).await;
    }
    assert_eq!(it.told(), [REASON]);
    it.becomes(Some(of_tenant(2, &[])));
    for _ in 0..100 {
        it.progress.send_modify(|n| *n += 1);
        sleep(SECOND / 4).await;
    }
    assert_eq!(it.told(), [REASON, "Restored"]);
    // Others tell while others lead.
    it.crown.lose();
    sleep(SECOND).await;
    it.becomes(Some(of_tenant(3, &["bad"])));
    it.progress.send_modify(|n| *n += 1);
    sleep(SECOND * 60).await;
    assert_eq!(it.told(), [REASON, "Restored"]);
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_told_is_told_later_and_once() {
    let refusals = 5;
    let (api, ..) = start(refusals, 500);
    sleep(SECOND * 3600).await;
    let asked = api.asked();
    assert_eq!(asked.len(), refusals + 1);
    let pauses: Vec<Duration> = asked.windows(2).map(|two| two[1].at - two[0].at).collect();
    assert!(pauses[0] < SECOND * 3, "{pauses:?}");
    assert!(pauses[4] > SECOND * 8, "{pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_there_already_has_been_told() {
    let (api, ..) = start(1, 409);
    sleep(SECOND * 3600).await;
    assert_eq!(api.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_tried_again_without_the_lease() {
    let (api, crown, _) = start(usize::MAX, 500);
    sleep(SECOND * 5).await;
    crown.lose();
    let tried = api.asked().len();
    assert!(tried > 0);
    sleep(SECOND * 3600).await;
    assert_eq!(api.asked().len(), tried);
}

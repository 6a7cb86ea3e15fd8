//! The reader against a source that a test plays.

use super::super::held::Held;
use super::*;
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::timeout;

const FOREVER: Duration = Duration::from_secs(600);

/// Answers by name, and counts.
#[derive(Clone, Default)]
struct Played(Arc<Mutex<BTreeMap<String, (usize, Answer)>>>);

#[derive(Clone)]
enum Answer {
    Value(&'static str),
    Gone,
    Refused,
    Away,
    Never,
}

impl Played {
    fn answers(&self, name: &str, answer: Answer) {
        let mut all = self.0.lock();
        let asked = all.get(name).map_or(0, |(asked, _)| *asked);
        all.insert(name.to_owned(), (asked, answer));
    }

    fn asked(&self, name: &str) -> usize {
        self.0.lock().get(name).map_or(0, |(asked, _)| *asked)
    }
}

impl Source for Played {
    async fn read(&self, id: &ObjectId) -> Result<Option<Version>, Failure> {
        let answer = {
            let mut all = self.0.lock();
            let (asked, answer) = all.get_mut(&*id.name).unwrap();
            *asked += 1;
            answer.clone()
        };
        match answer {
            Answer::Value(value) => {
                let object = json!({"apiVersion": "v1", "kind": "Secret",
                    "metadata": {"namespace": id.namespace, "name": id.name}, "stringData": {"key": value}});
                Ok(Some(Version {
                    version: value.to_owned(),
                    object: Object::from_json(&object).unwrap().unwrap(),
                }))
            }
            Answer::Gone => Ok(None),
            Answer::Refused | Answer::Away => Err(Failure {
                why: "no".to_owned(),
                is_outage: matches!(answer, Answer::Away),
            }),
            Answer::Never => std::future::pending().await,
        }
    }
}

fn id(name: &str) -> ObjectId {
    ObjectId::new(ObjectKind::Secret, "a", name)
}

struct Reading {
    source: Played,
    held: Held,
    events: mpsc::Receiver<Event>,
}

fn start() -> Reading {
    let source = Played::default();
    let wishes = Arc::new(Wishes::default());
    let (sender, events) = mpsc::channel(8);
    let reader = Reader {
        source: source.clone(),
        wishes: Arc::clone(&wishes),
        events: sender,
    };
    tokio::spawn(reader.run());
    Reading {
        source,
        held: Held::new(wishes),
        events,
    }
}

impl Reading {
    async fn next(&mut self) -> (String, Result<Option<String>, String>) {
        match timeout(FOREVER, self.events.recv()).await {
            Ok(Some(Event::Values { id, outcome, .. })) => {
                (id.name.to_string(), outcome.map(|v| v.map(|v| v.version)))
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn only_what_is_held_and_there_is_read_and_again_when_it_changes() {
    let mut reading = start();
    reading.source.answers("one", Answer::Value("1"));
    reading.source.answers("other", Answer::Value("1"));
    reading.held.hold(id("absent"), None);
    reading.held.seen(&id("other"), "1".into());
    reading.held.hold(id("one"), Some("1".into()));
    assert_eq!(reading.held.unsettled().collect::<Vec<_>>(), [&id("one")]);
    assert_eq!(reading.next().await, ("one".into(), Ok(Some("1".into()))));
    assert!(reading.held.settle(&id("one"), Some("1")));
    assert_eq!(reading.held.unsettled().count(), 0);
    // The same version again is nothing new.
    reading.held.seen(&id("one"), "1".into());
    reading.source.answers("one", Answer::Value("2"));
    reading.held.seen(&id("one"), "2".into());
    assert_eq!(reading.next().await, ("one".into(), Ok(Some("2".into()))));
    assert_eq!(reading.source.asked("one"), 2);
    assert_eq!(reading.source.asked("other"), 0);
}

#[tokio::test(start_paused = true)]
async fn failures_and_silence_are_tried_again_while_somebody_wants_it() {
    let mut reading = start();
    reading.source.answers("one", Answer::Refused);
    reading.held.hold(id("one"), Some("1".into()));
    assert_eq!(reading.next().await, ("one".into(), Err("no".into())));
    reading.source.answers("one", Answer::Never);
    let late = "the API server does not answer in time".to_owned();
    assert_eq!(reading.next().await, ("one".into(), Err(late)));
    reading.source.answers("one", Answer::Gone);
    assert_eq!(reading.next().await, ("one".into(), Ok(None)));
    assert_eq!(reading.source.asked("one"), 3);
    // Nobody wants it any more: a failure is the last of it.
    reading.source.answers("one", Answer::Refused);
    reading.held.seen(&id("one"), "2".into());
    assert_eq!(reading.next().await, ("one".into(), Err("no".into())));
    let left = reading.held.release(&id("one"));
    assert_eq!(
        left,
        Some(Values::Unread {
            version: "2".into()
        })
    );
    assert!(
        timeout(LONGEST_PAUSE * 3, reading.events.recv())
            .await
            .is_err()
    );
    assert_eq!(reading.source.asked("one"), 4);
}

#[tokio::test(start_paused = true)]
async fn after_a_long_outage_it_is_read_within_seconds() {
    let mut reading = start();
    reading.source.answers("one", Answer::Away);
    reading.source.answers("other", Answer::Refused);
    reading.held.hold(id("one"), Some("1".into()));
    reading.held.hold(id("other"), Some("1".into()));
    let begun = tokio::time::Instant::now();
    while begun.elapsed() < Duration::from_secs(300) {
        assert_eq!(reading.next().await.1, Err("no".into()));
    }
    reading.source.answers("one", Answer::Value("1"));
    let back = tokio::time::Instant::now();
    while reading.next().await != ("one".into(), Ok(Some("1".into()))) {}
    assert!(back.elapsed() <= LONGEST_OUTAGE_PAUSE);
    // Who refuses is not pestered.
    assert!(reading.source.asked("other") < 15);
}

#[tokio::test(start_paused = true)]
async fn so_many_at_a_time() {
    let mut reading = start();
    let names: Vec<String> = (0..AT_ONCE + 5).map(|i| format!("s{i}")).collect();
    for name in &names {
        reading.source.answers(name, Answer::Never);
        reading.held.hold(id(name), Some("1".into()));
    }
    // All that run at once come to their deadline together; only then the others begin.
    let begun = || names.iter().filter(|n| reading.source.asked(n) > 0).count();
    tokio::time::sleep(DEADLINE / 2).await;
    assert_eq!(begun(), AT_ONCE);
}

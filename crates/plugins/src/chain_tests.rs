use super::*;
use crate::{BodyFilter, Needs, Stages};
use bytes::Bytes;
use model::Headers;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Notes its name in a header; answers or fails when told to; waits for `after` others when asynchronous.
struct Note {
    name: &'static str,
    does: Does,
    gate: Option<Arc<tokio::sync::Notify>>,
    body: BodyMode,
}
enum Does {
    Pass,
    Answer,
    Fail,
    Panic,
}

impl Plugin for Note {
    fn needs(&self) -> Needs {
        Needs {
            stages: Stages::of(&[Stage::PreRequest, Stage::PreResponse]),
            request_body: self.body,
            response_body: self.body,
            ..Needs::default()
        }
    }

    fn pre_request<'a>(&'a self, x: &Exchange<'a>, edits: &mut Edits) -> Verdict<'a> {
        let seen = x.request.headers.get_all("seen").count();
        let mark = format!("{}{seen}", self.name);
        let result = || match self.does {
            Does::Pass => Ok(Flow::Continue),
            Does::Answer => Ok(Flow::Respond(Box::new(LocalReply::new(418, self.name)))),
            Does::Fail => Err(Failure("broken".into())),
            Does::Panic => panic!("a bug"),
        };
        match &self.gate {
            None => {
                edits.append("seen", mark);
                Verdict::Ready(result())
            }
            Some(gate) => Verdict::Pending(Box::pin(async move {
                gate.notified().await;
                let mut edits = Edits::default();
                edits.append("seen", mark);
                (edits, result())
            })),
        }
    }
}

struct Held(Headers);
impl Reader for Held {
    fn exchange(&self) -> Exchange<'_> {
        crate::exchange::tests::request("GET", "/", &self.0)
    }
    fn apply(&mut self, edits: &Edits) -> Result<(), InvalidHeader> {
        edits.apply(&mut self.0)
    }
}

fn note(name: &'static str, does: Does) -> Note {
    Note {
        name,
        does,
        gate: None,
        body: BodyMode::None,
    }
}

fn entry(priority: i32, parallel: bool, note: Note) -> ChainEntry {
    ChainEntry {
        name: note.name.to_owned(),
        plugin: Arc::new(note),
        stage: None,
        priority,
        parallel,
        failure_policy: FailurePolicy::Fail,
        run_on_local_reply: false,
        meter: None,
    }
}

async fn run(entries: Vec<ChainEntry>) -> (Vec<String>, Outcome) {
    let chain = Chain::new(entries).unwrap();
    let mut held = Held(Headers::default());
    let outcome = chain.run(Stage::PreRequest, &mut held, false).await;
    let seen = held.0.get_all("seen");
    let seen = seen
        .map(|v| String::from_utf8_lossy(v).into_owned())
        .collect();
    (seen, outcome)
}

#[tokio::test]
async fn priority_then_list_order_and_each_sees_what_went_before() {
    let (seen, outcome) = run(vec![
        entry(20, false, note("c", Does::Pass)),
        entry(10, false, note("a", Does::Pass)),
        entry(10, true, note("b", Does::Pass)),
    ])
    .await;
    assert_eq!(seen, ["a0", "b1", "c2"]);
    assert!(matches!(outcome, Outcome::Continue));
}

#[tokio::test]
async fn a_parallel_group_sees_one_state_and_merges_in_list_order() {
    // The first member can only finish after the second has been started: run one after the other, this would hang.
    let gate = Arc::new(tokio::sync::Notify::new());
    struct Opens(Arc<tokio::sync::Notify>);
    impl Plugin for Opens {
        fn needs(&self) -> Needs {
            Needs {
                stages: Stages::of(&[Stage::PreRequest]),
                ..Needs::default()
            }
        }
        fn pre_request<'a>(&'a self, _: &Exchange<'a>, edits: &mut Edits) -> Verdict<'a> {
            edits.append("seen", "second");
            self.0.notify_one();
            Verdict::CONTINUE
        }
    }
    let first = Note {
        gate: Some(Arc::clone(&gate)),
        ..note("first", Does::Pass)
    };
    let mut second = entry(1, true, note("second", Does::Pass));
    second.plugin = Arc::new(Opens(gate));
    let (seen, _) = run(vec![entry(1, true, first), second]).await;
    assert_eq!(seen, ["first0", "second"]);
}

#[tokio::test]
async fn the_refusal_of_the_lowest_place_is_reported() {
    let gate = Arc::new(tokio::sync::Notify::new());
    gate.notify_one();
    let slow = Note {
        gate: Some(gate),
        ..note("slow", Does::Answer)
    };
    let (_, outcome) = run(vec![
        entry(1, true, slow),
        entry(1, true, note("fast", Does::Answer)),
    ])
    .await;
    assert!(matches!(outcome, Outcome::Respond { plugin, .. } if plugin == "slow"));
}

#[tokio::test]
async fn a_refusal_does_not_wait_for_members_behind_it() {
    let never = Arc::new(tokio::sync::Notify::new());
    let hanging = Note {
        gate: Some(never),
        ..note("hanging", Does::Pass)
    };
    let gate = Arc::new(tokio::sync::Notify::new());
    gate.notify_one();
    let refusing = Note {
        gate: Some(gate),
        ..note("refusing", Does::Answer)
    };
    let (_, outcome) = run(vec![entry(1, true, refusing), entry(1, true, hanging)]).await;
    assert!(matches!(outcome, Outcome::Respond { plugin, .. } if plugin == "refusing"));
}

#[tokio::test]
async fn failure_policy_decides() {
    let (_, outcome) = run(vec![entry(1, false, note("x", Does::Fail))]).await;
    assert!(matches!(outcome, Outcome::Failed { plugin, .. } if plugin == "x"));
    let mut ignored = entry(1, false, note("x", Does::Fail));
    ignored.failure_policy = FailurePolicy::Ignore;
    let (seen, outcome) = run(vec![ignored, entry(2, false, note("y", Does::Pass))]).await;
    assert!(matches!(outcome, Outcome::Continue));
    assert_eq!(seen, ["y0"], "edits of a failed plugin are not made");
}

#[tokio::test]
async fn an_answer_stops_the_chain() {
    let (seen, outcome) = run(vec![
        entry(1, false, note("x", Does::Answer)),
        entry(2, false, note("y", Does::Pass)),
    ])
    .await;
    assert!(matches!(outcome, Outcome::Respond { reply, .. } if reply.status == 418));
    assert_eq!(seen, ["x0"]);
}

#[test]
fn a_stage_that_the_type_has_not_is_refused() {
    let mut e = entry(1, false, note("x", Does::Pass));
    e.stage = Some(Stage::PostResponse);
    let error = Chain::new(vec![e]).err().unwrap();
    assert_eq!(
        error,
        ChainError::Stage {
            name: "x".into(),
            stage: Stage::PostResponse
        }
    );
}

#[test]
fn the_smallest_buffer_counts_and_an_empty_chain_wants_nothing() {
    let buffering = |n| {
        entry(
            1,
            false,
            Note {
                body: BodyMode::Buffer(n),
                ..note("x", Does::Pass)
            },
        )
    };
    let chain = Chain::new(vec![buffering(10), buffering(5)]).unwrap();
    assert_eq!(chain.buffers(Side::Request), Some(5));
    let empty = Chain::default();
    assert!(empty.is_empty(Stage::PreRequest) && empty.filters(Side::Response).is_none());
    assert_eq!(empty.buffers(Side::Request), None);
}

/// A counting filter, and one that holds bytes back.
struct Counts(Arc<AtomicUsize>);
impl BodyFilter for Counts {
    fn chunk(&mut self, data: Bytes) -> Result<Bytes, Failure> {
        self.0.fetch_add(data.len(), Ordering::Relaxed);
        Ok(data)
    }
}
struct HoldsBack(Vec<u8>);
impl BodyFilter for HoldsBack {
    fn chunk(&mut self, data: Bytes) -> Result<Bytes, Failure> {
        self.0.extend_from_slice(&data);
        Ok(Bytes::new())
    }
    fn end(&mut self) -> Result<Bytes, Failure> {
        Ok(std::mem::take(&mut self.0).into())
    }
}

#[test]
fn what_a_filter_holds_back_passes_the_filters_behind_it() {
    let count = Arc::new(AtomicUsize::new(0));
    let all: [Box<dyn BodyFilter>; 2] = [
        Box::new(HoldsBack(Vec::new())),
        Box::new(Counts(Arc::clone(&count))),
    ];
    let mut filters: Filters = all
        .into_iter()
        .map(|filter| Passing::new(filter, FailurePolicy::Fail, None))
        .collect();
    assert!(filters.chunk(Bytes::from_static(b"ab")).unwrap().is_empty());
    assert!(filters.chunk(Bytes::from_static(b"c")).unwrap().is_empty());
    assert_eq!(filters.end().unwrap(), "abc");
    assert_eq!(count.load(Ordering::Relaxed), 3);
}

/// What was told of one plugin.
#[derive(Default)]
struct Told {
    runs: AtomicUsize,
    micros: AtomicUsize,
    failed: AtomicUsize,
    ignored: AtomicUsize,
    panics: AtomicUsize,
}
impl Meter for Told {
    fn took(&self, time: Duration) {
        self.runs.fetch_add(1, Ordering::Relaxed);
        let micros = time.as_micros() as usize;
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }
    fn failed(&self, policy: FailurePolicy) {
        let counter = match policy {
            FailurePolicy::Fail => &self.failed,
            FailurePolicy::Ignore => &self.ignored,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
    fn panicked(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
    }
}
impl Told {
    /// Runs, failures that ended something, and others.
    fn counts(&self) -> [usize; 3] {
        [&self.runs, &self.failed, &self.ignored].map(|n| n.load(Ordering::Relaxed))
    }
}

fn measured(mut entry: ChainEntry) -> (ChainEntry, Arc<Told>) {
    let told = Arc::new(Told::default());
    entry.meter = Some(Arc::clone(&told) as _);
    (entry, told)
}

#[tokio::test]
async fn runs_and_failures_are_told_of_those_that_run() {
    let (passes, of_passes) = measured(entry(1, false, note("a", Does::Pass)));
    let (mut ignored, of_ignored) = measured(entry(2, false, note("b", Does::Fail)));
    ignored.failure_policy = FailurePolicy::Ignore;
    let (fails, of_fails) = measured(entry(3, false, note("c", Does::Fail)));
    let (never, of_never) = measured(entry(4, false, note("d", Does::Fail)));
    run(vec![passes, ignored, fails, never]).await;
    assert_eq!(of_passes.counts(), [1, 0, 0]);
    assert_eq!(of_ignored.counts(), [1, 0, 1]);
    assert_eq!(of_fails.counts(), [1, 1, 0]);
    assert_eq!(
        of_never.counts(),
        [0, 0, 0],
        "the one before it ended the request"
    );
}

/// At once, and in what it waits for; alone, and beside others.
#[tokio::test]
async fn a_panic_is_a_failure_of_its_plugin_alone() {
    for (parallel, waits) in [(false, false), (false, true), (true, false), (true, true)] {
        let gate = Arc::new(tokio::sync::Notify::new());
        let falls = || {
            gate.notify_one();
            let note = Note {
                gate: waits.then(|| Arc::clone(&gate)),
                ..note("falls", Does::Panic)
            };
            measured(entry(1, parallel, note))
        };
        let (fails, told) = falls();
        let next = || entry(1, parallel, note("next", Does::Pass));
        let (_, outcome) = run(vec![fails, next()]).await;
        assert!(
            matches!(&outcome, Outcome::Failed { plugin, .. } if plugin == "falls"),
            "{outcome:?}"
        );
        assert_eq!(told.counts(), [1, 1, 0]);
        let (mut ignored, told) = falls();
        ignored.failure_policy = FailurePolicy::Ignore;
        let (seen, outcome) = run(vec![ignored, next()]).await;
        assert!(matches!(outcome, Outcome::Continue), "{outcome:?}");
        assert_eq!(seen, ["next0"], "nothing of what it had begun is left");
        assert_eq!(told.counts(), [1, 0, 1]);
        assert_eq!(told.panics.load(Ordering::Relaxed), 1);
    }
}

/// Panics at the first chunk.
struct Falls(Arc<AtomicUsize>);
impl BodyFilter for Falls {
    fn chunk(&mut self, _: Bytes) -> Result<Bytes, Failure> {
        self.0.fetch_add(1, Ordering::Relaxed);
        panic!("a bug")
    }
}

#[test]
fn a_filter_that_panicked_is_asked_nothing_more() {
    for (policy, goes_on) in [(FailurePolicy::Ignore, true), (FailurePolicy::Fail, false)] {
        let (asked, told) = (Arc::new(AtomicUsize::new(0)), Arc::new(Told::default()));
        let filter = Box::new(Falls(Arc::clone(&asked)));
        let one = Passing::new(filter, policy, Some(Arc::clone(&told) as _));
        let mut filters: Filters = [one].into_iter().collect();
        let data = Bytes::from_static(b"ab");
        assert_eq!(
            filters.chunk(data.clone()).ok(),
            goes_on.then(|| data.clone())
        );
        assert_eq!(
            filters.chunk(data.clone()).ok(),
            goes_on.then(|| data.clone())
        );
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        assert_eq!(told.panics.load(Ordering::Relaxed), 1);
    }
}

#[tokio::test]
async fn members_of_a_parallel_group_are_told_of_each_by_itself() {
    let gate = Arc::new(tokio::sync::Notify::new());
    gate.notify_one();
    let slow = Note {
        gate: Some(gate),
        ..note("slow", Does::Fail)
    };
    let (slow, of_slow) = measured(entry(1, true, slow));
    let (fast, of_fast) = measured(entry(1, true, note("fast", Does::Pass)));
    run(vec![slow, fast]).await;
    assert_eq!(of_slow.counts(), [1, 1, 0]);
    assert_eq!(of_fast.counts(), [1, 0, 0]);
}

/// Fails at the second chunk, and takes its time before.
struct Tires(usize);
impl BodyFilter for Tires {
    fn chunk(&mut self, data: Bytes) -> Result<Bytes, Failure> {
        self.0 += 1;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(1) {}
        match self.0 {
            2 => Err(Failure("tired".into())),
            _ => Ok(data),
        }
    }
}

#[test]
fn a_filter_is_told_of_once_for_a_body() {
    let told = Arc::new(Told::default());
    let filter = |policy| {
        let meter = Arc::clone(&told) as Arc<dyn Meter>;
        Passing::new(Box::new(Tires(0)), policy, Some(meter))
    };
    let mut filters: Filters = [filter(FailurePolicy::Ignore)].into_iter().collect();
    for _ in 0..3 {
        assert_eq!(filters.chunk("a".into()).unwrap(), "a");
    }
    assert_eq!(told.counts(), [0, 0, 1]);
    drop(filters);
    assert_eq!(told.counts(), [1, 0, 1]);
    assert!(told.micros.load(Ordering::Relaxed) >= 3000);
    let mut strict: Filters = [filter(FailurePolicy::Fail)].into_iter().collect();
    strict.chunk("a".into()).unwrap();
    strict.chunk("a".into()).unwrap_err();
    drop(strict);
    drop([filter(FailurePolicy::Fail)]);
    assert_eq!(
        told.counts(),
        [2, 1, 1],
        "one that had nothing to do is not told of"
    );
}

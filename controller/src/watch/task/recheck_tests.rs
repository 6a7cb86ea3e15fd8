//! What has been translated is looked at again.

use super::*;
use crate::status::Next;

const HOUR: Duration = Duration::from_secs(3600);

struct Rechecking {
    _events: mpsc::Sender<Event>,
    world: WorldHandle,
    publisher: Arc<Publisher>,
    queue: Arc<Queue>,
    metrics: Arc<Metrics>,
}

/// One that looks again so often, after `prepare`. Everything is listed before.
fn rechecking(every: Duration, prepare: impl FnOnce(&mut Owner)) -> Rechecking {
    let (mut task, publisher) = prepared(Scope::default(), FOREVER, false);
    task.recheck = every;
    let (queue, metrics) = (Arc::clone(&task.queue), Arc::clone(&task.metrics));
    let (missing_now, missing) = watch::channel(ObjectKind::ALL.to_vec());
    let mut owner = Owner::new(task, missing_now, Instant::now());
    for kind in ObjectKind::ALL {
        owner.take(Event::Listed {
            of: (*kind).into(),
            ids: BTreeSet::new(),
        });
    }
    prepare(&mut owner);
    let (events, received) = mpsc::channel(EVENTS);
    let (asks, questions) = mpsc::channel(64);
    tokio::spawn(owner.run(received, questions));
    Rechecking {
        _events: events,
        world: WorldHandle { asks, missing },
        publisher,
        queue,
        metrics,
    }
}

impl Rechecking {
    fn mismatches(&self) -> u64 {
        self.metrics.incremental_mismatches.get()
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_missed_is_counted_and_replaced() {
    let it = rechecking(HOUR, |owner| {
        owner.take(apply(route("one")));
        owner.flush();
        // Nobody is told of it.
        assert!(owner.world.apply(route("two")));
    });
    let mut generation = it.publisher.subscribe();
    generation.mark_unchanged();
    while it.queue.take(9).is_some() {}
    let begun = Instant::now();
    generation.changed().await.unwrap();
    assert!(begun.elapsed() > HOUR / 2 && begun.elapsed() < HOUR * 2);
    let all = it.world.all().await;
    assert!(all.contains_key("Route/a/two"));
    assert_eq!(it.mismatches(), 1);
    // Its status waits to be written.
    assert_eq!(it.queue.take(9), Some(Next::Some(vec![route("two").id])));
    let generation = *generation.borrow();
    tokio::time::sleep(HOUR * 5).await;
    assert_eq!(it.mismatches(), 1);
    assert_eq!(*it.publisher.subscribe().borrow(), generation);
    assert!(it.queue.take(9).is_none(), "no status is looked at for it");
}

/// What is not translated yet cannot be as it should be.
#[tokio::test(start_paused = true)]
async fn a_route_that_waits_for_what_it_names_is_no_mismatch() {
    let backends = json!([{"kind": "Upstream", "name": "nothing"}]);
    let value = json!({
        "apiVersion": "diolkos.io/v1alpha1", "kind": "Route", "metadata": {"namespace": "a", "name": "r"},
        "spec": {"rules": [{"backends": backends}]},
    });
    let route = Object::from_json(&value).unwrap().unwrap();
    let it = rechecking(Duration::from_millis(1), |owner| owner.take(apply(route)));
    let mut generation = it.publisher.subscribe();
    generation.mark_unchanged();
    let begun = Instant::now();
    generation.changed().await.unwrap();
    assert!(begun.elapsed() > Duration::from_millis(100));
    tokio::time::sleep(HOUR / 100).await;
    assert_eq!(it.mismatches(), 0);
}

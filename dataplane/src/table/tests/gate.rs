use super::*;
use std::sync::atomic::AtomicU64;

fn permit(entry: Entry) -> Permit {
    match entry {
        Entry::Permitted(permit) => permit,
        other => panic!("{other:?}"),
    }
}

fn queued(entry: Entry) -> Waiting {
    match entry {
        Entry::Queued(waiting) => waiting,
        other => panic!("{other:?}"),
    }
}

fn poll(waiting: &mut Waiting) -> Poll<Permit> {
    let mut cx = Context::from_waker(std::task::Waker::noop());
    Pin::new(waiting).poll(&mut cx)
}

fn is_full(entry: &Entry) -> bool {
    matches!(entry, Entry::Full)
}

#[test]
fn so_many_at_once_and_so_many_wait_in_order() {
    let gate = Gate::new(2, 2);
    let (a, b) = (permit(gate.enter()), permit(gate.enter()));
    let (mut first, mut second) = (queued(gate.enter()), queued(gate.enter()));
    assert!(is_full(&gate.enter()));
    assert_eq!((gate.used(), gate.waiting()), (2, 2));
    assert!(poll(&mut first).is_pending());
    drop(a);
    assert!(poll(&mut second).is_pending(), "not before the first");
    let Poll::Ready(c) = poll(&mut first) else {
        panic!("its turn")
    };
    drop((b, c));
    assert!(poll(&mut second).is_ready());
    drop((first, second));
    assert_eq!((gate.used(), gate.waiting()), (0, 0));
}

#[test]
fn without_a_queue_it_is_refused_at_once() {
    let gate = Gate::new(1, 0);
    let held = permit(gate.enter());
    assert!(is_full(&gate.enter()));
    drop(held);
    let _held = permit(gate.enter());
}

#[test]
fn a_place_that_is_given_up_is_free_and_a_grant_that_nobody_takes_goes_on() {
    let gate = Gate::new(1, 1);
    let held = permit(gate.enter());
    drop(queued(gate.enter()));
    let granted = queued(gate.enter());
    drop(held);
    assert_eq!((gate.used(), gate.waiting()), (1, 0));
    drop(granted);
    assert_eq!(gate.used(), 0);
}

#[test]
fn bounds_may_change_while_some_are_under_way() {
    let gate = Gate::new(2, 4);
    let (a, b) = (permit(gate.enter()), permit(gate.enter()));
    let (mut c, mut d) = (queued(gate.enter()), queued(gate.enter()));
    gate.set(1, 4);
    drop(a);
    assert!(poll(&mut c).is_pending(), "one is still one too many");
    drop(b);
    let Poll::Ready(c) = poll(&mut c) else {
        panic!("its turn")
    };
    gate.set(2, 4);
    assert!(poll(&mut d).is_ready());
    drop((c, d));
    assert_eq!(gate.used(), 0);
}

/// Threads that come, wait, leave while they wait, and leave with a grant in their hands: never more than the limit,
/// and in the end all permits are back.
#[test]
fn no_permit_is_lost_or_doubled_between_threads() {
    const LIMIT: u64 = 3;
    let gate = Gate::new(LIMIT as u32, 4);
    let (inside, served, gone) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let work = |permit: Permit| {
        assert!(inside.fetch_add(1, SeqCst) < LIMIT);
        std::thread::yield_now();
        inside.fetch_sub(1, SeqCst);
        served.fetch_add(1, SeqCst);
        drop(permit);
    };
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let (gate, work, gone) = (&gate, &work, &gone);
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .build()
                    .unwrap();
                for i in 0..2_000_u64 {
                    match gate.enter() {
                        Entry::Permitted(permit) => work(permit),
                        Entry::Queued(waiting) if (i + thread) % 3 == 0 => {
                            std::thread::yield_now();
                            drop(waiting);
                            gone.fetch_add(1, SeqCst);
                        }
                        Entry::Queued(waiting) => work(runtime.block_on(waiting)),
                        Entry::Full => {
                            gone.fetch_add(1, SeqCst);
                        }
                    }
                }
            });
        }
    });
    assert_eq!(served.into_inner() + gone.into_inner(), 16_000);
    assert_eq!((gate.used(), gate.waiting()), (0, 0));
    assert!(gate.queue.lock().waiters.is_empty());
}

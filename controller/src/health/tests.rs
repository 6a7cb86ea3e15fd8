use super::*;
use tokio::sync::mpsc;
use tokio::time::timeout;

const UPSTREAM: &str = "Upstream/a/pool";

fn addr(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 80))
}

fn report(opinions: &[(u8, Opinion)]) -> pb::HealthReport {
    let mut all = Opinions::default();
    let key = Arc::from(UPSTREAM);
    for (last, opinion) in opinions {
        all.insert(&key, addr(*last), *opinion);
    }
    pb::HealthReport {
        upstreams: all.to_wire(),
        omitted: 0,
    }
}

struct Fixture {
    board: Arc<Board>,
    changes: mpsc::UnboundedReceiver<Change>,
}

fn start() -> Fixture {
    let (sender, changes) = mpsc::unbounded_channel();
    let board = Board::new(
        IntGauge::new("entries", "entries").unwrap(),
        IntCounter::new("omitted", "omitted").unwrap(),
        move |all| all.iter().for_each(|c| sender.send(c.clone()).unwrap()),
    );
    tokio::spawn(Arc::clone(&board).run(CancellationToken::new()));
    Fixture { board, changes }
}

impl Fixture {
    async fn change(&mut self) -> (SocketAddr, Option<Opinion>) {
        let change = timeout(TTL * 2, self.changes.recv())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(&*change.upstream, UPSTREAM);
        (change.endpoint, change.unhealthy)
    }

    /// Nothing changes for as long as a merge takes, and longer.
    async fn quiet(&mut self) {
        assert!(timeout(GATHER * 5, self.changes.recv()).await.is_err());
    }
}

fn told(member: &Member) -> (u32, u32, Vec<SocketAddr>) {
    let verdicts = member.verdicts().unwrap();
    let unhealthy = Opinions::of_wire(&verdicts.upstreams, 0);
    let unhealthy = unhealthy.iter().map(|(_, addr, _)| addr).collect();
    (verdicts.index, verdicts.count, unhealthy)
}

#[tokio::test(start_paused = true)]
async fn two_agree_and_all_are_told() {
    let mut it = start();
    let members = [it.board.join(), it.board.join(), it.board.join()];
    members[0].report(&report(&[(1, Opinion::FailsChecks)]));
    it.quiet().await;
    assert_eq!(told(&members[2]), (2, 3, vec![]));
    members[1].report(&report(&[(1, Opinion::FailsChecks)]));
    assert_eq!(it.change().await, (addr(1), Some(Opinion::FailsChecks)));
    for (i, member) in (0..).zip(&members) {
        assert_eq!(told(member), (i, 3, vec![addr(1)]));
    }
    members[1].report(&report(&[(1, Opinion::PassesChecks)]));
    assert_eq!(it.change().await, (addr(1), None));
    assert_eq!(told(&members[2]), (2, 3, vec![]));
}

#[tokio::test(start_paused = true)]
async fn the_only_one_is_believed_and_told_nothing() {
    let mut it = start();
    let member = it.board.join();
    member.report(&report(&[(1, Opinion::FailsChecks)]));
    assert_eq!(it.change().await, (addr(1), Some(Opinion::FailsChecks)));
    assert_eq!(told(&member), (0, 1, vec![]));
    // One that comes later hears of it.
    let other = it.board.join();
    it.quiet().await;
    assert_eq!(told(&other), (1, 2, vec![addr(1)]));
}

#[tokio::test(start_paused = true)]
async fn a_verdict_outlives_those_who_said_it_for_a_while() {
    let mut it = start();
    let members = [it.board.join(), it.board.join()];
    let other = it.board.join();
    for member in &members {
        member.report(&report(&[(1, Opinion::FailsChecks)]));
    }
    it.change().await;
    drop(members);
    it.quiet().await;
    let also = it.board.join();
    it.quiet().await;
    assert_eq!(told(&other), (0, 2, vec![addr(1)]));
    assert_eq!(told(&also), (1, 2, vec![addr(1)]));
    // Nobody confirms it.
    let began = Instant::now();
    assert_eq!(it.change().await, (addr(1), None));
    assert!(began.elapsed() < TTL && began.elapsed() > TTL / 2);
    assert_eq!(told(&other), (0, 2, vec![]));
}

#[tokio::test(start_paused = true)]
async fn what_is_said_again_is_no_news() {
    let mut it = start();
    let members = [it.board.join(), it.board.join()];
    for member in &members {
        member.report(&report(&[(1, Opinion::Ejected)]));
    }
    it.change().await;
    let mut news = members[0].subscribe();
    news.mark_unchanged();
    for _ in 0..3 {
        members[0].report(&report(&[(1, Opinion::Ejected)]));
        it.quiet().await;
    }
    assert!(!news.has_changed().unwrap());
    // Ejections end by themselves, and with them the verdict.
    members[0].report(&report(&[]));
    assert_eq!(it.change().await, (addr(1), None));
}

#[tokio::test]
async fn what_another_replica_is_told_fits_into_one_message() {
    let it = start();
    let mut opinions = Opinions::default();
    for number in 0..snapshot::health::MAX_ENDPOINTS {
        let key = format!("Upstream/{number:0>300}");
        opinions.insert(&key.into(), addr(1), Opinion::Ejected);
    }
    let report = pb::HealthReport {
        upstreams: opinions.to_wire(),
        omitted: 0,
    };
    let members = [it.board.join(), it.board.join()];
    for member in &members {
        member.report(&report);
    }
    let told = it.board.said_here(&mut None).unwrap();
    assert_eq!(told.all.len(), 1);
    assert!(told.encoded_len() < 1 << 20, "{}", told.encoded_len());
}

use super::*;
use crate::groups::Group;
use crate::health::Board;
use crate::publish::ResourceId;
use crate::publish::tests::{Client, plugin};
use crate::report::Programmed;
use bytes::Bytes;
use prometheus::{IntCounter, IntGauge};
use snapshot::{Kind, Replica};
use tokio_util::sync::CancellationToken;

fn groups(replica: &'static str) -> Arc<Groups> {
    Groups::new("shared", move |progress| {
        let health = Board::of_replica(
            replica,
            IntGauge::new("entries", "entries").unwrap(),
            IntCounter::new("omitted", "omitted").unwrap(),
            |_| {},
        );
        let publisher = Publisher::counting(replica, progress);
        Group::new(publisher, health, CancellationToken::new())
    })
}

/// A leader and its follower, in front of the same world.
struct Pair {
    leader: Arc<Groups>,
    follower: Arc<Groups>,
}

impl Pair {
    fn new() -> Self {
        Self {
            leader: groups("one"),
            follower: groups("two"),
        }
    }

    fn publish(&self, change: &(ResourceId, Option<Bytes>)) {
        for groups in [&self.leader, &self.follower] {
            groups.shared().publisher.publish([change.clone()], 0);
        }
    }

    /// How far the leader says that a plugin has come.
    fn programmed(&self, key: &str) -> Programmed {
        let id = (Kind::Plugin, key.into());
        self.leader.shared().publisher.programmed([&id])
    }

    /// Data planes whose opinions about endpoints the leader knows.
    fn members(&self) -> usize {
        let said = self.leader.shared().health.said_here(&mut None);
        assert_eq!(said.unwrap().all, [], "no data plane is the leader's own");
        let said = self.leader.shared().health.said_beside("", &mut None);
        said.unwrap().all.len()
    }
}

/// A stream of the follower to the leader.
struct Stream<'a> {
    pair: &'a Pair,
    tell: Tell,
    from: ReplicaStream,
}

impl<'a> Stream<'a> {
    fn open(pair: &'a Pair) -> Self {
        let tell = Tell::new(&pair.follower, None, None);
        let from = ReplicaStream::of(tell.hello("two"));
        Self { pair, tell, from }
    }

    /// What is new reaches the leader.
    fn tell(&mut self) {
        for state in self.tell.groups() {
            hear(&self.pair.leader, &self.from, state, false);
        }
    }

    /// The leader finds that it has ended; more time than its data planes are waited for goes by.
    async fn end(&self) {
        part(&self.pair.leader, self.from.clone());
        sleep(GRACE * 2).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_late_takes_nothing_away_from_the_next() {
    let pair = Pair::new();
    pair.publish(&plugin("a", "1"));
    let mut plane = Client::connect(&pair.follower.shared().publisher, Replica::default());
    plane.sync();
    let _member = pair.follower.shared().health.join();

    // The network is cut. The follower is the first to notice and opens another stream.
    let mut old = Stream::open(&pair);
    old.tell();
    let mut new = Stream::open(&pair);
    new.tell();
    // What was under way comes late, and then the end.
    let late = pb::GroupState {
        group: "shared".into(),
        gone: vec![1],
        ..pb::GroupState::default()
    };
    hear(&pair.leader, &old.from, late, false);
    old.end().await;
    assert_eq!(pair.programmed("a"), Programmed::Yes);
    assert_eq!(pair.members(), 1);

    // Only what has changed is told, which is little without what was told before.
    pair.publish(&plugin("b", "1"));
    plane.sync();
    new.tell();
    assert_eq!(pair.programmed("a"), Programmed::Yes);
    assert_eq!(pair.programmed("b"), Programmed::Yes);

    new.end().await;
    assert_eq!(pair.programmed("a"), Programmed::NoDataPlane);
    assert_eq!(pair.members(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_has_said_nothing_of_a_group_takes_its_predecessor_along() {
    let pair = Pair::new();
    pair.publish(&plugin("a", "1"));
    let mut plane = Client::connect(&pair.follower.shared().publisher, Replica::default());
    plane.sync();
    let _member = pair.follower.shared().health.join();
    let mut old = Stream::open(&pair);
    old.tell();
    let new = Stream::open(&pair);
    new.end().await;
    assert_eq!(pair.programmed("a"), Programmed::NoDataPlane);
    assert_eq!(pair.members(), 0);
}

//! Two replicas of the controller, each with a data plane of its own: the one that leads knows of both.

use super::push::{Applied, Controller, Leases, Plane, change, key, next};
use super::{client_data, now, showing, sync, trusting};
use diolkos_controller::ca::authority::Authority;
use diolkos_controller::publish::DataPlane;
use diolkos_controller::report::Programmed;
use snapshot::pb::ReplicaMessage;
use snapshot::pb::snapshot_service_client::SnapshotServiceClient;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Identity};

/// A data plane that follows one of the replicas.
struct Follows {
    plane: Plane,
    applied: mpsc::UnboundedReceiver<Applied>,
    following: JoinHandle<()>,
    certificates: TempDir,
}

impl Follows {
    fn new(authority: &Authority, controller: &Controller, name: &str) -> Self {
        let (plane, applied) = Plane::named(name);
        let certificates = client_data(authority);
        let following = plane.follow(
            controller.endpoint(),
            certificates.path(),
            &CancellationToken::new(),
        );
        Self {
            plane,
            applied,
            following,
            certificates,
        }
    }

    /// Its controller has gone, and it has found another one.
    fn turn_to(&mut self, controller: &Controller) {
        self.following.abort();
        self.following = self.plane.follow(
            controller.endpoint(),
            self.certificates.path(),
            &CancellationToken::new(),
        );
    }
}

impl Drop for Follows {
    fn drop(&mut self) {
        self.following.abort();
    }
}

/// A leader and a follower, with one data plane each, in front of the same world.
struct Pair {
    authority: Authority,
    leases: Leases,
    leader: Controller,
    follower: Controller,
    planes: [Follows; 2],
}

impl Pair {
    async fn start() -> Self {
        let authority = Authority::generate(now()).unwrap();
        let leases = Leases::default();
        let leader = Controller::replica(&authority, "one", &leases).await;
        leader.leads().await;
        let follower = Controller::replica(&authority, "two", &leases).await;
        let mut planes = [
            Follows::new(&authority, &leader, "plane-0"),
            Follows::new(&authority, &follower, "plane-1"),
        ];
        for controller in [&leader, &follower] {
            controller.publisher.publish([change("a", 1)], 0);
        }
        for plane in &mut planes {
            next(&mut plane.applied).await;
        }
        for controller in [&leader, &follower] {
            controller.elsewhere(1).await;
            controller.programmed("a", &Programmed::Yes).await;
        }
        Self {
            authority,
            leases,
            leader,
            follower,
            planes,
        }
    }
}

#[tokio::test]
async fn nothing_is_programmed_before_the_data_planes_of_every_replica_have_it() {
    let it = Pair::start().await;
    // The other replica has not seen the change yet: its data plane cannot have it.
    it.leader.publisher.publish([change("b", 1)], 0);
    it.leader.until_current().await;
    it.leader.programmed("b", &Programmed::Pending).await;
    it.follower.publisher.publish([change("b", 1)], 0);
    it.leader.programmed("b", &Programmed::Yes).await;

    // Changes come to the other in another order, and as more steps: its generations are others.
    for port in [7, 8, 2] {
        it.follower.publisher.publish([change("a", port)], 0);
    }
    it.leader.publisher.publish([change("a", 2)], 0);
    it.leader.programmed("a", &Programmed::Yes).await;
    it.follower
        .publisher
        .publish([(key("b"), None), change("c", 1)], 0);
    it.leader.publisher.publish([change("c", 1)], 0);
    it.leader.programmed("c", &Programmed::Yes).await;
    it.leader.programmed("b", &Programmed::Pending).await;
}

#[tokio::test]
async fn a_data_plane_that_leaves_is_not_waited_for() {
    let it = Pair::start().await;
    it.leader.publisher.publish([change("b", 1)], 0);
    it.leader.until_current().await;
    it.leader.programmed("b", &Programmed::Pending).await;
    it.planes[1].following.abort();
    it.leader.programmed("b", &Programmed::Yes).await;
    assert!(it.leader.publisher.elsewhere().is_empty());
}

#[tokio::test]
async fn a_replica_that_dies_is_forgotten_with_its_data_planes() {
    let it = Pair::start().await;
    it.leader.publisher.publish([change("b", 1)], 0);
    it.leader.programmed("b", &Programmed::Pending).await;
    let Pair {
        leader,
        follower,
        planes: [_own, other],
        ..
    } = it;
    other.following.abort();
    follower.stop().await;
    leader.programmed("b", &Programmed::Yes).await;
}

#[tokio::test]
async fn the_next_leader_knows_all_data_planes() {
    let it = Pair::start().await;
    let Pair {
        authority,
        leases,
        leader,
        follower,
        planes,
    } = it;
    let third = Controller::replica(&authority, "three", &leases).await;
    third.publisher.publish([change("a", 1)], 0);
    let _plane = Follows::new(&authority, &third, "plane-2");
    third.until_current().await;
    leader.stop().await;
    // The data plane of the leader does not come back: it is forgotten after a while.
    drop(planes);
    let (next, other) = tokio::select! {
        () = follower.leads() => (&follower, &third),
        () = third.leads() => (&third, &follower),
    };
    next.publisher.publish([change("b", 1)], 0);
    other.publisher.publish([change("b", 1)], 0);
    next.programmed("b", &Programmed::Yes).await;
    assert!(!other.leadership.holds());
}

#[tokio::test]
async fn the_next_leader_waits_for_the_data_planes_of_the_one_before() {
    let it = Pair::start().await;
    let Pair {
        leader,
        follower,
        planes: [mut of_leader, _own],
        ..
    } = it;
    leader.stop().await;
    follower.leads().await;
    // It has what it had, but not what is new: it is on its way to another replica.
    follower.publisher.publish([change("b", 1)], 0);
    follower.until_current().await;
    assert_eq!(follower.publisher.programmed([&key("a")]), Programmed::Yes);
    assert_eq!(
        follower.publisher.programmed([&key("b")]),
        Programmed::Pending
    );
    of_leader.turn_to(&follower);
    follower.programmed("b", &Programmed::Yes).await;
    let holds = |planes: &[DataPlane]| planes.len() == 2;
    follower.until(holds).await;
    assert_eq!(of_leader.plane.len(), 2, "it is not forgotten, but has it");
}

#[tokio::test]
async fn what_one_refuses_no_replica_serves() {
    let it = Pair::start().await;
    let rejected = Programmed::Rejected("does not compile".to_owned());
    // A data plane of the follower refuses it, the leader's own would take it.
    it.planes[1].plane.refuse("a", 2);
    for controller in [&it.leader, &it.follower] {
        controller
            .publisher
            .publish([change("a", 2), change("b", 1)], 0);
    }
    it.leader.programmed("a", &rejected).await;
    it.leader.programmed("b", &Programmed::Yes).await;
    assert_eq!(
        it.leader.publisher.cursor().digest,
        it.follower.publisher.cursor().digest
    );
    it.leader.until_current().await;
    it.follower.until_current().await;

    // The other way round; and a new version gets its own chance everywhere.
    it.planes[0].plane.refuse("a", 3);
    for controller in [&it.follower, &it.leader] {
        controller.publisher.publish([change("a", 3)], 0);
    }
    it.follower.programmed("a", &rejected).await;
    it.leader.programmed("a", &rejected).await;
    let digests = [&it.leader, &it.follower].map(|c| c.publisher.cursor().digest);
    assert_eq!(digests[0], digests[1]);
    for controller in [&it.follower, &it.leader] {
        controller.publisher.publish([change("a", 4)], 0);
    }
    it.leader.programmed("a", &Programmed::Yes).await;
}

#[tokio::test]
async fn a_replica_that_starts_keeps_back_what_was_refused_before() {
    let it = Pair::start().await;
    let rejected = Programmed::Rejected("does not compile".to_owned());
    it.planes[1].plane.refuse("a", 2);
    for controller in [&it.leader, &it.follower] {
        controller.publisher.publish([change("a", 2)], 0);
    }
    it.leader.programmed("a", &rejected).await;
    let served = it.leader.publisher.cursor().digest;

    let third = Controller::replica(&it.authority, "three", &it.leases).await;
    // It translates the same world, and knows of no refusal itself.
    third.publisher.publish([change("a", 2)], 0);
    let mut plane = Follows::new(&it.authority, &third, "plane-2");
    next(&mut plane.applied).await;
    assert_eq!(third.until_current().await.digest, served);
    assert_eq!(plane.plane.len(), 1);
    third.programmed("a", &rejected).await;
}

#[tokio::test]
async fn replicas_and_data_planes_cannot_stand_in_for_each_other() {
    let it = Pair::start().await;
    let meet = async |identity: Identity| {
        let tls = trusting(&it.authority).identity(identity);
        let channel = Channel::from_shared(it.leader.endpoint()).unwrap();
        let channel = channel.tls_config(tls).unwrap().connect().await.unwrap();
        let messages = tokio_stream::iter([ReplicaMessage::default()]);
        SnapshotServiceClient::new(channel).meet(messages).await
    };
    let identity = |data: diolkos_controller::ca::authority::Data| {
        Identity::from_pem(&data["tls.crt"].0, &data["tls.key"].0)
    };
    let plane = it.authority.client_data(super::GROUP, now()).unwrap();
    let refused = meet(identity(plane)).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    let replica = it.authority.replica_data(now()).unwrap();
    assert!(meet(identity(replica.clone())).await.is_ok());
    let tls = trusting(&it.authority).identity(identity(replica));
    let refused = sync(&it.leader, tls).await.unwrap_err();
    assert!(refused.contains("this is for data planes"), "{refused}");
    let tls = showing(trusting(&it.authority), &it.authority, super::GROUP);
    assert!(sync(&it.leader, tls).await.is_ok());
}

/// A data plane that has from the leader what the other replica has not seen: a watch of that one is interrupted. It comes
/// to that one.
async fn one_that_is_ahead() -> (Pair, Follows) {
    let mut it = Pair::start().await;
    it.leader.publisher.publish([change("b", 1)], 0);
    next(&mut it.planes[0].applied).await;
    it.follower.interrupted.send_replace(true);
    it.planes[0].turn_to(&it.follower);
    it.follower.until(|planes| planes.len() == 2).await;
    // Whoever holds nothing has no better.
    let mut fresh = Follows::new(&it.authority, &it.follower, "plane-2");
    assert_eq!(next(&mut fresh.applied).await.upserts, 1);
    it.planes[0].applied.try_recv().unwrap_err();
    assert_eq!(it.planes[0].plane.len(), 2);
    (it, fresh)
}

#[tokio::test]
async fn a_data_plane_that_is_ahead_of_a_replica_is_not_set_back() {
    let (mut it, _fresh) = one_that_is_ahead().await;
    it.follower.publisher.publish([change("b", 1)], 0);
    let digest = it.follower.publisher.cursor().digest;
    let all = |planes: &[DataPlane]| planes.iter().all(|p| p.digest == digest);
    it.follower.until(all).await;
    let applied = it.planes[0].applied.try_recv();
    applied.expect_err("it had that already");
}

#[tokio::test]
async fn it_is_told_what_is_known_when_the_watches_work_again() {
    let (mut it, _fresh) = one_that_is_ahead().await;
    it.follower.interrupted.send_replace(false);
    next(&mut it.planes[0].applied).await;
    assert_eq!(it.planes[0].plane.len(), 1);
}

#[tokio::test]
async fn it_is_told_what_is_known_also_when_they_do_not_for_long() {
    let (mut it, _fresh) = one_that_is_ahead().await;
    next(&mut it.planes[0].applied).await;
    assert_eq!(it.planes[0].plane.len(), 1);
}

use super::*;
use crate::publish::REASON;
use crate::publish::tests::{Client, plugin};
use snapshot::{Kind, Replica};

/// What another replica, and this one, read of one message.
const READ: usize = 1 << 20;

/// A data plane that has taken all of these, and refuses all in another version.
fn one_that_refuses(publisher: &Arc<Publisher>, keys: impl Iterator<Item = String>) -> Client {
    let all: Vec<_> = keys.collect();
    let version = |version| all.iter().map(move |key| plugin(key, version));
    publisher.publish(version("1"), 0);
    let mut client = Client::connect(publisher, Replica::default());
    client.sync();
    publisher.publish(version("2"), 0);
    refuse(&mut client, &all);
    client
}

/// Refuses plugins of the next transaction.
fn refuse(client: &mut Client, keys: &[String]) {
    let transaction = client.session.next_chunks().unwrap()[0].transaction;
    let rejected = keys.iter().map(|key| pb::Rejection {
        kind: Kind::Plugin as u32,
        key: key.clone(),
        reason: "is\nno é".repeat(1000),
    });
    let nack = pb::Nack {
        transaction,
        rejected: rejected.collect(),
        message: String::new(),
    };
    client.session.on_nack(&nack).unwrap();
}

#[test]
fn thousands_that_are_refused_fit_into_one_message() {
    let publisher = Publisher::new("s");
    let keys = || (0..5000).map(|n| format!("{n:0>200}"));
    let _client = one_that_refuses(&publisher, keys());
    let rejections = publisher.rejections();
    assert_eq!(rejections.len(), 5000);
    for (_, reason) in rejections {
        assert!(reason.starts_with("is no é") && !reason.contains('\n'));
        assert!((REASON - 1..=REASON).contains(&reason.len()));
    }

    let news = Teller::new(&publisher, "g", None).news();
    let told = news.iter().filter_map(|state| state.quarantine.as_ref());
    assert!(told.map(|told| told.all.len()).sum::<usize>() > 300);
    for state in news {
        assert!(state.encoded_len() < READ, "{} bytes", state.encoded_len());
    }
}

#[test]
fn of_a_data_plane_that_goes_without_thousands_nothing_is_known_to_be_there() {
    let publisher = Publisher::new("s");
    let keys: Vec<_> = (0..5000).map(|n| format!("{n:0>200}")).collect();
    publisher.publish(keys.iter().map(|key| plugin(key, "1")), 0);
    let mut client = Client::connect(&publisher, Replica::default());
    refuse(&mut client, &keys);
    assert_eq!(client.sync(), 1);
    assert!(publisher.data_planes()[0].acknowledged.is_some());
    let news = Teller::new(&publisher, "g", None).news();
    let plane = news.iter().flat_map(|state| &state.planes).next().unwrap();
    assert!(plane.lacks.len() > 150, "{}", plane.lacks.len());
    assert_eq!(plane.acknowledged, None);
    for state in news {
        assert!(state.encoded_len() < READ, "{} bytes", state.encoded_len());
    }
}

/// Two replicas that hear each other.
struct Two {
    here: Arc<Publisher>,
    there: Arc<Publisher>,
    /// What the one that leads tells the other, and what that tells it.
    tellers: [Teller; 2],
}

impl Two {
    fn new() -> Self {
        let (here, there) = (Publisher::new("one"), Publisher::new("two"));
        let tellers = [
            Teller::new(&here, "g", Some("two")),
            Teller::new(&there, "g", None),
        ];
        Self {
            here,
            there,
            tellers,
        }
    }

    fn publish(&self, changes: &[(ResourceId, Option<bytes::Bytes>)]) {
        for publisher in [&self.here, &self.there] {
            publisher.publish(changes.to_vec(), 0);
        }
    }

    /// Until there is nothing more to tell.
    fn tell(&mut self) {
        let from = |replica: &str| ReplicaStream {
            replica: replica.into(),
            number: 1,
            is_same_build: true,
        };
        let [of_here, of_there] = &mut self.tellers;
        for _ in 0..4 {
            for state in of_here.news() {
                self.there.hear(&from("one"), state, true);
            }
            for state in of_there.news() {
                self.here.hear(&from("two"), state, false);
            }
        }
        let digests = [&self.here, &self.there].map(|p| p.cursor().digest);
        assert_eq!(digests[0], digests[1], "they serve the same");
    }
}

#[test]
fn what_is_served_here_is_not_taken_away_by_one_that_comes_to_another_replica() {
    let mut two = Two::new();
    two.publish(&[plugin("bad", "1")]);
    let mut one = Client::connect(&two.here, Replica::default());
    one.sync();
    let mut other = Client::connect(&two.there, Replica::default());
    other.refuses.extend(plugin("bad", "1").1);
    other.sync();
    two.tell();
    assert_eq!(one.sync(), 0);
    assert!(matches!(
        two.here.programmed([&plugin("bad", "").0]),
        Programmed::Lacking(_)
    ));
    assert_eq!(two.here.rejections().len(), 1);
    drop(other);
    two.tell();
    assert_eq!(two.here.programmed([&plugin("bad", "").0]), Programmed::Yes);
}

#[test]
fn what_no_data_plane_of_any_replica_refuses_any_more_gets_another_chance() {
    let mut two = Two::new();
    two.publish(&[plugin("bad", "1")]);
    let mut one = Client::connect(&two.here, Replica::default());
    let mut other = Client::connect(&two.there, Replica::default());
    one.sync();
    other.sync();
    other.refuses.extend(plugin("bad", "2").1);
    two.publish(&[plugin("bad", "2")]);
    other.sync();
    two.tell();
    one.sync();
    let programmed = |two: &Two| two.here.programmed([&plugin("bad", "").0]);
    assert!(matches!(programmed(&two), Programmed::Rejected(_)));
    drop(other);
    two.tell();
    assert_eq!(one.sync(), 1);
    assert_eq!(programmed(&two), Programmed::Yes);
    assert!(two.there.rejections().is_empty());
}

#[test]
fn what_a_replica_that_is_gone_has_held_back_gets_another_chance() {
    let mut two = Two::new();
    two.publish(&[plugin("bad", "1")]);
    let mut one = Client::connect(&two.here, Replica::default());
    let mut other = Client::connect(&two.there, Replica::default());
    one.sync();
    other.sync();
    other.refuses.extend(plugin("bad", "2").1);
    two.publish(&[plugin("bad", "2")]);
    other.sync();
    two.tell();
    one.sync();
    let at = Instant::now();
    let from = ReplicaStream {
        replica: "two".into(),
        number: 1,
        is_same_build: true,
    };
    two.here.part(&from, at);
    assert_eq!(one.sync(), 0);
    two.here.forget("two", at);
    assert_eq!(one.sync(), 1);
}

#[test]
fn data_planes_without_their_ports_fit_into_messages_however_many_they_are() {
    let publisher = Publisher::new("s");
    let not_bound = |count: usize| DataPlane {
        listeners: vec![
            pb::ListenerState {
                key: "k".repeat(400),
                error: "taken".repeat(20),
                ..pb::ListenerState::default()
            };
            count
        ],
        ..DataPlane::default()
    };
    let planes = (1..=200).map(|number| (number, not_bound(20)));
    publisher.inner.lock().peers.extend(planes);
    publisher.inner.lock().peers.insert(201, not_bound(5000));
    let news = Teller::new(&publisher, "g", None).news();
    let planes = news.iter().flat_map(|state| &state.planes);
    assert_eq!(planes.count(), 201);
    for state in news {
        assert!(state.encoded_len() < READ, "{} bytes", state.encoded_len());
    }
}

#[test]
fn what_another_build_writes_otherwise_counts_when_its_data_planes_have_it() {
    let (here, there) = (Publisher::new("one"), Publisher::new("two"));
    let mut plane = Client::connect(&there, Replica::default());
    let mut teller = Teller::new(&there, "g", None);
    let mut from = ReplicaStream {
        replica: "two".into(),
        number: 1,
        is_same_build: false,
    };
    let mut tell = |from: &ReplicaStream| {
        for state in teller.news() {
            here.hear(from, state, false);
        }
    };
    let programmed = |key: &str| here.programmed([&plugin(key, "").0]);

    // One of the two is the same in both builds.
    here.publish([plugin("same", "1"), plugin("bad", "new 1")], 0);
    there.publish([plugin("same", "1"), plugin("bad", "old 1")], 0);
    tell(&from);
    assert_eq!(programmed("bad"), Programmed::Pending, "not acknowledged");
    plane.sync();
    tell(&from);
    assert_eq!(programmed("same"), Programmed::Yes);
    assert_eq!(programmed("bad"), Programmed::Yes);

    // What it has no trace of, and what it has as it was here, it does not have.
    here.publish([plugin("same", "2"), plugin("more", "1")], 0);
    assert_eq!(programmed("same"), Programmed::Pending);
    assert_eq!(programmed("more"), Programmed::Pending);
    there.publish([plugin("same", "2"), plugin("more", "1")], 0);
    plane.sync();
    tell(&from);
    assert_eq!(programmed("same"), Programmed::Yes);
    assert_eq!(programmed("more"), Programmed::Yes);

    // Nor what is kept back there.
    plane.refuses.extend(plugin("bad", "old 2").1);
    here.publish([plugin("bad", "new 2")], 0);
    there.publish([plugin("bad", "old 2")], 0);
    plane.sync();
    tell(&from);
    assert_eq!(programmed("bad"), Programmed::Pending);
    here.publish([plugin("bad", "new 3")], 0);
    there.publish([plugin("bad", "old 3")], 0);
    plane.sync();
    tell(&from);
    assert_eq!(programmed("bad"), Programmed::Yes);

    // Of our own build it would be another version.
    from.is_same_build = true;
    there.publish([plugin("more", "2")], 0);
    plane.sync();
    tell(&from);
    assert_eq!(programmed("bad"), Programmed::Pending);
    assert_eq!(programmed("same"), Programmed::Yes);
}

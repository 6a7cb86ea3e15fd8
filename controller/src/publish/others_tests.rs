use super::*;
use crate::publish::tests::{Client, plugin};
use snapshot::Replica;

/// What another replica, and this one, read of one message.
const READ: usize = 1 << 20;

#[test]
fn thousands_that_are_refused_fit_into_one_message() {
    let publisher = Publisher::new("s");
    let all: Vec<_> = (0..5000)
        .map(|n| plugin(&format!("{n:0>200}"), "1"))
        .collect();
    publisher.publish(all.clone(), 0);
    let mut client = Client::connect(&publisher, Replica::default());
    let transaction = client.session.next_chunks().unwrap()[0].transaction;
    let rejected = all.iter().map(|((kind, key), _)| pb::Rejection {
        kind: *kind as u32,
        key: key.to_string(),
        reason: "is\nno é".repeat(1000),
    });
    let nack = pb::Nack {
        transaction,
        rejected: rejected.collect(),
        message: String::new(),
    };
    client.session.on_nack(&nack).unwrap();
    let rejections = publisher.rejections();
    assert_eq!(rejections.len(), all.len());
    for (_, reason) in rejections {
        assert!(reason.starts_with("is no é") && !reason.contains('\n'));
        assert!((REASON - 1..=REASON).contains(&reason.len()));
    }

    let news = Teller::new(&publisher, "g").news();
    let told = news.iter().filter_map(|state| state.quarantine.as_ref());
    assert!(told.map(|told| told.all.len()).sum::<usize>() > 300);
    for state in news {
        assert!(state.encoded_len() < READ, "{} bytes", state.encoded_len());
    }
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
    let news = Teller::new(&publisher, "g").news();
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
    let mut teller = Teller::new(&there, "g");
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
    plane.refuses = plugin("bad", "old 2").1;
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

//! What a data plane of an older build makes of what a newer controller writes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use model::{Endpoint, EndpointShard, FailurePolicy, ObjectRef, Plugin};
use snapshot::{ApplyError, CAPABILITIES, Capability, Cursor, Kind, Replica, Store};

/// A field that this build does not know (900, of one byte), as a newer one writes it.
const LATER: [u8; 4] = [0xa2, 0x38, 1, b'x'];

static NEWER: &[Capability] = &[
    Capability {
        name: "allow-list",
        kind: Kind::Plugin,
        uses: |body| body.ends_with(&LATER),
    },
    Capability {
        name: "weights",
        kind: Kind::EndpointShard,
        uses: |body| body.ends_with(&LATER),
    },
];

fn plugin() -> Plugin {
    Plugin {
        origin: ObjectRef::new("Plugin", "a", "p"),
        name: "p".into(),
        kind: "Mock".into(),
        stage: None,
        priority: 100,
        parallel: false,
        failure_policy: FailurePolicy::Fail,
        run_on_local_reply: false,
        settings: "{}".into(),
    }
}

fn with_later(mut body: Vec<u8>) -> Vec<u8> {
    body.extend(LATER);
    body
}

/// What one that starts with nothing makes of all that a store has.
fn apply(store: &Store, mut replica: Replica) -> Result<Replica, ApplyError> {
    for chunk in store.since(None).unwrap().into_chunks(1, 0) {
        if let Some(staged) = replica.receive(chunk)? {
            replica.commit(staged);
        }
    }
    Ok(replica)
}

#[test]
fn schema_revision_1_needs_nothing_and_names_are_unique() {
    let mut names: Vec<_> = CAPABILITIES.iter().map(|c| c.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), CAPABILITIES.len());
    let mut store = Store::default();
    let body = snapshot::encode(&plugin()).unwrap();
    store.update([(Kind::Plugin, "a/p", Some(body))]);
    assert_eq!(store.needing().count(), 0);
}

/// The danger: whatever the field restricts is not restricted, and nobody says so. What a resource requires is what makes the
/// difference.
#[test]
fn a_field_that_is_not_known_is_passed_over_unless_the_resource_requires_it() {
    let body = with_later(snapshot::encode(&plugin()).unwrap());
    assert_eq!(snapshot::decode::<Plugin>(&body).unwrap(), plugin());
    let store = |capabilities| {
        let mut store = Store::knowing(capabilities);
        store.update([(Kind::Plugin, "a/p", Some(body.clone()))]);
        store
    };
    let silent = store(&[]);
    let replica = apply(&silent, Replica::default()).unwrap();
    assert_eq!(replica.digest(), silent.cursor().digest);

    let says = store(NEWER);
    let Err(ApplyError::Rejected { rejected, .. }) = apply(&says, Replica::default()) else {
        panic!("it is passed over");
    };
    assert!(rejected[0].reason.contains("`allow-list`"), "{rejected:?}");
    apply(&says, Replica::knowing(NEWER)).unwrap();
}

#[test]
fn what_was_there_before_it_needed_anything_is_remembered_until_it_needs_nothing() {
    let mut store = Store::knowing(NEWER);
    let id = (Kind::Plugin, "a/p".into());
    let versions = ["1", "2", "3"].map(|settings| {
        let settings = settings.into();
        snapshot::encode(&Plugin {
            settings,
            ..plugin()
        })
        .unwrap()
    });
    let mut put = |body: &[u8]| {
        store.update([(Kind::Plugin, "a/p", Some(body.to_vec()))]);
        let needing = store.needing().next();
        needing.map(|(of, needing)| {
            assert_eq!(*of, id);
            assert_eq!(needing.unmet(&["allow-list"]), Some("allow-list"));
            assert_eq!(needing.unmet(&["weights"]), None);
            needing.before.clone()
        })
    };
    assert_eq!(put(&with_later(versions[0].clone())), Some(None));
    assert_eq!(put(&versions[0]), None);
    for version in &versions[1..] {
        let before = put(&with_later(version.clone())).unwrap();
        assert_eq!(before.unwrap(), versions[0]);
    }
    store.update([(Kind::Plugin, "a/p", None::<Vec<u8>>)]);
    assert_eq!(store.needing().count(), 0);
}

/// It would not say what its result requires.
#[test]
fn what_requires_something_does_not_travel_as_a_patch() {
    let shard = |ready: bool| {
        let endpoint = |n: u32| Endpoint {
            address: std::net::Ipv4Addr::from(0x0a00_0000 + n * 7919).into(),
            port: 80,
            ready: ready || n > 0,
            serving: true,
            terminating: false,
            zone: None,
        };
        let shard = EndpointShard {
            service: "a/s:80".to_owned(),
            endpoints: (0..100).map(endpoint).collect(),
        };
        with_later(snapshot::encode(&shard).unwrap())
    };
    let patches = |capabilities| {
        let mut store = Store::knowing(capabilities);
        let mut put = |body| {
            store.update([(Kind::EndpointShard, "a/s:80/1", Some(body))]);
            store.cursor()
        };
        let held: Cursor = put(shard(false));
        put(shard(true));
        let mut transaction = store.since(Some(held)).unwrap();
        transaction.patch(store.bases(&transaction, held));
        transaction.patch.len()
    };
    assert_eq!((patches(&[]), patches(NEWER)), (1, 0));
}

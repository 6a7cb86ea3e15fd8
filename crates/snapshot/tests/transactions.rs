//! Transactions as messages: size of chunks, missing chunks, wrong bases, unknown kinds.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use model::limits::CHUNK_BYTES;
use prost::Message;
use snapshot::pb::{Chunk, Resource};
use snapshot::{ApplyError, Digest, Hash, Kind, Replica, Store, Transaction};

fn plugin_body(size: usize) -> Vec<u8> {
    let plugin = snapshot::pb::Plugin {
        origin: Some(Default::default()),
        settings: "x".repeat(size),
        ..Default::default()
    };
    plugin.encode_to_vec()
}

fn store(count: usize, size: usize) -> Store {
    let mut store = Store::default();
    store.update((0..count).map(|i| (Kind::Plugin, format!("p{i:04}"), Some(plugin_body(size)))));
    store
}

#[test]
fn chunks_are_small_and_only_the_last_commits() {
    let chunks = store(40, 100_000).since(None).unwrap().into_chunks(7, 1);
    assert!(chunks.len() >= 8);
    for (i, chunk) in chunks.iter().enumerate() {
        assert!(
            chunk.encoded_len() <= CHUNK_BYTES,
            "{}",
            chunk.encoded_len()
        );
        assert_eq!((chunk.transaction, chunk.sequence), (7, i as u32));
        assert_eq!(chunk.commit, i == chunks.len() - 1);
    }
    let mut replica = Replica::default();
    let last = chunks.len() - 1;
    for (i, chunk) in chunks.into_iter().enumerate() {
        assert_eq!(replica.receive(chunk).unwrap().is_some(), i == last);
        assert!(replica.is_empty(), "nothing takes effect before the commit");
    }
}

#[test]
fn a_missing_chunk_asks_for_everything() {
    let chunks = store(40, 100_000).since(None).unwrap().into_chunks(1, 0);
    let mut replica = Replica::default();
    let without_second = chunks.into_iter().enumerate().filter(|(i, _)| *i != 1);
    let mut results = without_second.map(|(_, chunk)| replica.receive(chunk).map(|s| s.is_some()));
    assert_eq!(results.next(), Some(Ok(false)));
    assert!(matches!(results.next(), Some(Err(ApplyError::Resync(_)))));
}

#[test]
fn one_changed_resource_is_one_small_message() {
    let mut store = store(1000, 500);
    let held = store.cursor();
    store.update([(Kind::Plugin, "p0500", Some(plugin_body(501)))]);
    let chunks = store.since(Some(held)).unwrap().into_chunks(2, 0);
    assert_eq!(chunks.len(), 1);
    assert_eq!(chunks[0].upsert.len(), 1);
    assert!(chunks[0].encoded_len() < 700);
}

#[test]
fn a_difference_on_another_base_is_refused() {
    let mut store = store(2, 10);
    let held = store.cursor();
    store.update([(Kind::Plugin, "p0000", None::<Vec<u8>>)]);
    let chunk = store.since(Some(held)).unwrap().into_chunks(2, 0).remove(0);
    let mut empty = Replica::default();
    assert!(matches!(empty.receive(chunk), Err(ApplyError::Resync(_))));
}

#[test]
fn a_cursor_older_than_the_tombstones_gets_everything() {
    let mut store = store(2, 10);
    let held = store.cursor();
    store.update([(Kind::Plugin, "p0000", None::<Vec<u8>>)]);
    store.forget(store.cursor().generation);
    assert!(store.since(Some(held)).unwrap().full);
    assert_eq!(store.resume(held.digest), None);
}

/// As many states are remembered, and no change that is older than all of them.
#[test]
fn a_cursor_older_than_the_states_that_are_remembered_gets_everything() {
    const REMEMBERED: u64 = 1024;
    let mut store = store(3, 10);
    let held = store.cursor();
    let change = |n: u64| [(Kind::Plugin, "p0000", Some(plugin_body(20 + n as usize)))];
    for n in 1..REMEMBERED {
        store.update(change(n));
    }
    let transaction = store.since(Some(held)).unwrap();
    assert!(!transaction.full);
    assert_eq!(transaction.upsert.len(), 1);
    assert_eq!(store.resume(held.digest), Some(held));
    store.update(change(REMEMBERED));
    let transaction = store.since(Some(held)).unwrap();
    assert!(transaction.full);
    assert_eq!(transaction.upsert.len(), 3);
    assert_eq!(store.resume(held.digest), None);
}

/// What it holds of an empty store is what the first change is a change of.
#[test]
fn a_stream_that_holds_an_empty_store_gets_the_first_generation() {
    let mut store = Store::default();
    let held = store.cursor();
    assert!(store.since(Some(held)).is_none());
    store.update([
        (Kind::Plugin, "a", Some(plugin_body(1))),
        (Kind::Plugin, "b", Some(plugin_body(1))),
    ]);
    assert_eq!(store.since(Some(held)).unwrap().upsert.len(), 2);
    let held = store.cursor();
    store.update([(Kind::Plugin, "a", None::<Vec<u8>>)]);
    let transaction = store.since(Some(held)).unwrap();
    assert!(!transaction.full);
    assert_eq!((transaction.upsert.len(), transaction.remove.len()), (0, 1));
}

#[test]
fn updates_that_change_nothing_make_no_generation() {
    let mut store = store(2, 10);
    let before = store.cursor();
    assert!(!store.update([
        (Kind::Plugin, "p0000", Some(plugin_body(10))),
        (Kind::Route, "absent", None),
    ]));
    assert_eq!(store.cursor(), before);
    assert!(store.since(Some(before)).is_none());
}

#[test]
fn what_comes_and_goes_between_two_looks_is_never_sent() {
    let mut store = store(1, 10);
    let held = store.cursor();
    store.update([(Kind::Plugin, "x", Some(plugin_body(1)))]);
    store.update([(Kind::Plugin, "x", None::<Vec<u8>>)]);
    assert!(store.since(Some(held)).is_none());
}

#[test]
fn an_unknown_kind_is_named_and_refuses_the_whole() {
    let resource = |kind, key: &str, body: Vec<u8>| Resource {
        kind,
        key: key.into(),
        hash: Hash::of(&body).0.to_vec(),
        body: body.into(),
        requires: Vec::new(),
    };
    let mut digest = Digest::default();
    let upsert = vec![
        resource(Kind::Plugin as u32, "good", plugin_body(1)),
        resource(4711, "new", vec![]),
    ];
    for r in &upsert {
        digest.add(r.kind, &r.key, Hash::of(&r.body));
    }
    let chunk = Chunk {
        commit: true,
        full: true,
        upsert,
        result_digest: digest.to_bytes().to_vec(),
        ..Default::default()
    };
    let mut replica = Replica::default();
    let Err(ApplyError::Rejected { rejected, .. }) = replica.receive(chunk) else {
        panic!("accepted")
    };
    assert_eq!(rejected.len(), 1);
    assert_eq!(rejected[0].key, "new");
    assert!(replica.is_empty());
}

/// The names are hashed while the store may change.
#[test]
fn what_changes_while_it_is_found_out_what_differs_is_sent_with_it() {
    let mut replica = Replica::default();
    for chunk in store(1000, 500).since(None).unwrap().into_chunks(1, 0) {
        if let Some(staged) = replica.receive(chunk).unwrap() {
            replica.commit(staged);
        }
    }
    // Another process, of which the replica knows nothing.
    let mut store = store(1000, 500);
    store.update([(Kind::Plugin, "p0500", Some(plugin_body(501)))]);
    for changed in [
        vec![],
        vec![
            (Kind::Plugin, "p0500", Some(plugin_body(502))),
            (Kind::Plugin, "p0501", None),
            (Kind::Plugin, "new", Some(plugin_body(1))),
        ],
    ] {
        let held = replica.inventory();
        let different = store.listing().different(&held);
        store.update(changed);
        let transaction = store.since_listing(held.digest, different).unwrap();
        assert!(!transaction.full && transaction.upsert.len() < 200);
        let mut chunks = transaction.into_chunks(2, 0);
        let staged = replica.receive(chunks.remove(0)).unwrap().unwrap();
        replica.commit(staged);
        assert_eq!(replica.digest(), store.cursor().digest);
    }
    // What is listed is too old by now.
    let mut other = Replica::default().inventory();
    other.buckets = replica.inventory().buckets;
    let different = store.listing().different(&other);
    store.update([(Kind::Plugin, "p0000", None::<Vec<u8>>)]);
    store.forget(store.cursor().generation);
    assert!(store.since_listing(other.digest, different).is_none());
}

/// They are made while others change the store.
#[test]
fn patches_are_of_what_the_transaction_was_made_of() {
    let shard = |ready: usize| {
        let endpoint = |n: usize| model::Endpoint {
            address: std::net::Ipv4Addr::from(0x0a00_0000 + n as u32 * 7919).into(),
            port: 80,
            ready: n == ready,
            serving: true,
            terminating: false,
            zone: None,
        };
        let shard = model::EndpointShard {
            service: "a/s:80".to_owned(),
            endpoints: (0..100).map(endpoint).collect(),
        };
        let body = snapshot::encode(&shard).unwrap();
        [(Kind::EndpointShard, "a/s:80/1", Some(body))]
    };
    let mut store = Store::default();
    store.update(shard(0));
    let mut replica = Replica::default();
    let mut take = |transaction: Transaction| {
        let result = transaction.result;
        for chunk in transaction.into_chunks(1, 0) {
            if let Some(staged) = replica.receive(chunk).unwrap() {
                assert_eq!(replica.commit(staged).digest, result.digest);
            }
        }
        result
    };
    let mut held = take(store.since(None).unwrap());
    for ready in 1..4 {
        store.update(shard(2 * ready));
        let mut transactions = [0, 1].map(|_| store.since(Some(held)).unwrap());
        let bases = [0, 1].map(|n: usize| store.bases(&transactions[n], held));
        // What is patched first is not what is there.
        store.update(shard(2 * ready + 1));
        for (transaction, bases) in transactions.iter_mut().zip(bases) {
            transaction.patch(bases);
            assert_eq!((transaction.upsert.len(), transaction.patch.len()), (0, 1));
        }
        held = take(transactions.into_iter().next().unwrap());
        held = take(store.since(Some(held)).unwrap());
    }
}

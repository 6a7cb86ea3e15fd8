use super::*;
use snapshot::{Cursor, Kind, Replica, Store};
use tempfile::TempDir;

/// A store, and what the log must lead to.
fn step(
    store: &mut Store,
    keep: &mut Keep,
    held: &mut Option<Cursor>,
    key: &str,
    body: Option<&str>,
) {
    keep.append(&change(store, held, key, body)).unwrap();
}

/// The transaction that a change of the store is.
fn change(
    store: &mut Store,
    held: &mut Option<Cursor>,
    key: &str,
    body: Option<&str>,
) -> Vec<Chunk> {
    let wire = body.map(|b| snapshot::pb::Plugin {
        origin: Some(snapshot::pb::ObjectRef::default()),
        settings: b.to_owned(),
        ..Default::default()
    });
    store.update([(
        Kind::Plugin,
        key.to_owned(),
        wire.map(|w| w.encode_to_vec()),
    )]);
    let transaction = store.since(*held).unwrap();
    *held = Some(transaction.result);
    transaction.into_chunks(1, 0)
}

/// There is no room on the disk, until what this gives is put back.
fn fill(keep: &mut Keep) -> File {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    std::mem::replace(&mut keep.file, full)
}

fn in_memory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap()
}

fn replay(chunks: Vec<Chunk>) -> Replica {
    let mut replica = Replica::default();
    for chunk in chunks {
        if let Some(staged) = replica.receive(chunk).unwrap() {
            replica.commit(staged);
        }
    }
    replica
}

#[test]
fn what_was_appended_is_there_after_a_restart() {
    let dir = in_memory();
    let (mut keep, chunks) = Keep::open(dir.path(), None).unwrap();
    assert!(chunks.is_empty());
    let (mut store, mut held) = (Store::default(), None);
    step(&mut store, &mut keep, &mut held, "a", Some("1"));
    step(&mut store, &mut keep, &mut held, "b", Some("2"));
    step(&mut store, &mut keep, &mut held, "a", None);
    let (mut keep, chunks) = Keep::open(dir.path(), None).unwrap();
    assert_eq!(replay(chunks).digest(), store.cursor().digest);
    step(&mut store, &mut keep, &mut held, "c", Some("3"));
    let (_, chunks) = Keep::open(dir.path(), None).unwrap();
    assert_eq!(replay(chunks).digest(), store.cursor().digest);
}

#[test]
fn nobody_else_reads_the_log() {
    let dir = in_memory();
    let mode = || {
        std::fs::metadata(dir.path().join(FILE))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    let (mut store, mut held) = (Store::default(), None);
    let (mut keep, _) = Keep::open(dir.path(), None).unwrap();
    step(&mut store, &mut keep, &mut held, "a", Some("1"));
    assert_eq!(mode(), MODE);
    let wider = Permissions::from_mode(0o644);
    std::fs::set_permissions(dir.path().join(FILE), wider).unwrap();
    let (mut keep, _) = Keep::open(dir.path(), None).unwrap();
    assert_eq!(mode(), MODE);
    keep.compact().unwrap();
    assert_eq!(mode(), MODE);
}

#[test]
fn a_torn_or_damaged_tail_costs_only_itself() {
    let dir = in_memory();
    let (mut keep, _) = Keep::open(dir.path(), None).unwrap();
    let (mut store, mut held) = (Store::default(), None);
    step(&mut store, &mut keep, &mut held, "a", Some("1"));
    let good = store.cursor().digest;
    let whole = std::fs::read(dir.path().join(FILE)).unwrap();
    step(&mut store, &mut keep, &mut held, "b", Some("2"));
    let longer = std::fs::read(dir.path().join(FILE)).unwrap();
    let mut flipped = longer.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for damaged in [
        &longer[..longer.len() - 1],
        &longer[..whole.len() + 3],
        &flipped,
    ] {
        std::fs::write(dir.path().join(FILE), damaged).unwrap();
        let (_, chunks) = Keep::open(dir.path(), None).unwrap();
        assert_eq!(replay(chunks).digest(), good);
        assert_eq!(
            std::fs::metadata(dir.path().join(FILE)).unwrap().len(),
            whole.len() as u64
        );
    }
    std::fs::write(dir.path().join(FILE), b"something else").unwrap();
    let (_, chunks) = Keep::open(dir.path(), None).unwrap();
    assert!(chunks.is_empty());
}

#[test]
fn the_log_stays_within_twice_what_is_live() {
    let dir = in_memory();
    let (mut keep, _) = Keep::open(dir.path(), None).unwrap();
    let (mut store, mut held) = (Store::default(), None);
    for i in 0..60 {
        let body = format!("{i}").repeat(50_000);
        step(&mut store, &mut keep, &mut held, "same", Some(&body));
    }
    let size = std::fs::metadata(dir.path().join(FILE)).unwrap().len();
    assert!(size <= SMALL + 200_000, "{size}");
    let (_, chunks) = Keep::open(dir.path(), None).unwrap();
    assert_eq!(replay(chunks).digest(), store.cursor().digest);
}

#[test]
fn on_a_disk_it_is_encrypted() {
    const SECRET: &str = "-----BEGIN PRIVATE KEY-----";
    let (dir, keys) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let key = keys.path().join("key");
    let log = || std::fs::read(dir.path().join(FILE)).unwrap();
    let shows_it = || {
        let log = log();
        log.windows(SECRET.len()).any(|w| w == SECRET.as_bytes())
    };
    let (mut store, mut held) = (Store::default(), None);
    let (mut keep, _) = Keep::open(dir.path(), Some(&key)).unwrap();
    step(&mut store, &mut keep, &mut held, "a", Some(SECRET));
    step(&mut store, &mut keep, &mut held, "b", Some(SECRET));
    assert!(!shows_it());
    let whole = log();
    keep.compact().unwrap();
    assert!(!shows_it());
    let (_, chunks) = Keep::open(dir.path(), Some(&key)).unwrap();
    assert_eq!(replay(chunks).digest(), store.cursor().digest);
    assert_eq!(
        std::fs::metadata(&key).unwrap().permissions().mode() & 0o777,
        MODE
    );

    // Neither another key nor a changed byte gives anything.
    std::fs::write(dir.path().join(FILE), &whole).unwrap();
    let (_, chunks) = Keep::open(dir.path(), Some(&keys.path().join("other"))).unwrap();
    assert!(chunks.is_empty());
    let mut changed = whole;
    let first = SEALED.len() + 20;
    changed[first + 15] ^= 1;
    std::fs::write(dir.path().join(FILE), &changed).unwrap();
    let (_, chunks) = Keep::open(dir.path(), Some(&key)).unwrap();
    assert!(chunks.is_empty());
}

#[test]
fn without_a_key_it_is_kept_in_memory_alone() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join(FILE);
    std::fs::write(&log, MAGIC).unwrap();
    // Temporary files may be in memory on some machines.
    let in_memory = seal::is_in_memory(dir.path()).unwrap();
    assert_eq!(Keep::open(dir.path(), None).is_ok(), in_memory);
    assert_eq!(log.exists(), in_memory);
    let beside = dir.path().join("key");
    assert!(Keep::open(dir.path(), Some(&beside)).is_err());
    assert!(!beside.exists());
}

#[test]
fn a_key_has_its_length() {
    let (dir, keys) = (in_memory(), tempfile::tempdir().unwrap());
    let key = keys.path().join("key");
    for length in [0, 31, 33] {
        std::fs::write(&key, vec![7; length]).unwrap();
        assert!(Keep::open(dir.path(), Some(&key)).is_err(), "{length}");
    }
    std::fs::write(&key, [7; 32]).unwrap();
    assert!(Keep::open(dir.path(), Some(&key)).is_ok());
}

#[test]
fn what_could_not_be_written_follows_as_soon_as_anything_can() {
    for by_itself in [false, true] {
        let dir = in_memory();
        let kept = || replay(Keep::open(dir.path(), None).unwrap().1).digest();
        let (mut keep, _) = Keep::open(dir.path(), None).unwrap();
        let (mut store, mut held) = (Store::default(), None);
        step(&mut store, &mut keep, &mut held, "a", Some("1"));
        step(&mut store, &mut keep, &mut held, "b", Some("1"));
        let before = store.cursor().digest;
        let file = fill(&mut keep);
        for (key, body) in [
            ("c", Some("1")),
            ("a", None),
            ("c", Some("2")),
            ("d", Some("1")),
            ("d", None),
        ] {
            let transaction = change(&mut store, &mut held, key, body);
            assert!(keep.append(&transaction).is_err());
        }
        assert_eq!(kept(), before);

        keep.file = file;
        if by_itself {
            let now = Instant::now();
            keep.catch_up(now).unwrap();
            assert_eq!(kept(), before, "not with each word of a controller");
            keep.catch_up(now + RETRY).unwrap();
        } else {
            step(&mut store, &mut keep, &mut held, "e", Some("1"));
        }
        assert_eq!(kept(), store.cursor().digest);
        step(&mut store, &mut keep, &mut held, "b", Some("2"));
        keep.compact().unwrap();
        assert_eq!(kept(), store.cursor().digest);
    }
}

#[test]
fn half_a_frame_does_not_stand_in_the_middle() {
    let dir = in_memory();
    let (mut keep, _) = Keep::open(dir.path(), None).unwrap();
    let (mut store, mut held) = (Store::default(), None);
    step(&mut store, &mut keep, &mut held, "a", Some("1"));
    let file = fill(&mut keep);
    let transaction = change(&mut store, &mut held, "b", Some("1"));
    assert!(keep.append(&transaction).is_err());
    keep.file = file;
    // As far as there was room.
    keep.file.write_all(b"half").unwrap();
    step(&mut store, &mut keep, &mut held, "c", Some("1"));
    let (_, chunks) = Keep::open(dir.path(), None).unwrap();
    assert_eq!(replay(chunks).digest(), store.cursor().digest);
}

#[test]
fn everything_that_could_not_be_written_follows_as_well() {
    let dir = in_memory();
    let (mut keep, _) = Keep::open(dir.path(), None).unwrap();
    let (mut store, mut held) = (Store::default(), None);
    step(&mut store, &mut keep, &mut held, "a", Some("1"));
    let obstacle = dir.path().join("last-good.new");
    std::fs::create_dir(&obstacle).unwrap();
    // From nothing, as after a resync.
    let (mut store, mut held) = (Store::default(), None);
    for key in ["b", "c"] {
        let transaction = change(&mut store, &mut held, key, Some("1"));
        assert!(keep.append(&transaction).is_err());
    }
    std::fs::remove_dir(&obstacle).unwrap();
    step(&mut store, &mut keep, &mut held, "b", None);
    let (_, chunks) = Keep::open(dir.path(), None).unwrap();
    assert_eq!(replay(chunks).digest(), store.cursor().digest);
}

#[test]
fn what_is_more_than_is_held_leaves_the_log_as_it_is_until_everything_comes() {
    let dir = in_memory();
    let kept = || replay(Keep::open(dir.path(), None).unwrap().1).digest();
    let (mut keep, _) = Keep::open(dir.path(), None).unwrap();
    let (mut store, mut held) = (Store::default(), None);
    step(&mut store, &mut keep, &mut held, "a", Some("1"));
    let before = store.cursor().digest;
    let file = fill(&mut keep);
    let large = "x".repeat(MOST_BEHIND / 2);
    for key in ["b", "c"] {
        assert!(!keep.needs_everything());
        let transaction = change(&mut store, &mut held, key, Some(&large));
        assert!(keep.append(&transaction).is_err());
    }
    assert!(keep.needs_everything());
    keep.file = file;
    keep.catch_up(Instant::now() + RETRY).unwrap();
    assert!(keep.needs_everything());
    let transaction = change(&mut store, &mut held, "b", None);
    assert!(keep.append(&transaction).is_err());
    assert_eq!(kept(), before);
    held = None;
    step(&mut store, &mut keep, &mut held, "c", None);
    assert!(!keep.needs_everything());
    assert_eq!(kept(), store.cursor().digest);
}

#[test]
fn a_log_ends_after_what_has_taken_effect_as_soon_as_something_else_does() {
    let dir = in_memory();
    let open = || Keep::open(dir.path(), None).unwrap();
    let (mut keep, _) = open();
    let (mut store, mut held) = (Store::default(), None);
    step(&mut store, &mut keep, &mut held, "a", Some("1"));
    step(&mut store, &mut keep, &mut held, "b", Some("1"));
    let taken = held;
    step(
        &mut store,
        &mut keep,
        &mut held,
        "c",
        Some("of another build"),
    );
    let all = store.cursor().digest;
    let (mut keep, _) = open();
    keep.end_after(2).unwrap();
    // That build may come again before any controller does.
    assert_eq!(replay(open().1).digest(), all);
    let (mut keep, _) = open();
    keep.end_after(2).unwrap();
    held = taken;
    step(&mut store, &mut keep, &mut held, "c", Some("2"));
    assert_eq!(replay(open().1).digest(), store.cursor().digest);
    let (mut keep, _) = open();
    keep.end_after(0).unwrap();
    held = None;
    step(&mut store, &mut keep, &mut held, "d", Some("1"));
    assert_eq!(replay(open().1).digest(), store.cursor().digest);
}

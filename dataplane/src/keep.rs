//! The last-good copy: what was acknowledged last, on disk, so that a data plane that starts without a controller
//! serves within a moment (decisions 12 and 13 of the design).
//!
//! An append-only log of the transactions as they came, each chunk with its hash; rewritten as one transaction when it
//! has grown to twice what is live. A torn tail, left by a crash, ends the reading and is cut off: what was complete
//! before it still serves. Nothing is synchronised to the disk, since a copy that a power cut takes is rebuilt by the
//! first controller that answers. Private keys and credentials are in it: it lies in memory, or is encrypted with a key
//! that lies elsewhere.

mod seal;

use seal::Seal;

use prost::Message;
use snapshot::pb::{Chunk, Resource};
use snapshot::{Cursor, Hash, Transaction};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

const MAGIC: &[u8] = b"diolkos last-good 1\n";
const SEALED: &[u8] = b"diolkos last-good 1 sealed\n";
/// A log below this size is never rewritten.
const SMALL: u64 = 1 << 20;
/// No chunk is longer; a longer frame is a damaged one.
const MAX_FRAME: u32 = 16 << 20;
const FILE: &str = "last-good.log";

/// The log, open for appending.
#[derive(Debug)]
pub struct Keep {
    directory: PathBuf,
    file: File,
    /// Bytes in the log.
    size: u64,
    /// Bytes after the last rewrite.
    base: u64,
    /// What encrypts it; `None`: it is in memory.
    seal: Option<Seal>,
}

impl Keep {
    /// Opens or makes the log and gives the chunks of its complete transactions, in order. `key`: file with the key that
    /// encrypts it, which is made where there is none.
    ///
    /// # Errors
    /// The directory cannot be made or the file cannot be read or written; there is no key, or one in the same directory,
    /// and the directory is not in memory. A file that is no log of ours, or of another key, is replaced.
    pub fn open(
        directory: impl Into<PathBuf>,
        key: Option<&Path>,
    ) -> io::Result<(Self, Vec<Chunk>)> {
        let directory = directory.into();
        std::fs::create_dir_all(&directory)?;
        let seal = sealing(&directory, key)?;
        let mut bytes = Vec::new();
        match File::open(directory.join(FILE)) {
            Ok(mut file) => drop(file.read_to_end(&mut bytes)?),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        let (chunks, good) = read(&bytes, seal.as_ref());
        let file = private(options().append(true), &directory.join(FILE))?;
        let mut keep = Self {
            directory,
            file,
            size: good,
            base: good,
            seal,
        };
        if good == 0 {
            keep.replace(&[])?;
        } else {
            keep.file.set_len(good)?;
        }
        Ok((keep, chunks))
    }

    /// Appends a transaction that has taken effect.
    ///
    /// # Errors
    /// The log could not be written; it may miss this transaction and then ends before it.
    pub fn append(&mut self, chunks: &[Chunk]) -> io::Result<()> {
        if chunks.first().is_some_and(|c| c.full) {
            return self.replace(chunks);
        }
        let mut bytes = Vec::new();
        write_frames(&mut bytes, chunks, self.seal.as_ref())?;
        if let Err(e) = self.file.write_all(&bytes) {
            // Half a frame must not stand in the middle.
            let _ = self.file.set_len(self.size);
            return Err(e);
        }
        self.size += bytes.len() as u64;
        if self.size > SMALL.max(self.base * 2) {
            self.compact()?;
        }
        Ok(())
    }

    fn compact(&mut self) -> io::Result<()> {
        let mut bytes = Vec::new();
        File::open(self.directory.join(FILE))?.read_to_end(&mut bytes)?;
        let (chunks, _) = read(&bytes, self.seal.as_ref());
        let digest = chunks
            .last()
            .map(|c| c.result_digest.clone())
            .unwrap_or_default();
        let mut live: BTreeMap<(u32, String), Resource> = BTreeMap::new();
        for chunk in chunks {
            for r in chunk.upsert {
                live.insert((r.kind, r.key.clone()), r);
            }
            for n in chunk.remove {
                live.remove(&(n.kind, n.key));
            }
        }
        let whole = Transaction {
            full: true,
            base: snapshot::Digest::default(),
            result: Cursor {
                generation: 0,
                digest: snapshot::Digest::from_slice(&digest).unwrap_or_default(),
            },
            upsert: live.into_values().collect(),
            patch: Vec::new(),
            remove: Vec::new(),
        };
        self.replace(&whole.into_chunks(0, 0))
    }

    /// Writes a new log beside the old one and puts it in its place in one step.
    fn replace(&mut self, chunks: &[Chunk]) -> io::Result<()> {
        let temporary = self.directory.join("last-good.new");
        let mut file = private(options().truncate(true), &temporary)?;
        let magic = magic(self.seal.as_ref());
        file.write_all(magic)?;
        // One after the other: all of them may be as large as all that is served.
        let size = write_frames(&mut file, chunks, self.seal.as_ref())?;
        std::fs::rename(&temporary, self.directory.join(FILE))?;
        self.file = file;
        self.size = magic.len() as u64 + size;
        self.base = self.size;
        Ok(())
    }
}

/// Readable by nobody else: private keys and credentials are among the resources.
const MODE: u32 = 0o600;

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true).write(true).mode(MODE);
    options
}

/// Opens a file, and closes it to others where somebody had opened it to them.
fn private(options: &OpenOptions, path: &Path) -> io::Result<File> {
    let file = options.open(path)?;
    file.set_permissions(Permissions::from_mode(MODE))?;
    Ok(file)
}

/// What is to encrypt a log in this directory.
fn sealing(directory: &Path, key: Option<&Path>) -> io::Result<Option<Seal>> {
    if let Some(key) = key {
        if key.parent() == Some(directory) {
            let text = format!(
                "{} lies beside what it encrypts; it must lie elsewhere",
                key.display()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        return Seal::from_file(key).map(Some);
    }
    if seal::is_in_memory(directory)? {
        return Ok(None);
    }
    // Of a time when the directory was in memory, or of a build that did not look.
    match std::fs::remove_file(directory.join(FILE)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let text = format!(
        "{} is on a disk, where private keys would be kept in clear: name a key with --state-key, or a directory in memory",
        directory.display()
    );
    Err(io::Error::new(io::ErrorKind::InvalidInput, text))
}

fn magic(seal: Option<&Seal>) -> &'static [u8] {
    match seal {
        Some(_) => SEALED,
        None => MAGIC,
    }
}

/// Gives the bytes that were written.
fn write_frames(out: &mut impl Write, chunks: &[Chunk], seal: Option<&Seal>) -> io::Result<u64> {
    let mut size = 0;
    for chunk in chunks {
        let mut body = chunk.encode_to_vec();
        if let Some(seal) = seal {
            body = seal.close(body)?;
        }
        let (len, hash) = ((body.len() as u32).to_le_bytes(), Hash::of(&body).0);
        for part in [&len[..], &hash, &body] {
            out.write_all(part)?;
            size += part.len() as u64;
        }
    }
    Ok(size)
}

/// The chunks of all complete transactions, and where the last of them ends.
fn read(bytes: &[u8], seal: Option<&Seal>) -> (Vec<Chunk>, u64) {
    let magic = magic(seal);
    let Some(mut rest) = bytes.strip_prefix(magic) else {
        return (Vec::new(), 0);
    };
    let (mut chunks, mut complete, mut end) = (Vec::new(), 0, magic.len());
    while let Some((chunk, after)) = frame(rest, seal) {
        let commit = chunk.commit;
        chunks.push(chunk);
        rest = after;
        if commit {
            complete = chunks.len();
            end = bytes.len() - rest.len();
        }
    }
    chunks.truncate(complete);
    (chunks, end as u64)
}

fn frame<'a>(bytes: &'a [u8], seal: Option<&Seal>) -> Option<(Chunk, &'a [u8])> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    let len = u32::from_le_bytes(*len);
    let (hash, rest) = rest.split_first_chunk::<16>()?;
    let body = rest.get(..usize::try_from(len.min(MAX_FRAME)).ok()?)?;
    if len > MAX_FRAME || Hash::of(body).0 != *hash {
        return None;
    }
    let after = rest.get(body.len()..)?;
    let chunk = match seal {
        Some(seal) => Chunk::decode(&*seal.open(body)?),
        None => Chunk::decode(body),
    };
    Some((chunk.ok()?, after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use snapshot::{Kind, Replica, Store};
    use tempfile::TempDir;

    /// A store, and what the log must lead to.
    fn step(
        store: &mut Store,
        keep: &mut Keep,
        held: &mut Option<Cursor>,
        key: &str,
        body: Option<&str>,
    ) {
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
        keep.append(&transaction.into_chunks(1, 0)).unwrap();
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
}

//! The last-good copy: what was acknowledged last, on disk, so that a data plane that starts without a controller
//! serves within a moment (decisions 12 and 13 of the design).
//!
//! An append-only log of the transactions as they came, each chunk with its hash; rewritten as one transaction when it
//! has grown to twice what is live. A torn tail, left by a crash, ends the reading and is cut off: what was complete
//! before it still serves. What could not be written follows with the next transaction, or a while later: a log with a gap
//! would end before it for ever. Nothing is synchronised to the disk, since a copy that a power cut takes is rebuilt by the
//! first controller that answers. Private keys and credentials are in it: it lies in memory, or is encrypted with a key
//! that lies elsewhere.

mod merged;
mod seal;

use merged::Merged;
use seal::Seal;

use prost::Message;
use snapshot::Hash;
use snapshot::pb::Chunk;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const MAGIC: &[u8] = b"diolkos last-good 1\n";
const SEALED: &[u8] = b"diolkos last-good 1 sealed\n";
/// A log below this size is never rewritten.
const SMALL: u64 = 1 << 20;
/// No chunk is longer; a longer frame is a damaged one.
const MAX_FRAME: u32 = 16 << 20;
const FILE: &str = "last-good.log";
/// Most of what could not be written that is held until it can. Beyond that the log ends where it does until everything
/// comes anew, which a controller is asked for with the next stream.
const MOST_BEHIND: usize = 64 << 20;
/// Before that is tried again where nothing else is to be written.
const RETRY: Duration = Duration::from_secs(10);

/// The log, open for appending.
#[derive(Debug)]
pub struct Keep {
    directory: PathBuf,
    file: File,
    /// Bytes of the log as far as it counts.
    size: u64,
    /// The file may go on after that.
    torn: bool,
    behind: Behind,
    /// When it was last tried to write that.
    tried: Instant,
    /// Bytes after the last rewrite.
    base: u64,
    /// What encrypts it; `None`: it is in memory.
    seal: Option<Seal>,
}

/// What has taken effect and is not in the log.
#[derive(Debug, Default)]
enum Behind {
    #[default]
    Nothing,
    By(Merged),
    /// More than is held here.
    Lost,
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
        let (chunks, good) = read(&bytes, seal.as_ref(), usize::MAX);
        let file = private(options().append(true), &directory.join(FILE))?;
        let mut keep = Self {
            directory,
            file,
            size: good,
            torn: false,
            behind: Behind::Nothing,
            tried: Instant::now(),
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

    /// Only so many of its transactions have taken effect: the log ends after these as soon as something else does.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn end_after(&mut self, transactions: usize) -> io::Result<()> {
        let bytes = self.bytes().inspect_err(|_| self.behind = Behind::Lost)?;
        (_, self.size) = read(&bytes, self.seal.as_ref(), transactions);
        self.torn = true;
        Ok(())
    }

    /// Appends a transaction that has taken effect.
    ///
    /// # Errors
    /// The log could not be written and ends before this transaction, or before others that are not in it yet.
    pub fn append(&mut self, chunks: &[Chunk]) -> io::Result<()> {
        if chunks.first().is_some_and(|c| c.full) {
            self.behind = Behind::Nothing;
        }
        match &mut self.behind {
            Behind::Nothing => {
                let written = self.write(chunks);
                if written.is_err() {
                    let mut merged = Merged::default();
                    merged.add(chunks);
                    self.hold(merged);
                }
                written?;
            }
            Behind::By(merged) => {
                merged.add(chunks);
                self.write_behind()?;
            }
            Behind::Lost => {
                let text = "it lacks what came before, until everything comes anew";
                return Err(io::Error::other(text));
            }
        }
        match self.size > SMALL.max(self.base * 2) {
            true => self.compact(),
            false => Ok(()),
        }
    }

    /// Writes what could not be written before, unless that was tried a moment ago.
    ///
    /// # Errors
    /// It still cannot be written.
    pub fn catch_up(&mut self, now: Instant) -> io::Result<()> {
        match now.duration_since(self.tried) < RETRY {
            true => Ok(()),
            false => self.write_behind(),
        }
    }

    fn write_behind(&mut self) -> io::Result<()> {
        let merged = match std::mem::take(&mut self.behind) {
            Behind::By(merged) => merged,
            other => {
                self.behind = other;
                return Ok(());
            }
        };
        self.tried = Instant::now();
        let written = self.write(&merged.chunks());
        if written.is_err() {
            self.hold(merged);
        }
        written
    }

    fn hold(&mut self, merged: Merged) {
        self.behind = match merged.bytes() <= MOST_BEHIND {
            true => Behind::By(merged),
            false => Behind::Lost,
        };
    }

    /// Whether only everything can be written again, and nothing that continues what is held.
    pub fn needs_everything(&self) -> bool {
        matches!(self.behind, Behind::Lost)
    }

    fn write(&mut self, chunks: &[Chunk]) -> io::Result<()> {
        if chunks.first().is_some_and(|c| c.full) {
            return self.replace(chunks);
        }
        let mut bytes = Vec::new();
        write_frames(&mut bytes, chunks, self.seal.as_ref())?;
        // Half a frame must not stand in the middle.
        if self.torn {
            self.file.set_len(self.size)?;
            self.file.seek(SeekFrom::Start(self.size))?;
        }
        self.torn = true;
        self.file.write_all(&bytes)?;
        self.torn = false;
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// The log as far as it counts.
    fn bytes(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = File::open(self.directory.join(FILE))?;
        file.take(self.size).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn compact(&mut self) -> io::Result<()> {
        let (chunks, _) = read(&self.bytes()?, self.seal.as_ref(), usize::MAX);
        let mut live = Merged::everything();
        live.add(&chunks);
        self.replace(&live.chunks())
    }

    /// Writes a new log beside the old one and puts it in its place in one step.
    fn replace(&mut self, chunks: &[Chunk]) -> io::Result<()> {
        let temporary = self.directory.join("last-good.new");
        let mut file = private(options().truncate(true), &temporary)?;
        let magic = magic(self.seal.as_ref());
        let mut written = || {
            file.write_all(magic)?;
            // One after the other: all of them may be as large as all that is served.
            let size = write_frames(&mut file, chunks, self.seal.as_ref())?;
            std::fs::rename(&temporary, self.directory.join(FILE))?;
            Ok(size)
        };
        let size = written().inspect_err(|_: &io::Error| {
            // Where there is no room for it, it would take what is left.
            drop(std::fs::remove_file(&temporary));
        })?;
        self.file = file;
        self.size = magic.len() as u64 + size;
        self.base = self.size;
        self.torn = false;
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

/// The chunks of all complete transactions, so many at most, and where the last of them ends.
fn read(bytes: &[u8], seal: Option<&Seal>, most: usize) -> (Vec<Chunk>, u64) {
    let magic = magic(seal);
    let Some(mut rest) = bytes.strip_prefix(magic) else {
        return (Vec::new(), 0);
    };
    let (mut chunks, mut complete, mut end) = (Vec::new(), 0, magic.len());
    let mut transactions = 0;
    while transactions < most
        && let Some((chunk, after)) = frame(rest, seal)
    {
        let commit = chunk.commit;
        chunks.push(chunk);
        rest = after;
        if commit {
            transactions += 1;
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
mod tests;

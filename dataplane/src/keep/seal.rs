//! What keeps private keys in the last-good copy from whoever reads the disk: it lies in memory, or is encrypted.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::rand;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Bytes of a key.
const KEY: usize = 32;
/// `TMPFS_MAGIC` and `RAMFS_MAGIC` of `linux/magic.h`.
const IN_MEMORY: [i64; 2] = [0x0102_1994, 0x8584_58F6];

/// Encrypts with AES-256-GCM, each frame with a random nonce in front of it.
pub(super) struct Seal(RandomizedNonceKey);

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Seal {
    /// Reads a key of 32 bytes from a file that is made where there is none.
    ///
    /// # Errors
    /// It cannot be read or made, or has another length.
    pub(super) fn from_file(path: &Path) -> io::Result<Self> {
        let mut key = Vec::new();
        match File::open(path) {
            Ok(file) => drop(file.take(KEY as u64 + 1).read_to_end(&mut key)?),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                key.resize(KEY, 0);
                rand::fill(&mut key).map_err(|_| io::Error::other("no random key can be made"))?;
                let mut new = OpenOptions::new();
                new.write(true).create_new(true).mode(super::MODE);
                new.open(path)?.write_all(&key)?;
            }
            Err(e) => return Err(e),
        }
        if key.len() != KEY {
            let text = format!("{} must have {KEY} bytes", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let key = RandomizedNonceKey::new(&AES_256_GCM, &key);
        key.map(Self)
            .map_err(|_| io::Error::other("the key cannot be used"))
    }

    /// # Errors
    /// No nonce can be made.
    pub(super) fn close(&self, mut body: Vec<u8>) -> io::Result<Vec<u8>> {
        let sealed = self.0.seal_in_place_append_tag(Aad::empty(), &mut body);
        let nonce =
            sealed.map_err(|_| io::Error::other("the last-good copy cannot be encrypted"))?;
        let mut out = nonce.as_ref().to_vec();
        out.append(&mut body);
        Ok(out)
    }

    /// `None`: it was encrypted with another key, or changed since.
    pub(super) fn open(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, body) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut body = body.to_vec();
        let opened = self.0.open_in_place(nonce, Aad::empty(), &mut body).ok()?;
        let length = opened.len();
        body.truncate(length);
        Some(body)
    }
}

/// Whether what is written to a directory stays in memory.
///
/// # Errors
/// The directory cannot be looked at.
pub(super) fn is_in_memory(directory: &Path) -> io::Result<bool> {
    let kind = rustix::fs::statfs(directory)?.f_type;
    #[allow(
        clippy::unnecessary_cast,
        reason = "it is narrower on other architectures"
    )]
    Ok(IN_MEMORY.contains(&(kind as i64)))
}

//! Content hashes of resources and the digest of a whole configuration.

use std::fmt;
use std::str::FromStr;

/// First 16 bytes of BLAKE3 over a resource's body.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Hash(pub [u8; 16]);

impl Hash {
    pub fn of(body: &[u8]) -> Self {
        Self(first_16(&blake3::hash(body)))
    }

    /// Of a resource's kind and key: shorter than most keys.
    pub fn of_name(kind: u32, key: &str) -> Self {
        let mut name = Vec::with_capacity(4 + key.len());
        name.extend_from_slice(&kind.to_be_bytes());
        name.extend_from_slice(key.as_bytes());
        Self::of(&name)
    }

    /// `None` when the slice has not 16 bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

/// Sum modulo 2^128 over BLAKE3(kind, key, hash) of all resources: independent of order, one addition a change.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Digest(u128);

impl Digest {
    /// Counts a resource in.
    pub fn add(&mut self, kind: u32, key: &str, hash: Hash) {
        self.0 = self.0.wrapping_add(term(kind, key, hash));
    }

    /// Takes a resource out that was counted in before.
    pub fn remove(&mut self, kind: u32, key: &str, hash: Hash) {
        self.0 = self.0.wrapping_sub(term(kind, key, hash));
    }

    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// `None` when the slice has not 16 bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(|b| Self(u128::from_be_bytes(b)))
    }

    /// The first 48 bits.
    pub fn revision(self) -> Revision {
        Revision((self.0 >> 80) as u64)
    }
}

/// Names a configuration: the first 48 bits of its digest, which a metric can carry exactly (`diolkos_config_revision`).
/// Written as 12 hexadecimal digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl Revision {
    const DIGITS: usize = 12;

    pub fn digits(self) -> [u8; Self::DIGITS] {
        let mut left = self.0;
        let mut digits = [b'0'; Self::DIGITS];
        for digit in digits.iter_mut().rev() {
            let value = (left & 0xf) as u8;
            *digit = value + if value < 10 { b'0' } else { b'a' - 10 };
            left >>= 4;
        }
        digits
    }

    /// As metrics have it: 48 bits fit a double exactly.
    pub fn to_f64(self) -> f64 {
        self.0 as f64
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012x}", self.0)
    }
}

/// A text that is no revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a revision is 12 hexadecimal digits")]
pub struct NoRevision;

impl FromStr for Revision {
    type Err = NoRevision;

    fn from_str(text: &str) -> Result<Self, NoRevision> {
        if text.len() != Self::DIGITS || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(NoRevision);
        }
        let number = u64::from_str_radix(text, 16).map_err(|_| NoRevision)?;
        Ok(Self(number))
    }
}

fn term(kind: u32, key: &str, hash: Hash) -> u128 {
    // In one piece: a hasher that is fed takes several times as long for so little.
    let mut text = Vec::with_capacity(28 + key.len());
    text.extend(kind.to_be_bytes());
    text.extend((key.len() as u64).to_be_bytes());
    text.extend(key.as_bytes());
    text.extend(hash.0);
    u128::from_be_bytes(first_16(&blake3::hash(&text)))
}

fn first_16(hash: &blake3::Hash) -> [u8; 16] {
    let mut out = [0; 16];
    out.copy_from_slice(hash.as_bytes().split_at(16).0);
    out
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// The revision.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.revision())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn independent_of_order_and_reversible() {
        let (a, b) = (Hash::of(b"a"), Hash::of(b"b"));
        let mut x = Digest::default();
        x.add(1, "k", a);
        x.add(2, "k", b);
        let mut y = Digest::default();
        y.add(2, "k", b);
        y.add(1, "k", a);
        assert_eq!(x, y);
        y.remove(1, "k", a);
        y.remove(2, "k", b);
        assert_eq!(y, Digest::default());
        assert_eq!(Digest::from_slice(&x.to_bytes()), Some(x));
    }

    #[test]
    fn a_revision_is_read_as_it_is_written() {
        for number in [0, 1, 0x0123_4567_89ab, (1 << 48) - 1] {
            let revision = Revision(number);
            assert_eq!(revision.digits(), revision.to_string().as_bytes());
            assert_eq!(revision.to_string().parse(), Ok(revision));
        }
        for text in ["", "123", "0123456789abc", "0123456789ag", "+1234567890a"] {
            assert_eq!(text.parse::<Revision>(), Err(NoRevision), "{text}");
        }
        let mut digest = Digest::default();
        digest.add(1, "k", Hash::of(b"a"));
        assert!(format!("{digest:?}").starts_with(&digest.revision().to_string()));
    }

    #[test]
    fn kind_key_and_body_all_count() {
        let one = |kind, key: &str, body: &[u8]| {
            let mut d = Digest::default();
            d.add(kind, key, Hash::of(body));
            d
        };
        let all = [
            one(1, "a", b"x"),
            one(2, "a", b"x"),
            one(1, "b", b"x"),
            one(1, "a", b"y"),
        ];
        for (i, a) in all.iter().enumerate() {
            for b in &all[i + 1..] {
                assert_ne!(a, b);
            }
        }
    }
}

//! How a small change of a body travels to whoever holds the body before it: compressed, with that one as dictionary
//! (RFC 8878, section 5: raw content). State stays what it is, whole bodies and their hashes.

use crate::{Hash, Kind, pb};
use model::limits;
use std::io;
use zstd::bulk::{Compressor, Decompressor};

/// What a data plane says in Hello that reads patches.
pub const PATCHES: &str = "patches";

const LEVEL: i32 = 3;
/// What a patch takes beside what is compressed: two hashes, and lengths.
const OVERHEAD: usize = 40;

/// Whether bodies of a kind travel as patches. Whoever receives these keeps bodies of that kind: endpoints come and go many
/// times a second, many of them in one body.
pub(crate) fn is_patched(kind: u32) -> bool {
    kind == Kind::EndpointShard as u32
}

/// What makes `body` of `base`; `None`: that is no less than half of the body.
pub(crate) fn make(base: &[u8], body: &[u8]) -> Option<Vec<u8>> {
    let patch = compress(base, body).ok()?;
    (patch.len() + OVERHEAD <= body.len() / 2).then_some(patch)
}

fn compress(base: &[u8], body: &[u8]) -> io::Result<Vec<u8>> {
    let mut compressor = Compressor::with_dictionary(LEVEL, base)?;
    compressor.include_checksum(false)?;
    compressor.include_contentsize(false)?;
    compressor.compress(body)
}

/// The resource that a patch makes of the body that is held.
///
/// # Errors
/// It does not fit to that body.
pub(crate) fn apply(base: &[u8], patch: pb::Patch) -> Result<pb::Resource, &'static str> {
    let size = patch.size as usize;
    if size > limits::CHUNK_BYTES {
        return Err("a patched body is too large");
    }
    let body = Decompressor::with_dictionary(base)
        .and_then(|mut decompressor| decompressor.decompress(&patch.patch, size))
        .map_err(|_| "a patch cannot be read")?;
    if Hash::from_slice(&patch.hash) != Some(Hash::of(&body)) {
        return Err("a patched body does not have its hash");
    }
    Ok(pb::Resource {
        kind: patch.kind,
        key: patch.key,
        hash: patch.hash,
        body: body.into(),
        requires: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode;
    use model::{Endpoint, EndpointShard};
    use proptest::prelude::*;
    use prost::Message;

    fn shard(count: u32) -> EndpointShard {
        let endpoint = |n: u32| Endpoint {
            // As addresses of Pods are: a few bits of each differ.
            address: std::net::Ipv4Addr::from(0x0a00_0000 | n.wrapping_mul(2_654_435_761) >> 12)
                .into(),
            port: 8080,
            ready: true,
            serving: true,
            terminating: false,
            zone: Some(["a", "b", "c"][n as usize % 3].into()),
        };
        EndpointShard {
            service: "default/shop:80".to_owned(),
            endpoints: (0..count).map(endpoint).collect(),
        }
    }

    fn patch(base: &EndpointShard, now: &EndpointShard) -> pb::Patch {
        let (base, body) = (encode(base).unwrap(), encode(now).unwrap());
        pb::Patch {
            kind: Kind::EndpointShard as u32,
            key: "default/shop:80/shop-abcde".to_owned(),
            base: Hash::of(&base).0.to_vec(),
            hash: Hash::of(&body).0.to_vec(),
            size: body.len() as u32,
            patch: make(&base, &body).expect("it is worth it"),
        }
    }

    #[test]
    fn one_endpoint_of_a_thousand_takes_few_bytes() {
        for count in [100, 1000] {
            let base = shard(count);
            let whole = encode(&base).unwrap().len();
            let mut flipped = base.clone();
            flipped.endpoints[60].ready = false;
            let mut gone = base.clone();
            gone.endpoints.remove(33);
            let mut came = base.clone();
            came.endpoints
                .push(shard(count + 1).endpoints.pop().unwrap());
            for now in [flipped, gone, came] {
                let patch = patch(&base, &now);
                let bytes = patch.encoded_len();
                assert!(bytes <= 200 && bytes * 4 < whole, "{bytes} of {whole}");
                let made = apply(&encode(&base).unwrap(), patch).unwrap();
                assert_eq!(made.body, encode(&now).unwrap());
            }
        }
    }

    #[test]
    fn what_is_small_travels_whole() {
        let (base, body) = (encode(&shard(3)).unwrap(), encode(&shard(4)).unwrap());
        assert_eq!(make(&base, &body), None);
    }

    #[test]
    fn a_patch_of_another_body_is_refused() {
        let (base, mut now) = (shard(100), shard(100));
        now.endpoints[60].ready = false;
        let other = encode(&shard(99)).unwrap();
        apply(&other, patch(&base, &now)).unwrap_err();
        let large = pb::Patch {
            size: u32::MAX,
            ..patch(&base, &now)
        };
        apply(&encode(&base).unwrap(), large).unwrap_err();
    }

    proptest! {
        #[test]
        fn any_body_comes_out_as_it_went_in(base in prop::collection::vec(any::<u8>(), 0..400), more in prop::collection::vec(any::<u8>(), 0..40), at in any::<prop::sample::Index>()) {
            let mut body = base.clone();
            let at = at.index(body.len() + 1);
            body.splice(at..at, more);
            if let Some(patch) = make(&base, &body) {
                let hash = Hash::of(&body).0.to_vec();
                let patch = pb::Patch { hash, size: body.len() as u32, patch, ..pb::Patch::default() };
                prop_assert_eq!(&apply(&base, patch).unwrap().body, &body);
            }
        }

        /// Bytes from outside never panic.
        #[test]
        fn garbage_is_refused(base in prop::collection::vec(any::<u8>(), 0..60), patch in prop::collection::vec(any::<u8>(), 0..60), size in any::<u32>()) {
            let patch = pb::Patch { size, patch, ..pb::Patch::default() };
            prop_assert!(apply(&base, patch).is_err());
        }
    }
}

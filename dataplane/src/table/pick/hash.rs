//! The one hash of consistent balancing and of affinity. It is part of the contract: every replica and every version
//! must send equal requests to equal endpoints, so neither function may change.
//!
//! FNV-1a over the bytes, 64 bits, then the finalizer of SplitMix64, which FNV needs for its upper bits.

use std::net::{IpAddr, SocketAddr};

/// Hash of some bytes.
pub fn bytes(data: &[u8]) -> u64 {
    mix(fnv(OFFSET, data))
}

/// Hash of an endpoint's address: its IP address in network order (an IPv4 address has 4 bytes), then its port.
pub(crate) fn address(addr: SocketAddr) -> u64 {
    let ip = match addr.ip().to_canonical() {
        IpAddr::V4(ip) => fnv(OFFSET, &ip.octets()),
        IpAddr::V6(ip) => fnv(OFFSET, &ip.octets()),
    };
    mix(fnv(ip, &addr.port().to_be_bytes()))
}

/// One hash of two.
pub(crate) fn join(a: u64, b: u64) -> u64 {
    mix(a ^ b.rotate_left(32))
}

/// Finalizer of SplitMix64 (Steele, Lea and Flood, 2014).
pub(crate) fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// What [`mix`] made this of.
pub(crate) fn unmix(x: u64) -> u64 {
    let x = x ^ (x >> 31) ^ (x >> 62);
    let x = x.wrapping_mul(0x3196_42b2_d24d_8ec3);
    let x = x ^ (x >> 27) ^ (x >> 54);
    let x = x.wrapping_mul(0x96de_1b17_3f11_9089);
    let x = x ^ (x >> 30) ^ (x >> 60);
    x.wrapping_sub(0x9e37_79b9_7f4a_7c15)
}

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

fn fnv(start: u64, data: &[u8]) -> u64 {
    data.iter().fold(start, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Replicas of different versions run side by side: these values are for ever.
    #[test]
    fn values_are_fixed() {
        assert_eq!(fnv(OFFSET, b"foobar"), 0x8594_4171_f739_67e8);
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
        for x in [0, 1, u64::MAX, 0x0123_4567_89ab_cdef] {
            assert_eq!(unmix(mix(x)), x);
        }
        assert_eq!(bytes(b"foobar"), mix(0x8594_4171_f739_67e8));
        let v4 = address("10.0.0.1:80".parse().unwrap());
        assert_eq!(v4, bytes(&[10, 0, 0, 1, 0, 80]));
        assert_eq!(v4, address("[::ffff:10.0.0.1]:80".parse().unwrap()));
        assert_ne!(v4, address("10.0.0.1:81".parse().unwrap()));
    }
}

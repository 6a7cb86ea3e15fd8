//! How many connections each client has, so that one of them cannot have all.
//!
//! A client is an IPv4 address, or the /64 of an IPv6 one, of which a host has as many as it likes. Where a source
//! stands for many clients it is not counted: proxies that the listener trusts, and addresses that are not of the public
//! Internet, which are balancers, nodes that translate addresses, and neighbours.

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use ipnet::IpNet;
use parking_lot::Mutex;
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// Parts of the table, so that threads seldom meet.
const SHARDS: usize = 16;

/// Connections by client, of all threads. It has an entry only for clients that have one, so the bound of connections
/// is its bound.
#[derive(Debug)]
pub(super) struct Sources {
    limit: u32,
    hasher: RandomState,
    shards: [Mutex<HashMap<u64, u32, RandomState>>; SHARDS],
}

impl Sources {
    /// At most `limit` connections each; 0: any number.
    pub(super) fn new(limit: u32) -> Self {
        Self {
            limit,
            hasher: RandomState::default(),
            shards: std::array::from_fn(|_| Mutex::default()),
        }
    }

    /// Clients that are counted at the moment.
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// One more connection of a client; `None`: it has as many as it may have.
    pub(super) fn enter(self: &Arc<Self>, client: IpAddr, trusted: &[IpNet]) -> Option<Place> {
        let client = client.to_canonical();
        let free = Place { counted: None };
        if self.limit == 0 || !is_public(client) || trusted.iter().any(|n| n.contains(&client)) {
            return Some(free);
        }
        let key = key(client);
        let mut shard = self.shard(key).lock();
        let open = shard.entry(key).or_insert(0);
        if *open >= self.limit {
            return None;
        }
        *open += 1;
        Some(Place {
            counted: Some((Arc::clone(self), key)),
        })
    }

    fn leave(&self, key: u64) {
        let mut shard = self.shard(key).lock();
        if let Some(open) = shard.get_mut(&key) {
            *open -= 1;
            if *open == 0 {
                shard.remove(&key);
            }
        }
    }

    fn shard(&self, key: u64) -> &Mutex<HashMap<u64, u32, RandomState>> {
        let hash = self.hasher.hash_one(key);
        &self.shards[(hash >> 32) as usize % SHARDS]
    }
}

/// One connection of a client, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    counted: Option<(Arc<Sources>, u64)>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some((sources, key)) = self.counted.take() {
            sources.leave(key);
        }
    }
}

/// The /64 of IPv6; IPv4 in what is not routed (the first bits of `::/8`).
fn key(client: IpAddr) -> u64 {
    match client {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64,
    }
}

fn is_public(client: IpAddr) -> bool {
    match client {
        IpAddr::V4(v4) => {
            !(v4.is_loopback() || v4.is_private() || v4.is_link_local() || is_shared(v4))
        }
        IpAddr::V6(v6) => !(v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local()),
    }
}

/// Of carriers that translate addresses (RFC 6598), and of clouds inside.
fn is_shared(v4: Ipv4Addr) -> bool {
    let [a, b, ..] = v4.octets();
    a == 100 && b & 0xc0 == 64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_client_has_its_bound_and_its_places_come_back() {
        let sources = Arc::new(Sources::new(2));
        let client = ip("203.0.113.9");
        let (a, b) = (sources.enter(client, &[]), sources.enter(client, &[]));
        assert!(a.is_some() && b.is_some());
        assert!(sources.enter(client, &[]).is_none());
        assert!(
            sources.enter(ip("::ffff:203.0.113.9"), &[]).is_none(),
            "the same over a dual-stack socket"
        );
        assert!(sources.enter(ip("203.0.113.10"), &[]).is_some());
        drop(a);
        let c = sources.enter(client, &[]);
        assert!(c.is_some());
        assert_eq!(sources.len(), 1);
        drop((b, c));
        assert_eq!(sources.len(), 0);
    }

    #[test]
    fn ipv6_is_counted_by_its_network() {
        let sources = Arc::new(Sources::new(1));
        let _first = sources.enter(ip("2001:db8:1:2::1"), &[]).unwrap();
        assert!(sources.enter(ip("2001:db8:1:2:ffff::7"), &[]).is_none());
        assert!(sources.enter(ip("2001:db8:1:3::1"), &[]).is_some());
    }

    #[test]
    fn who_stands_for_many_is_not_counted() {
        let sources = Arc::new(Sources::new(1));
        let trusted: Vec<IpNet> = vec!["198.51.100.0/24".parse().unwrap()];
        for many in [
            "127.0.0.1",
            "10.1.2.3",
            "192.168.0.1",
            "172.16.0.1",
            "100.64.0.1",
            "169.254.1.1",
            "::1",
            "fd00::1",
            "fe80::1",
            "198.51.100.7",
        ] {
            let places: Vec<_> = (0..5).map(|_| sources.enter(ip(many), &trusted)).collect();
            assert!(places.iter().all(Option::is_some), "{many}");
        }
        let all = Arc::new(Sources::new(0));
        let places: Vec<_> = (0..5).map(|_| all.enter(ip("203.0.113.9"), &[])).collect();
        assert!(places.iter().all(Option::is_some));
        assert_eq!((sources.len(), all.len()), (0, 0));
    }
}

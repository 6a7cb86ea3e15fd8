//! What is said about endpoints on the way between data planes and controllers. It is no part of the configuration:
//! it has no generation, and nobody keeps it.

use crate::pb;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Endpoints in one message. A message stays far below the 1 MiB that a controller reads.
pub const MAX_ENDPOINTS: usize = 2048;
/// Longest key of a resource that is read here.
const MAX_KEY: usize = 512;

/// What is thought of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Opinion {
    /// Checks of one's own say that it works, whatever others say.
    PassesChecks,
    /// Checks say that it does not work.
    FailsChecks,
    /// Too many requests have failed.
    Ejected,
}

impl Opinion {
    fn to_wire(self) -> i32 {
        let wire = match self {
            Self::PassesChecks => pb::Opinion::PassesChecks,
            Self::FailsChecks => pb::Opinion::FailsChecks,
            Self::Ejected => pb::Opinion::Ejected,
        };
        wire.into()
    }

    fn of_wire(wire: i32) -> Option<Self> {
        match pb::Opinion::try_from(wire).ok()? {
            pb::Opinion::Unspecified => None,
            pb::Opinion::PassesChecks => Some(Self::PassesChecks),
            pb::Opinion::FailsChecks => Some(Self::FailsChecks),
            pb::Opinion::Ejected => Some(Self::Ejected),
        }
    }
}

/// Opinions by the key of the upstream and the address of the endpoint, [`MAX_ENDPOINTS`] at most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opinions {
    all: BTreeMap<Arc<str>, BTreeMap<SocketAddr, Opinion>>,
    len: usize,
    omitted: u32,
}

impl Opinions {
    /// Adds one, or takes it as omitted where there are too many.
    pub fn insert(&mut self, upstream: &Arc<str>, endpoint: SocketAddr, opinion: Opinion) {
        if self.len >= MAX_ENDPOINTS {
            self.omitted = self.omitted.saturating_add(1);
            return;
        }
        let of_upstream = self.all.entry(Arc::clone(upstream)).or_default();
        let before = of_upstream.insert(endpoint, opinion);
        self.len += usize::from(before.is_none());
    }

    /// What did not fit.
    pub fn omitted(&self) -> u32 {
        self.omitted
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Those of one upstream.
    pub fn of(&self, upstream: &str) -> Option<&BTreeMap<SocketAddr, Opinion>> {
        self.all.get(upstream)
    }

    /// By upstream and address.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, SocketAddr, Opinion)> {
        let of_upstream = |(key, endpoints)| -> _ {
            let endpoints: &BTreeMap<SocketAddr, Opinion> = endpoints;
            endpoints.iter().map(move |(addr, o)| (key, *addr, *o))
        };
        self.all.iter().flat_map(of_upstream)
    }

    pub fn to_wire(&self) -> Vec<pb::UpstreamHealth> {
        let endpoint = |(addr, opinion): (&SocketAddr, &Opinion)| pb::EndpointHealth {
            address: match addr.ip() {
                IpAddr::V4(ip) => ip.octets().to_vec(),
                IpAddr::V6(ip) => ip.octets().to_vec(),
            },
            port: addr.port().into(),
            opinion: opinion.to_wire(),
        };
        let upstream = |(key, endpoints): (&Arc<str>, &BTreeMap<_, _>)| pb::UpstreamHealth {
            key: key.to_string(),
            endpoints: endpoints.iter().map(endpoint).collect(),
        };
        self.all.iter().map(upstream).collect()
    }

    /// What cannot be read is passed over: it comes from a later version.
    pub fn of_wire(wire: &[pb::UpstreamHealth], omitted: u32) -> Self {
        let mut opinions = Self {
            omitted,
            ..Self::default()
        };
        for upstream in wire.iter().filter(|u| u.key.len() <= MAX_KEY) {
            let key = Arc::from(upstream.key.as_str());
            for endpoint in &upstream.endpoints {
                let opinion = Opinion::of_wire(endpoint.opinion);
                if let (Some(addr), Some(opinion)) = (address(endpoint), opinion) {
                    opinions.insert(&key, addr, opinion);
                }
            }
        }
        opinions
    }
}

fn address(endpoint: &pb::EndpointHealth) -> Option<SocketAddr> {
    let bytes = endpoint.address.as_slice();
    let ip = match <[u8; 4]>::try_from(bytes) {
        Ok(v4) => IpAddr::from(v4),
        Err(_) => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
    };
    let port = u16::try_from(endpoint.port).ok().filter(|p| *p != 0)?;
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn there_and_back() {
        let mut opinions = Opinions::default();
        let (a, b) = (Arc::from("Upstream/a/a"), Arc::from("Service/a/b:80"));
        opinions.insert(&a, addr("10.0.0.1:80"), Opinion::FailsChecks);
        opinions.insert(&a, addr("[fd00::1]:80"), Opinion::PassesChecks);
        opinions.insert(&b, addr("10.0.0.1:80"), Opinion::Ejected);
        let back = Opinions::of_wire(&opinions.to_wire(), 0);
        assert_eq!(back, opinions);
        assert_eq!(back.len(), 3);
    }

    #[test]
    fn more_than_fit_are_counted() {
        let mut opinions = Opinions::default();
        let key = Arc::from("Upstream/a/a");
        for n in 0..MAX_ENDPOINTS + 3 {
            let ip = std::net::Ipv4Addr::from(u32::try_from(n).unwrap());
            opinions.insert(&key, SocketAddr::new(ip.into(), 80), Opinion::Ejected);
        }
        assert_eq!((opinions.len(), opinions.omitted()), (MAX_ENDPOINTS, 3));
        use prost::Message;
        let message = pb::HealthReport {
            upstreams: opinions.to_wire(),
            omitted: 3,
        };
        assert!(message.encoded_len() < 1 << 17);
    }

    #[test]
    fn what_cannot_be_read_is_passed_over() {
        let endpoint = |address: &[u8], port, opinion| pb::EndpointHealth {
            address: address.to_vec(),
            port,
            opinion,
        };
        let good = endpoint(&[10, 0, 0, 1], 80, 2);
        let wire = |key: &str, endpoints| pb::UpstreamHealth {
            key: key.into(),
            endpoints,
        };
        let bad = vec![
            endpoint(&[10, 0, 0], 80, 2),
            endpoint(&[10, 0, 0, 1], 0, 2),
            endpoint(&[10, 0, 0, 1], 70_000, 2),
            endpoint(&[10, 0, 0, 1], 80, 0),
            endpoint(&[10, 0, 0, 1], 80, 9),
        ];
        let long = "k".repeat(MAX_KEY + 1);
        let read = Opinions::of_wire(
            &[
                wire("a", bad),
                wire(&long, vec![good.clone()]),
                wire("b", vec![good]),
            ],
            0,
        );
        assert_eq!(read.len(), 1);
        assert_eq!(read.of("b").unwrap().len(), 1);
    }
}

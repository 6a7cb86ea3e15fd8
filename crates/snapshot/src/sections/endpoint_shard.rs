use super::{InvalidResource, Kind, Section};
use crate::pb;
use model::{Endpoint, EndpointShard};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

const READY: u8 = 1;
const SERVING: u8 = 2;
const TERMINATING: u8 = 4;

impl Section for EndpointShard {
    const KIND: Kind = Kind::EndpointShard;
    type Wire = pb::EndpointShard;

    fn to_wire(&self) -> pb::EndpointShard {
        let (mut v4, mut v6, mut flags) = (Vec::new(), Vec::new(), Vec::new());
        let is_v4 = |e: &&Endpoint| e.address.is_ipv4();
        let mut zone = Vec::new();
        let zones: BTreeSet<&str> = self
            .endpoints
            .iter()
            .filter_map(|e| e.zone.as_deref())
            .collect();
        // A byte counts no further; nobody has so many zones.
        let zones: Vec<&str> = zones.into_iter().take(255).collect();
        let columns = self.endpoints.iter().filter(is_v4);
        for e in columns.chain(self.endpoints.iter().filter(|e| !is_v4(e))) {
            if !zones.is_empty() {
                let of = e.zone.as_deref().and_then(|z| zones.binary_search(&z).ok());
                zone.push(of.and_then(|at| u8::try_from(at + 1).ok()).unwrap_or(0));
            }
            match e.address {
                IpAddr::V4(a) => {
                    v4.extend(a.octets());
                    v4.extend(e.port.to_be_bytes());
                }
                IpAddr::V6(a) => {
                    v6.extend(a.octets());
                    v6.extend(e.port.to_be_bytes());
                }
            }
            let bit = |on: bool, bit: u8| if on { bit } else { 0 };
            flags.push(
                bit(e.ready, READY) | bit(e.serving, SERVING) | bit(e.terminating, TERMINATING),
            );
        }
        pb::EndpointShard {
            service: self.service.clone(),
            v4,
            v6,
            flags,
            zones: zones.into_iter().map(str::to_owned).collect(),
            zone,
        }
    }

    fn from_wire(w: pb::EndpointShard) -> Result<Self, InvalidResource> {
        let (v4, rest4) = w.v4.as_chunks::<6>();
        let (v6, rest6) = w.v6.as_chunks::<18>();
        if !rest4.is_empty() || !rest6.is_empty() || w.flags.len() != v4.len() + v6.len() {
            return Err(InvalidResource::new(
                "endpoints",
                "columns of unequal length",
            ));
        }
        let zones: Vec<Arc<str>> = w.zones.into_iter().map(Into::into).collect();
        let is_known = |at: &u8| usize::from(*at) <= zones.len();
        let fits = if zones.is_empty() { 0 } else { w.flags.len() };
        if w.zone.len() != fits || !w.zone.iter().all(is_known) {
            let reason = "is no column of positions in zones";
            return Err(InvalidResource::new("zone", reason));
        }
        let zone_of = |at: Option<&u8>| {
            let at = usize::from(*at?).checked_sub(1)?;
            zones.get(at).cloned()
        };
        let v4 = v4
            .iter()
            .map(|&[a, b, c, d, p, q]| (IpAddr::from([a, b, c, d]), u16::from_be_bytes([p, q])));
        let v6 = v6.iter().map(|c| {
            let (address, port) = c.split_at(16);
            let address: [u8; 16] = address.try_into().unwrap_or_default(); // invariant: 18 bytes
            let port: [u8; 2] = port.try_into().unwrap_or_default();
            (IpAddr::from(address), u16::from_be_bytes(port))
        });
        let endpoints = v4
            .chain(v6)
            .zip(&w.flags)
            .enumerate()
            .map(|(i, ((address, port), &f))| Endpoint {
                address,
                port,
                ready: f & READY != 0,
                serving: f & SERVING != 0,
                terminating: f & TERMINATING != 0,
                zone: zone_of(w.zone.get(i)),
            });
        Ok(Self {
            service: w.service,
            endpoints: endpoints.collect(),
        })
    }
}

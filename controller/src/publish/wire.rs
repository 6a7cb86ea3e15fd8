//! How replicas write to each other what is known of a group of data planes.

use super::lacks::{Instead, Lack, Lacks, Why};
use super::refusals::Refusal;
use super::{DataPlane, NAME, REASON, ResourceId, printable};
use prost::Message as _;
use snapshot::{Hash, Kind, Transaction, pb};
use std::collections::BTreeMap;

/// Resources in one message: 32 bytes each, so that it stays far below the 1 MiB that a replica reads.
const HELD: usize = 8192;
/// Bytes of data planes, or of what is kept back, in one message; a single body has at most 448 KiB.
pub(super) const MESSAGE_BYTES: usize = 512 * 1024;
/// Bytes of what one data plane goes without, in what is told of it.
const LACKS_BYTES: usize = 256 * 1024;
/// Listeners that one data plane could not open, as far as they are told.
const NOT_BOUND: usize = 256;
/// What a message within another takes beside itself.
pub(super) const FRAME: usize = 8;

pub(super) fn held_to_wire(news: Transaction) -> Vec<Vec<u8>> {
    let upserts = news
        .upsert
        .iter()
        .filter_map(|r| Some((Hash::of_name(r.kind, &r.key), Hash::from_slice(&r.hash)?)));
    let removes = news.remove.iter();
    let removes = removes.map(|n| (Hash::of_name(n.kind, &n.key), Hash::default()));
    let all: Vec<(Hash, Hash)> = upserts.chain(removes).collect();
    all.chunks(HELD)
        .map(|some| {
            let held = some.iter().flat_map(|(name, body)| [name.0, body.0]);
            held.flatten().collect()
        })
        .collect()
}

pub(super) fn plane_to_wire(number: u64, plane: &DataPlane) -> pb::Plane {
    let not_bound = plane.listeners.iter().filter(|l| !l.bound);
    let lacks = plane.lacks.iter().map(|((kind, key), lack)| {
        let told = pb::Quarantined {
            kind: *kind as u32,
            key: key.to_string(),
            hash: lack.refused.0.to_vec(),
            reason: lack.why.to_string(),
            body: None,
            capability: match &lack.why {
                Why::TooOld(name) => name.clone(),
                Why::Refuses(_) => String::new(),
            },
        };
        (told.encoded_len() + FRAME, told)
    });
    let (lacks, is_all) = fitting(lacks, LACKS_BYTES);
    pb::Plane {
        number,
        node_id: plane.node_id.clone(),
        build: plane.build.clone(),
        // Of one that goes without more than is told nothing is known to be there.
        acknowledged: plane.acknowledged.filter(|_| is_all),
        draining: plane.draining,
        not_bound: not_bound.take(NOT_BOUND).cloned().collect(),
        refused: plane.refused.clone().unwrap_or_default(),
        lacks,
        turned_away: plane.turned_away.clone().unwrap_or_default(),
    }
}

pub(super) fn plane_of_wire(wire: pb::Plane) -> DataPlane {
    let lacks = wire.lacks.into_iter().filter_map(|lack| {
        let (id, refused) = refused_of_wire(&lack)?;
        let why = match lack.capability.is_empty() {
            true => Why::Refuses(printable(&lack.reason, REASON)),
            false => Why::TooOld(printable(&lack.capability, NAME)),
        };
        let lack = Lack {
            refused,
            why,
            instead: Instead::Nothing,
        };
        Some((id, lack))
    });
    DataPlane {
        node_id: wire.node_id,
        build: wire.build,
        acknowledged: wire.acknowledged,
        draining: wire.draining,
        listeners: wire.not_bound,
        refused: Some(wire.refused).filter(|r| !r.is_empty()),
        turned_away: Some(wire.turned_away).filter(|why| !why.is_empty()),
        lacks: lacks.collect::<Lacks>(),
        ..DataPlane::default()
    }
}

/// As much of it as a message takes: resources that are kept back are few. What is not told, the data planes of other
/// replicas refuse themselves.
pub(super) fn to_wire(refusals: &BTreeMap<ResourceId, Refusal>) -> pb::Quarantine {
    let all = refusals.iter().map(|((kind, key), refusal)| {
        let told = pb::Quarantined {
            kind: *kind as u32,
            key: key.to_string(),
            hash: refusal.hash.0.to_vec(),
            reason: refusal.reason.clone(),
            body: Some(refusal.restored.clone()),
            capability: String::new(),
        };
        (told.encoded_len() + FRAME, told)
    });
    let (all, _) = fitting(all, MESSAGE_BYTES);
    pb::Quarantine { all }
}

/// Those of some entries, with the bytes that each takes, that fit; and whether all do.
fn fitting<T>(all: impl Iterator<Item = (usize, T)>, mut room: usize) -> (Vec<T>, bool) {
    let mut is_all = true;
    let fitting = all.filter_map(|(bytes, entry)| match room.checked_sub(bytes) {
        Some(rest) => {
            room = rest;
            Some(entry)
        }
        None => {
            is_all = false;
            None
        }
    });
    let fitting = fitting.collect();
    (fitting, is_all)
}

/// `None` also where nothing is to serve in its place, as replicas before this one had it: what others serve stays.
pub(super) fn of_wire(wire: pb::Quarantined) -> Option<(ResourceId, Refusal)> {
    let (id, hash) = refused_of_wire(&wire)?;
    let refusal = Refusal {
        hash,
        reason: printable(&wire.reason, REASON),
        restored: wire.body?,
    };
    Some((id, refusal))
}

fn refused_of_wire(wire: &pb::Quarantined) -> Option<(ResourceId, Hash)> {
    let id = (Kind::from_number(wire.kind)?, wire.key.as_str().into());
    Some((id, Hash::from_slice(&wire.hash)?))
}

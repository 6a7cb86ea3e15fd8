use super::{InvalidResource, Kind, Section, origin_from_wire, origin_to_wire};
use crate::pb;
use model::{Certificate, Secret};

impl Section for Certificate {
    const KIND: Kind = Kind::Certificate;
    type Wire = pb::Certificate;

    fn to_wire(&self) -> pb::Certificate {
        let Self { origin, chain, key } = self;
        pb::Certificate {
            origin: origin_to_wire(origin),
            chain: chain.clone(),
            key: key.reveal().to_vec(),
        }
    }

    fn from_wire(w: pb::Certificate) -> Result<Self, InvalidResource> {
        Ok(Self {
            origin: origin_from_wire(w.origin)?,
            chain: w.chain,
            key: Secret::new(w.key),
        })
    }
}

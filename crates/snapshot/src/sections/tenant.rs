use super::{InvalidResource, Kind, Section, hostname_from_wire, origin_from_wire, origin_to_wire};
use crate::pb;
use model::{HostPattern, Tenant};

impl Section for Tenant {
    const KIND: Kind = Kind::Tenant;
    type Wire = pb::Tenant;

    fn to_wire(&self) -> pb::Tenant {
        let Self { origin, hosts } = self;
        pb::Tenant {
            origin: origin_to_wire(origin),
            hosts: hosts.iter().map(ToString::to_string).collect(),
        }
    }

    fn from_wire(w: pb::Tenant) -> Result<Self, InvalidResource> {
        let host = |text: &String| match hostname_from_wire(text, "hosts")? {
            HostPattern::Any => Err(InvalidResource::new(
                "hosts",
                "must be a name or a wildcard",
            )),
            host => Ok(host),
        };
        Ok(Self {
            origin: origin_from_wire(w.origin)?,
            hosts: w.hosts.iter().map(host).collect::<Result<_, _>>()?,
        })
    }
}

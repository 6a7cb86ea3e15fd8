use super::{InvalidResource, Kind, Section, origin_from_wire, origin_to_wire, port};
use crate::pb;
use model::{BalancePolicy, EndpointSource, StaticEndpoint, Upstream};

impl Section for Upstream {
    const KIND: Kind = Kind::Upstream;
    type Wire = pb::Upstream;

    fn to_wire(&self) -> pb::Upstream {
        let Self {
            origin,
            source,
            balance,
            path_prefix,
            authority,
            connect_ms,
            pool_size,
            pool_idle_ms,
        } = self;
        let (service, endpoints) = match source {
            EndpointSource::Service(service) => (Some(service.clone()), Vec::new()),
            EndpointSource::Static(list) => (None, list.iter().map(endpoint_to_wire).collect()),
        };
        pb::Upstream {
            origin: origin_to_wire(origin),
            service,
            endpoints,
            balance: match balance {
                BalancePolicy::RoundRobin => pb::upstream::Balance::RoundRobin,
                BalancePolicy::Weighted => pb::upstream::Balance::Weighted,
            }
            .into(),
            path_prefix: path_prefix.clone(),
            authority: authority.clone(),
            connect_ms: *connect_ms,
            pool_size: *pool_size,
            pool_idle_ms: *pool_idle_ms,
        }
    }

    fn from_wire(w: pb::Upstream) -> Result<Self, InvalidResource> {
        let balance = match w.balance() {
            pb::upstream::Balance::RoundRobin => BalancePolicy::RoundRobin,
            pb::upstream::Balance::Weighted => BalancePolicy::Weighted,
            pb::upstream::Balance::Unspecified => {
                return Err(InvalidResource::new(
                    "balance",
                    "is unknown to this data plane",
                ));
            }
        };
        let source = match w.service {
            Some(service) => EndpointSource::Service(service),
            None => EndpointSource::Static(
                w.endpoints
                    .into_iter()
                    .map(endpoint_from_wire)
                    .collect::<Result<_, _>>()?,
            ),
        };
        Ok(Self {
            origin: origin_from_wire(w.origin)?,
            source,
            balance,
            path_prefix: w.path_prefix,
            authority: w.authority,
            connect_ms: w.connect_ms,
            pool_size: w.pool_size,
            pool_idle_ms: w.pool_idle_ms,
        })
    }
}

fn endpoint_to_wire(e: &StaticEndpoint) -> pb::StaticEndpoint {
    pb::StaticEndpoint {
        host: e.host.clone(),
        port: u32::from(e.port),
        weight: e.weight,
    }
}

fn endpoint_from_wire(e: pb::StaticEndpoint) -> Result<StaticEndpoint, InvalidResource> {
    Ok(StaticEndpoint {
        host: e.host,
        port: port(e.port, "endpoints.port")?,
        weight: e.weight,
    })
}

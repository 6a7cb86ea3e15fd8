use super::health::{
    breaker_from_wire, breaker_to_wire, concurrency_from_wire, concurrency_to_wire,
    health_from_wire, health_to_wire,
};
use super::{
    InvalidResource, Kind, Section, origin_from_wire, origin_to_wire, port, required,
    tls_version_from_wire, tls_version_to_wire,
};
use crate::pb;
use model::{
    Balance, BalancePolicy, Connection, ConsistentHash, CredentialHeader, Discovery,
    DiscoverySource, DnsSource, EndpointSource, HashSource, HashTable, HttpSource, ProxyProtocol,
    Secret, StaticEndpoint, Upstream, UpstreamProtocol, UpstreamTls,
};

impl Section for Upstream {
    const KIND: Kind = Kind::Upstream;
    type Wire = pb::Upstream;

    fn to_wire(&self) -> pb::Upstream {
        let Self {
            origin,
            source,
            protocol,
            tls,
            balance,
            health,
            circuit_breaker,
            concurrency,
            credentials,
            path_prefix,
            authority,
            connect_ms,
            connection,
        } = self;
        use pb::upstream::{Protocol, Source};
        let (source, endpoints) = match source {
            EndpointSource::Service(service) => (Source::Service(service.clone()), Vec::new()),
            EndpointSource::Dns(dns) => (Source::Dns(dns_to_wire(dns)), Vec::new()),
            EndpointSource::Discovery(discovery) => {
                (Source::Discovery(discovery_to_wire(discovery)), Vec::new())
            }
            EndpointSource::Static(list) => (
                Source::Static(true),
                list.iter().map(endpoint_to_wire).collect(),
            ),
        };
        pb::Upstream {
            origin: origin_to_wire(origin),
            source: Some(source),
            endpoints,
            protocol: match protocol {
                UpstreamProtocol::Auto => Protocol::Auto,
                UpstreamProtocol::H1 => Protocol::H1,
                UpstreamProtocol::H2 => Protocol::H2,
                UpstreamProtocol::H2C => Protocol::H2c,
            }
            .into(),
            tls: tls.as_ref().map(tls_to_wire),
            balance: Some(balance_to_wire(balance)),
            health: Some(health_to_wire(health)),
            circuit_breaker: circuit_breaker.map(breaker_to_wire),
            concurrency: concurrency.map(concurrency_to_wire),
            credentials: credentials.iter().map(credential_to_wire).collect(),
            path_prefix: path_prefix.clone(),
            authority: authority.clone(),
            connect_ms: *connect_ms,
            connection: Some(connection_to_wire(connection)),
        }
    }

    fn from_wire(w: pb::Upstream) -> Result<Self, InvalidResource> {
        use pb::upstream::{Protocol, Source};
        let protocol = match Protocol::try_from(w.protocol) {
            Ok(Protocol::Auto) => UpstreamProtocol::Auto,
            Ok(Protocol::H1) => UpstreamProtocol::H1,
            Ok(Protocol::H2) => UpstreamProtocol::H2,
            Ok(Protocol::H2c) => UpstreamProtocol::H2C,
            Err(_) => return Err(unknown("protocol")),
        };
        let source = match required(w.source, "source")? {
            Source::Service(service) => EndpointSource::Service(service),
            Source::Dns(dns) => EndpointSource::Dns(dns_from_wire(dns)?),
            Source::Discovery(w) => EndpointSource::Discovery(discovery_from_wire(w)?),
            Source::Static(_) => EndpointSource::Static(
                w.endpoints
                    .into_iter()
                    .map(endpoint_from_wire)
                    .collect::<Result<_, _>>()?,
            ),
        };
        Ok(Self {
            origin: origin_from_wire(w.origin)?,
            source,
            protocol,
            tls: w.tls.map(tls_from_wire).transpose()?,
            balance: balance_from_wire(required(w.balance, "balance")?)?,
            health: health_from_wire(required(w.health, "health")?)?,
            circuit_breaker: w.circuit_breaker.map(breaker_from_wire),
            concurrency: w.concurrency.map(concurrency_from_wire),
            credentials: w
                .credentials
                .into_iter()
                .map(credential_from_wire)
                .collect(),
            path_prefix: w.path_prefix,
            authority: w.authority,
            connect_ms: w.connect_ms,
            connection: connection_from_wire(required(w.connection, "connection")?)?,
        })
    }
}

fn unknown(field: &'static str) -> InvalidResource {
    InvalidResource::new(field, "is unknown to this data plane")
}

fn endpoint_to_wire(e: &StaticEndpoint) -> pb::StaticEndpoint {
    pb::StaticEndpoint {
        host: e.host.clone(),
        port: u32::from(e.port),
        weight: e.weight,
        zone: e.zone.clone(),
    }
}

fn endpoint_from_wire(e: pb::StaticEndpoint) -> Result<StaticEndpoint, InvalidResource> {
    Ok(StaticEndpoint {
        host: e.host,
        port: port(e.port, "endpoints.port")?,
        weight: e.weight,
        zone: e.zone,
    })
}

fn dns_to_wire(dns: &DnsSource) -> pb::DnsSource {
    let DnsSource {
        hostname,
        port,
        refresh_ms,
        respect_ttl,
    } = dns;
    pb::DnsSource {
        hostname: hostname.clone(),
        port: u32::from(*port),
        refresh_ms: *refresh_ms,
        respect_ttl: *respect_ttl,
    }
}

fn dns_from_wire(w: pb::DnsSource) -> Result<DnsSource, InvalidResource> {
    Ok(DnsSource {
        hostname: w.hostname,
        port: port(w.port, "dns.port")?,
        refresh_ms: w.refresh_ms,
        respect_ttl: w.respect_ttl,
    })
}

fn discovery_to_wire(discovery: &Discovery) -> pb::Discovery {
    use pb::discovery_source::Source;
    let Discovery {
        first_available,
        sources,
        filter,
    } = discovery;
    let source = |source: &DiscoverySource| match source {
        DiscoverySource::Http(HttpSource {
            url,
            path,
            refresh_ms,
        }) => Source::Http(pb::HttpSource {
            url: url.clone(),
            path: path.clone(),
            refresh_ms: *refresh_ms,
        }),
        DiscoverySource::Dns(dns) => Source::Dns(dns_to_wire(dns)),
        DiscoverySource::Service(service) => Source::Service(service.clone()),
        DiscoverySource::Static(list) => Source::Static(pb::StaticEndpoints {
            endpoints: list.iter().map(endpoint_to_wire).collect(),
        }),
    };
    let sources = sources.iter().map(|s| pb::DiscoverySource {
        source: Some(source(s)),
    });
    pb::Discovery {
        first_available: *first_available,
        sources: sources.collect(),
        filter: filter.clone(),
    }
}

fn discovery_from_wire(w: pb::Discovery) -> Result<Discovery, InvalidResource> {
    use pb::discovery_source::Source;
    let source = |w: pb::DiscoverySource| {
        Ok(match required(w.source, "discovery.source")? {
            Source::Http(http) => DiscoverySource::Http(HttpSource {
                url: http.url,
                path: http.path,
                refresh_ms: http.refresh_ms,
            }),
            Source::Dns(dns) => DiscoverySource::Dns(dns_from_wire(dns)?),
            Source::Service(service) => DiscoverySource::Service(service),
            Source::Static(list) => {
                let list = list.endpoints.into_iter().map(endpoint_from_wire);
                DiscoverySource::Static(list.collect::<Result<_, _>>()?)
            }
        })
    };
    Ok(Discovery {
        first_available: w.first_available,
        sources: w
            .sources
            .into_iter()
            .map(source)
            .collect::<Result<_, _>>()?,
        filter: w.filter,
    })
}

fn connection_to_wire(connection: &Connection) -> pb::Connection {
    use pb::connection::ProxyProtocol as W;
    let Connection {
        pool_size,
        pool_idle_ms,
        max_streams,
        tcp_keepalive_ms,
        proxy_protocol,
    } = *connection;
    pb::Connection {
        pool_size,
        pool_idle_ms,
        max_streams,
        tcp_keepalive_ms,
        proxy_protocol: match proxy_protocol {
            None => W::None,
            Some(ProxyProtocol::V1) => W::V1,
            Some(ProxyProtocol::V2) => W::V2,
        }
        .into(),
    }
}

fn connection_from_wire(w: pb::Connection) -> Result<Connection, InvalidResource> {
    use pb::connection::ProxyProtocol as W;
    Ok(Connection {
        proxy_protocol: match W::try_from(w.proxy_protocol) {
            Ok(W::None) => None,
            Ok(W::V1) => Some(ProxyProtocol::V1),
            Ok(W::V2) => Some(ProxyProtocol::V2),
            Err(_) => return Err(unknown("connection.proxyProtocol")),
        },
        pool_size: w.pool_size,
        pool_idle_ms: w.pool_idle_ms,
        max_streams: w.max_streams,
        tcp_keepalive_ms: w.tcp_keepalive_ms,
    })
}

pub(super) fn credential_from_wire(w: pb::CredentialHeader) -> CredentialHeader {
    CredentialHeader {
        name: w.name,
        value: Secret::new(w.value),
    }
}

pub(super) fn credential_to_wire(c: &CredentialHeader) -> pb::CredentialHeader {
    pb::CredentialHeader {
        name: c.name.clone(),
        value: c.value.reveal().to_vec(),
    }
}

fn tls_to_wire(tls: &UpstreamTls) -> pb::UpstreamTls {
    let UpstreamTls {
        sni,
        authorities,
        client_certificate,
        subject_alt_names,
        insecure,
        min_version,
    } = tls.clone();
    pb::UpstreamTls {
        sni,
        authorities,
        client_certificate,
        subject_alt_names,
        insecure,
        min_version: tls_version_to_wire(min_version),
    }
}

fn tls_from_wire(w: pb::UpstreamTls) -> Result<UpstreamTls, InvalidResource> {
    Ok(UpstreamTls {
        sni: w.sni,
        authorities: w.authorities,
        client_certificate: w.client_certificate,
        subject_alt_names: w.subject_alt_names,
        insecure: w.insecure,
        min_version: tls_version_from_wire(w.min_version, "tls.minVersion")?,
    })
}

fn balance_to_wire(balance: &Balance) -> pb::Balance {
    use pb::balance::Policy;
    let Balance {
        policy,
        hash,
        slow_start_ms,
        prefer_zone,
    } = balance;
    pb::Balance {
        policy: match policy {
            BalancePolicy::RoundRobin => Policy::RoundRobin,
            BalancePolicy::Weighted => Policy::Weighted,
            BalancePolicy::LeastRequest => Policy::LeastRequest,
            BalancePolicy::Random => Policy::Random,
            BalancePolicy::P2C => Policy::P2c,
            BalancePolicy::ConsistentHash => Policy::ConsistentHash,
        }
        .into(),
        hash: hash.as_ref().map(hash_to_wire),
        slow_start_ms: *slow_start_ms,
        prefer_zone: *prefer_zone,
    }
}

fn balance_from_wire(w: pb::Balance) -> Result<Balance, InvalidResource> {
    use pb::balance::Policy;
    let policy = match w.policy() {
        Policy::RoundRobin => BalancePolicy::RoundRobin,
        Policy::Weighted => BalancePolicy::Weighted,
        Policy::LeastRequest => BalancePolicy::LeastRequest,
        Policy::Random => BalancePolicy::Random,
        Policy::P2c => BalancePolicy::P2C,
        Policy::ConsistentHash => BalancePolicy::ConsistentHash,
        Policy::Unspecified => return Err(unknown("balance")),
    };
    if (policy == BalancePolicy::ConsistentHash) != w.hash.is_some() {
        let reason = "is given with policy ConsistentHash, and only then";
        return Err(InvalidResource::new("balance.hash", reason));
    }
    Ok(Balance {
        policy,
        hash: w.hash.map(hash_from_wire).transpose()?,
        slow_start_ms: w.slow_start_ms,
        prefer_zone: w.prefer_zone,
    })
}

fn hash_to_wire(hash: &ConsistentHash) -> pb::ConsistentHash {
    use pb::consistent_hash::Source;
    pb::ConsistentHash {
        source: Some(match hash.source.clone() {
            HashSource::Path => Source::Path(true),
            HashSource::ClientIp => Source::ClientIp(true),
            HashSource::Header(name) => Source::Header(name),
            HashSource::Cookie(name) => Source::Cookie(name),
            HashSource::Query(name) => Source::Query(name),
        }),
        ring: hash.table == HashTable::Ring,
        bounded_load_percent: hash.bounded_load_percent,
    }
}

fn hash_from_wire(w: pb::ConsistentHash) -> Result<ConsistentHash, InvalidResource> {
    use pb::consistent_hash::Source;
    Ok(ConsistentHash {
        source: match required(w.source, "balance.hash.source")? {
            Source::Path(_) => HashSource::Path,
            Source::ClientIp(_) => HashSource::ClientIp,
            Source::Header(name) => HashSource::Header(name),
            Source::Cookie(name) => HashSource::Cookie(name),
            Source::Query(name) => HashSource::Query(name),
        },
        table: if w.ring {
            HashTable::Ring
        } else {
            HashTable::Maglev
        },
        bounded_load_percent: w.bounded_load_percent,
    })
}

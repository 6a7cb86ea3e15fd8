//! Questions to the name servers of the system's configuration. Nothing is cached: when to ask again is decided by
//! [`super::memory`].

use super::memory::Answer;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use parking_lot::Mutex;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// One lookup, with all the names of the search list, all servers and repetitions.
const LONGEST: Duration = Duration::from_secs(15);
/// The system's configuration is read again when lookups fail, but not more often.
const REREAD: Duration = Duration::from_secs(30);

pub(super) struct Lookup {
    /// None: those of the system's configuration.
    servers: Box<[SocketAddr]>,
    /// And when it was made.
    known: Mutex<Option<(TokioResolver, Instant)>>,
}

impl Lookup {
    /// Asks these servers, and tries no names of a search list; none: those that the system's configuration names.
    pub(super) fn of(servers: &[SocketAddr]) -> Self {
        Self {
            servers: servers.into(),
            known: Mutex::new(None),
        }
    }

    /// Addresses of both families. `pinned`: the name that has answered before, which is asked for alone; otherwise
    /// names of the search list are tried.
    pub(super) async fn both(&self, name: &str, pinned: &mut Option<Name>) -> (Answer, Answer) {
        let resolver = match self.resolver() {
            Ok(resolver) => resolver,
            Err(error) => {
                let failed = Answer::Failed(error);
                return (failed.clone(), failed);
            }
        };
        let question = match pinned {
            Some(name) => Ok(name.clone()),
            None => Name::from_utf8(name),
        };
        let question = match question {
            Ok(question) => question,
            Err(e) => {
                let failed = Answer::Failed(e.to_string());
                return (failed.clone(), failed);
            }
        };
        let (v4, v6) = tokio::join!(
            one(&resolver, question.clone(), RecordType::A),
            one(&resolver, question, RecordType::AAAA),
        );
        let (v4, v4_name) = v4;
        let (v6, v6_name) = v6;
        if pinned.is_none() {
            *pinned = v4_name.or(v6_name);
        }
        if matches!((&v4, &v6), (Answer::Failed(_), Answer::Failed(_))) {
            self.forget();
        }
        (v4, v6)
    }

    fn resolver(&self) -> Result<TokioResolver, String> {
        let mut known = self.known.lock();
        if let Some((resolver, _)) = &*known {
            return Ok(resolver.clone());
        }
        let made = match &*self.servers {
            [] => system(),
            servers => given(servers),
        };
        let resolver = made.map_err(|e| e.to_string())?;
        *known = Some((resolver.clone(), Instant::now()));
        Ok(resolver)
    }

    /// Perhaps the servers have changed.
    fn forget(&self) {
        self.known
            .lock()
            .take_if(|(_, made)| made.elapsed() > REREAD);
    }
}

fn system() -> Result<TokioResolver, NetError> {
    let mut builder = TokioResolver::builder_tokio()?;
    builder.options_mut().cache_size = 0;
    builder.build()
}

fn given(servers: &[SocketAddr]) -> Result<TokioResolver, NetError> {
    let server = |address: &SocketAddr| {
        let mut by = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
        for connection in &mut by {
            connection.port = address.port();
        }
        NameServerConfig::new(address.ip(), true, by.into())
    };
    let config = ResolverConfig::from_name_servers(servers.iter().map(server).collect());
    let provider = TokioRuntimeProvider::default();
    let mut builder = TokioResolver::builder_with_config(config, provider);
    builder.options_mut().cache_size = 0;
    builder.build()
}

/// The answer, and the name under which it came where there is one.
async fn one(resolver: &TokioResolver, name: Name, family: RecordType) -> (Answer, Option<Name>) {
    let found = match tokio::time::timeout(LONGEST, resolver.lookup(name, family)).await {
        Ok(Ok(found)) => found,
        Ok(Err(e)) if e.is_no_records_found() => return (Answer::Nothing, None),
        Ok(Err(e)) => return (Answer::Failed(e.to_string()), None),
        Err(_) => return (Answer::Failed("no answer in time".into()), None),
    };
    let records = found.answers();
    let addresses: Vec<IpAddr> = records
        .iter()
        .filter_map(|record| match &record.data {
            RData::A(a) => Some(a.0.into()),
            RData::AAAA(a) => Some(a.0.into()),
            _ => None,
        })
        .collect();
    if addresses.is_empty() {
        return (Answer::Nothing, None);
    }
    let ttl = records.iter().map(|r| r.ttl).min().unwrap_or(0);
    let answer = Answer::Addresses(addresses, Duration::from_secs(ttl.into()));
    (answer, Some(found.query().name().clone()))
}

#[cfg(test)]
impl Lookup {
    pub(super) fn with(resolver: TokioResolver) -> Self {
        Self {
            servers: Box::default(),
            known: Mutex::new(Some((resolver, Instant::now()))),
        }
    }
}

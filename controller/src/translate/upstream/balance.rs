//! How an endpoint is chosen.

use super::super::lowering::Lowering;
use crate::report::Reason;
use crds::{LbPolicy, LoadBalancing, ZonePolicy};
use model::headers::is_token;
use model::{Balance, BalancePolicy, ConsistentHash, HashSource, HashTable};

const FIELD: &str = "spec.lb";

impl Lowering<'_> {
    pub(super) fn balance(&mut self, lb: &LoadBalancing) -> Balance {
        let mut balance = Balance {
            prefer_zone: lb.zone == Some(ZonePolicy::Prefer),
            ..Balance::default()
        };
        if let Some(slow_start) = &lb.slow_start {
            let millis = self.millis(&format!("{FIELD}.slowStart"), slow_start);
            balance.slow_start_ms = millis.unwrap_or(0);
        }
        balance.policy = match lb.policy.unwrap_or(LbPolicy::RoundRobin) {
            LbPolicy::RoundRobin => BalancePolicy::RoundRobin,
            LbPolicy::Weighted => BalancePolicy::Weighted,
            LbPolicy::LeastRequest => BalancePolicy::LeastRequest,
            LbPolicy::Random => BalancePolicy::Random,
            LbPolicy::P2C => BalancePolicy::P2C,
            LbPolicy::ConsistentHash => {
                balance.hash = self.consistent_hash(lb);
                match balance.hash {
                    Some(_) => BalancePolicy::ConsistentHash,
                    None => BalancePolicy::RoundRobin,
                }
            }
            other @ (LbPolicy::Predictive | LbPolicy::Inference) => {
                let message = format!("{other:?} is not built yet: endpoints are taken in turn");
                self.warn(format!("{FIELD}.policy"), Reason::NotBuilt, message);
                BalancePolicy::RoundRobin
            }
        };
        balance
    }

    fn consistent_hash(&mut self, lb: &LoadBalancing) -> Option<ConsistentHash> {
        let field = format!("{FIELD}.consistentHash");
        let Some(hash) = &lb.consistent_hash else {
            let message = "must be given when policy is ConsistentHash";
            self.error(field, Reason::Invalid, message);
            return None;
        };
        let source = self.hash_source(&field, hash);
        let bounded_load_percent = match hash.bounded_load_percent {
            Some(percent) => {
                let at = format!("{field}.boundedLoadPercent");
                self.in_range(&at, u32::from(percent), 101, 1000)
            }
            None => Some(0),
        };
        Some(ConsistentHash {
            source: source?,
            table: match hash.table {
                Some(crds::HashTable::Ring) => HashTable::Ring,
                Some(crds::HashTable::Maglev) | None => HashTable::Maglev,
            },
            bounded_load_percent: bounded_load_percent?,
        })
    }

    fn hash_source(&mut self, field: &str, hash: &crds::ConsistentHash) -> Option<HashSource> {
        use crds::HashSource as Given;
        let at = format!("{field}.name");
        let given = hash.name.as_deref().unwrap_or_default();
        let name = |is_name: bool| match is_name {
            true => Ok(given.to_owned()),
            false if given.is_empty() => {
                Err(format!("must be given when source is {:?}", hash.source))
            }
            false => Err(format!("{given:?} is not the name of a {:?}", hash.source)),
        };
        match hash.source {
            Given::Path => Some(HashSource::Path),
            Given::ClientIP => Some(HashSource::ClientIp),
            Given::Header => {
                let name = name(is_token(given.as_bytes())).map(|n| n.to_ascii_lowercase());
                self.valid(at, name).map(HashSource::Header)
            }
            Given::Cookie => {
                let name = name(is_token(given.as_bytes()));
                self.valid(at, name).map(HashSource::Cookie)
            }
            Given::Query => {
                let name = name(!given.is_empty());
                self.valid(at, name).map(HashSource::Query)
            }
            other @ (Given::Consumer | Given::JSONField) => {
                let message = format!("{other:?} is not built yet: endpoints are taken in turn");
                self.warn(format!("{field}.source"), Reason::NotBuilt, message);
                None
            }
        }
    }
}

//! How the endpoints behind an object do at run time: the condition `BackendsHealthy` and the counts of an Upstream.
//!
//! It is what data planes find out, and no judgement of the object: it does not enter `Ready`, or a Route could not
//! become ready before what it leads to runs.

use super::{Condition, ObjectReport, Programmed, Reason};
use crate::health;
use crate::translate::Resources;
use crate::world::ObjectKind;
use model::{Action, EndpointSource, Route, Target, Upstream};
use serde_json::{Value, json};
use snapshot::health::{Opinion, Opinions};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

const TYPE: &str = "BackendsHealthy";
/// Endpoints of one upstream that a message names.
const NAMED: usize = 8;
/// Upstreams that the message of a Route names.
const UPSTREAMS: usize = 5;

/// What data planes have found out about endpoints, by group.
#[derive(Debug, Default)]
pub struct Findings(Vec<Opinions>);

impl Findings {
    pub fn of(groups: impl IntoIterator<Item = Opinions>) -> Self {
        Self(groups.into_iter().collect())
    }

    /// Endpoints of an upstream that get no requests, and why.
    fn unhealthy(&self, key: &str) -> BTreeMap<SocketAddr, Opinion> {
        let all = self.0.iter().filter_map(|group| group.of(key)).flatten();
        all.filter(|(_, opinion)| **opinion != Opinion::PassesChecks)
            .map(|(addr, opinion)| (*addr, *opinion))
            .collect()
    }

    /// Adds what is known to the status of an Upstream or a Route. Where no data plane serves it nothing is known.
    pub fn add_to(
        &self,
        status: &mut Value,
        report: &ObjectReport,
        programmed: &Programmed,
        resources: &Resources,
    ) {
        if matches!(
            programmed,
            Programmed::NoDataPlane | Programmed::Unused | Programmed::Unknown
        ) {
            return;
        }
        let verdict = match report.id.kind {
            ObjectKind::Upstream => {
                let key = format!("Upstream/{}", report.id.path());
                let Some(one) = self.one(&key, resources) else {
                    return;
                };
                if let Some(counts) = &one.counts {
                    status["endpoints"] = counts.json();
                }
                one.verdict
            }
            ObjectKind::Route => match self.route(&report.id.path(), resources) {
                Some(verdict) => verdict,
                None => return,
            },
            _ => return,
        };
        let condition = match verdict {
            Ok(()) => condition(report, "True", TYPE, String::new()),
            Err((reason, message)) => condition(report, "False", reason.as_str(), message),
        };
        if let Some(list) = status.get_mut("conditions").and_then(Value::as_array_mut) {
            list.push(json!(condition));
        }
    }

    fn one(&self, key: &str, resources: &Resources) -> Option<One> {
        let upstream = resources.get::<Upstream>(key)?;
        let unhealthy = self.unhealthy(key);
        let counts = endpoints(&upstream.source, resources).map(|endpoints| Counts {
            total: endpoints.len(),
            ready: endpoints.values().filter(|ready| **ready).count(),
            unhealthy: unhealthy
                .keys()
                .filter(|addr| endpoints.get(addr).is_some_and(|ready| *ready))
                .count(),
        });
        let verdict = if counts.as_ref().is_some_and(|counts| counts.ready == 0) {
            Err((Reason::NoEndpoints, "no endpoint is ready".to_owned()))
        } else if unhealthy.is_empty() {
            Ok(())
        } else {
            let (one, of) = (unhealthy.len() == 1, counts.as_ref().map(|c| c.ready));
            let of = of.map_or_else(String::new, |of| format!("of {of} "));
            let mut named: Vec<String> = unhealthy
                .iter()
                .take(NAMED)
                .map(|(addr, opinion)| format!("{addr} ({})", health::reason(*opinion)))
                .collect();
            if unhealthy.len() > NAMED {
                named.push(format!("and {} more", unhealthy.len() - NAMED));
            }
            let endpoints = match one && of.is_empty() {
                true => "endpoint",
                false => "endpoints",
            };
            let work = if one { "does" } else { "do" };
            let message = format!(
                "{} {of}{endpoints} {work} not work: {}",
                unhealthy.len(),
                named.join(", ")
            );
            Err((Reason::EndpointsUnhealthy, message))
        };
        Some(One { counts, verdict })
    }

    /// `None`: it sends requests nowhere.
    fn route(&self, key: &str, resources: &Resources) -> Option<Verdict> {
        let mut troubles = Vec::new();
        let mut any = false;
        for key in upstreams_of(key, resources) {
            let Some(one) = self.one(&key, resources) else {
                continue;
            };
            any = true;
            if let Err((reason, message)) = one.verdict {
                troubles.push((reason, format!("{key}: {message}")));
            }
        }
        let Some((reason, _)) = troubles.first() else {
            return any.then_some(Ok(()));
        };
        let reason = *reason;
        let more = troubles.len().saturating_sub(UPSTREAMS);
        let mut messages: Vec<String> = troubles
            .into_iter()
            .take(UPSTREAMS)
            .map(|(_, message)| message)
            .collect();
        if more > 0 {
            messages.push(format!("and {more} more"));
        }
        Some(Err((reason, messages.join("; "))))
    }
}

type Verdict = Result<(), (Reason, String)>;

/// One upstream.
struct One {
    /// `None`: only data planes know which there are.
    counts: Option<Counts>,
    verdict: Verdict,
}

struct Counts {
    total: usize,
    ready: usize,
    unhealthy: usize,
}

impl Counts {
    fn json(&self) -> Value {
        json!({
            "total": self.total,
            "ready": self.ready,
            "healthy": self.ready - self.unhealthy,
        })
    }
}

fn condition(
    report: &ObjectReport,
    status: &'static str,
    reason: &'static str,
    message: String,
) -> Condition {
    Condition {
        type_: TYPE,
        status,
        reason,
        message: super::limit(message),
        observed_generation: report.generation,
    }
}

/// Upstreams that a Route sends requests to.
pub fn upstreams_of(route: &str, resources: &Resources) -> BTreeSet<String> {
    let rules = resources.get::<Route>(route).into_iter();
    let rules = rules.flat_map(|route| route.rules);
    let backends = rules.flat_map(|rule| match rule.action {
        Action::Forward(backends) => backends,
        _ => Vec::new(),
    });
    backends
        .filter_map(|backend| match backend.target {
            Target::Upstream(key) => Some(key),
            Target::Unresolved(_) => None,
        })
        .collect()
}

/// Endpoints and whether they are ready, where objects say so.
fn endpoints(source: &EndpointSource, resources: &Resources) -> Option<BTreeMap<SocketAddr, bool>> {
    match source {
        EndpointSource::Static(list) => {
            let address = |host: &str| host.parse::<IpAddr>().ok();
            let one = |e: &model::StaticEndpoint| {
                Some((SocketAddr::new(address(&e.host)?, e.port), true))
            };
            list.iter().map(one).collect()
        }
        EndpointSource::Service(service) => {
            let mut all = BTreeMap::new();
            for e in resources.shards(service).flat_map(|shard| shard.endpoints) {
                *all.entry(SocketAddr::new(e.address, e.port)).or_default() |= e.ready;
            }
            Some(all)
        }
        EndpointSource::Dns(_) | EndpointSource::Discovery(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::ObjectId;
    use model::{Backend, Match, Model, ObjectRef, Rule, StaticEndpoint};

    fn addr(n: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], n))
    }

    fn model(ports: std::ops::RangeInclusive<u16>) -> Model {
        let endpoints = ports.map(|port| StaticEndpoint {
            host: "10.0.0.1".into(),
            port,
            weight: 1,
            zone: None,
        });
        let origin = ObjectRef::new("Upstream", "a", "pool");
        let source = EndpointSource::Static(endpoints.collect());
        let mut model = Model::default();
        let upstream = Upstream::new(origin, source);
        model.upstreams.insert("Upstream/a/pool".into(), upstream);
        let target = Target::Upstream("Upstream/a/pool".into());
        let action = Action::Forward(vec![Backend::new(target)]);
        let route = Route {
            origin: ObjectRef::new("Route", "a", "web"),
            created: 0,
            tenant: None,
            listeners: Vec::new(),
            hosts: Vec::new(),
            rules: vec![Rule::new(vec![Match::any()], action)],
        };
        model.routes.insert("a/web".into(), route);
        model
    }

    fn findings(ports: &[u16]) -> Findings {
        let mut opinions = Opinions::default();
        for port in ports {
            opinions.insert(&"Upstream/a/pool".into(), addr(*port), Opinion::FailsChecks);
        }
        opinions.insert(
            &"Upstream/a/pool".into(),
            addr(60_000),
            Opinion::PassesChecks,
        );
        Findings::of([opinions, Opinions::default()])
    }

    fn status(kind: ObjectKind, name: &str, findings: &Findings, model: &Model) -> Value {
        let report = ObjectReport::new(ObjectId::new(kind, "a", name), 7, Vec::new());
        let resources = Resources::of(model);
        let mut status = json!({"conditions": []});
        findings.add_to(&mut status, &report, &Programmed::NoDataPlane, &resources);
        assert_eq!(status, json!({"conditions": []}), "nobody knows");
        findings.add_to(&mut status, &report, &Programmed::Yes, &resources);
        status
    }

    #[test]
    fn an_endpoint_that_does_not_work_is_named_at_its_upstream_and_at_routes_to_it() {
        let model = model(1..=3);
        let well = status(ObjectKind::Upstream, "pool", &findings(&[]), &model);
        let condition = |status: &str, reason: &str, message: &str| json!([{"type": TYPE, "status": status, "reason": reason, "message": message, "observedGeneration": 7}]);
        assert_eq!(well["conditions"], condition("True", TYPE, ""));
        assert_eq!(
            well["endpoints"],
            json!({"total": 3, "ready": 3, "healthy": 3})
        );
        let one = status(ObjectKind::Upstream, "pool", &findings(&[2]), &model);
        let message = "1 of 3 endpoints does not work: 10.0.0.1:2 (active_check)";
        assert_eq!(
            one["conditions"],
            condition("False", "EndpointsUnhealthy", message)
        );
        assert_eq!(
            one["endpoints"],
            json!({"total": 3, "ready": 3, "healthy": 2})
        );
        let route = status(ObjectKind::Route, "web", &findings(&[2]), &model);
        let message = format!("Upstream/a/pool: {message}");
        assert_eq!(
            route["conditions"],
            condition("False", "EndpointsUnhealthy", &message)
        );
        let other = status(ObjectKind::Plugin, "pool", &findings(&[2]), &model);
        assert_eq!(other, json!({"conditions": []}));
    }

    #[test]
    fn messages_have_a_bound_and_no_endpoint_is_said() {
        let all: Vec<u16> = (1..=500).collect();
        let many = status(
            ObjectKind::Upstream,
            "pool",
            &findings(&all),
            &model(1..=500),
        );
        let message = many["conditions"][0]["message"].as_str().unwrap();
        assert!(
            message.starts_with("500 of 500 endpoints do not work: 10.0.0.1:1 "),
            "{message}"
        );
        assert!(message.ends_with(", and 492 more"), "{message}");
        let mut none = model(1..=1);
        none.upstreams.get_mut("Upstream/a/pool").unwrap().source =
            EndpointSource::Service("a/web:80".into());
        let none = status(ObjectKind::Upstream, "pool", &findings(&[]), &none);
        assert_eq!(none["conditions"][0]["reason"], "NoEndpoints");
        assert_eq!(
            none["endpoints"],
            json!({"total": 0, "ready": 0, "healthy": 0})
        );
    }
}

//! Claims of Routes on a host and a match at a listener: of equal ones the older serves.
//!
//! The table of the data plane sorts equal matches by age too, so a conflict changes no resource; it only has to be
//! said. The index therefore holds hashes, not matches.

use crate::report::{Problem, Reason, Severity};
use crate::world::{ObjectId, ObjectKind};
use model::Route;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// One match of a Route for one of its hosts at one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    key: u128,
    host: String,
    claimant: Claimant,
    /// Where it stands, in an object whose rules are not those of a Route.
    field: Option<Arc<str>>,
}

/// What is lost: where it stands in an object that is no Route, rule and match.
type What = (Option<Arc<str>>, usize, usize);

/// Who wins a match, and for which hosts.
type Lost<'a> = (Arc<str>, BTreeSet<&'a str>);

/// Smaller is older and serves. The order is that of `model::Rank`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Claimant {
    created: i64,
    /// Key of its resource.
    route: Arc<str>,
    rule: usize,
    matched: usize,
}

impl Claimant {
    /// Older than any.
    fn first() -> Self {
        Self {
            created: i64::MIN,
            route: Arc::default(),
            rule: 0,
            matched: 0,
        }
    }
}

/// All claims of a Route. `key`: of its resource; `places`: where its rules stand in the spec; `field_of`: what the place is
/// called, where that is no Route's.
pub(super) fn claims(
    key: &str,
    route: &Route,
    places: &[usize],
    field_of: impl Fn(usize) -> Option<Arc<str>>,
) -> Vec<Claim> {
    let name: Arc<str> = key.into();
    let mut claims = Vec::new();
    for (rule, place) in route.rules.iter().zip(places) {
        for (matched, m) in rule.matches.iter().enumerate() {
            // Predicates are a set: their order means nothing.
            let (headers, query) = (set(&m.headers), set(&m.query));
            let (cookies, clients) = (set(&m.cookies), set(&m.clients));
            let what = format!(
                "{} {:?} {:?} {headers:?} {query:?} {cookies:?} {clients:?}",
                rule.precedence, m.path, m.methods
            );
            for listener in &route.listeners {
                for host in &route.hosts {
                    let hash = snapshot::Hash::of(format!("{listener}\n{host}\n{what}").as_bytes());
                    claims.push(Claim {
                        key: u128::from_be_bytes(hash.0),
                        host: host.to_string(),
                        claimant: Claimant {
                            created: route.created,
                            route: Arc::clone(&name),
                            rule: *place,
                            matched,
                        },
                        field: field_of(*place),
                    });
                }
            }
        }
    }
    claims
}

fn set(list: &[impl std::fmt::Debug]) -> BTreeSet<String> {
    list.iter().map(|one| format!("{one:?}")).collect()
}

/// How many of a Route's claims the index has: of equal ones, one.
pub(super) fn distinct(claims: &[Claim]) -> usize {
    let all = claims.iter().map(|claim| (claim.key, &claim.claimant));
    all.collect::<BTreeSet<_>>().len()
}

/// Who claims what.
#[derive(Debug, Default)]
pub(super) struct Index {
    claimants: BTreeSet<(u128, Claimant)>,
}

impl Index {
    /// Replaces the claims of one Route. Gives the Routes whose conflicts may be others now.
    pub(super) fn replace(&mut self, old: &[Claim], new: &[Claim]) -> BTreeSet<Arc<str>> {
        let mut concerned = BTreeSet::new();
        if old == new {
            return concerned;
        }
        for Claim { key, claimant, .. } in old {
            self.claimants.remove(&(*key, claimant.clone()));
            concerned.extend(self.of(*key).map(|c| Arc::clone(&c.route)));
        }
        for Claim { key, claimant, .. } in new {
            self.claimants.insert((*key, claimant.clone()));
            concerned.extend(self.of(*key).map(|c| Arc::clone(&c.route)));
        }
        concerned
    }

    /// Number of claims.
    pub(super) fn len(&self) -> usize {
        self.claimants.len()
    }

    /// Who claims the same, the oldest first.
    fn of(&self, key: u128) -> impl Iterator<Item = &Claimant> {
        let all = self.claimants.range((key, Claimant::first())..);
        let same = all.take_while(move |(other, _)| *other == key);
        same.map(|(_, claimant)| claimant)
    }

    /// The same of a version that is not among the claimants, with regard to other Routes alone.
    pub(super) fn lost_to_others(&self, id: &ObjectId, claims: &[Claim]) -> Vec<Problem> {
        let first = |claim: &Claim| self.of(claim.key).next();
        let lost = claims.iter().filter(|claim| {
            let to_other = |c: &Claimant| c.route != claim.claimant.route && *c < claim.claimant;
            first(claim).is_some_and(to_other)
        });
        let lost: Vec<Claim> = lost.cloned().collect();
        self.problems(id, &lost)
    }

    /// What a Route has to say about claims that it loses: one problem a match.
    pub(super) fn problems(&self, id: &ObjectId, claims: &[Claim]) -> Vec<Problem> {
        // By rule and match: the winner, and the hosts.
        let mut lost: BTreeMap<What, Lost<'_>> = BTreeMap::new();
        let mut lost_to_others = 0;
        for claim in claims {
            let first = self.of(claim.key).next();
            let Some(first) = first.filter(|first| **first != claim.claimant) else {
                continue;
            };
            lost_to_others += usize::from(first.route != claim.claimant.route);
            let Claimant { rule, matched, .. } = claim.claimant;
            let place = (claim.field.clone(), rule, matched);
            let entry = lost.entry(place);
            let entry = entry.or_insert_with(|| (Arc::clone(&first.route), BTreeSet::new()));
            entry.1.insert(&claim.host);
        }
        // The Gateway API knows no Route that is not accepted because of another one.
        let all =
            lost_to_others > 0 && lost_to_others == claims.len() && id.kind == ObjectKind::Route;
        let of = |key: &str| ObjectId::of_route_key(key);
        lost.into_iter()
            .map(|((field, rule, matched), (winner, hosts))| {
                let hosts = hosts.into_iter().collect::<Vec<_>>().join(", ");
                let message = match of(&winner) {
                    Some(winner) if winner == *id => {
                        let kind = match id.kind {
                            ObjectKind::Ingress => "Ingress",
                            _ => "Route",
                        };
                        format!("an earlier match of this {kind} is the same for host {hosts}")
                    }
                    Some(winner) if winner.kind == ObjectKind::Ingress => {
                        format!("{winner} is older and has the same match for host {hosts}")
                    }
                    _ => format!("Route {winner} is older and has the same match for host {hosts}"),
                };
                let of_route = || format!("spec.rules[{rule}].matches[{matched}]");
                Problem {
                    origin: id.clone(),
                    field: field.map_or_else(of_route, |field| field.to_string()),
                    reason: Reason::Conflict,
                    severity: if all {
                        Severity::Error
                    } else {
                        Severity::Warning
                    },
                    message,
                }
            })
            .collect()
    }
}

//! Tenants: which namespaces are theirs, and which hosts. All of them together, since of two that claim the same the
//! older one has it.
//!
//! A Route of another Tenant, or of none, is neither sent nor found for hosts that somebody owns: names are taken from
//! it here; where it has a wildcard, an expression or no host at all, data planes pass it over for those hosts.

use super::gateway_config::{Gateways, selects};
use super::lowering::{Lowered, Lowering};
use super::unbuilt;
use crate::report::{Reason, Severity};
use crate::world::{Body, Meta, ObjectId, ObjectKind, Refusal, World};
use crds::refs::LabelSelector;
use crds::{Isolation, RouteSpec, TenantSpec};
use model::{HostPattern, Tenant};
use std::collections::{BTreeMap, BTreeSet};

/// What Routes need to know of all Tenants.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Tenants {
    /// Oldest first.
    all: Vec<Known>,
    /// Names of those that select a namespace, oldest first: the first has it.
    namespaces: BTreeMap<String, Vec<String>>,
    /// Names of the owners. A host is of the most specific pattern that covers it.
    hosts: BTreeMap<HostPattern, String>,
}

#[derive(Clone, Debug, PartialEq)]
struct Known {
    name: String,
    selector: Option<LabelSelector>,
    /// It asks for something about access or limits that is not built.
    closed: bool,
}

/// A version of a Tenant that is to be in effect.
pub(super) struct Candidate<'a> {
    pub id: &'a ObjectId,
    pub meta: &'a Meta,
    pub spec: &'a TenantSpec,
    /// What of the object cannot be read.
    pub unreadable: &'a [Refusal],
}

/// What Routes are to be looked at again.
#[derive(Debug, Default)]
pub(super) struct Difference {
    /// Namespaces that are another's now, or of a Tenant that is closed or no longer.
    namespaces: BTreeSet<String>,
    hosts: Vec<HostPattern>,
}

/// For what has nothing to do with them.
pub(super) static NOBODY: Tenants = Tenants {
    all: Vec::new(),
    namespaces: BTreeMap::new(),
    hosts: BTreeMap::new(),
};

impl Tenants {
    /// Name of the Tenant that a namespace is of.
    pub(super) fn of_namespace(&self, namespace: &str) -> Option<&str> {
        Some(self.namespaces.get(namespace)?.first()?)
    }

    /// Whose all hosts of a pattern are, but for those that are of a more specific one.
    fn owner(&self, pattern: &HostPattern) -> Option<&str> {
        if let Some(owner) = self.hosts.get(pattern) {
            return Some(owner);
        }
        let (HostPattern::Exact(name) | HostPattern::Wildcard(name)) = pattern else {
            return None;
        };
        let mut rest = &**name;
        while let Some((_, suffix)) = rest.split_once('.') {
            if let Some(owner) = self.hosts.get(&HostPattern::Wildcard(suffix.into())) {
                return Some(owner);
            }
            rest = suffix;
        }
        None
    }

    /// The owner of a Route's host, where it serves nothing of it.
    fn taken_from(&self, tenant: Option<&str>, host: &HostPattern) -> Option<&str> {
        let owner = self.owner(host).filter(|owner| Some(*owner) != tenant)?;
        // A wider pattern of its own says nothing: the more specific one goes before it.
        let has_some = |(pattern, name): (&HostPattern, &String)| {
            Some(name.as_str()) == tenant && host.intersect(pattern).as_ref() == Some(pattern)
        };
        (!self.hosts.iter().any(has_some)).then_some(owner)
    }

    fn is_closed(&self, name: &str) -> bool {
        self.all.iter().any(|one| one.closed && one.name == name)
    }

    fn selecting(&self, labels: &BTreeMap<String, String>) -> Vec<String> {
        let selects = |one: &&Known| one.selector.as_ref().is_some_and(|s| selects(s, labels));
        let all = self.all.iter().filter(selects);
        all.map(|one| one.name.clone()).collect()
    }

    /// Whether a namespace is another's than it was.
    pub(super) fn concerns(&self, world: &World, namespace: &ObjectId) -> bool {
        let now = match world.get(namespace).map(|object| &object.body) {
            Some(Body::Namespace(found)) => self.selecting(&found.labels),
            _ => Vec::new(),
        };
        let before = self.namespaces.get(&*namespace.name);
        before.map_or(&[][..], Vec::as_slice) != now
    }

    pub(super) fn difference(&self, before: &Self) -> Difference {
        let own = |tenants: &Self, namespace: &str| {
            let name = tenants.of_namespace(namespace)?;
            Some((name.to_owned(), tenants.is_closed(name)))
        };
        let namespaces = self.namespaces.keys().chain(before.namespaces.keys());
        let others = namespaces.filter(|n| own(self, n) != own(before, n));
        let namespaces = others.cloned().collect();
        let missing = |a: &Self, b: &Self| {
            let gone = a.hosts.iter().filter(|(p, n)| b.hosts.get(*p) != Some(n));
            gone.map(|(pattern, _)| pattern.clone()).collect::<Vec<_>>()
        };
        let mut hosts = missing(self, before);
        hosts.extend(missing(before, self));
        Difference { namespaces, hosts }
    }
}

impl Difference {
    pub(super) fn is_none(&self) -> bool {
        self.namespaces.is_empty() && self.hosts.is_empty()
    }

    /// Whether it concerns a Route with these hosts. Those of an Ingress may also stand in annotations.
    pub(super) fn concerns<'a>(
        &self,
        id: &ObjectId,
        mut hosts: impl Iterator<Item = &'a str>,
    ) -> bool {
        self.namespaces.contains(&*id.namespace)
            || !self.hosts.is_empty() && id.kind == ObjectKind::Ingress
            || !self.hosts.is_empty()
                && hosts.any(|host| {
                    let host = HostPattern::parse(host);
                    host.is_ok_and(|host| self.hosts.iter().any(|p| p.intersect(&host).is_some()))
                })
    }
}

/// All Tenants, in any order. Gives their view for Routes, and what each comes to.
pub(super) fn lower(
    around: &Lowering<'_>,
    gateways: &Gateways,
    candidates: &mut [Candidate<'_>],
) -> (Tenants, BTreeMap<ObjectId, Lowered>) {
    candidates.sort_by_key(|c| (c.meta.created, &c.id.name));
    let mut tenants = Tenants::default();
    let mut lowered: BTreeMap<ObjectId, Lowered> = BTreeMap::new();
    for candidate in &*candidates {
        let mut lowering = around.of(candidate.id, candidate.meta);
        lowering.tenant(candidate, gateways, &mut tenants);
        lowered.insert(candidate.id.clone(), lowering.out);
    }
    for object in around.world.of_kind(ObjectKind::Namespace) {
        if let Body::Namespace(namespace) = &object.body {
            let selecting = tenants.selecting(&namespace.labels);
            if !selecting.is_empty() {
                tenants
                    .namespaces
                    .insert(object.id.name.to_string(), selecting);
            }
        }
    }
    // By Tenant: the older one, and what it has.
    let mut lost: BTreeMap<&str, BTreeMap<&str, Vec<&str>>> = BTreeMap::new();
    for (namespace, selecting) in &tenants.namespaces {
        if let Some((first, others)) = selecting.split_first() {
            for other in others {
                let of_other = lost.entry(other).or_default();
                of_other.entry(first).or_default().push(namespace);
            }
        }
    }
    for candidate in &*candidates {
        let Some(out) = lowered.get_mut(candidate.id) else {
            continue;
        };
        for (winner, namespaces) in lost.remove(&*candidate.id.name).unwrap_or_default() {
            const FIELD: &str = "spec.namespaceSelector";
            let message = format!(
                "Tenant {winner} is older and has namespaces that this one selects too: {}",
                some(&namespaces)
            );
            let lowering = around.of(candidate.id, candidate.meta);
            let problem = lowering.problem(Severity::Error, FIELD, Reason::Conflict, message);
            out.problems.push(problem);
        }
    }
    (tenants, lowered)
}

/// The first few names of a list.
fn some(names: &[&str]) -> String {
    const MOST: usize = 5;
    let shown = names
        .iter()
        .take(MOST)
        .copied()
        .collect::<Vec<_>>()
        .join(", ");
    match names.len().saturating_sub(MOST) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

impl<'a> Lowering<'a> {
    /// The same for another object.
    fn of<'b>(&self, id: &'b ObjectId, meta: &'b Meta) -> Lowering<'b>
    where
        'a: 'b,
    {
        Lowering {
            id,
            meta,
            gateway: None,
            out: Lowered::default(),
            ..*self
        }
    }

    /// What can be said of a Tenant by itself.
    pub(super) fn tenant_alone(&mut self, spec: &TenantSpec) {
        let (id, meta) = (self.id, self.meta);
        let candidate = Candidate {
            id,
            meta,
            spec,
            unreadable: &[],
        };
        let mut tenants = Tenants::default();
        self.tenant(&candidate, self.gateways, &mut tenants);
        self.out.resources.clear();
    }

    /// Adds a Tenant to those that are older.
    fn tenant(&mut self, candidate: &Candidate<'_>, gateways: &Gateways, tenants: &mut Tenants) {
        let spec = candidate.spec;
        let name = &candidate.id.name.to_string();
        // What it asks for is not known: it may be about access.
        let mut closed = !candidate.unreadable.is_empty();
        for found in unbuilt::find(ObjectKind::Tenant, spec) {
            closed |= found.closes;
            self.not_built(found);
        }
        if spec.isolation == Some(Isolation::Dedicated) {
            let message =
                "Dedicated is not built yet: its Routes are served by data planes with others";
            self.warn("spec.isolation", Reason::NotBuilt, message);
        }
        let mut wanted: Vec<(String, HostPattern)> = Vec::new();
        for (i, host) in spec.hostnames.iter().enumerate() {
            let field = format!("spec.hostnames[{i}]");
            match self.valid(&*field, HostPattern::parse(host)) {
                Some(HostPattern::Any) => {
                    let message = "must be a name or a wildcard such as *.example.com";
                    self.error(field, Reason::Invalid, message);
                }
                Some(pattern) => wanted.push((field, pattern)),
                None => {}
            }
        }
        if let Some(subdomain) = &spec.subdomain {
            let bases: BTreeSet<&str> = gateways.base_domains().collect();
            if bases.is_empty() {
                let message = "no GatewayConfig has a baseDomain: it owns no host by that";
                self.warn("spec.subdomain", Reason::RefNotFound, message);
            }
            for base in bases {
                let host = HostPattern::parse(&format!("{}.{base}", &**subdomain));
                let host = self.valid("spec.subdomain", host);
                wanted.extend(host.map(|host| ("spec.subdomain".to_owned(), host)));
            }
        }
        let mut hosts = BTreeSet::new();
        for (field, host) in wanted {
            match tenants.owner(&host) {
                Some(older) if older != name => {
                    let message = format!("Tenant {older} is older and owns {host}");
                    self.error(field, Reason::Conflict, message);
                }
                _ => {
                    tenants.hosts.insert(host.clone(), name.clone());
                    hosts.insert(host);
                }
            }
        }
        tenants.all.push(Known {
            name: name.clone(),
            selector: spec.namespace_selector.clone(),
            closed,
        });
        if !hosts.is_empty() {
            let tenant = Tenant {
                origin: self.id.origin(),
                hosts: hosts.into_iter().collect(),
            };
            self.put(name.clone(), &tenant);
        }
    }

    /// The Tenant of the Route, and whether its Routes must not be served.
    pub(super) fn tenancy(&mut self) -> (Option<String>, bool) {
        let tenants = self.tenants;
        let Some(tenant) = tenants.of_namespace(&self.id.namespace) else {
            return (None, false);
        };
        let closed = tenants.is_closed(tenant);
        if closed {
            let message = format!(
                "Tenant {tenant} asks for something that is not built yet: the rules answer 500"
            );
            self.error("", Reason::NotBuilt, message);
        }
        (Some(tenant.to_owned()), closed)
    }

    /// The hosts of a Route that are not another's.
    pub(super) fn own_hosts(
        &mut self,
        spec: &RouteSpec,
        hosts: Vec<HostPattern>,
    ) -> Vec<HostPattern> {
        let tenants = self.tenants;
        let tenant = tenants.of_namespace(&self.id.namespace);
        let (taken, own): (Vec<_>, Vec<_>) = hosts
            .into_iter()
            .map(|host| (tenants.taken_from(tenant, &host), host))
            .partition(|(owner, _)| owner.is_some());
        let severity = match own.is_empty() {
            true => Severity::Error,
            false => Severity::Warning,
        };
        for (owner, host) in taken {
            let is_it = |name: &str| HostPattern::parse(name).is_ok_and(|one| one == host);
            let mut names = spec.hostnames.iter();
            let at = names.position(|name| is_it(name)).unwrap_or_default();
            let whose = match tenant {
                Some(tenant) => format!("the Route is of Tenant {tenant}"),
                None => "the Route is of none".to_owned(),
            };
            let owner = owner.unwrap_or_default();
            let message = format!("{host} belongs to Tenant {owner}, and {whose}");
            let field = format!("spec.hostnames[{at}]");
            let problem = self.problem(severity, field, Reason::HostnameNotOwned, message);
            self.out.problems.push(problem);
        }
        own.into_iter().map(|(_, host)| host).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_host_that_is_anothers_a_wider_pattern_leaves_nothing() {
        let pattern = |text: &str| HostPattern::parse(text).unwrap();
        let owned = [
            ("*.com", "wide"),
            ("*.acme.com", "acme"),
            ("old.acme.com", "wide"),
        ];
        let tenants = Tenants {
            hosts: owned
                .map(|(host, name)| (pattern(host), name.to_owned()))
                .into(),
            ..Tenants::default()
        };
        for (tenant, host, owner) in [
            (Some("wide"), "www.acme.com", Some("acme")),
            (Some("wide"), "*.b.acme.com", Some("acme")),
            (Some("wide"), "*.acme.com", None),
            (Some("wide"), "old.acme.com", None),
            (Some("wide"), "x.com", None),
            (Some("acme"), "x.com", Some("wide")),
            (Some("acme"), "*.com", None),
            (None, "*.com", Some("wide")),
            (None, "x.org", None),
        ] {
            assert_eq!(
                tenants.taken_from(tenant, &pattern(host)),
                owner,
                "{tenant:?} {host}"
            );
        }
    }
}

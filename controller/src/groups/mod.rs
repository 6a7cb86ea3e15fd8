//! Groups of data planes. All data planes of a group serve the same listeners; each Gateway has a group of its own, and so
//! has each GatewayConfig that asks for it; the other GatewayConfigs share one. A group is sent what its listeners need and
//! nothing else: no Route, no upstream and above all no private key of another's.

mod closure;
mod links;
mod places;

use crate::health::Board;
use crate::publish::{Publisher, ResourceId};
use crate::report::{Findings, ObjectReport, Programmed};
use crate::world::{ObjectId, ObjectKind};
use bytes::Bytes;
use closure::{Closure, Name};
use parking_lot::Mutex;
use snapshot::Revision;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// What the data planes of one group are told, and tell.
#[derive(Clone)]
pub struct Group {
    pub publisher: Arc<Publisher>,
    pub health: Arc<Board>,
    _end: Arc<DropGuard>,
}

impl Group {
    /// `end` is cancelled when nobody knows the group any more.
    pub fn new(publisher: Arc<Publisher>, health: Arc<Board>, end: CancellationToken) -> Self {
        Self {
            publisher,
            health,
            _end: Arc::new(end.drop_guard()),
        }
    }
}

/// See the module.
pub struct Groups {
    /// The group that GatewayConfigs share, and its name.
    shared: Group,
    shared_name: Name,
    make: Box<dyn Fn(Arc<watch::Sender<u64>>) -> Group + Send + Sync>,
    progress: Arc<watch::Sender<u64>>,
    /// Data planes are told nothing yet.
    withheld: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    groups: BTreeMap<Name, Group>,
    closure: Closure,
    /// GatewayConfigs with a group of their own.
    apart: BTreeSet<ObjectId>,
}

/// Name of what belongs to the data planes of a Gateway or GatewayConfig, in its namespace: their Deployment, Service,
/// ServiceAccount. A name of 63 characters at most, as that of a Service; a longer one is cut and told from others by a
/// hash. Those of the two kinds end differently, so that no name of a Gateway gives that of a GatewayConfig.
pub fn infrastructure_name(owner: &ObjectId) -> String {
    const MAX: usize = 63;
    let suffix = match owner.kind {
        ObjectKind::GatewayConfig => "-diolkos-config",
        _ => "-diolkos",
    };
    let name = &owner.name;
    // Theirs may have dots, and may begin with a digit; a Service's may not.
    let simple = name.len() + suffix.len() <= MAX
        && !name.contains('.')
        && name.starts_with(|c: char| c.is_ascii_lowercase());
    if simple {
        return format!("{name}{suffix}");
    }
    let hash = format!("{:?}", snapshot::Hash::of(name.as_bytes()));
    let hash: String = hash.chars().take(8).collect();
    let kept = MAX - suffix.len() - hash.len() - "gw--".len();
    let name: String = name.replace('.', "-").chars().take(kept).collect();
    format!("gw-{}-{hash}{suffix}", name.trim_end_matches('-'))
}

/// The group of data planes that are a Gateway's or GatewayConfig's own, as their certificate names it.
pub fn own_group(owner: &ObjectId) -> String {
    format!("{}/{}", owner.namespace, infrastructure_name(owner))
}

impl Groups {
    /// `shared`: name of the group that GatewayConfigs share. `make` makes what a group needs; it is handed where the
    /// group counts its progress.
    pub fn new(
        shared: &str,
        make: impl Fn(Arc<watch::Sender<u64>>) -> Group + Send + Sync + 'static,
    ) -> Arc<Self> {
        let progress = Arc::new(watch::Sender::new(0));
        let shared_name: Name = shared.into();
        let shared = make(Arc::clone(&progress));
        let groups = Self {
            inner: Mutex::new(Inner {
                groups: BTreeMap::from([(Arc::clone(&shared_name), shared.clone())]),
                closure: Closure::default(),
                apart: BTreeSet::new(),
            }),
            shared,
            shared_name,
            make: Box::new(make),
            progress,
            withheld: AtomicBool::new(false),
        };
        Arc::new(groups)
    }

    /// Whether data planes are to be told nothing, although something is published.
    pub fn withhold(&self, withheld: bool) {
        self.withheld.store(withheld, Ordering::Release);
    }

    /// The group of a name, which another replica knows: whose it is, is about to be known here, too.
    pub fn expect(&self, name: &str) -> Group {
        let mut inner = self.inner.lock();
        let group = inner.groups.entry(name.into());
        group
            .or_insert_with(|| (self.make)(Arc::clone(&self.progress)))
            .clone()
    }

    /// All groups by name.
    pub fn by_name(&self) -> BTreeMap<Arc<str>, Group> {
        self.inner.lock().groups.clone()
    }

    /// The group of a name; `None`: there is no such group (yet).
    pub fn get(&self, name: &str) -> Option<Group> {
        self.inner.lock().groups.get(name).cloned()
    }

    /// The group that GatewayConfigs share.
    pub fn shared(&self) -> &Group {
        &self.shared
    }

    /// Its name.
    pub fn shared_name(&self) -> &str {
        &self.shared_name
    }

    /// All groups.
    pub fn all(&self) -> Vec<Group> {
        self.inner.lock().groups.values().cloned().collect()
    }

    /// Something has been published: data planes may be told.
    pub fn is_ready(&self) -> bool {
        !self.withheld.load(Ordering::Acquire) && self.is_published()
    }

    /// The first translation is published.
    pub fn is_published(&self) -> bool {
        self.shared.publisher.subscribe().borrow().is_some()
    }

    /// What data planes have found out about endpoints.
    pub fn findings(&self) -> Findings {
        Findings::of(self.all().iter().map(|group| group.health.unhealthy()))
    }

    /// Resources that data planes of any group have refused, with the words of one.
    pub fn refused(&self) -> BTreeMap<ResourceId, String> {
        let all = self.all().into_iter();
        all.flat_map(|group| group.publisher.rejections()).collect()
    }

    /// Counts what data planes of all groups did: connected, acknowledged, refused, drained, left.
    pub fn progress(&self) -> watch::Receiver<u64> {
        self.progress.subscribe()
    }

    /// Takes changed resources (`None`: gone), and sends each group what concerns it.
    /// `owners`: Gateways and GatewayConfigs that have a group of their own. Gives the revisions of the groups that it
    /// concerned.
    pub fn publish(
        &self,
        owners: impl IntoIterator<Item = ObjectId>,
        resources: BTreeMap<ResourceId, Option<Bytes>>,
        observed_unix_ns: u64,
    ) -> Vec<(Arc<str>, Revision)> {
        let mut revisions = Vec::new();
        let mut told = |name: &Name, group: &Group| {
            let revision = group.publisher.cursor().digest.revision();
            revisions.push((Arc::clone(name), revision));
        };
        let mut wanted = BTreeSet::from([Arc::clone(&self.shared_name)]);
        let mut apart = BTreeSet::new();
        for owner in owners {
            wanted.insert(own_group(&owner).into());
            if owner.kind == ObjectKind::GatewayConfig {
                apart.insert(owner);
            }
        }
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        // A listener that is as it was may be others' to serve now, and so may the Routes at it.
        let moved: BTreeSet<ObjectId> = inner.apart.symmetric_difference(&apart).cloned().collect();
        inner.apart = apart;
        // Data planes keep their group until they are gone, whatever has become of what they were for.
        inner
            .groups
            .retain(|name, group| wanted.contains(name) || group.publisher.has_data_planes());
        for name in &wanted {
            let group = inner.groups.entry(Arc::clone(name));
            group.or_insert_with(|| (self.make)(Arc::clone(&self.progress)));
        }
        let group_of = |listener: &str| {
            let name = self.group_of(listener, &inner.apart);
            // All that remember a group have its name as one text.
            let known = inner.groups.get_key_value(&name);
            known.map_or(name, |(known, _)| Arc::clone(known))
        };
        let mut changes = inner.closure.update(resources, group_of, &moved);
        for name in wanted {
            let Some(group) = inner.groups.get(&name) else {
                continue;
            };
            let changed = changes.remove(&name).unwrap_or_default();
            if group.publisher.subscribe().borrow().is_none() {
                // What it needs may have been here before it.
                let all = inner.closure.needed_by(&name);
                group.publisher.publish(all, observed_unix_ns);
                told(&name, group);
            } else if !changed.is_empty() {
                group.publisher.publish(changed, observed_unix_ns);
                told(&name, group);
            }
        }
        for (name, resources) in changes {
            if let Some(group) = inner.groups.get(&name) {
                group.publisher.publish(resources, observed_unix_ns);
                told(&name, group);
            }
        }
        revisions
    }

    /// The group of a listener's key. `apart`: GatewayConfigs with one of their own.
    fn group_of(&self, listener: &str, apart: &BTreeSet<ObjectId>) -> Name {
        match ObjectId::of_listener_owner(listener) {
            Some(owner) => self.group_of_owner(&owner, apart),
            None => Arc::clone(&self.shared_name),
        }
    }

    fn group_of_owner(&self, owner: &ObjectId, apart: &BTreeSet<ObjectId>) -> Name {
        match owner.kind == ObjectKind::Gateway || apart.contains(owner) {
            true => own_group(owner).into(),
            false => Arc::clone(&self.shared_name),
        }
    }

    /// Name of the group whose data planes serve a Gateway or GatewayConfig.
    pub fn name_for(&self, owner: &ObjectId) -> Arc<str> {
        self.group_of_owner(owner, &self.inner.lock().apart)
    }

    /// How far an object has come: in each group that needs something of it, all data planes must have acknowledged
    /// what they need.
    pub fn programmed(&self, report: &ObjectReport) -> Programmed {
        self.programmed_of(&report.id, &report.resources)
    }

    /// The same of some resources of an object.
    pub fn programmed_of<'a>(
        &self,
        object: &ObjectId,
        resources: impl IntoIterator<Item = &'a ResourceId>,
    ) -> Programmed {
        let inner = self.inner.lock();
        let mut by_group: BTreeMap<&Name, Vec<&ResourceId>> = BTreeMap::new();
        for id in resources {
            let Some(holders) = inner.closure.holders(id) else {
                // It is about to be published.
                return Programmed::Pending;
            };
            for name in holders {
                by_group.entry(name).or_default().push(id);
            }
        }
        let own: Option<Name> = match object.kind {
            ObjectKind::Gateway | ObjectKind::GatewayConfig => {
                Some(self.group_of_owner(object, &inner.apart))
            }
            _ => None,
        };
        if let Some(name) = &own {
            by_group.entry(name).or_default();
        }
        let found = by_group.into_iter().filter_map(|(name, resources)| {
            let group = inner.groups.get(name)?;
            Some(group.publisher.programmed(resources))
        });
        // The worst of it.
        found
            .max_by_key(Programmed::rank)
            .unwrap_or(Programmed::Unused)
    }
}

#[cfg(test)]
mod status_tests;
#[cfg(test)]
#[path = "tests.rs"]
mod tests;

//! Which groups need which resources: what their listeners are, the Routes attached to these, and whatever those refer
//! to. It is kept by counting, so that a change costs what it concerns and not what there is. Pure.

use super::links::Links;
use crate::few::Few;
use crate::fill::fill;
use crate::publish::ResourceId;
use crate::world::ObjectId;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Of a group, `NAMESPACE/NAME`.
pub(super) type Name = Arc<str>;

/// For each group that a change concerns the new bodies of resources; `None`: it does not need that one any more.
pub(super) type Changes = BTreeMap<Name, BTreeMap<ResourceId, Option<Bytes>>>;

/// See the module.
#[derive(Default)]
pub(super) struct Closure {
    nodes: BTreeMap<ResourceId, Node>,
}

/// A resource, or what others refer to as one.
#[derive(Default)]
struct Node {
    /// `None`: it is not there, or it stands for its parts alone.
    body: Option<Bytes>,
    roots: Few<Name>,
    to: Few<ResourceId>,
    part_of: Option<ResourceId>,
    /// Who refers to it, counted.
    referrers: usize,
    needed: Needed,
}

/// How many reasons each group has to need a resource: referrers that it needs, and that it is a root. Sorted.
#[derive(Default)]
struct Needed(Box<[(Name, usize)]>);

impl Needed {
    fn groups(&self) -> impl Iterator<Item = &Name> {
        self.0.iter().map(|(group, _)| group)
    }

    fn place(&self, group: &Name) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| known.cmp(group))
    }

    fn contains(&self, group: &Name) -> bool {
        self.place(group).is_ok()
    }

    /// One more reason. Returns whether it is the first.
    fn more(&mut self, group: &Name) -> bool {
        match self.place(group) {
            Ok(at) => {
                self.0[at].1 += 1;
                false
            }
            Err(at) => {
                self.change(|all| {
                    all.reserve_exact(1);
                    all.insert(at, (Arc::clone(group), 1));
                });
                true
            }
        }
    }

    /// One reason less. Returns whether it was the last.
    fn less(&mut self, group: &Name) -> bool {
        let Ok(at) = self.place(group) else {
            return false;
        };
        self.0[at].1 -= 1;
        let is_last = self.0[at].1 == 0;
        if is_last {
            self.change(|all| drop(all.remove(at)));
        }
        is_last
    }

    fn change(&mut self, change: impl FnOnce(&mut Vec<(Name, usize)>)) {
        let mut all = std::mem::take(&mut self.0).into_vec();
        change(&mut all);
        self.0 = all.into_boxed_slice();
    }
}

/// Groups that needed a resource before the change, and whether its body is another one now.
#[derive(Default)]
struct Before {
    groups: BTreeSet<Name>,
    is_changed: bool,
}

/// One change under way.
struct Update<'a> {
    nodes: &'a mut BTreeMap<ResourceId, Node>,
    before: BTreeMap<ResourceId, Before>,
}

impl Closure {
    /// Takes changed resources (`None`: gone). `group_of`: the group of a listener's key. `moved`:
    /// whose listeners are in another group than before; where there are any, all resources are looked through.
    pub(super) fn update(
        &mut self,
        resources: BTreeMap<ResourceId, Option<Bytes>>,
        group_of: impl Fn(&str) -> Name,
        moved: &BTreeSet<ObjectId>,
    ) -> Changes {
        let roots = |links: &Links| -> Few<Name> {
            let keys = links.listeners.iter();
            keys.map(|key| group_of(key)).collect()
        };
        let has_moved = |key: &String| {
            ObjectId::of_listener_owner(key).is_some_and(|owner| moved.contains(&owner))
        };
        let mut elsewhere = Vec::new();
        if !moved.is_empty() {
            let known = self.nodes.iter();
            let linked = known.filter_map(|(id, node)| Some((id, links(id, node.body.as_ref()?))));
            let concerned = linked.filter(|(_, links)| links.listeners.iter().any(has_moved));
            elsewhere.extend(concerned.map(|(id, links)| (id.clone(), roots(&links))));
        }
        let before = self.nodes.len();
        // What others refer to has the name under which it comes itself, and not one more text.
        for (id, _) in resources.iter().filter(|(_, body)| body.is_some()) {
            self.nodes.entry(id.clone()).or_default();
        }
        let changed = resources.into_iter().map(|(id, body)| {
            let links = body.as_ref().map(|body| links(&id, body));
            let links = links.unwrap_or_default();
            (id, body, roots(&links), links)
        });
        let changes = self.apply(elsewhere, changed);
        if self.nodes.len() > 2 * before {
            fill(&mut self.nodes);
        }
        changes
    }

    /// `moved`: resources that are as they were, with other roots; they may be among the changed ones, too.
    fn apply(
        &mut self,
        moved: impl IntoIterator<Item = (ResourceId, Few<Name>)>,
        changed: impl IntoIterator<Item = (ResourceId, Option<Bytes>, Few<Name>, Links)>,
    ) -> Changes {
        let mut update = Update {
            nodes: &mut self.nodes,
            before: BTreeMap::new(),
        };
        for (id, roots) in moved {
            let old_roots = update.root(&id, roots);
            update.uproot(&id, &old_roots);
        }
        for (id, body, roots, links) in changed {
            update.set(&id, body, roots, links);
        }
        update.finish()
    }

    /// Everything that a group needs.
    pub(super) fn needed_by(
        &self,
        group: &Name,
    ) -> impl Iterator<Item = (ResourceId, Option<Bytes>)> {
        let needed = self.nodes.iter();
        let needed = needed.filter(|(_, n)| n.body.is_some() && n.needed.contains(group));
        needed.map(|(id, node)| (id.clone(), node.body.clone()))
    }

    /// The groups that need a resource; `None`: it is not there.
    pub(super) fn holders(&self, id: &ResourceId) -> Option<impl Iterator<Item = &Name> + use<'_>> {
        let node = self.nodes.get(id).filter(|node| node.body.is_some())?;
        Some(node.needed.groups())
    }
}

impl Update<'_> {
    fn set(&mut self, id: &ResourceId, body: Option<Bytes>, roots: Few<Name>, links: Links) {
        let id = &self.known(id.clone());
        let refers: Few<ResourceId> = links.to.into_iter().map(|to| self.known(to)).collect();
        let part_of = links.part_of.map(|whole| self.known(whole));
        self.note(id).is_changed = true;
        let node = self.node(id);
        node.body = body;
        let old_whole = std::mem::replace(&mut node.part_of, part_of.clone());
        let gone: Vec<ResourceId> = node.to.difference(&refers).cloned().collect();
        // What comes is counted before what goes, so that nothing is let go of in between.
        for to in &refers {
            if self.node(id).to.insert(to.clone()) {
                self.link(id, to);
            }
        }
        let old_roots = self.root(id, roots);
        if old_whole != part_of {
            if let Some(whole) = &part_of {
                self.node(whole).to.insert(id.clone());
                self.link(whole, id);
            }
            if let Some(whole) = &old_whole {
                self.node(whole).to.remove(id);
                self.unlink(whole, id);
                self.sweep(whole);
            }
        }
        for to in gone {
            self.node(id).to.remove(&to);
            self.unlink(id, &to);
        }
        self.uproot(id, &old_roots);
        self.sweep(id);
    }

    /// Gives a resource other roots, beside the old ones until these are let go.
    fn root(&mut self, id: &ResourceId, roots: Few<Name>) -> Few<Name> {
        let old_roots = std::mem::replace(&mut self.node(id).roots, roots.clone());
        for group in roots.difference(&old_roots) {
            self.need(group, id);
        }
        old_roots
    }

    /// Lets go of roots that a resource has no more.
    fn uproot(&mut self, id: &ResourceId, old_roots: &Few<Name>) {
        let roots = self.node(id).roots.clone();
        for group in old_roots.difference(&roots) {
            self.release(group, id);
        }
    }

    /// The same name, as the one text of it that is kept.
    fn known(&self, id: ResourceId) -> ResourceId {
        let known = self.nodes.get_key_value(&id);
        known.map_or(id, |(known, _)| known.clone())
    }

    fn node(&mut self, id: &ResourceId) -> &mut Node {
        self.nodes.entry(id.clone()).or_default()
    }

    /// Remembers how it was when the change began.
    fn note(&mut self, id: &ResourceId) -> &mut Before {
        let nodes = &self.nodes;
        self.before.entry(id.clone()).or_insert_with(|| Before {
            groups: nodes
                .get(id)
                .map(|node| node.needed.groups().cloned().collect())
                .unwrap_or_default(),
            is_changed: false,
        })
    }

    fn link(&mut self, from: &ResourceId, to: &ResourceId) {
        self.node(to).referrers += 1;
        let groups: Vec<Name> = self.node(from).needed.groups().cloned().collect();
        for group in groups {
            self.need(&group, to);
        }
    }

    fn unlink(&mut self, from: &ResourceId, to: &ResourceId) {
        let groups: Vec<Name> = self.node(from).needed.groups().cloned().collect();
        for group in groups {
            self.release(&group, to);
        }
        let node = self.node(to);
        node.referrers = node.referrers.saturating_sub(1);
        self.sweep(to);
    }

    /// One more reason. The first one leads on to what the resource refers to.
    fn need(&mut self, group: &Name, id: &ResourceId) {
        self.note(id);
        let node = self.node(id);
        if node.needed.more(group) {
            for to in &node.to.clone() {
                self.need(group, to);
            }
        }
    }

    /// One reason less.
    fn release(&mut self, group: &Name, id: &ResourceId) {
        self.note(id);
        let node = self.node(id);
        if node.needed.less(group) {
            for to in &node.to.clone() {
                self.release(group, to);
            }
        }
    }

    /// Forgets what is not there and nobody speaks of.
    fn sweep(&mut self, id: &ResourceId) {
        let is_idle =
            |node: &Node| node.body.is_none() && node.referrers == 0 && node.to.is_empty();
        if self.nodes.get(id).is_some_and(is_idle) {
            self.nodes.remove(id);
        }
    }

    fn finish(self) -> Changes {
        let mut changes = Changes::new();
        for (id, before) in self.before {
            let node = self.nodes.get(&id);
            let body = node.and_then(|node| node.body.clone());
            let needed = node.iter().flat_map(|node| node.needed.groups());
            for group in needed {
                if before.is_changed || !before.groups.contains(group) {
                    let changes = changes.entry(Arc::clone(group)).or_default();
                    changes.insert(id.clone(), body.clone());
                }
            }
            for group in before.groups {
                if node.is_none_or(|node| !node.needed.contains(&group)) {
                    changes.entry(group).or_default().insert(id.clone(), None);
                }
            }
        }
        changes
    }
}

fn links(id: &ResourceId, body: &Bytes) -> Links {
    Links::of(id, body).unwrap_or_else(|error| {
        tracing::error!(event = "resource_unreadable", kind = ?id.0, key = &*id.1, error = %error, "a resource of our own cannot be read");
        Links::default()
    })
}

#[cfg(test)]
#[path = "closure_tests.rs"]
mod tests;

//! Which groups need which resources: what their listeners are, the Routes attached to these, and whatever those refer
//! to. It is kept by counting, so that a change costs what it concerns and not what there is. Pure.

use super::links::Links;
use super::places::{Place, Places};
use crate::few::Few;
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
    nodes: Places<Node>,
}

/// A resource, or what others refer to as one.
#[derive(Default)]
struct Node {
    /// `None`: nothing is here.
    id: Option<ResourceId>,
    /// `None`: it is not there, or it stands for its parts alone.
    body: Option<Bytes>,
    roots: Few<Name>,
    to: Few<Place>,
    part_of: Option<Place>,
    /// Who refers to it, counted.
    referrers: usize,
    needed: Needed,
    /// How it was when the change began that is under way, if that concerns it.
    before: Option<Box<Before>>,
}

impl Node {
    fn of(id: ResourceId) -> Self {
        Self {
            id: Some(id),
            ..Self::default()
        }
    }

    /// A resource that is there.
    fn there(&self) -> Option<(&ResourceId, &Bytes)> {
        self.id.as_ref().zip(self.body.as_ref())
    }

    fn is_idle(&self) -> bool {
        self.body.is_none() && self.referrers == 0 && self.to.is_empty()
    }
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
struct Before {
    groups: Few<Name>,
    is_changed: bool,
}

/// One change under way.
struct Update<'a> {
    nodes: &'a mut Places<Node>,
    /// What it concerns.
    concerned: Vec<Place>,
    /// What may be forgotten when it is over.
    idle: BTreeSet<Place>,
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
        // Many Routes are attached to few listeners.
        let mut groups: BTreeMap<String, Name> = BTreeMap::new();
        let mut root = |key: &String| {
            if let Some(group) = groups.get(key) {
                return Arc::clone(group);
            }
            let group = group_of(key);
            groups.insert(key.clone(), Arc::clone(&group));
            group
        };
        let mut roots = |links: &Links| -> Few<Name> {
            let keys = links.listeners.iter();
            keys.map(&mut root).collect()
        };
        let has_moved = |key: &String| {
            ObjectId::of_listener_owner(key).is_some_and(|owner| moved.contains(&owner))
        };
        let mut elsewhere = Vec::new();
        if !moved.is_empty() {
            let known = self.nodes.iter().filter_map(Node::there);
            let linked = known.map(|(id, body)| (id, links(id, body)));
            let concerned = linked.filter(|(_, links)| links.listeners.iter().any(has_moved));
            elsewhere.extend(concerned.map(|(id, links)| (id.clone(), roots(&links))));
        }
        let before = self.nodes.len();
        // What others refer to has the name under which it comes itself, and not one more text.
        for (id, _) in resources.iter().filter(|(_, body)| body.is_some()) {
            self.nodes.add(id.clone(), Node::of);
        }
        let changed = resources.into_iter().map(|(id, body)| {
            let links = body.as_ref().map(|body| links(&id, body));
            let links = links.unwrap_or_default();
            (id, body, roots(&links), links)
        });
        let changes = self.apply(elsewhere, changed);
        if self.nodes.len() > 2 * before {
            self.nodes.fill();
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
            concerned: Vec::new(),
            idle: BTreeSet::new(),
        };
        for (id, roots) in moved {
            let at = update.nodes.add(id, Node::of);
            let old_roots = update.root(at, roots);
            update.uproot(at, &old_roots);
        }
        for (id, body, roots, links) in changed {
            let at = update.nodes.add(id, Node::of);
            update.set(at, body, roots, links);
        }
        update.finish()
    }

    /// Everything that a group needs.
    pub(super) fn needed_by(
        &self,
        group: &Name,
    ) -> impl Iterator<Item = (ResourceId, Option<Bytes>)> {
        let needed = self.nodes.iter().filter(|n| n.needed.contains(group));
        let needed = needed.filter_map(Node::there);
        needed.map(|(id, body)| (id.clone(), Some(body.clone())))
    }

    /// The groups that need a resource; `None`: it is not there.
    pub(super) fn holders(&self, id: &ResourceId) -> Option<impl Iterator<Item = &Name> + use<'_>> {
        let node = &self.nodes[self.nodes.find(id)?];
        node.body.as_ref()?;
        Some(node.needed.groups())
    }
}

impl Update<'_> {
    fn set(&mut self, at: Place, body: Option<Bytes>, roots: Few<Name>, links: Links) {
        let to = links.to.into_iter();
        let refers: Few<Place> = to.map(|to| self.nodes.add(to, Node::of)).collect();
        let part_of = links.part_of.map(|whole| self.nodes.add(whole, Node::of));
        self.note(at).is_changed = true;
        let node = &mut self.nodes[at];
        node.body = body;
        let old_whole = std::mem::replace(&mut node.part_of, part_of);
        let gone: Vec<Place> = node.to.difference(&refers).copied().collect();
        // What comes is counted before what goes, so that nothing is let go of in between.
        for to in &refers {
            if self.nodes[at].to.insert(*to) {
                self.link(at, *to);
            }
        }
        let old_roots = self.root(at, roots);
        if old_whole != part_of {
            if let Some(whole) = part_of {
                self.nodes[whole].to.insert(at);
                self.link(whole, at);
            }
            if let Some(whole) = old_whole {
                self.nodes[whole].to.remove(&at);
                self.unlink(whole, at);
                self.idle.insert(whole);
            }
        }
        for to in gone {
            self.nodes[at].to.remove(&to);
            self.unlink(at, to);
        }
        self.uproot(at, &old_roots);
        if self.nodes[at].is_idle() {
            self.idle.insert(at);
        }
    }

    /// Gives a resource other roots, beside the old ones until these are let go.
    fn root(&mut self, at: Place, roots: Few<Name>) -> Few<Name> {
        let old_roots = std::mem::replace(&mut self.nodes[at].roots, roots.clone());
        for group in roots.difference(&old_roots) {
            self.need(group, at);
        }
        old_roots
    }

    /// Lets go of roots that a resource has no more.
    fn uproot(&mut self, at: Place, old_roots: &Few<Name>) {
        if old_roots.is_empty() {
            return;
        }
        let roots = self.nodes[at].roots.clone();
        for group in old_roots.difference(&roots) {
            self.release(group, at);
        }
    }

    /// Remembers how it was when the change began.
    fn note(&mut self, at: Place) -> &mut Before {
        let Node { before, needed, .. } = &mut self.nodes[at];
        before.get_or_insert_with(|| {
            self.concerned.push(at);
            Box::new(Before {
                groups: needed.groups().cloned().collect(),
                is_changed: false,
            })
        })
    }

    fn link(&mut self, from: Place, to: Place) {
        self.nodes[to].referrers += 1;
        let groups: Vec<Name> = self.nodes[from].needed.groups().cloned().collect();
        for group in groups {
            self.need(&group, to);
        }
    }

    fn unlink(&mut self, from: Place, to: Place) {
        let groups: Vec<Name> = self.nodes[from].needed.groups().cloned().collect();
        for group in groups {
            self.release(&group, to);
        }
        let node = &mut self.nodes[to];
        node.referrers = node.referrers.saturating_sub(1);
        self.idle.insert(to);
    }

    /// One more reason. The first one leads on to what the resource refers to.
    fn need(&mut self, group: &Name, at: Place) {
        self.note(at);
        let node = &mut self.nodes[at];
        if node.needed.more(group) {
            for to in &node.to.clone() {
                self.need(group, *to);
            }
        }
    }

    /// One reason less.
    fn release(&mut self, group: &Name, at: Place) {
        self.note(at);
        let node = &mut self.nodes[at];
        if node.needed.less(group) {
            for to in &node.to.clone() {
                self.release(group, *to);
            }
        }
    }

    fn finish(self) -> Changes {
        let mut changes = Changes::new();
        for at in self.concerned {
            let node = &mut self.nodes[at];
            let (Some(id), Some(before)) = (&node.id, node.before.take()) else {
                continue;
            };
            for group in node.needed.groups() {
                if before.is_changed || !before.groups.contains(group) {
                    let changes = changes.entry(Arc::clone(group)).or_default();
                    changes.insert(id.clone(), node.body.clone());
                }
            }
            for group in &before.groups {
                if !node.needed.contains(group) {
                    let changes = changes.entry(Arc::clone(group)).or_default();
                    changes.insert(id.clone(), None);
                }
            }
        }
        // What is not there and nobody speaks of.
        for at in self.idle {
            let node = &self.nodes[at];
            if let Some(id) = node.id.clone().filter(|_| node.is_idle()) {
                self.nodes.remove(&id);
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

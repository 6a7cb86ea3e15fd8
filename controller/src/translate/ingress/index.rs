//! What others need to know of Ingresses without looking at all of them: certificates for listeners, and canaries.

use super::class::{self, Place};
use crate::adapt::ingress::is_canary;
use crate::world::{Body, ObjectId, ObjectKind, World};
use std::collections::{BTreeMap, BTreeSet};

/// Kept for all Ingresses of ours.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::translate) struct Index {
    secured: BTreeMap<ObjectId, Secured>,
    canaries: BTreeSet<ObjectId>,
}

/// Certificates of one Ingress.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::translate) struct Secured {
    created: i64,
    place: Place,
    pub blocks: Vec<Block>,
}

/// A certificate for some hosts; without hosts, for those that it carries.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::translate) struct Block {
    pub hosts: Vec<String>,
    pub secret: ObjectId,
}

/// What a change of an Ingress concerns beside itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::translate) struct Concerns {
    /// Listeners.
    pub certificates: bool,
    /// Other Ingresses of its namespace.
    pub canaries: bool,
}

impl Index {
    /// Takes an Ingress as it is now.
    pub(in crate::translate) fn take(&mut self, world: &World, id: &ObjectId) -> Concerns {
        let found = world.get(id).and_then(|object| match &object.body {
            Body::Ingress(ingress) => {
                let place = class::place(world, ingress)?;
                Some((object.meta.created, place, ingress))
            }
            _ => None,
        });
        let canary = found.as_ref().is_some_and(|(_, _, i)| is_canary(i));
        let had_canary = match canary {
            true => !self.canaries.insert(id.clone()),
            false => self.canaries.remove(id),
        };
        let secured = found
            .filter(|_| !canary)
            .and_then(|(created, place, ingress)| {
                let blocks = ingress.spec.tls.iter().flatten().filter_map(|block| {
                    let name = block
                        .secret_name
                        .as_deref()
                        .filter(|name| !name.is_empty())?;
                    Some(Block {
                        hosts: block.hosts.clone().unwrap_or_default(),
                        secret: ObjectId::new(ObjectKind::Secret, &*id.namespace, name),
                    })
                });
                let blocks: Vec<Block> = blocks.collect();
                (!blocks.is_empty()).then_some(Secured {
                    created,
                    place,
                    blocks,
                })
            });
        let before = match secured.clone() {
            Some(secured) => self.secured.insert(id.clone(), secured),
            None => self.secured.remove(id),
        };
        Concerns {
            certificates: before != secured,
            canaries: canary || had_canary,
        }
    }

    /// Certificates of the Ingresses that attach to a GatewayConfig, with their namespaces, the oldest first.
    pub(in crate::translate) fn certificates(
        &self,
        config: &ObjectId,
        is_default: bool,
    ) -> Vec<(&str, &Block)> {
        let here = self
            .secured
            .iter()
            .filter(|(_, secured)| match &secured.place {
                Place::Default => is_default,
                Place::Config(id) => id == config,
                Place::Unknown(_) => false,
            });
        let mut here: Vec<_> = here.collect();
        here.sort_by_key(|(id, secured)| (secured.created, *id));
        here.into_iter()
            .flat_map(|(id, secured)| secured.blocks.iter().map(|b| (&*id.namespace, b)))
            .collect()
    }

    /// Canaries of a namespace.
    pub(in crate::translate) fn canaries<'a>(
        &'a self,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a ObjectId> {
        let first = ObjectId::new(ObjectKind::Ingress, namespace, "");
        let from = self.canaries.range(first..);
        from.take_while(move |id| &*id.namespace == namespace)
    }
}

//! Plugin objects, and plugins where they are used.

use super::effective::{Slot, Used};
use super::lowering::Lowering;
use super::unbuilt;
use crate::report::{Field, Reason};
use crate::world::{Body, ObjectId, ObjectKind};
use crds::{PluginSpec, PluginUse};
use model::{FailurePolicy, Plugin, Stage};
use plugins::Stages;
use snapshot::Kind;

/// `spec.priority` where none is given.
const PRIORITY: i32 = 100;

impl Lowering<'_> {
    /// A Plugin object.
    pub(super) fn plugin_object(&mut self, spec: &PluginSpec) {
        if spec.enabled == Some(false) {
            self.warn(
                "spec.enabled",
                Reason::Disabled,
                "the Plugin is switched off",
            );
            return;
        }
        let mut usable = true;
        for found in unbuilt::find(ObjectKind::Plugin, spec) {
            usable &= !found.closes;
            self.not_built(found);
        }
        let id = self.id;
        if let Some((plugin, slot)) = self.plugin(&"spec", &id.name, spec)
            && usable
        {
            self.out.slot = Some(slot);
            self.put(self.id.path(), &plugin);
        }
    }

    /// The plugins of a list in use; `false` when one of them cannot run, so that its rules must not be served.
    pub(super) fn plugin_uses(
        &mut self,
        field: Field<'_>,
        uses: &[PluginUse],
        out: &mut Vec<Used>,
    ) -> bool {
        let mut usable = true;
        for (i, one) in uses.iter().enumerate() {
            if one.enabled == Some(false) {
                continue;
            }
            let at = format_args!("{field}[{i}]");
            let found = match (&one.reference, one.inline()) {
                (Some(reference), _) => self.plugin_reference(&format_args!("{at}.ref"), reference),
                (None, Some(spec)) => {
                    let name = one.name.as_deref().unwrap_or_default();
                    let plugin = self.plugin(&at, name, &spec);
                    plugin.map(|(plugin, slot)| {
                        Some(Used {
                            name: name.to_owned(),
                            slot,
                            plugin: model::PluginUse::Inline(Box::new(plugin)),
                        })
                    })
                }
                (None, None) => {
                    self.error(at, Reason::Invalid, "one of ref and type must be given");
                    None
                }
            };
            match found {
                Some(found) => out.extend(found),
                None => usable = false,
            }
        }
        usable
    }

    /// `Some(None)`: the Plugin is switched off.
    fn plugin_reference(
        &mut self,
        field: Field<'_>,
        reference: &crds::refs::ObjectRef,
    ) -> Option<Option<Used>> {
        let kind = reference
            .kind
            .as_deref()
            .is_none_or(|kind| kind == "Plugin");
        let group = reference
            .group
            .as_deref()
            .is_none_or(|group| group == crds::GROUP);
        if !kind || !group {
            let message = format!("must be a Plugin of group {}", crds::GROUP);
            self.error(field, Reason::InvalidKind, message);
            return None;
        }
        let namespace = reference.namespace.as_deref().unwrap_or(&self.id.namespace);
        let id = ObjectId::new(ObjectKind::Plugin, namespace, reference.name.as_str());
        if !self.may_refer(&id) {
            let message = self.world.not_granted(&id);
            self.error(field, Reason::RefNotPermitted, message);
            return None;
        }
        let Some(object) = self.object(&id) else {
            let message = self.world.not_found(&id);
            self.error(field, Reason::PluginNotFound, message);
            return None;
        };
        if let Body::Plugin(spec) = &object.body
            && spec.enabled == Some(false)
        {
            return Some(None);
        }
        let key = id.path();
        if !self.resources.contains(Kind::Plugin, &key) {
            let message = format!("{id} cannot be used; its own status says why");
            self.error(field, Reason::PluginNotFound, message);
            return None;
        }
        Some(Some(Used {
            name: id.name.to_string(),
            slot: self.slots.get(&id).copied().unwrap_or_default(),
            plugin: model::PluginUse::Ref(key),
        }))
    }

    /// Settings are compiled here by the very function that the data plane calls.
    fn plugin(
        &mut self,
        field: Field<'_>,
        name: &str,
        spec: &PluginSpec,
    ) -> Option<(Plugin, Slot)> {
        let kind = spec.type_.name();
        let settings = self.valid(field, spec.settings())?;
        let compiled = match plugins::compile(kind, &settings) {
            Ok(compiled) => compiled,
            Err(e) => {
                let block = spec.type_.block();
                let at = match e.field.as_str() {
                    "" => format!("{field}.{block}"),
                    below => format!("{field}.{block}.{below}"),
                };
                self.error(at, Reason::Invalid, e.message);
                return None;
            }
        };
        let stage = spec.stage.map(|stage| match stage {
            crds::Stage::PreRequest => Stage::PreRequest,
            crds::Stage::PostRequest => Stage::PostRequest,
            crds::Stage::PreResponse => Stage::PreResponse,
            crds::Stage::PostResponse => Stage::PostResponse,
        });
        let stages = compiled.needs().stages;
        if let Some(stage) = stage.filter(|stage| !stages.has(*stage)) {
            let message = format!("{kind} does not run in {stage:?}");
            self.error(format!("{field}.stage"), Reason::Invalid, message);
            return None;
        }
        let slot = Slot {
            stages: stage.map_or(stages, |stage| Stages::of(&[stage])),
            priority: spec.priority.unwrap_or(PRIORITY),
        };
        let plugin = Plugin {
            origin: self.id.origin(),
            name: name.to_owned(),
            kind: kind.to_owned(),
            stage,
            priority: slot.priority,
            parallel: spec.parallel.unwrap_or(false),
            failure_policy: match spec.failure_policy {
                Some(crds::FailurePolicy::Ignore) => FailurePolicy::Ignore,
                Some(crds::FailurePolicy::Fail) | None => FailurePolicy::Fail,
            },
            run_on_local_reply: spec.run_on_local_reply.unwrap_or(false),
            settings,
        };
        Some((plugin, slot))
    }
}

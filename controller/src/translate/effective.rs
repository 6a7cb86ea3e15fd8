//! What plugins run for the requests of a Route, and who asks for them (`status.effective`).

use super::lowering::Lowering;
use crate::report::EffectivePlugin;
use crate::world::{ObjectId, ObjectKind};
use model::Stage;
use plugins::Stages;
use std::collections::BTreeMap;

/// Plugins that a status names.
const MOST: usize = 256;
/// In the order in which they are passed.
const STAGES: [Stage; 4] = [
    Stage::PreRequest,
    Stage::PostRequest,
    Stage::PreResponse,
    Stage::PostResponse,
];

/// Where a plugin runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Slot {
    pub stages: Stages,
    pub priority: i32,
}

/// For what names no Plugins.
pub(super) static NOWHERE: BTreeMap<ObjectId, Slot> = BTreeMap::new();

/// A plugin where it is used.
pub(super) struct Used {
    pub name: String,
    pub slot: Slot,
    pub plugin: model::PluginUse,
}

impl Lowering<'_> {
    /// Notes what runs for the requests of a rule: what all rules of the Route use, and what is its own.
    pub(super) fn take_effect(&mut self, of_route: &[Used], own: &[Used], rule: &str) {
        if self.id.kind != ObjectKind::Route {
            return;
        }
        let whole = format!("route/{}", self.id.name);
        if self
            .out
            .effective
            .iter()
            .all(|plugin| *plugin.from != *whole)
        {
            self.run_for(&whole, of_route);
        }
        self.run_for(&format!("rule/{rule}"), own);
    }

    fn run_for(&mut self, from: &str, uses: &[Used]) {
        for used in uses {
            let stages = STAGES.into_iter();
            let stages = stages.filter(|stage| used.slot.stages.has(*stage));
            self.out
                .effective
                .extend(stages.map(|stage| EffectivePlugin {
                    stage,
                    priority: used.slot.priority,
                    name: used.name.as_str().into(),
                    from: from.into(),
                }));
        }
    }

    /// As [`plugins::Chain`] runs them.
    pub(super) fn order_effective(&mut self) {
        let all = &mut self.out.effective;
        all.sort_by_key(|plugin| (plugin.stage as u8, plugin.priority));
        all.truncate(MOST);
    }
}

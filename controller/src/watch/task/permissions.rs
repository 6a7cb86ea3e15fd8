//! What may not be listed or watched, said where whoever runs the cluster looks: on the GatewayClasses that are ours.

use super::{Owner, unix_ns};
use crate::report::ObjectReport;
use crate::translate::class_reports;
use crate::world::{ObjectId, ObjectKind};

/// Kinds that are named; the log and the gauges have all of them.
const NAMED: usize = 20;

impl Owner {
    /// Has the GatewayClasses say it, where that is news.
    pub(super) fn tell_forbidden(&mut self) {
        if self.world.set_forbidden(self.forbidden_text()) {
            self.classes_changed();
        }
    }

    pub(super) fn classes_changed(&mut self) {
        let classes = self.world.of_kind(ObjectKind::GatewayClass);
        let classes: Vec<ObjectId> = classes.map(|object| object.id.clone()).collect();
        for id in classes {
            self.changed(id, unix_ns());
        }
    }

    /// `None`: nothing is missing.
    pub(super) fn forbidden_text(&self) -> Option<Box<str>> {
        let named = self.forbidden.iter().take(NAMED);
        let mut named: Vec<String> = named.map(|(of, verb)| format!("{verb} {of}")).collect();
        if named.is_empty() {
            return None;
        }
        if self.forbidden.len() > named.len() {
            named.push(format!("{} more", self.forbidden.len() - named.len()));
        }
        let so = match self.open {
            true => "what is new of these is not known",
            false => "nothing is published before all that is needed has been listed",
        };
        Some(format!("not permitted: {}; {so}", named.join(", ")).into())
    }

    /// What there is to say of classes before anything is published.
    pub(super) fn early_reports(&self) -> impl Iterator<Item = ObjectReport> {
        let is_early = !self.open && self.world.forbidden().is_some();
        let all = is_early.then(|| class_reports(&self.world));
        all.into_iter().flatten()
    }
}

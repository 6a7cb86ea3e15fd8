//! What there is to tell of objects in Kubernetes Events.

use super::Owner;
use crate::report::{ObjectReport, Programmed, Reason, Severity};
use crate::watch::handle::Objections;
use crate::world::{ObjectId, ObjectKind};
use std::collections::BTreeMap;

/// Objects that are told of at a time because data planes refuse what they need: where it is more, the conditions of all
/// say it.
const REFUSED: usize = 256;

impl Owner {
    /// Objects that need something that a data plane refuses, with its words.
    pub(super) fn refused(&self) -> BTreeMap<ObjectId, String> {
        let refused = self.with.groups.refused();
        if refused.is_empty() {
            return BTreeMap::new();
        }
        let all = self.translator.report().objects();
        let all = all.filter(|(id, _)| id.kind.has_status());
        let found = all.filter_map(|(id, report)| {
            let words = report.resources.iter().find_map(|id| refused.get(id))?;
            Some((id.clone(), words.clone()))
        });
        found.take(REFUSED).collect()
    }

    pub(super) fn objections(&self, id: ObjectId) -> Objections {
        let meta = self.world.meta(&id);
        let report = self.translator.report().get(&id);
        Objections {
            uid: meta.map(|meta| meta.uid.to_string()),
            generation: meta.map_or(0, |meta| meta.generation),
            all: report.map_or_else(Vec::new, |report| self.standing(report)),
            id,
        }
    }

    /// Of an Ingress all that is wrong with it, but for what has yet to be read: it has no conditions that could say it.
    fn standing(&self, report: &ObjectReport) -> Vec<(&'static str, String)> {
        let mut all = Vec::new();
        if report.id.kind == ObjectKind::Ingress {
            let problems = report.all_problems();
            let lasting = problems.filter(|problem| problem.reason != Reason::RefPending);
            all.extend(lasting.map(|p| (p.reason.as_str(), p.text())));
        }
        all.extend(older_version(report, &self.programmed(report)));
        all
    }
}

/// Why an older version stands in, where one does: not for what has yet to be read, which takes a moment.
fn older_version(report: &ObjectReport, programmed: &Programmed) -> Option<(&'static str, String)> {
    if report.quarantined {
        let mut errors = report.problems.iter().filter(|problem| {
            problem.severity == Severity::Error
                && problem.reason.quarantines()
                && problem.reason != Reason::RefPending
        });
        let why = errors.next()?;
        let text = format!(
            "the last accepted version serves in place of this one: {} ({})",
            why.text(),
            why.reason
        );
        return Some(("Quarantined", text));
    }
    match programmed {
        Programmed::Rejected(words) => Some((
            Reason::RejectedByDataPlane.as_str(),
            format!("what data planes accepted last serves in place of this version: {words}"),
        )),
        // What it has instead only it can say; others may have this version.
        Programmed::Lacking(words) => Some((
            Reason::RejectedByDataPlane.as_str(),
            format!("this version is not in effect everywhere: {words}"),
        )),
        Programmed::TooOld(words) => Some((
            Reason::DataPlaneTooOld.as_str(),
            format!("this version is not in effect everywhere: {words}"),
        )),
        _ => None,
    }
}

//! A panic in translating one unit is that unit's alone: what it gave before serves on, its object says so, and all others
//! are translated as if nothing had been.

use super::Translator;
use crate::report::{Problem, Reason, Severity};
use crate::translate::lowering::{Lowered, Lowering, Unit};
use crate::world::ObjectId;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What `work` gives; `None`: it panicked. It may leave nothing half done but what it gives.
pub(super) fn guarded<T>(of: &ObjectId, work: impl FnOnce() -> T) -> Option<T> {
    let work = || {
        #[cfg(test)]
        tests::panic_if_asked(of);
        work()
    };
    let done = catch_unwind(AssertUnwindSafe(work)).ok();
    if done.is_none() {
        // The hook has counted it, and logged the place.
        tracing::error!(event = "translate_panic", object = %of, "an object cannot be translated");
    }
    done
}

impl Translator {
    /// Has a unit lowered. After a panic there is a problem of the object, and what had been looked at until then.
    pub(super) fn run(
        &self,
        mut lowering: Lowering<'_>,
        work: impl FnOnce(&mut Lowering<'_>),
    ) -> Lowered {
        let of = lowering.id;
        if guarded(of, || work(&mut lowering)).is_some() {
            return lowering.out;
        }
        Lowered {
            deps: lowering.out.deps,
            problems: vec![fault(of)],
            ..Lowered::default()
        }
    }

    /// What the unit gave before serves on.
    pub(super) fn keep(&self, unit: &Unit, lowered: &mut Lowered) {
        let Some(before) = self.units.get(unit) else {
            return;
        };
        let bodies = before.resources.iter();
        let bodies = bodies.filter_map(|id| Some((id.clone(), self.resources.body(id)?)));
        lowered.resources = bodies.collect();
        lowered.deps.extend(before.deps.iter().cloned());
        lowered.demands = before.demands.iter().cloned().collect();
        lowered.claims = before.claims.to_vec();
        lowered.attached = before.attached.iter().cloned().collect();
    }
}

impl Lowered {
    /// What is here is all that there was until a panic.
    pub(super) fn has_panicked(&self) -> bool {
        self.problems
            .iter()
            .any(|p| p.reason == Reason::InternalError)
    }
}

/// What an object says of a panic.
pub(super) fn fault(of: &ObjectId) -> Problem {
    Problem {
        origin: of.clone(),
        field: String::new(),
        reason: Reason::InternalError,
        severity: Severity::Error,
        message: "the controller failed to translate this version; its log says where".to_owned(),
    }
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;

//! Fields by the names that their author gave them.

use std::collections::BTreeMap;
use std::fmt::Display;

/// Where the fields of a spec that was made from another object stand in that object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Names(Option<BTreeMap<String, String>>);

impl Default for Names {
    fn default() -> Self {
        Self(Some(BTreeMap::new()))
    }
}

impl Names {
    /// For who does not ask for them: they are needed only where there is something to say of a field.
    pub(crate) fn unasked() -> Self {
        Self(None)
    }

    /// The field `ours`, and whatever is below it, is called `theirs`.
    pub(super) fn add(&mut self, ours: impl Display, theirs: impl Display) {
        if let Some(names) = &mut self.0 {
            names.insert(ours.to_string(), theirs.to_string());
        }
    }

    /// What a field is called there. A field of which nothing is known has the same name in both.
    pub(crate) fn theirs(&self, field: &str) -> String {
        let above = field.rmatch_indices(['.', '[']).map(|(end, _)| end);
        let mut ends = std::iter::once(field.len()).chain(above);
        let found = ends.find_map(|end| {
            let (ours, rest) = field.split_at_checked(end)?;
            Some((self.0.as_ref()?.get(ours)?, rest))
        });
        match found {
            Some((theirs, rest)) => format!("{theirs}{rest}"),
            None => field.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_name_that_ends_where_a_field_ends_counts() {
        let mut names = Names::default();
        names.add("spec.rules[1]", "spec.rules[1]");
        names.add("spec.rules[1].backends", "spec.rules[1].backendRefs");
        names.add(
            "spec.rules[1].redirect",
            "spec.rules[1].filters[0].requestRedirect",
        );
        for (ours, theirs) in [
            (
                "spec.rules[1].backends[2].port",
                "spec.rules[1].backendRefs[2].port",
            ),
            (
                "spec.rules[1].redirect",
                "spec.rules[1].filters[0].requestRedirect",
            ),
            ("spec.rules[1].redirected", "spec.rules[1].redirected"),
            ("spec.rules[10].backends", "spec.rules[10].backends"),
            ("spec.hostnames[0]", "spec.hostnames[0]"),
        ] {
            assert_eq!(names.theirs(ours), theirs);
        }
    }
}

//! Fields by the names that their author gave them.

use std::collections::BTreeMap;

/// Where the fields of a spec that was made from another object stand in that object.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Names(BTreeMap<String, String>);

impl Names {
    /// The field `ours`, and whatever is below it, is called `theirs`.
    pub(super) fn add(&mut self, ours: impl Into<String>, theirs: impl Into<String>) {
        self.0.insert(ours.into(), theirs.into());
    }

    /// What a field is called there. A field of which nothing is known has the same name in both.
    pub(crate) fn theirs(&self, field: &str) -> String {
        let above = field.rmatch_indices(['.', '[']).map(|(end, _)| end);
        let mut ends = std::iter::once(field.len()).chain(above);
        let found = ends.find_map(|end| {
            let (ours, rest) = field.split_at_checked(end)?;
            Some((self.0.get(ours)?, rest))
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

//! Fields by the names that their author gave them.

/// Where the fields of a spec that was made from another object stand in that object.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Names(Vec<(String, String)>);

impl Names {
    /// The field `ours`, and whatever is below it, is called `theirs`.
    pub(super) fn add(&mut self, ours: impl Into<String>, theirs: impl Into<String>) {
        self.0.push((ours.into(), theirs.into()));
    }

    /// What a field is called there. A field of which nothing is known has the same name in both.
    pub(crate) fn theirs(&self, field: &str) -> String {
        let below = |ours: &str| {
            let rest = field.strip_prefix(ours)?;
            (rest.is_empty() || rest.starts_with(['.', '['])).then(|| rest.to_owned())
        };
        let known = self.0.iter();
        let found = known.filter_map(|(ours, theirs)| Some((ours, theirs, below(ours)?)));
        match found.max_by_key(|(ours, _, _)| ours.len()) {
            Some((_, theirs, rest)) => format!("{theirs}{rest}"),
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

//! Which part of the cluster is looked at: all of it, or some namespaces. Of Secrets it may be another part.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::Arc;

/// Namespaces that may be given. Each is a watch, and so a connection, for each kind; beyond that the whole cluster is less
/// to follow.
pub const MOST_NAMESPACES: usize = 64;
/// Longest name of a namespace, which is a DNS label.
const LONGEST: usize = 63;

/// See the module. Objects outside of namespaces belong to every scope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Empty: all there are.
    namespaces: BTreeSet<Arc<str>>,
    /// Where Secrets may be read. Empty: where everything else is.
    secrets: BTreeSet<Arc<str>>,
}

impl Scope {
    /// Whether it is the whole cluster.
    pub fn is_cluster(&self) -> bool {
        self.namespaces.is_empty()
    }

    /// Whether objects of this namespace are looked at.
    pub fn includes(&self, namespace: &str) -> bool {
        self.is_cluster() || namespace.is_empty() || self.namespaces.contains(namespace)
    }

    /// Whether Secrets of this namespace may be read.
    pub fn includes_secrets_of(&self, namespace: &str) -> bool {
        match self.secrets.is_empty() {
            true => self.includes(namespace),
            false => self.secrets.contains(namespace),
        }
    }

    /// What to ask the API server for, one after the other: `None` is all namespaces at once.
    pub fn places(&self) -> Vec<Option<Arc<str>>> {
        places(&self.namespaces)
    }

    /// The same for Secrets.
    pub fn places_of_secrets(&self) -> Vec<Option<Arc<str>>> {
        match self.secrets.is_empty() {
            true => self.places(),
            false => places(&self.secrets),
        }
    }

    /// This scope, with Secrets in those namespaces alone that `namespaces` names, if any.
    #[must_use]
    pub fn with_secrets_of(self, namespaces: &Self) -> Self {
        let secrets = namespaces.namespaces.clone();
        Self { secrets, ..self }
    }

    /// This scope, and a namespace that belongs to it however it was chosen.
    #[must_use]
    pub fn with(mut self, namespace: &str) -> Self {
        for chosen in [&mut self.namespaces, &mut self.secrets] {
            if !chosen.is_empty() {
                chosen.insert(namespace.into());
            }
        }
        self
    }
}

fn places(namespaces: &BTreeSet<Arc<str>>) -> Vec<Option<Arc<str>>> {
    match namespaces.is_empty() {
        true => vec![None],
        false => namespaces.iter().cloned().map(Some).collect(),
    }
}

impl FromStr for Scope {
    type Err = String;

    /// Names of namespaces with commas between them. Nothing is the whole cluster.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let mut namespaces = BTreeSet::new();
        for name in text.split(',').map(str::trim) {
            if !is_label(name) {
                return Err(format!(
                    "{name:?} cannot be a namespace: it must be 1 to {LONGEST} letters a to z, digits and hyphens, with no hyphen at \
                     its ends"
                ));
            }
            namespaces.insert(name.into());
        }
        match namespaces.len() {
            0..=MOST_NAMESPACES => Ok(Self {
                namespaces,
                secrets: BTreeSet::new(),
            }),
            many => Err(format!(
                "{many} namespaces are more than {MOST_NAMESPACES}: name none for the whole cluster, or run several controllers"
            )),
        }
    }
}

fn is_label(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=LONGEST).contains(&name.len())
        && name.bytes().all(allowed)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(number: usize) -> String {
        let names: Vec<String> = (0..number).map(|n| format!("n{n}")).collect();
        names.join(",")
    }

    #[test]
    fn nothing_is_the_whole_cluster() {
        for text in ["", " "] {
            let scope: Scope = text.parse().unwrap();
            assert!(scope.includes("anything"));
            assert_eq!(scope.with("own").places(), [None]);
        }
    }

    #[test]
    fn some_namespaces_and_what_stands_outside_of_them() {
        let scope: Scope = "shop, blog,shop".parse().unwrap();
        let scope = scope.with("own");
        let expected = ["blog", "own", "shop"].map(|name| Some(name.into()));
        assert_eq!(scope.places(), expected);
        assert!(scope.includes("shop") && scope.includes("own") && scope.includes(""));
        assert!(!scope.includes("other"));
    }

    #[test]
    fn secrets_of_some_namespaces_of_a_whole_cluster() {
        let secrets: Scope = "shop".parse().unwrap();
        let scope = Scope::default().with_secrets_of(&secrets).with("own");
        assert!(scope.is_cluster() && scope.includes("other"));
        assert_eq!(scope.places(), [None]);
        let expected = ["own", "shop"].map(|name| Some(name.into()));
        assert_eq!(scope.places_of_secrets(), expected);
        assert!(scope.includes_secrets_of("shop") && scope.includes_secrets_of("own"));
        assert!(!scope.includes_secrets_of("other"));
    }

    #[test]
    fn secrets_are_where_everything_else_is_unless_that_is_said() {
        for text in ["", "shop,blog"] {
            let scope: Scope = text.parse().unwrap();
            let scope = scope.with_secrets_of(&Scope::default()).with("own");
            assert_eq!(scope.places_of_secrets(), scope.places());
            for namespace in ["shop", "own", "other"] {
                let is_there = scope.includes(namespace);
                assert_eq!(scope.includes_secrets_of(namespace), is_there);
            }
        }
    }

    #[test]
    fn what_is_no_namespace_is_named() {
        let long = "a".repeat(64);
        for name in ["Shop", "a_b", "-a", "a-", "a.b", "ü", &long] {
            let error = format!("ok,{name}").parse::<Scope>().unwrap_err();
            assert!(error.starts_with(&format!("{name:?} cannot be")), "{error}");
        }
        assert!("a,,b".parse::<Scope>().unwrap_err().starts_with("\"\""));
        assert!("a".repeat(63).parse::<Scope>().is_ok());
    }

    #[test]
    fn so_many_and_no_more() {
        assert!(names(MOST_NAMESPACES).parse::<Scope>().is_ok());
        let error = names(MOST_NAMESPACES + 1).parse::<Scope>().unwrap_err();
        assert!(
            error.starts_with("65 namespaces are more than 64"),
            "{error}"
        );
    }
}

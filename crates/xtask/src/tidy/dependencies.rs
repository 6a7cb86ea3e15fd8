//! The direction of dependencies between our crates, and the few that may know Kubernetes or Pingora.

use super::Metadata;

/// Our crates from the bottom up, each with those of ours that it may use.
const MAY_USE: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("plugins", &["model"]),
    ("snapshot", &["model", "plugins"]),
    ("crds", &["model", "plugins"]),
    ("gateway-api", &[]),
    (
        "controller",
        &["model", "plugins", "snapshot", "crds", "gateway-api"],
    ),
    ("dataplane", &["model", "plugins", "snapshot"]),
    (
        "cli",
        &[
            "model",
            "plugins",
            "snapshot",
            "crds",
            "controller",
            "dataplane",
        ],
    ),
    ("xtask", &["model", "plugins", "crds"]),
    (
        "e2e",
        &[
            "model",
            "plugins",
            "snapshot",
            "crds",
            "controller",
            "dataplane",
            "cli",
        ],
    ),
];

/// Those who alone may use what begins with a prefix; beside them `e2e` in its tests.
const RESERVED: &[(&str, &[&str])] = &[
    ("kube", &["crds", "gateway-api", "controller"]),
    ("k8s-openapi", &["crds", "gateway-api", "controller"]),
    ("pingora", &["dataplane"]),
];

pub(super) fn check(metadata: &Metadata) -> Vec<String> {
    let mut faults = Vec::new();
    for package in &metadata.packages {
        let name = ours(&package.name).unwrap_or(&package.name);
        let Some((_, allowed)) = MAY_USE.iter().find(|(crate_, _)| *crate_ == name) else {
            faults.push(format!("{name}: a new crate; say in crates/xtask/src/tidy/dependencies.rs which of ours it may use"));
            continue;
        };
        for dependency in &package.dependencies {
            if let Some(used) = ours(&dependency.name) {
                // Tests may join what the product keeps apart: controller and data plane on one stream.
                let in_tests = dependency.kind.as_deref() == Some("dev");
                if used != name && !in_tests && !allowed.contains(&used) {
                    let list = if allowed.is_empty() {
                        "none of ours".to_owned()
                    } else {
                        allowed.join(", ")
                    };
                    faults.push(format!(
                        "{name} must not depend on {used}: the direction allows it {list}"
                    ));
                }
                continue;
            }
            for (prefix, users) in RESERVED
                .iter()
                .filter(|(prefix, _)| belongs(&dependency.name, prefix))
            {
                let in_tests = name == "e2e" && dependency.kind.as_deref() == Some("dev");
                if !users.contains(&name) && !in_tests {
                    faults.push(format!(
                        "{name} must not depend on {}: {prefix} is for {} only",
                        dependency.name,
                        users.join(" and ")
                    ));
                }
            }
        }
    }
    faults
}

/// The short name of one of our packages.
fn ours(package: &str) -> Option<&str> {
    package.strip_prefix("diolkos-")
}

fn belongs(dependency: &str, prefix: &str) -> bool {
    dependency
        .strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(package: &str, dependencies: serde_json::Value) -> Vec<String> {
        let metadata = serde_json::json!({ "packages": [{
            "name": package, "manifest_path": "Cargo.toml", "dependencies": dependencies,
        }]});
        check(&serde_json::from_value(metadata).unwrap())
    }

    #[test]
    fn the_direction_is_kept() {
        use serde_json::json;
        let none = Vec::<String>::new();
        assert_eq!(
            faults(
                "diolkos-controller",
                json!([{ "name": "diolkos-crds" }, { "name": "kube" }])
            ),
            none
        );
        assert_eq!(
            faults("diolkos-e2e", json!([{ "name": "kube", "kind": "dev" }])),
            none
        );
        assert_eq!(
            faults("diolkos-cli", json!([{ "name": "kubernetes-names" }])),
            none
        );
        assert_eq!(
            faults(
                "diolkos-dataplane",
                json!([{ "name": "diolkos-controller" }, { "name": "k8s-openapi" }])
            ),
            [
                "dataplane must not depend on controller: the direction allows it model, plugins, snapshot",
                "dataplane must not depend on k8s-openapi: k8s-openapi is for crds and gateway-api and controller only",
            ]
        );
        assert_eq!(
            faults(
                "diolkos-model",
                json!([{ "name": "diolkos-plugins" }, { "name": "pingora-core" }])
            ),
            [
                "model must not depend on plugins: the direction allows it none of ours",
                "model must not depend on pingora-core: pingora is for dataplane only",
            ]
        );
        assert_eq!(faults("diolkos-e2e", json!([{ "name": "kube" }])).len(), 1);
        assert_eq!(faults("diolkos-new", json!([])).len(), 1);
    }
}

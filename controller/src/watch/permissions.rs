//! The manifests permit what the watches need, and the same for some namespaces as for all.

use std::collections::BTreeSet;

use kube::api::{ApiResource, GroupVersionKind};
use serde_json::Value;

use super::definitions;
use crate::infrastructure;
use crate::world::ObjectKind;

const CLUSTER: &str = include_str!("../../../deploy/manifests/11-cluster-role.yaml");
const SECRETS: &str = include_str!("../../../deploy/manifests/12-cluster-role-secrets.yaml");
const SECRETS_HERE: &str = include_str!("../../../deploy/secrets/role.yaml");
const NAMESPACED: &str = include_str!("../../../deploy/namespaced/cluster-roles.yaml");

/// A group, a resource, the name of the one that is meant, and a verb.
type Permission = (String, String, String, String);

/// What a Role or ClusterRole of a file permits.
fn permitted(file: &str, role: &str) -> BTreeSet<Permission> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(file).unwrap();
    let mut roles = documents.iter().filter(|d| d["rules"].is_array());
    let role = roles.find(|d| d["metadata"]["name"] == role).unwrap();
    let strings = |rule: &Value, field: &str| -> Vec<String> {
        let all = rule[field].as_array().into_iter().flatten();
        all.map(|s| s.as_str().unwrap().to_owned()).collect()
    };
    let mut permitted = BTreeSet::new();
    for rule in role["rules"].as_array().unwrap() {
        let mut names = strings(rule, "resourceNames");
        if names.is_empty() {
            names.push(String::new());
        }
        for group in strings(rule, "apiGroups") {
            for resource in strings(rule, "resources") {
                for name in &names {
                    for verb in strings(rule, "verbs") {
                        permitted.insert((group.clone(), resource.clone(), name.clone(), verb));
                    }
                }
            }
        }
    }
    permitted
}

/// What the controller may do in the whole cluster.
fn in_cluster() -> BTreeSet<Permission> {
    let mut permitted_there = permitted(CLUSTER, "diolkos-controller");
    permitted_there.extend(permitted(SECRETS, "diolkos-controller-secrets"));
    permitted_there
}

/// What following a kind, and telling its status, needs.
fn needed(kind: ObjectKind) -> impl Iterator<Item = Permission> {
    let kind_of = GroupVersionKind::gvk(kind.group(), "v1", kind.name());
    let resource = ApiResource::from_gvk(&kind_of).plural;
    let status = kind
        .has_status()
        .then(|| (format!("{resource}/status"), "patch"));
    let watch = ["get", "list", "watch"].map(|verb| (resource.clone(), verb));
    let all = watch.into_iter().chain(status);
    all.map(move |(resource, verb)| {
        (
            kind.group().to_owned(),
            resource,
            String::new(),
            verb.to_owned(),
        )
    })
}

#[test]
fn what_is_followed_is_permitted() {
    let cluster = in_cluster();
    let inside = permitted(NAMESPACED, "diolkos-controller-namespace");
    let outside = permitted(NAMESPACED, "diolkos-controller-outside");
    for kind in ObjectKind::ALL {
        let (here, other) = match kind.is_cluster_scoped() {
            true => (&outside, &inside),
            false => (&inside, &outside),
        };
        for permission in needed(*kind) {
            assert!(cluster.contains(&permission), "{permission:?}");
            assert!(here.contains(&permission), "{permission:?}");
            assert!(!other.contains(&permission), "{permission:?}");
        }
    }
    for (_, name) in definitions::FOLLOWED {
        for verb in ["get", "list", "watch"] {
            let permission = [
                "apiextensions.k8s.io",
                "customresourcedefinitions",
                name,
                verb,
            ];
            let permission = permission.map(str::to_owned).into();
            assert!(cluster.contains(&permission), "{permission:?}");
            assert!(outside.contains(&permission), "{permission:?}");
        }
    }
}

#[test]
fn what_is_made_may_be_followed_and_written() {
    let cluster = in_cluster();
    let inside = permitted(NAMESPACED, "diolkos-controller-namespace");
    for resource in infrastructure::resources() {
        for verb in ["list", "watch", "create", "patch", "delete"] {
            let [group, plural] = [&resource.group, &resource.plural].map(Clone::clone);
            let permission = (group, plural, String::new(), verb.to_owned());
            assert!(cluster.contains(&permission), "{permission:?}");
            assert!(inside.contains(&permission), "{permission:?}");
        }
    }
}

#[test]
fn namespaces_are_given_the_same_as_the_cluster() {
    let mut cluster = in_cluster();
    // The finalizers of classes: who sees some namespaces leaves them alone.
    let classes = ["gateway.networking.k8s.io", "gatewayclasses", "", "patch"];
    let [group, resource, name, verb] = classes.map(str::to_owned);
    assert!(cluster.remove(&(group, resource, name, verb)));
    let mut namespaced = permitted(NAMESPACED, "diolkos-controller-namespace");
    namespaced.extend(permitted(NAMESPACED, "diolkos-controller-outside"));
    assert_eq!(namespaced, cluster);
}

#[test]
fn rights_to_secrets_stand_by_themselves() {
    let is_it = |(_, resource, ..): &Permission| resource == "secrets" || resource == "*";
    let cluster = permitted(CLUSTER, "diolkos-controller");
    assert!(!cluster.iter().any(is_it));
    let everywhere = permitted(SECRETS, "diolkos-controller-secrets");
    assert!(everywhere.iter().all(is_it));
    let here = permitted(SECRETS_HERE, "diolkos-controller-secrets");
    assert_eq!(here, everywhere);
}

//! 65,000 rules: as many objects as they take serve them, and where they pass a limit that is said.

use super::MAX_OBJECTS;
use crate::report::Reason;
use crate::standalone::check;
use crate::translate::{Translation, Translator};
use crate::world::{Object, World};
use serde_json::{Value, json};
use snapshot::Kind;
use std::fmt::Write;
use std::fs;
use std::ops::Range;
use tempfile::TempDir;

const RULES: usize = 65_000;
/// What a Route may have.
const OF_A_ROUTE: usize = 128;

fn route(name: &str, rules: Range<usize>) -> String {
    let mut text = format!(
        "---\napiVersion: diolkos.io/v1alpha1\nkind: Route\nmetadata: {{name: {name}}}\nspec:\n  hostnames: [many.example]\n  rules:\n"
    );
    for i in rules {
        let rule = "directResponse: {status: 200}";
        writeln!(
            text,
            "  - matches: [{{path: {{type: Exact, value: /{i}}}}}]\n    {rule}"
        )
        .unwrap();
    }
    text
}

fn checked(name: &str, text: &str) -> (Vec<String>, Translation) {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join(name), text).unwrap();
    let checked = check(&[dir.path().to_owned()]);
    let root = format!("{}/", dir.path().display());
    let problems = checked.problems.iter();
    let problems = problems.map(|p| p.to_string().replace(&root, ""));
    (problems.collect(), checked.translation)
}

#[test]
fn as_many_as_a_file_holds_serve() {
    let routes = (0..RULES).step_by(OF_A_ROUTE).map(|first| {
        let rules = first..(first + OF_A_ROUTE).min(RULES);
        route(&format!("r{first}"), rules)
    });
    let (problems, translation) = checked("many.yaml", &routes.collect::<String>());
    assert_eq!(problems, Vec::<String>::new());
    let routes = translation.resources.all::<model::Route>();
    let rules: usize = routes.map(|(_, route)| route.rules.len()).sum();
    assert_eq!(rules, RULES);
}

#[test]
fn a_file_with_more_than_it_may_hold_says_what() {
    let (problems, _) = checked("many.yaml", &"--- {}\n".repeat(MAX_OBJECTS + 1));
    assert_eq!(
        problems,
        ["many.yaml:100001: more than 100000 documents in a file"]
    );
    let deep = ["[", "]"].map(|bracket| bracket.repeat(100));
    let (problems, _) = checked("deep.yaml", &deep.concat());
    assert_eq!(
        problems,
        ["deep.yaml:1: more than 64 levels of lists and maps"]
    );
}

/// In one object they pass a limit, each kind its own: that is said once, and not for each of them.
#[test]
fn one_object_does_not_hold_them() {
    let rules = |rule: &dyn Fn(usize) -> Value| -> Vec<Value> { (0..RULES).map(rule).collect() };
    let answer = |i| json!({"matches": [{"path": {"type": "Exact", "value": format!("/{i}")}}], "directResponse": {"status": 200}});
    let route = json!({
        "apiVersion": "diolkos.io/v1alpha1", "kind": "Route", "metadata": {"name": "r"},
        "spec": {"rules": rules(&answer)},
    });
    let faults = crds::admission::check("Route", &route);
    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(
        faults,
        ["spec.rules: must have at most 128 items, not 65000"]
    );

    let api = "gateway.networking.k8s.io/v1";
    let redirect = |i| {
        json!({
            "matches": [{"path": {"type": "Exact", "value": format!("/{i}")}}],
            "filters": [{"type": "RequestRedirect", "requestRedirect": {"hostname": "a.test"}}],
        })
    };
    let path = |i| {
        json!({
            "path": format!("/{i}"), "pathType": "Exact", "backend": {"service": {"name": "nobody", "port": {"number": 80}}},
        })
    };
    let objects = [
        json!({
            "apiVersion": api, "kind": "Gateway", "metadata": {"name": "g"},
            "spec": {"gatewayClassName": "diolkos", "listeners": [{"name": "l", "port": 8081, "protocol": "HTTP"}]},
        }),
        json!({
            "apiVersion": api, "kind": "HTTPRoute", "metadata": {"name": "h"},
            "spec": {"parentRefs": [{"name": "g"}], "rules": rules(&redirect)},
        }),
        json!({
            "apiVersion": "diolkos.io/v1alpha1", "kind": "GatewayConfig", "metadata": {"name": "c"}, "spec": {"default": true},
        }),
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "i"},
            "spec": {"ingressClassName": "diolkos", "rules": [{"http": {"paths": rules(&path)}}]},
        }),
    ];
    let mut world = World::default();
    for object in &objects {
        world.apply(Object::from_json(object).unwrap().unwrap());
    }
    let mut translator = Translator::default();
    let ids = world.ids().cloned().collect();
    translator.update(&world, &ids);
    let problems = translator.report().problems();
    let too_large = problems.filter(|p| p.reason == Reason::TooLarge);
    let too_large: Vec<String> = too_large.map(ToString::to_string).collect();
    let said = ["HTTPRoute default/h", "Ingress default/i"].map(|object| {
        let bytes = too_large
            .iter()
            .find_map(|p| p.strip_prefix(&format!("{object}: takes ")));
        let (_, limit) = bytes.unwrap().split_once(' ').unwrap();
        limit.to_owned()
    });
    let limit = "bytes of snapshot; at most 458752 are allowed: split the object";
    assert_eq!(said, [limit; 2]);
    assert_eq!(too_large.len(), 2);
    assert_eq!(translator.resources().count(Kind::Route), 0);
}

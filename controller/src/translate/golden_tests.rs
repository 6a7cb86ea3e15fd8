//! Cases as files: objects, what they come to.
//!
//! `tests/golden/NAME.yaml` holds objects, perhaps in several steps (`# ---- then ----`, where an object replaces the
//! one of the same name), and after `# ---- expect ----` the model, the statuses and the problems of the last step.
//! `BLESS=1` writes what comes out.

use super::Translator;
use crate::report::{Findings, Programmed, Reason};
use crate::world::{Object, World};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

const THEN: &str = "# ---- then ----\n";
const EXPECT: &str = "# ---- expect ----\n";

#[test]
fn golden() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let bless = std::env::var_os("BLESS").is_some_and(|v| v == "1");
    let mut files: Vec<_> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(
        files.len() >= 20,
        "only {} cases in {}",
        files.len(),
        dir.display()
    );
    let mut different = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let (input, expected) = text.split_once(EXPECT).unwrap_or((&text, ""));
        let got = run(input);
        if bless {
            let input = input.trim_end();
            std::fs::write(&path, format!("{input}\n{EXPECT}{got}")).unwrap();
        } else if got != expected {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            different.push(format!("{name}: got\n{got}"));
        }
    }
    assert!(
        different.is_empty(),
        "BLESS=1 accepts:\n{}",
        different.join("\n")
    );
}

fn run(input: &str) -> String {
    let (mut world, mut translator) = (World::default(), Translator::default());
    for step in input.split(THEN) {
        let mut dirty = BTreeSet::new();
        for value in serde_saphyr::from_multiple::<Value>(step).unwrap() {
            let object = Object::from_json(&value).unwrap().unwrap();
            dirty.insert(object.id.clone());
            world.apply(object);
        }
        translator.update(&world, &dirty);
    }
    let problems: Vec<String> = translator
        .report()
        .problems()
        .map(|p| format!("{:?} {} {p}", p.severity, p.reason))
        .collect();
    let mut model = serde_json::to_value(translator.resources().model()).unwrap();
    model
        .as_object_mut()
        .unwrap()
        .retain(|_, section| section != &json!({}));
    let all = json!({
        "model": model,
        "status": translator.report().statuses(|_| Programmed::Yes, &Findings::default(), translator.resources()),
        "problems": problems,
    });
    serde_saphyr::to_string(&all).unwrap()
}

/// Too long for a file: a Route over the size of one resource is quarantined, its neighbour serves.
#[test]
fn what_is_too_large_is_quarantined() {
    let route = |name: &str, rules: usize| {
        let rule = json!({"directResponse": {"status": 200, "body": "x".repeat(65_536)}});
        let value = json!({
            "apiVersion": "diolkos.io/v1alpha1", "kind": "Route",
            "metadata": {"namespace": "a", "name": name},
            "spec": {"hostnames": [format!("{name}.example.com")], "rules": vec![rule; rules]},
        });
        Object::from_json(&value).unwrap().unwrap()
    };
    let (mut world, mut translator) = (World::default(), Translator::default());
    for (name, rules) in [("grows", 1), ("new", 8), ("grows", 8), ("neighbour", 1)] {
        let object = route(name, rules);
        let id = object.id.clone();
        world.apply(object);
        translator.update(&world, &BTreeSet::from([id]));
    }
    let routes = translator.resources().model().routes;
    assert_eq!(
        routes.keys().collect::<Vec<_>>(),
        ["a/grows", "a/neighbour"]
    );
    assert_eq!(routes["a/grows"].rules.len(), 1);
    let problems: Vec<_> = translator
        .report()
        .problems()
        .filter(|p| p.reason == Reason::TooLarge)
        .collect();
    assert_eq!(problems.len(), 2);
    let report = translator.report().get(&route("grows", 1).id).unwrap();
    assert!(report.quarantined);
}

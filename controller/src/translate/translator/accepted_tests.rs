use super::super::Translator;
use crate::world::{Object, ObjectId, World};
use model::{Action, Route};
use serde_json::json;
use std::collections::BTreeSet;

/// The Route `ns/a` of a uid that answers with a status; one without is not acceptable.
fn route(uid: &str, status: Option<u16>) -> Object {
    let mut rule = json!({"directResponse": {"status": status.unwrap_or(200), "body": "x"}});
    if status.is_none() {
        rule["matches"] = json!([{"path": {"type": "RegularExpression", "value": "/("}}]);
    }
    let manifest = json!({
        "apiVersion": "diolkos.io/v1alpha1", "kind": "Route",
        "metadata": {"namespace": "ns", "name": "a", "uid": uid, "generation": 1},
        "spec": {"hostnames": ["a.example"], "rules": [rule]},
    });
    Object::from_json(&manifest).unwrap().unwrap()
}

#[derive(Default)]
struct Case {
    world: World,
    translator: Translator,
}

impl Case {
    /// Translates what was changed, all of it at once.
    fn update(&mut self, change: impl FnOnce(&mut World)) {
        change(&mut self.world);
        self.translator.update(&self.world, &BTreeSet::from([id()]));
    }

    fn apply(&mut self, object: Object) {
        self.update(|world| assert!(world.apply(object)));
    }

    /// The status that the Route answers with, and whether an older version of it serves.
    fn served(&self) -> (Option<u16>, bool) {
        let routes = self.translator.resources().all::<Route>();
        let mut rules = routes.flat_map(|(_, route)| route.rules);
        let status = rules.find_map(|rule| match rule.action {
            Action::Respond(answer) => Some(answer.status),
            _ => None,
        });
        let report = self.translator.report().get(&id());
        (status, report.is_some_and(|r| r.quarantined))
    }

    fn stand_ins(&self) -> Vec<Object> {
        let all = self.translator.stand_ins();
        all.map(|m| Object::from_json(&m).unwrap().unwrap())
            .collect()
    }
}

fn id() -> ObjectId {
    route("1", None).id
}

#[test]
fn nothing_of_a_deleted_object_stands_in_for_the_next_of_its_name() {
    let mut case = Case::default();
    case.apply(route("1", Some(201)));
    case.apply(route("1", None));
    assert_eq!(case.served(), (Some(201), true));
    // That it was deleted was not seen: the API server was away,
    case.apply(route("2", None));
    assert_eq!(case.served(), (None, false));
    // or it was seen together with what came after it.
    case.apply(route("2", Some(202)));
    case.update(|world| {
        world.remove(&id());
        world.apply(route("3", None));
    });
    assert_eq!(case.served(), (None, false));
}

#[test]
fn what_stands_in_elsewhere_is_taken_over_for_the_same_object_only() {
    let mut leader = Case::default();
    leader.apply(route("1", Some(201)));
    leader.apply(route("1", None));
    let told = leader.stand_ins();
    assert_eq!(told.len(), 1);

    // It is told before anything is listed,
    let mut early = Case::default();
    early.translator.recall(&early.world, told.clone());
    early.apply(route("1", None));
    assert_eq!(early.served(), (Some(201), true));
    let mut early = Case::default();
    early.translator.recall(&early.world, told.clone());
    early.apply(route("2", None));
    assert_eq!(early.served(), (None, false));

    // of one that is not there in vain,
    let mut early = Case::default();
    early.translator.recall(&early.world, told.clone());
    early.translator.forget_unused(&early.world);
    early.apply(route("1", None));
    assert_eq!(early.served(), (None, false));

    // or after it.
    for (uid, takes) in [("1", true), ("2", false)] {
        let mut late = Case::default();
        late.apply(route(uid, None));
        let dirty = late.translator.recall(&late.world, told.clone());
        late.translator.update(&late.world, &dirty);
        assert_eq!(late.served(), (takes.then_some(201), takes), "{uid}");
    }
}

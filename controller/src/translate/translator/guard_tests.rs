use super::*;
use crate::world::{Object, World};
use model::{Action, Route};
use serde_json::json;
use std::cell::RefCell;
use std::collections::BTreeSet;

thread_local! {
    static ASKED: RefCell<Option<ObjectId>> = const { RefCell::new(None) };
}

pub(super) fn panic_if_asked(of: &ObjectId) {
    ASKED.with_borrow(|asked| assert_ne!(asked.as_ref(), Some(of), "asked for"));
}

fn ask(of: Option<&ObjectId>) {
    ASKED.with_borrow_mut(|asked| *asked = of.cloned());
}

/// A Route that answers with a status.
fn route(name: &str, status: u16) -> Object {
    let manifest = json!({
        "apiVersion": "diolkos.io/v1alpha1", "kind": "Route",
        "metadata": {"namespace": "ns", "name": name, "generation": i64::from(status)},
        "spec": {
            "hostnames": [format!("{name}.example")],
            "rules": [{"directResponse": {"status": status, "body": "x"}}],
        },
    });
    Object::from_json(&manifest).unwrap().unwrap()
}

struct Case {
    world: World,
    translator: Translator,
}

impl Case {
    fn new() -> Self {
        let (mut world, translator) = (World::default(), Translator::default());
        world.set_now(0);
        Self { world, translator }
    }

    fn apply(&mut self, objects: Vec<Object>) {
        let ids: BTreeSet<_> = objects.iter().map(|object| object.id.clone()).collect();
        for object in objects {
            self.world.apply(object);
        }
        self.translator.update(&self.world, &ids);
    }

    /// The statuses that Routes answer with.
    fn served(&self) -> Vec<u16> {
        let routes = self.translator.resources().all::<Route>();
        let rules = routes.flat_map(|(_, route)| route.rules);
        rules
            .filter_map(|rule| match rule.action {
                Action::Respond(answer) => Some(answer.status),
                _ => None,
            })
            .collect()
    }

    fn says(&self, id: &ObjectId) -> (Vec<Reason>, bool) {
        let report = self.translator.report().get(id).unwrap();
        let reasons = report.problems.iter().map(|problem| problem.reason);
        (reasons.collect(), report.quarantined)
    }
}

#[test]
fn a_panic_costs_one_object_its_new_version_and_nothing_else() {
    let mut case = Case::new();
    let (a, b) = (route("a", 200).id, route("b", 200).id);
    case.apply(vec![route("a", 200), route("b", 200)]);
    assert_eq!(case.served(), [200, 200]);
    ask(Some(&a));
    case.apply(vec![route("a", 201), route("b", 201)]);
    assert_eq!(case.served(), [200, 201]);
    assert_eq!(case.says(&a), (vec![Reason::InternalError], true));
    assert_eq!(case.says(&b), (vec![], false));
    // One that never served is not there.
    let c = route("c", 200).id;
    ask(Some(&c));
    case.apply(vec![route("c", 200)]);
    assert_eq!(case.served(), [200, 201]);
    assert_eq!(case.says(&c), (vec![Reason::InternalError], false));
    ask(None);
    case.apply(vec![route("a", 202), route("c", 202)]);
    assert_eq!(case.served(), [202, 201, 202]);
    assert_eq!(case.says(&a), (vec![], false));
}

#[test]
fn a_panic_over_what_is_lowered_together_leaves_everything_as_it_is() {
    let mut case = Case::new();
    case.apply(vec![route("a", 200)]);
    let listeners = case.translator.resources().count(snapshot::Kind::Listener);
    assert!(listeners > 0);
    let manifest = json!({
        "apiVersion": "diolkos.io/v1alpha1", "kind": "GatewayConfig", "metadata": {"namespace": "ns", "name": "own"},
        "spec": {"listeners": [{"name": "web", "port": 8081, "protocol": "HTTP"}]},
    });
    let own = Object::from_json(&manifest).unwrap().unwrap();
    let id = own.id.clone();
    for of in [&id, &crate::translate::gateway_config::implied()] {
        ask(Some(of));
        case.apply(vec![own.clone()]);
        assert_eq!(
            case.translator.resources().count(snapshot::Kind::Listener),
            listeners
        );
        assert_eq!(case.served(), [200]);
    }
    ask(None);
    case.apply(vec![own]);
    let there = case.translator.resources().all::<model::Listener>();
    assert!(there.into_iter().any(|(_, listener)| listener.port == 8081));
}

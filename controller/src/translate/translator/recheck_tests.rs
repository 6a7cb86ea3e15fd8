use super::*;
use crate::world::{Object, World};
use serde_json::{Value, json};

struct Case {
    world: World,
    translator: Translator,
    /// What somebody has who applies all deltas.
    published: BTreeMap<snapshot::ResourceId, bytes::Bytes>,
    references: BTreeSet<ObjectId>,
}

fn object(kind: &str, name: &str, spec: Value) -> Object {
    let manifest = json!({
        "apiVersion": "diolkos.io/v1alpha1", "kind": kind,
        "metadata": {"namespace": "ns", "name": name}, "spec": spec,
    });
    Object::from_json(&manifest).unwrap().unwrap()
}

fn upstream(name: &str, port: u16) -> Object {
    let secret = json!({"name": "key", "key": "token"});
    let spec = json!({
        "endpoints": [{"address": "10.0.0.1", "port": port}],
        "auth": {"headers": [{"name": "x-key", "valueFrom": {"secretKeyRef": secret}}]},
    });
    object("Upstream", name, spec)
}

fn route(name: &str, path: &str) -> Object {
    let matches = json!([{"path": {"type": "Exact", "value": path}}]);
    let backends = json!([{"kind": "Upstream", "name": "up"}]);
    let spec =
        json!({"hostnames": ["h.example"], "rules": [{"matches": matches, "backends": backends}]});
    object("Route", name, spec)
}

fn listening(port: u16) -> Object {
    let listener = json!({"name": "web", "port": port, "protocol": "HTTP"});
    object(
        "GatewayConfig",
        "config",
        json!({"default": true, "listeners": [listener]}),
    )
}

impl Case {
    fn new() -> Self {
        let mut case = Self {
            world: World::default(),
            translator: Translator::default(),
            published: BTreeMap::new(),
            references: BTreeSet::new(),
        };
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "ns", "name": "key"},
            "stringData": {"token": "t"},
        });
        let secret = Object::from_json(&secret).unwrap().unwrap();
        let objects = [
            secret,
            listening(8080),
            upstream("up", 80),
            route("a", "/a"),
            route("b", "/b"),
        ];
        objects.into_iter().for_each(|object| case.apply(object));
        case
    }

    fn apply(&mut self, object: Object) {
        let dirty = BTreeSet::from([object.id.clone()]);
        self.world.apply(object);
        let delta = self.translator.update(&self.world, &dirty);
        self.take(delta);
    }

    fn take(&mut self, delta: Delta) {
        for (id, body) in delta.resources {
            match body {
                Some(body) => self.published.insert(id, body),
                None => self.published.remove(&id),
            };
        }
        for (id, refers) in delta.references {
            match refers {
                true => self.references.insert(id),
                false => self.references.remove(&id),
            };
        }
    }

    fn recheck(&mut self) -> Vec<String> {
        let (mut recheck, mut found) = self.translator.recheck(&self.world);
        while !recheck.is_done() {
            found.merge(self.translator.recheck_next(&self.world, &mut recheck, 2));
        }
        assert!(!found.of.is_empty() || found.delta == Delta::default());
        self.take(found.delta);
        found.of.into_iter().collect()
    }

    fn is_as_fresh(&self) {
        let mut fresh = self.translator.afresh();
        fresh.update(&self.world, &self.world.ids().cloned().collect());
        let model = fresh.resources().model();
        assert_eq!(self.translator.resources().model(), model);
        assert_eq!(self.translator.report(), fresh.report());
        let bodies = snapshot::sections::bodies(&model);
        let bodies = bodies.map(|(kind, key, body)| ((kind, key.into()), body.unwrap().into()));
        assert_eq!(self.published, bodies.collect());
        let secret = ObjectId::new(ObjectKind::Secret, "ns", "key");
        let dep = Dep::Object(secret.clone());
        let refers = self.translator.dependents(&dep).next().is_some();
        assert_eq!(self.references.contains(&secret), refers);
    }

    /// As if a unit had not said that it looks at an object.
    fn unsay(&mut self, of: &ObjectId, at: &ObjectId) {
        let (unit, dep) = (Unit::of(of).unwrap(), Dep::Object(at.clone()));
        self.translator
            .units
            .get_mut(&unit)
            .unwrap()
            .deps
            .remove(&dep);
        assert!(self.translator.dependents.remove(&(dep, unit)));
    }
}

#[test]
fn what_is_as_it_should_be_stays_so() {
    let mut case = Case::new();
    case.apply(object(
        "Route",
        "a",
        json!({"rules": [{"matches": [{"path": {"type": "Exact", "value": "no"}}]}]}),
    ));
    let stand_ins = case.translator.stand_ins_changed();
    assert_eq!(case.recheck(), <[String; 0]>::default());
    assert_eq!(case.translator.stand_ins_changed(), stand_ins);
    case.is_as_fresh();
}

#[test]
fn what_is_held_of_another_world_is_found_and_mended() {
    let (a, b) = (route("a", "/a").id, route("b", "/b").id);
    type Plant = fn(&mut Case);
    let plants: [(Plant, &[&str]); 7] = [
        (
            |case| assert!(case.world.apply(route("a", "/other"))),
            &["Route ns/a"],
        ),
        (
            |case| assert!(case.world.apply(route("c", "/c"))),
            &["Route ns/c"],
        ),
        (
            |case| assert!(case.world.remove(&route("b", "/b").id)),
            &["Route ns/b"],
        ),
        (
            |case| assert!(case.world.apply(listening(8081))),
            &["what has listeners"],
        ),
        // Nothing says that the Route is to be looked at when its Upstream goes.
        (
            |case| {
                let up = upstream("up", 80).id;
                case.unsay(&route("a", "/a").id, &up);
                case.world.remove(&up);
                let delta = case.translator.update(&case.world, &BTreeSet::from([up]));
                case.take(delta);
            },
            &["Route ns/a"],
        ),
        (
            |case| {
                let up = Dep::Object(upstream("up", 80).id);
                case.translator.dependents.retain(|(dep, _)| *dep != up);
            },
            &["the index of units"],
        ),
        (
            |case| {
                let claims = std::mem::take(&mut case.translator.conflicts);
                assert_eq!(claims.len(), 2);
            },
            &["the index of units"],
        ),
    ];
    for (number, (plant, expected)) in plants.into_iter().enumerate() {
        let mut case = Case::new();
        case.is_as_fresh();
        assert!(
            [&a, &b]
                .iter()
                .all(|id| case.translator.report().get(id).is_some())
        );
        plant(&mut case);
        assert_eq!(case.recheck(), expected, "plant {number}");
        case.is_as_fresh();
        assert!(case.recheck().is_empty(), "plant {number} is mended");
        // What was mended is followed from then on.
        case.apply(upstream("up", 81));
        case.apply(route("a", "/b"));
        case.is_as_fresh();
        assert!(case.recheck().is_empty());
    }
}

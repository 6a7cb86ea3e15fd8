use super::*;
use crate::metrics::Metrics;
use crate::publish::Session;
use crate::translate::{Published, Translator};
use crate::world::{Object, World};
use serde_json::{Value, json};
use snapshot::{Kind, pb};

fn groups() -> Arc<Groups> {
    let metrics = Metrics::new().unwrap();
    Groups::new("diolkos-system/diolkos-dataplane", move |progress| {
        let (entries, omitted) = (&metrics.health_reports, &metrics.health_reports_omitted);
        let health = Board::new(entries.clone(), omitted.clone(), |_| {});
        let publisher = Publisher::counting("test", progress);
        Group::new(publisher, health, CancellationToken::new())
    })
}

/// The world of a test, and what is published of it.
pub(super) struct Control {
    world: World,
    pub(super) translator: Translator,
    pub(super) groups: Arc<Groups>,
}

impl Control {
    pub(super) fn new() -> Self {
        Self::of(World::default(), Translator::for_groups())
    }

    pub(super) fn of(world: World, translator: Translator) -> Self {
        let mut control = Self {
            world,
            translator,
            groups: groups(),
        };
        control.apply(json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "diolkos"},
            "spec": {"controllerName": "diolkos.io/controller"},
        }));
        control
    }

    fn publish(&mut self, id: ObjectId) {
        let delta = self.translator.update(&self.world, &[id].into());
        let gateways: Vec<ObjectId> = self.translator.with_data_planes().collect();
        self.groups.publish(gateways, delta.resources, 1);
    }

    pub(super) fn apply(&mut self, value: Value) {
        let object = Object::from_json(&value).unwrap().unwrap();
        let id = object.id.clone();
        self.world.apply(object);
        self.publish(id);
    }

    fn remove(&mut self, id: ObjectId) {
        self.world.remove(&id);
        self.publish(id);
    }

    pub(super) fn gateway(&mut self, name: &str, port: u16) {
        self.apply(json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": {"namespace": "a", "name": name, "generation": 1},
            "spec": {"gatewayClassName": "diolkos", "listeners": [{"name": "http", "port": port, "protocol": "HTTP"}]},
        }));
    }

    /// A GatewayConfig that listens on port 80; `data_plane`: what it asks of data planes of its own.
    pub(super) fn config(&mut self, name: &str, data_plane: Option<Value>) {
        let mut spec = json!({"listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]});
        if let Some(asked) = data_plane {
            spec["dataPlane"] = asked;
        }
        self.apply(json!({
            "apiVersion": "diolkos.io/v1alpha1", "kind": "GatewayConfig",
            "metadata": {"namespace": "a", "name": name, "generation": 1}, "spec": spec,
        }));
    }

    fn route(&mut self, name: &str, parents: &[&str]) {
        let parents = parents.iter().map(|parent| match *parent {
            "shared" => {
                json!({"kind": "GatewayConfig", "name": "default", "namespace": "diolkos-system"})
            }
            name if name.starts_with("config-") => json!({"kind": "GatewayConfig", "name": name}),
            name => json!({"kind": "Gateway", "name": name}),
        });
        self.apply(json!({
            "apiVersion": "diolkos.io/v1alpha1", "kind": "Route",
            "metadata": {"namespace": "a", "name": name, "generation": 1},
            "spec": {
                "parentRefs": parents.collect::<Vec<_>>(), "hostnames": [format!("{name}.example")],
                "rules": [{"backends": [{"kind": "Upstream", "name": format!("{name}-pool")}]}],
            },
        }));
    }

    fn upstream(&mut self, name: &str) {
        self.apply(json!({
            "apiVersion": "diolkos.io/v1alpha1", "kind": "Upstream",
            "metadata": {"namespace": "a", "name": name, "generation": 1},
            "spec": {"endpoints": [{"address": "10.0.0.1", "port": 80}]},
        }));
    }

    /// What a data plane of a group would be sent from nothing.
    pub(super) fn holds(&self, group: &str) -> Vec<String> {
        let mut session = Session::new(self.groups.get(group).unwrap().publisher);
        let hello = pb::Hello {
            schema_min: 1,
            schema_max: u32::MAX,
            ..pb::Hello::default()
        };
        session.on_hello(&hello).unwrap();
        let chunks = session.next_chunks().unwrap_or_default();
        let resources = chunks.into_iter().flat_map(|chunk| chunk.upsert);
        let names = resources.map(|r| {
            let kind = Kind::from_number(r.kind).unwrap();
            format!("{kind:?} {}", r.key)
        });
        names.collect()
    }

    fn programmed(&self, kind: ObjectKind, name: &str) -> Programmed {
        let id = ObjectId::new(kind, "a", name);
        self.groups
            .programmed(self.translator.report().get(&id).unwrap())
    }
}

pub(super) const SHARED: &str = "diolkos-system/diolkos-dataplane";

#[test]
fn each_gateway_has_what_is_its_own() {
    let mut control = Control::new();
    for (name, port) in [("x", 80), ("y", 80)] {
        control.gateway(name, port);
        control.upstream(&format!("{name}-pool"));
        control.route(name, &[name]);
    }
    control.upstream("both-pool");
    control.route("both", &["x", "y"]);
    for name in ["x", "y"] {
        let expected = [
            format!("Listener Gateway/a/{name}/http"),
            "Route a/both".to_owned(),
            format!("Route a/{name}"),
            "Upstream Upstream/a/both-pool".to_owned(),
            format!("Upstream Upstream/a/{name}-pool"),
        ];
        let mut held = control.holds(&format!("a/{name}-diolkos"));
        held.sort();
        assert_eq!(held, expected);
    }
    let shared = control.holds(SHARED);
    assert!(shared.iter().all(|r| !r.contains("pool")), "{shared:?}");
}

#[test]
fn every_group_knows_whose_a_host_is() {
    let mut control = Control::new();
    control.gateway("x", 80);
    let tenant = json!({
        "apiVersion": "diolkos.io/v1alpha1", "kind": "Tenant", "metadata": {"name": "acme", "generation": 1},
        "spec": {"hostnames": ["*.acme.com"]},
    });
    control.apply(json!({
        "apiVersion": "diolkos.io/v1alpha1", "kind": "GatewayConfig",
        "metadata": {"namespace": "diolkos-system", "name": "default", "generation": 1},
        "spec": {"default": true, "listeners": [{"name": "http", "port": 8080, "protocol": "HTTP"}]},
    }));
    let all = ["a/x-diolkos", "a/y-diolkos", SHARED];
    let owned = "Tenant acme".to_owned();
    control.apply(tenant);
    // One comes later.
    control.gateway("y", 80);
    for group in all {
        assert!(control.holds(group).contains(&owned), "{group}");
    }
    control.remove(ObjectId::new(ObjectKind::Tenant, "", "acme"));
    for group in all {
        assert!(!control.holds(group).contains(&owned), "{group}");
    }
}

#[test]
fn a_route_moves_with_what_it_needs() {
    let mut control = Control::new();
    control.gateway("x", 80);
    control.upstream("r-pool");
    // Before the Gateway that it is for.
    control.route("r", &["y"]);
    assert!(
        !control
            .holds("a/x-diolkos")
            .iter()
            .any(|r| r.contains("pool"))
    );
    control.gateway("y", 80);
    assert!(
        control
            .holds("a/y-diolkos")
            .contains(&"Upstream Upstream/a/r-pool".to_owned())
    );
    control.route("r", &["x"]);
    assert!(
        control
            .holds("a/x-diolkos")
            .contains(&"Upstream Upstream/a/r-pool".to_owned())
    );
    assert_eq!(control.holds("a/y-diolkos"), ["Listener Gateway/a/y/http"]);
}

#[test]
fn a_group_goes_with_its_gateway_and_comes_back_whole() {
    let mut control = Control::new();
    control.gateway("x", 80);
    control.upstream("r-pool");
    control.route("r", &["x"]);
    let before = control.holds("a/x-diolkos");
    control.remove(ObjectId::new(ObjectKind::Gateway, "a", "x"));
    assert!(control.groups.get("a/x-diolkos").is_none());
    control.gateway("x", 80);
    assert_eq!(control.holds("a/x-diolkos"), before);
}

#[test]
fn what_nothing_refers_to_waits_for_nobody() {
    let mut control = Control::new();
    control.gateway("x", 80);
    control.upstream("r-pool");
    assert_eq!(
        control.programmed(ObjectKind::Upstream, "r-pool"),
        Programmed::Unused
    );
    control.route("r", &["x"]);
    assert_eq!(
        control.programmed(ObjectKind::Upstream, "r-pool"),
        Programmed::NoDataPlane
    );
    assert_eq!(
        control.programmed(ObjectKind::Gateway, "x"),
        Programmed::NoDataPlane
    );
}

#[test]
fn names_that_a_service_may_have() {
    let long = "g".repeat(80);
    let all = ["web", "1st", "a.b", "a-b", &long, &format!("{long}1")];
    let mut names = Vec::new();
    for kind in [ObjectKind::Gateway, ObjectKind::GatewayConfig] {
        let owners = all.iter().map(|name| ObjectId::new(kind, "a", *name));
        names.extend(owners.map(|owner| infrastructure_name(&owner)));
    }
    assert_eq!(names[0], "web-diolkos");
    assert_eq!(names[3], "a-b-diolkos");
    assert_eq!(names[6], "web-diolkos-config");
    for name in &names {
        assert!(name.len() <= 63, "{name}");
        assert!(name.starts_with(|c: char| c.is_ascii_lowercase()), "{name}");
        assert!(
            name.chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'),
            "{name}"
        );
    }
    // What belongs to a GatewayConfig ends as nothing of a Gateway does, whatever that is called.
    let (of_gateways, of_configs) = names.split_at(all.len());
    assert!(of_gateways.iter().all(|name| name.ends_with("-diolkos")));
    assert!(
        of_configs
            .iter()
            .all(|name| name.ends_with("-diolkos-config"))
    );
    assert_eq!(BTreeSet::from_iter(&names).len(), names.len());
}

const OWN: &str = "a/config-x-diolkos-config";

#[test]
fn a_gateway_config_moves_between_the_shared_data_planes_and_its_own() {
    let mut control = Control::new();
    control.upstream("r-pool");
    control.route("r", &["config-x"]);
    control.config("config-x", None);
    let all = [
        "Listener a/config-x/http".to_owned(),
        "Route a/r".to_owned(),
        "Upstream Upstream/a/r-pool".to_owned(),
    ];
    let held = |control: &Control, group: &str| {
        let mut held = control.holds(group);
        held.sort();
        held
    };
    assert_eq!(held(&control, SHARED), all);
    assert!(control.groups.get(OWN).is_none());
    // Nothing of it changes but whose it is to serve.
    control.config("config-x", Some(json!({})));
    assert_eq!(held(&control, OWN), all);
    assert_eq!(
        held(&control, SHARED),
        ["Listener diolkos-system/default/http"]
    );
    control.config("config-x", None);
    assert_eq!(held(&control, SHARED), all);
    assert!(control.groups.get(OWN).is_none());
    // And back, with a Route that comes later.
    control.config("config-x", Some(json!({"replicas": 1})));
    control.route("s", &["config-x"]);
    assert!(control.holds(OWN).contains(&"Route a/s".to_owned()));
    control.remove(ObjectId::new(ObjectKind::GatewayConfig, "a", "config-x"));
    assert!(control.groups.get(OWN).is_none());
}

#[test]
fn neither_is_sent_what_the_other_serves() {
    let mut control = Control::new();
    control.config("config-x", Some(json!({})));
    // On the same port, for any host: they do not share it.
    control.config("config-y", None);
    for (route, parent) in [("x", "config-x"), ("y", "config-y")] {
        control.upstream(&format!("{route}-pool"));
        control.route(route, &[parent]);
    }
    for (group, own, other) in [(OWN, "x", "y"), (SHARED, "y", "x")] {
        let held = control.holds(group);
        assert!(
            held.contains(&format!("Listener a/config-{own}/http")),
            "{held:?}"
        );
        assert!(held.contains(&format!("Route a/{own}")), "{held:?}");
        let others = held.iter().filter(|r| r.contains(&format!("a/{other}")));
        assert_eq!(others.count(), 0, "{held:?}");
    }
    // Of the two, that which shares has the port once they are together.
    let accepted = |control: &Control, name: &str| {
        let id = ObjectId::new(ObjectKind::GatewayConfig, "a", name);
        let status = control
            .translator
            .report()
            .status(&id, &Programmed::Yes)
            .unwrap();
        status["conditions"][0]["status"].clone()
    };
    assert_eq!(accepted(&control, "config-y"), "True");
    control.config("config-x", None);
    let all = ["config-x", "config-y"].map(|name| accepted(&control, name));
    assert_eq!(
        all.iter().filter(|one| **one == "False").count(),
        1,
        "{all:?}"
    );
}

/// What is programmed waits for its own data planes, and not for those of others.
#[test]
fn a_gateway_config_waits_for_its_own_data_planes() {
    let mut control = Control::new();
    control.config("config-x", Some(json!({})));
    control.config("config-y", None);
    let mut session = Session::new(control.groups.get(SHARED).unwrap().publisher);
    let hello = pb::Hello {
        schema_min: 1,
        schema_max: u32::MAX,
        ..pb::Hello::default()
    };
    session.on_hello(&hello).unwrap();
    let of = |name: &str| control.programmed(ObjectKind::GatewayConfig, name);
    assert_eq!(of("config-y"), Programmed::Pending);
    assert_eq!(of("config-x"), Programmed::NoDataPlane);
}

#[test]
fn a_gateway_config_without_listeners_has_no_data_planes() {
    let mut control = Control::new();
    control.apply(json!({
        "apiVersion": "diolkos.io/v1alpha1", "kind": "GatewayConfig",
        "metadata": {"namespace": "a", "name": "config-x", "generation": 1},
        "spec": {"default": true, "dataPlane": {"replicas": 3}},
    }));
    assert!(control.groups.get(OWN).is_none());
    assert_eq!(control.holds(SHARED), ["Listener a/config-x/http"]);
    let problems: Vec<String> = control
        .translator
        .report()
        .problems()
        .map(|p| p.text())
        .collect();
    assert_eq!(
        problems,
        [
            "spec.dataPlane: has no effect without listeners: the shared data planes serve what is implied"
        ]
    );
}

/// Whoever asks for a Gateway, or for data planes of his own, takes nothing away from those who are served by what is implied.
#[test]
fn what_is_implied_serves_until_somebody_says_where_the_shared_data_planes_listen() {
    let mut control = Control::new();
    let implied = ["Listener diolkos-system/default/http"];
    control.gateway("x", 80);
    assert_eq!(control.holds(SHARED), implied);
    control.config("config-x", Some(json!({"replicas": 3})));
    assert_eq!(control.holds(SHARED), implied);
    // As the connections of a Gateway are to be, which comes after it.
    control.apply(json!({
        "apiVersion": "diolkos.io/v1alpha1", "kind": "GatewayConfig", "metadata": {"namespace": "a", "name": "params", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"timeouts": {"keepAlive": "30s"}},
    }));
    assert_eq!(control.holds(SHARED), implied);
    control.remove(ObjectId::new(ObjectKind::GatewayConfig, "a", "params"));
    control.config("shared", None);
    assert_eq!(control.holds(SHARED), ["Listener a/shared/http"]);
}

/// A version that cannot be used leaves the last one in effect, with its data planes.
#[test]
fn data_planes_stay_with_the_version_in_effect() {
    let mut control = Control::new();
    control.config("config-x", Some(json!({"replicas": 3})));
    control.apply(json!({
        "apiVersion": "diolkos.io/v1alpha1", "kind": "GatewayConfig",
        "metadata": {"namespace": "a", "name": "config-x", "generation": 2},
        "spec": {"listeners": [{"name": "http", "port": 80, "protocol": "HTTP", "hostname": "not a host"}]},
    }));
    let id = ObjectId::new(ObjectKind::GatewayConfig, "a", "config-x");
    assert!(control.translator.report().get(&id).unwrap().quarantined);
    let asked = control.translator.data_planes_of(&id).unwrap();
    assert_eq!(asked.replicas, Some(3));
    assert_eq!(control.holds(OWN), ["Listener a/config-x/http"]);
}

pub(super) fn service(address: Option<&str>) -> Value {
    let ingress: Vec<Value> = address.iter().map(|ip| json!({ "ip": ip })).collect();
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": "a", "name": "x-diolkos", "labels": {"gateway.networking.k8s.io/gateway-name": "x"}},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]},
        "status": {"loadBalancer": {"ingress": ingress}},
    })
}

#[test]
fn a_gateway_is_programmed_once_it_has_an_address() {
    let mut control = Control::new();
    control.gateway("x", 80);
    let id = ObjectId::new(ObjectKind::Gateway, "a", "x");
    let programmed = |control: &Control| {
        let status = control.translator.report().status(&id, &Programmed::Yes);
        let status = status.unwrap();
        let conditions = status["conditions"].as_array().unwrap().clone();
        let found = conditions.iter().find(|c| c["type"] == "Programmed");
        let condition = found.unwrap().clone();
        (condition["reason"].clone(), status["addresses"].clone())
    };
    assert_eq!(
        programmed(&control),
        (json!("AddressNotAssigned"), json!([]))
    );
    control.apply(service(None));
    assert_eq!(programmed(&control).0, "AddressNotAssigned");
    control.apply(service(Some("192.0.2.7")));
    let addresses = json!([{"type": "IPAddress", "value": "192.0.2.7"}]);
    assert_eq!(programmed(&control), (json!("Programmed"), addresses));
}

/// Of a GatewayConfig with data planes of its own, and of an Ingress that attaches there.
#[test]
fn addresses_are_those_of_its_own_service() {
    let mut control = Control::new();
    control.translator = Translator::for_groups().publishing(Published {
        addresses: vec!["198.51.100.1".to_owned()],
        service: None,
    });
    control.apply(json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "own"},
        "spec": {
            "controller": "diolkos.io/controller",
            "parameters": {
                "apiGroup": "diolkos.io", "kind": "GatewayConfig", "scope": "Namespace", "namespace": "a", "name": "config-x",
            },
        },
    }));
    control.apply(json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"namespace": "a", "name": "i"},
        "spec": {"ingressClassName": "own", "rules": [{"host": "i.example"}]},
    }));
    control.config("config-x", Some(json!({"service": {"type": "ClusterIP"}})));
    let config = ObjectId::new(ObjectKind::GatewayConfig, "a", "config-x");
    let ingress = ObjectId::new(ObjectKind::Ingress, "a", "i");
    let status = |control: &Control, id: &ObjectId| {
        let report = control.translator.report();
        report.status(id, &Programmed::Yes).unwrap_or_default()
    };
    let programmed = |status: &Value| {
        let conditions = status["conditions"].as_array().unwrap().iter();
        let mut found = conditions.filter(|c| c["type"] == "Programmed");
        found.next().unwrap()["reason"].clone()
    };
    let waiting = status(&control, &config);
    assert_eq!(programmed(&waiting), "AddressNotAssigned");
    assert_eq!(waiting["addresses"], json!([]));
    assert_eq!(status(&control, &ingress), Value::Null);
    control.apply(json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "namespace": "a", "name": "config-x-diolkos-config", "labels": {"diolkos.io/gateway-config-name": "config-x"},
        },
        "spec": {"type": "ClusterIP", "clusterIPs": ["10.0.0.9"], "ports": [{"port": 80}]},
    }));
    let reached = status(&control, &config);
    assert_eq!(programmed(&reached), "Programmed");
    assert_eq!(
        reached["addresses"],
        json!([{"type": "IPAddress", "value": "10.0.0.9"}])
    );
    assert_eq!(
        status(&control, &ingress)["loadBalancer"]["ingress"],
        json!([{"ip": "10.0.0.9"}])
    );
    // Where it shares data planes it is reached by theirs.
    control.config("config-x", None);
    assert_eq!(status(&control, &config).get("addresses"), None);
    assert_eq!(
        status(&control, &ingress)["loadBalancer"]["ingress"],
        json!([{"ip": "198.51.100.1"}])
    );
}

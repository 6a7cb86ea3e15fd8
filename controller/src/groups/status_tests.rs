//! What statuses say of a Gateway or GatewayConfig and its data planes, and of each of its listeners.

use super::tests::{Control, SHARED, service};
use super::*;
use crate::publish::Session;
use crate::report::Progress;
use crate::translate::Translator;
use crate::world::{Scope, World};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use snapshot::{Kind, Replica, SCHEMA, pb};

/// What a condition says of the object, and of each of its listeners: `True`, or its reason.
fn reasons(control: &Control, id: &ObjectId, type_: &str) -> Vec<String> {
    let report = control.translator.report().get(id).unwrap();
    let of = |some: &[ResourceId]| control.groups.programmed_of(id, some);
    let whole = control.groups.programmed(report);
    let progress = Progress::new(whole, report, control.translator.resources(), of);
    let status = report.status(&progress).unwrap();
    let listeners = status["listeners"].as_array().unwrap().iter();
    let all = [&status].into_iter().chain(listeners);
    let reason = |of: &Value| {
        let mut conditions = of["conditions"].as_array().unwrap().iter();
        let found = conditions.find(|c| c["type"] == type_).unwrap();
        let said = match found["status"] == "True" {
            true => "True",
            false => found["reason"].as_str().unwrap(),
        };
        said.to_owned()
    };
    all.map(reason).collect()
}

/// A Gateway, and a GatewayConfig that shares data planes, each with these listeners; and the groups that serve them.
fn with_listeners(listeners: &Value) -> (Control, [(ObjectId, &'static str); 2]) {
    let mut control = Control::new();
    control.apply(service(Some("192.0.2.7")));
    let mut of = |kind: ObjectKind, group: &str, name: &str, spec: Value| {
        control.apply(json!({
            "apiVersion": group, "kind": kind.name(), "spec": spec,
            "metadata": {"namespace": "a", "name": name, "generation": 1},
        }));
        ObjectId::new(kind, "a", name)
    };
    let spec = json!({"gatewayClassName": "diolkos", "listeners": listeners});
    let group = "gateway.networking.k8s.io/v1";
    let gateway = of(ObjectKind::Gateway, group, "x", spec);
    let spec = json!({ "listeners": listeners });
    let config = of(ObjectKind::GatewayConfig, "diolkos.io/v1alpha1", "c", spec);
    (control, [(gateway, "a/x-diolkos"), (config, SHARED)])
}

/// A data plane of a group.
struct DataPlane {
    session: Session,
    replica: Replica,
}

impl DataPlane {
    fn of(control: &Control, group: &str) -> Self {
        let publisher = control.groups.get(group).unwrap().publisher;
        let mut session = Session::new(publisher);
        let hello = pb::Hello {
            node_id: "n".into(),
            schema_min: 1,
            schema_max: SCHEMA,
            ..pb::Hello::default()
        };
        session.on_hello(&hello).unwrap();
        let replica = Replica::default();
        Self { session, replica }
    }

    /// Takes what is due, all but a listener that it cannot open.
    fn take(&mut self, unbound: Option<&str>) {
        let listeners = unbound.map(|key| pb::ListenerState {
            key: key.into(),
            error: "address in use".into(),
            ..pb::ListenerState::default()
        });
        while let Some(chunks) = self.session.next_chunks() {
            for chunk in chunks {
                let Some(staged) = self.replica.receive(chunk).unwrap() else {
                    continue;
                };
                let applied = self.replica.commit(staged);
                let ack = pb::Ack {
                    transaction: applied.transaction,
                    digest: applied.digest.to_bytes().to_vec(),
                    listeners: listeners.iter().cloned().collect(),
                };
                self.session.on_ack(&ack).unwrap();
            }
        }
    }

    /// Refuses one resource, and takes all else.
    fn refuse(&mut self, (kind, key): (Kind, &str)) {
        let chunks = self.session.next_chunks().unwrap();
        let nack = pb::Nack {
            transaction: chunks[0].transaction,
            rejected: vec![pb::Rejection {
                kind: kind as u32,
                key: key.into(),
                reason: "cannot be used".into(),
            }],
            message: String::new(),
        };
        self.session.on_nack(&nack).unwrap();
        self.take(None);
    }
}

#[test]
fn a_listener_that_cannot_be_opened_is_the_only_one_that_is_not_programmed() {
    let listeners = json!([
        {"name": "web", "port": 80, "protocol": "HTTP"}, {"name": "taken", "port": 8081, "protocol": "HTTP"},
    ]);
    let (control, both) = with_listeners(&listeners);
    for (id, group) in both {
        let programmed = || reasons(&control, &id, "Programmed");
        assert_eq!(programmed(), ["NoDataPlane"; 3]);
        let mut data_plane = DataPlane::of(&control, group);
        assert_eq!(programmed(), ["Pending"; 3]);
        data_plane.take(Some(&id.listener_key(None, "taken")));
        let expected = ["ListenerNotBound", "True", "ListenerNotBound"];
        assert_eq!(programmed(), expected, "{id}");
    }
}

#[test]
fn a_listener_that_is_refused_is_the_only_one_that_is_not_programmed() {
    let listeners = json!([
        {"name": "web", "port": 80, "protocol": "HTTP"},
        {"name": "bad", "port": 443, "protocol": "HTTPS", "hostname": "a.test", "tls": {"certificateRefs": [{"name": "cert"}]}},
    ]);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["a.test".to_owned()]).unwrap();
    let chain = params.self_signed(&key).unwrap().pem();
    let key = key.serialize_pem();
    for of_certificate in [false, true] {
        let (mut control, both) = with_listeners(&listeners);
        control.apply(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "a", "name": "cert"},
            "stringData": {"tls.crt": chain, "tls.key": key},
        }));
        for (id, group) in both {
            let listener = id.listener_key(None, "bad");
            let refused = match of_certificate {
                true => (Kind::Certificate, "a/cert"),
                false => (Kind::Listener, &*listener),
            };
            let mut data_plane = DataPlane::of(&control, group);
            data_plane.refuse(refused);
            let expected = ["RejectedByDataPlane", "True", "RejectedByDataPlane"];
            assert_eq!(reasons(&control, &id, "Programmed"), expected, "{id}");
        }
    }
}

/// Where data planes of its own would show their state. Those that are shared are whoever's installs them.
#[test]
fn the_port_of_the_data_planes_themselves_is_no_listeners() {
    let listeners = json!([
        {"name": "web", "port": 80, "protocol": "HTTP"},
        {"name": "admin", "port": 19090, "protocol": "HTTP"},
        {"name": "datagrams", "port": 19090, "protocol": "UDP"},
    ]);
    let (mut control, [(gateway, group), (config, _)]) = with_listeners(&listeners);
    let accepted = |control: &Control, id: &ObjectId| reasons(control, id, "Accepted");
    assert_eq!(accepted(&control, &config), ["True"; 4]);
    let all = accepted(&control, &gateway);
    assert_eq!(all[1..], ["True", "PortUnavailable", "True"]);
    let held = control.holds(group);
    let expected = ["Listener Gateway/a/x/datagrams", "Listener Gateway/a/x/web"];
    assert_eq!(held, expected);
    control.apply(json!({
        "apiVersion": "diolkos.io/v1alpha1", "kind": "GatewayConfig",
        "metadata": {"namespace": "a", "name": "c", "generation": 2}, "spec": {"listeners": listeners, "dataPlane": {}},
    }));
    let all = accepted(&control, &config);
    assert_eq!(all[1..], ["True", "PortUnavailable", "True"]);
}

#[test]
fn a_listener_set_waits_for_the_address_of_its_gateway() {
    let mut control = Control::new();
    control.apply(json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"namespace": "a", "name": "x"},
        "spec": {
            "gatewayClassName": "diolkos", "allowedListeners": {"namespaces": {"from": "Same"}},
            "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}],
        },
    }));
    control.apply(json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "ListenerSet", "metadata": {"namespace": "a", "name": "s"},
        "spec": {"parentRef": {"name": "x"}, "listeners": [{"name": "more", "port": 81, "protocol": "HTTP"}]},
    }));
    let mut data_plane = DataPlane::of(&control, "a/x-diolkos");
    data_plane.take(None);
    let set = ObjectId::new(ObjectKind::ListenerSet, "a", "s");
    let programmed = |control: &Control| reasons(control, &set, "Programmed");
    assert_eq!(programmed(&control), ["ParentNotProgrammed", "True"]);
    control.apply(service(Some("192.0.2.7")));
    assert_eq!(programmed(&control), ["True", "True"]);
}

#[test]
fn a_gateway_says_which_of_its_addresses_it_did_not_get() {
    let mut control = Control::new();
    control.apply(service(Some("192.0.2.7")));
    control.apply(json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"namespace": "a", "name": "x"},
        "spec": {
            "gatewayClassName": "diolkos", "addresses": [{"value": "192.0.2.8"}],
            "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}],
        },
    }));
    let mut data_plane = DataPlane::of(&control, "a/x-diolkos");
    data_plane.take(None);
    let gateway = ObjectId::new(ObjectKind::Gateway, "a", "x");
    let programmed = |control: &Control| reasons(control, &gateway, "Programmed");
    assert_eq!(programmed(&control), ["AddressNotUsable", "True"]);
    control.apply(service(Some("192.0.2.8")));
    assert_eq!(programmed(&control), ["True", "True"]);
}

/// Their certificate would be in a Secret of the owner's namespace.
#[test]
fn data_planes_that_may_not_be_made_are_said_to_be_missing() {
    let elsewhere = Scope::default().with_secrets_of(&"b".parse().unwrap());
    for (makes, scope, gateway, own) in [
        (
            true,
            elsewhere.clone(),
            "DataPlanesNotPermitted",
            "DataPlanesNotPermitted",
        ),
        (true, Scope::default(), "AddressNotAssigned", "NoDataPlane"),
        // Somebody else makes them.
        (false, elsewhere, "AddressNotAssigned", "NoDataPlane"),
    ] {
        let translator = Translator::for_groups().making_data_planes(makes);
        let mut control = Control::of(World::of(scope), translator);
        control.gateway("x", 80);
        control.config("config-x", Some(json!({})));
        control.config("config-shared", None);
        for (kind, name, reason) in [
            (ObjectKind::Gateway, "x", gateway),
            (ObjectKind::GatewayConfig, "config-x", own),
            (ObjectKind::GatewayConfig, "config-shared", "NoDataPlane"),
        ] {
            let id = ObjectId::new(kind, "a", name);
            let programmed = reasons(&control, &id, "Programmed");
            assert_eq!(programmed.first().unwrap(), reason, "{id}");
            assert_eq!(reasons(&control, &id, "Accepted"), ["True", "True"]);
        }
    }
}

//! The life of a certificate: it expires, it goes, and nobody needs it any more.

use crate::report::{Programmed, Reason};
use crate::translate::Translator;
use crate::world::{Object, ObjectId, ObjectKind, Scope, World};
use serde_json::{Value, json};
use std::collections::BTreeSet;

struct Given {
    world: World,
    translator: Translator,
}

impl Given {
    fn new() -> Self {
        Self {
            world: World::default(),
            translator: Translator::default(),
        }
    }

    fn apply(&mut self, value: &Value) {
        let object = Object::from_json(value).unwrap().unwrap();
        let id = object.id.clone();
        self.world.apply(object);
        self.update(&id);
    }

    fn update(&mut self, id: &ObjectId) {
        let dirty = BTreeSet::from([id.clone()]);
        self.translator.update(&self.world, &dirty);
    }

    fn reasons(&self) -> Vec<Reason> {
        let problems = self.translator.report().problems();
        problems.map(|p| p.reason).collect()
    }

    fn status(&self) -> Value {
        let id = ObjectId::new(ObjectKind::GatewayConfig, "a", "g");
        let status = self.translator.report().status(&id, &Programmed::Yes);
        status.unwrap()
    }

    /// Status and reason of the condition of the listener.
    fn certificate_ready(&self) -> (&'static str, &'static str) {
        let status = self.status();
        let conditions = status["listeners"][0]["conditions"].as_array().unwrap();
        let ready = conditions.iter().find(|c| c["type"] == "CertificateReady");
        let ready = ready.unwrap();
        let known = |field: &str| {
            let all = [
                "True",
                "False",
                "CertificateReady",
                "CertificateExpired",
                "RefNotFound",
            ];
            all.into_iter().find(|word| ready[field] == *word).unwrap()
        };
        (known("status"), known("reason"))
    }

    fn certificates(&self) -> Vec<String> {
        let model = self.translator.resources().model();
        model.certificates.into_keys().collect()
    }
}

fn secret() -> Value {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(["a.example.com".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2030, 1, 1);
    let chain = params.self_signed(&key).unwrap().pem();
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "a", "name": "s"},
        "stringData": {"tls.crt": chain, "tls.key": key.serialize_pem()}})
}

fn gateway(protocol: &str, tls: &Value) -> Value {
    json!({"apiVersion": "diolkos.io/v1alpha1", "kind": "GatewayConfig", "metadata": {"namespace": "a", "name": "g"},
        "spec": {"listeners": [{"name": "l", "port": 8443, "protocol": protocol, "tls": tls}]}})
}

fn https() -> Value {
    gateway("HTTPS", &json!({"certificateRefs": [{"name": "s"}]}))
}

fn id() -> ObjectId {
    ObjectId::new(ObjectKind::Secret, "a", "s")
}

#[test]
fn an_expired_certificate_is_said_and_used() {
    const NEW_YEAR_2030: i64 = 1_893_456_000;
    let mut given = Given::new();
    given.world.set_now(NEW_YEAR_2030 - 1);
    given.apply(&secret());
    given.apply(&https());
    assert_eq!(given.reasons(), []);
    assert_eq!(given.certificate_ready(), ("True", "CertificateReady"));
    given.world.set_now(NEW_YEAR_2030 + 1);
    given.update(&id());
    assert_eq!(given.certificate_ready(), ("False", "CertificateExpired"));
    assert_eq!(given.status()["conditions"][3]["type"], "Ready");
    assert_eq!(given.status()["conditions"][3]["status"], "True");
    assert_eq!(given.reasons(), [Reason::CertificateExpired]);
    let problems: Vec<_> = given.translator.report().problems().collect();
    assert!(
        problems[0]
            .message
            .contains("expired at 2030-01-01T00:00:00Z")
    );
    assert_eq!(given.certificates(), ["a/s"]);
}

#[test]
fn the_last_good_one_outlives_its_secret_until_nothing_refers_to_it() {
    let mut given = Given::new();
    given.apply(&https());
    assert_eq!(given.reasons(), [Reason::RefNotFound]);
    assert_eq!(given.certificate_ready(), ("False", "RefNotFound"));
    assert!(given.translator.resources().model().listeners.is_empty());
    given.apply(&secret());
    assert_eq!((given.reasons(), given.certificates().len()), (vec![], 1));
    given.world.remove(&id());
    given.update(&id());
    assert_eq!(given.reasons(), [Reason::RefNotFound]);
    assert_eq!(given.certificates(), ["a/s"]);
    assert_eq!(given.translator.resources().model().listeners.len(), 1);
    assert_eq!(given.certificate_ready(), ("False", "RefNotFound"));
    // It is forgotten with the last reference.
    given.apply(&gateway("HTTP", &Value::Null));
    let plain = given.status();
    let conditions = plain["listeners"][0]["conditions"].as_array().unwrap();
    assert_eq!(conditions.len(), 3, "without TLS there is nothing to load");
    assert!(given.certificates().is_empty());
    given.apply(&https());
    assert!(given.certificates().is_empty());
    assert!(given.reasons().contains(&Reason::RefNotFound));
}

#[test]
fn a_secret_that_may_not_be_read_is_told_from_one_that_is_not_there() {
    let mut given = Given::new();
    given.world = World::of(Scope::default().with_secrets_of(&"b".parse().unwrap()));
    given.apply(&https());
    assert_eq!(given.reasons(), [Reason::RefNotReadable]);
    let mut neighbour = https();
    neighbour["metadata"]["namespace"] = json!("b");
    neighbour["spec"]["listeners"][0]["port"] = json!(9443);
    given.apply(&neighbour);
    assert_eq!(
        given.reasons(),
        [Reason::RefNotReadable, Reason::RefNotFound]
    );
    let mut readable = secret();
    readable["metadata"]["namespace"] = json!("b");
    given.apply(&readable);
    assert_eq!(given.reasons(), [Reason::RefNotReadable]);
    assert_eq!(given.certificates(), ["b/s"]);
    assert_eq!(given.translator.resources().model().listeners.len(), 1);
}

/// A renewal that went wrong: a replica that starts later has never seen what was good before.
#[test]
fn what_was_last_good_is_taken_over_by_other_replicas() {
    let authorities = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "a", "name": "ca"},
        "data": {"ca.crt": secret()["stringData"]["tls.crt"]}});
    let https = gateway(
        "HTTPS",
        &json!({"certificateRefs": [{"name": "s"}], "clientValidation": {"caRefs": [{"kind": "ConfigMap", "name": "ca"}]}}),
    );
    let broken = |value: &Value, field: &str, key: &str| {
        let mut value = value.clone();
        value[field][key] = "none".into();
        value
    };
    let good = secret();
    let all = [
        broken(&good, "stringData", "tls.key"),
        broken(&authorities, "data", "ca.crt"),
        https.clone(),
    ];
    let stand_ins = |given: &Given| -> Vec<Object> {
        let all = given.translator.stand_ins();
        all.map(|m| Object::from_json(&m).unwrap().unwrap())
            .collect()
    };
    let same = |one: &Given, other: &Given| {
        assert!(one.translator.resources() == other.translator.resources());
        assert_eq!(one.translator.report(), other.translator.report());
        assert_eq!(stand_ins(one), stand_ins(other));
    };
    let tell = |given: &mut Given, told: &[Object]| {
        let ids = given.translator.recall(&given.world, told.to_vec());
        given.translator.update(&given.world, &ids);
        ids.len()
    };

    let mut first = Given::new();
    for object in [&good, &authorities, &https] {
        first.apply(object);
    }
    assert_eq!((first.reasons(), stand_ins(&first)), (vec![], vec![]));
    let seen = first.translator.stand_ins_changed();
    for object in &all {
        first.apply(object);
    }
    assert_eq!(first.reasons(), [Reason::InvalidCertificate; 2]);
    assert_ne!(first.translator.stand_ins_changed(), seen);
    let told = stand_ins(&first);
    assert_eq!(told.len(), 2);

    let mut told_before = Given::new();
    let ids = told_before
        .translator
        .recall(&told_before.world, told.clone());
    assert_eq!(ids.len(), 2);
    for object in &all {
        told_before.apply(object);
    }
    told_before.translator.forget_unused(&told_before.world);
    same(&told_before, &first);
    let mut told_in_vain = Given::new();
    let in_vain = &mut told_in_vain;
    in_vain.translator.recall(&in_vain.world, told.clone());
    in_vain.apply(&all[0]);
    assert_eq!(stand_ins(in_vain).len(), 2);
    in_vain.translator.forget_unused(&in_vain.world);
    assert_eq!(stand_ins(in_vain), []);
    let mut told_after = Given::new();
    for object in &all {
        told_after.apply(object);
    }
    assert!(told_after.certificates().is_empty());
    assert_eq!(tell(&mut told_after, &told), 2);
    same(&told_after, &first);
    assert_eq!(tell(&mut told_after, &told), 0, "it is known");

    // What is good here stays, and nobody is told of what nothing refers to.
    let mut other = Given::new();
    for object in [&secret(), &authorities, &https] {
        other.apply(object);
    }
    let before = other.translator.resources().clone();
    assert_eq!(tell(&mut other, &told), 0);
    assert!(*other.translator.resources() == before);
    let mut unused = Given::new();
    unused.apply(&all[0]);
    assert_eq!(tell(&mut unused, &told), 0);

    // With the next good version there is nothing to tell any more.
    let seen = first.translator.stand_ins_changed();
    first.apply(&secret());
    first.apply(&authorities);
    assert_eq!((first.reasons(), stand_ins(&first)), (vec![], vec![]));
    assert_ne!(first.translator.stand_ins_changed(), seen);
}

//! What is remembered of the status that an object carries.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use kube::api::ApiResource;
use parking_lot::Mutex;
use serde_json::{Map, Value};
use snapshot::Hash;

use super::Next;
use crate::world::{ObjectId, ObjectKind};

/// Beyond this it is cheaper to look at all objects.
const MAX: usize = 4096;
const TIME: &str = "lastTransitionTime";

/// The statuses that objects carry.
#[derive(Default)]
pub struct Written(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// Bounded by the number of objects.
    seen: HashMap<ObjectId, Seen>,
    /// Objects that were seen with another status than they were known to carry. One more than there is room for says
    /// that all are meant.
    overwritten: BTreeSet<ObjectId>,
    /// Kinds in the version in which they are followed: the cluster may serve no other.
    followed: HashMap<ObjectKind, ApiResource>,
}

/// An object as it was seen last, or as we have written it since.
#[derive(Default)]
struct Seen {
    /// Empty: not seen yet.
    uid: Arc<str>,
    version: Box<str>,
    status: Option<Imprint>,
}

impl Written {
    /// A kind is followed in this version.
    pub fn follow(&self, kind: ObjectKind, resource: ApiResource) {
        self.0.lock().followed.insert(kind, resource);
    }

    /// In which version a kind is followed, if it is.
    pub fn followed(&self, kind: ObjectKind) -> Option<ApiResource> {
        self.0.lock().followed.get(&kind).cloned()
    }

    /// An object was given a status, or has it already.
    pub fn note(&self, id: &ObjectId, status: Option<&Value>) {
        let imprint = status.cloned().map(Imprint::of);
        let mut known = self.0.lock();
        // What was seen of it was most likely this.
        known.overwritten.remove(id);
        known.seen.entry(id.clone()).or_default().status = imprint;
    }

    /// An object was seen with a status. `version`: its `metadata.resourceVersion`.
    pub fn see(&self, id: &ObjectId, uid: &Arc<str>, version: &str, status: Option<Value>) {
        let status = status.map(Imprint::of);
        let mut known = self.0.lock();
        let seen = Seen {
            uid: Arc::clone(uid),
            version: version.into(),
            status,
        };
        let content = seen.status.as_ref().map(|new| new.content);
        let before = known.seen.insert(id.clone(), seen);
        let before = before.and_then(|old| old.status).map(|old| old.content);
        let is_other = before.is_some() && before != content;
        if is_other && known.overwritten.len() <= MAX {
            known.overwritten.insert(id.clone());
        }
    }

    /// The version in which an object was seen last, as long as it is the one of this uid.
    pub fn version_of(&self, id: &ObjectId, uid: &str) -> Option<Box<str>> {
        let known = self.0.lock();
        let seen = known.seen.get(id).filter(|seen| *seen.uid == *uid);
        seen.map(|seen| seen.version.clone())
    }

    /// A write has made one version of an object of another; unless a later one has been seen meanwhile, the next write
    /// builds on it.
    pub fn moved(&self, id: &ObjectId, from: &str, to: &str) {
        let mut known = self.0.lock();
        if let Some(seen) = known.seen.get_mut(id).filter(|seen| *seen.version == *from) {
            seen.version = to.into();
        }
    }

    /// Objects whose status others have written, or we have written elsewhere, since the last call.
    pub fn overwritten(&self) -> Next {
        let ids = std::mem::take(&mut self.0.lock().overwritten);
        match ids.len() > MAX {
            true => Next::All,
            false => Next::Some(ids.into_iter().collect()),
        }
    }

    /// Whether the object of this uid says that it is programmed in this generation.
    pub fn is_programmed(&self, id: &ObjectId, uid: &str, generation: i64) -> bool {
        let known = self.0.lock();
        let seen = known.seen.get(id).filter(|seen| *seen.uid == *uid);
        let status = seen.and_then(|seen| seen.status.as_ref());
        status.is_some_and(|status| status.programmed == Some(generation))
    }

    /// Whether an object carries nothing of ours.
    pub fn is_empty(&self, id: &ObjectId) -> bool {
        let known = self.0.lock();
        let present = known.status_of(id).map(|old| old.content);
        present.is_none_or(|present| present == content(&Value::Object(Map::new())))
    }

    /// The object of this uid is gone. Another that has its name may have been seen already.
    pub fn forget(&self, id: &ObjectId, uid: &str) {
        let mut known = self.0.lock();
        let seen = known.seen.get(id);
        if seen.is_some_and(|seen| seen.uid.is_empty() || *seen.uid == *uid) {
            known.overwritten.remove(id);
            known.seen.remove(id);
        }
    }

    /// Adds the times of its conditions to a status: the old one where a condition's value is what it was. `None`
    /// when the object carries this status already.
    pub fn stamp(&self, id: &ObjectId, status: Value, now: &str) -> Option<Value> {
        let known = self.0.lock();
        match known.status_of(id) {
            Some(old) => old.stamp(status, now),
            None => Some(stamped(status, &[], now)),
        }
    }
}

impl Known {
    fn status_of(&self, id: &ObjectId) -> Option<&Imprint> {
        self.seen.get(id)?.status.as_ref()
    }
}

/// A status without its times as a hash, and its conditions with theirs.
struct Imprint {
    content: Hash,
    conditions: Box<[Condition]>,
    /// The generation of the object that data planes have, by its own words: at one parent at least.
    programmed: Option<i64>,
}

struct Condition {
    /// Hash of where it stands, its type and its value.
    value: u64,
    /// Seconds since the epoch: times of conditions are whole.
    time: i64,
}

impl Imprint {
    fn of(mut status: Value) -> Self {
        let programmed = programmed(&status);
        let mut conditions = Vec::new();
        visit(&mut status, &mut |value, condition| {
            let time = condition.get(TIME).and_then(Value::as_str);
            if let Some(time) = time.and_then(|time| time.parse::<Timestamp>().ok()) {
                conditions.push(Condition {
                    value,
                    time: time.as_second(),
                });
            }
        });
        Self {
            content: content(&status),
            conditions: conditions.into(),
            programmed,
        }
    }

    fn stamp(&self, status: Value, now: &str) -> Option<Value> {
        (self.content != content(&status)).then(|| stamped(status, &self.conditions, now))
    }
}

/// `before`: its conditions as they were.
fn stamped(mut status: Value, before: &[Condition], now: &str) -> Value {
    visit(&mut status, &mut |value, condition| {
        let old = before.iter().find(|c| c.value == value);
        let old = old.and_then(|c| Timestamp::from_second(c.time).ok());
        let time = old.map_or_else(|| now.to_owned(), |time| time.to_string());
        condition.insert(TIME.into(), time.into());
    });
    status
}

/// Calls `see` for the conditions of a status and those of its parts, with a hash of place, type and value.
fn visit(status: &mut Value, see: &mut impl FnMut(u64, &mut Map<String, Value>)) {
    let mut conditions = |of: &mut Value, place: u64| {
        let Some(Value::Array(list)) = of.get_mut("conditions") else {
            return;
        };
        for condition in list.iter_mut().filter_map(Value::as_object_mut) {
            let mut what = Vec::with_capacity(64);
            what.extend(place.to_be_bytes());
            for field in ["type", "status"] {
                let text = condition.get(field).and_then(Value::as_str);
                what.extend(text.unwrap_or_default().as_bytes());
                what.push(0);
            }
            see(first_8(blake3::hash(&what).as_bytes()), condition);
        }
    };
    conditions(status, 0);
    for (list, name) in [
        ("parents", "parentRef"),
        ("ancestors", "ancestorRef"),
        ("listeners", "name"),
    ] {
        if let Some(Value::Array(parts)) = status.get_mut(list) {
            for part in parts {
                let place = part.get(name).map_or(1, |p| first_8(&content(p).0));
                conditions(part, place);
            }
        }
    }
}

/// See [`Imprint::programmed`].
fn programmed(status: &Value) -> Option<i64> {
    fn list<'a>(of: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
        of.get(name).and_then(Value::as_array).into_iter().flatten()
    }
    let all = [status].into_iter().chain(list(status, "parents"));
    let mut conditions = all.flat_map(|of| list(of, "conditions"));
    let programmed = conditions.find(|c| {
        let is = |field: &str, value: &str| c.get(field).is_some_and(|is| is == value);
        is("type", "Programmed") && is("status", "True")
    });
    programmed?.get("observedGeneration")?.as_i64()
}

fn first_8(hash: &[u8]) -> u64 {
    hash.iter()
        .take(8)
        .fold(0, |n, byte| (n << 8) | u64::from(*byte))
}

/// A hash of a value that does not depend on the order of fields, on times, or on whether what is empty is written.
pub(super) fn content(value: &Value) -> Hash {
    let mut text = Vec::with_capacity(1024);
    write(value, &mut text);
    Hash::of(&text)
}

/// Writes a value in its one form: to hash it all at once costs a fraction of hashing it piece by piece.
fn write(value: &Value, out: &mut Vec<u8>) {
    fn begin(what: u8, len: usize, out: &mut Vec<u8>) {
        out.push(what);
        out.extend((len as u64).to_be_bytes());
    }
    match value {
        Value::Object(map) => {
            let mut fields: Vec<_> = map
                .iter()
                .filter(|(key, value)| *key != TIME && !is_empty(value))
                .collect();
            fields.sort_unstable_by_key(|(key, _)| *key);
            begin(b'{', fields.len(), out);
            for (key, value) in fields {
                begin(b':', key.len(), out);
                out.extend(key.as_bytes());
                write(value, out);
            }
        }
        Value::Array(list) => {
            begin(b'[', list.len(), out);
            list.iter().for_each(|value| write(value, out));
        }
        Value::String(text) => {
            begin(b'"', text.len(), out);
            out.extend(text.as_bytes());
        }
        scalar => {
            let text = scalar.to_string();
            begin(b'=', text.len(), out);
            out.extend(text.as_bytes());
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::report::Programmed;
    use crate::translate::translate;
    use crate::world::{Object, ObjectKind, World};

    const THEN: &str = "2026-01-01T00:00:00Z";
    const NOW: &str = "2026-02-02T00:00:00Z";

    fn status(accepted: &str, programmed: &str) -> Value {
        json!({
            "observedGeneration": 3,
            "conditions": [{"type": "Ready", "status": accepted, "reason": "R", "message": "", "observedGeneration": 3}],
            "parents": [{
                "parentRef": {"name": "default"},
                "conditions": [
                    {"type": "Accepted", "status": accepted, "reason": "R", "message": ""},
                    {"type": "Programmed", "status": programmed, "reason": "R", "message": ""},
                ],
            }],
        })
    }

    fn time<'a>(status: &'a Value, pointer: &str) -> &'a str {
        status
            .pointer(pointer)
            .and_then(|c| c.get(TIME))
            .and_then(Value::as_str)
            .unwrap()
    }

    #[test]
    fn a_time_moves_with_its_value_only() {
        let written = Written::default();
        let id = ObjectId::new(ObjectKind::Route, "a", "b");
        let first = written.stamp(&id, status("True", "False"), THEN).unwrap();
        assert_eq!(time(&first, "/conditions/0"), THEN);
        written.note(&id, Some(&first));
        assert_eq!(written.stamp(&id, status("True", "False"), NOW), None);

        let second = written.stamp(&id, status("True", "True"), NOW).unwrap();
        assert_eq!(time(&second, "/conditions/0"), THEN);
        assert_eq!(time(&second, "/parents/0/conditions/0"), THEN);
        assert_eq!(time(&second, "/parents/0/conditions/1"), NOW);

        written.forget(&id, "");
        assert_eq!(
            written
                .stamp(&id, second, NOW)
                .map(|s| time(&s, "/conditions/0").to_owned())
                .as_deref(),
            Some(NOW)
        );
    }

    #[test]
    fn what_an_object_says_of_itself_is_of_its_generation() {
        let written = Written::default();
        let id = ObjectId::new(ObjectKind::Route, "a", "b");
        let at = |of: &str, value: &str| {
            let condition = json!({"type": "Programmed", "status": value, "observedGeneration": 3});
            let all = json!({"conditions": [{"type": "Accepted", "status": "True"}, condition]});
            match of {
                "" => all,
                list => json!({"conditions": [], list: [{"conditions": []}, all]}),
            }
        };
        for (of, value, is) in [
            ("", "True", true),
            ("parents", "True", true),
            ("listeners", "True", false),
            ("", "False", false),
        ] {
            written.see(&id, &"u".into(), "1", Some(at(of, value)));
            assert_eq!(written.is_programmed(&id, "u", 3), is, "{of} {value}");
            assert!(!written.is_programmed(&id, "u", 4));
            assert!(!written.is_programmed(&id, "v", 3), "another of its name");
        }
    }

    #[test]
    fn a_time_that_cannot_be_read_is_made_anew() {
        let written = Written::default();
        let id = ObjectId::new(ObjectKind::Route, "a", "b");
        let mut first = status("True", "False");
        first["conditions"][0][TIME] = json!("yesterday");
        first["parents"][0]["conditions"][0][TIME] = json!("2026-01-01T01:00:00+01:00");
        written.note(&id, Some(&first));
        let second = written.stamp(&id, status("True", "True"), NOW).unwrap();
        assert_eq!(time(&second, "/conditions/0"), NOW);
        assert_eq!(time(&second, "/parents/0/conditions/0"), THEN);
    }

    /// Otherwise what is seen of an object would look like somebody else's, and be written again and again.
    #[test]
    fn what_the_schema_knows_of_a_status_is_all_of_it() {
        let object = |value: Value| Object::from_json(&value).unwrap().unwrap();
        let config = object(json!({
            "apiVersion": "diolkos.io/v1alpha1", "kind": "GatewayConfig", "metadata": {"namespace": "a", "name": "g"},
            "spec": {"default": true, "listeners": [
                {"name": "http", "port": 8080, "protocol": "HTTP"},
                {"name": "https", "port": 8443, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "s"}]}},
            ]},
        }));
        let route = object(json!({
            "apiVersion": "diolkos.io/v1alpha1", "kind": "Route", "metadata": {"namespace": "a", "name": "r"},
            "spec": {"rules": [{"plugins": [{"name": "p", "type": "Mock", "mock": {"status": 200}}]}]},
        }));
        let ids = [config.id.clone(), route.id.clone()];
        let mut world = World::default();
        world.apply(config);
        world.apply(route);
        let report = translate(&world).report;
        let [config, route] = ids.map(|id| {
            let status = report.status(&id, &Programmed::Yes).unwrap();
            Written::default().stamp(&id, status, NOW).unwrap()
        });
        assert_eq!(config["listeners"].as_array().unwrap().len(), 2);
        assert_eq!(route["effective"]["plugins"][0]["from"], "rule/0");
        let seen: crds::GatewayConfigStatus = serde_json::from_value(config.clone()).unwrap();
        assert_eq!(serde_json::to_value(seen).unwrap(), config);
        let seen: crds::RouteStatus = serde_json::from_value(route.clone()).unwrap();
        assert_eq!(serde_json::to_value(seen).unwrap(), route);
    }

    #[test]
    fn what_others_have_written_is_found_out() {
        let written = Written::default();
        let id = |n: usize| ObjectId::new(ObjectKind::Route, "a", n.to_string());
        let some = |ids: &[usize]| Next::Some(ids.iter().copied().map(id).collect());
        let (ours, theirs) = (status("True", "True"), status("False", "True"));
        // Seen for the first time, given by us, and seen as we gave it.
        written.see(&id(1), &"u".into(), "1", Some(theirs.clone()));
        written.note(&id(1), Some(&ours));
        written.see(&id(1), &"u".into(), "1", Some(ours.clone()));
        assert_eq!(written.overwritten(), some(&[]));
        // The watch may be faster than the answer to the write.
        written.see(&id(1), &"u".into(), "1", Some(theirs.clone()));
        written.note(&id(1), Some(&theirs));
        assert_eq!(written.overwritten(), some(&[]));

        written.see(&id(1), &"u".into(), "1", Some(ours.clone()));
        assert_eq!(written.overwritten(), some(&[1]));
        written.see(&id(1), &"u".into(), "1", None);
        assert_eq!(written.overwritten(), some(&[1]));
        // What has no status has not lost any; what is gone is nobody's.
        written.see(&id(1), &"u".into(), "1", None);
        written.see(&id(2), &"u".into(), "1", Some(ours.clone()));
        written.see(&id(2), &"u".into(), "1", Some(theirs.clone()));
        written.forget(&id(2), "u");
        assert_eq!(written.overwritten(), some(&[]));

        for n in 0..MAX + 10 {
            written.see(&id(n), &"u".into(), "1", Some(ours.clone()));
            written.see(&id(n), &"u".into(), "1", Some(theirs.clone()));
        }
        assert_eq!(written.overwritten(), Next::All);
        assert_eq!(written.overwritten(), some(&[]));
    }

    #[test]
    fn the_form_does_not_matter() {
        let id = ObjectId::new(ObjectKind::Route, "a", "b");
        let written = Written::default();
        let typed = json!({"usage": [], "extra": null, "conditions": [], "observedGeneration": 1});
        written.note(&id, Some(&typed));
        assert_eq!(
            written.stamp(&id, json!({"observedGeneration": 1}), NOW),
            None
        );
        assert!(
            written
                .stamp(&id, json!({"observedGeneration": 2}), NOW)
                .is_some()
        );
        assert!(
            written
                .stamp(
                    &id,
                    json!({"observedGeneration": 1, "conditions": ["x"]}),
                    NOW
                )
                .is_some()
        );
    }

    #[test]
    fn an_object_is_told_from_another_that_has_its_name_later() {
        let id = ObjectId::new(ObjectKind::Route, "a", "b");
        let (one, other) = (Arc::from("1"), Arc::from("2"));
        let written = Written::default();
        assert_eq!(written.version_of(&id, &one), None);
        written.see(&id, &one, "10", None);
        assert_eq!(written.version_of(&id, &one).as_deref(), Some("10"));
        // Our own write is known before the watch tells of it,
        written.moved(&id, "10", "11");
        assert_eq!(written.version_of(&id, &one).as_deref(), Some("11"));
        // and one that was answered late does not hide what came after it.
        written.see(&id, &one, "13", None);
        written.moved(&id, "11", "12");
        assert_eq!(written.version_of(&id, &one).as_deref(), Some("13"));

        written.see(&id, &other, "20", None);
        assert_eq!(written.version_of(&id, &one), None);
        // The end of the first is looked at after the second has been seen.
        written.forget(&id, &one);
        assert_eq!(written.version_of(&id, &other).as_deref(), Some("20"));
        written.forget(&id, &other);
        assert_eq!(written.version_of(&id, &other), None);
    }
}

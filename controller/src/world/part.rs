//! What can be read of a spec that cannot be read as a whole: a later release may have written it, with values that this one
//! does not know.
//!
//! What cannot be read is not left to others. A rule of a Route stays with what it matches, and answers 500; a listener stays with
//! its name, and is not opened; what is said for all of a Route or GatewayConfig closes all of it. What says where something
//! belongs (parents, hosts of a Route, who has data planes of its own) has to be readable: without it nothing of the object is used.

use super::{ObjectKind, Refusal};
use serde_json::{Map, Value, json};

/// Places that are read past; beyond that nothing of the object is used.
const MOST: usize = 64;

/// Reads a spec with `read`, which said `refusal` of the whole. Gives why the rest is not among it.
///
/// # Errors
/// Nothing of it can be used, for the reason that was given first.
pub(super) fn read<T>(
    kind: ObjectKind,
    spec: &Value,
    refusal: Refusal,
    read: impl Fn(&Value) -> Result<T, Refusal>,
) -> Result<(T, Vec<Refusal>), Refusal> {
    let mut spec = spec.clone();
    let mut refusals = vec![refusal.clone()];
    for _ in 0..MOST {
        let last = refusals.last().unwrap_or(&refusal);
        if leave_out(kind, &mut spec, &last.field).is_none() {
            break;
        }
        match read(&spec) {
            Ok(spec) => return Ok((spec, refusals)),
            // Of one rule ever less is left.
            Err(next) if next == *last => {}
            Err(next) => refusals.push(next),
        }
    }
    Err(refusal)
}

/// Takes what cannot be read out of a spec; `None`: that cannot be done without.
fn leave_out(kind: ObjectKind, spec: &mut Value, field: &str) -> Option<()> {
    let (key, place) = place(field)?;
    match (key, place) {
        ("listeners", Some(i)) if kind.has_listeners() => {
            let listener = spec.get_mut(key)?.get_mut(i)?;
            let left = listener_left(kind, listener)?;
            replace(listener, left)
        }
        ("rules", Some(i)) if kind.is_route() => {
            let rule = spec.get_mut(key)?.get_mut(i)?;
            let mut left = rules_left(kind, rule).into_iter();
            left.find_map(|left| replace(rule, left))
        }
        // The others stay its own; this one is nobody's host.
        ("hostnames", Some(i)) if kind == ObjectKind::Tenant => {
            replace(spec.get_mut(key)?.get_mut(i)?, "".into())
        }
        (key, _) if is_spared(kind, key) => {
            spec.as_object_mut()?.remove(key)?;
            if kind.is_route() {
                for rule in spec.get_mut("rules")?.as_array_mut()? {
                    let [first, ..] = rules_left(kind, rule);
                    *rule = first;
                }
            }
            Some(())
        }
        _ => None,
    }
}

/// `None`: it is that already.
fn replace(value: &mut Value, left: Value) -> Option<()> {
    (*value != left).then(|| *value = left)
}

/// The key of a field below `spec`, and the place where it is in a list.
fn place(field: &str) -> Option<(&str, Option<usize>)> {
    let field = field.strip_prefix("spec.")?;
    let end = field.find(['.', '[']).unwrap_or(field.len());
    let (key, rest) = field.split_at(end);
    let place = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    Some((key, place.and_then(|(i, _)| i.parse().ok())))
}

/// How the fields begin of which no more is left than of this one.
pub(crate) fn reach(field: &str) -> &str {
    if is_of_whole(field) {
        return "spec.rules[";
    }
    let end = field.find(']').unwrap_or(field.len());
    field.get(..=end).unwrap_or(field)
}

/// Whether something is said for the object as a whole, and not for one listener, rule or host.
pub(crate) fn is_of_whole(field: &str) -> bool {
    let one = ["listeners", "rules", "hostnames"];
    !matches!(place(field), Some((key, Some(_))) if one.contains(&key))
}

/// Whether the object means something without a field, although less than it says.
fn is_spared(kind: ObjectKind, key: &str) -> bool {
    let belongs: &[&str] = match kind {
        ObjectKind::GatewayConfig => &["listeners", "default", "dataPlane", "baseDomain"],
        ObjectKind::Route => &[
            "parentRefs",
            "hostnames",
            "hostnameRegex",
            "rules",
            "enabled",
        ],
        // Its namespaces are no other's meanwhile, and its Routes are closed.
        ObjectKind::Tenant => &[],
        _ => return false,
    };
    !belongs.contains(&key)
}

/// What is left of a listener: enough to say of it that it is not accepted.
fn listener_left(kind: ObjectKind, listener: &Value) -> Option<Value> {
    let name = listener.get("name")?.as_str()?;
    let protocol = match kind {
        ObjectKind::GatewayConfig => "HTTP",
        _ => "unreadable",
    };
    Some(json!({"name": name, "port": 0, "protocol": protocol}))
}

/// What may be left of a rule, the most first. Nobody answers for it.
fn rules_left(kind: ObjectKind, rule: &Value) -> [Value; 3] {
    let keep = |of: &Value, keys: &[&str]| -> Map<String, Value> {
        let all = keys.iter().copied();
        let kept = all.filter_map(|key| Some((key.to_owned(), of.get(key)?.clone())));
        kept.collect()
    };
    let mut nothing = Map::new();
    if kind.is_of_streams() {
        nothing.insert("backendRefs".to_owned(), json!([]));
    }
    let mut matching = keep(rule, &["name", "matches"]);
    matching.extend(nothing.clone());
    let mut roughly = matching.clone();
    if let Some(Value::Array(matches)) = roughly.get_mut("matches") {
        // A value that is not known may be a narrower match: without it the rule closes more, not less.
        for one in matches {
            *one = keep(one, &["path", "method", "methods"]).into();
        }
    }
    [matching.into(), roughly.into(), nothing.into()]
}

#[cfg(test)]
mod tests {
    use crate::world::{Body, Object};
    use serde_json::{Value, json};

    fn object(kind: &str, spec: &Value) -> Object {
        let group = match kind {
            "Route" | "GatewayConfig" | "Tenant" => "diolkos.io/v1alpha1",
            _ => "gateway.networking.k8s.io/v1",
        };
        let metadata = json!({"namespace": "a", "name": "x"});
        let object = json!({"apiVersion": group, "kind": kind, "metadata": metadata, "spec": spec});
        Object::from_json(&object).unwrap().unwrap()
    }

    fn fields(object: &Object) -> Vec<&str> {
        object.unreadable.iter().map(|r| &*r.field).collect()
    }

    #[test]
    fn a_listener_stays_with_its_name() {
        let listener = json!({"name": "later", "port": {"from": 80}, "protocol": "HTTP"});
        let good = json!({"name": "http", "port": 80, "protocol": "HTTP"});
        let listeners = json!([good, listener]);
        let gateway = object(
            "Gateway",
            &json!({"gatewayClassName": "diolkos", "listeners": listeners}),
        );
        assert_eq!(fields(&gateway), ["spec.listeners[1].port"]);
        let Body::Gateway(spec) = &gateway.body else {
            panic!("{gateway:?}")
        };
        let names: Vec<&str> = spec.listeners.iter().map(|l| &*l.name).collect();
        assert_eq!(names, ["http", "later"]);
        assert_eq!(spec.listeners[0].port, 80);
        let config = object("GatewayConfig", &json!({"listeners": listeners}));
        assert_eq!(fields(&config), ["spec.listeners[1].port"]);
        // Whose it is, or what it is called, cannot be guessed.
        for spec in [
            json!({"gatewayClassName": 7, "listeners": [good]}),
            json!({"gatewayClassName": "diolkos", "listeners": "later"}),
            json!({"gatewayClassName": "diolkos", "listeners": [{"name": 7, "port": 80, "protocol": "HTTP"}]}),
            json!({"gatewayClassName": "diolkos", "listeners": [good], "tls": 7}),
        ] {
            assert!(object("Gateway", &spec).is_refused(), "{spec}");
        }
        for key in ["default", "dataPlane", "baseDomain"] {
            let mut spec = json!({"listeners": [good]});
            spec[key] = json!([7]);
            assert!(object("GatewayConfig", &spec).is_refused(), "{spec}");
        }
    }

    #[test]
    fn a_rule_stays_with_what_it_matches_and_has_no_backend() {
        let path = json!({"type": "PathPrefix", "value": "/a"});
        let header = json!({"name": "x", "value": "y"});
        let later = json!([{"path": path, "headers": [{"name": "x", "value": {"later": 1}}]}]);
        for (matches, left, said) in [
            (
                json!([{"path": path, "headers": [header]}]),
                (1, 1),
                "timeouts",
            ),
            (later, (1, 0), "matches[0].headers[0].value"),
            (
                json!([{"path": {"value": 7}}]),
                (0, 0),
                "matches[0].path.value",
            ),
        ] {
            let rule = json!({"matches": matches, "timeouts": 7, "backendRefs": [{"name": "web", "port": 80}]});
            let good = json!({"backendRefs": [{"name": "web", "port": 80}]});
            let route = object("HTTPRoute", &json!({"rules": [rule, good]}));
            assert_eq!(fields(&route), [format!("spec.rules[0].{said}")]);
            let Body::HTTPRoute(spec) = &route.body else {
                panic!("{route:?}")
            };
            let rules = spec.rules.as_deref().unwrap();
            assert!(rules[0].backend_refs.is_none() && rules[1].backend_refs.is_some());
            let one = rules[0].matches.as_deref().unwrap_or_default().first();
            let headers = one.and_then(|m| m.headers.as_deref()).map_or(0, <[_]>::len);
            let paths = usize::from(one.is_some_and(|m| m.path.is_some()));
            assert_eq!((paths, headers), left);
        }
        let rule = json!({"backendRefs": [{"name": "web", "port": "later"}]});
        let route = object("TCPRoute", &json!({"rules": [rule]}));
        let Body::TCPRoute(spec) = &route.body else {
            panic!("{route:?}")
        };
        assert!(spec.rules[0].backend_refs.is_empty());
    }

    #[test]
    fn what_is_said_for_all_rules_closes_all_of_them() {
        let rule = json!({"backends": [{"name": "web", "port": 80}]});
        let spec = json!({"plugins": [{"name": "x", "type": "Later"}], "rules": [rule, rule]});
        let route = object("Route", &spec);
        assert_eq!(fields(&route), ["spec.plugins[0].type"]);
        let Body::Route(spec) = &route.body else {
            panic!("{route:?}")
        };
        assert!(spec.plugins.is_empty() && spec.rules.len() == 2);
        assert!(spec.rules.iter().all(|rule| rule.backends.is_empty()));
        for key in ["parentRefs", "hostnames", "hostnameRegex", "enabled"] {
            let mut spec = json!({"rules": [rule]});
            spec[key] = json!({"later": 1});
            assert!(object("Route", &spec).is_refused(), "{spec}");
        }
    }

    #[test]
    fn the_hosts_of_a_tenant_stay_its_own() {
        let tenant = json!({"hostnames": ["a.example"], "isolation": "Later", "namespaceSelector": {"matchExpressions": 7}});
        let tenant = object("Tenant", &tenant);
        assert_eq!(fields(&tenant).len(), 2);
        let Body::Tenant(spec) = &tenant.body else {
            panic!("{tenant:?}")
        };
        assert_eq!(spec.hostnames.len(), 1);
        assert!(spec.namespace_selector.is_none());
        let hosts = |hostnames: Value| {
            let tenant = object(
                "Tenant",
                &json!({"hostnames": hostnames, "subdomain": {"later": 1}, "namespaceSelector": {}}),
            );
            let Body::Tenant(spec) = &tenant.body else {
                panic!("{tenant:?}")
            };
            assert!(spec.namespace_selector.is_some() && spec.subdomain.is_none());
            let hosts: Vec<String> = spec.hostnames.iter().map(ToString::to_string).collect();
            (hosts.join(" "), fields(&tenant).join(" "))
        };
        let read = |hosts: &str, said: &str| (hosts.to_owned(), format!("{said} spec.subdomain"));
        let some = json!(["a.example", {"later": 1}, "b.example"]);
        assert_eq!(
            hosts(some),
            read("a.example  b.example", "spec.hostnames[1]")
        );
        assert_eq!(hosts(json!({"later": 1})), read("", "spec.hostnames"));
    }

    #[test]
    fn what_is_too_much_is_not_read() {
        let rules = vec![json!({"timeouts": 7}); super::MOST + 1];
        assert!(object("HTTPRoute", &json!({"rules": rules})).is_refused());
        let rules = vec![json!({"timeouts": 7}); super::MOST];
        assert!(!object("HTTPRoute", &json!({"rules": rules})).is_refused());
    }
}

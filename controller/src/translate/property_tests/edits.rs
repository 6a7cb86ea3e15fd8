//! Edits of a few objects that refer to each other.

use crate::world::{Object, World};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::LazyLock;

/// One change of one of a few objects that refer to each other.
#[derive(Clone, Debug)]
pub(super) enum Edit {
    Apply(Value),
    Remove(Value),
}

impl Edit {
    pub(super) fn make(self, world: &mut World) {
        match self {
            Self::Apply(value) => drop(world.apply(read(&value))),
            Self::Remove(value) => drop(world.remove(&read(&value).id)),
        }
    }
}

fn name() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("a"), Just("b")]
}

fn namespace() -> impl Strategy<Value = &'static str> {
    prop_oneof![4 => Just("x"), 1 => Just("y")]
}

fn metadata() -> impl Strategy<Value = Value> {
    (namespace(), name(), 0..3).prop_map(|(namespace, name, day)| {
        let created = format!("2026-01-0{}T00:00:00Z", day + 1);
        json!({"namespace": namespace, "name": name, "creationTimestamp": created})
    })
}

/// Certificates with their keys, in PEM.
static PAIRS: LazyLock<[(String, String); 2]> = LazyLock::new(|| {
    ["a.example.com", "*.example.com"].map(|name| {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    })
});

/// Values of a Secret: of use for this and that, or for nothing; `null`: not read yet.
fn values() -> impl Strategy<Value = Value> {
    let pair = |i: usize, j: usize| json!({"tls.crt": PAIRS[i].0, "tls.key": PAIRS[j].1, "ca.crt": PAIRS[i].0, "token": "t"});
    prop_oneof![
        2 => Just(pair(0, 0)),
        2 => Just(pair(1, 1)),
        1 => Just(pair(0, 1)),
        1 => Just(json!({"token": "a\nb", "ca.crt": "x"})),
        1 => Just(json!({})),
        1 => Just(Value::Null),
    ]
}

fn reference() -> impl Strategy<Value = Value> {
    (namespace(), name()).prop_map(|(ns, name)| json!({"namespace": ns, "name": name}))
}

fn rule() -> impl Strategy<Value = Value> {
    let path = prop_oneof![Just("/"), Just("/p"), Just("/p/q"), Just("("), Just("bad")];
    let kind = prop_oneof![Just("PathPrefix"), Just("Exact"), Just("RegularExpression")];
    let backend =
        (namespace(), name(), any::<bool>(), 80..82u16).prop_map(|(ns, n, service, port)| {
            match service {
                true => json!({"namespace": ns, "name": n, "port": port}),
                false => json!({"kind": "Upstream", "namespace": ns, "name": n}),
            }
        });
    let plugin = prop_oneof![
        name().prop_map(|n| json!({"ref": {"name": n}})),
        Just(json!({"name": "m", "type": "Mock", "mock": {"status": 200}})),
        Just(json!({"name": "m", "type": "Later"})),
    ];
    let backends = prop::collection::vec(backend, 1..3);
    let plugins = prop::collection::vec(plugin, 0..2);
    (path, kind, backends, plugins, any::<bool>()).prop_map(
        |(path, kind, backends, plugins, limits)| {
            let mut rule = json!({
                "matches": [{"path": {"type": kind, "value": path}}],
                "backends": backends,
                "plugins": plugins,
            });
            if limits {
                rule["limits"] = json!([{"name": "l", "limit": 1, "window": "1s"}]);
            }
            rule
        },
    )
}

pub(super) fn object() -> impl Strategy<Value = Value> {
    let of = |api: &'static str, kind: &'static str| move |(metadata, spec): (Value, Value)| json!({"apiVersion": api, "kind": kind, "metadata": metadata, "spec": spec});
    const OURS: &str = "diolkos.io/v1alpha1";
    const THEIRS: &str = "gateway.networking.k8s.io/v1";
    let hosts = prop_oneof![
        Just(json!([])),
        Just(json!(["h.example.com"])),
        Just(json!(["*.example.com", "h.example.com"])),
        Just(json!(["-"])),
    ];
    let parents = prop_oneof![
        3 => Just(json!([])),
        1 => Just(json!([{"name": "a"}])),
        1 => Just(json!([{"name": "b", "namespace": "x", "listener": "one"}])),
    ];
    let route = (hosts, parents, prop::collection::vec(rule(), 1..3), any::<u8>()).prop_map(
        |(hosts, parents, rules, n)| {
            json!({"hostnames": hosts, "parentRefs": parents, "rules": rules, "enabled": n > 20})
        },
    );
    let upstream = prop_oneof![
        (namespace(), name(), 80..82u16).prop_map(
            |(ns, n, port)| json!({"service": {"namespace": ns, "name": n, "port": port}})
        ),
        Just(json!({"endpoints": [{"address": "10.0.0.1", "port": 80}]})),
        Just(json!({"external": {"url": "https://x.example.com"}})),
        Just(json!({"external": {"url": "nonsense"}})),
        (reference(), reference(), any::<u8>()).prop_map(|(ca, certificate, n)| {
            let mut spec = json!({"external": {"url": "https://x.example.com"},
                "tls": {"caRef": ca, "clientCertRef": certificate}});
            spec["tls"]["caRef"]["kind"] = json!(if n % 2 == 0 { "Secret" } else { "ConfigMap" });
            spec
        }),
        reference().prop_map(|mut secret| {
            secret["key"] = json!("token");
            json!({"external": {"url": "https://x.example.com"},
                "auth": {"headers": [{"name": "x-key", "valueFrom": {"secretKeyRef": secret}}]}})
        }),
    ];
    let plugin = prop_oneof![
        Just(json!({"type": "Mock", "mock": {"status": 201}})),
        Just(json!({"type": "Mock", "mock": {"status": 1}})),
        Just(json!({"type": "Mock", "mock": {}, "enabled": false})),
        Just(json!({"type": "Unknown"})),
    ];
    let certificates = prop::collection::vec(reference(), 0..3);
    let gateway = (any::<bool>(), 8080..8082u16, any::<u8>(), certificates);
    let gateway = gateway.prop_map(|(default, port, n, certificates)| {
        let mut spec = json!({"default": default, "listeners": [{
            "name": "one", "port": port, "protocol": "HTTP",
            "allowedRoutes": {"namespaces": {"from": if n < 100 { "Same" } else { "All" }}},
        }]});
        if n % 2 == 0 {
            let listener = &mut spec["listeners"][0];
            listener["protocol"] = json!("HTTPS");
            if n % 3 == 0 {
                let authorities = json!({"caRefs": certificates});
                listener["tls"]["clientValidation"] = authorities;
            }
            listener["tls"]["certificateRefs"] = json!(certificates);
        }
        if n % 5 == 0 {
            spec["timeouts"] = json!({"keepAlive": "soon"});
        }
        if n % 3 == 0 {
            spec["baseDomain"] = json!("example.com");
        }
        if n % 4 == 1 {
            spec["dataPlane"] = json!({"replicas": n});
        }
        if n % 7 == 0 {
            spec["limits"] = json!([{"name": "l", "limit": 1, "window": "1s"}]);
        }
        if n % 11 == 0 {
            let later = json!({"name": "later", "port": 8083, "protocol": "LATER"});
            spec["listeners"].as_array_mut().unwrap().push(later);
        }
        if n % 13 == 0 {
            spec["timeouts"] = json!({"keepAlive": 7});
        }
        spec
    });
    let service = prop_oneof![
        Just(json!({"ports": [{"name": "p", "port": 80}]})),
        Just(json!({"ports": [{"name": "p", "port": 80}, {"name": "q", "port": 81}]})),
        Just(
            json!({"ports": [{"name": "u", "port": 80, "protocol": "UDP"}, {"name": "p", "port": 80}]})
        ),
    ];
    let kinds = prop_oneof![
        Just(("Route", "Service")),
        Just(("GatewayConfig", "Secret")),
        Just(("Upstream", "Secret")),
        Just(("Upstream", "ConfigMap"))
    ];
    let grant = kinds.prop_map(|(from, to)| {
        json!({
            "from": [{"group": "diolkos.io", "kind": from, "namespace": "x"}],
            "to": [{"group": "", "kind": to}],
        })
    });
    let class = prop_oneof![
        Just(json!({"controllerName": "diolkos.io/controller"})),
        Just(json!({"controllerName": "example.com/other"})),
    ];
    let theirs = (name(), 80..83u16, any::<bool>(), 0..8u32).prop_map(|(certificate, port, https, n)| {
        let mut listener = json!({"name": "l", "port": port, "protocol": if https { "HTTPS" } else { "HTTP" }});
        if https {
            listener["tls"] = json!({"certificateRefs": [{"name": certificate}]});
        }
        if n % 3 == 0 {
            listener["allowedRoutes"] = json!({"namespaces": {"from": "All"}, "kinds": [{"kind": "HTTPRoute"}]});
        }
        let mut spec = json!({"gatewayClassName": certificate, "listeners": [listener]});
        if n % 4 == 0 {
            spec["gatewayClassName"] = json!("diolkos");
            spec["infrastructure"] = json!({"parametersRef": {"group": "diolkos.io", "kind": "GatewayConfig", "name": certificate}});
        }
        if n != 1 {
            let protocol = ["TLS", "TCP", "UDP"][n as usize % 3];
            let mut second = json!({"name": "s", "port": 81, "protocol": protocol});
            match n {
                3 => second["tls"] = json!({"certificateRefs": [{"name": certificate}]}),
                0 | 6 => second["tls"] = json!({"mode": "Passthrough"}),
                _ => {}
            }
            spec["listeners"].as_array_mut().unwrap().push(second);
        }
        if n % 3 == 1 {
            spec["allowedListeners"] = json!({"namespaces": {"from": if n % 2 == 0 { "All" } else { "Same" }}});
        }
        spec
    });
    let set = (reference(), name(), 80..83u16, any::<bool>()).prop_map(|(gateway, certificate, port, https)| {
        let mut listener = json!({"name": "l", "port": port, "protocol": if https { "HTTPS" } else { "HTTP" },
            "hostname": format!("{certificate}.example.com"), "allowedRoutes": {"namespaces": {"from": "All"}}});
        if https {
            listener["tls"] = json!({"certificateRefs": [{"name": certificate}]});
        }
        json!({"parentRef": gateway, "listeners": [listener]})
    });
    let http_route = (name(), reference(), name(), 0..16u32).prop_map(|(gateway, to, host, n)| {
        let kind = if n < 8 { "Gateway" } else { "ListenerSet" };
        let n = n % 8;
        let backend = json!({"name": to["name"], "namespace": to["namespace"], "port": 80});
        let filter = match n {
            0 => json!({"type": "FromTheFuture"}),
            1 => json!({"type": "ExtensionRef", "extensionRef": {"group": "diolkos.io", "kind": "Plugin", "name": host}}),
            _ => json!({"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": ["x-a"]}}),
        };
        json!({"parentRefs": [{"kind": kind, "name": gateway}], "hostnames": [format!("{host}.example.com")],
            "rules": [{"filters": [filter], "retry": {"attempts": n, "codes": [398 + n]}, "backendRefs": [backend]}]})
    });
    let policy = (name(), name(), any::<bool>()).prop_map(|(service, authorities, of_port)| {
        let mut target = json!({"group": "", "kind": "Service", "name": service});
        if of_port {
            target["sectionName"] = json!("p");
        }
        json!({"targetRefs": [target], "validation": {"hostname": "web.example.com",
            "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": authorities}]}})
    });
    let grpc_route = (name(), reference(), name(), any::<bool>()).prop_map(|(gateway, to, host, exact)| {
        let backend = json!({"name": to["name"], "namespace": to["namespace"], "port": 80});
        let type_ = if exact { "Exact" } else { "RegularExpression" };
        json!({"parentRefs": [{"name": gateway}], "hostnames": [format!("{host}.example.com")],
            "rules": [{"matches": [{"method": {"type": type_, "method": host}}], "backendRefs": [backend]}]})
    });
    let kind = prop_oneof![Just("TLSRoute"), Just("TCPRoute"), Just("UDPRoute")];
    let stream_route =
        (metadata(), kind, name(), reference()).prop_map(|(metadata, kind, gateway, to)| {
            let backend = json!({"name": to["name"], "namespace": to["namespace"], "port": 80});
            let mut spec =
                json!({"parentRefs": [{"name": gateway}], "rules": [{"backendRefs": [backend]}]});
            if kind == "TLSRoute" {
                spec["hostnames"] = json!(["*.example.com"]);
            }
            json!({"apiVersion": THEIRS, "kind": kind, "metadata": metadata, "spec": spec})
        });
    let held = (metadata(), values(), any::<bool>()).prop_map(|(metadata, values, is_secret)| {
        let (kind, field) = match is_secret {
            true => ("Secret", "stringData"),
            false => ("ConfigMap", "data"),
        };
        json!({"apiVersion": "v1", "kind": kind, "metadata": metadata, field: values})
    });
    let slice = (metadata(), name(), any::<bool>()).prop_map(|(mut metadata, service, ready)| {
        metadata["labels"] = json!({"kubernetes.io/service-name": service});
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata,
            "addressType": "IPv4", "ports": [{"name": "p", "port": 8080}],
            "endpoints": [{"addresses": ["10.1.0.1"], "conditions": {"ready": ready}}]})
    });
    prop_oneof![
        6 => (metadata(), route).prop_map(of(OURS, "Route")),
        3 => (metadata(), upstream).prop_map(of(OURS, "Upstream")),
        2 => (metadata(), plugin).prop_map(of(OURS, "Plugin")),
        2 => (metadata(), gateway).prop_map(of(OURS, "GatewayConfig")),
        3 => (metadata(), service).prop_map(of("v1", "Service")),
        1 => (metadata(), grant).prop_map(of(THEIRS, "ReferenceGrant")),
        1 => (name(), class).prop_map(move |(name, spec)| {
            of(THEIRS, "GatewayClass")((json!({"name": name}), spec))
        }),
        2 => (metadata(), theirs).prop_map(of(THEIRS, "Gateway")),
        2 => (metadata(), set).prop_map(of(THEIRS, "ListenerSet")),
        3 => (metadata(), http_route).prop_map(of(THEIRS, "HTTPRoute")),
        2 => (metadata(), grpc_route).prop_map(of(THEIRS, "GRPCRoute")),
        3 => stream_route,
        2 => (metadata(), policy).prop_map(of(THEIRS, "BackendTLSPolicy")),
        5 => ingress(),
        3 => tenancy(),
        2 => slice,
        4 => held,
        1 => metadata().prop_map(|m| json!({"apiVersion": OURS, "kind": "Consumer", "metadata": m})),
    ]
}

/// A Tenant or a Namespace.
fn tenancy() -> impl Strategy<Value = Value> {
    let hosts = prop::collection::vec(
        prop_oneof![
            4 => Just("h.example.com"),
            2 => Just("*.example.com"),
            2 => Just("*.com"),
            1 => Just("-"),
        ],
        0..3,
    );
    let label = || prop_oneof![Just("a"), Just("b")];
    let tenant = (name(), 0..3, hosts, label(), 0..8u32);
    let tenant = tenant.prop_map(|(name, day, hosts, label, n)| {
        let created = format!("2026-01-0{}T00:00:00Z", day + 1);
        let mut spec = json!({"hostnames": hosts});
        if n > 0 {
            spec["namespaceSelector"] = match n {
                1 => json!({}),
                _ => json!({"matchLabels": {"tenant": label}}),
            };
        }
        if n % 3 == 0 {
            spec["subdomain"] = json!("h");
        }
        if n == 4 {
            spec["limits"] = json!([{"name": "l", "limit": 1, "window": "1s"}]);
        }
        json!({"apiVersion": "diolkos.io/v1alpha1", "kind": "Tenant",
            "metadata": {"name": name, "creationTimestamp": created}, "spec": spec})
    });
    let namespace = (namespace(), label()).prop_map(|(name, label)| {
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"tenant": label}}})
    });
    prop_oneof![2 => tenant, 1 => namespace]
}

/// An Ingress or an IngressClass.
fn ingress() -> impl Strategy<Value = Value> {
    const API: &str = "networking.k8s.io/v1";
    let class = (name(), any::<bool>(), 0..3u8, reference());
    let class = class.prop_map(|(name, default, n, to)| {
        let mut class = json!({"apiVersion": API, "kind": "IngressClass", "metadata": {"name": name,
            "annotations": {"ingressclass.kubernetes.io/is-default-class": default.to_string()}},
            "spec": {"controller": if n == 0 { "example.com/other" } else { "diolkos.io/controller" }}});
        if n == 1 {
            class["spec"]["parameters"] = json!({"apiGroup": "diolkos.io", "kind": "GatewayConfig",
                "name": to["name"], "namespace": to["namespace"]});
        }
        class
    });
    let path = (
        prop_oneof![Just("/"), Just("/p"), Just("/p(/|$)(.*)"), Just("(")],
        name(),
        any::<bool>(),
    );
    let path = path.prop_map(|(path, service, named)| {
        let port = if named { json!({"name": "p"}) } else { json!({"number": 80}) };
        json!({"path": path, "pathType": "Prefix", "backend": {"service": {"name": service, "port": port}}})
    });
    let host = prop_oneof![
        Just("h.example.com"),
        Just("*.example.com"),
        Just(""),
        Just("-")
    ];
    let rules = prop::collection::vec((host, prop::collection::vec(path, 0..3)), 0..3);
    let annotation = prop_oneof![
        Just(("canary", "true")),
        Just(("canary-weight", "20")),
        Just(("rewrite-target", "/$1")),
        Just(("backend-protocol", "HTTPS")),
        Just(("proxy-ssl-secret", "x/a")),
        Just(("default-backend", "b")),
        Just(("auth-url", "http://a/")),
        Just(("load-balance", "never heard of")),
        Just(("unknown", "")),
    ];
    let annotations = prop::collection::btree_map(
        annotation
            .clone()
            .prop_map(|(name, _)| format!("nginx.ingress.kubernetes.io/{name}")),
        annotation.prop_map(|(_, value)| value),
        0..3,
    );
    let class_name =
        prop_oneof![3 => Just("diolkos"), 1 => Just("a"), 1 => Just("b"), 1 => Just("")];
    let secrets = prop::collection::vec(name(), 0..2);
    let ingress = (
        metadata(),
        rules,
        annotations,
        class_name,
        secrets,
        any::<bool>(),
    );
    let ingress = ingress.prop_map(|(mut metadata, rules, annotations, class, secrets, default)| {
        metadata["annotations"] = json!(annotations);
        let rules = rules.into_iter();
        let rules = rules.map(|(host, paths)| json!({"host": host, "http": {"paths": paths}}));
        let tls = secrets.into_iter();
        let tls = tls.map(|name| json!({"hosts": ["h.example.com"], "secretName": name}));
        let mut ingress = json!({"apiVersion": API, "kind": "Ingress", "metadata": metadata,
            "spec": {"ingressClassName": class, "rules": rules.collect::<Vec<_>>(), "tls": tls.collect::<Vec<_>>()}});
        if default {
            ingress["spec"]["defaultBackend"] = json!({"service": {"name": "a", "port": {"number": 80}}});
        }
        ingress
    });
    prop_oneof![1 => class, 4 => ingress]
}

pub(super) fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        4 => object().prop_map(Edit::Apply),
        1 => object().prop_map(Edit::Remove),
    ]
}

pub(super) fn read(value: &Value) -> Object {
    let object = Object::from_json(value).unwrap().unwrap();
    let is_unread = |field| value.get(field) == Some(&Value::Null);
    if object.values().is_some() && (is_unread("data") || is_unread("stringData")) {
        let metadata = serde_json::from_value(value["metadata"].clone()).unwrap();
        return Object::unread(object.id.kind, &metadata);
    }
    object
}

//! decode(encode(model)) = model, for every section.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use model::listener::Caps;
use model::*;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use snapshot::sections::bodies;
use snapshot::{Changes, Digest, Hash, Replica, Store};
use std::net::IpAddr;

fn text() -> impl Strategy<Value = String> {
    "[a-zA-Z/.*$ \u{e9}]{0,6}"
}

fn origin() -> impl Strategy<Value = ObjectRef> {
    ("[A-Z][a-z]{1,4}", "[a-z]{0,3}", "[a-z]{1,3}").prop_map(|(k, ns, n)| ObjectRef::new(k, ns, n))
}

fn host() -> impl Strategy<Value = HostPattern> {
    prop_oneof![
        Just(HostPattern::Any),
        "[a-z]{1,3}\\.[a-z]{1,3}".prop_map(HostPattern::Exact),
        "[a-z]{1,3}\\.[a-z]{1,3}".prop_map(HostPattern::Wildcard),
    ]
}

fn value() -> impl Strategy<Value = ValueMatch> {
    prop_oneof![
        text().prop_map(ValueMatch::Exact),
        text().prop_map(ValueMatch::Prefix),
        text().prop_map(ValueMatch::Regex),
        Just(ValueMatch::Present),
        Just(ValueMatch::Absent),
    ]
}

fn path() -> impl Strategy<Value = PathMatch> {
    prop_oneof![
        text().prop_map(PathMatch::Exact),
        text().prop_map(PathMatch::Prefix),
        text().prop_map(PathMatch::Regex),
    ]
}

fn a_match() -> impl Strategy<Value = Match> {
    let methods = vec(
        "[A-Z]{1,5}".prop_filter_map("token", |m| Method::parse(&m)),
        0..3,
    );
    let headers = vec(
        (text(), value()).prop_map(|(name, value)| HeaderMatch { name, value }),
        0..3,
    );
    let query = vec(
        (text(), value()).prop_map(|(name, value)| QueryMatch { name, value }),
        0..3,
    );
    (path(), methods, headers, query).prop_map(|(path, methods, headers, query)| Match {
        path,
        methods,
        headers,
        query,
    })
}

fn edits() -> impl Strategy<Value = HeaderEdits> {
    let pairs = || vec((text(), text()), 0..2);
    (pairs(), pairs(), vec(text(), 0..2)).prop_map(|(set, add, remove)| HeaderEdits {
        set,
        add,
        remove,
    })
}

fn backend() -> impl Strategy<Value = Backend> {
    let target = prop_oneof![
        text().prop_map(Target::Upstream),
        text().prop_map(Target::Unresolved)
    ];
    (any::<u32>(), target, edits(), edits()).prop_map(
        |(weight, target, request_headers, response_headers)| Backend {
            weight,
            target,
            request_headers,
            response_headers,
        },
    )
}

fn action() -> impl Strategy<Value = Action> {
    let redirect_path = prop_oneof![
        text().prop_map(RedirectPath::ReplacePrefix),
        text().prop_map(RedirectPath::ReplaceFull)
    ];
    let redirect = (
        option::of(text()),
        option::of(text()),
        option::of(any::<u16>()),
        option::of(redirect_path),
        300u16..309,
    )
        .prop_map(|(scheme, hostname, port, path, status)| Redirect {
            scheme,
            hostname,
            port,
            path,
            status,
        });
    let respond = (200u16..600, text(), text(), vec((text(), text()), 0..2)).prop_map(
        |(status, content_type, body, headers)| DirectResponse {
            status,
            content_type,
            body,
            headers,
        },
    );
    prop_oneof![
        vec(backend(), 1..3).prop_map(Action::Forward),
        redirect.prop_map(Action::Redirect),
        respond.prop_map(Action::Respond),
        text().prop_map(|code| Action::Closed { code }),
    ]
}

fn plugin() -> impl Strategy<Value = Plugin> {
    let stage = prop_oneof![
        Just(Stage::PreRequest),
        Just(Stage::PostRequest),
        Just(Stage::PreResponse),
        Just(Stage::PostResponse)
    ];
    let policy = prop_oneof![Just(FailurePolicy::Fail), Just(FailurePolicy::Ignore)];
    (
        origin(),
        text(),
        text(),
        option::of(stage),
        any::<i32>(),
        any::<[bool; 2]>(),
        policy,
        text(),
    )
        .prop_map(
            |(
                origin,
                name,
                kind,
                stage,
                priority,
                [parallel, run_on_local_reply],
                failure_policy,
                settings,
            )| Plugin {
                origin,
                name,
                kind,
                stage,
                priority,
                parallel,
                failure_policy,
                run_on_local_reply,
                settings,
            },
        )
}

fn rule() -> impl Strategy<Value = Rule> {
    let rewrite = prop_oneof![
        Just(PathRewrite::StripPrefix),
        text().prop_map(PathRewrite::ReplacePrefix),
        text().prop_map(PathRewrite::ReplaceFull),
        (text(), text()).prop_map(|(pattern, replacement)| PathRewrite::Regex {
            pattern,
            replacement
        }),
    ];
    let rewrite =
        (option::of(rewrite), option::of(text())).prop_map(|(path, host)| Rewrite { path, host });
    let timeouts = any::<[u32; 5]>().prop_map(|[a, b, c, d, e]| Timeouts {
        connect_ms: a,
        request_ms: b,
        backend_request_ms: c,
        first_byte_ms: d,
        stream_idle_ms: e,
    });
    let plugins = vec(
        prop_oneof![
            text().prop_map(PluginUse::Ref),
            plugin().prop_map(|p| PluginUse::Inline(Box::new(p)))
        ],
        0..3,
    );
    (
        (
            text(),
            vec(a_match(), 1..3),
            any::<i32>(),
            action(),
            rewrite,
        ),
        (edits(), edits(), timeouts, any::<u64>(), plugins),
    )
        .prop_map(
            |(
                (name, matches, precedence, action, rewrite),
                (request_headers, response_headers, timeouts, max_request_body, plugins),
            )| Rule {
                name,
                matches,
                precedence,
                action,
                rewrite,
                request_headers,
                response_headers,
                timeouts,
                max_request_body,
                plugins,
            },
        )
}

fn route() -> impl Strategy<Value = Route> {
    (
        origin(),
        any::<i64>(),
        vec(text(), 0..3),
        vec(host(), 1..3),
        vec(rule(), 0..3),
    )
        .prop_map(|(origin, created, listeners, hosts, rules)| Route {
            origin,
            created,
            listeners,
            hosts,
            rules,
        })
}

fn listener() -> impl Strategy<Value = Listener> {
    (
        origin(),
        text(),
        any::<u32>(),
        any::<u16>(),
        host(),
        any::<[bool; 2]>(),
        any::<[u32; 8]>(),
    )
        .prop_map(
            |(origin, name, order, port, hostname, [health, access_log], n)| Listener {
                origin,
                name,
                order,
                port,
                protocol: ListenerProtocol::Http,
                hostname,
                health,
                access_log,
                caps: Caps {
                    header_bytes: n[0],
                    header_count: n[1],
                    url_bytes: n[2],
                    connections: n[3],
                    requests_per_connection: n[4],
                },
                request_header_ms: n[5],
                keep_alive_ms: n[6],
                drain_ms: n[7],
            },
        )
}

fn upstream() -> impl Strategy<Value = Upstream> {
    let endpoint = (text(), any::<u16>(), any::<u32>())
        .prop_map(|(host, port, weight)| StaticEndpoint { host, port, weight });
    let source = prop_oneof![
        vec(endpoint, 0..3).prop_map(EndpointSource::Static),
        text().prop_map(EndpointSource::Service)
    ];
    let balance = prop_oneof![
        Just(BalancePolicy::RoundRobin),
        Just(BalancePolicy::Weighted)
    ];
    (
        origin(),
        source,
        balance,
        text(),
        option::of(text()),
        any::<[u32; 3]>(),
    )
        .prop_map(
            |(
                origin,
                source,
                balance,
                path_prefix,
                authority,
                [connect_ms, pool_size, pool_idle_ms],
            )| Upstream {
                origin,
                source,
                balance,
                path_prefix,
                authority,
                connect_ms,
                pool_size,
                pool_idle_ms,
            },
        )
}

fn shard() -> impl Strategy<Value = EndpointShard> {
    let endpoint = (any::<IpAddr>(), any::<u16>(), any::<[bool; 3]>()).prop_map(
        |(address, port, [ready, serving, terminating])| Endpoint {
            address,
            port,
            ready,
            serving,
            terminating,
        },
    );
    (text(), vec(endpoint, 0..5)).prop_map(|(service, mut endpoints)| {
        endpoints.sort(); // IPv4 sorts before IPv6
        EndpointShard { service, endpoints }
    })
}

fn model() -> impl Strategy<Value = Model> {
    let key = || "[a-d]";
    (
        btree_map(key(), listener(), 0..3),
        btree_map(key(), route(), 0..4),
        btree_map(key(), upstream(), 0..3),
        btree_map(key(), shard(), 0..3),
        btree_map(key(), plugin(), 0..3),
    )
        .prop_map(|(listeners, routes, upstreams, shards, plugins)| Model {
            listeners,
            routes,
            upstreams,
            shards,
            plugins,
        })
}

fn fill(store: &mut Store, model: &Model) -> bool {
    store.replace(bodies(model).map(|(kind, key, body)| (kind, key.to_owned(), body.unwrap())))
}

/// Sends what the replica lacks, as messages; returns what it decoded.
fn sync(store: &Store, replica: &mut Replica, number: u64) -> Option<Changes> {
    let transaction = store.since(store.resume(replica.digest()))?;
    let mut staged = None;
    for chunk in transaction.into_chunks(number, 0) {
        staged = replica.receive(chunk).unwrap();
    }
    let staged = staged.unwrap();
    let changes = staged.changes.clone();
    replica.commit(staged);
    Some(changes)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_model_survives_the_wire(m in model()) {
        let mut store = Store::default();
        let mut replica = Replica::default();
        if fill(&mut store, &m) {
            let changes = sync(&store, &mut replica, 1).unwrap();
            prop_assert_eq!(changes, Changes::of(&m));
        }
        prop_assert_eq!(replica.digest(), store.cursor().digest);
    }

    #[test]
    fn differences_lead_to_the_same_state_as_everything_at_once(models in vec(model(), 1..6), skip in vec(any::<bool>(), 6)) {
        let mut store = Store::default();
        let (mut slow, mut oldest) = (Replica::default(), 0);
        for (i, m) in models.iter().enumerate() {
            fill(&mut store, m);
            if !skip[i] {
                sync(&store, &mut slow, i as u64);
                oldest = store.cursor().generation;
            }
            store.forget(oldest);
        }
        sync(&store, &mut slow, 99);
        let mut fresh = Store::default();
        fill(&mut fresh, models.last().unwrap());
        prop_assert_eq!(slow.digest(), fresh.cursor().digest);
        prop_assert_eq!(slow.len(), fresh.len());
        prop_assert!(store.since(store.resume(slow.digest())).is_none());
    }

    /// Bytes from outside never panic, and nothing of a refused transaction stays.
    #[test]
    fn garbage_is_refused(kind in 0u32..9, body in vec(any::<u8>(), 0..60), commit in any::<bool>(), sequence in 0u32..2) {
        let mut replica = Replica::default();
        let hash = Hash::of(&body);
        let mut digest = Digest::default();
        digest.add(kind, "k", hash);
        let chunk = snapshot::pb::Chunk {
            commit,
            sequence,
            full: true,
            result_digest: digest.to_bytes().to_vec(),
            upsert: vec![snapshot::pb::Resource { kind, key: "k".into(), hash: hash.0.to_vec(), body: body.into() }],
            ..Default::default()
        };
        let _ = replica.receive(chunk);
        prop_assert!(replica.is_empty());
    }
}

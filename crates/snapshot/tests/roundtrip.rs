//! decode(encode(model)) = model, for every section.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use model::listener::Caps;
use model::*;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
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
        "[a-z]{1,3}\\.[a-z]{1,3}".prop_map(|text| HostPattern::Exact(text.into())),
        "[a-z]{1,3}\\.[a-z]{1,3}".prop_map(|text| HostPattern::Wildcard(text.into())),
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
        text().prop_map(|path| PathMatch::Exact(path.into())),
        text().prop_map(|path| PathMatch::Prefix(path.into())),
        text().prop_map(|path| PathMatch::Regex(path.into())),
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
    let cookies = vec(
        (text(), value()).prop_map(|(name, value)| CookieMatch { name, value }),
        0..2,
    );
    let clients = vec(network(), 0..2);
    (path(), methods, headers, query, cookies, clients).prop_map(
        |(path, methods, headers, query, cookies, clients)| Match {
            path,
            methods,
            headers,
            query,
            cookies,
            clients,
        },
    )
}

fn network() -> impl Strategy<Value = ipnet::IpNet> {
    (any::<IpAddr>(), 0u8..=32)
        .prop_map(|(address, bits)| ipnet::IpNet::new(address, bits).unwrap())
}

fn target() -> impl Strategy<Value = Target> {
    prop_oneof![
        text().prop_map(Target::Upstream),
        text().prop_map(Target::Unresolved)
    ]
}

fn statuses() -> impl Strategy<Value = Vec<(u16, u16)>> {
    vec((100u16..600, 100u16..600), 0..3)
}

fn concurrency() -> impl Strategy<Value = Concurrency> {
    any::<[u32; 3]>().prop_map(|[max, queue_depth, queue_timeout_ms]| Concurrency {
        max,
        queue_depth,
        queue_timeout_ms,
    })
}

fn retry() -> impl Strategy<Value = Retry> {
    (any::<[bool; 6]>(), any::<[u32; 6]>(), statuses()).prop_map(|(b, n, statuses)| Retry {
        attempts: n[0],
        on: RetryOn {
            connect_failure: b[0],
            reset: b[1],
            timeout: b[2],
            reused_connection: b[3],
            non_idempotent: b[4],
            statuses,
        },
        initial_ms: n[1],
        max_ms: n[2],
        multiplier_percent: n[3],
        jitter: b[5],
        per_try_ms: n[4],
        budget_percent: n[5],
    })
}

fn affinity() -> impl Strategy<Value = Affinity> {
    let same_site = option::of(prop_oneof![
        Just(SameSite::Strict),
        Just(SameSite::Lax),
        Just(SameSite::None)
    ]);
    let secure = option::of(any::<bool>());
    let cookie = (text(), any::<u32>(), text(), secure, same_site).prop_map(
        |(name, ttl_seconds, path, secure, same_site)| AffinityCookie {
            name,
            ttl_seconds,
            path,
            secure,
            same_site,
        },
    );
    prop_oneof![
        cookie.prop_map(Affinity::Cookie),
        text().prop_map(Affinity::Header)
    ]
}

fn mirror() -> impl Strategy<Value = Mirror> {
    (target(), any::<u32>()).prop_map(|(target, millionths)| Mirror { target, millionths })
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
    (any::<[u32; 2]>(), target(), edits(), edits()).prop_map(
        |([weight, priority], target, request_headers, response_headers)| Backend {
            weight,
            priority,
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
    let timeouts = any::<[u32; 6]>().prop_map(|[a, b, c, d, e, f]| Timeouts {
        connect_ms: a,
        request_ms: b,
        backend_request_ms: c,
        first_byte_ms: d,
        stream_idle_ms: e,
        first_event_ms: f,
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
        (
            option::of(retry()),
            option::of(affinity()),
            vec(mirror(), 0..2),
            option::of(concurrency()),
            any::<bool>(),
            any::<bool>(),
        ),
    )
        .prop_map(
            |(
                (name, matches, precedence, action, rewrite),
                (request_headers, response_headers, timeouts, max_request_body, plugins),
                (retry, affinity, mirrors, concurrency, grpc_web, hides_methods),
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
                retry,
                affinity,
                mirrors,
                concurrency,
                grpc_web,
                hides_methods,
                plugins,
            },
        )
}

fn route() -> impl Strategy<Value = Route> {
    (
        origin(),
        any::<i64>(),
        option::of("[a-z]{1,8}"),
        vec(text(), 0..3),
        vec(host(), 1..3),
        vec(rule(), 0..3),
    )
        .prop_map(|(origin, created, tenant, listeners, hosts, rules)| Route {
            origin,
            created,
            tenant,
            listeners,
            hosts,
            rules,
        })
}

fn access_log() -> impl Strategy<Value = AccessLog> {
    let format = prop_oneof![Just(LogFormat::Json), text().prop_map(LogFormat::Template)];
    let filter = proptest::option::of(text());
    (format, any::<u32>(), filter, any::<bool>()).prop_map(
        |(format, sample_millionths, filter, to_stderr)| AccessLog {
            format,
            sample_millionths,
            filter,
            to_stderr,
        },
    )
}

fn metrics() -> impl Strategy<Value = Metrics> {
    let token = text().prop_map(|value| CredentialHeader {
        name: "authorization".to_owned(),
        value: Secret::new(value),
    });
    let tokens = option::of(vec(token, 0..3));
    (any::<[bool; 3]>(), any::<u32>(), option::of(text()), tokens).prop_map(
        |([by_route, by_tenant, by_upstream], max_series, path, tokens)| Metrics {
            by_route,
            by_tenant,
            by_upstream,
            max_series,
            path,
            tokens,
        },
    )
}

fn tracing() -> impl Strategy<Value = Tracing> {
    let header = (text(), text()).prop_map(|(name, value)| CredentialHeader {
        name,
        value: Secret::new(value),
    });
    (text(), any::<bool>(), vec(header, 0..3), any::<u32>()).prop_map(
        |(endpoint, grpc, headers, sample_millionths)| Tracing {
            endpoint,
            grpc,
            headers,
            sample_millionths,
        },
    )
}

fn tls_version() -> impl Strategy<Value = TlsVersion> {
    prop_oneof![Just(TlsVersion::V1_2), Just(TlsVersion::V1_3)]
}

fn listener_tls() -> impl Strategy<Value = ListenerTls> {
    let client =
        (text(), any::<[bool; 2]>()).prop_map(|(authorities, [required, any])| ClientValidation {
            authorities,
            required,
            any,
        });
    (
        vec(text(), 0..3),
        option::of(text()),
        tls_version(),
        vec(text(), 0..2),
        option::of(client),
    )
        .prop_map(
            |(certificates, default_certificate, min_version, cipher_suites, client)| ListenerTls {
                certificates,
                default_certificate,
                min_version,
                cipher_suites,
                client,
            },
        )
}

fn forwarded() -> impl Strategy<Value = Forwarded> {
    let xff = prop_oneof![
        Just(ForwardedFor::Drop),
        Just(ForwardedFor::Append),
        Just(ForwardedFor::Set)
    ];
    (xff, vec(network(), 0..2), any::<bool>()).prop_map(|(xff, trusted, standard_headers)| {
        Forwarded {
            xff,
            trusted,
            standard_headers,
        }
    })
}

fn template() -> impl Strategy<Value = ErrorTemplate> {
    (any::<u16>(), text(), text()).prop_map(|(status, content_type, body)| ErrorTemplate {
        status,
        content_type,
        body,
    })
}

fn certificate() -> impl Strategy<Value = Certificate> {
    (origin(), text(), vec(any::<u8>(), 0..5)).prop_map(|(origin, chain, key)| Certificate {
        origin,
        chain,
        key: Secret::new(key),
    })
}

fn edge() -> impl Strategy<Value = Edge> {
    let slashes = vec![EscapedSlashes::Reject, EscapedSlashes::Keep];
    let underscores = vec![Underscores::Reject, Underscores::Drop, Underscores::Keep];
    (select(slashes), select(underscores)).prop_map(|(escaped_slashes, underscores)| Edge {
        escaped_slashes,
        underscores,
    })
}

fn listener() -> impl Strategy<Value = Listener> {
    (
        origin(),
        text(),
        any::<u32>(),
        any::<u16>(),
        host(),
        any::<[bool; 3]>(),
        any::<[u32; 8]>(),
        (
            option::of(access_log()),
            option::of(tracing()),
            option::of(listener_tls()),
            (option::of(text()), option::of(1..=u16::MAX)),
            forwarded(),
            (
                vec(template(), 0..2),
                option::of(concurrency()),
                option::of(metrics()),
                edge(),
            ),
        ),
    )
        .prop_map(
            |(
                origin,
                name,
                order,
                port,
                hostname,
                [health, proxy_protocol, shows_revision],
                n,
                (
                    access_log,
                    tracing,
                    tls,
                    (backend_certificate, redirect_port),
                    forwarded,
                    (errors, concurrency, metrics, edge),
                ),
            )| Listener {
                origin,
                name,
                order,
                port,
                protocol: match order % 5 {
                    0 => ListenerProtocol::Http,
                    1 => ListenerProtocol::Https,
                    2 => ListenerProtocol::Tls,
                    3 => ListenerProtocol::Tcp,
                    _ => ListenerProtocol::Udp,
                },
                hostname,
                health,
                access_log,
                tracing,
                tls,
                proxy_protocol,
                backend_certificate,
                redirect_port,
                forwarded,
                errors,
                shows_revision,
                concurrency,
                metrics,
                caps: Caps {
                    header_bytes: n[0],
                    header_count: n[1],
                    url_bytes: n[2],
                    connections: n[3],
                    requests_per_connection: n[4],
                },
                edge,
                request_header_ms: n[5],
                keep_alive_ms: n[6],
                drain_ms: n[7],
            },
        )
}

fn balance() -> impl Strategy<Value = Balance> {
    let source = prop_oneof![
        Just(HashSource::Path),
        Just(HashSource::ClientIp),
        text().prop_map(HashSource::Header),
        text().prop_map(HashSource::Cookie),
        text().prop_map(HashSource::Query),
    ];
    let table = prop_oneof![Just(HashTable::Ring), Just(HashTable::Maglev)];
    let hash = (source, table, any::<u32>()).prop_map(|(source, table, bounded_load_percent)| {
        (
            BalancePolicy::ConsistentHash,
            Some(ConsistentHash {
                source,
                table,
                bounded_load_percent,
            }),
        )
    });
    let policy = prop_oneof![
        Just((BalancePolicy::RoundRobin, None)),
        Just((BalancePolicy::Weighted, None)),
        Just((BalancePolicy::LeastRequest, None)),
        Just((BalancePolicy::Random, None)),
        Just((BalancePolicy::P2C, None)),
        hash,
    ];
    (policy, any::<u32>(), any::<bool>()).prop_map(
        |((policy, hash), slow_start_ms, prefer_zone)| Balance {
            policy,
            hash,
            slow_start_ms,
            prefer_zone,
        },
    )
}

fn health() -> impl Strategy<Value = Health> {
    let check = prop_oneof![
        (text(), statuses(), option::of(text())).prop_map(|(path, expect, host)| Check::Http {
            path,
            expect,
            host
        }),
        Just(Check::Tcp),
        text().prop_map(|service| Check::Grpc { service }),
    ];
    let active = (check, any::<[u32; 4]>()).prop_map(|(check, n)| ActiveHealth {
        check,
        interval_ms: n[0],
        timeout_ms: n[1],
        unhealthy_threshold: n[2],
        healthy_threshold: n[3],
    });
    let passive = any::<[u32; 6]>().prop_map(|n| PassiveHealth {
        consecutive_errors: n[0],
        error_rate_percent: n[1],
        min_requests: n[2],
        window_ms: n[3],
        ejection_ms: n[4],
        max_eject_percent: n[5],
    });
    (option::of(active), option::of(passive), any::<u8>()).prop_map(
        |(active, passive, min_healthy_percent)| Health {
            active,
            passive,
            min_healthy_percent,
        },
    )
}

fn upstream_tls() -> impl Strategy<Value = UpstreamTls> {
    (
        option::of(text()),
        option::of(text()),
        option::of(text()),
        vec(text(), 0..2),
        any::<bool>(),
        tls_version(),
    )
        .prop_map(
            |(sni, authorities, client_certificate, subject_alt_names, insecure, min_version)| {
                UpstreamTls {
                    sni,
                    authorities,
                    client_certificate,
                    subject_alt_names,
                    insecure,
                    min_version,
                }
            },
        )
}

fn connection() -> impl Strategy<Value = Connection> {
    let proxy_protocol = option::of(prop_oneof![
        Just(ProxyProtocol::V1),
        Just(ProxyProtocol::V2)
    ]);
    (any::<[u32; 4]>(), proxy_protocol).prop_map(|(n, proxy_protocol)| Connection {
        pool_size: n[0],
        pool_idle_ms: n[1],
        max_streams: n[2],
        tcp_keepalive_ms: n[3],
        proxy_protocol,
    })
}

fn source() -> impl Strategy<Value = EndpointSource> {
    let endpoint = (text(), any::<u16>(), any::<u32>(), option::of(text())).prop_map(
        |(host, port, weight, zone)| StaticEndpoint {
            host,
            port,
            weight,
            zone,
        },
    );
    let endpoint = endpoint.boxed();
    let dns = (text(), any::<u16>(), any::<u32>(), any::<bool>()).prop_map(
        |(hostname, port, refresh_ms, respect_ttl)| DnsSource {
            hostname,
            port,
            refresh_ms,
            respect_ttl,
        },
    );
    let dns = dns.boxed();
    let http = (text(), vec(text(), 0..3), any::<u32>()).prop_map(|(url, path, refresh_ms)| {
        DiscoverySource::Http(HttpSource {
            url,
            path,
            refresh_ms,
        })
    });
    let source = prop_oneof![
        http,
        dns.clone().prop_map(DiscoverySource::Dns),
        text().prop_map(DiscoverySource::Service),
        vec(endpoint.clone(), 0..3).prop_map(DiscoverySource::Static),
    ];
    let filter = option::of(text());
    let discovery = (any::<bool>(), vec(source, 0..4), filter).prop_map(
        |(first_available, sources, filter)| {
            EndpointSource::Discovery(Discovery {
                first_available,
                sources,
                filter,
            })
        },
    );
    prop_oneof![
        discovery,
        vec(endpoint, 0..3).prop_map(EndpointSource::Static),
        text().prop_map(EndpointSource::Service),
        dns.prop_map(EndpointSource::Dns),
    ]
}

fn upstream() -> impl Strategy<Value = Upstream> {
    let protocol = prop_oneof![
        Just(UpstreamProtocol::Auto),
        Just(UpstreamProtocol::H1),
        Just(UpstreamProtocol::H2),
        Just(UpstreamProtocol::H2C)
    ];
    let breaker = any::<[u32; 3]>().prop_map(|n| CircuitBreaker {
        max_connections: n[0],
        max_requests: n[1],
        max_pending: n[2],
    });
    let credential = (text(), text()).prop_map(|(name, value)| CredentialHeader {
        name,
        value: Secret::new(value),
    });
    (
        (origin(), source(), protocol, option::of(upstream_tls())),
        (
            balance(),
            health(),
            option::of(breaker),
            option::of(concurrency()),
        ),
        (
            vec(credential, 0..2),
            text(),
            option::of(text()),
            any::<u32>(),
            connection(),
        ),
    )
        .prop_map(
            |(
                (origin, source, protocol, tls),
                (balance, health, circuit_breaker, concurrency),
                (credentials, path_prefix, authority, connect_ms, connection),
            )| Upstream {
                origin,
                source,
                protocol,
                tls,
                balance,
                health,
                circuit_breaker,
                concurrency,
                credentials,
                path_prefix,
                authority,
                connect_ms,
                connection,
            },
        )
}

fn shard() -> impl Strategy<Value = EndpointShard> {
    let zone = option::of((0..3).prop_map(|n| format!("zone-{n}").into()));
    let endpoint = (any::<IpAddr>(), any::<u16>(), any::<[bool; 3]>(), zone).prop_map(
        |(address, port, [ready, serving, terminating], zone)| Endpoint {
            address,
            port,
            ready,
            serving,
            terminating,
            zone,
        },
    );
    (text(), vec(endpoint, 0..5)).prop_map(|(service, mut endpoints)| {
        endpoints.sort(); // IPv4 sorts before IPv6
        EndpointShard { service, endpoints }
    })
}

fn tenant() -> impl Strategy<Value = Tenant> {
    let host = select(vec!["acme.com", "*.acme.com", "b.acme.com"]);
    let hosts = vec(
        host.prop_map(|text| HostPattern::parse(text).unwrap()),
        0..3,
    );
    (origin(), hosts).prop_map(|(origin, hosts)| Tenant { origin, hosts })
}

fn model() -> impl Strategy<Value = Model> {
    let key = || "[a-d]";
    (
        btree_map(key(), listener(), 0..3),
        btree_map(key(), route(), 0..4),
        btree_map(key(), upstream(), 0..3),
        btree_map(key(), shard(), 0..3),
        btree_map(key(), plugin(), 0..3),
        btree_map(key(), certificate(), 0..3),
        btree_map(key(), tenant(), 0..3),
    )
        .prop_map(
            |(listeners, routes, upstreams, shards, plugins, certificates, tenants)| Model {
                listeners,
                routes,
                upstreams,
                shards,
                plugins,
                certificates,
                tenants,
            },
        )
}

fn fill(store: &mut Store, model: &Model) -> bool {
    store.replace(bodies(model).map(|(kind, key, body)| (kind, key.to_owned(), body.unwrap())))
}

/// Sends what the replica lacks, as messages; returns what it decoded.
fn sync(store: &Store, replica: &mut Replica, number: u64) -> Option<Changes> {
    let held = store.resume(replica.digest());
    let mut transaction = store.since(held)?;
    if let Some(held) = held.filter(|_| number.is_multiple_of(2)) {
        transaction.patch(store.bases(&transaction, held));
    }
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
            upsert: vec![snapshot::pb::Resource { kind, key: "k".into(), hash: hash.0.to_vec(), body: body.into(), requires: Vec::new() }],
            ..Default::default()
        };
        let _ = replica.receive(chunk);
        prop_assert!(replica.is_empty());
    }
}

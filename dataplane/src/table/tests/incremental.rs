//! However the changes come, the table is that of the model that they lead to.

use super::dump::dump;
use super::oracle::{hosts, of_tenant, one_match, precedence};
use super::*;
use model::{Discovery, DiscoverySource, FailurePolicy, Plugin, PluginUse, StaticEndpoint};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

const LISTENERS: [&str; 2] = [LISTENER, "d/default/other"];
const UPSTREAMS: [&str; 3] = ["Service/n/a:80", "Service/n/b:80", "Upstream/n/c"];
const SERVICES: [&str; 2] = ["n/a:80", "n/b:80"];
const PLUGINS: [&str; 2] = ["n/p", "n/q"];

fn plugin(name: &str) -> Plugin {
    Plugin {
        origin: ObjectRef::new("Plugin", "n", name),
        name: name.into(),
        kind: "RequestValidation".into(),
        stage: None,
        priority: 0,
        parallel: false,
        failure_policy: FailurePolicy::Fail,
        run_on_local_reply: false,
        settings: "{}".into(),
    }
}

fn any_action() -> impl Strategy<Value = model::Action> {
    prop_oneof![
        4 => subsequence(UPSTREAMS.to_vec(), 1..=3).prop_map(|list| forward(&list)),
        1 => Just(respond("")),
        1 => Just(model::Action::Closed { code: "plugin_error".into() }),
    ]
}

fn any_rule() -> impl Strategy<Value = model::Rule> {
    let plugins = prop_oneof![2 => Just(Vec::new()), 1 => subsequence(PLUGINS.to_vec(), 1..=2)];
    let matches = prop::collection::vec(one_match(), 1..3);
    (matches, any_action(), precedence(), plugins, any::<bool>()).prop_map(
        |(matches, action, precedence, plugins, inline)| {
            let mut uses: Vec<_> = plugins
                .into_iter()
                .map(|key| PluginUse::Ref(key.into()))
                .collect();
            if inline {
                uses.push(PluginUse::Inline(Box::new(plugin("inline"))));
            }
            model::Rule {
                precedence,
                plugins: uses,
                ..rule(matches, action)
            }
        },
    )
}

fn any_route() -> impl Strategy<Value = Route> {
    let listeners = subsequence(LISTENERS.to_vec(), 0..=2);
    (
        hosts(),
        listeners,
        prop::collection::vec(any_rule(), 1..3),
        0_i64..3,
        of_tenant(),
    )
        .prop_map(|(hosts, listeners, rules, created, tenant)| Route {
            hosts,
            created,
            tenant,
            listeners: listeners.into_iter().map(str::to_owned).collect(),
            ..route("", &[], rules)
        })
}

fn any_listener() -> impl Strategy<Value = Listener> {
    let place = (select(vec![8080, 8081]), 0_u32..2);
    (select(vec!["*", "*.a", "b.a"]), any::<bool>(), place).prop_map(
        |(hostname, health, (port, order))| Listener {
            health,
            port,
            order,
            ..listener(hostname)
        },
    )
}

fn any_upstream() -> impl Strategy<Value = model::Upstream> {
    let endpoint =
        (select(vec!["10.0.0.1", "10.0.0.2", "web.local"]), 1_u32..3).prop_map(|(host, weight)| {
            StaticEndpoint {
                host: host.into(),
                port: 80,
                weight,
                zone: None,
            }
        });
    let source = prop_oneof![
        prop::collection::vec(endpoint, 0..3).prop_map(EndpointSource::Static),
        select(SERVICES.to_vec()).prop_map(|s| EndpointSource::Service(s.into())),
        any_discovery(),
    ];
    (source, select(vec!["", "/v1"]), any::<bool>()).prop_map(|(source, prefix, weighted)| {
        model::Upstream {
            path_prefix: prefix.into(),
            balance: if weighted {
                BalancePolicy::Weighted.into()
            } else {
                BalancePolicy::RoundRobin.into()
            },
            ..upstream(source)
        }
    })
}

fn any_discovery() -> impl Strategy<Value = EndpointSource> {
    let services = subsequence(SERVICES.to_vec(), 0..=2);
    let filter = select(vec![None, Some("endpoint.address != '10.1.0.2'")]);
    (services, any::<bool>(), filter).prop_map(|(services, first_available, filter)| {
        let service = |s: &str| DiscoverySource::Service(s.into());
        EndpointSource::Discovery(Discovery {
            first_available,
            sources: services.into_iter().map(service).collect(),
            filter: filter.map(str::to_owned),
        })
    })
}

fn any_tenant() -> impl Strategy<Value = Tenant> {
    subsequence(vec!["*.a", "*.b.a", "x.a", "c"], 0..3).prop_map(|hosts| tenant("t", &hosts))
}

fn any_shard() -> impl Strategy<Value = EndpointShard> {
    let endpoints = subsequence(
        vec![
            ("10.1.0.1:80", true),
            ("10.1.0.1:80", false),
            ("10.1.0.2:80", true),
            ("10.1.0.3:80", false),
        ],
        0..4,
    );
    (select(SERVICES.to_vec()), endpoints).prop_map(|(service, list)| shard(service, &list))
}

fn change<T: std::fmt::Debug + Clone>(
    keys: Vec<&'static str>,
    item: impl Strategy<Value = T>,
) -> impl Strategy<Value = Change<T>> {
    (select(keys), proptest::option::weighted(0.7, item)).prop_map(|(key, item)| Change {
        key: key.into(),
        item,
    })
}

fn changes() -> impl Strategy<Value = Changes> {
    (
        prop::bool::weighted(0.1),
        prop::collection::vec(change(LISTENERS.to_vec(), any_listener()), 0..2),
        prop::collection::vec(change(vec!["n/1", "n/2", "n/3", "n/4"], any_route()), 0..4),
        prop::collection::vec(change(UPSTREAMS.to_vec(), any_upstream()), 0..3),
        prop::collection::vec(
            change(vec!["n/a:80/1", "n/a:80/2", "n/b:80/1"], any_shard()),
            0..3,
        ),
        prop::collection::vec(
            change(PLUGINS.to_vec(), select(vec!["p", "q"]).prop_map(plugin)),
            0..2,
        ),
        prop::collection::vec(change(vec!["t", "u"], any_tenant()), 0..2),
    )
        .prop_map(
            |(full, listeners, routes, upstreams, shards, plugins, tenants)| Changes {
                full,
                listeners,
                routes,
                upstreams,
                shards,
                plugins,
                tenants,
                ..Changes::default()
            },
        )
}

/// The definition of a transaction.
fn take<T: Clone>(into: &mut BTreeMap<String, T>, full: bool, changes: &[Change<T>]) {
    if full {
        into.clear();
    }
    for Change { key, item } in changes {
        match item {
            Some(item) => into.insert(key.clone(), item.clone()),
            None => into.remove(key),
        };
    }
}

fn reversed(changes: &Changes) -> Changes {
    // Of several changes of one key the last counts, so only one of each key may be turned around.
    fn turn<T: Clone>(list: &[Change<T>]) -> Vec<Change<T>> {
        let last: BTreeMap<_, _> = list.iter().map(|c| (c.key.clone(), c.clone())).collect();
        last.into_values().rev().collect()
    }
    Changes {
        full: changes.full,
        listeners: turn(&changes.listeners),
        routes: turn(&changes.routes),
        upstreams: turn(&changes.upstreams),
        shards: turn(&changes.shards),
        plugins: turn(&changes.plugins),
        certificates: turn(&changes.certificates),
        tenants: turn(&changes.tenants),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn equals_the_table_made_at_once(steps in prop::collection::vec(changes(), 1..8)) {
        let mut model = Model::default();
        let mut steady = Compiler::new();
        let mut turned = Compiler::new();
        for step in steps {
            take(&mut model.listeners, step.full, &step.listeners);
            take(&mut model.routes, step.full, &step.routes);
            take(&mut model.upstreams, step.full, &step.upstreams);
            take(&mut model.shards, step.full, &step.shards);
            take(&mut model.plugins, step.full, &step.plugins);
            take(&mut model.tenants, step.full, &step.tenants);
            let turned = dump(&turned.apply(reversed(&step)).unwrap());
            let steady = dump(&steady.apply(step).unwrap());
            let at_once = dump(&compile(&model));
            prop_assert_eq!(&steady, &at_once);
            prop_assert_eq!(&turned, &at_once);
        }
        let again = dump(&steady.apply(Changes::of(&model)).unwrap());
        prop_assert_eq!(again, dump(&compile(&model)), "a full transaction on top");
    }
}

#[test]
fn all_or_nothing() {
    let mut compiler = Compiler::new();
    let before = compiler
        .apply(Changes::of(&model(vec![route(
            "a",
            &["h"],
            vec![rule(vec![prefix("/")], forward(&["u"]))],
        )])))
        .unwrap();
    let text = dump(&before);
    let bad_path = Match {
        path: PathMatch::Regex("a)|(b".into()),
        ..Match::any()
    };
    let inline = Plugin {
        settings: "[]".into(),
        ..plugin("x")
    };
    let mut with_plugin = rule(vec![prefix("/")], respond(""));
    with_plugin.plugins = vec![PluginUse::Inline(Box::new(inline.clone()))];
    let mut routes = put(
        "n/a",
        route("a", &["g"], vec![rule(vec![prefix("/")], respond(""))]),
    );
    routes.extend(put(
        "n/b",
        route(
            "b",
            &[],
            vec![rule(vec![prefix("/"), bad_path], respond(""))],
        ),
    ));
    routes.extend(put("n/c", route("c", &[], vec![with_plugin])));
    let staged = Plugin {
        stage: Some(model::Stage::PostResponse),
        ..plugin("s")
    };
    let mut plugins = put("n/x", inline);
    plugins.extend(put("n/s", staged));
    let rejected = compiler
        .apply(Changes {
            routes,
            plugins,
            upstreams: put("u", upstream(EndpointSource::Static(Vec::new()))),
            ..Changes::default()
        })
        .unwrap_err();
    let names: Vec<_> = rejected.iter().map(|r| (r.kind, r.key.as_str())).collect();
    use snapshot::Kind;
    assert_eq!(
        names,
        [
            (Kind::Plugin, "n/s"),
            (Kind::Plugin, "n/x"),
            (Kind::Route, "n/b"),
            (Kind::Route, "n/c")
        ]
    );
    assert!(
        rejected[2].reason.starts_with("rules[0].matches[1].path: "),
        "{}",
        rejected[2].reason
    );
    assert!(
        rejected[3].reason.starts_with("rules[0].plugins[0]: "),
        "{}",
        rejected[3].reason
    );
    assert!(Arc::ptr_eq(&before, &compiler.table()));
    assert_eq!(dump(&compiler.table()), text);
    assert!(compiler.registry().all().is_empty());
}

#[test]
fn a_rule_without_its_plugin_is_closed_until_it_comes() {
    let mut guarded = rule(vec![prefix("/")], respond("open"));
    guarded.plugins = vec![PluginUse::Ref("n/p".into())];
    let mut compiler = Compiler::new();
    let rules = vec![guarded, rule(vec![prefix("/free")], respond("free"))];
    let table = compiler
        .apply(Changes::of(&model(vec![route("a", &[], rules)])))
        .unwrap();
    assert_eq!(ask(&table, "GET", "h/", &[]), "closed plugin_error");
    assert_eq!(ask(&table, "GET", "h/free", &[]), "free");
    let plugins = put("n/p", plugin("p"));
    let table = compiler
        .apply(Changes {
            plugins,
            ..Changes::default()
        })
        .unwrap();
    assert_eq!(ask(&table, "GET", "h/", &[]), "open");
    let plugins = gone("n/p");
    let table = compiler
        .apply(Changes {
            plugins,
            ..Changes::default()
        })
        .unwrap();
    assert_eq!(ask(&table, "GET", "h/", &[]), "closed plugin_error");
}

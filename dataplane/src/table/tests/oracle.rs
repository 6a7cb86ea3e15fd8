//! The matcher against the definition: all rules in one list, sorted by rank, tried one after the other.

use super::*;
use model::{CookieMatch, HeaderMatch, QueryMatch, Rank, ValueMatch};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

pub(super) fn value() -> impl Strategy<Value = ValueMatch> {
    prop_oneof![
        select(vec!["1", "2"]).prop_map(|v| ValueMatch::Exact(v.into())),
        select(vec!["", "1"]).prop_map(|v| ValueMatch::Prefix(v.into())),
        select(vec!["[12]", "1|12"]).prop_map(|v| ValueMatch::Regex(v.into())),
        Just(ValueMatch::Present),
        Just(ValueMatch::Absent),
    ]
}

fn path() -> impl Strategy<Value = PathMatch> {
    prop_oneof![
        3 => select(vec!["/", "/a", "/a/", "/a/b", "/ab", "/b"]).prop_map(PathMatch::prefix),
        2 => select(vec!["/", "/a", "/a/", "/a/b"]).prop_map(|p| PathMatch::Exact(p.into())),
        1 => select(vec!["/a.*", "/[ab]", ".*", "/a|/a/b", "/a/."]).prop_map(|p| PathMatch::Regex(p.into())),
    ]
}

/// A predicate or two on the names `h` and `i`.
fn named() -> impl Strategy<Value = Vec<(String, ValueMatch)>> {
    let names = subsequence(vec!["h", "i"], 0..=2);
    (names, prop::collection::vec(value(), 2)).prop_map(|(names, values)| {
        let names = names.into_iter().map(str::to_owned);
        names.zip(values).collect()
    })
}

pub(super) fn one_match() -> impl Strategy<Value = Match> {
    let sometimes = |list: Vec<&'static str>| prop_oneof![2 => Just(Vec::new()), 1 => subsequence(list.clone(), 1..=list.len())];
    (
        path(),
        sometimes(vec!["GET", "POST", "PUT"]),
        named(),
        named(),
        prop_oneof![2 => Just(Vec::new()), 1 => named()],
        sometimes(vec!["10.0.0.0/8", "10.1.0.0/16", "fd00::/8", "0.0.0.0/0"]),
        any::<bool>(),
    )
        .prop_map(|(path, list, headers, query, cookies, clients, plain)| {
            if plain {
                return Match {
                    path,
                    methods: methods(&list),
                    ..Match::any()
                };
            }
            let header = |(name, value)| HeaderMatch { name, value };
            let parameter = |(name, value)| QueryMatch { name, value };
            let cookie = |(name, value)| CookieMatch { name, value };
            Match {
                path,
                methods: methods(&list),
                headers: headers.into_iter().map(header).collect(),
                query: query.into_iter().map(parameter).collect(),
                cookies: cookies.into_iter().map(cookie).collect(),
                clients: clients.iter().map(|c| c.parse().unwrap()).collect(),
            }
        })
}

pub(super) fn hosts() -> impl Strategy<Value = Vec<HostPattern>> {
    let all = vec![
        "*", "*.a", "*.b.a", "x.a", "y.b.a", "b.a", "~[xyz].*", "~.*[.]a", "~c|",
    ];
    subsequence(all, 1..=2).prop_map(|list| list.into_iter().map(host).collect())
}

pub(super) fn precedence() -> impl Strategy<Value = i32> {
    prop_oneof![8 => Just(0), 1 => Just(1), 1 => Just(-1)]
}

/// Of nobody, or of one of two Tenants.
pub(super) fn of_tenant() -> impl Strategy<Value = Option<String>> {
    select(vec![None, Some("t"), Some("u")]).prop_map(|tenant| tenant.map(str::to_owned))
}

/// Two Tenants, or one, or none, that share some hosts out among them.
pub(super) fn tenants() -> impl Strategy<Value = BTreeMap<String, Tenant>> {
    let patterns = ["*.a", "*.b.a", "x.a", "y.b.a", "a", "c"];
    let owner = select(vec![None, None, Some("t"), Some("u")]);
    prop::collection::vec(owner, patterns.len()).prop_map(move |owners| {
        let mut tenants: BTreeMap<String, Tenant> = BTreeMap::new();
        for (pattern, owner) in patterns.iter().zip(owners) {
            if let Some(owner) = owner {
                let entry = tenants.entry(owner.to_owned());
                let owned = entry.or_insert_with(|| tenant(owner, &[]));
                owned.hosts.push(host(pattern));
            }
        }
        tenants
    })
}

fn one_route() -> impl Strategy<Value = Route> {
    let rules = prop::collection::vec(
        (
            prop::collection::vec(one_match(), 1..3),
            precedence(),
            any::<bool>(),
        ),
        1..3,
    );
    (hosts(), rules, 0_i64..3, of_tenant()).prop_map(|(hosts, rules, created, tenant)| Route {
        created,
        tenant,
        hosts,
        rules: rules
            .into_iter()
            .map(|(matches, precedence, hides_methods)| model::Rule {
                precedence,
                hides_methods,
                ..rule(matches, respond(""))
            })
            .collect(),
        ..route("", &[], Vec::new())
    })
}

#[derive(Debug, Clone)]
struct Request {
    method: &'static str,
    host: &'static str,
    path: &'static str,
    query: Option<String>,
    headers: Headers,
    /// Names and values in the order in which they are sent.
    cookies: Vec<(&'static str, &'static str)>,
    client: IpAddr,
}

fn request() -> impl Strategy<Value = Request> {
    let lines = || {
        subsequence(
            vec![("h", "1"), ("h", "2"), ("h", "12"), ("i", ""), ("i", "1")],
            0..4,
        )
    };
    (
        select(vec!["GET", "POST", "PUT", "HEAD"]),
        select(vec!["x.a", "y.b.a", "z.b.a", "b.a", "a", "c", ""]),
        select(vec![
            "/", "/a", "/a/", "/a/b", "/a/bc", "/ab", "/b", "/b/x", "*", "",
        ]),
        lines(),
        lines(),
        lines(),
        select(vec![
            "10.1.2.3",
            "10.2.0.1",
            "192.0.2.1",
            "fd00::1",
            "2001:db8::1",
            "0.0.0.0",
        ]),
    )
        .prop_map(|(method, host, path, lines, query, cookies, client)| {
            let mut headers = headers(&lines);
            // One line for the first cookie, another for the rest.
            let (one, others) = cookies.split_at(cookies.len().min(1));
            for line in [one, others] {
                let pairs: Vec<String> = line.iter().map(|(k, v)| format!("{k}={v}")).collect();
                if !pairs.is_empty() {
                    headers.push("cookie", pairs.join("; ")).unwrap();
                }
            }
            let pairs: Vec<String> = query.iter().map(|(k, v)| format!("{k}={v}")).collect();
            Request {
                method,
                host,
                path,
                query: (!pairs.is_empty()).then(|| pairs.join("&")),
                headers,
                cookies,
                client: client.parse().unwrap(),
            }
        })
}

fn takes(wants: &ValueMatch, values: &[&str]) -> bool {
    match wants {
        ValueMatch::Absent => values.is_empty(),
        ValueMatch::Present => !values.is_empty(),
        ValueMatch::Exact(v) => values.contains(&v.as_str()),
        ValueMatch::Prefix(v) => values.iter().any(|x| x.starts_with(v)),
        ValueMatch::Regex(v) => values.iter().any(|x| whole(v, x)),
    }
}

fn whole(pattern: &str, text: &str) -> bool {
    regex::Regex::new(&format!("^(?:{pattern})$"))
        .unwrap()
        .is_match(text)
}

/// Whether all but the method holds.
fn fits(m: &Match, r: &Request) -> bool {
    let path = match &m.path {
        PathMatch::Exact(p) => p == r.path,
        PathMatch::Prefix(p) => PathMatch::prefix_covers(p, r.path),
        PathMatch::Regex(p) => whole(p, r.path),
    };
    let line = |name: &str| -> Vec<String> {
        r.headers
            .get_all(name)
            .map(|v| String::from_utf8(v.to_vec()).unwrap())
            .collect()
    };
    let first = |name: &str| {
        r.query
            .as_deref()
            .and_then(|q| model::query::first(q, name))
    };
    path && m.headers.iter().all(|h| {
        takes(
            &h.value,
            &line(&h.name).iter().map(String::as_str).collect::<Vec<_>>(),
        )
    }) && m.query.iter().all(|p| {
        takes(
            &p.value,
            &first(&p.name).iter().map(|v| &**v).collect::<Vec<_>>(),
        )
    }) && m.cookies.iter().all(|c| {
        let first = r.cookies.iter().find(|(name, _)| *name == c.name);
        takes(&c.value, &first.iter().map(|(_, v)| *v).collect::<Vec<_>>())
    }) && (m.clients.is_empty()
        || m.clients
            .iter()
            .any(|n| n.contains(&r.client) && r.client != NOBODY))
}

/// Whose a host is: the owner of the longest of the patterns that cover it, where a name is longer than a wildcard.
fn owner<'m>(model: &'m Model, name: &str) -> Option<&'m String> {
    let owned = model.tenants.iter().flat_map(|(key, tenant)| {
        let covering = tenant.hosts.iter().filter(|host| host.covers(name));
        covering.map(move |host| {
            (
                matches!(host, HostPattern::Exact(_)),
                host.text().len(),
                key,
            )
        })
    });
    owned.max().map(|(_, _, key)| key)
}

/// What the table has to say, in words.
fn expected(model: &Model, r: &Request) -> String {
    let listener = &model.listeners[LISTENER];
    let mut ranked = Vec::new();
    let owner = owner(model, r.host);
    let of_owner = |route: &Route| owner.is_none() || route.tenant.as_ref() == owner;
    for (key, route) in model.routes.iter().filter(|(_, route)| of_owner(route)) {
        let effective: BTreeSet<_> = route
            .hosts
            .iter()
            .filter_map(|h| h.intersect(&listener.hostname))
            .collect();
        for host in effective.iter().filter(|h| h.covers(r.host)) {
            for (i, rule) in (0..).zip(&route.rules) {
                for (j, m) in (0..).zip(&rule.matches) {
                    ranked.push((
                        Rank::new(rule.precedence, host, m, route.created, key, i, j),
                        m,
                        rule.hides_methods,
                    ));
                }
            }
        }
    }
    ranked.sort_by(|a, b| b.0.cmp(&a.0));
    let mut allow = BTreeSet::new();
    for (rank, m, hides_methods) in ranked
        .iter()
        .filter(|(_, m, _)| listener.hostname.covers(r.host) && fits(m, r))
    {
        if m.methods.is_empty() || m.methods.iter().any(|m| m.as_str() == r.method) {
            return format!("{} {} {} {rank}", rank.route.0, rank.rule.0, rank.matched.0);
        }
        if !hides_methods {
            allow.extend(m.methods.iter().map(Method::as_str));
        }
    }
    if allow.is_empty() {
        return "404".into();
    }
    format!("405 {}", allow.into_iter().collect::<Vec<_>>().join(", "))
}

fn found(found: &Found<'_>) -> String {
    match found {
        Found::Rule(m) => format!(
            "{} {} {} {}",
            m.rule.spec.route.key,
            m.rule.spec.index,
            m.matcher.index,
            m.rank()
        ),
        Found::MethodNotAllowed { allow } => format!("405 {allow}"),
        Found::NotFound => "404".into(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn equals_the_list_of_all_rules(
        routes in prop::collection::vec(one_route(), 0..7),
        tenants in tenants(),
        hostname in select(vec!["*", "*", "*.a", "b.a"]),
        requests in prop::collection::vec(request(), 20),
    ) {
        let mut model = model(Vec::new());
        model.listeners.insert(LISTENER.into(), listener(hostname));
        model.tenants = tenants;
        model.routes = (0..).zip(routes).map(|(i, r): (u32, _)| (format!("n/{i}"), r)).collect();
        let table = compile(&model);
        for r in &requests {
            let q = Query { method: r.method, host: r.host, path: r.path, query: r.query.as_deref(), headers: &r.headers, client: r.client };
            let mut trace = Trace::new(&q);
            let expected = expected(&model, r);
            prop_assert_eq!(found(&only(&table).find_silently(&q)), expected.clone(), "{:?}", r);
            prop_assert_eq!(found(&only(&table).find(&q, &mut trace)), expected, "traced {:?}", r);
        }
    }
}

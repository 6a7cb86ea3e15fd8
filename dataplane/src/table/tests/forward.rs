//! Shares of backends, and the request that each of them gets.

use super::*;
use model::{PathRewrite, StaticEndpoint};
use std::sync::Mutex;

fn weighted(weights: &[u32]) -> Arc<Table> {
    let model::Action::Forward(mut backends) = forward(&["a", "b", "c"]) else {
        panic!("it forwards")
    };
    backends.truncate(weights.len());
    for (backend, weight) in backends.iter_mut().zip(weights) {
        backend.weight = *weight;
    }
    let rules = vec![rule(vec![prefix("/")], model::Action::Forward(backends))];
    compile(&model(vec![route("r", &[], rules)]))
}

fn the_rule(table: &Table) -> Arc<Rule> {
    let headers = Headers::new();
    let q = Query {
        method: "GET",
        host: "h",
        path: "/",
        query: None,
        headers: &headers,
        client: NOBODY,
    };
    let Found::Rule(matched) = only(table).find_silently(&q) else {
        panic!("it matches")
    };
    Arc::clone(matched.rule)
}

fn draw(rule: &Rule) -> Option<String> {
    let Action::Forward(backends) = rule.action() else {
        panic!("it forwards")
    };
    backends.next().map(|b| b.target.to_owned())
}

#[test]
fn shares_are_exact_whoever_draws() {
    let rule = the_rule(&weighted(&[7, 2, 1]));
    let taken = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..250 {
                    let target = draw(&rule).unwrap();
                    *taken.lock().unwrap().entry(target).or_insert(0) += 1;
                }
            });
        }
    });
    let shares: Vec<_> = taken.into_inner().unwrap().into_values().collect();
    assert_eq!(shares, [700, 200, 100]);
}

#[test]
fn no_weight_takes_none() {
    let rule = the_rule(&weighted(&[0, 1]));
    assert!((0..5).all(|_| draw(&rule).as_deref() == Some("b")));
    assert!(draw(&the_rule(&weighted(&[0, 0]))).is_none());
}

/// Backends by target and weight, those of the second list in a tier of their own; those that are well have an endpoint.
fn tiered(tiers: [&[(&str, u32)]; 2], well: &[&str]) -> Arc<Rule> {
    let backend = |priority: u32| {
        move |(target, weight): &(&str, u32)| Backend {
            weight: *weight,
            priority,
            ..Backend::new(Target::Upstream((*target).to_owned()))
        }
    };
    let backends = (0..).zip(tiers);
    let backends = backends.flat_map(|(tier, list)| list.iter().map(backend(tier)));
    let action = model::Action::Forward(backends.collect());
    let rules = vec![rule(vec![prefix("/")], action)];
    let mut model = model(vec![route("r", &[], rules)]);
    for target in ["a", "b", "c"] {
        let endpoint = StaticEndpoint {
            host: "10.0.0.1".into(),
            port: 80,
            weight: 1,
            zone: None,
        };
        let endpoints = well.contains(&target).then_some(endpoint);
        let source = EndpointSource::Static(endpoints.into_iter().collect());
        model.upstreams.insert(target.into(), upstream(source));
    }
    the_rule(&compile(&model))
}

/// Whose each of so many values is.
fn owners(rule: &Rule, values: u64) -> Vec<String> {
    let Action::Forward(backends) = rule.action() else {
        panic!("it forwards")
    };
    let owner = |value: u64| backends.of_value(value).unwrap().target.to_owned();
    (0..values).map(owner).collect()
}

#[test]
fn values_are_shared_out_by_weight_and_each_keeps_its_backend() {
    let all = [("a", 6), ("b", 3), ("c", 1)];
    let before = owners(&tiered([&all, &[]], &["a", "b", "c"]), 10_000);
    for (target, weight) in all {
        let share = before.iter().filter(|o| *o == target).count();
        assert!(
            share.abs_diff(weight as usize * 1000) < 200,
            "{target} {share}"
        );
    }
    // The same whatever their order, and whenever they are asked.
    let turned = [("c", 1), ("a", 6), ("b", 3)];
    assert_eq!(
        owners(&tiered([&turned, &[]], &["a", "b", "c"]), 10_000),
        before
    );
    // One cannot serve: its values go to the others, and no other value moves.
    let after = owners(&tiered([&all, &[]], &["b", "c"]), 10_000);
    for (before, after) in before.iter().zip(&after) {
        assert!(after != "a" && (before == "a" || before == after));
    }
    // One that does not exist keeps its share, and gets its error.
    let unknown = [("x", 5), ("a", 5)];
    let owners = owners(&tiered([&unknown, &[]], &["a"]), 1000);
    let share = owners.iter().filter(|o| *o == "x").count();
    assert!(share.abs_diff(500) < 100, "{share}");
}

#[test]
fn values_belong_to_the_first_tier_that_can_serve() {
    let tiers: [&[(&str, u32)]; 2] = [&[("a", 1), ("x", 9)], &[("b", 1), ("c", 1)]];
    let all_are = |well: &[&str], wanted: &[&str]| {
        let owners = owners(&tiered(tiers, well), 100);
        assert!(owners.iter().all(|o| wanted.contains(&&**o)), "{owners:?}");
        assert!(wanted.iter().all(|w| owners.iter().any(|o| o == w)));
    };
    all_are(&["a", "b", "c"], &["a"]);
    all_are(&["b", "c"], &["b", "c"]);
    all_are(&["c"], &["c"]);
}

/// As a canary that differs in the headers that it gets.
#[test]
fn one_target_may_have_two_shares() {
    let rule = tiered([&[("a", 1), ("a", 1)], &[]], &["a"]);
    let Action::Forward(backends) = rule.action() else {
        panic!("it forwards")
    };
    let of_first = |value: &u64| backends.of_value(*value).unwrap().index == 0;
    let share = (0..1000).filter(of_first).count();
    assert!(share.abs_diff(500) < 100, "{share}");
}

#[test]
fn target_and_host_for_an_upstream() {
    let rewritten = |path: Option<PathRewrite>, host: Option<&str>| {
        let mut rule = rule(vec![prefix("/")], forward(&["u"]));
        rule.rewrite.path = path;
        rule.rewrite.host = host.map(Into::into);
        the_rule(&compile(&model(vec![route("r", &[], vec![rule])])))
    };
    let upstream = |prefix: &str, authority: Option<&str>| {
        let mut settings = upstream(EndpointSource::Static(Vec::new()));
        settings.path_prefix = prefix.into();
        settings.authority = authority.map(Into::into);
        let wire = Wire::compile(&settings, |_| None).unwrap();
        Upstream::new("u", &settings, wire, None, &Arc::default())
    };
    let target = |rule: &Rule, path: &str, query, prefix_len, upstream: &Upstream| {
        let mut out = "left over".to_owned();
        rule.target("h", path, query, prefix_len, upstream, &mut out)
            .map(str::to_owned)
    };
    let (plain, external) = (upstream("", None), upstream("/v1", Some("api.com")));
    let as_is = rewritten(None, None);
    assert_eq!(
        target(&as_is, "/a", Some("q"), 0, &plain),
        None,
        "as the client sent it"
    );
    assert_eq!(
        target(&as_is, "/a", Some("q"), 0, &external).as_deref(),
        Some("/v1/a?q")
    );
    assert_eq!(target(&as_is, "*", None, 0, &external), None);
    assert_eq!(
        (
            as_is.host("h", &plain).as_deref(),
            as_is.host("h", &external).as_deref()
        ),
        (None, Some("api.com"))
    );
    let strip = rewritten(Some(PathRewrite::StripPrefix), Some("in.com"));
    assert_eq!(
        target(&strip, "/a/b", Some("q=1"), 2, &plain).as_deref(),
        Some("/b?q=1")
    );
    assert_eq!(
        target(&strip, "/a", None, 2, &external).as_deref(),
        Some("/v1/")
    );
    assert_eq!(
        (
            strip.host("h", &plain).as_deref(),
            strip.host("h", &external).as_deref()
        ),
        (Some("in.com"), Some("in.com"))
    );
    let climb = PathRewrite::Regex {
        pattern: "^/(.*)".into(),
        replacement: "/../$1".into(),
    };
    let climb = rewritten(Some(climb), None);
    assert_eq!(
        target(&climb, "/x", None, 0, &external).as_deref(),
        Some("/v1/x"),
        "never above the upstream's path"
    );
}

//! Hosts that belong to a Tenant.

use super::*;
use std::net::IpAddr;

fn of(tenant: Option<&str>, route: Route) -> Route {
    Route {
        tenant: tenant.map(str::to_owned),
        ..route
    }
}

/// Routes of Tenant `acme`, of Tenant `other` and of nobody.
fn three() -> Model {
    let answers = |name: &str, hosts: &[&str]| {
        route(name, hosts, vec![rule(vec![prefix("/")], respond(name))])
    };
    let mut model = model(vec![
        of(
            Some("acme"),
            answers("acme", &["shop.acme.com", "*.acme.com"]),
        ),
        of(
            Some("other"),
            answers("other", &["shop.acme.com", "*.other.com"]),
        ),
        of(None, answers("nobodys", &[])),
        of(None, answers("expression", &["~api[.].*"])),
    ]);
    model
        .tenants
        .insert("acme".into(), tenant("acme", &["*.acme.com"]));
    model
}

fn answer(table: &Table, host: &str) -> String {
    let headers = Headers::default();
    let q = Query {
        method: "GET",
        host,
        path: "/",
        query: None,
        headers: &headers,
        client: NOBODY,
    };
    match only(table).find_silently(&q) {
        Found::Rule(m) => m.rule.spec.route.key.to_string(),
        other => format!("{other:?}"),
    }
}

#[test]
fn hosts_of_a_tenant_are_for_its_own_routes() {
    let mut model = three();
    // Older than all others, and said above all: neither helps.
    for route in model
        .routes
        .values_mut()
        .filter(|r| r.tenant.as_deref() != Some("acme"))
    {
        route.created = -1;
        route.rules[0].precedence = 9;
    }
    let table = compile(&model);
    for (host, route) in [
        ("shop.acme.com", "n/acme"),
        ("x.acme.com", "n/acme"),
        ("api.acme.com", "n/acme"),
        ("x.other.com", "n/other"),
        ("api.other.com", "n/other"),
        ("acme.com", "n/nobodys"),
        ("example.com", "n/nobodys"),
        ("api.example.com", "n/expression"),
    ] {
        assert_eq!(answer(&table, host), route, "{host}");
    }
    model.routes.remove("n/acme");
    let table = compile(&model);
    assert_eq!(answer(&table, "shop.acme.com"), "NotFound");
    assert_eq!(answer(&table, "api.acme.com"), "NotFound");
}

#[test]
fn a_tenant_comes_and_goes_without_its_routes_being_compiled() {
    let mut model = three();
    let acme = model.tenants.remove("acme").unwrap();
    let mut compiler = Compiler::new();
    let nobodys = compiler.apply(Changes::of(&model)).unwrap();
    assert_eq!(answer(&nobodys, "api.acme.com"), "n/acme");
    assert_eq!(answer(&nobodys, "shop.acme.com"), "n/acme");
    let change = |tenants| Changes {
        tenants,
        ..Changes::default()
    };
    let other = Tenant {
        hosts: vec![host("shop.acme.com")],
        ..tenant("other", &[])
    };
    let mut both = put("acme", acme);
    both.extend(put("other", other));
    let owned = compiler.apply(change(both)).unwrap();
    assert_eq!(answer(&owned, "shop.acme.com"), "n/other");
    assert_eq!(answer(&owned, "www.acme.com"), "n/acme");
    let gone = compiler.apply(change(gone("other"))).unwrap();
    assert_eq!(answer(&gone, "shop.acme.com"), "n/acme");
    // A request that began before sees what was then.
    assert_eq!(answer(&nobodys, "shop.acme.com"), "n/acme");
    assert_eq!(answer(&owned, "shop.acme.com"), "n/other");
}

#[test]
fn a_method_of_anothers_route_is_not_told() {
    let posts = Match {
        methods: methods(&["POST"]),
        ..prefix("/")
    };
    let mut model = model(vec![route(
        "nobodys",
        &[],
        vec![rule(vec![posts], respond(""))],
    )]);
    model
        .tenants
        .insert("acme".into(), tenant("acme", &["acme.com"]));
    let table = compile(&model);
    assert_eq!(answer(&table, "acme.com"), "NotFound");
    assert_eq!(
        answer(&table, "b.com"),
        "MethodNotAllowed { allow: \"POST\" }"
    );
}

#[test]
fn explain_says_whose_the_host_is() {
    let table = compile(&three());
    let headers = Headers::default();
    let q = Query {
        method: "GET",
        host: "shop.acme.com",
        path: "/",
        query: None,
        headers: &headers,
        client: IpAddr::from([127, 0, 0, 1]),
    };
    let mut trace = Trace::new(&q);
    only(&table).find(&q, &mut trace);
    let why: Vec<String> = trace
        .near_misses()
        .into_iter()
        .map(|miss| miss.why)
        .collect();
    for wanted in [
        "host shop.acme.com belongs to Tenant acme, the Route to Tenant other",
        "host shop.acme.com belongs to Tenant acme, the Route to none",
    ] {
        assert!(why.iter().any(|why| why == wanted), "{why:?}");
    }
}

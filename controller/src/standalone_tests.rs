use super::*;
use crate::publish::Session;
use snapshot::{Generation, Replica, SCHEMA, pb};
use std::fs;
use tempfile::TempDir;
use tokio::sync::watch;

const ROUTE: &str = "\
apiVersion: diolkos.io/v1alpha1
kind: Route
metadata: {name: web, namespace: shop}
spec: {rules: [{directResponse: {status: 200, body: one}}]}
";

/// Waits for another generation; a test that waits in vain fails by the bound of its runner.
async fn next(generation: &mut watch::Receiver<Option<Generation>>) {
    generation.changed().await.unwrap();
}

fn body_of(standalone: &Standalone) -> Option<String> {
    match &standalone
        .model()
        .routes
        .get("shop/web")?
        .rules
        .first()?
        .action
    {
        model::Action::Respond(response) => Some(response.body.clone()),
        _ => None,
    }
}

fn condition<'a>(status: &'a Map<String, Value>, type_: &str) -> Option<&'a str> {
    let of = |conditions: &'a Value| {
        let found = conditions.as_array()?.iter().find(|c| c["type"] == type_)?;
        found["status"].as_str()
    };
    let route = status.get("Route/shop/web")?;
    of(&route["conditions"]).or_else(|| of(&route["parents"][0]["conditions"]))
}

#[tokio::test]
async fn changes_are_published_and_errors_keep_what_serves() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("route.yaml");
    fs::write(&file, ROUTE).unwrap();
    let publisher = Publisher::new("test");
    let standalone =
        Standalone::start(vec![dir.path().to_owned()], Arc::clone(&publisher)).unwrap();
    let mut generation = publisher.subscribe();
    assert!(
        generation.borrow_and_update().is_some(),
        "published when start returns"
    );
    assert_eq!(body_of(&standalone).as_deref(), Some("one"));

    fs::write(&file, ROUTE.replace("one", "two")).unwrap();
    while body_of(&standalone).as_deref() != Some("two") {
        next(&mut generation).await;
    }
    // The broken one stays what it was; the next file tells us that it has been read.
    fs::write(&file, "spec: [").unwrap();
    let other = ROUTE.replace("name: web", "name: other");
    fs::write(dir.path().join("other.yaml"), other).unwrap();
    while !standalone.model().routes.contains_key("shop/other") {
        next(&mut generation).await;
    }
    assert_eq!(body_of(&standalone).as_deref(), Some("two"));
    assert!(
        standalone
            .problems()
            .iter()
            .any(|p| p.file == file && p.message.contains("serves on"))
    );

    // Refused by admission: the same, with a condition.
    fs::write(&file, ROUTE.replace("status: 200", "status: 20")).unwrap();
    let other = ROUTE.replace("name: web", "name: another");
    fs::write(dir.path().join("other.yaml"), other).unwrap();
    while !standalone.model().routes.contains_key("shop/another") {
        next(&mut generation).await;
    }
    assert_eq!(body_of(&standalone).as_deref(), Some("two"));
    let status = standalone.status(&Findings::default());
    assert_eq!(condition(&status, "Quarantined"), Some("True"));
    assert_eq!(condition(&status, "Accepted"), Some("False"));
}

#[tokio::test]
async fn programmed_follows_the_data_plane() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("route.yaml"), ROUTE).unwrap();
    let publisher = Publisher::new("test");
    let standalone =
        Standalone::start(vec![dir.path().to_owned()], Arc::clone(&publisher)).unwrap();
    assert_eq!(
        condition(&standalone.status(&Findings::default()), "Programmed"),
        Some("False")
    );
    let mut session = Session::new(publisher);
    let hello = pb::Hello {
        schema_min: 1,
        schema_max: SCHEMA,
        ..pb::Hello::default()
    };
    session.on_hello(&hello).unwrap();
    let mut replica = Replica::default();
    for chunk in session.next_chunks().unwrap() {
        if let Some(staged) = replica.receive(chunk).unwrap() {
            let applied = replica.commit(staged);
            let digest = applied.digest.to_bytes().to_vec();
            let transaction = applied.transaction;
            session
                .on_ack(&pb::Ack {
                    transaction,
                    digest,
                    listeners: Vec::new(),
                })
                .unwrap();
        }
    }
    let status = standalone.status(&Findings::default());
    assert_eq!(condition(&status, "Programmed"), Some("True"));
    assert_eq!(condition(&status, "Ready"), Some("True"));
}

#[test]
fn a_directory_that_is_not_there_is_an_error() {
    let dir = TempDir::new().unwrap();
    let nowhere = vec![dir.path().join("nowhere")];
    assert!(Standalone::start(nowhere, Publisher::new("test")).is_err());
}

#[test]
fn generations_count_versions() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("route.yaml");
    let mut state = State::new(Loader::new(vec![dir.path().to_owned()]));
    let mut generation = |text: &str| {
        fs::write(&file, text).unwrap();
        let loaded = state.loader.load();
        state.take(loaded);
        let report = state.translator.report().objects().next().unwrap().1;
        report.generation
    };
    assert_eq!(generation(ROUTE), 1);
    assert_eq!(generation(&format!("# same\n{ROUTE}")), 1);
    assert_eq!(generation(&ROUTE.replace("one", "two")), 2);
    assert_eq!(generation(&ROUTE.replace("status: 200", "status: 20")), 3);
}

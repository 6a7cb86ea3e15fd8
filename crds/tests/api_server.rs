//! A real API server takes our definitions, refuses the bad objects of the corpus and accepts the good ones.
//!
//! Needs a cluster that may be written to: `KUBECONFIG` and `DIOLKOS_RIG=1`. Objects are sent as a dry run.

#![allow(clippy::unwrap_used)] // a test may stop where it stands

use diolkos_crds as crds;

mod common;

use std::{env, time::Duration};

use common::{Sample, samples};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
    runtime::wait::{await_condition, conditions},
};
use serde_json::Value;
use tokio::time::{Instant, interval, timeout};

/// How long the server may take to serve a definition that it has just been given.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_cluster_judges_the_corpus_as_we_do() {
    if env::var("DIOLKOS_RIG").as_deref() != Ok("1") {
        println!("skipped: no cluster (DIOLKOS_RIG)");
        assert_ne!(
            env::var("REQUIRE_RIG").as_deref(),
            Ok("1"),
            "REQUIRE_RIG=1, but there is no cluster"
        );
        return;
    }
    let client = Client::try_default().await.unwrap();
    install(&client).await;
    for sample in samples("good") {
        let answer = verdict(&client, &sample, |answer| answer.is_none()).await;
        assert_eq!(answer, None, "{}", sample.file);
    }
    for sample in samples("bad") {
        let named = |answer: &Option<String>| {
            let words = sample.says.as_deref().unwrap_or_default();
            answer
                .as_ref()
                .is_some_and(|a| a.contains(&sample.field) && a.contains(words))
        };
        let answer = verdict(&client, &sample, named).await;
        assert!(
            named(&answer),
            "{}: {answer:?} does not name {} or say {:?}",
            sample.file,
            sample.field,
            sample.says
        );
    }
}

/// Applies all definitions and waits until they are served.
async fn install(client: &Client) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in crds::all() {
        let name = crd.name_any();
        let given = api
            .patch(
                &name,
                &PatchParams::apply("diolkos-test").force(),
                &Patch::Apply(&crd),
            )
            .await;
        given.unwrap_or_else(|error| panic!("{name}: {error}"));
        let established = await_condition(api.clone(), &name, conditions::is_crd_established());
        timeout(PATIENCE, established).await.unwrap().unwrap();
        let crd = api.get(&name).await.unwrap();
        let conditions = crd
            .status
            .and_then(|status| status.conditions)
            .unwrap_or_default();
        assert!(
            !conditions.iter().any(|c| c.type_ == "NonStructuralSchema"),
            "{name}: {conditions:?}"
        );
    }
}

/// Why the server refuses the object, if it does. A changed definition takes effect some time after it was
/// accepted, so a verdict other than the expected one is asked for again for a while.
async fn verdict(
    client: &Client,
    sample: &Sample,
    expected: impl Fn(&Option<String>) -> bool,
) -> Option<String> {
    let end = Instant::now() + PATIENCE;
    let mut again = interval(Duration::from_millis(200));
    loop {
        again.tick().await;
        let answer = create(client, sample).await;
        if expected(&answer) || Instant::now() > end {
            return answer;
        }
    }
}

async fn create(client: &Client, sample: &Sample) -> Option<String> {
    let names = crds::all()
        .into_iter()
        .find(|crd| crd.spec.names.kind == sample.kind())
        .unwrap()
        .spec;
    let namespace = if names.scope == "Cluster" {
        ""
    } else {
        "namespaces/default/"
    };
    let url = format!(
        "/apis/diolkos.io/v1alpha1/{namespace}{}?dryRun=All&fieldValidation=Strict",
        names.names.plural
    );
    let request = http::Request::post(url)
        .header("content-type", "application/json")
        .body(serde_json::to_vec(&sample.object).unwrap())
        .unwrap();
    match client.request::<Value>(request).await {
        Ok(_) => None,
        Err(kube::Error::Api(status)) => Some(status.message.clone()),
        Err(error) => panic!("{}: {error}", sample.file),
    }
}

//! The tables in `docs/` are what the code does.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use diolkos_dataplane::proxy::fail::CATALOGUE;
use diolkos_dataplane::telemetry::Metrics;
use diolkos_dataplane::telemetry::metrics::Attempt;
use std::collections::{BTreeMap, BTreeSet};

fn rows(file: &str) -> Vec<Vec<String>> {
    let path = format!("{}/../docs/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    // The controller's part has a test of its own.
    let text = text.split("## Controller").next().unwrap();
    let rows = text
        .lines()
        .filter(|l| l.starts_with("| ") && l.contains('`'));
    rows.map(|l| {
        l.trim_matches('|')
            .split('|')
            .map(|c| c.trim().to_owned())
            .collect()
    })
    .collect()
}

#[test]
fn the_error_catalogue_is_the_documented_one() {
    let documented: BTreeSet<(u16, String)> = rows("errors.md")
        .iter()
        .map(|r| (r[0].parse().unwrap(), r[1].trim_matches('`').to_owned()))
        .collect();
    let built = CATALOGUE
        .iter()
        .map(|f| (f.status, f.code.to_owned()))
        .collect();
    assert_eq!(documented, built);
}

#[test]
fn every_metric_is_documented_with_its_labels_and_help() {
    let metrics = Metrics::new();
    // A family shows only once it has a series.
    metrics.listeners.of(Some("d/gw/http")).count(200);
    metrics.error("bad_request");
    metrics.attempt(Attempt::Ok);
    let plugin = metrics.plugins.of("CORS");
    plugin.failed(model::FailurePolicy::Fail);
    metrics
        .routes
        .of("d/r")
        .count(200, std::time::Duration::ZERO);
    let mut exported = BTreeMap::new();
    for family in metrics.registry.gather() {
        if family.name().starts_with("process_") {
            continue;
        }
        let labels = family.get_metric()[0]
            .get_label()
            .iter()
            .map(|l| l.name().to_owned());
        let labels: BTreeSet<String> = labels.collect();
        exported.insert(family.name().to_owned(), (labels, family.help().to_owned()));
    }
    let documented = rows("metrics.md").into_iter().map(|r| {
        let labels = r[2].split(',').filter_map(|part| {
            let (_, rest) = part.split_once('`')?;
            Some(rest.split_once('`')?.0.to_owned())
        });
        let labels: BTreeSet<String> = labels.collect();
        (r[0].trim_matches('`').to_owned(), (labels, r[3].clone()))
    });
    assert_eq!(exported, documented.collect());
}

/// Every reason in the code is in the document, and nothing else is.
#[test]
fn the_document_on_strictness_lists_every_reason() {
    fn sources(directory: &std::path::Path, out: &mut Vec<String>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, out);
            } else if path.extension().is_some_and(|e| e == "rs")
                && !path.to_string_lossy().contains("tests")
            {
                out.push(std::fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut texts = Vec::new();
    let code = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
    sources(std::path::Path::new(code), &mut texts);
    let call = regex::Regex::new(r#"Reject::(?:bad_request|timeout)\(\s*"([^"]+)""#).unwrap();
    let field = regex::Regex::new(r#"reason: "([^"]+)""#).unwrap();
    let mut in_code = BTreeSet::new();
    for text in &texts {
        in_code.extend(call.captures_iter(text).map(|c| c[1].to_owned()));
        if text.contains("pub struct Reject") {
            in_code.extend(field.captures_iter(text).map(|c| c[1].to_owned()));
        }
    }
    let quoted = regex::Regex::new("`([^`]+)`").unwrap();
    let documented: BTreeSet<String> = rows("strictness.md")
        .iter()
        .flat_map(|r| quoted.captures_iter(&r[0]).map(|c| c[1].to_owned()))
        .collect();
    assert_eq!(documented, in_code);
}

/// Each row names a test, or a folder of end-to-end cases, that shows it.
#[test]
fn every_behaviour_has_its_test() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/");
    let rows = rows("behaviour.md");
    assert!(rows.len() > 40);
    for row in rows {
        let name = row[3].trim_matches('`');
        let (file, test) = name.split_once("::").unwrap();
        let found = if file == "case" {
            std::path::Path::new(&format!("{root}../e2e/cases/{test}/case.yaml")).exists()
        } else {
            // What takes a whole process, or a controller, is tested there; what no client can see, beside its code.
            let folders = [
                "tests",
                "tests/front",
                "tests/upstream_h2",
                "src",
                "../crates/cli/tests",
                "../controller/src",
                "../controller/tests/push",
            ];
            folders.iter().any(|folder| {
                let text = std::fs::read_to_string(format!("{root}{folder}/{file}.rs"));
                text.is_ok_and(|t| t.contains(&format!("fn {test}(")))
            })
        };
        assert!(found, "there is no {name}");
    }
}

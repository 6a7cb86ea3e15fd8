//! `docs/conditions.md` is what the code does; `BLESS=1` writes it anew.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use diolkos_controller::report::Reason;
use diolkos_controller::world::ObjectKind;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::PathBuf;

const HEAD: &str = "# Conditions and their reasons

Every object of ours has conditions with `observedGeneration`, in its status and, for `diolkos run`, at `/api/v1/status`.

| Condition | True | Where |
|---|---|---|
| `Accepted` | the object is valid and in effect | all kinds; for a Route in `status.parents[]` |
| `ResolvedRefs` | everything that it refers to exists and may be used | kinds that refer; for a Route in `status.parents[]` |
| `Programmed` | every data plane has acknowledged it: each that is connected, and none serves that is connected to no controller and may lack it | Route, Upstream, GatewayConfig, Gateway, ListenerSet, HTTPRoute, GRPCRoute, TLSRoute, TCPRoute, UDPRoute |
| `BackendsHealthy` | every upstream that it leads to has an endpoint that is ready, and none is set aside because of checks or failed requests; it does not enter `Ready` | Upstream, and Route that sends requests somewhere, while data planes serve them |
| `Quarantined` | an older version serves, because the present one cannot be used, or the configuration is rolled back | only while that is so |
| `Conflicted` | another listener on the port cannot be told from it, or speaks another protocol | listeners of a Gateway or ListenerSet |
| `CertificateReady` | every certificate that the listener names is loaded and has not expired; it does not enter `Ready`, and is Unknown where the listener does not serve for another reason | listeners of a GatewayConfig, Gateway or ListenerSet that terminate TLS |
| `InsecureFrontendValidationMode` | any client is let in, whatever certificate it shows, as the Gateway asks for | Gateway, only while that is so |
| `SupportedVersion` | the CustomResourceDefinitions of the Gateway API are of a release that this one was made for; it is served also where they are not | GatewayClass, where their release is known |
| `MissingPermissions` | the controller may not list or watch kinds that it reads, which the message names; what follows is in `deploy/README.md` | GatewayClass, only while that is so |
| `Ready` | the sum of the others, for `kubectl wait` and GitOps tools | all kinds |
| `Stalled` | waiting does not help: only another version of the object does (kstatus says Failed, not InProgress) | all kinds, only while that is so |

`status.listeners` of a GatewayConfig says of each listener how many Routes that are accepted attach to it, and its `Accepted`, `ResolvedRefs`,
`Programmed` and `CertificateReady`. `status.effective` of a Route names the plugins that run for its requests, in their order, with
who asks for each: `route/NAME` for all rules, `rule/NAME` for one (its place in the list where it has no name). While an older
version serves, they are those of that version.

A data plane that is cut off from all controllers serves on with what it has. Its Pod gets traffic for as long as the EndpointSlices of its
Service (that of its own, or `diolkos-dataplane` beside the controller) say that it is ready, and until then `Programmed` of what has changed
since the Pod was missed is `False` with reason `Pending`, and names it. Of what has not changed since a status that says `True` stays as it is,
whoever leads: a data plane that comes again a moment later costs no write. A Pod that is not ready or is deleted counts no more, and
neither does one that no such Service leads to: a process outside of the cluster, one behind a Service of another name or without the label
`app.kubernetes.io/component: data-plane`, one in a namespace that the controller does not watch. Of those `Programmed` knows only while they
are connected.

Kubernetes Events (`kubectl events --for route/shop`) tell when an older version begins to stand in for an object, and when it does no longer:

| Reason | Type | When |
|---|---|---|
| `Quarantined` | Warning | the present version cannot be used, and the one before it serves on |
| `RejectedByDataPlane` | Warning | a data plane refused a resource that the object needs, with its words, and whether what was accepted last serves on |
| `DataPlaneTooOld` | Warning | a data plane is of a build that would pass over a part of the object, and goes on without this version |
| `Restored` | Normal | nothing of that is so any more |

The leader alone writes them, once for each change and not again for the same version of the object; of what data planes refuse it
tells of 256 objects at a time.

Another one tells that a version is on its way to data planes:

| Reason | Type | When |
|---|---|---|
| `ConfigChanged` | Normal | the object was added or changed, and that made the revision that the Event names, of these data planes |

At most 20 of these at once and one a second after that; `events` of `diolkos_table_evictions_total` counts objects that are not told
of. The log has each change (event `diff_config`), also that of `diolkos run`: revision, and the first ten of what changed.

The version that serves in place of one that cannot be used is in the memory of the controllers. The leader tells the
others which ones stand in, and they tell each other what was accepted before what data planes refuse: it outlives any one controller.
Of Gateways, ListenerSets and Ingresses, which are made of more than one object, each knows only what it has seen itself.

Where all controllers start anew at once, they know which versions stand in from the Secret `diolkos-stand-ins` beside the controller, in
which the leader writes it within a second or so: last good certificates are among it, with their keys. It has room for 900 KiB; what exceeds
that is counted by `stand_ins` of `diolkos_table_evictions_total` and lasts as long as one replica does. What is not there, and with
`diolkos run` all of it, is lost then: an object of which the present version cannot be used has none before it, for which the reasons
below say what happens, and data planes are told so, whatever they served until then.

Of an object that cannot be read, because a later release has written it perhaps, and has no version before it, what can be read is in effect.
A listener that cannot be read is not opened, and the others are. A rule that cannot be read answers 500 for what it matches, for more than that
where its matches cannot be read either; where something cannot be read that is said for all of a Route, GatewayConfig or Tenant, all rules that
it concerns do. Of the hosts of a Tenant those that can be read stay its own. Nothing is in effect of an object of which it cannot be read where it belongs: a Route's parents and hosts, a Gateway but for its
listeners, which data planes a GatewayConfig has. Data planes of a Gateway's own are then told nothing, and keep what they have.

The message of a condition names the field and what is allowed there. Reasons are fixed:

| Reason | Meaning |
|---|---|
";

#[test]
fn every_reason_is_documented() {
    let mut text = HEAD.to_owned();
    for reason in Reason::ALL {
        writeln!(text, "| `{}` | {} |", reason.as_str(), reason.describe()).unwrap();
    }
    let path = format!("{}/../docs/conditions.md", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let documented = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(documented, text, "BLESS=1 writes docs/conditions.md anew");
}

/// A test or an expected answer has each of them by its name: what is never made, or never looked at, is found here.
#[test]
fn every_reason_is_expected_by_a_test() {
    let mut tests = String::new();
    let mut report = String::new();
    let mut folders = vec![PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src")];
    folders.push(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden"));
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let name = path.to_string_lossy();
            let (code, test) = match text.split_once("#[cfg(test)]") {
                _ if name.ends_with("tests.rs") || name.contains("_tests/") => ("", &*text),
                _ if name.ends_with(".yaml") => {
                    ("", text.split_once("---- expect ----").unwrap().1)
                }
                Some(parts) => parts,
                None => (&*text, ""),
            };
            tests.push_str(test);
            if name.contains("/src/report/") {
                report.push_str(code);
            }
        }
    }
    // Those of the Gateway API that are no faults of an object.
    let said = regex::Regex::new(r#""(?:False|Unknown)",\s+"([A-Z]\w+)""#).unwrap();
    let said = said.captures_iter(&report).map(|found| found[1].to_owned());
    let mut reasons: BTreeSet<String> = said.collect();
    assert!(reasons.contains("AddressNotUsable"));
    reasons.extend(Reason::ALL.iter().map(|reason| reason.as_str().to_owned()));
    // Of an Event.
    reasons.insert("Restored".to_owned());
    let known = regex::Regex::new(r"\b[A-Z]\w+\b").unwrap();
    for word in known.find_iter(&tests) {
        reasons.remove(word.as_str());
    }
    assert_eq!(reasons, BTreeSet::new());
}

/// Whoever makes a condition says its type in one of a few ways.
#[test]
fn every_condition_is_documented() {
    let type_ = r#"(?:judge(?:_by)?\((?:report, )?|condition\(|type_: |const TYPE: &str = )\s*"([A-Z]\w+)""#;
    let type_ = regex::Regex::new(type_).unwrap();
    let mut made = BTreeSet::new();
    for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/report")).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        let types = type_.captures_iter(text).map(|found| found[1].to_owned());
        made.extend(types);
    }
    let (_, table) = HEAD.split_once("| Condition | True | Where |").unwrap();
    let (table, _) = table.split_once("\n\n").unwrap();
    let rows = table.lines().filter_map(|row| row.split('`').nth(1));
    let documented: BTreeSet<String> = rows.map(str::to_owned).collect();
    assert!(documented.contains("BackendsHealthy"));
    assert_eq!(made, documented);
}

/// Each with what follows where it may not be listed.
#[test]
fn every_kind_that_is_followed_is_documented() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/README.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, table) = text.split_once("# Kinds that may not be listed").unwrap();
    let (table, _) = table.split_once("\n# ").unwrap();
    let rows = table.lines().filter_map(|row| row.split('|').nth(1));
    let named: Vec<&str> = rows.flat_map(|row| row.split(',')).map(str::trim).collect();
    for kind in ObjectKind::ALL {
        let rows = named.iter().filter(|name| **name == kind.name()).count();
        assert_eq!(rows, 1, "{kind}");
    }
}

#[test]
fn every_annotation_of_ingress_nginx_is_documented() {
    const BEGIN: &str = "<!-- annotations -->\n";
    let path = format!("{}/../docs/ingress.md", env!("CARGO_MANIFEST_DIR"));
    let documented = std::fs::read_to_string(&path).unwrap();
    let (head, table) = documented.split_once(BEGIN).unwrap();
    let mut text = "| Annotation | Effect | But |\n|---|---|---|\n".to_owned();
    for (name, effect, but) in diolkos_controller::ingress_annotations() {
        writeln!(text, "| `{name}` | {effect} | {but} |").unwrap();
    }
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, format!("{head}{BEGIN}{text}")).unwrap();
        return;
    }
    assert_eq!(table, text, "BLESS=1 writes docs/ingress.md anew");
}

#[test]
fn every_metric_is_documented() {
    let declared = include_str!("../src/metrics.rs");
    let path = format!("{}/../docs/metrics.md", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let (_, table) = text.split_once("## Controller").unwrap();
    let mut documented = 0;
    for row in table.lines().filter(|l| l.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let (name, help) = (cells[0].trim_matches('`'), cells[3]);
        assert!(
            declared.contains(&format!("\"{name}\"")),
            "{name} does not exist"
        );
        assert!(
            declared.contains(&format!("\"{help}\"")),
            "{name} has another help: {help}"
        );
        documented += 1;
    }
    let names = declared.matches("\"diolkos_").count();
    assert_eq!(documented, names, "a metric is not in docs/metrics.md");
}

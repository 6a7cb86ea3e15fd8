//! The statuses of the Gateway API: the same judgement, in its words and its places (GEP-1364).

use super::features::features;
use super::listeners::{
    certificate_ready, is_about_certificates, judge_by, listener_of, program, serves,
};
use super::{
    CONTROLLER_NAME, Condition, ListenerReport, ObjectReport, Problem, Programmed, Progress,
    Reason, Severity, conditions, limit,
};
use crate::adapt::gateway::BACKEND_CERTIFICATE;
use crate::world::ObjectKind;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// That a status may hold.
const MAX_ADDRESSES: usize = 16;

/// The status of a GatewayClass.
pub(super) fn class(report: &ObjectReport) -> Value {
    let of = |reason| -> Vec<&Problem> {
        let all = report.problems.iter();
        all.filter(|p| p.reason == reason).collect()
    };
    let of_bundle = of(Reason::UnsupportedVersion);
    let forbidden = of(Reason::MissingPermissions);
    let all = report.problems.iter();
    let own = all.filter(|p| !of_bundle.contains(p) && !forbidden.contains(p));
    let own: Vec<&Problem> = own.collect();
    let mut conditions = vec![judge(report, "Accepted", &own)];
    if report.knows_bundle {
        let mut supported = judge(report, "SupportedVersion", &of_bundle);
        if !of_bundle.is_empty() {
            // It serves all the same, so that it is no error.
            supported.status = "False";
            supported.reason = Reason::UnsupportedVersion.as_str();
        }
        conditions.push(supported);
    }
    if !forbidden.is_empty() {
        conditions.push(judge(report, "MissingPermissions", &forbidden));
    }
    let features = features(report.route_retry).into_iter();
    let features = features.map(|name| json!({ "name": name }));
    json!({
        "conditions": conditions,
        "supportedFeatures": features.collect::<Vec<_>>(),
    })
}

/// The part of the status of a Route of the Gateway API that is ours.
pub(super) fn route(report: &ObjectReport, programmed: &Programmed) -> Value {
    let parents = report.parents.iter().map(|parent| {
        // What is wrong at this parent is said first, and nothing is in effect there then.
        let mut at_parent = parent.view(report);
        at_parent.absent |= parent
            .problems
            .iter()
            .any(|p| p.severity == Severity::Error);
        at_parent
            .problems
            .splice(0..0, parent.problems.iter().cloned());
        let mut conditions = conditions(&at_parent, &[], programmed);
        conditions.retain(|c| !super::OF_THE_WHOLE.contains(&c.type_));
        json!({
            "parentRef": parent.parent_ref.value(),
            "controllerName": CONTROLLER_NAME,
            "conditions": conditions,
        })
    });
    json!({ "parents": parents.collect::<Vec<_>>() })
}

/// The part of the status of a BackendTLSPolicy that is ours.
pub(super) fn policy(report: &ObjectReport) -> Value {
    let (of_refs, own): (Vec<&Problem>, Vec<&Problem>) = report
        .problems
        .iter()
        .partition(|p| p.reason.is_about_references());
    let conditions = [
        judge(report, "Accepted", &own),
        judge(report, "ResolvedRefs", &of_refs),
    ];
    let ancestors = report.parents.iter().map(|ancestor| {
        json!({
            "ancestorRef": ancestor.parent_ref.value(),
            "controllerName": CONTROLLER_NAME,
            "conditions": conditions,
        })
    });
    json!({ "ancestors": ancestors.collect::<Vec<_>>() })
}

/// Problems of the object itself, and those of its listeners.
fn parted(report: &ObjectReport) -> (Vec<&Problem>, Vec<&Problem>) {
    report
        .problems
        .iter()
        .partition(|problem| listener_of(problem).is_none() && !is_of_frontend(problem))
}

/// Whether the object itself is accepted, and what there is to say of its listeners.
fn with_listeners(report: &ObjectReport, progress: &Progress) -> (Condition, Vec<(Value, Judged)>) {
    let (mut own, of_listeners) = parted(report);
    own.retain(|problem| !is_of_backends(problem));
    let mut accepted = judge(report, "Accepted", &own);
    let listeners: Vec<(Value, Judged)> = report
        .listeners
        .iter()
        .enumerate()
        .map(|(i, one)| {
            let mut problems = of_listeners.clone();
            problems.retain(|problem| {
                let frontend = one.frontend.as_ref();
                let of_frontend = frontend.is_some_and(|f| problem.field.starts_with(&f.field));
                of_frontend || listener_of(problem) == Some(i)
            });
            listener(report, one, &problems, progress.of(one))
        })
        .collect();
    let names = |wanted: Judged| {
        let all = listeners.iter().zip(&report.listeners);
        let wanted = all.filter(|((_, judged), _)| *judged == wanted);
        wanted.map(|(_, l)| &*l.name).collect::<Vec<_>>()
    };
    let [good, lacking, refused] = [Judged::Good, Judged::Lacking, Judged::Refused].map(names);
    if accepted.status == "True" && good.len() < listeners.len() {
        accepted.reason = "ListenersNotValid";
        if refused.len() == listeners.len() {
            accepted.status = "False";
        }
        let said = [
            ("not accepted", refused),
            ("lacking what they refer to", lacking),
            ("good", good),
        ];
        let said = said.iter().filter(|(_, names)| !names.is_empty());
        let said = said.map(|(what, names)| format!("{what}: {}", names.join(", ")));
        accepted.message = limit(said.collect::<Vec<_>>().join("; "));
    }
    (accepted, listeners)
}

/// Whether a ListenerSet counts at its Gateway: one of its listeners is served, at least.
pub(super) fn is_accepted_set(report: &ObjectReport) -> bool {
    let (own, _) = parted(report);
    let mut listeners = report.listeners.iter();
    let is_good = report.quarantined || own.iter().all(|p| p.severity != Severity::Error);
    is_good && listeners.any(|l| serves(report, l))
}

/// The status of a ListenerSet.
pub(super) fn listener_set(report: &ObjectReport, progress: &Progress) -> Value {
    let (mut accepted, mut listeners) = with_listeners(report, progress);
    if accepted.status != "True" && accepted.reason != "ListenersNotValid" && !report.quarantined {
        // It adds nothing to the Gateway, whatever its listeners are like.
        listeners.clear();
    }
    if accepted.status == "True" && !is_accepted_set(report) {
        (accepted.status, accepted.reason) = ("False", "ListenersNotValid");
    }
    let mut ready = program(report, &progress.whole);
    if report.quarantined {
        // The version before it serves.
    } else if accepted.status != "True" {
        (ready.status, ready.reason) = ("False", accepted.reason);
        ready.message = "no listener of it serves".to_owned();
    } else if report.addresses.as_ref().is_some_and(Vec::is_empty) {
        (ready.status, ready.reason) = ("False", "ParentNotProgrammed");
        ready.message = "its Gateway has no address yet".to_owned();
    }
    let listeners = listeners.into_iter().map(|(listener, _)| listener);
    json!({
        "conditions": [accepted, ready],
        "listeners": listeners.collect::<Vec<_>>(),
    })
}

/// The status of a Gateway.
pub(super) fn gateway(report: &ObjectReport, progress: &Progress) -> Value {
    let (accepted, listeners) = with_listeners(report, progress);
    let serving = report
        .resources
        .iter()
        .any(|(kind, _)| *kind == snapshot::Kind::Listener);
    let mut ready = program(report, &progress.whole);
    if report.quarantined && serving {
        // The version before it serves.
    } else if accepted.status != "True" || !serving {
        (ready.status, ready.reason) = ("False", "Invalid");
        ready.message = "no listener serves".to_owned();
    } else if ready.reason == Reason::DataPlanesNotPermitted.as_str() {
        // Without them there is no Service, and no address.
    } else if !report.lacks_addresses.is_empty() {
        (ready.status, ready.reason) = ("False", "AddressNotUsable");
        ready.message = limit(report.lacks_addresses.join("; "));
    } else if report.addresses.as_ref().is_some_and(Vec::is_empty) {
        (ready.status, ready.reason) = ("False", "AddressNotAssigned");
        ready.message = "its Service has no address yet".to_owned();
    }
    let listeners = listeners.into_iter().map(|(listener, _)| listener);
    let mut conditions = vec![accepted, ready];
    if report.shows_certificate {
        let (mut own, _) = parted(report);
        own.retain(|problem| is_of_backends(problem));
        conditions.push(judge(report, "ResolvedRefs", &own));
    }
    let frontends = report.listeners.iter().filter_map(|l| l.frontend.as_ref());
    let insecure: BTreeSet<&str> = frontends
        .filter(|frontend| frontend.insecure)
        .map(|frontend| &*frontend.field)
        .collect();
    if !insecure.is_empty() {
        let fields = insecure.into_iter().collect::<Vec<_>>().join(", ");
        conditions.push(Condition {
            type_: "InsecureFrontendValidationMode",
            status: "True",
            reason: "ConfigurationChanged",
            message: limit(format!(
                "{fields}: any client is let in, whatever certificate it shows"
            )),
            observed_generation: report.generation,
        });
    }
    let mut status = json!({
        "conditions": conditions,
        "listeners": listeners.collect::<Vec<_>>(),
    });
    if report.listener_sets > 0 {
        status["attachedListenerSets"] = report.listener_sets.into();
    }
    if let Some(addresses) = &report.addresses {
        status["addresses"] = addresses_of(addresses);
    }
    status
}

/// Addresses in a status.
pub(super) fn addresses_of(all: &[String]) -> Value {
    let addresses = all.iter().take(MAX_ADDRESSES);
    addresses.map(|address| address_of(address)).collect()
}

fn address_of(text: &str) -> Value {
    let type_ = match text.parse::<IpAddr>() {
        Ok(_) => "IPAddress",
        Err(_) => "Hostname",
    };
    json!({ "type": type_, "value": text })
}

/// What a listener is like.
#[derive(Clone, Copy, PartialEq)]
enum Judged {
    Good,
    /// A reference does not resolve.
    Lacking,
    Refused,
}

/// The status of a listener.
fn listener(
    report: &ObjectReport,
    listener: &ListenerReport,
    problems: &[&Problem],
    programmed: &Programmed,
) -> (Value, Judged) {
    let of = |wanted: fn(Reason) -> bool| {
        let mut some = problems.to_vec();
        some.retain(|problem| wanted(problem.reason));
        some
    };
    let accepted = judge(report, "Accepted", &of(|r| !r.is_about_references()));
    let resolved = judge(report, "ResolvedRefs", &of(Reason::is_about_references));
    let judged = match (accepted.status, resolved.status) {
        ("True", "True") => Judged::Good,
        ("True", _) => Judged::Lacking,
        _ => Judged::Refused,
    };
    let mut conflicted = judge(report, "Conflicted", &of(Reason::is_conflict));
    (conflicted.status, conflicted.reason) = match conflicted.status {
        "True" => ("False", "NoConflicts"),
        _ => ("True", conflicted.reason),
    };
    let mut ready = program(report, programmed);
    if !serves(report, listener) {
        (ready.status, ready.reason) = ("False", "Invalid");
        ready.message = "the listener does not serve".to_owned();
        if conflicted.status == "True" {
            ready.reason = conflicted.reason;
        }
    }
    let certificates = certificate_ready(report, listener, problems, &resolved);
    let mut conditions = vec![accepted, resolved, ready, conflicted];
    conditions.extend(certificates);
    let group = |kind: &&ObjectKind| json!({ "group": kind.group(), "kind": kind.name() });
    let kinds: Vec<Value> = listener
        .kinds
        .iter()
        .filter(|k| k.is_gateway_api())
        .map(|k| group(&k))
        .collect();
    let value = json!({
        "name": listener.name,
        "supportedKinds": kinds,
        "attachedRoutes": listener.attached,
        "conditions": conditions,
    });
    (value, judged)
}

/// Whether a problem is about what is asked of clients, which concerns the listeners on those ports.
fn is_of_frontend(problem: &Problem) -> bool {
    problem.field.starts_with("spec.tls.frontend.")
}

/// Whether a problem is about what is shown to backends.
fn is_of_backends(problem: &Problem) -> bool {
    problem.field == BACKEND_CERTIFICATE
}

fn judge(report: &ObjectReport, type_: &'static str, problems: &[&Problem]) -> Condition {
    judge_by(report, type_, problems, reason)
}

/// What the Gateway API calls it.
fn reason(problem: &Problem) -> &'static str {
    let certificate = is_about_certificates(problem);
    let authorities = problem.field.contains(".caCertificateRefs");
    match problem.reason {
        Reason::RefNotPermitted => "RefNotPermitted",
        Reason::InvalidKind if is_of_frontend(problem) => "InvalidCACertificateKind",
        Reason::InvalidKind if authorities => "InvalidKind",
        reason if authorities && reason.is_about_references() => "InvalidCACertificateRef",
        reason if is_of_backends(problem) && reason.is_about_references() => {
            "InvalidClientCertificateRef"
        }
        reason if certificate && reason.is_about_references() => "InvalidCertificateRef",
        reason => reason.as_str(),
    }
}

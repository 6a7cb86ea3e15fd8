//! What is said of each listener: all of it for a GatewayConfig, and of the certificates of any listener.

use super::{
    Condition, ListenerReport, ObjectReport, Problem, Programmed, Progress, Reason, Severity,
    conditions, limit,
};
use serde_json::{Value, json};

/// Those of a GatewayConfig.
pub(super) fn statuses(report: &ObjectReport, progress: &Progress) -> Vec<Value> {
    let all = report.listeners.iter().enumerate();
    all.map(|(i, one)| {
        let problems = report.problems.iter();
        let problems = problems.filter(|problem| listener_of(problem) == Some(i));
        status(report, one, &problems.collect::<Vec<_>>(), progress.of(one))
    })
    .collect()
}

fn status(
    report: &ObjectReport,
    listener: &ListenerReport,
    problems: &[&Problem],
    programmed: &Programmed,
) -> Value {
    let (of_refs, own): (Vec<&Problem>, Vec<&Problem>) = problems
        .iter()
        .partition(|problem| problem.reason.is_about_references());
    let accepted = judge_by(report, "Accepted", &own, own_reason);
    let resolved = judge_by(report, "ResolvedRefs", &of_refs, own_reason);
    let mut ready = program(report, programmed);
    if !serves(report, listener) {
        let why = [&accepted, &resolved].into_iter().find(|c| is_false(c));
        ready.status = "False";
        ready.reason = why.map_or(Reason::Invalid.as_str(), |why| why.reason);
        ready.message = "the listener does not serve".to_owned();
    }
    let certificates = certificate_ready(report, listener, problems, &resolved);
    let mut conditions = vec![accepted, resolved, ready];
    conditions.extend(certificates);
    json!({
        "name": listener.name,
        "attachedRoutes": listener.attached,
        "conditions": conditions,
    })
}

/// `CertificateReady` of a listener that terminates TLS. It stands beside what the Gateway API prescribes, and enters
/// nothing else: a certificate that has expired is used all the same.
pub(super) fn certificate_ready(
    report: &ObjectReport,
    listener: &ListenerReport,
    problems: &[&Problem],
    resolved: &Condition,
) -> Option<Condition> {
    if !listener.terminates {
        return None;
    }
    let mut about = problems.to_vec();
    about.retain(|problem| is_about_certificates(problem));
    let mut ready = judge_by(report, "CertificateReady", &about, own_reason);
    if is_false(&ready) {
        return Some(ready);
    }
    about.retain(|problem| problem.reason == Reason::CertificateExpired);
    if !about.is_empty() {
        let text: Vec<String> = about.iter().map(|problem| problem.text()).collect();
        (ready.status, ready.reason) = ("False", Reason::CertificateExpired.as_str());
        ready.message = limit(text.join("; "));
    } else if !serves(report, listener) && !is_false(resolved) {
        // What is wrong with the listener otherwise may have come before a look at its certificates.
        (ready.status, ready.reason) = ("Unknown", "Pending");
        ready.message = "the listener does not serve".to_owned();
    }
    Some(ready)
}

/// Whether a problem is about what a listener shows to its clients.
pub(super) fn is_about_certificates(problem: &Problem) -> bool {
    problem.field.contains(".certificateRefs") || problem.field.contains(".defaultCertificate")
}

/// Whether a listener is among what the object gives.
pub(super) fn serves(report: &ObjectReport, listener: &ListenerReport) -> bool {
    let resource = (snapshot::Kind::Listener, listener.key.as_str().into());
    report.resources.contains(&resource)
}

/// The listener that a problem is about, by its position.
pub(super) fn listener_of(problem: &Problem) -> Option<usize> {
    let rest = problem.field.strip_prefix("spec.listeners[")?;
    rest.split_once(']')?.0.parse().ok()
}

/// The condition that some problems come to. `reason`: what the first of them is called there.
pub(super) fn judge_by(
    report: &ObjectReport,
    type_: &'static str,
    problems: &[&Problem],
    reason: fn(&Problem) -> &'static str,
) -> Condition {
    let first = problems.iter().find(|p| p.severity == Severity::Error);
    let text: Vec<String> = problems
        .iter()
        .filter(|p| first.is_none() || p.severity == Severity::Error)
        .map(|p| p.text())
        .collect();
    Condition {
        type_,
        status: if first.is_some() { "False" } else { "True" },
        reason: first.map_or(type_, |p| reason(p)),
        message: limit(text.join("; ")),
        observed_generation: report.generation,
    }
}

/// `Programmed` of the object, or of a listener of it that has come so far.
pub(super) fn program(report: &ObjectReport, programmed: &Programmed) -> Condition {
    const TYPE: &str = "Programmed";
    let all = conditions(report, &[], programmed);
    let found = all.into_iter().find(|c| c.type_ == TYPE);
    found.unwrap_or(Condition {
        type_: TYPE,
        status: "Unknown",
        reason: "Pending",
        message: String::new(),
        observed_generation: report.generation,
    })
}

fn own_reason(problem: &Problem) -> &'static str {
    problem.reason.as_str()
}

fn is_false(condition: &Condition) -> bool {
    condition.status == "False"
}

//! What translation has to say about each object, and the conditions that follow from it.
//!
//! Translation never fails: what is wrong with an object becomes a [`Problem`] that names the object, the field and a
//! fixed [`Reason`]. Standalone status, `diolkos translate`, `diolkos validate` and the status writer of the cluster
//! all read this one [`Report`].

mod backends;
mod features;
mod gateway_api;
mod ingress;
mod listeners;
mod progress;
mod reason;
mod reference;

pub use backends::{Findings, upstreams_of};
pub use features::RouteRetry;
pub use progress::{Programmed, Progress};
pub use reason::Reason;
pub use reference::Reference;

use crate::few::Few;
use crate::translate::Resources;
use crate::world::{ObjectId, ObjectKind};
use model::Stage;
use serde::Serialize;
use serde_json::{Map, Value, json};
use snapshot::{ResourceId, Revision};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The name under which we write status.
pub const CONTROLLER_NAME: &str = "diolkos.io/controller";

/// What a problem does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The object does not do what it says: a condition is False, and `validate` fails.
    Error,
    /// Worth knowing; conditions stay True.
    Warning,
}

/// Where something stands in a spec, such as `spec.rules[0].backends`: written out only where there is something to say of it,
/// which is rare.
pub(crate) type Field<'a> = &'a dyn fmt::Display;

/// Something wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    pub origin: ObjectId,
    /// Such as `spec.rules[2].backends[0].port`; empty for the object as a whole.
    pub field: String,
    pub reason: Reason,
    pub severity: Severity,
    pub message: String,
}

impl Problem {
    /// The text of a condition: `FIELD: message`.
    pub fn text(&self) -> String {
        if self.field.is_empty() {
            self.message.clone()
        } else {
            format!("{}: {}", self.field, self.message)
        }
    }
}

/// `Kind namespace/name FIELD: message`
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.as_str() {
            "" => write!(f, "{}: {}", self.origin, self.message),
            field => write!(f, "{} {field}: {}", self.origin, self.message),
        }
    }
}

/// What translation made of one object.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectReport {
    pub id: ObjectId,
    /// `metadata.uid` of the object that is judged: the status of one is not that of another that has its name later.
    pub uid: Arc<str>,
    /// `metadata.generation` of the version that is judged.
    pub generation: i64,
    /// Sorted by field.
    pub problems: Vec<Problem>,
    /// Resources of the snapshot that must have arrived for the object to be in effect.
    pub(crate) resources: Few<ResourceId>,
    /// Whether an older version serves in place of this one.
    pub quarantined: bool,
    /// Whether nothing of it serves at all.
    pub absent: bool,
    /// Of a Route, the plugins that run for its requests, in the order in which they do.
    pub effective: Vec<EffectivePlugin>,
    /// Where a Route attaches; of a policy, the Gateways and GatewayConfigs where it has an effect.
    pub parents: Vec<ParentReport>,
    /// Of a Gateway, ListenerSet or GatewayConfig, all of them in its order.
    pub listeners: Vec<ListenerReport>,
    /// ListenerSets that add to a Gateway.
    pub listener_sets: usize,
    /// Where the data planes of a Gateway, of a ListenerSet's Gateway, of a GatewayConfig or of an Ingress are reached:
    /// addresses and host names; `None` where it has none of its own, and where it is not known.
    pub addresses: Option<Vec<String>>,
    /// Whether a Gateway has a certificate shown to backends.
    pub shows_certificate: bool,
    /// Whether a GatewayClass can say of which release the Gateway API's CustomResourceDefinitions are.
    pub knows_bundle: bool,
    /// Of a GatewayClass: whether the cluster's HTTPRoutes have retries, which it claims then.
    pub route_retry: RouteRetry,
    /// What is wrong with addresses that a Gateway asks for and has not.
    pub lacks_addresses: Vec<String>,
}

/// A plugin that runs for requests of a Route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectivePlugin {
    pub stage: Stage,
    /// Lower runs first in a stage.
    pub priority: i32,
    pub name: Box<str>,
    /// Who asks for it, such as `route/shop`.
    pub from: Box<str>,
}

/// A listener of a Gateway, ListenerSet or GatewayConfig.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerReport {
    pub name: String,
    /// Of its resource.
    pub key: String,
    /// Kinds of Routes that it takes, where its status says it.
    pub kinds: Vec<ObjectKind>,
    /// It ends its clients' TLS itself, and so needs certificates.
    pub terminates: bool,
    /// Routes that are attached to it.
    pub attached: usize,
    /// What its Gateway asks of clients on its port.
    pub frontend: Option<Frontend>,
}

/// What a Gateway asks of clients on some of its ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frontend {
    /// Where it stands.
    pub field: String,
    /// A certificate that is missing or not good is as good as any: nothing behind the handshake depends on it.
    pub insecure: bool,
}

/// A Route at one parent.
#[derive(Clone, Debug, PartialEq)]
pub struct ParentReport {
    /// As the Route names it; the default GatewayConfig where it names none.
    pub parent_ref: Reference,
    /// Problems at this parent alone.
    pub problems: Vec<Problem>,
    /// Whether one of its listeners serves the Route, or would if the Route did not lack something itself.
    pub serves: bool,
}

impl ParentReport {
    /// The Route's report as it stands at this parent: where no listener serves it, nothing of it is in effect.
    fn view(&self, report: &ObjectReport) -> ObjectReport {
        let mut view = report.clone();
        view.absent |= !self.serves;
        view
    }
}

impl ObjectReport {
    /// Of an object that gives no resources and attaches nowhere.
    pub(crate) fn new(id: ObjectId, generation: i64, problems: Vec<Problem>) -> Self {
        Self {
            id,
            uid: Arc::default(),
            generation,
            problems,
            resources: Few::default(),
            quarantined: false,
            absent: false,
            effective: Vec::new(),
            parents: Vec::new(),
            listeners: Vec::new(),
            listener_sets: 0,
            addresses: None,
            lacks_addresses: Vec::new(),
            shows_certificate: false,
            knows_bundle: false,
            route_retry: RouteRetry::Absent,
        }
    }

    /// Whether this is a ListenerSet that adds a listener to its Gateway.
    pub(crate) fn is_attached_set(&self) -> bool {
        self.id.kind == ObjectKind::ListenerSet && gateway_api::is_accepted_set(self)
    }

    /// The object's `status`; `None` for kinds without one of ours.
    pub(crate) fn status(&self, progress: &Progress) -> Option<Value> {
        has_status(self).then(|| status(self, progress))
    }

    /// Why none are made that would be its own.
    fn lacks_data_planes(&self) -> Option<&Problem> {
        let mut problems = self.problems.iter();
        problems.find(|problem| problem.reason == Reason::DataPlanesNotPermitted)
    }

    /// All problems, those at single parents included.
    pub fn all_problems(&self) -> impl Iterator<Item = &Problem> {
        let parents = self.parents.iter().flat_map(|p| &p.problems);
        self.problems.iter().chain(parents)
    }
}

/// A condition without the time of its last change, which only a writer of status knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    #[serde(rename = "type")]
    pub type_: &'static str,
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
    pub reason: &'static str,
    pub message: String,
    pub observed_generation: i64,
}

/// Every object that translation has looked at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Boxed: nodes of the map are never full.
    pub(crate) objects: BTreeMap<ObjectId, Box<ObjectReport>>,
}

impl Report {
    pub fn objects(&self) -> impl Iterator<Item = (&ObjectId, &ObjectReport)> {
        self.objects.iter().map(|(id, report)| (id, &**report))
    }

    pub fn get(&self, id: &ObjectId) -> Option<&ObjectReport> {
        self.objects.get(id).map(|report| &**report)
    }

    /// All problems, by object and field.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.objects.values().flat_map(|r| r.all_problems())
    }

    /// The object's `status`; `None` for kinds without one of ours and for objects that are not known.
    pub fn status(&self, id: &ObjectId, progress: impl Into<Progress>) -> Option<Value> {
        self.objects.get(id)?.status(&progress.into())
    }

    /// `Kind/namespace/name` → status, for every object with a status of ours. `findings` are about the endpoints among
    /// `resources`.
    pub fn statuses<P: Into<Progress>>(
        &self,
        progress: impl Fn(&ObjectReport) -> P,
        findings: &Findings,
        resources: &Resources,
    ) -> Map<String, Value> {
        let ours = self.objects.values().filter(|r| has_status(r));
        ours.map(|r| {
            let progress = progress(r).into();
            let mut status = status(r, &progress);
            findings.add_to(&mut status, r, &progress.whole, resources);
            (r.id.key(), status)
        })
        .collect()
    }
}

/// Of a Route or policy of the Gateway API without a parent of ours, others speak.
fn has_status(report: &ObjectReport) -> bool {
    match report.id.kind {
        kind if kind.is_gateway_api_route() || kind == ObjectKind::BackendTLSPolicy => {
            !report.parents.is_empty()
        }
        // Without an address there is nothing to say.
        ObjectKind::Ingress => {
            let addresses = report.addresses.as_ref();
            !report.parents.is_empty() && addresses.is_some_and(|all| !all.is_empty())
        }
        kind => kind.has_status(),
    }
}

fn status(report: &ObjectReport, progress: &Progress) -> Value {
    let programmed = &progress.whole;
    match report.id.kind {
        ObjectKind::GatewayClass => return gateway_api::class(report),
        ObjectKind::Gateway => return gateway_api::gateway(report, progress),
        ObjectKind::ListenerSet => return gateway_api::listener_set(report, progress),
        kind if kind.is_gateway_api_route() => return gateway_api::route(report, programmed),
        ObjectKind::BackendTLSPolicy => return gateway_api::policy(report),
        ObjectKind::Ingress => return ingress::status(report),
        _ => {}
    }
    let own = conditions(report, &[], programmed);
    if report.id.kind != ObjectKind::Route {
        let mut status = json!({ "observedGeneration": report.generation, "conditions": own });
        if let Some(addresses) = &report.addresses {
            status["addresses"] = gateway_api::addresses_of(addresses);
        }
        if !report.listeners.is_empty() {
            status["listeners"] = listeners::statuses(report, progress).into();
        }
        return status;
    }
    let parents = report.parents.iter().map(|parent| {
        let mut conditions = conditions(&parent.view(report), &parent.problems, programmed);
        conditions.retain(|c| !OF_THE_WHOLE.contains(&c.type_));
        json!({
            "parentRef": parent.parent_ref.value(),
            "controllerName": CONTROLLER_NAME,
            "conditions": conditions,
        })
    });
    let parents: Vec<Value> = parents.collect();
    let mut summary: Vec<Condition> = own
        .into_iter()
        .filter(|c| OF_THE_WHOLE.contains(&c.type_))
        .collect();
    // A Route is Ready when it is in effect at every parent that it names.
    for parent in &report.parents {
        let at_parent = conditions(&parent.view(report), &parent.problems, programmed);
        let ready = at_parent.into_iter().find(|c| c.type_ == "Ready");
        if let (Some(ready), Some(slot)) = (ready, summary.iter_mut().find(|c| c.type_ == "Ready"))
            && slot.status == "True"
        {
            *slot = ready;
        }
    }
    let mut status = json!({
        "observedGeneration": report.generation,
        "conditions": summary,
        "parents": parents,
    });
    // What data planes accepted last in place of what they have refused is not known here.
    if !report.effective.is_empty() && !matches!(programmed, Programmed::Rejected(_)) {
        let plugins = report.effective.iter().map(|plugin| {
            json!({
                "stage": format!("{:?}", plugin.stage),
                "name": plugin.name,
                "from": plugin.from,
            })
        });
        status["effective"] = json!({ "plugins": plugins.collect::<Vec<_>>() });
    }
    status
}

/// What stands on top of a status of ours, and not at a parent.
const OF_THE_WHOLE: [&str; 3] = ["Quarantined", "Ready", "Stalled"];

/// The conditions of an object, in a fixed order: `Accepted`, `ResolvedRefs`, `Programmed`, `Quarantined`, `Ready`, `Stalled`.
/// `further` are problems beside the object's own, such as those at one parent.
pub fn conditions(
    report: &ObjectReport,
    further: &[Problem],
    programmed: &Programmed,
) -> Vec<Condition> {
    let condition = |type_, status, reason, message| Condition {
        type_,
        status,
        reason,
        message,
        observed_generation: report.generation,
    };
    let problems = || report.problems.iter().chain(further);
    let judge = |type_: &'static str, about_references: bool| {
        let of_type =
            || problems().filter(move |p| p.reason.is_about_references() == about_references);
        let text = |severity: Option<Severity>| {
            let some = of_type().filter(|p| severity.is_none_or(|s| p.severity == s));
            some.map(Problem::text).collect::<Vec<_>>().join("; ")
        };
        let first = of_type().find(|p| p.severity == Severity::Error);
        match first {
            Some(first) => condition(
                type_,
                "False",
                first.reason.as_str(),
                limit(text(Some(Severity::Error))),
            ),
            None => condition(type_, "True", type_, limit(text(None))),
        }
    };
    let mut all = vec![judge("Accepted", false)];
    let kind = report.id.kind;
    if kind.is_route()
        || kind.has_listeners()
        || matches!(kind, ObjectKind::Upstream | ObjectKind::Tenant)
    {
        all.push(judge("ResolvedRefs", true));
        all.push(program(report, programmed, &all, &condition));
    }
    // Switched off is a wish fulfilled, not a failure.
    let disabled = report
        .problems
        .iter()
        .find(|p| p.reason == Reason::Disabled);
    if let Some(disabled) = disabled {
        for c in &mut all {
            if matches!(c.type_, "Accepted" | "Programmed") {
                (c.status, c.reason) = ("False", Reason::Disabled.as_str());
                c.message.clone_from(&disabled.message);
            }
        }
        all.push(condition(
            "Ready",
            "True",
            Reason::Disabled.as_str(),
            disabled.message.clone(),
        ));
        return all;
    }
    let first_false = all.iter().find(|c| c.status != "True");
    let ready = match first_false {
        None => condition("Ready", "True", "Ready", String::new()),
        Some(c) => condition("Ready", c.status, c.reason, c.message.clone()),
    };
    let rejected = matches!(programmed, Programmed::Rejected(_));
    if report.quarantined || rejected {
        let (reason, message) = match all.first().filter(|c| c.status == "False") {
            Some(accepted) if report.quarantined => (
                accepted.reason,
                "the last accepted version serves in place of this one".to_owned(),
            ),
            _ => (
                Reason::RejectedByDataPlane.as_str(),
                "what data planes accepted last serves in place of this version".to_owned(),
            ),
        };
        all.push(condition("Quarantined", "True", reason, message));
    }
    if let Programmed::RolledBack(revision) = programmed {
        let message = rolled_back(*revision, report.absent);
        let reason = Reason::RolledBack.as_str();
        all.retain(|c| c.type_ != "Quarantined");
        all.push(condition("Quarantined", "True", reason, message.clone()));
        all.push(condition("Ready", "False", reason, message));
        return all;
    }
    all.push(ready);
    let last = problems().find(|p| p.severity == Severity::Error && p.reason.is_final());
    if let Some(last) = last {
        let message = limit(last.text());
        all.push(condition("Stalled", "True", last.reason.as_str(), message));
    }
    all
}

fn program(
    report: &ObjectReport,
    programmed: &Programmed,
    before: &[Condition],
    condition: &impl Fn(&'static str, &'static str, &'static str, String) -> Condition,
) -> Condition {
    const TYPE: &str = "Programmed";
    if let Programmed::RolledBack(revision) = programmed {
        let reason = Reason::RolledBack.as_str();
        return condition(TYPE, "False", reason, rolled_back(*revision, report.absent));
    }
    if report.absent || report.quarantined {
        let reason = before
            .iter()
            .find(|c| c.status == "False")
            .map_or("Pending", |c| c.reason);
        let message = match report.quarantined {
            true => "this version is not in effect",
            false => "nothing of it is in effect",
        };
        return condition(TYPE, "False", reason, message.to_owned());
    }
    match programmed {
        // With data planes of its own it is reached by their Service alone.
        Programmed::Yes
            if report.id.kind == ObjectKind::GatewayConfig
                && report.addresses.as_ref().is_some_and(Vec::is_empty) =>
        {
            let message = "its Service has no address yet".to_owned();
            let reason = Reason::AddressNotAssigned.as_str();
            condition(TYPE, "False", reason, message)
        }
        Programmed::Yes => condition(TYPE, "True", TYPE, String::new()),
        Programmed::Pending => {
            let message = "not yet acknowledged by every connected data plane";
            condition(TYPE, "False", "Pending", message.to_owned())
        }
        Programmed::CutOff { pod, .. } => {
            let message = format!(
                "not yet acknowledged by every data plane: {pod} serves and is not connected"
            );
            condition(TYPE, "False", "Pending", limit(message))
        }
        Programmed::Unused => {
            let message = "nothing that a data plane serves refers to it";
            condition(TYPE, "True", TYPE, message.to_owned())
        }
        Programmed::NoDataPlane => match report.lacks_data_planes() {
            Some(why) => condition(TYPE, "False", why.reason.as_str(), limit(why.text())),
            None => condition(
                TYPE,
                "False",
                "NoDataPlane",
                "no data plane is connected".to_owned(),
            ),
        },
        Programmed::Rejected(message) | Programmed::Lacking(message) => {
            let reason = Reason::RejectedByDataPlane.as_str();
            condition(TYPE, "False", reason, limit(message.clone()))
        }
        Programmed::TooOld(message) => {
            let reason = Reason::DataPlaneTooOld.as_str();
            condition(TYPE, "False", reason, limit(message.clone()))
        }
        Programmed::NotBound(message) => {
            let reason = Reason::ListenerNotBound.as_str();
            condition(TYPE, "False", reason, limit(message.clone()))
        }
        Programmed::Unknown => {
            let message = "no data plane has been asked";
            condition(TYPE, "Unknown", "Pending", message.to_owned())
        }
        Programmed::RolledBack(revision) => {
            let reason = Reason::RolledBack.as_str();
            condition(TYPE, "False", reason, rolled_back(*revision, false))
        }
    }
}

fn rolled_back(revision: Revision, absent: bool) -> String {
    let how = match absent {
        true => "is held as if it were not there",
        false => "is held as it was",
    };
    format!(
        "it {how} at revision {revision}, until the rollback ends (`diolkos rollback --latest`)"
    )
}

/// Conditions may carry 32 KiB; whoever has more problems than fit sees the first ones.
fn limit(mut message: String) -> String {
    const MAX: usize = 4096;
    if message.len() > MAX {
        let mut end = MAX;
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
        message.push('…');
    }
    message
}

#[cfg(test)]
mod tests;

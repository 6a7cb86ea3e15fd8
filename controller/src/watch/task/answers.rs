//! What others ask the owner of the world.

use super::{Owner, unix_seconds};
use crate::adapt;
use crate::infrastructure::Plan;
use crate::report::{ObjectReport, Programmed, upstreams_of};
use crate::translate::data_plane;
use crate::watch::handle::{Ask, StandIns, Wanted};
use crate::world::{Body, ObjectId, ObjectKind};
use model::{Listener, ListenerProtocol};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Owner {
    /// Whoever asked may have gone meanwhile.
    pub(super) fn answer(&self, ask: Ask) {
        let report = self.translator.report();
        let progress = |report: &_| self.progress(report);
        match ask {
            Ask::Ids(reply) => {
                let others = self.absent_reports().chain(self.early_reports());
                let others = others.map(|report| report.id);
                let ids = report.objects().map(|(id, _)| id.clone()).chain(others);
                drop(reply.send(ids.filter(|id| id.kind.has_status()).collect()));
            }
            Ask::Statuses(ids, reply) => {
                let findings = self.with.groups.findings();
                let resources = self.translator.resources();
                let others = self.absent_reports().chain(self.early_reports());
                let others: BTreeMap<ObjectId, ObjectReport> =
                    others.map(|report| (report.id.clone(), report)).collect();
                let wanted = ids.into_iter().map(|id| {
                    let of_it = report.get(&id).or_else(|| others.get(&id));
                    let progress = of_it.map(progress);
                    let progress = progress.unwrap_or_else(|| Programmed::Unknown.into());
                    let mut status = of_it.and_then(|r| r.status(&progress));
                    let programmed = progress.whole;
                    if let (Some(status), Some(report)) = (&mut status, of_it) {
                        findings.add_to(status, report, &programmed, resources);
                        self.add_revision(&id, status);
                    }
                    let waits = status.is_some() && programmed.waits();
                    let uid = of_it.map(|report| Arc::clone(&report.uid));
                    Wanted {
                        id,
                        uid: uid.unwrap_or_default(),
                        status,
                        waits,
                        alone: matches!(
                            programmed,
                            Programmed::NoDataPlane | Programmed::CutOff { .. }
                        ),
                    }
                });
                drop(reply.send(wanted.collect()));
            }
            Ask::Count(reply) => {
                self.count_quarantined();
                self.count_certificates();
                let _ = reply.send(());
            }
            Ask::Objections(ids, reply) => {
                let all = ids.into_iter().map(|id| self.objections(id));
                drop(reply.send(all.collect()));
            }
            Ask::Refused(reply) => drop(reply.send(self.refused())),
            // It changes something, and is not answered here.
            Ask::Recall(..) => {}
            Ask::StandIns(seen, reply) => {
                let version = self.translator.stand_ins_changed();
                let news = seen != Some(version);
                let stand_ins = news.then(|| StandIns {
                    version,
                    manifests: self.translator.stand_ins().collect(),
                });
                drop(reply.send(stand_ins));
            }
            Ask::Revisions(reply) => drop(reply.send(self.revisions())),
            Ask::BackTo(revision, reply) => drop(reply.send(self.back_to(revision))),
            Ask::Review(object, reply) => {
                let review = || self.translator.review(&self.world, &object);
                drop(reply.send(self.open.then(review)));
            }
            Ask::Uid(id, reply) => {
                let uid = self.world.meta(&id).map(|meta| meta.uid.to_string());
                drop(reply.send(uid.filter(|uid| !uid.is_empty())));
            }
            Ask::DataPlanes(reply) => {
                let plans = self.translator.with_data_planes();
                let plans = plans.filter_map(|id| self.plan(id));
                drop(reply.send(plans.collect()));
            }
            Ask::DependOn(upstreams, reply) => {
                let resources = self.translator.resources();
                let concerned = report
                    .objects()
                    .map(|(id, _)| id)
                    .filter(|id| match id.kind {
                        ObjectKind::Upstream => upstreams.contains(id.key().as_str()),
                        ObjectKind::Route => {
                            let mut to = upstreams_of(&id.path(), resources).into_iter();
                            to.any(|key| upstreams.contains(&*key))
                        }
                        _ => false,
                    });
                drop(reply.send(concerned.cloned().collect()));
            }
            Ask::All(reply) => {
                let findings = self.with.groups.findings();
                let resources = self.translator.resources();
                drop(reply.send(report.statuses(progress, &findings, resources)));
            }
        }
    }

    fn count_quarantined(&self) {
        let mut counts = BTreeMap::<ObjectKind, i64>::new();
        for (id, report) in self.translator.report().objects() {
            if id.kind.has_status() {
                *counts.entry(id.kind).or_default() += i64::from(report.quarantined);
            }
        }
        for (kind, count) in counts {
            self.with
                .metrics
                .objects_quarantined
                .with_label_values(&[kind.name()])
                .set(count);
        }
    }

    fn count_certificates(&self) {
        const DAY: i64 = 86_400;
        let metrics = &self.with.metrics;
        let first = self.translator.expiries().min();
        metrics.cert_not_after.set(first.unwrap_or(0));
        let now = unix_seconds();
        for (within, days) in [("30d", 30), ("14d", 14), ("7d", 7), ("3d", 3), ("1d", 1)] {
            let soon = |at: &i64| *at < now.saturating_add(days * DAY);
            let count = self.translator.expiries().filter(soon).count();
            metrics
                .certs_expiring
                .with_label_values(&[within])
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// What a Gateway or GatewayConfig asks of its data planes.
    fn plan(&self, owner: ObjectId) -> Option<Plan> {
        let object = self.world.get(&owner)?;
        let listeners = self.translator.resources().all::<Listener>();
        let own =
            listeners.filter(|(key, _)| ObjectId::of_listener_owner(key).as_ref() == Some(&owner));
        let ports = own.map(|(_, listener)| {
            let is_of_datagrams = listener.protocol == ListenerProtocol::Udp;
            (listener.port, is_of_datagrams)
        });
        let mut plan = Plan {
            uid: object.meta.uid.to_string(),
            class: None,
            ports: ports.collect(),
            address: None,
            asked: self.translator.data_planes_of(&owner).cloned(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            owner,
        };
        if let Body::Gateway(spec) = &object.body {
            let asked = spec.infrastructure.as_ref();
            plan.class = Some(spec.gateway_class_name.clone());
            plan.address = adapt::addresses::first(spec);
            plan.asked = data_plane(&self.world, object, spec);
            plan.labels = asked.and_then(|i| i.labels.clone()).unwrap_or_default();
            plan.annotations = asked
                .and_then(|i| i.annotations.clone())
                .unwrap_or_default();
        }
        Some(plan)
    }
}

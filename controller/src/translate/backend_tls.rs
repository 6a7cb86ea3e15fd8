//! BackendTLSPolicies: TLS towards the ports of Services (gateway.networking.k8s.io/v1; GEP-1897, GEP-713).

use super::lowering::{Dep, Lowered, Lowering, PortKey};
use super::unbuilt::NO_OPTIONS;
use super::upstream::{alternative_name, host_name};
use crate::report::Reason;
use crate::world::{Meta, ObjectId, ObjectKind};
use crds::refs::ObjectRef;
use gateway_api::backend_tls_policy::{
    BackendTlsPolicySpec as Spec, BackendTlsPolicyTargetRefs as Target,
    BackendTlsPolicyValidationSubjectAltNamesType as NameType,
};
use model::UpstreamTls;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The one value of wellKnownCACertificates that is supported.
const SYSTEM: &str = "System";

/// Of each policy the version that is in effect.
#[derive(Default)]
pub(super) struct Policies(BTreeMap<ObjectId, Policy>);

#[derive(PartialEq)]
pub(super) struct Policy {
    pub meta: Meta,
    pub spec: Arc<Spec>,
}

/// Where nobody asks for them.
pub(super) static NONE: Policies = Policies(BTreeMap::new());

impl Policies {
    /// `None`: nothing of it is in effect. Returns whether that is new.
    pub(super) fn set(&mut self, id: &ObjectId, policy: Option<Policy>) -> bool {
        if self.0.get(id) == policy.as_ref() {
            return false;
        }
        match policy {
            Some(policy) => drop(self.0.insert(id.clone(), policy)),
            None => drop(self.0.remove(id)),
        }
        true
    }

    /// Those of a namespace; the older speaks before the younger.
    fn of(&self, namespace: &str) -> Vec<(&ObjectId, &Policy)> {
        let first = ObjectId::new(ObjectKind::BackendTLSPolicy, namespace, "");
        let all = self.0.range(first..);
        let all = all.take_while(|(id, _)| *id.namespace == *namespace);
        let mut all: Vec<_> = all.collect();
        all.sort_by_key(|(id, policy)| (policy.meta.created, *id));
        all
    }
}

impl Lowering<'_> {
    /// What a policy asks for towards a port of a Service; `Some(None)`: it cannot be had.
    pub(super) fn policy_of(&mut self, port: &PortKey, name: &str) -> Option<Option<UpstreamTls>> {
        self.out
            .deps
            .insert(Dep::Policies(port.service.namespace.clone()));
        // What names the port goes before what names the Service alone.
        let found = [Some(name), None].into_iter().find_map(|section| {
            let all = self.policies.of(&port.service.namespace);
            all.into_iter().find(|(_, policy)| {
                let mut targets = policy.spec.target_refs.iter();
                targets.any(|target| {
                    is_service(target, &port.service.name)
                        && target.section_name.as_deref() == section
                })
            })
        });
        let (id, policy) = found?;
        // It says itself what is wrong with it.
        let mut of_policy = Lowering {
            id,
            meta: &policy.meta,
            out: Lowered::default(),
            ..*self
        };
        let tls = of_policy.policy_tls(&policy.spec);
        let Lowered { deps, demands, .. } = of_policy.out;
        self.out.deps.extend(deps);
        self.out.demands.extend(demands);
        Some(tls)
    }

    /// What there is to say of a policy.
    pub(super) fn backend_tls_policy(&mut self, spec: &Spec) {
        self.policy_tls(spec);
        if spec.options.is_some() {
            self.warn("spec.options", Reason::NotBuilt, NO_OPTIONS);
        }
        self.out
            .deps
            .insert(Dep::Policies(self.id.namespace.clone()));
        let own = (self.meta.created, self.id);
        let mut older = self.policies.of(&self.id.namespace);
        older.retain(|(id, policy)| (policy.meta.created, *id) < own);
        let mut lost = Vec::new();
        for (i, target) in spec.target_refs.iter().enumerate() {
            let field = format!("spec.targetRefs[{i}]");
            if !target.group.is_empty() || target.kind != ObjectKind::Service.name() {
                let message = "must be a Service of the core group";
                self.error(field, Reason::Invalid, message);
                continue;
            }
            let mut older = older.iter();
            let speaks = older.find(|(_, policy)| policy.spec.target_refs.contains(target));
            if let Some((id, _)) = speaks {
                lost.push((field, format!("{id} speaks for it already")));
            }
        }
        // One that loses everywhere has no effect at all.
        let whole = lost.len() == spec.target_refs.len();
        for (field, message) in lost {
            match whole {
                true => self.error(field, Reason::Conflicted, message),
                false => self.warn(field, Reason::Conflicted, message),
            }
        }
    }

    fn policy_tls(&mut self, spec: &Spec) -> Option<UpstreamTls> {
        const FIELD: &str = "spec.validation";
        let validation = &spec.validation;
        let sni = self.valid(format!("{FIELD}.hostname"), host_name(&validation.hostname));
        let mut tls = UpstreamTls {
            sni,
            ..UpstreamTls::default()
        };
        let mut usable = tls.sni.is_some();
        for (i, name) in validation.subject_alt_names.iter().flatten().enumerate() {
            let at = format!("{FIELD}.subjectAltNames[{i}]");
            let text = match name.r#type {
                NameType::Hostname => name.hostname.as_deref(),
                NameType::Uri => name.uri.as_deref(),
                NameType::Unknown => None,
            };
            let read = match text {
                Some(text) => alternative_name(text),
                None => Err("must be of type Hostname or URI and have its field".to_owned()),
            };
            match self.valid(at, read) {
                Some(name) => tls.subject_alt_names.push(name),
                None => usable = false,
            }
        }
        let refs = validation
            .ca_certificate_refs
            .as_deref()
            .unwrap_or_default();
        let well_known = validation.well_known_ca_certificates.as_deref();
        match (refs, well_known) {
            ([], Some(SYSTEM)) => {}
            (_, Some(other)) => {
                let at = format!("{FIELD}.wellKnownCACertificates");
                let message = match other {
                    SYSTEM => "stands instead of caCertificateRefs: give one of them".to_owned(),
                    _ => format!("{other:?} is not supported: {SYSTEM} is"),
                };
                self.error(at, Reason::Invalid, message);
                usable = false;
            }
            ([], None) => {
                let message = "caCertificateRefs or wellKnownCACertificates must be given";
                self.error(FIELD, Reason::Invalid, message);
                usable = false;
            }
            (refs, None) => {
                let at = format!("{FIELD}.caCertificateRefs");
                let (mut bundle, mut sound) = (String::new(), 0);
                for (i, reference) in refs.iter().enumerate() {
                    let reference = ObjectRef {
                        name: reference.name.as_str().into(),
                        namespace: None,
                        kind: Some(reference.kind.as_str().into()),
                        group: Some(reference.group.as_str().into()),
                    };
                    let before = self.out.problems.len();
                    if let Some(pem) = self.authorities(&format!("{at}[{i}]"), &reference) {
                        bundle.push_str(&pem);
                    }
                    sound += usize::from(self.out.problems.len() == before);
                }
                if sound == 0 {
                    let message = "none of them can be used";
                    self.error(at, Reason::NoValidCACertificate, message);
                }
                usable &= !bundle.is_empty();
                tls.authorities = Some(bundle);
            }
        }
        usable.then_some(tls)
    }
}

fn is_service(target: &Target, name: &str) -> bool {
    target.group.is_empty() && target.kind == ObjectKind::Service.name() && target.name == name
}

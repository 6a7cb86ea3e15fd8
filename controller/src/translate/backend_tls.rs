//! BackendTLSPolicies: TLS towards the ports of Services (gateway.networking.k8s.io/v1; GEP-1897, GEP-713).

use super::lowering::{Dep, Lowered, Lowering, PortKey};
use super::upstream::{alternative_name, host_name};
use crate::report::Reason;
use crate::world::{Body, Object, ObjectKind, World};
use crds::refs::ObjectRef;
use gateway_api::backend_tls_policy::{
    BackendTlsPolicySpec as Spec, BackendTlsPolicyTargetRefs as Target,
    BackendTlsPolicyValidationSubjectAltNamesType as NameType,
};
use model::UpstreamTls;

/// The one value of wellKnownCACertificates that is supported.
const SYSTEM: &str = "System";

impl Lowering<'_> {
    /// What a policy asks for towards a port of a Service; `Some(None)`: it cannot be had.
    pub(super) fn policy_of(&mut self, port: &PortKey, name: &str) -> Option<Option<UpstreamTls>> {
        self.out
            .deps
            .insert(Dep::Policies(port.service.namespace.clone()));
        // What names the port goes before what names the Service alone.
        let found = [Some(name), None].into_iter().find_map(|section| {
            let mut all = policies(self.world, &port.service.namespace);
            all.retain(|(_, spec)| {
                let mut targets = spec.target_refs.iter();
                targets.any(|target| {
                    is_service(target, &port.service.name)
                        && target.section_name.as_deref() == section
                })
            });
            all.into_iter().next()
        });
        let (policy, spec) = found?;
        // It says itself what is wrong with it.
        let mut of_policy = Lowering {
            id: &policy.id,
            meta: &policy.meta,
            out: Lowered::default(),
            ..*self
        };
        let tls = of_policy.policy_tls(spec);
        let Lowered { deps, demands, .. } = of_policy.out;
        self.out.deps.extend(deps);
        self.out.demands.extend(demands);
        Some(tls)
    }

    /// What there is to say of a policy.
    pub(super) fn backend_tls_policy(&mut self, spec: &Spec) {
        self.policy_tls(spec);
        self.out
            .deps
            .insert(Dep::Policies(self.id.namespace.clone()));
        let older: Vec<(&Object, &Spec)> = policies(self.world, &self.id.namespace)
            .into_iter()
            .take_while(|(policy, _)| policy.id != *self.id)
            .collect();
        let mut lost = Vec::new();
        for (i, target) in spec.target_refs.iter().enumerate() {
            let field = format!("spec.targetRefs[{i}]");
            if !target.group.is_empty() || target.kind != ObjectKind::Service.name() {
                let message = "must be a Service of the core group";
                self.error(field, Reason::Invalid, message);
                continue;
            }
            let speaks = |(_, spec): &&(&Object, &Spec)| spec.target_refs.contains(target);
            if let Some((policy, _)) = older.iter().find(speaks) {
                lost.push((field, format!("{} speaks for it already", policy.id)));
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

/// The policies of a namespace; the older speaks before the younger.
fn policies<'a>(world: &'a World, namespace: &'a str) -> Vec<(&'a Object, &'a Spec)> {
    let mut all: Vec<(&Object, &Spec)> = world
        .in_namespace(ObjectKind::BackendTLSPolicy, namespace)
        .filter_map(|object| match &object.body {
            Body::BackendTLSPolicy(spec) => Some((object, &**spec)),
            _ => None,
        })
        .collect();
    all.sort_by_key(|(object, _)| (object.meta.created, &object.id));
    all
}

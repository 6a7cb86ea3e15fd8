//! What is kept of Ingresses and IngressClasses.

use k8s_openapi::api::networking::v1 as networking;
use std::collections::BTreeMap;

/// Names the class where `spec.ingressClassName` does not.
pub const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
/// Annotations of ingress-nginx.
pub const NGINX_PREFIX: &str = "nginx.ingress.kubernetes.io/";

const DEFAULT_CLASS: &str = "ingressclass.kubernetes.io/is-default-class";

/// An Ingress.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ingress {
    pub spec: networking::IngressSpec,
    /// Those that say how it is served: [`CLASS_ANNOTATION`] and what begins with [`NGINX_PREFIX`].
    pub annotations: BTreeMap<String, String>,
}

impl From<&networking::Ingress> for Ingress {
    fn from(ingress: &networking::Ingress) -> Self {
        let all = ingress.metadata.annotations.iter().flatten();
        let ours = all.filter(|(name, _)| {
            name.as_str() == CLASS_ANNOTATION || name.starts_with(NGINX_PREFIX)
        });
        Self {
            spec: ingress.spec.clone().unwrap_or_default(),
            annotations: ours.map(|(n, v)| (n.clone(), v.clone())).collect(),
        }
    }
}

/// An IngressClass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IngressClass {
    /// Whose class it is.
    pub controller: String,
    /// Ingresses that name no class are of this one.
    pub is_default: bool,
    pub parameters: Option<ClassParameters>,
}

/// What an IngressClass names as its parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassParameters {
    pub group: String,
    pub kind: String,
    /// `None`: it stands outside namespaces.
    pub namespace: Option<String>,
    pub name: String,
}

impl From<&networking::IngressClass> for IngressClass {
    fn from(class: &networking::IngressClass) -> Self {
        let annotations = class.metadata.annotations.as_ref();
        let is_default = annotations.and_then(|all| all.get(DEFAULT_CLASS));
        let spec = class.spec.as_ref();
        let parameters = spec.and_then(|spec| spec.parameters.as_ref());
        Self {
            controller: spec.and_then(|s| s.controller.clone()).unwrap_or_default(),
            is_default: is_default.is_some_and(|value| value == "true"),
            parameters: parameters.map(|p| ClassParameters {
                group: p.api_group.clone().unwrap_or_default(),
                kind: p.kind.clone(),
                namespace: p.namespace.clone(),
                name: p.name.clone(),
            }),
        }
    }
}

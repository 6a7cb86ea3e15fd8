//! The certificates of a case, in Secrets: signed by an authority of this run, whom its client alone trusts.

use std::sync::Arc;

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;

use crate::case::CertificateSpec;
use crate::objects::Object;

/// Who signs them.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// One that nobody has heard of before.
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        Ok(Self { issuer })
    }

    /// A declared certificate with its key.
    pub fn secret(&self, spec: &CertificateSpec, namespace: &str) -> Result<Object> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(spec.hosts.clone())?;
        let certificate = certificate.signed_by(&key, &self.issuer)?;
        Object::from_value(json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/tls",
            "metadata": {"name": spec.name, "namespace": namespace},
            "stringData": {"tls.crt": certificate.pem(), "tls.key": key.serialize_pem()},
        }))
    }

    /// TLS as a client has it that trusts its certificates alone and offers this protocol.
    pub fn trust(&self, protocol: &str) -> Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.into()];
        Ok(Arc::new(config))
    }
}

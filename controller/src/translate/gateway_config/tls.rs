//! TLS of a listener.

use super::super::lowering::{Lowering, Unit};
use super::super::upstream::tls_version;
use super::certificates::Offered;
use crate::report::Reason;
use crate::world::{ObjectKind, Pair};
use crds::{ClientValidationMode, TlsMode, TlsVersion};
use model::{ClientValidation, HostPattern, ListenerTls};
use rustls::crypto::aws_lc_rs;
use std::sync::Arc;

impl Lowering<'_> {
    /// `None`: the listener cannot be opened as it asks, and is not opened in a laxer way.
    pub(super) fn listener_tls(
        &mut self,
        field: &str,
        listener: &crds::Listener,
        hostname: &HostPattern,
        offered: &[&Offered],
    ) -> Option<ListenerTls> {
        let at = format!("{field}.tls");
        let nothing = crds::ListenerTls::default();
        let spec = listener.tls.as_ref().unwrap_or(&nothing);
        if spec.mode == Some(TlsMode::Passthrough) {
            let message = "an HTTPS listener terminates TLS: Passthrough is for protocol TLS";
            self.error(format!("{at}.mode"), Reason::Invalid, message);
            return None;
        }
        // Everything is looked at, so that all that is wrong is said at once.
        let certificates = self.certificates(field, listener, spec, hostname, offered);
        let suites = self.cipher_suites(&format!("{at}.cipherSuites"), spec);
        let client = match &spec.client_validation {
            Some(validation) => {
                let at = format!("{at}.clientValidation");
                // It is the Gateway's, whoever adds a listener to it: what it refers to, the Gateway may refer to.
                let own = self.id;
                self.id = self.gateway.unwrap_or(own);
                let before = self.out.problems.len();
                let client = self.client_validation(&at, validation);
                self.id = own;
                for problem in self.out.problems.iter_mut().skip(before) {
                    problem.origin = own.clone();
                }
                Some(client)
            }
            None => None,
        };
        let (certificates, default_certificate) = certificates?;
        Some(ListenerTls {
            certificates,
            default_certificate,
            min_version: tls_version(spec.min_version),
            cipher_suites: suites?,
            client: match client {
                Some(client) => Some(client?),
                None => None,
            },
        })
    }

    /// Keys of the certificates, and of the default one; `None`: there is not a single one.
    fn certificates(
        &mut self,
        field: &str,
        listener: &crds::Listener,
        spec: &crds::ListenerTls,
        hostname: &HostPattern,
        offered: &[&Offered],
    ) -> Option<(Vec<String>, Option<String>)> {
        let refs = format!("{field}.tls.certificateRefs");
        let mut keys = Vec::with_capacity(spec.certificate_refs.len());
        let mut pairs: Vec<Arc<Pair>> = Vec::with_capacity(spec.certificate_refs.len());
        for (i, reference) in spec.certificate_refs.iter().enumerate() {
            let at = format!("{refs}[{i}]");
            let Some((key, pair)) = self.certificate(&at, reference) else {
                continue;
            };
            if pair.names.is_empty() {
                let message = "the certificate carries no DNS name, so that no client is shown it; it can be the defaultCertificate";
                self.warn(at, Reason::CertificateNameMismatch, message);
            }
            // Twice the same is once.
            if !keys.contains(&key) {
                keys.push(key);
                pairs.push(pair);
            }
        }
        // The listener's own go before those that Ingresses bring.
        for one in offered {
            if !keys.contains(&one.key) {
                self.out
                    .demands
                    .insert(Unit::Certificate(one.secret.clone()));
                keys.push(one.key.clone());
                pairs.push(Arc::clone(&one.pair));
            }
        }
        let default = listener.default_certificate.as_ref().and_then(|reference| {
            let at = format!("{field}.defaultCertificate");
            let (key, pair) = self.certificate(&at, reference)?;
            pairs.push(pair);
            Some(key)
        });
        if pairs.is_empty() {
            // What was given and cannot be used has a problem of its own.
            if listener.default_certificate.is_none() && spec.certificate_refs.is_empty() {
                let message = "must name a certificate, because the gateway terminates TLS there: the listener is not opened";
                self.error(refs, Reason::Invalid, message);
            }
            return None;
        }
        let covers = |pair: &Arc<Pair>| match hostname {
            HostPattern::Exact(name) => pair.covers(name),
            HostPattern::Wildcard(_) => pair.names.contains(&hostname.to_string()),
            // Expressions are for Routes.
            HostPattern::Any | HostPattern::Regex(_) => true,
        };
        // Those that Ingresses bring are for hosts of theirs.
        if offered.is_empty() && !pairs.iter().any(covers) {
            let message = format!(
                "no certificate carries the name {hostname}: clients refuse the connection"
            );
            self.warn(refs, Reason::CertificateNameMismatch, message);
        }
        Some((keys, default))
    }

    /// `None`: one is unknown, or none is for a version that is spoken.
    fn cipher_suites(&mut self, field: &str, spec: &crds::ListenerTls) -> Option<Vec<String>> {
        let known = || aws_lc_rs::ALL_CIPHER_SUITES.iter();
        let mut all = Vec::with_capacity(spec.cipher_suites.len());
        let mut fits = spec.cipher_suites.is_empty();
        let mut usable = true;
        for (i, name) in spec.cipher_suites.iter().enumerate() {
            match known().find(|suite| iana(suite) == name.as_str()) {
                Some(suite) => {
                    fits |= spec.min_version != Some(TlsVersion::V1_3) || suite.tls13().is_some();
                    all.push(name.to_string());
                }
                None => {
                    let allowed: Vec<String> = known().map(iana).collect();
                    let message =
                        format!("{:?} is not among {}", name.as_str(), allowed.join(", "));
                    self.error(format!("{field}[{i}]"), Reason::Invalid, message);
                    usable = false;
                }
            }
        }
        if usable && !fits {
            let message = "none of these is of TLS 1.3, which minVersion asks for";
            self.error(field, Reason::Invalid, message);
            usable = false;
        }
        usable.then_some(all)
    }

    /// `None`: not all authorities can be had (of a Gateway, not one), so that the listener must not be opened.
    fn client_validation(
        &mut self,
        field: &str,
        spec: &crds::ClientValidation,
    ) -> Option<ClientValidation> {
        let mut authorities = String::new();
        let mut usable = true;
        let mut sound = 0;
        for (i, reference) in spec.ca_refs.iter().enumerate() {
            let before = self.out.problems.len();
            match self.authorities(&format!("{field}.caRefs[{i}]"), reference) {
                Some(pem) => authorities.push_str(&pem),
                None => usable = false,
            }
            sound += usize::from(self.out.problems.len() == before);
        }
        // To a Gateway those that can be had are enough: fewer clients are let in, never more.
        if self.id.kind == ObjectKind::Gateway {
            usable = !authorities.is_empty();
            if sound == 0 && !spec.ca_refs.is_empty() {
                let message = "none of them can be used";
                self.error(
                    format!("{field}.caRefs"),
                    Reason::NoValidCACertificate,
                    message,
                );
            }
        }
        if spec.ca_refs.is_empty() {
            let message = "must name at least one Secret or ConfigMap";
            self.error(format!("{field}.caRefs"), Reason::Invalid, message);
            usable = false;
        }
        usable.then_some(ClientValidation {
            authorities,
            required: spec.mode != Some(ClientValidationMode::Request),
            any: false,
        })
    }
}

/// The IANA name of a cipher suite; rustls calls those of TLS 1.3 otherwise.
fn iana(suite: &rustls::SupportedCipherSuite) -> String {
    let name = suite.suite().as_str().unwrap_or_default();
    match name.strip_prefix("TLS13_") {
        Some(rest) => format!("TLS_{rest}"),
        None => name.to_owned(),
    }
}

//! TLS towards the endpoints.

use super::super::lowering::Lowering;
use super::source::Origin;
use super::{host, host_name};
use crate::report::Reason;
use model::UpstreamTls;

const FIELD: &str = "spec.tls";

impl Lowering<'_> {
    /// `Some(None)`: in clear. `None`: what is asked for cannot be had, and nothing less is done instead. `origin` is
    /// missing where the source cannot be used.
    pub(super) fn upstream_tls(
        &mut self,
        spec: Option<&crds::UpstreamTls>,
        origin: Option<&Origin>,
    ) -> Option<Option<UpstreamTls>> {
        let host = origin.and_then(|origin| origin.host.clone());
        let Some(spec) = spec else {
            let https = origin.is_some_and(|origin| origin.https);
            return Some(https.then(|| UpstreamTls {
                sni: host,
                ..UpstreamTls::default()
            }));
        };
        let mut tls = UpstreamTls {
            insecure: spec.insecure_skip_verify == Some(true),
            min_version: tls_version(spec.min_version),
            ..UpstreamTls::default()
        };
        let mut usable = true;
        match &spec.sni {
            Some(sni) => {
                tls.sni = self.valid(format!("{FIELD}.sni"), host_name(sni));
                usable &= tls.sni.is_some();
            }
            None => tls.sni = host,
        }
        if spec.sni.is_none() && origin.is_some() && tls.sni.is_none() && !tls.insecure {
            let message = "must be given, because the endpoints have no name that their certificate could be checked against";
            self.error(format!("{FIELD}.sni"), Reason::Invalid, message);
            usable = false;
        }
        for (i, name) in spec.subject_alt_names.iter().enumerate() {
            let at = format!("{FIELD}.subjectAltNames[{i}]");
            match self.valid(at, alternative_name(name)) {
                Some(name) => tls.subject_alt_names.push(name),
                None => usable = false,
            }
        }
        if tls.insecure && !(tls.subject_alt_names.is_empty() && spec.ca_ref.is_none()) {
            let message =
                "checks nothing: leave out caRef and subjectAltNames, or verify certificates";
            self.error(
                format!("{FIELD}.insecureSkipVerify"),
                Reason::Invalid,
                message,
            );
            usable = false;
        }
        if let Some(reference) = &spec.ca_ref {
            let authorities = self.authorities(&format!("{FIELD}.caRef"), reference);
            tls.authorities = authorities.map(|pem| pem.to_string());
            usable &= tls.authorities.is_some();
        }
        if let Some(reference) = &spec.client_cert_ref {
            let certificate = self.certificate(&format!("{FIELD}.clientCertRef"), reference);
            tls.client_certificate = certificate.map(|(key, _)| key);
            usable &= tls.client_certificate.is_some();
        }
        usable.then_some(Some(tls))
    }
}

pub(in crate::translate) fn tls_version(version: Option<crds::TlsVersion>) -> model::TlsVersion {
    match version {
        Some(crds::TlsVersion::V1_3) => model::TlsVersion::V1_3,
        Some(crds::TlsVersion::V1_2) | None => model::TlsVersion::V1_2,
    }
}

/// A DNS name, an IP address or a URI, as it stands in a certificate.
pub(in crate::translate) fn alternative_name(text: &str) -> Result<String, String> {
    if text.contains("://") {
        return match url::Url::parse(text) {
            Ok(_) => Ok(text.to_owned()),
            Err(e) => Err(format!("{text:?} is not a URI: {e}")),
        };
    }
    host(text).map_err(|_| format!("{text:?} is neither a host name nor a URI"))
}

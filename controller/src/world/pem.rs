//! Certificates, keys and authorities as they stand in Secrets and ConfigMaps.
//!
//! Nothing here quotes what it reads: a private key may stand anywhere by mistake.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use model::Secret;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::collections::BTreeMap;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

pub(crate) const CHAIN: &str = "tls.crt";
pub(crate) const KEY: &str = "tls.key";
pub(crate) const AUTHORITIES: &str = "ca.crt";
/// Bytes of a chain and its key: far more than any client reads, and well below what one resource may take.
const MAX_PAIR: usize = 128 << 10;

/// A certificate with its key: the key belongs to the first certificate and is of a kind that can be used.
#[derive(Debug, PartialEq, Eq)]
pub struct Pair {
    /// PEM of the certificates alone, the leaf first: comments stay behind, and so does a key that somebody put beside
    /// them.
    pub chain: String,
    pub key: Secret,
    /// When the leaf expires, in seconds since the epoch.
    pub not_after: i64,
    /// DNS names of the leaf in lower case, wildcards included.
    pub names: Vec<String>,
}

impl Pair {
    pub(super) fn read(values: &BTreeMap<String, Secret>) -> Result<Self, String> {
        let key = values.get(KEY).ok_or_else(|| missing(KEY))?;
        let certificates = certificates(values, CHAIN)?;
        let leaf = certificates.first().ok_or_else(|| none(CHAIN))?;
        let broken = || format!("the first certificate in {CHAIN} is not X.509");
        let (_, leaf) = X509Certificate::from_der(leaf).map_err(|_| broken())?;
        let not_after = leaf.validity().not_after.timestamp();
        let names = names(&leaf).ok_or_else(broken)?;
        let chain = as_pem(&certificates);
        if chain.len() + key.reveal().len() > MAX_PAIR {
            let most = MAX_PAIR >> 10;
            return Err(format!("{CHAIN} and {KEY} are larger than {most} KiB"));
        }
        let der = PrivateKeyDer::from_pem_slice(key.reveal())
            .map_err(|_| format!("{KEY} holds no private key in PEM, or one that is encrypted"))?;
        let provider = aws_lc_rs::default_provider();
        CertifiedKey::from_der(certificates, der, &provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                format!("the key in {KEY} does not belong to the first certificate in {CHAIN}")
            }
            _ => format!("the key in {KEY} is none that can be used: RSA, ECDSA and Ed25519 are"),
        })?;
        Ok(Self {
            chain,
            key: key.clone(),
            not_after,
            names,
        })
    }

    /// Whether clients that ask for a host take the certificate for it (RFC 9525): a wildcard stands for one label.
    pub fn covers(&self, host: &str) -> bool {
        let parent = host.split_once('.').map(|(_, parent)| parent);
        self.names
            .iter()
            .any(|name| name == host || (parent.is_some() && name.strip_prefix("*.") == parent))
    }
}

fn names(leaf: &X509Certificate<'_>) -> Option<Vec<String>> {
    let alternatives = leaf.subject_alternative_name().ok()?;
    let names = alternatives
        .iter()
        .flat_map(|names| &names.value.general_names);
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.trim_end_matches('.').to_ascii_lowercase()),
        _ => None,
    });
    Some(names.collect())
}

/// Certificates of authorities, each of which can be a root of trust.
pub(super) fn authorities(values: &BTreeMap<String, Secret>) -> Result<String, String> {
    let certificates = certificates(values, AUTHORITIES)?;
    let mut store = RootCertStore::empty();
    for (i, certificate) in certificates.iter().enumerate() {
        store
            .add(certificate.clone())
            .map_err(|_| format!("certificate {} in {AUTHORITIES} is not X.509", i + 1))?;
    }
    Ok(as_pem(&certificates))
}

/// At least one.
fn certificates(
    values: &BTreeMap<String, Secret>,
    key: &str,
) -> Result<Vec<CertificateDer<'static>>, String> {
    let value = values.get(key).ok_or_else(|| missing(key))?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(value.reveal())
        .collect::<Result<_, _>>()
        .map_err(|_| format!("{key} is not PEM"))?;
    match certificates.is_empty() {
        true => Err(none(key)),
        false => Ok(certificates),
    }
}

/// Canonical, so that another line length makes no other resource.
fn as_pem(certificates: &[CertificateDer<'_>]) -> String {
    let mut text = String::new();
    for certificate in certificates {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let mut rest = STANDARD.encode(certificate);
        while !rest.is_empty() {
            let next = rest.split_off(rest.len().min(64));
            text.push_str(&rest);
            text.push('\n');
            rest = next;
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

fn missing(key: &str) -> String {
    format!("it has no key {key}")
}

fn none(key: &str) -> String {
    format!("{key} holds no certificate in PEM")
}

#[cfg(test)]
#[path = "pem_tests.rs"]
mod tests;

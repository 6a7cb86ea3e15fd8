//! The certificate authority of the push channel: certificates and their lifetimes, without any cluster.
//!
//! A root signs three kinds of leaf: the server's and that with which it calls other replicas, made by each replica for
//! itself and kept in memory, and one client certificate for each group of data planes. The latter two say in a URI name
//! what they are. Leaves live for a day and are renewed
//! after half of it. A root is followed by the next one in three steps, so that both sides always accept what the other
//! presents: the next root is accepted, then it signs, then the previous one is accepted no more.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use k8s_openapi::ByteString;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};
use zeroize::Zeroizing;

const DAY: Duration = Duration::from_secs(86_400);
const ROOT_LIFE: Duration = Duration::from_secs(3650 * 86_400);
/// The next root is made when the signing one has less than this left.
const ROOT_RENEWAL: Duration = Duration::from_secs(365 * 86_400);
/// How long both sides have to learn a new root before it signs, and leaves of an old one to vanish.
const ROOT_STEP: Duration = Duration::from_secs(2 * 86_400);
const LEAF_LIFE: Duration = DAY;
/// A leaf is renewed when it has less than this left.
const LEAF_RENEWAL: Duration = Duration::from_secs(DAY.as_secs() / 2);
/// Certificates begin a little in the past, for clocks that are behind.
const SKEW: Duration = Duration::from_secs(300);

/// Keys of the Secrets.
const CA: &str = "ca.crt";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const NEXT_CERTIFICATE: &str = "next.crt";
const NEXT_KEY: &str = "next.key";
const PREVIOUS_CERTIFICATE: &str = "previous.crt";

const GROUP_SCHEME: &str = "urn:diolkos:group:";
/// In a certificate with which one replica of the controller calls another.
const CONTROLLER: &str = "urn:diolkos:controller";

/// Content of a Secret. Nothing here implements `Debug`: keys never reach a log.
pub type Data = BTreeMap<String, ByteString>;

/// Why a certificate cannot be made or read. Never holds key material.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CaError {
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("{0} is not a certificate")]
    Certificate(&'static str),
    #[error("{0} is not a private key")]
    Key(&'static str),
    #[error("cannot sign: {0}")]
    Sign(String),
    #[error("cannot set up TLS: {0}")]
    Tls(String),
}

impl From<rcgen::Error> for CaError {
    fn from(error: rcgen::Error) -> Self {
        Self::Sign(error.to_string())
    }
}

/// One root with its key.
struct Root {
    certificate: String,
    key: Zeroizing<String>,
}

/// The roots of the push channel.
pub struct Authority {
    signing: Root,
    /// Accepted already, signs soon.
    next: Option<Root>,
    /// Accepted still.
    previous: Option<String>,
}

/// A certificate signed by the authority, with its key.
pub struct Leaf {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Leaf {
    pub fn certificate(&self) -> CertificateDer<'static> {
        self.certificate.der().clone()
    }

    /// # Errors
    /// [`CaError::Key`] when the key's form is unknown to TLS; not with keys of ours.
    pub fn key(&self) -> Result<PrivateKeyDer<'static>, CaError> {
        PrivateKeyDer::try_from(self.key.serialize_der()).map_err(|_| CaError::Key(KEY))
    }

    /// Whether it is time for another one.
    pub fn is_due(&self, now: SystemTime) -> bool {
        parse(self.certificate.der(), CERTIFICATE).map_or(true, |c| Validity::of(&c).is_due(now))
    }
}

impl Authority {
    /// # Errors
    /// [`CaError::Sign`] when the provider of cryptography fails.
    pub fn generate(now: SystemTime) -> Result<Self, CaError> {
        Ok(Self {
            signing: Root::generate(now)?,
            next: None,
            previous: None,
        })
    }

    /// Reads what [`Authority::to_data`] wrote.
    ///
    /// # Errors
    /// Names the key of the Secret that is missing or unreadable.
    pub fn from_data(data: &Data) -> Result<Self, CaError> {
        let signing = Root::read(data, CERTIFICATE, KEY)?.ok_or(CaError::Missing(CERTIFICATE))?;
        let next = Root::read(data, NEXT_CERTIFICATE, NEXT_KEY)?;
        let previous = text(data, PREVIOUS_CERTIFICATE)?.map(|t| t.to_string());
        if let Some(pem) = &previous {
            Validity::of_pem(pem, PREVIOUS_CERTIFICATE)?;
        }
        Ok(Self {
            signing,
            next,
            previous,
        })
    }

    pub fn to_data(&self) -> Data {
        let mut data = Data::new();
        let mut put =
            |key: &str, text: &str| data.insert(key.into(), ByteString(text.as_bytes().to_vec()));
        put(CA, &self.bundle());
        put(CERTIFICATE, &self.signing.certificate);
        put(KEY, &self.signing.key);
        if let Some(next) = &self.next {
            put(NEXT_CERTIFICATE, &next.certificate);
            put(NEXT_KEY, &next.key);
        }
        if let Some(previous) = &self.previous {
            put(PREVIOUS_CERTIFICATE, previous);
        }
        data
    }

    /// All roots that are accepted, as PEM.
    pub fn bundle(&self) -> String {
        let next = self.next.as_ref().map(|r| r.certificate.as_str());
        [
            Some(self.signing.certificate.as_str()),
            next,
            self.previous.as_deref(),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// All roots that are accepted.
    ///
    /// # Errors
    /// [`CaError::Certificate`]; not after [`Authority::from_data`].
    pub fn roots(&self) -> Result<Vec<CertificateDer<'static>>, CaError> {
        CertificateDer::pem_slice_iter(self.bundle().as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|_| CaError::Certificate(CA))
    }

    /// The next step of following a root by another, when one is due.
    ///
    /// # Errors
    /// [`CaError::Sign`] when a root cannot be made.
    pub fn rotated(self, now: SystemTime) -> Result<(Self, bool), CaError> {
        let signing = Validity::of_pem(&self.signing.certificate, CERTIFICATE)?;
        if let Some(next) = self.next {
            let due = Validity::of_pem(&next.certificate, NEXT_CERTIFICATE)?.age(now) >= ROOT_STEP;
            if !due {
                return Ok((
                    Self {
                        next: Some(next),
                        ..self
                    },
                    false,
                ));
            }
            let previous = Some(self.signing.certificate);
            return Ok((
                Self {
                    signing: next,
                    next: None,
                    previous,
                },
                true,
            ));
        }
        if self.previous.is_some() && signing.age(now) >= ROOT_STEP * 2 {
            return Ok((
                Self {
                    previous: None,
                    ..self
                },
                true,
            ));
        }
        if self.previous.is_none() && signing.left(now) < ROOT_RENEWAL {
            return Ok((
                Self {
                    next: Some(Root::generate(now)?),
                    ..self
                },
                true,
            ));
        }
        Ok((self, false))
    }

    /// A certificate for this replica's end of the channel.
    ///
    /// # Errors
    /// [`CaError::Sign`].
    pub fn server(&self, names: &[String], now: SystemTime) -> Result<Leaf, CaError> {
        let names = names
            .iter()
            .map(|n| Ok(SanType::DnsName(n.as_str().try_into()?)));
        let names = names.collect::<Result<_, rcgen::Error>>()?;
        self.leaf(
            "diolkos-controller",
            names,
            ExtendedKeyUsagePurpose::ServerAuth,
            now,
        )
    }

    /// A certificate for the data planes of a group, `NAMESPACE/NAME`.
    ///
    /// # Errors
    /// [`CaError::Sign`].
    pub fn client(&self, group: &str, now: SystemTime) -> Result<Leaf, CaError> {
        let uri = SanType::URI(format!("{GROUP_SCHEME}{group}").as_str().try_into()?);
        self.leaf(
            "diolkos-dataplane",
            vec![uri],
            ExtendedKeyUsagePurpose::ClientAuth,
            now,
        )
    }

    /// What a replica of the controller calls another one with, in the form of [`Self::client_data`].
    ///
    /// # Errors
    /// [`CaError::Sign`].
    pub fn replica_data(&self, now: SystemTime) -> Result<Data, CaError> {
        let uri = SanType::URI(CONTROLLER.try_into()?);
        let usage = ExtendedKeyUsagePurpose::ClientAuth;
        let leaf = self.leaf("diolkos-controller", vec![uri], usage, now)?;
        Ok(self.mounted(&leaf))
    }

    fn mounted(&self, leaf: &Leaf) -> Data {
        let bytes = |text: String| ByteString(text.into_bytes());
        Data::from([
            (CA.into(), bytes(self.bundle())),
            (CERTIFICATE.into(), bytes(leaf.certificate.pem())),
            (KEY.into(), bytes(leaf.key.serialize_pem())),
        ])
    }

    fn leaf(
        &self,
        name: &str,
        names: Vec<SanType>,
        usage: ExtendedKeyUsagePurpose,
        now: SystemTime,
    ) -> Result<Leaf, CaError> {
        let key = KeyPair::from_pem(&self.signing.key).map_err(|_| CaError::Key(KEY))?;
        let issuer = Issuer::from_ca_cert_pem(&self.signing.certificate, key)?;
        let mut params = params(name, now, LEAF_LIFE);
        params.subject_alt_names = names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        Ok(Leaf {
            certificate: params.signed_by(&key, &issuer)?,
            key,
        })
    }

    /// The Secret of a group: all roots, a fresh certificate and its key.
    ///
    /// # Errors
    /// [`CaError::Sign`].
    pub fn client_data(&self, group: &str, now: SystemTime) -> Result<Data, CaError> {
        Ok(self.mounted(&self.client(group, now)?))
    }

    /// Whether a group's Secret can stay as it is: the roots are the accepted ones, the certificate is signed by one of
    /// them, names the group and has half its life left.
    pub fn client_data_is_current(&self, data: &Data, group: &str, now: SystemTime) -> bool {
        let check = || {
            let bundle = text(data, CA)?.ok_or(CaError::Missing(CA))?;
            let certificate = text(data, CERTIFICATE)?.ok_or(CaError::Missing(CERTIFICATE))?;
            let key = text(data, KEY)?.ok_or(CaError::Missing(KEY))?;
            let key = KeyPair::from_pem(key).map_err(|_| CaError::Key(KEY))?;
            let der = der(certificate, CERTIFICATE)?;
            let leaf = parse(&der, CERTIFICATE)?;
            let mut signed = false;
            for root in self.roots()? {
                signed |= subject_key(&parse(&root, CA)?) == authority_key(&leaf);
            }
            Ok::<_, CaError>(
                bundle == self.bundle()
                    && signed
                    && leaf.public_key().subject_public_key.data.as_ref() == key.public_key_raw()
                    && group_of(&der).as_deref() == Some(group)
                    && !Validity::of(&leaf).is_due(now),
            )
        };
        check().unwrap_or(false)
    }
}

impl Root {
    fn generate(now: SystemTime) -> Result<Self, CaError> {
        let mut params = params("diolkos push CA", now, ROOT_LIFE);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let root = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        Ok(Self {
            certificate: root.pem(),
            key: Zeroizing::new(root.key().serialize_pem()),
        })
    }

    fn read(
        data: &Data,
        certificate: &'static str,
        key: &'static str,
    ) -> Result<Option<Self>, CaError> {
        let Some(pem) = text(data, certificate)? else {
            return Ok(None);
        };
        let secret = text(data, key)?.ok_or(CaError::Missing(key))?;
        Validity::of_pem(pem, certificate)?;
        KeyPair::from_pem(secret).map_err(|_| CaError::Key(key))?;
        Ok(Some(Self {
            certificate: pem.to_owned(),
            key: Zeroizing::new(secret.to_owned()),
        }))
    }
}

/// The group that a client certificate names, `NAMESPACE/NAME`.
pub fn group_of(certificate: &[u8]) -> Option<String> {
    named(certificate, |uri| {
        uri.strip_prefix(GROUP_SCHEME).map(str::to_owned)
    })
}

/// Whether a certificate is that of a replica of the controller.
pub fn is_replica(certificate: &[u8]) -> bool {
    named(certificate, |uri| (uri == CONTROLLER).then_some(())).is_some()
}

fn named<T>(certificate: &[u8], read: impl Fn(&str) -> Option<T>) -> Option<T> {
    let certificate = parse(certificate, CERTIFICATE).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let mut names = names.value.general_names.iter();
    names.find_map(|name| match name {
        GeneralName::URI(uri) => read(uri),
        _ => None,
    })
}

fn params(name: &str, now: SystemTime, life: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = (now - SKEW).into();
    params.not_after = (now + life).into();
    params
}

/// When a certificate is valid, in seconds since the epoch.
struct Validity {
    begins: i64,
    ends: i64,
}

impl Validity {
    fn of(certificate: &X509Certificate<'_>) -> Self {
        let validity = certificate.validity();
        Self {
            begins: validity.not_before.timestamp(),
            ends: validity.not_after.timestamp(),
        }
    }

    fn of_pem(pem: &str, what: &'static str) -> Result<Self, CaError> {
        Ok(Self::of(&parse(&der(pem, what)?, what)?))
    }

    fn age(&self, now: SystemTime) -> Duration {
        Duration::from_secs(u64::try_from(unix(now) - self.begins).unwrap_or(0))
    }

    fn left(&self, now: SystemTime) -> Duration {
        Duration::from_secs(u64::try_from(self.ends - unix(now)).unwrap_or(0))
    }

    /// Of a leaf: it has little left, or is not valid yet, since it was made before the clock was set back.
    fn is_due(&self, now: SystemTime) -> bool {
        self.left(now) <= LEAF_RENEWAL || self.begins > unix(now)
    }
}

fn unix(time: SystemTime) -> i64 {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn text<'a>(data: &'a Data, key: &'static str) -> Result<Option<&'a str>, CaError> {
    let Some(bytes) = data.get(key) else {
        return Ok(None);
    };
    std::str::from_utf8(&bytes.0)
        .map(Some)
        .map_err(|_| CaError::Certificate(key))
}

fn der(pem: &str, what: &'static str) -> Result<CertificateDer<'static>, CaError> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| CaError::Certificate(what))
}

fn parse<'a>(der: &'a [u8], what: &'static str) -> Result<X509Certificate<'a>, CaError> {
    X509Certificate::from_der(der)
        .map(|(_, c)| c)
        .map_err(|_| CaError::Certificate(what))
}

fn subject_key<'a>(certificate: &X509Certificate<'a>) -> Option<&'a [u8]> {
    certificate
        .iter_extensions()
        .find_map(|e| match e.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
            _ => None,
        })
}

fn authority_key<'a>(certificate: &X509Certificate<'a>) -> Option<&'a [u8]> {
    certificate
        .iter_extensions()
        .find_map(|e| match e.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|k| k.0),
            _ => None,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: &str = "diolkos-system/diolkos-dataplane";

    fn at(days: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + DAY * 20_000 + DAY * u32::try_from(days).unwrap()
    }

    fn secret(data: &Data, key: &str) -> String {
        String::from_utf8(data[key].0.clone()).unwrap()
    }

    #[test]
    fn survives_its_secret() {
        let ca = Authority::generate(at(0)).unwrap();
        let again = Authority::from_data(&ca.to_data()).unwrap();
        assert_eq!(ca.bundle(), again.bundle());
        assert_eq!(secret(&ca.to_data(), KEY), secret(&again.to_data(), KEY));
        assert_eq!(again.roots().unwrap().len(), 1);
    }

    #[test]
    fn a_damaged_secret_is_named_and_does_not_show_its_content() {
        let good = Authority::generate(at(0)).unwrap().to_data();
        let without = |key: &str| {
            let mut data = good.clone();
            data.remove(key);
            Authority::from_data(&data).err()
        };
        assert_eq!(without(CERTIFICATE), Some(CaError::Missing(CERTIFICATE)));
        assert_eq!(without(KEY), Some(CaError::Missing(KEY)));
        let with = |key: &str, value: &[u8]| {
            let mut data = good.clone();
            data.insert(key.into(), ByteString(value.to_vec()));
            Authority::from_data(&data).err()
        };
        assert_eq!(
            with(CERTIFICATE, b"nonsense"),
            Some(CaError::Certificate(CERTIFICATE))
        );
        assert_eq!(with(KEY, b"nonsense"), Some(CaError::Key(KEY)));
        assert_eq!(with(KEY, &[0xff, 0xfe]), Some(CaError::Certificate(KEY)));
    }

    #[test]
    fn a_client_certificate_names_its_group_and_is_renewed_at_half_its_life() {
        let ca = Authority::generate(at(0)).unwrap();
        let data = ca.client_data(GROUP, at(0)).unwrap();
        assert_eq!(
            group_of(&der(&secret(&data, CERTIFICATE), CERTIFICATE).unwrap()).as_deref(),
            Some(GROUP)
        );
        let current = |group, time| ca.client_data_is_current(&data, group, time);
        assert!(current(GROUP, at(0) + LEAF_LIFE / 3));
        assert!(!current(GROUP, at(0) + LEAF_LIFE / 2));
        // The clock was ahead when it was made.
        assert!(current(GROUP, at(0) - SKEW / 2));
        assert!(!current(GROUP, at(0) - SKEW * 2));
        assert!(!current("other/diolkos-dataplane", at(0)));
        let other = Authority::generate(at(0)).unwrap();
        assert!(!other.client_data_is_current(&data, GROUP, at(0)));
        assert!(!ca.client_data_is_current(&Data::new(), GROUP, at(0)));
    }

    #[test]
    fn a_replica_is_no_data_plane_and_a_data_plane_no_replica() {
        let ca = Authority::generate(at(0)).unwrap();
        let certificate = |data: Data| der(&secret(&data, CERTIFICATE), CERTIFICATE).unwrap();
        let replica = certificate(ca.replica_data(at(0)).unwrap());
        assert!(is_replica(&replica) && group_of(&replica).is_none());
        let plane = certificate(ca.client_data(GROUP, at(0)).unwrap());
        assert!(!is_replica(&plane) && group_of(&plane).is_some());
        // Nor does a server's certificate say who calls.
        let server = ca.server(&["localhost".to_owned()], at(0)).unwrap();
        assert!(!is_replica(&server.certificate()));
        assert!(!server.is_due(at(0)) && server.is_due(at(0) - SKEW * 2));
    }

    #[test]
    fn a_root_is_followed_without_a_moment_in_which_one_side_is_refused() {
        let mut ca = Authority::generate(at(0)).unwrap();
        let old = ca.bundle();
        let mut steps = Vec::new();
        for day in 0..3660 {
            // What was presented yesterday is accepted today, and what is presented today was accepted yesterday.
            let before = ca.roots().unwrap();
            let signing_before = ca.signing.certificate.clone();
            let (now, changed) = ca.rotated(at(day)).unwrap();
            ca = now;
            if changed {
                steps.push(day);
                let accepted =
                    |pem: &str, by: &[CertificateDer<'_>]| by.contains(&der(pem, CA).unwrap());
                assert!(accepted(&ca.signing.certificate, &before));
                assert!(accepted(&signing_before, &ca.roots().unwrap()) || steps.len() % 3 == 0);
            }
            assert!(ca.roots().unwrap().len() <= 2);
            let signing = Validity::of_pem(&ca.signing.certificate, CERTIFICATE).unwrap();
            assert!(signing.left(at(day)) > LEAF_LIFE);
        }
        let first = (ROOT_LIFE - ROOT_RENEWAL).as_secs() / DAY.as_secs() + 1;
        assert_eq!(steps, [first, first + 2, first + 4]);
        assert_ne!(ca.bundle(), old);
        assert_eq!(ca.roots().unwrap().len(), 1);
    }
}

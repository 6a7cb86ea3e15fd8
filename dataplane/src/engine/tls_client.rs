//! TLS to upstreams: one client configuration for each identity, shared by all tables and threads.
//!
//! An identity is everything that decides whom a session trusts and what it speaks. Its number is part of
//! [`PoolKey`](super::PoolKey), so that no request travels on a connection that was verified differently. Numbers are
//! given out, not computed: two identities never share one.

use crate::tls::provider;
use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Weak};
use std::time::Instant;

/// What a session to an upstream is to be.
#[derive(Clone, Copy, Debug)]
pub struct TlsSettings<'a> {
    /// Sent as SNI, and what the certificate must be valid for unless `names` says otherwise. An IP address is not
    /// sent but verified.
    pub server_name: &'a str,
    /// CA certificates in PEM; `None`: those of the system.
    pub roots: Option<&'a [u8]>,
    /// Certificate chain and private key in PEM.
    pub client: Option<(&'a [u8], &'a [u8])>,
    /// Of these the certificate must carry one, instead of `server_name`.
    pub names: &'a [SubjectName<'a>],
    /// `false`: whoever answers is taken for the upstream.
    pub verify: bool,
    /// TLS 1.2 is not spoken.
    pub only_13: bool,
    pub alpn: Alpn,
}

/// A name that a certificate may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubjectName<'a> {
    /// A host name, which a wildcard of the certificate may cover, or an IP address.
    Host(&'a str),
    /// A URI, compared to the letter (a SPIFFE id, for example).
    Uri(&'a str),
}

/// The protocols offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alpn {
    H1,
    H2,
    /// HTTP/2 rather than HTTP/1.1; the upstream chooses.
    Either,
    /// None: it is not HTTP that is spoken.
    Nothing,
}

impl Alpn {
    fn names(self) -> Vec<Vec<u8>> {
        let names: &[&[u8]] = match self {
            Self::H1 => &[b"http/1.1"],
            Self::H2 => &[b"h2"],
            Self::Either => &[b"h2", b"http/1.1"],
            Self::Nothing => &[],
        };
        names.iter().map(|n| n.to_vec()).collect()
    }
}

/// Why settings make no configuration. Says nothing of a key's content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    #[error("server name {0:?} is neither a DNS name nor an IP address")]
    ServerName(String),
    #[error("subject alternative name {0:?} is neither a DNS name nor an IP address")]
    SubjectName(String),
    #[error("the CA bundle holds no certificate")]
    NoRoots,
    #[error("certificate {0} of the CA bundle is not valid: {1}")]
    Root(usize, String),
    #[error("the system has no CA certificates: {0}")]
    NoSystemRoots(String),
    #[error("the client certificate is not valid: {0}")]
    ClientCertificate(String),
    #[error("the client certificate's private key is not valid")]
    ClientKey,
    #[error("client certificate and private key do not fit: {0}")]
    Client(String),
}

/// A TLS identity, ready to connect with.
pub struct TlsClient {
    /// Unique within the process; never 0.
    id: u64,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    alpn: Alpn,
    /// Second of the process's life in which a failure was last logged.
    complained: AtomicU64,
}

/// Failed handshakes of one identity are logged once in so many seconds.
const COMPLAINTS: u64 = 10;

impl TlsClient {
    /// The client for these settings: the one that is there already, with the sessions it can resume, if there is one.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn of(settings: &TlsSettings<'_>) -> Result<Arc<Self>, TlsError> {
        static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);
        let digest = digest(settings);
        let mut known = KNOWN.lock();
        if let Some(client) = known.clients.get(&digest).and_then(Weak::upgrade) {
            return Ok(client);
        }
        let (config, name) = build(settings)?;
        known.last += 1;
        let client = Arc::new(Self {
            id: known.last,
            config: Arc::new(config),
            name,
            alpn: settings.alpn,
            complained: AtomicU64::new(0),
        });
        known.clients.retain(|_, client| client.strong_count() > 0);
        known.clients.insert(digest, Arc::downgrade(&client));
        Ok(client)
    }

    pub fn id(&self) -> u64 {
        self.id
    }

    pub fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }

    pub fn name(&self) -> &ServerName<'static> {
        &self.name
    }

    pub fn alpn(&self) -> Alpn {
        self.alpn
    }

    /// Logs why a handshake failed, unless that was done a moment ago.
    pub(super) fn complain(&self, address: SocketAddr, error: &std::io::Error) {
        static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
        let now = BEGAN.elapsed().as_secs() + COMPLAINTS;
        let last = self.complained.load(Relaxed);
        let due = now >= last + COMPLAINTS;
        if due
            && self
                .complained
                .compare_exchange(last, now, Relaxed, Relaxed)
                .is_ok()
        {
            tracing::warn!(
                event = "upstream_tls_error",
                %address,
                server_name = ?self.name,
                %error,
                "TLS handshake with an upstream failed"
            );
        }
    }
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsClient")
            .field("id", &self.id)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// The identities in use, by the digest of their settings. Bounded by the upstreams of living tables.
#[derive(Default)]
struct Known {
    clients: HashMap<[u8; 32], Weak<TlsClient>>,
    last: u64,
}

/// Every part with its length before it, so that no two settings give the same text.
fn digest(s: &TlsSettings<'_>) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    let mut part = |bytes: Option<&[u8]>| {
        hasher.update(&[u8::from(bytes.is_some())]);
        let bytes = bytes.unwrap_or_default();
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    part(Some(s.server_name.as_bytes()));
    part(s.roots);
    part(s.client.map(|(chain, _)| chain));
    part(s.client.map(|(_, key)| key));
    for name in s.names {
        let (kind, text) = match name {
            SubjectName::Host(text) => (b"host", text),
            SubjectName::Uri(text) => (b"uri ", text),
        };
        part(Some(kind));
        part(Some(text.as_bytes()));
    }
    part(Some(&[
        u8::from(s.verify),
        u8::from(s.only_13),
        s.alpn as u8,
    ]));
    hasher.finalize().into()
}

fn build(s: &TlsSettings<'_>) -> Result<(ClientConfig, ServerName<'static>), TlsError> {
    let name =
        server_name(s.server_name).ok_or_else(|| TlsError::ServerName(s.server_name.to_owned()))?;
    let provider = provider();
    let versions = if s.only_13 {
        &[&TLS13][..]
    } else {
        &[&TLS13, &TLS12][..]
    };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(|e| TlsError::Client(e.to_string()))?;
    let own = |policy, provider| Arc::new(Verifier { policy, provider });
    let builder = if s.verify {
        let roots = match s.roots {
            Some(pem) => Arc::new(bundle(pem)?),
            None => system_roots()?,
        };
        if s.names.is_empty() {
            builder.with_root_certificates(roots)
        } else {
            let names = s.names.iter().map(Expected::parse);
            let policy = Policy::AnyOf(roots, names.collect::<Result<_, _>>()?);
            builder
                .dangerous()
                .with_custom_certificate_verifier(own(policy, provider))
        }
    } else {
        builder
            .dangerous()
            .with_custom_certificate_verifier(own(Policy::Anybody, provider))
    };
    let mut config = match s.client {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let chain = CertificateDer::pem_slice_iter(chain)
                .collect::<Result<Vec<_>, _>>()
                .map_err(|e| TlsError::ClientCertificate(e.to_string()))?;
            if chain.is_empty() {
                let why = "no certificate in it".to_owned();
                return Err(TlsError::ClientCertificate(why));
            }
            let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::ClientKey)?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|e| TlsError::Client(e.to_string()))?
        }
    };
    config.alpn_protocols = s.alpn.names();
    Ok((config, name))
}

fn server_name(text: &str) -> Option<ServerName<'static>> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    let name = ServerName::try_from(bare.unwrap_or(text)).ok()?;
    Some(name.to_owned())
}

fn bundle(pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for (index, cert) in CertificateDer::pem_slice_iter(pem).enumerate() {
        let bad = |why: String| TlsError::Root(index + 1, why);
        let cert = cert.map_err(|e| bad(e.to_string()))?;
        roots.add(cert).map_err(|e| bad(e.to_string()))?;
    }
    if roots.is_empty() {
        return Err(TlsError::NoRoots);
    }
    Ok(roots)
}

/// The CA certificates of the system (or of `SSL_CERT_FILE` and `SSL_CERT_DIR`), read once.
pub(crate) fn system_roots() -> Result<Arc<RootCertStore>, TlsError> {
    static ROOTS: LazyLock<Result<Arc<RootCertStore>, TlsError>> = LazyLock::new(|| {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let why = found.errors.first().map_or_else(
                || "install the package ca-certificates, or name a CA".to_owned(),
                ToString::to_string,
            );
            return Err(TlsError::NoSystemRoots(why));
        }
        Ok(Arc::new(roots))
    });
    ROOTS.clone()
}

/// Verifies what rustls's own verifier does not.
#[derive(Debug)]
struct Verifier {
    policy: Policy,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug)]
enum Policy {
    /// The chain must end at a known CA, and the certificate must carry one of the names.
    AnyOf(Arc<RootCertStore>, Vec<Expected>),
    /// `insecureSkipVerify`: any certificate will do, as long as its holder answers.
    Anybody,
}

#[derive(Debug)]
enum Expected {
    Host(ServerName<'static>),
    Uri(Box<str>),
}

impl Expected {
    fn parse(name: &SubjectName<'_>) -> Result<Self, TlsError> {
        match name {
            SubjectName::Host(text) => server_name(text)
                .map(Self::Host)
                .ok_or_else(|| TlsError::SubjectName((*text).to_owned())),
            SubjectName::Uri(text) => Ok(Self::Uri((*text).into())),
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Policy::AnyOf(roots, names) = &self.policy else {
            return Ok(ServerCertVerified::assertion());
        };
        let cert = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &cert,
            roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        let carries = |name: &Expected| match name {
            Expected::Host(host) => verify_server_name(&cert, host).is_ok(),
            Expected::Uri(uri) => webpki::EndEntityCert::try_from(end_entity)
                .is_ok_and(|cert| cert.valid_uri_names().any(|found| *found == **uri)),
        };
        if names.iter().any(carries) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::NotValidForName.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

//! TLS that a listener terminates: which certificate a client gets, and the handshake.
//!
//! What can fail is done once, when a table is compiled: [`ServerCertificate`] from PEM, [`TlsPolicy`] from a
//! listener's settings. Both together are a [`TlsFront`], which new connections of a listener use until there is
//! another; connections that are open keep theirs. Listeners that share a port are told apart by the host that a client
//! asks for ([`TlsFronts`]), before anything is answered: so one of them can pass TLS on that others terminate.

use super::client::ClientSocket;
use super::open::Opened;
use crate::by_host::ByHost;
use bytes::{BufMut, BytesMut};
use model::limits;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{
    Accepted, Acceptor, ClientHello, NoServerSessionStorage, ResolvesServerCert,
    WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig, SignatureScheme,
    SupportedProtocolVersion,
};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::StartHandshake;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Versions of TLS, newest first.
const ALL_VERSIONS: &[&SupportedProtocolVersion] =
    &[&rustls::version::TLS13, &rustls::version::TLS12];
const NEWEST_VERSION: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];
/// What may be spoken within TLS, in our order of preference (RFC 7301).
const HTTP2: &[u8] = b"h2";
const HTTP11: &[u8] = b"http/1.1";
/// What some clients offer alone, whose requests then say so too.
const HTTP10: &[u8] = b"http/1.0";
/// A fatal `unrecognized_name` alert (RFC 6066 section 3, RFC 8446 section 6) as it goes on the wire.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// A certificate chain with its key, ready to be shown.
pub struct ServerCertificate {
    key: Arc<CertifiedKey>,
    /// DNS names of the leaf, in lower case; a wildcard as `*.suffix`.
    names: Vec<String>,
}

impl ServerCertificate {
    /// From PEM: the chain with the leaf first, and its private key.
    ///
    /// # Errors
    /// What is wrong with it, without a byte of the key.
    pub fn parse(chain: &[u8], key: &[u8], provider: &CryptoProvider) -> Result<Self, String> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<_, _>>()
            .map_err(|_| "the certificate chain is not PEM")?;
        let leaf = chain.first().ok_or("the chain holds no certificate")?;
        let names = dns_names(leaf)?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|_| "the private key is not a PEM key that is not encrypted")?;
        let key = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
            Error::InconsistentKeys(_) => "the private key does not belong to the certificate",
            _ => "the private key is of a kind that is not supported",
        })?;
        Ok(Self {
            key: Arc::new(key),
            names,
        })
    }
}

fn dns_names(leaf: &CertificateDer<'_>) -> Result<Vec<String>, String> {
    let (_, leaf) =
        X509Certificate::from_der(leaf).map_err(|_| "the first certificate cannot be read")?;
    let alternatives = leaf
        .subject_alternative_name()
        .map_err(|_| "the first certificate's names cannot be read")?;
    let names = alternatives
        .iter()
        .flat_map(|names| &names.value.general_names);
    Ok(names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.trim_end_matches('.').to_ascii_lowercase()),
            _ => None,
        })
        .collect())
}

impl fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerCertificate")
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

/// What a listener wants of TLS, apart from its certificates.
#[derive(Clone, Copy, Debug, Default)]
pub struct TlsSettings<'a> {
    /// Nothing older than TLS 1.3.
    pub only_newest: bool,
    /// IANA names, by preference; empty: all that rustls has.
    pub cipher_suites: &'a [String],
    /// Clients are asked for a certificate.
    pub client: Option<ClientAuth<'a>>,
    /// It is not HTTP that is spoken within.
    pub opaque: bool,
}

/// Whose certificates clients may show.
#[derive(Clone, Copy, Debug)]
pub struct ClientAuth<'a> {
    /// PEM of the authorities.
    pub authorities: &'a str,
    /// Without a certificate the handshake fails.
    pub required: bool,
    /// Whatever a client shows is let in, and counts for nothing.
    pub any: bool,
}

/// A listener's settings, checked: all of its configuration but the certificates.
pub struct TlsPolicy {
    config: ServerConfig,
    client_required: bool,
    /// What clients show is verified.
    verifies: bool,
}

impl TlsPolicy {
    /// Checks settings.
    ///
    /// # Errors
    /// Which of them is wrong, and why.
    pub fn new(settings: &TlsSettings<'_>, provider: &Arc<CryptoProvider>) -> Result<Self, String> {
        let versions = match settings.only_newest {
            true => NEWEST_VERSION,
            false => ALL_VERSIONS,
        };
        let mut provider = Arc::clone(provider);
        if !settings.cipher_suites.is_empty() {
            let mut chosen = Vec::new();
            for name in settings.cipher_suites {
                let suites = provider.cipher_suites.iter();
                let named = |suite: &&rustls::SupportedCipherSuite| {
                    suite.suite().as_str().is_some_and(|s| iana(s) == *name)
                };
                let suite = suites.clone().find(named).ok_or_else(|| {
                    let known = suites.filter_map(|s| s.suite().as_str()).map(iana);
                    let known: Vec<String> = known.collect();
                    format!(
                        "tls.cipherSuites: {name} is not one of {}",
                        known.join(", ")
                    )
                })?;
                chosen.push(*suite);
            }
            let usable = |v: &&SupportedProtocolVersion| {
                chosen
                    .iter()
                    .any(|suite| suite.version().version == v.version)
            };
            if !versions.iter().any(usable) {
                return Err(
                    "tls.cipherSuites: none of them is for a version that is spoken".into(),
                );
            }
            provider = Arc::new(CryptoProvider {
                cipher_suites: chosen,
                ..CryptoProvider::clone(&provider)
            });
        }
        let verifier = match &settings.client {
            None => WebPkiClientVerifier::no_client_auth(),
            Some(auth) => verifier(auth, &provider)?,
        };
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(|e| format!("tls: {e}"))?
            .with_client_cert_verifier(verifier);
        let mut config = config.with_cert_resolver(Arc::new(Store::default()));
        if !settings.opaque {
            config.alpn_protocols = [HTTP2, HTTP11, HTTP10].map(<[u8]>::to_vec).into();
        }
        // Sessions are resumed by tickets: what is remembered is with the client. The tickets are of this policy alone: a
        // session that was opened without a client's certificate cannot be resumed where one is required.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()
            .map_err(|e| format!("no key for session tickets: {e}"))?;
        Ok(Self {
            config,
            client_required: settings.client.is_some_and(|client| client.required),
            verifies: settings.client.is_some_and(|client| !client.any),
        })
    }
}

/// The registered name of a cipher suite: rustls writes those of TLS 1.3 in another way.
fn iana(name: &str) -> String {
    match name.strip_prefix("TLS13_") {
        Some(rest) => format!("TLS_{rest}"),
        None => name.to_owned(),
    }
}

fn verifier(
    auth: &ClientAuth<'_>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    const WHERE: &str = "tls.clientValidation: ";
    if auth.any {
        return Ok(Arc::new(AnyClient(
            provider.signature_verification_algorithms,
        )));
    }
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(auth.authorities.as_bytes()) {
        let authority = authority.map_err(|_| format!("{WHERE}the authorities are not PEM"))?;
        roots
            .add(authority)
            .map_err(|e| format!("{WHERE}an authority cannot be used: {e}"))?;
    }
    let builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let builder = match auth.required {
        true => builder,
        false => builder.allow_unauthenticated(),
    };
    builder.build().map_err(|e| format!("{WHERE}{e}"))
}

/// Asks clients for a certificate and is content with anything.
#[derive(Debug)]
struct AnyClient(WebPkiSupportedAlgorithms);

impl ClientCertVerifier for AnyClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

impl fmt::Debug for TlsPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsPolicy").finish_non_exhaustive()
    }
}

/// A listener's certificates by name.
#[derive(Default)]
struct Store {
    /// Several for one name where their keys are of several kinds.
    exact: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// By what follows the first label.
    wildcard: HashMap<String, Vec<Arc<CertifiedKey>>>,
    default: Option<Arc<CertifiedKey>>,
}

impl Store {
    /// Those for a name: exact, then a wildcard of one label, then the default.
    fn find(&self, name: &str) -> &[Arc<CertifiedKey>] {
        if let Some(keys) = self.exact.get(name) {
            return keys;
        }
        let parent = name.split_once('.').map(|(_, parent)| parent);
        if let Some(keys) = parent.and_then(|parent| self.wildcard.get(parent)) {
            return keys;
        }
        self.default.as_slice()
    }

    fn of(&self, name: Option<&str>) -> &[Arc<CertifiedKey>] {
        match name {
            // Lower case already when it comes from rustls.
            Some(name) => self.find(name),
            None => self.default.as_slice(),
        }
    }
}

impl ResolvesServerCert for Store {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let keys = self.of(hello.server_name());
        fitting(keys, hello.signature_schemes()).cloned()
    }
}

/// The first whose key the client can verify, or else the first.
fn fitting<'a>(
    keys: &'a [Arc<CertifiedKey>],
    schemes: &[SignatureScheme],
) -> Option<&'a Arc<CertifiedKey>> {
    let fits = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(schemes).is_some();
    keys.iter().find(fits).or_else(|| keys.first())
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&String> = self.exact.keys().chain(self.wildcard.keys()).collect();
        f.debug_struct("Store")
            .field("names", &names)
            .finish_non_exhaustive()
    }
}

/// What new connections of a listener get.
#[derive(Clone)]
pub struct TlsFront {
    config: Arc<ServerConfig>,
    store: Arc<Store>,
    client_required: bool,
    verifies: bool,
}

impl TlsFront {
    /// A listener's settings with its certificates; `default` is for clients that name no host or an unknown one.
    pub fn new<'a>(
        policy: &TlsPolicy,
        certificates: impl Iterator<Item = &'a ServerCertificate>,
        default: Option<&ServerCertificate>,
    ) -> Self {
        let mut store = Store {
            default: default.map(|c| Arc::clone(&c.key)),
            ..Store::default()
        };
        for certificate in certificates {
            for name in &certificate.names {
                let keys = match name.strip_prefix("*.") {
                    Some(parent) => store.wildcard.entry(parent.to_owned()),
                    None => store.exact.entry(name.clone()),
                };
                keys.or_default().push(Arc::clone(&certificate.key));
            }
        }
        let store = Arc::new(store);
        let mut config = policy.config.clone();
        config.cert_resolver = Arc::<Store>::clone(&store);
        Self {
            config: Arc::new(config),
            store,
            client_required: policy.client_required,
            verifies: policy.verifies,
        }
    }

    /// Whether a connection with this handshake, which may have been done under other settings, is one for requests to
    /// `host` (RFC 9110 section 7.4): the client has shown a certificate where there must be one, and it would have got
    /// the same certificate for `host` as for the name that it asked for.
    pub fn is_one_for(&self, tls: &TlsInfo, host: &str) -> bool {
        if self.client_required && !tls.client_certificate {
            return false;
        }
        let Some(sni) = tls.sni.as_deref().filter(|sni| *sni != host) else {
            return true;
        };
        match (self.store.find(sni), self.store.find(host)) {
            ([a, ..], [b, ..]) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }

    /// Whether it is one and the same.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.config, &other.config)
    }
}

/// What becomes of a connection whose client has named a host.
#[derive(Clone, Debug)]
pub enum Door {
    /// Requests, within TLS that ends here.
    Requests(TlsFront),
    /// A stream of bytes, within TLS that ends here; `None`: TLS itself is passed on.
    Stream(Option<TlsFront>),
}

/// What new connections of a port get, by the host that they ask for.
#[derive(Clone, Debug)]
pub struct TlsFronts {
    /// For hosts that no listener has, and clients that name none; `None`: there is no connection.
    first: Option<Door>,
    /// `None`: there is only `first`.
    by_host: Option<Arc<ByHost<Door>>>,
}

impl From<TlsFront> for TlsFronts {
    fn from(only: TlsFront) -> Self {
        Self::new(Some(Door::Requests(only)), None)
    }
}

impl TlsFronts {
    pub fn new(first: Option<Door>, by_host: Option<ByHost<Door>>) -> Self {
        Self {
            first,
            by_host: by_host.map(Arc::new),
        }
    }

    fn of(&self, name: Option<&str>) -> Option<&Door> {
        let by_host = self.by_host.as_deref();
        let found = by_host.and_then(|all| all.get(name.unwrap_or_default()));
        found.or(self.first.as_ref())
    }

    /// Does the handshake, or leaves it to whoever the connection is passed on to. `takes`: whether streams for a host
    /// are passed on.
    ///
    /// # Errors
    /// Why there is no connection. The client has been told, unless it asked for a host whose TLS is not ours to speak:
    /// that ends without an answer (Gateway API, TLSRoute).
    pub async fn accept(
        &self,
        mut stream: TcpStream,
        takes: impl Fn(&str) -> bool,
    ) -> Result<(Opened, TlsInfo), TlsFailure> {
        let (accepted, begun) = read_hello(&mut stream).await?;
        let hello = accepted.client_hello();
        let name = hello.server_name();
        let door = self.of(name).ok_or(TlsFailure::NoCertificate)?;
        let (front, is_stream) = match door {
            Door::Requests(front) => (Some(front), false),
            Door::Stream(_) if !takes(name.unwrap_or_default()) => {
                return Err(TlsFailure::NoCertificate);
            }
            Door::Stream(front) => (front.as_ref(), true),
        };
        let Some(front) = front else {
            let info = TlsInfo {
                sni: name.map(Into::into),
                ..TlsInfo::default()
            };
            return Ok((Opened::Stream(ClientSocket::Plain(stream), begun), info));
        };
        if front.store.of(name).is_empty() {
            // One attempt: the socket of a new connection has room for it.
            let _ = stream.write_all(&UNRECOGNIZED_NAME).await;
            let _ = stream.shutdown().await;
            return Err(TlsFailure::NoCertificate);
        }
        let config = Arc::clone(&front.config);
        let handshake = StartHandshake::from_parts(accepted, stream).into_stream(config);
        let stream = handshake.await.map_err(|e| TlsFailure::of(&e))?;
        let (_, session) = stream.get_ref();
        let info = TlsInfo {
            sni: session.server_name().map(Into::into),
            http2: session.alpn_protocol() == Some(HTTP2),
            client_certificate: front.verifies
                && session.peer_certificates().is_some_and(|c| !c.is_empty()),
        };
        let socket = ClientSocket::Tls(Box::new(stream));
        let opened = match is_stream {
            true => Opened::Stream(socket, BytesMut::new()),
            false => Opened::Requests(socket),
        };
        Ok((opened, info))
    }
}

/// Bytes that are read at a time of a handshake's beginning: as many as rustls takes at least.
const PIECE: usize = 2 << 10;

/// Reads what a TLS handshake begins with, and keeps the bytes.
async fn read_hello(stream: &mut TcpStream) -> Result<(Accepted, BytesMut), TlsFailure> {
    let mut acceptor = Acceptor::default();
    let mut begun = BytesMut::new();
    while begun.len() < limits::CLIENT_HELLO_BYTES {
        let before = begun.len();
        begun.reserve(PIECE);
        let read = stream.read_buf(&mut (&mut begun).limit(PIECE)).await;
        if read.map_err(|_| TlsFailure::Other)? == 0 {
            return Err(TlsFailure::Other);
        }
        let mut piece = begun.get(before..).unwrap_or_default();
        while !piece.is_empty() {
            let taken = acceptor.read_tls(&mut piece);
            taken.map_err(|_| TlsFailure::Protocol)?;
            match acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) if piece.is_empty() => return Ok((accepted, begun)),
                Ok(Some(_)) => return Err(TlsFailure::Protocol),
                Err((_, mut alert)) => {
                    let mut bytes = Vec::new();
                    // Writing to a vector cannot fail; to the socket there is one attempt, for which it has room.
                    let _ = alert.write_all(&mut bytes);
                    let _ = stream.write_all(&bytes).await;
                    let _ = stream.shutdown().await;
                    return Err(TlsFailure::Protocol);
                }
            }
        }
    }
    Err(TlsFailure::Protocol)
}

impl fmt::Debug for TlsFront {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsFront")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

/// What a handshake came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsInfo {
    /// The host that the client asked for, in lower case.
    pub sni: Option<Box<str>>,
    /// HTTP/2 was chosen; else HTTP/1.
    pub http2: bool,
    /// The client has shown a certificate, and it was verified.
    pub client_certificate: bool,
}

/// Why a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFailure {
    /// No certificate for the host that the client asked for.
    NoCertificate,
    /// The client's certificate is missing or wrong.
    ClientCertificate,
    /// What the client sent is not TLS, or nothing that we speak.
    Protocol,
    /// The client took too long.
    Timeout,
    /// The client is gone.
    Other,
}

impl TlsFailure {
    pub const ALL: [Self; 5] = [
        Self::NoCertificate,
        Self::ClientCertificate,
        Self::Protocol,
        Self::Timeout,
        Self::Other,
    ];

    /// As a label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoCertificate => "no_certificate",
            Self::ClientCertificate => "client_certificate",
            Self::Protocol => "protocol",
            Self::Timeout => "timeout",
            Self::Other => "other",
        }
    }

    fn of(error: &io::Error) -> Self {
        match error.get_ref().and_then(|e| e.downcast_ref::<Error>()) {
            Some(Error::NoCertificatesPresented | Error::InvalidCertificate(_)) => {
                Self::ClientCertificate
            }
            Some(_) => Self::Protocol,
            None => Self::Other,
        }
    }
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;

//! Certificates made for a test, and an HTTPS origin that says how it was spoken to.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

pub struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// Chain and key in PEM.
pub struct Leaf {
    pub chain: String,
    pub key: String,
}

impl Ca {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self {
            issuer: CertifiedIssuer::self_signed(params, key).unwrap(),
        }
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// For these names; those with `://` are URIs.
    pub fn issue(&self, names: &[&str]) -> Leaf {
        let san = |name: &&str| {
            let text = (*name).try_into().unwrap();
            match name.contains("://") {
                true => SanType::URI(text),
                false => SanType::DnsName(text),
            }
        };
        let mut params = CertificateParams::default();
        params.subject_alt_names = names.iter().map(san).collect();
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().unwrap();
        Leaf {
            chain: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }
}

/// A server's configuration. `clients`: who may sign their certificates; without one they are refused.
pub fn server(
    leaf: &Leaf,
    clients: Option<&Ca>,
    versions: &[&'static rustls::SupportedProtocolVersion],
    alpn: &[&str],
) -> Arc<ServerConfig> {
    let provider = diolkos_dataplane::tls::provider();
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            let cert = CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap();
            roots.add(cert).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let chain = CertificateDer::pem_slice_iter(leaf.chain.as_bytes())
        .map(Result::unwrap)
        .collect();
    let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).unwrap();
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = alpn.iter().map(|a| a.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// Serves HTTP/1.1 over TLS. Every answer says in fields how the connection was made; `/close` closes after it.
pub struct Https {
    pub address: SocketAddr,
    /// Connections whose handshake was completed.
    pub connections: Arc<AtomicUsize>,
}

impl Https {
    pub fn start(config: Arc<ServerConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(stream), count) = (stream, count.clone()) else {
                    return;
                };
                let tls = ServerConnection::new(config.clone()).unwrap();
                std::thread::spawn(move || {
                    let mut stream = StreamOwned::new(tls, stream);
                    while stream.conn.is_handshaking() {
                        if stream.conn.complete_io(&mut stream.sock).is_err() {
                            return;
                        }
                    }
                    count.fetch_add(1, SeqCst);
                    let _ = serve(stream);
                });
            }
        });
        Self {
            address,
            connections,
        }
    }

    pub fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }
}

fn serve(stream: StreamOwned<ServerConnection, std::net::TcpStream>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut fields = String::new();
        loop {
            let mut field = String::new();
            stream.read_line(&mut field)?;
            if field.trim().is_empty() {
                break;
            }
            fields.push_str(&field);
        }
        let tls = &stream.get_ref().conn;
        let text = format!(
            "HTTP/1.1 200 OK\r\nx-sni: {}\r\nx-alpn: {}\r\nx-version: {:?}\r\nx-handshake: {:?}\r\n\
             x-client-certs: {}\r\ncontent-length: {}\r\n\r\n{fields}",
            tls.server_name().unwrap_or("-"),
            tls.alpn_protocol()
                .map_or_else(|| "-".into(), String::from_utf8_lossy),
            tls.protocol_version().unwrap(),
            tls.handshake_kind().unwrap(),
            tls.peer_certificates().map_or(0, <[_]>::len),
            fields.len(),
        );
        let out = stream.get_mut();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        if line.contains("/close") {
            out.conn.send_close_notify();
            out.flush()?;
            return Ok(());
        }
    }
}

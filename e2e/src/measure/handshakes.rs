//! Full TLS 1.3 handshakes with one key exchange and one cipher suite, each with one request: nothing is resumed.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(10);

/// Where to, and how.
#[derive(Clone, Debug)]
pub struct Target {
    pub address: SocketAddr,
    pub host: String,
    pub path: String,
}

/// Settings of a client that knows one key exchange (`X25519` or `X25519MLKEM768`) and trusts the certificate of a file.
///
/// # Errors
/// Another key exchange, or no certificate there.
pub fn client(authority: &Path, group: &str) -> Result<Arc<ClientConfig>> {
    let group = match group {
        "X25519" => kx_group::X25519,
        "X25519MLKEM768" => kx_group::X25519MLKEM768,
        other => bail!("no key exchange {other}"),
    };
    let mut provider = default_provider();
    provider.kx_groups = vec![group];
    provider.cipher_suites = vec![cipher_suite::TLS13_AES_128_GCM_SHA256];
    let mut roots = RootCertStore::empty();
    let pem = CertificateDer::from_pem_file(authority);
    roots.add(pem.with_context(|| format!("read {}", authority.display()))?)?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// Connects again and again on several threads for so long, and prints how often it succeeded as JSON.
///
/// # Errors
/// A handshake or a request fails.
pub fn run(
    config: &Arc<ClientConfig>,
    target: &Target,
    time: Duration,
    threads: usize,
) -> Result<()> {
    let end = Instant::now() + time;
    let workers: Vec<_> = (0..threads)
        .map(|_| {
            let (config, target) = (Arc::clone(config), target.clone());
            thread::spawn(move || -> Result<u64> {
                let mut done = 0;
                while Instant::now() < end {
                    once(&config, &target)?;
                    done += 1;
                }
                Ok(done)
            })
        })
        .collect();
    let mut done = 0;
    for worker in workers {
        let ended = worker.join().ok().context("a thread panicked")?;
        done += ended?;
    }
    println!("{}", json!({"done": done}));
    Ok(())
}

fn once(config: &Arc<ClientConfig>, target: &Target) -> Result<()> {
    let tcp = TcpStream::connect_timeout(&target.address, PATIENCE)?;
    tcp.set_nodelay(true)?;
    tcp.set_read_timeout(Some(PATIENCE))?;
    let name = ServerName::try_from(target.host.clone())?;
    let client = ClientConnection::new(Arc::clone(config), name)?;
    let mut stream = StreamOwned::new(client, tcp);
    write!(
        stream,
        "GET {} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n",
        target.path, target.host
    )?;
    let mut answer = Vec::with_capacity(4096);
    // Not every server says goodbye before it closes.
    if let Err(error) = stream.read_to_end(&mut answer)
        && error.kind() != std::io::ErrorKind::UnexpectedEof
    {
        return Err(error.into());
    }
    let status = answer.get(9..12).unwrap_or_default();
    ensure!(
        status == b"200",
        "answered {:?}",
        String::from_utf8_lossy(&answer)
    );
    Ok(())
}

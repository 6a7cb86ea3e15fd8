//! The webhook's certificate: files that somebody else renews, such as cert-manager in a mounted Secret.

use crate::tls;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The files are looked at so often.
const LOOK: Duration = Duration::from_secs(30);

/// Where it is, as PEM.
#[derive(Clone, Debug)]
pub struct Files {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Authorities of callers: without a certificate of theirs nobody is heard. `None`: nobody is asked.
    pub callers: Option<PathBuf>,
}

/// Why files cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {message}", path.display())]
pub struct CertificateError {
    path: PathBuf,
    message: String,
}

fn error(path: &Path, message: impl ToString) -> CertificateError {
    CertificateError {
        path: path.to_owned(),
        message: message.to_string(),
    }
}

/// What the files hold.
type Contents = [Vec<u8>; 3];

/// The settings made of the files as they were when they were last good.
pub(super) struct Reloading {
    files: Files,
    /// Of the contents.
    seen: [blake3::Hash; 3],
    settings: Arc<ServerConfig>,
    looked: Instant,
}

impl Reloading {
    pub(super) fn load(files: Files) -> Result<Self, CertificateError> {
        let contents = read(&files)?;
        let settings = settings(&files, &contents)?;
        Ok(Self {
            files,
            seen: contents.map(|content| blake3::hash(&content)),
            settings,
            looked: Instant::now(),
        })
    }

    pub(super) fn settings(&mut self) -> Arc<ServerConfig> {
        if self.looked.elapsed() >= LOOK {
            self.looked = Instant::now();
            if let Err(error) = self.look() {
                tracing::error!(%error, "the webhook's certificate cannot be renewed; the last good one is shown");
            }
        }
        Arc::clone(&self.settings)
    }

    #[cfg(test)]
    pub(super) fn look_now(&mut self) {
        drop(self.look());
    }

    fn look(&mut self) -> Result<(), CertificateError> {
        let contents = read(&self.files)?;
        let seen = contents.each_ref().map(|content| blake3::hash(content));
        if seen != self.seen {
            self.settings = settings(&self.files, &contents)?;
            self.seen = seen;
            tracing::info!("the webhook shows a new certificate");
        }
        Ok(())
    }
}

fn read(files: &Files) -> Result<Contents, CertificateError> {
    let read = |path: &Path| std::fs::read(path).map_err(|e| error(path, e));
    let callers = files.callers.as_deref().map(read).transpose()?;
    Ok([
        read(&files.certificate)?,
        read(&files.key)?,
        callers.unwrap_or_default(),
    ])
}

fn settings(files: &Files, contents: &Contents) -> Result<Arc<ServerConfig>, CertificateError> {
    let [chain, key, callers] = contents;
    let certificates = |pem: &[u8], path: &Path| {
        let all: Result<Vec<CertificateDer<'static>>, _> =
            CertificateDer::pem_slice_iter(pem).collect();
        let all = all.map_err(|_| error(path, "holds no certificates as PEM"))?;
        match all.is_empty() {
            true => Err(error(path, "holds no certificates as PEM")),
            false => Ok(all),
        }
    };
    let chain = certificates(chain, &files.certificate)?;
    // The error might quote the key.
    let key = PrivateKeyDer::from_pem_slice(key);
    let key = key.map_err(|_| error(&files.key, "holds no private key as PEM"))?;
    let provider = tls::provider();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions();
    let builder = builder.map_err(|e| error(&files.certificate, e))?;
    let builder = match &files.callers {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = rustls::RootCertStore::empty();
            for certificate in certificates(callers, path)? {
                roots.add(certificate).map_err(|e| error(path, e))?;
            }
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|e| error(path, e))?)
        }
    };
    let made = builder.with_single_cert(chain, key);
    let mut made = made.map_err(|e| error(&files.certificate, e))?;
    made.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(made))
}

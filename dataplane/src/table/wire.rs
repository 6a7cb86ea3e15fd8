//! How an upstream is spoken to: protocol, TLS identity and the settings of its connections.

use crate::engine::{
    Alpn, Dial, Keep, SubjectName, TlsClient, TlsError, TlsSettings, Tunnel, UpFault, Want,
};
use model::{Certificate, ProxyProtocol, TlsVersion, UpstreamProtocol, UpstreamTls};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Compiled from an upstream's settings, and from the certificate that they name.
#[derive(Clone, Debug)]
pub struct Wire {
    tls: Tls,
    /// The same with certificates that listeners have shown, by their keys, where the upstream has none of its own.
    shown: Box<[(Arc<str>, Tls)]>,
    h2c: bool,
    max_streams: usize,
    keepalive: Option<Duration>,
    keep: Keep,
    /// Every connection begins with a PROXY header and serves one exchange.
    pub proxy: Option<ProxyProtocol>,
}

#[derive(Clone, Debug)]
enum Tls {
    Clear,
    Client {
        usual: Arc<TlsClient>,
        /// For tunnels that HTTP/2 cannot carry, where `usual` might choose it.
        http1: Arc<TlsClient>,
        /// For what is no HTTP.
        stream: Arc<TlsClient>,
    },
    /// The client certificate is not there: without it nothing is to be sent.
    Missing,
}

impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Client { usual: a, .. }, Self::Client { usual: b, .. }) => a.id() == b.id(),
            (Self::Clear, Self::Clear) | (Self::Missing, Self::Missing) => true,
            _ => false,
        }
    }
}

impl Wire {
    /// `certificate` finds certificate resources.
    pub(crate) fn compile<'a>(
        settings: &model::Upstream,
        certificate: impl Fn(&str) -> Option<&'a Certificate>,
    ) -> Result<Self, TlsError> {
        let h2 = matches!(
            settings.protocol,
            UpstreamProtocol::H2 | UpstreamProtocol::H2C
        );
        let tls = match &settings.tls {
            None => Tls::Clear,
            Some(tls) => {
                let shown = tls.client_certificate.as_deref().map(certificate);
                Tls::compile(tls, settings.protocol, shown)?
            }
        };
        let model::Connection {
            pool_size,
            pool_idle_ms,
            max_streams,
            tcp_keepalive_ms,
            proxy_protocol,
        } = settings.connection;
        let count = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
        let ms = |ms: u32| Duration::from_millis(ms.into());
        Ok(Self {
            h2c: h2 && tls == Tls::Clear,
            tls,
            shown: Box::default(),
            max_streams: count(max_streams).max(1),
            keepalive: (tcp_keepalive_ms > 0).then(|| ms(tcp_keepalive_ms)),
            keep: Keep {
                connections: count(pool_size),
                idle: ms(pool_idle_ms),
            },
            proxy: proxy_protocol,
        })
    }

    /// The same where listeners have these certificates shown to upstreams that have none of their own.
    pub(crate) fn showing<'a, 'k>(
        mut self,
        settings: &model::Upstream,
        keys: impl Iterator<Item = &'k Arc<str>>,
        certificate: impl Fn(&str) -> Option<&'a Certificate>,
    ) -> Result<Self, TlsError> {
        if let Some(tls) = settings.tls.as_ref().filter(|tls| takes_another(tls)) {
            let shown = keys.map(|key| {
                let tls = Tls::compile(tls, settings.protocol, Some(certificate(key)))?;
                Ok((Arc::clone(key), tls))
            });
            self.shown = shown.collect::<Result<_, _>>()?;
        }
        Ok(self)
    }

    /// One of the certificates that listeners have shown, where the upstream has none of its own.
    pub fn some_shown(&self) -> Option<&str> {
        self.shown.first().map(|(key, _)| &**key)
    }

    /// What an exchange with this address asks of its connection. `shows`: the certificate that its listener has shown.
    ///
    /// # Errors
    /// [`UpFault::Tls`] when the client certificate is missing.
    pub fn want<'a>(
        &'a self,
        address: SocketAddr,
        preface: &'a [u8],
        tunnel: Tunnel,
        fresh: bool,
        shows: Option<&str>,
    ) -> Result<Want<'a>, UpFault> {
        let shown = shows.and_then(|shows| self.shown.iter().find(|(key, _)| **key == *shows));
        let (tls, http1) = match shown.map_or(&self.tls, |(_, tls)| tls) {
            Tls::Clear => (None, None),
            Tls::Client { usual, http1, .. } => match tunnel {
                Tunnel::None => (Some(&**usual), None),
                Tunnel::Http1 => (Some(&**http1), None),
                Tunnel::Any if usual.alpn() == Alpn::Either => (Some(&**usual), Some(&**http1)),
                Tunnel::Any => (Some(&**usual), None),
            },
            Tls::Missing => return Err(UpFault::Tls),
        };
        Ok(Want {
            address,
            tls,
            h2c: self.h2c,
            tunnel: tunnel == Tunnel::Any,
            http1,
            max_streams: self.max_streams,
            keepalive: self.keepalive,
            preface,
            keep: self.keep,
            fresh,
        })
    }

    /// How a connection to this address is opened that something is passed on to. `as_it_is`: it is TLS already; `shows` as
    /// in [`Self::want`].
    ///
    /// # Errors
    /// [`UpFault::Tls`] when the client certificate is missing.
    pub fn dial<'a>(
        &'a self,
        address: SocketAddr,
        preface: &'a [u8],
        as_it_is: bool,
        shows: Option<&str>,
    ) -> Result<Dial<'a>, UpFault> {
        let shown = shows.and_then(|shows| self.shown.iter().find(|(key, _)| **key == *shows));
        Ok(Dial {
            address,
            tls: match shown.map_or(&self.tls, |(_, tls)| tls) {
                Tls::Client { stream, .. } if !as_it_is => Some(stream),
                Tls::Missing if !as_it_is => return Err(UpFault::Tls),
                _ => None,
            },
            keepalive: self.keepalive,
            preface,
        })
    }

    /// Whether requests to this upstream are made over TLS.
    pub fn is_tls(&self) -> bool {
        self.tls != Tls::Clear
    }

    /// Whether nothing differs that settings alone do not show.
    pub(super) fn has_identity_of(&self, other: &Self) -> bool {
        self.tls == other.tls && self.shown == other.shown
    }
}

/// Whether an upstream is shown the certificate of a listener.
pub(super) fn takes_another(tls: &UpstreamTls) -> bool {
    tls.client_certificate.is_none()
}

impl Tls {
    /// `shown`: the certificate to show, and whether it is there.
    fn compile(
        tls: &UpstreamTls,
        protocol: UpstreamProtocol,
        shown: Option<Option<&Certificate>>,
    ) -> Result<Self, TlsError> {
        let alpn = match protocol {
            UpstreamProtocol::H1 => Alpn::H1,
            UpstreamProtocol::H2 | UpstreamProtocol::H2C => Alpn::H2,
            _ => Alpn::Either,
        };
        if matches!(shown, Some(None)) {
            return Ok(Self::Missing);
        }
        let usual = client(tls, shown.flatten(), alpn)?;
        let http1 = match alpn {
            Alpn::Either => client(tls, shown.flatten(), Alpn::H1)?,
            Alpn::H1 | Alpn::H2 | Alpn::Nothing => Arc::clone(&usual),
        };
        let stream = client(tls, shown.flatten(), Alpn::Nothing)?;
        Ok(Self::Client {
            usual,
            http1,
            stream,
        })
    }
}

fn client(
    tls: &UpstreamTls,
    shown: Option<&Certificate>,
    alpn: Alpn,
) -> Result<Arc<TlsClient>, TlsError> {
    let UpstreamTls {
        sni,
        authorities,
        client_certificate: _,
        subject_alt_names,
        insecure,
        min_version,
    } = tls;
    let names: Vec<_> = subject_alt_names
        .iter()
        .map(|name| match name.contains("://") {
            true => SubjectName::Uri(name),
            false => SubjectName::Host(name),
        })
        .collect();
    // Where the name is not what is verified, it need not be one: an IP address is not sent.
    let unnamed = *insecure || !names.is_empty();
    let server_name = sni
        .as_deref()
        .unwrap_or(if unnamed { "0.0.0.0" } else { "" });
    TlsClient::of(&TlsSettings {
        server_name,
        roots: authorities.as_deref().map(str::as_bytes),
        client: shown.map(|c| (c.chain.as_bytes(), c.key.reveal())),
        names: &names,
        verify: !insecure,
        only_13: *min_version == TlsVersion::V1_3,
        alpn,
    })
}

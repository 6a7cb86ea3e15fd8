//! The request of a case as the client sends it.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};

use crate::authority::Authority;
use crate::case::RequestSpec;
use crate::client::{Connection, Request};
use crate::{coding, websocket};

/// `METHOD http://host/target`, or with `https`.
pub(crate) struct Asked<'a> {
    pub method: &'a str,
    pub https: bool,
    pub host: &'a str,
    pub target: &'a str,
}

impl<'a> Asked<'a> {
    pub(crate) fn parse(send: &'a str) -> Result<Self> {
        let (method, url) = send.split_once(' ').context("send: METHOD URL")?;
        let (scheme, rest) = url.split_once("://").context("send: a URL")?;
        let https = match scheme {
            "http" => false,
            "https" => true,
            _ => bail!("send: a URL with http or https"),
        };
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let target = if path.is_empty() { "/" } else { path };
        Ok(Self {
            method,
            https,
            host,
            target,
        })
    }

    pub(crate) fn request(&self) -> Request {
        Request {
            method: self.method.into(),
            host: self.host.into(),
            target: letters(self.target),
            ..Request::default()
        }
    }
}

/// Whether it is sent within TLS.
pub(crate) fn is_https(spec: &RequestSpec) -> Result<bool> {
    Ok(Asked::parse(&spec.send)?.https)
}

/// A connection as the request has it.
pub(crate) fn connect(
    spec: &RequestSpec,
    address: SocketAddr,
    authority: &Authority,
) -> Result<Connection> {
    let asked = Asked::parse(&spec.send)?;
    match (asked.https, spec.http2) {
        (false, false) => Connection::open(address),
        (false, true) => bail!("HTTP/2 is for URLs with https"),
        (true, false) => Connection::open_tls(address, asked.host, authority.trust("http/1.1")?),
        (true, true) => Connection::open_http2(address, asked.host, authority.trust("h2")?),
    }
}

/// All of it.
pub(crate) fn to_request(spec: &RequestSpec) -> Result<Request> {
    let of_websocket = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", websocket::KEY),
    ];
    let asked = spec.websocket.iter().flat_map(|_| of_websocket);
    let mut headers: Vec<(String, String)> = spec
        .headers
        .iter()
        .map(|(n, v)| (n.clone(), letters(v)))
        .chain(asked.map(|(n, v)| (n.to_owned(), v.to_owned())))
        .collect();
    let mut body = spec.body.clone().into_bytes();
    if let Some(encoding) = &spec.encoding {
        body = coding::encode(encoding, &body)?;
        headers.push(("content-encoding".into(), encoding.clone()));
    }
    Ok(Request {
        headers,
        body,
        ..Asked::parse(&spec.send)?.request()
    })
}

/// The text with N letters where it says `${letters N}`.
fn letters(text: &str) -> String {
    let parts = text.split_once("${letters ").and_then(|(before, rest)| {
        let (count, after) = rest.split_once('}')?;
        Some((before, count.parse::<usize>().ok()?, after))
    });
    match parts {
        Some((before, count, after)) => format!("{before}{}{after}", "a".repeat(count)),
        None => text.to_owned(),
    }
}

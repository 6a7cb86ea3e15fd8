//! The `Location` of a redirect (Gateway API, HTTPRequestRedirectFilter).

use super::rewrite::PathEdit;
use super::template::Text;
use model::RedirectPath;
use regex::Regex;
use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

/// A compiled [`model::Redirect`].
#[derive(Debug)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    scheme: Option<Box<str>>,
    hostname: Option<Text>,
    port: Option<u16>,
    path: Option<PathEdit>,
}

/// Where the client believes itself to be.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// `http` or `https`.
    pub scheme: &'a str,
    /// Canonical, without port; an IPv6 address stands in brackets.
    pub host: &'a str,
    /// As the client wrote it behind the host; `None`: the default of the scheme.
    pub port: Option<u16>,
    pub path: &'a str,
    pub query: Option<&'a str>,
}

impl Redirect {
    /// # Errors
    /// A name that is no group of the host's expression.
    pub(super) fn compile(
        redirect: model::Redirect,
        hosts: Option<&Arc<Regex>>,
    ) -> Result<Self, String> {
        let model::Redirect {
            scheme,
            hostname,
            port,
            path,
            status,
        } = redirect;
        let path = path.map(|path| match path {
            RedirectPath::ReplacePrefix(with) => PathEdit::replace_prefix(&with, hosts),
            RedirectPath::ReplaceFull(with) => PathEdit::replace_full(&with, hosts),
        });
        Ok(Self {
            status,
            scheme: scheme.map(Into::into),
            hostname: hostname.map(|h| Text::compile(&h, hosts)).transpose()?,
            port,
            path: path.transpose()?,
        })
    }

    /// Writes the absolute URL to `out`, which is emptied first.
    ///
    /// Parts that the rule leaves open are the request's. A rule that names a scheme and no port means the default
    /// port of that scheme; default ports are not written. The query is kept.
    pub fn location(&self, from: &Place<'_>, prefix_len: usize, out: &mut String) {
        out.clear();
        let scheme = self.scheme.as_deref().unwrap_or(from.scheme);
        let host = match &self.hostname {
            Some(host) => host.of(from.host),
            None => Cow::Borrowed(from.host),
        };
        let port = match (self.port, &self.scheme) {
            (Some(port), _) => Some(port),
            (None, Some(_)) => None,
            (None, None) => from.port,
        };
        out.push_str(scheme);
        out.push_str("://");
        out.push_str(&host);
        if let Some(port) = port.filter(|port| Some(*port) != default_port(scheme)) {
            let _ = write!(out, ":{port}");
        }
        match &self.path {
            Some(edit) => edit.apply(from.host, from.path, prefix_len, out),
            // The target of `OPTIONS *` is no path.
            None if from.path.starts_with('/') => out.push_str(from.path),
            None => out.push('/'),
        }
        if let Some(query) = from.query {
            out.push('?');
            out.push_str(query);
        }
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

#[cfg(test)]
#[path = "tests/redirect.rs"]
mod tests;

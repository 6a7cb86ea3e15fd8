//! The URL that a redirect sends a client to (Gateway API, HTTPRequestRedirectFilter).

use std::fmt::Write as _;

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

/// What a redirect changes in front of the path.
#[derive(Clone, Copy, Debug, Default)]
pub struct Elsewhere<'a> {
    pub scheme: Option<&'a str>,
    pub host: Option<&'a str>,
    pub port: Option<u16>,
}

impl Place<'_> {
    /// Appends the absolute URL; `path` appends that part of it.
    ///
    /// What is left open is as the client has it. A scheme without a port means the default port of that scheme;
    /// default ports are not written. The query is kept.
    pub fn go(&self, to: Elsewhere<'_>, path: impl FnOnce(&mut String), out: &mut String) {
        let scheme = to.scheme.unwrap_or(self.scheme);
        out.push_str(scheme);
        out.push_str("://");
        out.push_str(to.host.unwrap_or(self.host));
        let port = match (to.port, to.scheme) {
            (Some(port), _) => Some(port),
            (None, Some(_)) => None,
            (None, None) => self.port,
        };
        if let Some(port) = port.filter(|port| Some(*port) != default_port(scheme)) {
            // A string takes what is written to it.
            let _ = write!(out, ":{port}");
        }
        path(out);
        if let Some(query) = self.query {
            out.push('?');
            out.push_str(query);
        }
    }

    /// Appends the path as it is; the target of `OPTIONS *` is none.
    pub fn same_path(&self, out: &mut String) {
        let is_path = self.path.starts_with('/');
        out.push_str(if is_path { self.path } else { "/" });
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
mod tests {
    use super::*;

    const FROM: Place<'_> = Place {
        scheme: "http",
        host: "a.com",
        port: None,
        path: "/x",
        query: None,
    };

    fn url(from: Place<'_>, to: Elsewhere<'_>) -> String {
        let mut out = String::new();
        from.go(to, |out| from.same_path(out), &mut out);
        out
    }

    #[test]
    fn scheme_host_and_port() {
        let at = |port| Place { port, ..FROM };
        for (scheme, host, port, from, result) in [
            (None, None, None, at(None), "http://a.com"),
            (None, None, None, at(Some(8080)), "http://a.com:8080"),
            (None, None, None, at(Some(80)), "http://a.com"),
            (
                None,
                Some("b.com"),
                None,
                at(Some(8080)),
                "http://b.com:8080",
            ),
            (Some("https"), None, None, at(Some(8080)), "https://a.com"),
            (Some("https"), None, Some(443), at(None), "https://a.com"),
            (
                Some("https"),
                None,
                Some(8443),
                at(None),
                "https://a.com:8443",
            ),
            (Some("http"), None, Some(443), at(None), "http://a.com:443"),
            (Some("http"), None, None, at(Some(8080)), "http://a.com"),
            (None, None, Some(80), at(Some(8080)), "http://a.com"),
            (None, None, Some(8443), at(None), "http://a.com:8443"),
        ] {
            let made = url(from, Elsewhere { scheme, host, port });
            assert_eq!(made, format!("{result}/x"), "{scheme:?} {host:?} {port:?}");
        }
        let v6 = Place {
            host: "[::1]",
            port: Some(81),
            ..FROM
        };
        assert_eq!(url(v6, Elsewhere::default()), "http://[::1]:81/x");
    }

    /// A path of two slashes must not become a host: the URL is always absolute.
    #[test]
    fn a_path_never_becomes_a_host() {
        let from = |path| Place { path, ..FROM };
        let stays = |path| url(from(path), Elsewhere::default());
        assert_eq!(stays("//evil.com/x"), "http://a.com//evil.com/x");
        assert_eq!(stays("*"), "http://a.com/");
    }
}

//! Where a request belongs: what consistent hashing makes of it, and the endpoint that a client is bound to.

use crate::engine::{RequestHead, ResponseHead};
use crate::table::pick::hash;
use crate::table::{Backend, Picked, Upstream, WeightedBackends};
use model::headers::InvalidHeader;
use model::{Affinity, AffinityCookie, HashSource, SameSite};
use std::net::{IpAddr, SocketAddr};

/// The value that the upstream's policy hashes; `None`: there is none.
pub(super) fn hash_of(upstream: &Upstream, head: &RequestHead, client: IpAddr) -> Option<u64> {
    let settings = upstream.settings.balance.hash.as_ref()?;
    match &settings.source {
        HashSource::Path => Some(hash::bytes(head.path().as_bytes())),
        HashSource::ClientIp => Some(of_address(client)),
        HashSource::Header(name) => head.headers.get(name).map(hash::bytes),
        HashSource::Cookie(name) => head.headers.cookie(name).map(hash::bytes),
        HashSource::Query(name) => {
            let value = model::query::first(head.query()?, name)?;
            Some(hash::bytes(value.as_bytes()))
        }
    }
}

/// The same for a connection or a datagram, of which nothing is known but where it came from.
pub(super) fn hash_of_client(upstream: &Upstream, client: IpAddr) -> Option<u64> {
    let settings = upstream.settings.balance.hash.as_ref()?;
    matches!(settings.source, HashSource::ClientIp).then(|| of_address(client))
}

fn of_address(client: IpAddr) -> u64 {
    match client.to_canonical() {
        IpAddr::V4(ip) => hash::bytes(&ip.octets()),
        IpAddr::V6(ip) => hash::bytes(&ip.octets()),
    }
}

/// What binds a client to an endpoint.
pub(super) enum Bond<'a> {
    None,
    Cookie {
        settings: &'a AffinityCookie,
        /// The client's connection is encrypted: ours, or that of a trusted proxy.
        tls: bool,
        /// What the client sent.
        given: Option<u64>,
    },
    /// Hash of the header's value; `None`: absent.
    Header(Option<u64>),
}

impl<'a> Bond<'a> {
    /// `scheme`: what the client used.
    pub(super) fn of(affinity: Option<&'a Affinity>, head: &RequestHead, scheme: &str) -> Self {
        match affinity {
            None => Self::None,
            Some(Affinity::Header(name)) => Self::Header(head.headers.get(name).map(hash::bytes)),
            Some(Affinity::Cookie(settings)) => {
                let value = head.headers.cookie(&settings.name);
                let text = value.and_then(|v| std::str::from_utf8(v).ok());
                Self::Cookie {
                    settings,
                    tls: scheme == "https",
                    given: text.and_then(|t| u64::from_str_radix(t, 16).ok()),
                }
            }
        }
    }

    /// The backend of the first attempt, and the endpoint where a cookie names one that takes requests.
    pub(super) fn first<'t>(
        &self,
        backends: WeightedBackends<'t>,
    ) -> (Option<Backend<'t>>, Option<Picked>) {
        let named = |cookie: u64| {
            backends.to_bind().find_map(|b| {
                let upstream = b.upstream?;
                let picked = upstream.pick_tagged(untagged(cookie, upstream))?;
                Some((Some(b), Some(picked)))
            })
        };
        let bound = match self {
            Self::Header(Some(value)) => return (backends.of_value(*value), None),
            Self::Cookie { given, .. } => given.and_then(named),
            _ => None,
        };
        bound.unwrap_or_else(|| (backends.next(), None))
    }

    /// The endpoint of a backend for the next attempt. `hash`: see [`hash_of`].
    pub(super) fn pick(
        &self,
        upstream: &Upstream,
        hash: Option<u64>,
        tried: &[SocketAddr],
    ) -> Option<Picked> {
        match self {
            Self::Header(Some(key)) => upstream.pick_sticky(*key, tried),
            _ => upstream.pick(hash, tried),
        }
    }

    /// The cookie for an answer of this endpoint; `None`: the client has it, or wants none.
    pub(super) fn cookie(&self, upstream: &Upstream, picked: &Picked) -> Option<SetCookie> {
        let Self::Cookie {
            settings,
            tls,
            given,
        } = self
        else {
            return None;
        };
        let value = tagged(picked.tag, upstream);
        (*given != Some(value)).then(|| SetCookie(render(settings, value, *tls)))
    }
}

/// The value of a `Set-Cookie` field.
pub(super) struct SetCookie(String);

impl SetCookie {
    pub(super) fn add_to(&self, head: &mut ResponseHead) -> Result<(), InvalidHeader> {
        head.headers.append("set-cookie", self.0.as_bytes())
    }
}

/// Cookies name an endpoint of an upstream by a hash, so that two upstreams with one address differ. It can be undone
/// only by one who knows the upstream's key; then by trying addresses.
fn tagged(tag: u64, upstream: &Upstream) -> u64 {
    hash::mix(tag ^ key(upstream))
}

fn untagged(value: u64, upstream: &Upstream) -> u64 {
    hash::unmix(value) ^ key(upstream)
}

fn key(upstream: &Upstream) -> u64 {
    hash::bytes(upstream.key.as_bytes())
}

fn render(settings: &AffinityCookie, value: u64, tls: bool) -> String {
    use std::fmt::Write as _;
    let AffinityCookie {
        name,
        ttl_seconds,
        path,
        secure,
        same_site,
    } = settings;
    let mut text = format!("{name}={value:016x}; Path={path}; HttpOnly");
    if *ttl_seconds > 0 {
        // A string takes what is written to it.
        let _ = write!(text, "; Max-Age={ttl_seconds}");
    }
    if secure.unwrap_or(tls) {
        text.push_str("; Secure");
    }
    text.push_str(match same_site {
        None => "",
        Some(SameSite::Strict) => "; SameSite=Strict",
        Some(SameSite::Lax) => "; SameSite=Lax",
        Some(SameSite::None) => "; SameSite=None",
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_of_a_trusted_proxy_that_ends_tls_gets_a_cookie_for_tls() {
        let affinity = Affinity::Cookie(AffinityCookie {
            name: "route".into(),
            ttl_seconds: 0,
            path: "/".into(),
            secure: None,
            same_site: None,
        });
        for (scheme, encrypted) in [("https", true), ("http", false)] {
            let bond = Bond::of(Some(&affinity), &RequestHead::default(), scheme);
            assert!(
                matches!(bond, Bond::Cookie { tls, .. } if tls == encrypted),
                "{scheme}"
            );
        }
    }

    #[test]
    fn a_cookie_has_the_attributes_that_are_asked_for() {
        let mut cookie = AffinityCookie {
            name: "route".into(),
            ttl_seconds: 0,
            path: "/".into(),
            secure: None,
            same_site: None,
        };
        assert_eq!(
            render(&cookie, 0x2a, false),
            "route=000000000000002a; Path=/; HttpOnly"
        );
        cookie.ttl_seconds = 60;
        cookie.secure = Some(true);
        cookie.same_site = Some(SameSite::Lax);
        assert_eq!(
            render(&cookie, 1, false),
            "route=0000000000000001; Path=/; HttpOnly; Max-Age=60; Secure; SameSite=Lax"
        );
        cookie.secure = None;
        assert!(render(&cookie, 1, true).contains("; Secure"));
        cookie.secure = Some(false);
        assert!(!render(&cookie, 1, true).contains("Secure"));
    }
}

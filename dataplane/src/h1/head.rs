//! Request heads: from bytes to a sanitised [`RequestHead`], or a refusal.

use super::fields::{self, HeadEnd};
use super::{EdgeRule, HeadLimits, MAX_FIELDS, Reject, upgrade};
use crate::engine::edge::EdgePolicies;
use crate::engine::head::{Framing, Method, RequestHead, Version};
use crate::engine::sanitize::{self, Host};
use model::Underscores;
use std::mem::MaybeUninit;

/// The parts of a request head that concern this connection only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// Bytes of the head.
    pub len: usize,
    /// The client can send another request on this connection. Never on HTTP/1.0.
    pub keep_alive: bool,
    /// What becomes of names with `_`, in trailers too.
    pub underscores: Underscores,
}

/// Reads request heads of one connection as bytes arrive.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestParser {
    end: HeadEnd,
    limits: HeadLimits,
}

impl RequestParser {
    pub fn new(limits: HeadLimits) -> Self {
        Self {
            end: HeadEnd::within(limits.bytes),
            limits,
        }
    }

    /// Reads the head at the front of `text` into `head`; `None` when more bytes must come. `text` may grow between
    /// calls, but must keep its beginning. After `Some` or an error the parser is spent. `edge`: what is let in, by host.
    ///
    /// # Errors
    /// Everything that is not exactly one request in the strict reading of RFC 9112.
    pub fn parse(
        &mut self,
        text: &[u8],
        edge: &EdgePolicies,
        head: &mut RequestHead,
    ) -> Result<Option<Parsed>, Reject> {
        if let Some(first) = text.first()
            && !model::headers::is_token(std::slice::from_ref(first))
        {
            return Err(Reject::bad_request("not an HTTP request"));
        }
        let mut slots = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        // Almost always it is here as a whole. What is odd about it, if it is, the longer way finds out.
        if self.end.is_new()
            && let Ok((len, request)) = split(text, &mut slots)
            && let Some(whole) = text.get(..len)
            && self.end.agrees(whole, request.headers.len())
        {
            return read(whole, &request, head, &self.limits, edge).map(Some);
        }
        let Some(len) = self.end.find(text)? else {
            if self.end.in_first_line()
                && text.len() > self.limits.target + Method::MAX + " HTTP/1.1\r\n".len() + 1
            {
                return Err(Reject::uri_too_long());
            }
            return Ok(None);
        };
        let whole = text.get(..len).unwrap_or_default();
        let mut slots = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        match split(whole, &mut slots)? {
            (n, request) if n == len => read(whole, &request, head, &self.limits, edge).map(Some),
            _ => Err(Reject::bad_request("head is not complete")),
        }
    }
}

type Slots<'t> = [MaybeUninit<httparse::Header<'t>>; MAX_FIELDS];

/// Splits the head at the front of `text`; with its length.
fn split<'s, 't>(
    text: &'t [u8],
    slots: &'s mut Slots<'t>,
) -> Result<(usize, httparse::Request<'s, 't>), Reject> {
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(text, slots) {
        Ok(httparse::Status::Complete(len)) => Ok((len, request)),
        Ok(_) => Err(Reject::bad_request("head is not complete")),
        Err(httparse::Error::TooManyHeaders) => {
            Err(Reject::header_too_large().of(EdgeRule::HeaderCount))
        }
        Err(_) => Err(Reject::bad_request("head is not valid")),
    }
}

/// Reads a head that has been split.
fn read(
    text: &[u8],
    request: &httparse::Request<'_, '_>,
    head: &mut RequestHead,
    limits: &HeadLimits,
    edge: &EdgePolicies,
) -> Result<Parsed, Reject> {
    let (Some(method), Some(target), Some(version)) =
        (request.method, request.path, request.version)
    else {
        return Err(Reject::bad_request("head is not complete"));
    };
    let fields: &[httparse::Header<'_>] = request.headers;
    if fields.len() > limits.fields {
        return Err(Reject::header_too_large().of(EdgeRule::HeaderCount));
    }
    if target.len() > limits.target {
        return Err(Reject::uri_too_long());
    }
    head.clear();
    head.method = Method::parse(method)
        .ok_or(Reject::bad_request("method is not valid").of(EdgeRule::Method))?;
    head.version = if version == 0 {
        Version::Http10
    } else {
        Version::Http11
    };
    let mut control = fields::control(fields)?;
    let is_http10 = head.version == Version::Http10;
    head.framing = match (control.chunked, control.length) {
        (true, _) if is_http10 => return Err(Reject::bad_request("transfer-encoding in HTTP/1.0")),
        (true, _) => Framing::Chunked,
        (false, Some(n)) => Framing::Length(n),
        (false, None) => Framing::Empty,
    };
    read_target(target.as_bytes(), control.host, edge, head)?;
    // In its normal form a byte may take three.
    if head.target.as_str().len() > limits.target {
        return Err(Reject::uri_too_long());
    }
    // Also where the target names a host (RFC 9112 section 3.2).
    if control.host.is_none() && !is_http10 {
        return Err(Reject::bad_request("host is missing").of(EdgeRule::Host));
    }
    push_host(head)?;
    let underscores = edge.for_host(head.host.name()).underscores;
    control.admit(fields, underscores)?;
    fields::copy_end_to_end(text, fields, &control, &mut head.headers)?;
    if let Some(expect) = control.expect {
        read_expect(expect, head)?;
    }
    if control.upgrade && !is_http10 && matches!(head.framing, Framing::Empty | Framing::Length(0))
    {
        head.upgrade = upgrade::offered(fields, &head.method);
        if head.upgrade.is_some() {
            head.framing = Framing::Empty;
        }
    }
    Ok(Parsed {
        len: text.len(),
        keep_alive: !is_http10 && !control.close,
        underscores,
    })
}

/// Reads the four target forms of RFC 9112 section 3.2 and the Host field, which must agree.
fn read_target(
    raw: &[u8],
    host: Option<&[u8]>,
    edge: &EdgePolicies,
    head: &mut RequestHead,
) -> Result<(), Reject> {
    if let Some(host) = host {
        sanitize::host(host, &mut head.host)?;
    }
    if raw.first() == Some(&b'/') {
        let slashes = edge.for_host(head.host.name()).escaped_slashes;
        return sanitize::target(raw, slashes, &mut head.target);
    }
    if raw == b"*" && head.method == Method::Options {
        head.target.start_path().push('*');
        head.target.path_done();
        return Ok(());
    }
    const BAD: Reject = Reject::bad_request("request target is not valid").of(EdgeRule::Path);
    let (rest, default_port) = if let Some(rest) = strip_scheme(raw, b"http://") {
        (rest, 80)
    } else if let Some(rest) = strip_scheme(raw, b"https://") {
        (rest, 443)
    } else {
        // Authority-form belongs to CONNECT, which is no method here.
        return Err(BAD);
    };
    let end = rest
        .iter()
        .position(|b| matches!(b, b'/' | b'?' | b'#'))
        .unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let mut named = Host::default();
    sanitize::host(authority, &mut named)?;
    if host.is_some() {
        let port = |h: &Host| h.port().unwrap_or(default_port);
        if named.name() != head.host.name() || port(&named) != port(&head.host) {
            return Err(Reject::bad_request("request target and host disagree").of(EdgeRule::Host));
        }
    }
    head.host = named;
    match path.first() {
        Some(b'/') => {
            let slashes = edge.for_host(head.host.name()).escaped_slashes;
            sanitize::target(path, slashes, &mut head.target)
        }
        None if head.method == Method::Options => {
            head.target.start_path().push('*');
            head.target.path_done();
            Ok(())
        }
        None | Some(b'?') => {
            head.target.start_path().push('/');
            head.target.path_done();
            if let Some(query) = path.get(1..) {
                head.target.set_query(Some(sanitize::query(query)?));
            }
            Ok(())
        }
        Some(_) => Err(BAD),
    }
}

fn strip_scheme<'a>(raw: &'a [u8], scheme: &[u8]) -> Option<&'a [u8]> {
    let (front, rest) = raw.split_at_checked(scheme.len())?;
    front.eq_ignore_ascii_case(scheme).then_some(rest)
}

/// Puts the canonical Host first, where RFC 9110 section 7.2 wants it.
pub(crate) fn push_host(head: &mut RequestHead) -> Result<(), Reject> {
    if head.host.name().is_empty() {
        return Ok(());
    }
    let host = head.host.as_str().as_bytes();
    head.headers
        .push_parsed(b"host", host)
        .map_err(|_| Reject::header_too_large())
}

/// `100-continue` is the only expectation there is (RFC 9110 section 10.1.1). It is meaningless without a body and
/// unknown to HTTP/1.0.
pub(crate) fn read_expect(value: &[u8], head: &mut RequestHead) -> Result<(), Reject> {
    if !value.eq_ignore_ascii_case(b"100-continue") {
        return Err(Reject::bad_request("expectation is not known").of(EdgeRule::Header));
    }
    head.expects_continue = head.version != Version::Http10
        && !matches!(head.framing, Framing::Empty | Framing::Length(0));
    if head.expects_continue {
        head.headers
            .push_parsed(b"expect", b"100-continue")
            .map_err(|_| Reject::header_too_large())?;
    }
    Ok(())
}

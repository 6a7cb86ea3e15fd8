//! The edge gate's view of target and host: one normal form, or a refusal.
//!
//! What is matched is what is forwarded. A path has one spelling (RFC 3986 section 6.2.2): unreserved bytes are
//! never escaped, other escapes are in upper case, dot segments are resolved, repeated slashes are merged, and what
//! two servers might read in two ways (escaped slashes, backslashes, NUL and controls, double escapes, overlong
//! UTF-8, `..;`) is refused. A path that is normal already is copied as it stands, without allocation.
//!
//! Where a listener keeps escaped slashes, `%2F` is a character of its segment like any other. A segment that a server
//! might take apart there and find dot segments in is refused.

use super::head::Target;
use crate::h1::{EdgeRule, Reject};
use model::headers::Known;
use model::{EscapedSlashes, Headers};
use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

const BAD_PATH: Reject = Reject::bad_request("path has no safe normal form").of(EdgeRule::Path);
const BAD_QUERY: Reject = Reject::bad_request("query holds a forbidden byte").of(EdgeRule::Path);
const BAD_HOST: Reject = Reject::bad_request("host is not valid").of(EdgeRule::Host);

/// Longest host name (RFC 1035 section 2.3.4).
const MAX_HOST: usize = 253;
const MAX_LABEL: usize = 63;

/// Host and port of a request in canonical form: lower case, no trailing dot, IPv6 in its RFC 5952 form in brackets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    text: String,
    name_len: usize,
    port: Option<u16>,
}

impl Host {
    /// Without port. Empty only for an HTTP/1.0 request that names no host.
    pub fn name(&self) -> &str {
        self.text.get(..self.name_len).unwrap_or_default()
    }

    /// The port as the client wrote it; `None` when it wrote none.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// `name` or `name:port`, as it stands in a Host field.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.name_len = 0;
        self.port = None;
    }
}

/// Reads an authority as it stands in a Host field: `reg-name`, IPv4 or `[IPv6]`, then perhaps `:port`.
///
/// # Errors
/// User information, paths, commas, spaces, escapes, non-ASCII and empty names or ports are refused.
pub fn host(raw: &[u8], out: &mut Host) -> Result<(), Reject> {
    out.clear();
    let raw = std::str::from_utf8(raw).map_err(|_| BAD_HOST)?;
    let port = if let Some(rest) = raw.strip_prefix('[') {
        let (address, port) = rest.split_once(']').ok_or(BAD_HOST)?;
        let address: Ipv6Addr = address.parse().map_err(|_| BAD_HOST)?;
        write!(out.text, "[{address}]").map_err(|_| BAD_HOST)?;
        port
    } else {
        let (name, port) = raw.split_at(raw.find(':').unwrap_or(raw.len()));
        let name = name.strip_suffix('.').unwrap_or(name);
        check_name(name)?;
        out.text.push_str(name);
        out.text.make_ascii_lowercase();
        port
    };
    out.name_len = out.text.len();
    if !port.is_empty() {
        let digits = port.strip_prefix(':').ok_or(BAD_HOST)?;
        if digits.is_empty() || digits.len() > 5 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(BAD_HOST);
        }
        let port: u16 = digits.parse().map_err(|_| BAD_HOST)?;
        out.port = Some(port);
        out.text.push(':');
        out.text.push_str(itoa::Buffer::new().format(port));
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), Reject> {
    if name.is_empty() || name.len() > MAX_HOST {
        return Err(BAD_HOST);
    }
    let mut label = 0;
    let mut numeric = true; // the last label: a host that ends in a number is an IPv4 address or nothing
    for b in name.bytes() {
        match b {
            b'.' if label > 0 => {
                label = 0;
                numeric = true;
                continue;
            }
            b'0'..=b'9' => {}
            b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'_' => numeric = false,
            _ => return Err(BAD_HOST),
        }
        label += 1;
        if label > MAX_LABEL {
            return Err(BAD_HOST);
        }
    }
    if label == 0 || (numeric && name.parse::<Ipv4Addr>().is_err()) {
        return Err(BAD_HOST);
    }
    Ok(())
}

/// Splits an origin-form target and brings its path into normal form.
///
/// # Errors
/// See [`path`] and [`query`].
pub fn target(raw: &[u8], slashes: EscapedSlashes, out: &mut Target) -> Result<(), Reject> {
    let at = memchr::memchr(b'?', raw);
    let (raw_path, raw_query) = raw.split_at(at.unwrap_or(raw.len()));
    path(raw_path, slashes, out.start_path())?;
    out.path_done();
    if let Some(text) = raw_query.get(1..) {
        out.set_query(Some(query(text)?));
    }
    Ok(())
}

/// Checks a query: printable ASCII without `#`. It is forwarded byte for byte.
///
/// # Errors
/// Any other byte.
pub fn query(raw: &[u8]) -> Result<&str, Reject> {
    if !raw.iter().all(|b| matches!(b, 0x21..=0x7e) && *b != b'#') {
        return Err(BAD_QUERY);
    }
    std::str::from_utf8(raw).map_err(|_| BAD_QUERY)
}

/// Appends the normal form of an absolute path to `out`. The normal form of a normal form is itself.
///
/// # Errors
/// No leading slash; bytes that are not printable ASCII; `\`, `#`, `?`; invalid escapes; escaped backslash, control or
/// invalid UTF-8 lead byte; an escaped percent sign before two hexadecimal digits; dot segments above the root; a dot
/// segment with parameters (`..;x`); escaped slashes, unless they are kept and no dot segment is at them.
pub fn path(raw: &[u8], slashes: EscapedSlashes, out: &mut String) -> Result<(), Reject> {
    if raw.first() != Some(&b'/') {
        return Err(BAD_PATH);
    }
    if is_plain(raw) {
        out.push_str(std::str::from_utf8(raw).map_err(|_| BAD_PATH)?);
        return Ok(());
    }
    let root = out.len();
    let mut segments = raw
        .get(1..)
        .unwrap_or_default()
        .split(|b| *b == b'/')
        .peekable();
    while let Some(segment) = segments.next() {
        let start = out.len();
        out.push('/');
        decode_segment(segment, slashes, out)?;
        let text = out.get(start + 1..).unwrap_or_default();
        match text {
            "" | "." => out.truncate(start),
            ".." => {
                out.truncate(start);
                let parent = out.get(root..).and_then(|p| p.rfind('/')).ok_or(BAD_PATH)?;
                out.truncate(root + parent);
            }
            _ if text.split(SLASH).any(is_dots) => return Err(BAD_PATH),
            _ => continue,
        }
        if segments.peek().is_none() {
            out.push('/');
        }
    }
    Ok(())
}

/// An escaped slash in normal form.
const SLASH: &str = "%2F";

/// Whether a part of a segment is a dot segment, with parameters or without.
fn is_dots(part: &str) -> bool {
    let rest = part.trim_start_matches('.');
    let ends = rest.is_empty() || rest.starts_with(';') || rest.starts_with("%3B");
    ends && matches!(part.len() - rest.len(), 1 | 2)
}

/// Whether the path consists of path characters only, without escapes, empty or dot segments: the usual case.
fn is_plain(raw: &[u8]) -> bool {
    let mut before = 0;
    for b in raw {
        // A dot or slash after a slash begins something that needs a closer look.
        if !PATH[usize::from(*b)] || (before == b'/' && matches!(b, b'/' | b'.')) {
            return false;
        }
        before = *b;
    }
    true
}

/// Appends one segment with its escapes in normal form.
fn decode_segment(raw: &[u8], slashes: EscapedSlashes, out: &mut String) -> Result<(), Reject> {
    let mut rest = raw;
    while let Some((&b, after)) = rest.split_first() {
        rest = after;
        if b != b'%' {
            match b {
                b'\\' | b'#' | b'?' | 0..=0x20 | 0x7f..=0xff => return Err(BAD_PATH),
                _ if PATH[usize::from(b)] => out.push(char::from(b)),
                // Printable, but not a path character: it has one spelling too.
                _ => push_escape(b, out),
            }
            continue;
        }
        let (byte, after) = escape(rest).ok_or(BAD_PATH)?;
        rest = after;
        match byte {
            b'/' if slashes == EscapedSlashes::Keep => push_escape(b'/', out),
            0..=0x1f | 0x7f | b'/' | b'\\' => return Err(BAD_PATH),
            b'%' if escaped_again(rest) => return Err(BAD_PATH),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte))
            }
            0xc0 | 0xc1 | 0xf5..=0xff => return Err(BAD_PATH), // never in UTF-8; overlong forms begin with C0, C1
            0xe0 | 0xf0 if overlong(byte, rest) => return Err(BAD_PATH),
            _ => push_escape(byte, out),
        }
    }
    Ok(())
}

/// The byte that two hexadecimal digits at the front of `text` stand for, and what follows them.
fn escape(text: &[u8]) -> Option<(u8, &[u8])> {
    let (&[high, low], rest) = text.split_first_chunk()?;
    let digit = |b: u8| char::from(b).to_digit(16);
    Some(((digit(high)? * 16 + digit(low)?) as u8, rest))
}

/// Whether an escaped percent sign is followed by what a second decoder would take for an escape.
fn escaped_again(rest: &[u8]) -> bool {
    // Digits may themselves be escaped: %25%32%66 is %2f after one decoding and a slash after two.
    let mut rest = rest;
    for _ in 0..2 {
        let Some((&first, after)) = rest.split_first() else {
            return false;
        };
        let digit = if first == b'%' {
            let Some((byte, after)) = escape(after) else {
                return false;
            };
            rest = after;
            byte
        } else {
            rest = after;
            first
        };
        if !digit.is_ascii_hexdigit() {
            return false;
        }
    }
    true
}

/// Whether the escaped UTF-8 lead byte begins a sequence longer than its character needs.
fn overlong(lead: u8, rest: &[u8]) -> bool {
    let next = rest.strip_prefix(b"%").and_then(escape).map(|(b, _)| b);
    match lead {
        0xe0 => matches!(next, Some(0x80..=0x9f)),
        _ => matches!(next, Some(0x80..=0x8f)),
    }
}

fn push_escape(b: u8, out: &mut String) {
    const HEX: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F',
    ];
    out.push('%');
    out.push(HEX[usize::from(b >> 4)]);
    out.push(HEX[usize::from(b & 15)]);
}

/// Bytes that may stand in a path as they are: `pchar` of RFC 3986 without escapes, and the slash.
const PATH: [bool; 256] = {
    let mut table = [false; 256];
    let mut b = 0;
    while b < 256 {
        table[b] = matches!(b as u8, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'!' | b'$'
            | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@' | b'/');
        b += 1;
    }
    table
};

/// Removes the fields that only we may set, or that a trusted proxy in front of us may.
///
/// Always gone: `x-diolkos-*`, except the client's own `x-diolkos-token`. Gone unless `trust_forwarded`:
/// `forwarded`, `x-forwarded-*`, `x-real-ip` and the client-certificate fields of RFC 9440.
pub fn client_headers(headers: &mut Headers, trust_forwarded: bool) {
    headers.remove_known(Known::XDiolkos);
    if !trust_forwarded {
        forwarded_headers(headers);
    }
}

/// Removes what a proxy in front of us may say about its client.
pub fn forwarded_headers(headers: &mut Headers) {
    for known in FORWARDED {
        headers.remove_known(known);
    }
}

const FORWARDED: [Known; 10] = [
    Known::Forwarded,
    Known::XForwarded,
    Known::XForwardedFor,
    Known::XForwardedHost,
    Known::XForwardedPort,
    Known::XForwardedPrefix,
    Known::XForwardedProto,
    Known::XRealIp,
    Known::ClientCert,
    Known::ClientCertChain,
];

#[cfg(test)]
#[path = "sanitize_tests.rs"]
mod tests;

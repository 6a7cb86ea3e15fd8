//! What requests and answers share: where a head ends, which fields belong to the connection, and framing.

use super::{EdgeRule, MAX_FIELDS, MAX_HEAD, Reject};
use memchr::{memchr, memchr_iter};
use model::headers::Known;
use model::{Headers, Underscores};

/// Finds the end of a head as bytes arrive, looking at each byte once.
#[derive(Clone, Copy, Debug)]
pub struct HeadEnd {
    /// First byte not looked at yet.
    at: usize,
    /// Where the current line begins.
    line: usize,
    /// Bytes that a head may have.
    max: usize,
}

impl Default for HeadEnd {
    fn default() -> Self {
        Self::within(MAX_HEAD)
    }
}

impl HeadEnd {
    /// For heads of at most `max` bytes.
    pub fn within(max: usize) -> Self {
        Self {
            at: 0,
            line: 0,
            max: max.min(MAX_HEAD),
        }
    }

    /// Whether nothing has been looked at: the head may be here as a whole.
    pub fn is_new(&self) -> bool {
        self.at == 0
    }

    /// Whether [`Self::find`] would find the end of `head` where a parser has found it that also takes a bare LF for
    /// the end of a line, and takes CR nowhere else. `fields`: how many it has found.
    pub fn agrees(&self, head: &[u8], fields: usize) -> bool {
        // The first line and the empty one.
        head.len() <= self.max && memchr_iter(b'\r', head).count() == fields + 2
    }

    /// The length of the head at the front of `text`, its empty line included; `None` when more must come.
    ///
    /// # Errors
    /// A line that does not end in CR LF, or a head that is too large.
    pub fn find(&mut self, text: &[u8]) -> Result<Option<usize>, Reject> {
        while let Some(n) = memchr(b'\n', text.get(self.at..).unwrap_or_default()) {
            let end = self.at + n;
            if end == self.line || text.get(end - 1) != Some(&b'\r') {
                return Err(Reject::bad_request("line does not end in CR LF"));
            }
            let empty = end == self.line + 1;
            self.at = end + 1;
            self.line = end + 1;
            if self.at > self.max {
                return Err(Reject::header_too_large());
            }
            if empty {
                return Ok(Some(self.at));
            }
        }
        self.at = text.len();
        if self.at > self.max {
            return Err(Reject::header_too_large());
        }
        Ok(None)
    }

    /// Whether the first line has not ended yet.
    pub fn in_first_line(&self) -> bool {
        self.line == 0
    }
}

// Each has its bit in a `Control`.
const _: () = assert!(MAX_FIELDS <= u128::BITS as usize);

/// Names that a `Connection` field may list in one head; more is an attack, not a client.
const MAX_NOMINATED: usize = 32;

/// What the fields of one head say about connection and framing.
#[derive(Debug, Default)]
pub struct Control<'a> {
    /// `Connection: close`
    pub close: bool,
    /// `Connection: keep-alive`
    pub keep_alive: bool,
    /// `Content-Length`
    pub length: Option<u64>,
    /// `Transfer-Encoding: chunked`
    pub chunked: bool,
    pub host: Option<&'a [u8]>,
    pub expect: Option<&'a [u8]>,
    /// `Connection: upgrade`
    pub upgrade: bool,
    nominated: bool,
    /// A bit for each field of the head, from the first on: whether it is end-to-end.
    end_to_end: u128,
}

impl Control<'_> {
    /// Judges the fields by their names.
    ///
    /// # Errors
    /// See [`admits`].
    pub fn admit(
        &mut self,
        fields: &[httparse::Header<'_>],
        underscores: Underscores,
    ) -> Result<(), Reject> {
        for (i, f) in fields.iter().enumerate() {
            if !admits(f.name, underscores)? {
                self.end_to_end &= !(1 << i);
            }
        }
        Ok(())
    }
}

/// How the codec treats a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    EndToEnd,
    HopByHop,
    Connection,
    Length,
    Coding,
    Host,
    Expect,
}

/// Classifies a name in any case. A switch on the length leaves one comparison for almost every field.
pub(crate) fn class(name: &str) -> Class {
    let is = |s: &str| name.eq_ignore_ascii_case(s);
    match name.len() {
        2 if is("te") => Class::HopByHop,
        4 if is("host") => Class::Host,
        6 if is("expect") => Class::Expect,
        7 if is("trailer") || is("upgrade") => Class::HopByHop,
        10 if is("connection") => Class::Connection,
        10 if is("keep-alive") => Class::HopByHop,
        14 if is("content-length") => Class::Length,
        16 if is("proxy-connection") => Class::HopByHop,
        17 if is("transfer-encoding") => Class::Coding,
        18 if is("proxy-authenticate") => Class::HopByHop,
        19 if is("proxy-authorization") => Class::HopByHop,
        _ => Class::EndToEnd,
    }
}

/// Reads the control fields of a head.
///
/// # Errors
/// Anything that leaves doubt about the framing or names the connection in a way that is not a list of tokens.
pub fn control<'a>(fields: &[httparse::Header<'a>]) -> Result<Control<'a>, Reject> {
    let mut c = Control::default();
    let mut nominated = 0;
    let mut codings = 0;
    for (i, f) in fields.iter().enumerate() {
        match class(f.name) {
            Class::EndToEnd => c.end_to_end |= 1 << i,
            Class::HopByHop => {}
            Class::Connection => {
                for option in options(f.value) {
                    if option.eq_ignore_ascii_case(b"close") {
                        c.close = true;
                    } else if option.eq_ignore_ascii_case(b"keep-alive") {
                        c.keep_alive = true;
                    } else if option.eq_ignore_ascii_case(b"upgrade") {
                        c.upgrade = true;
                    } else if option.is_empty() {
                        // Empty list elements are allowed (RFC 9110 section 5.6.1.2).
                    } else if !model::headers::is_token(option) || is_framing(option) {
                        return Err(Reject::bad_request("connection option is not allowed")
                            .of(EdgeRule::Header));
                    } else {
                        nominated += 1;
                    }
                }
            }
            Class::Length => {
                if c.length.is_some() {
                    return Err(Reject::bad_request("content-length is repeated"));
                }
                c.length = Some(length(f.value)?);
            }
            Class::Coding => {
                codings += 1;
                if codings > 1 {
                    return Err(Reject::bad_request("transfer-encoding is repeated"));
                }
                if !f.value.eq_ignore_ascii_case(b"chunked") {
                    return Err(if model::headers::is_token(f.value) {
                        Reject::unsupported_coding()
                    } else {
                        Reject::bad_request("transfer-encoding is not exactly chunked")
                    });
                }
                c.chunked = true;
            }
            Class::Host => {
                if c.host.replace(f.value).is_some() {
                    return Err(Reject::bad_request("host is repeated").of(EdgeRule::Host));
                }
            }
            Class::Expect => {
                if c.expect.replace(f.value).is_some() {
                    return Err(Reject::bad_request("expect is repeated").of(EdgeRule::Header));
                }
            }
        }
    }
    if nominated > MAX_NOMINATED {
        return Err(Reject::bad_request("too many connection options").of(EdgeRule::Header));
    }
    c.nominated = nominated > 0;
    if c.chunked && c.length.is_some() {
        return Err(Reject::bad_request(
            "both content-length and transfer-encoding",
        ));
    }
    Ok(c)
}

/// Copies the end-to-end fields of the head `text`: all but those that belong to the connection or are named by it,
/// and but the framing. `Host` and `Expect` are left to the caller.
///
/// # Errors
/// More or larger fields than [`Headers`] takes.
pub fn copy_end_to_end(
    text: &[u8],
    fields: &[httparse::Header<'_>],
    control: &Control<'_>,
    out: &mut Headers,
) -> Result<(), Reject> {
    for (i, f) in fields.iter().enumerate() {
        let end_to_end = control.end_to_end >> i & 1 == 1;
        if !end_to_end || (control.nominated && is_nominated(fields, f.name)) {
            continue;
        }
        let pushed = match line(text, f) {
            Some(line) => out.push_line(line, f.name.len()),
            None => out.push_parsed(f.name.as_bytes(), f.value),
        };
        pushed.map_err(|_| Reject::header_too_large())?;
    }
    Ok(())
}

/// The line of a field in its head, where it stands there as we write it.
fn line<'a>(text: &'a [u8], f: &httparse::Header<'_>) -> Option<&'a [u8]> {
    let from = text.get(f.name.as_ptr().addr().checked_sub(text.as_ptr().addr())?..)?;
    let value = from.get(f.name.len()..)?.strip_prefix(b": ")?;
    // Other white space, or none, and the value stands elsewhere.
    let plain =
        value.as_ptr() == f.value.as_ptr() && value.get(f.value.len()..)?.starts_with(b"\r\n");
    let len = f.name.len() + ": ".len() + f.value.len() + "\r\n".len();
    from.get(..len).filter(|_| plain)
}

/// Whether a request's field of this name is taken; `false`: it is left out. Some servers read `_` as `-`, some
/// configuration languages read `.` as a path: both make alias names.
///
/// # Errors
/// A name that may be taken for another.
pub(crate) fn admits(name: &str, underscores: Underscores) -> Result<bool, Reject> {
    if !has_alias_bytes(name) {
        return Ok(true);
    }
    if underscores == Underscores::Reject || name.contains('.') {
        return Err(Reject::bad_request("header name holds _ or .").of(EdgeRule::Header));
    }
    let keeps = underscores == Underscores::Keep;
    if keeps && Dashed::of(name).is_ours() {
        return Err(
            Reject::bad_request("header name with _ is one of ours with -").of(EdgeRule::Header),
        );
    }
    Ok(keeps)
}

/// The beginning of a name in lower case, with `-` in the place of `_`. All names that are compared with it are shorter.
pub(crate) struct Dashed {
    bytes: [u8; 32],
    len: usize,
}

impl Dashed {
    pub(crate) fn of(name: &str) -> Self {
        let mut bytes = [0; 32];
        let mut len = 0;
        for (slot, b) in bytes.iter_mut().zip(name.bytes()) {
            *slot = if b == b'_' {
                b'-'
            } else {
                b.to_ascii_lowercase()
            };
            len += 1;
        }
        Self { bytes, len }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Whether it is one that the gateway itself reads, removes or writes.
    fn is_ours(&self) -> bool {
        let name = self.as_bytes();
        Known::of(name) != Known::Other || name.starts_with(b"sec-websocket-")
    }
}

/// Whether a name holds `_` or `.`. Of eight bytes at a time, as all names of all requests are looked at.
fn has_alias_bytes(name: &str) -> bool {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const fn has(word: u64, byte: u8) -> bool {
        let zero = word ^ (ONES * byte as u64);
        zero.wrapping_sub(ONES) & !zero & (ONES << 7) != 0
    }
    let (words, rest) = name.as_bytes().as_chunks();
    let mut words = words.iter().map(|w| u64::from_ne_bytes(*w));
    words.any(|w| has(w, b'_') || has(w, b'.')) || rest.iter().any(|b| matches!(b, b'_' | b'.'))
}

fn options(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b',').map(|o| o.trim_ascii())
}

fn is_nominated(fields: &[httparse::Header<'_>], name: &str) -> bool {
    fields
        .iter()
        .filter(|f| class(f.name) == Class::Connection)
        .flat_map(|f| options(f.value))
        .any(|o| o.eq_ignore_ascii_case(name.as_bytes()))
}

/// Fields that no `Connection` field may take away: the message would mean something else without them.
fn is_framing(option: &[u8]) -> bool {
    [&b"host"[..], b"content-length", b"transfer-encoding"]
        .iter()
        .any(|n| option.eq_ignore_ascii_case(n))
}

/// A `Content-Length`: digits only, no superfluous zero, below 2^63.
pub(crate) fn length(value: &[u8]) -> Result<u64, Reject> {
    const BAD: Reject = Reject::bad_request("content-length is not a plain number");
    if value.is_empty() || value.len() > 19 || (value.len() > 1 && value.first() == Some(&b'0')) {
        return Err(BAD);
    }
    let mut n = 0u64;
    for b in value {
        if !b.is_ascii_digit() {
            return Err(BAD);
        }
        n = n * 10 + u64::from(b - b'0'); // 19 digits fit
    }
    if n > i64::MAX as u64 { Err(BAD) } else { Ok(n) }
}

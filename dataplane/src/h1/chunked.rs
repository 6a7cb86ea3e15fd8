//! The chunked transfer coding (RFC 9112 section 7.1), read strictly.
//!
//! Size lines are judged as soon as their bytes are there, not only when they are complete, so that a wrong byte is
//! refused at once. Extensions must be well-formed, are at most [`MAX_EXTENSION`] bytes a chunk, and are dropped.

use super::fields::Dashed;
use super::{EdgeRule, MAX_TRAILER_FIELDS, MAX_TRAILERS, Reject};
use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem;
use model::headers::Known;
use model::{Headers, Underscores};

/// Bytes of all extensions of one chunk.
pub const MAX_EXTENSION: usize = 256;
/// Digits of a chunk size.
const MAX_DIGITS: usize = 16;

/// Reads one chunked body.
#[derive(Debug)]
pub struct Chunked {
    state: State,
    names: TrailerNames,
    trailers: Option<Box<Headers>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before a size line.
    Size,
    /// Within a chunk: bytes to come, at least one.
    Data(u64),
    /// Before the CR LF that follows a chunk's data.
    DataEnd,
    /// Behind the last chunk.
    Trailers,
    Done,
}

/// What [`Chunked::next`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes of the body, at least one.
    Data(Bytes),
    /// The body and its trailers are complete.
    End,
    /// More bytes must come.
    More,
}

impl Chunked {
    pub fn new(names: TrailerNames) -> Self {
        Self {
            state: State::Size,
            names,
            trailers: None,
        }
    }

    /// Takes the next piece from the front of `buf`.
    ///
    /// # Errors
    /// Everything that is not exactly the grammar; the body is lost then and the connection must be closed.
    pub fn next(&mut self, buf: &mut BytesMut) -> Result<Piece, Reject> {
        loop {
            match self.state {
                State::Size => match size_line(buf)? {
                    None => return Ok(Piece::More),
                    Some((len, size)) => {
                        buf.advance(len);
                        self.state = if size == 0 {
                            State::Trailers
                        } else {
                            State::Data(size)
                        };
                    }
                },
                State::Data(left) => {
                    if buf.is_empty() {
                        return Ok(Piece::More);
                    }
                    let n = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
                    let left = left - n as u64;
                    self.state = if left == 0 {
                        State::DataEnd
                    } else {
                        State::Data(left)
                    };
                    return Ok(Piece::Data(buf.split_to(n).freeze()));
                }
                State::DataEnd => {
                    if !b"\r\n".starts_with(buf.get(..2).unwrap_or(buf)) {
                        return Err(Reject::bad_request("chunk data is not followed by CR LF"));
                    }
                    if buf.len() < 2 {
                        return Ok(Piece::More);
                    }
                    buf.advance(2);
                    self.state = State::Size;
                }
                State::Trailers => match trailer_section(buf, self.names, &mut self.trailers)? {
                    None => return Ok(Piece::More),
                    Some(len) => {
                        buf.advance(len);
                        self.state = State::Done;
                    }
                },
                State::Done => return Ok(Piece::End),
            }
        }
    }

    /// Whether the last byte has been taken.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The trailers, filtered; at most once, after the end.
    pub fn take_trailers(&mut self) -> Option<Box<Headers>> {
        self.trailers.take()
    }
}

/// The size line at the front of `b`: its length and the size it states; `None` when it is incomplete.
fn size_line(b: &[u8]) -> Result<Option<(usize, u64)>, Reject> {
    const BAD: Reject = Reject::bad_request("chunk size is not valid");
    let mut size = 0u64;
    let mut digits = 0;
    for c in b {
        let Some(d) = char::from(*c).to_digit(16) else {
            break;
        };
        digits += 1;
        if digits > MAX_DIGITS {
            return Err(BAD);
        }
        size = (size << 4) | u64::from(d); // 16 digits fit
    }
    let Some(rest) = b.get(digits..).filter(|r| !r.is_empty()) else {
        return Ok(None);
    };
    if digits == 0 || size > i64::MAX as u64 {
        return Err(BAD);
    }
    let Some(extension) = extension(rest)? else {
        return Ok(None);
    };
    match rest.get(extension..).unwrap_or_default() {
        [b'\r', b'\n', ..] => Ok(Some((digits + extension + 2, size))),
        [b'\r'] | [] => Ok(None),
        _ => Err(BAD),
    }
}

/// The length of the chunk extensions at the front of `b`, which ends before a CR; `None` when they are incomplete.
/// Grammar: `*( ";" token [ "=" ( token / quoted-string ) ] )`, without the white space that RFC 9112 calls bad.
fn extension(b: &[u8]) -> Result<Option<usize>, Reject> {
    const BAD: Reject = Reject::bad_request("chunk extension is not valid");
    #[derive(PartialEq)]
    enum At {
        Start,
        NameStart,
        Name,
        ValueStart,
        Token,
        Quoted,
        Escaped,
        Closed,
    }
    let mut at = At::Start;
    for (i, c) in b.iter().enumerate() {
        let token = model::headers::is_token(std::slice::from_ref(c));
        at = match (at, c) {
            (At::Start | At::Name | At::Token | At::Closed, b'\r') => return Ok(Some(i)),
            (At::Start | At::Name | At::Token | At::Closed, b';') => At::NameStart,
            (At::NameStart | At::Name, _) if token => At::Name,
            (At::Name, b'=') => At::ValueStart,
            (At::ValueStart, b'"') => At::Quoted,
            (At::ValueStart | At::Token, _) if token => At::Token,
            (At::Quoted, b'"') => At::Closed,
            (At::Quoted, b'\\') => At::Escaped,
            (At::Quoted | At::Escaped, b'\t' | b' '..=b'~' | 0x80..) => At::Quoted,
            _ => return Err(BAD),
        };
        if i >= MAX_EXTENSION {
            return Err(Reject::bad_request("chunk extension is too long"));
        }
    }
    Ok(None)
}

/// Reads the trailer section at the front of `b`; its length, or `None` when it is incomplete.
fn trailer_section(
    b: &[u8],
    names: TrailerNames,
    out: &mut Option<Box<Headers>>,
) -> Result<Option<usize>, Reject> {
    match b {
        [b'\r', b'\n', ..] => return Ok(Some(2)), // the usual case: no trailers
        [] | [b'\r'] => return Ok(None),
        _ => {}
    }
    let section = b.get(..MAX_TRAILERS).unwrap_or(b);
    let Some(len) = memmem::find(section, b"\r\n\r\n").map(|n| n + 4) else {
        if b.len() >= MAX_TRAILERS {
            return Err(Reject::header_too_large());
        }
        return check_line_ends(b).map(|()| None);
    };
    let section = b.get(..len).unwrap_or_default();
    check_line_ends(section)?;
    let mut slots = [httparse::EMPTY_HEADER; MAX_TRAILER_FIELDS];
    let fields = match httparse::parse_headers(section, &mut slots) {
        Ok(httparse::Status::Complete((n, fields))) if n == len => fields,
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Reject::header_too_large().of(EdgeRule::HeaderCount));
        }
        _ => return Err(Reject::bad_request("trailer section is not valid")),
    };
    let list = out.get_or_insert_default();
    for f in fields {
        match trailer_kind(f.name, names) {
            TrailerKind::Pass => list
                .push_parsed(f.name.as_bytes(), f.value)
                .map_err(|_| Reject::header_too_large())?,
            TrailerKind::Drop => {}
            TrailerKind::Refuse => {
                return Err(Reject::bad_request("trailer would change the framing"));
            }
        }
    }
    Ok(Some(len))
}

fn check_line_ends(b: &[u8]) -> Result<(), Reject> {
    for at in memchr::memchr_iter(b'\n', b) {
        if at == 0 || b.get(at - 1) != Some(&b'\r') {
            return Err(Reject::bad_request("line does not end in CR LF"));
        }
    }
    Ok(())
}

/// Which names trailers may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrailerNames {
    /// None with `_` or `.`.
    Plain,
    /// None with `.`.
    WithUnderscores,
    /// All: an answer's. Its head may have them too, and gRPC's metadata has.
    Any,
}

impl TrailerNames {
    /// Those of requests.
    pub fn of_requests(underscores: Underscores) -> Self {
        match underscores {
            Underscores::Keep => Self::WithUnderscores,
            Underscores::Reject | Underscores::Drop => Self::Plain,
        }
    }
}

/// What becomes of a trailer field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TrailerKind {
    Pass,
    Drop,
    Refuse,
}

/// What may be a trailer (RFC 9110 section 6.5.1): nothing that frames, routes, authenticates, conditions or
/// describes the body. Fields that could only be an attempt at smuggling refuse the message.
pub(crate) fn trailer_kind(name: &str, names: TrailerNames) -> TrailerKind {
    let has_underscore = name.contains('_');
    let is_let_in = match names {
        TrailerNames::Plain => !has_underscore && !name.contains('.'),
        TrailerNames::WithUnderscores => !name.contains('.'),
        TrailerNames::Any => true,
    };
    if !is_let_in {
        return TrailerKind::Drop;
    }
    let dashed = Dashed::of(name);
    let lower = dashed.as_bytes();
    match Known::of(lower) {
        known if has_underscore && known != Known::Other => TrailerKind::Drop,
        Known::Host | Known::ContentLength | Known::TransferEncoding => TrailerKind::Refuse,
        k if k.is_hop_by_hop() || k.is_secret() => TrailerKind::Drop,
        Known::ContentType
        | Known::ContentEncoding
        | Known::ContentRange
        | Known::Expect
        | Known::Forwarded
        | Known::Location
        | Known::MaxForwards
        | Known::Date
        | Known::XRealIp => TrailerKind::Drop,
        _ if lower.starts_with(b"x-forwarded-")
            || lower.starts_with(b"x-diolkos-")
            || lower.starts_with(b"if-")
            || matches!(
                lower,
                b"range"
                    | b"cache-control"
                    | b"pragma"
                    | b"vary"
                    | b"age"
                    | b"expires"
                    | b"allow"
                    | b"retry-after"
                    | b"www-authenticate"
                    | b"authentication-info"
                    | b"content-disposition"
            ) =>
        {
            TrailerKind::Drop
        }
        _ => TrailerKind::Pass,
    }
}

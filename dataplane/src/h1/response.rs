//! Answer heads from upstreams: from bytes to a [`ResponseHead`], or a protocol error.

use super::fields::{self, HeadEnd};
use super::{MAX_FIELDS, Reject, upgrade};
use crate::engine::head::{Framing, ResponseHead, Version};
use std::mem::MaybeUninit;

/// The parts of an answer head that concern this connection only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// Bytes of the head.
    pub len: usize,
    /// The upstream keeps the connection for another request.
    pub keep_alive: bool,
    /// How the body of *this* answer is framed: empty for HEAD, 1xx, 204 and 304 whatever the fields say.
    pub body: Framing,
}

/// Reads answer heads of one exchange as bytes arrive.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResponseParser {
    end: HeadEnd,
}

impl ResponseParser {
    /// Reads the head at the front of `text` into `head`; `None` when more bytes must come. `to_head` says that the
    /// request was HEAD. After `Some` or an error the parser is spent.
    ///
    /// # Errors
    /// The reason in words, when this is not exactly one answer in the strict reading of RFC 9112.
    pub fn parse(
        &mut self,
        text: &[u8],
        to_head: bool,
        head: &mut ResponseHead,
    ) -> Result<Option<Parsed>, &'static str> {
        if !b"HTTP/1.".starts_with(text.get(..7).unwrap_or(text)) {
            return Err("not an HTTP/1 answer");
        }
        let mut slots = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        // As with requests: almost always it is here as a whole.
        if self.end.is_new()
            && let Ok((len, response)) = split(text, &mut slots)
            && let Some(whole) = text.get(..len)
            && self.end.agrees(whole, response.headers.len())
        {
            return read(whole, &response, to_head, head).map(Some);
        }
        let Some(len) = self.end.find(text).map_err(reason)? else {
            return Ok(None);
        };
        let whole = text.get(..len).unwrap_or_default();
        let mut slots = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        match split(whole, &mut slots)? {
            (n, response) if n == len => read(whole, &response, to_head, head).map(Some),
            _ => Err(INVALID),
        }
    }
}

const INVALID: &str = "answer head is not valid";

fn reason(reject: Reject) -> &'static str {
    reject.reason
}

type Slots<'t> = [MaybeUninit<httparse::Header<'t>>; MAX_FIELDS];

/// Splits the head at the front of `text`; with its length.
fn split<'s, 't>(
    text: &'t [u8],
    slots: &'s mut Slots<'t>,
) -> Result<(usize, httparse::Response<'s, 't>), &'static str> {
    let mut response = httparse::Response::new(&mut []);
    let parser = httparse::ParserConfig::default();
    match parser.parse_response_with_uninit_headers(&mut response, text, slots) {
        Ok(httparse::Status::Complete(len)) => Ok((len, response)),
        _ => Err(INVALID),
    }
}

/// Reads a head that has been split.
fn read(
    text: &[u8],
    response: &httparse::Response<'_, '_>,
    to_head: bool,
    head: &mut ResponseHead,
) -> Result<Parsed, &'static str> {
    let (Some(status), Some(version)) = (response.code, response.version) else {
        return Err("answer head is not complete");
    };
    let fields: &[httparse::Header<'_>] = response.headers;
    if !(100..=999).contains(&status) {
        return Err("status is out of range");
    }
    let is_http10 = version == 0;
    let control = fields::control(fields).map_err(reason)?;
    if control.chunked && is_http10 {
        return Err("transfer-encoding in an HTTP/1.0 answer");
    }
    head.status = status;
    head.version = if is_http10 {
        Version::Http10
    } else {
        Version::Http11
    };
    head.headers.clear();
    head.upgrade = if control.upgrade && matches!(status, 101 | 426) {
        upgrade::answered(fields)
    } else {
        None
    };
    head.framing = match (control.chunked, control.length) {
        (true, _) => Framing::Chunked,
        (_, Some(n)) => Framing::Length(n),
        _ => Framing::UntilClose,
    };
    let bodiless = to_head || status < 200 || matches!(status, 204 | 304);
    // A body that must not be there may still come: then this connection is not used again.
    let odd = matches!(status, 100..=199 | 204)
        && !matches!(head.framing, Framing::UntilClose | Framing::Length(0));
    let body = if bodiless {
        Framing::Empty
    } else {
        head.framing
    };
    fields::copy_end_to_end(text, fields, &control, &mut head.headers).map_err(reason)?;
    Ok(Parsed {
        len: text.len(),
        keep_alive: !control.close
            && (!is_http10 || control.keep_alive)
            && body != Framing::UntilClose
            && !odd,
        body,
    })
}

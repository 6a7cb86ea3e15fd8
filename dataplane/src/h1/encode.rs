//! Writing messages: heads and framing anew from their parsed form.

use crate::engine::date;
use crate::engine::head::{Framing, Method, RequestHead, ResponseHead};
use crate::engine::outbox::Outbox;
use bytes::Bytes;
use model::Headers;
use model::headers::Known;

/// Writes one body in the framing that its head announced.
#[derive(Debug, Default)]
pub enum Encoder {
    /// No body: what is written to it is dropped (the answer to HEAD, 1xx, 204, 304), or the body is complete.
    #[default]
    Nothing,
    /// Exactly so many bytes more.
    Length(u64),
    Chunked,
    /// Ends with the connection.
    UntilClose,
}

/// A body that is longer or shorter than its head announced. The connection is lost then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("body does not have the length that its head announced")]
pub struct LengthMismatch;

impl Encoder {
    /// Appends a piece of the body.
    ///
    /// # Errors
    /// More bytes than announced; nothing is written then.
    pub fn data(&mut self, data: Bytes, out: &mut Outbox) -> Result<(), LengthMismatch> {
        if data.is_empty() {
            return Ok(()); // an empty chunk would be the last
        }
        match self {
            Self::Nothing => {}
            Self::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(LengthMismatch)?;
                out.push(data);
            }
            Self::Chunked => {
                hex_line(data.len(), out.end());
                out.push(data);
                out.end().extend_from_slice(b"\r\n");
            }
            Self::UntilClose => out.push(data),
        }
        Ok(())
    }

    /// Ends the body. Trailers are written where the framing has room for them, else dropped.
    ///
    /// # Errors
    /// Fewer bytes than announced.
    pub fn end(
        &mut self,
        trailers: Option<&Headers>,
        out: &mut Outbox,
    ) -> Result<(), LengthMismatch> {
        match self {
            Self::Length(left) if *left > 0 => return Err(LengthMismatch),
            Self::Chunked => {
                let out = out.end();
                out.extend_from_slice(b"0\r\n");
                if let Some(trailers) = trailers {
                    trailers.write_end_to_end(out);
                }
                out.extend_from_slice(b"\r\n");
            }
            _ => {}
        }
        *self = Self::Nothing;
        Ok(())
    }
}

fn hex_line(n: usize, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0u8; 18];
    let mut at = text.len() - 2;
    text[at] = b'\r';
    text[at + 1] = b'\n';
    let mut n = n;
    loop {
        at -= 1;
        text[at] = DIGITS[n & 15];
        n >>= 4;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&text[at..]);
}

fn decimal(n: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
}

fn length_line(n: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"content-length: ");
    decimal(n, out);
    out.extend_from_slice(b"\r\n");
}

const CHUNKED_LINE: &[u8] = b"transfer-encoding: chunked\r\n";

/// Writes a request head, always as HTTP/1.1.
pub fn request(head: &RequestHead, out: &mut Vec<u8>) -> Encoder {
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(head.target.as_str().as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    if !head.headers.contains_known(Known::Host) {
        out.extend_from_slice(b"host: \r\n"); // HTTP/1.1 demands the field, RFC 9112 section 3.2 allows it empty
    }
    head.headers.write_end_to_end(out);
    let encoder = match head.framing {
        Framing::Empty => {
            // Methods that a body is expected of; some servers answer 411 without (RFC 9110 section 8.6).
            if matches!(head.method, Method::Post | Method::Put | Method::Patch) {
                length_line(0, out);
            }
            Encoder::Nothing
        }
        Framing::Length(n) => {
            length_line(n, out);
            Encoder::Length(n)
        }
        Framing::Chunked | Framing::UntilClose => {
            out.extend_from_slice(CHUNKED_LINE);
            Encoder::Chunked
        }
    };
    upgrade_lines(head.upgrade.as_deref(), out);
    out.extend_from_slice(b"\r\n");
    encoder
}

fn upgrade_lines(protocols: Option<&str>, out: &mut Vec<u8>) {
    if let Some(protocols) = protocols {
        out.extend_from_slice(b"connection: upgrade\r\nupgrade: ");
        out.extend_from_slice(protocols.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// What an answer head depends on besides itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerTo {
    /// The request was HEAD.
    pub head: bool,
    /// The client speaks HTTP/1.0.
    pub http10: bool,
    /// The connection ends after this answer.
    pub close: bool,
}

/// Writes the head of a final answer.
///
/// An unknown length becomes chunked for HTTP/1.1 and ends with the connection for HTTP/1.0: such an answer must be
/// written with `close`.
pub fn answer(head: &ResponseHead, to: AnswerTo, out: &mut Vec<u8>) -> Encoder {
    first_lines(head, out);
    let encoder = match head.framing {
        _ if head.status == 204 => Encoder::Nothing,
        Framing::Length(n) => {
            length_line(n, out);
            Encoder::Length(n)
        }
        _ if to.head || head.status == 304 => Encoder::Nothing,
        Framing::Empty => {
            length_line(0, out);
            Encoder::Nothing
        }
        _ if to.http10 => Encoder::UntilClose,
        _ => {
            out.extend_from_slice(CHUNKED_LINE);
            Encoder::Chunked
        }
    };
    if to.close {
        out.extend_from_slice(b"connection: close\r\n");
    }
    upgrade_lines(head.upgrade.as_deref(), out);
    out.extend_from_slice(b"\r\n");
    if to.head || head.status == 304 {
        Encoder::Nothing
    } else {
        encoder
    }
}

/// Writes the head of an answer that switches protocols; raw bytes follow it.
pub fn switching(head: &ResponseHead, out: &mut Vec<u8>) -> Encoder {
    first_lines(head, out);
    upgrade_lines(head.upgrade.as_deref(), out);
    out.extend_from_slice(b"\r\n");
    Encoder::UntilClose
}

/// Status, fields and date of a final answer.
fn first_lines(head: &ResponseHead, out: &mut Vec<u8>) {
    status_line(head.status, out);
    head.headers.write_end_to_end(out);
    if !head.headers.contains_known(Known::Date) {
        out.extend_from_slice(b"date: ");
        out.extend_from_slice(&date::now());
        out.extend_from_slice(b"\r\n");
    }
}

/// Writes an informational (1xx) head.
pub fn informational(head: &ResponseHead, out: &mut Vec<u8>) {
    status_line(head.status, out);
    head.headers.write_end_to_end(out);
    out.extend_from_slice(b"\r\n");
}

fn status_line(status: u16, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    decimal(u64::from(status), out);
    out.push(b' ');
    out.extend_from_slice(reason(status).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// The registered reason phrase; empty for an unregistered status.
pub fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        207 => "Multi-Status",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        423 => "Locked",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

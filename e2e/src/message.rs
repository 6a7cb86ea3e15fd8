//! HTTP/1.1 messages on a blocking socket, as little as tests need and nothing tolerated: shared by the test client and the echo
//! backend. It is written apart from the gateway's own codec on purpose, so that the two cannot share a mistake.

use std::io::{self, BufRead, Read};

/// Longest start line or header line read, in bytes.
const MAX_LINE: u64 = 64 * 1024;
/// Most header or trailer lines read.
const MAX_LINES: usize = 512;
/// Largest body read, in bytes.
pub const MAX_BODY: u64 = 64 * 1024 * 1024;

/// Header fields in the order and spelling in which they stood on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(pub Vec<(String, String)>);

impl Fields {
    /// The first value of a field, by its name in any case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
    }

    /// Every value of a field, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
    }

    /// Whether a comma-separated field lists a token, in any case.
    pub fn lists(&self, name: &str, token: &str) -> bool {
        self.all(name)
            .any(|v| v.split(',').any(|t| t.trim().eq_ignore_ascii_case(token)))
    }
}

/// How long a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// No body follows.
    Empty,
    /// So many bytes.
    Length(u64),
    /// Chunked transfer coding, with trailers.
    Chunked,
    /// Until the peer closes (answers only).
    UntilClose,
}

impl Framing {
    /// Framing of a request with these fields.
    pub fn of_request(fields: &Fields) -> io::Result<Self> {
        if fields.lists("transfer-encoding", "chunked") {
            return Ok(Self::Chunked);
        }
        Ok(length(fields)?.map_or(Self::Empty, Self::Length))
    }

    /// Framing of an answer with this status to this method (RFC 9112, 6.3).
    pub fn of_answer(method: &str, status: u16, fields: &Fields) -> io::Result<Self> {
        if method == "HEAD" || status < 200 || status == 204 || status == 304 {
            return Ok(Self::Empty);
        }
        if fields.lists("transfer-encoding", "chunked") {
            return Ok(Self::Chunked);
        }
        Ok(length(fields)?.map_or(Self::UntilClose, Self::Length))
    }
}

fn length(fields: &Fields) -> io::Result<Option<u64>> {
    let mut values = fields.all("content-length");
    let Some(first) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(bad("two content-length fields"));
    }
    first
        .parse()
        .map(Some)
        .map_err(|_| bad("content-length is not a number"))
}

/// Read a start line and its fields; `None` when the peer closed before the first byte.
pub fn read_head(from: &mut impl BufRead) -> io::Result<Option<(String, Fields)>> {
    let Some(start) = read_line(from)? else {
        return Ok(None);
    };
    Ok(Some((start, read_fields(from)?)))
}

/// Read a body of the given framing and, of a chunked one, its trailers.
pub fn read_body(from: &mut impl BufRead, framing: Framing) -> io::Result<(Vec<u8>, Fields)> {
    let mut body = Vec::new();
    match framing {
        Framing::Empty => {}
        Framing::Length(n) => {
            if n > MAX_BODY {
                return Err(bad("body too large for a test"));
            }
            from.take(n).read_to_end(&mut body)?;
            if body.len() as u64 != n {
                let got = body.len();
                return Err(early(&format!("body ended after {got} of {n} bytes")));
            }
        }
        Framing::UntilClose => {
            from.take(MAX_BODY).read_to_end(&mut body)?;
        }
        Framing::Chunked => loop {
            let line =
                read_line(from)?.ok_or_else(|| early("connection closed inside a chunked body"))?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size =
                u64::from_str_radix(size, 16).map_err(|_| bad(&format!("chunk size {size:?}")))?;
            if size == 0 {
                return Ok((body, read_fields(from)?));
            }
            if body.len() as u64 + size > MAX_BODY {
                return Err(bad("body too large for a test"));
            }
            let before = body.len() as u64;
            from.take(size).read_to_end(&mut body)?;
            if body.len() as u64 != before + size {
                return Err(early("connection closed inside a chunk"));
            }
            if read_line(from)?.as_deref() != Some("") {
                return Err(bad("chunk is not as long as it says"));
            }
        },
    }
    Ok((body, Fields::default()))
}

fn read_fields(from: &mut impl BufRead) -> io::Result<Fields> {
    let mut fields = Fields::default();
    loop {
        let line =
            read_line(from)?.ok_or_else(|| bad("connection closed inside a header section"))?;
        if line.is_empty() {
            return Ok(fields);
        }
        if fields.0.len() == MAX_LINES {
            return Err(bad("too many header lines"));
        }
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| bad(&format!("header line without colon: {line:?}")))?;
        fields.0.push((name.to_owned(), value.trim().to_owned()));
    }
}

/// One line without its CRLF; `None` at the end of the stream.
fn read_line(from: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    from.take(MAX_LINE).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    let text = line
        .strip_suffix(b"\r\n")
        .ok_or_else(|| bad("line does not end with CRLF"))?;
    String::from_utf8(text.to_vec())
        .map(Some)
        .map_err(|_| bad("line is not UTF-8"))
}

fn early(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, what.to_owned())
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body_of(bytes: &[u8], framing: Framing) -> io::Result<(Vec<u8>, Fields)> {
        read_body(&mut io::BufReader::new(bytes), framing)
    }

    #[test]
    fn chunks_and_trailers_are_joined() {
        let (body, trailers) = body_of(
            b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nx-sum: 5\r\n\r\n",
            Framing::Chunked,
        )
        .unwrap();
        assert_eq!(body, b"abcde");
        assert_eq!(trailers.get("X-Sum"), Some("5"));
    }

    #[test]
    fn short_bodies_and_bad_lines_are_errors() {
        assert!(body_of(b"abc", Framing::Length(4)).is_err());
        assert!(body_of(b"4\r\nabc\r\n0\r\n\r\n", Framing::Chunked).is_err());
        assert!(body_of(b"3\nabc\n0\n\n", Framing::Chunked).is_err());
        assert!(
            read_head(&mut io::BufReader::new(
                &b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n"[..]
            ))
            .is_err()
        );
        assert!(
            read_head(&mut io::BufReader::new(&b""[..]))
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn answers_without_a_body_have_none() {
        let fields = Fields(vec![("Content-Length".into(), "7".into())]);
        assert_eq!(
            Framing::of_answer("HEAD", 200, &fields).unwrap(),
            Framing::Empty
        );
        assert_eq!(
            Framing::of_answer("GET", 304, &fields).unwrap(),
            Framing::Empty
        );
        assert_eq!(
            Framing::of_answer("GET", 200, &fields).unwrap(),
            Framing::Length(7)
        );
        assert_eq!(
            Framing::of_answer("GET", 200, &Fields::default()).unwrap(),
            Framing::UntilClose
        );
    }
}

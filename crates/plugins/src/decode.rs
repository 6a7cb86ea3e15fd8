//! Request and answer bodies in plain form, for plugins that judge them. What is forwarded is never changed.
//!
//! Small bodies can decode to huge ones. Decoding stops inside the loop at a number of bytes and at a ratio, whichever
//! comes first.

use crate::{ErrorCode, LocalReply};
use flate2::read::MultiGzDecoder;
use model::{Coding, Headers, limits};
use std::borrow::Cow;
use std::io::{self, Read};

/// Binary logarithm of the largest window that zstd may ask for (RFC 9659).
const ZSTD_WINDOW_LOG: u32 = 23;
/// Decoded bytes for which no ratio is asked.
const RATIO_FREE: u64 = 64 << 10;

/// Why a body has no plain form here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Undecodable {
    #[error(
        "the body's content-encoding is not one of gzip, br, zstd, so that it cannot be judged"
    )]
    Unknown,
    #[error("the body is not what its content-encoding says")]
    Broken,
    #[error("the decoded body is too large")]
    TooLarge,
}

impl Undecodable {
    /// What a client gets whose body cannot be judged.
    pub(crate) fn reply(self) -> LocalReply {
        let (status, code) = match self {
            Self::TooLarge => (413, ErrorCode::RequestTooLarge),
            Self::Unknown | Self::Broken => (400, ErrorCode::InvalidRequest),
        };
        LocalReply::error(status, code, Some(self.to_string()))
    }
}

/// The plain form of a body, of at most `max` bytes.
///
/// # Errors
/// [`Undecodable`]; several codings one upon another count as unknown.
pub(crate) fn plain<'a>(
    headers: &Headers,
    body: &'a [u8],
    max: u64,
) -> Result<Cow<'a, [u8]>, Undecodable> {
    let mut codings = headers
        .get_all("content-encoding")
        .flat_map(|v| v.split(|b| *b == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|c| !c.is_empty() && !c.eq_ignore_ascii_case(b"identity"));
    let (first, second) = (codings.next(), codings.next());
    let Some(first) = first.filter(|_| !body.is_empty()) else {
        return Ok(Cow::Borrowed(body));
    };
    let coding = Coding::parse(first).filter(|_| second.is_none());
    let coding = coding.ok_or(Undecodable::Unknown)?;
    decode(coding, body, max, limits::DECODED_RATIO).map(Cow::Owned)
}

/// At most `max` decoded bytes, and at most `ratio` of them for each encoded one beyond the first [`RATIO_FREE`].
pub(crate) fn decode(
    coding: Coding,
    body: &[u8],
    max: u64,
    ratio: u64,
) -> Result<Vec<u8>, Undecodable> {
    let by_ratio = (body.len() as u64).saturating_mul(ratio).max(RATIO_FREE);
    let mut decoder = reader(coding, body).map_err(|_| Undecodable::Broken)?;
    let mut out = Vec::new();
    let cap = max.min(by_ratio);
    // One byte more than allowed tells that there is more.
    let read = decoder
        .by_ref()
        .take(cap.saturating_add(1))
        .read_to_end(&mut out);
    if out.len() as u64 > cap {
        return Err(Undecodable::TooLarge);
    }
    read.map_err(|_| Undecodable::Broken)?;
    Ok(out)
}

fn reader(coding: Coding, body: &[u8]) -> io::Result<Box<dyn Read + '_>> {
    Ok(match coding {
        Coding::Gzip => Box::new(MultiGzDecoder::new(body)),
        Coding::Br => Box::new(brotli::Decompressor::new(body, 4096)),
        Coding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(body)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
    })
}

/// What can be read of a body whose end has not come.
#[cfg(test)]
pub(crate) fn prefix(coding: Coding, body: &[u8]) -> Vec<u8> {
    let mut decoder = reader(coding, body).unwrap();
    let mut out = Vec::new();
    let mut byte = [0];
    while let Ok(1) = decoder.read(&mut byte) {
        out.push(byte[0]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BodyFilter;
    use crate::encode::Encoder;

    const ALL: [Coding; 3] = [Coding::Gzip, Coding::Br, Coding::Zstd];

    fn encode(coding: Coding, plain: &[u8]) -> Vec<u8> {
        let mut encoder = Encoder::open(coding, 9).unwrap();
        let mut out = Vec::new();
        for piece in plain.chunks(1 << 16) {
            out.extend_from_slice(&encoder.chunk(piece.to_vec().into()).unwrap());
        }
        out.extend_from_slice(&encoder.end().unwrap());
        out
    }

    fn headers(codings: &[&str]) -> Headers {
        let mut headers = Headers::default();
        for coding in codings {
            headers.append("Content-Encoding", coding).unwrap();
        }
        headers
    }

    #[test]
    fn one_known_coding_is_decoded_and_none_is_left_alone() {
        for coding in ALL {
            let body = encode(coding, b"hello");
            let got = plain(&headers(&[coding.name()]), &body, 5);
            assert_eq!(got.unwrap().as_ref(), b"hello", "{coding:?}");
        }
        for codings in [&[][..], &["identity"], &["Identity,"]] {
            let got = plain(&headers(codings), b"hello", 5);
            assert!(matches!(got, Ok(Cow::Borrowed(b"hello"))), "{codings:?}");
        }
        assert_eq!(plain(&headers(&["gzip"]), b"", 5).unwrap().as_ref(), b"");
    }

    #[test]
    fn what_is_not_one_known_coding_is_not_guessed() {
        let body = encode(Coding::Gzip, b"hello");
        for codings in [&["deflate"][..], &["gzip", "br"], &["gzip, gzip"], &["zip"]] {
            let got = plain(&headers(codings), &body, 100);
            assert_eq!(got, Err(Undecodable::Unknown), "{codings:?}");
        }
    }

    #[test]
    fn bodies_that_are_cut_or_altered_are_broken() {
        let text: Vec<u8> = (0..20_000u32).flat_map(u32::to_le_bytes).collect();
        for coding in ALL {
            let whole = encode(coding, &text);
            let cut = &whole[..whole.len() - 1];
            let max = 1 << 20;
            assert_eq!(decode(coding, cut, max, 200), Err(Undecodable::Broken));
            assert_eq!(decode(coding, b"hello", max, 200), Err(Undecodable::Broken));
        }
        // All members of a gzip body are judged, and what is no member is no gzip body.
        let mut two = encode(Coding::Gzip, b"one");
        two.extend(encode(Coding::Gzip, b"two"));
        assert_eq!(decode(Coding::Gzip, &two, 100, 200).unwrap(), b"onetwo");
        two.extend(b"three");
        assert_eq!(
            decode(Coding::Gzip, &two, 100, 200),
            Err(Undecodable::Broken)
        );
    }

    #[test]
    fn a_bomb_is_stopped_by_its_ratio_and_by_its_size() {
        let zeros = vec![0; 64 << 20];
        for coding in ALL {
            let bomb = encode(coding, &zeros);
            assert!(bomb.len() < 100_000, "{coding:?}: {}", bomb.len());
            for (max, ratio) in [(1 << 20, u64::MAX), (u64::MAX, limits::DECODED_RATIO)] {
                assert_eq!(
                    decode(coding, &bomb, max, ratio),
                    Err(Undecodable::TooLarge),
                    "{coding:?}"
                );
            }
        }
        assert_eq!(Undecodable::TooLarge.reply().status, 413);
    }
}

//! Content codings as tests write and read them.

use std::io::{Read, Write};

use anyhow::{Result, bail};

/// The plain form of a body.
pub fn decode(coding: &str, body: &[u8]) -> Result<Vec<u8>> {
    let mut plain = Vec::new();
    match coding {
        "identity" => return Ok(body.to_vec()),
        "gzip" => flate2::read::MultiGzDecoder::new(body).read_to_end(&mut plain)?,
        "br" => brotli::Decompressor::new(body, 4096).read_to_end(&mut plain)?,
        "zstd" => zstd::stream::read::Decoder::with_buffer(body)?.read_to_end(&mut plain)?,
        other => bail!("no decoder for {other:?}"),
    };
    Ok(plain)
}

/// A body in this coding.
pub fn encode(coding: &str, plain: &[u8]) -> Result<Vec<u8>> {
    Ok(match coding {
        "gzip" => {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            encoder.write_all(plain)?;
            encoder.finish()?
        }
        "br" => {
            let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 9, 18);
            encoder.write_all(plain)?;
            encoder.into_inner()
        }
        "zstd" => zstd::stream::encode_all(plain, 9)?,
        other => bail!("no encoder for {other:?}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        for coding in ["gzip", "br", "zstd"] {
            let body = encode(coding, b"hello").unwrap();
            assert_eq!(decode(coding, &body).unwrap(), b"hello");
            assert!(decode(coding, &body[..body.len() - 1]).is_err(), "{coding}");
        }
    }
}

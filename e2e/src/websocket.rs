//! WebSocket (RFC 6455), as little as tests need: the handshake's proof and unfragmented frames below 64 KiB.

use std::io::{self, Read, Write};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// A text message.
pub const TEXT: u8 = 1;
/// The end of the conversation, with its code.
pub const CLOSE: u8 = 8;
/// The key that this client sends; any would do.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// What a server answers to a key.
pub fn accept(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    BASE64_STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()))
}

/// Writes one frame; `mask` as a client does.
pub fn write(out: &mut impl Write, opcode: u8, payload: &[u8], mask: bool) -> io::Result<()> {
    let bit = if mask { 0x80 } else { 0 };
    let mut frame = vec![0x80 | opcode];
    match u16::try_from(payload.len()) {
        Ok(n) if n < 126 => frame.push(bit | n as u8),
        Ok(n) => {
            frame.push(bit | 126);
            frame.extend(n.to_be_bytes());
        }
        Err(_) => return Err(io::ErrorKind::InvalidInput.into()),
    }
    if mask {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        frame.extend(key);
        frame.extend(payload.iter().zip(key.iter().cycle()).map(|(b, k)| b ^ k));
    } else {
        frame.extend(payload);
    }
    out.write_all(&frame)
}

/// Reads one frame: opcode and payload. A client's frames must be masked, a server's must not.
pub fn read(input: &mut impl Read, masked: bool) -> io::Result<(u8, Vec<u8>)> {
    let mut two = [0; 2];
    input.read_exact(&mut two)?;
    let [first, second] = two;
    let is_masked = second & 0x80 != 0;
    if first & 0xf0 != 0x80 || is_masked != masked {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut length = u16::from(second & 0x7f);
    if length == 126 {
        input.read_exact(&mut two)?;
        length = u16::from_be_bytes(two);
    } else if length == 127 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut key = [0; 4];
    if masked {
        input.read_exact(&mut key)?;
    }
    let mut payload = vec![0; usize::from(length)];
    input.read_exact(&mut payload)?;
    payload
        .iter_mut()
        .zip(key.iter().cycle())
        .for_each(|(b, k)| *b ^= k);
    Ok((first & 0x0f, payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc() {
        assert_eq!(accept(KEY), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let mut frame = Vec::new();
        write(&mut frame, TEXT, b"Hello", true).unwrap();
        assert_eq!(
            frame, b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58",
            "RFC 6455 section 5.7"
        );
        assert_eq!(
            read(&mut &frame[..], true).unwrap(),
            (TEXT, b"Hello".to_vec())
        );
        assert!(read(&mut &frame[..], false).is_err());
    }

    #[test]
    fn longer_frames() {
        let payload = vec![7; 1000];
        let mut frame = Vec::new();
        write(&mut frame, TEXT, &payload, false).unwrap();
        assert_eq!(read(&mut &frame[..], false).unwrap(), (TEXT, payload));
    }
}

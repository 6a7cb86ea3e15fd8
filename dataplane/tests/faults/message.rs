//! HTTP/1.1 messages as both ends of the tests read them.

use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};

#[derive(Debug, Default)]
pub struct Message {
    /// Request line or status line.
    pub first: String,
    /// Names in lower case.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// How far a message came that did not come whole.
#[derive(Debug, PartialEq, Eq)]
pub enum Part {
    Nothing,
    Head,
    Body,
}

impl Message {
    pub fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn status(&self) -> u16 {
        let code = self.first.split(' ').nth(1);
        code.and_then(|c| c.parse().ok()).unwrap_or(0)
    }

    /// The next message; `left` holds what has come of the one behind it.
    ///
    /// # Errors
    /// It did not come whole.
    pub async fn read(from: &mut (impl AsyncRead + Unpin), left: &mut Vec<u8>) -> io::Result<Self> {
        let mut far = Part::Nothing;
        let mut message = Self::default();
        message.fill(from, left, &mut far).await?;
        Ok(message)
    }

    /// The same, saying how far it has come.
    ///
    /// # Errors
    /// It did not come whole.
    pub async fn fill(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
        left: &mut Vec<u8>,
        far: &mut Part,
    ) -> io::Result<()> {
        let end = loop {
            if let Some(at) = left.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            more(from, left).await?;
            *far = Part::Head;
        };
        *far = Part::Body;
        let head: Vec<u8> = left.drain(..end).collect();
        let head = String::from_utf8(head).map_err(|_| io::ErrorKind::InvalidData)?;
        let mut lines = head.split("\r\n");
        self.first = lines.next().unwrap_or_default().to_owned();
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            self.fields
                .push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        if self.field("transfer-encoding").is_some() {
            return self.chunks(from, left).await;
        }
        let length: usize = self
            .field("content-length")
            .map_or(0, |n| n.parse().unwrap());
        while left.len() < length {
            more(from, left).await?;
        }
        self.body = left.drain(..length).collect();
        Ok(())
    }

    async fn chunks(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
        left: &mut Vec<u8>,
    ) -> io::Result<()> {
        loop {
            let end = loop {
                if let Some(at) = left.windows(2).position(|w| w == b"\r\n") {
                    break at;
                }
                more(from, left).await?;
            };
            let size = std::str::from_utf8(&left[..end]).unwrap_or_default();
            let size = usize::from_str_radix(size, 16).map_err(|_| io::ErrorKind::InvalidData)?;
            while left.len() < end + 2 + size + 2 {
                more(from, left).await?;
            }
            self.body.extend(&left[end + 2..end + 2 + size]);
            left.drain(..end + 2 + size + 2);
            if size == 0 {
                return Ok(());
            }
        }
    }
}

async fn more(from: &mut (impl AsyncRead + Unpin), left: &mut Vec<u8>) -> io::Result<()> {
    match from.read_buf(left).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

/// FNV-1a.
pub fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}

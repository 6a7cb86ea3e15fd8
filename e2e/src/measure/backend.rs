//! An HTTP/1.1 backend on one thread, for measurements: it reads heads of requests without a body and answers at once.
//!
//! | Path contains | Answer |
//! |---|---|
//! | `/bytes/N` | N bytes of text |
//! | `/events/N/MS` | N server-sent events, MS milliseconds apart, each with the time at which it left |
//! | `/hold` | one such event, and then nothing until the client goes |

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{MissedTickBehavior, interval};

use super::now;

/// Longest head of a request, in bytes.
const HEAD: usize = 16 * 1024;
/// Largest answer, in bytes.
const BODY: usize = 16 << 20;

/// Answers on an address until the process ends.
pub async fn run(listen: &str) -> Result<()> {
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("bind {listen}"))?;
    // The line that whoever started this process waits for.
    println!("listening address={}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::task::spawn_local(async move {
            // An error here is the peer's way of ending the connection.
            let _ = serve(stream).await;
        });
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Wish {
    Bytes(usize),
    Events(u32, Duration),
    Hold,
}

impl Wish {
    fn of(head: &str) -> Option<Self> {
        let path = head.split(' ').nth(1)?;
        let mut segments = path.split('/');
        while let Some(segment) = segments.next() {
            match segment {
                "bytes" => return Some(Self::Bytes(segments.next()?.parse().ok()?)),
                "events" => {
                    let count = segments.next()?.parse().ok()?;
                    let gap = Duration::from_millis(segments.next()?.parse().ok()?);
                    return (!gap.is_zero()).then_some(Self::Events(count, gap));
                }
                "hold" => return Some(Self::Hold),
                _ => {}
            }
        }
        None
    }
}

async fn serve(mut stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(2048);
    let mut answer = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            if buffer.len() > HEAD {
                bail!("a head without an end");
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let wish = Wish::of(std::str::from_utf8(&buffer[..end])?).context("nothing here")?;
        buffer.drain(..end);
        match wish {
            Wish::Bytes(count) => {
                let count = count.min(BODY);
                answer.clear();
                answer.extend_from_slice(
                    format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {count}\r\n\r\n")
                        .as_bytes(),
                );
                answer.resize(answer.len() + count, b'x');
                stream.write_all(&answer).await?;
            }
            Wish::Events(count, gap) => {
                stream.write_all(EVENTS).await?;
                let mut ticks = interval(gap);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                for _ in 0..count {
                    ticks.tick().await;
                    stream.write_all(&event()).await?;
                }
                stream.write_all(b"0\r\n\r\n").await?;
            }
            Wish::Hold => {
                stream.write_all(EVENTS).await?;
                stream.write_all(&event()).await?;
                stream.read_buf(&mut buffer).await?;
                return Ok(());
            }
        }
    }
}

const EVENTS: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n";

/// One chunk with one event, of about the size that a token of a chat completion has.
fn event() -> Vec<u8> {
    let event = format!(
        "data: {{\"at\":{},\"id\":\"chatcmpl-7f9c2ba4e88f4cd1\",\"object\":\"chat.completion.chunk\",\"model\":\"bench\",\
         \"choices\":[{{\"index\":0,\"delta\":{{\"content\":\" token\"}},\"finish_reason\":null}}]}}\n\n",
        now()
    );
    format!("{:x}\r\n{event}\r\n", event.len()).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_ask_for_answers() {
        let of = |path: &str| Wish::of(&format!("GET {path} HTTP/1.1\r\n\r\n"));
        assert_eq!(of("/api/bytes/1024"), Some(Wish::Bytes(1024)));
        let ten = Duration::from_millis(10);
        assert_eq!(of("/p7/events/64/10"), Some(Wish::Events(64, ten)));
        assert_eq!(of("/api/hold"), Some(Wish::Hold));
        for nothing in ["/", "/bytes", "/bytes/x", "/events/1", "/events/1/0"] {
            assert_eq!(of(nothing), None, "{nothing}");
        }
    }
}

//! Event streams through a proxy: how long each event took since it left the backend, and many streams held at once.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::now;

/// Nothing is awaited longer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Streams that are opened at the same time by [`hold`]; more would overflow the queue of a listening socket.
const OPENING: usize = 100;
/// What stands before the time in an event of the backend.
const AT: &[u8] = b"\"at\":";

/// Where streams come from.
#[derive(Clone, Debug)]
pub struct Source {
    pub address: SocketAddr,
    pub host: String,
    pub path: String,
}

impl Source {
    async fn open(&self) -> Result<TcpStream> {
        let mut stream = timeout(PATIENCE, TcpStream::connect(self.address)).await??;
        stream.set_nodelay(true)?;
        let request = format!(
            "GET {} HTTP/1.1\r\nhost: {}\r\naccept: text/event-stream\r\n\r\n",
            self.path, self.host
        );
        stream.write_all(request.as_bytes()).await?;
        Ok(stream)
    }
}

/// What one stream has brought.
#[derive(Default)]
struct Seen {
    /// From the request to the first event, in nanoseconds.
    first: u64,
    /// Of each event from the backend to here, in nanoseconds.
    delays: Vec<u64>,
}

/// Reads so many streams side by side to their ends, and prints what came of it as JSON.
///
/// # Errors
/// A stream fails or brings another number of events.
pub async fn events(source: &Source, streams: usize, each: usize) -> Result<()> {
    let mut all = JoinSet::new();
    for _ in 0..streams {
        let source = source.clone();
        all.spawn_local(async move { follow(&source, each).await });
    }
    let (mut first, mut delays) = (Vec::new(), Vec::new());
    while let Some(seen) = all.join_next().await {
        let seen = seen??;
        first.push(seen.first);
        delays.extend(seen.delays);
    }
    first.sort_unstable();
    delays.sort_unstable();
    let micros = |sorted: &[u64], percent| percentile(sorted, percent) as f64 / 1e3;
    let found = json!({
        "events": delays.len(),
        "p50_us": micros(&delays, 50),
        "p99_us": micros(&delays, 99),
        "first_p50_us": micros(&first, 50),
    });
    println!("{found}");
    Ok(())
}

async fn follow(source: &Source, each: usize) -> Result<Seen> {
    let begun = now();
    let mut stream = source.open().await?;
    let mut seen = Seen::default();
    let mut bytes = Vec::with_capacity(8192);
    let mut head = true;
    loop {
        let count = timeout(PATIENCE, stream.read_buf(&mut bytes)).await??;
        let at = now();
        ensure!(count > 0, "the stream broke after {}", seen.delays.len());
        if head && bytes.len() > 16 {
            check_status(&bytes)?;
            head = false;
        }
        let events = take_events(&mut bytes);
        if seen.delays.is_empty() && !events.is_empty() {
            seen.first = at.saturating_sub(begun);
        }
        seen.delays
            .extend(events.iter().map(|left| at.saturating_sub(*left)));
        if bytes.ends_with(b"0\r\n\r\n") {
            ensure!(
                seen.delays.len() == each,
                "{} events in place of {each}",
                seen.delays.len()
            );
            return Ok(seen);
        }
    }
}

fn check_status(bytes: &[u8]) -> Result<()> {
    let status = String::from_utf8_lossy(bytes.get(9..12).unwrap_or_default()).into_owned();
    ensure!(status == "200", "status {status}");
    Ok(())
}

/// Takes the whole events out of what was read and gives the times that they carry.
fn take_events(bytes: &mut Vec<u8>) -> Vec<u64> {
    let mut found = Vec::new();
    let mut rest = 0;
    while let Some(end) = position(&bytes[rest..], b"\n\n") {
        let event = &bytes[rest..rest + end];
        if let Some(at) = position(event, AT) {
            let digits = event[at + AT.len()..].iter();
            let digits = digits.take_while(|b| b.is_ascii_digit());
            found.push(digits.fold(0, |n: u64, d| n.wrapping_mul(10) + u64::from(d - b'0')));
        }
        rest += end + 2;
    }
    bytes.drain(..rest);
    found
}

fn position(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}

fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or(0)
}

/// Opens so many streams, says so once each has brought its first event, and keeps them until its input ends.
///
/// # Errors
/// A stream fails.
pub async fn hold(source: &Source, count: usize) -> Result<()> {
    let mut held = Vec::with_capacity(count);
    while held.len() < count {
        let mut opening = JoinSet::new();
        for _ in 0..OPENING.min(count - held.len()) {
            let source = source.clone();
            opening.spawn_local(async move { first_event(&source).await });
        }
        while let Some(opened) = opening.join_next().await {
            let number = held.len();
            held.push(opened?.with_context(|| format!("stream {number}"))?);
        }
    }
    println!("held {}", held.len());
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()))
        .await??;
    Ok(())
}

async fn first_event(source: &Source) -> Result<TcpStream> {
    let mut stream = source.open().await?;
    let mut bytes = Vec::with_capacity(1024);
    loop {
        let count = timeout(PATIENCE, stream.read_buf(&mut bytes)).await??;
        ensure!(
            count > 0,
            "ended with {:?}",
            String::from_utf8_lossy(&bytes)
        );
        if position(&bytes, AT).is_some() {
            check_status(&bytes)?;
            return Ok(stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_found_however_they_are_cut() {
        let whole = b"data: {\"at\":12,\"x\":1}\n\nignored\n\ndata: {\"at\":7}\n\nrest";
        let mut bytes = whole.to_vec();
        assert_eq!(take_events(&mut bytes), [12, 7]);
        assert_eq!(bytes, b"rest");
        let (mut bytes, mut found) = (Vec::new(), Vec::new());
        for byte in whole {
            bytes.push(*byte);
            found.extend(take_events(&mut bytes));
        }
        assert_eq!(found, [12, 7]);
    }

    #[test]
    fn percentiles_of_few_values() {
        assert_eq!(percentile(&[], 50), 0);
        assert_eq!(percentile(&[3], 99), 3);
        let hundred: Vec<u64> = (1..=100).collect();
        assert_eq!(percentile(&hundred, 50), 51);
        assert_eq!(percentile(&hundred, 99), 100);
    }
}

//! The PROXY protocol in front of a connection: read whole or in pieces it says the same, and nothing behind it is taken.
#![no_main]

use dataplane::engine::proxy_protocol::{self, Source};
use libfuzzer_sys::fuzz_target;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What is said of the connection, and what stands behind; `None`: refused.
fn read(pieces: &[&[u8]]) -> Option<(Source, Vec<u8>)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .unwrap();
    runtime.block_on(async {
        // A pair of local sockets costs no port; the calls are the same.
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut server = TcpStream::from_std(OwnedFd::from(theirs).into()).unwrap();
        let mut client = TcpStream::from_std(OwnedFd::from(ours).into()).unwrap();
        let send = async {
            for piece in pieces {
                let _ = client.write_all(piece).await;
                tokio::task::yield_now().await;
            }
            let _ = client.shutdown().await;
        };
        let receive = async {
            let source = proxy_protocol::read(&mut server).await.ok()?;
            let mut rest = Vec::new();
            server.read_to_end(&mut rest).await.ok()?;
            Some((source, rest))
        };
        tokio::join!(receive, send).0
    })
}

fuzz_target!(|input: (u16, &[u8])| {
    let (cut, text) = input;
    let whole = read(&[text]);
    let (front, back) = text.split_at(usize::from(cut).min(text.len()));
    assert_eq!(whole, read(&[front, back]));
    if let Some((_, rest)) = whole {
        assert!(text.ends_with(&rest));
        let header = &text[..text.len() - rest.len()];
        assert!(
            header.starts_with(b"PROXY ") && header.ends_with(b"\r\n")
                || header.starts_with(b"\r\n\r\n\0\r\nQUIT\n")
        );
    }
});

//! What the targets share: a connection whose bytes are given, and the smallest service that says what it was asked.

use bytes::Bytes;
use dataplane::engine::drain::{Drain, Ticket};
use dataplane::engine::{
    ConnConfig, ConnInfo, Down, DownExt, Exchange, Outcome, Service, Socket, serve_connection,
};
use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// For a whole body.
const PATIENCE: Duration = Duration::from_secs(30);

/// A request as some reader has understood it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    pub method: String,
    /// Path in normal form, and query.
    pub target: String,
    pub body: Vec<u8>,
}

/// Answers every request with 200 and keeps what it was, once all of it was read.
#[derive(Default)]
pub struct Recorder(RefCell<Vec<Reading>>);

impl Recorder {
    pub fn into_readings(self) -> Vec<Reading> {
        self.0.into_inner()
    }
}

impl Service for Recorder {
    async fn serve<D: Down>(&self, x: Exchange<'_, D>) -> Outcome {
        x.down.send_continue(x.request);
        let mut body = Vec::new();
        let due = Instant::now() + PATIENCE;
        loop {
            match x.down.read_body(due).await {
                Ok(Some(piece)) => body.extend_from_slice(&piece),
                Ok(None) => break,
                Err(_) => return Outcome::Close,
            }
        }
        self.0.borrow_mut().push(Reading {
            method: x.request.method.as_str().to_owned(),
            target: x.request.target.as_str().to_owned(),
            body,
        });
        x.answer.reset(200);
        match x.down.respond(x.answer, Bytes::new()).await {
            Ok(()) => Outcome::Done,
            Err(_) => Outcome::Close,
        }
    }
}

/// A client's bytes, piece by piece, and silence behind them. What is written to it is lost.
pub struct Script {
    bytes: Bytes,
    at_once: usize,
}

impl Script {
    /// `at_once`: bytes of one read.
    pub fn new(bytes: &[u8], at_once: usize) -> Self {
        Self {
            bytes: Bytes::copy_from_slice(bytes),
            at_once: at_once.max(1),
        }
    }
}

impl AsyncRead for Script {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.bytes.is_empty() {
            // Nobody wakes it: the connection's own timers must end it.
            return Poll::Pending;
        }
        let n = self.at_once.min(self.bytes.len()).min(buf.remaining());
        buf.put_slice(&self.bytes.split_to(n));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, b: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(b.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Socket for Script {
    fn is_quiet(&mut self) -> bool {
        self.bytes.is_empty()
    }
}

/// Serves a client that sends this and then is silent, to the connection's end, and gives the requests it has made.
/// Time jumps from timer to timer; a connection that never ends is found by the fuzzer's own limit.
pub fn serve(bytes: &[u8], at_once: usize) -> Vec<Reading> {
    let address = ([127, 0, 0, 1], 1).into();
    let info = ConnInfo {
        id: 0,
        peer: address,
        local: address,
        port: 1,
        tls: None,
    };
    let recorder = Recorder::default();
    let ticket = Ticket::new(Rc::new(Drain::default()));
    let config = ConnConfig::default();
    run(serve_connection(
        Script::new(bytes, at_once),
        &info,
        &recorder,
        &config,
        ticket,
    ));
    recorder.into_readings()
}

/// Runs a future on a runtime of its own, whose clock stands still while there is something to do.
pub fn run<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O");
    tokio::task::LocalSet::new().block_on(&runtime, future)
}

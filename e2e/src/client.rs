//! A test client: one connection, one request at a time, every byte of the head as the test wrote it.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::message::{Fields, Framing, read_body, read_head};
use crate::websocket;

/// How long one read or write may take before the test gives up.
const IO_TIMEOUT: Duration = Duration::from_secs(30);

/// A request, written to the wire as it stands here; `host` and `content-length` are added unless present.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Method token.
    pub method: String,
    /// Value of the `host` field.
    pub host: String,
    /// Request target: path and query.
    pub target: String,
    /// Further fields, in order.
    pub headers: Vec<(String, String)>,
    /// Body, sent with a content length.
    pub body: Vec<u8>,
}

/// An answer, read whole.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Fields as received.
    pub headers: Fields,
    /// Body without its transfer coding.
    pub body: Vec<u8>,
    /// Trailer fields of a chunked body.
    pub trailers: Fields,
    /// Whether the peer offers to keep the connection.
    pub keep_alive: bool,
}

/// An open connection.
pub struct Connection {
    reader: BufReader<TcpStream>,
}

impl Connection {
    /// Connect to the gateway or a backend.
    pub fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, IO_TIMEOUT)
            .with_context(|| format!("connect to {address}"))?;
        stream.set_read_timeout(Some(IO_TIMEOUT))?;
        stream.set_write_timeout(Some(IO_TIMEOUT))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            reader: BufReader::new(stream),
        })
    }

    /// Send a request and read its answer; interim (1xx) answers are passed over.
    pub fn send(&mut self, request: &Request) -> Result<Answer> {
        self.reader.get_mut().write_all(&request.to_bytes())?;
        loop {
            let (start, headers) =
                read_head(&mut self.reader)?.context("connection closed without an answer")?;
            let status = parse_status(&start)?;
            if (100..200).contains(&status) && status != 101 {
                continue;
            }
            let framing = Framing::of_answer(&request.method, status, &headers)?;
            let (body, trailers) = read_body(&mut self.reader, framing)?;
            let keep_alive = framing != Framing::UntilClose
                && start.starts_with("HTTP/1.1")
                && !headers.lists("connection", "close");
            return Ok(Answer {
                status,
                headers,
                body,
                trailers,
                keep_alive,
            });
        }
    }

    /// Send a request and read an interim answer: it has arrived where it is to go, and is not answered yet.
    pub fn begin(&mut self, request: &Request) -> Result<()> {
        self.reader.get_mut().write_all(&request.to_bytes())?;
        let (start, _) =
            read_head(&mut self.reader)?.context("connection closed without an answer")?;
        ensure!(parse_status(&start)? == 103, "{start:?} instead of 103");
        Ok(())
    }

    /// Hold a conversation on a connection that has switched to WebSocket: messages to send and to expect, then the end.
    pub fn converse(mut self, send: &[String], expect: &[String]) -> Result<()> {
        for text in send {
            websocket::write(
                self.reader.get_mut(),
                websocket::TEXT,
                text.as_bytes(),
                true,
            )?;
        }
        for text in expect {
            let (opcode, payload) = websocket::read(&mut self.reader, false)?;
            let got = String::from_utf8_lossy(&payload);
            ensure!(
                opcode == websocket::TEXT && got == *text,
                "message {got:?} ({opcode}) instead of {text:?}"
            );
        }
        let normal = 1000u16.to_be_bytes();
        websocket::write(self.reader.get_mut(), websocket::CLOSE, &normal, true)?;
        let (opcode, payload) = websocket::read(&mut self.reader, false)?;
        ensure!(
            opcode == websocket::CLOSE && payload == normal,
            "{opcode} {payload:?} instead of the end with 1000"
        );
        ensure!(self.closed()?, "the connection stays open after the end");
        Ok(())
    }

    /// Whether the peer has closed the connection: waits for the close, fails when bytes come instead.
    pub fn closed(mut self) -> Result<bool> {
        match self.reader.read(&mut [0; 1]) {
            Ok(0) => Ok(true),
            Ok(_) => bail!("bytes after the answer"),
            Err(e)
                if matches!(
                    e.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) =>
            {
                Ok(false)
            }
            Err(_) => Ok(true),
        }
    }
}

impl Request {
    fn to_bytes(&self) -> Vec<u8> {
        let has = |name: &str| {
            self.headers
                .iter()
                .any(|(n, _)| n.eq_ignore_ascii_case(name))
        };
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if !has("host") {
            head.push_str(&format!("host: {}\r\n", self.host));
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let framed = has("content-length") || has("transfer-encoding");
        if !framed
            && (!self.body.is_empty() || matches!(self.method.as_str(), "POST" | "PUT" | "PATCH"))
        {
            head.push_str(&format!("content-length: {}\r\n", self.body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// One request on a connection of its own.
pub fn get(address: SocketAddr, host: &str, target: &str) -> Result<Answer> {
    let request = Request {
        method: "GET".into(),
        host: host.into(),
        target: target.into(),
        ..Request::default()
    };
    Connection::open(address)?.send(&request)
}

fn parse_status(start: &str) -> Result<u16> {
    let mut words = start.splitn(3, ' ');
    match (words.next(), words.next().and_then(|w| w.parse().ok())) {
        (Some("HTTP/1.1" | "HTTP/1.0"), Some(status)) => Ok(status),
        _ => bail!("not a status line: {start:?}"),
    }
}

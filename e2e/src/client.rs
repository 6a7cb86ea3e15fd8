//! A test client: one connection, one request at a time, every byte of the head as the test wrote it.

use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::http2::Session;
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
    /// The connection (HTTP/2: the stream) ended before the body did, of which nothing is kept then.
    pub cut: bool,
}

/// An open connection.
pub struct Connection(Wire);

enum Wire {
    Http1(Http1),
    Http2(Session),
}

/// HTTP/1.1, in clear or within TLS.
type Http1 = BufReader<Box<dyn Duplex>>;

trait Duplex: Read + Write + Send {}

impl<T: Read + Write + Send> Duplex for T {}

impl Connection {
    /// Connect to the gateway or a backend.
    pub fn open(address: SocketAddr) -> Result<Self> {
        Ok(Self::http1(Box::new(connect(address)?)))
    }

    /// Connect within TLS, for a host that is named in the handshake.
    pub fn open_tls(address: SocketAddr, host: &str, config: Arc<ClientConfig>) -> Result<Self> {
        let session = ClientConnection::new(config, ServerName::try_from(host.to_owned())?)?;
        let stream = StreamOwned::new(session, connect(address)?);
        Ok(Self::http1(Box::new(stream)))
    }

    /// The same for HTTP/2.
    pub fn open_http2(address: SocketAddr, host: &str, config: Arc<ClientConfig>) -> Result<Self> {
        Session::open(address, host, config).map(|s| Self(Wire::Http2(s)))
    }

    fn http1(stream: Box<dyn Duplex>) -> Self {
        Self(Wire::Http1(BufReader::new(stream)))
    }

    /// What knows no HTTP/2.
    fn reader(&mut self) -> Result<&mut Http1> {
        match &mut self.0 {
            Wire::Http1(reader) => Ok(reader),
            Wire::Http2(_) => bail!("this is for HTTP/1.1 alone"),
        }
    }

    /// Send a request and read its answer; interim (1xx) answers are passed over.
    pub fn send(&mut self, request: &Request) -> Result<Answer> {
        let reader = match &mut self.0 {
            Wire::Http1(reader) => reader,
            Wire::Http2(session) => return session.send(request),
        };
        reader.get_mut().write_all(&request.to_bytes())?;
        loop {
            let (start, headers) =
                read_head(reader)?.context("connection closed without an answer")?;
            let status = parse_status(&start)?;
            if (100..200).contains(&status) && status != 101 {
                continue;
            }
            let framing = Framing::of_answer(&request.method, status, &headers)?;
            let (body, cut) = match read_body(reader, framing) {
                Err(e) if is_cut(&e) => (Default::default(), true),
                body => (body?, false),
            };
            let (body, trailers) = body;
            let keep_alive = framing != Framing::UntilClose
                && !cut
                && start.starts_with("HTTP/1.1")
                && !headers.lists("connection", "close");
            return Ok(Answer {
                status,
                headers,
                body,
                trailers,
                keep_alive,
                cut,
            });
        }
    }

    /// Send a request and read an interim answer: it has arrived where it is to go, and is not answered yet.
    pub fn begin(&mut self, request: &Request) -> Result<()> {
        let reader = self.reader()?;
        reader.get_mut().write_all(&request.to_bytes())?;
        let (start, _) = read_head(reader)?.context("connection closed without an answer")?;
        ensure!(parse_status(&start)? == 103, "{start:?} instead of 103");
        Ok(())
    }

    /// Hold a conversation on a connection that has switched to WebSocket: messages to send and to expect, then the end.
    pub fn converse(mut self, send: &[String], expect: &[String]) -> Result<()> {
        let reader = self.reader()?;
        for text in send {
            websocket::write(reader.get_mut(), websocket::TEXT, text.as_bytes(), true)?;
        }
        for text in expect {
            let (opcode, payload) = websocket::read(reader, false)?;
            let got = String::from_utf8_lossy(&payload);
            ensure!(
                opcode == websocket::TEXT && got == *text,
                "message {got:?} ({opcode}) instead of {text:?}"
            );
        }
        let normal = 1000u16.to_be_bytes();
        websocket::write(reader.get_mut(), websocket::CLOSE, &normal, true)?;
        let (opcode, payload) = websocket::read(reader, false)?;
        ensure!(
            opcode == websocket::CLOSE && payload == normal,
            "{opcode} {payload:?} instead of the end with 1000"
        );
        ensure!(self.closed()?, "the connection stays open after the end");
        Ok(())
    }

    /// Whether the peer has closed the connection: waits for the close, fails when bytes come instead.
    pub fn closed(mut self) -> Result<bool> {
        match self.reader()?.read(&mut [0; 1]) {
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
    /// The first value of a further field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.iter();
        let found = all.find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    fn to_bytes(&self) -> Vec<u8> {
        let has = |name: &str| self.field(name).is_some();
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

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, IO_TIMEOUT)
        .with_context(|| format!("connect to {address}"))?;
    stream.set_read_timeout(Some(IO_TIMEOUT))?;
    stream.set_write_timeout(Some(IO_TIMEOUT))?;
    stream.set_nodelay(true)?;
    Ok(stream)
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

/// Whether the connection ended, in order or by a reset.
fn is_cut(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(
        error.kind(),
        UnexpectedEof | ConnectionReset | ConnectionAborted
    )
}

fn parse_status(start: &str) -> Result<u16> {
    let mut words = start.splitn(3, ' ');
    match (words.next(), words.next().and_then(|w| w.parse().ok())) {
        (Some("HTTP/1.1" | "HTTP/1.0"), Some(status)) => Ok(status),
        _ => bail!("not a status line: {start:?}"),
    }
}

//! The backend behind every test: answers what it saw as JSON, or does what the path asks for.
//!
//! | Path contains | Answer |
//! |---|---|
//! | `/status/N` | status N |
//! | `/delay/MS` | after MS milliseconds |
//! | `/bytes/N` | N bytes of text |
//! | `/chunked` | three chunks |
//! | `/trailers` | chunks, then the trailer `x-trailer: end` |
//! | `/sse` | three server-sent events |
//! | `/sse/MS` | the same, MS milliseconds apart |
//! | `/endpoints/ADDRESS:PORT,…` | `{"items": […]}` with these, as a registry of endpoints has them |
//! | `/close` | the connection closes without an answer |
//! | `/half` | a head and half of the body, then the connection closes |
//! | `/half/MS` | the other half after MS milliseconds |
//! | `/nonsense` | what is not HTTP |
//! | `/begun/…` | 103, then what the rest of the path asks for |
//! | `/noted/NAME` | the echo of the last request with the field `x-note: NAME`, 404 before it has come |
//!
//! A request for an upgrade to `websocket` that asks for nothing of the above gets it, and every message back.
//! A query parameter `response-header=NAME:VALUE` adds a field to any answer. Everything else is echoed:
//! `{"backend", "method", "path", "query", "headers", "bodyLength", "body"}`, header names in lower case, a repeated header as a list.

use std::collections::VecDeque;
use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::message::{Fields, Framing, read_body, read_head};
use crate::websocket;

/// Longest body that is echoed as text, in bytes.
const ECHO_LIMIT: usize = 4096;
/// Longest delay that a path may ask for.
const MAX_DELAY: Duration = Duration::from_secs(60);

/// What `/sse` sends.
const EVENTS: &[&str] = &["data: 1\n\n", "data: 2\n\n", "data: 3\n\n"];

/// Requests that are noted; the oldest go first.
const NOTES: usize = 64;

/// Names and echoes of requests that asked to be noted.
type Notes = Arc<Mutex<VecDeque<(String, Value)>>>;

/// A bound server that has not begun to answer.
pub struct Server {
    name: String,
    listener: TcpListener,
}

impl Server {
    /// Bind an address; port 0 takes a free one.
    pub fn bind(name: &str, address: &str) -> io::Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            listener: TcpListener::bind(address)?,
        })
    }

    /// The address in use.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answer until the process ends; one thread a connection.
    pub fn run(self) {
        let notes = Notes::default();
        for stream in self.listener.incoming() {
            // A failed accept (out of descriptors, say) concerns one client, not the server.
            let Ok(stream) = stream else { continue };
            let (name, notes) = (self.name.clone(), Arc::clone(&notes));
            std::thread::spawn(move || {
                // An error here is the peer's way of ending the connection.
                let _ = serve(&name, &notes, stream);
            });
        }
    }
}

/// What a request asked for, beyond an echo.
#[derive(Debug, PartialEq, Eq)]
enum Behaviour {
    Echo,
    Status(u16),
    Delay(Duration),
    Bytes(usize),
    Chunked,
    Trailers,
    Events(Duration),
    Close,
    Half(Option<Duration>),
    Nonsense,
    Noted(String),
    Endpoints(Vec<String>),
}

impl Behaviour {
    fn of(path: &str) -> Self {
        let segments: Vec<&str> = path.split('/').collect();
        for (i, segment) in segments.iter().enumerate() {
            let number = segments.get(i + 1).and_then(|n| n.parse::<u64>().ok());
            match (*segment, number) {
                ("status", Some(n @ 200..=599)) => return Self::Status(n as u16),
                ("delay", Some(n)) => return Self::Delay(Duration::from_millis(n).min(MAX_DELAY)),
                ("bytes", Some(n)) => {
                    return Self::Bytes(
                        usize::try_from(n.min(crate::message::MAX_BODY)).unwrap_or(0),
                    );
                }
                ("chunked", _) => return Self::Chunked,
                ("trailers", _) => return Self::Trailers,
                ("sse", n) => {
                    let pause = Duration::from_millis(n.unwrap_or(0));
                    return Self::Events(pause.min(MAX_DELAY));
                }
                ("close", _) => return Self::Close,
                ("half", n) => {
                    let rest = n.map(Duration::from_millis);
                    return Self::Half(rest.map(|rest| rest.min(MAX_DELAY)));
                }
                ("nonsense", _) => return Self::Nonsense,
                ("endpoints", _) => {
                    let list = segments.get(i + 1).copied().unwrap_or_default();
                    return Self::Endpoints(list.split(',').map(str::to_owned).collect());
                }
                ("noted", _) => {
                    let name = segments.get(i + 1).copied().unwrap_or_default();
                    return Self::Noted(name.to_owned());
                }
                _ => {}
            }
        }
        Self::Echo
    }
}

fn serve(name: &str, notes: &Notes, stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    while let Some((start, headers)) = read_head(&mut reader)? {
        let mut words = start.split(' ');
        let (Some(method), Some(target)) = (words.next(), words.next()) else {
            return Ok(());
        };
        if headers.lists("expect", "100-continue") {
            writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let (body, _) = read_body(&mut reader, Framing::of_request(&headers)?)?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let close = headers.lists("connection", "close") || start.ends_with("HTTP/1.0");
        let mut status = 200;
        if let Some(note) = headers.get("x-note") {
            let mut notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
            notes.truncate(NOTES - 1);
            let seen = echo(name, method, path, query, &headers, &body);
            notes.push_front((note.to_owned(), seen));
        }
        let behaviour = Behaviour::of(path);
        let mut noted = None;
        if path.contains("/begun/") {
            writer.write_all(b"HTTP/1.1 103 Early Hints\r\n\r\n")?;
        }
        match &behaviour {
            Behaviour::Close => return Ok(()),
            Behaviour::Nonsense => return writer.write_all(b"220 ready\r\n\r\n"),
            Behaviour::Delay(time) => std::thread::sleep(*time),
            Behaviour::Status(code) => status = *code,
            Behaviour::Noted(asked) => {
                let notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
                let found = notes.iter().find(|(note, _)| note == asked);
                noted = found.map(|(_, seen)| seen.clone());
                status = if noted.is_some() { 200 } else { 404 };
            }
            _ => {}
        }
        let mut head = format!(
            "HTTP/1.1 {status} {}\r\nx-backend: {name}\r\n",
            reason(status)
        );
        for (field, value) in response_headers(query) {
            head.push_str(&format!("{field}: {value}\r\n"));
        }
        if behaviour == Behaviour::Echo
            && headers.lists("connection", "upgrade")
            && headers.lists("upgrade", "websocket")
        {
            return converse(head, &headers, reader, writer);
        }
        if close {
            head.push_str("connection: close\r\n");
        }
        let payload = match behaviour {
            Behaviour::Chunked => chunks(&mut head, "text/plain", &["one ", "two ", "three"], ""),
            Behaviour::Trailers => chunks(
                &mut head,
                "text/plain",
                &["with ", "trailers"],
                "x-trailer: end\r\n",
            ),
            Behaviour::Events(_) => chunks(&mut head, "text/event-stream", EVENTS, ""),
            Behaviour::Endpoints(ref items) => whole(
                &mut head,
                "application/json",
                json!({"items": items}).to_string().into_bytes(),
            ),
            Behaviour::Bytes(n) => whole(&mut head, "text/plain", vec![b'x'; n]),
            Behaviour::Half(_) => whole(&mut head, "text/plain", b"this and that".to_vec()),
            _ if status == 204 || status == 304 => {
                head.push_str("\r\n");
                Vec::new()
            }
            _ => whole(
                &mut head,
                "application/json",
                noted
                    .unwrap_or_else(|| echo(name, method, path, query, &headers, &body))
                    .to_string()
                    .into_bytes(),
            ),
        };
        let mut bytes = head.into_bytes();
        let begin = bytes.len();
        if method != "HEAD" {
            bytes.extend_from_slice(&payload);
        }
        match behaviour {
            Behaviour::Events(pause) if !pause.is_zero() && bytes.len() > begin => {
                one_by_one(&mut writer, &bytes, begin, pause)?;
            }
            Behaviour::Half(rest) => {
                let (first, second) = bytes.split_at(begin + payload.len() / 2);
                writer.write_all(first)?;
                let Some(pause) = rest else { return Ok(()) };
                std::thread::sleep(pause);
                writer.write_all(second)?;
            }
            _ => writer.write_all(&bytes)?,
        }
        if close {
            return Ok(());
        }
    }
    Ok(())
}

/// Write the head, and each event after a pause of its own.
fn one_by_one(out: &mut impl Write, bytes: &[u8], begin: usize, pause: Duration) -> io::Result<()> {
    let (head, body) = bytes.split_at(begin);
    out.write_all(head)?;
    // All chunks are of one length; the last piece is the end of the body.
    let each = body.len().saturating_sub("0\r\n\r\n".len()) / EVENTS.len();
    for piece in body.chunks(each.max(1)) {
        std::thread::sleep(pause);
        out.write_all(piece)?;
    }
    Ok(())
}

/// Switch to WebSocket and send every message back, until the other side ends the conversation.
fn converse(
    head: String,
    headers: &Fields,
    mut reader: impl Read,
    mut writer: impl Write,
) -> io::Result<()> {
    let fields = head.split_once("\r\n").map_or("", |(_, fields)| fields);
    let accept = websocket::accept(headers.get("sec-websocket-key").unwrap_or_default());
    write!(
        writer,
        "HTTP/1.1 101 Switching Protocols\r\n{fields}connection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-accept: {accept}\r\n\r\n"
    )?;
    loop {
        let (opcode, payload) = websocket::read(&mut reader, true)?;
        websocket::write(&mut writer, opcode, &payload, false)?;
        if opcode == websocket::CLOSE {
            return Ok(());
        }
    }
}

/// End the head for a body of known length.
fn whole(head: &mut String, content_type: &str, body: Vec<u8>) -> Vec<u8> {
    head.push_str(&format!(
        "content-type: {content_type}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    ));
    body
}

/// End the head for a chunked body.
fn chunks(head: &mut String, content_type: &str, parts: &[&str], trailers: &str) -> Vec<u8> {
    head.push_str(&format!(
        "content-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n"
    ));
    let mut body = String::new();
    for part in parts {
        body.push_str(&format!("{:x}\r\n{part}\r\n", part.len()));
    }
    body.push_str(&format!("0\r\n{trailers}\r\n"));
    body.into_bytes()
}

fn echo(name: &str, method: &str, path: &str, query: &str, headers: &Fields, body: &[u8]) -> Value {
    let mut seen = Map::new();
    for (field, value) in &headers.0 {
        let value = Value::String(value.clone());
        match seen.entry(field.to_ascii_lowercase()) {
            serde_json::map::Entry::Vacant(slot) => {
                slot.insert(value);
            }
            serde_json::map::Entry::Occupied(mut slot) => match slot.get_mut() {
                Value::Array(list) => list.push(value),
                one => *one = Value::Array(vec![one.take(), value]),
            },
        }
    }
    let text = std::str::from_utf8(body)
        .ok()
        .filter(|t| t.len() <= ECHO_LIMIT);
    json!({"backend": name, "method": method, "path": path, "query": query, "headers": seen, "bodyLength": body.len(), "body": text})
}

fn response_headers(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query
        .split('&')
        .filter_map(|pair| pair.strip_prefix("response-header="))
        .filter_map(|field| field.split_once(':'))
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        304 => "Not Modified",
        404 => "Not Found",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Test",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Connection, Request, get};

    fn start() -> SocketAddr {
        let server = Server::bind("blue", "127.0.0.1:0").unwrap();
        let address = server.address().unwrap();
        std::thread::spawn(move || server.run());
        address
    }

    #[test]
    fn echoes_what_it_saw_and_keeps_the_connection() {
        let mut connection = Connection::open(start()).unwrap();
        let request = Request {
            method: "POST".into(),
            host: "shop.example".into(),
            target: "/a/b?x=1&response-header=x-r:v".into(),
            headers: vec![("X-A".into(), "1".into()), ("x-a".into(), "2".into())],
            body: b"hello".to_vec(),
        };
        for _ in 0..2 {
            let answer = connection.send(&request).unwrap();
            assert_eq!(
                (answer.status, answer.keep_alive, answer.headers.get("x-r")),
                (200, true, Some("v"))
            );
            let seen: Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(seen["path"], "/a/b");
            assert_eq!(seen["query"], "x=1&response-header=x-r:v");
            assert_eq!(seen["headers"]["x-a"], json!(["1", "2"]));
            assert_eq!(
                (&seen["backend"], &seen["bodyLength"], &seen["body"]),
                (&json!("blue"), &json!(5), &json!("hello"))
            );
        }
    }

    #[test]
    fn paths_ask_for_behaviours() {
        let address = start();
        assert_eq!(get(address, "h", "/api/status/503").unwrap().status, 503);
        assert_eq!(get(address, "h", "/status/204").unwrap().body, b"");
        assert_eq!(get(address, "h", "/bytes/1024").unwrap().body.len(), 1024);
        assert_eq!(
            get(address, "h", "/chunked").unwrap().body,
            b"one two three"
        );
        assert_eq!(
            get(address, "h", "/trailers")
                .unwrap()
                .trailers
                .get("x-trailer"),
            Some("end")
        );
        assert_eq!(
            get(address, "h", "/sse")
                .unwrap()
                .headers
                .get("content-type"),
            Some("text/event-stream")
        );
        assert!(get(address, "h", "/close").is_err());
        assert!(get(address, "h", "/half").unwrap().cut);
        let half = get(address, "h", "/half/1").unwrap();
        assert_eq!((&half.body[..], half.cut), (&b"this and that"[..], false));
        assert_eq!(get(address, "h", "/noted/a").unwrap().status, 404);
        let mut connection = Connection::open(address).unwrap();
        let request = Request {
            method: "GET".into(),
            host: "h".into(),
            target: "/x".into(),
            headers: vec![("x-note".into(), "a".into())],
            body: Vec::new(),
        };
        connection.send(&request).unwrap();
        let noted = get(address, "h", "/noted/a").unwrap();
        let seen: Value = serde_json::from_slice(&noted.body).unwrap();
        assert_eq!((noted.status, &seen["path"]), (200, &json!("/x")));
    }
}

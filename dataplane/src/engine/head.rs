//! The heads of a request and of an answer above the codec: parsed, sanitised, free of connection matters.
//!
//! `Connection` and the fields it names, `Transfer-Encoding`, `Content-Length`, `TE`, `Trailer`, `Upgrade` and their
//! like never stand in `headers`: the codec reads them into `framing`, `upgrade` and its own state and writes them anew.

use super::sanitize::Host;
use model::{AcceptedCodings, Headers};

/// A request method (RFC 9110 section 9.1): a case-sensitive token of at most [`Method::MAX`] bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Method {
    #[default]
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Patch,
    Trace,
    /// An extension method. Never the name of one of the others, nor CONNECT.
    Other(Box<str>),
}

impl Method {
    /// Longest accepted name; the longest registered one has 17.
    pub const MAX: usize = 32;

    /// `None` when `text` is not a token of at most [`Method::MAX`] bytes, and for CONNECT, in whatever form its target
    /// is: to some upstreams it would be a tunnel to a host that its client names.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "CONNECT" => return None,
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "DELETE" => Self::Delete,
            "OPTIONS" => Self::Options,
            "PATCH" => Self::Patch,
            "TRACE" => Self::Trace,
            other if other.len() <= Self::MAX && model::headers::is_token(other.as_bytes()) => {
                Self::Other(other.into())
            }
            _ => return None,
        })
    }

    pub fn as_str(&self) -> &str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Patch => "PATCH",
            Self::Trace => "TRACE",
            Self::Other(name) => name,
        }
    }

    /// Whether repeating a request does no more than sending it once (RFC 9110 section 9.2.2).
    pub fn is_idempotent(&self) -> bool {
        matches!(
            self,
            Self::Get | Self::Head | Self::Put | Self::Delete | Self::Options | Self::Trace
        )
    }
}

/// The version in which the other side speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    Http10,
    #[default]
    Http11,
    Http2,
}

/// How long a body is, as its sender announced it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// No body. On a request: no framing field either.
    #[default]
    Empty,
    /// Exactly so many bytes; zero is allowed. On an answer to HEAD and on 304: what a GET would get.
    Length(u64),
    /// Unknown length, with a mark at the end (chunked, or an HTTP/2 stream).
    Chunked,
    /// Unknown length, ended by the end of the connection. Answers only.
    UntilClose,
}

/// A request as it stands after the edge gate. Reused from request to request on a connection.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    pub method: Method,
    /// Path in its one normal form, and query.
    pub target: Target,
    /// Canonical host and port of the request; the empty host for an HTTP/1.0 request without one.
    pub host: Host,
    pub version: Version,
    /// It came over TLS.
    pub secure: bool,
    /// End-to-end fields. `host` is among them, in canonical form, and is what the upstream will get.
    pub headers: Headers,
    /// How the body goes to the upstream. Whoever changes a body's length on the way sets this to
    /// [`Framing::Chunked`] before relaying.
    pub framing: Framing,
    /// The client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// Protocols that the client would rather speak on this connection from here on, in its order of preference: the
    /// value of an `Upgrade` field, checked, without those that are never forwarded. Such a request has no body.
    pub upgrade: Option<Box<str>>,
    /// The proof that an upstream owes us for switching to WebSocket, where the key is ours.
    pub websocket_accept: Option<Box<str>>,
    /// Content codings that the client accepts, where the rule asks for them: kept apart from `headers`, which say
    /// what the upstream is told.
    pub accepts: AcceptedCodings,
    /// Bytes of the path that the rule's match covers, once there is a rule.
    pub prefix_len: usize,
}

impl RequestHead {
    /// Empties all parts and keeps their buffers.
    pub fn clear(&mut self) {
        self.method = Method::Get;
        self.target.clear();
        self.host.clear();
        self.version = Version::Http11;
        self.secure = false;
        self.headers.clear();
        self.framing = Framing::Empty;
        self.expects_continue = false;
        self.upgrade = None;
        self.websocket_accept = None;
        self.accepts = AcceptedCodings::default();
        self.prefix_len = 0;
    }

    /// `https` or `http`.
    pub fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    pub fn path(&self) -> &str {
        self.target.path()
    }

    /// The query without its `?`; `Some("")` for a bare `?`.
    pub fn query(&self) -> Option<&str> {
        self.target.query()
    }
}

/// Path and query in one buffer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    text: String,
    /// Where the path ends: at the end of `text`, or before a `?`.
    path_len: usize,
    /// The same as the client asked for it; empty as long as nothing has been rewritten.
    asked: String,
    asked_path_len: usize,
}

impl Target {
    pub fn path(&self) -> &str {
        self.text.get(..self.path_len).unwrap_or_default()
    }

    /// The query without its `?`.
    pub fn query(&self) -> Option<&str> {
        self.text.get(self.path_len + 1..)
    }

    /// Path and query as they go on the wire.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Path and query as the client gave them, in normal form, whatever they have been rewritten to.
    pub fn asked(&self) -> &str {
        match self.asked.is_empty() {
            true => &self.text,
            false => &self.asked,
        }
    }

    pub fn asked_path(&self) -> &str {
        match self.asked.is_empty() {
            true => self.path(),
            false => self.asked.get(..self.asked_path_len).unwrap_or_default(),
        }
    }

    pub fn asked_query(&self) -> Option<&str> {
        match self.asked.is_empty() {
            true => self.query(),
            false => self.asked.get(self.asked_path_len + 1..),
        }
    }

    /// Replaces the path; the query stays. The caller vouches for the form: it must have passed
    /// [`sanitize::path`](super::sanitize::path) or come from checked configuration.
    pub fn set_path(&mut self, path: &str) {
        if self.asked.is_empty() {
            self.asked.push_str(&self.text);
            self.asked_path_len = self.path_len;
        }
        self.text.replace_range(..self.path_len, path);
        self.path_len = path.len();
    }

    /// Replaces or removes the query; the path stays. The caller vouches for the form, see
    /// [`sanitize::query`](super::sanitize::query).
    pub fn set_query(&mut self, query: Option<&str>) {
        self.text.truncate(self.path_len);
        if let Some(query) = query {
            self.text.push('?');
            self.text.push_str(query);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.path_len = 0;
        self.asked.clear();
    }

    /// The buffer, emptied, for a path that is written piece by piece; [`Target::path_done`] must follow.
    pub(crate) fn start_path(&mut self) -> &mut String {
        self.clear();
        &mut self.text
    }

    pub(crate) fn path_done(&mut self) {
        self.path_len = self.text.len();
    }
}

/// An answer. Reused from request to request on a connection. There is no reason phrase: the codec writes the
/// registered one.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    /// 100 to 999.
    pub status: u16,
    pub version: Version,
    /// End-to-end fields.
    pub headers: Headers,
    /// How the body comes. Whoever changes a body's length on the way sets this to [`Framing::Chunked`].
    pub framing: Framing,
    /// With 101: the protocol that follows, one of those that the request offered. With 426: what is asked for.
    pub upgrade: Option<Box<str>>,
}

impl ResponseHead {
    /// Begins an answer of our own: no fields, no body.
    pub fn reset(&mut self, status: u16) {
        self.status = status;
        self.version = Version::Http11;
        self.headers.clear();
        self.framing = Framing::Length(0);
        self.upgrade = None;
    }

    /// Whether another head follows. 101 is final: what follows it is not HTTP.
    pub fn is_informational(&self) -> bool {
        self.status < 200 && !self.is_switching()
    }

    /// Whether the body is a stream of server-sent events, which may last as long as they come.
    pub fn is_event_stream(&self) -> bool {
        if matches!(self.framing, Framing::Empty | Framing::Length(_)) {
            return false;
        }
        let kind = self.headers.get_known(model::headers::Known::ContentType);
        kind.is_some_and(|kind| {
            let essence = kind.split(|b| *b == b';').next().unwrap_or_default();
            essence
                .trim_ascii()
                .eq_ignore_ascii_case(b"text/event-stream")
        })
    }

    /// 101: from here on both sides are a tunnel of bytes.
    pub fn is_switching(&self) -> bool {
        self.status == 101
    }
}

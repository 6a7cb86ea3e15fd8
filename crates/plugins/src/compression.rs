//! `Compression` compresses answers for clients that accept it.
//!
//! ```yaml
//! type: Compression
//! compression: {algorithms: [zstd, br, gzip], level: 4, minSize: 1Ki, types: [text/*, application/json]}
//! ```
//!
//! The client's weights decide (RFC 9110 section 12.5.3), the list's order among equal ones. An answer goes out as it
//! is where it has a content coding already, is part of something (206), forbids transformation, carries a digest of
//! its bytes, or is a stream of events or of gRPC messages. What is compressed leaves whenever the upstream pauses, so
//! that a slow stream arrives line by line.

use crate::encode::Encoder;
use crate::{
    Compile, Edits, Exchange, InvalidSettings, Needs, Plugin, ResponseView, Stages, Verdict,
};
use model::{Coding, Headers, Stage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Compresses answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Compression {
    /// Codings in the order of preference: `zstd`, `br`, `gzip`. What the client prefers goes first. Default: zstd, br,
    /// gzip.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 3))]
    pub algorithms: Option<Vec<Algorithm>>,
    /// From 1 (fastest) to 9 (smallest); br takes at most 6. Default: 4.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 9))]
    pub level: Option<u8>,
    /// Answers that are known to be smaller are left alone, such as `1Ki`. Default: 1Ki.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 32),
        regex(pattern = r"^[0-9]+(\.[0-9]+)?(k|M|G|Ki|Mi|Gi)?$")
    )]
    pub min_size: Option<String>,
    /// Content types, whole or as `text/*`. `text/event-stream` and `application/grpc` are never compressed. Default:
    /// text/*, application/json, application/javascript, application/xml, application/wasm, image/svg+xml.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 3, max = 256)))]
    pub types: Option<Vec<String>>,
}

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    Zstd,
    Br,
    Gzip,
}

impl From<Algorithm> for Coding {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Zstd => Self::Zstd,
            Algorithm::Br => Self::Br,
            Algorithm::Gzip => Self::Gzip,
        }
    }
}

const ALGORITHMS: [Algorithm; 3] = [Algorithm::Zstd, Algorithm::Br, Algorithm::Gzip];
const TYPES: [&str; 6] = [
    "text/*",
    "application/json",
    "application/javascript",
    "application/xml",
    "application/wasm",
    "image/svg+xml",
];

/// Fields that vouch for the bytes as they came.
const DIGESTS: [&str; 4] = ["content-digest", "repr-digest", "digest", "content-md5"];

pub struct Ready {
    codings: Vec<Coding>,
    level: u8,
    min_size: u64,
    types: Vec<MediaRange>,
}

enum MediaRange {
    Type(String),
    /// With the slash.
    Family(String),
}

/// The list without repetitions; all where there is none.
pub(crate) fn codings(list: Option<Vec<Algorithm>>) -> Vec<Coding> {
    let list = list.unwrap_or_else(|| ALGORITHMS.to_vec());
    let mut codings = Vec::new();
    for coding in list.into_iter().map(Coding::from) {
        if !codings.contains(&coding) {
            codings.push(coding);
        }
    }
    codings
}

impl MediaRange {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.to_ascii_lowercase();
        let wrong = "must be a content type such as text/html, or text/* for all of its kind";
        let (family, subtype) = text.split_once('/').ok_or(wrong)?;
        let token = |t: &str| model::headers::is_token(t.as_bytes()) && !t.contains('*');
        if !token(family) || subtype != "*" && !token(subtype) {
            return Err(wrong);
        }
        if is_stream(text.as_bytes()) {
            return Err("streams of events and of gRPC messages are never compressed");
        }
        Ok(match subtype {
            "*" => Self::Family(text.trim_end_matches('*').to_owned()),
            _ => Self::Type(text),
        })
    }

    fn contains(&self, kind: &[u8]) -> bool {
        match self {
            Self::Type(t) => kind.eq_ignore_ascii_case(t.as_bytes()),
            Self::Family(f) => kind
                .get(..f.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(f.as_bytes())),
        }
    }
}

/// Messages that must leave one by one.
fn is_stream(kind: &[u8]) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    kind.eq_ignore_ascii_case(b"text/event-stream")
        || kind
            .get(..GRPC.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(GRPC))
}

/// Whether a list of tokens, over all fields of this name, holds one.
fn lists(headers: &Headers, name: &str, token: &str) -> bool {
    headers
        .get_all(name)
        .flat_map(|v| v.split(|b| *b == b','))
        .any(|t| t.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

impl Compile for Compression {
    type Ready = Ready;

    fn compile(self) -> Result<Ready, InvalidSettings> {
        let level = self.level.unwrap_or(4);
        if !(1..=9).contains(&level) {
            return Err(InvalidSettings::new("level", "must be from 1 to 9"));
        }
        let min_size = match &self.min_size {
            None => 1 << 10,
            Some(text) => model::quantity::parse_bytes(text)
                .map_err(|e| InvalidSettings::new("minSize", e.to_string()))?,
        };
        let types = self
            .types
            .unwrap_or_else(|| TYPES.map(str::to_owned).to_vec());
        let parse = |(i, t): (usize, &String)| {
            MediaRange::parse(t).map_err(|e| InvalidSettings::new(format!("types[{i}]"), e))
        };
        let codings = codings(self.algorithms);
        if codings.is_empty() {
            let message = "must name at least one of zstd, br, gzip";
            return Err(InvalidSettings::new("algorithms", message));
        }
        Ok(Ready {
            codings,
            level,
            min_size,
            types: types
                .iter()
                .enumerate()
                .map(parse)
                .collect::<Result<_, _>>()?,
        })
    }
}

impl Ready {
    /// Whether this answer is compressed for a client that accepts it.
    fn takes(&self, answer: &ResponseView<'_>) -> bool {
        let headers = answer.headers;
        let Some(kind) = headers.get("content-type") else {
            return false;
        };
        let end = kind.iter().position(|b| *b == b';').unwrap_or(kind.len());
        let kind = kind.get(..end).unwrap_or_default().trim_ascii();
        answer.status >= 200
            && !matches!(answer.status, 204 | 205 | 206 | 304)
            && answer
                .length
                .is_none_or(|length| length >= self.min_size && length > 0)
            && self.types.iter().any(|t| t.contains(kind))
            && !is_stream(kind)
            && !headers.contains("content-encoding")
            && !headers.contains("content-range")
            && !lists(headers, "cache-control", "no-transform")
            && !DIGESTS.iter().any(|name| headers.contains(name))
    }
}

impl Plugin for Ready {
    fn needs(&self) -> Needs {
        Needs {
            stages: Stages::of(&[Stage::PreResponse]),
            codings: true,
            ..Needs::default()
        }
    }

    fn pre_response<'a>(&'a self, x: &Exchange<'a>, edits: &mut Edits) -> Verdict<'a> {
        let Some(answer) = x.response.filter(|answer| self.takes(answer)) else {
            return Verdict::CONTINUE;
        };
        if lists(x.request.headers, "cache-control", "no-transform") {
            return Verdict::CONTINUE;
        }
        let headers = answer.headers;
        if !lists(headers, "vary", "accept-encoding") && !lists(headers, "vary", "*") {
            edits.append("vary", "Accept-Encoding");
        }
        let Some(coding) = x.request.accepts.best(&self.codings) else {
            return Verdict::CONTINUE;
        };
        let Some(encoder) = Encoder::open(coding, self.level) else {
            return Verdict::CONTINUE;
        };
        edits.set("content-encoding", coding.name());
        edits.remove("accept-ranges");
        // The bytes are others, the meaning is the same.
        if let Some(tag) = headers.get("etag").filter(|tag| !tag.starts_with(b"W/")) {
            match tag {
                [b'"', ..] => edits.set("etag", [b"W/", tag].concat()),
                _ => edits.remove("etag"),
            }
        }
        edits.filter_answer(Box::new(encoder));
        Verdict::CONTINUE
    }
}

#[cfg(test)]
#[path = "compression_tests.rs"]
mod tests;

//! `CORS` tells browsers which other sites may read answers (Fetch standard; Gateway API, GEP-1767).
//!
//! ```yaml
//! type: CORS
//! cors: {allowOrigins: ["https://*.example.com"], allowMethods: [GET, PUT], allowHeaders: [x-token], allowCredentials: true, maxAge: 10m}
//! ```
//!
//! Preflight requests are answered here and reach no backend. What a backend says of CORS is replaced: there is one
//! place that decides. An origin that is not allowed gets an answer without permission, which the browser withholds
//! from it; CORS protects readers' data and refuses no request.

use crate::{
    Compile, Edits, Exchange, InvalidSettings, LocalReply, Needs, Plugin, RequestView, Stages,
    Verdict,
};
use model::{HostPattern, Stage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Answers preflight requests and permits origins to read answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CORS {
    /// Origins such as `https://example.com`, `https://*.example.com` for all hosts below it, or `*` for all. Default:
    /// none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    pub allow_origins: Option<Vec<String>>,
    /// Methods beside GET, HEAD and POST, which are always allowed; `*` for all. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 32)))]
    pub allow_methods: Option<Vec<String>>,
    /// Header fields of requests beside the safelisted ones; `*` for all. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 256)))]
    pub allow_headers: Option<Vec<String>>,
    /// Header fields of answers that scripts may read beside the safelisted ones; `*` for all. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 256)))]
    pub expose_headers: Option<Vec<String>>,
    /// Whether requests may carry cookies and other credentials. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_credentials: Option<bool>,
    /// How long a browser may remember the answer to a preflight request, such as `10m`. Default: 5s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"))]
    pub max_age: Option<String>,
}

impl CORS {
    /// Whether that may stand in `allowOrigins`.
    pub fn is_origin(text: &str) -> bool {
        Origin::parse(text).is_ok()
    }
}

pub struct Ready {
    origins: Vec<Origin>,
    methods: List,
    headers: List,
    expose: List,
    credentials: bool,
    /// In seconds.
    max_age: String,
}

enum Origin {
    Any,
    Of {
        scheme: String,
        host: HostPattern,
        port: Option<u16>,
    },
}

/// A list for a header field.
enum List {
    Empty,
    All,
    Some(String),
}

impl Origin {
    fn parse(text: &str) -> Result<Self, &'static str> {
        const FORM: &str =
            "must be *, or an origin such as https://example.com or https://*.example.com:8443";
        if text == "*" {
            return Ok(Self::Any);
        }
        let text = text.to_ascii_lowercase();
        let (scheme, host, port) = split(&text).ok_or(FORM)?;
        let host = HostPattern::parse(host).map_err(|_| FORM)?;
        Ok(Self::Of {
            scheme: scheme.to_owned(),
            host,
            port,
        })
    }

    fn covers(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Of { scheme, host, port } => split(origin)
                .is_some_and(|(s, h, p)| s == scheme && p == *port && is_name(h) && host.covers(h)),
        }
    }
}

/// An origin ends with its host; whatever else could stand before the end of a pattern is none.
fn is_name(host: &str) -> bool {
    let byte = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    host.bytes().all(byte)
}

/// Scheme, host and port of an origin in lower case; the scheme's own port counts as none.
fn split(origin: &str) -> Option<(&str, &str, Option<u16>)> {
    let (scheme, authority) = origin.split_once("://")?;
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => {
            (host, Some(port.parse().ok()?))
        }
        Some(_) => return None,
        None => (authority, None),
    };
    let own = match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    };
    let scheme_is_one = !scheme.is_empty()
        && scheme
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    scheme_is_one.then_some((scheme, host, port.filter(|p| Some(*p) != own)))
}

impl List {
    fn parse(list: Option<Vec<String>>, field: &str) -> Result<Self, InvalidSettings> {
        let list = list.unwrap_or_default();
        if list.iter().any(|item| item == "*") {
            return Ok(Self::All);
        }
        for (i, item) in list.iter().enumerate() {
            if !model::headers::is_token(item.as_bytes()) {
                let message = "must be a name of letters, digits and -, or *";
                return Err(InvalidSettings::new(format!("{field}[{i}]"), message));
            }
        }
        Ok(match list.join(", ") {
            list if list.is_empty() => Self::Empty,
            list => Self::Some(list),
        })
    }
}

impl Compile for CORS {
    type Ready = Ready;

    fn compile(self) -> Result<Ready, InvalidSettings> {
        let origins = self.allow_origins.unwrap_or_default();
        let origin = |(i, text): (usize, &String)| {
            Origin::parse(text).map_err(|e| InvalidSettings::new(format!("allowOrigins[{i}]"), e))
        };
        let max_age = match &self.max_age {
            None => Duration::from_secs(5),
            Some(text) => model::duration::parse(text)
                .map_err(|e| InvalidSettings::new("maxAge", e.to_string()))?,
        };
        Ok(Ready {
            origins: origins
                .iter()
                .enumerate()
                .map(origin)
                .collect::<Result<_, _>>()?,
            methods: List::parse(self.allow_methods, "allowMethods")?,
            headers: List::parse(self.allow_headers, "allowHeaders")?,
            expose: List::parse(self.expose_headers, "exposeHeaders")?,
            credentials: self.allow_credentials.unwrap_or(false),
            max_age: max_age.as_secs().to_string(),
        })
    }
}

impl Ready {
    /// The value of `Access-Control-Allow-Origin`; `None`: the request's origin is not allowed.
    fn permits<'a>(&self, request: &RequestView<'a>) -> Option<&'a [u8]> {
        let mut origins = request.headers.get_all("origin");
        let (Some(sent), None) = (origins.next(), origins.next()) else {
            return None;
        };
        let origin = std::str::from_utf8(sent).ok()?.to_ascii_lowercase();
        if !self.origins.iter().any(|o| o.covers(&origin)) {
            return None;
        }
        match (self.any_origin(), self.credentials) {
            (true, false) => Some(b"*"),
            // Sandboxed documents and files of all kinds call themselves so.
            (_, true) if origin == "null" => None,
            _ => Some(sent),
        }
    }

    fn any_origin(&self) -> bool {
        self.origins.iter().any(|o| matches!(o, Origin::Any))
    }

    /// Whether the answer differs by origin.
    fn varies(&self) -> bool {
        self.credentials || !self.any_origin()
    }

    /// What a preflight request is answered. With credentials a star is no wildcard: what was asked for is repeated.
    fn preflight(&self, request: &RequestView<'_>) -> LocalReply {
        let mut reply = LocalReply::new(204, "");
        let mut add = |name: &str, value: &[u8]| {
            let value = String::from_utf8_lossy(value).into_owned();
            reply.headers.push((name.to_owned(), value));
        };
        if let Some(origin) = self.permits(request) {
            add("access-control-allow-origin", origin);
            if self.credentials {
                add("access-control-allow-credentials", b"true");
            }
            for (name, asked, list) in [
                (
                    "access-control-allow-methods",
                    "access-control-request-method",
                    &self.methods,
                ),
                (
                    "access-control-allow-headers",
                    "access-control-request-headers",
                    &self.headers,
                ),
            ] {
                match list {
                    List::Empty => {}
                    List::Some(list) => add(name, list.as_bytes()),
                    List::All if !self.credentials => add(name, b"*"),
                    List::All => {
                        if let Some(asked) = request.headers.get(asked) {
                            add(name, asked);
                        }
                    }
                }
            }
            // Browsers read it in the answer itself; the Gateway API wants it here too.
            match &self.expose {
                List::Some(list) => add("access-control-expose-headers", list.as_bytes()),
                List::All if !self.credentials => add("access-control-expose-headers", b"*"),
                List::All | List::Empty => {}
            }
            add("access-control-max-age", self.max_age.as_bytes());
        }
        if self.varies() {
            add("vary", b"Origin");
        }
        add(
            "vary",
            b"Access-Control-Request-Method, Access-Control-Request-Headers",
        );
        reply
    }
}

fn is_preflight(request: &RequestView<'_>) -> bool {
    request.method == "OPTIONS"
        && request.headers.contains("origin")
        && request.headers.contains("access-control-request-method")
}

const FIELDS: [&str; 6] = [
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "access-control-allow-methods",
    "access-control-allow-headers",
    "access-control-expose-headers",
    "access-control-max-age",
];

impl Plugin for Ready {
    fn needs(&self) -> Needs {
        Needs {
            stages: Stages::of(&[Stage::PreRequest, Stage::PreResponse]),
            ..Needs::default()
        }
    }

    fn pre_request<'a>(&'a self, x: &Exchange<'a>, _: &mut Edits) -> Verdict<'a> {
        if is_preflight(&x.request) {
            return Verdict::respond(self.preflight(&x.request));
        }
        Verdict::CONTINUE
    }

    fn pre_response<'a>(&'a self, x: &Exchange<'a>, edits: &mut Edits) -> Verdict<'a> {
        let Some(answer) = x.response.filter(|_| !is_preflight(&x.request)) else {
            return Verdict::CONTINUE;
        };
        for name in FIELDS {
            if answer.headers.contains(name) {
                edits.remove(name);
            }
        }
        if let Some(origin) = self.permits(&x.request) {
            edits.set("access-control-allow-origin", origin);
            if self.credentials {
                edits.set("access-control-allow-credentials", "true");
            }
            match &self.expose {
                List::Empty => {}
                List::Some(list) => edits.set("access-control-expose-headers", list.as_str()),
                List::All if !self.credentials => edits.set("access-control-expose-headers", "*"),
                List::All => {
                    // With credentials the star is a name like any other: all that are there are named.
                    let names: Vec<_> = answer.headers.iter().map(|(name, _)| name).collect();
                    edits.set("access-control-expose-headers", names.join(", "));
                }
            }
        }
        if self.varies() {
            edits.append("vary", "Origin");
        }
        Verdict::CONTINUE
    }
}

#[cfg(test)]
#[path = "cors_tests.rs"]
mod tests;

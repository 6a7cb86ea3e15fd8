//! Access log lines with placeholders (features.md F158): read once, where they are checked and where they are used.

use crate::headers::{Known, is_token};

/// A part of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    Text(Box<str>),
    Field(Field),
}

/// What a placeholder stands for. What a request has not is `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    Host,
    Method,
    Path,
    Protocol,
    Query,
    /// Address of the client.
    Remote,
    Scheme,
    /// Path and query.
    Uri,
    Referer,
    UserAgent,
    /// RFC 3339 with milliseconds, in UTC.
    When,
    /// As web servers write it: `10/Oct/2000:13:55:36 +0000`, in UTC.
    WhenCommon,
    /// Seconds since the epoch.
    WhenUnix,
    /// Bytes of the answer's body.
    Size,
    /// The same as `1.2KB`.
    SizeHuman,
    Status,
    /// Milliseconds with three digits behind the point.
    Latency,
    /// The same as `3.5ms` or `2.1s`.
    LatencyHuman,
    /// Bytes of the request's body.
    PayloadSize,
    RequestId,
    Cookie(Box<str>),
    /// Lower case.
    RequestHeader(Box<str>),
    /// Lower case.
    ResponseHeader(Box<str>),
    Context(Context),
}

/// What the gateway itself knows of a request, `{:name}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    Listener,
    Route,
    Rule,
    Upstream,
    Attempts,
    /// Code of the error catalogue.
    Error,
    /// Of the request's `traceparent`.
    TraceId,
    /// Of the configuration that the request was served by, as 12 hexadecimal digits.
    Revision,
}

const FIELDS: &[(&str, Field)] = &[
    ("host", Field::Host),
    ("method", Field::Method),
    ("path", Field::Path),
    ("proto", Field::Protocol),
    ("query", Field::Query),
    ("remote", Field::Remote),
    ("client_ip", Field::Remote),
    ("scheme", Field::Scheme),
    ("uri", Field::Uri),
    ("referer", Field::Referer),
    ("user_agent", Field::UserAgent),
    ("when", Field::When),
    ("when_utc_iso", Field::When),
    ("when_common", Field::WhenCommon),
    ("when_unix", Field::WhenUnix),
    ("size", Field::Size),
    ("size_human", Field::SizeHuman),
    ("status", Field::Status),
    ("latency", Field::Latency),
    ("latency_human", Field::LatencyHuman),
    ("payload_size", Field::PayloadSize),
    ("request_id", Field::RequestId),
];

const CONTEXT: &[(&str, Context)] = &[
    ("listener", Context::Listener),
    ("route", Context::Route),
    ("rule", Context::Rule),
    ("upstream", Context::Upstream),
    ("attempts", Context::Attempts),
    ("error", Context::Error),
    ("trace_id", Context::TraceId),
    ("revision", Context::Revision),
];

/// Lines under a name. What reads logs of web servers reads `common` and `combined`.
const PRESETS: &[(&str, &str)] = &[
    ("tiny", "{method} {uri} {status} {size} - {latency}ms"),
    (
        "short",
        "{remote} {method} {uri} {proto} {status} {size} - {latency}ms",
    ),
    (
        "common",
        "{remote} - - [{when_common}] \"{method} {uri} {proto}\" {status} {size}",
    ),
    (
        "combined",
        "{remote} - - [{when_common}] \"{method} {uri} {proto}\" {status} {size} \"{referer}\" \"{user_agent}\"",
    ),
];

/// The line that a preset stands for; anything else is a line itself.
pub fn preset(text: &str) -> &str {
    let found = PRESETS.iter().find(|(name, _)| *name == text);
    found.map_or(text, |(_, line)| line)
}

/// Reads a line. `{{` and `}}` are braces.
///
/// # Errors
/// A placeholder that does not exist, or one for a field whose value is a credential.
pub fn parse(line: &str) -> Result<Vec<Segment>, String> {
    let mut out = Vec::new();
    let mut text = String::new();
    let mut rest = line;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, after) = rest.split_at(at);
        text.push_str(before);
        if let Some(after) = after.strip_prefix("{{") {
            text.push('{');
            rest = after;
        } else if let Some(after) = after.strip_prefix("}}") {
            text.push('}');
            rest = after;
        } else if let Some(after) = after.strip_prefix('}') {
            text.push('}');
            rest = after;
        } else {
            let Some((name, after)) = after.get(1..).and_then(|t| t.split_once('}')) else {
                return Err("a { is never closed; write {{ for a brace".to_owned());
            };
            if !text.is_empty() {
                out.push(Segment::Text(std::mem::take(&mut text).into()));
            }
            out.push(Segment::Field(field(name)?));
            rest = after;
        }
    }
    text.push_str(rest);
    if !text.is_empty() {
        out.push(Segment::Text(text.into()));
    }
    Ok(out)
}

fn field(name: &str) -> Result<Field, String> {
    if let Some((_, field)) = FIELDS.iter().find(|(own, _)| *own == name) {
        return Ok(field.clone());
    }
    if let Some(name) = name.strip_prefix('~').filter(|n| is_token(n.as_bytes())) {
        return Ok(Field::Cookie(name.into()));
    }
    if let Some(name) = name.strip_prefix('>') {
        return header(name).map(Field::RequestHeader);
    }
    if let Some(name) = name.strip_prefix('<') {
        return header(name).map(Field::ResponseHeader);
    }
    let context = name.strip_prefix(':');
    if let Some((_, context)) = CONTEXT.iter().find(|(own, _)| Some(*own) == context) {
        return Ok(Field::Context(*context));
    }
    let known: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
    let contexts: Vec<String> = CONTEXT.iter().map(|(name, _)| format!(":{name}")).collect();
    Err(format!(
        "{{{name}}} is no placeholder; there are {}, {}, >REQUEST-HEADER, <RESPONSE-HEADER and ~COOKIE",
        known.join(", "),
        contexts.join(", ")
    ))
}

fn header(name: &str) -> Result<Box<str>, String> {
    let name = name.to_ascii_lowercase();
    if !is_token(name.as_bytes()) {
        return Err(format!("{name:?} is not a header name"));
    }
    if Known::of(name.as_bytes()).is_secret() {
        return Err(format!("{name} is a credential, which is never logged"));
    }
    Ok(name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_text_and_fields() {
        let text = |t: &str| Segment::Text(t.into());
        assert_eq!(
            parse("{{{method}}} {>X-Tenant}{<etag} {~beta} {:route}}").unwrap(),
            [
                text("{"),
                Segment::Field(Field::Method),
                text("} "),
                Segment::Field(Field::RequestHeader("x-tenant".into())),
                Segment::Field(Field::ResponseHeader("etag".into())),
                text(" "),
                Segment::Field(Field::Cookie("beta".into())),
                text(" "),
                Segment::Field(Field::Context(Context::Route)),
                text("}"),
            ]
        );
        for (name, _) in PRESETS {
            assert!(parse(preset(name)).unwrap().len() > 5, "{name}");
        }
        assert_eq!(preset("{method}"), "{method}");
    }

    #[test]
    fn what_is_no_placeholder_is_named() {
        for (line, why) in [
            (
                "{nothing}",
                "{nothing} is no placeholder; there are host, method",
            ),
            ("{:nothing}", "{:nothing}"),
            ("{", "never closed"),
            ("{>a b}", "not a header name"),
            ("{~}", "{~} is no"),
            ("{>Authorization}", "never logged"),
            ("{<set-cookie}", "never logged"),
            ("{>cookie}", "never logged"),
        ] {
            let message = parse(line).unwrap_err();
            assert!(message.contains(why), "{line}: {message}");
        }
    }
}

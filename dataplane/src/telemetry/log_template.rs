//! Access log lines by template (features.md F158).

use super::access_log::{Record, push_address};
use super::trace::trace_id;
use model::Headers;
use model::log_template::{Context, Field, Segment};
use std::io::Write;
use std::net::SocketAddr;

/// Appends the line of one request, without its end. `when`: RFC 3339 and seconds since the epoch.
pub(super) fn line(b: &mut Vec<u8>, segments: &[Segment], r: &Record<'_>, when: (&str, u64)) {
    for segment in segments {
        match segment {
            Segment::Text(text) => b.extend_from_slice(text.as_bytes()),
            Segment::Field(one) => field(b, one, r, when),
        }
    }
}

fn field(b: &mut Vec<u8>, field: &Field, r: &Record<'_>, (when, unix): (&str, u64)) {
    let header = |headers: &Headers, name: &str, b: &mut Vec<u8>| value(b, headers.get(name));
    match field {
        Field::Host => value(b, Some(r.host.as_bytes())),
        Field::Method => value(b, Some(r.method.as_bytes())),
        Field::Path => value(b, Some(r.path.as_bytes())),
        Field::Protocol => value(b, Some(r.protocol.as_bytes())),
        Field::Query => value(b, r.query.map(str::as_bytes)),
        // Without the port, as log readers want it.
        Field::Remote => push_address(b, SocketAddr::new(r.client.ip(), 0)),
        Field::Scheme => value(b, Some(r.scheme.as_bytes())),
        Field::Uri => value(b, Some(r.uri.as_bytes())),
        Field::Referer => header(r.request, "referer", b),
        Field::UserAgent => header(r.request, "user-agent", b),
        Field::When => b.extend_from_slice(when.as_bytes()),
        Field::WhenCommon => common_time(b, when),
        Field::WhenUnix => number(b, unix),
        Field::Size => number(b, r.response_bytes),
        Field::SizeHuman => size(b, r.response_bytes),
        // A connection that is passed on has none.
        Field::Status if r.status == 0 => b.push(b'-'),
        Field::Status => number(b, r.status.into()),
        Field::Latency => milliseconds(b, r),
        Field::LatencyHuman => {
            // Writing to a vector cannot fail.
            let _ = match r.duration.as_secs_f64() {
                s if s < 1.0 => write!(b, "{:.1}ms", s * 1000.0),
                s => write!(b, "{s:.1}s"),
            };
        }
        Field::PayloadSize => number(b, r.request_bytes),
        Field::RequestId => header(r.request, "x-request-id", b),
        Field::Cookie(name) => value(b, r.request.cookie(name)),
        Field::RequestHeader(name) => header(r.request, name, b),
        Field::ResponseHeader(name) => header(r.response, name, b),
        Field::Context(context) => match context {
            Context::Listener => value(b, Some(r.listener.as_bytes())),
            Context::Route => value(b, r.route.map(str::as_bytes)),
            Context::Rule => value(b, r.rule.map(str::as_bytes)),
            Context::Upstream => match r.upstream {
                Some(address) => push_address(b, address),
                None => b.push(b'-'),
            },
            Context::Attempts => number(b, r.attempts.into()),
            Context::Error => value(b, r.error.map(str::as_bytes)),
            Context::TraceId => value(b, trace_id(r.request).map(str::as_bytes)),
            Context::Revision => b.extend_from_slice(&r.revision.digits()),
        },
    }
}

/// What came from outside stays within its place in the line: quotes, backslashes, controls and what is not ASCII are
/// written as `\xHH`.
fn value(b: &mut Vec<u8>, text: Option<&[u8]>) {
    let Some(text) = text.filter(|t| !t.is_empty()) else {
        return b.push(b'-');
    };
    for byte in text {
        match byte {
            b'"' | b'\\' | 0..=0x1f | 0x7f..=0xff => {
                let _ = write!(b, "\\x{byte:02X}");
            }
            _ => b.push(*byte),
        }
    }
}

fn number(b: &mut Vec<u8>, n: u64) {
    b.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
}

fn milliseconds(b: &mut Vec<u8>, r: &Record<'_>) {
    let micros = u64::try_from(r.duration.as_micros()).unwrap_or(u64::MAX);
    let _ = write!(b, "{}.{:03}", micros / 1000, micros % 1000);
}

/// Writes a time of RFC 3339 in UTC as web servers do.
fn common_time(b: &mut Vec<u8>, when: &str) {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let part = |range| when.get(range).unwrap_or_default();
    let month: usize = part(5..7).parse().unwrap_or_default();
    let month = MONTHS.get(month.wrapping_sub(1)).copied();
    for text in [
        part(8..10),
        "/",
        month.unwrap_or_default(),
        "/",
        part(0..4),
        ":",
        part(11..19),
        " +0000",
    ] {
        b.extend_from_slice(text.as_bytes());
    }
}

fn size(b: &mut Vec<u8>, bytes: u64) {
    let mut size = bytes as f64;
    for unit in ["B", "KB", "MB", "GB"] {
        if size < 1024.0 || unit == "GB" {
            let _ = match unit {
                "B" => write!(b, "{bytes}B"),
                _ => write!(b, "{size:.1}{unit}"),
            };
            return;
        }
        size /= 1024.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn written(template: &str) -> String {
        let mut request = Headers::new();
        request.push("user-agent", "a \"b\"\\").unwrap();
        request.push("cookie", "beta=1").unwrap();
        request.push("x-tenant", "t").unwrap();
        let mut response = Headers::new();
        response.push("etag", "e").unwrap();
        let record = Record {
            client: ([192, 0, 2, 1], 5).into(),
            error: Some("upstream_reset"),
            request_bytes: 3,
            response_bytes: 2048,
            duration: Duration::from_micros(1534),
            request: &request,
            response: &response,
            ..Record::example()
        };
        let segments = model::log_template::parse(template).unwrap();
        let mut out = Vec::new();
        line(
            &mut out,
            &segments,
            &record,
            ("2026-01-01T00:00:00.000Z", 1_767_225_600),
        );
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_in_the_common_formats_are_what_readers_of_logs_expect() {
        let common = "192.0.2.1 - - [01/Jan/2026:00:00:00 +0000] \"GET /x?q=1 HTTP/1.1\" 200 2048";
        assert_eq!(written(model::log_template::preset("common")), common);
        let combined = format!("{common} \"-\" \"a \\x22b\\x22\\x5C\"");
        assert_eq!(written(model::log_template::preset("combined")), combined);
    }

    #[test]
    fn every_placeholder_has_its_value() {
        for (template, is) in [
            (
                "{host} {method} {path} {query} {uri} {proto} {scheme}",
                "a.test GET /x q=1 /x?q=1 HTTP/1.1 http",
            ),
            ("{remote} {client_ip}", "192.0.2.1 192.0.2.1"),
            (
                "{status} {size} {size_human} {payload_size}",
                "200 2048 2.0KB 3",
            ),
            ("{latency} {latency_human}", "1.534 1.5ms"),
            ("{when} {when_unix}", "2026-01-01T00:00:00.000Z 1767225600"),
            ("{when_common}", "01/Jan/2026:00:00:00 +0000"),
            (
                "\"{user_agent}\" {referer} {request_id}",
                "\"a \\x22b\\x22\\x5C\" - -",
            ),
            ("{~beta}{~none} {>x-tenant} {<etag} {>none}", "1- t e -"),
            (
                "{:listener} {:route} {:rule} {:upstream} {:attempts} {:error} {:revision}",
                "ns/gw/http shop/a - 10.0.0.1:80 2 upstream_reset 00000000002a",
            ),
        ] {
            assert_eq!(written(template), is, "{template}");
        }
    }
}

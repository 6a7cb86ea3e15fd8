//! What a condition of the access log sees of a request.

use super::access_log::{Record, push_address};
use model::Headers;
use model::expression::{Datum, Names};
use std::net::SocketAddr;

impl Names for Record<'_> {
    fn get(&self, name: &str) -> Option<Datum> {
        let text = |text: &str| Datum::Text(text.to_owned());
        let number = |n: u64| Datum::Number(i64::try_from(n).unwrap_or(i64::MAX));
        Some(match name {
            "request.method" => text(self.method),
            "request.host" => text(self.host),
            "request.path" => text(self.path),
            "request.query" => text(self.query.unwrap_or_default()),
            "request.uri" => text(self.uri),
            "request.scheme" => text(self.scheme),
            "request.protocol" => text(self.protocol),
            "request.size" => number(self.request_bytes),
            "request.headers" => headers(self.request),
            "response.status" => number(self.status.into()),
            "response.size" => number(self.response_bytes),
            "response.error" => text(self.error.unwrap_or_default()),
            "response.headers" => headers(self.response),
            "client" => address(self.client),
            "listener" => text(self.listener),
            "route" => text(self.route.unwrap_or_default()),
            "rule" => text(self.rule.unwrap_or_default()),
            "upstream" => self.upstream.map_or_else(|| text(""), address),
            "attempts" => number(self.attempts.into()),
            "duration_us" => number(u64::try_from(self.duration.as_micros()).unwrap_or(u64::MAX)),
            _ => return None,
        })
    }
}

fn address(address: SocketAddr) -> Datum {
    let mut text = Vec::new();
    push_address(&mut text, address);
    Datum::Text(String::from_utf8_lossy(&text).into_owned())
}

/// Several fields of one name are one list, as RFC 9110 section 5.3 has it.
fn headers(headers: &Headers) -> Datum {
    let mut all: Vec<(String, String)> = Vec::new();
    for (name, value) in headers.iter() {
        let name = String::from_utf8_lossy(name.as_ref()).to_ascii_lowercase();
        let value = String::from_utf8_lossy(value);
        match all.iter_mut().find(|(n, _)| *n == name) {
            Some((_, before)) => {
                before.push_str(", ");
                before.push_str(&value);
            }
            None => all.push((name, value.into_owned())),
        }
    }
    Datum::Map(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::log_filter;

    #[test]
    fn a_record_has_all_names() {
        let record = Record::example();
        for name in log_filter::KNOWN {
            assert!(record.get(name).is_some(), "{name}");
        }
        assert!(record.get("request").is_none());
    }

    #[test]
    fn conditions_are_about_the_record() {
        let mut request = Headers::new();
        request.push("X-A", "1").unwrap();
        request.push("x-a", "2").unwrap();
        let record = Record {
            request: &request,
            client: ([192, 0, 2, 1], 5).into(),
            error: Some("upstream_reset"),
            ..Record::example()
        };
        for (text, holds) in [
            ("response.status >= 400", false),
            ("response.status < 400 && request.path == '/x'", true),
            ("request.headers['x-a'] == '1, 2'", true),
            ("request.headers['x-b'] == '1'", false),
            ("client.startsWith('192.0.2.')", true),
            ("response.error != ''", true),
            ("duration_us > 500000", false),
        ] {
            let filter = log_filter::compile(text).unwrap();
            assert_eq!(filter.holds(&record), holds, "{text}");
        }
    }
}

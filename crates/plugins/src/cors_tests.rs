use super::*;
use crate::exchange::tests::request;
use crate::{Flow, ResponseView};
use model::Headers;

fn ready(settings: &str) -> Ready {
    let settings: CORS = serde_json::from_str(settings).unwrap();
    settings.compile().unwrap()
}

fn headers(fields: &[(&str, &str)]) -> Headers {
    let mut headers = Headers::default();
    for (name, value) in fields {
        headers.append(name, value).unwrap();
    }
    headers
}

/// What a preflight request is answered, without Vary; `None`: it goes on.
fn preflight(settings: &str, fields: &[(&str, &str)]) -> Option<Vec<(String, String)>> {
    let sent = headers(fields);
    let ready = ready(settings);
    let verdict = ready.pre_request(&request("OPTIONS", "/", &sent), &mut Edits::default());
    match verdict {
        Verdict::Ready(Ok(Flow::Respond(mut reply))) => {
            assert_eq!(reply.status, 204);
            reply.headers.retain(|(name, _)| name != "vary");
            for (name, _) in &mut reply.headers {
                *name = name.trim_start_matches("access-control-").to_owned();
            }
            Some(reply.headers)
        }
        Verdict::Ready(Ok(Flow::Continue)) => None,
        _ => panic!("no verdict"),
    }
}

/// The fields of an answer to a request from this origin.
fn answer(settings: &str, origin: Option<&str>, fields: &[(&str, &str)]) -> Vec<String> {
    let sent: Vec<_> = origin.iter().map(|o| ("origin", *o)).collect();
    let sent = headers(&sent);
    let backend = headers(fields);
    let mut head = backend.clone();
    let mut edits = Edits::default();
    let ready = ready(settings);
    let mut x = request("GET", "/", &sent);
    x.response = Some(ResponseView {
        status: 200,
        headers: &backend,
        length: None,
        body: None,
    });
    ready.pre_response(&x, &mut edits);
    edits.apply(&mut head).unwrap();
    head.iter()
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value)))
        .collect()
}

const FROM: (&str, &str) = ("origin", "https://a.example.com");
const PUT: (&str, &str) = ("access-control-request-method", "PUT");
const ASKED: (&str, &str) = ("access-control-request-headers", "x-a,x-b");

fn pairs(list: &[(&str, &str)]) -> Option<Vec<(String, String)>> {
    let owned = |(n, v): &(&str, &str)| ((*n).to_owned(), (*v).to_owned());
    Some(list.iter().map(owned).collect())
}

#[test]
fn a_preflight_request_is_answered_with_what_is_allowed() {
    let settings = r#"{"allowOrigins":["https://*.example.com"],"allowMethods":["PUT","DELETE"],"allowHeaders":["x-a"],"maxAge":"10m"}"#;
    assert_eq!(
        preflight(settings, &[FROM, PUT, ASKED]),
        pairs(&[
            ("allow-origin", "https://a.example.com"),
            ("allow-methods", "PUT, DELETE"),
            ("allow-headers", "x-a"),
            ("max-age", "600"),
        ])
    );
    let smallest = r#"{"allowOrigins":["*"]}"#;
    assert_eq!(
        preflight(smallest, &[FROM, PUT, ASKED]),
        pairs(&[("allow-origin", "*"), ("max-age", "5")])
    );
}

#[test]
fn with_credentials_a_star_is_what_was_asked_for() {
    let stars = r#"{"allowOrigins":["*"],"allowMethods":["*"],"allowHeaders":["*"]"#;
    assert_eq!(
        preflight(&format!("{stars}}}"), &[FROM, PUT, ASKED]),
        pairs(&[
            ("allow-origin", "*"),
            ("allow-methods", "*"),
            ("allow-headers", "*"),
            ("max-age", "5"),
        ])
    );
    let credentials = format!(r#"{stars},"allowCredentials":true}}"#);
    assert_eq!(
        preflight(&credentials, &[FROM, PUT, ASKED]),
        pairs(&[
            ("allow-origin", "https://a.example.com"),
            ("allow-credentials", "true"),
            ("allow-methods", "PUT"),
            ("allow-headers", "x-a,x-b"),
            ("max-age", "5"),
        ])
    );
    let null = [("origin", "null"), PUT];
    assert_eq!(preflight(&credentials, &null), pairs(&[]));
}

#[test]
fn only_preflight_requests_are_answered() {
    let settings = r#"{"allowOrigins":["*"]}"#;
    assert_eq!(preflight(settings, &[FROM]), None);
    assert_eq!(preflight(settings, &[PUT]), None);
    let elsewhere = r#"{"allowOrigins":["https://other.com"]}"#;
    assert_eq!(preflight(elsewhere, &[FROM, PUT]), pairs(&[]));
}

#[test]
fn origins_are_compared_by_scheme_host_and_port() {
    for (pattern, origin, expected) in [
        ("https://example.com", "https://example.com", true),
        ("https://example.com", "https://EXAMPLE.com", true),
        ("https://example.com:443", "https://example.com", true),
        ("https://example.com", "http://example.com", false),
        ("https://example.com", "https://example.com:8443", false),
        ("https://example.com:8443", "https://example.com:8443", true),
        ("https://*.example.com", "https://a.b.example.com", true),
        ("https://*.example.com", "https://example.com", false),
        ("https://*.example.com", "https://evilexample.com", false),
        (
            "https://*.example.com",
            "https://a.example.com.evil.net",
            false,
        ),
        (
            "https://*.example.com",
            "https://evil.net/.example.com",
            false,
        ),
        (
            "https://*.example.com",
            "https://x@evil.net:1.example.com",
            false,
        ),
        ("http://*", "http://anything", true),
        ("*", "null", true),
        ("app://host", "app://host", true),
        ("https://example.com", "null", false),
    ] {
        let settings = format!(r#"{{"allowOrigins":["{pattern}"]}}"#);
        let permitted = answer(&settings, Some(origin), &[])
            .iter()
            .any(|f| f.starts_with("access-control-allow-origin"));
        assert_eq!(permitted, expected, "{pattern} {origin}");
    }
}

#[test]
fn an_answer_permits_its_origin_and_what_the_backend_said_is_replaced() {
    let settings =
        r#"{"allowOrigins":["https://a.example.com"],"exposeHeaders":["x-sum","x-more"]}"#;
    let backend = [
        ("access-control-allow-origin", "*"),
        ("vary", "accept"),
        ("x-sum", "1"),
    ];
    assert_eq!(
        answer(settings, Some("https://a.example.com"), &backend),
        [
            "vary: accept",
            "x-sum: 1",
            "access-control-allow-origin: https://a.example.com",
            "access-control-expose-headers: x-sum, x-more",
            "vary: Origin",
        ]
    );
    for origin in [None, Some("https://evil.net")] {
        let got = answer(settings, origin, &backend);
        assert_eq!(got, ["vary: accept", "x-sum: 1", "vary: Origin"]);
    }
    let all = r#"{"allowOrigins":["*"],"exposeHeaders":["*"]}"#;
    assert_eq!(
        answer(all, Some("https://any.net"), &[]),
        [
            "access-control-allow-origin: *",
            "access-control-expose-headers: *"
        ]
    );
    let credentials = r#"{"allowOrigins":["*"],"exposeHeaders":["*"],"allowCredentials":true}"#;
    assert_eq!(
        answer(credentials, Some("https://any.net"), &[("x-sum", "1")]),
        [
            "x-sum: 1",
            "access-control-allow-origin: https://any.net",
            "access-control-allow-credentials: true",
            "access-control-expose-headers: x-sum",
            "vary: Origin",
        ]
    );
}

#[test]
fn settings_that_cannot_work_are_named() {
    for (json, field) in [
        (r#"{"allowOrigins":["*","example.com"]}"#, "allowOrigins[1]"),
        (r#"{"allowOrigins":["https://a.*.com"]}"#, "allowOrigins[0]"),
        (r#"{"allowOrigins":["https://a.com/x"]}"#, "allowOrigins[0]"),
        (r#"{"allowMethods":["GET","P T"]}"#, "allowMethods[1]"),
        (r#"{"allowHeaders":["a\r\nb"]}"#, "allowHeaders[0]"),
        (r#"{"exposeHeaders":[""]}"#, "exposeHeaders[0]"),
        (r#"{"maxAge":"long"}"#, "maxAge"),
    ] {
        let s: CORS = serde_json::from_str(json).unwrap();
        assert_eq!(s.compile().err().unwrap().field, field, "{json}");
    }
}

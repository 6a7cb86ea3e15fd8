use super::*;
use crate::decode::decode;
use crate::exchange::tests::request;
use crate::{BodyFilter, Filters, Passing};

/// What becomes of an answer of this head and body: its head, and its body as the client gets it.
fn answer(
    settings: &str,
    method: &str,
    accepted: &str,
    status: u16,
    fields: &[(&str, &str)],
    body: &[u8],
) -> (Headers, Vec<u8>) {
    let settings: Compression = serde_json::from_str(settings).unwrap();
    let ready = settings.compile().unwrap();
    let mut sent = Headers::default();
    sent.append("accept-encoding", accepted).unwrap();
    let mut headers = Headers::default();
    for (name, value) in fields {
        headers.append(name, value).unwrap();
    }
    let mut x = request(method, "/", &sent);
    x.response = Some(ResponseView {
        status,
        headers: &headers,
        length: Some(body.len() as u64),
        body: None,
    });
    let mut edits = Edits::default();
    ready.pre_response(&x, &mut edits);
    let mut filters = Filters::default();
    edits
        .take_filters()
        .into_iter()
        .for_each(|f| filters.push(Passing::new(f, model::FailurePolicy::Fail, None)));
    let mut edited = headers.clone();
    edits.apply(&mut edited).unwrap();
    let body = filters.whole(body.to_vec().into()).unwrap();
    (edited, body.to_vec())
}

const TEXT: &[(&str, &str)] = &[("content-type", "text/html; charset=utf-8")];

fn coding_of(headers: &Headers) -> Option<String> {
    headers
        .get("content-encoding")
        .map(|v| String::from_utf8_lossy(v).into_owned())
}

#[test]
fn the_answer_is_compressed_in_the_coding_that_was_negotiated() {
    let body = b"to be or not to be, ".repeat(100);
    for (accepted, coding) in [
        ("gzip, deflate, br, zstd", Coding::Zstd),
        ("gzip, br", Coding::Br),
        ("gzip", Coding::Gzip),
        ("zstd;q=0, br;q=0.2, gzip;q=0.3", Coding::Gzip),
    ] {
        let (headers, sent) = answer("{}", "GET", accepted, 200, TEXT, &body);
        assert_eq!(coding_of(&headers).as_deref(), Some(coding.name()));
        assert!(sent.len() < body.len() / 5);
        assert_eq!(decode(coding, &sent, 1 << 20, 1000).unwrap(), body);
    }
}

#[test]
fn an_answer_to_head_has_the_fields_of_the_one_to_get() {
    let body = [b'x'; 2000];
    let fields = [TEXT[0], ("etag", "\"a\""), ("accept-ranges", "bytes")];
    let (to_get, _) = answer("{}", "GET", "gzip", 200, &fields, &body);
    let (to_head, _) = answer("{}", "HEAD", "gzip", 200, &fields, &body);
    assert_eq!(coding_of(&to_head).as_deref(), Some("gzip"));
    assert!(to_head.iter().eq(to_get.iter()));
}

#[test]
fn an_answer_that_may_be_compressed_says_on_what_that_depends() {
    let body = [b'x'; 2000];
    for accepted in ["br;q=0", "identity"] {
        let (headers, sent) = answer("{}", "GET", accepted, 200, TEXT, &body);
        assert_eq!(
            headers.get("vary"),
            Some(&b"Accept-Encoding"[..]),
            "{accepted}"
        );
        assert_eq!((coding_of(&headers), &sent[..]), (None, &body[..]));
    }
    for vary in ["accept-encoding", "Origin, Accept-Encoding", "*"] {
        let fields = [TEXT[0], ("vary", vary)];
        let (headers, _) = answer("{}", "GET", "gzip", 200, &fields, &body);
        assert_eq!(headers.get_all("vary").count(), 1, "{vary}");
    }
    let fields = [TEXT[0], ("vary", "origin")];
    let (headers, _) = answer("{}", "GET", "gzip", 200, &fields, &body);
    let vary: Vec<_> = headers.get_all("vary").collect();
    assert_eq!(vary, [&b"origin"[..], b"Accept-Encoding"]);
}

#[test]
fn what_must_not_be_compressed_passes_untouched() {
    let big = [b'x'; 2000];
    let text = TEXT[0];
    let fields: &[(u16, &[(&str, &str)])] = &[
        (200, &[]),
        (200, &[("content-type", "image/png")]),
        (200, &[("content-type", "text/event-stream")]),
        (200, &[("content-type", "Text/Event-Stream; charset=utf-8")]),
        (200, &[("content-type", "application/grpc+json")]),
        (200, &[text, ("content-encoding", "gzip")]),
        (200, &[text, ("content-encoding", "identity")]),
        (200, &[text, ("cache-control", "max-age=1, No-Transform")]),
        (200, &[text, ("content-digest", "sha-256=:AA==:")]),
        (206, TEXT),
        (204, TEXT),
        (304, TEXT),
        (101, TEXT),
    ];
    for (status, fields) in fields {
        let all = r#"{"types":["text/*","application/*"]}"#;
        let (headers, sent) = answer(all, "GET", "gzip", *status, fields, &big);
        assert_eq!(headers.len(), fields.len(), "{status} {headers:?}");
        assert_eq!(sent, big);
    }
    let (headers, _) = answer("{}", "GET", "gzip", 200, TEXT, &big[..1023]);
    assert_eq!(headers.len(), 1, "below minSize");
    let (headers, _) = answer(r#"{"minSize":"0"}"#, "GET", "gzip", 200, TEXT, b"");
    assert_eq!(headers.len(), 1, "nothing to compress");
}

#[test]
fn a_client_may_forbid_transformation_too() {
    let ready = Compression::default().compile().unwrap();
    let mut sent = Headers::default();
    sent.append("accept-encoding", "gzip").unwrap();
    sent.append("cache-control", "no-transform").unwrap();
    let mut headers = Headers::default();
    headers.append("content-type", "text/html").unwrap();
    let mut x = request("GET", "/", &sent);
    x.response = Some(ResponseView {
        status: 200,
        headers: &headers,
        length: None,
        body: None,
    });
    let mut edits = Edits::default();
    ready.pre_response(&x, &mut edits);
    assert!(edits.is_empty());
}

#[test]
fn fields_that_speak_of_the_plain_bytes_are_changed() {
    let body = [b'x'; 2000];
    for (tag, expected) in [
        (r#""abc""#, Some(&br#"W/"abc""#[..])),
        (r#"W/"abc""#, Some(br#"W/"abc""#)),
        ("abc", None),
    ] {
        let fields = [TEXT[0], ("etag", tag), ("accept-ranges", "bytes")];
        let (headers, _) = answer("{}", "GET", "gzip", 200, &fields, &body);
        assert_eq!(headers.get("etag"), expected);
        assert!(!headers.contains("accept-ranges"));
        let (headers, _) = answer("{}", "GET", "identity", 200, &fields, &body);
        assert_eq!(headers.get("etag"), Some(tag.as_bytes()));
        assert!(headers.contains("accept-ranges"));
    }
}

#[test]
fn a_body_of_unknown_length_is_compressed() {
    let ready = Compression::default().compile().unwrap();
    let mut sent = Headers::default();
    sent.append("accept-encoding", "gzip").unwrap();
    let mut headers = Headers::default();
    headers.append("content-type", "application/json").unwrap();
    let mut x = request("GET", "/", &sent);
    x.response = Some(ResponseView {
        status: 200,
        headers: &headers,
        length: None,
        body: None,
    });
    let mut edits = Edits::default();
    ready.pre_response(&x, &mut edits);
    let mut filter: Box<dyn BodyFilter> = edits.take_filters().remove(0);
    let mut out = filter.chunk("{}\n".into()).unwrap().to_vec();
    out.extend_from_slice(&filter.flush().unwrap());
    assert_eq!(crate::decode::prefix(Coding::Gzip, &out), b"{}\n");
}

#[test]
fn settings_that_cannot_work_are_named() {
    for (json, field) in [
        (r#"{"algorithms":[]}"#, "algorithms"),
        (r#"{"level":0}"#, "level"),
        (r#"{"level":10}"#, "level"),
        (r#"{"minSize":"big"}"#, "minSize"),
        (r#"{"types":["text/*","html"]}"#, "types[1]"),
        (r#"{"types":["*/*"]}"#, "types[0]"),
        (r#"{"types":["text/event-stream"]}"#, "types[0]"),
        (r#"{"types":["application/grpc"]}"#, "types[0]"),
    ] {
        let s: Compression = serde_json::from_str(json).unwrap();
        assert_eq!(s.compile().err().unwrap().field, field, "{json}");
    }
}

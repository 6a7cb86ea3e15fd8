//! Heads between the `h2` crate and ours: requests come through the same edge gate as over HTTP/1.
//!
//! The crate has refused, by resetting the stream: upper-case names, connection fields, `te` other than `trailers`,
//! pseudo-header fields that are missing, unknown, repeated or late, and bodies of another length than announced. It
//! drops a fragment from `:path`, so that one is neither matched nor forwarded.

use crate::engine::date;
use crate::engine::edge::EdgePolicies;
use crate::engine::head::{Framing, Method, RequestHead, ResponseHead, Version};
use crate::engine::sanitize::{self, Host};
use crate::engine::websocket;
use crate::h1::chunked::{TrailerKind, TrailerNames, trailer_kind};
use crate::h1::fields::{self, Class};
use crate::h1::head::{push_host, read_expect};
use crate::h1::{EdgeRule, HeadLimits, MAX_TRAILER_FIELDS, MAX_TRAILERS, Reject};
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, COOKIE, EXPECT, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, request};
use model::headers::{InvalidHeader, Known};
use model::{Edge, EscapedSlashes, Headers};

const TOO_LARGE: Reject = Reject::header_too_large();

/// Reads a request's head, and says by which policy. `ended`: the stream has no body. `edge`: what is let in, by host.
///
/// # Errors
/// What HTTP/1 refuses too, and `:authority` and `host` that disagree.
pub(super) fn read(
    parts: &request::Parts,
    ended: bool,
    limits: &HeadLimits,
    edge: &EdgePolicies,
    head: &mut RequestHead,
) -> Result<Edge, Reject> {
    head.clear();
    head.version = Version::Http2;
    let map = &parts.headers;
    if map.len() > limits.fields && map.len() - further_crumbs(map) > limits.fields {
        return Err(TOO_LARGE.of(EdgeRule::HeaderCount));
    }
    let websocket = parts.method == http::Method::CONNECT;
    if websocket && !asks_for_websocket(parts) {
        return Err(Reject::bad_request("CONNECT is not served").of(EdgeRule::Method));
    }
    head.method = match websocket {
        // As which it is routed and forwarded (RFC 6455 section 4.1).
        true => Method::Get,
        false => Method::parse(parts.method.as_str())
            .ok_or(Reject::bad_request("method is not valid").of(EdgeRule::Method))?,
    };
    read_host(parts, head)?;
    let edge = edge.for_host(head.host.name());
    read_target(parts, limits, edge.escaped_slashes, head)?;
    push_host(head)?;
    head.framing = match websocket {
        false => framing(map, ended)?,
        // What the stream carries is no body.
        true if map.contains_key(CONTENT_LENGTH) => {
            return Err(Reject::bad_request("content-length in CONNECT"));
        }
        true => Framing::Empty,
    };
    for (name, value) in map {
        if fields::class(name.as_str()) != Class::EndToEnd || name == COOKIE {
            continue;
        }
        if !fields::admits(name.as_str(), edge.underscores)? {
            continue;
        }
        push(&mut head.headers, name, value.as_bytes())?;
    }
    if websocket {
        offer_websocket(head)?;
    }
    read_cookies(map, head)?;
    let mut expectations = map.get_all(EXPECT).iter();
    if let Some(expect) = expectations.next() {
        if expectations.next().is_some() {
            return Err(Reject::bad_request("expect is repeated").of(EdgeRule::Header));
        }
        read_expect(expect.as_bytes(), head)?;
    }
    if head.headers.byte_len() > limits.bytes {
        return Err(TOO_LARGE);
    }
    Ok(edge)
}

/// The one use of CONNECT that is no tunnel past us (RFC 8441 section 4). The crate has seen to scheme and path.
fn asks_for_websocket(parts: &request::Parts) -> bool {
    let protocol = parts.extensions.get::<h2::ext::Protocol>();
    protocol.is_some_and(|p| p.as_str().eq_ignore_ascii_case("websocket"))
}

/// What the request is over HTTP/1.1.
fn offer_websocket(head: &mut RequestHead) -> Result<(), Reject> {
    let key = websocket::key();
    head.headers.remove(websocket::KEY);
    push(
        &mut head.headers,
        &HeaderName::from_static(websocket::KEY),
        key.as_bytes(),
    )?;
    head.upgrade = Some("websocket".into());
    head.websocket_accept = Some(websocket::accept(&key));
    Ok(())
}

fn read_target(
    parts: &request::Parts,
    limits: &HeadLimits,
    slashes: EscapedSlashes,
    head: &mut RequestHead,
) -> Result<(), Reject> {
    let raw = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    if raw.len() > limits.target {
        return Err(Reject::uri_too_long());
    }
    if raw == "*" && head.method == Method::Options {
        head.target.start_path().push('*');
        head.target.path_done();
        return Ok(());
    }
    sanitize::target(raw.as_bytes(), slashes, &mut head.target)?;
    // In its normal form a byte may take three.
    match head.target.as_str().len() > limits.target {
        true => Err(Reject::uri_too_long()),
        false => Ok(()),
    }
}

/// `:authority` and `host` say the same, or one of them is not there (RFC 9113 section 8.3.1).
fn read_host(parts: &request::Parts, head: &mut RequestHead) -> Result<(), Reject> {
    let authority = parts.uri.authority();
    if let Some(authority) = authority {
        sanitize::host(authority.as_str().as_bytes(), &mut head.host)?;
    }
    let mut hosts = parts.headers.get_all(HOST).iter();
    let Some(host) = hosts.next() else {
        return match authority {
            Some(_) => Ok(()),
            None => Err(Reject::bad_request("host is missing").of(EdgeRule::Host)),
        };
    };
    if hosts.next().is_some() {
        return Err(Reject::bad_request("host is repeated").of(EdgeRule::Host));
    }
    let mut named = Host::default();
    sanitize::host(host.as_bytes(), &mut named)?;
    if authority.is_some() {
        let default_port = match parts.uri.scheme_str() {
            Some("http") => 80,
            _ => 443,
        };
        let port = |h: &Host| h.port().unwrap_or(default_port);
        if named.name() != head.host.name() || port(&named) != port(&head.host) {
            return Err(Reject::bad_request("authority and host disagree").of(EdgeRule::Host));
        }
        return Ok(());
    }
    head.host = named;
    Ok(())
}

fn framing(map: &HeaderMap, ended: bool) -> Result<Framing, Reject> {
    let mut lengths = map.get_all(CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else {
        return Ok(if ended {
            Framing::Empty
        } else {
            Framing::Chunked
        });
    };
    if lengths.next().is_some() {
        return Err(Reject::bad_request("content-length is repeated"));
    }
    match fields::length(length.as_bytes())? {
        n if n > 0 && ended => Err(Reject::bad_request("body is shorter than announced")),
        n => Ok(Framing::Length(n)),
    }
}

/// Fields that count as none: browsers send every cookie in a crumb of its own, which over HTTP/1 are one field.
fn further_crumbs(map: &HeaderMap) -> usize {
    map.get_all(COOKIE).iter().count().saturating_sub(1)
}

/// Cookies may come in crumbs, one a field; whoever reads them next wants one field (RFC 9113 section 8.2.3).
fn read_cookies(map: &HeaderMap, head: &mut RequestHead) -> Result<(), Reject> {
    let mut crumbs = map.get_all(COOKIE).iter();
    let Some(first) = crumbs.next() else {
        return Ok(());
    };
    let Some(second) = crumbs.next() else {
        return push(&mut head.headers, &COOKIE, first.as_bytes());
    };
    let mut whole = BytesMut::from(first.as_bytes());
    for crumb in std::iter::once(second).chain(crumbs) {
        if whole.len() + crumb.len() + 2 > Headers::MAX_BYTES {
            return Err(TOO_LARGE);
        }
        whole.extend_from_slice(b"; ");
        whole.extend_from_slice(crumb.as_bytes());
    }
    push(&mut head.headers, &COOKIE, &whole)
}

fn push(headers: &mut Headers, name: &HeaderName, value: &[u8]) -> Result<(), Reject> {
    headers.push(name.as_str(), value).map_err(|e| match e {
        InvalidHeader::TooLarge => TOO_LARGE,
        _ => Reject::bad_request("header field is not valid").of(EdgeRule::Header),
    })
}

/// Reads trailers, a request's or an answer's: what may not be one is dropped, or refuses the message.
///
/// # Errors
/// Too many, too large, or fields that would change the framing.
pub(in crate::engine) fn read_trailers(
    map: &HeaderMap,
    names: TrailerNames,
) -> Result<Option<Box<Headers>>, Reject> {
    if map.len() > MAX_TRAILER_FIELDS {
        return Err(TOO_LARGE.of(EdgeRule::HeaderCount));
    }
    let mut list = Box::<Headers>::default();
    for (name, value) in map {
        match trailer_kind(name.as_str(), names) {
            TrailerKind::Pass => push(&mut list, name, value.as_bytes())?,
            TrailerKind::Drop => {}
            TrailerKind::Refuse => {
                return Err(Reject::bad_request("trailer would change the framing"));
            }
        }
    }
    if list.byte_len() > MAX_TRAILERS {
        return Err(TOO_LARGE);
    }
    Ok((!list.is_empty()).then_some(list))
}

/// The head that tells a client that its WebSocket is open (RFC 8441 section 5).
pub(super) fn websocket_open(head: &ResponseHead) -> Response<()> {
    let mut answer = Response::new(());
    *answer.headers_mut() = fields(&head.headers);
    answer.headers_mut().remove(websocket::ACCEPT);
    answer
}

/// The head of an answer. `bodiless`: the answer has no body whatever its head says (HEAD, 204, 304).
pub(super) fn answer(head: &ResponseHead, bodiless: bool) -> Response<()> {
    let mut answer = Response::new(());
    // 100 to 999 by construction.
    *answer.status_mut() =
        StatusCode::from_u16(head.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let map = answer.headers_mut();
    *map = fields(&head.headers);
    if head.is_informational() {
        return answer;
    }
    if !head.headers.contains_known(Known::Date)
        && let Ok(date) = HeaderValue::from_bytes(&date::now())
    {
        map.insert(http::header::DATE, date);
    }
    match head.framing {
        _ if head.status == 204 => {}
        Framing::Length(n) => {
            map.insert(CONTENT_LENGTH, n.into());
        }
        // Where the stream ends with its head nothing has to be said.
        Framing::Empty | Framing::Chunked | Framing::UntilClose => {
            debug_assert!(bodiless || !map.contains_key(CONTENT_LENGTH));
        }
    }
    answer
}

/// The end-to-end fields of a list. It holds valid fields only, and far fewer than the map takes.
pub(in crate::engine) fn fields(headers: &Headers) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(headers.len() + 2);
    for (name, value) in headers.iter_end_to_end() {
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::from_maybe_shared(Bytes::copy_from_slice(value)),
        ) {
            map.append(name, value);
        }
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use model::Underscores;

    fn head(uri: &str, fields: &[(&str, &str)], ended: bool) -> Result<RequestHead, Reject> {
        of("GET", uri, fields, ended)
    }

    fn of(
        method: &str,
        uri: &str,
        fields: &[(&str, &str)],
        ended: bool,
    ) -> Result<RequestHead, Reject> {
        with(&EdgePolicies::default(), method, uri, fields, ended)
    }

    fn with(
        edge: &EdgePolicies,
        method: &str,
        uri: &str,
        fields: &[(&str, &str)],
        ended: bool,
    ) -> Result<RequestHead, Reject> {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let mut head = RequestHead::default();
        read(&parts, ended, &HeadLimits::default(), edge, &mut head).map(|_| head)
    }

    fn list(headers: &Headers) -> Vec<(String, String)> {
        headers
            .iter()
            .map(|(n, v)| (n.to_owned(), String::from_utf8_lossy(v).into_owned()))
            .collect()
    }

    fn refused(result: Result<RequestHead, Reject>) -> u16 {
        result.map(|_| ()).unwrap_err().status
    }

    #[test]
    fn a_request_is_what_it_would_be_over_http1() {
        let head = head(
            "https://Shop.Example:443/a/./b/../c%7e?x=1",
            &[
                ("accept", "*/*"),
                ("te", "trailers"),
                ("x-a", "1"),
                ("x-a", "2"),
            ],
            true,
        )
        .unwrap();
        assert_eq!(head.target.as_str(), "/a/c~?x=1");
        assert_eq!(head.host.as_str(), "shop.example:443");
        assert_eq!(head.framing, Framing::Empty);
        assert_eq!(head.version, Version::Http2);
        let fields = list(&head.headers);
        let fields: Vec<_> = fields.iter().map(|(n, v)| (&**n, &**v)).collect();
        assert_eq!(
            fields,
            [
                ("host", "shop.example:443"),
                ("accept", "*/*"),
                ("x-a", "1"),
                ("x-a", "2")
            ]
        );
    }

    #[test]
    fn authority_and_host_must_agree() {
        let host = |uri, host: &[(&str, &str)]| head(uri, host, true);
        assert_eq!(host("/", &[("host", "a.b")]).unwrap().host.as_str(), "a.b");
        assert!(host("https://a.b/", &[("host", "A.B.")]).is_ok());
        assert!(host("https://a.b/", &[("host", "a.b:443")]).is_ok());
        for (uri, fields) in [
            ("https://a.b/", &[("host", "a.c")][..]),
            ("https://a.b/", &[("host", "a.b:80")]),
            ("https://a.b/", &[("host", "a.b"), ("host", "a.b")]),
            ("https://a.b/", &[("host", "")]),
            ("https://u@a.b/", &[]),
            ("/", &[]),
            ("/", &[("host", "a b")]),
        ] {
            assert_eq!(refused(host(uri, fields)), 400, "{uri} {fields:?}");
        }
    }

    #[test]
    fn bodies_are_framed_by_length_or_by_their_end() {
        let post = |fields: &[(&str, &str)], ended| of("POST", "https://a/", fields, ended);
        let framing = |fields: &[(&str, &str)], ended| post(fields, ended).unwrap().framing;
        assert_eq!(framing(&[], true), Framing::Empty);
        assert_eq!(framing(&[], false), Framing::Chunked);
        assert_eq!(
            framing(&[("content-length", "7")], false),
            Framing::Length(7)
        );
        assert_eq!(
            framing(&[("content-length", "0")], true),
            Framing::Length(0)
        );
        for fields in [
            &[("content-length", "7")][..],
            &[("content-length", "+7")],
            &[("content-length", "07")],
            &[("content-length", "0"), ("content-length", "0")],
        ] {
            assert_eq!(refused(post(fields, true)), 400, "{fields:?}");
        }
        let expect = post(&[("expect", "100-continue")], false).unwrap();
        assert!(expect.expects_continue);
        assert_eq!(refused(post(&[("expect", "tea")], false)), 400);
    }

    #[test]
    fn cookie_crumbs_become_one_field() {
        let head = head(
            "https://a/",
            &[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2")],
            true,
        );
        let head = head.unwrap();
        let cookies: Vec<_> = head.headers.get_all("cookie").collect();
        assert_eq!(cookies, [b"a=1; b=2"]);
    }

    #[test]
    fn cookie_crumbs_count_as_one_field() {
        let with = |others: usize| {
            let crumbs = std::iter::repeat_n(("cookie", "a=1"), 150);
            let others = std::iter::repeat_n(("x", "y"), others);
            head(
                "https://a/",
                &crumbs.chain(others).collect::<Vec<_>>(),
                true,
            )
        };
        let limit = HeadLimits::default().fields;
        assert!(with(limit - 1).is_ok());
        assert_eq!(refused(with(limit)), 431);
    }

    #[test]
    fn what_is_refused_over_http1_is_refused_here() {
        for (method, uri, fields) in [
            ("GET", "https://a/x%2fy", &[][..]),
            ("GET", "https://a/..%2f", &[]),
            ("GET", "https://a/../..", &[]),
            ("GET", "https://a/", &[("x_y", "1")]),
            ("GET", "https://a/", &[("x.y", "1")]),
            ("GET", "https://a/", &[("x", " padded")]),
            ("GET", "https://a_b:x/", &[]),
            ("CONNECT", "a:443", &[]),
        ] {
            if Request::builder().method(method).uri(uri).body(()).is_err() {
                continue; // h2 would not have passed it on
            }
            assert_eq!(
                refused(of(method, uri, fields, true)),
                400,
                "{method} {uri} {fields:?}"
            );
        }
        assert_eq!(
            of("OPTIONS", "*", &[("host", "a")], true).unwrap().path(),
            "*"
        );
        let long = format!("https://a/{}", "x".repeat(9000));
        assert_eq!(refused(head(&long, &[], true)), 414);
        let many: Vec<(&str, &str)> = (0..101).map(|_| ("x", "y")).collect();
        assert_eq!(refused(head("https://a/", &many, true)), 431);
    }

    #[test]
    fn a_listener_may_let_in_what_is_refused_elsewhere() {
        let edge = |underscores| {
            EdgePolicies::same(Edge {
                escaped_slashes: EscapedSlashes::Keep,
                underscores,
            })
        };
        let get = |edge: &EdgePolicies, uri: &str, fields: &[(&str, &str)]| {
            with(edge, "GET", uri, fields, true)
        };
        let (drop, keep) = (edge(Underscores::Drop), edge(Underscores::Keep));
        let metadata = &[("tenant_id", "7"), ("x-a", "1")][..];
        let names = |head: RequestHead| list(&head.headers).into_iter().map(|(n, _)| n);
        let kept = get(&keep, "https://a/x%2fy/../z%2f", metadata).unwrap();
        assert_eq!(kept.target.as_str(), "/z%2F");
        assert!(names(kept).eq(["host", "tenant_id", "x-a"]));
        let dropped = get(&drop, "https://a/", metadata).unwrap();
        assert!(names(dropped).eq(["host", "x-a"]));
        for (uri, field) in [
            ("https://a/..%2fx", "x-a"),
            ("https://a/", "x.a"),
            ("https://a/", "x_forwarded_for"),
            ("https://a/", "content_length"),
        ] {
            assert_eq!(
                refused(get(&keep, uri, &[(field, "1")])),
                400,
                "{uri} {field}"
            );
        }
    }

    #[test]
    fn trailers_are_filtered() {
        let mut map = HeaderMap::new();
        for (name, value) in [("grpc-status", "0"), ("cookie", "a=b"), ("te", "trailers")] {
            map.append(name, HeaderValue::from_static(value));
        }
        let read = |map: &HeaderMap| read_trailers(map, TrailerNames::Plain);
        let trailers = read(&map).unwrap().unwrap();
        assert_eq!(
            list(&trailers),
            [("grpc-status".to_owned(), "0".to_owned())]
        );
        map.append("content-length", HeaderValue::from_static("5"));
        assert_eq!(read(&map).unwrap_err().status, 400);
        assert!(read(&HeaderMap::new()).unwrap().is_none());
    }

    #[test]
    fn answers_carry_no_connection_fields() {
        let mut head = ResponseHead::default();
        head.reset(200);
        for (name, value) in [
            ("x-a", "1"),
            ("connection", "close"),
            ("keep-alive", "5"),
            ("upgrade", "x"),
        ] {
            head.headers.push(name, value).unwrap();
        }
        head.framing = Framing::Length(5);
        let made = answer(&head, false);
        let mut names: Vec<_> = made.headers().keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-length", "date", "x-a"]);
        head.status = 204;
        assert!(!answer(&head, true).headers().contains_key("content-length"));
        head.status = 103;
        assert_eq!(answer(&head, false).headers().len(), 1);
    }
}

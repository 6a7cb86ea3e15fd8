//! Properties of the codec: no way of cutting a message into reads changes what it means.

use super::body::{Decoder, Piece, TrailerNames};
use super::encode::{self, AnswerTo, Encoder};
use super::head::{Parsed, RequestParser};
use super::response::ResponseParser;
use super::{MAX_HEAD, Reject};
use crate::engine::EdgePolicies;
use crate::engine::head::{Framing, Method, RequestHead, ResponseHead};
use crate::engine::outbox::Outbox;
use bytes::{Bytes, BytesMut};
use model::{Edge, EscapedSlashes, Headers, HostPattern, Underscores};
use proptest::prelude::*;

/// What came of a body.
#[derive(Debug, PartialEq)]
struct Decoded {
    body: Vec<u8>,
    done: bool,
    trailers: Option<Headers>,
    /// What was left behind it.
    rest: Vec<u8>,
}

/// Reads as strictly as can be.
fn parse(
    parser: &mut RequestParser,
    text: &[u8],
    head: &mut RequestHead,
) -> Result<Option<Parsed>, Reject> {
    parser.parse(text, &EdgePolicies::default(), head)
}

/// Reads a body that arrives in these parts.
fn decode(framing: Framing, parts: &[&[u8]]) -> Result<Decoded, Reject> {
    let mut decoder = Decoder::new(framing, TrailerNames::Plain);
    let mut buf = BytesMut::new();
    let mut body = Vec::new();
    for part in parts {
        buf.extend_from_slice(part);
        while let Piece::Data(data) = decoder.next(&mut buf)? {
            assert!(!data.is_empty());
            body.extend_from_slice(&data);
        }
    }
    let done = decoder.is_done();
    let trailers = decoder.take_trailers().map(|t| *t);
    Ok(Decoded {
        body,
        done,
        trailers,
        rest: buf.to_vec(),
    })
}

fn bytes_of(out: &mut Outbox) -> Vec<u8> {
    let mut all = Vec::new();
    while !out.is_empty() {
        let (slices, n) = out.slices();
        // Written in odd portions, as a socket would.
        let take = slices[..n]
            .iter()
            .flat_map(|s| s.iter().copied())
            .take(1000)
            .collect::<Vec<u8>>();
        all.extend_from_slice(&take);
        out.advance(take.len());
    }
    all
}

fn cut<'a>(text: &'a [u8], at: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = at
        .iter()
        .map(|i| i.index(text.len() + 1))
        .chain([0, text.len()])
        .collect();
    cuts.sort_unstable();
    cuts.windows(2).map(|w| &text[w[0]..w[1]]).collect()
}

/// Chunked bodies, mostly well-formed.
fn chunked_text() -> impl Strategy<Value = Vec<u8>> {
    let chunk = (
        prop::collection::vec(any::<u8>(), 1..40),
        prop::sample::select(vec!["", "", ";a", ";a=b", ";a=\"x;y\"", ";", " ", ";\n"]),
        prop::sample::select(vec!["\r\n", "\r\n", "\r\n", "\r\n", "\n", ""]),
    )
        .prop_map(|(data, ext, end)| {
            [
                format!("{:x}{ext}\r\n", data.len()).as_bytes(),
                &data,
                end.as_bytes(),
            ]
            .concat()
        });
    let end = prop::sample::select(vec![
        "0\r\n\r\n",
        "0\r\n\r\n",
        "0;x=y\r\n\r\nGET / HTTP/1.1\r\n",
        "0\r\nX-A: b\r\nAuthorization: c\r\n\r\n",
        "0\r\nHost: b\r\n\r\n",
        "\r\n",
        "zz",
        "",
    ]);
    (prop::collection::vec(chunk, 0..5), end)
        .prop_map(|(c, e)| [c.concat(), e.as_bytes().to_vec()].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_chunked_body_is_the_same_in_every_cut(text in chunked_text(), cuts: Vec<prop::sample::Index>) {
        let whole = decode(Framing::Chunked, &[&text]);
        let parts = decode(Framing::Chunked, &cut(&text, &cuts));
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        let single = decode(Framing::Chunked, &bytes);
        prop_assert_eq!(whole.is_ok(), parts.is_ok());
        prop_assert_eq!(whole.is_ok(), single.is_ok());
        if let (Ok(whole), Ok(parts), Ok(single)) = (whole, parts, single) {
            prop_assert_eq!(&whole, &parts);
            prop_assert_eq!(&whole, &single);
        }
    }

    #[test]
    fn what_is_encoded_is_decoded(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..6000), 0..6),
        trailer in "[a-z]{0,5}",
        framing in 0..3u8,
        cuts: Vec<prop::sample::Index>,
    ) {
        let body = pieces.concat();
        let framing = match framing {
            0 => Framing::Chunked,
            1 => Framing::Length(body.len() as u64),
            _ => Framing::UntilClose,
        };
        let mut encoder = match framing {
            Framing::Chunked => Encoder::Chunked,
            Framing::Length(n) => Encoder::Length(n),
            _ => Encoder::UntilClose,
        };
        let mut trailers = Headers::new();
        trailers.push("x-end", &trailer).unwrap();
        let mut out = Outbox::default();
        for piece in &pieces {
            encoder.data(Bytes::copy_from_slice(piece), &mut out).unwrap();
        }
        encoder.end(Some(&trailers), &mut out).unwrap();
        let text = bytes_of(&mut out);
        let read = decode(framing, &cut(&text, &cuts)).unwrap();
        prop_assert!(read.body == body);
        prop_assert!(read.rest.is_empty());
        prop_assert_eq!(read.done, framing != Framing::UntilClose);
        if framing == Framing::Chunked {
            prop_assert_eq!(read.trailers, Some(trailers));
        }
    }

    #[test]
    fn no_bytes_panic(text: Vec<u8>, head_first: bool) {
        let text = if head_first { [&b"GET / HTTP/1.1\r\nHost: t\r\n"[..], &text, b"\r\n\r\n"].concat() } else { text };
        let _ = parse(&mut RequestParser::default(), &text, &mut RequestHead::default());
        let _ = ResponseParser::default().parse(&text, false, &mut ResponseHead::default());
        let _ = decode(Framing::Chunked, &[&text]);
    }

    #[test]
    fn a_head_that_was_taken_is_written_so_that_it_reads_the_same(text in request_text(), cuts: Vec<prop::sample::Index>) {
        let mut head = RequestHead::default();
        let whole = parse(&mut RequestParser::default(), &text, &mut head);
        // In parts.
        let mut parser = RequestParser::default();
        let mut in_parts = RequestHead::default();
        let mut end = 0;
        let mut last = Ok(None);
        for part in cut(&text, &cuts) {
            end += part.len();
            last = parse(&mut parser, &text[..end], &mut in_parts);
            if !matches!(last, Ok(None)) {
                break;
            }
        }
        prop_assert_eq!(whole.is_ok(), last.is_ok());
        let Ok(Some(parsed)) = whole else { return Ok(()) };
        prop_assert_eq!(last, Ok(Some(parsed)));
        // Written and read again.
        let mut out = Vec::new();
        encode::request(&head, &mut out);
        let mut again = RequestHead::default();
        let reparsed = parse(&mut RequestParser::default(), &out, &mut again).unwrap().unwrap();
        prop_assert_eq!(reparsed.len, out.len());
        prop_assert_eq!(&again.method, &head.method);
        prop_assert_eq!(&again.target, &head.target);
        prop_assert_eq!(&again.host, &head.host);
        prop_assert_eq!(&again.headers, &head.headers);
        // What expects a body says that it has none.
        let has_none = |framing| matches!(framing, Framing::Empty | Framing::Length(0));
        prop_assert!(again.framing == head.framing || (has_none(again.framing) && has_none(head.framing)));
    }
}

/// Request heads from the pieces that matter; about half of them are valid.
fn request_text() -> impl Strategy<Value = Vec<u8>> {
    let method = prop::sample::select(vec!["GET", "POST", "HEAD", "OPTIONS", "X-1", "G T", "get"]);
    let target = prop::sample::select(vec![
        "/",
        "/a/./b",
        "/%41?x",
        "*",
        "http://t/y",
        "http://u/",
        "/a%2f",
        "/a b",
        "//",
        "/{}",
        "https://T.:443/?",
    ]);
    let version = prop::sample::select(vec!["1.1", "1.1", "1.1", "1.0", "1.2"]);
    let field = prop::sample::select(vec![
        "Host: t\r\n",
        "Host: T.\r\n",
        "Content-Length: 3\r\n",
        "Content-Length: 03\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Connection: x-a, close\r\n",
        "X-A: b\r\n",
        "X-B:  c d \r\n",
        "X_C: d\r\n",
        "Cookie: a=b\r\n",
        "Y: z\n",
        "W: \u{e9}\r\n",
        "Expect: 100-continue\r\n",
        "TE: trailers\r\n",
    ]);
    (method, target, version, prop::collection::vec(field, 0..5)).prop_map(|(m, t, v, f)| {
        format!("{m} {t} HTTP/{v}\r\nHost: t\r\n{}\r\n", f.concat()).into_bytes()
    })
}

/// One request, looked at from all sides.
#[test]
fn every_part_of_a_head_is_where_it_should_be() {
    let text = b"PUT /a?b HTTP/1.1\r\nContent-Length: 7\r\nHost: h:1\r\nConnection: close, x\r\nX: 1\r\nY: 2\r\n\r\nrest";
    let mut head = RequestHead::default();
    let parsed = parse(&mut RequestParser::default(), text, &mut head)
        .unwrap()
        .unwrap();
    assert_eq!(&text[parsed.len..], b"rest");
    assert!(!parsed.keep_alive);
    assert_eq!(
        (head.method.as_str(), head.path(), head.query()),
        ("PUT", "/a", Some("b"))
    );
    assert_eq!(
        (head.host.name(), head.host.port(), head.framing),
        ("h", Some(1), Framing::Length(7))
    );
    assert_eq!(
        head.headers.iter().collect::<Vec<_>>(),
        [("host", &b"h:1"[..]), ("y", b"2")],
        "Host first, nothing of the connection, nothing that it names"
    );
}

#[test]
fn a_request_whose_method_expects_a_body_says_that_there_is_none() {
    let none = "content-length: 0\r\n";
    for (method, framing, lines) in [
        (Method::Post, Framing::Empty, none),
        (Method::Put, Framing::Empty, none),
        (Method::Patch, Framing::Empty, none),
        (Method::Post, Framing::Length(0), none),
        (Method::Get, Framing::Empty, ""),
        (Method::Delete, Framing::Empty, ""),
    ] {
        let mut head = RequestHead {
            method,
            framing,
            ..RequestHead::default()
        };
        head.headers.push("host", "t").unwrap();
        let mut out = Vec::new();
        encode::request(&head, &mut out);
        let text = String::from_utf8(out).unwrap();
        let (_, rest) = text.split_once("host: t\r\n").unwrap();
        assert_eq!(rest, format!("{lines}\r\n"), "{:?}", head.method);
    }
}

#[test]
fn answers_are_framed_by_what_the_client_can_read() {
    let write = |status, framing, to: AnswerTo| {
        let mut head = ResponseHead {
            status,
            framing,
            ..ResponseHead::default()
        };
        head.headers.push("date", "now").unwrap();
        let mut out = Vec::new();
        encode::answer(&head, to, &mut out);
        String::from_utf8(out).unwrap()
    };
    let plain = AnswerTo {
        head: false,
        http10: false,
        close: false,
    };
    let old = AnswerTo {
        http10: true,
        close: true,
        ..plain
    };
    let to_head = AnswerTo {
        head: true,
        ..plain
    };
    let ok = "HTTP/1.1 200 OK\r\ndate: now\r\n";
    for (status, framing, to, rest) in [
        (200, Framing::Length(5), plain, "content-length: 5\r\n\r\n"),
        (200, Framing::Empty, plain, "content-length: 0\r\n\r\n"),
        (
            200,
            Framing::Chunked,
            plain,
            "transfer-encoding: chunked\r\n\r\n",
        ),
        (
            200,
            Framing::UntilClose,
            plain,
            "transfer-encoding: chunked\r\n\r\n",
        ),
        (200, Framing::UntilClose, old, "connection: close\r\n\r\n"),
        (200, Framing::Chunked, old, "connection: close\r\n\r\n"),
        (
            200,
            Framing::Length(5),
            to_head,
            "content-length: 5\r\n\r\n",
        ),
        (200, Framing::Chunked, to_head, "\r\n"),
    ] {
        assert_eq!(write(status, framing, to), format!("{ok}{rest}"));
    }
    assert_eq!(
        write(204, Framing::Length(0), plain),
        "HTTP/1.1 204 No Content\r\ndate: now\r\n\r\n"
    );
    assert_eq!(
        write(304, Framing::Length(9), plain),
        "HTTP/1.1 304 Not Modified\r\ndate: now\r\ncontent-length: 9\r\n\r\n"
    );
    assert_eq!(
        write(304, Framing::UntilClose, plain),
        "HTTP/1.1 304 Not Modified\r\ndate: now\r\n\r\n"
    );
    assert_eq!(
        write(799, Framing::Length(0), plain),
        "HTTP/1.1 799 \r\ndate: now\r\ncontent-length: 0\r\n\r\n"
    );
}

#[test]
fn a_body_of_another_length_than_announced_is_an_error() {
    let mut out = Outbox::default();
    let mut encoder = Encoder::Length(3);
    encoder.data(Bytes::from_static(b"ab"), &mut out).unwrap();
    assert!(encoder.data(Bytes::from_static(b"cd"), &mut out).is_err());
    assert!(encoder.end(None, &mut out).is_err());
    encoder.data(Bytes::from_static(b"c"), &mut out).unwrap();
    encoder.end(None, &mut out).unwrap();
    assert_eq!(bytes_of(&mut out), b"abc");
}

#[test]
fn a_head_is_scanned_once_however_it_comes() {
    // Quadratic work would make this test take minutes.
    let text = [
        b"GET / HTTP/1.1\r\nHost: t\r\nX: ".to_vec(),
        vec![b'y'; MAX_HEAD],
    ]
    .concat();
    let mut parser = RequestParser::default();
    let mut head = RequestHead::default();
    let refused = (1..=text.len())
        .map(|n| parse(&mut parser, &text[..n], &mut head))
        .find(Result::is_err);
    assert_eq!(refused, Some(Err(Reject::header_too_large())));
}

fn with(underscores: Underscores) -> EdgePolicies {
    EdgePolicies::same(Edge {
        underscores,
        ..Edge::default()
    })
}

#[test]
fn names_with_underscores_are_taken_as_the_listener_has_it() {
    let read = |name: &str, underscores| {
        let text = format!("GET / HTTP/1.1\r\nHost: t\r\n{name}: 1\r\nx-a: 2\r\n\r\n");
        let mut head = RequestHead::default();
        let read = RequestParser::default().parse(text.as_bytes(), &with(underscores), &mut head);
        let names = |head: &RequestHead| head.headers.iter().map(|(n, _)| n.to_owned()).collect();
        read.map(|_| names(&head)).map_err(|reject| reject.status)
    };
    let names = |all: &[&str]| Ok(all.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>());
    for name in [
        "x_user",
        "X_User",
        "_",
        "api_key",
        "a-b_c",
        "x_forwarded",
        "grpc_x_1",
    ] {
        let kept = name.to_ascii_lowercase();
        assert_eq!(read(name, Underscores::Reject), Err(400), "{name}");
        assert_eq!(
            read(name, Underscores::Drop),
            names(&["host", "x-a"]),
            "{name}"
        );
        assert_eq!(
            read(name, Underscores::Keep),
            names(&["host", &kept, "x-a"]),
            "{name}"
        );
    }
    for name in [
        "Content_Length",
        "transfer_encoding",
        "Transfer_encoding",
        "x_forwarded_for",
        "x-forwarded_for",
        "X_Forwarded-Whatever",
        "x_diolkos_anything",
        "x-diolkos_token",
        "x_real_ip",
        "client_cert",
        "x_request_id",
        "proxy_authorization",
        "user_agent",
        "sec_websocket_key",
        "x_diolkos_a-name-that-is-longer-than-any-that-we-know",
    ] {
        assert_eq!(read(name, Underscores::Reject), Err(400), "{name}");
        assert_eq!(
            read(name, Underscores::Drop),
            names(&["host", "x-a"]),
            "{name}"
        );
        assert_eq!(read(name, Underscores::Keep), Err(400), "{name}");
    }
    for name in ["a.b", "a_b.c", "x.forwarded.for"] {
        for underscores in [Underscores::Reject, Underscores::Drop, Underscores::Keep] {
            assert_eq!(read(name, underscores), Err(400), "{name}");
        }
    }
}

#[test]
fn trailers_may_have_the_names_that_the_listener_lets_in() {
    let read = |name: &str, names| {
        let text = format!("0\r\n{name}: 1\r\nx-a: 2\r\n\r\n");
        let mut decoder = Decoder::new(Framing::Chunked, names);
        let mut buf = BytesMut::from(text.as_bytes());
        decoder.next(&mut buf).map(|_| {
            let trailers = decoder.take_trailers().unwrap();
            trailers.contains(name)
        })
    };
    let of = TrailerNames::of_requests;
    for underscores in [Underscores::Reject, Underscores::Drop] {
        assert_eq!(read("x_sum", of(underscores)), Ok(false));
        assert_eq!(read("content_length", of(underscores)), Ok(false));
    }
    let kept = of(Underscores::Keep);
    assert_eq!(read("x_sum", kept), Ok(true));
    for name in [
        "x_forwarded_for",
        "x_diolkos_a",
        "x_diolkos_a_name_that_is_longer_than_any_that_we_know",
        "user_agent",
        "content_length",
        "transfer_encoding",
        "cache_control",
        "a.b",
    ] {
        assert_eq!(read(name, kept), Ok(false), "{name}");
    }
    let of_answers = TrailerNames::Any;
    for name in ["x_sum", "x.sum", "grpc_tags.x"] {
        assert_eq!(read(name, of_answers), Ok(true), "{name}");
    }
    assert_eq!(read("content_length", of_answers), Ok(false));
}

/// Listeners of one port that differ, over one connection.
#[test]
fn the_host_says_which_policy_a_request_is_read_by() {
    let keep = Edge {
        escaped_slashes: EscapedSlashes::Keep,
        underscores: Underscores::Keep,
    };
    let hosts = ["kept.test", "*.kept.test", "strict.test"].map(|h| HostPattern::parse(h).unwrap());
    let [one, below, strict] = &hosts;
    let edge = EdgePolicies::of(&[(one, keep), (below, keep), (strict, Edge::default())]);
    let taken = |target: &str, host: &str, field: &str| {
        let text = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{field}: 1\r\n\r\n");
        let mut head = RequestHead::default();
        let read = RequestParser::default().parse(text.as_bytes(), &edge, &mut head);
        read.is_ok()
    };
    for (host, lax) in [
        ("kept.test", true),
        ("KEPT.test.:8080", true),
        ("a.kept.test", true),
        ("strict.test", false),
        ("other.test", false),
    ] {
        assert_eq!(taken("/a%2fb", host, "x-a"), lax, "{host}");
        assert_eq!(taken("/", host, "x_a"), lax, "{host}");
        assert_eq!(
            taken(&format!("http://{host}/a%2fb"), host, "x-a"),
            lax,
            "{host}"
        );
        assert_eq!(
            taken(&format!("http://{host}/"), host, "x_a"),
            lax,
            "{host}"
        );
        assert!(taken("/", host, "x-a"));
    }
}

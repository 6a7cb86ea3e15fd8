//! Requests that two parsers could read in two ways, and requests that are simply wrong: what the client gets, whether
//! its connection survives, and that the origin never sees more than what was meant.
//!
//! The ids are those of the public Http11Probe collection where it has the case.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use diolkos_dataplane::engine::EdgePolicies;
use model::{Edge, EscapedSlashes, Underscores};
use std::net::Shutdown;
use support::{Rig, Setup};

/// What must happen.
#[derive(Clone, Copy)]
enum Want {
    /// Refused with this status and code; the connection is closed; the origin has seen no complete request.
    Refused(u16, &'static str),
    /// Accepted: so many requests reach the origin, and each answer is 200.
    Served(usize),
}
use Want::{Refused, Served};

const BAD: Want = Refused(400, "bad_request");
const CODING: Want = Refused(501, "unsupported_coding");

fn post(headers: &str, body: &str) -> Vec<u8> {
    format!("POST /echo HTTP/1.1\r\nHost: t\r\n{headers}\r\n{body}").into_bytes()
}

fn get(line: &str, headers: &str) -> Vec<u8> {
    format!("{line}\r\n{headers}\r\n").into_bytes()
}

/// What a smuggler hides in a body.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: t\r\n\r\n";

fn framing() -> Vec<(&'static str, Vec<u8>, Want)> {
    let chunks = "3\r\nabc\r\n0\r\n\r\n";
    let te = "Transfer-Encoding: chunked\r\n";
    let ext = |e: &str| {
        post(
            "Transfer-Encoding: chunked\r\n",
            &format!("3{e}\r\nabc\r\n0\r\n\r\n"),
        )
    };
    let body = |b: &str| post("Transfer-Encoding: chunked\r\n", b);
    let smuggled = |h: &str| post(h, &format!("0\r\n\r\n{HIDDEN}"));
    vec![
        // content-length and transfer-encoding
        (
            "CL-TE-BOTH",
            post(
                "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
                chunks,
            ),
            BAD,
        ),
        (
            "TE-CL-BOTH",
            post(
                "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
                chunks,
            ),
            BAD,
        ),
        (
            "CLTE-PIPELINE",
            smuggled("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n"),
            BAD,
        ),
        (
            "TECL-PIPELINE",
            smuggled("Transfer-Encoding: chunked\r\nContent-Length: 44\r\n"),
            BAD,
        ),
        (
            "CLTE-CONN-CLOSE",
            smuggled("Connection: close\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n"),
            BAD,
        ),
        (
            "CLTE-CL-ZERO",
            smuggled("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"),
            BAD,
        ),
        (
            "DUPLICATE-CL",
            post("Content-Length: 3\r\nContent-Length: 4\r\n", "abcd"),
            BAD,
        ),
        (
            "DUPLICATE-CL-EQUAL",
            post("Content-Length: 3\r\nContent-Length: 3\r\n", "abc"),
            BAD,
        ),
        (
            "DUPLICATE-CL-SMUGGLED-GET",
            post("Content-Length: 0\r\nContent-Length: 33\r\n", HIDDEN),
            BAD,
        ),
        (
            "CL-COMMA-DIFFERENT",
            post("Content-Length: 3, 4\r\n", "abcd"),
            BAD,
        ),
        (
            "CL-COMMA-SAME",
            post("Content-Length: 3, 3\r\n", "abc"),
            BAD,
        ),
        (
            "CL-COMMA-TRIPLE",
            post("Content-Length: 3, 3, 3\r\n", "abc"),
            BAD,
        ),
        (
            "CL-LEADING-ZEROS",
            post("Content-Length: 003\r\n", "abc"),
            BAD,
        ),
        ("CL-DOUBLE-ZERO", post("Content-Length: 00\r\n", ""), BAD),
        (
            "CL-LEADING-ZEROS-OCTAL",
            post("Content-Length: 010\r\n", "abcdefgh"),
            BAD,
        ),
        ("CL-OCTAL", post("Content-Length: 0o3\r\n", "abc"), BAD),
        ("CL-HEX-PREFIX", post("Content-Length: 0x3\r\n", "abc"), BAD),
        ("CL-PLUS", post("Content-Length: +3\r\n", "abc"), BAD),
        ("CL-NEGATIVE", post("Content-Length: -3\r\n", "abc"), BAD),
        ("CL-NEGATIVE-ZERO", post("Content-Length: -0\r\n", ""), BAD),
        (
            "CL-NON-NUMERIC",
            post("Content-Length: abc\r\n", "abc"),
            BAD,
        ),
        ("CL-EMPTY", post("Content-Length:\r\n", ""), BAD),
        (
            "CL-INTERNAL-SPACE",
            post("Content-Length: 1 2\r\n", "abcdefghijkl"),
            BAD,
        ),
        (
            "CL-UNDERSCORE",
            post("Content-Length: 1_0\r\n", "abcdefghij"),
            BAD,
        ),
        (
            "CL-OVERFLOW",
            post("Content-Length: 18446744073709551616\r\n", "abc"),
            BAD,
        ),
        (
            "CL-2^63",
            post("Content-Length: 9223372036854775808\r\n", "abc"),
            BAD,
        ),
        (
            "CL-EXTRA-LEADING-SP",
            post("Content-Length:   3\r\n", "abc"),
            Served(1),
        ),
        (
            "CL-TRAILING-SPACE",
            post("Content-Length: 3 \r\n", "abc"),
            Served(1),
        ),
        (
            "CL-TAB-BEFORE-VALUE",
            post("Content-Length:\t3\r\n", "abc"),
            Served(1),
        ),
        ("UNDERSCORE-CL", post("Content_Length: 3\r\n", "abc"), BAD),
        (
            "UNDERSCORE-TE",
            post("Transfer_Encoding: chunked\r\n", chunks),
            BAD,
        ),
        ("DOT-IN-NAME", post("X.Forwarded.For: 1\r\n", ""), BAD),
        (
            "SP-BEFORE-COLON-CL",
            post("Content-Length : 3\r\n", "abc"),
            BAD,
        ),
        (
            "TE-SP-BEFORE-COLON",
            post("Transfer-Encoding : chunked\r\n", chunks),
            BAD,
        ),
        (
            "TE-XCHUNKED",
            post("Transfer-Encoding: xchunked\r\n", chunks),
            CODING,
        ),
        (
            "TE-IDENTITY",
            post("Transfer-Encoding: identity\r\n", ""),
            CODING,
        ),
        ("TE-GZIP", post("Transfer-Encoding: gzip\r\n", ""), CODING),
        (
            "TE-NOT-FINAL-CHUNKED",
            post("Transfer-Encoding: chunked, gzip\r\n", chunks),
            BAD,
        ),
        (
            "TE-GZIP-CHUNKED",
            post("Transfer-Encoding: gzip, chunked\r\n", chunks),
            BAD,
        ),
        (
            "TE-DOUBLE-CHUNKED",
            post("Transfer-Encoding: chunked, chunked\r\n", chunks),
            BAD,
        ),
        (
            "TE-DUPLICATE-HEADERS",
            post(
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                chunks,
            ),
            BAD,
        ),
        (
            "TE-DUPLICATE-IDENTITY",
            post(
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
                chunks,
            ),
            BAD,
        ),
        (
            "TE-LEADING-COMMA",
            post("Transfer-Encoding: , chunked\r\n", chunks),
            BAD,
        ),
        (
            "TE-TRAILING-COMMA",
            post("Transfer-Encoding: chunked,\r\n", chunks),
            BAD,
        ),
        (
            "TE-EMPTY-VALUE",
            post("Transfer-Encoding:\r\n", chunks),
            BAD,
        ),
        (
            "CHUNKED-WITH-PARAMS",
            post("Transfer-Encoding: chunked;q=1\r\n", chunks),
            BAD,
        ),
        (
            "TE-QUOTED",
            post("Transfer-Encoding: \"chunked\"\r\n", chunks),
            BAD,
        ),
        (
            "TE-VTAB",
            post("Transfer-Encoding: \x0bchunked\r\n", chunks),
            BAD,
        ),
        (
            "TE-FORMFEED",
            post("Transfer-Encoding: \x0cchunked\r\n", chunks),
            BAD,
        ),
        (
            "TE-NULL",
            post("Transfer-Encoding: chunked\0\r\n", chunks),
            BAD,
        ),
        (
            "TE-OBS-FOLD",
            post("Transfer-Encoding:\r\n chunked\r\n", chunks),
            BAD,
        ),
        (
            "TE-OBS-FOLD-AFTER",
            post("X: a\r\n Transfer-Encoding: chunked\r\n", chunks),
            BAD,
        ),
        (
            "TE-HTTP10",
            b"POST /echo HTTP/1.0\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
                .to_vec(),
            BAD,
        ),
        (
            "TE-CASE-MISMATCH",
            post("Transfer-Encoding: ChUnKeD\r\n", chunks),
            Served(1),
        ),
        (
            "TE-TRAILING-SPACE",
            post("Transfer-Encoding: chunked \r\n", chunks),
            Served(1),
        ),
        (
            "TE-TAB-BEFORE-VALUE",
            post("Transfer-Encoding:\tchunked\r\n", chunks),
            Served(1),
        ),
        (
            "CONNECTION-NAMES-CL",
            post("Connection: content-length\r\nContent-Length: 3\r\n", "abc"),
            BAD,
        ),
        (
            "CONNECTION-NAMES-TE",
            post(
                "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n",
                chunks,
            ),
            BAD,
        ),
        (
            "CONNECTION-NAMES-HOST",
            post("Connection: host\r\n", ""),
            BAD,
        ),
        ("CONNECTION-NOT-TOKEN", post("Connection: a b\r\n", ""), BAD),
        (
            "CONNECTION-TOO-MANY",
            post(&format!("Connection: a{}\r\n", ",a".repeat(40)), ""),
            BAD,
        ),
        // chunk grammar
        ("CHUNK-BASIC", body(chunks), Served(1)),
        (
            "CHUNK-UPPERCASE",
            body("A\r\n0123456789\r\n0\r\n\r\n"),
            Served(1),
        ),
        (
            "CHUNK-LEADING-ZEROS",
            body("0000000000000003\r\nabc\r\n0\r\n\r\n"),
            Served(1),
        ),
        ("CHUNK-EMPTY-BODY", body("0\r\n\r\n"), Served(1)),
        (
            "CHUNK-SIZE-OVERFLOW",
            body("00000000000000003\r\nabc\r\n0\r\n\r\n"),
            BAD,
        ),
        (
            "CHUNK-SIZE-2^64-1",
            body("ffffffffffffffff\r\nabc\r\n0\r\n\r\n"),
            BAD,
        ),
        ("EMPTY-CHUNK-SIZE", body("\r\nabc\r\n0\r\n\r\n"), BAD),
        ("EMPTY-CHUNK-SIZE-EXT", body(";a\r\n\r\n"), BAD),
        ("CHUNK-HEX-PREFIX", body("0x3\r\nabc\r\n0\r\n\r\n"), BAD),
        ("CHUNK-SIZE-PLUS", body("+3\r\nabc\r\n0\r\n\r\n"), BAD),
        ("CHUNK-NEGATIVE", body("-3\r\nabc\r\n0\r\n\r\n"), BAD),
        ("CHUNK-UNDERSCORE", body("1_0\r\nabc\r\n0\r\n\r\n"), BAD),
        ("CHUNK-INVALID-SIZE", body("xyz\r\nabc\r\n0\r\n\r\n"), BAD),
        ("CHUNK-LEADING-SP", body(" 3\r\nabc\r\n0\r\n\r\n"), BAD),
        (
            "CHUNK-SIZE-TRAILING-OWS",
            body("3 \r\nabc\r\n0\r\n\r\n"),
            BAD,
        ),
        ("CHUNK-LF-TERM", body("3\nabc\r\n0\r\n\r\n"), BAD),
        ("CHUNK-BARE-CR-TERM", body("3\rabc\r\n0\r\n\r\n"), BAD),
        (
            "CHUNK-MISSING-TRAILING-CRLF",
            body("3\r\nabc0\r\n\r\n"),
            BAD,
        ),
        ("CHUNK-DATA-LF", body("3\r\nabc\n0\r\n\r\n"), BAD),
        ("CHUNK-SPILL", body("3\r\nabcdef\r\n0\r\n\r\n"), BAD),
        (
            "CHUNK-EXT",
            ext(";name=value;other=\"quoted \\\" text\";bare"),
            Served(1),
        ),
        ("CHUNK-BARE-SEMICOLON", ext(";"), BAD),
        ("CHUNK-EXT-INVALID-TOKEN", ext(";a@b=c"), BAD),
        ("CHUNK-EXT-CTRL", ext(";a=\x01"), BAD),
        ("CHUNK-EXT-NUL", ext(";a=\0"), BAD),
        ("CHUNK-EXT-CR", ext(";a\rb"), BAD),
        ("CHUNK-EXT-LF", ext(";a\nb"), BAD),
        ("LF-IN-CHUNK-EXT", ext(";a=\"b\nc\""), BAD),
        ("CHUNK-EXT-UNTERMINATED", ext(";a=\"b"), BAD),
        (
            "CHUNK-EXT-AT-CAP",
            ext(&format!(";{}", "a".repeat(255))),
            Served(1),
        ),
        (
            "CHUNK-EXT-OVER-CAP",
            ext(&format!(";{}", "a".repeat(256))),
            BAD,
        ),
        (
            "CHUNK-EXT-64K",
            ext(&format!(";{}", "a".repeat(65536))),
            BAD,
        ),
        ("TRAILER-CL", body("0\r\nContent-Length: 5\r\n\r\n"), BAD),
        (
            "TRAILER-TE",
            body("0\r\nTransfer-Encoding: chunked\r\n\r\n"),
            BAD,
        ),
        ("TRAILER-HOST", body("0\r\nHost: evil\r\n\r\n"), BAD),
        (
            "TRAILER-AUTH",
            body("0\r\nAuthorization: x\r\n\r\n"),
            Served(1),
        ),
        (
            "TRAILER-CONTENT-TYPE",
            body("0\r\nContent-Type: x\r\n\r\n"),
            Served(1),
        ),
        ("CHUNK-LF-TRAILER", body("0\r\nX: y\n\r\n"), BAD),
        ("TRAILER-OBS-FOLD", body("0\r\nX: y\r\n z\r\n\r\n"), BAD),
        ("TRAILER-NOT-A-FIELD", body("0\r\nnonsense\r\n\r\n"), BAD),
        (
            "TRAILER-64K",
            body(&format!("0\r\nX: {}\r\n\r\n", "y".repeat(65536))),
            Refused(431, "header_too_large"),
        ),
        (
            "TRAILER-MANY",
            body(&format!("0\r\n{}\r\n", "X: y\r\n".repeat(100))),
            Refused(431, "header_too_large"),
        ),
        (
            "PIPELINE-SAFE",
            [body(chunks), post("Content-Length: 1\r\n", "a")].concat(),
            Served(2),
        ),
        (
            "GET-CL-BODY",
            [
                get("GET /echo HTTP/1.1", "Host: t\r\nContent-Length: 33\r\n"),
                HIDDEN.into(),
            ]
            .concat(),
            Served(1),
        ),
        (
            "CL0-BODY-POISON",
            [post("Content-Length: 0\r\n", ""), post("", "")].concat(),
            Served(2),
        ),
        (
            "EXPECT-UNKNOWN",
            post("Expect: 200-ok\r\nContent-Length: 1\r\n", "a"),
            BAD,
        ),
        (
            "EXPECT-TWICE",
            post(
                "Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 1\r\n",
                "a",
            ),
            BAD,
        ),
        (
            "EXPECT-NO-BODY",
            post("Expect: 100-continue\r\n", ""),
            Served(1),
        ),
        (
            "UPGRADE-EARLY-BYTES",
            [
                post("Connection: upgrade\r\nUpgrade: websocket\r\n", ""),
                post("", ""),
            ]
            .concat(),
            Served(2),
        ),
        (
            "UPGRADE-H2C",
            post(
                "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n",
                "",
            ),
            Served(1),
        ),
        (
            "TE-AND-BODY-BOTH-SIDES",
            [post(te, chunks), post(te, chunks)].concat(),
            Served(2),
        ),
    ]
}

fn heads() -> Vec<(&'static str, Vec<u8>, Want)> {
    let host = "Host: t\r\n";
    let with = |h: &str| get("GET / HTTP/1.1", &format!("Host: t\r\n{h}"));
    let target = |t: &str| get(&format!("GET {t} HTTP/1.1"), "Host: t\r\n");
    let named = |h: &str| get("GET / HTTP/1.1", &format!("Host: {h}\r\n"));
    let long = |n: usize| {
        get(
            &format!("GET /{} HTTP/1.1", "a".repeat(n - 1)),
            "Host: t\r\n",
        )
    };
    vec![
        // lines
        ("BARE-LF", b"GET / HTTP/1.1\nHost: t\n\n".to_vec(), BAD),
        (
            "BARE-LF-MIXED",
            b"GET / HTTP/1.1\r\nHost: t\nX: y\r\n\r\n".to_vec(),
            BAD,
        ),
        (
            "BARE-LF-END",
            b"GET / HTTP/1.1\r\nHost: t\r\n\n".to_vec(),
            BAD,
        ),
        (
            "BARE-CR-LINE-END",
            b"GET / HTTP/1.1\rHost: t\r\r\n\r\n".to_vec(),
            BAD,
        ),
        ("BARE-CR-HEADER-VALUE", with("X: a\rb\r\n"), BAD),
        (
            "LEADING-CRLF",
            [b"\r\n".to_vec(), target("/")].concat(),
            Served(1),
        ),
        (
            "LEADING-CRLF-TWICE",
            [b"\r\n\r\n".to_vec(), target("/")].concat(),
            BAD,
        ),
        ("LEADING-LF", [b"\n".to_vec(), target("/")].concat(), BAD),
        ("WHITESPACE-ONLY-LINE", b" \r\n\r\n".to_vec(), BAD),
        (
            "WHITESPACE-BEFORE-HEADERS",
            b"GET / HTTP/1.1\r\n Host: t\r\n\r\n".to_vec(),
            BAD,
        ),
        (
            "BINARY-GARBAGE",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
            BAD,
        ),
        (
            "H2-PREFACE-WITH-FIELDS",
            b"PRI * HTTP/2.0\r\nHost: t\r\n\r\nSM\r\n\r\n".to_vec(),
            BAD,
        ),
        // request line
        ("MULTI-SP", get("GET  / HTTP/1.1", host), BAD),
        ("MULTI-SP-VERSION", get("GET /  HTTP/1.1", host), BAD),
        ("TAB-REQUEST-LINE", get("GET\t/ HTTP/1.1", host), BAD),
        ("SPACE-IN-METHOD", get("GE T / HTTP/1.1", host), BAD),
        ("SPACE-IN-TARGET", get("GET /a b HTTP/1.1", host), BAD),
        ("TRAILING-SPACE-LINE", get("GET / HTTP/1.1 ", host), BAD),
        ("MISSING-TARGET", get("GET HTTP/1.1", host), BAD),
        ("MISSING-VERSION", get("GET /", host), BAD),
        ("METHOD-NOT-TOKEN", get("GE(T / HTTP/1.1", host), BAD),
        (
            "LONG-METHOD",
            get(&format!("{} / HTTP/1.1", "A".repeat(33)), host),
            BAD,
        ),
        ("UNKNOWN-METHOD", get("FROB / HTTP/1.1", host), Served(1)),
        ("METHOD-CASE", get("get / HTTP/1.1", host), Served(1)),
        ("VERSION-1.2", get("GET / HTTP/1.2", host), BAD),
        ("VERSION-2.0", get("GET / HTTP/2.0", host), BAD),
        ("VERSION-0.9", b"GET /\r\n\r\n".to_vec(), BAD),
        ("VERSION-NO-MINOR", get("GET / HTTP/1", host), BAD),
        ("VERSION-LEADING-ZERO", get("GET / HTTP/01.1", host), BAD),
        ("VERSION-CASE", get("GET / http/1.1", host), BAD),
        ("VERSION-SPACE", get("GET / HTTP/ 1.1", host), BAD),
        // target
        (
            "ABSOLUTE-URI",
            get("GET http://t/x HTTP/1.1", host),
            Served(1),
        ),
        (
            "ABSOLUTE-URI-PORT",
            get("GET http://t:80/x HTTP/1.1", host),
            Served(1),
        ),
        (
            "ABSOLUTE-URI-QUERY",
            get("GET http://t?x HTTP/1.1", host),
            Served(1),
        ),
        (
            "ABSOLUTE-URI-HOST-MISMATCH",
            get("GET http://evil/x HTTP/1.1", host),
            BAD,
        ),
        (
            "ABSOLUTE-URI-PORT-MISMATCH",
            get("GET http://t:81/x HTTP/1.1", host),
            BAD,
        ),
        (
            "ABSOLUTE-URI-USERINFO",
            get("GET http://u@t/x HTTP/1.1", host),
            BAD,
        ),
        (
            "ABSOLUTE-URI-SCHEME",
            get("GET ftp://t/x HTTP/1.1", host),
            BAD,
        ),
        (
            "ABSOLUTE-URI-NO-HOST",
            get("GET http:///x HTTP/1.1", host),
            BAD,
        ),
        (
            "ABSOLUTE-URI-WITHOUT-HOST-FIELD",
            b"GET http://t/x HTTP/1.1\r\nX: y\r\n\r\n".to_vec(),
            BAD,
        ),
        ("AUTHORITY-FORM", get("GET t:80 HTTP/1.1", host), BAD),
        ("CONNECT", get("CONNECT t:80 HTTP/1.1", host), BAD),
        ("CONNECT-PATH", get("CONNECT /x HTTP/1.1", host), BAD),
        (
            "CONNECT-ABSOLUTE",
            get("CONNECT http://t/x HTTP/1.1", host),
            BAD,
        ),
        (
            "CONNECT-ABSOLUTE-NO-PATH",
            get("CONNECT http://t HTTP/1.1", host),
            BAD,
        ),
        ("CONNECT-ASTERISK", get("CONNECT * HTTP/1.1", host), BAD),
        ("CONNECT-1.0", get("CONNECT /x HTTP/1.0", host), BAD),
        ("ASTERISK-GET", get("GET * HTTP/1.1", host), BAD),
        (
            "ASTERISK-OPTIONS",
            get("OPTIONS * HTTP/1.1", host),
            Served(1),
        ),
        ("NO-LEADING-SLASH", target("a/b"), BAD),
        ("FRAGMENT", target("/a#b"), BAD),
        ("NUL-IN-URL", target("/a\0b"), BAD),
        ("CONTROL-IN-URL", target("/a\x01b"), BAD),
        ("DEL-IN-URL", target("/a\x7fb"), BAD),
        ("NON-ASCII-URL", target("/\u{e9}"), BAD),
        ("NON-ASCII-QUERY", target("/?\u{e9}"), BAD),
        ("URL-BACKSLASH", target("/a\\b"), BAD),
        ("URL-OVERLONG-UTF8", target("/%c0%af"), BAD),
        ("URL-PERCENT-NULL", target("/a%00"), BAD),
        ("URL-PERCENT-CRLF", target("/a%0d%0aX:%20y"), BAD),
        ("URL-ENCODED-SLASH", target("/a%2fb"), BAD),
        ("URL-ENCODED-BACKSLASH", target("/a%5Cb"), BAD),
        ("URL-DOUBLE-ENCODED", target("/a%252fb"), BAD),
        ("URL-BAD-ESCAPE", target("/a%zz"), BAD),
        ("URL-ABOVE-ROOT", target("/a/../../b"), BAD),
        ("URL-ABOVE-ROOT-ENCODED", target("/%2e%2e/b"), BAD),
        ("URL-DOT-PARAMETER", target("/a/..;/b"), BAD),
        ("LONG-URL-OK", long(8 << 10), Served(1)),
        (
            "LONG-URL",
            long((8 << 10) + 1),
            Refused(414, "uri_too_long"),
        ),
        (
            "LONG-URL-IN-NORMAL-FORM",
            target(&format!("/{}", "[".repeat(3 << 10))),
            Refused(414, "uri_too_long"),
        ),
        (
            "LONG-URL-ENDLESS",
            format!("GET /{}", "a".repeat(9 << 10)).into_bytes(),
            Refused(414, "uri_too_long"),
        ),
        // host
        ("MISSING-HOST", get("GET / HTTP/1.1", ""), BAD),
        ("MISSING-HOST-1.0", get("GET / HTTP/1.0", ""), Served(1)),
        (
            "DUPLICATE-HOST",
            get("GET / HTTP/1.1", "Host: t\r\nHost: t\r\n"),
            BAD,
        ),
        ("EMPTY-HOST", named(""), BAD),
        ("HOST-USERINFO", named("u@t"), BAD),
        ("HOST-PATH", named("t/x"), BAD),
        ("MULTIPLE-HOST-COMMA", named("t, evil"), BAD),
        ("HOST-SPACE", named("t evil"), BAD),
        ("HOST-BAD-PORT", named("t:99999"), BAD),
        ("HOST-EMPTY-PORT", named("t:"), BAD),
        ("HOST-UPPERCASE-DOT", named("T.Example.:80"), Served(1)),
        ("HOST-IPV6", named("[::1]:8080"), Served(1)),
        ("HOST-IDN-RAW", named("b\u{fc}cher"), BAD),
        // fields
        ("EMPTY-HEADER-NAME", with(": x\r\n"), BAD),
        ("NO-COLON", with("nonsense\r\n"), BAD),
        ("TAB-IN-NAME", with("X\tY: z\r\n"), BAD),
        ("NUL-IN-HEADER-NAME", with("A\0b: c\r\n"), BAD),
        ("NON-ASCII-HEADER-NAME", with("X\u{e9}: y\r\n"), BAD),
        ("UNDERSCORE-NAME", with("X_Forwarded_For: y\r\n"), BAD),
        ("NUL-IN-HEADER-VALUE", with("X: a\0b\r\n"), BAD),
        ("CONTROL-CHARS-HEADER", with("X: a\x08b\r\n"), BAD),
        ("DEL-IN-VALUE", with("X: a\x7fb\r\n"), BAD),
        ("OBS-FOLD", with("X: a\r\n b\r\n"), BAD),
        ("OBS-TEXT-VALUE", with("X: \u{e9}\r\n"), Served(1)),
        ("EMPTY-VALUE", with("X:\r\n"), Served(1)),
        ("MANY-HEADERS-OK", with(&"X: y\r\n".repeat(99)), Served(1)),
        (
            "MANY-HEADERS",
            with(&"X: y\r\n".repeat(100)),
            Refused(431, "header_too_large"),
        ),
        (
            "LONG-HEADER-NAME",
            with(&format!("{}: y\r\n", "X".repeat(2000))),
            Refused(431, "header_too_large"),
        ),
        (
            "LONG-HEADER-VALUE-OK",
            with(&format!("X: {}\r\n", "y".repeat(60_000))),
            Served(1),
        ),
        (
            "LONG-HEADER-VALUE",
            with(&format!("X: {}\r\n", "y".repeat(70_000))),
            Refused(431, "header_too_large"),
        ),
        (
            "HEAD-ENDLESS",
            format!("GET / HTTP/1.1\r\nX: {}", "y".repeat(70_000)).into_bytes(),
            Refused(431, "header_too_large"),
        ),
    ]
}

fn run(setup: Setup, cases: Vec<(&'static str, Vec<u8>, Want)>) {
    let rig = Rig::with(setup);
    for (name, bytes, want) in cases {
        let before = rig.origin.count();
        let mut client = rig.client();
        client.send(&bytes);
        match want {
            Refused(status, code) => {
                let answer = client
                    .answer("POST")
                    .unwrap_or_else(|| panic!("{name}: no answer"));
                assert_eq!(answer.status, status, "{name}");
                assert_eq!(
                    answer.body,
                    format!(r#"{{"error":"{code}"}}"#).as_bytes(),
                    "{name}"
                );
                assert_eq!(answer.header("connection"), Some("close"), "{name}");
                assert_eq!(
                    client.rest(),
                    b"",
                    "{name}: closed, and nothing else is answered"
                );
                assert_eq!(
                    rig.origin.count(),
                    before,
                    "{name}: the origin saw a request"
                );
            }
            Served(n) => {
                for _ in 0..n {
                    let answer = client
                        .answer("GET")
                        .unwrap_or_else(|| panic!("{name}: no answer"));
                    assert_eq!(answer.status, 200, "{name}");
                }
                // What else was read as a request would be answered before the end.
                client.stream.shutdown(Shutdown::Write).unwrap();
                assert_eq!(client.rest(), b"", "{name}: more answers than requests");
                assert_eq!(rig.origin.count(), before + n, "{name}");
                assert!(!rig.origin.last().line.contains("hidden"), "{name}");
            }
        }
    }
}

#[test]
fn framing_is_read_in_one_way_or_not_at_all() {
    assert!(framing().len() >= 60);
    run(Setup::default(), framing());
}

#[test]
fn heads_are_read_in_one_way_or_not_at_all() {
    run(Setup::default(), heads());
}

/// A listener that lets in what can be let in.
fn lax(underscores: Underscores) -> Setup {
    let mut setup = Setup::default();
    setup.conn.edge = EdgePolicies::same(Edge {
        escaped_slashes: EscapedSlashes::Keep,
        underscores,
    });
    setup
}

/// What is let in concerns paths with `%2F` and names with `_`, and nothing else.
#[test]
fn a_listener_that_lets_forms_in_refuses_all_others() {
    // Whose names are left out, so that what follows is no body any more.
    let others = |(name, ..): &(&str, Vec<u8>, Want)| {
        *name != "URL-ENCODED-SLASH" && !name.starts_with("UNDERSCORE-")
    };
    for underscores in [Underscores::Drop, Underscores::Keep] {
        let all = framing().into_iter().chain(heads());
        run(lax(underscores), all.filter(others).collect());
    }
}

#[test]
fn what_is_let_in_is_read_in_one_way_too() {
    let with = |h: &str| get("GET / HTTP/1.1", &format!("Host: t\r\n{h}"));
    let target = |t: &str| get(&format!("GET {t} HTTP/1.1"), "Host: t\r\n");
    let slashes = || {
        vec![
            ("SLASH", target("/@a%2fb"), Served(1)),
            ("SLASH-ALONE", target("/%2F/%2f"), Served(1)),
            ("SLASH-ABSOLUTE", target("http://t/a%2fb"), Served(1)),
            ("SLASH-DOTS", target("/..%2fb"), BAD),
            ("SLASH-DOTS-ESCAPED", target("/%2e%2e%2f"), BAD),
            ("SLASH-DOTS-BEHIND", target("/a/b%2f.."), BAD),
            ("SLASH-DOTS-BETWEEN", target("/a%2f%2e%2E%2fb/c"), BAD),
            ("SLASH-DOT", target("/a%2f./b"), BAD),
            ("SLASH-DOTS-PARAMETERS", target("/a%2f..;x"), BAD),
            ("SLASH-BACKSLASH", target("/a%2f..%5cb"), BAD),
            ("SLASH-TWICE-ESCAPED", target("/a%252fb"), BAD),
            ("SLASH-NUL", target("/a%2f%00"), BAD),
        ]
    };
    let mut dropped = slashes();
    dropped.extend([
        ("NAME", with("x_user: 1\r\n"), Served(1)),
        ("NAME-TE", with("Transfer_Encoding: chunked\r\n"), Served(1)),
        ("NAME-CL-ZERO", with("Content_Length: 9\r\n"), Served(1)),
        ("NAME-DOT", with("x_a.b: 1\r\n"), BAD),
    ]);
    run(lax(Underscores::Drop), dropped);
    let mut kept = slashes();
    kept.extend([
        ("NAME", with("x_user: 1\r\n"), Served(1)),
        ("NAME-CL", post("Content_Length: 3\r\n", "abc"), BAD),
        (
            "NAME-CL-TWO",
            post("Content-Length: 3\r\nContent_Length: 0\r\n", "abc"),
            BAD,
        ),
        ("NAME-TE", with("Transfer_Encoding: chunked\r\n"), BAD),
        ("NAME-XFF", with("x_forwarded_for: 1.2.3.4\r\n"), BAD),
        ("NAME-XFF-HALF", with("X-Forwarded_Proto: https\r\n"), BAD),
        ("NAME-OURS", with("x_diolkos_model: m\r\n"), BAD),
        ("NAME-IDENTITY", with("Client_Cert: :abc:\r\n"), BAD),
        ("NAME-DOT", with("x_a.b: 1\r\n"), BAD),
    ]);
    run(lax(Underscores::Keep), kept);
}

#[test]
fn the_origin_gets_what_is_let_in_as_it_came() {
    for (underscores, name, trailer) in [
        (Underscores::Drop, "", ""),
        (Underscores::Keep, "x_user: 1\r\n", "x_sum: 2\r\n"),
    ] {
        let rig = Rig::with(lax(underscores));
        let mut client = rig.client();
        client.send(
            "POST /@a%2fb/./%2F/c HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\nX_User: 1\r\n\r\n\
             3\r\nabc\r\n0\r\nx_sum: 2\r\nx_forwarded_for: 3\r\nx-end: 4\r\n\r\n",
        );
        assert_eq!(client.answer("POST").unwrap().status, 200);
        let seen = rig.origin.last();
        assert_eq!(seen.line, "POST /@a%2Fb/%2F/c HTTP/1.1\r\n");
        assert_eq!(
            seen.head,
            format!("host: t\r\n{name}transfer-encoding: chunked\r\n")
        );
        assert_eq!(seen.trailers, format!("{trailer}x-end: 4\r\n"));
    }
}

#[test]
fn the_origin_gets_the_normal_form() {
    let rig = Rig::start();
    let mut client = rig.client();
    client.send(
        "GET HTTP://T.Example.:080/%61//./b/../c%2A?q=%2f HTTP/1.1\r\nhOST: t.example:80\r\nX-MiXed: a\r\n\
         X-Forwarded-For: 1.2.3.4\r\nX-Diolkos-Model: m\r\nForwarded: for=x\r\nX-Real-IP: 1\r\nConnection: x-mixed\r\n\r\n",
    );
    assert_eq!(client.answer("GET").unwrap().status, 200);
    let seen = rig.origin.last();
    assert_eq!(seen.line, "GET /a/c%2A?q=%2f HTTP/1.1\r\n");
    assert_eq!(seen.head, "host: t.example:80\r\n");
}

#[test]
fn a_body_after_an_early_answer_is_never_a_request() {
    let rig = Rig::start();
    for status in [301, 400, 401, 403, 404, 405, 413, 429, 500, 502, 503, 504] {
        // The whole body is there at once, or it comes after the answer; it is short, or long; chunked, or not.
        for (framing, body, late) in [
            (
                format!("Content-Length: {}\r\n", HIDDEN.len()),
                HIDDEN.to_owned(),
                false,
            ),
            (
                format!("Content-Length: {}\r\n", HIDDEN.len()),
                HIDDEN.to_owned(),
                true,
            ),
            (
                "Transfer-Encoding: chunked\r\n".into(),
                format!("{:x}\r\n{HIDDEN}\r\n0\r\n\r\n", HIDDEN.len()),
                false,
            ),
            (
                "Content-Length: 1000000\r\n".into(),
                HIDDEN.to_owned(),
                false,
            ),
        ] {
            let before = rig.origin.count();
            let mut client = rig.client();
            let head = format!("POST /local/{status} HTTP/1.1\r\nHost: t\r\n{framing}\r\n");
            let answer = if late {
                let answer = client.send(head).answer("POST").unwrap();
                client.send(&body);
                answer
            } else {
                client.send(head + &body).answer("POST").unwrap()
            };
            assert_eq!(answer.status, status);
            if answer.header("connection") == Some("close") {
                client.stream.shutdown(Shutdown::Write).unwrap();
                assert_eq!(client.rest(), b"", "{status}");
                assert_eq!(rig.origin.count(), before);
            } else {
                assert_eq!(
                    client.get("/").body,
                    b"hello",
                    "{status}: the next request is the next request"
                );
                assert_eq!(rig.origin.count(), before + 1);
            }
        }
    }
    // The upstream answers early and keeps its connection: the rest of the body must not become its next request.
    let mut client = rig.client();
    let length = HIDDEN.len() + 1;
    client.send(format!(
        "POST /early-keep HTTP/1.1\r\nHost: t\r\nContent-Length: {length}\r\n\r\n"
    ));
    assert_eq!(client.answer("POST").unwrap().status, 403);
    client.send(HIDDEN).send("x");
    assert_eq!(client.get("/").body, b"hello");
    assert!(
        rig.origin
            .seen
            .lock()
            .unwrap()
            .iter()
            .all(|s| !s.line.contains("hidden"))
    );
}

#[test]
fn a_client_that_waits_for_100_is_not_waited_for() {
    let rig = Rig::start();
    let mut client = rig.client();
    // Whether the body will come after a final answer is unknown: only a close is safe.
    client.send(
        "POST /local/403 HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
    );
    let answer = client.answer("POST").unwrap();
    assert_eq!(
        (answer.status, answer.header("connection")),
        (403, Some("close"))
    );
    assert_eq!(client.rest(), b"");
}

#[test]
fn an_incomplete_request_is_nobodys_request() {
    let rig = Rig::start();
    for bytes in [
        "",
        "\r\n",
        "\r",
        "GET",
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nHost: t\r\n",
    ] {
        let mut client = rig.client();
        client.send(bytes);
        client.stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.rest(), b"", "{bytes:?}");
    }
    for body in [
        "Content-Length: 5\r\n\r\nab",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nab",
        "Transfer-Encoding: chunked\r\n\r\n0\r\n",
    ] {
        let mut client = rig.client();
        client.send(format!("POST /echo HTTP/1.1\r\nHost: t\r\n{body}"));
        client.stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.rest(), b"", "{body:?}");
    }
    assert_eq!(rig.origin.count(), 0);
}

#[test]
fn heads_and_bodies_may_come_byte_by_byte() {
    let rig = Rig::start();
    let mut client = rig.client();
    let text = "POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n3;x=\"y\"\r\nabc\r\n0\r\nX-A: b\r\n\r\n";
    for byte in text.as_bytes() {
        client.send([*byte]);
    }
    assert_eq!(client.answer("POST").unwrap().body, b"abc");
    assert_eq!(rig.origin.last().trailers, "x-a: b\r\n");
}

use super::*;
use proptest::prelude::*;

const REJECT: EscapedSlashes = EscapedSlashes::Reject;
const KEEP: EscapedSlashes = EscapedSlashes::Keep;

fn normal(raw: &str) -> Option<String> {
    normal_with(raw, REJECT)
}

fn normal_with(raw: &str, slashes: EscapedSlashes) -> Option<String> {
    let mut out = String::new();
    path(raw.as_bytes(), slashes, &mut out).ok().map(|()| out)
}

#[test]
fn paths_have_one_form() {
    for (raw, expected) in [
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("/a/b/", "/a/b/"),
        ("/%61%2D%7E", "/a-~"),
        ("/%c3%a9", "/%C3%A9"),
        ("//a///b//", "/a/b/"),
        ("/./a/./b/.", "/a/b/"),
        ("/a/../b", "/b"),
        ("/a/b/..", "/a/"),
        ("/a/b/../", "/a/"),
        ("/a/%2e%2E/b", "/b"),
        ("/a/..", "/"),
        ("/a//../b", "/b"),
        ("/...", "/..."),
        ("/.well-known/x", "/.well-known/x"),
        ("/a..b/.c", "/a..b/.c"),
        ("/a{b}|c", "/a%7Bb%7D%7Cc"),
        ("/a%7bb", "/a%7Bb"),
        ("/100%25", "/100%25"),
        ("/100%25/x", "/100%25/x"),
        ("/a%3Fb%23c", "/a%3Fb%23c"),
        ("/a;p=1/b", "/a;p=1/b"),
        ("/a%20b", "/a%20b"),
        ("/~user/!$&'()*+,;=:@", "/~user/!$&'()*+,;=:@"),
    ] {
        assert_eq!(normal(raw).as_deref(), Some(expected), "{raw}");
    }
}

#[test]
fn paths_that_can_be_read_in_two_ways_are_refused() {
    for raw in [
        "",
        "a",
        "*",
        "/..",
        "/../a",
        "/a/../../b",
        "/%2e%2e",
        "/.%2e/x",
        "/a/./../..",
        "/%00",
        "/a%2fb",
        "/a%2Fb",
        "/a%5cb",
        "/a\\b",
        "/%",
        "/%4",
        "/%zz",
        "/a%",
        "/é",
        "/%25%32%66",
        "/%252f",
        "/%2541",
        "/%25%34%31",
        "/a b",
        "/a\tb",
        "/a\x7f",
        "/%0d%0a",
        "/%7f",
        "/%c0%af",
        "/%c1%81",
        "/%e0%80%af",
        "/%f0%80%80%af",
        "/%ff",
        "/a/..;/b",
        "/.;x",
        "/..;",
        "/%2e%2e;x/b",
        "/a/..%3bx",
        "/a#b",
        "/a?b",
    ] {
        assert_eq!(normal(raw), None, "{raw}");
    }
}

#[test]
fn an_escaped_slash_that_is_kept_belongs_to_its_segment() {
    for (raw, expected) in [
        ("/@scope%2fname", "/@scope%2Fname"),
        ("/@scope%2Fname/-/x.tgz", "/@scope%2Fname/-/x.tgz"),
        ("/api/queues/%2f/jobs", "/api/queues/%2F/jobs"),
        ("/%2F", "/%2F"),
        ("/%2f%2f/%2f", "/%2F%2F/%2F"),
        ("/a%2fb/../c", "/c"),
        ("/a/b%2f/..", "/a/"),
        ("/a/./b%2Fc//d", "/a/b%2Fc/d"),
        ("/a%2f...%2f.b", "/a%2F...%2F.b"),
        ("/%61%2f%62", "/a%2Fb"),
        ("/100%25%2fa", "/100%25%2Fa"),
        ("/a;p%2fq", "/a;p%2Fq"),
    ] {
        assert_eq!(normal_with(raw, KEEP).as_deref(), Some(expected), "{raw}");
        assert_eq!(normal(raw), None, "{raw}");
    }
}

/// What a server that decodes the slash would take for a dot segment, in every place and spelling.
#[test]
fn no_dot_segment_hides_behind_a_slash_that_is_kept() {
    let dots = [".", "..", "%2e", "%2E.", ".%2e", "%2e%2e"];
    let parameters = ["", ";", ";x=1", "%3b", "%3Bx"];
    let slashes = ["%2f", "%2F"];
    let around = [("/", ""), ("/a/", "/b"), ("/a", "c")];
    for dots in dots {
        for parameters in parameters {
            for slash in slashes {
                let dots = format!("{dots}{parameters}");
                for (before, after) in around {
                    for raw in [
                        format!("{before}{slash}{dots}{slash}{after}"),
                        format!("{before}{slash}{dots}"),
                        format!("/{dots}{slash}{after}"),
                        format!("/x/{dots}{slash}y{after}"),
                    ] {
                        assert_eq!(normal_with(&raw, KEEP), None, "{raw}");
                    }
                }
            }
        }
    }
    // And what is no slash that can be kept.
    for raw in [
        "/a%5cb",
        "/a%2f%5c",
        "/%252f",
        "/%25%32%66",
        "/a%2f%00",
        "/a%2f\\b",
        "/a%2",
        "%2fa",
        "/..%c0%af",
    ] {
        assert_eq!(normal_with(raw, KEEP), None, "{raw}");
    }
}

#[test]
fn queries_are_forwarded_as_they_are() {
    let mut t = Target::default();
    target(b"/a?x=1&y={z}|%2f..//%00", REJECT, &mut t).unwrap();
    assert_eq!((t.path(), t.query()), ("/a", Some("x=1&y={z}|%2f..//%00")));
    target(b"/b?", REJECT, &mut t).unwrap();
    assert_eq!((t.path(), t.query(), t.as_str()), ("/b", Some(""), "/b?"));
    target(b"/c", REJECT, &mut t).unwrap();
    assert_eq!((t.path(), t.query()), ("/c", None));
    t.set_query(Some("q"));
    t.set_path("/longer");
    assert_eq!(
        (t.path(), t.query(), t.as_str()),
        ("/longer", Some("q"), "/longer?q")
    );
    t.set_query(None);
    assert_eq!(t.as_str(), "/longer");
    for raw in ["/a?x#y", "/a?x y", "/a?\u{e9}"] {
        assert!(target(raw.as_bytes(), REJECT, &mut t).is_err(), "{raw}");
    }
}

#[test]
fn hosts_have_one_form() {
    let long = format!("{}.example", "a".repeat(63));
    for (raw, name, port) in [
        ("a.example", "a.example", None),
        ("A.Example.", "a.example", None),
        ("a.example:080", "a.example", Some(80)),
        ("a.example.:65535", "a.example", Some(65535)),
        ("localhost", "localhost", None),
        ("127.0.0.1:8080", "127.0.0.1", Some(8080)),
        ("[::1]", "[::1]", None),
        ("[2001:DB8:0:0:0:0:0:1]:443", "[2001:db8::1]", Some(443)),
        ("a_b.example", "a_b.example", None),
        ("xn--bcher-kva.example", "xn--bcher-kva.example", None),
        (&long, &long, None),
    ] {
        let mut h = Host::default();
        host(raw.as_bytes(), &mut h).unwrap_or_else(|e| panic!("{raw}: {e}"));
        assert_eq!((h.name(), h.port()), (name, port), "{raw}");
        let mut again = Host::default();
        host(h.as_str().as_bytes(), &mut again).unwrap();
        assert_eq!(again, h);
    }
}

#[test]
fn what_is_not_a_host_is_refused() {
    let long_label = format!("{}.example", "a".repeat(64));
    let long_name = ["a"; 130].join(".");
    for raw in [
        "",
        ".",
        "..",
        "a..b",
        ".a",
        "a b",
        "a/b",
        "a?b",
        "a#b",
        "u@a",
        "u:p@a",
        "a,b",
        "a:",
        "a:b",
        "a:1:2",
        "a:65536",
        "a:123456",
        "a:-1",
        "a:+1",
        "[::1",
        "::1",
        "[::1]x",
        "[::g]",
        "[fe80::1%25eth0]",
        "[v1.a]",
        "b\u{fc}cher.example",
        "a%41.example",
        "a\0",
        "1.2.3",
        "1.2.3.4.5",
        "256.1.1.1",
        "0x7f.1",
        "2130706433",
        "a\tb",
        "*.example",
        &long_label,
        &long_name,
    ] {
        // A hexadecimal label is a name to us, but the whole ends in a number.
        assert!(host(raw.as_bytes(), &mut Host::default()).is_err(), "{raw}");
    }
    assert!(host(b"\xff", &mut Host::default()).is_err());
}

#[test]
fn fields_of_ours_and_of_proxies_are_removed() {
    let fill = || {
        let mut h = Headers::new();
        for name in [
            "host",
            "x-diolkos-token",
            "x-diolkos-model",
            "x-diolkos-explain",
            "x-forwarded-for",
            "X-Forwarded-Anything",
            "forwarded",
            "x-real-ip",
            "client-cert",
            "client-cert-chain",
            "x-request-id",
            "cookie",
            "from",
        ] {
            h.push(name, "v").unwrap();
        }
        h
    };
    let names = |h: &Headers| h.iter().map(|(n, _)| n.to_owned()).collect::<Vec<_>>();
    let mut h = fill();
    client_headers(&mut h, false);
    assert_eq!(
        names(&h),
        ["host", "x-diolkos-token", "x-request-id", "cookie", "from"]
    );
    let mut h = fill();
    client_headers(&mut h, true);
    assert_eq!(h.len(), fill().len() - 2);
    assert!(!h.contains("x-diolkos-model"));
}

/// Paths made of the pieces that matter.
fn tricky() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "/",
        "/",
        "/",
        ".",
        "..",
        "a",
        "B",
        "%2e",
        "%2E",
        "%41",
        "%c3%a9",
        "%25",
        "%2",
        "%",
        "%2f",
        "%5c",
        "%00",
        "//",
        ";",
        ";a=b",
        "~",
        "{",
        "|",
        "%7b",
        "2",
        "f",
        "%7E",
        "%e2%82%ac",
        "\\",
        "?",
        "#",
        " ",
        "é",
    ]);
    prop::collection::vec(piece, 0..12).prop_map(|p| format!("/{}", p.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_normal_form_is_its_own_normal_form(raw in tricky()) {
        if let Some(once) = normal(&raw) {
            prop_assert_eq!(normal(&once), Some(once.clone()));
            prop_assert!(once.starts_with('/') && !once.contains("//") && !once.contains('\\'));
            prop_assert!(once.split('/').all(|s| s != "." && s != ".."));
            let lower = once.to_ascii_lowercase();
            prop_assert!(!["%2f", "%5c", "%00", "%2e"].iter().any(|e| lower.contains(e)), "{}", once);
        }
    }

    #[test]
    fn kept_slashes_change_nothing_else_and_hide_nothing(raw in tricky()) {
        let kept = normal_with(&raw, KEEP);
        if let Some(strict) = normal(&raw) {
            prop_assert_eq!(&kept, &Some(strict));
        }
        if let Some(kept) = kept {
            prop_assert_eq!(normal_with(&kept, KEEP), Some(kept.clone()));
            let decoded = kept.replace("%2F", "/");
            prop_assert!(decoded.split('/').all(|s| s != "." && s != ".."), "{}", kept);
            prop_assert!(!kept.contains("//") && !kept.contains("%2f"), "{}", kept);
            prop_assert!(normal(&raw).is_some() || raw.to_ascii_lowercase().contains("%2f"), "{}", raw);
        }
    }

    #[test]
    fn a_second_decoding_finds_nothing_new(raw in tricky()) {
        if let Some(once) = normal_with(&raw, KEEP) {
            let decoded: Vec<u8> = decode_all(once.as_bytes());
            prop_assert!(decode_all(&decoded) == decoded || !decoded.contains(&b'%') , "{}", once);
        }
    }

    #[test]
    fn no_bytes_panic(raw: Vec<u8>) {
        for slashes in [REJECT, KEEP] {
            let _ = path(&raw, slashes, &mut String::new());
            let _ = target(&raw, slashes, &mut Target::default());
        }
        let _ = host(&raw, &mut Host::default());
    }
}

fn decode_all(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = raw;
    while let Some((&b, after)) = rest.split_first() {
        if b == b'%'
            && let Some((byte, after)) = escape(after)
        {
            out.push(byte);
            rest = after;
        } else {
            out.push(b);
            rest = after;
        }
    }
    out
}

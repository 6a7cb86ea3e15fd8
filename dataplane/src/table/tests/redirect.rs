use super::*;

fn location(redirect: model::Redirect, from: Place<'_>, prefix_len: usize) -> String {
    let mut out = "left over".to_owned();
    Redirect::compile(redirect, None)
        .unwrap()
        .location(&from, prefix_len, &mut out);
    out
}

fn to(
    scheme: Option<&str>,
    hostname: Option<&str>,
    port: Option<u16>,
    path: Option<RedirectPath>,
) -> model::Redirect {
    model::Redirect {
        scheme: scheme.map(Into::into),
        hostname: hostname.map(Into::into),
        port,
        path,
        status: 302,
    }
}

const FROM: Place<'_> = Place {
    scheme: "http",
    host: "a.com",
    port: None,
    path: "/old/x",
    query: None,
};

#[test]
fn scheme_host_and_port() {
    let at = |port| Place { port, ..FROM };
    for (scheme, hostname, port, from, result) in [
        (None, None, None, at(None), "http://a.com"),
        (None, None, None, at(Some(8080)), "http://a.com:8080"),
        (None, None, None, at(Some(80)), "http://a.com"),
        (
            None,
            Some("b.com"),
            None,
            at(Some(8080)),
            "http://b.com:8080",
        ),
        (Some("https"), None, None, at(Some(8080)), "https://a.com"),
        (Some("https"), None, Some(443), at(None), "https://a.com"),
        (
            Some("https"),
            None,
            Some(8443),
            at(None),
            "https://a.com:8443",
        ),
        (Some("http"), None, Some(443), at(None), "http://a.com:443"),
        (Some("http"), None, None, at(Some(8080)), "http://a.com"),
        (None, None, Some(80), at(Some(8080)), "http://a.com"),
        (None, None, Some(8443), at(None), "http://a.com:8443"),
    ] {
        let made = location(to(scheme, hostname, port, None), from, 0);
        assert_eq!(
            made,
            format!("{result}/old/x"),
            "{scheme:?} {hostname:?} {port:?}"
        );
    }
    let v6 = Place {
        host: "[::1]",
        port: Some(81),
        ..FROM
    };
    assert_eq!(
        location(to(None, None, None, None), v6, 0),
        "http://[::1]:81/old/x"
    );
}

#[test]
fn path_and_query() {
    let from = Place {
        query: Some("b=c"),
        ..FROM
    };
    let prefix = RedirectPath::ReplacePrefix("/new".into());
    assert_eq!(
        location(to(None, None, None, Some(prefix)), from, 4),
        "http://a.com/new/x?b=c"
    );
    let full = RedirectPath::ReplaceFull("/".into());
    assert_eq!(
        location(to(None, None, None, Some(full)), from, 4),
        "http://a.com/?b=c"
    );
    let gone = RedirectPath::ReplacePrefix(String::new());
    let exact = Place {
        path: "/old",
        ..from
    };
    assert_eq!(
        location(to(None, None, None, Some(gone)), exact, 4),
        "http://a.com/?b=c"
    );
    let star = Place { path: "*", ..FROM };
    assert_eq!(
        location(to(None, None, None, None), star, 0),
        "http://a.com/"
    );
}

/// A path of two slashes must not become a host: the URL is always absolute.
#[test]
fn a_path_never_becomes_a_host() {
    let from = Place {
        path: "//evil.com/x",
        ..FROM
    };
    assert!(location(to(None, None, None, None), from, 0).starts_with("http://a.com/"));
}

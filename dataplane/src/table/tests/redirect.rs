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
    let prefix = RedirectPath::ReplacePrefix("/new".into());
    let kept = Place {
        path: "/old/@a%2Fb",
        ..FROM
    };
    assert_eq!(
        location(to(None, None, None, Some(prefix)), kept, 4),
        "http://a.com/new/@a%2Fb"
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

use super::*;
use proptest::prelude::*;

fn prefix(with: &str) -> PathEdit {
    PathEdit::compile(PathRewrite::ReplacePrefix(with.into()), None).unwrap()
}

fn expression(pattern: &str, replacement: &str) -> PathEdit {
    PathEdit::compile(
        PathRewrite::Regex {
            pattern: pattern.into(),
            replacement: replacement.into(),
        },
        None,
    )
    .unwrap()
}

fn apply(edit: &PathEdit, path: &str, prefix_len: usize) -> String {
    let mut out = String::new();
    edit.apply("h", path, prefix_len, &mut out);
    out
}

/// The table of the Gateway API (HTTPPathModifier, `replacePrefixMatch`); a final slash of the match means nothing.
#[test]
fn prefixes_as_the_gateway_api_has_them() {
    for (path, with, result) in [
        ("/foo/bar", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/xyz/", "/xyz/bar"),
        ("/foo", "/xyz", "/xyz"),
        ("/foo/", "/xyz", "/xyz/"),
        ("/foo/bar", "", "/bar"),
        ("/foo/", "", "/"),
        ("/foo", "", "/"),
        ("/foo/", "/", "/"),
        ("/foo", "/", "/"),
        ("/foo/bar", "/", "/bar"),
    ] {
        assert_eq!(
            apply(&prefix(with), path, "/foo".len()),
            result,
            "{path} {with:?}"
        );
    }
}

#[test]
fn the_prefix_of_everything() {
    assert_eq!(apply(&prefix("/v1"), "/", 0), "/v1/");
    assert_eq!(apply(&prefix("/v1"), "/a", 0), "/v1/a");
    assert_eq!(apply(&prefix(""), "/a", 0), "/a");
}

#[test]
fn stripping_by_segments() {
    let strip = PathEdit::compile(PathRewrite::StripPrefix, None).unwrap();
    for (path, len, result) in [
        ("/a/b", 2, "/b"),
        ("/a", 2, "/"),
        ("/a/", 2, "/"),
        ("/a/b/c", 4, "/c"),
    ] {
        assert_eq!(apply(&strip, path, len), result, "{path}");
    }
}

#[test]
fn escaped_slashes_stay_in_their_segments() {
    let strip = PathEdit::compile(PathRewrite::StripPrefix, None).unwrap();
    assert_eq!(apply(&strip, "/npm/@a%2Fb/-/c", 4), "/@a%2Fb/-/c");
    assert_eq!(apply(&prefix("/v1"), "/npm/%2F%2F", 4), "/v1/%2F%2F");
    assert_eq!(apply(&prefix("/v%2f1"), "/npm/a", 4), "/v%2F1/a");
}

#[test]
fn whole_paths() {
    let full = |with: &str| {
        apply(
            &PathEdit::compile(PathRewrite::ReplaceFull(with.into()), None).unwrap(),
            "/x",
            0,
        )
    };
    assert_eq!(full("/fixed"), "/fixed");
    assert_eq!(full("fixed"), "/fixed");
    assert_eq!(full(""), "/");
    assert_eq!(full("/a b?c#d"), "/a%20b%3Fc%23d");
}

#[test]
fn expressions_replace_the_first_match() {
    let edit = expression("^/regex/([^/]+)/(?<rest>.*)", "/${rest}/by/$1");
    assert_eq!(apply(&edit, "/regex/ann/orders/7", 0), "/orders/7/by/ann");
    assert_eq!(apply(&edit, "/regex", 0), "/regex", "no match, no change");
    assert_eq!(apply(&expression("a", "b"), "/a/a", 0), "/b/a");
    assert_eq!(apply(&expression("x*", "y"), "/a", 0), "/y/a");
}

#[test]
fn what_an_expression_makes_is_a_path_in_normal_form() {
    for (pattern, replacement, path, result) in [
        ("^/a", "", "/a", "/"),
        ("^/a/", "", "/a/b", "/b"),
        ("x", "é\u{7f} \"", "/x", "/%C3%A9%7F%20%22"),
        ("x", "", "/.x./secret", "/secret"),
        ("^/a/(.*)", "/a/../../../$1", "/a/b", "/b"),
        ("x", "/", "/axb/x", "/a/b/x"),
        ("x$", "/", "/b/x", "/b/"),
        ("x", "", "/a/.x.", "/"),
        ("x", "", "/a/x", "/a/"),
        ("41", "", "/a%41", "/a%25"),
        ("x", "e", "/a/%2x./b", "/b"),
        ("x", "", "/a/...x", "/a/..."),
        ("x", "", "/a.b/.cx", "/a.b/.c"),
        ("x", "", "/ax%20b", "/a%20b"),
        ("/a", "//evil.com", "/a/b", "/evil.com/b"),
        ("^/a/", "/", "/a/b%2Fc/%2F", "/b%2Fc/%2F"),
        ("x", "%2f", "/axb", "/a%2Fb"),
        ("x", "", "/a%2Fx../b", "/a/b"),
        ("x", "", "/.x.%2Fa%2F.%2Fb", "/a%2Fb"),
        ("x", "", "/a/.x.%2F/b", "/a/b"),
        ("%2F", "/", "/a%2F%2F..x/b", "/a/%2F..x/b"),
    ] {
        assert_eq!(
            apply(&expression(pattern, replacement), path, 0),
            result,
            "{path} {replacement:?}"
        );
    }
}

#[test]
fn expressions_have_a_bound() {
    let huge = PathRewrite::Regex {
        pattern: "(a{1000}){1000}".into(),
        replacement: String::new(),
    };
    assert!(PathEdit::compile(huge, None).is_err());
}

proptest! {
    #[test]
    fn always_a_valid_path_below_the_root(path in "/[ax./%2Fé]{0,12}", replacement in ".{0,6}|[./]{0,4}") {
        let mut out = "/base".to_owned();
        expression("x", &replacement.replace('$', "$$")).apply("h", &path, 0, &mut out);
        let made = out.strip_prefix("/base").unwrap();
        if path.contains('x') {
            prop_assert!(made.starts_with('/'));
            prop_assert!(made.bytes().all(|b| is_path_byte(b) || b == b'%'));
            prop_assert!(!made.contains("//"), "{}", made);
            let segments = made.split('/');
            let mut parts = segments.flat_map(|s| s.split("%2F"));
            prop_assert!(parts.all(|s| !is_dots(s, 1) && !is_dots(s, 2)), "{}", made);
            let mut again = String::new();
            push_normal(made, &mut again);
            prop_assert_eq!(again, made, "its normal form is itself");
        } else {
            prop_assert_eq!(made, path);
        }
    }
}

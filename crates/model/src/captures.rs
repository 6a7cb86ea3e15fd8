//! `${name}` in rewrites and redirects: what a named group of `hostnameRegex` found in the request's host.

/// A piece of a text with `${name}` in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    Text(&'a str),
    Name(&'a str),
}

/// The pieces of a text, none of them empty. A dollar sign that does not begin `${name}` is itself.
pub fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut out = Vec::new();
    let mut rest = text;
    let mut from = 0;
    while let Some(at) = rest.get(from..).and_then(|t| t.find("${")) {
        let at = from + at;
        let name = rest
            .get(at + 2..)
            .and_then(|t| t.split_once('}'))
            .map(|(name, _)| name)
            .filter(|name| is_name(name));
        let Some(name) = name else {
            from = at + 2;
            continue;
        };
        if let Some(before) = rest.get(..at).filter(|t| !t.is_empty()) {
            out.push(Piece::Text(before));
        }
        out.push(Piece::Name(name));
        rest = rest.get(at + 3 + name.len()..).unwrap_or_default();
        from = 0;
    }
    if !rest.is_empty() {
        out.push(Piece::Text(rest));
    }
    out
}

/// The groups that the replacement of `rewrite.regex` refers to, as the `regex` crate reads it: `$name` takes as many
/// letters, digits and `_` as follow, `${name}` exactly what is in braces, `$$` is a dollar sign.
pub fn references(replacement: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut rest = replacement;
    while let Some((_, after)) = rest.split_once('$') {
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('{').and_then(|t| t.split_once('}')) {
            out.push(name);
            rest = after;
        } else {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let (name, after) = rest.split_at(end.unwrap_or(rest.len()));
            if !name.is_empty() {
                out.push(name);
            }
            rest = after;
        }
    }
    out
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use Piece::{Name, Text};

    #[test]
    fn names_are_found_and_everything_else_is_text() {
        for (text, is) in [
            ("", &[][..]),
            ("plain", &[Text("plain")]),
            ("${team}", &[Name("team")]),
            ("/a/${team}/b", &[Text("/a/"), Name("team"), Text("/b")]),
            ("${a}${b}", &[Name("a"), Name("b")]),
            ("$a$${a}", &[Text("$a$"), Name("a")]),
            ("${", &[Text("${")]),
            ("${}x${a", &[Text("${}x${a")]),
            ("${1}${a b}${c}", &[Text("${1}${a b}"), Name("c")]),
        ] {
            assert_eq!(pieces(text), is, "{text}");
        }
    }

    #[test]
    fn references_of_a_replacement() {
        for (text, is) in [
            ("/x", &[][..]),
            ("/$1/${team}$$x$$$2", &["1", "team", "2"]),
            ("/$1x", &["1x"]),
            ("$", &[]),
            ("${", &[]),
            ("$-${a-b}", &["a-b"]),
        ] {
            assert_eq!(references(text), is, "{text}");
        }
    }
}

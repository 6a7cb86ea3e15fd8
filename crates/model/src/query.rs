//! Reading a query string, in one way for matching, plugins and `explain`.

use std::borrow::Cow;

/// The percent-decoded first value of a parameter; `None` where it does not occur. `v` without `=` has an empty value.
/// Invalid escapes stay as they are, bytes that are not UTF-8 become U+FFFD.
pub fn first<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key) == name).then(|| decode(value))
    })
}

fn decode(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|b| b == b'%' || b == b'+') {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while let Some(&b) = bytes.get(i) {
        let escaped = (b == b'%')
            .then(|| Some((hex(*bytes.get(i + 1)?)?, hex(*bytes.get(i + 2)?)?)))
            .flatten();
        match (b, escaped) {
            (_, Some((high, low))) => {
                out.push(high << 4 | low);
                i += 3;
            }
            (b'+', None) => {
                out.push(b' ');
                i += 1;
            }
            _ => {
                out.push(b);
                i += 1;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

fn hex(b: u8) -> Option<u8> {
    (b as char).to_digit(16).map(|d| d as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_counts_and_is_decoded() {
        for (query, value) in [
            ("v=1&v=2", Some("1")),
            ("a=b&v=%41+b", Some("A b")),
            ("v", Some("")),
            ("%76=x", Some("x")),
            ("v=%zz%4", Some("%zz%4")),
            ("vv=1", None),
            ("", None),
        ] {
            assert_eq!(first(query, "v").as_deref(), value, "{query}");
        }
    }
}

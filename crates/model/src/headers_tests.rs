use super::*;
use proptest::prelude::*;

fn text(h: &Headers) -> String {
    let mut out = Vec::new();
    h.write_to(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn names_are_kept_in_lower_case_and_in_order() {
    let mut h = Headers::new();
    h.push("Host", "a.example").unwrap();
    h.push("X-B", "1").unwrap();
    h.push("x-b", "2").unwrap();
    assert_eq!(h.get("host"), Some(&b"a.example"[..]));
    assert_eq!(h.get_known(Known::Host), Some(&b"a.example"[..]));
    assert_eq!(h.get_all("x-b").collect::<Vec<_>>(), [b"1", b"2"]);
    assert_eq!(text(&h), "host: a.example\r\nx-b: 1\r\nx-b: 2\r\n");
    assert_eq!(h.byte_len(), text(&h).len());
}

#[test]
fn set_replaces_all_and_keeps_the_place() {
    let mut h = Headers::new();
    for (n, v) in [("a", "1"), ("b", "2"), ("a", "3"), ("c", "4")] {
        h.push(n, v).unwrap();
    }
    h.set("A", "new").unwrap();
    assert_eq!(text(&h), "a: new\r\nb: 2\r\nc: 4\r\n");
    h.set("d", "5").unwrap();
    assert_eq!(text(&h), "a: new\r\nb: 2\r\nc: 4\r\nd: 5\r\n");
    assert_eq!(h.byte_len(), text(&h).len());
}

#[test]
fn remove_and_retain() {
    let mut h = Headers::new();
    for (n, v) in [("a", "1"), ("b", "2"), ("a", "3")] {
        h.push(n, v).unwrap();
    }
    assert!(h.remove("a"));
    assert!(!h.remove("a"));
    assert_eq!(text(&h), "b: 2\r\n");
    h.push("connection", "close").unwrap();
    assert!(h.remove_known(Known::Connection));
    assert!(!h.remove_known(Known::Connection));
    h.retain(|name, _| name != "b");
    assert!(h.is_empty());
    assert_eq!(text(&h), "");
    h.push("c", "").unwrap();
    assert_eq!(text(&h), "c: \r\n");
}

#[test]
fn invalid_fields_are_refused() {
    let mut h = Headers::new();
    for name in ["", "a b", "a:", "a\r", "ä", "a\0", "(x)"] {
        assert_eq!(h.push(name, "v"), Err(InvalidHeader::Name), "{name:?}");
    }
    for value in [
        &b"a\r\nb: c"[..],
        b"\n",
        b"\0",
        b"a\x7f",
        b" a",
        b"a ",
        b"\ta",
        b"a\x0bb",
    ] {
        assert_eq!(h.push("a", value), Err(InvalidHeader::Value), "{value:?}");
        assert_eq!(h.set("a", value), Err(InvalidHeader::Value), "{value:?}");
    }
    h.push("a", "ok").unwrap();
    assert_eq!(h.set("a", "b\rc"), Err(InvalidHeader::Value));
    assert_eq!(
        h.get("a"),
        Some(&b"ok"[..]),
        "a refused value leaves the old one"
    );
    h.push("a", b"tab\there, \xff").unwrap();
}

#[test]
fn a_list_is_bounded() {
    let mut h = Headers::new();
    for _ in 0..Headers::MAX_FIELDS {
        h.push("a", "b").unwrap();
    }
    assert_eq!(h.push("a", "b"), Err(InvalidHeader::TooLarge));
    let mut h = Headers::new();
    let big = vec![b'x'; Headers::MAX_BYTES - 20];
    h.push("a", &big).unwrap();
    assert_eq!(h.push("b", &big), Err(InvalidHeader::TooLarge));
    assert!(h.remove("a"));
    h.push("b", &big).unwrap();
    assert_eq!(
        h.push(vec![b'n'; Headers::MAX_NAME + 1], ""),
        Err(InvalidHeader::Name)
    );
}

#[test]
fn a_list_that_is_edited_for_ever_does_not_grow() {
    let mut h = Headers::new();
    h.push("keep", "1").unwrap();
    for i in 0..200_000 {
        h.set("x-count", i.to_string()).unwrap();
    }
    assert_eq!(h.len(), 2);
    assert!(h.text.len() <= Headers::MAX_BYTES);
    assert_eq!(text(&h), "keep: 1\r\nx-count: 199999\r\n");
}

#[test]
fn credentials_are_not_shown() {
    let mut h = Headers::new();
    for name in [
        "Authorization",
        "Proxy-Authorization",
        "Cookie",
        "Set-Cookie",
        "X-Api-Key",
        "X-Diolkos-Token",
    ] {
        h.push(name, "s3cret").unwrap();
    }
    h.push("accept", "text/html").unwrap();
    let shown = format!("{h:?} {:?}", h.clone());
    assert!(!shown.contains("s3cret"), "{shown}");
    assert!(shown.contains("text/html"));
}

#[test]
fn hop_by_hop_fields_are_left_out_when_forwarding() {
    let mut h = Headers::new();
    h.push("a", "1").unwrap();
    h.push("Transfer-Encoding", "chunked").unwrap();
    h.push("b", "2").unwrap();
    let mut out = Vec::new();
    h.write_end_to_end(&mut out);
    assert_eq!(out, b"a: 1\r\nb: 2\r\n");
}

#[test]
fn every_known_name_is_found() {
    for known in Known::ALL {
        assert_eq!(Known::of(known.name().as_bytes()), *known);
        assert!((*known as u8) < 64, "one bit each");
    }
    assert_eq!(Known::of(b""), Known::Other);
}

/// What an edit does, told on a plain list: the reference for the property below.
#[derive(Clone, Debug)]
enum Edit {
    Push(String, Vec<u8>),
    Set(String, Vec<u8>),
    Remove(String),
    Clear,
}

fn edit() -> impl Strategy<Value = Edit> {
    let name = || {
        prop::sample::select(vec!["a", "b", "host", "connection", "x-long-name"])
            .prop_map(String::from)
    };
    let value = || prop::collection::vec(prop_oneof![b'a'..=b'z', 0x80..=0xffu8], 0..12);
    prop_oneof![
        4 => (name(), value()).prop_map(|(n, v)| Edit::Push(n, v)),
        3 => (name(), value()).prop_map(|(n, v)| Edit::Set(n, v)),
        2 => name().prop_map(Edit::Remove),
        1 => Just(Edit::Clear),
    ]
}

proptest! {
    #[test]
    fn edits_behave_like_a_plain_list(edits in prop::collection::vec(edit(), 0..40)) {
        let mut h = Headers::new();
        let mut plain: Vec<(String, Vec<u8>)> = Vec::new();
        for e in edits {
            match e {
                Edit::Push(n, v) => { h.push(&n, &v).unwrap(); plain.push((n, v)); }
                Edit::Set(n, v) => {
                    h.set(&n, &v).unwrap();
                    match plain.iter().position(|f| f.0 == n) {
                        None => plain.push((n, v)),
                        Some(at) => {
                            plain[at].1 = v;
                            let mut index = 0;
                            plain.retain(|f| { index += 1; index - 1 <= at || f.0 != n });
                        }
                    }
                }
                Edit::Remove(n) => {
                    let there = plain.iter().any(|f| f.0 == n);
                    prop_assert_eq!(h.remove(&n), there);
                    plain.retain(|f| f.0 != n);
                }
                Edit::Clear => { h.clear(); plain.clear(); }
            }
            let ours: Vec<_> = h.iter().map(|(n, v)| (n.to_owned(), v.to_vec())).collect();
            prop_assert_eq!(&ours, &plain);
            let mut expected = Vec::new();
            for (n, v) in &plain {
                expected.extend_from_slice(n.as_bytes());
                expected.extend_from_slice(b": ");
                expected.extend_from_slice(v);
                expected.extend_from_slice(b"\r\n");
            }
            let mut out = Vec::new();
            h.write_to(&mut out);
            prop_assert_eq!(out, expected);
            prop_assert_eq!(h.clone(), h.clone());
            for known in Known::ALL {
                let first = plain.iter().find(|f| f.0 == known.name()).map(|f| f.1.as_slice());
                prop_assert_eq!(h.get_known(*known), first);
            }
        }
    }

    #[test]
    fn whatever_is_taken_reads_back_unchanged(name: Vec<u8>, value: Vec<u8>) {
        let mut h = Headers::new();
        if h.push(&name, &value).is_ok() {
            let lower = String::from_utf8(name.to_ascii_lowercase()).unwrap();
            prop_assert_eq!(h.get(&lower), Some(&value[..]));
            prop_assert!(!value.contains(&b'\r') && !value.contains(&b'\n') && !value.contains(&0));
        } else {
            prop_assert!(h.is_empty());
        }
    }
}

#[test]
fn the_first_cookie_of_a_name_counts() {
    let mut h = Headers::new();
    assert_eq!(h.cookie("a"), None);
    h.push("cookie", "ab=0; a=1;b=\"x y\" ; c").unwrap();
    h.push("Cookie", "a=2; d = 3;e=;f=x=y").unwrap();
    for (name, value) in [
        ("a", Some("1")),
        ("b", Some("\"x y\"")),
        ("c", None),
        ("d", Some("3")),
        ("e", Some("")),
        ("f", Some("x=y")),
        ("A", None),
        ("", None),
    ] {
        assert_eq!(h.cookie(name), value.map(str::as_bytes), "{name}");
    }
}

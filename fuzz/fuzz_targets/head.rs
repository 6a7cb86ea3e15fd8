//! Request heads: what is accepted is written such that it is read as the same again, and it makes no difference in which
//! pieces it came.
#![no_main]

use dataplane::engine::{EdgePolicies, Framing, Method, RequestHead, Version};
use dataplane::h1::head::RequestParser;
use dataplane::h1::{HeadLimits, encode};
use libfuzzer_sys::fuzz_target;
use model::{Edge, EscapedSlashes, Underscores};

fn parse(text: &[u8], edge: &EdgePolicies) -> Option<(usize, RequestHead)> {
    let mut head = RequestHead::default();
    let parsed = RequestParser::new(HeadLimits::default()).parse(text, edge, &mut head);
    parsed.ok().flatten().map(|p| (p.len, head))
}

fn check(text: &[u8], edge: &EdgePolicies) {
    let whole = parse(text, edge);
    let mut grown = RequestParser::new(HeadLimits::default());
    let mut head = RequestHead::default();
    // The first decision stands: about a longer beginning of the same text the parser says the same.
    let decision =
        (1..=text.len()).find_map(|n| grown.parse(&text[..n], edge, &mut head).transpose());
    match (&whole, decision) {
        (Some((len, read)), Some(Ok(parsed))) => {
            assert_eq!(parsed.len, *len);
            assert_eq!(format!("{read:?}"), format!("{head:?}"));
        }
        (None, Some(Err(_)) | None) => {}
        (whole, decision) => panic!("whole: {whole:?}, grown: {decision:?}"),
    }
    let Some((_, first)) = whole else { return };
    assert_ne!(first.method.as_str(), "CONNECT");
    if first.version == Version::Http10 {
        // It may name no host, and goes on with the Host field that HTTP/1.1 wants: empty, or one field above the limit.
        return;
    }
    let expects = matches!(first.method, Method::Post | Method::Put | Method::Patch);
    if expects && first.framing == Framing::Empty {
        // It goes on with a length of zero, which may be one field above the limit.
        return;
    }
    let mut text = Vec::new();
    encode::request(&first, &mut text);
    let (len, second) = parse(&text, edge).expect("what we write is what we would accept");
    assert_eq!(len, text.len());
    assert_eq!(first.method, second.method);
    assert_eq!(first.target.as_str(), second.target.as_str());
    assert_eq!(first.framing, second.framing);
    assert_eq!(first.upgrade, second.upgrade);
}

fuzz_target!(|text: &[u8]| {
    check(text, &EdgePolicies::default());
    check(
        text,
        &EdgePolicies::same(Edge {
            escaped_slashes: EscapedSlashes::Keep,
            underscores: Underscores::Keep,
        }),
    );
});

//! Chunked bodies: the same data and end in whatever pieces they come.
#![no_main]

use bytes::BytesMut;
use dataplane::h1::chunked::{Chunked, Piece, TrailerNames};
use libfuzzer_sys::fuzz_target;

/// Data, whether it ended, and what is left behind the end; `None`: refused.
fn decode(text: &[u8], at_once: usize) -> (Vec<u8>, Option<bool>, usize) {
    let mut chunked = Chunked::new(TrailerNames::WithUnderscores);
    let (mut buf, mut data) = (BytesMut::new(), Vec::new());
    let mut taken = 0;
    for piece in text.chunks(at_once.max(1)) {
        buf.extend_from_slice(piece);
        taken += piece.len();
        loop {
            match chunked.next(&mut buf) {
                Ok(Piece::Data(d)) => {
                    assert!(!d.is_empty());
                    data.extend_from_slice(&d);
                }
                Ok(Piece::More) => break,
                Ok(Piece::End) => {
                    assert!(chunked.is_done());
                    return (data, Some(true), taken - buf.len());
                }
                Err(_) => return (data, None, 0),
            }
        }
    }
    (data, Some(false), 0)
}

fuzz_target!(|input: (u8, &[u8])| {
    let (at_once, text) = input;
    let whole = decode(text, text.len());
    let pieces = decode(text, usize::from(at_once));
    assert_eq!(whole.1, pieces.1);
    if whole.1 == Some(true) {
        assert_eq!(whole, pieces);
    } else {
        // A refusal may come before data that stands in front of it, but data never differs.
        let n = whole.0.len().min(pieces.0.len());
        assert_eq!(whole.0[..n], pieces.0[..n]);
    }
});

//! The normal form of a path is one: applied again it changes nothing, and nothing in it climbs or hides.
#![no_main]

use dataplane::engine::sanitize;
use libfuzzer_sys::fuzz_target;
use model::EscapedSlashes;

/// The normal form, if there is one.
fn normal(raw: &[u8], slashes: EscapedSlashes) -> Option<String> {
    let mut once = String::new();
    sanitize::path(raw, slashes, &mut once).ok()?;
    let mut twice = String::new();
    sanitize::path(once.as_bytes(), slashes, &mut twice).expect("a normal form is a path");
    assert_eq!(once, twice);
    Some(once)
}

/// Whether nothing in it climbs, or is anything but segments.
fn is_plain(path: &str) -> bool {
    path.starts_with('/')
        && !path.contains("//")
        && path
            .bytes()
            .all(|b| b.is_ascii_graphic() && !b"\\?#".contains(&b))
        && path
            .split('/')
            .all(|segment| segment != "." && segment != "..")
}

fn hides(path: &str, escapes: &[&str]) -> bool {
    let lower = path.to_ascii_lowercase();
    escapes.iter().any(|e| lower.contains(e))
}

fuzz_target!(|raw: &[u8]| {
    let mut host = sanitize::Host::default();
    let _ = sanitize::host(raw, &mut host);
    let strict = normal(raw, EscapedSlashes::Reject);
    let lax = normal(raw, EscapedSlashes::Keep);
    if let Some(path) = &strict {
        assert!(is_plain(path), "{path}");
        assert!(!hides(path, &["%2f", "%5c", "%2e", "%00"]), "{path}");
        assert_eq!(strict, lax, "what is let in besides changes nothing else");
    }
    if let Some(path) = &lax {
        assert!(is_plain(path), "{path}");
        assert!(!hides(path, &["%5c", "%2e", "%00"]), "{path}");
        // Nor does anything climb for a reader to whom the escapes are slashes.
        let decoded = path.replace("%2F", "/");
        assert!(decoded.split('/').all(|s| s != "." && s != ".."), "{path}");
        assert!(strict.is_none() || !path.contains("%2F"), "{path}");
    }
});

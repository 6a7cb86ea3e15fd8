//! The normal form of a path is one: applied again it changes nothing, and nothing in it climbs or hides.
#![no_main]

use dataplane::engine::sanitize;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|raw: &[u8]| {
    let mut host = sanitize::Host::default();
    let _ = sanitize::host(raw, &mut host);
    let mut once = String::new();
    if sanitize::path(raw, &mut once).is_err() {
        return;
    }
    let mut twice = String::new();
    sanitize::path(once.as_bytes(), &mut twice).expect("a normal form is a path");
    assert_eq!(once, twice);
    assert!(once.starts_with('/'));
    assert!(
        once.bytes()
            .all(|b| b.is_ascii_graphic() && !b"\\?#".contains(&b))
    );
    assert!(
        once.split('/')
            .all(|segment| segment != "." && segment != "..")
    );
    assert!(!once.contains("//"));
    let lower = once.to_ascii_lowercase();
    assert!(
        !["%2f", "%5c", "%2e", "%00"]
            .iter()
            .any(|e| lower.contains(e)),
        "{once}"
    );
});

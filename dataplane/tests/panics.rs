//! What is told of a panic. In a process of its own: the hook is the process's.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, unreachable_pub, reason = "other tests use the rest of it")]
#[path = "support/logs.rs"]
mod logs;

use diolkos_dataplane::telemetry::logs::tell_panics;
use std::thread;

#[test]
fn a_panic_is_told_with_its_place_and_no_more_than_the_program_says() {
    logs::listen();
    tell_panics();
    let named = thread::Builder::new().name("worker-7".into());
    let fallen = named.spawn(|| panic!("a constant")).unwrap().join();
    assert!(fallen.is_err());
    let place = "tests/panics.rs:";
    let parts = ["a constant", place, "worker-7"];
    assert_eq!(logs::count("panic", &parts), 1);
    // What was put together may be anything.
    let secret = String::from("s3cret");
    let fallen = thread::spawn(move || panic!("it is {secret}")).join();
    assert!(fallen.is_err());
    assert_eq!(logs::count("panic", &[place]), 2);
    assert_eq!(logs::count("panic", &["s3cret"]), 0);
}

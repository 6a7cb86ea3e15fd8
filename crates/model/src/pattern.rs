//! Regular expressions of users, compiled in one way wherever they are checked or used.

use crate::limits::REGEX_BYTES;
use regex::{Error, Regex, RegexBuilder};

/// An expression that must match a whole value (path, header, query and cookie matches).
///
/// # Errors
/// What cannot be compiled within [`REGEX_BYTES`].
pub fn whole(pattern: &str) -> Result<Regex, Error> {
    // By itself first: `a)|(b` is no expression, although it becomes one between parentheses.
    search(pattern)?;
    search(&format!(r"\A(?:{pattern})\z"))
}

/// An expression that is searched (rewrites, denied content).
///
/// # Errors
/// What cannot be compiled within [`REGEX_BYTES`].
pub fn search(pattern: &str) -> Result<Regex, Error> {
    RegexBuilder::new(pattern)
        .size_limit(REGEX_BYTES)
        .dfa_size_limit(REGEX_BYTES)
        .build()
}

/// The same for bytes that need not be text.
///
/// # Errors
/// What cannot be compiled within [`REGEX_BYTES`].
pub fn search_bytes(pattern: &str) -> Result<regex::bytes::Regex, Error> {
    regex::bytes::RegexBuilder::new(pattern)
        .size_limit(REGEX_BYTES)
        .dfa_size_limit(REGEX_BYTES)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_values_only() {
        let regex = whole("a|ab").unwrap();
        assert!(regex.is_match("ab") && regex.is_match("a"));
        assert!(!regex.is_match("xa") && !regex.is_match("a\n") && !regex.is_match("abc"));
    }

    #[test]
    fn what_is_no_expression_or_too_large_is_refused() {
        for bad in ["(", "a)|(b", "(a{1000}){1000}"] {
            assert!(whole(bad).is_err(), "{bad}");
        }
        assert!(search_bytes(r"(?-u)\xff").is_ok());
    }
}

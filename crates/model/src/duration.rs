//! Durations as users write them: Go style and GEP-2257, such as `300ms`, `1m30s`, `1.5h`.

use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDuration {
    #[error(
        "a duration is a sequence of numbers with a unit of h, m, s or ms, such as 300ms or 1m30s"
    )]
    Form,
    #[error("a duration is at most 99999h")]
    TooLong,
}

/// # Errors
/// [`InvalidDuration`] for a missing or unknown unit, an empty text, or more than 99,999 hours.
pub fn parse(text: &str) -> Result<Duration, InvalidDuration> {
    const MAX_SECONDS: f64 = 99_999.0 * 3600.0;
    let mut rest = text;
    let mut seconds = 0.0_f64;
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if text.is_empty() {
        return Err(InvalidDuration::Form);
    }
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or(InvalidDuration::Form)?;
        let (number, tail) = rest.split_at(end);
        let number: f64 = number.parse().map_err(|_| InvalidDuration::Form)?;
        let (unit, tail) = [("ms", 0.001), ("h", 3600.0), ("m", 60.0), ("s", 1.0)]
            .into_iter()
            .find_map(|(name, unit)| tail.strip_prefix(name).map(|t| (unit, t)))
            .ok_or(InvalidDuration::Form)?;
        seconds += number * unit;
        rest = tail;
    }
    if !seconds.is_finite() || seconds > MAX_SECONDS {
        return Err(InvalidDuration::TooLong);
    }
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn go_style() {
        for (text, ms) in [
            ("300ms", 300),
            ("10s", 10_000),
            ("1m30s", 90_000),
            ("1.5h", 5_400_000),
            ("0s", 0),
            ("0", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for bad in ["", "5", "s", "1d", "-1s", "1s2", "1 s", "1..2s", "100000h"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in ".{0,40}") {
            let _ = parse(&text);
        }
    }
}

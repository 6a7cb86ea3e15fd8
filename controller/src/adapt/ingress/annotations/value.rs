//! Values of annotations, which are all text.

use super::Complaint;

/// Whether a value asks for anything at all.
pub(super) fn asks(text: &str) -> bool {
    !matches!(
        text.to_ascii_lowercase().as_str(),
        "" | "false" | "off" | "0"
    )
}

/// As Go reads one, and with it ingress-nginx.
pub(super) fn boolean(text: &str) -> Result<bool, Complaint> {
    match text {
        "true" | "True" | "TRUE" | "t" | "T" | "1" => Ok(true),
        "false" | "False" | "FALSE" | "f" | "F" | "0" => Ok(false),
        _ => Err(Complaint::Invalid(format!("{text:?} is not true or false"))),
    }
}

pub(super) fn switch(text: &str) -> Result<bool, Complaint> {
    match text {
        "on" | "true" => Ok(true),
        "off" | "false" => Ok(false),
        _ => Err(Complaint::Invalid(format!("{text:?} is not on or off"))),
    }
}

pub(super) fn number(text: &str, least: u32, most: u32) -> Result<u32, Complaint> {
    let number = text.parse().ok();
    number
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| {
            Complaint::Invalid(format!("{text:?} is not a number from {least} to {most}"))
        })
}

/// Whole seconds, as a duration. At most ten years.
pub(super) fn seconds(text: &str) -> Result<crds::Duration, Complaint> {
    let bare = text.strip_suffix('s').unwrap_or(text);
    let seconds = number(bare, 0, 315_360_000)
        .map_err(|_| Complaint::Invalid(format!("{text:?} is not a number of seconds")))?;
    Ok(format!("{seconds}s").as_str().into())
}

/// Bytes, as nginx writes them: `8m`, `512k`, `1g`, `4096`.
pub(super) fn bytes(text: &str) -> Result<u64, Complaint> {
    let invalid = || Complaint::Invalid(format!("{text:?} is not a size such as 8m, 512k or 4096"));
    let lower = text.to_ascii_lowercase();
    let units = [('k', 1_u64 << 10), ('m', 1 << 20), ('g', 1 << 30)];
    let mut found = units
        .iter()
        .filter_map(|(letter, unit)| Some((lower.strip_suffix(*letter)?, *unit)));
    let (digits, unit) = found.next().unwrap_or((&lower, 1));
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(invalid());
    }
    let number: u64 = digits.parse().map_err(|_| invalid())?;
    number
        .checked_mul(unit)
        .filter(|bytes| *bytes < 1 << 59)
        .ok_or_else(invalid)
}

/// The parts between commas, without what is empty.
pub(super) fn list(text: &str) -> Vec<String> {
    let parts = text.split(',').map(str::trim);
    parts
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect()
}

/// A value of a header field, or of something that becomes one.
pub(super) fn line(text: &str) -> Result<String, Complaint> {
    match !text.is_empty() && model::headers::is_value(text.as_bytes()) {
        true => Ok(text.to_owned()),
        false => Err(Complaint::Invalid(
            "must not be empty and have no control characters".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans() {
        for (text, value) in [("True", true), ("1", true), ("FALSE", false), ("f", false)] {
            assert_eq!(boolean(text), Ok(value), "{text}");
        }
        for bad in ["", "yes", "on", "tRUE"] {
            assert!(boolean(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("8m", 8 << 20),
            ("1G", 1 << 30),
            ("5k", 5120),
        ] {
            assert_eq!(super::bytes(text), Ok(bytes), "{text}");
        }
        for bad in [
            "",
            "m",
            "-1",
            "8q",
            "1.5m",
            "99999999999999999999",
            "9999999999999g",
        ] {
            assert!(super::bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times() {
        assert_eq!(seconds("60").unwrap().as_str(), "60s");
        assert_eq!(seconds("60s").unwrap().as_str(), "60s");
        for bad in ["", "s", "1m", "-1", "60 "] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lists() {
        assert_eq!(list(" a, b,,c "), ["a", "b", "c"]);
        assert!(list(" , ").is_empty());
    }
}

//! Sizes as Kubernetes quantities, such as `10Mi`.

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a size is a number with an optional unit of k, M, G, T, Ki, Mi, Gi or Ti, such as 10Mi")]
pub struct InvalidQuantity;

/// Bytes; fractions are rounded up.
///
/// # Errors
/// [`InvalidQuantity`] for anything else, also for what does not fit 2^63.
pub fn parse_bytes(text: &str) -> Result<u64, InvalidQuantity> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit: u64 = match unit {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return Err(InvalidQuantity),
    };
    let number: f64 = number.parse().map_err(|_| InvalidQuantity)?;
    let bytes = (number * unit as f64).ceil();
    if !bytes.is_finite() || bytes >= (1u64 << 63) as f64 {
        return Err(InvalidQuantity);
    }
    Ok(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        for (text, bytes) in [
            ("0", 0),
            ("10", 10),
            ("1k", 1000),
            ("1Ki", 1024),
            ("1.5Mi", 1_572_864),
            ("10Gi", 10 << 30),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for bad in ["", "Mi", "-1", "1mi", "1 Mi", "1e3", "99999999999Ti"] {
            assert_eq!(parse_bytes(bad), Err(InvalidQuantity), "{bad}");
        }
    }
}

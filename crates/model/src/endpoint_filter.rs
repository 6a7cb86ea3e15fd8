//! Which of the endpoints that are found are used (features.md F50): a condition in CEL about one of them.

use crate::expression::{Datum, Expression, Names};

/// What it can be about. A zone that is not known is empty. Labels are those that a registry lists.
pub const KNOWN: &[&str] = &[
    "endpoint.address",
    "endpoint.port",
    "endpoint.weight",
    "endpoint.zone",
    LABELS,
];

/// Of what only registries know.
pub const LABELS: &str = "endpoint.labels";

/// # Errors
/// What is wrong with it.
pub fn compile(text: &str) -> Result<Expression, String> {
    Expression::compile(text, KNOWN, &Sample)
}

/// An endpoint as any other, to see what type a condition has.
struct Sample;

impl Names for Sample {
    fn get(&self, name: &str) -> Option<Datum> {
        Some(match name {
            "endpoint.port" | "endpoint.weight" => Datum::Number(1),
            LABELS => Datum::Map(Vec::new()),
            _ => Datum::Text("a".to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_can_be_used() {
        for name in KNOWN {
            assert!(compile(&format!("{name} == {name}")).is_ok(), "{name}");
        }
        assert!(compile(r#"endpoint.labels.tier == "gold""#).is_ok());
        assert!(compile("has(endpoint.labels.tier) || endpoint.port in [80, 81]").is_ok());
        let error = compile("endpoint.name == ''").expect_err("a name that is not known");
        assert!(error.contains("endpoint.labels"), "{error}");
    }
}

//! Which requests the access log has a line for (features.md F158): a condition in CEL about what the line could say.

use crate::expression::{Datum, Expression, Names};

/// What it can be about. Texts that a request has not are empty. Names of headers are in lower case.
pub const KNOWN: &[&str] = &[
    "request.method",
    "request.host",
    "request.path",
    "request.query",
    "request.uri",
    "request.scheme",
    "request.protocol",
    "request.size",
    "request.headers",
    "response.status",
    "response.size",
    "response.error",
    "response.headers",
    "client",
    "listener",
    "route",
    "rule",
    "upstream",
    "attempts",
    "duration_us",
];

/// # Errors
/// What is wrong with it.
pub fn compile(text: &str) -> Result<Expression, String> {
    Expression::compile(text, KNOWN, &Sample)
}

/// A request as any other, to see what type a condition has.
struct Sample;

impl Names for Sample {
    fn get(&self, name: &str) -> Option<Datum> {
        Some(match name {
            "request.size" | "response.size" | "duration_us" => Datum::Number(1000),
            "attempts" => Datum::Number(1),
            "response.status" => Datum::Number(200),
            "request.headers" | "response.headers" => Datum::Map(Vec::new()),
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
        let error = compile("response.status").expect_err("a number");
        assert!(error.contains("true or false"));
    }
}

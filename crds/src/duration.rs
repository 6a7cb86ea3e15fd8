//! Durations as users write them.

use std::{fmt, time::Duration as StdDuration};

use model::duration::InvalidDuration;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A length of time in Go style or GEP-2257: numbers with the units `h`, `m`, `s`, `ms`, such as `300ms` or `1m30s`.
///
/// It stays the string that the user wrote; [`Duration::parse`] gives its value.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Duration(pub String);

impl Duration {
    /// The form that the schema asks for; everything of this form up to 99999h parses.
    pub(crate) const PATTERN: &'static str = r"^([0-9]{1,9}(\.[0-9]{1,3})?(h|ms|m|s))+$";

    /// The text as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The length of time that the text stands for. Units may come in any order and add up.
    ///
    /// # Errors
    /// When the text does not follow the grammar or stands for more than 99,999 hours.
    pub fn parse(&self) -> Result<StdDuration, InvalidDuration> {
        model::duration::parse(&self.0)
    }
}

impl From<&str> for Duration {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 2, "maxLength": 32, "pattern": Self::PATTERN })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_users_write() {
        assert_eq!(
            Duration::from("1m30s").parse(),
            Ok(StdDuration::from_secs(90))
        );
        assert_eq!(Duration::from("90").parse(), Err(InvalidDuration::Form));
    }

    proptest::proptest! {
        #[test]
        fn what_the_schema_accepts_parses(text in "([0-9]{1,4}(\\.[0-9]{1,3})?(h|ms|m|s)){1,4}") {
            proptest::prop_assert!(regex::Regex::new(Duration::PATTERN).unwrap().is_match(&text));
            proptest::prop_assert!(Duration(text).parse().is_ok());
        }
    }
}

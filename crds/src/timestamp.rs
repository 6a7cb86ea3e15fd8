//! Points in time as users write them.

use std::fmt;

use k8s_openapi::jiff::{self, civil};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A point in time in RFC 3339, such as `2027-01-01T00:00:00Z`; a bare date means its first moment in UTC.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub String);

/// Why a text is not a [`Timestamp`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a point in time: write 2027-01-01T00:00:00Z or 2027-01-01")]
pub struct TimestampError(String);

impl Timestamp {
    pub(crate) const PATTERN: &'static str = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2}))?$";

    /// The point in time that the text stands for.
    pub fn parse(&self) -> Result<jiff::Timestamp, TimestampError> {
        let error = |_| TimestampError(self.0.clone());
        match self.0.parse::<jiff::Timestamp>() {
            Ok(time) => Ok(time),
            Err(_) if self.0.len() == "2027-01-01".len() => {
                let date: civil::Date = self.0.parse().map_err(error)?;
                Ok(date
                    .to_zoned(jiff::tz::TimeZone::UTC)
                    .map_err(error)?
                    .timestamp())
            }
            Err(problem) => Err(error(problem)),
        }
    }
}

impl From<&str> for Timestamp {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JsonSchema for Timestamp {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Timestamp".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 10, "maxLength": 40, "pattern": Self::PATTERN })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_dates_and_times() {
        let midnight = Timestamp::from("2027-01-01T00:00:00Z").parse().unwrap();
        assert_eq!(Timestamp::from("2027-01-01").parse(), Ok(midnight));
        assert_eq!(
            Timestamp::from("2027-01-01T02:00:00+02:00").parse(),
            Ok(midnight)
        );
        for text in [
            "",
            "tomorrow",
            "2027-13-01",
            "2027-01-01T25:00:00Z",
            "2027-1-1",
        ] {
            assert_eq!(
                Timestamp::from(text).parse(),
                Err(TimestampError(text.to_owned())),
                "{text}"
            );
        }
    }
}

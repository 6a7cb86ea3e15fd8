//! Sizes in bytes as users write them.

use std::fmt;

use model::quantity::InvalidQuantity;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};

/// A size in bytes as a Kubernetes quantity: `10Mi`, `64k`, `1.5Gi`, or a bare number.
///
/// It stays what the user wrote; [`Quantity::bytes`] gives its value.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Quantity(pub String);

impl Quantity {
    /// The form that the schema asks for; everything of this form that fits 2^63 parses.
    pub(crate) const PATTERN: &'static str = r"^[0-9]{1,18}(\.[0-9]{1,3})?(Ki|Mi|Gi|Ti|k|M|G|T)?$";

    /// The text as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The number of bytes, rounded up to a whole one.
    ///
    /// # Errors
    /// When the text does not follow the grammar or the value does not fit 2^63.
    pub fn bytes(&self) -> Result<u64, InvalidQuantity> {
        model::quantity::parse_bytes(&self.0)
    }
}

impl From<&str> for Quantity {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A size without a unit may come as a number, because YAML reads `1024` as one.
impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Quantity;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as 10Mi")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Quantity, E> {
                Ok(Quantity(text.to_owned()))
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Quantity, E> {
                Ok(Quantity(number.to_string()))
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Quantity, E> {
                Ok(Quantity(number.to_string()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Quantity {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Quantity".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "minimum": 0,
            "maxLength": 32,
            "pattern": Self::PATTERN,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_users_write() {
        assert_eq!(Quantity::from("10Mi").bytes(), Ok(10 << 20));
        assert_eq!(
            serde_json::from_str::<Quantity>("4096").unwrap().bytes(),
            Ok(4096)
        );
        assert_eq!(Quantity::from("10MiB").bytes(), Err(InvalidQuantity));
    }

    proptest::proptest! {
        #[test]
        fn what_the_schema_accepts_parses(text in "[0-9]{1,6}(\\.[0-9]{1,3})?(Ki|Mi|Gi|Ti|k|M|G|T)?") {
            proptest::prop_assert!(regex::Regex::new(Quantity::PATTERN).unwrap().is_match(&text));
            proptest::prop_assert!(Quantity(text).bytes().is_ok());
        }
    }
}

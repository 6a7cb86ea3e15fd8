//! Which of the endpoints that are found are used.

use super::endpoints::Member;
use model::endpoint_filter::{self, LABELS};
use model::expression::{Datum, Expression, Names};
use std::fmt;

/// A condition about an endpoint.
pub(super) struct Filter {
    pub(super) text: String,
    /// `None`: it cannot be read, and nothing passes. Such a configuration was refused before.
    expression: Option<Expression>,
}

impl Filter {
    pub(super) fn new(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            expression: endpoint_filter::compile(text).ok(),
        }
    }

    pub(super) fn passes(&self, member: &Member) -> bool {
        let expression = self.expression.as_ref();
        expression.is_some_and(|expression| expression.holds(&About(member)))
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Filter").field(&self.text).finish()
    }
}

struct About<'a>(&'a Member);

impl Names for About<'_> {
    fn get(&self, name: &str) -> Option<Datum> {
        let Member {
            addr,
            weight,
            zone,
            labels,
            ..
        } = self.0;
        Some(match name {
            "endpoint.address" => Datum::Text(addr.ip().to_string()),
            "endpoint.port" => Datum::Number(addr.port().into()),
            "endpoint.weight" => Datum::Number((*weight).into()),
            "endpoint.zone" => Datum::Text(zone.as_deref().unwrap_or_default().to_owned()),
            LABELS => Datum::Map(labels.as_deref().unwrap_or_default().to_vec()),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_knows_all_of_an_endpoint() {
        let labels = [("tier".to_owned(), "gold".to_owned())];
        let zone = Some("a".into());
        let full = Member {
            labels: Some(labels.into()),
            ..Member::fixed("10.0.0.1:80".parse().unwrap(), 5, zone)
        };
        let bare = Member::fixed("[fd00::1]:81".parse().unwrap(), 1, None);
        for (text, of_full, of_bare) in [
            (r#"endpoint.labels.tier == "gold""#, true, false),
            (r#"!(endpoint.labels.tier == "iron")"#, true, false),
            ("!has(endpoint.labels.tier)", false, true),
            ("endpoint.address == 'fd00::1'", false, true),
            ("endpoint.port == 80 && endpoint.weight > 4", true, false),
            ("endpoint.zone == ''", false, true),
            ("true", true, true),
            ("is no condition", false, false),
        ] {
            let filter = Filter::new(text);
            let passes = (filter.passes(&full), filter.passes(&bare));
            assert_eq!(passes, (of_full, of_bare), "{text}");
        }
        for name in endpoint_filter::KNOWN {
            assert!(About(&bare).get(name).is_some(), "{name}");
        }
    }
}

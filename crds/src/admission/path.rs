//! Where in an object something stands.

use std::fmt;

/// The way from the root of an object to one of its fields, shown as `spec.rules[2].backends[0].port`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldPath(pub Vec<Segment>);

/// One step of a [`FieldPath`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Segment {
    /// A field of an object, or a key of a map.
    Key(String),
    /// A place in a list, from 0.
    Index(usize),
}

impl FieldPath {
    /// Reads what [`Display`](fmt::Display) writes, as far as field names go that need no quotes.
    pub(crate) fn parse(text: &str) -> Self {
        let mut segments = Vec::new();
        for part in text.split('.').filter(|part| !part.is_empty()) {
            let mut pieces = part.split('[');
            segments.extend(
                pieces
                    .next()
                    .filter(|key| !key.is_empty())
                    .map(|key| Segment::Key(key.to_owned())),
            );
            segments.extend(
                pieces
                    .filter_map(|piece| piece.trim_end_matches(']').parse().ok())
                    .map(Segment::Index),
            );
        }
        Self(segments)
    }

    /// The path of a field of what is at this path.
    pub fn key(&self, name: &str) -> Self {
        self.with(Segment::Key(name.to_owned()))
    }

    /// The path of an item of the list that is at this path.
    pub fn index(&self, index: usize) -> Self {
        self.with(Segment::Index(index))
    }

    fn with(&self, segment: Segment) -> Self {
        let mut segments = self.0.clone();
        segments.push(segment);
        Self(segments)
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Key(key)
                    if key
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') =>
                {
                    let dot = if place > 0 { "." } else { "" };
                    write!(f, "{dot}{key}")?;
                }
                Segment::Key(key) => write!(f, "[{key:?}]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_shown_as_kubernetes_shows_it() {
        let path = FieldPath::default()
            .key("spec")
            .key("rules")
            .index(2)
            .key("backends")
            .index(0)
            .key("port");
        assert_eq!(path.to_string(), "spec.rules[2].backends[0].port");
        assert_eq!(FieldPath::parse(&path.to_string()), path);
        assert_eq!(
            FieldPath::default()
                .key("metadata")
                .key("a.b/c")
                .to_string(),
            r#"metadata["a.b/c"]"#
        );
    }
}

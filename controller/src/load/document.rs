//! YAML documents whose every node knows its line.

use super::file::Place;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::{Error, Spanned};
use std::fmt;

/// Nodes that one file may have, aliases expanded.
const MAX_NODES: usize = 2_000_000;
/// Nesting of lists and maps.
const MAX_DEPTH: usize = 64;
/// A list, a map and a document have an end, too: more of them than nodes can have.
const MAX_EVENTS: usize = 2 * (MAX_NODES + super::MAX_OBJECTS + 1);

/// The documents of one file, in order.
pub(super) struct Documents(Vec<Spanned<Node>>);

/// One node of a document.
#[derive(Debug)]
enum Node {
    Scalar(Value),
    List(Vec<Spanned<Self>>),
    Map(Vec<(Spanned<String>, Spanned<Self>)>),
}

/// Why a text is not YAML.
#[derive(Debug)]
pub(super) struct SyntaxError {
    pub line: u64,
    pub message: String,
}

/// The limit that a file passes from this place on.
fn passed(error: &Error) -> Option<String> {
    let Error::Budget { breach, .. } = error else {
        return None;
    };
    let (most, of_what) = match breach {
        BudgetBreach::Nodes { .. } => (MAX_NODES, "values in a file"),
        BudgetBreach::Documents { .. } => (super::MAX_OBJECTS, "documents in a file"),
        BudgetBreach::Depth { .. } => (MAX_DEPTH, "levels of lists and maps"),
        _ => return None,
    };
    Some(format!("more than {most} {of_what}"))
}

impl Documents {
    /// # Errors
    /// The first place where the text is not YAML, or is too deep, too long, or full of aliases.
    pub(super) fn parse(text: &str) -> Result<Self, SyntaxError> {
        let options = serde_saphyr::options! {
            with_snippet: false,
            budget: serde_saphyr::budget! {
                max_depth: MAX_DEPTH,
                max_events: MAX_EVENTS,
                max_nodes: MAX_NODES,
                max_documents: super::MAX_OBJECTS,
            },
        };
        match serde_saphyr::from_multiple_with_options(text, options) {
            Ok(documents) => Ok(Self(documents)),
            Err(e) => {
                let error = e.without_snippet();
                let message = passed(error).unwrap_or_else(|| error.to_string());
                Err(SyntaxError {
                    line: e.location().map_or(1, |at| at.line()),
                    message: message.lines().collect::<Vec<_>>().join(" "),
                })
            }
        }
    }

    /// Every document with its place; the items of a List each by itself.
    pub(super) fn objects(&self) -> Vec<(Value, Place)> {
        let mut objects = Vec::new();
        for (document, node) in self.0.iter().enumerate() {
            let value = node.value.to_json();
            let is_list = value
                .get("kind")
                .and_then(Value::as_str)
                .is_some_and(|k| k.ends_with("List"));
            match (is_list, node.value.child("items")) {
                (
                    true,
                    Some(Spanned {
                        value: Node::List(items),
                        ..
                    }),
                ) => {
                    for (i, item) in items.iter().enumerate() {
                        let line = item.referenced.line();
                        let item_at = Some(i);
                        let place = Place {
                            document,
                            item: item_at,
                            line,
                        };
                        objects.push((item.value.to_json(), place));
                    }
                }
                _ => {
                    let line = node.referenced.line();
                    objects.push((
                        value,
                        Place {
                            document,
                            item: None,
                            line,
                        },
                    ));
                }
            }
        }
        objects
    }

    /// The line of a field such as `spec.rules[0].name`, or of what is nearest around it.
    pub(super) fn line(&self, place: &Place, field: &str) -> u64 {
        let Some(document) = self.0.get(place.document) else {
            return place.line;
        };
        let mut node = &document.value;
        if let Some(item) = place.item {
            let items = node.child("items").map(|items| &items.value);
            match items.and_then(|items| items.element(item)) {
                Some(item) => node = &item.value,
                None => return place.line,
            }
        }
        let mut line = place.line;
        for step in steps(field) {
            let next = match step {
                Step::Index(index) => node.element(index).map(|n| (n.referenced.line(), n)),
                Step::Name(name) => node.entry(name),
            };
            let Some((at, next)) = next else { break };
            (line, node) = (at, &next.value);
        }
        line
    }
}

/// A part of a field such as `spec.rules[0].name`.
enum Step<'a> {
    Index(usize),
    Name(&'a str),
}

/// In brackets stands a number, or a name with dots in it such as that of an annotation.
fn steps(field: &str) -> impl Iterator<Item = Step<'_>> {
    let mut rest = field;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches('.');
        if let Some((inside, after)) = rest.strip_prefix('[').and_then(|r| r.split_once(']')) {
            rest = after;
            return Some(match inside.parse() {
                Ok(index) => Step::Index(index),
                Err(_) => Step::Name(inside),
            });
        }
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        // A bracket that is never closed ends it.
        rest = if name.is_empty() { "" } else { after };
        (!name.is_empty()).then_some(Step::Name(name))
    })
}

impl Node {
    /// With the line of the key, which is where a reader looks.
    fn entry(&self, name: &str) -> Option<(u64, &Spanned<Self>)> {
        match self {
            Self::Map(entries) => entries
                .iter()
                .find(|(key, _)| key.value == name)
                .map(|(key, value)| (key.referenced.line(), value)),
            _ => None,
        }
    }

    fn child(&self, name: &str) -> Option<&Spanned<Self>> {
        self.entry(name).map(|(_, value)| value)
    }

    fn element(&self, index: usize) -> Option<&Spanned<Self>> {
        match self {
            Self::List(list) => list.get(index),
            _ => None,
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Self::Scalar(value) => value.clone(),
            Self::List(list) => list.iter().map(|n| n.value.to_json()).collect(),
            Self::Map(entries) => {
                let entries = entries
                    .iter()
                    .map(|(key, n)| (key.value.clone(), n.value.to_json()));
                Value::Object(entries.collect::<Map<_, _>>())
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Node, E> {
        let number = Number::from_f64(value);
        let number = number.ok_or_else(|| E::custom("a number must be finite"))?;
        Ok(Node::Scalar(Value::Number(number)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(Value::String(value.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = access.next_element()? {
            list.push(element);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = access.next_entry()? {
            map.push(entry);
        }
        Ok(Node::Map(map))
    }
}

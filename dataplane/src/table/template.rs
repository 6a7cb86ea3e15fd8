//! Texts in which `${name}` stands for a group of the Route's `hostnameRegex`.

use model::captures::{Piece, pieces};
use regex::Regex;
use std::borrow::Cow;
use std::sync::Arc;

/// The text of a rewrite or redirect.
#[derive(Debug)]
pub(super) enum Text {
    Plain(Box<str>),
    Template(Template),
}

/// A text with groups of an expression in it.
#[derive(Debug)]
pub(super) struct Template {
    host: Arc<Regex>,
    pieces: Box<[Part]>,
}

#[derive(Debug)]
enum Part {
    Text(Box<str>),
    Group(usize),
}

impl Text {
    /// `host`: the expression of the Route's hosts; without one the text is what it says.
    ///
    /// # Errors
    /// A name that is no group of the expression.
    pub(super) fn compile(text: &str, host: Option<&Arc<Regex>>) -> Result<Self, String> {
        let pieces = pieces(text);
        let (Some(host), true) = (host, pieces.iter().any(|p| matches!(p, Piece::Name(_)))) else {
            return Ok(Self::Plain(text.into()));
        };
        let part = |piece: Piece<'_>| match piece {
            Piece::Text(text) => Ok(Part::Text(text.into())),
            Piece::Name(name) => group(host, name)
                .map(Part::Group)
                .ok_or_else(|| format!("${{{name}}} is no group of the host's expression")),
        };
        Ok(Self::Template(Template {
            host: Arc::clone(host),
            pieces: pieces.into_iter().map(part).collect::<Result<_, _>>()?,
        }))
    }

    /// The text for a request to this host.
    pub(super) fn of<'a>(&'a self, host: &str) -> Cow<'a, str> {
        match self {
            Self::Plain(text) => Cow::Borrowed(text),
            Self::Template(template) => Cow::Owned(template.of(host)),
        }
    }
}

impl Template {
    pub(super) fn of(&self, host: &str) -> String {
        let found = self.host.captures(host);
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Part::Text(text) => out.push_str(text),
                Part::Group(i) => {
                    let group = found.as_ref().and_then(|f| f.get(*i));
                    out.push_str(group.map_or("", |g| g.as_str()));
                }
            }
        }
        out
    }
}

/// The number of a named group.
pub(super) fn group(regex: &Regex, name: &str) -> Option<usize> {
    regex.capture_names().position(|own| own == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_for_what_the_host_has() {
        let regex = r"(?<team>[a-z]+)(-(?<stage>[a-z]+))?\.example\.com";
        let host = Arc::new(model::pattern::whole(regex).unwrap());
        for (text, name, is) in [
            ("/teams/${team}/x", "red.example.com", "/teams/red/x"),
            ("${stage}.${team}", "red-dev.example.com", "dev.red"),
            ("[${stage}]", "red.example.com", "[]"),
            ("$team", "red.example.com", "$team"),
        ] {
            let text = Text::compile(text, Some(&host)).unwrap();
            assert_eq!(text.of(name), is);
        }
        assert!(
            Text::compile("${tram}", Some(&host))
                .unwrap_err()
                .contains("${tram}")
        );
        assert_eq!(
            Text::compile("${team}", None)
                .unwrap()
                .of("red.example.com"),
            "${team}"
        );
    }
}

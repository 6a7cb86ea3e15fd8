//! The path that an upstream or a redirect gets.
//!
//! Whatever a rule makes of a path is a valid request target in normal form again (RFC 3986 section 3.3): it begins
//! with a slash, bytes that may not stand in a path are escaped, and an expression that joins its pieces to dot
//! segments or repeated slashes does not climb out of anything. An escaped slash stays what it is.

use super::template::{Text, group};
use model::captures::{Piece, pieces};
use model::path::replace_prefix;
use model::{PathRewrite, pattern as expression};
use regex::Regex;
use std::borrow::Cow;
use std::sync::Arc;

/// A compiled [`PathRewrite`].
#[derive(Debug)]
pub(super) enum PathEdit {
    ReplacePrefix(PathText),
    ReplaceFull(PathText),
    Regex {
        pattern: Regex,
        replacement: Box<[Replacement]>,
    },
}

/// A path in normal form, or one that is known with the host and made normal then.
#[derive(Debug)]
pub(super) enum PathText {
    Normal(Box<str>),
    Template(Text),
}

/// A part of what stands in the place of a match.
#[derive(Debug)]
pub(super) enum Replacement {
    /// With groups of the pattern in it, as the `regex` crate reads them.
    OfPath(Box<str>),
    OfHost(Text),
}

impl PathEdit {
    /// `hosts`: the expression of the Route's hosts.
    ///
    /// # Errors
    /// A regular expression that cannot be used, or a name that is no group.
    pub(super) fn compile(
        rewrite: PathRewrite,
        hosts: Option<&Arc<Regex>>,
    ) -> Result<Self, String> {
        Ok(match rewrite {
            PathRewrite::StripPrefix => Self::ReplacePrefix(PathText::Normal(Box::default())),
            PathRewrite::ReplacePrefix(with) => Self::replace_prefix(&with, hosts)?,
            PathRewrite::ReplaceFull(with) => Self::replace_full(&with, hosts)?,
            PathRewrite::Regex {
                pattern,
                replacement,
            } => {
                let pattern = expression::search(&pattern).map_err(|e| e.to_string())?;
                Self::Regex {
                    replacement: parts(&replacement, &pattern, hosts)?,
                    pattern,
                }
            }
        })
    }

    pub(super) fn replace_prefix(with: &str, hosts: Option<&Arc<Regex>>) -> Result<Self, String> {
        if with.is_empty() {
            return Ok(Self::ReplacePrefix(PathText::Normal(Box::default())));
        }
        PathText::compile(with, hosts).map(Self::ReplacePrefix)
    }

    pub(super) fn replace_full(with: &str, hosts: Option<&Arc<Regex>>) -> Result<Self, String> {
        PathText::compile(with, hosts).map(Self::ReplaceFull)
    }

    /// Appends what becomes of `path`, whose first `prefix_len` bytes the match is about, in a request to `host`.
    pub(super) fn apply(&self, host: &str, path: &str, prefix_len: usize, out: &mut String) {
        match self {
            Self::ReplacePrefix(with) => {
                replace_prefix(path, prefix_len, &with.of(host), out);
            }
            Self::ReplaceFull(with) => out.push_str(&with.of(host)),
            Self::Regex {
                pattern,
                replacement,
            } => {
                let Some(groups) = pattern.captures(path) else {
                    out.push_str(path);
                    return;
                };
                let found = groups.get_match();
                let mut text = path.get(..found.start()).unwrap_or_default().to_owned();
                for part in replacement {
                    match part {
                        Replacement::OfPath(part) => groups.expand(part, &mut text),
                        Replacement::OfHost(part) => text.push_str(&part.of(host)),
                    }
                }
                text.push_str(path.get(found.end()..).unwrap_or_default());
                push_normal(&text, out);
            }
        }
    }
}

impl PathText {
    fn compile(path: &str, hosts: Option<&Arc<Regex>>) -> Result<Self, String> {
        Ok(match Text::compile(path, hosts)? {
            Text::Plain(path) => Self::Normal(normal(&path)),
            template @ Text::Template(_) => Self::Template(template),
        })
    }

    fn of(&self, host: &str) -> Cow<'_, str> {
        match self {
            Self::Normal(path) => Cow::Borrowed(path),
            Self::Template(template) => Cow::Owned(normal(&template.of(host)).into()),
        }
    }
}

/// Parts a replacement: `${name}` is a group of the pattern, where it has one of that name, else one of the host.
fn parts(
    replacement: &str,
    pattern: &Regex,
    hosts: Option<&Arc<Regex>>,
) -> Result<Box<[Replacement]>, String> {
    let of_host = |name: &str| {
        group(pattern, name).is_none() && hosts.is_some_and(|h| group(h, name).is_some())
    };
    let mut parts = Vec::new();
    let mut of_path = String::new();
    for piece in pieces(replacement) {
        match piece {
            // After another dollar sign it is no reference.
            Piece::Name(name) if of_host(name) && !of_path.ends_with('$') => {
                if !of_path.is_empty() {
                    parts.push(Replacement::OfPath(std::mem::take(&mut of_path).into()));
                }
                let text = Text::compile(&format!("${{{name}}}"), hosts)?;
                parts.push(Replacement::OfHost(text));
            }
            Piece::Name(name) => {
                of_path.push_str("${");
                of_path.push_str(name);
                of_path.push('}');
            }
            Piece::Text(text) => of_path.push_str(text),
        }
    }
    if !of_path.is_empty() {
        parts.push(Replacement::OfPath(of_path.into()));
    }
    Ok(parts.into())
}

fn normal(path: &str) -> Box<str> {
    let mut out = String::with_capacity(path.len());
    push_normal(path, &mut out);
    out.into()
}

/// Appends `raw` as an absolute path in normal form.
fn push_normal(raw: &str, out: &mut String) {
    let root = out.len();
    if !raw.starts_with('/') {
        out.push('/');
    }
    push_escaped(raw, out);
    let text = out.get(root..).unwrap_or_default();
    let odd = ["//", "/.", "/%2", "%2F", "%2f"];
    if odd.iter().any(|odd| text.contains(odd)) {
        resolve_segments(out, root);
    }
}

/// Escapes what may not stand in a path. A percent sign stays where two hexadecimal digits follow.
fn push_escaped(raw: &str, out: &mut String) {
    use std::fmt::Write as _;
    let mut rest = raw.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let stays = match byte {
            b'%' => matches!(after, [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit()),
            b => is_path_byte(*b),
        };
        if stays {
            out.push(char::from(*byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        rest = after;
    }
}

/// `pchar` and the slash (RFC 3986 section 3.3), without escapes.
fn is_path_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&b)
}

/// Resolves dot segments and merges slashes in the text behind `root`; nothing before it is touched.
fn resolve_segments(out: &mut String, root: usize) {
    let text = out.split_off(root);
    let mut segments = text.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        let segment = without_hidden_dots(segment);
        match &*segment {
            "" => {}
            s if is_dots(s, 1) => {}
            s if is_dots(s, 2) => {
                let parent = out.get(root..).and_then(|p| p.rfind('/'));
                out.truncate(root + parent.unwrap_or(0));
            }
            _ => {
                out.push('/');
                out.push_str(&segment);
                continue;
            }
        }
        if last {
            out.push('/');
        }
    }
}

/// A segment without what would be dot segments to a server that takes it apart at escaped slashes.
fn without_hidden_dots(segment: &str) -> Cow<'_, str> {
    if !segment.contains("%2F") && !segment.contains("%2f") {
        return Cow::Borrowed(segment);
    }
    let normal = segment.replace("%2f", "%2F");
    let parts = normal.split("%2F");
    let shown = parts.filter(|part| !is_dots(part, 1) && !is_dots(part, 2));
    Cow::Owned(shown.collect::<Vec<_>>().join("%2F"))
}

/// Whether a segment is so many dots, escaped or not.
fn is_dots(segment: &str, dots: usize) -> bool {
    let mut rest = segment;
    for _ in 0..dots {
        let Some(after) = [".", "%2e", "%2E"]
            .iter()
            .find_map(|dot| rest.strip_prefix(dot))
        else {
            return false;
        };
        rest = after;
    }
    rest.is_empty()
}

#[cfg(test)]
#[path = "tests/rewrite.rs"]
mod tests;

//! The path that an upstream or a redirect gets.
//!
//! Whatever a rule makes of a path is a valid request target in normal form again (RFC 3986 section 3.3): it begins
//! with a slash, bytes that may not stand in a path are escaped, and an expression that joins its pieces to dot
//! segments or repeated slashes does not climb out of anything.

use model::{PathRewrite, pattern as expression};
use regex::Regex;

/// A compiled [`PathRewrite`].
#[derive(Debug)]
pub(super) enum PathEdit {
    ReplacePrefix(Box<str>),
    ReplaceFull(Box<str>),
    Regex {
        pattern: Regex,
        replacement: Box<str>,
    },
}

impl PathEdit {
    /// # Errors
    /// A regular expression that cannot be used.
    pub(super) fn compile(rewrite: PathRewrite) -> Result<Self, regex::Error> {
        Ok(match rewrite {
            PathRewrite::StripPrefix => Self::ReplacePrefix(Box::default()),
            PathRewrite::ReplacePrefix(with) => Self::replace_prefix(&with),
            PathRewrite::ReplaceFull(with) => Self::replace_full(&with),
            PathRewrite::Regex {
                pattern,
                replacement,
            } => Self::Regex {
                pattern: expression::search(&pattern)?,
                replacement: replacement.into(),
            },
        })
    }

    pub(super) fn replace_prefix(with: &str) -> Self {
        if with.is_empty() {
            return Self::ReplacePrefix(Box::default());
        }
        Self::ReplacePrefix(normal(with))
    }

    pub(super) fn replace_full(with: &str) -> Self {
        Self::ReplaceFull(normal(with))
    }

    /// Appends what becomes of `path`, whose first `prefix_len` bytes the match is about.
    pub(super) fn apply(&self, path: &str, prefix_len: usize, out: &mut String) {
        match self {
            Self::ReplacePrefix(with) => {
                let rest = path.get(prefix_len..).unwrap_or_default();
                if rest.is_empty() {
                    out.push_str(if with.is_empty() { "/" } else { with });
                } else {
                    // What is left begins with a slash.
                    out.push_str(with.strip_suffix('/').unwrap_or(with));
                    out.push_str(rest);
                }
            }
            Self::ReplaceFull(with) => out.push_str(with),
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
                groups.expand(replacement, &mut text);
                text.push_str(path.get(found.end()..).unwrap_or_default());
                push_normal(&text, out);
            }
        }
    }
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
    if text.contains("//") || text.contains("/.") || text.contains("/%2") {
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
        match segment {
            "" => {}
            s if is_dots(s, 1) => {}
            s if is_dots(s, 2) => {
                let parent = out.get(root..).and_then(|p| p.rfind('/'));
                out.truncate(root + parent.unwrap_or(0));
            }
            _ => {
                out.push('/');
                out.push_str(segment);
                continue;
            }
        }
        if last {
            out.push('/');
        }
    }
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

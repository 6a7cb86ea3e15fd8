//! Rewrites, redirects and fixed answers.

use super::lowering::Lowering;
use super::matches::normal_path;
use super::values;
use crate::report::{Field, Reason};
use model::captures::{Piece, pieces, references};
use model::{DirectResponse, HostPattern, PathRewrite, Redirect, RedirectPath, Rewrite};

/// The type of a fixed answer's body where the Route names none.
const PLAIN_TEXT: &str = "text/plain; charset=utf-8";

impl Lowering<'_> {
    /// `None` when a part of it cannot be used; the problems say which.
    pub(super) fn rewrite(
        &mut self,
        field: Field<'_>,
        rewrite: Option<&crds::Rewrite>,
        groups: &[String],
    ) -> Option<Rewrite> {
        let Some(rewrite) = rewrite else {
            return Some(Rewrite::default());
        };
        let strip = rewrite.strip_prefix == Some(true);
        let given = [
            strip,
            rewrite.replace_prefix.is_some(),
            rewrite.replace_full_path.is_some(),
            rewrite.regex.is_some(),
        ];
        if given.into_iter().filter(|is| *is).count() > 1 {
            let message =
                "only one of stripPrefix, replacePrefix, replaceFullPath and regex may be given";
            self.error(field, Reason::Invalid, message);
            return None;
        }
        let path = if strip {
            Some(PathRewrite::StripPrefix)
        } else if let Some(prefix) = &rewrite.replace_prefix {
            let prefix = self.valid(
                format!("{field}.replacePrefix"),
                path_template(prefix, groups),
            )?;
            Some(PathRewrite::ReplacePrefix(prefix))
        } else if let Some(path) = &rewrite.replace_full_path {
            let path = self.valid(
                format!("{field}.replaceFullPath"),
                path_template(path, groups),
            )?;
            Some(PathRewrite::ReplaceFull(path))
        } else if let Some(regex) = &rewrite.regex {
            self.valid(
                format!("{field}.regex.pattern"),
                values::expression(&regex.pattern, model::pattern::search(&regex.pattern)),
            )?;
            if !regex
                .replacement
                .bytes()
                .all(|b| (0x21..=0x7e).contains(&b) && b != b'#' && b != b'?')
            {
                let message =
                    "a replacement consists of printable characters without blanks, ? and #";
                self.error(
                    format!("{field}.regex.replacement"),
                    Reason::Invalid,
                    message,
                );
                return None;
            }
            self.valid(
                format!("{field}.regex.replacement"),
                replacement(&regex.pattern, &regex.replacement, groups),
            )?;
            Some(PathRewrite::Regex {
                pattern: regex.pattern.to_string(),
                replacement: regex.replacement.to_string(),
            })
        } else {
            None
        };
        let host = match &rewrite.hostname {
            None => None,
            Some(host) => {
                let at = format_args!("{field}.hostname");
                Some(self.valid(at, host_template(host, groups, values::authority))?)
            }
        };
        Some(Rewrite { path, host })
    }

    /// `groups`: the named groups of hostnameRegex, where the Route has one.
    pub(super) fn redirect(
        &mut self,
        field: Field<'_>,
        redirect: &crds::Redirect,
        groups: &[String],
    ) -> Option<Redirect> {
        let status = redirect.status_code.unwrap_or(302);
        if !matches!(status, 301 | 302 | 303 | 307 | 308) {
            let message = "must be 301, 302, 303, 307 or 308";
            self.error(format!("{field}.statusCode"), Reason::Invalid, message);
            return None;
        }
        let hostname = match &redirect.hostname {
            None => None,
            Some(name) => {
                let at = format_args!("{field}.hostname");
                let one_host = |name: &str| match HostPattern::parse(name) {
                    Ok(HostPattern::Exact(_)) => Ok(()),
                    Ok(_) => Err("must be one host, without *".to_owned()),
                    Err(e) => Err(e.to_string()),
                };
                Some(self.valid(at, host_template(name, groups, one_host))?)
            }
        };
        let path = match &redirect.path {
            None => None,
            Some(path) => match (&path.replace_prefix, &path.replace_full_path) {
                (Some(prefix), None) => {
                    let at = format_args!("{field}.path.replacePrefix");
                    Some(RedirectPath::ReplacePrefix(
                        self.valid(at, path_template(prefix, groups))?,
                    ))
                }
                (None, Some(full)) => {
                    let at = format_args!("{field}.path.replaceFullPath");
                    Some(RedirectPath::ReplaceFull(
                        self.valid(at, path_template(full, groups))?,
                    ))
                }
                _ => {
                    let message = "exactly one of replacePrefix and replaceFullPath must be given";
                    self.error(format!("{field}.path"), Reason::Invalid, message);
                    return None;
                }
            },
        };
        let scheme = redirect.scheme.map(|scheme| match scheme {
            crds::Scheme::Http => "http".to_owned(),
            crds::Scheme::Https => "https".to_owned(),
        });
        Some(Redirect {
            scheme,
            hostname,
            port: redirect.port.filter(|port| *port != 0),
            path,
            status,
        })
    }

    pub(super) fn direct_response(
        &mut self,
        field: Field<'_>,
        response: &crds::DirectResponse,
    ) -> Option<DirectResponse> {
        if !(200..=599).contains(&response.status) {
            self.error(
                format!("{field}.status"),
                Reason::Invalid,
                "must be from 200 to 599",
            );
            return None;
        }
        let body = response.body.as_deref().unwrap_or_default().to_owned();
        let content_type = match &response.content_type {
            Some(content_type) => content_type.to_string(),
            None if body.is_empty() => String::new(),
            None => PLAIN_TEXT.to_owned(),
        };
        if !model::headers::is_value(content_type.as_bytes()) {
            let message = "a media type has no control characters";
            self.error(format!("{field}.contentType"), Reason::Invalid, message);
            return None;
        }
        Some(DirectResponse {
            status: response.status,
            content_type,
            body,
            headers: self.header_list(&format_args!("{field}.headers"), &response.headers),
        })
    }
}

/// Checks the names in a text; with something in their places it is what the rest is judged by. `None`: it has none.
fn filled(text: &str, groups: &[String]) -> Result<Option<String>, String> {
    let mut filled = String::with_capacity(text.len());
    let mut any = false;
    for piece in pieces(text) {
        match piece {
            Piece::Text(text) => filled.push_str(text),
            Piece::Name(name) if groups.iter().any(|g| g == name) => {
                any = true;
                filled.push('x');
            }
            Piece::Name(name) => return Err(unknown_group(name, groups)),
        }
    }
    Ok(any.then_some(filled))
}

fn unknown_group(name: &str, groups: &[String]) -> String {
    if groups.is_empty() {
        return format!("${{{name}}} stands for a group of hostnameRegex, which has none");
    }
    let groups = groups.join(", ");
    format!("{name:?} is no group of hostnameRegex, which has {groups}")
}

/// A path in normal form; one with names in it gets that when they are known.
fn path_template(text: &str, groups: &[String]) -> Result<String, String> {
    match filled(text, groups)? {
        None => normal_path(text),
        Some(filled) => normal_path(&filled).map(|_| text.to_owned()),
    }
}

/// A host in lower case, but for the names in it.
fn host_template(
    text: &str,
    groups: &[String],
    check: impl Fn(&str) -> Result<(), String>,
) -> Result<String, String> {
    check(filled(text, groups)?.as_deref().unwrap_or(text))?;
    let lower = |piece: Piece<'_>| match piece {
        Piece::Text(text) => text.to_ascii_lowercase(),
        Piece::Name(name) => format!("${{{name}}}"),
    };
    Ok(pieces(text).into_iter().map(lower).collect())
}

/// The groups that a replacement refers to are there.
fn replacement(pattern: &str, replacement: &str, groups: &[String]) -> Result<(), String> {
    let Ok(pattern) = model::pattern::search(pattern) else {
        return Ok(()); // Said already.
    };
    for name in references(replacement) {
        let known = match name.parse::<usize>() {
            Ok(number) => number < pattern.captures_len(),
            Err(_) => {
                pattern.capture_names().flatten().any(|own| own == name)
                    || groups.iter().any(|g| g == name)
            }
        };
        if !known {
            return Err(format!(
                "{name:?} is no group of the pattern and none of hostnameRegex; ${{1}} separates a group from what follows"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_must_be_groups() {
        let groups = ["team".to_owned(), "zone".to_owned()];
        assert_eq!(
            path_template("/é/${team}", &groups).as_deref(),
            Ok("/é/${team}")
        );
        assert_eq!(path_template("/é", &groups).as_deref(), Ok("/%C3%A9"));
        assert!(path_template("${team}", &groups).is_err(), "no slash");
        for (text, why) in [
            ("/${tram}", "which has team, zone"),
            ("/${team}//x", "empty segment"),
        ] {
            let message = path_template(text, &groups).unwrap_err();
            assert!(message.contains(why), "{message}");
        }
        let message = path_template("/${team}", &[]).unwrap_err();
        assert!(message.contains("which has none"), "{message}");
        let host = |text| host_template(text, &groups, values::authority);
        assert_eq!(host("${team}.Internal").as_deref(), Ok("${team}.internal"));
        assert!(host("${team}..x").is_err() && host("${other}.x").is_err());
        for (text, good) in [
            ("/$1/${id}/${team}/$$", true),
            ("/$2", false),
            ("/$1x", false),
            ("/${tram}", false),
        ] {
            assert_eq!(
                replacement("(?<id>[0-9])", text, &groups).is_ok(),
                good,
                "{text}"
            );
        }
    }
}

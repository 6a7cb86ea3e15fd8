//! Rewrites, redirects and fixed answers.

use super::lowering::Lowering;
use super::matches::normal_path;
use super::values;
use crate::report::Reason;
use model::{DirectResponse, HostPattern, PathRewrite, Redirect, RedirectPath, Rewrite};

/// The type of a fixed answer's body where the Route names none.
const PLAIN_TEXT: &str = "text/plain; charset=utf-8";

impl Lowering<'_> {
    /// `None` when a part of it cannot be used; the problems say which.
    pub(super) fn rewrite(
        &mut self,
        field: &str,
        rewrite: Option<&crds::Rewrite>,
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
            let prefix = self.valid(format!("{field}.replacePrefix"), normal_path(prefix))?;
            Some(PathRewrite::ReplacePrefix(prefix))
        } else if let Some(path) = &rewrite.replace_full_path {
            let path = self.valid(format!("{field}.replaceFullPath"), normal_path(path))?;
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
                self.valid(format!("{field}.hostname"), values::authority(host))?;
                Some(host.to_ascii_lowercase())
            }
        };
        Some(Rewrite { path, host })
    }

    pub(super) fn redirect(&mut self, field: &str, redirect: &crds::Redirect) -> Option<Redirect> {
        let status = redirect.status_code.unwrap_or(302);
        if !matches!(status, 301 | 302 | 303 | 307 | 308) {
            let message = "must be 301, 302, 303, 307 or 308";
            self.error(format!("{field}.statusCode"), Reason::Invalid, message);
            return None;
        }
        let hostname = match &redirect.hostname {
            None => None,
            Some(name) => {
                let at = format!("{field}.hostname");
                match self.valid(&*at, HostPattern::parse(name))? {
                    HostPattern::Exact(name) => Some(name),
                    _ => {
                        self.error(at, Reason::Invalid, "must be one host, without *");
                        return None;
                    }
                }
            }
        };
        let path = match &redirect.path {
            None => None,
            Some(path) => match (&path.replace_prefix, &path.replace_full_path) {
                (Some(prefix), None) => {
                    let at = format!("{field}.path.replacePrefix");
                    Some(RedirectPath::ReplacePrefix(
                        self.valid(at, normal_path(prefix))?,
                    ))
                }
                (None, Some(full)) => {
                    let at = format!("{field}.path.replaceFullPath");
                    Some(RedirectPath::ReplaceFull(
                        self.valid(at, normal_path(full))?,
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
        field: &str,
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
            headers: self.header_list(&format!("{field}.headers"), &response.headers),
        })
    }
}

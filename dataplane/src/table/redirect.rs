//! The `Location` of a redirect (Gateway API, HTTPRequestRedirectFilter).

use super::rewrite::PathEdit;
use super::template::Text;
use model::{Elsewhere, Place, RedirectPath};
use regex::Regex;
use std::sync::Arc;

/// A compiled [`model::Redirect`].
#[derive(Debug)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    scheme: Option<Box<str>>,
    hostname: Option<Text>,
    port: Option<u16>,
    path: Option<PathEdit>,
}

impl Redirect {
    /// # Errors
    /// A name that is no group of the host's expression.
    pub(super) fn compile(
        redirect: model::Redirect,
        hosts: Option<&Arc<Regex>>,
    ) -> Result<Self, String> {
        let model::Redirect {
            scheme,
            hostname,
            port,
            path,
            status,
        } = redirect;
        let path = path.map(|path| match path {
            RedirectPath::ReplacePrefix(with) => PathEdit::replace_prefix(&with, hosts),
            RedirectPath::ReplaceFull(with) => PathEdit::replace_full(&with, hosts),
        });
        Ok(Self {
            status,
            scheme: scheme.map(Into::into),
            hostname: hostname.map(|h| Text::compile(&h, hosts)).transpose()?,
            port,
            path: path.transpose()?,
        })
    }

    /// Writes the absolute URL to `out`, which is emptied first.
    pub fn location(&self, from: &Place<'_>, prefix_len: usize, out: &mut String) {
        out.clear();
        let host = self.hostname.as_ref().map(|host| host.of(from.host));
        let to = Elsewhere {
            scheme: self.scheme.as_deref(),
            host: host.as_deref(),
            port: self.port,
        };
        let path = |out: &mut String| match &self.path {
            Some(edit) => edit.apply(from.host, from.path, prefix_len, out),
            None => from.same_path(out),
        };
        from.go(to, path, out);
    }
}

#[cfg(test)]
#[path = "tests/redirect.rs"]
mod tests;

//! `Redirect` sends the client elsewhere, as the `redirect` of a rule does, and may stand beside other plugins and
//! conditions.
//!
//! ```yaml
//! type: Redirect
//! redirect: {scheme: https, hostname: www.example.com, port: 443, path: {replacePrefix: /new}, statusCode: 301}
//! ```

use crate::{
    Compile, Edits, Exchange, InvalidSettings, LocalReply, Needs, Plugin, Stages, Verdict,
};
use model::path::replace_prefix;
use model::{Elsewhere, HostPattern, Place, Stage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Answers with a redirect. What is not given stays as the client sent it; a request that is there already goes on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Redirect {
    /// Scheme of the new URL: `http` or `https`. Default: that of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<RedirectScheme>,
    /// Host of the new URL. Default: that of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub hostname: Option<String>,
    /// Port of the new URL. Default: with a scheme that scheme's own, else that of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// Path of the new URL: one of `replacePrefix` and `replaceFullPath`. Default: that of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathChange>,
    /// Status of the answer: 301, 302, 303, 307 or 308. Default: 302.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = [301, 302, 303, 307, 308]))]
    pub status_code: Option<u16>,
}

/// A scheme that a redirect may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RedirectScheme {
    Http,
    Https,
}

/// What becomes of the path.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PathChange {
    /// Put this in place of the prefix that the rule matched.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = "^/"))]
    pub replace_prefix: Option<String>,
    /// Put this in place of the whole path.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = "^/"))]
    pub replace_full_path: Option<String>,
}

pub struct Ready {
    status: u16,
    scheme: Option<&'static str>,
    host: Option<String>,
    port: Option<u16>,
    path: Path,
}

enum Path {
    Same,
    Prefix(String),
    Full(String),
}

impl Compile for Redirect {
    type Ready = Ready;

    fn compile(self) -> Result<Ready, InvalidSettings> {
        let status = self.status_code.unwrap_or(302);
        if !matches!(status, 301 | 302 | 303 | 307 | 308) {
            let message = "must be 301, 302, 303, 307 or 308";
            return Err(InvalidSettings::new("statusCode", message));
        }
        if self.port == Some(0) {
            return Err(InvalidSettings::new("port", "must be from 1 to 65535"));
        }
        let host = match self.hostname.as_deref().map(HostPattern::parse) {
            None => None,
            Some(Ok(HostPattern::Exact(host))) => Some(host.to_string()),
            Some(_) => return Err(InvalidSettings::new("hostname", "must be a host name")),
        };
        let change = self.path.unwrap_or_default();
        let path = match (change.replace_prefix, change.replace_full_path) {
            (None, None) => Path::Same,
            (Some(path), None) => Path::Prefix(normal(path, "path.replacePrefix")?),
            (None, Some(path)) => Path::Full(normal(path, "path.replaceFullPath")?),
            (Some(_), Some(_)) => {
                let message = "give one of replacePrefix and replaceFullPath";
                return Err(InvalidSettings::new("path", message));
            }
        };
        if self.scheme.is_none()
            && host.is_none()
            && self.port.is_none()
            && matches!(path, Path::Same)
        {
            let message = "must change at least one of scheme, hostname, port and path";
            return Err(InvalidSettings::new("", message));
        }
        Ok(Ready {
            status,
            scheme: self.scheme.map(|s| match s {
                RedirectScheme::Http => "http",
                RedirectScheme::Https => "https",
            }),
            host,
            port: self.port,
            path,
        })
    }
}

/// A path that may stand in a URL as it is written.
fn normal(path: String, field: &str) -> Result<String, InvalidSettings> {
    let byte = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/%".contains(&b);
    let dots = |segment: &str| matches!(segment, "." | "..");
    if !path.starts_with('/') || !path.bytes().all(byte) || path.split('/').any(dots) {
        let message =
            "must begin with a slash and hold no . or .. segment and no other than URL characters";
        return Err(InvalidSettings::new(field, message));
    }
    Ok(path)
}

impl Ready {
    fn location(&self, from: &Place<'_>, prefix_len: usize) -> String {
        let to = Elsewhere {
            scheme: self.scheme,
            host: self.host.as_deref(),
            port: self.port,
        };
        let path = |out: &mut String| match &self.path {
            Path::Full(path) => out.push_str(path),
            Path::Prefix(with) => replace_prefix(from.path, prefix_len, with, out),
            Path::Same => from.same_path(out),
        };
        let mut url = String::new();
        from.go(to, path, &mut url);
        url
    }
}

impl Plugin for Ready {
    fn needs(&self) -> Needs {
        Needs {
            stages: Stages::of(&[Stage::PreRequest]),
            ..Needs::default()
        }
    }

    fn pre_request<'a>(&'a self, x: &Exchange<'a>, _: &mut Edits) -> Verdict<'a> {
        let from = Place {
            scheme: x.request.scheme,
            host: x.request.host,
            port: x.request.port,
            path: x.request.path,
            query: x.request.query,
        };
        let location = self.location(&from, x.request.prefix_len);
        let mut here = String::new();
        from.go(Elsewhere::default(), |out| from.same_path(out), &mut here);
        if location == here {
            return Verdict::CONTINUE;
        }
        let mut reply = LocalReply::new(self.status, "");
        reply.headers.push(("location".to_owned(), location));
        Verdict::respond(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::tests::request;
    use crate::{Flow, RequestView};
    use model::Headers;

    /// Status and location for `http://test:8080/old/a?q=1`, of which the rule matched `/old`.
    fn answer(settings: &str, edit: impl FnOnce(&mut RequestView<'_>)) -> Option<(u16, String)> {
        let settings: Redirect = serde_json::from_str(settings).unwrap();
        let ready = settings.compile().unwrap();
        let headers = Headers::default();
        let mut x = request("GET", "/old/a", &headers);
        x.request.query = Some("q=1");
        x.request.port = Some(8080);
        x.request.prefix_len = 4;
        edit(&mut x.request);
        match ready.pre_request(&x, &mut Edits::default()) {
            Verdict::Ready(Ok(Flow::Respond(r))) => Some((r.status, r.headers[0].1.clone())),
            _ => None,
        }
    }

    #[test]
    fn what_is_not_given_stays() {
        for (settings, status, location) in [
            (r#"{"scheme":"https"}"#, 302, "https://test/old/a?q=1"),
            (
                r#"{"scheme":"https","port":8443,"statusCode":308}"#,
                308,
                "https://test:8443/old/a?q=1",
            ),
            (
                r#"{"hostname":"Www.Example.com"}"#,
                302,
                "http://www.example.com:8080/old/a?q=1",
            ),
            (r#"{"port":80}"#, 302, "http://test/old/a?q=1"),
            (
                r#"{"path":{"replacePrefix":"/new"}}"#,
                302,
                "http://test:8080/new/a?q=1",
            ),
            (
                r#"{"path":{"replacePrefix":"/"}}"#,
                302,
                "http://test:8080/a?q=1",
            ),
            (
                r#"{"path":{"replaceFullPath":"/x/"}}"#,
                302,
                "http://test:8080/x/?q=1",
            ),
        ] {
            assert_eq!(
                answer(settings, |_| {}),
                Some((status, location.to_owned())),
                "{settings}"
            );
        }
        let root = answer(r#"{"path":{"replacePrefix":"/new"}}"#, |r| r.path = "/old");
        assert_eq!(root.unwrap().1, "http://test:8080/new?q=1");
        let whole = answer(r#"{"path":{"replacePrefix":"/new"}}"#, |r| r.prefix_len = 0);
        assert_eq!(whole.unwrap().1, "http://test:8080/new/old/a?q=1");
    }

    #[test]
    fn who_is_there_already_is_not_sent_there_again() {
        let settings = r#"{"scheme":"https","hostname":"www.example.com"}"#;
        let there = |r: &mut RequestView<'_>| {
            r.scheme = "https";
            r.host = "www.example.com";
            r.port = Some(443);
        };
        assert_eq!(answer(settings, there), None);
        assert!(answer(settings, |_| {}).is_some());
    }

    #[test]
    fn settings_that_cannot_work_are_named() {
        for (json, field) in [
            ("{}", ""),
            (r#"{"statusCode":304,"scheme":"https"}"#, "statusCode"),
            (r#"{"hostname":"*.example.com"}"#, "hostname"),
            (r#"{"port":0}"#, "port"),
            (r#"{"path":{"replacePrefix":"new"}}"#, "path.replacePrefix"),
            (
                r#"{"path":{"replaceFullPath":"/a b"}}"#,
                "path.replaceFullPath",
            ),
            (
                r#"{"path":{"replaceFullPath":"/../x"}}"#,
                "path.replaceFullPath",
            ),
            (
                r#"{"path":{"replacePrefix":"/a","replaceFullPath":"/b"}}"#,
                "path",
            ),
        ] {
            let s: Redirect = serde_json::from_str(json).unwrap();
            assert_eq!(s.compile().err().unwrap().field, field, "{json}");
        }
    }
}

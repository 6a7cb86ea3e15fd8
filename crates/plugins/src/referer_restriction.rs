//! `RefererRestriction` lets requests in by the site that they come from, against links from elsewhere to images and
//! downloads. It keeps out browsers on other sites, nobody who writes the field by hand.
//!
//! ```yaml
//! type: RefererRestriction
//! refererRestriction: {allow: [example.com, "*.example.com"], allowMissing: true}   # deny wins over allow
//! ```

use crate::{
    Compile, Edits, ErrorCode, Exchange, InvalidSettings, LocalReply, Needs, Plugin, Stages,
    Verdict,
};
use model::{HostPattern, Stage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Refuses requests by their Referer: 403 `forbidden`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RefererRestriction {
    /// Hosts, or `*.example.com` for all below it, from which requests are let in. Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 253)))]
    pub allow: Option<Vec<String>>,
    /// Hosts from which requests are refused, also where allow has them. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 253)))]
    pub deny: Option<Vec<String>>,
    /// Whether requests without the field are let in, which addresses typed by hand and strict browsers send. Default:
    /// true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_missing: Option<bool>,
    /// Text for the client. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
}

pub struct Ready {
    /// `None`: all.
    allow: Option<Vec<HostPattern>>,
    deny: Vec<HostPattern>,
    allow_missing: bool,
    message: Option<String>,
}

impl Compile for RefererRestriction {
    type Ready = Ready;

    fn compile(self) -> Result<Ready, InvalidSettings> {
        let allow = self.allow.map(|list| hosts(&list, "allow"));
        Ok(Ready {
            allow: allow.transpose()?,
            deny: hosts(&self.deny.unwrap_or_default(), "deny")?,
            allow_missing: self.allow_missing.unwrap_or(true),
            message: self.message,
        })
    }
}

fn hosts(list: &[String], field: &str) -> Result<Vec<HostPattern>, InvalidSettings> {
    let parse = |(i, text): (usize, &String)| {
        HostPattern::parse(text)
            .map_err(|e| InvalidSettings::new(format!("{field}[{i}]"), e.to_string()))
    };
    list.iter().enumerate().map(parse).collect()
}

/// The host of an `http` or `https` URL, in lower case.
fn host_of(referer: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(referer).ok()?.to_ascii_lowercase();
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"))?;
    let authority = rest.split(['/', '?', '#', '\\']).next()?;
    // Browsers send no user name; whoever does so hides the host from a careless reader.
    if authority.contains('@') {
        return None;
    }
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next()?,
        None => authority.split(':').next()?,
    };
    Some(host.strip_suffix('.').unwrap_or(host).to_owned())
}

impl Ready {
    fn lets_in(&self, referer: Option<&[u8]>) -> bool {
        let Some(referer) = referer.filter(|r| !r.is_empty()) else {
            return self.allow_missing;
        };
        let Some(host) = host_of(referer) else {
            return self.allow.is_none();
        };
        let covered = |list: &[HostPattern]| list.iter().any(|p| p.covers(&host));
        !covered(&self.deny) && self.allow.as_deref().is_none_or(covered)
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
        if self.lets_in(x.request.headers.get("referer")) {
            return Verdict::CONTINUE;
        }
        let message = self.message.clone();
        Verdict::respond(LocalReply::error(403, ErrorCode::Forbidden, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(settings: &str) -> Ready {
        let settings: RefererRestriction = serde_json::from_str(settings).unwrap();
        settings.compile().unwrap()
    }

    #[test]
    fn hosts_of_the_list_are_let_in_and_nothing_that_only_looks_like_them() {
        let ready =
            ready(r#"{"allow":["example.com","*.example.com"],"deny":["bad.example.com"]}"#);
        for (referer, expected) in [
            ("https://example.com/page", true),
            ("http://EXAMPLE.com:8080", true),
            ("https://a.b.example.com/?q", true),
            ("https://example.com./", true),
            ("https://bad.example.com/", false),
            ("https://example.com.evil.net/", false),
            ("https://evil.net/example.com", false),
            ("https://example.com@evil.net/", false),
            ("https://evil.net?.example.com", false),
            ("ftp://example.com/", false),
            ("example.com", false),
            ("about:client", false),
        ] {
            assert_eq!(
                ready.lets_in(Some(referer.as_bytes())),
                expected,
                "{referer}"
            );
        }
        assert!(!ready.lets_in(Some(b"https://\xff.example.com/")));
    }

    #[test]
    fn requests_without_the_field_are_let_in_unless_told_otherwise() {
        assert!(ready(r#"{"allow":["example.com"]}"#).lets_in(None));
        assert!(ready(r#"{"allow":["example.com"]}"#).lets_in(Some(b"")));
        let strict = ready(r#"{"allow":["example.com"],"allowMissing":false}"#);
        assert!(!strict.lets_in(None) && strict.lets_in(Some(b"http://example.com")));
        assert!(ready("{}").lets_in(Some(b"anything")));
    }

    #[test]
    fn what_is_no_host_is_named() {
        let json = r#"{"allow":["a.*.com"]}"#;
        let s: RefererRestriction = serde_json::from_str(json).unwrap();
        assert_eq!(s.compile().err().unwrap().field, "allow[0]");
    }
}

//! `AcceptEncoding` says to the upstream which content codings it may use.
//!
//! ```yaml
//! type: AcceptEncoding
//! acceptEncoding: {algorithms: [br, gzip], onlyOne: true}   # {algorithms: []}: the upstream sends the plain form
//! ```
//!
//! Clients spell the field in a hundred ways; a cache behind the gateway keeps one copy for each. What the client
//! accepts stays known to `Compression`.

use crate::compression::{Algorithm, codings};
use crate::{Compile, Edits, Exchange, InvalidSettings, Needs, Plugin, Stages, Verdict};
use model::{Coding, Stage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Replaces the Accept-Encoding of the request by those of the listed codings that the client accepts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AcceptEncoding {
    /// Codings that may go on, in this order: `zstd`, `br`, `gzip`. An empty list removes the field. Default: zstd, br,
    /// gzip.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 3))]
    pub algorithms: Option<Vec<Algorithm>>,
    /// Whether only the one that the client likes best goes on. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only_one: Option<bool>,
}

pub struct Ready {
    codings: Vec<Coding>,
    only_one: bool,
}

impl Compile for AcceptEncoding {
    type Ready = Ready;

    fn compile(self) -> Result<Ready, InvalidSettings> {
        Ok(Ready {
            codings: codings(self.algorithms),
            only_one: self.only_one.unwrap_or(false),
        })
    }
}

impl Plugin for Ready {
    fn needs(&self) -> Needs {
        Needs {
            stages: Stages::of(&[Stage::PreRequest]),
            codings: true,
            ..Needs::default()
        }
    }

    fn pre_request<'a>(&'a self, x: &Exchange<'a>, edits: &mut Edits) -> Verdict<'a> {
        let accepts = x.request.accepts;
        let value = if self.only_one {
            let best = accepts.best(&self.codings);
            best.map_or_else(String::new, |c| c.name().to_owned())
        } else {
            let taken = self.codings.iter().filter(|c| accepts.weight(**c) > 0);
            taken.map(|c| c.name()).collect::<Vec<_>>().join(", ")
        };
        if value.is_empty() {
            edits.remove("accept-encoding");
        } else {
            edits.set("accept-encoding", value);
        }
        Verdict::CONTINUE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::tests::request;
    use model::Headers;

    fn sent(settings: &str, accepted: Option<&str>) -> Option<String> {
        let settings: AcceptEncoding = serde_json::from_str(settings).unwrap();
        let ready = settings.compile().unwrap();
        let mut headers = Headers::default();
        if let Some(value) = accepted {
            headers.append("Accept-Encoding", value).unwrap();
        }
        let mut edits = Edits::default();
        ready.pre_request(&request("GET", "/", &headers), &mut edits);
        let mut sent = headers.clone();
        edits.apply(&mut sent).unwrap();
        sent.get("accept-encoding")
            .map(|v| String::from_utf8_lossy(v).into_owned())
    }

    #[test]
    fn what_goes_on_is_accepted_and_listed_and_always_spelled_the_same() {
        for (settings, accepted, expected) in [
            ("{}", Some("deflate,GZIP ;q=0.3,br"), Some("br, gzip")),
            ("{}", Some("*"), Some("zstd, br, gzip")),
            (
                r#"{"algorithms":["gzip","br"]}"#,
                Some("br, gzip, zstd"),
                Some("gzip, br"),
            ),
            (r#"{"onlyOne":true}"#, Some("br;q=0.5, gzip"), Some("gzip")),
            (
                r#"{"algorithms":["gzip"],"onlyOne":true}"#,
                Some("br"),
                None,
            ),
            (r#"{"algorithms":[]}"#, Some("br, gzip, zstd"), None),
            ("{}", Some("gzip;q=0"), None),
            ("{}", None, None),
        ] {
            let got = sent(settings, accepted);
            assert_eq!(got.as_deref(), expected, "{settings} {accepted:?}");
        }
    }
}

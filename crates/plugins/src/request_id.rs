//! `RequestID` gives each request an identifier, for the upstream and in the answer.
//!
//! ```yaml
//! type: RequestID
//! requestID: {header: X-Request-ID, overwrite: false}
//! ```

use crate::schema::check_name;
use crate::{Compile, Edits, Exchange, InvalidSettings, Needs, Plugin, Stages, Verdict};
use model::Stage;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Longest identifier of a client that is kept.
const MAX_LEN: usize = 128;

/// Sets an identifier (a random UUID) on requests that have none, and repeats it in the answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequestID {
    /// Header field of the identifier. Default: X-Request-ID.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub header: Option<String>,
    /// Whether an identifier of the client is replaced, too. One that has more than 128 characters, or others than
    /// visible ASCII, always is. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overwrite: Option<bool>,
}

pub struct Ready {
    /// Lower case.
    header: String,
    overwrite: bool,
}

impl Compile for RequestID {
    type Ready = Ready;

    fn compile(self) -> Result<Ready, InvalidSettings> {
        let header = self.header.unwrap_or_else(|| "x-request-id".to_owned());
        check_name(&header, || "header".to_owned())?;
        Ok(Ready {
            header: header.to_ascii_lowercase(),
            overwrite: self.overwrite.unwrap_or(false),
        })
    }
}

/// Version 4 of RFC 9562.
fn uuid() -> String {
    let bits: u128 = rand::random();
    let bits = bits & !(0xf << 76) & !(0b11 << 62) | 4 << 76 | 0b10 << 62;
    let hex = format!("{bits:032x}");
    let part = |range| hex.get(range).unwrap_or_default();
    [
        part(0..8),
        part(8..12),
        part(12..16),
        part(16..20),
        part(20..32),
    ]
    .join("-")
}

impl Plugin for Ready {
    fn needs(&self) -> Needs {
        Needs {
            stages: Stages::of(&[Stage::PreRequest, Stage::PreResponse]),
            ..Needs::default()
        }
    }

    fn pre_request<'a>(&'a self, x: &Exchange<'a>, edits: &mut Edits) -> Verdict<'a> {
        let mut ids = x.request.headers.get_all(&self.header);
        let (first, second) = (ids.next(), ids.next());
        let good = |id: &&[u8]| {
            second.is_none()
                && (1..=MAX_LEN).contains(&id.len())
                && id.iter().all(u8::is_ascii_graphic)
        };
        if self.overwrite || first.filter(good).is_none() {
            edits.set(self.header.as_str(), uuid());
        }
        Verdict::CONTINUE
    }

    fn pre_response<'a>(&'a self, x: &Exchange<'a>, edits: &mut Edits) -> Verdict<'a> {
        if let Some(id) = x.request.headers.get(&self.header) {
            edits.set(self.header.as_str(), id);
        }
        Verdict::CONTINUE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ResponseView;
    use crate::exchange::tests::request;
    use model::Headers;

    /// The identifiers that the upstream gets.
    fn sent(settings: &str, ids: &[&str]) -> Vec<String> {
        let settings: RequestID = serde_json::from_str(settings).unwrap();
        let ready = settings.compile().unwrap();
        let mut headers = Headers::default();
        for id in ids {
            headers.append("x-request-id", id).unwrap();
        }
        let mut edits = Edits::default();
        ready.pre_request(&request("GET", "/", &headers), &mut edits);
        let mut sent = headers.clone();
        edits.apply(&mut sent).unwrap();
        let ids = sent.get_all("x-request-id");
        ids.map(|id| String::from_utf8(id.to_vec()).unwrap())
            .collect()
    }

    #[test]
    fn an_identifier_is_made_where_there_is_none_or_none_that_can_be_used() {
        assert_eq!(sent("{}", &["abc-1"]), ["abc-1"]);
        let long = "x".repeat(MAX_LEN + 1);
        for ids in [&[][..], &[""], &["a b"], &["a", "b"], &[long.as_str()]] {
            let sent = sent("{}", ids);
            assert_eq!(sent.len(), 1);
            assert_eq!(sent[0].len(), 36, "{ids:?}: {}", sent[0]);
        }
        let overwritten = sent(r#"{"overwrite":true}"#, &["abc-1"]);
        assert_eq!(overwritten[0].len(), 36);
    }

    #[test]
    fn identifiers_are_random_uuids() {
        let (a, b) = (uuid(), uuid());
        assert_ne!(a, b);
        let parts: Vec<_> = a.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12]);
        assert_eq!(&a[14..15], "4");
        assert!(matches!(&a[19..20], "8" | "9" | "a" | "b"), "{a}");
    }

    #[test]
    fn the_answer_repeats_it() {
        let ready = RequestID::default().compile().unwrap();
        let (mut headers, mut answer) = (Headers::default(), Headers::default());
        headers.append("x-request-id", "abc").unwrap();
        answer.append("x-request-id", "the upstream's").unwrap();
        let mut x = request("GET", "/", &headers);
        x.response = Some(ResponseView {
            status: 200,
            headers: &answer,
            length: None,
            body: None,
        });
        let mut edits = Edits::default();
        ready.pre_response(&x, &mut edits);
        let mut answer = answer.clone();
        edits.apply(&mut answer).unwrap();
        assert_eq!(answer.get_all("x-request-id").collect::<Vec<_>>(), [b"abc"]);
    }

    #[test]
    fn a_header_that_frames_the_message_is_refused() {
        let s: RequestID = serde_json::from_str(r#"{"header":"Content-Length"}"#).unwrap();
        assert_eq!(s.compile().err().unwrap().field, "header");
    }
}

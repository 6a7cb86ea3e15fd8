//! The access log: its form and its share (features.md F158).

use super::super::lowering::Lowering;
use crate::report::Reason;
use model::headers::is_token;
use model::{AccessLog, LogFormat};

const FIELD: &str = "spec.accessLog";

/// Templates that go by a name.
const PRESETS: &[(&str, &str)] = &[
    ("tiny", "{method} {uri} {status} {size} {latency}"),
    (
        "short",
        "{remote} {method} {uri} {proto} {status} {size} {latency}",
    ),
    (
        "common",
        "{remote} - - [{when}] \"{method} {uri} {proto}\" {status} {size}",
    ),
    (
        "combined",
        "{remote} - - [{when}] \"{method} {uri} {proto}\" {status} {size} \"{referer}\" \"{user_agent}\"",
    ),
];

/// What may stand between braces, beside `{~cookie}`, `{>request-header}`, `{<response-header}` and `{:context}`.
const PLACEHOLDERS: &[&str] = &[
    "client_ip",
    "host",
    "latency",
    "method",
    "path",
    "payload_size",
    "proto",
    "query",
    "referer",
    "remote",
    "request_id",
    "scheme",
    "size",
    "status",
    "uri",
    "user_agent",
    "when",
    "when_unix",
    "when_utc_iso",
];

impl Lowering<'_> {
    pub(super) fn access_log(&mut self, spec: &crds::observe::AccessLog) -> AccessLog {
        let mut log = AccessLog {
            to_stderr: spec.to == Some(crds::observe::LogTarget::Stderr),
            ..AccessLog::default()
        };
        if spec.format == Some(crds::observe::LogFormat::Template) {
            let at = format!("{FIELD}.template");
            match spec.template.as_deref().filter(|t| !t.is_empty()) {
                Some(text) => {
                    if let Some(text) = self.valid(at, template(text)) {
                        log.format = LogFormat::Template(text);
                    }
                }
                None => self.error(at, Reason::Invalid, "must be given when format is Template"),
            }
        }
        if let Some(sample) = spec.sample {
            match millionths(sample) {
                Some(millionths) => log.sample_millionths = millionths,
                None => self.error(
                    format!("{FIELD}.sample"),
                    Reason::Invalid,
                    "must be from 0 to 1",
                ),
            }
        }
        log
    }
}

/// The text of a preset, or the template itself when all of its placeholders are known.
fn template(text: &str) -> Result<String, String> {
    if let Some((_, preset)) = PRESETS.iter().find(|(name, _)| *name == text) {
        return Ok((*preset).to_owned());
    }
    let mut rest = text;
    while let Some((_, from)) = rest.split_once('{') {
        let Some((name, after)) = from.split_once('}') else {
            return Err(format!("{{{from} is not closed by }}"));
        };
        let is_known = match name.strip_prefix(['~', '>', '<', ':']) {
            Some(name) => is_token(name.as_bytes()),
            None => PLACEHOLDERS.contains(&name),
        };
        if !is_known {
            let presets: Vec<&str> = PRESETS.iter().map(|(name, _)| *name).collect();
            return Err(format!(
                "{{{name}}} is no placeholder; there are {}, {{~cookie}}, {{>request-header}}, {{<response-header}} and {{:context}}, and the templates {}",
                PLACEHOLDERS.join(", "),
                presets.join(", ")
            ));
        }
        rest = after;
    }
    Ok(text.to_owned())
}

fn millionths(share: f64) -> Option<u32> {
    (0.0..=1.0)
        .contains(&share)
        .then(|| (share * 1e6).round() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_templates_and_unknown_placeholders_are_named() {
        for (name, text) in PRESETS {
            assert_eq!(template(name).as_deref(), Ok(*text));
            assert_eq!(template(text).as_deref(), Ok(*text));
        }
        let all = "{remote} {~sid} {>x-a} {<x-b} {:x} {when_unix} plain }";
        assert_eq!(template(all).as_deref(), Ok(all));
        for (text, said) in [
            ("{remot}", "{remot} is no placeholder"),
            ("{>}", "{>} is no placeholder"),
            ("a {status", "{status is not closed"),
        ] {
            let message = template(text).unwrap_err();
            assert!(message.contains(said), "{message}");
        }
    }

    #[test]
    fn shares() {
        for (share, expected) in [
            (0.0, Some(0)),
            (1.0, Some(1_000_000)),
            (0.25, Some(250_000)),
            (1.1, None),
            (-0.1, None),
            (f64::NAN, None),
        ] {
            assert_eq!(millionths(share), expected, "{share}");
        }
    }
}

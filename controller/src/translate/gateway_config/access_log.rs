//! The access log: its form and its share (features.md F158).

use super::super::lowering::Lowering;
use crate::report::Reason;
use model::{AccessLog, LogFormat, log_filter, log_template};

const FIELD: &str = "spec.accessLog";

impl Lowering<'_> {
    pub(super) fn access_log(&mut self, spec: &crds::observe::AccessLog) -> AccessLog {
        let mut log = AccessLog {
            to_stderr: spec.to == Some(crds::observe::LogTarget::Stderr),
            ..AccessLog::default()
        };
        let as_template = match spec.format {
            Some(format) => format == crds::observe::LogFormat::Template,
            None => spec.template.is_some(),
        };
        if as_template {
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
        if let Some(text) = &spec.filter {
            let checked = log_filter::compile(text).map(|_| text.to_string());
            log.filter = self.valid(format!("{FIELD}.filter"), checked);
        }
        log
    }
}

/// The text of a preset, or the template itself when all of its placeholders are known.
fn template(text: &str) -> Result<String, String> {
    let line = log_template::preset(text);
    log_template::parse(line).map(|_| line.to_owned())
}

pub(super) fn millionths(share: f64) -> Option<u32> {
    (0.0..=1.0)
        .contains(&share)
        .then(|| (share * 1e6).round() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

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

//! Times, sizes and further attempts.

use super::value::{bytes, number, seconds, switch};
use super::{Annotation, Complaint, Effect, Rule};
use crds::{Backoff, Duration, Quantity, Retry, RouteTimeouts};

/// As good as no limit.
const UNLIMITED: u64 = 1 << 59;
/// Attempts that a Route allows at most after the first.
const MOST: u32 = 10;

const STREAMED: &str = "bodies are streamed both ways with back-pressure";

pub(super) const LIST: &[Annotation] = &[
    Annotation {
        name: "proxy-connect-timeout",
        effect: Effect::Exact(|text, settings| {
            settings.proxy.connect = Some(seconds(text)?);
            Ok(())
        }),
    },
    Annotation {
        name: "proxy-read-timeout",
        effect: Effect::Exact(|text, settings| {
            settings.proxy.read = Some(seconds(text)?);
            Ok(())
        }),
    },
    Annotation {
        name: "proxy-send-timeout",
        effect: Effect::Ignored("proxy-read-timeout stands for both ways"),
    },
    Annotation {
        name: "proxy-body-size",
        effect: Effect::Differs("10m where it is not given", |text, settings| {
            let bytes = match bytes(text)? {
                0 => UNLIMITED,
                bytes => bytes,
            };
            settings.proxy.body = Some(bytes);
            Ok(())
        }),
    },
    Annotation {
        name: "proxy-next-upstream",
        effect: Effect::Differs(
            "`invalid_header` counts as a reset; http_NNN are statuses",
            |text, settings| {
                settings.proxy.on = Some(conditions(text)?);
                Ok(())
            },
        ),
    },
    Annotation {
        name: "proxy-next-upstream-tries",
        effect: Effect::Differs("at most 11; `0` means as many", |text, settings| {
            let tries = number(text, 0, 1_000)?;
            settings.proxy.tries = Some(if tries == 0 { MOST + 1 } else { tries });
            Ok(())
        }),
    },
    Annotation {
        name: "proxy-next-upstream-timeout",
        effect: Effect::Differs("other than `0` it is not built", |text, _| {
            match seconds(text)?.as_str() {
                "0s" => Ok(()),
                _ => Err(Complaint::NotSupported(
                    "attempts are bounded by their number".to_owned(),
                )),
            }
        }),
    },
    Annotation {
        name: "proxy-buffering",
        effect: Effect::Differs("`on` is not built", |text, _| streamed(text)),
    },
    Annotation {
        name: "proxy-request-buffering",
        effect: Effect::Differs("`on` is not built", |text, _| streamed(text)),
    },
    Annotation {
        name: "proxy-buffer-size",
        effect: Effect::Ignored(STREAMED),
    },
    Annotation {
        name: "proxy-buffers-number",
        effect: Effect::Ignored(STREAMED),
    },
    Annotation {
        name: "proxy-busy-buffers-size",
        effect: Effect::Ignored(STREAMED),
    },
    Annotation {
        name: "proxy-max-temp-file-size",
        effect: Effect::Ignored(STREAMED),
    },
    Annotation {
        name: "client-body-buffer-size",
        effect: Effect::Ignored(STREAMED),
    },
    Annotation {
        name: "default-backend",
        effect: Effect::Differs(
            "for requests that find no endpoint of their Service; not for custom-http-errors",
            |text, settings| {
                let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
                if text.is_empty() || !text.bytes().all(letter) {
                    let message = format!("{text:?} is not a name of a Service");
                    return Err(Complaint::Invalid(message));
                }
                settings.default_backend = Some(text.to_owned());
                Ok(())
            },
        ),
    },
];

#[derive(Clone, Debug, Default)]
pub(super) struct Proxy {
    connect: Option<Duration>,
    read: Option<Duration>,
    body: Option<u64>,
    on: Option<On>,
    tries: Option<u32>,
}

/// When a request goes to another endpoint.
#[derive(Clone, Debug, PartialEq)]
enum On {
    Never,
    Some(Vec<String>),
}

impl Proxy {
    pub(super) fn apply(&self, at: &mut Rule<'_>) {
        if self.connect.is_some() || self.read.is_some() {
            at.named("timeouts", "proxy-read-timeout");
            at.named("timeouts.connect", "proxy-connect-timeout");
            at.rule.timeouts = Some(RouteTimeouts {
                connect: self.connect.clone(),
                first_byte: self.read.clone(),
                stream_idle: self.read.clone(),
                first_event: self.read.clone(),
                ..RouteTimeouts::default()
            });
        }
        if let Some(bytes) = self.body {
            at.named("maxRequestBody", "proxy-body-size");
            at.rule.max_request_body = Some(Quantity(bytes.to_string()));
        }
        if self.on.is_none() && self.tries.is_none() {
            return;
        }
        at.named("retry", "proxy-next-upstream");
        let usual = || {
            On::Some(of(&[
                "ConnectFailure",
                "Reset",
                "ReusedConnection",
                "Timeout",
            ]))
        };
        let on = self.on.clone().unwrap_or_else(usual);
        let tries = self.tries.unwrap_or(3);
        let at_once = || Some(Duration::from("0s"));
        at.rule.retry = Some(match on {
            On::Never => Retry {
                enabled: Some(false),
                ..Retry::default()
            },
            On::Some(on) => Retry {
                attempts: u8::try_from(tries.saturating_sub(1).min(MOST)).ok(),
                on: on.iter().map(|one| one.as_str().into()).collect(),
                backoff: Some(Backoff {
                    initial: at_once(),
                    max: at_once(),
                    ..Backoff::default()
                }),
                ..Retry::default()
            },
        });
    }
}

fn of(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn conditions(text: &str) -> Result<On, Complaint> {
    let mut on: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let more = match word {
            "off" => return Ok(On::Never),
            "error" => of(&["ConnectFailure", "Reset", "ReusedConnection"]),
            "invalid_header" => of(&["Reset"]),
            "timeout" => of(&["Timeout"]),
            "non_idempotent" => of(&["NonIdempotent"]),
            "http_500" | "http_502" | "http_503" | "http_504" | "http_403" | "http_404"
            | "http_429" => of(&[word.trim_start_matches("http_")]),
            _ => {
                let message = format!(
                    "{word:?} is none of error, timeout, invalid_header, http_NNN, non_idempotent and off"
                );
                return Err(Complaint::Invalid(message));
            }
        };
        for one in more {
            if !on.contains(&one) {
                on.push(one);
            }
        }
    }
    match on.is_empty() {
        true => Err(Complaint::Invalid("must name a condition".to_owned())),
        false => Ok(On::Some(on)),
    }
}

fn streamed(text: &str) -> Result<(), Complaint> {
    match switch(text)? {
        false => Ok(()),
        true => Err(Complaint::NotSupported(STREAMED.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_of_another_attempt() {
        assert_eq!(conditions("error off"), Ok(On::Never));
        assert_eq!(
            conditions("error invalid_header http_502"),
            Ok(On::Some(of(&[
                "ConnectFailure",
                "Reset",
                "ReusedConnection",
                "502"
            ])))
        );
        assert!(conditions("").is_err() && conditions("errors").is_err());
    }
}

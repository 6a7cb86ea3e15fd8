//! How attempts at a rule's backends are repeated, where a client stays, and how many requests are under way at once.

use super::lowering::Lowering;
use crate::report::{Field, Reason};
use crds::SameSite as Wish;
use crds::text::RetryOn as Condition;
use model::{Affinity, AffinityCookie, Concurrency, Retry, RetryOn, SameSite};

/// What a `retry` block says where it is silent (features.md F55).
const RETRY: Retry = Retry {
    attempts: 3,
    on: RetryOn {
        connect_failure: true,
        reset: true,
        timeout: false,
        reused_connection: true,
        non_idempotent: false,
        statuses: Vec::new(),
    },
    initial_ms: 1_000,
    max_ms: 10_000,
    multiplier_percent: 200,
    jitter: true,
    per_try_ms: 0,
    budget_percent: 20,
};
const STATUSES: (u16, u16) = (502, 504);
const MOST_ATTEMPTS: u8 = 10;
const MOST_CONDITIONS: usize = 16;
/// How long a request waits in a queue that does not say it.
const QUEUE_TIMEOUT_MS: u32 = 5_000;
const MOST_PERMITS: u32 = 10_000_000;
const LONGEST_QUEUE: u32 = 1_000_000;

impl Lowering<'_> {
    pub(super) fn retry(&mut self, field: Field<'_>, spec: Option<&crds::Retry>) -> Option<Retry> {
        let spec = spec?;
        let mut retry = RETRY;
        retry.on = self.retry_on(&format_args!("{field}.on"), &spec.on);
        if let Some(attempts) = spec.attempts {
            let attempts = within(attempts, 0, MOST_ATTEMPTS);
            let attempts = self.valid(format_args!("{field}.attempts"), attempts);
            retry.attempts = attempts.map_or(retry.attempts, u32::from);
        }
        if spec.enabled == Some(false) {
            retry.attempts = 0;
        }
        if let Some(backoff) = &spec.backoff {
            let at = |name: &str| format!("{field}.backoff.{name}");
            if let Some(initial) = &backoff.initial {
                let millis = self.millis(&at("initial"), initial);
                retry.initial_ms = millis.unwrap_or(retry.initial_ms);
            }
            // The default is no reason to wait for less than what is asked for.
            retry.max_ms = retry.max_ms.max(retry.initial_ms);
            if let Some(max) = &backoff.max {
                retry.max_ms = self.millis(&at("max"), max).unwrap_or(retry.max_ms);
            }
            if let Some(multiplier) = backoff.multiplier {
                let percent = self.valid(at("multiplier"), percent(multiplier));
                retry.multiplier_percent = percent.unwrap_or(retry.multiplier_percent);
            }
            retry.jitter = backoff.jitter.unwrap_or(retry.jitter);
        }
        if let Some(limit) = &spec.per_try_timeout {
            let millis = self.millis(&format_args!("{field}.perTryTimeout"), limit);
            retry.per_try_ms = millis.unwrap_or(0);
        }
        if let Some(budget) = spec.budget_percent {
            let budget = self.valid(
                format_args!("{field}.budgetPercent"),
                within(budget, 0, 100),
            );
            retry.budget_percent = budget.map_or(retry.budget_percent, u32::from);
        }
        Some(retry)
    }

    fn retry_on(&mut self, field: Field<'_>, list: &[Condition]) -> RetryOn {
        let mut on = RetryOn::default();
        if list.len() > MOST_CONDITIONS {
            let message = format!("at most {MOST_CONDITIONS} conditions");
            self.error(field, Reason::Invalid, message);
        }
        for (i, condition) in list.iter().enumerate() {
            match condition.as_str() {
                "ConnectFailure" => on.connect_failure = true,
                "Reset" => on.reset = true,
                "Timeout" => on.timeout = true,
                "ReusedConnection" => on.reused_connection = true,
                "NonIdempotent" => on.non_idempotent = true,
                range => {
                    let range = self.valid(format_args!("{field}[{i}]"), statuses(range));
                    on.statuses.extend(range);
                }
            }
        }
        // A list that only adds methods leaves the conditions as they are.
        let only_methods = RetryOn {
            non_idempotent: on.non_idempotent,
            ..RetryOn::default()
        };
        if on == only_methods {
            on = RetryOn {
                non_idempotent: on.non_idempotent,
                statuses: vec![STATUSES],
                ..RETRY.on
            };
        }
        on
    }

    pub(super) fn affinity(
        &mut self,
        field: Field<'_>,
        spec: Option<&crds::SessionAffinity>,
    ) -> Option<Affinity> {
        let spec = spec?;
        match (&spec.cookie, &spec.header) {
            (Some(cookie), None) => {
                let ttl = cookie.ttl.as_ref();
                let ttl =
                    ttl.and_then(|ttl| self.valid(format_args!("{field}.cookie.ttl"), ttl.parse()));
                let seconds = ttl.map_or(0, |ttl| ttl.as_millis().div_ceil(1_000));
                Some(Affinity::Cookie(AffinityCookie {
                    name: cookie.name.to_string(),
                    ttl_seconds: u32::try_from(seconds).unwrap_or(u32::MAX),
                    path: cookie.path.as_ref().map_or("/", |p| p.as_str()).to_owned(),
                    secure: cookie.secure,
                    same_site: Some(match cookie.same_site.unwrap_or(Wish::Lax) {
                        Wish::Strict => SameSite::Strict,
                        Wish::Lax => SameSite::Lax,
                        Wish::None => SameSite::None,
                    }),
                }))
            }
            (None, Some(header)) => {
                let name = self.header_name(&format_args!("{field}.header.name"), &header.name)?;
                Some(Affinity::Header(name))
            }
            _ => {
                self.error(field, Reason::Invalid, "give one of cookie and header");
                None
            }
        }
    }

    pub(super) fn request_concurrency(
        &mut self,
        field: Field<'_>,
        spec: Option<&crds::limits::Concurrency>,
    ) -> Option<Concurrency> {
        let spec = spec.filter(|spec| spec.enabled != Some(false))?;
        let max = self.valid(
            format_args!("{field}.max"),
            within(spec.max, 1, MOST_PERMITS),
        )?;
        let mut concurrency = Concurrency {
            max,
            queue_depth: 0,
            queue_timeout_ms: QUEUE_TIMEOUT_MS,
        };
        if let Some(queue) = &spec.queue {
            let depth = within(queue.depth, 1, LONGEST_QUEUE);
            concurrency.queue_depth = self.valid(format_args!("{field}.queue.depth"), depth)?;
            if let Some(timeout) = &queue.timeout {
                let millis = self.millis(&format_args!("{field}.queue.timeout"), timeout);
                concurrency.queue_timeout_ms = millis.unwrap_or(QUEUE_TIMEOUT_MS);
            }
        }
        Some(concurrency)
    }
}

fn within<T: PartialOrd + std::fmt::Display>(value: T, least: T, most: T) -> Result<T, String> {
    // Written so that it is false for what is not a number.
    if least <= value && value <= most {
        return Ok(value);
    }
    Err(format!("must be from {least} to {most}"))
}

/// Hundredths of a factor.
fn percent(factor: f64) -> Result<u32, String> {
    let factor = within(factor, 1.0, 10.0)?;
    // At most 1000, so nothing is lost.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "from 100 to 1000"
    )]
    Ok((factor * 100.0).round() as u32)
}

/// `502` or `502-504`.
fn statuses(text: &str) -> Result<(u16, u16), String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let code = |text: &str| text.parse().ok().filter(|code| (100..=599).contains(code));
    match (code(first), code(last)) {
        (Some(first), Some(last)) if first <= last => Ok((first, last)),
        _ => Err(format!(
            "{text:?} is none of ConnectFailure, Reset, Timeout, ReusedConnection, NonIdempotent, a status from 100 to \
             599 and a range of such"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_statuses() {
        assert_eq!(statuses("503"), Ok((503, 503)));
        assert_eq!(statuses("502-504"), Ok((502, 504)));
        for bad in ["", "99", "600", "504-502", "5xx", "Rest", "502-"] {
            assert!(statuses(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn factors_in_hundredths() {
        assert_eq!(
            (percent(1.0), percent(1.25), percent(10.0)),
            (Ok(100), Ok(125), Ok(1000))
        );
        assert!(percent(0.9).is_err() && percent(10.1).is_err() && percent(f64::NAN).is_err());
    }
}

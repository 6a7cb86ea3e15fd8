//! The `retry` of a rule of an HTTPRoute as that of a Route (GEP-1731).
//!
//! What it leaves open is as the definitions of the Gateway API v1.7 have it: one more attempt, and no status codes. What it
//! has no word for is always repeated: connections that fail, and attempts that take too long. As in a Route, what an
//! upstream may have begun to do is asked again by idempotent methods alone (RFC 9110, 9.2.2).

use super::http_route::Said;
use crate::report::Field;
use crds::text::RetryOn;
use crds::{Backoff, Duration, Retry};
use gateway_api::http_route::HttpRouteRulesRetry;
use std::collections::BTreeSet;

const ALWAYS: [&str; 4] = ["ConnectFailure", "ReusedConnection", "Reset", "Timeout"];
const ATTEMPTS: i64 = 1;
/// A Route has no more.
const MOST_ATTEMPTS: i64 = 10;
/// What a Route's list has room for beside [`ALWAYS`].
const MOST_RANGES: usize = 12;
/// Before the first repetition where nothing is said, at most.
const BACKOFF: &str = "25ms";

impl Said {
    pub(super) fn retry(
        &mut self,
        rule: usize,
        at: Field<'_>,
        retry: &HttpRouteRulesRetry,
    ) -> Retry {
        let attempts = retry.attempts.unwrap_or(ATTEMPTS);
        if attempts < 0 {
            self.close(rule, format!("{at}.attempts"), "must not be negative");
        }
        if attempts > MOST_ATTEMPTS {
            let message = format!("{MOST_ATTEMPTS} are made at most");
            self.notice(format!("{at}.attempts"), message);
        }
        let mut ranges = Vec::new();
        let codes = retry.codes.iter().flatten();
        for code in codes.copied().collect::<BTreeSet<i64>>() {
            match ranges.last_mut() {
                _ if !(400..=599).contains(&code) => {
                    let message = format!("{code} is not from 400 to 599");
                    self.close(rule, format!("{at}.codes"), message);
                }
                Some((_, last)) if *last + 1 == code => *last = code,
                _ => ranges.push((code, code)),
            }
        }
        if ranges.len() > MOST_RANGES {
            let message = format!("are more than {MOST_RANGES} codes that are not neighbours");
            self.close(rule, format!("{at}.codes"), message);
            ranges.clear();
        }
        let ranges = ranges.iter();
        let ranges = ranges.map(|(first, last)| format!("{first}-{last}").into());
        let on = ALWAYS.map(RetryOn::from);
        Retry {
            attempts: u8::try_from(attempts.clamp(0, MOST_ATTEMPTS)).ok(),
            on: on.into_iter().chain(ranges).collect(),
            backoff: self.backoff(rule, format!("{at}.backoff"), retry.backoff.as_deref()),
            ..Retry::default()
        }
    }

    fn backoff(&mut self, rule: usize, field: String, least: Option<&str>) -> Option<Backoff> {
        let Some(least) = least.map(Duration::from) else {
            return Some(Backoff {
                initial: Some(BACKOFF.into()),
                ..Backoff::default()
            });
        };
        if let Err(error) = least.parse() {
            self.close(rule, field, error.to_string());
            return None;
        }
        Some(Backoff {
            initial: Some(least),
            // Which would make waits shorter: up to v1.6 it is the least that there may be.
            jitter: Some(false),
            ..Backoff::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(retry: HttpRouteRulesRetry) -> (Retry, Said) {
        let mut said = Said::default();
        let retry = said.retry(0, &"spec.rules[0].retry", &retry);
        (retry, said)
    }

    fn of_codes(codes: &[i64]) -> (Vec<String>, Said) {
        let (retry, said) = said(HttpRouteRulesRetry {
            codes: Some(codes.to_vec()),
            ..HttpRouteRulesRetry::default()
        });
        let (always, ranges) = retry.on.split_at(ALWAYS.len());
        assert_eq!(always, ALWAYS.map(RetryOn::from));
        let ranges = ranges.iter().map(|range| range.as_str().to_owned());
        (ranges.collect(), said)
    }

    #[test]
    fn codes_that_are_neighbours_are_one_range() {
        for (codes, ranges) in [
            (&[][..], &[][..]),
            (&[503], &["503-503"]),
            (&[504, 500, 502, 503, 502], &["500-500", "502-504"]),
            (&[400, 599], &["400-400", "599-599"]),
        ] {
            let (found, said) = of_codes(codes);
            assert_eq!(found, ranges, "{codes:?}");
            assert_eq!(said.faults, [], "{codes:?}");
        }
        let all: Vec<i64> = (400..600).collect();
        assert_eq!(of_codes(&all).0, ["400-599"]);
    }

    #[test]
    fn what_is_no_code_or_too_many_of_them_closes_the_rule() {
        let apart: Vec<i64> = (400..426).step_by(2).collect();
        for codes in [&[503, 399][..], &[600], &[-1], &[i64::MAX], &apart] {
            let (_, said) = of_codes(codes);
            assert!(said.closed.contains(&0), "{codes:?}");
            assert_eq!(said.faults[0].field, "spec.rules[0].retry.codes");
        }
        assert_eq!(of_codes(&apart[1..]).1.faults, []);
    }

    #[test]
    fn attempts_that_nobody_makes() {
        for (asked, made, faults, notices) in [
            (None, 1, 0, 0),
            (Some(0), 0, 0, 0),
            (Some(10), 10, 0, 0),
            (Some(11), 10, 0, 1),
            (Some(i64::MAX), 10, 0, 1),
            (Some(-1), 0, 1, 0),
        ] {
            let (retry, said) = said(HttpRouteRulesRetry {
                attempts: asked,
                ..HttpRouteRulesRetry::default()
            });
            assert_eq!(retry.attempts, Some(made), "{asked:?}");
            assert_eq!((said.faults.len(), said.notices.len()), (faults, notices));
        }
    }

    #[test]
    fn a_backoff_is_never_shortened() {
        let of = |backoff: Option<&str>| {
            said(HttpRouteRulesRetry {
                backoff: backoff.map(Into::into),
                ..HttpRouteRulesRetry::default()
            })
        };
        let (given, _) = of(Some("1m30s"));
        let given = given.backoff.unwrap();
        assert_eq!(
            (given.initial, given.jitter),
            (Some("1m30s".into()), Some(false))
        );
        let silent = of(None).0.backoff.unwrap();
        assert_eq!(
            (silent.initial, silent.jitter),
            (Some(BACKOFF.into()), None)
        );
        let (_, said) = of(Some("soon"));
        assert!(said.closed.contains(&0));
        assert_eq!(said.faults[0].field, "spec.rules[0].retry.backoff");
    }
}

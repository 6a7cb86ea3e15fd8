//! How it is found out which endpoints work.

use super::super::lowering::Lowering;
use super::super::matches::normal_path;
use super::host;
use crate::report::Reason;
use crds::text::StatusRange;
use model::{ActiveHealth, Check, Health, PassiveHealth};

const ACTIVE: &str = "spec.health.active";
const PASSIVE: &str = "spec.health.passive";

/// What an active check does where its block does not say it.
struct Defaults {
    interval_ms: u32,
    timeout_ms: u32,
    unhealthy_threshold: u8,
    healthy_threshold: u8,
}

const REQUEST: Defaults = Defaults {
    interval_ms: 30_000,
    timeout_ms: 5_000,
    unhealthy_threshold: 3,
    healthy_threshold: 2,
};

const CONNECT: Defaults = Defaults {
    interval_ms: 10_000,
    timeout_ms: 3_000,
    unhealthy_threshold: 2,
    healthy_threshold: 1,
};

impl Lowering<'_> {
    pub(super) fn health(&mut self, spec: &crds::Health) -> Health {
        let mut health = Health::default();
        if let Some(active) = spec.active.as_ref().filter(|a| a.enabled != Some(false)) {
            health.active = self.active(active);
        }
        if let Some(passive) = spec.passive.as_ref().filter(|p| p.enabled != Some(false)) {
            health.passive = Some(self.passive(passive));
        }
        if let Some(percent) = spec.min_healthy_percent {
            let at = "spec.health.minHealthyPercent";
            if self.in_range(&at, u32::from(percent), 0, 100).is_some() {
                health.min_healthy_percent = percent;
            }
        }
        health
    }

    fn active(&mut self, spec: &crds::ActiveHealth) -> Option<ActiveHealth> {
        let (check, default) = match (&spec.http, &spec.tcp, &spec.grpc) {
            (Some(http), None, None) => (self.http_check(http), REQUEST),
            (None, Some(_), None) => (Some(Check::Tcp), CONNECT),
            (None, None, Some(grpc)) => {
                let service = grpc.service.as_deref().unwrap_or_default().to_owned();
                (Some(Check::Grpc { service }), REQUEST)
            }
            _ => {
                let message = "exactly one of http, tcp and grpc must be given";
                self.error(ACTIVE, Reason::Invalid, message);
                return None;
            }
        };
        let mut time = |name: &str, given: &Option<crds::Duration>, default: u32| match given {
            Some(given) => self.positive_millis(&format!("{ACTIVE}.{name}"), given),
            None => Some(default),
        };
        let interval_ms = time("interval", &spec.interval, default.interval_ms);
        let timeout_ms = time("timeout", &spec.timeout, default.timeout_ms);
        let mut count = |name: &str, given: Option<u8>, default: u8| {
            let number = u32::from(given.unwrap_or(default));
            self.in_range(&format!("{ACTIVE}.{name}"), number, 1, 100)
        };
        let unhealthy = count(
            "unhealthyThreshold",
            spec.unhealthy_threshold,
            default.unhealthy_threshold,
        );
        let healthy = count(
            "healthyThreshold",
            spec.healthy_threshold,
            default.healthy_threshold,
        );
        Some(ActiveHealth {
            check: check?,
            interval_ms: interval_ms?,
            timeout_ms: timeout_ms?,
            unhealthy_threshold: unhealthy?,
            healthy_threshold: healthy?,
        })
    }

    fn http_check(&mut self, spec: &crds::HttpCheck) -> Option<Check> {
        let path = spec.path.as_deref().unwrap_or("/health");
        let path = self.valid(format!("{ACTIVE}.http.path"), normal_path(path));
        let mut expect = Vec::with_capacity(spec.expect.len());
        for (i, range) in spec.expect.iter().enumerate() {
            let at = format!("{ACTIVE}.http.expect[{i}]");
            expect.extend(self.valid(at, status_range(range)));
        }
        if spec.expect.is_empty() {
            expect.push((200, 299));
        }
        let name = match spec.host.as_deref() {
            Some(name) => Some(self.valid(format!("{ACTIVE}.http.host"), host(name))?),
            None => None,
        };
        Some(Check::Http {
            path: path?,
            expect,
            host: name,
        })
    }

    fn passive(&mut self, spec: &crds::PassiveHealth) -> PassiveHealth {
        let mut number = |name: &str, given: Option<u32>, default, least, most| match given {
            Some(given) => {
                let kept = self.in_range(&format!("{PASSIVE}.{name}"), given, least, most);
                kept.unwrap_or(default)
            }
            None => default,
        };
        let consecutive = spec.consecutive_errors.map(u32::from);
        let rate = spec.error_rate_percent.map(u32::from);
        let ejected = spec.max_eject_percent.map(u32::from);
        let mut passive = PassiveHealth {
            consecutive_errors: number("consecutiveErrors", consecutive, 5, 1, 1000),
            error_rate_percent: number("errorRatePercent", rate, 0, 1, 100),
            min_requests: number("minRequests", spec.min_requests, 20, 1, 1_000_000),
            max_eject_percent: number("maxEjectPercent", ejected, 50, 0, 100),
            window_ms: 10_000,
            ejection_ms: 30_000,
        };
        for (name, given, slot) in [
            ("window", &spec.window, &mut passive.window_ms),
            (
                "ejectionTime",
                &spec.ejection_time,
                &mut passive.ejection_ms,
            ),
        ] {
            if let Some(given) = given
                && let Some(millis) = self.positive_millis(&format!("{PASSIVE}.{name}"), given)
            {
                *slot = millis;
            }
        }
        passive
    }
}

/// `200-299` or `404`.
fn status_range(range: &StatusRange) -> Result<(u16, u16), String> {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let code = |text: &str| text.parse().ok().filter(|code| (100..=599).contains(code));
    match (code(first), code(last)) {
        (Some(first), Some(last)) if first <= last => Ok((first, last)),
        _ => Err(format!(
            "{:?} is neither a status from 100 to 599 nor a range of such",
            range.as_str()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_statuses() {
        for (text, range) in [
            ("404", Some((404, 404))),
            ("200-299", Some((200, 299))),
            ("299-200", None),
            ("99", None),
            ("600", None),
            ("2xx", None),
            ("", None),
        ] {
            assert_eq!(status_range(&text.into()).ok(), range, "{text}");
        }
    }
}

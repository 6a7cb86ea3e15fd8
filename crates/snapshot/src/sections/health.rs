//! Health of endpoints, as part of an upstream.

use super::{InvalidResource, required};
use crate::pb;
use model::{ActiveHealth, Check, CircuitBreaker, Concurrency, Health, PassiveHealth};

pub(super) fn health_to_wire(health: &Health) -> pb::Health {
    let Health {
        active,
        passive,
        min_healthy_percent,
    } = health;
    pb::Health {
        active: active.as_ref().map(active_to_wire),
        passive: passive.as_ref().map(passive_to_wire),
        min_healthy_percent: u32::from(*min_healthy_percent),
    }
}

pub(super) fn health_from_wire(w: pb::Health) -> Result<Health, InvalidResource> {
    let percent = u8::try_from(w.min_healthy_percent);
    Ok(Health {
        active: w.active.map(active_from_wire).transpose()?,
        passive: w.passive.map(passive_from_wire),
        min_healthy_percent: percent
            .map_err(|_| InvalidResource::new("health.minHealthyPercent", "is no percentage"))?,
    })
}

fn active_to_wire(active: &ActiveHealth) -> pb::ActiveHealth {
    let ActiveHealth {
        check,
        interval_ms,
        timeout_ms,
        unhealthy_threshold,
        healthy_threshold,
    } = active;
    use pb::active_health::Check as W;
    pb::ActiveHealth {
        check: Some(match check.clone() {
            Check::Http { path, expect, host } => W::Http(pb::HttpCheck {
                path,
                expect: ranges_to_wire(&expect),
                host,
            }),
            Check::Tcp => W::Tcp(true),
            Check::Grpc { service } => W::Grpc(service),
        }),
        interval_ms: *interval_ms,
        timeout_ms: *timeout_ms,
        unhealthy_threshold: *unhealthy_threshold,
        healthy_threshold: *healthy_threshold,
    }
}

fn active_from_wire(w: pb::ActiveHealth) -> Result<ActiveHealth, InvalidResource> {
    use pb::active_health::Check as W;
    Ok(ActiveHealth {
        check: match required(w.check, "health.active")? {
            W::Http(http) => Check::Http {
                path: http.path,
                expect: ranges_from_wire(http.expect, "health.active.http.expect")?,
                host: http.host,
            },
            W::Tcp(_) => Check::Tcp,
            W::Grpc(service) => Check::Grpc { service },
        },
        interval_ms: w.interval_ms,
        timeout_ms: w.timeout_ms,
        unhealthy_threshold: w.unhealthy_threshold,
        healthy_threshold: w.healthy_threshold,
    })
}

fn passive_to_wire(passive: &PassiveHealth) -> pb::PassiveHealth {
    let PassiveHealth {
        consecutive_errors,
        error_rate_percent,
        min_requests,
        window_ms,
        ejection_ms,
        max_eject_percent,
    } = *passive;
    pb::PassiveHealth {
        consecutive_errors,
        error_rate_percent,
        min_requests,
        window_ms,
        ejection_ms,
        max_eject_percent,
    }
}

fn passive_from_wire(w: pb::PassiveHealth) -> PassiveHealth {
    PassiveHealth {
        consecutive_errors: w.consecutive_errors,
        error_rate_percent: w.error_rate_percent,
        min_requests: w.min_requests,
        window_ms: w.window_ms,
        ejection_ms: w.ejection_ms,
        max_eject_percent: w.max_eject_percent,
    }
}

pub(super) fn breaker_to_wire(breaker: CircuitBreaker) -> pb::CircuitBreaker {
    let CircuitBreaker {
        max_connections,
        max_requests,
        max_pending,
    } = breaker;
    pb::CircuitBreaker {
        max_connections,
        max_requests,
        max_pending,
    }
}

pub(super) fn breaker_from_wire(w: pb::CircuitBreaker) -> CircuitBreaker {
    CircuitBreaker {
        max_connections: w.max_connections,
        max_requests: w.max_requests,
        max_pending: w.max_pending,
    }
}

pub(super) fn concurrency_to_wire(concurrency: Concurrency) -> pb::Concurrency {
    let Concurrency {
        max,
        queue_depth,
        queue_timeout_ms,
    } = concurrency;
    pb::Concurrency {
        max,
        queue_depth,
        queue_timeout_ms,
    }
}

pub(super) fn concurrency_from_wire(w: pb::Concurrency) -> Concurrency {
    Concurrency {
        max: w.max,
        queue_depth: w.queue_depth,
        queue_timeout_ms: w.queue_timeout_ms,
    }
}

pub(super) fn ranges_to_wire(ranges: &[(u16, u16)]) -> Vec<pb::StatusRange> {
    let to_wire = |&(first, last): &(u16, u16)| pb::StatusRange {
        first: u32::from(first),
        last: u32::from(last),
    };
    ranges.iter().map(to_wire).collect()
}

pub(super) fn ranges_from_wire(
    ranges: Vec<pb::StatusRange>,
    field: &'static str,
) -> Result<Vec<(u16, u16)>, InvalidResource> {
    let status = |code: u32| {
        let code = u16::try_from(code).ok().filter(|c| (100..=999).contains(c));
        code.ok_or_else(|| InvalidResource::new(field, "is not a status code"))
    };
    let from_wire = |r: pb::StatusRange| Ok((status(r.first)?, status(r.last)?));
    ranges.into_iter().map(from_wire).collect()
}

//! Retries, affinity and mirrors, as parts of a rule.

use super::health::{ranges_from_wire, ranges_to_wire};
use super::{InvalidResource, required};
use crate::pb;
use model::{Affinity, AffinityCookie, Mirror, Retry, RetryOn, SameSite, Target};

pub(super) fn retry_to_wire(retry: &Retry) -> pb::Retry {
    let Retry {
        attempts,
        on,
        initial_ms,
        max_ms,
        multiplier_percent,
        jitter,
        per_try_ms,
        budget_percent,
    } = retry;
    let RetryOn {
        connect_failure,
        reset,
        timeout,
        reused_connection,
        non_idempotent,
        statuses,
    } = on;
    pb::Retry {
        attempts: *attempts,
        connect_failure: *connect_failure,
        reset: *reset,
        timeout: *timeout,
        reused_connection: *reused_connection,
        non_idempotent: *non_idempotent,
        statuses: ranges_to_wire(statuses),
        initial_ms: *initial_ms,
        max_ms: *max_ms,
        multiplier_percent: *multiplier_percent,
        jitter: *jitter,
        per_try_ms: *per_try_ms,
        budget_percent: *budget_percent,
    }
}

pub(super) fn retry_from_wire(w: pb::Retry) -> Result<Retry, InvalidResource> {
    Ok(Retry {
        attempts: w.attempts,
        on: RetryOn {
            connect_failure: w.connect_failure,
            reset: w.reset,
            timeout: w.timeout,
            reused_connection: w.reused_connection,
            non_idempotent: w.non_idempotent,
            statuses: ranges_from_wire(w.statuses, "rules.retry.on")?,
        },
        initial_ms: w.initial_ms,
        max_ms: w.max_ms,
        multiplier_percent: w.multiplier_percent,
        jitter: w.jitter,
        per_try_ms: w.per_try_ms,
        budget_percent: w.budget_percent,
    })
}

pub(super) fn affinity_to_wire(affinity: &Affinity) -> pb::Affinity {
    use pb::affinity::By;
    use pb::affinity_cookie::SameSite as W;
    pb::Affinity {
        by: Some(match affinity.clone() {
            Affinity::Header(name) => By::Header(name),
            Affinity::Cookie(cookie) => By::Cookie(pb::AffinityCookie {
                name: cookie.name,
                ttl_seconds: cookie.ttl_seconds,
                path: cookie.path,
                secure: cookie.secure,
                same_site: match cookie.same_site {
                    None => W::Unset,
                    Some(SameSite::Strict) => W::Strict,
                    Some(SameSite::Lax) => W::Lax,
                    Some(SameSite::None) => W::None,
                }
                .into(),
            }),
        }),
    }
}

pub(super) fn affinity_from_wire(w: pb::Affinity) -> Result<Affinity, InvalidResource> {
    use pb::affinity::By;
    use pb::affinity_cookie::SameSite as W;
    Ok(match required(w.by, "rules.affinity")? {
        By::Header(name) => Affinity::Header(name),
        By::Cookie(cookie) => Affinity::Cookie(AffinityCookie {
            same_site: match cookie.same_site() {
                W::Unset => None,
                W::Strict => Some(SameSite::Strict),
                W::Lax => Some(SameSite::Lax),
                W::None => Some(SameSite::None),
            },
            name: cookie.name,
            ttl_seconds: cookie.ttl_seconds,
            path: cookie.path,
            secure: cookie.secure,
        }),
    })
}

pub(super) fn mirror_to_wire(mirror: &Mirror) -> pb::Mirror {
    use pb::mirror::Target as W;
    pb::Mirror {
        target: Some(match &mirror.target {
            Target::Upstream(key) => W::Upstream(key.clone()),
            Target::Unresolved(what) => W::Unresolved(what.clone()),
        }),
        millionths: mirror.millionths,
    }
}

pub(super) fn mirror_from_wire(w: pb::Mirror) -> Result<Mirror, InvalidResource> {
    use pb::mirror::Target as W;
    Ok(Mirror {
        target: match required(w.target, "rules.mirrors.target")? {
            W::Upstream(key) => Target::Upstream(key),
            W::Unresolved(what) => Target::Unresolved(what),
        },
        millionths: w.millionths,
    })
}

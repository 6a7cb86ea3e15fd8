//! Preference for the own zone, in fair shares.
//!
//! It is assumed that requests arrive evenly in all zones that have endpoints. A zone with at least its fair share of
//! the endpoints keeps its requests; one with less keeps as many as its endpoints are due, so that they are not busier
//! than those elsewhere, and the others take the rest. Not for consistent hashing, where the key decides.

use super::draw::draw;
use super::{Ask, Endpoint, Group};
use model::Balance;
use std::collections::BTreeSet;

pub(super) struct Split {
    near: Group,
    far: Group,
    /// Requests of 65,536 that stay.
    stay: u64,
}

impl Split {
    /// `None` where there is nothing to prefer.
    pub(super) fn new(balance: &Balance, own: &str, candidates: &[Endpoint]) -> Option<Self> {
        let is_near = |e: &Endpoint| e.zone.as_deref() == Some(own);
        let (near, far): (Vec<_>, Vec<_>) = candidates.iter().cloned().partition(is_near);
        if near.is_empty() || far.is_empty() {
            return None;
        }
        let sum = |list: &[Endpoint]| list.iter().map(super::share).sum::<u64>();
        // Endpoints of unknown zone count as one zone more.
        let zones: BTreeSet<_> = candidates.iter().map(|e| e.zone.as_deref()).collect();
        let (own, total) = (sum(&near), sum(candidates));
        let due = u128::from(own) * zones.len() as u128 * 65_536;
        let stay = due.checked_div(u128::from(total)).unwrap_or(0).min(65_536);
        Some(Self {
            near: Group::new(balance, near.into(), None),
            far: Group::new(balance, far.into(), None),
            stay: u64::try_from(stay).unwrap_or(65_536),
        })
    }

    pub(super) fn pick(&self, ask: &Ask<'_>) -> Option<&Endpoint> {
        let (first, second) = if self.stay >= 65_536 || draw() >> 48 < self.stay {
            (&self.near, &self.far)
        } else {
            (&self.far, &self.near)
        };
        let chosen = first.pick(ask);
        match chosen {
            Some(e) if !ask.tried.contains(&e.addr) => chosen,
            _ => second.pick(ask).or(chosen),
        }
    }
}

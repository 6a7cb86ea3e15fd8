//! What Events have told of the endpoints of each upstream, and what there is to tell. Pure: it knows no clock and no
//! API server.

use crate::health::{Change, reason};
use snapshot::health::Opinion;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Upstreams with something to tell.
pub(super) const MAX_UPSTREAMS: usize = 1024;
/// What happens within this time is told together.
const GATHER: Duration = Duration::from_secs(1);
/// Between two Events about one upstream: at first, and at most after it has doubled again and again.
const PAUSE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));
/// Endpoints that an Event names.
const NAMED: usize = 10;

/// An Event to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Notice {
    /// Key of the upstream resource.
    pub(super) upstream: Arc<str>,
    /// Endpoints work again; otherwise they work no longer.
    pub(super) healthy: bool,
    pub(super) note: String,
}

#[derive(Default)]
pub(super) struct Stories(BTreeMap<Arc<str>, Story>);

#[derive(Default)]
struct Story {
    /// Endpoints of which the last Event said that they do not work.
    told: BTreeSet<SocketAddr>,
    /// Those that do not work.
    down: BTreeMap<SocketAddr, Opinion>,
    /// When the next Event may be written, while there is something to tell.
    due: Option<Instant>,
    pause: Duration,
    /// No Event before this.
    silent_until: Option<Instant>,
}

impl Story {
    fn is_told(&self) -> bool {
        self.told.iter().eq(self.down.keys())
    }
}

impl Stories {
    /// Takes a change; false: there are too many upstreams to tell of.
    pub(super) fn note(&mut self, change: &Change, now: Instant) -> bool {
        if !self.0.contains_key(&change.upstream) {
            // Those that have been well for long are forgotten.
            self.0.retain(|_, story| {
                story.due.is_some()
                    || !story.down.is_empty()
                    || story.silent_until.is_some_and(|until| until > now)
            });
            if self.0.len() >= MAX_UPSTREAMS {
                return false;
            }
        }
        let story = self.0.entry(Arc::clone(&change.upstream)).or_default();
        match change.unhealthy {
            Some(opinion) => drop(story.down.insert(change.endpoint, opinion)),
            None => drop(story.down.remove(&change.endpoint)),
        }
        story.due = match (story.is_told(), story.due) {
            // It came and went before anybody was told.
            (true, _) => None,
            (false, Some(due)) => Some(due),
            (false, None) => {
                let soon = now + GATHER;
                Some(story.silent_until.map_or(soon, |until| until.max(soon)))
            }
        };
        true
    }

    /// When [`Self::next`] has something.
    pub(super) fn due(&self) -> Option<Instant> {
        self.0.values().filter_map(|s| s.due).min()
    }

    /// What is to be told now.
    pub(super) fn take(&mut self, now: Instant) -> Vec<Notice> {
        let mut notices = Vec::new();
        for (upstream, story) in &mut self.0 {
            if story.due.is_none_or(|due| due > now) {
                continue;
            }
            story.due = None;
            // A good while in which nothing had to be told makes the next pause short again.
            let calm = story
                .silent_until
                .is_none_or(|until| now > until + story.pause);
            story.pause = match calm {
                true => PAUSE.0,
                false => (story.pause * 2).min(PAUSE.1),
            };
            story.silent_until = Some(now + story.pause);
            let mut notice = |healthy, note: String| {
                let upstream = Arc::clone(upstream);
                notices.push(Notice {
                    upstream,
                    healthy,
                    note,
                });
            };
            let new = story.down.iter().filter(|(e, _)| !story.told.contains(e));
            let new: Vec<String> = new
                .map(|(endpoint, opinion)| format!("{endpoint} ({})", reason(*opinion)))
                .collect();
            if !new.is_empty() {
                notice(false, sentence(&new, "does not work", "do not work"));
            }
            let well = story.told.iter().filter(|e| !story.down.contains_key(e));
            let well: Vec<String> = well.map(ToString::to_string).collect();
            if !well.is_empty() {
                notice(true, sentence(&well, "works again", "work again"));
            }
            story.told = story.down.keys().copied().collect();
        }
        notices
    }
}

/// `2 endpoints do not work: A, B`
fn sentence(endpoints: &[String], one: &str, many: &str) -> String {
    let mut text = match endpoints {
        [endpoint] => return format!("1 endpoint {one}: {endpoint}"),
        all => format!("{} endpoints {many}: ", all.len()),
    };
    let named: Vec<&str> = endpoints.iter().take(NAMED).map(String::as_str).collect();
    text.push_str(&named.join(", "));
    if let Some(more) = endpoints.len().checked_sub(NAMED).filter(|n| *n > 0) {
        let _ = write!(text, " and {more} more");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(upstream: &str, last: u8, unhealthy: Option<Opinion>) -> Change {
        Change {
            upstream: upstream.into(),
            endpoint: SocketAddr::from(([10, 0, 0, last], 80)),
            unhealthy,
        }
    }

    const DOWN: Option<Opinion> = Some(Opinion::FailsChecks);

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn what_happens_together_is_told_together() {
        let (mut stories, now) = (Stories::default(), Instant::now());
        for last in 1..=12 {
            assert!(stories.note(&change("a", last, DOWN), now));
        }
        assert_eq!(stories.due(), Some(now + GATHER));
        assert_eq!(stories.take(now), []);
        let told = stories.take(now + GATHER);
        let [notice] = &*told else { panic!("{told:?}") };
        assert!(!notice.healthy);
        let note = &notice.note;
        assert!(
            note.starts_with("12 endpoints do not work: 10.0.0.1:80 (active_check), "),
            "{note}"
        );
        assert!(note.ends_with(" and 2 more"), "{note}");
        assert!(note.len() < 1024);
        assert_eq!(stories.due(), None);
    }

    #[test]
    fn back_again() {
        let (mut stories, now) = (Stories::default(), Instant::now());
        stories.note(&change("a", 1, DOWN), now);
        stories.take(now + GATHER);
        stories.note(&change("a", 1, None), now + secs(2));
        stories.note(&change("a", 2, Some(Opinion::Ejected)), now + secs(2));
        let due = stories.due().unwrap();
        assert_eq!(due, now + GATHER + PAUSE.0);
        let notes: Vec<_> = stories
            .take(due)
            .into_iter()
            .map(|n| (n.healthy, n.note))
            .collect();
        assert_eq!(
            notes,
            [
                (
                    false,
                    "1 endpoint does not work: 10.0.0.2:80 (failed_requests)".to_owned()
                ),
                (true, "1 endpoint works again: 10.0.0.1:80".to_owned()),
            ]
        );
    }

    #[test]
    fn what_comes_and_goes_at_once_is_not_told() {
        let (mut stories, now) = (Stories::default(), Instant::now());
        stories.note(&change("a", 1, DOWN), now);
        stories.note(&change("a", 1, None), now);
        assert_eq!(stories.due(), None);
    }

    #[test]
    fn who_flaps_is_told_of_less_and_less() {
        let (mut stories, mut now) = (Stories::default(), Instant::now());
        let mut times = Vec::new();
        let began = now;
        let mut down = false;
        for second in 0..3600 {
            if second % 3 == 0 {
                down = !down;
                stories.note(&change("a", 1, DOWN.filter(|_| down)), now);
            }
            if !stories.take(now).is_empty() {
                times.push(now);
            }
            now = began + secs(second);
        }
        assert!((5..25).contains(&times.len()), "{}", times.len());
        // An hour of peace, and it is told at once.
        now += secs(3600);
        stories.note(&change("a", 2, DOWN), now);
        assert!(stories.due().unwrap() <= now + GATHER);
    }

    #[test]
    fn there_is_a_bound() {
        let (mut stories, now) = (Stories::default(), Instant::now());
        for n in 0..MAX_UPSTREAMS {
            assert!(stories.note(&change(&n.to_string(), 1, DOWN), now));
        }
        assert!(!stories.note(&change("x", 1, DOWN), now));
        // Those it knows go on, and those that are well make room.
        assert!(stories.note(&change("0", 2, DOWN), now));
        stories.note(&change("0", 1, None), now);
        stories.note(&change("0", 2, None), now);
        assert!(stories.note(&change("x", 1, DOWN), now));
    }
}

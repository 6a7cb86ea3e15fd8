//! What fails, is tried again and fails again, as the log has it: a line when that begins, one a minute while it lasts, and
//! one when it is over.

use std::time::Duration;

use tokio::time::Instant;

/// Between two reminders.
pub(crate) const REMIND: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Default)]
pub(crate) struct Outage(Option<Since>);

struct Since {
    began: Instant,
    said: Instant,
}

impl Outage {
    /// It has failed. For how long it does, where that is to be said now.
    pub(crate) fn fails(&mut self) -> Option<Duration> {
        let now = Instant::now();
        let Some(since) = &mut self.0 else {
            let (began, said) = (now, now);
            self.0 = Some(Since { began, said });
            return Some(Duration::ZERO);
        };
        if now - since.said < REMIND {
            return None;
        }
        since.said = now;
        Some(now - since.began)
    }

    /// It works. For how long it did not, where it did not.
    pub(crate) fn ends(&mut self) -> Option<Duration> {
        self.0.take().map(|since| since.began.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    #[tokio::test(start_paused = true)]
    async fn an_hour_is_a_line_a_minute() {
        let mut outage = Outage::default();
        assert_eq!(outage.ends(), None);
        let mut said = Vec::new();
        for _ in 0..3600 * 4 {
            said.extend(outage.fails());
            advance(Duration::from_millis(250)).await;
        }
        let minutes: Vec<_> = (0..60).map(|n| Duration::from_secs(n * 60)).collect();
        assert_eq!(said, minutes);
        assert_eq!(outage.ends(), Some(Duration::from_secs(3600)));
        assert_eq!(outage.ends(), None);
        assert_eq!(outage.fails(), Some(Duration::ZERO), "another one");
    }
}

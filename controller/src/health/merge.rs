//! What data planes think of one endpoint, made into one verdict. Pure.

use snapshot::health::Opinion;

/// Data planes that must say that an endpoint does not work, where there are as many: one alone may be cut off itself.
const WITNESSES: usize = 2;

/// Opinions about one endpoint, counted. Who says nothing knows nothing against it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    passes: usize,
    fails: usize,
    ejected: usize,
}

impl Tally {
    pub(super) fn count(&mut self, opinion: Opinion) {
        match opinion {
            Opinion::PassesChecks => self.passes += 1,
            Opinion::FailsChecks => self.fails += 1,
            Opinion::Ejected => self.ejected += 1,
        }
    }

    /// Whether any data plane has found by checks that it does not work.
    pub(super) fn has_failed_checks(&self) -> bool {
        self.fails > 0
    }
}

/// Why an endpoint gets no requests; `None`: it does. `planes`: how many report. `before`: the verdict so far.
///
/// - By checks: both data planes that check it say so (the one that there is, of one). Then it stays so until one of
///   them finds that it works and they are no longer two: that a data plane goes, or that another one takes its checks
///   over and has not checked yet, brings no endpoint back.
/// - By failed requests: at least two data planes and at least half of them all. Their ejections end by their own
///   clocks, and this with them.
pub(super) fn verdict(before: Option<Opinion>, tally: Tally, planes: usize) -> Option<Opinion> {
    let witnesses = WITNESSES.min(planes).max(1);
    let by_checks = tally.fails >= witnesses && tally.fails >= tally.passes;
    let undecided = before == Some(Opinion::FailsChecks) && tally.passes == 0;
    if by_checks || (undecided && tally.fails > 0) {
        return Some(Opinion::FailsChecks);
    }
    let many = witnesses.max(planes.div_ceil(2));
    if tally.fails + tally.ejected >= many {
        return Some(Opinion::Ejected);
    }
    before.filter(|_| undecided)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Opinion::{Ejected, FailsChecks};

    fn tally(passes: usize, fails: usize, ejected: usize) -> Tally {
        Tally {
            passes,
            fails,
            ejected,
        }
    }

    #[test]
    fn two_witnesses_where_there_are_two() {
        for (planes, fails, expected) in [
            (1, 0, None),
            (1, 1, Some(FailsChecks)),
            (2, 1, None),
            (2, 2, Some(FailsChecks)),
            (100, 1, None),
            (100, 2, Some(FailsChecks)),
        ] {
            let found = verdict(None, tally(0, fails, 0), planes);
            assert_eq!(found, expected, "{fails} of {planes}");
        }
    }

    #[test]
    fn one_that_reaches_it_is_enough_to_bring_it_back() {
        let before = Some(FailsChecks);
        assert_eq!(verdict(before, tally(1, 1, 0), 2), None);
        assert_eq!(verdict(before, tally(2, 0, 0), 2), None);
        // Not against two that do not.
        assert_eq!(verdict(before, tally(1, 2, 0), 3), before);
    }

    #[test]
    fn a_checker_that_goes_brings_nothing_back() {
        let before = Some(FailsChecks);
        assert_eq!(verdict(before, tally(0, 1, 0), 2), before);
        // Nobody says anything: until its time is over.
        assert_eq!(verdict(before, tally(0, 0, 0), 2), before);
        assert_eq!(verdict(None, tally(0, 1, 0), 2), None);
    }

    #[test]
    fn failed_requests_count_at_half_of_all() {
        for (planes, ejected, expected) in [
            (1, 1, Some(Ejected)),
            (2, 1, None),
            (2, 2, Some(Ejected)),
            (3, 2, Some(Ejected)),
            (5, 2, None),
            (5, 3, Some(Ejected)),
        ] {
            let found = verdict(None, tally(0, 0, ejected), planes);
            assert_eq!(found, expected, "{ejected} of {planes}");
        }
        // It ends with the ejections.
        assert_eq!(verdict(Some(Ejected), tally(0, 0, 1), 2), None);
        // Both kinds together.
        assert_eq!(verdict(None, tally(0, 1, 1), 2), Some(Ejected));
    }
}

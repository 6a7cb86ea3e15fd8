//! Sharing requests by weight, without locks.
//!
//! A schedule is a pure function from the number of a turn to the one whose turn it is; the only state is the
//! counter that its owner keeps. Threads that draw different turns can therefore never disturb the shares.

/// Longest cycle that is written out. Shares are exact over any window of that many turns.
const MAX_CYCLE: u64 = 1000;

/// Who is next, by weight.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Schedule {
    /// Nobody has a weight.
    Nobody,
    /// The smooth sequence of one period: the weights divided by their greatest common divisor sum to its length.
    Cycle(Box<[u16]>),
    /// For weights too large for a cycle: running sums, looked up by a sequence of low discrepancy.
    Spread(Box<[u64]>),
}

impl Schedule {
    pub(crate) fn new(weights: &[u32]) -> Self {
        let divisor = weights.iter().copied().fold(0, gcd);
        if divisor == 0 {
            return Self::Nobody;
        }
        let reduced: Vec<u32> = weights.iter().map(|w| w / divisor).collect();
        let total: u64 = reduced.iter().map(|w| u64::from(*w)).sum();
        if total <= MAX_CYCLE && u16::try_from(weights.len()).is_ok() {
            return Self::Cycle(smooth(&reduced, total as i64));
        }
        let mut sum = 0;
        Self::Spread(
            reduced
                .iter()
                .map(|w| {
                    sum += u64::from(*w);
                    sum
                })
                .collect(),
        )
    }

    /// Whether the turn makes no difference, so that no counter needs to be drawn.
    pub(crate) fn is_constant(&self) -> bool {
        match self {
            Self::Nobody => true,
            Self::Cycle(cycle) => cycle.len() == 1,
            Self::Spread(_) => false,
        }
    }

    /// Whose turn it is; `None` when all weights are zero.
    pub(crate) fn at(&self, turn: u64) -> Option<usize> {
        match self {
            Self::Nobody => None,
            Self::Cycle(cycle) => {
                let i = turn.checked_rem(cycle.len() as u64)?;
                cycle.get(i as usize).map(|i| usize::from(*i))
            }
            Self::Spread(ends) => {
                // Multiples of the golden ratio fill [0, 1) evenly: after n turns every share is off by O(log n).
                const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
                let total = u128::from(*ends.last()?);
                let point = ((u128::from(turn.wrapping_mul(GOLDEN)) * total) >> 64) as u64;
                Some(ends.partition_point(|end| *end <= point))
            }
        }
    }
}

/// Smooth weighted round robin, one period of it: at every step all gain their weight, and the one who has most pays
/// the total. The picks of one index are as far apart as its share allows.
fn smooth(weights: &[u32], total: i64) -> Box<[u16]> {
    let mut gained = vec![0_i64; weights.len()];
    let step = |_| {
        let mut best: Option<(usize, i64)> = None;
        for (i, (gain, weight)) in gained.iter_mut().zip(weights).enumerate() {
            *gain += i64::from(*weight);
            if *weight > 0 && best.is_none_or(|(_, most)| *gain > most) {
                best = Some((i, *gain));
            }
        }
        let (i, _) = best?;
        *gained.get_mut(i)? -= total;
        u16::try_from(i).ok()
    };
    (0..total).filter_map(step).collect()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counts(schedule: &Schedule, from: u64, turns: u64, n: usize) -> Vec<u64> {
        let mut counts = vec![0; n];
        for turn in from..from + turns {
            counts[schedule.at(turn).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn picks_are_spread_and_not_bunched() {
        let Schedule::Cycle(cycle) = Schedule::new(&[5, 1, 1]) else {
            panic!("small weights make a cycle")
        };
        assert_eq!(*cycle, [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(Schedule::new(&[10, 10]), Schedule::Cycle([0, 1].into()));
        assert_eq!(Schedule::new(&[0, 7]), Schedule::Cycle([1].into()));
    }

    #[test]
    fn no_weight_no_turn() {
        for none in [&[][..], &[0], &[0, 0]] {
            assert_eq!(Schedule::new(none).at(3), None);
        }
    }

    #[test]
    fn large_weights_converge() {
        let weights = [1_000_000_007, 3, 0, 500_000_000];
        let schedule = Schedule::new(&weights);
        let turns = 100_000;
        let total: u64 = weights.iter().map(|w| u64::from(*w)).sum();
        for (count, weight) in counts(&schedule, 12345, turns, 4).into_iter().zip(weights) {
            let share = u64::from(weight) * turns / total;
            assert!(count.abs_diff(share) <= 20, "{count} of {share}");
            assert!(weight > 0 || count == 0);
        }
    }

    proptest! {
        #[test]
        fn exact_over_any_window_of_one_period(
            weights in prop::collection::vec(0_u32..=60, 1..12),
            from in 0_u64..1 << 40,
        ) {
            let total: u64 = weights.iter().map(|w| u64::from(*w)).sum();
            prop_assume!(total > 0);
            let counts = counts(&Schedule::new(&weights), from, total, weights.len());
            let wanted: Vec<u64> = weights.iter().map(|w| u64::from(*w)).collect();
            prop_assert_eq!(counts, wanted);
        }

        #[test]
        fn an_index_is_always_one_with_a_weight(weights in prop::collection::vec(any::<u32>(), 0..6), turn: u64) {
            match Schedule::new(&weights).at(turn) {
                Some(i) => prop_assert!(weights[i] > 0),
                None => prop_assert!(weights.iter().all(|w| *w == 0)),
            }
        }
    }
}

//! The highest rate that loses nothing: RFC 2544, 26.1, by halving.

/// A search between a rate that passes and one that fails.
#[derive(Clone, Debug)]
pub(super) struct Search {
    /// Passed; 0 does, without a trial.
    passed: u64,
    /// Failed, or the highest rate while it has not been tried.
    failed: u64,
    tried_highest: bool,
    /// Near enough.
    resolution: u64,
}

impl Search {
    /// From `highest` down, to within `resolution`.
    pub(super) fn new(highest: u64, resolution: u64) -> Search {
        Search { passed: 0, failed: highest, tried_highest: false, resolution: resolution.max(1) }
    }

    /// The rate to try next; `None` once it is found.
    pub(super) fn next(&self) -> Option<u64> {
        if !self.tried_highest {
            return Some(self.failed);
        }
        let found = self.failed - self.passed <= self.resolution;
        (!found).then(|| self.passed.midpoint(self.failed))
    }

    /// What came of trying `rate`.
    pub(super) fn tried(&mut self, rate: u64, passed: bool) {
        self.tried_highest = true;
        if passed {
            self.passed = rate;
            self.failed = self.failed.max(rate);
        } else {
            self.failed = rate;
        }
    }

    /// The highest rate that passed, so far; 0: none.
    pub(super) fn passed(&self) -> u64 {
        self.passed
    }

    /// The lowest rate that failed.
    pub(super) fn lowest_failed(&self) -> u64 {
        self.failed
    }

    /// Trials that it takes, at most.
    #[cfg(test)]
    pub(super) fn trials(&self) -> u32 {
        1 + (self.failed - self.passed).div_ceil(self.resolution).next_power_of_two().ilog2()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(limit: u64, highest: u64, resolution: u64) -> (u64, u32) {
        let mut search = Search::new(highest, resolution);
        let (most, mut trials) = (search.trials(), 0);
        while let Some(rate) = search.next() {
            search.tried(rate, rate <= limit);
            trials += 1;
            assert!(trials <= most, "{trials} of {most}");
        }
        (search.passed(), trials)
    }

    #[test]
    fn by_hand() {
        assert_eq!(run(1000, 900, 1), (900, 1), "the highest passes: no more to try");
        assert_eq!(run(0, 100, 10), (0, 5), "100, 50, 25, 12, 6");
        assert_eq!(run(600, 1000, 100), (562, 5));
    }

    proptest! {
        #[test]
        fn within_the_resolution_and_never_above(limit in 0_u64..2_000_000, highest in 1_u64..1_500_000, resolution in 1_u64..10_000) {
            let (found, _) = run(limit, highest, resolution);
            prop_assert!(found <= limit);
            prop_assert!(found + resolution >= limit.min(highest));
        }
    }
}

//! A token bucket: how often a stranger may make us answer.

/// Refills at a steady rate, and holds a tenth of a second's worth.
#[derive(Debug)]
pub(crate) struct TokenBucket {
    per_second: u64,
    capacity: u64,
    /// In billionths of a token, so that slow rates lose nothing to rounding.
    level: u64,
    filled_ns: u64,
}

const TOKEN: u64 = 1_000_000_000;

impl TokenBucket {
    /// A full bucket.
    pub(crate) fn new(per_second: u32) -> Self {
        let capacity = u64::from(per_second / 10).max(1) * TOKEN;
        Self { per_second: u64::from(per_second), capacity, level: capacity, filled_ns: 0 }
    }

    /// Takes one token, if there is one.
    pub(crate) fn take(&mut self, now_ns: u64) -> bool {
        let since_ns = now_ns.saturating_sub(self.filled_ns);
        self.filled_ns = now_ns;
        self.level = self.level.saturating_add(since_ns.saturating_mul(self.per_second)).min(self.capacity);
        let granted = self.level >= TOKEN;
        if granted {
            self.level -= TOKEN;
        }
        granted
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let mut bucket = TokenBucket::new(100);
        let start = 5_000_000_000;
        assert_eq!((0..50).filter(|_| bucket.take(start)).count(), 10);
        // One second in 1 ms steps.
        assert_eq!((1..=1000).filter(|ms| bucket.take(start + ms * 1_000_000)).count(), 100);
        assert_eq!((0..50).filter(|_| bucket.take(start + 60_000_000_000)).count(), 10);
    }
}

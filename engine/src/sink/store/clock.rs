//! Real time as retention believes it.
//!
//! What is old is removed by the machine's clock, and that may be set wrong: a jump ahead by a year would make
//! everything old. So time is believed as far as a monotonic clock bears it out.

use std::time::{Duration, Instant};

/// How far the clock may be ahead of what has passed since it was last looked at.
const TOLERANCE_NS: u64 = 3_600_000_000_000;
/// A clock that has stayed ahead for so long has been set right, not wrong.
const DOUBT: Duration = Duration::from_secs(86_400);

/// See the module's docs.
#[derive(Debug)]
pub(super) struct BelievedClock {
    real_ns: u64,
    at: Instant,
    doubted_since: Option<Instant>,
}

impl BelievedClock {
    /// Believes `real_ns`, nanoseconds since the Unix epoch.
    pub(super) fn new(real_ns: u64, at: Instant) -> BelievedClock {
        BelievedClock { real_ns, at, doubted_since: None }
    }

    /// The time to go by when the machine's clock says `real_ns`: that, unless it has jumped ahead. Back is believed:
    /// nothing becomes old by it.
    pub(super) fn believe(&mut self, real_ns: u64, at: Instant) -> u64 {
        let passed_ns = u64::try_from(at.duration_since(self.at).as_nanos()).unwrap_or(u64::MAX);
        let expected_ns = self.real_ns.saturating_add(passed_ns);
        if real_ns > expected_ns.saturating_add(TOLERANCE_NS) {
            let since = *self.doubted_since.get_or_insert_with(|| {
                let hours = (real_ns - expected_ns) / TOLERANCE_NS;
                tracing::warn!("the clock has jumped ahead by {hours} hours: for a day nothing is removed for its age");
                at
            });
            if at.duration_since(since) < DOUBT {
                return expected_ns;
            }
        }
        *self = BelievedClock::new(real_ns, at);
        real_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_NS: u64 = TOLERANCE_NS;

    #[test]
    fn a_jump_ahead_is_not_believed_for_a_day_and_one_back_at_once() {
        let (start, real) = (Instant::now(), 1_800_000_000_000_000_000);
        let mut clock = BelievedClock::new(real, start);
        let hours = |n: u32| start + Duration::from_secs(3600) * n;
        assert_eq!(clock.believe(real + HOUR_NS, hours(1)), real + HOUR_NS);
        // Slewed, and corrected by less than an hour.
        assert_eq!(clock.believe(real + 2 * HOUR_NS + 7, hours(2)), real + 2 * HOUR_NS + 7);
        // A year ahead: time goes on as before.
        let year_ns = 8766 * HOUR_NS;
        assert_eq!(clock.believe(real + year_ns + 3 * HOUR_NS, hours(3)), real + 3 * HOUR_NS + 7);
        assert_eq!(clock.believe(real + year_ns + 26 * HOUR_NS, hours(26)), real + 26 * HOUR_NS + 7);
        // Set right again.
        assert_eq!(clock.believe(real + 27 * HOUR_NS, hours(27)), real + 27 * HOUR_NS);
        // Once more, and now it stays.
        assert_eq!(clock.believe(real + year_ns, hours(28)), real + 28 * HOUR_NS);
        assert_eq!(clock.believe(real + year_ns, hours(51)), real + 51 * HOUR_NS);
        assert_eq!(clock.believe(real + year_ns, hours(52)), real + year_ns);
        // Back, far.
        assert_eq!(clock.believe(real, hours(53)), real);
        assert_eq!(clock.believe(0, hours(54)), 0);
    }
}

//! A kernel's clock against ours: netconsole stamps records with microseconds since the sender's boot.
//!
//! `receive time - kernel time` is the moment of the boot plus the way that the datagram took. The way
//! is never negative, so the smallest difference over a window is the best estimate of the boot; two
//! windows in turn let the estimate follow clocks that drift apart.
//!
//! Limits: the first records after a sender was (re)configured may be old ones that it sends in a
//! burst; until fresher ones follow, their times are too late by their age. The error that is reported
//! falls with the number of samples, and does not know of that.

/// Length of a window, in nanoseconds of receive time.
const WINDOW_NS: u64 = 60_000_000_000;
/// Stamps are taken once a burst, and the kernel sends after it stamps.
const BASE_ERROR_NS: u64 = 1_000_000;
/// Drift that two clocks may have against each other: 50 ppm, as a divisor.
const DRIFT_DIVISOR: u64 = 20_000;
/// The error of an estimate from one sample.
const ONE_SAMPLE_ERROR_NS: u64 = 1_000_000_000;

/// The estimate for one source.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "store", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct KernelClock {
    now: Window,
    before: Window,
}

#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "store", derive(serde::Serialize, serde::Deserialize))]
struct Window {
    start_ns: u64,
    samples: u64,
    /// The smallest difference, and when it was seen.
    boot_ns: i64,
    seen_ns: u64,
}

impl KernelClock {
    /// A record stamped `usec` was received at `time_ns`.
    pub fn sample(&mut self, time_ns: u64, usec: u64) {
        let window_is_over = time_ns.saturating_sub(self.now.start_ns) > WINDOW_NS;
        // A receive clock that was set back starts anew as well.
        if self.now.samples > 0 && (window_is_over || time_ns + WINDOW_NS < self.now.start_ns) {
            self.before = std::mem::take(&mut self.now);
        }
        let boot_ns = difference(time_ns, usec);
        if self.now.samples == 0 {
            self.now = Window { start_ns: time_ns, samples: 1, boot_ns, seen_ns: time_ns };
            return;
        }
        self.now.samples += 1;
        if boot_ns <= self.now.boot_ns {
            self.now.boot_ns = boot_ns;
            self.now.seen_ns = time_ns;
        }
    }

    /// The time of a record stamped `usec`, received at `time_ns`: nanoseconds since the Unix epoch, and
    /// the error.
    pub fn absolute(&self, time_ns: u64, usec: u64) -> Option<(i64, u64)> {
        let windows = [self.now, self.before];
        let best = windows.into_iter().filter(|window| window.samples > 0).min_by_key(|window| window.boot_ns)?;
        let samples = self.now.samples + self.before.samples;
        let drift_ns = time_ns.abs_diff(best.seen_ns) / DRIFT_DIVISOR;
        let error_ns = BASE_ERROR_NS + drift_ns + ONE_SAMPLE_ERROR_NS / samples;
        let since_boot_ns = i64::try_from(usec).ok()?.checked_mul(1000)?;
        Some((best.boot_ns.checked_add(since_boot_ns)?, error_ns))
    }
}

/// Saturating: a forged `usec` may be anything.
fn difference(time_ns: u64, usec: u64) -> i64 {
    let time_ns = i64::try_from(time_ns).unwrap_or(i64::MAX);
    time_ns.saturating_sub(i64::try_from(usec.saturating_mul(1000)).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT_NS: u64 = 1_700_000_000_000_000_000;

    #[test]
    fn the_quickest_way_gives_the_boot() {
        let mut clock = KernelClock::default();
        assert_eq!(clock.absolute(0, 0), None);
        // Ways of 5 ms, 300 us and 2 ms.
        for (usec, way_us) in [(1_000_000, 5000), (2_000_000, 300), (3_000_000, 2000)] {
            clock.sample(BOOT_NS + (usec + way_us) * 1000, usec);
        }
        let (ns, error_ns) = clock.absolute(BOOT_NS + 3_002_000_000, 3_000_000).unwrap();
        assert_eq!(ns, (BOOT_NS + 3_000_300_000).cast_signed());
        assert!(error_ns < 340_000_000, "{error_ns}");
    }

    #[test]
    fn the_estimate_follows_a_drift_within_its_error() {
        let mut clock = KernelClock::default();
        // The sender's clock runs 20 ppm slow: a day of one record a second.
        for second in 0..86_400_u64 {
            let true_ns = BOOT_NS + second * 1_000_000_000;
            let usec = second * 1_000_000 - second * 20;
            clock.sample(true_ns + 200_000, usec);
            let (ns, error_ns) = clock.absolute(true_ns + 200_000, usec).unwrap();
            assert!(ns.abs_diff(true_ns.cast_signed()) <= error_ns, "{second}");
        }
    }

    #[test]
    fn forged_stamps_do_not_overflow() {
        let mut clock = KernelClock::default();
        clock.sample(0, u64::MAX);
        clock.sample(u64::MAX, 0);
        assert_eq!(clock.absolute(0, u64::MAX), None);
    }
}

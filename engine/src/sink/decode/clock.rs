//! A kernel's clock against ours: netconsole stamps records with microseconds since the sender's boot.
//!
//! `receive time - kernel time` is the moment of the boot plus the way that the datagram took. The way
//! is never negative, so the smallest difference over a window is the best estimate of the boot; two
//! windows in turn let the estimate follow clocks that drift apart.
//!
//! The estimate is never too early, and too late by the delay of the quickest datagram. Where that one came as soon as it
//! was stamped, this is next to nothing; not so in a burst of old records, which a sender that boots or that netconsole
//! is switched on at sends as fast as it can. Records like that come closer together than their stamps are. So a clock
//! is *settled* once stamps have gone on by a second in no less than that (an eighth forgiven); until then the error is
//! [`BACKLOG_NS`], as nobody can tell how old its records are.
//!
//! Limits: a sender with a backlog of more than [`BACKLOG_NS`], whose last record is old as well, is believed too early;
//! so is a backlog that is held up on its way by as much as its stamps go on. What is in Parquet before a clock has
//! settled keeps its large error.

/// Length of a window, in nanoseconds of receive time.
const WINDOW_NS: u64 = 60_000_000_000;
/// Stamps are taken once a burst, and the kernel sends after it stamps.
const BASE_ERROR_NS: u64 = 1_000_000;
/// Drift that two clocks may have against each other: 50 ppm, as a divisor.
const DRIFT_DIVISOR: u64 = 20_000;
/// The error of a settled estimate from one sample.
const ONE_SAMPLE_ERROR_NS: u64 = 1_000_000_000;
/// The error until a clock has settled: the oldest that a sender's first records are taken for.
pub(crate) const BACKLOG_NS: u64 = 3_600_000_000_000;
/// Stamps that have gone on by this much at the pace of time settle a clock.
const SETTLES_NS: u64 = 1_000_000_000;

/// The estimate for one source.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "store", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct KernelClock {
    now: Window,
    before: Window,
    #[cfg_attr(feature = "store", serde(default))]
    pace: Pace,
}

/// Whether records come as they are made, or faster: then they have waited.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "store", derive(serde::Serialize, serde::Deserialize))]
enum Pace {
    #[default]
    Unknown,
    /// Since this record, received at `time_ns`, none came faster than it was made.
    Since {
        time_ns: u64,
        usec: u64,
    },
    Settled,
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
        self.pace.sample(time_ns, usec);
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
        let known_ns = if matches!(self.pace, Pace::Settled) { ONE_SAMPLE_ERROR_NS / samples } else { BACKLOG_NS };
        let error_ns = BASE_ERROR_NS + drift_ns + known_ns;
        let since_boot_ns = i64::try_from(usec).ok()?.checked_mul(1000)?;
        Some((best.boot_ns.checked_add(since_boot_ns)?, error_ns))
    }
}

impl Pace {
    fn sample(&mut self, time_ns: u64, usec: u64) {
        let (since_ns, since_usec) = match *self {
            Pace::Settled => return,
            Pace::Unknown => (time_ns, usec),
            Pace::Since { time_ns, usec } => (time_ns, usec),
        };
        // One that was overtaken says nothing.
        let made_ns = usec.saturating_sub(since_usec).saturating_mul(1000);
        let took_ns = time_ns.saturating_sub(since_ns);
        *self = if took_ns < made_ns / 8 * 7 {
            Pace::Since { time_ns, usec }
        } else if made_ns >= SETTLES_NS {
            Pace::Settled
        } else {
            Pace::Since { time_ns: since_ns, usec: since_usec }
        };
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
    fn a_burst_of_old_records_is_within_its_error() {
        // Half an hour of records, in 20 ms; the newest is 40 s old. Then one every three seconds, 200 us on their way.
        let sent_s = 1840;
        let old = (0..1800).map(|second| (second * 1_000_000, (sent_s * 1_000_000) + second * 10));
        let live = (0..20).map(|n| (sent_s + 1 + n * 3) * 1_000_000).map(|usec| (usec, usec + 200));
        let mut clock = KernelClock::default();
        for (usec, received_us) in old.chain(live) {
            let time_ns = BOOT_NS + received_us * 1000;
            clock.sample(time_ns, usec);
            let (ns, error_ns) = clock.absolute(time_ns, usec).unwrap();
            let truth_ns = (BOOT_NS + usec * 1000).cast_signed();
            assert!(ns.abs_diff(truth_ns) <= error_ns, "{usec}: {} > {error_ns}", ns.abs_diff(truth_ns));
            // The second live one has shown that these are live.
            let settled = usec > (sent_s + 2) * 1_000_000;
            assert_eq!(error_ns < 2_000_000_000, settled, "{usec}: {error_ns}");
        }
        let (ns, error_ns) = clock.absolute(BOOT_NS + 1_900_000_200_000, 1_900_000_000).unwrap();
        assert_eq!(ns, (BOOT_NS + 1_900_000_200_000).cast_signed(), "by the quickest");
        assert!(error_ns < 20_000_000, "{error_ns}");
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

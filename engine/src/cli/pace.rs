//! So many a second, and no more.

use std::{
    num::NonZeroU64,
    str::FromStr,
    time::{Duration, Instant},
};

use netpoll::netpoll::Netpoll;

use super::stop::Stop;

/// Lines a second; `None`: no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate(pub(super) Option<u64>);

/// Shortest sleep: what is due in between is sent in one go.
const STEP: Duration = Duration::from_millis(1);
/// Between two looks at a full ring.
const ROOM_STEP: Duration = Duration::from_micros(100);
/// Most lines between two looks at the clock.
const MOST: u64 = 1024;
/// As good as no limit, and safe to calculate with: a hundred years.
const FOR_EVER: Duration = Duration::from_secs(100 * 366 * 86_400);
/// What is forgiven at once.
const LAG: Duration = Duration::from_millis(100);
/// Who is behind at the end gets this much longer to catch up.
const CATCH_UP: Duration = Duration::from_secs(1);

impl FromStr for Rate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Rate, Self::Err> {
        let strict = text.bytes().all(|b| b.is_ascii_digit());
        match (text, text.parse::<NonZeroU64>()) {
            ("max", _) => Ok(Rate(None)),
            (_, Ok(rate)) if strict && rate.get() <= 1_000_000_000 => Ok(Rate(Some(rate.get()))),
            _ => Err("expected lines a second, 1 to 1000000000, or `max`"),
        }
    }
}

impl Rate {
    /// Part number `part` of `parts`; all parts together are the whole.
    pub(super) fn share(self, parts: usize, part: usize) -> Rate {
        let (parts, part) = (parts as u64, part as u64);
        Rate(self.0.map(|rate| rate * (part + 1) / parts - rate * part / parts))
    }

    /// Starts at `start` and ends `takes` later.
    pub(super) fn start(self, start: Instant, takes: Duration) -> Pace {
        Pace { rate: self.0, start, takes: takes.min(FOR_EVER), done: 0 }
    }
}

/// How far a sender is, and should be.
#[derive(Debug)]
pub(super) struct Pace {
    rate: Option<u64>,
    start: Instant,
    takes: Duration,
    done: u64,
}

impl Pace {
    /// How many are due now, at least one: sleeps until it is so. `None`: the end was asked for, or the time is over
    /// and all are done, or it is long over.
    pub(super) fn due(&self, stop: &Stop) -> Option<u64> {
        while !stop.asked() {
            let elapsed = self.start.elapsed();
            let Some(rate) = self.rate else {
                return (elapsed < self.takes).then_some(MOST);
            };
            // The first one is due at once.
            let all = per(rate, self.takes);
            let due = (1 + per(rate, elapsed)).min(all);
            if self.done < due && elapsed < self.takes + CATCH_UP {
                return Some((due - self.done).min(MOST));
            }
            if elapsed >= self.takes {
                return None;
            }
            std::thread::sleep(STEP);
        }
        None
    }

    /// Lets who is more than [`LAG`] behind, having had nothing to do, go on at the rate and not catch up.
    pub(super) fn forgive(&mut self) {
        if let Some(rate) = self.rate
            && per(rate, self.start.elapsed()) > self.done + per(rate, LAG)
        {
            (self.start, self.done) = (Instant::now(), 0);
        }
    }

    /// `count` more are done.
    pub(super) fn done(&mut self, count: u64) {
        self.done += count;
    }
}

/// How many frames `client` takes now into its ring of `ring_frames`, at least one: sleeps until there is room. `None`:
/// the end was asked for. A sender that may wait as long as it takes does so here, off the CPU that the poll loop needs.
pub(super) fn room(client: &Netpoll, ring_frames: usize, stop: &Stop) -> Option<u64> {
    while !stop.asked() {
        let room = (ring_frames as u64).saturating_sub(client.stats().queued);
        if room > 0 {
            return Some(room);
        }
        std::thread::sleep(ROOM_STEP);
    }
    None
}

/// How many `rate` a second make in `time`.
fn per(rate: u64, time: Duration) -> u64 {
    (u128::from(rate) * time.as_micros() / 1_000_000) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_strict_and_parts_add_up() {
        assert_eq!("max".parse(), Ok(Rate(None)));
        assert_eq!("100".parse(), Ok(Rate(Some(100))));
        for bad in ["", "0", "-1", "+1", "1e6", "Max", "1000000001"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad:?}");
        }
        for (rate, parts) in [(100_000, 8), (7, 3), (2, 5)] {
            let sum: u64 = (0..parts).filter_map(|part| Rate(Some(rate)).share(parts, part).0).sum();
            assert_eq!(sum, rate);
        }
    }

    #[test]
    fn exactly_as_many_as_the_rate_makes() {
        let stop = Stop::new();
        let mut pace = Rate(Some(1000)).start(Instant::now(), Duration::from_millis(50));
        let mut sum = 0;
        while let Some(due) = pace.due(&stop) {
            assert!(sum > 0 || due == 1, "the first one by itself, not {due}");
            sum += due;
            pace.done(due);
        }
        assert_eq!(sum, 50);
        // A part of nothing has nothing to do.
        assert_eq!(Rate(Some(0)).start(Instant::now(), Duration::ZERO).due(&stop), None);
    }

    #[test]
    fn who_is_far_behind_gives_up() {
        let stop = Stop::new();
        let long_ago = Instant::now() - Duration::from_secs(10);
        assert_eq!(Rate(Some(1000)).start(long_ago, Duration::from_secs(1)).due(&stop), None);
        assert_eq!(Rate(None).start(long_ago, Duration::from_secs(1)).due(&stop), None);
    }
}

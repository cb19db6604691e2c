//! When frames are due.
//!
//! Each frame has its time from the start: when all frames before it have taken theirs at the load. So errors do not add up, a
//! time makes an exact number of frames, and several threads that share the frames out keep to one schedule. A
//! sender looks at the clock, sends all that is due, and waits for the next: asleep while it is far off, then watching the
//! clock. It catches up with what it missed; how late it was is measured.

use std::time::{Duration, Instant};

use super::{super::stop::Stop, load::Load};

/// Nearer than this no sleep ends in time: the kernel wakes a thread 50 us late (its timer slack), and has to find a core.
const SLEEP_MARGIN: Duration = Duration::from_micros(150);
/// Nearer than this the CPU is not given to others either.
const YIELD_MARGIN: Duration = Duration::from_micros(10);
/// Longest sleep: a stop signal must not wait longer.
const LONGEST_SLEEP: Duration = Duration::from_millis(20);
/// As good as for ever, and safe to calculate with: a hundred years.
pub(super) const FOR_EVER: Duration = Duration::from_secs(100 * 366 * 86_400);

/// A sender's times.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    load: Load,
    start: Instant,
    takes: Duration,
    /// Who is behind when the time is over gets this much longer to catch up.
    catch_up: Duration,
    /// The last frame that is due in this time comes after so much, in the load's unit.
    end: u64,
}

/// What a sender may do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Send the frames that come after at most `upto`, in the load's unit; the first one is `late`.
    Now { upto: u64, late: Duration },
    /// The end was asked for, or the time is over and all are done, or it is long over.
    Over,
}

impl Schedule {
    /// Starts at `start`; frames that are due before it has taken `takes` are sent, those that are late for up to `catch_up`
    /// after that.
    pub(super) fn new(load: Load, start: Instant, takes: Duration, catch_up: Duration) -> Schedule {
        let takes = takes.min(FOR_EVER);
        // The last u with u / rate < takes: one less than takes * rate, rounded up.
        let end = load.per_second().map_or(u64::MAX, |rate| {
            let all = (u128::from(rate) * takes.as_nanos()).div_ceil(NS);
            u64::try_from(all.saturating_sub(1)).unwrap_or(u64::MAX)
        });
        let nothing = load.per_second() == Some(0) || takes.is_zero();
        Schedule { load, start, takes: if nothing { Duration::ZERO } else { takes }, catch_up, end }
    }

    /// Whether frames have times.
    pub(super) fn is_bound(&self) -> bool {
        self.load.per_second().is_some()
    }

    /// How long it goes on.
    pub(super) fn takes(&self) -> Duration {
        self.takes
    }

    /// Waits until the frame is due that comes after `before`, in the load's unit.
    pub(super) fn wait(&self, before: u64, stop: &Stop) -> Due {
        while !stop.asked() {
            let elapsed = Instant::now().checked_duration_since(self.start);
            match elapsed {
                None => pause(self.start.saturating_duration_since(Instant::now())),
                Some(elapsed) => match self.at(elapsed, before) {
                    Ok(due) => return due,
                    Err(wait) => pause(wait),
                },
            }
        }
        Due::Over
    }

    /// What is due `elapsed` after the start, where the next frame comes after `before`; if nothing is, how long it is until
    /// then.
    fn at(&self, elapsed: Duration, before: u64) -> Result<Due, Duration> {
        let Some(rate) = self.load.per_second() else {
            let due = Due::Now { upto: u64::MAX, late: Duration::ZERO };
            return Ok(if elapsed < self.takes { due } else { Due::Over });
        };
        if self.takes.is_zero() || before > self.end || elapsed >= self.takes + self.catch_up {
            return Ok(Due::Over);
        }
        let next = nanos((u128::from(before) * NS).div_ceil(rate.into()));
        match elapsed.checked_sub(next) {
            Some(late) => {
                let upto = u64::try_from(u128::from(rate) * elapsed.as_nanos() / NS).unwrap_or(u64::MAX);
                Ok(Due::Now { upto: upto.min(self.end), late })
            }
            None => Err(next - elapsed),
        }
    }

    /// Whether all that was due in its time was sent, where the next frame comes after `before`. Always so without a bound.
    pub(super) fn is_complete(&self, before: u64) -> bool {
        self.load.per_second().is_none() || self.takes.is_zero() || before > self.end
    }
}

/// Waits until `at` after `start`; how late it is then, or `None` where the end was asked for.
pub(super) fn wait_until(start: Instant, at: Duration, stop: &Stop) -> Option<Duration> {
    let due = start + at.min(FOR_EVER);
    while !stop.asked() {
        let now = Instant::now();
        if let Some(late) = now.checked_duration_since(due) {
            return Some(late);
        }
        pause(due - now);
    }
    None
}

/// One step of a wait that takes about `left`.
fn pause(left: Duration) {
    match left.checked_sub(SLEEP_MARGIN) {
        Some(sleep) => std::thread::sleep(sleep.min(LONGEST_SLEEP)),
        None if left > YIELD_MARGIN => std::thread::yield_now(),
        None => std::hint::spin_loop(),
    }
}

const NS: u128 = 1_000_000_000;

fn nanos(ns: u128) -> Duration {
    Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CATCH_UP: Duration = Duration::from_secs(1);

    /// The times at which frames of so many units go that a schedule lets go when its clock is looked at at `looks`.
    fn frames(schedule: &Schedule, looks: impl Iterator<Item = Duration>, units: u64) -> Vec<Duration> {
        let (mut frames, mut before) = (Vec::new(), 0);
        for look in looks {
            match schedule.at(look, before) {
                Ok(Due::Now { upto, .. }) => {
                    while before <= upto {
                        frames.push(look);
                        before += units;
                    }
                }
                Ok(Due::Over) => break,
                Err(_) => {}
            }
        }
        assert!(schedule.is_complete(before));
        frames
    }

    proptest! {
        /// However the clock is looked at: exactly as many as the rate makes, none early.
        #[test]
        fn the_count_is_exact_and_nothing_is_early(rate in 1_u64..100_000, takes_us in 1_u64..1_000_000, step_us in 1_u64..50_000) {
            let takes = Duration::from_micros(takes_us);
            let schedule = Schedule::new(Load::Frames(rate), Instant::now(), takes, CATCH_UP);
            let looks = (0..).map(|n| Duration::from_micros(n * step_us)).take_while(|at| *at < takes + Duration::from_millis(900));
            // The last look comes in any case, within what is allowed to catch up.
            let frames = frames(&schedule, looks.chain([takes + Duration::from_millis(950)]), 1);
            let expected = (u128::from(rate) * u128::from(takes_us)).div_ceil(1_000_000);
            prop_assert_eq!(frames.len() as u128, expected);
            for (number, look) in frames.iter().enumerate() {
                prop_assert!(look.as_nanos() * u128::from(rate) >= number as u128 * NS, "frame {} at {:?}", number, look);
            }
        }
    }

    #[test]
    fn bits_are_those_on_the_wire() {
        // 672 bits a frame of 64 bytes: 1 Mbit/s are 1488.1 frames.
        let schedule = Schedule::new(Load::Bits(1_000_000), Instant::now(), Duration::from_secs(1), CATCH_UP);
        let looks = (0..=1_000).map(Duration::from_millis);
        assert_eq!(frames(&schedule, looks, 672).len(), 1489);
    }

    #[test]
    fn lateness_is_against_the_frames_own_time() {
        let schedule = Schedule::new(Load::Frames(1000), Instant::now(), Duration::from_secs(1), CATCH_UP);
        let at = |us| Duration::from_micros(us);
        assert_eq!(schedule.at(at(0), 0), Ok(Due::Now { upto: 0, late: at(0) }));
        assert_eq!(schedule.at(at(400), 1), Err(at(600)));
        assert_eq!(schedule.at(at(2500), 1), Ok(Due::Now { upto: 2, late: at(1500) }));
        assert!(!schedule.is_complete(1));
        // Long over: what is missing stays missing.
        assert_eq!(schedule.at(at(2_000_000), 1), Ok(Due::Over));
    }

    #[test]
    fn no_bound_and_nothing() {
        let max = Schedule::new(Load::Max, Instant::now(), Duration::from_millis(5), CATCH_UP);
        assert!(matches!(max.at(Duration::from_millis(4), 99), Ok(Due::Now { upto: u64::MAX, .. })));
        assert_eq!(max.at(Duration::from_millis(5), 99), Ok(Due::Over));
        for nothing in [
            Schedule::new(Load::Frames(0), Instant::now(), Duration::from_secs(1), CATCH_UP),
            Schedule::new(Load::Frames(5), Instant::now(), Duration::ZERO, CATCH_UP),
        ] {
            assert_eq!(nothing.wait(0, &Stop::new()), Due::Over);
            assert!(nothing.is_complete(0));
        }
        let for_ever = Schedule::new(Load::Bits(1_000_000_000_000), Instant::now(), Duration::MAX, CATCH_UP);
        assert!(matches!(for_ever.wait(0, &Stop::new()), Due::Now { .. }));
    }
}

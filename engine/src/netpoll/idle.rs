//! What a poll loop does that found nothing to do.
//!
//! Going to sleep and waking up costs 4 to 7 us of CPU time (in a virtual machine), as much as fifty frames. So a loop that
//! sleeps takes, like a NIC that moderates its interrupts, longer first sleeps where each of them gathers some frames: up
//! to a quarter of its longest sleep, and of the usual 1024 descriptors.

use std::time::Duration;

use super::urgency::Urgency;
use crate::sync;

/// What an idle loop does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdlePolicy {
    /// Polls on at once: lowest latency, a whole core.
    Busy,
    /// Polls on after a pause instruction: kinder to the other hyperthread.
    Pause,
    /// Sleeps, longer and longer up to `max`, so that a frame waits at most that long (and what the kernel takes to wake
    /// it up: 50 us are usual).
    Sleep {
        /// Longest sleep.
        max: Duration,
    },
}

impl Default for IdlePolicy {
    /// Sleeps of at most 1 ms: about one percent of a core when idle.
    fn default() -> Self {
        IdlePolicy::Sleep { max: Duration::from_millis(1) }
    }
}

/// Empty rounds before a sleeping loop starts to sleep. Few: frames that come one by one would keep the loop awake
/// between them, at a whole core's cost (of 0.5 M lines/s on a veth: 1.8 us each), while a burst waits well in the device.
const ROUNDS_BEFORE_SLEEP: u32 = 16;
/// The shortest first sleep.
const FIRST_SLEEP: Duration = Duration::from_micros(10);
/// The longest first sleep is this part of the longest sleep of all: a quarter.
const FIRST_SLEEP_DIVISOR: u32 = 4;
/// A first sleep becomes longer where it gathers this many frames or more, and not as many as are enough...
const WORTH_MORE_FRAMES: usize = 16;
const ENOUGH_FRAMES: usize = 96;
/// ... and shorter where they are fewer, or so many that a ring might overflow.
const MANY_FRAMES: usize = 256;

/// An idle loop's memory of what its sleeps were worth.
#[derive(Debug)]
pub(super) struct Idler {
    policy: IdlePolicy,
    empty_rounds: u32,
    /// How long it sleeps first.
    first: Duration,
    /// Frames since it went to sleep.
    gathered: usize,
    urgency: Urgency,
}

impl Idler {
    pub(super) fn new(policy: IdlePolicy, urgency: Urgency) -> Idler {
        Idler { policy, empty_rounds: 0, first: FIRST_SLEEP, gathered: 0, urgency }
    }

    /// A round moved `frames`.
    #[inline]
    pub(super) fn worked(&mut self, frames: usize) {
        self.empty_rounds = 0;
        self.gathered += frames;
        self.urgency.worked();
    }

    /// A round moved none: does what the policy says.
    #[inline]
    pub(super) fn idle(&mut self) {
        match self.policy {
            IdlePolicy::Busy => {}
            IdlePolicy::Pause => std::hint::spin_loop(),
            IdlePolicy::Sleep { max } => match self.next_sleep(max) {
                None => std::hint::spin_loop(),
                Some(sleep) => {
                    self.urgency.sleeps();
                    sync::sleep(sleep);
                }
            },
        }
    }

    /// How long to sleep now, if at all.
    fn next_sleep(&mut self, max: Duration) -> Option<Duration> {
        self.empty_rounds = self.empty_rounds.saturating_add(1);
        let sleeps = self.empty_rounds.checked_sub(ROUNDS_BEFORE_SLEEP + 1)?;
        if sleeps == 0 {
            let longest = (max / FIRST_SLEEP_DIVISOR).max(FIRST_SLEEP);
            self.first = match std::mem::take(&mut self.gathered) {
                WORTH_MORE_FRAMES..ENOUGH_FRAMES => (self.first * 2).min(longest),
                ENOUGH_FRAMES..=MANY_FRAMES => self.first,
                _ => (self.first / 2).max(FIRST_SLEEP),
            };
        }
        let doublings = (sleeps / 4).min(16);
        Some((self.first * (1 << doublings)).min(max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Duration = Duration::from_millis(1);

    fn us(us: u64) -> Duration {
        Duration::from_micros(us)
    }

    /// The first sleep after `frames` frames.
    fn first(idler: &mut Idler, frames: usize) -> Duration {
        idler.worked(frames);
        for round in 0..ROUNDS_BEFORE_SLEEP {
            assert_eq!(idler.next_sleep(MAX), None, "round {round}");
        }
        idler.next_sleep(MAX).expect("it sleeps")
    }

    #[test]
    fn an_idle_loop_sleeps_longer_and_longer_up_to_its_limit() {
        let mut idler = Idler::new(IdlePolicy::default(), Urgency::default());
        let mut last = first(&mut idler, 1);
        assert_eq!(last, us(10));
        for _ in 0..100 {
            let next = idler.next_sleep(MAX).expect("it sleeps on");
            assert!(next == last || next == last * 2 || next == MAX, "{last:?}, {next:?}");
            last = next;
        }
        assert_eq!(last, MAX);
        assert_eq!(first(&mut idler, 1), us(10), "a frame begins anew");
    }

    #[test]
    fn first_sleeps_follow_what_they_gather() {
        let mut idler = Idler::new(IdlePolicy::default(), Urgency::default());
        let sleeps: Vec<_> = [3, 16, 95, 96, 256, 50, 50, 50, 50].map(|frames| first(&mut idler, frames)).into();
        assert_eq!(sleeps, [10, 20, 40, 40, 40, 80, 160, 250, 250].map(us));
        assert_eq!(first(&mut idler, 257), us(125), "a ring might overflow");
        assert_eq!(first(&mut idler, 15), us(62) + Duration::from_nanos(500), "not worth the wait");
        for _ in 0..9 {
            first(&mut idler, 1);
        }
        assert_eq!(first(&mut idler, 1), us(10));
    }

    #[test]
    fn no_sleep_is_longer_than_the_limit() {
        for limit in [us(1), us(10), us(200)] {
            let mut idler = Idler::new(IdlePolicy::Sleep { max: limit }, Urgency::default());
            for round in 0..1000 {
                if round % 40 == 0 {
                    idler.worked(64);
                }
                assert!(idler.next_sleep(limit).is_none_or(|sleep| sleep <= limit));
            }
        }
    }
}

//! When a poll loop goes before everything else on its CPU.
//!
//! A loop that sleeps, on a CPU that it shares, waits when it wakes up: the kernel lets whoever runs finish its slice, and looks at
//! that once a tick, 2 to 4 ms. A device holds what comes in 3 ms. As a real-time thread the loop runs at once. But one that finds
//! work all the time would leave nothing to others, also not to those who store what it receives: so a loop that has not slept for
//! [`AWAKE_LIMIT`] is a thread like any other, until it sleeps again.

use std::{
    fmt,
    time::{Duration, Instant},
};

/// How long a loop may stay awake and go before others.
const AWAKE_LIMIT: Duration = Duration::from_millis(20);
/// The clock is read once in so many rounds that found work.
const ROUNDS_A_LOOK: u32 = 64;

/// Makes the calling thread a real-time one, or an ordinary one again; whether it is then.
type Set = Box<dyn FnMut(bool) -> bool + Send>;

/// What the loop is now. The default never changes it.
#[derive(Default)]
pub(super) struct Urgency {
    set: Option<Set>,
    urgent: bool,
    awake_since: Option<Instant>,
    rounds: u32,
}

impl Urgency {
    pub(super) fn by(set: impl FnMut(bool) -> bool + Send + 'static) -> Urgency {
        Urgency { set: Some(Box::new(set)), ..Urgency::default() }
    }

    /// The loop goes to sleep: whatever wakes it shall find it first in line.
    pub(super) fn sleeps(&mut self) {
        self.awake_since = None;
        self.rounds = 0;
        if !self.urgent {
            self.take(true);
        }
    }

    /// A round found work.
    #[inline]
    pub(super) fn worked(&mut self) {
        if self.urgent {
            self.rounds += 1;
            if self.rounds.is_multiple_of(ROUNDS_A_LOOK) {
                self.look(Instant::now());
            }
        }
    }

    #[cold]
    fn look(&mut self, now: Instant) {
        if now.duration_since(*self.awake_since.get_or_insert(now)) > AWAKE_LIMIT {
            self.take(false);
        }
    }

    fn take(&mut self, urgent: bool) {
        if let Some(set) = &mut self.set {
            if set(urgent) {
                self.urgent = urgent;
            } else {
                // It will not be better the next time.
                self.set = None;
            }
        }
    }
}

/// The thread outlives the loop.
impl Drop for Urgency {
    fn drop(&mut self) {
        if self.urgent {
            self.take(false);
        }
    }
}

impl fmt::Debug for Urgency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Urgency").field("urgent", &self.urgent).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Changes, and what they were.
    fn watched(allowed: bool) -> (Urgency, impl Fn() -> Vec<bool>) {
        let changes = Arc::<Mutex<Vec<bool>>>::default();
        let seen = changes.clone();
        let urgency = Urgency::by(move |urgent| {
            seen.lock().unwrap().push(urgent);
            allowed
        });
        (urgency, move || std::mem::take(&mut *changes.lock().unwrap()))
    }

    #[test]
    fn first_in_line_from_its_first_sleep_on_until_it_does_not_sleep_any_more() {
        let (mut urgency, changes) = watched(true);
        for _ in 0..1000 {
            urgency.worked();
        }
        assert!(changes().is_empty(), "busy from the start");
        urgency.sleeps();
        urgency.sleeps();
        assert_eq!(changes(), [true]);
        let woke = Instant::now();
        for after_ms in [0, 10, 20] {
            urgency.look(woke + Duration::from_millis(after_ms));
        }
        urgency.sleeps();
        for after_ms in [15, 25, 35] {
            urgency.look(woke + Duration::from_millis(after_ms));
        }
        assert!(changes().is_empty(), "it slept between");
        urgency.look(woke + Duration::from_millis(36));
        assert_eq!(changes(), [false]);
        urgency.sleeps();
        assert_eq!(changes(), [true]);
        drop(urgency);
        assert_eq!(changes(), [false], "the thread is given back as it was");
    }

    #[test]
    fn a_loop_at_work_looks_at_the_clock_by_itself() {
        let (mut urgency, changes) = watched(true);
        urgency.sleeps();
        let begin = Instant::now();
        while begin.elapsed() < 2 * AWAKE_LIMIT {
            urgency.worked();
        }
        assert_eq!(changes(), [true, false]);
    }

    #[test]
    fn who_may_not_asks_once() {
        let (mut urgency, changes) = watched(false);
        urgency.sleeps();
        urgency.sleeps();
        drop(urgency);
        assert_eq!(changes(), [true]);
        Urgency::default().sleeps();
    }
}

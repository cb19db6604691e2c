//! How much of the CPU the converter takes.
//!
//! It has time: what it converts is stored already. On a CPU that it shares with a polling lcore, though, a moment of its work is a
//! moment in which nobody receives, and some devices hold no more than 3 ms of frames. So while it keeps up it works in the gaps
//! that others leave ([`Share::Gaps`]). Gaps alone may be nothing at all on a machine that is busy: once it has waited for [`PATIENCE`]
//! it takes its ordinary share, until there is nothing left to convert.

use std::{
    fmt,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

/// Time without a CPU, or on a disk, in one stretch of work, before it is as urgent as anything else.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a thread gets of a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// As much as any other thread.
    Ordinary,
    /// What others leave.
    Gaps,
}

/// Sets the calling thread's share.
type Set = Box<dyn FnMut(Share) + Send>;

/// Chooses the share. The default never changes it.
#[derive(Default)]
pub(super) struct Pace {
    set: Option<Set>,
    share: Option<Share>,
    work: Option<Work>,
}

/// A stretch of work: when it began, by the clock and by the thread's own CPU time.
#[derive(Clone, Copy, Debug)]
struct Work {
    began: Instant,
    cpu: Duration,
}

impl Work {
    /// How long the thread has wanted to go on and could not.
    fn waited(self, now: Instant, cpu: Duration) -> Duration {
        now.saturating_duration_since(self.began).saturating_sub(cpu.saturating_sub(self.cpu))
    }
}

impl Pace {
    pub(super) fn by(set: impl FnMut(Share) + Send + 'static) -> Pace {
        Pace { set: Some(Box::new(set)), share: None, work: None }
    }

    /// There may be work.
    pub(super) fn begin(&mut self) {
        if self.set.is_some() && self.work.is_none() {
            self.take(Share::Gaps);
            self.work = Some(Work { began: Instant::now(), cpu: own_cpu_time() });
        }
    }

    /// In the middle of it, often.
    #[inline]
    pub(super) fn breathe(&mut self) {
        // The thread's CPU time takes a system call: asked only where it can matter.
        if let Some(work) = self.work
            && self.share == Some(Share::Gaps)
            && work.began.elapsed() > PATIENCE
        {
            self.look(work, Instant::now(), own_cpu_time());
        }
    }

    fn look(&mut self, work: Work, now: Instant, cpu: Duration) {
        if work.waited(now, cpu) > PATIENCE {
            self.take(Share::Ordinary);
        }
    }

    /// There is nothing to do any more.
    pub(super) fn rest(&mut self) {
        self.work = None;
    }

    /// Somebody waits for the end.
    pub(super) fn hurry(&mut self) {
        self.take(Share::Ordinary);
    }

    fn take(&mut self, share: Share) {
        if let Some(set) = &mut self.set
            && self.share.replace(share) != Some(share)
        {
            set(share);
        }
    }
}

impl fmt::Debug for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pace").field("share", &self.share).field("work", &self.work).finish_non_exhaustive()
    }
}

fn own_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn gaps_until_it_has_waited_too_long_and_again_when_all_is_done() {
        let shares = Arc::<Mutex<Vec<Share>>>::default();
        let seen = shares.clone();
        let mut pace = Pace::by(move |share| seen.lock().unwrap().push(share));
        let took = || std::mem::take(&mut *shares.lock().unwrap());
        pace.begin();
        assert_eq!(took(), [Share::Gaps]);
        let work = pace.work.unwrap();
        let second = Duration::from_secs(1);
        pace.look(work, work.began + 60 * second, work.cpu + 56 * second);
        assert_eq!(took(), [], "a minute's work, with a CPU nearly all the time");
        pace.look(work, work.began + 7 * second, work.cpu + second);
        assert_eq!(took(), [Share::Ordinary], "six seconds without");
        pace.begin();
        pace.breathe();
        assert_eq!(took(), [], "as long as there is work");
        pace.rest();
        pace.begin();
        assert_eq!(took(), [Share::Gaps]);
        pace.hurry();
        pace.hurry();
        assert_eq!(took(), [Share::Ordinary]);
    }

    #[test]
    fn by_default_the_share_is_nobodys_business() {
        let mut pace = Pace::default();
        pace.begin();
        pace.breathe();
        pace.hurry();
        assert_eq!((pace.share, pace.work.is_none()), (None, true));
    }

    #[test]
    fn a_thread_that_sleeps_uses_no_cpu_time() {
        let work = Work { began: Instant::now(), cpu: own_cpu_time() };
        let pause = Duration::from_millis(30);
        std::thread::sleep(pause);
        let waited = work.waited(Instant::now(), own_cpu_time());
        assert!(waited > pause / 2, "{waited:?}");
    }
}

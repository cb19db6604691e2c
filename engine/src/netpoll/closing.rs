//! Closing a client that several threads send through: afterwards none of them is on its way into the ring.
//!
//! A sender counts itself in, then looks whether it is too late; who closes says so, then waits for those that are counted.
//! Both touch the count by read-modify-write, of which one comes first: if it is the sender's, `close` sees it and waits;
//! if it is `close`'s, the sender's reads from it, and sees `closed`. So a frame is either in the ring when `close` returns,
//! where the clean-up finds and counts it, or it is refused.
//!
//! Labels: `C1` pairs with `C2` (closed), `C3` with `C4` (through).

use crate::sync::{AtomicBool, AtomicU32, Ordering, yield_now};

/// Whether a client is closed, and the senders that are inside.
#[derive(Debug)]
pub(crate) struct Closing {
    /// Written once, by the clean-up; read by senders. Relaxed: `senders` orders it (C1, C2).
    closed: AtomicBool,
    /// Threads inside of [`Closing::enter`]: written by them, read by the clean-up.
    senders: AtomicU32,
}

impl Closing {
    pub(crate) fn new() -> Self {
        Self { closed: AtomicBool::new(false), senders: AtomicU32::new(0) }
    }

    /// Whether it is closed, for who cannot be sending meanwhile, or is about to give up.
    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        // Relaxed: a sender of its own is not there while it is closed (`&mut`), and who waits looks again.
        self.closed.load(Ordering::Relaxed)
    }

    /// Runs `send` with [`Closing::close`] waiting for its end; `None` where it is closed.
    #[inline]
    pub(crate) fn enter<R>(&self, send: impl FnOnce() -> R) -> Option<R> {
        // C2: Acquire, pairs with C1: behind it, `closed` is seen.
        self.senders.fetch_add(1, Ordering::Acquire);
        let result = if self.closed.load(Ordering::Relaxed) { None } else { Some(send()) };
        // C3: Release, so that who sees this count finds what was sent in the ring.
        self.senders.fetch_sub(1, Ordering::Release);
        result
    }

    /// No more submissions from now on; returns once those under way are through.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        // C1: Release, pairs with C2; a write even where it changes nothing, for the sender's to read from. C4: Acquire,
        // pairs with C3.
        while self.senders.fetch_add(0, Ordering::AcqRel) > 0 {
            yield_now();
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::{
        sync::{Arc, atomic::AtomicUsize},
        thread,
    };

    /// So many senders while the client is cleaned up: what was queued is there for the clean-up to count, the rest was
    /// refused.
    fn clean_up_under(senders: usize) {
        let closing = Arc::new(Closing::new());
        // Relaxed: a ring that orders nothing, so that the protocol alone has to.
        let ring = Arc::new(AtomicUsize::new(0));
        let senders: Vec<_> = (0..senders)
            .map(|_| {
                let (closing, ring) = (closing.clone(), ring.clone());
                thread::spawn(move || closing.enter(|| ring.fetch_add(1, Ordering::Relaxed)).is_some())
            })
            .collect();
        closing.close();
        let found = ring.load(Ordering::Relaxed);
        let queued = senders.into_iter().map(|sender| usize::from(sender.join().unwrap())).sum::<usize>();
        assert_eq!(found, queued, "queued after the last look");
        assert!(closing.enter(|| ()).is_none(), "closed for good");
    }

    /// Every interleaving of one sender with the clean-up.
    ///
    /// Seen to fail with C1 a load, C1 Acquire alone, C2 Relaxed, C3 Relaxed, C4 Release alone, and with the sender's look
    /// at `closed` before it is counted.
    #[test]
    fn nothing_is_queued_behind_the_clean_up() {
        loom::model(|| clean_up_under(1));
    }

    /// Two senders, whose counts are on top of each other. A thread is preempted at most twice where it need not wait: all
    /// interleavings take minutes, and each of the faults above, which all need one preemption between two steps of a
    /// sender, is found with two.
    #[test]
    fn nothing_is_queued_behind_the_clean_up_of_two_senders() {
        let mut bounded = loom::model::Builder::new();
        bounded.preemption_bound = Some(2);
        bounded.check(|| clean_up_under(2));
    }
}

//! The poll gate: `poll_lock` and `poll_owner`.
//!
//! Whoever wants to poll a queue passes through here, whether it is the lcore's poll loop, a client's
//! own `Netpoll::poll`, or a control thread that changes something. Nobody waits: who does not get in
//! goes on. Getting in costs one uncontended compare-exchange.
//!
//! Rules, from the 2005 patch and its first footnote:
//! - `poll_owner` is set after `poll_lock` is taken and cleared *before* it is released;
//! - an lcore that finds itself the owner does not enter again, so a poll never recurses.

use crate::{
    ids::LcoreId,
    sync::{AtomicU32, Mutex, MutexGuard, Ordering, TryLockError},
};

/// No lcore owns the gate.
const NO_OWNER: u32 = u32::MAX;

/// The id under which threads enter that are no lcore: they change things, they never poll.
pub(crate) const CONTROL: LcoreId = LcoreId(u32::MAX - 1);

/// `T` behind `poll_lock`, with the lcore that holds it.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Gate<T> {
    /// Relaxed throughout: see `try_enter`.
    poll_owner: AtomicU32,
    poll_lock: Mutex<T>,
}

/// Why nobody was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The caller is inside already.
    Recursion,
    /// Someone else is inside.
    Busy,
}

impl<T> Gate<T> {
    pub(crate) fn new(inside: T) -> Self {
        Self { poll_owner: AtomicU32::new(NO_OWNER), poll_lock: Mutex::new(inside) }
    }

    /// Enters as `lcore`, or says at once why not.
    #[inline]
    pub(crate) fn try_enter(&self, lcore: LcoreId) -> Result<Entered<'_, T>, Refused> {
        // Relaxed: the only value that this load is compared with is one that this very thread would
        // have written, so there is nothing to synchronise with; `poll_lock` orders everything else.
        if self.poll_owner.load(Ordering::Relaxed) == lcore.0 && lcore != CONTROL {
            return Err(Refused::Recursion);
        }
        let inside = match self.poll_lock.try_lock() {
            Ok(inside) => inside,
            // A poller panicked: the state behind the lock is kept consistent by counts alone, and a NIC
            // that nobody polls any more would be the greater loss.
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(Refused::Busy),
        };
        self.poll_owner.store(lcore.0, Ordering::Relaxed);
        Ok(Entered { poll_owner: &self.poll_owner, inside })
    }

    /// The lcore that polls now, if any. A snapshot for people and tests.
    pub(crate) fn poll_owner(&self) -> Option<LcoreId> {
        match self.poll_owner.load(Ordering::Relaxed) {
            NO_OWNER => None,
            owner => Some(LcoreId(owner)),
        }
    }
}

/// The caller is inside the gate, and owner of it, until this is dropped.
#[derive(Debug)]
pub(crate) struct Entered<'a, T> {
    poll_owner: &'a AtomicU32,
    /// Dropped after `drop` below has run: the lock outlives the ownership.
    inside: MutexGuard<'a, T>,
}

impl<T> std::ops::Deref for Entered<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.inside
    }
}

impl<T> std::ops::DerefMut for Entered<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inside
    }
}

impl<T> Drop for Entered<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.poll_owner.store(NO_OWNER, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn owner_is_set_inside_and_cleared_before_the_lock_is_released() {
        let gate = Gate::new(0);
        assert_eq!(gate.poll_owner(), None);
        let entered = gate.try_enter(LcoreId(3)).unwrap();
        assert_eq!(gate.poll_owner(), Some(LcoreId(3)));
        assert_eq!(gate.try_enter(LcoreId(3)).unwrap_err(), Refused::Recursion);
        assert_eq!(gate.try_enter(LcoreId(4)).unwrap_err(), Refused::Busy);
        drop(entered);
        assert_eq!(gate.poll_owner(), None);
        assert!(gate.try_enter(LcoreId(4)).is_ok());
    }

    #[test]
    fn a_poller_that_panicked_does_not_close_the_gate() {
        let gate = Gate::new(7);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _entered = gate.try_enter(LcoreId(1)).unwrap();
            panic!("on purpose");
        }));
        assert!(panicked.is_err());
        assert_eq!(gate.poll_owner(), None);
        assert_eq!(*gate.try_enter(LcoreId(1)).unwrap(), 7);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::{
        sync::{Arc, atomic::AtomicUsize},
        thread,
    };

    /// Two lcores at the gate: never both inside, and whoever is inside reads itself as the owner until it
    /// leaves. (Were `poll_owner` cleared after the release, the later clear of the first would wipe out the
    /// second's ownership: the second assert inside the loop finds that.)
    #[test]
    fn one_owner_at_a_time_and_never_wiped_by_the_last_one() {
        loom::model(|| {
            let gate = Arc::new(Gate::new(()));
            let inside = Arc::new(AtomicUsize::new(0));
            let lcores: Vec<_> = (0..2)
                .map(|id| {
                    let (gate, inside) = (gate.clone(), inside.clone());
                    thread::spawn(move || {
                        for _ in 0..2 {
                            if let Ok(entered) = gate.try_enter(LcoreId(id)) {
                                assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0);
                                assert_eq!(gate.poll_owner(), Some(LcoreId(id)));
                                assert_eq!(gate.try_enter(LcoreId(id)).unwrap_err(), Refused::Recursion);
                                inside.fetch_sub(1, Ordering::Relaxed);
                                drop(entered);
                            }
                        }
                    })
                })
                .collect();
            for lcore in lcores {
                lcore.join().unwrap();
            }
            assert_eq!(gate.poll_owner(), None);
        });
    }

    /// What one owner wrote inside, the next one sees.
    #[test]
    fn the_gate_publishes_what_was_written_inside() {
        loom::model(|| {
            let gate = Arc::new(Gate::new(0_u32));
            let other = gate.clone();
            let writer = thread::spawn(move || other.try_enter(LcoreId(0)).map(|mut count| *count += 1).is_ok());
            let wrote = gate.try_enter(LcoreId(1)).map(|mut count| *count += 1).is_ok();
            let other_wrote = writer.join().unwrap();
            let total = *gate.try_enter(LcoreId(1)).unwrap();
            assert_eq!(total, u32::from(wrote) + u32::from(other_wrote));
            assert!(total >= 1, "one of two always gets in");
        });
    }
}

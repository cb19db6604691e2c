//! A queue's poll context: the gate, the mailbox and the dirty map around one [`PollState`].

use std::{cell::Cell, fmt, sync::Arc};

use super::{
    SetupError,
    dirty::DirtyMap,
    gate::{CONTROL, Entered, Gate},
    mailbox::Mailbox,
    poll::{Budget, PollState},
};
use crate::{
    LcoreId,
    port::PortIo,
    sync::{self, AtomicBool, Mutex, Ordering, PoisonError, thread_local},
};

/// The calling thread is inside a poll until this is dropped, by a panic too.
struct Inside<'a> {
    outer: bool,
    /// Relaxed, as it is in [`PollContext`].
    making_room: Option<&'a AtomicBool>,
}

impl<'a> Inside<'a> {
    #[inline]
    fn enter(making_room: Option<&'a AtomicBool>) -> Self {
        if let Some(flag) = making_room {
            flag.store(true, Ordering::Relaxed);
        }
        Inside { outer: IN_POLL.with(|inside| inside.replace(true)), making_room }
    }
}

impl Drop for Inside<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(flag) = self.making_room {
            flag.store(false, Ordering::Relaxed); // Relaxed: as above.
        }
        IN_POLL.with(|inside| inside.set(self.outer));
    }
}

/// Clients that one poll context serves at most.
pub(crate) const MAX_CLIENTS: usize = 16_384;

thread_local! {
    static IN_POLL: Cell<bool> = const { Cell::new(false) };
}

/// Refuses what waits for a grace period where the caller is what it would wait for: inside a poll.
pub(crate) fn refuse_in_poll() -> Result<(), SetupError> {
    if IN_POLL.with(Cell::get) { Err(SetupError::InsideHook) } else { Ok(()) }
}

/// One queue's `poll_lock` and `poll_owner`, and what they guard.
pub(crate) struct PollContext<P: PortIo> {
    /// `None` once the last client has left.
    gate: Gate<Option<PollState<P>>>,
    mailbox: Mailbox<Option<PollState<P>>>,
    pub(crate) dirty: Arc<DirtyMap>,
    /// `RX_DROP`, of this queue. Relaxed: for who looks; the poll itself is told.
    making_room: AtomicBool,
}

impl<P: PortIo> PollContext<P> {
    pub(crate) fn new(state: PollState<P>) -> Self {
        Self {
            dirty: state.dirty.clone(),
            gate: Gate::new(Some(state)),
            mailbox: Mailbox::new(),
            making_room: AtomicBool::new(false),
        }
    }

    /// One poll as `lcore`: changes, then receive, answers, hook and send within `budget`. The work done in
    /// frames; `None` where someone is inside already (the caller itself, perhaps) or the context is closed.
    #[inline]
    pub(crate) fn poll(&self, lcore: LcoreId, budget: Budget, make_room: bool) -> Option<usize> {
        let mut entered = self.gate.try_enter(lcore).ok()?;
        self.apply_news(&mut entered);
        let state = entered.as_mut()?;
        let _inside = Inside::enter(make_room.then_some(&self.making_room));
        Some(state.poll(budget, make_room))
    }

    /// Runs `change` on the state, on whatever thread is next inside the gate, and returns its answer once that was
    /// done: a grace period. The caller has made sure with [`refuse_in_poll`] that it is not inside a poll itself.
    ///
    /// # Panics
    /// Where the state was taken out: changes come from the port's set-up lock, under which it was.
    pub(crate) fn change<R: Send + 'static>(&self, change: impl FnOnce(&mut PollState<P>) -> R + Send + 'static) -> R {
        let answer = Arc::new(Mutex::new(None));
        let slot = answer.clone();
        let ticket = self.mailbox.post(Box::new(move |state| {
            let answer = state.as_mut().map(change);
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = answer;
        }));
        let mut rounds = 0_u32;
        while !self.mailbox.is_applied(ticket) {
            if let Ok(mut entered) = self.gate.try_enter(CONTROL) {
                self.apply_news(&mut entered);
                continue;
            }
            // The poller is inside, and applies the change at its next poll at the latest.
            sync::wait(rounds);
            rounds = rounds.saturating_add(1);
        }
        let answer = answer.lock().unwrap_or_else(PoisonError::into_inner).take();
        answer.expect("changed only while the context is in service")
    }

    /// Takes the state out, for good.
    pub(crate) fn take(&self) -> Option<PollState<P>> {
        loop {
            if let Ok(mut entered) = self.gate.try_enter(CONTROL) {
                return entered.take();
            }
            sync::yield_now();
        }
    }

    /// The lcore that polls this queue now.
    pub(crate) fn poll_owner(&self) -> Option<LcoreId> {
        self.gate.poll_owner().filter(|owner| *owner != CONTROL)
    }

    pub(crate) fn is_making_room(&self) -> bool {
        self.making_room.load(Ordering::Relaxed)
    }

    #[inline]
    fn apply_news(&self, entered: &mut Entered<'_, Option<PollState<P>>>) {
        if self.mailbox.has_news() {
            self.mailbox.apply(entered);
        }
    }
}

impl<P: PortIo> fmt::Debug for PollContext<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PollContext").field("gate", &self.gate.poll_owner()).finish_non_exhaustive()
    }
}

//! The mailbox: how anything changes while an lcore polls.
//!
//! A change is a closure over the poll state. A control thread posts it; whoever is next inside the
//! [gate](super::gate), the poll loop at its next burst or the control thread itself where nobody polls,
//! applies it. `change` returns once it was applied. That *is* the grace period: what a change took out of the
//! poll state (a hook, a client's ring) is not in use by anyone any more when `change` returns, and its
//! memory may be freed. It is what RCU gives Linux, at the price of one load of a line that nobody writes for
//! each burst.
//!
//! Labels: `M1` pairs with `M2` (posted), `M3` pairs with `M4` (applied).

use std::collections::VecDeque;

use crate::sync::{AtomicU64, Mutex, Ordering};

type Change<S> = Box<dyn FnOnce(&mut S) + Send>;

/// Changes posted and not yet applied, over a state `S` that lives behind a gate.
#[repr(align(128))]
pub(crate) struct Mailbox<S> {
    /// How many were posted: written by control threads under `changes`, read by the poller each burst.
    posted: AtomicU64,
    changes: Mutex<VecDeque<Change<S>>>,
    applied: Applied,
}

/// How many were applied, on a line of its own: written inside the gate, read by who waits.
#[repr(align(128))]
struct Applied(AtomicU64);

/// A posted change; see [`Mailbox::is_applied`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket(u64);

impl<S> Mailbox<S> {
    pub(crate) fn new() -> Self {
        Self { posted: AtomicU64::new(0), changes: Mutex::new(VecDeque::new()), applied: Applied(AtomicU64::new(0)) }
    }

    /// Posts a change. Any thread.
    pub(crate) fn post(&self, change: Change<S>) -> Ticket {
        let mut changes = self.lock();
        changes.push_back(change);
        // Relaxed: written under the lock that we hold.
        let ticket = self.posted.load(Ordering::Relaxed) + 1;
        // M1: Release, so that who reads this count finds the change in the queue (it takes the same lock too).
        self.posted.store(ticket, Ordering::Release);
        Ticket(ticket)
    }

    /// Whether something was posted that is not applied yet: the one question a burst. Only inside the gate.
    #[inline]
    pub(crate) fn has_news(&self) -> bool {
        // M2: Acquire, pairs with M1. Relaxed: `applied` is written inside the gate only, where the caller is.
        self.posted.load(Ordering::Acquire) != self.applied.0.load(Ordering::Relaxed)
    }

    /// Applies what was posted, in order. Only inside the state's gate.
    #[cold]
    pub(crate) fn apply(&self, state: &mut S) {
        let changes = std::mem::take(&mut *self.lock());
        for change in changes {
            change(state);
            // Relaxed: written inside the gate only, where we are.
            let applied = self.applied.0.load(Ordering::Relaxed) + 1;
            // M3: Release, so that who reads this count sees all that the change did to the state.
            self.applied.0.store(applied, Ordering::Release);
        }
    }

    /// Whether that change was applied: from then on nothing that it took out of the state is in use.
    pub(crate) fn is_applied(&self, ticket: Ticket) -> bool {
        // M4: Acquire, pairs with M3.
        self.applied.0.load(Ordering::Acquire) >= ticket.0
    }

    fn lock(&self) -> crate::sync::MutexGuard<'_, VecDeque<Change<S>>> {
        // Poison only says that a closure's owner panicked between push and count; neither can.
        self.changes.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl<S> std::fmt::Debug for Mailbox<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Relaxed: for people.
        let posted = self.posted.load(Ordering::Relaxed);
        f.debug_struct("Mailbox").field("posted", &posted).finish_non_exhaustive()
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::{ids::LcoreId, netpoll::gate::Gate};
    use loom::{
        sync::{Arc, atomic::AtomicBool},
        thread,
    };

    struct State {
        hook: Option<Arc<AtomicBool>>,
    }

    /// Taking down the hook: once `change` has returned to the control thread, whoever applied it, no lcore calls
    /// the hook any more, and its memory may go.
    #[test]
    fn no_call_after_the_grace_period() {
        loom::model(|| {
            let freed = Arc::new(AtomicBool::new(false));
            let gate = Arc::new(Gate::new(State { hook: Some(freed.clone()) }));
            let mailbox = Arc::new(Mailbox::<State>::new());
            let lcore = {
                let (gate, mailbox) = (gate.clone(), mailbox.clone());
                thread::spawn(move || {
                    for _ in 0..2 {
                        if let Ok(mut state) = gate.try_enter(LcoreId(0)) {
                            if mailbox.has_news() {
                                mailbox.apply(&mut state);
                            }
                            if let Some(hook) = &state.hook {
                                assert!(!hook.load(Ordering::Relaxed), "the hook was called after it was freed");
                            }
                        }
                    }
                })
            };
            // What the change did elsewhere is seen, too, once it counts as applied.
            let done = Arc::new(AtomicBool::new(false));
            let doing = done.clone();
            let ticket = mailbox.post(Box::new(move |state| {
                state.hook = None;
                doing.store(true, Ordering::Relaxed);
            }));
            while !mailbox.is_applied(ticket) {
                if let Ok(mut state) = gate.try_enter(crate::netpoll::gate::CONTROL) {
                    mailbox.apply(&mut state);
                }
                thread::yield_now();
            }
            assert!(done.load(Ordering::Relaxed), "applied before it was done");
            freed.store(true, Ordering::Relaxed);
            lcore.join().unwrap();
        });
    }
}

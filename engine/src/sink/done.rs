//! The end of a hook: the writer lets a queue go only when its last batch was taken.
//!
//! The hook pushes its last batch and then says that it is done. The writer asks for that *before* it looks into the ring:
//! a ring that is found empty then stays empty.
//!
//! Labels: `D1` pairs with `D2`. (The rings themselves are rtrb's, which tests its own orderings with loom.)

use crate::sync::{AtomicBool, Ordering};

/// Whether a hook is gone. Written once, by the hook, last of all; read by the writer.
#[derive(Debug)]
pub(super) struct Done(AtomicBool);

/// What a look into a hook's ring came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken<T> {
    /// The next batch.
    One(T),
    /// Nothing now.
    Nothing,
    /// Nothing, and never again.
    Over,
}

impl Done {
    pub(super) fn new() -> Done {
        Done(AtomicBool::new(false))
    }

    /// The hook is gone and has handed over all that it had.
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Release); // D1
    }

    /// Takes the next batch out of the ring, by `pop`.
    pub(super) fn take<T>(&self, pop: impl FnOnce() -> Option<T>) -> Taken<T> {
        // D2: Acquire, and before the ring is looked at: what the hook sent before it was done is in there now.
        let done = self.0.load(Ordering::Acquire);
        match pop() {
            Some(one) => Taken::One(one),
            None if done => Taken::Over,
            None => Taken::Nothing,
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

    /// A hook hands over two batches and goes, while the writer sweeps: it takes both before it lets the queue go.
    ///
    /// Seen to fail with D1 Relaxed, with D2 Relaxed, and with D2 behind the look into the ring.
    #[test]
    fn the_last_batch_is_taken_before_the_queue_is_let_go() {
        loom::model(|| {
            let done = Arc::new(Done::new());
            // Batches pushed. Relaxed: a ring that orders nothing, so that D1 and D2 have to.
            let pushed = Arc::new(AtomicUsize::new(0));
            let hook = {
                let (done, pushed) = (done.clone(), pushed.clone());
                thread::spawn(move || {
                    pushed.store(1, Ordering::Relaxed);
                    pushed.store(2, Ordering::Relaxed);
                    done.set();
                })
            };
            let mut taken = 0;
            loop {
                match done.take(|| (pushed.load(Ordering::Relaxed) > taken).then_some(())) {
                    Taken::One(()) => taken += 1,
                    Taken::Nothing => thread::yield_now(),
                    Taken::Over => break,
                }
            }
            assert_eq!(taken, 2, "a batch was left in a ring that nobody looks into any more");
            hook.join().unwrap();
        });
    }
}

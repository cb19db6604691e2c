//! A value that changes seldom and is looked at each round: one load where it did not change.
//!
//! Labels: `I1` pairs with `I2`.

use crate::sync::{AtomicU64, Mutex, Ordering};

/// A value, and how often it was changed.
#[derive(Debug)]
pub(crate) struct Published<T> {
    value: Mutex<T>,
    /// Written behind the value, by who publishes; read by poll loops each round.
    generation: AtomicU64,
}

impl<T: Clone> Published<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { value: Mutex::new(value), generation: AtomicU64::new(0) }
    }

    /// The value now. The lock is held for its copy only.
    pub(crate) fn get(&self) -> T {
        // Poison means nothing: a clone that panicked has changed nothing.
        self.value.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// `Some` with the new value where it changed since `seen`.
    #[inline]
    pub(crate) fn since(&self, seen: &mut u64) -> Option<T> {
        // I1: Acquire, pairs with I2.
        let generation = self.generation.load(Ordering::Acquire);
        if generation == *seen {
            return None;
        }
        *seen = generation;
        Some(self.get())
    }

    /// Changes the value; returns the old one, to be dropped outside of the lock.
    pub(crate) fn set(&self, value: T) -> T {
        let old = std::mem::replace(&mut *self.value.lock().unwrap_or_else(|poisoned| poisoned.into_inner()), value);
        // I2: Release, behind the value, so that who reads this count reads no older value with it.
        self.generation.fetch_add(1, Ordering::Release);
        old
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::{sync::Arc, thread};

    /// A loop that looks while a value is published: it never keeps an old value for the new one, and has the last one in
    /// the end.
    ///
    /// Seen to fail with the count raised before the value is set (the loop then keeps the old one for good).
    #[test]
    fn the_last_value_arrives() {
        loom::model(|| {
            let published = Arc::new(Published::new(0));
            let publisher = {
                let published = published.clone();
                thread::spawn(move || {
                    published.set(1);
                    published.set(2);
                })
            };
            let (mut seen, mut value) = (0, 0);
            let look = |seen: &mut u64, value: &mut i32| {
                if let Some(new) = published.since(seen) {
                    assert!(new >= *value, "never back to an older one");
                    *value = new;
                }
            };
            look(&mut seen, &mut value);
            look(&mut seen, &mut value);
            publisher.join().unwrap();
            look(&mut seen, &mut value);
            assert_eq!(value, 2, "the loop keeps an old value");
        });
    }
}

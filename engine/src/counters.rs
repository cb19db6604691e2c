//! Counters: one writer each, cheap to bump, readable by anyone.
//!
//! A counter is an atomic word that only its one writer stores to, so a bump is a plain load, add and
//! store: no locked instruction, no lost update. A *set* of counters (see
//! [`counters!`](crate::counters!)) is padded to its own cache lines, so that readers and other writers
//! never slow its writer down.
//!
//! Limits: a snapshot is not atomic across counters. An equation over several of them holds exactly
//! once their writers are at rest, and to within the frames in flight while they run.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter with one writer at a time.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. One writer only; it is the caller's place (owner of a poll lock, a single client
    /// thread) that makes it the only one.
    #[inline]
    pub fn add(&self, n: u64) {
        // Relaxed: the one writer reads its own last store; readers need no order between counters.
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Adds `n` where several threads really write the same counter.
    #[inline]
    pub fn add_shared(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The value now. Any thread.
    // Relaxed: as above.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Declares a set of counters and its plain snapshot.
///
/// ```text
/// counters! {
///     /// What one queue did.
///     pub struct QueueCounters => QueueStats {
///         /// Frames taken from the NIC.
///         received,
///     }
/// }
/// ```
/// gives `QueueCounters` (cache-padded [`Counter`]s), `QueueStats` (plain `u64`s, `Copy`), and between
/// them `snapshot()`, `QueueStats::since(&earlier)`, `QueueStats::merge(&other)` and
/// `QueueStats::iter()` over `(name, help, value)`.
#[macro_export]
macro_rules! counters {
    (
        $(#[doc = $set_doc:literal])*
        $vis:vis struct $set:ident => $stats:ident {
            $( $(#[doc = $doc:literal])* $name:ident, )*
        }
    ) => {
        $(#[doc = $set_doc])*
        #[derive(Debug, Default)]
        #[repr(align(128))]
        $vis struct $set { $( $(#[doc = $doc])* pub $name: $crate::counters::Counter, )* }

        impl $set {
            /// The values now. Any thread.
            $vis fn snapshot(&self) -> $stats {
                $stats { $( $name: self.$name.get(), )* }
            }
        }

        $(#[doc = $set_doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        $vis struct $stats { $( $(#[doc = $doc])* pub $name: u64, )* }

        impl $stats {
            /// What was added since `earlier`, a snapshot of the same counters.
            #[allow(dead_code)]
            $vis fn since(&self, earlier: &Self) -> Self {
                Self { $( $name: self.$name.wrapping_sub(earlier.$name), )* }
            }

            /// Adds `other` (another queue, another port) to this.
            #[allow(dead_code)]
            $vis fn merge(&mut self, other: &Self) {
                $( self.$name = self.$name.wrapping_add(other.$name); )*
            }

            /// `(name, help, value)` of each counter, in declaration order.
            #[allow(dead_code)]
            $vis fn iter(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
                [ $( (stringify!($name), concat!($($doc),*).trim_ascii(), self.$name), )* ].into_iter()
            }
        }
    };
}

#[cfg(test)]
mod tests {
    counters! {
        /// A set.
        struct Set => Stats {
            /// First.
            first,
            /// Second.
            second,
        }
    }

    #[test]
    fn snapshot_since_merge_iter() {
        let set = Set::default();
        set.first.add(2);
        let before = set.snapshot();
        set.first.add(3);
        set.second.add_shared(1);
        let after = set.snapshot();
        assert_eq!(after, Stats { first: 5, second: 1 });
        assert_eq!(after.since(&before), Stats { first: 3, second: 1 });
        let mut sum = before;
        sum.merge(&after);
        assert_eq!(sum, Stats { first: 7, second: 1 });
        assert_eq!(sum.iter().collect::<Vec<_>>(), [("first", "First.", 7), ("second", "Second.", 1)]);
    }
}

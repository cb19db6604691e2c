//! The dirty map: which clients may have frames in their rings.
//!
//! One bit a client, and above it one summary bit for each word of 64 clients, so that 10,000 silent
//! clients cost the poll loop the reading of three words a round, not 10,000 looks into rings.
//!
//! A client sets its bit after it has pushed; the poll loop clears it once it has found the ring empty. A
//! client that keeps sending keeps its bit: both sides then only read the word, and no line bounces.
//!
//! The danger is the lost wake-up: the loop finds the ring empty and clears the bit while the client
//! pushes and still sees the bit set. Both sides therefore put a full fence between their write and their
//! read (Dekker): client `push; D1 fence; read bits`, loop `clear bit; D2 fence; look into the ring again`.
//! At least one of them sees what the other wrote. The same holds one level up, between a word and its
//! summary bit (`D3` with `D4`).

use crate::sync::{AtomicU64, Ordering, fence};

const BITS: usize = 64;

/// Set bits for slots `0..slots`. Clients set, the one poller clears.
///
/// Looks that only save a write, or a round, are relaxed: the fences see to it that not both sides miss the other.
#[derive(Debug)]
pub(crate) struct DirtyMap {
    /// D5 pairs with D6: who finds a bit that was set finds what was pushed before it.
    words: Box<[AtomicU64]>,
    /// D7 pairs with D8: who finds a word's bit finds the bit in the word.
    summary: Box<[AtomicU64]>,
}

impl DirtyMap {
    pub(crate) fn new(slots: usize) -> Self {
        let zeros = |bits: usize| (0..bits.div_ceil(BITS)).map(|_| AtomicU64::new(0)).collect::<Box<[_]>>();
        let words = zeros(slots);
        let summary = zeros(words.len());
        Self { words, summary }
    }

    /// Says that `slot` may have frames. After the push; any thread.
    #[inline]
    pub(crate) fn mark(&self, slot: usize) {
        let (word, bit) = (slot / BITS, 1 << (slot % BITS));
        let (top, top_bit) = (word / BITS, 1 << (word % BITS));
        // D1: full fence between our push and the reads below; pairs with D2.
        fence(Ordering::SeqCst);
        // Relaxed: behind D1.
        if self.words[word].load(Ordering::Relaxed) & bit == 0 {
            self.words[word].fetch_or(bit, Ordering::Release); // D5
            // D3: full fence between the word and its summary; pairs with D4.
            fence(Ordering::SeqCst);
        }
        // Relaxed: behind D3, where it is ours. Looked at even where the bit was set: another thread of a shared client may have set it and
        // been preempted just here.
        if self.summary[top].load(Ordering::Relaxed) & top_bit == 0 {
            self.summary[top].fetch_or(top_bit, Ordering::Release); // D7
        }
    }

    /// The first marked slot at or after `from`, without wrapping. The poller only.
    #[inline]
    pub(crate) fn next(&self, from: usize) -> Option<usize> {
        let (word, bit) = (from / BITS, from % BITS);
        if word >= self.words.len() {
            return None;
        }
        let here = self.words[word].load(Ordering::Acquire) & (u64::MAX << bit); // D6
        if here != 0 {
            return Some(word * BITS + here.trailing_zeros() as usize);
        }
        let mut after = word + 1;
        while let Some(word) = self.next_word(after) {
            let bits = self.words[word].load(Ordering::Acquire); // D6
            if bits != 0 {
                return Some(word * BITS + bits.trailing_zeros() as usize);
            }
            after = word + 1;
        }
        None
    }

    /// Whether no slot is marked: the idle round's whole cost.
    #[inline]
    pub(crate) fn is_clean(&self) -> bool {
        // Relaxed: who misses a mark that is being made finds it a round later.
        self.summary.iter().all(|top| top.load(Ordering::Relaxed) == 0)
    }

    /// Clears `slot`, whose ring was found empty, unless it is not any more. The poller only.
    #[inline]
    pub(crate) fn clear_if(&self, slot: usize, is_empty: impl FnOnce() -> bool) {
        self.clear(slot);
        // Behind D2: what was pushed by a client that still saw its bit is seen here.
        if !is_empty() {
            self.mark(slot);
        }
    }

    /// Clears `slot`, which has no ring. The poller only.
    #[inline]
    pub(crate) fn clear(&self, slot: usize) {
        let (word, bit) = (slot / BITS, 1 << (slot % BITS));
        // D6, for the marks of others in the word that it leaves.
        let left = self.words[word].fetch_and(!bit, Ordering::AcqRel) & !bit;
        if left == 0 {
            let (top, top_bit) = (word / BITS, 1 << (word % BITS));
            self.summary[top].fetch_and(!top_bit, Ordering::AcqRel); // D8, likewise.
            // D4: full fence between clearing the summary and looking at the word again; pairs with D3.
            fence(Ordering::SeqCst);
            // Relaxed: behind D4.
            if self.words[word].load(Ordering::Relaxed) != 0 {
                self.summary[top].fetch_or(top_bit, Ordering::Release); // D7
            }
        }
        // D2: full fence between clearing the bit and the caller's second look; pairs with D1.
        fence(Ordering::SeqCst);
    }

    #[inline]
    fn next_word(&self, from: usize) -> Option<usize> {
        let (mut top, bit) = (from / BITS, from % BITS);
        let mut mask = u64::MAX << bit;
        while top < self.summary.len() {
            let bits = self.summary[top].load(Ordering::Acquire) & mask; // D8
            if bits != 0 {
                return Some(top * BITS + bits.trailing_zeros() as usize);
            }
            mask = u64::MAX;
            top += 1;
        }
        None
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found_in_order_and_cleared() {
        let map = DirtyMap::new(10_000);
        assert!(map.is_clean());
        let slots = [0, 1, 63, 64, 127, 4095, 4096, 9_999];
        slots.into_iter().for_each(|slot| map.mark(slot));
        let mut found = Vec::new();
        let mut from = 0;
        while let Some(slot) = map.next(from) {
            found.push(slot);
            from = slot + 1;
        }
        assert_eq!(found, slots);
        for (cleared, slot) in slots.into_iter().enumerate() {
            map.clear(slot);
            assert_eq!(map.next(0), slots.get(cleared + 1).copied());
        }
        assert!(map.is_clean());
        assert_eq!(map.next(10_500), None);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::{
        sync::{Arc, atomic::AtomicUsize},
        thread,
    };

    /// A client pushes while the poller finds its ring empty and clears: afterwards either the poller has taken
    /// the frame, or the bit stands.
    #[test]
    fn no_wake_up_is_lost() {
        loom::model(|| {
            let map = Arc::new(DirtyMap::new(2));
            let ring = Arc::new(AtomicUsize::new(0));
            map.mark(0);
            // A neighbour that stays marked: the word does not become 0, so its summary's fence is not there to help.
            map.mark(1);
            let client = {
                let (map, ring) = (map.clone(), ring.clone());
                thread::spawn(move || {
                    ring.fetch_add(1, Ordering::Release);
                    map.mark(0);
                })
            };
            let mut taken = 0;
            if map.next(0).is_some() {
                taken += ring.swap(0, Ordering::Acquire);
                map.clear_if(0, || ring.load(Ordering::Acquire) == 0);
            }
            client.join().unwrap();
            assert!(taken == 1 || map.next(0) == Some(0), "the frame is neither taken nor marked");
        });
    }

    /// The same one level up: two clients share a word, one goes quiet while the other wakes.
    #[test]
    fn no_wake_up_is_lost_in_the_summary() {
        loom::model(|| {
            let map = Arc::new(DirtyMap::new(128));
            map.mark(64);
            let client = {
                let map = map.clone();
                thread::spawn(move || map.mark(65))
            };
            map.clear(64);
            client.join().unwrap();
            assert_eq!(map.next(0), Some(65));
        });
    }
}

//! What became of a stream's frames, by their sequence numbers.
//!
//! The last few thousand numbers are remembered, a bit each, as a receiver of IPsec does against replay (RFC 6479). What
//! leaves that window unseen is missing for good (RFC 4737 and RFC 2680: a loss is what did not come within a time);
//! if it comes after all it has an ending of its own, `too_old`, as nobody can say then whether it came before.
//! Memory is fixed, each arrival costs a few instructions, and what is missing is counted from the gaps: it does not
//! depend on how many were received.

/// What an arrival was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The next one, or a later one.
    InOrder,
    /// For the first time, but after a frame that was sent later: so many numbers behind the highest that came.
    Reordered(u64),
    /// It came before.
    Duplicate,
    /// From before the window.
    TooOld,
}

/// One stream.
#[derive(Clone, Debug)]
pub(super) struct Window {
    /// Bit `s % len` stands for number `s` of those in the window, `next - len` to `next - 1`.
    bits: Box<[u64]>,
    /// One more than the highest number that came.
    next: u64,
    /// Numbers below this one are not asked for.
    first: u64,
    /// Numbers that left the window unseen.
    missing: u64,
}

impl Window {
    /// Expects number 0 first and remembers `len` numbers, a power of two of at least 64.
    pub(super) fn new(len: usize) -> Window {
        debug_assert!(len.is_power_of_two() && len >= 64);
        Window { bits: vec![0; len / 64].into(), next: 0, first: 0, missing: 0 }
    }

    /// Nothing below `first` is expected: the receiver has come late. Before the first arrival.
    pub(super) fn start_at(&mut self, first: u64) {
        (self.first, self.next) = (first, first);
    }

    /// Whether nothing has come.
    pub(super) fn is_untouched(&self) -> bool {
        self.next == self.first
    }

    /// Number `seq` has come.
    #[inline]
    pub(super) fn arrive(&mut self, seq: u64) -> Arrival {
        if seq >= self.next {
            self.move_to(seq);
            self.set(seq);
            return Arrival::InOrder;
        }
        if seq < self.oldest() {
            Arrival::TooOld
        } else if self.is_set(seq) {
            Arrival::Duplicate
        } else {
            self.set(seq);
            Arrival::Reordered(self.next - 1 - seq)
        }
    }

    /// The stream has ended: numbers below `end` were sent.
    pub(super) fn finish(&mut self, end: u64) {
        if end > self.next {
            self.move_to(end - 1);
        }
    }

    /// How many numbers, from the first one to the highest, have not come.
    pub(super) fn missing(&self) -> u64 {
        self.missing + self.unseen()
    }

    /// Makes `highest` the highest number of the window, unseen yet.
    #[inline]
    fn move_to(&mut self, highest: u64) {
        if highest - self.next >= self.len() {
            self.jump(highest);
            return;
        }
        for seq in self.next..=highest {
            // Its place is that of the one that leaves.
            if seq >= self.first + self.len() && !self.is_set(seq) {
                self.missing += 1;
            }
            self.clear(seq);
        }
        self.next = highest + 1;
    }

    /// The whole window leaves, and some more that never were in it.
    #[cold]
    fn jump(&mut self, highest: u64) {
        let oldest = highest + 1 - self.len();
        self.missing += self.unseen() + (oldest - self.next);
        self.bits.fill(0);
        self.next = highest + 1;
    }

    /// Numbers in the window that have not come.
    fn unseen(&self) -> u64 {
        let seen: u64 = self.bits.iter().map(|word| u64::from(word.count_ones())).sum();
        self.next - self.oldest() - seen
    }

    fn oldest(&self) -> u64 {
        self.first.max(self.next.saturating_sub(self.len()))
    }

    fn len(&self) -> u64 {
        self.bits.len() as u64 * 64
    }

    #[inline]
    fn place(&self, seq: u64) -> (usize, u64) {
        ((seq / 64) as usize & (self.bits.len() - 1), 1 << (seq % 64))
    }

    #[inline]
    fn is_set(&self, seq: u64) -> bool {
        let (word, bit) = self.place(seq);
        self.bits[word] & bit != 0
    }

    #[inline]
    fn set(&mut self, seq: u64) {
        let (word, bit) = self.place(seq);
        self.bits[word] |= bit;
    }

    #[inline]
    fn clear(&mut self, seq: u64) {
        let (word, bit) = self.place(seq);
        self.bits[word] &= !bit;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn by_hand() {
        let mut window = Window::new(64);
        let mut came = |seqs: &[u64]| seqs.iter().map(|seq| window.arrive(*seq)).collect::<Vec<_>>();
        use Arrival::{Duplicate, InOrder, Reordered, TooOld};
        assert_eq!(came(&[0, 1, 2]), [InOrder; 3]);
        // 3 and 4 overtaken by 5; 3 comes, 4 does not; 5 twice.
        assert_eq!(came(&[5, 3, 5, 3]), [InOrder, Reordered(2), Duplicate, Duplicate]);
        // 63 further: 4 is just still in the window, and comes.
        assert_eq!(came(&[67, 4, 4]), [InOrder, Reordered(63), Duplicate]);
        // Out of it: nobody knows any more.
        assert_eq!(came(&[68, 4, 0]), [InOrder, TooOld, TooOld]);
        // 6 to 66 have not come.
        assert_eq!(window.missing(), 61);
        window.finish(70);
        assert_eq!(window.missing(), 62, "69 was sent and has not come");
        window.finish(70);
        assert_eq!(window.missing(), 62);
    }

    #[test]
    fn all_that_was_sent_is_missing_where_nothing_came() {
        for end in [0, 1, 63, 64, 65, 1000] {
            let mut window = Window::new(64);
            assert!(window.is_untouched());
            window.finish(end);
            assert_eq!(window.missing(), end);
        }
    }

    #[test]
    fn a_late_receiver_asks_for_nothing_that_was_before() {
        let mut window = Window::new(64);
        window.start_at(1_000_000);
        assert_eq!(window.arrive(1_000_000), Arrival::InOrder);
        assert_eq!(window.arrive(999_999), Arrival::TooOld);
        assert_eq!(window.arrive(1_000_002), Arrival::InOrder);
        assert_eq!(window.missing(), 1);
        assert_eq!(window.arrive(1_000_200), Arrival::InOrder);
        window.finish(1_000_201);
        assert_eq!(window.missing(), 201 - 3);
    }

    /// The same with all numbers remembered for ever.
    #[derive(Default)]
    struct Model {
        seen: BTreeSet<u64>,
        next: u64,
        /// Came for the first time while they were in the window.
        received: u64,
    }

    impl Model {
        fn arrive(&mut self, seq: u64, len: u64) -> Arrival {
            if seq >= self.next {
                self.next = seq + 1;
                self.seen.insert(seq);
                self.received += 1;
                return Arrival::InOrder;
            }
            if seq + len < self.next {
                return Arrival::TooOld;
            }
            if !self.seen.insert(seq) {
                return Arrival::Duplicate;
            }
            self.received += 1;
            Arrival::Reordered(self.next - 1 - seq)
        }
    }

    /// Mostly in order, with steps back and leaps.
    fn sequences() -> impl Strategy<Value = Vec<i64>> {
        let step = prop_oneof![
            12 => Just(1_i64),
            2 => -8_i64..8,
            2 => -150_i64..150,
            1 => -400_i64..400,
        ];
        proptest::collection::vec(step, 0..400)
    }

    proptest! {
        #[test]
        fn as_a_naive_model_says(steps in sequences(), len in prop_oneof![Just(64_u64), Just(128), Just(256)], more in 0_u64..300) {
            let (mut window, mut model) = (Window::new(len as usize), Model::default());
            let mut at = 0_i64;
            for step in steps {
                let seq = at as u64;
                prop_assert_eq!(window.arrive(seq), model.arrive(seq, len), "number {}", seq);
                prop_assert_eq!(window.missing() + model.received, model.next);
                at = (at + step).max(0);
            }
            let end = model.next + more;
            window.finish(end);
            // The equation of the ledger: both sides counted apart.
            prop_assert_eq!(window.missing() + model.received, end);
        }
    }
}

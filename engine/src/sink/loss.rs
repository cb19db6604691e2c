//! Who lost what here: drops by source, in fixed memory.
//!
//! Where a datagram is dropped, the place that drops it notes whose it was, why, when, and, for extended
//! netconsole, which seq. The notes go the way of the datagrams, ahead of those that came later: from the
//! hook over a ring to the writer, from there as metadata of the next batch in the spool, to the decoder,
//! which so tells a gap that was made here from one that was made on the way.
//!
//! Limits: a table has few places, of which a source can reach some. Where they are taken, its seqs are only counted, and
//! where others have them, it is noted without its source. So is what was lost where nobody could look into it any more: after a failed sync, in a crash, by
//! the NIC. The sums are exact in any case: those of the ledger's drop reasons.

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr},
};

/// Which seqs: 256 in a row one by one, and of others how many and from where to where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "store", derive(serde::Serialize, serde::Deserialize))]
pub struct Seqs {
    /// What bit 0 of `bits[0]` stands for.
    base: u64,
    bits: [u64; 4],
    /// The others: how many, the first and the last.
    others: u64,
    first: u64,
    last: u64,
}

impl Seqs {
    const SPAN: u64 = 256;

    fn one(seq: u64) -> Seqs {
        // Some room below: neighbours may have come in another order.
        let mut seqs = Seqs { base: seq & !63, ..Seqs::default() };
        seqs.set(seq);
        seqs
    }

    /// Whether `seq` has its bit here.
    fn covers(&self, seq: u64) -> bool {
        seq.checked_sub(self.base).is_some_and(|at| at < Seqs::SPAN)
    }

    fn set(&mut self, seq: u64) {
        let at = seq - self.base;
        self.bits[(at / 64) as usize] |= 1 << (at % 64);
    }

    /// Adds those of `other`. `false`, and no change: some have no bit here.
    fn add(&mut self, other: &Seqs) -> bool {
        if self.base == other.base {
            self.bits.iter_mut().zip(other.bits).for_each(|(bits, more)| *bits |= more);
        } else if other.iter().all(|seq| self.covers(seq)) {
            other.iter().for_each(|seq| self.set(seq));
        } else {
            return false;
        }
        self.add_others(other.others, other.first, other.last);
        true
    }

    /// Adds those of `other`; what has no bit here is counted.
    fn add_loosely(&mut self, other: &Seqs) {
        for seq in other.iter() {
            if self.covers(seq) { self.set(seq) } else { self.add_others(1, seq, seq) }
        }
        self.add_others(other.others, other.first, other.last);
    }

    fn add_others(&mut self, count: u64, first: u64, last: u64) {
        if count > 0 {
            self.first = if self.others == 0 { first } else { self.first.min(first) };
            self.last = self.last.max(last);
            self.others += count;
        }
    }

    /// The datagrams had none.
    pub fn is_empty(&self) -> bool {
        self.bits == [0; 4] && self.others == 0
    }

    /// Those that are known one by one, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u64> + use<> {
        let Seqs { base, bits, .. } = *self;
        let is_set = move |at: &u64| bits[(at / 64) as usize] >> (at % 64) & 1 == 1;
        (0..Seqs::SPAN).filter(is_set).map(move |at| base.saturating_add(at))
    }

    /// Takes up to `most` of those that are only counted, if they may lie between `after` and `before`.
    pub(super) fn take_others(&mut self, after: u64, before: u64, most: u64) -> u64 {
        let count = if self.first < before && self.last > after { self.others.min(most) } else { 0 };
        self.others -= count;
        count
    }

    /// The first and the last of all.
    pub fn span(&self) -> Option<(u64, u64)> {
        let others = [self.first, self.last].into_iter().filter(|_| self.others > 0);
        let ends = || self.iter().take(1).chain(self.iter().last()).chain(others.clone());
        Some((ends().min()?, ends().max()?))
    }
}

/// Whose datagrams they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "store", derive(serde::Serialize, serde::Deserialize))]
pub struct Whose {
    /// Source address.
    pub src_ip: IpAddr,
    /// Source port.
    pub src_port: u16,
    /// Destination address.
    pub dst_ip: IpAddr,
    /// Destination port.
    pub dst_port: u16,
}

impl Whose {
    /// Nobody knows.
    pub const UNKNOWN: Whose = Whose {
        src_ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        src_port: 0,
        dst_ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        dst_port: 0,
    };

    /// Where its places in a table begin.
    fn hash(&self) -> u64 {
        let ip = |ip| match ip {
            IpAddr::V4(v4) => u64::from(Ipv4Addr::to_bits(v4)),
            IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64 ^ (v6.to_bits() as u64).rotate_left(32),
        };
        let ports = u64::from(self.src_port) << 16 | u64::from(self.dst_port);
        let mixed = (ip(self.src_ip) ^ ports.rotate_left(40)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ mixed >> 29 ^ ip(self.dst_ip)).wrapping_mul(0xd1b5_4a32_d192_ed03) >> 32
    }
}

/// Datagrams of one source that were dropped for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "store", derive(serde::Serialize, serde::Deserialize))]
pub struct Loss {
    /// Whose.
    pub whose: Whose,
    /// The ledger's name for it.
    pub reason: Cow<'static, str>,
    /// How many.
    pub count: u64,
    /// When the first came: nanoseconds since the Unix epoch.
    pub first_ns: u64,
    /// When the last came.
    pub last_ns: u64,
    /// Their seqs, where they had one.
    pub seqs: Seqs,
}

impl Loss {
    /// One datagram.
    pub(super) fn one(whose: Whose, reason: &'static str, payload: &[u8], time_ns: u64) -> Loss {
        let seqs = super::shed::seq(payload).map_or(Seqs::default(), Seqs::one);
        Loss { whose, reason: Cow::Borrowed(reason), count: 1, first_ns: time_ns, last_ns: time_ns, seqs }
    }

    /// `count` datagrams of which nothing else is known.
    pub(super) fn unknown(reason: &'static str, count: u64, time_ns: u64) -> Loss {
        let reason = Cow::Borrowed(reason);
        Loss { whose: Whose::UNKNOWN, reason, count, first_ns: time_ns, last_ns: time_ns, seqs: Seqs::default() }
    }

    /// Of the same source, for the same reason.
    fn is_of(&self, other: &Loss) -> bool {
        self.whose == other.whose && self.reason == other.reason && self.seqs.is_empty() == other.seqs.is_empty()
    }

    /// Adds `other` to it, if that is of the same and its seqs fit; with `loosely` even if they do not.
    fn merge(&mut self, other: &Loss, loosely: bool) -> bool {
        if !self.is_of(other) {
            return false;
        }
        if !self.seqs.add(&other.seqs) {
            if !loosely {
                return false;
            }
            self.seqs.add_loosely(&other.seqs);
        }
        self.count += other.count;
        self.first_ns = self.first_ns.min(other.first_ns);
        self.last_ns = self.last_ns.max(other.last_ns);
        true
    }
}

/// Reasons that there may be.
const REASONS: usize = 64;

/// A table of losses. It allocates when it is made, and never again.
#[derive(Debug)]
pub(super) struct Losses {
    places: Box<[Option<Loss>]>,
    /// Places that one source can reach.
    reach: usize,
    used: Vec<usize>,
    /// Without a source, by reason.
    rest: Vec<Loss>,
}

impl Losses {
    /// With room for `places`, of which one source can reach `reach`.
    pub(super) fn new(places: usize, reach: usize) -> Losses {
        let places = places.max(1);
        Losses {
            places: vec![None; places].into(),
            reach: reach.min(places),
            used: Vec::with_capacity(places),
            rest: Vec::with_capacity(REASONS),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.used.is_empty() && self.rest.is_empty()
    }

    /// Adds a loss to those of its source, or to those without one.
    pub(super) fn add(&mut self, loss: Loss) {
        if loss.whose == Whose::UNKNOWN {
            return self.add_rest(loss);
        }
        let by_reason =
            loss.reason.bytes().fold(0, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0193));
        let (start, places) = ((loss.whose.hash() ^ by_reason) as usize, self.places.len());
        let reach = (0..self.reach).map(|probe| (start % places + probe) % places);
        let mut free = None;
        for at in reach.clone() {
            match &mut self.places[at] {
                Some(there) if !there.is_of(&loss) => {}
                Some(there) => {
                    if there.merge(&loss, false) {
                        return;
                    }
                }
                None => {
                    free = Some(at);
                    break;
                }
            }
        }
        // The second half of the places is for who has none yet.
        if free.is_none() || self.used.len() >= places / 2 {
            for at in reach {
                if self.places[at].as_mut().is_some_and(|there| there.merge(&loss, true)) {
                    return;
                }
            }
        }
        if let Some(at) = free {
            self.places[at] = Some(loss);
            self.used.push(at);
            return;
        }
        self.add_rest(Loss { whose: Whose::UNKNOWN, seqs: Seqs::default(), ..loss });
    }

    fn add_rest(&mut self, loss: Loss) {
        if self.rest.iter_mut().any(|there| there.merge(&loss, false)) {
            return;
        }
        debug_assert!(self.rest.len() < REASONS);
        self.rest.push(loss);
    }

    /// Takes one out.
    pub(super) fn pop(&mut self) -> Option<Loss> {
        match self.used.pop() {
            Some(at) => self.places[at].take(),
            None => self.rest.pop(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whose(source: u32, port: u16) -> Whose {
        Whose { src_ip: Ipv4Addr::from_bits(source).into(), src_port: port, ..Whose::UNKNOWN }
    }

    fn all(losses: &mut Losses) -> Vec<Loss> {
        std::iter::from_fn(|| losses.pop()).collect()
    }

    #[test]
    fn a_source_and_reason_is_one_entry_with_its_seqs() {
        let mut losses = Losses::new(16, 8);
        for (seq, time_ns) in [(1000_u64, 5), (1002, 7), (1001, 6), (1002, 8)] {
            let payload = format!("6,{seq},1,-;text\n");
            losses.add(Loss::one(whose(1, 1), "shed_info", payload.as_bytes(), time_ns));
        }
        losses.add(Loss::one(whose(1, 1), "shed_debug", b"7,1003,1,-;text\n", 9));
        losses.add(Loss::one(whose(1, 2), "shed_info", b"<14>no seq", 10));
        let mut found = all(&mut losses);
        found.sort_by_key(|loss| loss.first_ns);
        assert_eq!(found.len(), 3);
        let first = &found[0];
        assert_eq!((first.count, first.first_ns, first.last_ns), (4, 5, 8));
        assert_eq!(first.seqs.iter().collect::<Vec<_>>(), [1000, 1001, 1002]);
        assert_eq!(first.seqs.span(), Some((1000, 1002)));
        assert_eq!((found[1].reason.as_ref(), found[1].seqs.span()), ("shed_debug", Some((1003, 1003))));
        assert!(found[2].seqs.is_empty() && found[2].whose.src_port == 2);
        assert!(losses.is_empty());
    }

    #[test]
    fn seqs_far_apart_are_two_entries() {
        let mut losses = Losses::new(16, 8);
        for seq in [10_u64, 300, 20, 310, u64::MAX, u64::MAX - 3] {
            losses.add(Loss::one(whose(1, 1), "fair_share", format!("6,{seq},1,-;x").as_bytes(), 1));
        }
        let mut spans: Vec<_> = all(&mut losses).iter().map(|loss| (loss.count, loss.seqs.span().unwrap())).collect();
        spans.sort_unstable();
        assert_eq!(spans, [(2, (10, 20)), (2, (300, 310)), (2, (u64::MAX - 3, u64::MAX))]);
    }

    /// One source and reason, however many seqs: it keeps its places, and the count.
    #[test]
    fn seqs_that_find_no_place_are_counted() {
        let mut losses = Losses::new(16, 4);
        for seq in 0..3000_u64 {
            losses.add(Loss::one(whose(1, 1), "fair_share", format!("6,{seq},1,-;x").as_bytes(), seq));
        }
        let mut found = all(&mut losses);
        assert_eq!(found.len(), 4);
        assert_eq!(found.iter().map(|loss| loss.count).sum::<u64>(), 3000);
        let exact: usize = found.iter().map(|loss| loss.seqs.iter().count()).sum();
        let others: u64 = found.iter().map(|loss| loss.seqs.others).sum();
        assert_eq!((exact, others), (4 * 256, 3000 - 4 * 256));
        let loose = found.iter_mut().find(|loss| loss.seqs.others > 0).unwrap();
        assert_eq!((loose.seqs.first, loose.seqs.span().unwrap().1), (1024, 2999));
        assert_eq!(loose.seqs.take_others(10, 1000, 5), 0, "not there");
        assert_eq!(loose.seqs.take_others(10, 1500, 5), 5);
        assert_eq!(loose.seqs.take_others(10, 5000, u64::MAX), 3000 - 4 * 256 - 5);
    }

    /// A flood of sources costs no more memory, and no count.
    #[test]
    fn what_finds_no_place_is_counted_without_its_source() {
        let mut losses = Losses::new(64, 8);
        let places = losses.places.as_ptr();
        for source in 0..10_000 {
            losses.add(Loss::one(whose(source, 1), ["shed_info", "shed_debug"][source as usize % 2], b"text", 1));
        }
        assert_eq!((losses.places.as_ptr(), losses.used.capacity(), losses.rest.len()), (places, 64, 2));
        let found = all(&mut losses);
        assert_eq!(found.iter().map(|loss| loss.count).sum::<u64>(), 10_000);
        let known = found.iter().filter(|loss| loss.whose != Whose::UNKNOWN).count();
        assert!((48..=64).contains(&known), "most places are taken: {known}");
    }
}

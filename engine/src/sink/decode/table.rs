//! The flow table: set-associative, as a CPU cache is, so that its memory is fixed and a flood of
//! forged sources only displaces what is in it.
//!
//! A source address chooses one set of [`WAYS`] slots, so one address (with whatever ports) reaches no
//! more than those. In a full set the newcomer takes the slot of a flow that has said little so far,
//! or else of the one that has been silent longest: forged sources, which say one thing each, take each
//! other's place and leave real ones alone. The hash is keyed, so nobody can aim at a set.

use std::net::IpAddr;

use super::flow::{Flow, FlowKey};

/// Slots of a set.
pub(crate) const WAYS: usize = 16;
/// Messages after which a flow is believed in.
const PROVEN_MESSAGES: u64 = 4;
/// How long it stays so without another.
const PROVEN_NS: u64 = 300_000_000_000;

/// No deadline.
pub(crate) const NEVER: u64 = u64::MAX;

/// Keyed hash of bytes; not for secrets, but unknown to who does not know `seed`.
pub(crate) fn hash(seed: u64, bytes: &[u8]) -> u64 {
    // Folded 64 x 64 -> 128 multiplication, a word at a time (as in wyhash and its kin).
    let mut state = mix(seed ^ 0x9e37_79b9_7f4a_7c15, bytes.len() as u64 ^ 0xd1b5_4a32_d192_ed03);
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        let word = word.first_chunk::<8>().map_or(0, |word| u64::from_le_bytes(*word));
        state = mix(state ^ word, 0xa076_1d64_78bd_642f ^ seed);
    }
    let mut last = [0; 8];
    last[..words.remainder().len()].copy_from_slice(words.remainder());
    mix(state ^ u64::from_le_bytes(last), 0xe703_7ed1_a0b4_28db)
}

fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

fn hash_ip(seed: u64, ip: IpAddr) -> u64 {
    match ip {
        IpAddr::V4(v4) => mix(seed ^ u64::from(v4.to_bits()), 0xa076_1d64_78bd_642f ^ seed),
        IpAddr::V6(v6) => hash(seed, &v6.octets()),
    }
}

/// Where a flow is, or would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It is in this slot.
    Found(usize),
    /// It is not there; this slot is for it, once its present holder has left.
    Claim(usize),
}

#[derive(Debug)]
pub(crate) struct Table {
    seed: u64,
    /// Hash of the holder's key; 0 where the slot is free.
    tags: Vec<u64>,
    /// When the holder next wants to be looked at.
    deadlines: Vec<u64>,
    flows: Vec<Option<Box<Flow>>>,
}

impl Table {
    /// For about `flows` flows (rounded up to whole sets).
    pub fn new(flows: usize, seed: u64) -> Table {
        let slots = flows.max(1).next_multiple_of(WAYS);
        Table { seed, tags: vec![0; slots], deadlines: vec![NEVER; slots], flows: (0..slots).map(|_| None).collect() }
    }

    pub fn find(&self, key: &FlowKey) -> Place {
        let (set, tag) = self.place(key);
        let ways = set..set + WAYS;
        for slot in ways.clone() {
            if self.tags[slot] == tag && self.flows[slot].as_ref().is_some_and(|flow| flow.key == *key) {
                return Place::Found(slot);
            }
        }
        let latest = ways.clone().filter_map(|slot| self.flows[slot].as_ref()).map(|flow| flow.used_ns).max();
        let rank = |slot: &usize| match &self.flows[*slot] {
            None => (false, 0),
            Some(flow) => {
                let silent_ns = latest.unwrap_or(0) - flow.used_ns;
                (flow.messages >= PROVEN_MESSAGES && silent_ns < PROVEN_NS, flow.used_ns + 1)
            }
        };
        Place::Claim(ways.min_by_key(rank).unwrap_or(set))
    }

    fn place(&self, key: &FlowKey) -> (usize, u64) {
        let by_ip = hash_ip(self.seed, key.src_ip);
        let ports = u64::from(key.src_port) << 16 | u64::from(key.dst_port);
        let tag = mix(by_ip ^ ports, hash_ip(!self.seed, key.dst_ip) | 1).max(1);
        // The high half chooses: multiply instead of divide.
        let sets = (self.tags.len() / WAYS) as u64;
        let set = ((by_ip >> 32) * sets) >> 32;
        (set as usize * WAYS, tag)
    }

    /// Takes the holder of a slot out, to work on it; [`Table::put`] brings it back.
    pub fn take(&mut self, slot: usize) -> Option<Box<Flow>> {
        self.flows[slot].take()
    }

    /// Puts a flow in the slot that [`Table::find`] named for it.
    pub fn put(&mut self, slot: usize, flow: Box<Flow>, deadline_ns: u64) {
        self.tags[slot] = self.place(&flow.key).1;
        self.deadlines[slot] = deadline_ns;
        self.flows[slot] = Some(flow);
    }

    /// The first slot from `from` on whose deadline is not after `clk_ns`.
    pub fn next_due(&self, from: usize, clk_ns: u64) -> Option<usize> {
        self.deadlines[from..].iter().position(|deadline| *deadline <= clk_ns).map(|at| from + at)
    }

    /// The earliest deadline and the latest.
    pub fn deadline_span(&self) -> Option<(u64, u64)> {
        let set = || self.deadlines.iter().filter(|deadline| **deadline != NEVER);
        Some((*set().min()?, *set().max()?))
    }

    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Slots there are.
    #[cfg(test)]
    pub fn slots(&self) -> usize {
        self.tags.len()
    }

    /// The flows that are in it, with their slots.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &Flow)> {
        self.flows.iter().enumerate().filter_map(|(slot, flow)| Some((slot, flow.as_deref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn key(src: u32, src_port: u16) -> FlowKey {
        let ip = |bits| IpAddr::V4(Ipv4Addr::from_bits(bits));
        FlowKey { src_ip: ip(src), src_port, dst_ip: ip(1), dst_port: 6666 }
    }

    fn add(table: &mut Table, key: FlowKey, used_ns: u64, messages: u64) -> bool {
        let (slot, fresh) = match table.find(&key) {
            Place::Found(slot) => (slot, false),
            Place::Claim(slot) => (slot, true),
        };
        let mut flow = table.take(slot).unwrap_or_default();
        if fresh {
            *flow = Flow { key, ..Flow::default() };
        }
        flow.used_ns = used_ns;
        flow.messages += messages;
        table.put(slot, flow, NEVER);
        fresh
    }

    #[test]
    fn one_address_reaches_one_set() {
        let mut table = Table::new(1024, 7);
        assert!(add(&mut table, key(1, 1), 0, 100));
        for port in 0..10_000 {
            add(&mut table, key(2, port), 1, 1);
        }
        assert!(table.iter().count() <= 2 * WAYS);
        assert!(!add(&mut table, key(1, 1), 2, 1));
    }

    #[test]
    fn forged_sources_leave_real_ones_alone() {
        let mut table = Table::new(256, 7);
        let real: Vec<FlowKey> = (0..16).map(|ip| key(ip, 6665)).collect();
        for key in &real {
            add(&mut table, *key, 0, 10);
        }
        for ip in 1000..100_000 {
            add(&mut table, key(ip, 6665), u64::from(ip), 1);
        }
        assert_eq!(table.iter().count(), 256);
        assert!(real.iter().all(|key| matches!(table.find(key), Place::Found(_))));
    }

    #[test]
    fn the_hash_takes_every_byte_and_the_seed() {
        let bytes = [7; 27];
        let plain = hash(1, &bytes);
        assert_ne!(plain, hash(2, &bytes));
        assert_ne!(plain, hash(1, &bytes[..26]));
        for at in 0..bytes.len() {
            let mut other = bytes;
            other[at] ^= 1;
            assert_ne!(plain, hash(1, &other));
        }
    }
}

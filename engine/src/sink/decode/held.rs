//! Messages of one flow that wait for their turn: ordered by seq, bounded in number, bytes and time.
//!
//! Every extended message waits for the order window, so that one that came too early, a fragment, or a
//! continuation line finds its place. The window also is what makes a gap in seq worth reporting.

use std::collections::VecDeque;

use super::{
    fragments::{Added, Fragments},
    header::Header,
};

/// What a waiting message costs besides its bytes.
const HELD_OVERHEAD_BYTES: usize = 160;

/// A message, whole or in fragments.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "store", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Held {
    pub seq: u64,
    pub usec: u64,
    /// Decoder clock when its first datagram came.
    pub clk_ns: u64,
    /// Receive time of its first datagram.
    pub time_ns: u64,
    /// Datagrams that it is made of.
    pub parts: u32,
    /// Hash of `caller=`.
    pub caller: u64,
    pub continuation: bool,
    /// A whole message: the datagram. Fragments: the header of the first to come.
    pub bytes: Vec<u8>,
    pub fragments: Option<Fragments>,
}

impl Held {
    /// It waits for nothing but its turn.
    pub fn complete(&self) -> bool {
        self.fragments.as_ref().is_none_or(Fragments::complete)
    }

    /// What it takes in memory.
    pub fn held_bytes(&self) -> usize {
        HELD_OVERHEAD_BYTES + self.bytes.len() + self.fragments.as_ref().map_or(0, Fragments::held_bytes)
    }

    /// Hash that a second copy of it would have too: of the whole datagram, or of what all of its
    /// fragments say.
    pub fn identity(&self, seed: u64) -> u64 {
        match &self.fragments {
            None => identity_whole(seed, &self.bytes),
            Some(fragments) => identity_fragment(seed, self.seq, self.usec, fragments.total()),
        }
    }
}

pub(crate) fn identity_whole(seed: u64, datagram: &[u8]) -> u64 {
    super::table::hash(seed, datagram)
}

pub(crate) fn identity_fragment(seed: u64, seq: u64, usec: u64, total: u32) -> u64 {
    let mut bytes = [0; 20];
    bytes[..8].copy_from_slice(&seq.to_le_bytes());
    bytes[8..16].copy_from_slice(&usec.to_le_bytes());
    bytes[16..].copy_from_slice(&total.to_le_bytes());
    super::table::hash(!seed, &bytes)
}

/// What became of a datagram that was offered to those waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Met {
    /// No message of that identity waits.
    Nobody,
    /// It was taken into a waiting message.
    Joined,
    /// It is a second copy of a waiting message.
    DuplicateMessage,
    /// It is a second copy of a fragment.
    DuplicateFragment,
}

/// The waiting messages of one flow.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "store", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Queue {
    /// By seq; of one seq, by arrival.
    messages: VecDeque<Held>,
    bytes: usize,
    continuations: usize,
}

impl Queue {
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    pub fn held_bytes(&self) -> usize {
        self.bytes
    }

    pub fn front(&self) -> Option<&Held> {
        self.messages.front()
    }

    /// Datagrams that wait here.
    pub fn parts(&self) -> u64 {
        self.messages.iter().map(|held| u64::from(held.parts)).sum()
    }

    /// Offers a datagram to the waiting messages of the same seq and time. `conflicts` counts fragments
    /// that contradict a message of the same identity.
    pub fn meet(&mut self, datagram: &[u8], header: &Header<'_>, body: &[u8], conflicts: &mut u64) -> Met {
        // New messages mostly carry the highest seq.
        if self.messages.back().is_none_or(|last| last.seq < header.seq) {
            return Met::Nobody;
        }
        let first = self.messages.partition_point(|held| held.seq < header.seq);
        for held in self.messages.iter_mut().skip(first).take_while(|held| held.seq == header.seq) {
            if held.usec != header.usec {
                continue;
            }
            match (&mut held.fragments, header.slice) {
                (None, None) if held.bytes == datagram => return Met::DuplicateMessage,
                (Some(fragments), Some(slice)) => {
                    let before = fragments.held_bytes();
                    let added = fragments.add(slice, body);
                    self.bytes += fragments.held_bytes() - before;
                    match added {
                        Added::New => {
                            held.parts += 1;
                            return Met::Joined;
                        }
                        Added::Duplicate => return Met::DuplicateFragment,
                        Added::Conflict => *conflicts += 1,
                    }
                }
                _ => {}
            }
        }
        Met::Nobody
    }

    /// Puts a message in its place.
    pub fn insert(&mut self, held: Held) {
        self.bytes += held.held_bytes();
        self.continuations += usize::from(held.continuation);
        if self.messages.back().is_none_or(|last| last.seq <= held.seq) {
            self.messages.push_back(held);
        } else {
            let place = self.messages.partition_point(|other| other.seq <= held.seq);
            self.messages.insert(place, held);
        }
    }

    /// Takes the one whose turn it is.
    pub fn pop(&mut self) -> Option<Held> {
        let held = self.messages.pop_front()?;
        self.forget(&held);
        Some(held)
    }

    /// Takes the next continuation of `caller`'s line, if the next that waits of that caller is one.
    pub fn pop_continuation(&mut self, caller: u64) -> Option<Held> {
        if self.continuations == 0 {
            return None;
        }
        let at = self.messages.iter().position(|held| held.caller == caller)?;
        if !self.messages[at].continuation || !self.messages[at].complete() {
            return None;
        }
        let held = self.messages.remove(at)?;
        self.forget(&held);
        Some(held)
    }

    fn forget(&mut self, held: &Held) {
        self.bytes -= held.held_bytes();
        self.continuations -= usize::from(held.continuation);
    }
}

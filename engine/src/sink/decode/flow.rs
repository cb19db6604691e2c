//! What is known of one flow: a source's address and port towards one of ours.

use std::net::IpAddr;

use super::{basic::BasicTail, clock::KernelClock, crash::Crashes, gap::Last, held::Queue, table::NEVER};

/// Messages of a flow whose identity is remembered after they were let go, to know a second copy.
pub(crate) const SEEN: usize = 256;

/// Who sends to whom. A netconsole message is known by this and its seq.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "store", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct FlowKey {
    pub src_ip: IpAddr,
    pub src_port: u16,
    pub dst_ip: IpAddr,
    pub dst_port: u16,
}

impl Default for FlowKey {
    fn default() -> Self {
        let nowhere = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
        FlowKey { src_ip: nowhere, src_port: 0, dst_ip: nowhere, dst_port: 0 }
    }
}

/// A flow's state.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "store", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Flow {
    pub key: FlowKey,
    /// Decoder clock of the last datagram.
    pub used_ns: u64,
    /// Datagrams so far.
    pub messages: u64,
    pub queue: Queue,
    /// Identities of messages let go, by `seq % SEEN`; 0 is nobody. Allocated with the first.
    pub seen: Vec<u64>,
    /// The highest seq and kernel time that have come since the sender's boot.
    pub highest: Option<(u64, u64)>,
    pub last: Option<Last>,
    /// Seqs that were let go before their turn, as part of an earlier message.
    pub taken: Vec<u64>,
    pub clock: KernelClock,
    pub basic: Option<BasicTail>,
    pub crashes: Crashes,
}

impl Flow {
    /// What of it grows with what was sent, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.queue.held_bytes() + self.basic.as_ref().map_or(0, BasicTail::held_bytes) + self.crashes.held_bytes()
    }

    /// Datagrams that wait in it.
    pub fn parts(&self) -> u64 {
        self.queue.parts() + self.basic.as_ref().map_or(0, |tail| u64::from(tail.parts)) + self.crashes.parts()
    }

    /// When it next has something to let go.
    pub fn deadline_ns(&self, turn: impl Fn(&super::held::Held) -> u64) -> u64 {
        let queue = self.queue.front().map(turn);
        let basic = self.basic.as_ref().map(BasicTail::deadline_ns);
        [queue, basic, self.crashes.deadline_ns()].into_iter().flatten().min().unwrap_or(NEVER)
    }

    /// A message of this identity was let go before.
    pub fn was_seen(&self, seq: u64, identity: u64) -> bool {
        self.seen.get(seq as usize % SEEN) == Some(&identity)
    }

    pub fn remember(&mut self, seq: u64, identity: u64) {
        if self.seen.is_empty() {
            self.seen.resize(SEEN, 0);
        }
        self.seen[seq as usize % SEEN] = identity;
    }
}

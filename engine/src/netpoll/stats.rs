//! What is counted of a queue and of a client, and the equations between them.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

use super::filter::Reason;
use crate::{counters, counters::Counter, port::Missed};

counters! {
    /// What one queue's poll context did, apart from the filter's reasons.
    pub struct QueueCounters => QueueStats {
        /// frames taken from the NIC
        received,
        /// bytes of those frames
        received_bytes,
        /// datagrams delivered to the rx hook
        delivered,
        /// delivered datagrams whose UDP checksum was only partial (a local sender's offload)
        delivered_partial,
        /// ARP requests answered
        arp_answered,
        /// ARP replies that we had asked for
        arp_learned,
        /// dropped: ARP replies that nobody had asked for
        arp_unasked,
        /// ICMP echo requests answered
        icmp_answered,
        /// dropped: not for the rx client while the port was polled only to make room for sending
        rx_drop,
        /// dropped: ARP or ICMP over the rate limit
        rate_limited,
        /// dropped: an answer found the transmit backlog full
        answer_backlog_full,
        /// dropped: the rx hook has panicked
        hook_panicked,
        /// dropped: came while the port, once in service, had no client
        stale,
        /// frames that the engine itself submitted (ARP, ICMP)
        engine_submitted,
        /// of those, handed to the NIC
        engine_sent,
        /// of those, dropped at close or on link down
        engine_dropped,
        /// frames handed to the NIC, clients' and the engine's
        sent,
        /// bytes of those frames
        sent_bytes,
        /// times that the NIC took fewer frames than offered
        tx_short,
        /// times that the mempool was empty when credits were wanted
        pool_empty,
        /// polls that found something to do
        busy_polls,
        /// polls that found nothing
        idle_polls,
    }
}

counters! {
    /// What a client's own side counts, in `send`.
    pub struct SubmitCounters => SubmitStats {
        /// frames that the client submitted
        submitted,
        /// payload bytes of those that were queued
        queued_bytes,
        /// refused: the ring was full
        ring_full,
        /// refused: no mbuf
        no_mbuf,
        /// refused: too long for one frame
        too_long,
        /// refused: port down
        refused_port_down,
        /// refused: the client was closed
        closed,
        /// refused: the client has no remote address
        no_remote,
    }
}

counters! {
    /// What the poll context counts of a client.
    pub struct SentCounters => SentStats {
        /// frames handed to the NIC
        sent,
        /// dropped: the remote address did not answer ARP
        unresolved,
        /// dropped: the link went down
        port_down,
        /// dropped: still queued when the client was cleaned up
        cleanup,
    }
}

/// A queue's counters: the set, and one counter for each reason of the filter.
#[derive(Debug)]
pub(crate) struct QueueLedger {
    pub(crate) counters: QueueCounters,
    pub(crate) unmatched: [Counter; Reason::COUNT],
    /// What the device lost by itself, as last asked.
    missed: Mutex<Missed>,
}

impl Default for QueueLedger {
    fn default() -> Self {
        Self {
            counters: QueueCounters::default(),
            unmatched: std::array::from_fn(|_| Counter::default()),
            missed: Mutex::default(),
        }
    }
}

impl QueueLedger {
    pub(crate) fn missed(&self) -> Missed {
        *self.missed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_missed(&self, missed: Missed) {
        *self.missed.lock().unwrap_or_else(PoisonError::into_inner) = missed;
    }
}

/// A port's (or one queue's) counters at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PortStats {
    /// The poll contexts' counters.
    pub queue: QueueStats,
    /// Frames that the filter did not let through, by [`Reason`] (`Reason as usize`).
    pub unmatched: [u64; Reason::COUNT],
    /// Frames that the device lost before the engine saw them.
    pub missed: Missed,
}

impl Default for PortStats {
    fn default() -> Self {
        Self { queue: QueueStats::default(), unmatched: [0; Reason::COUNT], missed: Missed::default() }
    }
}

impl PortStats {
    pub(crate) fn add(&mut self, ledger: &QueueLedger) {
        self.queue.merge(&ledger.counters.snapshot());
        for (sum, counter) in self.unmatched.iter_mut().zip(&ledger.unmatched) {
            *sum += counter.get();
        }
    }

    /// Adds another port's counters.
    pub fn merge(&mut self, other: &PortStats) {
        self.queue.merge(&other.queue);
        for (sum, value) in self.unmatched.iter_mut().zip(&other.unmatched) {
            *sum += value;
        }
        self.missed.ring += other.missed.ring;
        self.missed.no_mbuf += other.missed.no_mbuf;
        self.missed.spread_full += other.missed.spread_full;
        self.missed.taken += other.missed.taken;
    }

    /// How many frames ended under `reason`.
    pub fn unmatched(&self, reason: Reason) -> u64 {
        self.unmatched[reason as usize]
    }

    /// Left side of the receive equation: all frames that reached the port.
    pub fn arrived(&self) -> u64 {
        self.queue.received + self.missed.ring + self.missed.no_mbuf + self.missed.spread_full
    }

    /// Right side of the receive equation: where they ended.
    pub fn accounted(&self) -> u64 {
        self.endings().map(|(_, count)| count).sum()
    }

    /// Every ending that a received frame can have, with its count.
    pub fn endings(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let queue = &self.queue;
        [
            ("delivered", queue.delivered),
            ("arp_answered", queue.arp_answered),
            ("arp_learned", queue.arp_learned),
            ("arp_unasked", queue.arp_unasked),
            ("icmp_answered", queue.icmp_answered),
            ("rx_drop", queue.rx_drop),
            ("rate_limited", queue.rate_limited),
            ("answer_backlog_full", queue.answer_backlog_full),
            ("hook_panicked", queue.hook_panicked),
            ("stale", queue.stale),
            ("nic_missed", self.missed.ring),
            ("nic_no_mbuf", self.missed.no_mbuf),
            ("spread_full", self.missed.spread_full),
        ]
        .into_iter()
        .chain(Reason::ALL.into_iter().map(|reason| (reason.name(), self.unmatched(reason))))
    }

    /// Whether the receive equation holds. Exact once the port is at rest.
    pub fn balances(&self) -> bool {
        self.arrived() == self.accounted()
    }

    /// Both sides of the equation of a port whose queues are made in software (`port::spread`), of all its queues
    /// together: frames taken from the device = received by the queues + `spread_full`. `None` for any other port.
    pub fn spread(&self) -> Option<(u64, u64)> {
        (self.missed.taken > 0).then_some((self.missed.taken, self.queue.received + self.missed.spread_full))
    }
}

/// The receive side of the ledger, as people read it: only what is not zero.
impl fmt::Display for PortStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  {:<24}{:>14}", "arrived", self.arrived())?;
        for (name, count) in self.endings().filter(|(_, count)| *count > 0) {
            writeln!(f, "    {name:<22}{count:>14}")?;
        }
        let verdict = if self.balances() { "balanced" } else { "NOT BALANCED" };
        writeln!(f, "  {:<24}{:>14}  {verdict}", "accounted for", self.accounted())
    }
}

/// A client's counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientStats {
    /// Counted by the client's side.
    pub submit: SubmitStats,
    /// Counted by the poll context.
    pub sent: SentStats,
    /// Frames in the ring and in the transmit backlog now.
    pub queued: u64,
}

impl ClientStats {
    /// Every ending that a submitted frame can have, with its count; `queued` is not one yet.
    pub fn endings(&self) -> [(&'static str, u64); 10] {
        [
            ("sent", self.sent.sent),
            ("ring_full", self.submit.ring_full),
            ("no_mbuf", self.submit.no_mbuf),
            ("too_long", self.submit.too_long),
            ("refused_port_down", self.submit.refused_port_down),
            ("closed", self.submit.closed),
            ("no_remote", self.submit.no_remote),
            ("unresolved", self.sent.unresolved),
            ("port_down", self.sent.port_down),
            ("cleanup", self.sent.cleanup),
        ]
    }

    /// Right side of the send equation.
    pub fn accounted(&self) -> u64 {
        self.queued + self.endings().iter().map(|(_, count)| count).sum::<u64>()
    }

    /// Whether `submitted = sent + queued now + sum of drop reasons`. Exact once the client is at rest.
    pub fn balances(&self) -> bool {
        self.submit.submitted == self.accounted()
    }

    /// Adds another client's counters.
    pub fn merge(&mut self, other: &ClientStats) {
        self.submit.merge(&other.submit);
        self.sent.merge(&other.sent);
        self.queued += other.queued;
    }
}

/// The send side of the ledger, as people read it: only what is not zero.
impl fmt::Display for ClientStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  {:<24}{:>14}", "submitted", self.submit.submitted)?;
        for (name, count) in self.endings().into_iter().filter(|(_, count)| *count > 0) {
            writeln!(f, "    {name:<22}{count:>14}")?;
        }
        if self.queued > 0 {
            writeln!(f, "    {:<22}{:>14}", "queued now", self.queued)?;
        }
        let verdict = if self.balances() { "balanced" } else { "NOT BALANCED" };
        writeln!(f, "  {:<24}{:>14}  {verdict}", "accounted for", self.accounted())
    }
}

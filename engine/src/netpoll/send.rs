//! The way out: frames staged for `tx_burst`, in order, with who they belong to.
//!
//! What the NIC does not take at once is kept here, in order, and offered again in 50 us steps; after
//! [`FAST_RETRIES`] of those, in 1 ms steps. The stage is bounded: while frames wait in it the clients' rings are
//! not drained, so that a slow NIC fills the rings and each client's own drop policy decides; answers of the
//! engine that find it full are dropped and counted.

use std::{collections::VecDeque, sync::Arc};

use super::{client::ClientShared, stats::QueueCounters};
use crate::port::{Frame, PortIo};

/// Frames that the stage holds at most.
pub(crate) const STAGE_FRAMES: usize = 256;
/// Most frames taken from the clients in one poll.
pub(crate) const TX_BUDGET: usize = 64;
/// Retries in 50 us steps, before the steps grow to 1 ms.
const FAST_RETRIES: u32 = 20;
const FAST_RETRY_NS: u64 = 50_000;
const SLOW_RETRY_NS: u64 = 1_000_000;

/// Whose frames: a client, or the engine itself.
#[derive(Clone, Debug)]
pub(crate) enum Owner {
    Client(Arc<ClientShared>),
    Engine,
}

/// Frames on their way out.
#[derive(Debug)]
pub(crate) struct TxStage<B> {
    pub(crate) frames: Vec<B>,
    /// Runs of frames of one owner; their counts add up to `frames.len()`.
    owners: VecDeque<(Owner, usize)>,
    retries: u32,
    retry_at_ns: u64,
}

impl<B: Frame> TxStage<B> {
    pub(crate) fn new() -> Self {
        Self {
            frames: Vec::with_capacity(STAGE_FRAMES + TX_BUDGET),
            owners: VecDeque::with_capacity(STAGE_FRAMES + TX_BUDGET),
            retries: 0,
            retry_at_ns: 0,
        }
    }

    /// Whether the NIC still owes us something: then the rings wait.
    #[inline]
    pub(crate) fn is_blocked(&self) -> bool {
        self.retries > 0
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Stages one of the engine's own frames, or gives it back where there is no room.
    pub(crate) fn push_own(&mut self, frame: B, counters: &QueueCounters) -> Result<(), B> {
        if self.frames.len() >= STAGE_FRAMES {
            return Err(frame);
        }
        counters.engine_submitted.add(1);
        self.frames.push(frame);
        match self.owners.back_mut() {
            Some((Owner::Engine, count)) => *count += 1,
            _ => self.owners.push_back((Owner::Engine, 1)),
        }
        Ok(())
    }

    /// Says that the last `count` frames are `client`'s.
    #[inline]
    pub(crate) fn own_last(&mut self, client: &Arc<ClientShared>, count: usize) {
        client.add_staged(count);
        self.owners.push_back((Owner::Client(client.clone()), count));
    }

    /// Offers what is staged to the port, once.
    #[inline]
    pub(crate) fn flush<P: PortIo<Buf = B>>(&mut self, io: &mut P, counters: &QueueCounters, now_ns: u64) {
        if self.frames.is_empty() || (self.retries > 0 && now_ns < self.retry_at_ns) {
            return;
        }
        let bytes = |frames: &[B]| frames.iter().map(|frame| frame.data().len() as u64).sum::<u64>();
        let offered_bytes = bytes(&self.frames);
        let sent = io.tx_burst(&mut self.frames);
        counters.sent.add(sent as u64);
        // Mostly nothing is left.
        counters.sent_bytes.add(offered_bytes - bytes(&self.frames));
        self.settle(sent, |owner, count| match owner {
            Owner::Client(client) => client.sent.sent.add(count as u64),
            Owner::Engine => counters.engine_sent.add(count as u64),
        });
        if self.frames.is_empty() {
            self.retries = 0;
        } else {
            counters.tx_short.add(1);
            let step_ns = if self.retries < FAST_RETRIES { FAST_RETRY_NS } else { SLOW_RETRY_NS };
            self.retries = self.retries.saturating_add(1);
            self.retry_at_ns = now_ns + step_ns;
        }
    }

    /// Drops everything that is staged: the link is down, or the port closes.
    pub(crate) fn drop_all<P: PortIo<Buf = B>>(&mut self, io: &mut P, counters: &QueueCounters) {
        let count = self.frames.len();
        io.free(&mut self.frames);
        self.settle(count, |owner, count| match owner {
            Owner::Client(client) => client.sent.port_down.add(count as u64),
            Owner::Engine => counters.engine_dropped.add(count as u64),
        });
        self.retries = 0;
    }

    /// Drops what one client still has here: it is being cleaned up.
    pub(crate) fn drop_client<P: PortIo<Buf = B>>(&mut self, io: &mut P, client: &Arc<ClientShared>) {
        let mut dropped = Vec::new();
        let mut start = 0;
        for (owner, count) in &mut self.owners {
            match owner {
                Owner::Client(other) if Arc::ptr_eq(other, client) => {
                    dropped.extend(self.frames.drain(start..start + *count));
                    *count = 0;
                }
                _ => start += *count,
            }
        }
        self.owners.retain(|(_, count)| *count > 0);
        client.sent.cleanup.add(dropped.len() as u64);
        client.remove_staged(dropped.len());
        io.free(&mut dropped);
        if self.frames.is_empty() {
            self.retries = 0;
        }
    }

    /// Takes `count` frames off the front of the owners' runs.
    #[inline]
    fn settle(&mut self, mut count: usize, end: impl Fn(&Owner, usize)) {
        while count > 0 {
            let Some((owner, run)) = self.owners.front_mut() else { return };
            let ended = count.min(*run);
            end(owner, ended);
            if let Owner::Client(client) = owner {
                client.remove_staged(ended);
            }
            *run -= ended;
            count -= ended;
            if *run == 0 {
                self.owners.pop_front();
            }
        }
    }
}

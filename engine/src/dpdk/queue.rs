//! Bursts: one queue of a running port, as the engine drives it.

use std::sync::Arc;

use super::{mbuf::Mbuf, mempool::Mempool, started::Running};
use crate::{
    ids::{PortId, QueueId},
    port::{Missed, Offloads, PortIo},
    wire::MacAddr,
};

/// One receive and one transmit queue of a running port, with the pools that its frames come from. It holds the port: that is closed after its queues.
#[derive(Debug)]
pub struct DpdkQueue {
    port: PortId,
    queue: QueueId,
    pools: QueuePools,
    running: Arc<Running>,
}

/// Where a queue's frames come from.
#[derive(Debug)]
pub(super) struct QueuePools {
    /// What the device receives into.
    pub(super) rx: Arc<Mempool>,
    /// What clients fill.
    pub(super) clients: Arc<Mempool>,
    /// For urgent frames when that is empty.
    pub(super) reserve: Arc<Mempool>,
}

impl DpdkQueue {
    pub(super) fn new(running: Arc<Running>, queue: QueueId, pools: QueuePools) -> DpdkQueue {
        DpdkQueue { port: running.id, queue, pools, running }
    }

    /// The port.
    pub fn port(&self) -> PortId {
        self.port
    }

    /// Which queue of it.
    pub fn queue(&self) -> QueueId {
        self.queue
    }
}

impl PortIo for DpdkQueue {
    type Buf = Mbuf;

    fn mac(&self) -> MacAddr {
        self.running.mac
    }

    fn offloads(&self) -> Offloads {
        self.running.offloads
    }

    fn link_up(&self) -> bool {
        self.running.link_up()
    }

    #[inline]
    fn rx_burst(&mut self, frames: &mut Vec<Mbuf>, max: usize) -> usize {
        let len = frames.len();
        let room = max.min(frames.capacity() - len).min(usize::from(u16::MAX)) as u16;
        // SAFETY: the port runs while `running` is held and this queue is ours alone (`&mut`). The driver writes at
        // most `room` pointers to mbufs, which are ours from then on, into spare capacity; `Mbuf` is
        // such a pointer.
        unsafe {
            let to = frames.as_mut_ptr().add(len).cast();
            let got = usize::from(dpdk_sys::shim_rx_burst(self.port.0, self.queue.0, to, room));
            frames.set_len(len + got);
            got
        }
    }

    #[inline]
    fn tx_burst(&mut self, frames: &mut Vec<Mbuf>) -> usize {
        let len = frames.len();
        let offered = len.min(usize::from(u16::MAX)) as u16;
        // SAFETY: as above. The driver takes the first `taken` mbufs for good: their places are closed without
        // dropping them.
        unsafe {
            let first = frames.as_mut_ptr();
            let taken = usize::from(dpdk_sys::shim_tx_burst(self.port.0, self.queue.0, first.cast(), offered));
            if taken < len {
                std::ptr::copy(first.add(taken), first, len - taken);
            }
            frames.set_len(len - taken);
            taken
        }
    }

    #[inline]
    fn alloc(&mut self, frames: &mut Vec<Mbuf>, count: usize, urgent: bool) -> usize {
        let mut got = self.pools.clients.alloc(frames, count);
        if urgent && got < count {
            got += self.pools.reserve.alloc(frames, count - got);
        }
        got
    }

    #[inline]
    fn free(&mut self, frames: &mut Vec<Mbuf>) {
        self.pools.rx.free(frames);
    }

    /// The device counts for the whole port; queue 0 reports that, the others nothing, so that a sum over the queues
    /// is right.
    fn missed(&mut self) -> Missed {
        if self.queue == QueueId(0) { self.running.missed() } else { Missed::default() }
    }
}

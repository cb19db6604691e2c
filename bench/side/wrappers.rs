//! Ports around a real one, where a measurement needs to see or to bend what the queue does.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use hdrhistogram::Histogram;
use netpoll::{
    dpdk::{DpdkQueue, Mbuf},
    port::{Frame, MAX_BURST, Missed, Offloads, PortIo},
    wire::{MacAddr, template::HEADERS_LEN},
};

macro_rules! pass_on {
    () => {
        type Buf = Mbuf;

        fn mac(&self) -> MacAddr {
            self.queue.mac()
        }

        fn offloads(&self) -> Offloads {
            self.queue.offloads()
        }

        fn link_up(&self) -> bool {
            self.queue.link_up()
        }

        #[inline]
        fn alloc(&mut self, frames: &mut Vec<Mbuf>, count: usize, urgent: bool) -> usize {
            self.queue.alloc(frames, count, urgent)
        }

        fn missed(&mut self) -> Missed {
            self.queue.missed()
        }
    };
}

/// A loopback ring whose frames go round for ever: what is given back to be freed is sent again.
#[derive(Debug)]
pub struct Recycle {
    queue: DpdkQueue,
    /// Frames that go round, until they do.
    waiting: Vec<Mbuf>,
    /// Whether they are to. What the engine frees at set-up and clean-up is freed for good.
    turning: Arc<AtomicBool>,
}

impl Recycle {
    /// `count` times `frame`, to go round once `turning` says so.
    pub fn new(mut queue: DpdkQueue, frame: &[u8], count: usize, turning: Arc<AtomicBool>) -> Recycle {
        let mut waiting = Vec::with_capacity(count);
        queue.alloc(&mut waiting, count, false);
        for mbuf in &mut waiting {
            mbuf.resize(frame.len()).expect("an mbuf holds a frame").copy_from_slice(frame);
        }
        Recycle { queue, waiting, turning }
    }
}

impl PortIo for Recycle {
    pass_on!();

    #[inline]
    fn rx_burst(&mut self, frames: &mut Vec<Mbuf>, max: usize) -> usize {
        if !self.waiting.is_empty() && self.turning.load(Ordering::Relaxed) {
            self.queue.tx_burst(&mut self.waiting);
            assert!(self.waiting.is_empty(), "the ring is too small");
        }
        self.queue.rx_burst(frames, max)
    }

    #[inline]
    fn tx_burst(&mut self, frames: &mut Vec<Mbuf>) -> usize {
        self.queue.tx_burst(frames)
    }

    #[inline]
    fn free(&mut self, frames: &mut Vec<Mbuf>) {
        if self.turning.load(Ordering::Relaxed) && !frames.is_empty() {
            self.queue.tx_burst(frames);
        }
        self.queue.free(frames);
    }
}

impl Drop for Recycle {
    /// The device does not empty its ring when it is closed.
    fn drop(&mut self) {
        let mut frames = Vec::with_capacity(MAX_BURST);
        while self.queue.rx_burst(&mut frames, MAX_BURST) > 0 {
            self.queue.free(&mut frames);
        }
    }
}

/// Says of each received frame what a NIC with checksum offload says: that both checksums are good. The store that this takes
/// is ours to pay; a NIC's driver does it for both parties.
#[derive(Debug)]
pub struct Verified {
    pub queue: DpdkQueue,
}

impl PortIo for Verified {
    pass_on!();

    #[inline]
    fn rx_burst(&mut self, frames: &mut Vec<Mbuf>, max: usize) -> usize {
        let received = self.queue.rx_burst(frames, max);
        frames.iter_mut().for_each(Mbuf::set_checksums_good);
        received
    }

    #[inline]
    fn tx_burst(&mut self, frames: &mut Vec<Mbuf>) -> usize {
        self.queue.tx_burst(frames)
    }

    #[inline]
    fn free(&mut self, frames: &mut Vec<Mbuf>) {
        self.queue.free(frames);
    }
}

/// Notes how long ago the payload of each frame that leaves was stamped.
#[derive(Debug)]
pub struct Stamped {
    pub queue: DpdkQueue,
    pub epoch: Instant,
    pub ages_ns: Arc<Mutex<Histogram<u64>>>,
}

impl PortIo for Stamped {
    pass_on!();

    fn rx_burst(&mut self, frames: &mut Vec<Mbuf>, max: usize) -> usize {
        self.queue.rx_burst(frames, max)
    }

    fn tx_burst(&mut self, frames: &mut Vec<Mbuf>) -> usize {
        let now_ns = self.epoch.elapsed().as_nanos() as u64;
        let mut ages_ns = self.ages_ns.lock().expect("nobody panics with it");
        for frame in frames.iter() {
            // Clients' frames only: ARP is shorter.
            let stamp = frame.data().get(HEADERS_LEN..HEADERS_LEN + 8).and_then(|bytes| bytes.try_into().ok());
            if let (Some(stamp), [8, 0]) = (stamp, [frame.data()[12], frame.data()[13]]) {
                ages_ns.saturating_record(now_ns.saturating_sub(u64::from_le_bytes(stamp)));
            }
        }
        drop(ages_ns);
        self.queue.tx_burst(frames)
    }

    fn free(&mut self, frames: &mut Vec<Mbuf>) {
        self.queue.free(frames);
    }
}

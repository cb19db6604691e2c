//! Several queues made in software of a device's one.
//!
//! ```text
//!                 lcore of queue 0                           lcores of queues 1..
//! device rx_burst -> ARP, ICMP, what is no datagram: here
//!                 -> UDP over IPv4, by its source ----ring----> rx_burst -> filter -> hook
//! device pool     <---------------------- ring of spent frames ---- free
//! ```
//! Each [`Lane`] is a queue like any other: the same poll loop polls it, with a filter, a hook instance and a ledger of
//! its own. Queue 0 looks at no more of a datagram than where it comes from, so what a hook does never delays an answer
//! to ARP. All datagrams of a source address go one way, so they keep their order. Sending stays with queue 0.
//!
//! Memory: a worker holds at most the frames that its lane was made for, those in the ring, those in its hands and
//! those on their way back together; so neither ring can overflow. Past that, frames are dropped and counted as
//! `spread_full`: a worker that stalls costs its sources' frames, not the others'. Spent frames go back to the lcore
//! that receives, since a pool that several lcores put to and take from costs more than a ring.
//!
//! Limits: one source is one worker's, however much it sends. IPv6 stays with queue 0 while the filter knows none.

mod source;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crossbeam_utils::CachePadded;

use super::{Frame, MAX_BURST, Missed, Offloads, PortIo};
use crate::{counters::Counter, wire::MacAddr};
use source::{source, worker_of};

/// Who spreads a port's frames over its queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SpreadBy {
    /// The device where it can, else software.
    #[default]
    Auto,
    /// The device (RSS, or its other side); an error where it cannot.
    Device,
    /// Software, in any case.
    Software,
}

impl SpreadBy {
    /// What they are called where people choose.
    pub const WORDS: [(&str, SpreadBy); 3] =
        [("auto", SpreadBy::Auto), ("device", SpreadBy::Device), ("software", SpreadBy::Software)];
}

/// A queue, the device's own or one made in software.
#[derive(Debug)]
pub enum Lane<P: PortIo> {
    /// The device's own.
    Device(P),
    /// The device's one queue, which receives for the others.
    Receiver(Receiver<P>),
    /// One that gets its frames from the receiver.
    Worker(Worker<P::Buf>),
}

/// The lane that polls the device.
#[derive(Debug)]
pub struct Receiver<P: PortIo> {
    port: P,
    shared: Arc<Shared>,
    workers: Vec<ToWorker<P::Buf>>,
    passing: bool,
    passed: usize,
    burst: Vec<P::Buf>,
    spent: Vec<P::Buf>,
}

/// The receiver's ends of a worker's rings.
#[derive(Debug)]
struct ToWorker<B> {
    frames: rtrb::Producer<B>,
    spent: rtrb::Consumer<B>,
    /// Frames that the worker has not given back. At most the rings' capacity.
    held: usize,
    /// This burst's.
    staged: Vec<B>,
}

/// A lane that the receiver feeds.
#[derive(Debug)]
pub struct Worker<B> {
    /// Which, from 0.
    number: usize,
    shared: Arc<Shared>,
    frames: rtrb::Consumer<B>,
    spent: rtrb::Producer<B>,
}

/// What both sides look at.
#[derive(Debug)]
struct Shared {
    mac: MacAddr,
    offloads: Offloads,
    /// Written by the receiver.
    link_up: AtomicBool,
    /// The receiver counts: frames taken from the device, and of each worker those that it had no room for.
    taken: CachePadded<Counter>,
    full: Box<[CachePadded<Counter>]>,
}

/// Makes `workers` more queues of a device's one. Each may hold `frames` of its buffers.
///
/// # Panics
/// Without a worker, or with workers that may hold nothing.
pub fn over<P: PortIo>(port: P, workers: usize, frames: usize) -> Vec<Lane<P>> {
    assert!(workers > 0 && frames > 0, "a spread has workers, and they hold frames");
    let shared = Arc::new(Shared {
        mac: port.mac(),
        offloads: port.offloads(),
        link_up: AtomicBool::new(port.link_up()),
        taken: CachePadded::default(),
        full: (0..workers).map(|_| CachePadded::default()).collect(),
    });
    let (ours, theirs): (Vec<_>, Vec<_>) = (0..workers)
        .map(|number| {
            let (to_worker, from_receiver) = rtrb::RingBuffer::new(frames);
            let (to_receiver, from_worker) = rtrb::RingBuffer::new(frames);
            let staged = Vec::with_capacity(MAX_BURST);
            let ours = ToWorker { frames: to_worker, spent: from_worker, held: 0, staged };
            let shared = shared.clone();
            (ours, Lane::Worker(Worker { number, shared, frames: from_receiver, spent: to_receiver }))
        })
        .unzip();
    let receiver = Receiver {
        port,
        shared,
        workers: ours,
        passing: false,
        passed: 0,
        burst: Vec::with_capacity(MAX_BURST),
        spent: Vec::with_capacity(2 * MAX_BURST),
    };
    std::iter::once(Lane::Receiver(receiver)).chain(theirs).collect()
}

impl<P: PortIo> Receiver<P> {
    fn rx_burst(&mut self, frames: &mut Vec<P::Buf>, max: usize) -> usize {
        self.take_back();
        self.passed = 0;
        if !self.passing {
            let got = self.port.rx_burst(frames, max);
            self.shared.taken.add(got as u64);
            return got;
        }
        let got = self.port.rx_burst(&mut self.burst, max.min(MAX_BURST));
        if got == 0 {
            return 0;
        }
        self.shared.taken.add(got as u64);
        let (before, workers) = (frames.len(), self.workers.len());
        for frame in self.burst.drain(..) {
            match source(frame.data()) {
                Some(ip) => self.workers[worker_of(ip, workers)].staged.push(frame),
                None => frames.push(frame),
            }
        }
        for (worker, full) in self.workers.iter_mut().zip(&self.shared.full) {
            worker.hand_over();
            if !worker.staged.is_empty() {
                full.add(worker.staged.len() as u64);
                self.port.free(&mut worker.staged);
            }
        }
        let kept = frames.len() - before;
        self.passed = got - kept;
        kept
    }

    /// Gives frames that workers are done with back to the pool, from the lcore whose pool it is.
    fn take_back(&mut self) {
        for worker in &mut self.workers {
            let count = worker.spent.slots().min(self.spent.capacity());
            if count > 0
                && let Ok(chunk) = worker.spent.read_chunk(count)
            {
                self.spent.extend(chunk);
                worker.held -= count;
                self.port.free(&mut self.spent);
            }
        }
    }
}

impl<B> ToWorker<B> {
    /// Hands the worker as many of the staged frames as it may still hold; the others stay staged.
    fn hand_over(&mut self) {
        let most = self.frames.buffer().capacity();
        let count = self.staged.len().min(most - self.held);
        // There is room: the ring holds no more than is held.
        if let Ok(chunk) = self.frames.write_chunk_uninit(count) {
            self.held += chunk.fill_from_iter(self.staged.drain(..count));
        }
    }
}

impl<B: Frame> Worker<B> {
    fn rx_burst(&mut self, frames: &mut Vec<B>, max: usize) -> usize {
        let count = self.frames.slots().min(max).min(frames.capacity() - frames.len());
        match self.frames.read_chunk(count) {
            Ok(chunk) => frames.extend(chunk),
            Err(_) => return 0,
        }
        count
    }

    fn free(&mut self, frames: &mut Vec<B>) {
        // There is room for every frame that came by the other ring. What did not is dropped, into its own pool.
        let count = frames.len().min(self.spent.slots());
        if let Ok(chunk) = self.spent.write_chunk_uninit(count) {
            chunk.fill_from_iter(frames.drain(..count));
        }
        frames.clear();
    }
}

impl<P: PortIo> PortIo for Lane<P> {
    type Buf = P::Buf;

    fn mac(&self) -> MacAddr {
        match self {
            Lane::Device(port) => port.mac(),
            Lane::Receiver(Receiver { shared, .. }) | Lane::Worker(Worker { shared, .. }) => shared.mac,
        }
    }

    fn offloads(&self) -> Offloads {
        match self {
            Lane::Device(port) => port.offloads(),
            Lane::Receiver(Receiver { shared, .. }) | Lane::Worker(Worker { shared, .. }) => shared.offloads,
        }
    }

    fn link_up(&self) -> bool {
        match self {
            Lane::Device(port) => port.link_up(),
            Lane::Receiver(receiver) => {
                let up = receiver.port.link_up();
                // Relaxed: a word that stands for itself.
                receiver.shared.link_up.store(up, Ordering::Relaxed);
                up
            }
            Lane::Worker(worker) => worker.shared.link_up.load(Ordering::Relaxed),
        }
    }

    #[inline]
    fn rx_burst(&mut self, frames: &mut Vec<P::Buf>, max: usize) -> usize {
        match self {
            Lane::Device(port) => port.rx_burst(frames, max),
            Lane::Receiver(receiver) => receiver.rx_burst(frames, max),
            Lane::Worker(worker) => worker.rx_burst(frames, max),
        }
    }

    #[inline]
    fn tx_burst(&mut self, frames: &mut Vec<P::Buf>) -> usize {
        match self {
            Lane::Device(port) | Lane::Receiver(Receiver { port, .. }) => port.tx_burst(frames),
            Lane::Worker(_) => 0,
        }
    }

    #[inline]
    fn alloc(&mut self, frames: &mut Vec<P::Buf>, count: usize, urgent: bool) -> usize {
        match self {
            Lane::Device(port) | Lane::Receiver(Receiver { port, .. }) => port.alloc(frames, count, urgent),
            Lane::Worker(_) => 0,
        }
    }

    #[inline]
    fn free(&mut self, frames: &mut Vec<P::Buf>) {
        match self {
            Lane::Device(port) | Lane::Receiver(Receiver { port, .. }) => port.free(frames),
            Lane::Worker(worker) => worker.free(frames),
        }
    }

    fn missed(&mut self) -> Missed {
        match self {
            Lane::Device(port) => port.missed(),
            Lane::Receiver(Receiver { port, shared, .. }) => Missed { taken: shared.taken.get(), ..port.missed() },
            Lane::Worker(Worker { number, shared, .. }) => {
                Missed { spread_full: shared.full[*number].get(), ..Missed::default() }
            }
        }
    }

    fn sends(&self) -> bool {
        !matches!(self, Lane::Worker(_))
    }

    fn pass_on(&mut self, passing: bool) {
        if let Lane::Receiver(receiver) = self {
            receiver.passing = passing;
        }
    }

    #[inline]
    fn passed_on(&self) -> usize {
        match self {
            Lane::Receiver(receiver) => receiver.passed,
            Lane::Device(_) | Lane::Worker(_) => 0,
        }
    }

    fn waiting(&self) -> usize {
        match self {
            Lane::Worker(worker) => worker.frames.slots(),
            Lane::Device(_) | Lane::Receiver(_) => 0,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;

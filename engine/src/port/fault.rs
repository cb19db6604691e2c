//! Fault injection as a wrapper around any port: what a bad day does to the layer below.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use super::{Missed, Offloads, PortIo};
use crate::wire::MacAddr;

/// The faults in force, changed from any thread.
#[derive(Debug)]
pub struct Faults {
    // All of them are relaxed: each stands for itself.
    /// Most frames that one `tx_burst` takes.
    pub tx_takes: AtomicUsize,
    /// Most buffers that one `alloc` gives from the pool.
    pub alloc_gives: AtomicUsize,
    /// `rx_burst` finds nothing.
    pub rx_blocked: AtomicBool,
    /// The link is down.
    pub link_down: AtomicBool,
    /// `rx_burst` panics: a bug below us.
    pub rx_panics: AtomicBool,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            tx_takes: AtomicUsize::new(usize::MAX),
            alloc_gives: AtomicUsize::new(usize::MAX),
            rx_blocked: AtomicBool::new(false),
            link_down: AtomicBool::new(false),
            rx_panics: AtomicBool::new(false),
        }
    }
}

/// A port with [`Faults`].
#[derive(Debug)]
pub struct FaultPort<P: PortIo> {
    port: P,
    faults: Arc<Faults>,
    /// Frames not offered to the port this time.
    held: Vec<P::Buf>,
}

impl<P: PortIo> FaultPort<P> {
    /// Wraps `port`; the handle sets faults while it runs.
    pub fn new(port: P) -> (Self, Arc<Faults>) {
        let faults = Arc::new(Faults::default());
        (Self { port, faults: faults.clone(), held: Vec::with_capacity(4096) }, faults)
    }
}

impl<P: PortIo> PortIo for FaultPort<P> {
    type Buf = P::Buf;

    fn mac(&self) -> MacAddr {
        self.port.mac()
    }

    fn offloads(&self) -> Offloads {
        self.port.offloads()
    }

    fn link_up(&self) -> bool {
        // Relaxed, as all of them.
        !self.faults.link_down.load(Ordering::Relaxed) && self.port.link_up()
    }

    fn rx_burst(&mut self, frames: &mut Vec<P::Buf>, max: usize) -> usize {
        assert!(!self.faults.rx_panics.load(Ordering::Relaxed), "a fault was injected: rx_burst panics");
        if self.faults.rx_blocked.load(Ordering::Relaxed) { 0 } else { self.port.rx_burst(frames, max) }
    }

    fn tx_burst(&mut self, frames: &mut Vec<P::Buf>) -> usize {
        let takes = self.faults.tx_takes.load(Ordering::Relaxed).min(frames.len());
        self.held.extend(frames.drain(takes..));
        let taken = self.port.tx_burst(frames);
        frames.append(&mut self.held);
        taken
    }

    fn alloc(&mut self, frames: &mut Vec<P::Buf>, count: usize, urgent: bool) -> usize {
        let gives = self.faults.alloc_gives.load(Ordering::Relaxed);
        self.port.alloc(frames, if urgent { count } else { count.min(gives) }, urgent)
    }

    fn free(&mut self, frames: &mut Vec<P::Buf>) {
        self.port.free(frames);
    }

    fn missed(&mut self) -> Missed {
        self.port.missed()
    }

    fn sends(&self) -> bool {
        self.port.sends()
    }

    fn pass_on(&mut self, passing: bool) {
        self.port.pass_on(passing);
    }

    fn passed_on(&self) -> usize {
        self.port.passed_on()
    }

    fn waiting(&self) -> usize {
        self.port.waiting()
    }
}

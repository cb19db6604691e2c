//! A port in memory: for tests, and for machines without DPDK.
//!
//! A [`MemoryPort`] is one queue whose other end is either a [`Wire`], which a test injects frames into and
//! takes frames from, or another `MemoryPort` ([`MemoryPort::pair`]). Buffers come from a fixed pool and go back
//! to it when they are dropped, so that leaks show ([`Pool::outstanding`]).

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use crossbeam_queue::ArrayQueue;

use super::{ChecksumVerdict, Frame, MAX_BURST, Missed, Offloads, PortIo};
use crate::wire::MacAddr;

/// Bytes that one buffer holds.
const BUFFER_BYTES: usize = 2048;

/// A fixed number of buffers.
#[derive(Debug)]
pub struct Pool {
    free: ArrayQueue<Vec<u8>>,
}

impl Pool {
    /// A pool of `buffers` buffers.
    pub fn new(buffers: usize) -> Arc<Self> {
        let free = ArrayQueue::new(buffers.max(1));
        for _ in 0..buffers {
            // Within the capacity by construction.
            let _ = free.push(vec![0; BUFFER_BYTES]);
        }
        Arc::new(Self { free })
    }

    /// Buffers that are not in the pool now.
    pub fn outstanding(&self) -> usize {
        self.free.capacity() - self.free.len()
    }

    fn get(self: &Arc<Self>) -> Option<MemoryBuf> {
        self.free.pop().map(|bytes| MemoryBuf {
            bytes,
            len: 0,
            contiguous: true,
            ip_checksum: ChecksumVerdict::Unknown,
            udp_checksum: ChecksumVerdict::Unknown,
            tx_checksum: None,
            pool: self.clone(),
        })
    }
}

/// A buffer of a [`Pool`].
#[derive(Debug)]
pub struct MemoryBuf {
    bytes: Vec<u8>,
    len: usize,
    contiguous: bool,
    ip_checksum: ChecksumVerdict,
    udp_checksum: ChecksumVerdict,
    tx_checksum: Option<(u8, u8)>,
    pool: Arc<Pool>,
}

impl MemoryBuf {
    /// Sets what a NIC would have said about the frame.
    pub fn set_verdicts(&mut self, ip: ChecksumVerdict, udp: ChecksumVerdict) {
        (self.ip_checksum, self.udp_checksum) = (ip, udp);
    }

    /// Makes the frame look as if it were spread over several segments.
    pub fn set_segmented(&mut self) {
        self.contiguous = false;
    }

    /// The header lengths given with a request for checksums on transmit.
    pub fn requested_tx_checksum(&self) -> Option<(u8, u8)> {
        self.tx_checksum
    }
}

impl Frame for MemoryBuf {
    fn data(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn data_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }

    fn resize(&mut self, len: usize) -> Option<&mut [u8]> {
        let bytes = self.bytes.get_mut(..len)?;
        self.len = len;
        Some(bytes)
    }

    fn is_contiguous(&self) -> bool {
        self.contiguous
    }

    fn checksums(&self) -> (ChecksumVerdict, ChecksumVerdict) {
        (self.ip_checksum, self.udp_checksum)
    }

    fn request_tx_checksum(&mut self, l2_len: u8, l3_len: u8) {
        self.tx_checksum = Some((l2_len, l3_len));
    }
}

impl Drop for MemoryBuf {
    fn drop(&mut self) {
        // Cannot be full: every buffer came out of this pool.
        let _ = self.pool.free.push(std::mem::take(&mut self.bytes));
    }
}

/// The far end of a [`MemoryPort`], for tests.
#[derive(Clone, Debug)]
pub struct Wire {
    to_port: Arc<ArrayQueue<MemoryBuf>>,
    from_port: Arc<ArrayQueue<MemoryBuf>>,
    pool: Arc<Pool>,
    state: Arc<State>,
}

/// Relaxed: each stands for itself.
#[derive(Debug)]
struct State {
    link_up: AtomicBool,
    missed_ring: AtomicU64,
    missed_no_mbuf: AtomicU64,
}

impl State {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            link_up: AtomicBool::new(true),
            missed_ring: AtomicU64::new(0),
            missed_no_mbuf: AtomicU64::new(0),
        })
    }
}

impl Wire {
    /// Puts a frame on the wire towards the port. Where the port has no buffer or no ring room it is lost, and
    /// counted as a NIC would; the answer is whether it went in.
    pub fn inject(&self, frame: &[u8]) -> bool {
        self.inject_with(frame, |_| {})
    }

    /// The same, with a last touch to the buffer (checksum verdicts).
    pub fn inject_with(&self, frame: &[u8], touch: impl FnOnce(&mut MemoryBuf)) -> bool {
        let Some(mut buffer) = self.pool.get() else {
            self.state.missed_no_mbuf.fetch_add(1, Ordering::Relaxed);
            return false;
        };
        buffer.resize(frame.len()).expect("a test frame fits in a buffer").copy_from_slice(frame);
        touch(&mut buffer);
        let pushed = self.to_port.push(buffer).is_ok();
        if !pushed {
            self.state.missed_ring.fetch_add(1, Ordering::Relaxed);
        }
        pushed
    }

    /// Takes the next frame that the port sent.
    pub fn take(&self) -> Option<Vec<u8>> {
        self.take_buf().map(|buffer| buffer.data().to_vec())
    }

    /// The same as a buffer, with what was asked of the NIC.
    pub fn take_buf(&self) -> Option<MemoryBuf> {
        self.from_port.pop()
    }

    /// Takes the link down or up.
    pub fn set_link(&self, up: bool) {
        self.state.link_up.store(up, Ordering::Relaxed);
    }

    /// The port's pool.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }
}

/// One queue of a port in memory.
#[derive(Debug)]
pub struct MemoryPort {
    mac: MacAddr,
    offloads: Offloads,
    rx: Arc<ArrayQueue<MemoryBuf>>,
    tx: Arc<ArrayQueue<MemoryBuf>>,
    pool: Arc<Pool>,
    reserve: Arc<Pool>,
    state: Arc<State>,
}

impl MemoryPort {
    /// A port with rings of `ring_frames` and a pool of `buffers`, and the wire that it hangs on.
    pub fn new(mac: MacAddr, ring_frames: usize, buffers: usize) -> (Self, Wire) {
        let rx = Arc::new(ArrayQueue::new(ring_frames));
        let tx = Arc::new(ArrayQueue::new(ring_frames));
        let port = Self::on(mac, rx.clone(), tx.clone(), buffers);
        let wire = Wire { to_port: rx, from_port: tx, pool: port.pool.clone(), state: port.state.clone() };
        (port, wire)
    }

    /// Two ports: what one sends, the other receives.
    pub fn pair(macs: [MacAddr; 2], ring_frames: usize, buffers: usize) -> [Self; 2] {
        let rings = [0, 1].map(|_| Arc::new(ArrayQueue::new(ring_frames)));
        [
            Self::on(macs[0], rings[0].clone(), rings[1].clone(), buffers),
            Self::on(macs[1], rings[1].clone(), rings[0].clone(), buffers),
        ]
    }

    fn on(mac: MacAddr, rx: Arc<ArrayQueue<MemoryBuf>>, tx: Arc<ArrayQueue<MemoryBuf>>, buffers: usize) -> Self {
        let (pool, reserve) = (Pool::new(buffers), Pool::new(32));
        Self { mac, offloads: Offloads::default(), rx, tx, pool, reserve, state: State::new() }
    }

    /// The same port with other offloads.
    pub fn with_offloads(mut self, offloads: Offloads) -> Self {
        self.offloads = offloads;
        self
    }

    /// The port's pool.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }
}

impl PortIo for MemoryPort {
    type Buf = MemoryBuf;

    fn mac(&self) -> MacAddr {
        self.mac
    }

    fn offloads(&self) -> Offloads {
        self.offloads
    }

    fn link_up(&self) -> bool {
        self.state.link_up.load(Ordering::Relaxed)
    }

    fn rx_burst(&mut self, frames: &mut Vec<MemoryBuf>, max: usize) -> usize {
        let before = frames.len();
        frames.extend(std::iter::from_fn(|| self.rx.pop()).take(max.min(MAX_BURST)));
        frames.len() - before
    }

    fn tx_burst(&mut self, frames: &mut Vec<MemoryBuf>) -> usize {
        if !self.link_up() {
            return 0;
        }
        let taken = frames.len().min(self.tx.capacity() - self.tx.len());
        for frame in frames.drain(..taken) {
            if self.tx.push(frame).is_err() {
                unreachable!("this port is the only producer of its ring");
            }
        }
        taken
    }

    fn alloc(&mut self, frames: &mut Vec<MemoryBuf>, count: usize, urgent: bool) -> usize {
        let before = frames.len();
        frames.extend(std::iter::from_fn(|| self.pool.get()).take(count));
        if urgent && frames.len() - before < count {
            let missing = count - (frames.len() - before);
            frames.extend(std::iter::from_fn(|| self.reserve.get()).take(missing));
        }
        frames.len() - before
    }

    fn free(&mut self, frames: &mut Vec<MemoryBuf>) {
        frames.clear();
    }

    fn missed(&mut self) -> Missed {
        Missed {
            ring: self.state.missed_ring.load(Ordering::Relaxed),
            no_mbuf: self.state.missed_no_mbuf.load(Ordering::Relaxed),
            ..Missed::default()
        }
    }
}

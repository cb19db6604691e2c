//! A port queue as the engine sees it: bursts of frames in, bursts of frames out.
//!
//! [`PortIo`] is one receive queue and one transmit queue of one port, with the pool that its frames
//! come from. The poll context of that queue owns it, so every method takes `&mut self` and none needs
//! a lock. Implementations: `dpdk` (real ports, a thin layer), [`memory`] (tests, laptops), [`fault`]
//! (a wrapper that injects faults), [`spread`] (several queues made in software of a device's one).

pub mod fault;
pub mod memory;
pub mod spread;

use crate::wire::MacAddr;

/// Most frames that one burst holds.
pub const MAX_BURST: usize = 64;

/// Most bytes that one frame has: what an mbuf's length can say.
pub const MAX_FRAME_LEN: usize = u16::MAX as usize;

/// What the NIC found out about a frame's UDP checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ChecksumVerdict {
    /// It did not look (or we do not believe it): check in software.
    #[default]
    Unknown,
    /// It looked, and the sum is right.
    Good,
    /// It looked, and the sum is wrong.
    Bad,
}

/// One frame's buffer: the mbuf.
///
/// It holds the frame's bytes in one piece, starting with the Ethernet destination address. Dropping
/// it gives it back to its pool (one at a time, slower than [`PortIo::free`]).
pub trait Frame: Send + 'static {
    /// The frame's bytes (of its first segment, see [`Frame::is_contiguous`]), at most [`MAX_FRAME_LEN`].
    fn data(&self) -> &[u8];

    /// The same, to be changed in place.
    fn data_mut(&mut self) -> &mut [u8];

    /// Makes the frame `len` bytes long and hands out those bytes, whose contents are then unspecified
    /// (whatever the buffer held). `None`, and no change, if the buffer has no room for that.
    fn resize(&mut self, len: usize) -> Option<&mut [u8]>;

    /// Whether [`Frame::data`] is the whole frame. A frame spread over several segments is not.
    fn is_contiguous(&self) -> bool;

    /// The NIC's verdicts on the IPv4 header checksum and on the UDP checksum.
    fn checksums(&self) -> (ChecksumVerdict, ChecksumVerdict);

    /// Asks the NIC to fill in the IPv4 header checksum and the UDP checksum on transmit. The header
    /// checksum field must be 0 and the UDP field must hold the pseudo-header's sum.
    fn request_tx_checksum(&mut self, l2_len: u8, l3_len: u8);
}

/// What the port's hardware does for us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// IPv4 header and UDP checksums are filled in on transmit.
    pub tx_checksum: bool,
    /// Frames come with verdicts on their checksums.
    pub rx_checksum: bool,
    /// The other end is a kernel on this machine (tap, af_packet, af_xdp): a local sender's UDP checksum
    /// may hold only the pseudo-header's sum ("partial").
    pub kernel_backed: bool,
}

/// One receive and one transmit queue of a port.
pub trait PortIo: Send + 'static {
    /// The buffer that this port moves.
    type Buf: Frame;

    /// The port's MAC address.
    fn mac(&self) -> MacAddr;

    /// What the port does in hardware.
    fn offloads(&self) -> Offloads;

    /// Whether the link is up. Cheap enough to ask a few times a second.
    fn link_up(&self) -> bool;

    /// Appends up to `max` (at most [`MAX_BURST`]) received frames to `frames` in the order in which
    /// they arrived, and says how many. `frames` must have room for `max` more: it is not grown.
    fn rx_burst(&mut self, frames: &mut Vec<Self::Buf>, max: usize) -> usize;

    /// Hands frames from the front of `frames` to the port and says how many it took; those are gone
    /// from `frames`, the unsent tail stays in order.
    fn tx_burst(&mut self, frames: &mut Vec<Self::Buf>) -> usize;

    /// Appends up to `count` empty buffers to `frames` and says how many there were. `frames` must have
    /// room for `count` more. With `urgent`, the small reserve serves when the pool is empty.
    fn alloc(&mut self, frames: &mut Vec<Self::Buf>, count: usize, urgent: bool) -> usize;

    /// Gives all of `frames` back to their pools in bulk; `frames` is empty afterwards.
    fn free(&mut self, frames: &mut Vec<Self::Buf>);

    /// Frames that this queue lost before `rx_burst` could see them, counted by the device since it started:
    /// `(missed for want of descriptors or ring room, failed for want of buffers)`. Asked rarely; may
    /// be slow. Zeros where the device does not count.
    fn missed(&mut self) -> Missed;

    /// Whether this queue sends too. One that does not has no clients, is given no frames to send and has no buffers
    /// to hand out.
    fn sends(&self) -> bool {
        true
    }

    /// Says whether datagrams may be passed on to the port's other queues, where those are made in software: from the
    /// moment on at which they have an rx hook until the one before they lose it.
    fn pass_on(&mut self, _passing: bool) {}

    /// Frames that the last `rx_burst` took for other queues of the port.
    #[inline]
    fn passed_on(&self) -> usize {
        0
    }

    /// Frames that were passed on to this queue and that its `rx_burst` has not taken yet.
    fn waiting(&self) -> usize {
        0
    }
}

/// Frames that were lost before the poll context could see them, and what a [`spread`] counts beside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Missed {
    /// No descriptor or ring room.
    pub ring: u64,
    /// No buffer to receive into.
    pub no_mbuf: u64,
    /// The queue is made in software, and held as many frames as it may.
    pub spread_full: u64,
    /// Not lost: what the receiving queue of a [`spread`] has taken from the device, for all queues. 0 without one.
    pub taken: u64,
}

//! The rx hook: what a client sees of the frames that the filter let through.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use super::filter::UdpMeta;
use crate::{
    ids::QueueId,
    wire::{MacAddr, ethernet, udp},
};

/// One moment, read once a poll: both clocks in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic, from an arbitrary start; drives every time-out.
    pub mono_ns: u64,
    /// Since the Unix epoch; stamps what was received.
    pub real_ns: u64,
}

/// One UDP datagram, borrowed from its mbuf for the length of the hook's call: the frame, and where things are in it.
///
/// What is asked for is read from the frame, which is in the cache: a hook that needs the payload alone does not pay for
/// the addresses (1.5 of 4.9 ns a datagram, measured apart).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    frame: &'a [u8],
    meta: UdpMeta,
}

impl<'a> Datagram<'a> {
    #[inline]
    pub(crate) fn new(frame: &'a [u8], meta: UdpMeta) -> Self {
        Self { frame, meta }
    }

    /// The UDP payload, without headers or padding.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.meta.payload(self.frame)
    }

    /// Source MAC: where a reply goes.
    #[inline]
    pub fn src_mac(&self) -> MacAddr {
        MacAddr(self.bytes(6))
    }

    /// Source address.
    #[inline]
    pub fn src_ip(&self) -> IpAddr {
        self.address(12, 8)
    }

    /// Destination address.
    #[inline]
    pub fn dst_ip(&self) -> IpAddr {
        self.address(16, 24)
    }

    /// Source port.
    #[inline]
    pub fn src_port(&self) -> u16 {
        u16::from_be_bytes(self.bytes(usize::from(self.meta.payload_at).wrapping_sub(udp::HEADER_LEN)))
    }

    /// Destination port.
    #[inline]
    pub fn dst_port(&self) -> u16 {
        u16::from_be_bytes(self.bytes(usize::from(self.meta.payload_at).wrapping_sub(udp::HEADER_LEN - 2)))
    }

    /// VLAN id, where the frame was tagged.
    #[inline]
    pub fn vlan(&self) -> Option<u16> {
        self.meta.vlan
    }

    /// The address at this offset of the IPv4 header, or at that of the IPv6 header.
    #[inline]
    fn address(&self, in_v4: usize, in_v6: usize) -> IpAddr {
        let ip_at = usize::from(self.meta.ip_at);
        match self.bytes(ip_at) {
            [first] if first >> 4 == 6 => IpAddr::from(self.bytes::<16>(ip_at + in_v6)),
            _ => IpAddr::from(self.bytes::<4>(ip_at + in_v4)),
        }
    }

    /// Zeros where the frame does not reach, which no frame that was classified does.
    #[inline]
    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        self.frame.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
    }
}

/// A datagram without a port: for tests of hooks.
#[derive(Clone, Debug)]
pub struct DatagramBuf {
    frame: Vec<u8>,
    meta: UdpMeta,
}

impl DatagramBuf {
    /// A datagram of at most 65,507 bytes. Where one address is IPv6, so is the packet, and the other one is mapped. MAC
    /// addresses and checksums are zeros.
    ///
    /// # Panics
    /// Where the payload is longer.
    pub fn new(src: SocketAddr, dst: SocketAddr, payload: &[u8]) -> Self {
        assert!(payload.len() <= udp::MAX_PAYLOAD, "longer than any datagram: {} bytes", payload.len());
        let mut frame = vec![0; ethernet::HEADER_LEN];
        match (src.ip(), dst.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                frame.extend([0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0]);
                frame.extend(src.octets().into_iter().chain(dst.octets()));
            }
            (src, dst) => {
                let octets = |ip| match ip {
                    IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                    IpAddr::V6(ip) => ip.octets(),
                };
                frame.extend([0x60, 0, 0, 0, 0, 0, 17, 64]);
                frame.extend(octets(src).into_iter().chain(octets(dst)));
            }
        }
        frame.extend(src.port().to_be_bytes().into_iter().chain(dst.port().to_be_bytes()).chain([0; 4]));
        let meta = UdpMeta {
            ip_at: ethernet::HEADER_LEN as u16,
            payload_at: frame.len() as u16,
            payload_len: payload.len() as u16,
            vlan: None,
            partial: false,
        };
        frame.extend_from_slice(payload);
        Self { frame, meta }
    }

    /// What a hook gets.
    pub fn datagram(&self) -> Datagram<'_> {
        Datagram::new(&self.frame, self.meta)
    }
}

impl fmt::Debug for Datagram<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Datagram")
            .field("src", &SocketAddr::new(self.src_ip(), self.src_port()))
            .field("dst", &SocketAddr::new(self.dst_ip(), self.dst_port()))
            .field("src_mac", &self.src_mac())
            .field("vlan", &self.vlan())
            .field("payload", &format_args!("{}", self.payload().escape_ascii()))
            .finish()
    }
}

/// The datagrams of one receive burst that passed the filter, in the order in which they arrived.
#[derive(Clone, Copy, Debug)]
pub struct RxBurst<'a> {
    /// When the poll began that received the burst: before it at most seven others, whose hook calls lie between.
    pub now: Now,
    /// At least one, at most [`MAX_BURST`](crate::port::MAX_BURST).
    pub datagrams: &'a [Datagram<'a>],
}

/// What sends from inside a hook: the hook's own client. Its frames are queued on the client's ring and
/// leave after the hook has returned.
pub trait HookSend {
    /// Sends `payload` to the client's remote address, as `Netpoll::send` does.
    fn send(&self, payload: &[u8]) -> Result<(), super::SendError>;

    /// Sends `payload` back to where `to` came from: its source address and port, and its source MAC.
    fn reply(&self, to: &Datagram<'_>, payload: &[u8]) -> Result<(), super::SendError>;

    /// Sends each of `datagrams`, in order, back to where it came from, as `reply` with its own payload would, and says how
    /// many were queued; the others are refused, each with its counter.
    ///
    /// Those of the burst under way are turned round in the very frames that they lie in, once the hook has returned:
    /// nothing is copied, nothing summed (a datagram without a UDP checksum leaves without one). Where that would change
    /// the order in which the client's frames leave, or there is no room, it is `reply`: see `HookSender`. Cheapest for
    /// a whole burst at once, `send_back(burst.datagrams)`; one of them: `send_back(slice::from_ref(datagram))`.
    fn send_back(&self, datagrams: &[Datagram<'_>]) -> usize {
        datagrams.iter().filter(|datagram| self.reply(datagram, datagram.payload()).is_ok()).count()
    }
}

/// A sending side that refuses everything: for tests of hooks, beside [`DatagramBuf`].
#[derive(Clone, Copy, Debug)]
pub struct NoSend;

impl HookSend for NoSend {
    fn send(&self, _: &[u8]) -> Result<(), super::SendError> {
        Err(super::SendError::Closed)
    }

    fn reply(&self, _: &Datagram<'_>, _: &[u8]) -> Result<(), super::SendError> {
        Err(super::SendError::Closed)
    }
}

/// The one receiver of a port. One instance a queue, called by that queue's `poll_owner` only, so it
/// needs no lock of its own.
///
/// On the hot path: must not block, allocate or make system calls. A panic is caught, counted, and
/// takes the hook out of service.
pub trait RxHook: Send {
    /// Receives one burst.
    fn rx_hook(&mut self, np: &dyn HookSend, burst: &RxBurst<'_>);

    /// Called once a poll, frames or not, after the burst: the place to flush what has waited long enough.
    fn tick(&mut self, now: Now) {
        let _ = now;
    }
}

/// Makes the hook's instances, one a queue, at set-up time on the caller's thread.
pub trait RxHookFactory {
    /// The instance for `queue`.
    fn rx_hook(&mut self, queue: QueueId) -> Box<dyn RxHook>;
}

impl<F: FnMut(QueueId) -> Box<dyn RxHook>> RxHookFactory for F {
    fn rx_hook(&mut self, queue: QueueId) -> Box<dyn RxHook> {
        self(queue)
    }
}

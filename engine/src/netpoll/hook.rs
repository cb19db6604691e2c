//! The rx hook: what a client sees of the frames that the filter let through.

use std::net::IpAddr;

use crate::{ids::QueueId, wire::MacAddr};

/// One moment, read once a burst: both clocks in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic, from an arbitrary start; drives every time-out.
    pub mono_ns: u64,
    /// Since the Unix epoch; stamps what was received.
    pub real_ns: u64,
}

/// One UDP datagram, borrowed from its mbuf for the length of the hook's call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Source MAC: where a reply goes.
    pub src_mac: MacAddr,
    /// Source address.
    pub src_ip: IpAddr,
    /// Destination address.
    pub dst_ip: IpAddr,
    /// Source port, host byte order.
    pub src_port: u16,
    /// Destination port, host byte order.
    pub dst_port: u16,
    /// VLAN id, where the frame was tagged.
    pub vlan: Option<u16>,
    /// The UDP payload, without headers or padding.
    pub payload: &'a [u8],
}

/// The datagrams of one receive burst that passed the filter, in the order in which they arrived.
#[derive(Clone, Copy, Debug)]
pub struct RxBurst<'a> {
    /// When the burst was received.
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

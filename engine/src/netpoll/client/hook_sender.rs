//! Sending from inside a hook.
//!
//! Two ways out. `send` and `reply` fill a credit and push it on the client's ring, as other threads do. `send_back` only
//! marks the datagram: once the hook has returned, the poll context turns the frame round where it lies and stages it.
//!
//! The order of submission is the order of departure, so a frame is marked only where the order comes by itself: nothing of
//! this client waits in its ring (what waits in the stage is ahead of it anyway), and the datagram lies behind all
//! those of its burst that are marked already. What is pushed on the ring after it leaves after it: rings are drained after the
//! marked frames were staged. Everything else goes by the ring, whose room and drop policy decide.
//!
//! Limit: on a port of several queues only hooks on the queue that the client's ring belongs to mark frames. On the
//! others two ways out would be two NIC queues, between which there is no order.

use std::{cell::Cell, net::IpAddr, sync::Arc};

use super::{ClientShared, Headers, SharedRing};
use crate::{
    netpoll::{
        SendError,
        hook::{Datagram, HookSend},
    },
    port::Frame,
    wire::template::{UdpFlow, UdpTemplate},
};

/// A client's sending side inside its own rx hook.
pub(crate) struct HookSender<B> {
    pub(crate) shared: Arc<ClientShared>,
    ring: Arc<SharedRing<B>>,
    /// Whether the frames of the client's ring leave by the queue of this hook.
    home: bool,
    burst: Cell<Marks>,
}

/// The burst that the hook has in its hands, and what it sends back of it.
#[derive(Clone, Copy, Default)]
struct Marks {
    /// Address of the first datagram, and their number: to know them by when they come back.
    first: usize,
    count: usize,
    /// How many more may be marked.
    room: usize,
    /// Bit `i`: datagram `i` is sent back.
    marked: u64,
}

impl<B> HookSender<B> {
    pub(crate) fn new(shared: Arc<ClientShared>, ring: Arc<SharedRing<B>>, home: bool) -> Self {
        Self { shared, ring, home, burst: Cell::default() }
    }

    /// The hook is about to be called with `datagrams`, of which the stage takes `room`.
    #[inline]
    pub(crate) fn begin(&self, datagrams: &[Datagram<'_>], room: usize) {
        let room = if self.home { room } else { 0 };
        self.burst.set(Marks { first: datagrams.as_ptr().addr(), count: datagrams.len(), room, marked: 0 });
    }

    /// The hook has returned: bit `i` says that datagram `i` is sent back.
    #[inline]
    pub(crate) fn end(&self) -> u64 {
        self.burst.take().marked
    }

    /// Marks datagrams from the first of these on; how many.
    #[inline]
    fn mark(&self, datagrams: &[Datagram<'_>]) -> usize {
        let burst = self.burst.get();
        // Of another slice it is no number of a datagram of this burst.
        let at = datagrams.as_ptr().addr().wrapping_sub(burst.first) / size_of::<Datagram<'_>>();
        if at >= burst.count {
            return 0;
        }
        let count = datagrams.len().min(burst.count - at).min(burst.room);
        let in_order = burst.marked >> at == 0 && self.ring.tx.is_empty();
        if count == 0 || !in_order || self.shared.closing.is_closed() || !self.shared.port.is_up() {
            return 0;
        }
        let marked = burst.marked | (u64::MAX >> (64 - count)) << at;
        self.burst.set(Marks { room: burst.room - count, marked, ..burst });
        count
    }
}

impl<B: Frame> HookSend for HookSender<B> {
    fn send(&self, payload: &[u8]) -> Result<(), SendError> {
        self.shared.submit_shared(&self.ring, self.shared.headers(), payload, |_| None)
    }

    fn reply(&self, to: &Datagram<'_>, payload: &[u8]) -> Result<(), SendError> {
        let template = match (to.src_ip(), to.dst_ip()) {
            (IpAddr::V4(dst_ip), IpAddr::V4(asked)) => Some(UdpTemplate::new(&UdpFlow {
                src_mac: self.shared.port.mac,
                dst_mac: to.src_mac(),
                // A group was asked: answered from our own address.
                src_ip: if asked.is_broadcast() || asked.is_multicast() { self.shared.local_ip } else { asked },
                dst_ip,
                src_port: to.dst_port(),
                dst_port: to.src_port(),
            })),
            _ => None,
        };
        let headers = template.as_ref().map_or(Headers::Unknown, Headers::Template);
        self.shared.submit_shared(&self.ring, headers, payload, |_| None)
    }

    fn send_back(&self, datagrams: &[Datagram<'_>]) -> usize {
        let marked = self.mark(datagrams);
        let rest = &datagrams[marked..];
        marked + rest.iter().filter(|datagram| self.reply(datagram, datagram.payload()).is_ok()).count()
    }
}

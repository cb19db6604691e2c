//! `Netpoll`: a client, that is, one sender (and perhaps the one receiver) of a port.
//!
//! A client is light: two small rings, prebuilt headers and its counters. It sends from its own thread; nothing
//! it does waits for the poll loop unless its drop policy says so.

mod frame;
mod hook_sender;
mod options;
mod submit;

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Instant,
};

pub(crate) use hook_sender::HookSender;
pub use options::{ClientOptions, DropCallback, OnFull, RemoteMac};

use submit::Headers;

use super::{
    SendError,
    closing::Closing,
    dirty::DirtyMap,
    info::NetpollInfo,
    port::{Port, PortShared},
    ring::{ClientEnd, ClientRing, ExclusiveEnd, SharedRing},
    stats::{ClientStats, SentCounters, SubmitCounters},
};
use crate::{
    LcoreId,
    port::PortIo,
    sync::{self, AtomicU32, AtomicU64, Ordering},
    wire::{
        MacAddr, ethernet,
        template::{HEADERS_LEN, UdpFlow, UdpTemplate},
        udp,
    },
};

/// Budget of a client's own poll, as in the patch.
pub const POLL_BUDGET: usize = 16;

/// What both sides of a client share. The client's side writes `submit`, the poll context the rest.
#[derive(Debug)]
pub(crate) struct ClientShared {
    pub(crate) name: String,
    pub(crate) port: Arc<PortShared>,
    pub(crate) local_ip: Ipv4Addr,
    pub(crate) local_port: u16,
    pub(crate) on_full: OnFull,
    pub(crate) urgent: bool,
    pub(crate) ring_frames: usize,
    /// `None` where there is no remote address.
    template: Option<UdpTemplate>,
    max_payload: usize,
    dirty: Arc<DirtyMap>,
    /// Its number in the poll context, and in the dirty map.
    pub(crate) slot: usize,
    pub(crate) submit: SubmitCounters,
    /// The same of what its hook sends back in place, written by the poll context: that is cheaper than one set for both.
    pub(crate) sent_back: SubmitCounters,
    pub(crate) sent: SentCounters,
    /// Relaxed: each frame another one, in order where one thread sends.
    ip_id: AtomicU32,
    closing: Closing,
    /// Frames in the transmit stage. Relaxed: written and acted on inside the gate; elsewhere a count.
    staged: AtomicU64,
    /// Credits that the poll context could not give for want of mbufs. Relaxed: it only chooses the reason of a refusal.
    owed: AtomicU64,
}

/// What [`ClientShared::new`] needs beside the options.
pub(crate) struct Placement {
    pub(crate) port: Arc<PortShared>,
    pub(crate) dirty: Arc<DirtyMap>,
    pub(crate) slot: usize,
    pub(crate) local_ip: Ipv4Addr,
    pub(crate) max_payload: usize,
}

impl ClientShared {
    pub(crate) fn new(options: &ClientOptions, remote: Option<(Ipv4Addr, u16)>, place: Placement) -> Arc<Self> {
        let Placement { port, dirty, slot, local_ip, max_payload } = place;
        let dst_mac = match options.remote_mac {
            RemoteMac::Fixed(mac) => mac,
            // Patched by the poll context once it is known; frames do not leave before.
            RemoteMac::Arp => MacAddr::default(),
        };
        let template = remote.map(|(dst_ip, dst_port)| {
            let (src_mac, src_port) = (port.mac, options.local_port);
            UdpTemplate::new(&UdpFlow { src_mac, dst_mac, src_ip: local_ip, dst_ip, src_port, dst_port })
        });
        Arc::new(Self {
            name: options.name.clone(),
            port,
            local_ip,
            local_port: options.local_port,
            on_full: options.on_full.clone(),
            urgent: options.urgent,
            ring_frames: options.ring_frames,
            template,
            max_payload,
            dirty,
            slot,
            submit: SubmitCounters::default(),
            sent_back: SubmitCounters::default(),
            sent: SentCounters::default(),
            ip_id: AtomicU32::new(0),
            closing: Closing::new(),
            staged: AtomicU64::new(0),
            owed: AtomicU64::new(0),
        })
    }

    /// Poll context only.
    #[inline]
    pub(crate) fn add_staged(&self, count: usize) {
        self.staged.store(self.staged.load(Ordering::Relaxed) + count as u64, Ordering::Relaxed);
    }

    /// Poll context only.
    #[inline]
    pub(crate) fn remove_staged(&self, count: usize) {
        self.staged.store(self.staged.load(Ordering::Relaxed) - count as u64, Ordering::Relaxed);
    }

    pub(crate) fn staged(&self) -> u64 {
        self.staged.load(Ordering::Relaxed)
    }

    /// Poll context only.
    #[inline]
    pub(crate) fn set_owed(&self, count: usize) {
        self.owed.store(count as u64, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn max_payload(&self) -> usize {
        self.max_payload
    }

    /// No more submissions from now on; returns once those under way are through.
    pub(crate) fn close(&self) {
        self.closing.close();
    }

    /// What stands before the payloads that it sends to its remote address.
    #[inline]
    fn headers(&self) -> Headers<'_> {
        self.template.as_ref().map_or(Headers::Unknown, Headers::Template)
    }

    /// Tells the poll context that there are frames.
    #[inline]
    fn mark(&self) {
        self.dirty.mark(self.slot);
    }

    fn stats(&self, in_ring: usize) -> ClientStats {
        let mut submit = self.submit.snapshot();
        submit.merge(&self.sent_back.snapshot());
        ClientStats { submit, sent: self.sent.snapshot(), queued: in_ring as u64 + self.staged() }
    }
}

/// A client of a port. Set up by [`Port::setup`] and [`Port::setup_rx`]; cleaned up by
/// [`Netpoll::cleanup`], or when dropped.
///
/// One thread at a time sends through it; for several, see [`Netpoll::shared`].
pub struct Netpoll<P: PortIo = super::DefaultIo> {
    pub(crate) port: Arc<Port<P>>,
    pub(crate) info: Arc<NetpollInfo<P>>,
    pub(crate) shared: Arc<ClientShared>,
    pub(crate) ring: ClientRing<P::Buf>,
    /// Which of the port's poll contexts sends for it.
    pub(crate) queue: usize,
    pub(crate) has_hook: bool,
    pub(crate) cleaned_up: bool,
}

impl<P: PortIo> Netpoll<P> {
    /// Sends `payload` as one UDP datagram to the client's remote address: queued, or refused with a reason.
    /// Never blocks unless the drop policy says so.
    #[inline]
    pub fn send(&mut self, payload: &[u8]) -> Result<(), SendError> {
        let shared = &self.shared;
        match &mut self.ring {
            ClientRing::Exclusive(end) => {
                let wait = |end: &mut ExclusiveEnd<P::Buf>| wait_for_credit(&self.info, self.queue, shared, end);
                let result = shared.submit(end, shared.headers(), payload, wait);
                if result.is_ok() {
                    shared.mark();
                }
                result
            }
            ClientRing::Shared(ring) => send_shared(shared, ring, &self.info, self.queue, shared.headers(), payload),
        }
    }

    /// Sends each of `payloads` as [`Netpoll::send`] would, in order, and says how many were queued; the others are
    /// refused, each with its counter. Waking the poll loop costs 5 ns (a full fence), and here is paid once.
    pub fn send_burst(&mut self, payloads: &[&[u8]]) -> usize {
        let shared = &self.shared;
        let ClientRing::Exclusive(end) = &mut self.ring else {
            return payloads.iter().filter(|payload| self.send(payload).is_ok()).count();
        };
        let (mut queued, mut rest) = (0, payloads);
        while !rest.is_empty() {
            let filled = shared.submit_many(end, rest);
            (queued, rest) = (queued + filled, &rest[filled..]);
            // One that there is no credit for, or that is refused.
            let Some((payload, after)) = rest.split_first() else { break };
            let wait = |end: &mut ExclusiveEnd<P::Buf>| {
                // What is in the ring must be known before there can be room again.
                shared.mark();
                wait_for_credit(&self.info, self.queue, shared, end)
            };
            queued += usize::from(shared.submit(end, shared.headers(), payload, wait).is_ok());
            rest = after;
        }
        if queued > 0 {
            shared.mark();
        }
        queued
    }

    /// A handle through which other threads send as this client; `None` unless it was set up as shared or with an rx
    /// hook.
    pub fn shared(&self) -> Option<SharedNetpoll<P>> {
        match &self.ring {
            ClientRing::Exclusive(_) => None,
            ClientRing::Shared(ring) => Some(SharedNetpoll {
                info: self.info.clone(),
                shared: self.shared.clone(),
                ring: ring.clone(),
                queue: self.queue,
            }),
        }
    }

    /// Polls the port once for a program without a poll loop: a burst of up to `budget` frames received, answers sent, rings
    /// drained. The calling thread must be an lcore. `None`: it is not, or someone else polls now.
    pub fn poll(&self, budget: usize) -> Option<usize> {
        self.info.poll(self.queue, LcoreId::current()?, budget)
    }

    /// The client's counters now.
    pub fn stats(&self) -> ClientStats {
        self.shared.stats(self.ring.queued())
    }

    /// The client's name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The source address and UDP port.
    pub fn local(&self) -> (IpAddr, u16) {
        (self.shared.local_ip.into(), self.shared.local_port)
    }

    /// Longest payload that one frame takes, in bytes.
    pub fn max_payload(&self) -> usize {
        self.shared.max_payload
    }

    /// The state that this client's port shares.
    pub fn npinfo(&self) -> &Arc<NetpollInfo<P>> {
        &self.info
    }

    /// Takes the client off its port: what it has submitted leaves first (as far as the port takes it within 100 ms; the
    /// rest is dropped and counted `cleanup`), its hook is never called again once this returns, its mbufs are back in
    /// the pool. Not from inside a hook.
    pub fn cleanup(mut self) -> Result<ClientStats, super::SetupError> {
        self.take_down()?;
        Ok(self.stats())
    }

    fn take_down(&mut self) -> Result<(), super::SetupError> {
        if !self.cleaned_up {
            self.port.clone().cleanup_client(self)?;
            self.cleaned_up = true;
        }
        Ok(())
    }
}

impl<P: PortIo> Drop for Netpoll<P> {
    fn drop(&mut self) {
        if let Err(error) = self.take_down() {
            // Inside a hook the grace period cannot end: the client stays on its port, closed and silent.
            self.shared.close();
            tracing::error!(client = self.shared.name, %error, "client dropped without clean-up");
        }
    }
}

impl<P: PortIo> fmt::Debug for Netpoll<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Netpoll").field("client", &self.shared).field("queue", &self.queue).finish_non_exhaustive()
    }
}

/// A client's sending side for several threads.
pub struct SharedNetpoll<P: PortIo = super::DefaultIo> {
    info: Arc<NetpollInfo<P>>,
    shared: Arc<ClientShared>,
    ring: Arc<SharedRing<P::Buf>>,
    queue: usize,
}

impl<P: PortIo> SharedNetpoll<P> {
    /// As [`Netpoll::send`], from any thread.
    pub fn send(&self, payload: &[u8]) -> Result<(), SendError> {
        send_shared(&self.shared, &self.ring, &self.info, self.queue, self.shared.headers(), payload)
    }
}

impl<P: PortIo> Clone for SharedNetpoll<P> {
    fn clone(&self) -> Self {
        let Self { info, shared, ring, queue } = self;
        Self { info: info.clone(), shared: shared.clone(), ring: ring.clone(), queue: *queue }
    }
}

impl<P: PortIo> fmt::Debug for SharedNetpoll<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedNetpoll").field("client", &self.shared).finish_non_exhaustive()
    }
}

fn send_shared<P: PortIo>(
    shared: &ClientShared,
    ring: &SharedRing<P::Buf>,
    info: &NetpollInfo<P>,
    queue: usize,
    headers: Headers<'_>,
    payload: &[u8],
) -> Result<(), SendError> {
    let wait = |end: &mut &SharedRing<P::Buf>| wait_for_credit(info, queue, shared, end);
    shared.submit_shared(ring, headers, payload, wait)
}

/// Waits for a credit as long as the drop policy allows; an lcore makes room itself meanwhile.
#[cold]
fn wait_for_credit<P: PortIo>(
    info: &NetpollInfo<P>,
    queue: usize,
    shared: &ClientShared,
    end: &mut impl ClientEnd<P::Buf>,
) -> Option<P::Buf> {
    let OnFull::Wait(limit) = shared.on_full else { return None };
    let start = Instant::now();
    loop {
        match LcoreId::current() {
            Some(lcore) => drop(info.make_room(queue, lcore, POLL_BUDGET)),
            None => sync::yield_now(),
        }
        if let Some(credit) = end.credit() {
            return Some(credit);
        }
        // A client that is being cleaned up waits no longer: its clean-up waits for it.
        if start.elapsed() >= limit || shared.closing.is_closed() {
            return None;
        }
    }
}

/// Longest UDP payload on a port of that MTU, in bytes.
pub(crate) fn max_payload(mtu: usize) -> usize {
    mtu.saturating_sub(HEADERS_LEN - ethernet::HEADER_LEN).min(udp::MAX_PAYLOAD)
}

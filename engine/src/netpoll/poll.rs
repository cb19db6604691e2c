//! One poll of one queue: what the owner of the gate does.
//!
//! ```text
//! rx_burst -> filter -+- ARP, ICMP echo: answered in their own mbuf -> stage
//!                     +- UDP: kept for the hook
//!                     +- other: counted by reason, freed
//! stage -> tx_burst           (answers leave before the hook runs, however long it takes)
//! hook, once, with the burst -+- sent back: turned round where it lies -> stage
//!                             +- else: freed
//! rings -> stage -> tx_burst  (a burst a client, round robin, what the hook sent included)
//! ```
//! A burst after the other while the device fills them, [`Budget::bursts`] of them at most; after each at most [`TX_BUDGET`] frames
//! leave the rings. The gate, the clocks and the hook's `tick` come once a poll. No allocation, lock or system call of our own on the
//! way.

mod changes;
mod send_back;
mod transmit;

use std::{
    net::Ipv4Addr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use arrayvec::ArrayVec;

use super::{
    arp::{Neighbours, Resolution},
    client::{ClientShared, HookSender},
    clock::Clock,
    context::MAX_CLIENTS,
    dirty::DirtyMap,
    filter::{ArpMeta, EchoMeta, Filter, FilterRules, UdpMeta, Verdict},
    hook::{Datagram, Now, RxBurst, RxHook},
    info::RxFilter,
    port::PortShared,
    rate::TokenBucket,
    ring::EngineRing,
    send::{STAGE_FRAMES, TX_BUDGET, TxStage},
    stats::{QueueCounters, QueueLedger},
};
use crate::{
    port::{ChecksumVerdict, Frame, MAX_BURST, Missed, PortIo},
    wire::{
        MacAddr,
        arp::{self, Arp, Operation},
        checksum, ethernet, icmp,
        template::HEADERS_LEN,
    },
};

/// Frames that one client may send in a row before it is the next one's turn.
const CLIENT_BURST: usize = 32;
/// How often the link state is looked at.
const LINK_CHECK_NS: u64 = 10_000_000;

/// How much one poll receives at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    /// Frames that are received, filtered, handed over and freed together, 1 to [`MAX_BURST`].
    pub(crate) burst: usize,
    /// Bursts one after the other, as long as the device fills them.
    pub(crate) bursts: usize,
}

impl Budget {
    /// A single burst of so many frames, [`MAX_BURST`] at most.
    pub(crate) fn one_burst(frames: usize) -> Self {
        Budget { burst: frames.min(MAX_BURST), bursts: 1 }
    }
}

/// What the gate of one queue guards.
pub(crate) struct PollState<P: PortIo> {
    io: P,
    port: Arc<PortShared>,
    ledger: Arc<QueueLedger>,
    pub(crate) filter: Filter,
    rx_np: Option<RxNp<P::Buf>>,
    clients: Vec<Option<EngineClient<P::Buf>>>,
    pub(crate) dirty: Arc<DirtyMap>,
    /// Whose turn it is to send.
    turn: usize,
    /// Clients that are owed credits since the pool was empty, each once.
    owed: Vec<usize>,
    neighbours: Arc<Neighbours>,
    answers: TokenBucket,
    clock: Clock,
    link_checked_ns: u64,
    stage: TxStage<P::Buf>,
    /// Frames of the burst under way: as received, those for the hook, those done with.
    rx: Vec<P::Buf>,
    deliver: Vec<P::Buf>,
    metas: ArrayVec<UdpMeta, MAX_BURST>,
    done: Vec<P::Buf>,
    /// Buffers on their way from the pool to a client.
    credits: Vec<P::Buf>,
}

/// The rx hook's instance of this queue, with its sending side.
pub(crate) struct RxNp<B> {
    hook: Box<dyn RxHook>,
    np: HookSender<B>,
    panicked: bool,
}

impl<B: Frame> RxNp<B> {
    pub(crate) fn new(hook: Box<dyn RxHook>, np: HookSender<B>) -> Self {
        Self { hook, np, panicked: false }
    }

    /// Calls the hook, of whose datagrams up to `room` may be sent back. `false` where it panicked, after which it is not to be
    /// called any more; and the bits of those that it sends back.
    #[inline]
    fn call(&mut self, now: Now, datagrams: &[Datagram<'_>], room: usize) -> (bool, u64) {
        let burst = RxBurst { now, datagrams };
        self.np.begin(datagrams, room);
        let call = AssertUnwindSafe(|| self.hook.rx_hook(&self.np, &burst));
        let called = catch_unwind(call);
        let marked = self.np.end();
        (self.note(&called), marked)
    }

    /// Whether a call came back; if it panicked, that is told, once.
    #[inline]
    fn note(&mut self, called: &std::thread::Result<()>) -> bool {
        self.panicked = called.is_err();
        if self.panicked {
            tracing::error!(client = self.np.shared.name, "rx hook panicked: it is not called any more");
        }
        !self.panicked
    }
}

/// What came of a client's turn to send.
#[derive(Clone, Copy)]
struct Turn {
    /// Frames that it got rid of.
    taken: usize,
    /// Whether it has more.
    left: bool,
}

/// A client as its poll context knows it.
pub(crate) struct EngineClient<B> {
    shared: Arc<ClientShared>,
    ring: EngineRing<B>,
    /// Where its frames go first, if that is to be found by ARP, and the answer.
    next_hop: Option<Ipv4Addr>,
    resolution: Resolution,
    valid_until_ns: u64,
    /// Credits that it has still to get.
    owed: usize,
    in_owed_list: bool,
}

impl<B> EngineClient<B> {
    pub(crate) fn new(shared: Arc<ClientShared>, ring: EngineRing<B>, next_hop: Option<Ipv4Addr>, owed: usize) -> Self {
        let resolution = Resolution::Waiting;
        Self { shared, ring, next_hop, resolution, valid_until_ns: 0, owed, in_owed_list: false }
    }
}

impl<P: PortIo> PollState<P> {
    pub(crate) fn new(
        mut io: P,
        port: &Arc<PortShared>,
        ledger: &Arc<QueueLedger>,
        neighbours: &Arc<Neighbours>,
        queues: u32,
        stale: bool,
    ) -> Self {
        let options = &port.options;
        let rules = FilterRules {
            mac: port.mac,
            multicast: options.multicast.clone(),
            kernel_backed: port.offloads.kernel_backed,
            accept_partial: options.accept_partial,
            ..FilterRules::default()
        };
        let mut rx = Vec::with_capacity(MAX_BURST);
        if stale {
            drop_stale(&mut io, &mut rx, &ledger.counters);
        }
        Self {
            io,
            port: port.clone(),
            ledger: ledger.clone(),
            filter: Filter::new(rules),
            rx_np: None,
            clients: Vec::new(),
            dirty: Arc::new(DirtyMap::new(MAX_CLIENTS)),
            turn: 0,
            owed: Vec::new(),
            neighbours: neighbours.clone(),
            answers: TokenBucket::new(options.answers_per_second.div_ceil(queues)),
            clock: Clock::new(),
            link_checked_ns: 0,
            stage: TxStage::new(),
            rx,
            deliver: Vec::with_capacity(MAX_BURST),
            metas: ArrayVec::new(),
            done: Vec::with_capacity(MAX_BURST),
            credits: Vec::with_capacity(MAX_BURST),
        }
    }

    /// One poll; the frames it moved.
    #[inline]
    pub(crate) fn poll(&mut self, budget: Budget, make_room: bool) -> usize {
        let now = self.clock.now();
        self.check_link(now.mono_ns);
        let mut work = 0;
        for _ in 0..budget.bursts {
            let received = self.io.rx_burst(&mut self.rx, budget.burst);
            if received > 0 && !self.deliver_whole(now) {
                self.filter(received, now.mono_ns, make_room);
                self.flush(now.mono_ns);
                self.deliver(now);
                self.io.free(&mut self.done);
            }
            work += received;
            if received < budget.burst {
                break;
            }
            // No client waits for more than one burst.
            if self.has_frames_to_send() {
                work += self.drain_clients(now.mono_ns);
            }
        }
        work += self.drain_clients(now.mono_ns) + self.io.passed_on();
        if let Some(rx_np) = self.rx_np.as_mut().filter(|rx_np| !rx_np.panicked) {
            let ticked = catch_unwind(AssertUnwindSafe(|| rx_np.hook.tick(now)));
            rx_np.note(&ticked);
        }
        let counters = &self.ledger.counters;
        if work > 0 {
            counters.busy_polls.add(1)
        } else {
            counters.idle_polls.add(1)
        }
        work
    }

    /// The burst that holds nothing but datagrams for the hook: looked at and handed over where it lies. `false`, and
    /// nothing done, where there is anything else in it, a partial checksum too. (8 ns a frame where sorting it first takes 13. Not inlined, nor
    /// with the filter's careful half: the loop then has the registers to itself.)
    #[inline(never)]
    fn deliver_whole(&mut self, now: Now) -> bool {
        let room = self.room_to_send_back();
        let Some(rx_np) = self.rx_np.as_mut().filter(|rx_np| !rx_np.panicked) else { return false };
        let mut datagrams = ArrayVec::<_, MAX_BURST>::new();
        let whole = Whole { filter: &self.filter, frames: &self.rx, datagrams: &mut datagrams };
        let Some(bytes) = checksum::run(whole) else { return false };
        let count = datagrams.len() as u64;
        let counters = &self.ledger.counters;
        counters.received.add(count);
        counters.received_bytes.add(bytes);
        let (delivered, marked) = rx_np.call(now, &datagrams, room);
        let ending = if delivered { &counters.delivered } else { &counters.hook_panicked };
        ending.add(count);
        drop(datagrams);
        let mut frames = std::mem::take(&mut self.rx);
        self.end_burst(&mut frames, marked, false);
        self.rx = frames;
        true
    }

    /// Decides each frame of the burst.
    fn filter(&mut self, received: usize, now_ns: u64, make_room: bool) {
        let counters = &self.ledger.counters;
        counters.received.add(received as u64);
        let mut bytes = 0;
        let mut partial = 0;
        let mut rx = std::mem::take(&mut self.rx);
        for frame in rx.drain(..) {
            let data = frame.data();
            bytes += data.len() as u64;
            let (ip, udp) = frame.checksums();
            match self.filter.classify(data, frame.is_contiguous(), ip, udp) {
                Verdict::Udp(meta) => {
                    partial += u64::from(meta.partial);
                    // Room by construction: a burst is at most MAX_BURST frames.
                    self.metas.push(meta);
                    self.deliver.push(frame);
                }
                Verdict::Arp(meta) => self.arp(frame, &meta, now_ns),
                Verdict::IcmpEcho(meta) => self.echo(frame, &meta, now_ns),
                Verdict::Unmatched(_) if make_room => {
                    self.ledger.counters.rx_drop.add(1);
                    self.done.push(frame);
                }
                Verdict::Unmatched(reason) => {
                    self.ledger.unmatched[reason as usize].add(1);
                    self.done.push(frame);
                }
            }
        }
        self.rx = rx;
        let counters = &self.ledger.counters;
        counters.received_bytes.add(bytes);
        if partial > 0 {
            counters.delivered_partial.add(partial);
        }
    }

    /// Hands the burst's datagrams to the hook.
    fn deliver(&mut self, now: Now) {
        let count = self.metas.len() as u64;
        if count == 0 {
            return;
        }
        let room = self.room_to_send_back();
        // The filter lets UDP through only where there is an rx client; its hook may have panicked, though.
        let (delivered, marked) = match self.rx_np.as_mut().filter(|rx_np| !rx_np.panicked) {
            Some(rx_np) => {
                let mut datagrams = ArrayVec::<_, MAX_BURST>::new();
                for (meta, frame) in self.metas.iter().zip(&self.deliver) {
                    datagrams.push(meta.datagram(frame.data()));
                }
                rx_np.call(now, &datagrams, room)
            }
            None => (false, 0),
        };
        let counters = &self.ledger.counters;
        let ending = if delivered { &counters.delivered } else { &counters.hook_panicked };
        ending.add(count);
        let partial = self.metas.iter().any(|meta| meta.partial);
        self.metas.clear();
        let mut frames = std::mem::take(&mut self.deliver);
        self.end_burst(&mut frames, marked, partial);
        self.deliver = frames;
    }

    fn arp(&mut self, mut frame: P::Buf, meta: &ArpMeta, now_ns: u64) {
        let sender = (meta.arp.sender_ip, meta.arp.sender_mac);
        let learned = self.neighbours.learn(sender.0, sender.1, now_ns);
        match meta.arp.operation {
            Operation::Request if !self.answers.take(now_ns) => self.rate_limited(frame),
            Operation::Request => {
                let mac = self.filter.rules().mac;
                arp::reply_in_place(frame.data_mut(), usize::from(meta.at), mac);
                self.answer(frame, |counters| counters.arp_answered.add(1));
            }
            Operation::Reply => {
                let counters = &self.ledger.counters;
                let ending = if learned { &counters.arp_learned } else { &counters.arp_unasked };
                ending.add(1);
                self.done.push(frame);
            }
        }
    }

    fn echo(&mut self, mut frame: P::Buf, meta: &EchoMeta, now_ns: u64) {
        if !self.answers.take(now_ns) {
            return self.rate_limited(frame);
        }
        icmp::reply_in_place(frame.data_mut(), usize::from(meta.ip_at), self.filter.rules().mac);
        self.answer(frame, |counters| counters.icmp_answered.add(1));
    }

    fn rate_limited(&mut self, frame: P::Buf) {
        self.ledger.counters.rate_limited.add(1);
        self.done.push(frame);
    }

    fn answer(&mut self, frame: P::Buf, answered: impl FnOnce(&QueueCounters)) {
        let counters = &self.ledger.counters;
        match self.stage.push_own(frame, counters) {
            Ok(()) => answered(counters),
            Err(frame) => {
                counters.answer_backlog_full.add(1);
                self.done.push(frame);
            }
        }
    }
}

/// The common burst: nothing but datagrams for the hook.
struct Whole<'a, 'b, B> {
    filter: &'b Filter,
    frames: &'a [B],
    datagrams: &'b mut ArrayVec<Datagram<'a>, MAX_BURST>,
}

impl<B: Frame> checksum::Job for Whole<'_, '_, B> {
    /// Bytes of the frames; `None` where there is any other one.
    type Output = Option<u64>;

    #[inline(always)] // As the trait says.
    fn run<S: checksum::Sum>(self) -> Self::Output {
        use ChecksumVerdict::{Good, Unknown};
        let mut bytes = 0;
        let common = self.filter.common();
        for frame in self.frames {
            let data = frame.data();
            let whole = frame.is_contiguous();
            // A loop body for each pair that a driver says of all its frames: the common one has no tests for the others.
            let meta = match frame.checksums() {
                verdicts @ (Unknown, Unknown) => common.datagram::<S>(data, whole, verdicts),
                verdicts @ (Good, Good) => common.datagram::<S>(data, whole, verdicts),
                verdicts => common.datagram::<S>(data, whole, verdicts),
            }?;
            // Not `push`: a loop that can panic is compiled worse.
            self.datagrams.try_push(meta.datagram(data)).ok()?;
            bytes += data.len() as u64;
        }
        let listed = !self.filter.has_lists() || self.datagrams.iter().all(|datagram| self.filter.lists(datagram));
        listed.then_some(bytes)
    }
}

/// Frames that came after the port's last client had left are of no use to the new one: their time of arrival is
/// unknown.
fn drop_stale<P: PortIo>(io: &mut P, frames: &mut Vec<P::Buf>, counters: &QueueCounters) {
    /// More than any ring of descriptors holds; a port that delivers without end must not keep us.
    const MOST: usize = 8192;
    let mut dropped = 0;
    while dropped < MOST && io.rx_burst(frames, MAX_BURST) > 0 {
        dropped += frames.len();
        counters.received.add(frames.len() as u64);
        counters.stale.add(frames.len() as u64);
        io.free(frames);
    }
}

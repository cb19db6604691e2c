//! The sink's end on the polling lcore: appends datagrams to batches and hands those to the writer.
//!
//! One instance a queue. It owns one batch at a time; a ring takes full batches to the writer and another
//! one brings them back empty. Nothing here allocates, locks, waits or makes a system call: where no
//! empty batch is left, datagrams are dropped and counted, and a note of whose they were goes to the writer.

use std::sync::Arc;

use rtrb::{Consumer, Producer, RingBuffer};

use super::{
    batch::{Batch, addr_bytes},
    done::Done,
    ledger::HookCounters,
    loss::{Loss, Losses, Whose},
    notices::{self, Notice},
    settings::HookSettings,
    shed::{ShedPolicy, Shedder, Verdict},
    source_limit::SourceLimit,
};
use crate::{
    ids::QueueId,
    netpoll::hook::{Datagram, HookSend, Now, RxBurst, RxHook},
};

/// What a hook shares with the sink.
#[derive(Debug)]
pub(super) struct HookShared {
    pub(super) queue: QueueId,
    pub(super) counters: HookCounters,
    /// The hook is gone and has flushed.
    pub(super) done: Done,
}

/// The writer's ends of one hook's rings.
#[derive(Debug)]
pub(super) struct QueueEnds {
    pub(super) shared: Arc<HookShared>,
    pub(super) full: Consumer<Batch>,
    pub(super) empty: Producer<Batch>,
    pub(super) notices: Consumer<Notice>,
    /// What the writer knows of `hidden_notices`.
    pub(super) hidden_seen: u64,
    /// What was dropped before the batches that are in `full`, and perhaps some of after.
    pub(super) losses: Consumer<Loss>,
}

/// The sink's [`RxHook`]. Dropping it hands its last batch to the writer.
#[derive(Debug)]
pub struct SinkHook {
    current: Option<Batch>,
    /// When the current batch got its first row.
    opened_ns: u64,
    full: Producer<Batch>,
    /// Comes back from the writer.
    empty: Consumer<Batch>,
    /// Empty ones at hand, the last that came back on top: as long as the writer keeps up, the same few are used, which the caches still
    /// hold.
    spare: Vec<Batch>,
    batch_count: usize,
    batch_bytes: usize,
    /// Sixteenths of the batches (but the current one) that are empty.
    level: u8,
    source_limit: SourceLimit,
    shedder: Shedder,
    settings: Arc<HookSettings>,
    generation: u64,
    flush_ns: u64,
    open_rows: u64,
    losses: Losses,
    loss_ring: Producer<Loss>,
    handed_ns: u64,
    shared: Arc<HookShared>,
}

/// Sources (each with a reason) whose drops are told apart between two batches.
const LOSS_PLACES: usize = 128;
/// Of those, what one source can reach: what a drop costs at most.
const LOSS_REACH: usize = 32;
/// Losses on their way to the writer; while there is no room they gather in the hook.
const LOSS_RING: usize = 1024;
/// How long losses may wait for a batch to go along with.
const LOSS_WAIT_NS: u64 = 100_000_000;

impl SinkHook {
    /// A hook with `batch_count` (at least 2) batches of its own, and the writer's side of it.
    pub(super) fn new(
        queue: QueueId,
        batch_count: usize,
        batch_rows: usize,
        batch_bytes: usize,
        settings: Arc<HookSettings>,
    ) -> (SinkHook, QueueEnds) {
        let batch_count = batch_count.max(2);
        // Each ring has room for all batches, so that neither side ever finds its ring full.
        let (full, full_end) = RingBuffer::new(batch_count);
        let (empty_end, empty) = RingBuffer::new(batch_count);
        let spare = (0..batch_count).map(|_| Batch::new(batch_rows, batch_bytes)).collect();
        let (notices, notices_end) = RingBuffer::new(notices::RING);
        let (loss_ring, losses_end) = RingBuffer::new(LOSS_RING);
        let shared = Arc::new(HookShared { queue, counters: HookCounters::default(), done: Done::new() });
        let mut hook = SinkHook {
            current: None,
            opened_ns: 0,
            full,
            empty,
            spare,
            batch_count,
            batch_bytes: batch_bytes.clamp(1, i32::MAX as usize),
            level: 16,
            source_limit: SourceLimit::new(notices),
            shedder: Shedder::new(ShedPolicy::OFF),
            generation: 0,
            settings,
            flush_ns: u64::MAX,
            open_rows: 0,
            losses: Losses::new(LOSS_PLACES, LOSS_REACH),
            loss_ring,
            handed_ns: 0,
            shared: shared.clone(),
        };
        hook.apply_settings();
        (
            hook,
            QueueEnds {
                shared,
                full: full_end,
                empty: empty_end,
                losses: losses_end,
                notices: notices_end,
                hidden_seen: 0,
            },
        )
    }

    #[cold]
    fn apply_settings(&mut self) {
        let settings = self.settings.read();
        (self.generation, self.flush_ns) = (settings.generation, settings.flush_ns);
        self.shedder.set_policy(settings.shed);
        self.source_limit.set_lines_per_s(settings.lines_per_source, &self.shared.counters.hidden_notices);
    }

    #[inline]
    fn update_level(&mut self) {
        self.level = ((self.empty.slots() + self.spare.len()) * 16 / (self.batch_count - 1)).min(16) as u8;
    }

    /// Puts one datagram into a batch, or counts why not.
    #[inline]
    fn append(&mut self, datagram: &Datagram<'_>, now: Now) {
        if let Some(batch) = &mut self.current
            && batch.push(datagram, now.real_ns)
        {
            return;
        }
        self.append_to_next(datagram, now);
    }

    #[inline(never)]
    fn append_to_next(&mut self, datagram: &Datagram<'_>, now: Now) {
        if datagram.payload().len() > self.batch_bytes {
            self.shared.counters.too_long.add(1);
            self.note_loss(datagram, "too_long", now);
            return;
        }
        self.send_current();
        let next = if self.current.is_none() { self.take_empty() } else { None };
        let Some(mut batch) = next else {
            self.shared.counters.batch_ring_full.add(1);
            self.note_loss(datagram, "batch_ring_full", now);
            return;
        };
        self.update_level();
        self.opened_ns = now.mono_ns;
        // Empty, and large enough for it: there is room.
        let pushed = batch.push(datagram, now.real_ns);
        debug_assert!(pushed);
        self.current = Some(batch);
    }

    fn take_empty(&mut self) -> Option<Batch> {
        // Room for all of them from the start.
        while let Ok(batch) = self.empty.pop() {
            self.spare.push(batch);
        }
        self.spare.pop()
    }

    /// Hands the current batch to the writer.
    fn send_current(&mut self) {
        let Some(batch) = self.current.take() else { return };
        let rows = batch.rows() as u64;
        // Ahead of it: who reads the batch then knows of all that was dropped before its end.
        self.hand_over_losses();
        match self.full.push(batch) {
            Ok(()) => {
                self.shared.counters.sent_rows.add(rows);
                self.shared.counters.sent_batches.add(1);
            }
            // The ring has room for all batches; should it ever not, the batch is kept and nothing lost.
            Err(rtrb::PushError::Full(batch)) => self.current = Some(batch),
        }
    }

    /// Publishes how many rows the current batch holds.
    fn publish_open_rows(&mut self) {
        let rows = self.current.as_ref().map_or(0, |batch| batch.rows() as u64);
        self.shared.counters.open_rows.add(rows.wrapping_sub(self.open_rows));
        self.open_rows = rows;
    }

    #[cold]
    fn shed(&mut self, datagram: &Datagram<'_>, verdict: Verdict, now: Now) {
        let reason = match verdict {
            Verdict::Keep => return,
            Verdict::FairShare => {
                self.shared.counters.fair_share.add(1);
                "fair_share"
            }
            Verdict::Severity(severity) => {
                self.shared.counters.shed(severity).add(1);
                HookCounters::shed_name(severity)
            }
        };
        self.note_loss(datagram, reason, now);
    }

    #[cold]
    fn note_loss(&mut self, datagram: &Datagram<'_>, reason: &'static str, now: Now) {
        let whose = Whose {
            src_ip: datagram.src_ip(),
            src_port: datagram.src_port(),
            dst_ip: datagram.dst_ip(),
            dst_port: datagram.dst_port(),
        };
        self.losses.add(Loss::one(whose, reason, datagram.payload(), now.real_ns));
    }

    fn hand_over_losses(&mut self) {
        while self.loss_ring.slots() > 0
            && let Some(loss) = self.losses.pop()
        {
            let pushed = self.loss_ring.push(loss);
            debug_assert!(pushed.is_ok(), "there was room");
        }
    }
}

impl RxHook for SinkHook {
    fn rx_hook(&mut self, _np: &dyn HookSend, burst: &RxBurst<'_>) {
        let count = burst.datagrams.len() as u64;
        self.shared.counters.delivered.add(count);
        if self.settings.is_closed() {
            self.shared.counters.sink_closed.add(count);
            return;
        }
        self.update_level();
        for datagram in burst.datagrams {
            let src = addr_bytes(datagram.src_ip());
            let counters = &self.shared.counters;
            if !self.source_limit.allows(&src, burst.now.mono_ns, &counters.hidden_notices) {
                counters.source_rate.add(1);
                self.note_loss(datagram, "source_rate", burst.now);
                continue;
            }
            match self.shedder.judge(&src, datagram.payload(), self.level, burst.now.mono_ns) {
                Verdict::Keep => self.append(datagram, burst.now),
                verdict => self.shed(datagram, verdict, burst.now),
            }
        }
        self.publish_open_rows();
    }

    fn tick(&mut self, now: Now) {
        if self.settings.changed_since(self.generation) {
            self.apply_settings();
        }
        self.shedder.tick(now.mono_ns);
        self.source_limit.tick(now.mono_ns, &self.shared.counters.hidden_notices);
        // Only to a writer that keeps up: else each interval would use up a batch for a few rows.
        let closed = self.settings.is_closed();
        let due = self.current.is_some() && !closed && now.mono_ns.saturating_sub(self.opened_ns) >= self.flush_ns;
        if due && self.full.slots() == self.batch_count {
            self.send_current();
            self.publish_open_rows();
        }
        if !self.losses.is_empty() && now.mono_ns.saturating_sub(self.handed_ns) >= LOSS_WAIT_NS {
            self.handed_ns = now.mono_ns;
            self.hand_over_losses();
        }
    }
}

impl Drop for SinkHook {
    fn drop(&mut self) {
        self.source_limit.end_all(&self.shared.counters.hidden_notices);
        if self.settings.is_closed() {
            // Nobody would take it.
            let rows = self.current.take().map_or(0, |batch| batch.rows() as u64);
            self.shared.counters.sink_closed.add(rows);
        }
        self.send_current();
        self.hand_over_losses();
        self.publish_open_rows();
        self.shared.done.set();
    }
}

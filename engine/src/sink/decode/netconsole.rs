//! The way of a netconsole datagram through its flow.

use super::{
    DecodeCounters, Decoder, Flow, Header, Output, Scratch,
    basic::{self, BasicTail, Next},
    body, emit,
    flow::FlowKey,
    fragments::Fragments,
    gap::{self, Gap, GapKind, Here, Last},
    held::{Held, Met, identity_fragment, identity_whole},
    start,
    table::{self, Place},
};
use crate::sink::{
    batch::RawDatagram,
    decode::DecodeConfig,
    record::{EventTime, Flags, Record},
};

/// How far a kernel's stamps may go back without a boot in between.
const USEC_TOLERANCE: u64 = 5_000_000;

/// After every deadline.
pub(super) const FLUSH_NS: u64 = table::NEVER - 1;

/// All that a flow's messages need on their way out.
pub(super) struct Exit<'a> {
    config: &'a DecodeConfig,
    counters: &'a DecodeCounters,
    scratch: &'a mut Scratch,
    clk_ns: u64,
    seed: u64,
    here: &'a mut Here,
    out: &'a mut dyn Output,
}

impl Decoder {
    /// Takes a datagram of extended netconsole.
    pub(super) fn extended(
        &mut self,
        datagram: &RawDatagram<'_>,
        header: &Header<'_>,
        body: &[u8],
        out: &mut dyn Output,
    ) {
        self.counters.as_netconsole_extended.add(1);
        self.with_flow(datagram, out, |flow, exit| exit.take_extended(flow, datagram, header, body));
    }

    /// Takes a datagram of basic netconsole.
    pub(super) fn basic(&mut self, datagram: &RawDatagram<'_>, out: &mut dyn Output) {
        self.counters.as_netconsole_basic.add(1);
        self.with_flow(datagram, out, |flow, exit| exit.take_basic(flow, datagram));
    }

    /// Runs `work` on the flow of `datagram`, with its place in the table and the limits seen to.
    fn with_flow(
        &mut self,
        datagram: &RawDatagram<'_>,
        out: &mut dyn Output,
        work: impl FnOnce(&mut Flow, &mut Exit<'_>),
    ) {
        let key = FlowKey {
            src_ip: datagram.src_ip,
            src_port: datagram.src_port,
            dst_ip: datagram.dst_ip,
            dst_port: datagram.dst_port,
        };
        let (slot, mut flow) = match self.table.find(&key) {
            Place::Found(slot) => (slot, self.table.take(slot).unwrap_or_default()),
            Place::Claim(slot) => (slot, self.claim(slot, key, out)),
        };
        flow.used_ns = self.clk_ns;
        flow.messages += 1;
        self.work(slot, flow, out, work);
        if self.held_bytes > self.config.total_bytes {
            self.relieve(out);
        }
    }

    /// Works on a flow that was taken from `slot`, and puts it back.
    pub(super) fn work(
        &mut self,
        slot: usize,
        mut flow: Box<Flow>,
        out: &mut dyn Output,
        work: impl FnOnce(&mut Flow, &mut Exit<'_>),
    ) {
        let before = flow.held_bytes();
        let mut exit = Exit {
            config: &self.config,
            counters: &self.counters,
            scratch: &mut self.scratch,
            clk_ns: self.clk_ns,
            seed: self.table.seed(),
            here: &mut self.here,
            out,
        };
        work(&mut flow, &mut exit);
        let deadline_ns = flow.deadline_ns(|held| exit.turn_ns(held));
        self.held_bytes = (self.held_bytes + flow.held_bytes()).saturating_sub(before);
        self.table.put(slot, flow, deadline_ns);
    }

    /// Empties a slot for a new flow.
    fn claim(&mut self, slot: usize, key: FlowKey, out: &mut dyn Output) -> Box<Flow> {
        let Some(flow) = self.table.take(slot) else { return Box::new(Flow { key, ..Flow::default() }) };
        self.counters.flows_evicted.add(1);
        self.work(slot, flow, out, |flow, exit| exit.release(flow, FLUSH_NS, true));
        let mut flow = self.table.take(slot).unwrap_or_default();
        // The room of what it remembered is used again.
        let mut seen = std::mem::take(&mut flow.seen);
        seen.clear();
        *flow = Flow { key, seen, ..Flow::default() };
        flow
    }

    /// Lets go what is due at `clk_ns`, in all flows. `all` ends what has a deadline of its own as well.
    pub(super) fn release(&mut self, clk_ns: u64, all: bool, out: &mut dyn Output) {
        let mut from = 0;
        while let Some(slot) = self.table.next_due(from, clk_ns) {
            from = slot + 1;
            if let Some(flow) = self.table.take(slot) {
                self.work(slot, flow, out, |flow, exit| exit.release(flow, clk_ns, all));
            }
        }
    }

    /// Lets go what has waited longest until a quarter of the limit is free.
    pub(super) fn relieve(&mut self, out: &mut dyn Output) {
        self.counters.early_by_total_limit.add(1);
        while self.held_bytes > self.config.total_bytes / 4 * 3 {
            let Some((first, last)) = self.table.deadline_span() else { return };
            self.release(first + (last - first) / 4, false, out);
        }
    }
}

impl Exit<'_> {
    fn take_extended(&mut self, flow: &mut Flow, datagram: &RawDatagram<'_>, header: &Header<'_>, body: &[u8]) {
        if self.is_boot(flow, header) {
            self.counters.boots.add(1);
            self.release(flow, FLUSH_NS, true);
            flow.clock = Default::default();
            flow.highest = None;
            flow.last = None;
            flow.taken.clear();
        }
        let (highest_seq, highest_usec) = flow.highest.unwrap_or_default();
        flow.highest = Some((highest_seq.max(header.seq), highest_usec.max(header.usec)));
        flow.clock.sample(datagram.time_ns, header.usec);
        let mut conflicts = 0;
        let met = flow.queue.meet(datagram.payload, header, body, &mut conflicts);
        self.counters.fragment_conflicts.add(conflicts);
        let identity = match header.slice {
            None => identity_whole(self.seed, datagram.payload),
            Some(slice) => identity_fragment(self.seed, header.seq, header.usec, slice.total),
        };
        match met {
            Met::Joined => {}
            Met::DuplicateMessage => self.counters.duplicate_messages.add(1),
            Met::DuplicateFragment => self.counters.duplicate_fragments.add(1),
            Met::Nobody if flow.was_seen(header.seq, identity) => match header.slice {
                None => self.counters.duplicate_messages.add(1),
                Some(_) => self.counters.duplicate_fragments.add(1),
            },
            Met::Nobody => flow.queue.insert(self.hold(datagram, header, body)),
        }
        self.release(flow, self.clk_ns, false);
        while flow.queue.len() > self.config.flow_messages || flow.held_bytes() > self.config.flow_bytes {
            self.counters.early_by_flow_limit.add(1);
            if !self.pop(flow) {
                // Not the queue: crash groups.
                self.crashes(flow, FLUSH_NS);
                break;
            }
        }
    }

    /// The sender has booted since: its seq and its clock do not go on from where they were.
    fn is_boot(&self, flow: &Flow, header: &Header<'_>) -> bool {
        let Some((seq, usec)) = flow.highest else { return false };
        let backwards = header.usec.saturating_add(USEC_TOLERANCE) < usec;
        // A late message has an older stamp, but not by much, and not a newer one.
        backwards || (header.seq < seq && header.usec > usec.saturating_add(USEC_TOLERANCE))
    }

    fn hold(&self, datagram: &RawDatagram<'_>, header: &Header<'_>, body: &[u8]) -> Held {
        let header_bytes = datagram.payload.len() - body.len();
        let (bytes, fragments) = match header.slice {
            None => (datagram.payload, None),
            Some(slice) => (&datagram.payload[..header_bytes], Some(Fragments::new(slice, body))),
        };
        Held {
            seq: header.seq,
            usec: header.usec,
            clk_ns: self.clk_ns,
            time_ns: datagram.time_ns,
            parts: 1,
            caller: table::hash(self.seed, header.caller),
            continuation: header.continuation,
            bytes: bytes.to_vec(),
            fragments,
        }
    }

    /// When a waiting message's turn comes at the latest.
    fn turn_ns(&self, held: &Held) -> u64 {
        let wait_ns = if held.complete() { self.config.order_window_ns } else { self.config.fragment_timeout_ns };
        held.clk_ns.saturating_add(wait_ns).min(FLUSH_NS)
    }

    /// Lets go what is due at `clk_ns`.
    pub(super) fn release(&mut self, flow: &mut Flow, clk_ns: u64, all: bool) {
        while flow.queue.front().is_some_and(|held| all || self.turn_ns(held) <= clk_ns) {
            self.pop(flow);
        }
        if flow.basic.as_ref().is_some_and(|tail| all || tail.deadline_ns() <= clk_ns) {
            self.end_basic(flow, false);
        }
        self.crashes(flow, clk_ns);
    }

    /// Lets the first of the queue go, with the continuation lines that belong to it.
    fn pop(&mut self, flow: &mut Flow) -> bool {
        let Some(held) = flow.queue.pop() else { return false };
        let mut record = std::mem::take(&mut self.scratch.record);
        self.decode_held(flow, &held, &mut record);
        let msgid = record.msgid.parse().ok();
        if held.complete() {
            flow.remember(held.seq, held.identity(self.seed));
        }
        self.note_gap(flow, &held, msgid, &mut record);
        if held.continuation {
            self.counters.continuations_orphaned.add(1);
            record.flags |= Flags::ORPHAN;
        }
        while let Some(next) = flow.queue.pop_continuation(held.caller) {
            flow.remember(next.seq, next.identity(self.seed));
            flow.taken.push(next.seq);
            self.counters.continuations_joined.add(1);
            let mut line = std::mem::take(&mut self.scratch.joined);
            self.decode_held(flow, &next, &mut line);
            record.append("", &line);
            record.flags |= Flags::JOINED;
            self.scratch.joined = line;
        }
        if let Some((ns, error_ns)) = flow.clock.absolute(held.time_ns, held.usec) {
            record.event_time = Some(EventTime { ns, error_ns });
        }
        self.finish(flow, &record);
        self.scratch.record = record;
        true
    }

    fn decode_held(&mut self, flow: &Flow, held: &Held, record: &mut Record) {
        let datagram = RawDatagram {
            time_ns: held.time_ns,
            src_ip: flow.key.src_ip,
            src_port: flow.key.src_port,
            dst_ip: flow.key.dst_ip,
            dst_port: flow.key.dst_port,
            payload: &held.bytes,
        };
        start(&datagram, record);
        record.parts = held.parts;
        let Scratch { escapes, body: assembled, .. } = &mut *self.scratch;
        let Some(fragments) = &held.fragments else {
            // It parsed when it came.
            if let Some((header, body)) = Header::parse(&held.bytes) {
                body::decode(&header, body, escapes, record);
            }
            return;
        };
        fragments.assemble(assembled);
        if !fragments.complete() {
            record.flags |= Flags::HOLES | Flags::INCOMPLETE;
        }
        if let Some(header) = Header::parse_stored(&held.bytes) {
            body::decode(&header, assembled, escapes, record);
        }
    }

    /// What is missing between the message let go last and this one.
    fn note_gap(&mut self, flow: &mut Flow, held: &Held, msgid: Option<u32>, record: &mut Record) {
        let next = Last { seq: held.seq, msgid, time_ns: held.time_ns };
        let Some(last) = flow.last.replace(next) else { return };
        if next.seq <= last.seq {
            flow.last = Some(last);
            record.flags |= Flags::LATE;
            return;
        }
        let taken = flow.taken.iter().filter(|seq| (last.seq..next.seq).contains(seq)).count();
        let (lost, never_sent, unknown) = gap::missing(&last, &next, taken as u64);
        // Told as lost here already. (One of the two is 0.)
        let explained = self.here.settle(&flow.key, &last, &next, &flow.taken, lost + unknown);
        flow.taken.retain(|seq| *seq > next.seq);
        let (lost, unknown) = (lost.saturating_sub(explained), unknown.saturating_sub(explained));
        self.counters.missing_here.add(explained);
        let on_the_way = if self.here.lost_unknown(&last, &next) { GapKind::Lost } else { GapKind::LostOnTheWay };
        for (count, kind, counter) in [
            (lost, on_the_way, &self.counters.missing_lost),
            (never_sent, GapKind::NeverSent, &self.counters.missing_never_sent),
            (unknown, GapKind::Unknown, &self.counters.missing_unknown),
        ] {
            if count == 0 {
                continue;
            }
            counter.add(count);
            self.out.gap(&Gap {
                after_ns: last.time_ns,
                before_ns: next.time_ns,
                src_ip: flow.key.src_ip,
                src_port: flow.key.src_port,
                dst_ip: flow.key.dst_ip,
                dst_port: flow.key.dst_port,
                kind,
                count,
                after_seq: Some(last.seq),
                before_seq: Some(next.seq),
                reason: None,
            });
        }
    }

    fn take_basic(&mut self, flow: &mut Flow, datagram: &RawDatagram<'_>) {
        // The common case holds nothing.
        if flow.basic.is_none() && !basic::goes_on(datagram.payload) {
            let mut record = std::mem::take(&mut self.scratch.record);
            start(datagram, &mut record);
            basic::decode(datagram.payload, &mut record);
            self.finish_basic(flow, &mut record);
            self.scratch.record = record;
            return;
        }
        let tail = flow.basic.get_or_insert_with(|| BasicTail::new(datagram, self.clk_ns));
        match tail.add(datagram.payload, self.clk_ns) {
            Next::Wait => {}
            Next::Done => self.end_basic(flow, true),
            Next::Limit => self.end_basic(flow, false),
        }
    }

    fn end_basic(&mut self, flow: &mut Flow, whole: bool) {
        let Some(tail) = flow.basic.take() else { return };
        let mut record = std::mem::take(&mut self.scratch.record);
        tail.decode(&flow.key, whole, &mut record);
        self.finish_basic(flow, &mut record);
        self.scratch.record = record;
    }

    fn finish_basic(&mut self, flow: &mut Flow, record: &mut Record) {
        if let Some(usec) = record.kernel_usec {
            // Without a seq a boot shows in the clock alone.
            let highest = flow.highest.map_or(0, |(_, highest)| highest);
            if usec.saturating_add(USEC_TOLERANCE) < highest {
                self.counters.boots.add(1);
                flow.clock = Default::default();
                flow.highest = None;
            }
            flow.highest = Some((0, usec.max(flow.highest.map_or(0, |(_, highest)| highest))));
            flow.clock.sample(record.time_ns, usec);
            if let Some((ns, error_ns)) = flow.clock.absolute(record.time_ns, usec) {
                record.event_time = Some(EventTime { ns, error_ns });
            }
        }
        self.finish(flow, record);
    }

    /// Into a crash group, or out.
    fn finish(&mut self, flow: &mut Flow, record: &Record) {
        let Exit { counters, out, clk_ns, .. } = self;
        let taken = flow.crashes.offer(record, *clk_ns, &mut |group| emit(counters, group, *out));
        if !taken {
            emit(counters, record, *out);
        }
    }

    fn crashes(&mut self, flow: &mut Flow, clk_ns: u64) {
        let Exit { counters, out, .. } = self;
        flow.crashes.expire(clk_ns, &mut |group| emit(counters, group, *out));
    }
}

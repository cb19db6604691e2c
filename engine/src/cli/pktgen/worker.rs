//! A generator's thread: sends what is due.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use netpoll::wire::ethernet::MIN_FRAME_LEN;

use super::{
    super::stop::Stop,
    clock::Clock,
    latency::Latency,
    load::Load,
    outlet::Outlet,
    payload::{Kind, Moment},
    plan::{Plan, Turns, What},
    replay::Replay,
    schedule::{Due, Schedule, wait_until},
    size::{FCS_LEN, SHORTEST, Sizes, payload_len, wire_bits},
    stamp::Stamp,
};

/// Frames between two looks at the clock, at most.
const BATCH: usize = 32;

/// A thread's streams.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) number: usize,
    /// The next sequence number.
    pub(super) next: u64,
}

/// A thread.
pub(super) struct Worker {
    pub(super) outlet: Outlet,
    pub(super) streams: Vec<Stream>,
    /// Whose turn it is.
    turn: usize,
    what: What,
    schedule: Schedule,
    turns: Turns,
    load: Load,
    /// Frames that it may still send.
    left: u64,
    clock: Clock,
    run: u16,
    ring_frames: u64,
    pub(super) frames: u64,
    pub(super) wire_bits: u64,
    pub(super) late: Latency,
    pub(super) complete: bool,
    pub(super) start: Instant,
    /// When it began its last batch.
    pub(super) last: Instant,
    /// Relaxed: a sum of all threads, to be shown.
    sent: Arc<AtomicU64>,
}

impl Worker {
    pub(super) fn new(plan: &Plan, thread: usize, outlet: Outlet, start: Instant, sent: &Arc<AtomicU64>) -> Worker {
        let own: Vec<usize> = plan.streams_of(thread).collect();
        let ends = plan.count.map(|count| plan.ends(count));
        let left = ends.map_or(u64::MAX, |ends| own.iter().map(|stream| ends[*stream]).sum());
        Worker {
            outlet,
            streams: own.into_iter().map(|number| Stream { number, next: 0 }).collect(),
            turn: 0,
            what: plan.what.clone(),
            schedule: Schedule::new(plan.load, start, plan.takes, plan.catch_up),
            turns: Turns::new(plan, thread),
            load: plan.load,
            left,
            clock: plan.clock,
            run: plan.run,
            ring_frames: plan.ring_frames() as u64,
            frames: 0,
            wire_bits: 0,
            late: Latency::new(),
            complete: true,
            start,
            last: start,
            sent: sent.clone(),
        }
    }

    /// Sends to the end, and gives itself back.
    pub(super) fn run(mut self, stop: &Stop) -> Worker {
        match self.what.clone() {
            What::Made { kind, sizes } => self.make(kind, &sizes, stop),
            What::Replay { replay, recorded: true } => self.replay_recorded(&replay, stop),
            What::Replay { replay, recorded: false } => self.replay_paced(&replay, stop),
        }
        self
    }

    /// Frames made here, the streams in turn.
    fn make(&mut self, kind: Kind, sizes: &Sizes, stop: &Stop) {
        // With one stream a batch goes through its ring in one go.
        let in_a_row = if self.streams.len() == 1 { BATCH } else { 1 };
        let largest = payload_len(sizes.largest());
        let mut payloads = vec![vec![0; largest]; in_a_row];
        let mut lens = Vec::with_capacity(in_a_row);
        let (turns, load) = (self.turns, self.load);
        let mut number = turns.global(0);
        let units = |number| load.units(number, || sizes.bits_before(number));
        while self.left > 0
            && let Due::Now { upto, late } = self.schedule.wait(units(number), stop)
        {
            let (stamp, moment) = self.batch();
            let mut batch = 0;
            while batch < BATCH && self.left > 0 && units(number) <= upto {
                let Some(room) = self.outlet.room(self.turn, self.ring_frames, stop) else { break };
                let most = room.min(in_a_row as u64).min(self.left) as usize;
                let stream = &mut self.streams[self.turn];
                lens.clear();
                while lens.len() < most && units(number) <= upto {
                    let size = sizes.of(number);
                    let payload = &mut payloads[lens.len()][..payload_len(size)];
                    kind.write(&Stamp { stream: stream.number as u32, seq: stream.next, ..stamp }, moment, payload);
                    stream.next += 1;
                    lens.push(payload.len());
                    self.frames += 1;
                    self.wire_bits += wire_bits(size.into());
                    number = turns.global(self.frames);
                }
                self.outlet.send(self.turn, &payloads, &lens);
                self.turn = (self.turn + 1) % self.streams.len();
                self.left -= lens.len() as u64;
                batch += lens.len();
            }
            self.sent_batch(batch as u64, late);
        }
        self.complete = self.left == 0 || stop.asked() || self.schedule.is_complete(units(number));
    }

    /// Frames of a file, at the load.
    fn replay_paced(&mut self, replay: &Replay, stop: &Stop) {
        let units = |worker: &Worker| worker.load.units(worker.frames, || worker.wire_bits);
        while self.left > 0
            && let Due::Now { upto, late } = self.schedule.wait(units(self), stop)
        {
            self.batch();
            let mut batch = 0;
            while batch < BATCH as u64 && self.left > 0 && units(self) <= upto {
                if self.replay_one(replay, stop).is_none() {
                    break;
                }
                batch += 1;
            }
            self.sent_batch(batch, late);
        }
        self.complete = self.left == 0 || stop.asked() || self.schedule.is_complete(units(self));
    }

    /// Frames of a file, at its own times.
    fn replay_recorded(&mut self, replay: &Replay, stop: &Stop) {
        while self.left > 0
            && let (_, at) = replay.frame(self.frames)
            && at < self.schedule.takes()
            && let Some(late) = wait_until(self.start, at, stop)
        {
            self.batch();
            if self.replay_one(replay, stop).is_some() {
                self.sent_batch(1, late);
            }
        }
    }

    /// Sends the file's next frame; `None`: the end was asked for.
    fn replay_one(&mut self, replay: &Replay, stop: &Stop) -> Option<()> {
        self.outlet.room(0, self.ring_frames, stop)?;
        let (frame, _) = replay.frame(self.frames);
        let size = (frame.len().max(MIN_FRAME_LEN) + FCS_LEN).max(SHORTEST.into());
        self.outlet.send_frame(frame);
        self.streams[0].next += 1;
        self.frames += 1;
        self.wire_bits += wire_bits(size);
        self.left -= 1;
        Some(())
    }

    /// A batch begins: its stamps' common part, and its time.
    fn batch(&mut self) -> (Stamp, Moment) {
        self.last = Instant::now();
        let up_ns = self.last.saturating_duration_since(self.start).as_nanos() as u64;
        let real_ns = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        (Stamp { run: self.run, stream: 0, seq: 0, sent: self.clock.now_ns() }, Moment { up_ns, real_ns })
    }

    fn sent_batch(&mut self, count: u64, late: Duration) {
        if self.schedule.is_bound() || matches!(self.what, What::Replay { recorded: true, .. }) {
            self.late.record(late.as_nanos() as u64, count);
        }
        self.sent.fetch_add(count, Ordering::Relaxed);
    }
}

//! The sending side: threads, each with clients of its own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use netpoll::netpoll::{ClientStats, Port};

use super::{
    super::{port::wait_for_link, stop::Stop},
    latency::Latency,
    plan::Plan,
    worker::Worker,
};

/// What was submitted must leave within this time: longer than ARP takes to give up.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);
/// Time for the threads to come up.
const HEAD_START: Duration = Duration::from_millis(5);

/// Threads at work.
pub(super) struct Generator {
    threads: Vec<JoinHandle<Worker>>,
    /// Relaxed: a sum of all threads, to be shown.
    sent: Arc<AtomicU64>,
    stop: Stop,
    streams: usize,
}

/// What they came to.
#[derive(Clone, Debug)]
pub(super) struct Generated {
    /// How many each stream numbered, that is, submitted.
    pub(super) ends: Vec<u64>,
    /// The same, all together.
    pub(super) frames: u64,
    /// Bits on the wire.
    pub(super) wire_bits: u64,
    /// The clients' sum, and whether each balances by itself.
    pub(super) stats: ClientStats,
    pub(super) balanced: bool,
    /// From the first frame's time to the last.
    pub(super) took: Duration,
    /// How late frames were against their schedule, where they have one.
    pub(super) late: Latency,
    /// All that was due in its time was sent.
    pub(super) complete: bool,
}

impl Generator {
    /// Sets the clients up and starts sending.
    pub(super) fn start(plan: &Plan, port: &Arc<Port>, stop: &Stop) -> anyhow::Result<Generator> {
        let sent = Arc::<AtomicU64>::default();
        let outlets = (0..plan.threads).map(|thread| plan.outlet(port, thread)).collect::<anyhow::Result<Vec<_>>>()?;
        // Whose link is up is seen only once there are clients.
        wait_for_link(port, stop)?;
        let start = Instant::now() + HEAD_START;
        let mut threads = Vec::new();
        for (thread, outlet) in outlets.into_iter().enumerate() {
            let worker = Worker::new(plan, thread, outlet, start, &sent);
            let (name, stop) = (format!("generator{thread}"), stop.clone());
            let thread = std::thread::Builder::new().name(name).spawn(move || worker.run(&stop));
            threads.push(thread.context("cannot start a thread")?);
        }
        Ok(Generator { threads, sent, stop: stop.clone(), streams: plan.streams })
    }

    /// Frames submitted so far.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    pub(super) fn is_finished(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Waits for the end, lets all leave that was submitted, and cleans the clients up.
    pub(super) fn finish(self) -> anyhow::Result<Generated> {
        let mut workers = Vec::new();
        for thread in self.threads {
            workers.push(thread.join().map_err(|_| anyhow::anyhow!("a generator's thread panicked"))?);
        }
        let deadline = Instant::now() + DRAIN_LIMIT;
        while workers.iter().any(|worker| worker.outlet.queued() > 0)
            && Instant::now() < deadline
            && !self.stop.wait(Duration::from_micros(200))
        {}
        let mut all = Generated {
            ends: vec![0; self.streams],
            frames: 0,
            wire_bits: 0,
            stats: ClientStats::default(),
            balanced: true,
            took: Duration::ZERO,
            late: Latency::new(),
            complete: true,
        };
        for worker in workers {
            worker.streams.iter().for_each(|stream| all.ends[stream.number] = stream.next);
            all.frames += worker.frames;
            all.wire_bits += worker.wire_bits;
            all.took = all.took.max(worker.last.saturating_duration_since(worker.start));
            all.late.add(&worker.late);
            all.complete &= worker.complete;
            for client in worker.outlet.into_clients() {
                let stats = client.cleanup()?;
                all.balanced &= stats.balances();
                all.stats.merge(&stats);
            }
        }
        Ok(all)
    }
}

//! One trial: receive, send, wait for what is on its way, and see what it came to.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use netpoll::netpoll::Port;

use super::{
    super::stop::Stop,
    generator::{Generated, Generator},
    plan::{Plan, What},
    receiver::{Received, Receiving, Wanted},
};

/// The two ends. Without a receiving one, what is sent is sent.
pub(super) struct Ends {
    pub(super) tx: Arc<Port>,
    pub(super) rx: Option<Arc<Port>>,
    /// Rings of ours join them: nothing can be lost between.
    pub(super) joined: bool,
}

/// What a trial came to.
pub(super) struct Outcome {
    pub(super) generated: Generated,
    pub(super) received: Option<Received>,
    /// The receiver knows by their numbers which frames it should have: all but a file's.
    pub(super) numbered: bool,
}

/// How long after the last frame one more may come (RFC 2544, 23: two seconds for residual frames).
pub(super) const RESIDUAL: Duration = Duration::from_secs(2);
/// Between two looks.
const STEP: Duration = Duration::from_millis(2);

impl Outcome {
    /// Frames that left and were not received. Counted from the gaps in their numbers, less those that never left.
    pub(super) fn lost(&self) -> u64 {
        let stats = &self.generated.stats;
        let unsent = stats.submit.submitted.saturating_sub(stats.sent.sent);
        self.received.as_ref().map_or(0, |received| received.missing().saturating_sub(unsent))
    }

    /// Frames a second, as sent.
    pub(super) fn rate(&self) -> f64 {
        rate(self.generated.frames, self.generated.took.as_nanos() as u64)
    }
}

/// `count` things from the first to the last in so many nanoseconds, a second.
pub(super) fn rate(count: u64, took_ns: u64) -> f64 {
    // The last one's own time is not in it.
    if took_ns == 0 { 0.0 } else { count.saturating_sub(1) as f64 * 1e9 / took_ns as f64 }
}

impl Ends {
    /// Does what the plan says. `limit`: the receiver takes so many. `watch` is told how many were sent and received so far.
    pub(super) fn run(
        &self,
        plan: &Plan,
        limit: Option<u64>,
        stop: &Stop,
        watch: &mut dyn FnMut(u64, u64),
    ) -> anyhow::Result<Outcome> {
        let numbered = matches!(plan.what, What::Made { .. });
        // A file's frames are of whatever run and streams they were when they were captured.
        let run = numbered.then_some(plan.run);
        let streams = if numbered { plan.streams } else { FILE_STREAMS };
        let clock = numbered.then_some(plan.clock);
        let wanted = Wanted { run, streams, joins_late: !numbered, limit, clock };
        let receiving = self.rx.as_ref().map(|rx| Receiving::start(rx, wanted)).transpose()?;
        let generator = Generator::start(plan, &self.tx, stop)?;
        let received = || receiving.as_ref().map_or(0, |receiving| receiving.stats().received);
        while !generator.is_finished() {
            watch(generator.sent(), received());
            std::thread::sleep(STEP);
        }
        let generated = generator.finish()?;
        let received = receiving.zip(self.rx.as_ref()).map(|(receiving, rx)| {
            self.settle(rx, &receiving, &generated);
            receiving.finish(numbered.then_some(&generated.ends[..]))
        });
        Ok(Outcome { generated, received: received.transpose()?, numbered })
    }

    /// Waits until all has come that was sent, or nothing has come for a while.
    fn settle(&self, rx: &Port, receiving: &Receiving, generated: &Generated) {
        // Through rings all comes, what the engine sends for itself included; it may take a busy machine a while.
        let (patience, sent) = match self.joined {
            true => (10 * RESIDUAL, self.tx.stats().queue.sent),
            false => (RESIDUAL, generated.stats.sent.sent),
        };
        let (mut last, mut since) = (0, Instant::now());
        while since.elapsed() < patience {
            let arrived = if self.joined { rx.stats().arrived() } else { receiving.stats().arrived() };
            if arrived >= sent {
                return;
            }
            if arrived != last {
                (last, since) = (arrived, Instant::now());
            }
            std::thread::sleep(STEP);
        }
    }
}

/// Streams of a file that are told apart.
pub(super) const FILE_STREAMS: usize = 1024;

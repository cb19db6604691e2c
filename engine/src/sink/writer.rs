//! The writer thread: takes batches from all hooks and puts them into the outputs.
//!
//! The hooks cannot wake it without a system call, so it looks: at once while there is work, then after
//! pauses that grow from 0.1 ms to 5 ms. The hooks' batches bridge that.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::Receiver,
    },
    time::{Duration, Instant},
};

use super::{SinkConfig, SinkError, hook::QueueEnds, notices::Notices, output::Output, shared::Shared};

const SHORTEST_PAUSE: Duration = Duration::from_micros(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(5);

/// What the sink asks of its writer.
pub(super) enum Request {
    /// A hook was set up.
    Attach(QueueEnds),
    /// Go on with another configuration; the answer goes to the sender.
    Reload(Box<SinkConfig>, std::sync::mpsc::Sender<Result<(), SinkError>>),
    /// Begin new files.
    Roll,
}

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) config: SinkConfig,
    pub(super) requests: Receiver<Request>,
    pub(super) queues: Vec<QueueEnds>,
    /// Its rows count as stored.
    pub(super) primary: Output,
    /// The text beside the spool.
    pub(super) secondary: Option<Output>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) notices: Notices,
}

impl Writer {
    /// Runs until it is stopped and all rings are empty.
    pub(super) fn run(mut self) {
        let mut pause = SHORTEST_PAUSE;
        let mut deadline = None;
        loop {
            // Read before the rings: what was in them by then is taken in this round.
            let stopping = self.stop.load(Ordering::Acquire);
            if stopping && deadline.is_none() {
                deadline = Some(Instant::now() + self.config.stop_timeout);
            }
            self.take_requests();
            let taken = self.sweep(deadline);
            let now = Instant::now();
            self.tell_hidden(now, false);
            self.primary.log.poll(now, self.config.ledger_interval);
            if let Some(text) = &mut self.secondary {
                text.log.poll(now, Duration::MAX);
            }
            if taken > 0 {
                pause = SHORTEST_PAUSE;
                continue;
            }
            if stopping {
                break;
            }
            std::thread::park_timeout(pause.min(self.wait_limit(now)).max(SHORTEST_PAUSE));
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        self.close(deadline.unwrap_or_else(Instant::now));
    }

    fn wait_limit(&self, now: Instant) -> Duration {
        let secondary = self.secondary.as_ref().map_or(Duration::MAX, |text| text.log.wait_limit(now));
        self.primary.log.wait_limit(now).min(secondary)
    }

    fn take_requests(&mut self) {
        while let Ok(request) = self.requests.try_recv() {
            match request {
                Request::Attach(queue) => self.queues.push(queue),
                Request::Reload(config, answer) => {
                    let _ = answer.send(self.reload(*config));
                }
                Request::Roll => {
                    self.primary.log.ask_roll();
                    self.secondary.iter_mut().for_each(|text| text.log.ask_roll());
                }
            }
        }
    }

    /// Takes one batch of each queue, and says how many there were. Queues whose hook is gone end here.
    fn sweep(&mut self, deadline: Option<Instant>) -> usize {
        let mut taken = 0;
        let mut index = 0;
        while index < self.queues.len() {
            // D2: what the hook sent before it was done is in the ring now.
            let done = self.queues[index].shared.done.load(Ordering::Acquire);
            match self.queues[index].full.pop() {
                Ok(batch) => {
                    taken += 1;
                    self.store(index, batch, deadline);
                }
                Err(_) if done => {
                    self.tell(index);
                    let queue = self.queues.swap_remove(index);
                    self.shared.retire(&queue.shared);
                    // The ring swapped in here is looked at now.
                    continue;
                }
                Err(_) => {}
            }
            self.tell(index);
            index += 1;
        }
        taken
    }

    /// Tells what a hook has noticed of its sources.
    fn tell(&mut self, index: usize) {
        let queue = &mut self.queues[index];
        let hidden = queue.shared.counters.hidden_notices.get();
        self.notices.hide(hidden - std::mem::replace(&mut queue.hidden_seen, hidden));
        while let Ok(notice) = queue.notices.pop() {
            if let Some(text) = self.notices.take(notice, Instant::now()) {
                tracing::warn!("{text}");
            }
        }
    }

    fn tell_hidden(&mut self, now: Instant, last: bool) {
        if let Some(text) = self.notices.hidden(now, last) {
            tracing::warn!("{text}");
        }
    }

    fn store(&mut self, index: usize, mut batch: Box<super::Batch>, deadline: Option<Instant>) {
        let rows = batch.rows() as u64;
        let counters = &self.shared.writer;
        counters.held_rows.add(rows);
        counters.taken_rows.add(rows);
        counters.taken_batches.add(1);
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            counters.stopped.add(rows);
        } else {
            let stop = || deadline.is_some_and(|deadline| Instant::now() >= deadline);
            self.primary.put(&mut batch, self.config.retry_for, stop);
            if let Some(text) = &mut self.secondary {
                text.put(&mut batch, Duration::ZERO, || true);
            }
        }
        self.shared.writer.held_rows.add(rows.wrapping_neg());
        batch.clear();
        // The ring has room for all batches. If the hook is gone, the batch goes with the ring.
        let _ = self.queues[index].empty.push(batch);
    }

    fn close(mut self, deadline: Instant) {
        // The rings were empty; whatever a hook that still lives sends now stays in flight.
        self.shared.settings.close();
        while self.sweep(Some(deadline)) > 0 {}
        self.tell_hidden(Instant::now(), true);
        // Even past the deadline the syncs under way get a moment.
        let deadline = deadline.max(Instant::now() + Duration::from_millis(500));
        if let Some(text) = self.secondary {
            text.log.close(deadline);
        }
        self.primary.log.close(deadline);
    }

    fn reload(&mut self, config: SinkConfig) -> Result<(), SinkError> {
        self.shared.check_reload(&self.config, &config)?;
        self.primary.log.set_limits(config.primary_limits());
        match (&mut self.secondary, config.secondary_limits()) {
            (Some(text), Some(limits)) => text.log.set_limits(limits),
            (None, Some(_)) => self.secondary = Some(self.shared.open_text(&config, None)?),
            (Some(_), None) => {
                if let Some(text) = self.secondary.take() {
                    text.log.close(Instant::now() + config.stop_timeout);
                }
            }
            (None, None) => {}
        }
        self.shared.settings.set(&config);
        self.config = config;
        Ok(())
    }
}

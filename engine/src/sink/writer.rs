//! The writer thread: takes batches from all hooks and puts them into the outputs.
//!
//! The hooks cannot wake it without a system call, so it looks: at once while there is work, then after
//! pauses that grow from 1 ms to 5 ms. The hooks' batches bridge that: 256 of them hold what comes in 40 ms at 10 million
//! lines/s. (With pauses from 0.1 ms on it woke up six times a batch at half a million lines/s.)

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::Receiver,
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::{
    Batch, SinkConfig, SinkError,
    done::Taken,
    hook::QueueEnds,
    loss::{Loss, Losses, Whose},
    notices::Notices,
    output::Output,
    shared::Shared,
};

const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(5);

/// What the sink asks of its writer.
pub(super) enum Request {
    /// A hook was set up.
    Attach(QueueEnds),
    /// Go on with another configuration; the answer goes to the sender.
    Reload(Box<SinkConfig>, std::sync::mpsc::Sender<Result<(), SinkError>>),
    /// Begin new files.
    Roll,
    /// Note that so many were lost before they came here, and why.
    Lost(&'static str, u64),
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
    pub(super) losses: WriterLosses,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) notices: Notices,
}

impl Writer {
    /// Runs until it is stopped and all rings are empty.
    pub(super) fn run(mut self) {
        let mut pause = SHORTEST_PAUSE;
        let mut deadline = None;
        loop {
            // W2: Acquire, pairs with W1, and before the rings: what was in them by then is taken in this round.
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
            self.note_failed_syncs();
            if taken == 0 && self.losses.are_overdue(now) {
                self.write_losses(Duration::ZERO);
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
                Request::Lost(reason, count) => self.losses.add(Loss::unknown(reason, count, now_ns())),
            }
        }
    }

    /// Takes one batch of each queue, and says how many there were. Queues whose hook is gone end here.
    fn sweep(&mut self, deadline: Option<Instant>) -> usize {
        let mut taken = 0;
        let mut index = 0;
        while index < self.queues.len() {
            let queue = &mut self.queues[index];
            let batch = queue.shared.done.take(|| queue.full.pop().ok());
            // After it: what was dropped before its end is in the other ring by now.
            while let Ok(loss) = self.queues[index].losses.pop() {
                self.losses.add(loss);
            }
            match batch {
                Taken::One(batch) => {
                    taken += 1;
                    self.store(index, batch, deadline);
                }
                Taken::Over => {
                    self.tell(index);
                    let queue = self.queues.swap_remove(index);
                    self.shared.retire(&queue.shared);
                    // The ring swapped in here is looked at now.
                    continue;
                }
                Taken::Nothing => {}
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

    fn store(&mut self, index: usize, mut batch: Batch, deadline: Option<Instant>) {
        let rows = batch.rows() as u64;
        let counters = &self.shared.writer;
        counters.held_rows.add(rows);
        counters.taken_rows.add(rows);
        counters.taken_batches.add(1);
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            counters.stopped.add(rows);
            self.losses.add_all(&batch, "stopped");
        } else {
            let stop = || deadline.is_some_and(|deadline| Instant::now() >= deadline);
            let losses = self.losses.take();
            if let Err(fault) = self.primary.put(&mut batch, &losses, self.config.retry_for, stop) {
                self.losses.give_back(losses);
                self.losses.add_all(&batch, fault.name());
            }
            if let Some(text) = &mut self.secondary {
                // What it drops is in its own counters, and in the spool.
                let _ = text.put(&mut batch, &[], Duration::ZERO, || true);
            }
        }
        self.shared.writer.held_rows.add(rows.wrapping_neg());
        batch.clear();
        // The ring has room for all batches. If the hook is gone, the batch goes with the ring.
        let _ = self.queues[index].empty.push(batch);
    }

    /// Rows whose sync failed are not at hand any more.
    fn note_failed_syncs(&mut self) {
        let failed = self.shared.primary.sync_error.get();
        let fresh = failed - std::mem::replace(&mut self.losses.failed_syncs, failed);
        if fresh > 0 {
            self.losses.add(Loss::unknown("sync_error", fresh, now_ns()));
        }
    }

    /// Writes what was lost with no batch behind it.
    fn write_losses(&mut self, retry_for: Duration) {
        let losses = self.losses.take();
        if !losses.is_empty() && self.config.primary_is_spool() {
            let written = self.primary.put(&mut Batch::new(1, 1), &losses, retry_for, || false);
            if written.is_err() {
                self.losses.give_back(losses);
            }
        }
    }

    fn close(mut self, deadline: Instant) {
        // The rings were empty; whatever a hook that still lives sends now stays in flight.
        self.shared.settings.close();
        while self.sweep(Some(deadline)) > 0 {}
        self.tell_hidden(Instant::now(), true);
        self.note_failed_syncs();
        self.write_losses(Duration::ZERO);
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
        let file = |config: &SinkConfig| config.text.as_ref().map(|text| text.file_name.clone());
        if file(&self.config) != file(&config) {
            // The text beside the spool ends, begins, or changes its name.
            if let Some(text) = self.secondary.take() {
                text.log.close(Instant::now() + config.stop_timeout);
            }
            self.secondary = config.secondary_limits().map(|_| self.shared.open_text(&config, None)).transpose()?;
        }
        if let (Some(text), Some(limits)) = (&mut self.secondary, config.secondary_limits()) {
            text.log.set_limits(limits);
        }
        let output = if config.primary_is_spool() { self.secondary.as_mut() } else { Some(&mut self.primary) };
        if let (Some(output), Some(text)) = (output, &config.text) {
            output.set_text(text);
        }
        self.shared.settings.set(&config);
        self.config = config;
        Ok(())
    }
}

/// What was lost, until it is written: with the next batch, or after a while without one.
pub(super) struct WriterLosses {
    table: Losses,
    /// Since when something waits.
    since: Option<Instant>,
    /// Rows of failed syncs that were noted.
    failed_syncs: u64,
}

impl WriterLosses {
    const PLACES: usize = 1024;
    const REACH: usize = 128;
    /// Most that one batch takes along.
    const A_BATCH: usize = 512;
    const WAIT: Duration = Duration::from_millis(200);

    /// Begins with what the last run lost when it was killed.
    pub(super) fn new(lost_in_crash: u64) -> WriterLosses {
        let mut losses = WriterLosses {
            table: Losses::new(WriterLosses::PLACES, WriterLosses::REACH),
            since: None,
            failed_syncs: 0,
        };
        if lost_in_crash > 0 {
            losses.add(Loss::unknown("lost_in_crash", lost_in_crash, now_ns()));
        }
        losses
    }

    fn add(&mut self, loss: Loss) {
        self.since.get_or_insert_with(Instant::now);
        self.table.add(loss);
    }

    /// All rows of a batch.
    fn add_all(&mut self, batch: &Batch, reason: &'static str) {
        for row in batch.iter() {
            let whose =
                Whose { src_ip: row.src_ip, src_port: row.src_port, dst_ip: row.dst_ip, dst_port: row.dst_port };
            self.add(Loss::one(whose, reason, row.payload, row.time_ns));
        }
    }

    fn take(&mut self) -> Vec<Loss> {
        // The common case, and it does not allocate.
        if self.table.is_empty() {
            return Vec::new();
        }
        let losses = std::iter::from_fn(|| self.table.pop()).take(WriterLosses::A_BATCH).collect();
        self.since = (!self.table.is_empty()).then(Instant::now);
        losses
    }

    fn give_back(&mut self, losses: Vec<Loss>) {
        losses.into_iter().for_each(|loss| self.add(loss));
    }

    fn are_overdue(&self, now: Instant) -> bool {
        self.since.is_some_and(|since| now.duration_since(since) >= WriterLosses::WAIT)
    }
}

fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

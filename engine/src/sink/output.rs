//! One output of the writer: a log, how batches become bytes in it, and what happens while it fails.

use std::{
    io::IoSlice,
    time::{Duration, Instant},
};

use super::{
    batch::Batch,
    log::{Fault, Log},
    text::TextEncoder,
};

/// While an output fails, how often it is tried.
const PROBE_EVERY: Duration = Duration::from_millis(100);

/// How long to wait before a failed write is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// How rows become bytes.
pub(super) enum Encoder {
    Text { encoder: TextEncoder, buffer: Vec<u8> },
}

impl Encoder {
    pub(super) fn text() -> Encoder {
        Encoder::Text { encoder: TextEncoder::default(), buffer: Vec::new() }
    }

    /// Appends all rows of `batch` to `log`, or none.
    fn append(&mut self, batch: &Batch, log: &mut Log, now: Instant) -> Result<(), Fault> {
        let rows = batch.rows() as u64;
        match self {
            Encoder::Text { encoder, buffer } => {
                buffer.clear();
                encoder.encode(&batch.columns(), buffer);
                log.append(&mut [IoSlice::new(buffer)], rows, now)
            }
        }
    }
}

/// The output does not work.
struct Failing {
    fault: Fault,
    probe_at: Instant,
}

pub(super) struct Output {
    pub(super) log: Log,
    encoder: Encoder,
    failing: Option<Failing>,
}

impl Output {
    pub(super) fn new(log: Log, encoder: Encoder) -> Output {
        Output { log, encoder, failing: None }
    }

    /// Writes `batch`, or counts its rows as dropped. A failure is tried again for `retry_for` or until
    /// `stop`; then the output counts as failing: rows are dropped without an attempt, but for one every
    /// 100 ms, until that one works.
    pub(super) fn put(&mut self, batch: &Batch, retry_for: Duration, stop: impl Fn() -> bool) {
        let rows = batch.rows() as u64;
        let mut now = Instant::now();
        let mut give_up = now + retry_for;
        if let Some(failing) = &self.failing {
            if now < failing.probe_at {
                self.log.count_drop(failing.fault, rows);
                return;
            }
            give_up = now;
        }
        loop {
            let fault = match self.encoder.append(batch, &mut self.log, now) {
                Ok(()) => {
                    self.failing = None;
                    return;
                }
                Err(fault) => fault,
            };
            now = Instant::now();
            if now >= give_up || stop() {
                self.log.count_drop(fault, rows);
                self.failing = Some(Failing { fault, probe_at: now + PROBE_EVERY });
                return;
            }
            self.log.counters().retries.add(1);
            // Syncs go on meanwhile.
            self.log.poll(now, Duration::MAX);
            std::thread::park_timeout(RETRY_PAUSE);
        }
    }
}

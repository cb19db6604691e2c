//! One output of the writer: a log, how batches become bytes in it, and what happens while it fails.

use std::{
    io::IoSlice,
    time::{Duration, Instant},
};

use super::{
    TextConfig,
    batch::Batch,
    log::{Fault, Log},
    loss::Loss,
    text::TextEncoder,
};

/// While an output fails, how often it is tried.
const PROBE_EVERY: Duration = Duration::from_millis(100);

/// How long to wait before a failed write is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// How rows become bytes.
pub(super) enum Encoder {
    Text(Box<TextEncoder>, Vec<u8>),
    #[cfg(feature = "store")]
    Spool(Box<super::spool::SpoolEncoder>),
}

impl Encoder {
    pub(super) fn text(config: &TextConfig) -> Encoder {
        Encoder::Text(Box::new(TextEncoder::new(config)), Vec::new())
    }

    /// Hands the bytes of `batch` to `write`, in the spool with what was lost before. The batch is the same afterwards. `None` if it cannot be
    /// encoded.
    #[cfg_attr(not(feature = "store"), allow(unused_variables, reason = "losses go to the spool"))]
    fn with_bytes<T>(&mut self, batch: &mut Batch, losses: &[Loss], write: impl FnOnce(&[&[u8]]) -> T) -> Option<T> {
        match self {
            Encoder::Text(encoder, buffer) => {
                buffer.clear();
                encoder.encode(&batch.columns(), buffer);
                Some(write(&[buffer]))
            }
            #[cfg(feature = "store")]
            Encoder::Spool(encoder) => encoder.with_message(batch, losses, write).ok(),
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

    /// Goes on with lines of another format.
    pub(super) fn set_text(&mut self, config: &TextConfig) {
        self.encoder = Encoder::text(config);
    }

    /// Writes `batch`, or counts its rows as dropped. A failure is tried again for `retry_for` or until
    /// `stop`; then the output counts as failing: rows are dropped without an attempt, but for one every
    /// 100 ms, until that one works.
    pub(super) fn put(
        &mut self,
        batch: &mut Batch,
        losses: &[Loss],
        retry_for: Duration,
        stop: impl Fn() -> bool,
    ) -> Result<(), Fault> {
        let rows = batch.rows() as u64;
        let now = Instant::now();
        let mut give_up = now + retry_for;
        if let Some(failing) = &self.failing {
            if now < failing.probe_at {
                self.log.count_drop(failing.fault, rows);
                return Err(failing.fault);
            }
            give_up = now;
        }
        let log = &mut self.log;
        let enough = |now| now >= give_up || stop();
        let written = self.encoder.with_bytes(batch, losses, |bytes| append(log, bytes, rows, enough));
        // Columns that cannot be encoded would be a bug of ours; they are counted like any other loss.
        let written = written.unwrap_or(Err(Fault::WriteError));
        self.failing = written.err().map(|fault| {
            self.log.count_drop(fault, rows);
            Failing { fault, probe_at: Instant::now() + PROBE_EVERY }
        });
        written
    }
}

/// Appends `bytes` to `log`, again and again until it works or `enough`.
fn append(log: &mut Log, bytes: &[&[u8]], rows: u64, enough: impl Fn(Instant) -> bool) -> Result<(), Fault> {
    loop {
        let mut slices: Vec<_> = bytes.iter().map(|bytes| IoSlice::new(bytes)).collect();
        let Err(fault) = log.append(&mut slices, rows, Instant::now()) else { return Ok(()) };
        let now = Instant::now();
        if enough(now) {
            return Err(fault);
        }
        log.counters().retries.add(1);
        // Syncs go on meanwhile.
        log.poll(now, Duration::MAX);
        std::thread::park_timeout(RETRY_PAUSE);
    }
}

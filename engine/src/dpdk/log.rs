//! DPDK's log, as `tracing` events of target `dpdk`; the last lines are kept so that an error can quote the
//! driver's own words.
//!
//! EAL's `INFO` chatter becomes `DEBUG`: a user of netpoll asked for ports, not for EAL.

use std::{
    collections::VecDeque,
    ffi::{c_char, c_int},
    panic::catch_unwind,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::error::LogLines;

/// Lines kept, and the most of them that an error quotes.
const KEPT: usize = 50;
const QUOTED: usize = 6;
/// A line longer than this is cut: no driver may grow our memory.
const LONGEST: usize = 1000;

const RTE_LOG_ERR: c_int = 4;
const RTE_LOG_WARNING: c_int = 5;
const RTE_LOG_NOTICE: c_int = 6;
const RTE_LOG_INFO: c_int = 7;

static LOG: Mutex<Log> = Mutex::new(Log { lines: VecDeque::new(), next: 0, partial: Vec::new() });

struct Log {
    lines: VecDeque<Line>,
    /// Number of the next line.
    next: u64,
    /// A line without its end yet.
    partial: Vec<u8>,
}

struct Line {
    number: u64,
    level: c_int,
    text: String,
}

/// A place in the log, to quote from there on.
#[derive(Clone, Copy)]
pub(super) struct Mark(u64);

/// Sends DPDK's log here, from before `rte_eal_init` on.
pub(super) fn install() {
    // SAFETY: `sink` neither unwinds nor keeps the text, and lives as long as the program; DPDK keeps the stream.
    unsafe {
        let stream = dpdk_sys::shim_log_stream(Some(sink));
        if !stream.is_null() {
            dpdk_sys::rte_openlog_stream(stream);
        }
    }
}

/// Here, now.
pub(super) fn mark() -> Mark {
    Mark(log().next)
}

impl Mark {
    /// What was logged since, warnings and worse if there are any, the last few.
    pub(super) fn quote(self) -> LogLines {
        let log = log();
        let since = || log.lines.iter().filter(|line| line.number >= self.0);
        let worst = if since().any(|line| line.level <= RTE_LOG_WARNING) { RTE_LOG_WARNING } else { c_int::MAX };
        let mut lines: Vec<String> = since().filter(|line| line.level <= worst).map(|line| line.text.clone()).collect();
        lines.dedup();
        LogLines(lines.split_off(lines.len().saturating_sub(QUOTED)))
    }

    /// Whether anything logged since contains one of `needles`.
    pub(super) fn says(self, needles: &[&str]) -> bool {
        log().lines.iter().any(|line| line.number >= self.0 && needles.iter().any(|needle| line.text.contains(needle)))
    }
}

fn log() -> MutexGuard<'static, Log> {
    LOG.lock().unwrap_or_else(PoisonError::into_inner)
}

/// DPDK's stream writes here, from any thread.
unsafe extern "C" fn sink(level: c_int, text: *const c_char, len: usize) {
    // SAFETY: the stream hands out `len` readable bytes for the length of this call.
    let text = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), len) };
    // A panicking subscriber must not unwind into C; there is nobody to tell.
    let _ = catch_unwind(|| write(level, text));
}

fn write(level: c_int, text: &[u8]) {
    let mut ended = Vec::new();
    {
        let mut log = log();
        for &byte in text {
            match byte {
                b'\n' => ended.extend(log.end_line(level)),
                _ if log.partial.len() < LONGEST => log.partial.push(byte),
                _ => {}
            }
        }
    }
    // Without the lock: a subscriber may be slow.
    for line in ended {
        match level {
            ..=RTE_LOG_ERR => tracing::error!(target: "dpdk", "{line}"),
            RTE_LOG_WARNING => tracing::warn!(target: "dpdk", "{line}"),
            RTE_LOG_NOTICE => tracing::info!(target: "dpdk", "{line}"),
            RTE_LOG_INFO => tracing::debug!(target: "dpdk", "{line}"),
            _ => tracing::trace!(target: "dpdk", "{line}"),
        }
    }
}

impl Log {
    fn end_line(&mut self, level: c_int) -> Option<String> {
        let text = String::from_utf8_lossy(&std::mem::take(&mut self.partial)).trim().to_owned();
        if text.is_empty() {
            return None;
        }
        if self.lines.len() == KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(Line { number: self.next, level, text: text.clone() });
        self.next += 1;
        Some(text)
    }
}

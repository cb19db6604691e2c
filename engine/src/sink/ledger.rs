//! The sink's ledger: `delivered = stored + in flight + sum of the drop reasons`.
//!
//! Each side is counted where it happens: the hooks count what they are given and what they drop, the
//! writer counts what it takes, stores and drops, and what is in flight is what lies between the two.
//! "Stored" is counted once the sync policy has been met; see [`SyncPolicy`](super::SyncPolicy).
//!
//! # Over restarts
//!
//! The file `ledger` in the sink's directory holds the sums, and up to where the primary output was
//! stored when it was written (the checkpoint). It is replaced atomically, so a reader or a crash sees
//! the old or the new one. After a crash, [`recover`] makes it true again: rows that lie behind the
//! checkpoint were stored and are counted as such, and what had been delivered by the time of the
//! checkpoint but is nowhere to be found becomes `lost_in_crash`. That is a lower bound: what the hooks
//! were given between the last checkpoint and the crash left no trace.

use std::{collections::BTreeMap, fmt, fmt::Write as _};

use crate::counters;

counters! {
    /// What one hook (one queue) did.
    pub struct HookCounters => HookStats {
        /// Datagrams handed over by the engine.
        delivered,
        /// Rows of the batch that the hook is filling now.
        open_rows,
        /// Rows of the batches handed to the writer.
        sent_rows,
        /// Batches handed to the writer.
        sent_batches,
        /// Notices of limited sources that found no room on their way to the log.
        hidden_notices,
        /// Dropped: its source sent more lines than max_lines_per_source_per_s.
        source_rate,
        /// Dropped: no empty batch, the writer is behind.
        batch_ring_full,
        /// Dropped: longer than a whole batch.
        too_long,
        /// Dropped: the sink was stopped before its hook.
        sink_closed,
        /// Shed under overload: the source sent more than its share.
        fair_share,
        /// Shed under overload: severity 0.
        shed_emergency,
        /// Shed under overload: severity 1.
        shed_alert,
        /// Shed under overload: severity 2.
        shed_critical,
        /// Shed under overload: severity 3.
        shed_error,
        /// Shed under overload: severity 4.
        shed_warning,
        /// Shed under overload: severity 5.
        shed_notice,
        /// Shed under overload: severity 6.
        shed_info,
        /// Shed under overload: severity 7.
        shed_debug,
        /// Shed under overload: no severity known.
        shed_unknown,
    }
}

impl HookCounters {
    /// The name of the counter of what was shed at `severity`.
    pub(super) fn shed_name(severity: u8) -> &'static str {
        match severity {
            0 => "shed_emergency",
            1 => "shed_alert",
            2 => "shed_critical",
            3 => "shed_error",
            4 => "shed_warning",
            5 => "shed_notice",
            6 => "shed_info",
            7 => "shed_debug",
            _ => "shed_unknown",
        }
    }

    /// The counter of what was shed at `severity` (8 and above: unknown).
    pub(super) fn shed(&self, severity: u8) -> &counters::Counter {
        match severity {
            0 => &self.shed_emergency,
            1 => &self.shed_alert,
            2 => &self.shed_critical,
            3 => &self.shed_error,
            4 => &self.shed_warning,
            5 => &self.shed_notice,
            6 => &self.shed_info,
            7 => &self.shed_debug,
            _ => &self.shed_unknown,
        }
    }
}

/// What of [`HookStats`] is not a drop reason.
const HOOK_FLOW: [&str; 5] = ["delivered", "open_rows", "sent_rows", "sent_batches", "hidden_notices"];

impl HookStats {
    /// `(name, help, count)` of each drop reason.
    pub fn drops(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        self.iter().filter(|(name, ..)| !HOOK_FLOW.contains(name))
    }
}

counters! {
    /// What the writer took over from the hooks.
    pub struct WriterCounters => WriterStats {
        /// Rows of the batches taken.
        taken_rows,
        /// Batches taken.
        taken_batches,
        /// Rows of the batch that the writer has in hand now.
        held_rows,
        /// Dropped: the sink had to stop before the output worked again.
        stopped,
    }
}

counters! {
    /// What one output (spool or text) did.
    pub struct LogCounters => LogStats {
        /// Rows written to a file, synced or not.
        written_rows,
        /// Bytes written to files.
        written_bytes,
        /// Rows written that wait for a sync now.
        unsynced_rows,
        /// Rows stored: written, and synced as the policy wants it.
        stored,
        /// Successful syncs.
        syncs,
        /// Files rolled.
        rolls,
        /// Writes that failed and were tried again.
        retries,
        /// Old files removed to stay within the limits.
        removed_files,
        /// Bytes of a torn tail cut off at start-up.
        torn_bytes,
        /// Torn tails cut off at start-up.
        torn_tails,
        /// Rows found behind the ledger's checkpoint at start-up: stored before a crash.
        recovered_rows,
        /// Failures beside the rows' way: creating the next file, sealing, compressing, writing the ledger.
        housekeeping_errors,
        /// Dropped: no space left on the device, or over quota.
        disk_full,
        /// Dropped: the free space that the sink must leave was reached.
        disk_reserve,
        /// Dropped: the output's own size limit was reached.
        size_limit,
        /// Dropped: the file system is read-only.
        read_only,
        /// Dropped: another write error.
        write_error,
        /// Dropped: written, but the sync failed.
        sync_error,
    }
}

/// The drop reasons of [`LogStats`].
const LOG_DROPS: [&str; 6] = ["disk_full", "disk_reserve", "size_limit", "read_only", "write_error", "sync_error"];

impl LogStats {
    /// `(name, help, count)` of each drop reason.
    pub fn drops(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        self.iter().filter(|(name, ..)| LOG_DROPS.contains(name))
    }
}

/// The reason for what was delivered before a crash and not found after it.
pub(super) const LOST_IN_CRASH: &str = "lost_in_crash";
const LOST_IN_CRASH_HELP: &str = "Dropped: in flight when an earlier run was killed (a lower bound).";

/// One drop reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropReason {
    /// As in the statistics.
    pub name: String,
    /// One line for people.
    pub help: &'static str,
    /// Datagrams dropped for it.
    pub count: u64,
}

/// The sums of a sink over all its runs on one directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkLedger {
    /// Datagrams that the engine handed to the sink's hooks.
    pub delivered: u64,
    /// Stored, as the sync policy defines it.
    pub stored: u64,
    /// In a hook's batch, in a ring, with the writer, or not synced yet.
    pub in_flight: u64,
    /// What was dropped, by reason; every reason is there, also where it is 0.
    pub drops: Vec<DropReason>,
}

impl SinkLedger {
    /// The sum of the drop reasons.
    pub fn dropped(&self) -> u64 {
        self.drops.iter().map(|reason| reason.count).sum()
    }

    /// Whether both sides are equal. Exact once the hooks and the writer are at rest; while they run it
    /// may be off by what moves during the reading.
    pub fn balanced(&self) -> bool {
        self.delivered == self.stored + self.in_flight + self.dropped()
    }

    /// What was dropped for the reason called `name`.
    pub fn drop_count(&self, name: &str) -> u64 {
        self.drops.iter().filter(|reason| reason.name == name).map(|reason| reason.count).sum()
    }

    /// What came after `earlier`, a ledger of the same directory.
    pub fn since(&self, earlier: &SinkLedger) -> SinkLedger {
        let drops = self.drops.iter().map(|reason| {
            let count = reason.count - earlier.drop_count(&reason.name);
            DropReason { count, ..reason.clone() }
        });
        SinkLedger {
            delivered: self.delivered - earlier.delivered,
            stored: self.stored - earlier.stored,
            in_flight: self.in_flight,
            drops: drops.collect(),
        }
    }

    fn add_drop(&mut self, name: &str, help: &'static str, count: u64) {
        match self.drops.iter_mut().find(|reason| reason.name == name) {
            Some(reason) => {
                reason.count += count;
                // A reason known from the file only has no help text yet.
                if reason.help.is_empty() {
                    reason.help = help;
                }
            }
            None => self.drops.push(DropReason { name: name.to_owned(), help, count }),
        }
    }

    /// The sums of earlier runs plus this run's.
    pub(super) fn of(base: &Saved, hooks: &HookStats, writer: &WriterStats, primary: &LogStats) -> SinkLedger {
        let mut ledger = SinkLedger {
            delivered: base.delivered + hooks.delivered,
            stored: base.stored + primary.stored,
            in_flight: hooks.open_rows
                + hooks.sent_rows.saturating_sub(writer.taken_rows)
                + writer.held_rows
                + primary.unsynced_rows,
            drops: Vec::new(),
        };
        for (name, help, count) in hooks.drops().chain(primary.drops()) {
            ledger.add_drop(name, help, count);
        }
        ledger.add_drop("stopped", "Dropped: the sink had to stop before the output worked again.", writer.stopped);
        ledger.add_drop(LOST_IN_CRASH, LOST_IN_CRASH_HELP, 0);
        for (name, count) in &base.drops {
            ledger.add_drop(name, "", *count);
        }
        ledger
    }
}

impl fmt::Display for SinkLedger {
    /// One line a term; drop reasons that are 0 are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>20}  delivered to the sink", self.delivered)?;
        writeln!(f, "{:>20}  stored", self.stored)?;
        writeln!(f, "{:>20}  in flight", self.in_flight)?;
        for reason in self.drops.iter().filter(|reason| reason.count > 0) {
            writeln!(f, "{:>20}  {} ({})", reason.count, reason.name, reason.help.trim_end_matches('.'))?;
        }
        let verdict = if self.balanced() { "balanced" } else { "NOT BALANCED" };
        write!(f, "{:>20}  dropped in all; {verdict}", self.dropped())
    }
}

/// Up to where the primary output is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Checkpoint {
    /// Which output it is about: 0 the text, 1 the spool.
    pub output: u64,
    /// The file: a segment number, or an inode for text.
    pub file: u64,
    /// Rows of that file that are stored. Those of all older files are.
    pub rows: u64,
}

/// What the ledger file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Saved {
    pub delivered: u64,
    pub stored: u64,
    pub drops: BTreeMap<String, u64>,
    pub checkpoint: Checkpoint,
    /// Written by a sink that stopped in order.
    pub clean: bool,
}

impl Checkpoint {
    pub(super) const TEXT: u64 = 0;
    #[cfg_attr(not(feature = "store"), allow(dead_code, reason = "the spool's"))]
    pub(super) const SPOOL: u64 = 1;
}

const FIRST_LINE: &str = "netpoll-sink-ledger 1";
const LAST_LINE: &str = "end";

impl Saved {
    /// The sums of `ledger`. What is in flight is left to [`Saved::reconcile`].
    pub(super) fn of(ledger: &SinkLedger, checkpoint: Checkpoint, clean: bool) -> Saved {
        let drops = ledger.drops.iter().filter(|reason| reason.count > 0);
        Saved {
            delivered: ledger.delivered,
            stored: ledger.stored,
            drops: drops.map(|reason| (reason.name.clone(), reason.count)).collect(),
            checkpoint,
            clean,
        }
    }

    /// The file's text: `name value` lines between a version line and `end`.
    pub(super) fn to_text(&self) -> String {
        let mut text = format!("{FIRST_LINE}\ndelivered {}\nstored {}\n", self.delivered, self.stored);
        for (name, count) in &self.drops {
            let _ = writeln!(text, "drop.{name} {count}");
        }
        let Checkpoint { output, file, rows } = self.checkpoint;
        let _ = write!(
            text,
            "checkpoint.output {output}\ncheckpoint.file {file}\ncheckpoint.rows {rows}\nclean {}\n",
            u8::from(self.clean)
        );
        text + LAST_LINE + "\n"
    }

    /// Reads the file's text; `None` if it is not one that [`Saved::to_text`] wrote.
    pub(super) fn parse(text: &str) -> Option<Saved> {
        let body = text.strip_prefix(FIRST_LINE)?.strip_prefix('\n')?;
        let body = body.strip_suffix('\n')?.strip_suffix(LAST_LINE)?;
        let mut saved = Saved::default();
        for line in body.lines() {
            let (name, value) = line.split_once(' ')?;
            let value: u64 = value.parse().ok()?;
            match name {
                "delivered" => saved.delivered = value,
                "stored" => saved.stored = value,
                "checkpoint.output" => saved.checkpoint.output = value,
                "checkpoint.file" => saved.checkpoint.file = value,
                "checkpoint.rows" => saved.checkpoint.rows = value,
                "clean" => saved.clean = value == 1,
                _ => drop(saved.drops.insert(name.strip_prefix("drop.")?.to_owned(), value)),
            }
        }
        Some(saved)
    }

    /// Balances the sums after the run that wrote them ended, knowing that `found` more rows were stored
    /// than it says. Gives how many were lost.
    pub(super) fn reconcile(&mut self, found: u64) -> u64 {
        self.stored += found;
        let settled = self.stored + self.drops.values().sum::<u64>();
        let lost = self.delivered.saturating_sub(settled);
        self.delivered = self.delivered.max(settled);
        if lost > 0 {
            *self.drops.entry(LOST_IN_CRASH.to_owned()).or_default() += lost;
        }
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trip_and_damage() {
        let saved = Saved {
            delivered: 10,
            stored: 7,
            drops: [("batch_ring_full".to_owned(), 2), ("shed_debug".to_owned(), 1)].into(),
            checkpoint: Checkpoint { output: 1, file: 3, rows: 9 },
            clean: true,
        };
        let text = saved.to_text();
        assert_eq!(Saved::parse(&text), Some(saved));
        for cut in 0..text.len() {
            assert_eq!(Saved::parse(&text[..cut]), None, "cut at {cut}");
        }
        assert_eq!(Saved::parse(&text.replace("delivered 10", "delivered -1")), None);
    }

    proptest::proptest! {
        #[test]
        fn what_is_saved_is_read(
            sums in proptest::array::uniform2(0..u64::MAX),
            drops in proptest::collection::btree_map("[a-z_]{1,12}", 0..=u64::MAX, 0..5),
            checkpoint in proptest::array::uniform3(0..=u64::MAX),
            clean in proptest::bool::ANY,
        ) {
            let [output, file, rows] = checkpoint;
            let checkpoint = Checkpoint { output, file, rows };
            let saved = Saved { delivered: sums[0], stored: sums[1], drops, checkpoint, clean };
            proptest::prop_assert_eq!(Saved::parse(&saved.to_text()), Some(saved));
        }
    }

    #[test]
    fn reconciling_balances() {
        let balanced = |saved: &Saved| saved.delivered == saved.stored + saved.drops.values().sum::<u64>();
        // In flight at the checkpoint: 5. Found later: 3, so 2 were lost.
        let mut saved = Saved { delivered: 10, stored: 5, ..Saved::default() };
        saved.reconcile(3);
        assert_eq!((saved.delivered, saved.stored, saved.drops[LOST_IN_CRASH]), (10, 8, 2));
        assert!(balanced(&saved));
        // More was found than had been delivered by then.
        let mut saved = Saved { delivered: 10, stored: 5, ..Saved::default() };
        saved.reconcile(30);
        assert_eq!((saved.delivered, saved.stored, saved.drops.len()), (35, 35, 0));
        assert!(balanced(&saved));
    }

    #[test]
    fn each_term_counts_once() {
        let hooks = HookStats {
            delivered: 100,
            open_rows: 10,
            sent_rows: 80,
            too_long: 3,
            shed_debug: 7,
            ..Default::default()
        };
        let writer = WriterStats { taken_rows: 70, held_rows: 5, stopped: 1, ..Default::default() };
        let primary = LogStats {
            written_rows: 60,
            unsynced_rows: 15,
            stored: 40,
            sync_error: 5,
            disk_full: 4,
            ..Default::default()
        };
        let ledger = SinkLedger::of(&Saved::default(), &hooks, &writer, &primary);
        // 10 in the hook, 10 in the ring, 5 in the writer's hands, 15 not synced.
        assert_eq!(ledger.in_flight, 40);
        assert_eq!(ledger.dropped(), 3 + 7 + 1 + 5 + 4);
        assert!(ledger.balanced(), "{ledger}");
        let base =
            Saved { delivered: 9, stored: 8, drops: [("shed_debug".to_owned(), 1)].into(), ..Default::default() };
        let ledger = SinkLedger::of(&base, &hooks, &writer, &primary);
        assert_eq!((ledger.delivered, ledger.stored, ledger.drop_count("shed_debug")), (109, 48, 8));
        assert!(ledger.balanced());
        assert!(SinkLedger { delivered: 110, ..ledger }.to_string().contains("NOT BALANCED"));
    }
}

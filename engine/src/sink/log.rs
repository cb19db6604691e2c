//! A rolling log on the disk: what both outputs are made of.
//!
//! Bytes are appended to the active file; a [`Helper`] thread syncs, creates the next file and finishes
//! rolled ones, so that the writer waits for nothing but the writes themselves. Rows count as stored
//! when their sync is reported. A write that fails leaves the file as it was: what it wrote is cut off
//! again. A sync that fails cuts the file back to what had been synced before, because nobody knows what
//! became of the rest, and counts those rows as dropped.
//!
//! ```text
//! append -> active file --roll--> rolling out: synced -> ledger checkpoint -> trailer: finished
//!              ^ next file, created ahead
//! ```

mod names;
mod roll;
mod setup;
mod trouble;

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    SyncPolicy,
    disk::{DiskFile, write_all_at},
    helper::{Done, Helper, Job, create},
    ledger::{Checkpoint, LogCounters},
};

pub(super) use names::{Names, is_rolled, rolled_name_at};
use trouble::Trouble;

pub(super) use setup::{Bookkeeper, Fault, LogLimits, LogSetup, Resume, TidyLimits};

/// How long to leave alone what failed beside the rows' way.
const HOUSEKEEPING_PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct LogFile {
    file: Arc<dyn DiskFile>,
    number: u64,
    /// As the checkpoint names it: the number, or the inode of a live file.
    id: u64,
    /// Good bytes; what lies behind them is a failed write's.
    len: u64,
    rows: u64,
    synced_len: u64,
    synced_rows: u64,
    /// There may be bytes behind `len`.
    dirty: bool,
    /// When its first row of this run was written.
    first_row: Option<Instant>,
    unsynced_since: Option<Instant>,
    finishing: bool,
}

/// See the module's docs.
pub(super) struct Log {
    setup: LogSetup,
    header: Arc<[u8]>,
    trailer: Arc<[u8]>,
    helper: Helper,
    active: Option<LogFile>,
    rolling: VecDeque<LogFile>,
    /// The next file, when it is there; and whether it was asked for.
    next: Option<Arc<dyn DiskFile>>,
    next_asked: bool,
    /// The active file is to end, whatever its size and age.
    roll_asked: bool,
    next_number: u64,
    syncing: bool,
    checkpoint: Checkpoint,
    /// Ledger writes under way.
    ledger_open: u32,
    ledger_given: Instant,
    ledger_text: String,
    closing: bool,
    housekeeping_after: Instant,
    total_bytes: u64,
    total_known: Option<Instant>,
    write_trouble: Trouble,
    sync_trouble: Trouble,
    /// The system's word on the last write that failed.
    last_error: Option<io::Error>,
}

impl Log {
    /// Opens the first file. The calling thread is the writer: the helper wakes it when a job is done.
    pub(super) fn open(setup: LogSetup, checkpoint: Checkpoint) -> io::Result<Log> {
        let helper = Helper::start("netpoll-sync", setup.disk.clone())?;
        let now = Instant::now();
        let mut log = Log {
            header: setup.header.clone().into(),
            trailer: setup.trailer.clone().into(),
            helper,
            active: None,
            rolling: VecDeque::new(),
            next: None,
            next_asked: false,
            roll_asked: false,
            next_number: setup.first_number,
            syncing: false,
            checkpoint,
            ledger_open: 0,
            ledger_given: now,
            ledger_text: String::new(),
            closing: false,
            housekeeping_after: now,
            total_bytes: 0,
            total_known: None,
            write_trouble: Trouble::default(),
            sync_trouble: Trouble::default(),
            last_error: None,
            setup,
        };
        // On a full disk it starts all the same, and goes on when there is room.
        match log.open_first() {
            Err(error) if Fault::of(&error) != Fault::DiskFull => return Err(error),
            _ => {}
        }
        log.tidy();
        Ok(log)
    }

    fn open_first(&mut self) -> io::Result<()> {
        let number = self.next_number;
        let path = self.setup.names.active(number);
        let (file, resume) = match self.setup.resume {
            Some(resume) => (self.setup.disk.open(&path)?, resume),
            None => {
                let file = create(&*self.setup.disk, &path, &self.header)?;
                (file, Resume { len: self.header.len() as u64, rows: 0 })
            }
        };
        self.active = Some(self.log_file(file, number, resume)?);
        self.next_number = number + 1;
        Ok(())
    }

    fn log_file(&self, file: Arc<dyn DiskFile>, number: u64, resume: Resume) -> io::Result<LogFile> {
        let id = match self.setup.names {
            Names::Numbered { .. } => number,
            Names::Live { .. } => file.inode()?,
        };
        let Resume { len, rows } = resume;
        Ok(LogFile {
            file,
            number,
            id,
            len,
            rows,
            synced_len: len,
            synced_rows: rows,
            dirty: false,
            first_row: None,
            unsynced_since: None,
            finishing: false,
        })
    }

    pub(super) fn set_limits(&mut self, limits: LogLimits) {
        self.setup.limits = limits;
    }

    pub(super) fn counters(&self) -> &LogCounters {
        &self.setup.counters
    }

    /// Counts `rows` as dropped because of `fault`, and tells when that begins.
    pub(super) fn count_drop(&mut self, fault: Fault, rows: u64) {
        let file = self.setup.names.active(self.active.as_ref().map_or(self.next_number, |active| active.number));
        let error = self.last_error.take().map_or_else(String::new, |error| format!(": {error}"));
        let (name, advice) = (fault.name(), fault.advice());
        let what = format_args!(
            "{} is not written{error}. Lines are dropped, and counted as {name}, until it is again; {advice}",
            file.display()
        );
        if let Some(words) = self.write_trouble.costs(rows, Instant::now(), what) {
            tracing::error!("{words}");
        }
        let counters = self.counters();
        let counter = match fault {
            Fault::DiskFull => &counters.disk_full,
            Fault::DiskReserve => &counters.disk_reserve,
            Fault::SizeLimit => &counters.size_limit,
            Fault::ReadOnly => &counters.read_only,
            Fault::WriteError => &counters.write_error,
        };
        counter.add(rows);
    }

    /// Appends `rows` rows in `bytes`: all of it, or nothing.
    pub(super) fn append(&mut self, bytes: &mut [IoSlice<'_>], rows: u64, now: Instant) -> Result<(), Fault> {
        self.try_append(bytes, rows, now)?;
        if let Some(words) = self.write_trouble.is_over(now) {
            tracing::info!("writing {} {words}", self.setup.names.dir().display());
        }
        Ok(())
    }

    /// What a failure is to the ledger. The system's word on it is kept.
    fn fault(&mut self, error: io::Error) -> Fault {
        let fault = Fault::of(&error);
        self.last_error = Some(error);
        fault
    }

    fn try_append(&mut self, bytes: &mut [IoSlice<'_>], rows: u64, now: Instant) -> Result<(), Fault> {
        let len: u64 = bytes.iter().map(|slice| slice.len() as u64).sum();
        self.check_room(len, now)?;
        if self.active.is_none() {
            self.open_first().map_err(|error| self.fault(error))?;
        }
        self.roll_if_due(len, now);
        // Rows from before the policy was changed to this are synced first: what is stored is a prefix.
        let mut files = self.rolling.iter().chain(&self.active);
        let never = self.setup.limits.sync == SyncPolicy::Never && files.all(|file| file.rows == file.synced_rows);
        let Some(active) = &mut self.active else { return Err(Fault::WriteError) };
        let written = clean_tail(active).and_then(|()| {
            active.dirty = true;
            write_all_at(&*active.file, bytes, active.len)
        });
        if let Err(error) = written {
            // Where even this fails, it is tried again before the next write.
            let _ = clean_tail(active);
            return Err(self.fault(error));
        }
        active.dirty = false;
        active.len += len;
        active.rows += rows;
        active.first_row.get_or_insert(now);
        self.total_bytes += len;
        self.setup.counters.written_rows.add(rows);
        self.setup.counters.written_bytes.add(len);
        if never {
            (active.synced_len, active.synced_rows) = (active.len, active.rows);
            self.checkpoint = Checkpoint { file: active.id, rows: active.rows, ..self.checkpoint };
            self.setup.counters.stored.add(rows);
        } else {
            active.unsynced_since.get_or_insert(now);
            self.setup.counters.unsynced_rows.add(rows);
        }
        Ok(())
    }

    fn check_room(&mut self, len: u64, now: Instant) -> Result<(), Fault> {
        let limits = &self.setup.limits;
        let free = match self.setup.disk.free_bytes(self.setup.names.dir()) {
            Ok(free) => free,
            Err(error) => return Err(self.fault(error)),
        };
        // Without a reserve the disk itself says when it is full.
        if limits.min_free_bytes > 0 && free < limits.min_free_bytes.saturating_add(len) {
            return Err(Fault::DiskReserve);
        }
        let Some(max_bytes) = limits.max_bytes else { return Ok(()) };
        // Others remove files; looking once a second is enough.
        if self.total_known.is_none_or(|known| now.duration_since(known) >= Duration::from_secs(1)) {
            self.total_bytes = self.files_bytes().map_err(|error| self.fault(error))?;
            self.total_known = Some(now);
        }
        if self.total_bytes + len > max_bytes { Err(Fault::SizeLimit) } else { Ok(()) }
    }

    fn files_bytes(&self) -> io::Result<u64> {
        let Names::Numbered { dir, extension } = &self.setup.names else { return Ok(0) };
        let mut total = 0;
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            if entry.path().extension().is_some_and(|found| found == *extension) {
                // One that was removed meanwhile counts nothing.
                total += entry.metadata().map_or(0, |metadata| metadata.len());
            }
        }
        Ok(total)
    }

    fn housekeeping_failed(&mut self, now: Instant) {
        self.setup.counters.housekeeping_errors.add(1);
        self.housekeeping_after = now + HOUSEKEEPING_PAUSE;
    }

    /// Does what is due: takes the helper's results, asks for syncs and for the next file, rolls by time.
    /// Called often; cheap when nothing is due.
    pub(super) fn poll(&mut self, now: Instant, ledger_interval: Duration) {
        while let Some(done) = self.helper.try_done() {
            self.take_done(done, now);
        }
        self.roll_if_due(0, now);
        self.ask_sync(now);
        self.finish_rolled(now);
        if self.active.is_some() && self.next.is_none() && !self.next_asked && now >= self.housekeeping_after {
            self.next_asked = true;
            let path = self.setup.names.ahead(self.next_number);
            self.helper.give(Job::Create { path, header: self.header.clone() });
        }
        if now.duration_since(self.ledger_given) >= ledger_interval && self.ledger_open == 0 {
            self.ledger_given = now;
            self.give_ledger(false);
        }
    }

    /// When something is due at the latest, after `now`.
    pub(super) fn wait_limit(&self, now: Instant) -> Duration {
        let Some(since) = self.active.as_ref().and_then(|active| active.unsynced_since) else {
            return Duration::MAX;
        };
        match self.setup.limits.sync {
            // The helper wakes the writer when the sync under way is done.
            _ if self.syncing => Duration::MAX,
            SyncPolicy::Every(interval) => (since + interval).saturating_duration_since(now),
            SyncPolicy::Never | SyncPolicy::EveryBatch => Duration::ZERO,
        }
    }

    fn take_done(&mut self, done: Done, now: Instant) {
        match done {
            Done::Created { result } => {
                self.next_asked = false;
                match result {
                    Ok(file) => self.next = Some(file),
                    Err(_) => self.housekeeping_failed(now),
                }
            }
            Done::Synced { id, len, rows, result } => {
                self.syncing = false;
                self.take_synced(id, len, rows, result);
            }
            Done::Ledger { result } => {
                self.ledger_open -= 1;
                if result.is_err() {
                    self.setup.counters.housekeeping_errors.add(1);
                }
            }
            Done::Finished { id, result } => self.take_finished(id, result, now),
            Done::Tidied { removed, result } => {
                self.setup.counters.removed_files.add(removed);
                if result.is_err() {
                    self.setup.counters.housekeeping_errors.add(1);
                }
            }
        }
    }

    fn take_synced(&mut self, id: u64, len: u64, rows: u64, result: io::Result<()>) {
        let Some(file) = self.rolling.iter_mut().chain(&mut self.active).find(|file| file.id == id) else { return };
        let counters = &self.setup.counters;
        match result {
            Ok(()) => {
                let stored = rows - file.synced_rows;
                (file.synced_len, file.synced_rows) = (len, rows);
                counters.syncs.add(1);
                if let Some(words) = self.sync_trouble.is_over(Instant::now()) {
                    tracing::info!("syncing {} {words}", self.setup.names.dir().display());
                }
                counters.stored.add(stored);
                counters.unsynced_rows.add(stored.wrapping_neg());
                self.checkpoint = Checkpoint { file: id, rows, ..self.checkpoint };
            }
            Err(error) => {
                let lost = file.rows - file.synced_rows;
                let path = self.setup.names.active(file.number);
                let what = format_args!(
                    "{} could not be synced: {error}. What had been written since the last time is dropped, and counted as \
                     sync_error; `dmesg` may say more",
                    path.display()
                );
                if let Some(words) = self.sync_trouble.costs(lost, Instant::now(), what) {
                    tracing::error!("{words}");
                }
                (file.len, file.rows, file.dirty) = (file.synced_len, file.synced_rows, true);
                let _ = clean_tail(file);
                counters.sync_error.add(lost);
                counters.unsynced_rows.add(lost.wrapping_neg());
            }
        }
        if file.rows == file.synced_rows {
            file.unsynced_since = None;
        }
    }

    /// Asks for a sync if one is due and none is under way; rolled files first, so that what is stored is
    /// always a prefix of what was written.
    fn ask_sync(&mut self, now: Instant) {
        if self.syncing {
            return;
        }
        let rolled = self.rolling.iter_mut().find(|file| file.rows > file.synced_rows);
        let active = self.active.as_mut().filter(|file| file.rows > file.synced_rows);
        let wait = match self.setup.limits.sync {
            SyncPolicy::Every(interval) if rolled.is_none() && !self.closing => interval,
            _ => Duration::ZERO,
        };
        let Some(file) = rolled.or(active) else { return };
        if file.unsynced_since.is_some_and(|since| now.duration_since(since) < wait) {
            return;
        }
        // What comes from here on waits for the next one.
        file.unsynced_since = Some(now);
        self.syncing = true;
        let LogFile { id, len, rows, .. } = *file;
        self.helper.give(Job::Sync { file: file.file.clone(), id, len, rows });
    }

    /// Has the ledger file written, unless nothing changed since.
    fn give_ledger(&mut self, clean: bool) {
        let Some(books) = &self.setup.books else { return };
        let text = books.text(self.checkpoint, clean);
        if text != self.ledger_text {
            self.ledger_text.clone_from(&text);
            self.ledger_open += 1;
            self.helper.give(Job::Ledger { path: books.path(), text });
        }
    }

    /// Syncs and finishes everything, and writes the last ledger, until `deadline`; what is not synced by
    /// then counts as dropped.
    pub(super) fn close(mut self, deadline: Instant) {
        self.closing = true;
        self.rolling.extend(self.active.take());
        if matches!(self.setup.names, Names::Numbered { .. }) {
            let names = &self.setup.names;
            let header_len = self.header.len() as u64;
            // One without a row may still say what was lost.
            self.rolling
                .retain(|file| file.len > header_len || std::fs::remove_file(names.active(file.number)).is_err());
        }
        while !self.rolling.is_empty() {
            let now = Instant::now();
            self.ask_sync(now);
            self.finish_rolled(now);
            // Not longer: what failed is tried again after a pause.
            match self.helper.wait_done(deadline.min(now + Duration::from_millis(50))) {
                Some(done) => self.take_done(done, now),
                None if Instant::now() >= deadline => break,
                None => {}
            }
        }
        for file in &self.rolling {
            let lost = file.rows - file.synced_rows;
            self.setup.counters.sync_error.add(lost);
            self.setup.counters.unsynced_rows.add(lost.wrapping_neg());
        }
        let clean = self.rolling.is_empty();
        self.give_ledger(clean);
        let mut idle = false;
        while !idle && Instant::now() < deadline {
            idle = self.ledger_open == 0 && !self.next_asked;
            if let Some(done) = (!idle).then(|| self.helper.wait_done(deadline)).flatten() {
                self.take_done(done, Instant::now());
            }
        }
        if self.next.is_some() {
            let _ = std::fs::remove_file(self.setup.names.ahead(self.next_number));
        }
        self.helper.end(idle);
    }
}

/// Cuts off what a failed write left behind.
fn clean_tail(file: &mut LogFile) -> io::Result<()> {
    if file.dirty {
        file.file.set_len(file.len)?;
        file.dirty = false;
    }
    Ok(())
}

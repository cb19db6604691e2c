//! What the sink, its hooks' factories and its writer have in common.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    SinkConfig, SinkError, SinkStats,
    disk::Disk,
    hook::HookShared,
    ledger::{Checkpoint, HookStats, LogCounters, Saved, SinkLedger, WriterCounters},
    log::{Bookkeeper, Log, LogSetup, Names, Resume},
    output::{Encoder, Output},
    settings::HookSettings,
};

/// The hooks that live, and the sums of those that are gone.
#[derive(Debug, Default)]
struct Hooks {
    live: Vec<Arc<HookShared>>,
    retired: HookStats,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) disk: Arc<dyn Disk>,
    /// Earlier runs.
    pub(super) base: Saved,
    pub(super) ledger_path: PathBuf,
    hooks: Mutex<Hooks>,
    pub(super) settings: Arc<HookSettings>,
    pub(super) writer: WriterCounters,
    pub(super) primary: Arc<LogCounters>,
    pub(super) secondary: Arc<LogCounters>,
}

impl Shared {
    pub(super) fn new(disk: Arc<dyn Disk>, base: Saved, ledger_path: PathBuf, primary: Arc<LogCounters>) -> Shared {
        Shared {
            disk,
            base,
            ledger_path,
            hooks: Mutex::default(),
            settings: Arc::default(),
            writer: WriterCounters::default(),
            primary,
            secondary: Arc::default(),
        }
    }

    fn hooks(&self) -> std::sync::MutexGuard<'_, Hooks> {
        // Nothing in there can be left half done by a panic.
        self.hooks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn attach(&self, hook: Arc<HookShared>) {
        self.hooks().live.push(hook);
    }

    /// Moves a gone hook's counts to the sum.
    pub(super) fn retire(&self, hook: &Arc<HookShared>) {
        let mut hooks = self.hooks();
        hooks.live.retain(|live| !Arc::ptr_eq(live, hook));
        hooks.retired.merge(&hook.counters.snapshot());
    }

    pub(super) fn stats(&self) -> SinkStats {
        // From the end of the path to its start: what moves meanwhile shows as delivered, not as stored
        // from nowhere.
        let primary = self.primary.snapshot();
        let secondary = self.secondary.snapshot();
        let writer = self.writer.snapshot();
        let hooks = self.hooks();
        let queues = hooks.live.iter().map(|hook| (hook.queue, hook.counters.snapshot())).collect();
        SinkStats { queues, retired: hooks.retired, writer, primary, text: secondary }
    }

    pub(super) fn ledger(&self) -> SinkLedger {
        let stats = self.stats();
        SinkLedger::of(&self.base, &stats.all_queues(), &stats.writer, &stats.primary)
    }

    /// Opens the text output: as the primary one from `first`, else beside the spool.
    pub(super) fn open_text(&self, config: &SinkConfig, first: Option<TextStart>) -> Result<Output, SinkError> {
        let Some(text) = &config.text else { return Err(SinkError::NoOutput) };
        let names = Names::Live { dir: config.dir.clone(), name: text.file_name.clone() };
        let path = names.active(0);
        let failed = |source| SinkError::Output { path: path.clone(), source };
        let (resume, checkpoint, books, limits, counters) = match first {
            Some(start) => {
                let limits = config.primary_limits();
                (start.resume, start.checkpoint, Some(start.books), limits, self.primary.clone())
            }
            None => {
                let (resume, _) = super::text_recovery::recover(&*self.disk, &path, &self.secondary).map_err(failed)?;
                let limits = config.secondary_limits().ok_or(SinkError::NoOutput)?;
                (resume, Checkpoint::default(), None, limits, self.secondary.clone())
            }
        };
        let setup = LogSetup {
            disk: self.disk.clone(),
            names,
            header: Vec::new(),
            trailer: Vec::new(),
            limits,
            counters,
            books,
            first_number: 0,
            resume,
        };
        Ok(Output::new(Log::open(setup, checkpoint).map_err(failed)?, Encoder::text(text)))
    }

    /// Opens the spool.
    #[cfg(feature = "store")]
    pub(super) fn open_spool(
        &self,
        config: &SinkConfig,
        first_number: u64,
        checkpoint: Checkpoint,
        books: Box<dyn Bookkeeper>,
    ) -> Result<Output, SinkError> {
        let dir = super::spool::spool_dir(&config.dir);
        let failed = |source| SinkError::Output { path: dir.clone(), source };
        let setup = LogSetup {
            disk: self.disk.clone(),
            names: Names::Numbered { dir: dir.clone(), extension: super::spool::EXTENSION },
            header: super::spool::header().map_err(failed)?,
            trailer: super::spool::END_OF_STREAM.to_vec(),
            limits: config.primary_limits(),
            counters: self.primary.clone(),
            books: Some(books),
            first_number,
            resume: None,
        };
        let encoder = super::spool::SpoolEncoder::new().map_err(|error| failed(std::io::Error::other(error)))?;
        Ok(Output::new(Log::open(setup, checkpoint).map_err(failed)?, Encoder::Spool(Box::new(encoder))))
    }

    /// What a running sink cannot change.
    pub(super) fn check_reload(&self, old: &SinkConfig, new: &SinkConfig) -> Result<(), SinkError> {
        let text_name = |config: &SinkConfig| config.text.as_ref().map(|text| text.file_name.clone());
        // Beside the spool it is a new output.
        let renamed = !old.primary_is_spool() && !new.primary_is_spool() && text_name(old) != text_name(new);
        let refused = [
            (old.dir != new.dir, "dir"),
            (renamed, "text.file_name"),
            (old.primary_is_spool() != new.primary_is_spool(), "spool"),
            (!new.has_output(), "text"),
            (old.batch_rows != new.batch_rows, "batch_rows"),
            (old.batch_bytes != new.batch_bytes, "batch_bytes"),
            (old.batches_per_queue != new.batches_per_queue, "batches_per_queue"),
            (old.writer_cpu != new.writer_cpu, "writer_cpu"),
        ];
        match refused.iter().find(|(changed, _)| *changed) {
            Some((_, key)) => Err(SinkError::NotReloadable { key }),
            None => Ok(()),
        }
    }
}

/// How a primary text output starts.
pub(super) struct TextStart {
    pub(super) resume: Option<Resume>,
    pub(super) checkpoint: Checkpoint,
    pub(super) books: Box<dyn Bookkeeper>,
}

/// Writes the ledger file for the primary log.
#[derive(Debug)]
pub(super) struct Books(pub(super) Arc<Shared>);

impl Bookkeeper for Books {
    fn path(&self) -> PathBuf {
        self.0.ledger_path.clone()
    }

    fn text(&self, checkpoint: Checkpoint, clean: bool) -> String {
        Saved::of(&self.0.ledger(), checkpoint, clean).to_text()
    }
}

//! The log sink: the rx hook client that stores every datagram, or says why it could not.
//!
//! ```text
//! polling lcore   SinkHook --push--> Batch (columns)
//!                    | full, or older than the flush interval     ^ empty batches come back
//!                    +--- ring ---> writer thread ---> spool, text
//!                                        | jobs        ^ results
//!                                   helper thread: sync, create, finish, compress
//! ```
//!
//! [`Sink::open`] locks a directory and starts the writer; [`Sink::hooks`] makes the hooks to register
//! with a port; [`Sink::stop`] drains and ends. To lose nothing, clean up the clients that hold the hooks
//! first: a hook hands over its last batch when it is dropped.
//!
//! In the directory: `lock`, `ledger`, `spool/NNNNNNNNNNNN.arrows`, and the text files.

pub mod batch;
mod config;
pub mod decode;
mod disk;
mod done;
mod helper;
mod hook;
mod ledger;
mod lock;
mod log;
mod loss;
mod notices;
mod output;
#[cfg(feature = "store")]
pub mod query;
pub mod record;
mod settings;
mod shared;
mod shed;
mod source_limit;
#[cfg(feature = "store")]
pub mod spool;
#[cfg(feature = "store")]
pub mod store;
pub mod text;
mod text_recovery;
mod writer;

#[cfg(test)]
mod tests;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

#[cfg(feature = "store")]
pub use config::SpoolConfig;
pub use {
    batch::{Batch, Columns, RawDatagram},
    config::{SinkConfig, SyncPolicy, TextConfig},
    hook::SinkHook,
    ledger::{DropReason, HookCounters, HookStats, LogCounters, LogStats, SinkLedger, WriterCounters, WriterStats},
    lock::LockError,
    loss::{Loss, Seqs, Whose},
    shed::{SEVERITIES, ShedPolicy},
    text::{Template, TemplateError, TextFormat},
};

use crate::{
    ids::QueueId,
    netpoll::hook::{RxHook, RxHookFactory},
};
use disk::{Disk, FileSystem};
use ledger::{Checkpoint, Saved};
use lock::DirLock;
use notices::Notices;
use output::Output;
use shared::{Books, Shared, TextStart};
use writer::{Request, Writer};

/// Why a sink does not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError {
    /// The directory cannot be used.
    #[error("cannot use the directory {}: {source}", path.display())]
    Dir {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another sink has the directory, or it cannot be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// An output cannot be opened.
    #[error("cannot write to {}: {source}", path.display())]
    Output {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The spool of an earlier run cannot be read.
    #[cfg(feature = "store")]
    #[error(transparent)]
    Spool(#[from] spool::SpoolError),
    /// The disk is smaller than what is to stay free of it: nothing could ever be written.
    #[error(
        "the disk of {} has {} in all, of which the sink is to leave {} free, so that every line would be dropped: \
         give it a larger disk, or a smaller reserve (`--min-free 16M`, min_free_bytes in [sink.limits])",
        path.display(), mebibytes(*total_bytes), mebibytes(*min_free_bytes)
    )]
    DiskTooSmall {
        /// The sink's directory.
        path: PathBuf,
        /// All that the file system has room for.
        total_bytes: u64,
        /// [`SinkConfig::min_free_bytes`].
        min_free_bytes: u64,
    },
    /// The configuration has no output.
    #[error("no output: neither the spool nor text is on")]
    NoOutput,
    /// This cannot change while the sink runs.
    #[error("{key} cannot change while the sink runs")]
    NotReloadable {
        /// The configuration's field.
        key: &'static str,
    },
    /// The writer cannot be pinned.
    #[error("cannot pin the writer to CPU {cpu}")]
    Pin {
        /// The CPU.
        cpu: usize,
    },
    /// The writer thread could not be started, or has died.
    #[error("the writer thread is not running")]
    WriterGone,
}

/// `96.5 MiB`.
fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// A snapshot of all counters of this run. Not atomic over the counters.
#[derive(Clone, Debug, Default)]
pub struct SinkStats {
    /// Each hook that lives.
    pub queues: Vec<(QueueId, HookStats)>,
    /// The sum of those that are gone.
    pub retired: HookStats,
    /// The writer.
    pub writer: WriterStats,
    /// The output whose rows count as stored.
    pub primary: LogStats,
    /// The text beside the spool. What it drops is not in the ledger: those rows are in the spool.
    pub text: LogStats,
}

impl SinkStats {
    /// The sum over all hooks, gone ones too.
    pub fn all_queues(&self) -> HookStats {
        let mut sum = self.retired;
        self.queues.iter().for_each(|(_, stats)| sum.merge(stats));
        sum
    }
}

/// A running sink. Dropping it stops it as [`Sink::stop`] does.
#[derive(Debug)]
pub struct Sink {
    shared: Arc<Shared>,
    hooks: SinkHooks,
    writer: Option<JoinHandle<()>>,
    /// Disconnected when the writer has ended.
    ended: Mutex<Receiver<()>>,
    end_timeout: Duration,
    stop: Arc<AtomicBool>,
    _lock: DirLock,
}

impl Sink {
    /// Locks the directory, puts in order what an earlier run left there, and starts the writer.
    pub fn open(config: SinkConfig) -> Result<Sink, SinkError> {
        Sink::open_on(config, Arc::new(FileSystem))
    }

    fn open_on(config: SinkConfig, disk: Arc<dyn Disk>) -> Result<Sink, SinkError> {
        if !config.has_output() {
            return Err(SinkError::NoOutput);
        }
        let dir_error = |source| SinkError::Dir { path: config.dir.clone(), source };
        fs::create_dir_all(&config.dir).map_err(dir_error)?;
        check_room(&config, &*disk)?;
        let lock = DirLock::take(&config.dir)?;
        let ledger_path = config.dir.join("ledger");
        let saved = read_ledger(&ledger_path).map_err(dir_error)?;
        let primary = Arc::default();
        let start = Start::prepare(&config, &*disk, saved, &ledger_path, &primary)?;
        let shared = Arc::new(Shared::new(disk, start.base.clone(), ledger_path, primary));
        shared.settings.set(&config);
        let stop = Arc::new(AtomicBool::new(false));
        let (requests, request_queue) = channel();
        let (ready, is_ready) = channel();
        let hooks = SinkHooks {
            shared: shared.clone(),
            requests,
            batch_count: config.batches_per_queue,
            batch_rows: config.batch_rows,
            batch_bytes: config.batch_bytes,
        };
        // The writer keeps to `stop_timeout` by itself unless it hangs in a system call.
        let end_timeout = config.stop_timeout.saturating_add(Duration::from_secs(2));
        let (ending, ended) = channel::<()>();
        let lost_in_crash = start.lost_in_crash;
        let (thread_shared, thread_stop) = (shared.clone(), stop.clone());
        let writer = std::thread::Builder::new().name("netpoll-writer".to_owned()).spawn(move || {
            let _ending = ending;
            let opened = pin(config.writer_cpu).and_then(|()| start.open(&config, &thread_shared));
            match opened {
                Ok((primary, secondary)) => {
                    let (shared, stop) = (thread_shared, thread_stop);
                    let _ = ready.send(Ok(()));
                    let queues = Vec::new();
                    let notices = Notices::new(Instant::now());
                    let losses = writer::WriterLosses::new(lost_in_crash);
                    let requests = request_queue;
                    Writer { shared, config, requests, queues, primary, secondary, losses, stop, notices }.run();
                }
                Err(error) => drop(ready.send(Err(error))),
            }
        });
        let writer = writer.map_err(|_| SinkError::WriterGone)?;
        is_ready.recv().unwrap_or(Err(SinkError::WriterGone))?;
        Ok(Sink { shared, hooks, writer: Some(writer), ended: Mutex::new(ended), end_timeout, stop, _lock: lock })
    }

    /// Makes hooks for ports, at any time while the sink runs. Each hook allocates its own batches.
    pub fn hooks(&self) -> SinkHooks {
        self.hooks.clone()
    }

    /// The counters of this run. Any thread.
    pub fn stats(&self) -> SinkStats {
        self.shared.stats()
    }

    /// The sums over all runs on this directory. Any thread.
    pub fn ledger(&self) -> SinkLedger {
        self.shared.ledger()
    }

    /// Goes on with another configuration without losing a datagram: limits, policies, intervals and the
    /// text beside the spool may change, the rest is refused by name and nothing changes.
    pub fn reload(&self, config: SinkConfig) -> Result<(), SinkError> {
        check_room(&config, &*self.shared.disk)?;
        let (answer, answered) = channel();
        let request = Request::Reload(Box::new(config), answer);
        self.hooks.requests.send(request).map_err(|_| SinkError::WriterGone)?;
        self.wake();
        answered.recv().map_err(|_| SinkError::WriterGone)?
    }

    /// Ends the files that are written to, as far as there is something in them, and goes on in new ones: for
    /// logrotate, which may have moved the text file away, and to have what is in the spool converted now.
    pub fn roll(&self) -> Result<(), SinkError> {
        self.hooks.requests.send(Request::Roll).map_err(|_| SinkError::WriterGone)?;
        self.wake();
        Ok(())
    }

    /// Notes that `count` datagrams were lost before they came to the sink (by the NIC), for who looks for gaps. They are
    /// not in the sink's ledger: it was never given them.
    pub fn note_lost(&self, reason: &'static str, count: u64) {
        let _ = self.hooks.requests.send(Request::Lost(reason, count));
    }

    /// Stops: writes and syncs everything that the hooks handed over, and gives the final sums. Waits no longer
    /// than about [`SinkConfig::stop_timeout`]. Hooks that
    /// still live count what they get from now on as `sink_closed`; what is in their batches then stays
    /// in flight until they are dropped.
    pub fn stop(mut self) -> SinkLedger {
        self.end();
        self.shared.ledger()
    }

    fn wake(&self) {
        if let Some(writer) = &self.writer {
            writer.thread().unpark();
        }
    }

    fn end(&mut self) {
        // W1: Release, pairs with W2: the hooks' batches that the caller knows of are written.
        self.stop.store(true, Ordering::Release);
        self.wake();
        let Some(writer) = self.writer.take() else { return };
        // A writer that hangs (a dead network disk) is left behind. What it holds, as what one that panicked
        // held, stays in flight: the ledger shows it.
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        if ended.recv_timeout(self.end_timeout) != Err(RecvTimeoutError::Timeout) {
            let _ = writer.join();
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.end();
    }
}

/// Makes the sink's hooks, one a queue.
#[derive(Clone, Debug)]
pub struct SinkHooks {
    shared: Arc<Shared>,
    requests: Sender<Request>,
    batch_count: usize,
    batch_rows: usize,
    batch_bytes: usize,
}

impl SinkHooks {
    /// A hook for `queue`.
    pub fn hook(&self, queue: QueueId) -> SinkHook {
        let settings = self.shared.settings.clone();
        let (hook, ends) = SinkHook::new(queue, self.batch_count, self.batch_rows, self.batch_bytes, settings);
        self.shared.attach(ends.shared.clone());
        // If the writer has ended, so are the settings closed, and the hook counts it.
        let _ = self.requests.send(Request::Attach(ends));
        hook
    }
}

impl RxHookFactory for SinkHooks {
    fn rx_hook(&mut self, queue: QueueId) -> Box<dyn RxHook> {
        Box::new(self.hook(queue))
    }
}

/// What was found in the directory, and how to go on from there.
struct Start {
    base: Saved,
    /// The text goes on here, where it is the primary output.
    resume: Option<log::Resume>,
    /// What the last run had in flight when it was killed.
    lost_in_crash: u64,
    /// The first segment to write.
    #[cfg_attr(not(feature = "store"), allow(dead_code, reason = "the spool's"))]
    segment: u64,
}

impl Start {
    /// Puts the primary output and the ledger in order.
    fn prepare(
        config: &SinkConfig,
        disk: &dyn Disk,
        saved: Option<Saved>,
        ledger_path: &Path,
        primary: &LogCounters,
    ) -> Result<Start, SinkError> {
        let known = saved.is_some();
        let base = saved.unwrap_or_default();
        #[cfg(feature = "store")]
        if config.spool.is_some() {
            return Start::prepare_spool(config, disk, base, ledger_path, primary);
        }
        let _ = ledger_path;
        Start::prepare_text(config, disk, base, known, primary)
    }

    fn prepare_text(
        config: &SinkConfig,
        disk: &dyn Disk,
        mut base: Saved,
        known: bool,
        primary: &LogCounters,
    ) -> Result<Start, SinkError> {
        let path = config.dir.join(config.text.as_ref().map_or("", |text| &text.file_name));
        let failed = |source| SinkError::Output { path: path.clone(), source };
        let (resume, inode) = text_recovery::recover(disk, &path, primary).map_err(failed)?;
        let crashed = known && !base.clean && base.checkpoint.output == Checkpoint::TEXT;
        let found = if crashed { text_recovery::lines_after(base.checkpoint, resume, inode) } else { 0 };
        primary.recovered_rows.add(found);
        let lost_in_crash = base.reconcile(found);
        let rows = resume.map_or(0, |resume| resume.rows);
        base.checkpoint = Checkpoint { output: Checkpoint::TEXT, file: inode, rows };
        Ok(Start { base, resume, lost_in_crash, segment: 0 })
    }

    #[cfg(feature = "store")]
    fn prepare_spool(
        config: &SinkConfig,
        disk: &dyn Disk,
        mut base: Saved,
        ledger_path: &Path,
        primary: &LogCounters,
    ) -> Result<Start, SinkError> {
        let dir = spool::spool_dir(&config.dir);
        fs::create_dir_all(&dir).map_err(|source| SinkError::Dir { path: dir, source })?;
        let checkpoint = Some(base.checkpoint).filter(|checkpoint| checkpoint.output == Checkpoint::SPOOL);
        let recovered = spool::recover(disk, &config.dir, checkpoint, primary)?;
        let lost_in_crash = base.reconcile(recovered.found_rows);
        // A number names one segment for ever, also in the store.
        let segment = recovered.next_number.max(store::next_segment(&config.dir));
        // All that was found is before the segment to come.
        base.checkpoint = Checkpoint { output: Checkpoint::SPOOL, file: segment, rows: 0 };
        let saved = disk::replace(disk, ledger_path, base.to_text().as_bytes());
        // Without the ledger on the disk no segment may be taken away; the next start finishes them.
        if saved.and_then(|()| spool::seal(recovered)).is_err() {
            primary.housekeeping_errors.add(1);
        }
        Ok(Start { base, resume: None, lost_in_crash, segment })
    }

    /// Opens the outputs, on the writer thread.
    fn open(self, config: &SinkConfig, shared: &Arc<Shared>) -> Result<(Output, Option<Output>), SinkError> {
        let books = Box::new(Books(shared.clone()));
        #[cfg(feature = "store")]
        if config.spool.is_some() {
            let primary = shared.open_spool(config, self.segment, self.base.checkpoint, books)?;
            let text = config.text.as_ref().map(|_| shared.open_text(config, None)).transpose()?;
            return Ok((primary, text));
        }
        let start = TextStart { resume: self.resume, checkpoint: self.base.checkpoint, books };
        Ok((shared.open_text(config, Some(start))?, None))
    }
}

/// Refuses a disk on which nothing could ever be written, and warns of one that is too full now.
fn check_room(config: &SinkConfig, disk: &dyn Disk) -> Result<(), SinkError> {
    let SinkConfig { dir: path, min_free_bytes, .. } = config;
    let failed = |source| SinkError::Dir { path: path.clone(), source };
    let total_bytes = disk.total_bytes(path).map_err(failed)?;
    let free_bytes = disk.free_bytes(path).map_err(failed)?;
    if *min_free_bytes > 0 && total_bytes <= *min_free_bytes {
        return Err(SinkError::DiskTooSmall { path: path.clone(), total_bytes, min_free_bytes: *min_free_bytes });
    }
    if free_bytes < *min_free_bytes {
        tracing::warn!(
            "the disk of {} has {} free, less than the {} that the sink leaves: until there is more, every line is \
             dropped and counted as disk_reserve",
            path.display(),
            mebibytes(free_bytes),
            mebibytes(*min_free_bytes)
        );
    }
    Ok(())
}

/// The ledger of earlier runs. A file that cannot be understood is kept aside as `ledger.bad`.
fn read_ledger(path: &Path) -> io::Result<Option<Saved>> {
    let text = match fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let saved = Saved::parse(&text);
    if saved.is_none() {
        fs::rename(path, path.with_extension("bad"))?;
    }
    Ok(saved)
}

fn pin(cpu: Option<usize>) -> Result<(), SinkError> {
    let Some(cpu) = cpu else { return Ok(()) };
    // Asked first: core_affinity 0.8 aborts the process on an id that its CPU set has no bit for.
    let known = core_affinity::get_core_ids().is_some_and(|cores| cores.iter().any(|core| core.id == cpu));
    if known && core_affinity::set_for_current(core_affinity::CoreId { id: cpu }) {
        Ok(())
    } else {
        Err(SinkError::Pin { cpu })
    }
}

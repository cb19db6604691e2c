//! What would make the writer wait, on a thread of its own: syncing, creating and finishing files.
//!
//! Jobs are done in the order in which they were given. That order is relied on: the ledger's checkpoint
//! is on the disk before the file that it covers is marked as finished (and may be taken away).

use std::{
    io::{self, IoSlice},
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{
    disk::{Disk, DiskFile, replace, write_all_at},
    log::{TidyLimits, is_rolled, rolled_name_at},
};

#[derive(Debug)]
pub(super) enum Job {
    /// Make an empty file that starts with `header`; whatever it held is gone.
    Create { path: PathBuf, header: Arc<[u8]> },
    /// Make last what was written so far: `len` bytes, `rows` rows.
    Sync { file: Arc<dyn DiskFile>, id: u64, len: u64, rows: u64 },
    /// Replace the ledger file.
    Ledger { path: PathBuf, text: String },
    /// Cut the file to `len`, append `trailer`, sync it.
    Finish { file: Arc<dyn DiskFile>, id: u64, len: u64, trailer: Arc<[u8]> },
    /// Look after rolled files: compress and remove.
    Tidy(Tidy),
}

/// What is to be done about the rolled files of a text output.
#[derive(Clone, Debug)]
pub(super) struct Tidy {
    pub dir: PathBuf,
    /// The file that is written to; rolled ones are named after it.
    pub live: String,
    pub limits: TidyLimits,
}

#[derive(Debug)]
pub(super) enum Done {
    Created { result: io::Result<Arc<dyn DiskFile>> },
    Synced { id: u64, len: u64, rows: u64, result: io::Result<()> },
    Ledger { result: io::Result<()> },
    Finished { id: u64, result: io::Result<()> },
    Tidied { removed: u64, result: io::Result<()> },
}

/// The writer's side of the thread.
#[derive(Debug)]
pub(super) struct Helper {
    jobs: Option<Sender<Job>>,
    done: Receiver<Done>,
    thread: Option<JoinHandle<()>>,
}

impl Helper {
    pub(super) fn start(name: &str, disk: Arc<dyn Disk>) -> io::Result<Helper> {
        let (jobs, job_queue) = channel();
        let (results, done) = channel();
        let writer = std::thread::current();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            for job in job_queue {
                if results.send(work(&*disk, job)).is_err() {
                    break;
                }
                writer.unpark();
            }
        })?;
        Ok(Helper { jobs: Some(jobs), done, thread: Some(thread) })
    }

    /// Gives it a job. The writer keeps the number of open jobs bounded: one of each kind a file.
    pub(super) fn give(&self, job: Job) {
        // It ends only when this is dropped.
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(job);
        }
    }

    /// A job that is done, if there is one.
    pub(super) fn try_done(&self) -> Option<Done> {
        self.done.try_recv().ok()
    }

    /// Waits for a job to be done, until `deadline`.
    pub(super) fn wait_done(&self, deadline: Instant) -> Option<Done> {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        match self.done.recv_timeout(left) {
            Ok(done) => Some(done),
            Err(RecvTimeoutError::Timeout) => None,
            // It died. Who waits in a loop must not spin.
            Err(RecvTimeoutError::Disconnected) => {
                std::thread::sleep(Duration::from_millis(1));
                None
            }
        }
    }

    /// Ends the thread; `wait` for it unless it hangs in a system call.
    pub(super) fn end(mut self, wait: bool) {
        self.jobs = None;
        if let Some(thread) = self.thread.take().filter(|_| wait) {
            let _ = thread.join();
        }
    }
}

fn work(disk: &dyn Disk, job: Job) -> Done {
    match job {
        Job::Create { path, header } => Done::Created { result: create(disk, &path, &header) },
        Job::Sync { file, id, len, rows } => Done::Synced { id, len, rows, result: file.sync() },
        Job::Ledger { path, text } => Done::Ledger { result: replace(disk, &path, text.as_bytes()) },
        Job::Finish { file, id, len, trailer } => Done::Finished { id, result: finish(&*file, len, &trailer) },
        Job::Tidy(tidy) => {
            let (removed, result) = tidy.run();
            Done::Tidied { removed, result }
        }
    }
}

/// Makes `path` an empty file with a header.
pub(super) fn create(disk: &dyn Disk, path: &std::path::Path, header: &[u8]) -> io::Result<Arc<dyn DiskFile>> {
    let file = disk.open(path)?;
    file.set_len(0)?;
    write_all_at(&*file, &mut [IoSlice::new(header)], 0)?;
    if let Some(dir) = path.parent() {
        disk.sync_dir(dir)?;
    }
    Ok(file)
}

/// Ends a file at `len` with `trailer`, for good.
pub(super) fn finish(file: &dyn DiskFile, len: u64, trailer: &[u8]) -> io::Result<()> {
    file.set_len(len)?;
    write_all_at(file, &mut [IoSlice::new(trailer)], len)?;
    file.sync()
}

impl Tidy {
    /// Compresses what is not, then removes the oldest until the rest is small enough. Says how many were
    /// removed.
    fn run(&self) -> (u64, io::Result<()>) {
        let mut removed = 0;
        let result = self.compress_all().and_then(|()| self.remove_old(&mut removed));
        (removed, result)
    }

    /// The rolled files, oldest first: their names sort by time.
    fn rolled(&self) -> io::Result<Vec<(PathBuf, u64)>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(|name| is_rolled(&self.live, name)) {
                files.push((entry.path(), entry.metadata()?.len()));
            }
        }
        files.sort();
        Ok(files)
    }

    fn remove_old(&self, removed: &mut u64) -> io::Result<()> {
        let files = self.rolled()?;
        let mut total: u64 = files.iter().map(|(_, bytes)| bytes).sum();
        // Names sort by time.
        let too_old = self.limits.keep_for.and_then(|keep_for| std::time::SystemTime::now().checked_sub(keep_for));
        let too_old = too_old.map(|time| rolled_name_at(&self.dir.join(&self.live), time));
        for (path, bytes) in files {
            if total <= self.limits.keep_bytes && too_old.as_ref().is_none_or(|too_old| path >= *too_old) {
                break;
            }
            std::fs::remove_file(path)?;
            *removed += 1;
            total -= bytes;
        }
        Ok(())
    }

    #[cfg(feature = "store")]
    fn compress_all(&self) -> io::Result<()> {
        for (path, _) in self.rolled()? {
            let extension = path.extension().and_then(|extension| extension.to_str());
            match extension {
                // What a crash left half done is done again from the source, which is still there.
                Some("part") => std::fs::remove_file(&path)?,
                Some("zst") => {}
                _ if self.limits.zstd => compress(&path)?,
                _ => {}
            }
        }
        Ok(())
    }

    #[cfg(not(feature = "store"))]
    fn compress_all(&self) -> io::Result<()> {
        if self.limits.zstd { Err(io::Error::new(io::ErrorKind::Unsupported, "built without zstd")) } else { Ok(()) }
    }
}

/// `path` becomes `path.zst`; the source goes once the result is safe.
#[cfg(feature = "store")]
fn compress(path: &std::path::Path) -> io::Result<()> {
    let with = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let (part, whole) = (with(".zst.part"), with(".zst"));
    let mut source = std::fs::File::open(path)?;
    let target = std::fs::File::create(&part)?;
    zstd::stream::copy_encode(&mut source, &target, 3)?;
    target.sync_all()?;
    std::fs::rename(&part, &whole)?;
    std::fs::remove_file(path)
}

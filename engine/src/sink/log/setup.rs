//! What a log is told, and why it refuses rows.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use super::Names;
use crate::sink::{
    SyncPolicy,
    disk::Disk,
    ledger::{Checkpoint, LogCounters},
};

/// Limits and policy; may change while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sink) struct LogLimits {
    pub sync: SyncPolicy,
    pub roll_bytes: u64,
    pub roll_every: Duration,
    pub min_free_bytes: u64,
    /// Files of this log together, beyond which nothing is written.
    pub max_bytes: Option<u64>,
    /// What to do with rolled files.
    pub tidy: Option<TidyLimits>,
}

/// What to do with rolled files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sink) struct TidyLimits {
    pub keep_bytes: u64,
    pub keep_for: Option<Duration>,
    pub zstd: bool,
}

/// Writes the ledger's text for a checkpoint.
pub(in crate::sink) trait Bookkeeper: Send {
    fn path(&self) -> PathBuf;
    fn text(&self, checkpoint: Checkpoint, clean: bool) -> String;
}

/// Where to go on in an existing file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::sink) struct Resume {
    pub len: u64,
    pub rows: u64,
}

/// What [`Log::open`] needs.
pub(in crate::sink) struct LogSetup {
    pub disk: Arc<dyn Disk>,
    pub names: Names,
    /// What each file starts with, and ends with when it is finished.
    pub header: Vec<u8>,
    pub trailer: Vec<u8>,
    pub limits: LogLimits,
    pub counters: Arc<LogCounters>,
    /// The ledger, where this is the primary output.
    pub books: Option<Box<dyn Bookkeeper>>,
    /// The number of the first file to write.
    pub first_number: u64,
    /// Live names only: the file is there and goes on.
    pub resume: Option<Resume>,
}

/// Why rows were not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sink) enum Fault {
    DiskFull,
    DiskReserve,
    SizeLimit,
    ReadOnly,
    WriteError,
}

impl Fault {
    /// The name of its counter.
    pub(in crate::sink) fn name(self) -> &'static str {
        match self {
            Fault::DiskFull => "disk_full",
            Fault::DiskReserve => "disk_reserve",
            Fault::SizeLimit => "size_limit",
            Fault::ReadOnly => "read_only",
            Fault::WriteError => "write_error",
        }
    }

    /// What is to be done about it.
    pub(in crate::sink) fn advice(self) -> &'static str {
        match self {
            Fault::DiskFull => "free some space there",
            Fault::DiskReserve => "free some space there, or have less of it left free (min_free_bytes)",
            Fault::SizeLimit => "what it holds is as much as it may: see why nobody takes it away, or allow more",
            Fault::ReadOnly => "`dmesg` says why it became so; once that is mended, `mount -o remount,rw`",
            Fault::WriteError => "`dmesg` may say more",
        }
    }

    pub(in crate::sink) fn of(error: &io::Error) -> Fault {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Fault::DiskFull,
            io::ErrorKind::ReadOnlyFilesystem => Fault::ReadOnly,
            _ => Fault::WriteError,
        }
    }
}

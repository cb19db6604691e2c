//! The log store: decoded records as Parquet, for every tool that reads Parquet.
//!
//! ```text
//! DIR/spool/NNNNNNNNNNNN.arrows           what the sink wrote, sealed by its end mark
//!    | Converter: decode, sort, write, sync, commit, remove the segment
//! DIR/store/date=2026-11-23/hour=14/NNNNNNNNNNNN-FFF-PPP.parquet
//!                                  /NNNNNNNNNNNN-FFF.gaps.jsonl
//! DIR/store/manifest                      which segments are in, and the decoder's state behind them
//! ```
//! A file is named after the segment that it is of (N), the flush after it (F, 000 for the segment
//! itself) and its part (P). Partitions go by receive time in UTC: a sender's idea of the time may be
//! anything. Rows are sorted by host, then time.
//!
//! **Kill-safety.** Files are written under a temporary name, synced, renamed, and their directory is
//! synced; then the manifest is replaced the same way. That one rename is the commit: it says that the
//! segment is in, and holds what of it still waits in the decoder (a message whose last fragments are in
//! the next segment), so that nothing is lost or doubled between two segments. Only then is the segment
//! removed. At start, files behind the manifest are left-overs of a conversion that did not commit; they
//! are removed, and the segment is converted again.
//!
//! **One reader's view.** The records are: those of all Parquet files up to the manifest's segment, and
//! what a decoder with the manifest's state makes of the segments behind it. [`query`](super::query)
//! reads both as one.
//!
//! Limits: one converter a directory (the sink's lock sees to that). Records that wait in the decoder
//! (order, fragments: up to some seconds) are in the manifest, not yet in Parquet.

mod backlog;
mod clock;
mod converter;
mod layout;
mod manifest;
mod retention;
mod rows;
mod schema;
mod segment;
#[cfg(test)]
pub(crate) mod tests;
mod thread;

use std::{
    io,
    path::{Path, PathBuf},
};

pub use backlog::Backlog;
pub use converter::{Converter, Step};
pub(crate) use layout::{Layout, StoredFile, hour_of};
pub(crate) use manifest::Manifest;
pub use retention::Removed;
pub(crate) use rows::Rows;
#[cfg(test)]
pub(crate) use schema::properties;
pub use schema::schema;
pub(crate) use segment::{SegmentReader, list_segments};
pub use thread::ConverterThread;

use super::{decode::DecodeConfig, spool::SpoolError};

/// What a converter is told.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The sink's directory.
    pub dir: PathBuf,
    /// How datagrams are decoded.
    pub decode: DecodeConfig,
    /// zstd level of the Parquet files.
    pub zstd_level: i32,
    /// Records are sorted and written when they take this much memory, in bytes; a segment may become
    /// several files.
    pub part_bytes: usize,
    /// Files are removed when their hour is longer ago than this, in nanoseconds.
    pub keep_ns: Option<u64>,
    /// The oldest files are removed when all together are larger than this.
    pub keep_bytes: Option<u64>,
    /// The oldest files are removed when less than this is free on the file system.
    pub min_free_bytes: u64,
}

/// The part of a [`StoreConfig`] that may change while a converter runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "as in StoreConfig")]
pub struct StoreLimits {
    pub keep_ns: Option<u64>,
    pub keep_bytes: Option<u64>,
    pub min_free_bytes: u64,
}

impl StoreConfig {
    /// The defaults for a sink's directory: zstd level 1, parts of 64 MiB, kept for ever but for the
    /// last 256 MiB of the disk.
    pub fn new(dir: impl Into<PathBuf>) -> StoreConfig {
        StoreConfig {
            dir: dir.into(),
            decode: DecodeConfig::default(),
            zstd_level: 1,
            part_bytes: 64 << 20,
            keep_ns: None,
            keep_bytes: None,
            min_free_bytes: 256 << 20,
        }
    }

    /// Memory that converting takes at most, in bytes, whatever comes: what waits for its fragments or its turn, a part's
    /// records, and the same once more as columns that are being sorted and written.
    pub fn memory_bytes(&self) -> u64 {
        (self.decode.total_bytes + 2 * self.part_bytes.min(converter::MAX_PART_BYTES)) as u64
    }
}

/// Why the store could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A Parquet file could not be made or read.
    #[error("parquet file {}: {source}", path.display())]
    Parquet {
        /// Which.
        path: PathBuf,
        /// Why.
        source: parquet::errors::ParquetError,
    },
    /// A spool segment cannot be read.
    #[error(transparent)]
    Segment(#[from] SpoolError),
    /// A spool segment has a number that is in the store already, and is another one: it stays where it is.
    #[error("spool segment {} has the number of one that is in the store", path.display())]
    Reused {
        /// Which.
        path: PathBuf,
    },
    /// The manifest does not read.
    #[error("manifest {} is damaged: {what}", path.display())]
    Manifest {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

/// The first segment number that the store of the sink in `dir` has not seen. A sink that begins anew (its
/// ledger is lost, its spool empty) starts no lower.
pub(crate) fn next_segment(dir: &Path) -> u64 {
    let layout = Layout::new(dir);
    let in_manifest = Manifest::load(&layout).ok().and_then(|manifest| manifest.last).map(|last| last.segment);
    let in_files = layout.files(&mut |_| {}).ok().and_then(|files| files.last().map(|file| file.id.segment));
    in_manifest.max(in_files).map_or(0, |last| last + 1)
}

impl StoreError {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> StoreError {
        let path = path.into();
        move |source| StoreError::Io { action, path, source }
    }
}

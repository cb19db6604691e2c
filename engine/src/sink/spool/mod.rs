//! The spool: what was received, as it was received, in segments that are Arrow IPC streams.
//!
//! A segment is `spool/NNNNNNNNNNNN.arrows`: the schema message, one record batch message a batch, and at
//! the end, once nothing more will come, the end-of-stream marker. Numbers count up and are never used
//! twice in a directory. Any reader of Arrow streams reads them; the columns are those of
//! [`batch`](super::batch):
//!
//! | column | type, none nullable |
//! |---|---|
//! | `time` | timestamp, nanoseconds, UTC: when the burst was received |
//! | `src_addr`, `dst_addr` | fixed-size binary of 16; IPv4 is mapped (`::ffff:a.b.c.d`) |
//! | `src_port`, `dst_port` | u16 |
//! | `payload` | binary |
//!
//! What was lost here before the end of a batch, and after the one before it, is in the custom metadata of its
//! message: see [`Loss`](super::Loss). A batch without a row carries what was lost when nothing else came.
//!
//! One process writes ([`Sink`](super::Sink)); others may read at any time: [`SegmentReader`] stops at
//! the last whole message and goes on from there when asked again. A segment with the marker is finished:
//! whoever has made something else of it may remove it.
//!
//! Limits: messages carry no checksum. After a power failure, what was written after the last sync may
//! hold zeros where the file system had not written it yet; it was never counted as stored.

mod check;
mod encode;
mod note;
mod recover;
mod segment;

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
};

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};

pub use segment::{RawBatch, SegmentReader, SpoolError};
pub(super) use {
    encode::{SpoolEncoder, header},
    recover::{recover, seal},
};

/// The extension of segment files.
pub(super) const EXTENSION: &str = "arrows";

/// Ends a stream: a continuation marker and a metadata length of 0.
pub(super) const END_OF_STREAM: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let addr = DataType::FixedSizeBinary(super::batch::ADDR_BYTES as i32);
    let time = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
    let fields = vec![
        Field::new("time", time, false),
        Field::new("src_addr", addr.clone(), false),
        Field::new("src_port", DataType::UInt16, false),
        Field::new("dst_addr", addr, false),
        Field::new("dst_port", DataType::UInt16, false),
        Field::new("payload", DataType::Binary, false),
    ];
    let version = HashMap::from([("netpoll.spool".to_owned(), "1".to_owned())]);
    Arc::new(Schema::new_with_metadata(fields, version))
});

/// The schema of every segment.
pub fn schema() -> SchemaRef {
    SCHEMA.clone()
}

/// The directory of the segments of the sink in `dir`.
pub fn spool_dir(dir: &Path) -> PathBuf {
    dir.join("spool")
}

/// One segment file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Segment {
    /// Its number: a higher one was begun later.
    pub number: u64,
    /// Its path.
    pub path: PathBuf,
}

/// The segments of the sink in `dir` by number, the one being written to and the empty one after it too.
/// None if there is no spool.
pub fn segments(dir: &Path) -> io::Result<Vec<Segment>> {
    let entries = match std::fs::read_dir(spool_dir(dir)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut segments = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let number = name.and_then(|name| name.strip_suffix(".arrows")).and_then(|number| number.parse().ok());
        segments.extend(number.map(|number| Segment { number, path }));
    }
    segments.sort();
    Ok(segments)
}

//! Putting the spool in order after the process was killed.
//!
//! A segment that is not finished gets its torn tail cut off after the last whole message; its rows are
//! counted against the ledger's checkpoint; an empty one is removed. Only when the ledger that says so has
//! been written are they finished ([`seal`]), so that nobody takes one away before.

use std::{io, path::Path, sync::Arc};

use super::{END_OF_STREAM, SegmentReader, SpoolError, segments};
use crate::sink::{
    disk::{Disk, DiskFile},
    helper::finish,
    ledger::{Checkpoint, LogCounters},
};

/// What was found.
#[derive(Debug, Default)]
pub(in crate::sink) struct Recovered {
    /// Rows behind the checkpoint.
    pub(in crate::sink) found_rows: u64,
    /// The number of the next segment.
    pub(in crate::sink) next_number: u64,
    /// The segments to be finished: the file and its length.
    unfinished: Vec<(Arc<dyn DiskFile>, u64)>,
}

/// Looks through the spool of the sink in `dir`. Without a checkpoint nothing counts as found.
pub(in crate::sink) fn recover(
    disk: &dyn Disk,
    dir: &Path,
    checkpoint: Option<Checkpoint>,
    counters: &LogCounters,
) -> Result<Recovered, SpoolError> {
    let io_error = |source| SpoolError::Io { path: dir.to_owned(), source };
    let mut recovered = Recovered::default();
    if let Some(checkpoint) = checkpoint {
        recovered.next_number = checkpoint.file + 1;
    }
    for segment in segments(dir).map_err(io_error)? {
        recovered.next_number = recovered.next_number.max(segment.number + 1);
        let known = match checkpoint {
            Some(checkpoint) if segment.number == checkpoint.file => Some(checkpoint.rows),
            Some(checkpoint) if segment.number > checkpoint.file => Some(0),
            _ => None,
        };
        let read = if known.is_some() { read(&segment.path)? } else { skim(&segment.path)? };
        recovered.found_rows += known.map_or(0, |known| read.rows.saturating_sub(known));
        if read.finished {
            continue;
        }
        let len = std::fs::metadata(&segment.path).map_err(io_error)?.len();
        if len > read.len {
            counters.torn_tails.add(1);
            counters.torn_bytes.add(len - read.len);
        }
        if read.rows == 0 {
            std::fs::remove_file(&segment.path).map_err(io_error)?;
            continue;
        }
        let file = disk.open(&segment.path).map_err(io_error)?;
        // What is found counts as stored from here on: so it is cut and synced first.
        file.set_len(read.len).and_then(|()| file.sync()).map_err(io_error)?;
        recovered.unfinished.push((file, read.len));
    }
    counters.recovered_rows.add(recovered.found_rows);
    Ok(recovered)
}

/// Finishes the recovered segments.
pub(in crate::sink) fn seal(recovered: Recovered) -> io::Result<()> {
    recovered.unfinished.iter().try_for_each(|(file, len)| finish(&**file, *len, &END_OF_STREAM))
}

struct Read {
    rows: u64,
    /// Up to the end of the last whole message.
    len: u64,
    finished: bool,
}

/// Reads a segment up to its end or to the first damage.
fn read(path: &Path) -> Result<Read, SpoolError> {
    let mut rows = 0;
    to_end(path, |reader| {
        let batch = reader.next_batch()?;
        rows += batch.as_ref().map_or(0, |batch| batch.rows() as u64);
        Ok(batch.is_some())
    })
    .map(|read| Read { rows, ..read })
}

/// The same without a look at the columns, for a segment whose rows were synced and counted before;
/// `rows` is then the number of batches.
fn skim(path: &Path) -> Result<Read, SpoolError> {
    let mut messages = 0u64;
    to_end(path, |reader| {
        let more = reader.skip_message()?;
        messages += u64::from(more);
        Ok(more)
    })
    // The first message is the schema.
    .map(|read| Read { rows: messages.saturating_sub(1), ..read })
}

fn to_end(
    path: &Path,
    mut step: impl FnMut(&mut SegmentReader) -> Result<bool, SpoolError>,
) -> Result<Read, SpoolError> {
    let mut reader = SegmentReader::open(path)?;
    loop {
        match step(&mut reader) {
            Ok(true) => {}
            Ok(false) | Err(SpoolError::Damaged { .. }) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(Read { rows: 0, len: reader.offset(), finished: reader.is_finished() })
}

//! How far the converter is behind.

use std::{fs, io::ErrorKind, path::Path};

use super::{Layout, StoreError, segment::list_segments};
use crate::sink::spool::{SegmentReader, SpoolError};

/// What is in the spool and not in Parquet yet, of the sink in one directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Segments with something in them, the one being written to as well.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Receive time of the oldest row, nanoseconds since the Unix epoch.
    pub oldest_ns: Option<u64>,
}

impl Backlog {
    /// Looks into the spool of `dir`: at the beginning of each segment, of which a sink has few. Any process may.
    pub fn of(dir: &Path) -> Result<Backlog, StoreError> {
        let layout = Layout::new(dir);
        let mut backlog = Backlog::default();
        for number in list_segments(&layout)? {
            let path = layout.segment(number);
            let mut reader = match SegmentReader::open(&path) {
                // It has become Parquet meanwhile.
                Err(SpoolError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => continue,
                opened => opened?,
            };
            // The schema, and a batch behind it, or it is the next one, made ahead.
            if !(reader.skip_message()? && reader.skip_message()?) {
                continue;
            }
            backlog.segments += 1;
            backlog.bytes += fs::metadata(&path).map_or(0, |metadata| metadata.len());
            if backlog.oldest_ns.is_none() {
                backlog.oldest_ns = first_row_ns(&path);
            }
        }
        Ok(backlog)
    }

    /// How old the oldest row is, at `now_ns`.
    pub fn age_ns(&self, now_ns: u64) -> u64 {
        self.oldest_ns.map_or(0, |oldest_ns| now_ns.saturating_sub(oldest_ns))
    }
}

/// A segment that was removed or damaged has none.
fn first_row_ns(path: &Path) -> Option<u64> {
    let mut reader = SegmentReader::open(path).ok()?;
    // A batch without rows says what was lost.
    std::iter::from_fn(|| reader.next_batch().ok()?).find_map(|batch| batch.iter().next().map(|row| row.time_ns))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::store::{
        Converter, Step, StoreConfig,
        tests::spooler::{START_NS, Spooler, traffic},
    };

    #[test]
    fn it_is_what_no_parquet_file_has() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Backlog::of(dir.path()).unwrap(), Backlog::default(), "no spool");
        let sent = traffic(8, 600);
        for (number, part) in (1..).zip(sent.chunks(200)) {
            let mut spooler = Spooler::create(dir.path(), number);
            spooler.append(part);
            if number < 3 {
                spooler.seal();
            }
        }
        let _ahead = Spooler::create(dir.path(), 4);
        let layout = Layout::new(dir.path());
        let bytes = |numbers: std::ops::RangeInclusive<u64>| -> u64 {
            numbers.map(|number| fs::metadata(layout.segment(number)).unwrap().len()).sum()
        };
        let oldest = |at: usize| Some(sent[at].time_ns);
        let now = Backlog::of(dir.path()).unwrap();
        assert_eq!(now, Backlog { segments: 3, bytes: bytes(1..=3), oldest_ns: oldest(0) });
        assert_eq!(now.age_ns(sent[0].time_ns + 7), 7);
        let mut converter = Converter::open(StoreConfig { min_free_bytes: 0, ..StoreConfig::new(dir.path()) }).unwrap();
        for (left, first) in [(2, 200), (1, 400)] {
            assert!(matches!(converter.step(START_NS).unwrap(), Step::Converted { .. }));
            let now = Backlog::of(dir.path()).unwrap();
            assert_eq!(now, Backlog { segments: left, bytes: bytes(4 - left..=3), oldest_ns: oldest(first) });
        }
    }
}

//! A spool segment on its way through a decoder.

use std::{
    fs::File,
    io::{ErrorKind, Read},
    path::Path,
};

use super::{Layout, StoreError};
use crate::sink::{
    decode::{Decoder, Output},
    spool::{self, SpoolError},
};

/// The segments in the spool, by number.
pub(crate) fn list_segments(layout: &Layout) -> Result<Vec<u64>, StoreError> {
    let segments = spool::segments(layout.root()).map_err(StoreError::io("list the spool of", layout.root()))?;
    Ok(segments.into_iter().map(|segment| segment.number).collect())
}

/// Reads one segment from its beginning, sealed or still being written.
#[derive(Debug)]
pub(crate) struct SegmentReader {
    reader: spool::SegmentReader,
    /// Passed over by [`SegmentReader::survey`].
    messages: u64,
}

impl SegmentReader {
    /// `None`: it is not there.
    pub fn open(path: &Path) -> Result<Option<SegmentReader>, StoreError> {
        match spool::SegmentReader::open(path) {
            Err(SpoolError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
            opened => Ok(Some(SegmentReader { reader: opened?, messages: 0 })),
        }
    }

    /// Gives the next batch of rows to a decoder. `false`: there is none, by now or for ever.
    pub fn decode_some(&mut self, decoder: &mut Decoder, out: &mut dyn Output) -> Result<bool, StoreError> {
        let batch = self.reader.next_batch()?;
        // Ahead of the rows: a gap among them is settled by what is known of it then.
        batch.iter().flat_map(|batch| batch.losses()).for_each(|loss| decoder.lost(loss, out));
        batch.iter().flat_map(|batch| batch.iter()).for_each(|datagram| decoder.push(&datagram, out));
        Ok(batch.is_some())
    }

    /// Gives the rows that are there by now to a decoder.
    pub fn decode(&mut self, decoder: &mut Decoder, out: &mut dyn Output) -> Result<(), StoreError> {
        while self.decode_some(decoder, out)? {}
        Ok(())
    }

    /// The rows from here to the end of what is there, or to where it is damaged.
    pub fn count_rows(&mut self) -> Result<u64, StoreError> {
        let mut count = 0;
        loop {
            match self.reader.next_batch() {
                Ok(Some(batch)) => count += batch.rows() as u64,
                Ok(None) | Err(SpoolError::Damaged { .. }) => return Ok(count),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The end mark was read.
    pub fn is_sealed(&self) -> bool {
        self.reader.is_finished()
    }

    /// Walks on to its end, decoding nothing: it is sealed, and whether it has rows.
    pub fn survey(&mut self) -> Result<(bool, bool), StoreError> {
        while self.reader.skip_message()? {
            self.messages += 1;
        }
        // The first message is the schema.
        Ok((self.is_sealed(), self.messages > 1))
    }
}

/// What tells a segment from another of the same number: its length and its beginning, which holds the
/// receive times of its first rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Fingerprint {
    len: u64,
    crc: u32,
}

impl Fingerprint {
    /// `None`: it is not there.
    pub fn of(path: &Path) -> Result<Option<Fingerprint>, StoreError> {
        let read = File::open(path).and_then(|file| {
            let mut head = Vec::new();
            let len = file.metadata()?.len();
            file.take(1 << 16).read_to_end(&mut head)?;
            Ok(Fingerprint { len, crc: super::manifest::crc32(&head) })
        });
        match read {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            read => read.map(Some).map_err(StoreError::io("read", path)),
        }
    }
}

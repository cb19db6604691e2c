//! Reading a segment, finished or still growing.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use arrow_array::{
    BinaryArray, FixedSizeBinaryArray, RecordBatch, TimestampNanosecondArray, UInt16Array,
    cast::AsArray,
    types::{TimestampNanosecondType, UInt16Type},
};
use arrow_buffer::{Buffer, MutableBuffer};
use arrow_ipc::reader::StreamDecoder;

use super::{END_OF_STREAM, check::check, note, schema};
use crate::sink::{
    batch::{Columns, RawDatagram},
    loss::Loss,
};

/// Metadata of our messages takes some hundred bytes, and some hundred more a loss; more is damage.
const MAX_METADATA_BYTES: u32 = 1 << 20;

/// A batch has less than 2 GiB of payload and 48 bytes a row beside it; more is damage.
const MAX_BODY_BYTES: i64 = 1 << 33;

/// Why a segment cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The segment.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is there is not a message of a segment.
    #[error("{} is damaged at byte {offset}: {reason}", path.display())]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where the message starts.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
}

/// Reads the batches of one segment, from its start or from a place where a reader was before.
#[derive(Debug)]
pub struct SegmentReader {
    path: PathBuf,
    file: File,
    /// Where the next message starts.
    offset: u64,
    decoder: StreamDecoder,
    finished: bool,
}

/// The next message, as far as it is there.
enum Message<T> {
    /// All of it.
    Whole(T),
    /// The end-of-stream marker.
    End,
    /// Not all of it is there (yet).
    Partial,
}

impl SegmentReader {
    /// Opens the segment `path`.
    pub fn open(path: &Path) -> Result<SegmentReader, SpoolError> {
        let file = File::open(path).map_err(|source| SpoolError::Io { path: path.to_owned(), source })?;
        Ok(SegmentReader { path: path.to_owned(), file, offset: 0, decoder: StreamDecoder::new(), finished: false })
    }

    /// The next batch. `None` at the end of what is there: for good if [`SegmentReader::is_finished`],
    /// else asking again later may give more.
    pub fn next_batch(&mut self) -> Result<Option<RawBatch>, SpoolError> {
        while let Some(head) = self.next_head()? {
            let mut message = self.body(&head)?;
            let batch = self.decoder.decode(&mut message).map_err(|error| self.damaged(error.to_string()))?;
            let batch = match batch.map(|batch| RawBatch::new(batch, head.losses())) {
                Some(None) => return Err(self.damaged("other columns than a spool's".into())),
                Some(batch) => batch,
                None => None,
            };
            self.offset += head.total_len();
            if batch.is_some() {
                return Ok(batch);
            }
        }
        Ok(None)
    }

    /// Passes over the next message and says whether there was one: the cheap way to the end, which does
    /// not look at the columns.
    pub(in crate::sink) fn skip_message(&mut self) -> Result<bool, SpoolError> {
        let head = self.next_head()?;
        self.offset += head.as_ref().map_or(0, Head::total_len);
        Ok(head.is_some())
    }

    /// Whether the end-of-stream marker was read.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Up to where the file was read: the end of the last whole message.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    fn damaged(&self, reason: String) -> SpoolError {
        SpoolError::Damaged { path: self.path.clone(), offset: self.offset, reason }
    }

    /// Reads exactly `bytes.len()` bytes at `offset`; `false` if the file ends before.
    fn read(&self, bytes: &mut [u8], offset: u64) -> Result<bool, SpoolError> {
        match self.file.read_exact_at(bytes, offset) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(source) => Err(SpoolError::Io { path: self.path.clone(), source }),
        }
    }

    /// The head of the next message if all of it is there.
    fn next_head(&mut self) -> Result<Option<Head>, SpoolError> {
        if self.finished {
            return Ok(None);
        }
        match self.head()? {
            Message::Whole(head) => Ok(Some(head)),
            Message::Partial => Ok(None),
            Message::End => {
                self.finished = true;
                self.offset += END_OF_STREAM.len() as u64;
                Ok(None)
            }
        }
    }

    /// The message at `offset`: continuation marker (u32), metadata length (u32), metadata, body.
    fn head(&self) -> Result<Message<Head>, SpoolError> {
        let mut prefix = [0; 8];
        if !self.read(&mut prefix, self.offset)? {
            return Ok(Message::Partial);
        }
        let (marker, metadata_len) = prefix.split_at(4);
        let metadata_len = metadata_len.try_into().map_or(u32::MAX, u32::from_le_bytes);
        if marker != &END_OF_STREAM[..4] || metadata_len > MAX_METADATA_BYTES {
            return Err(self.damaged("no message starts here".into()));
        }
        if metadata_len == 0 {
            return Ok(Message::End);
        }
        let mut bytes = vec![0; prefix.len() + metadata_len as usize];
        if !self.read(&mut bytes, self.offset)? {
            return Ok(Message::Partial);
        }
        let message =
            arrow_ipc::root_as_message(&bytes[prefix.len()..]).map_err(|error| self.damaged(error.to_string()))?;
        let body_len = match message.bodyLength() {
            len @ 0..=MAX_BODY_BYTES => len as usize,
            len => return Err(self.damaged(format!("a body of {len} bytes"))),
        };
        check(&message, body_len).map_err(|reason| self.damaged(reason))?;
        let head = Head { bytes, body_len };
        // A length that the file does not have must not make us reserve that much memory either.
        let file_len = self.file.metadata().map_err(|source| SpoolError::Io { path: self.path.clone(), source })?.len();
        Ok(if file_len < self.offset + head.total_len() { Message::Partial } else { Message::Whole(head) })
    }

    /// The whole message.
    fn body(&self, head: &Head) -> Result<Buffer, SpoolError> {
        let head_len = head.bytes.len();
        // Aligned as Arrow wants it: the decoder then takes the columns as they are.
        let mut message = MutableBuffer::from_len_zeroed(head_len + head.body_len);
        message[..head_len].copy_from_slice(&head.bytes);
        if !self.read(&mut message[head_len..], self.offset + head_len as u64)? {
            return Err(self.damaged("the file became shorter".into()));
        }
        Ok(message.into())
    }
}

/// Prefix and metadata of a message.
struct Head {
    bytes: Vec<u8>,
    body_len: usize,
}

impl Head {
    fn losses(&self) -> Vec<Loss> {
        // It was read as one before.
        arrow_ipc::root_as_message(&self.bytes[8..]).map(|message| note::losses_of(&message)).unwrap_or_default()
    }

    fn total_len(&self) -> u64 {
        (self.bytes.len() + self.body_len) as u64
    }
}

/// One batch of a segment.
#[derive(Clone, Debug)]
pub struct RawBatch {
    batch: RecordBatch,
    losses: Vec<Loss>,
}

impl RawBatch {
    /// `None` if the columns are not a spool's.
    fn new(batch: RecordBatch, losses: Vec<Loss>) -> Option<RawBatch> {
        (batch.schema().fields() == schema().fields()).then_some(RawBatch { batch, losses })
    }

    /// What was lost here before the last row of this batch and is in no batch before it.
    pub fn losses(&self) -> &[Loss] {
        &self.losses
    }

    /// The columns.
    pub fn columns(&self) -> Columns<'_> {
        let time: &TimestampNanosecondArray = self.batch.column(0).as_primitive::<TimestampNanosecondType>();
        let addrs = |column: usize| -> &FixedSizeBinaryArray { self.batch.column(column).as_fixed_size_binary() };
        let ports = |column: usize| -> &UInt16Array { self.batch.column(column).as_primitive::<UInt16Type>() };
        let payload: &BinaryArray = self.batch.column(5).as_binary();
        Columns {
            time: time.values(),
            src_addr: addrs(1).value_data(),
            src_port: ports(2).values(),
            dst_addr: addrs(3).value_data(),
            dst_port: ports(4).values(),
            offsets: payload.value_offsets(),
            payload: payload.value_data(),
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.batch.num_rows()
    }

    /// The rows, in the order in which they were received.
    pub fn iter(&self) -> impl Iterator<Item = RawDatagram<'_>> {
        self.columns().iter()
    }

    /// As Arrow has it.
    pub fn record_batch(&self) -> &RecordBatch {
        &self.batch
    }
}

//! Batches as messages of an Arrow stream.
//!
//! The batch's columns become Arrow arrays by changing hands, and the encoder gives back the message as
//! a list of buffers that share them: from the hook's copy out of the mbuf to the kernel, no payload byte
//! is copied. Afterwards the columns go back to the batch, with their memory.

use std::{io, mem::take, sync::Arc};

use arrow_array::{ArrayRef, BinaryArray, FixedSizeBinaryArray, RecordBatch, TimestampNanosecondArray, UInt16Array};
use arrow_buffer::{ArrowNativeType, Buffer, OffsetBuffer, ScalarBuffer};
use arrow_ipc::writer::StreamEncoder;
use arrow_schema::ArrowError;

use super::{END_OF_STREAM, note, schema};
use crate::sink::{
    batch::{ADDR_BYTES, Batch},
    loss::Loss,
};

/// Encodes batches, and what was lost before them; the schema message comes from [`header`].
pub(in crate::sink) struct SpoolEncoder {
    encoder: StreamEncoder,
}

impl SpoolEncoder {
    pub(in crate::sink) fn new() -> Result<SpoolEncoder, ArrowError> {
        let mut encoder = StreamEncoder::try_new(&schema())?;
        // The first message comes with the schema in front of it.
        encoder.encode(&RecordBatch::new_empty(schema()))?;
        Ok(SpoolEncoder { encoder })
    }

    /// Hands `batch` as one message to `write`, as slices to be written one after the other. The batch is
    /// unchanged afterwards.
    pub(in crate::sink) fn with_message<T>(
        &mut self,
        batch: &mut Batch,
        losses: &[Loss],
        write: impl FnOnce(&[&[u8]]) -> T,
    ) -> Result<T, ArrowError> {
        let lent = Lent::take(batch);
        let result = self.encode(&lent, losses, write);
        lent.give_back(batch);
        result
    }

    fn encode<T>(&mut self, lent: &Lent, losses: &[Loss], write: impl FnOnce(&[&[u8]]) -> T) -> Result<T, ArrowError> {
        let buffers = self.encoder.encode(&lent.record_batch()?)?;
        let mut slices: Vec<&[u8]> = buffers.iter().map(Buffer::as_slice).filter(|slice| !slice.is_empty()).collect();
        let noted = if losses.is_empty() { None } else { with_losses(&mut slices, losses) };
        if let Some(head) = &noted {
            slices.insert(0, head);
        }
        Ok(write(&slices))
    }
}

/// Takes the head off a message, and gives another one that says what was lost. Should that not be possible, the
/// message stays as it is.
fn with_losses(slices: &mut Vec<&[u8]>, losses: &[Loss]) -> Option<Vec<u8>> {
    let metadata_len = slices.first()?.get(4..8).and_then(|len| len.try_into().ok()).map(u32::from_le_bytes)?;
    let head_len = 8 + metadata_len as usize;
    let (mut len, mut count) = (0, 0);
    while len < head_len {
        len += slices.get(count)?.len();
        count += 1;
    }
    let head = note::with_losses(&slices[..count].concat(), losses).filter(|_| len == head_len)?;
    slices.drain(..count);
    Some(head)
}

/// The schema message: what a segment starts with.
pub(in crate::sink) fn header() -> io::Result<Vec<u8>> {
    let empty = StreamEncoder::try_new(&schema()).and_then(StreamEncoder::finish).map_err(io::Error::other)?;
    let mut bytes = empty.iter().map(Buffer::as_slice).collect::<Vec<_>>().concat();
    bytes.truncate(bytes.len() - END_OF_STREAM.len());
    Ok(bytes)
}

/// A batch's columns while they are Arrow's.
struct Lent {
    time: Buffer,
    src_addr: Buffer,
    src_port: Buffer,
    dst_addr: Buffer,
    dst_port: Buffer,
    offsets: Buffer,
    payload: Buffer,
    rows: usize,
}

impl Lent {
    fn take(batch: &mut Batch) -> Lent {
        Lent {
            rows: batch.rows(),
            time: Buffer::from_vec(take(&mut batch.time)),
            src_addr: Buffer::from_vec(take(&mut batch.src_addr)),
            src_port: Buffer::from_vec(take(&mut batch.src_port)),
            dst_addr: Buffer::from_vec(take(&mut batch.dst_addr)),
            dst_port: Buffer::from_vec(take(&mut batch.dst_port)),
            offsets: Buffer::from_vec(take(&mut batch.offsets)),
            payload: Buffer::from_vec(take(&mut batch.payload)),
        }
    }

    fn record_batch(&self) -> Result<RecordBatch, ArrowError> {
        let ports = |column: &Buffer| UInt16Array::new(ScalarBuffer::new(column.clone(), 0, self.rows), None);
        let addrs = |column: &Buffer| FixedSizeBinaryArray::try_new(ADDR_BYTES as i32, column.clone(), None);
        let time = TimestampNanosecondArray::new(ScalarBuffer::new(self.time.clone(), 0, self.rows), None);
        let offsets = OffsetBuffer::new(ScalarBuffer::new(self.offsets.clone(), 0, self.rows + 1));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(time.with_timezone("UTC")),
            Arc::new(addrs(&self.src_addr)?),
            Arc::new(ports(&self.src_port)),
            Arc::new(addrs(&self.dst_addr)?),
            Arc::new(ports(&self.dst_port)),
            Arc::new(BinaryArray::try_new(offsets, self.payload.clone(), None)?),
        ];
        RecordBatch::try_new(schema(), columns)
    }

    fn give_back(self, batch: &mut Batch) {
        batch.time = owned(self.time);
        batch.src_addr = owned(self.src_addr);
        batch.src_port = owned(self.src_port);
        batch.dst_addr = owned(self.dst_addr);
        batch.dst_port = owned(self.dst_port);
        batch.offsets = owned(self.offsets);
        batch.payload = owned(self.payload);
    }
}

/// The vector that `column` was made of. Should something still share it, a copy; the hook would then
/// meet a vector that may have to grow once.
fn owned<T: ArrowNativeType>(column: Buffer) -> Vec<T> {
    column.into_vec().unwrap_or_else(|shared| shared.typed_data().to_vec())
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;
    use crate::netpoll::hook::DatagramBuf;

    #[test]
    fn columns_change_hands_without_a_copy() {
        let mut batch = Batch::new(100, 10_000);
        let src_ip: IpAddr = "2001:db8::1".parse().unwrap();
        let dst_ip: IpAddr = "10.0.0.1".parse().unwrap();
        let payload = [b'x'; 100];
        let datagram = DatagramBuf::new((src_ip, 1).into(), (dst_ip, 2).into(), &payload);
        for time in 0..70 {
            assert!(batch.push(&datagram.datagram(), time));
        }
        let places = |batch: &Batch| {
            let bytes =
                [&batch.src_addr, &batch.dst_addr, &batch.payload].map(|column| (column.as_ptr(), column.capacity()));
            let ports = [&batch.src_port, &batch.dst_port].map(|column| (column.as_ptr(), column.capacity()));
            (bytes, ports, batch.time.as_ptr(), batch.offsets.as_ptr(), batch.offsets.capacity())
        };
        let before = places(&batch);
        let in_batch = batch.payload.as_ptr();
        let mut encoder = SpoolEncoder::new().unwrap();
        let lent =
            encoder.with_message(&mut batch, &[], |slices| slices.iter().any(|slice| slice.as_ptr() == in_batch));
        assert!(lent.unwrap(), "the payload column itself is written");
        assert_eq!(places(&batch), before);
        assert_eq!(batch.rows(), 70);
        assert!(batch.iter().all(|row| row.payload == payload && row.src_ip == src_ip && row.dst_ip == dst_ip));
    }

    /// With and without a note it is a stream that Arrow reads, and the note is read back.
    #[test]
    fn losses_go_along() {
        let mut encoder = SpoolEncoder::new().unwrap();
        let mut batch = Batch::new(10, 1000);
        let mut bytes = header().unwrap();
        let notes: Vec<Vec<Loss>> = vec![
            vec![],
            vec![Loss::unknown("nic_missed", 7, 1)],
            (0..300).map(|at| Loss { count: at, ..Loss::unknown("shed_debug", 1, at) }).collect(),
            vec![],
        ];
        for (at, losses) in notes.iter().enumerate() {
            batch.clear();
            let any: IpAddr = "10.0.0.1".parse().unwrap();
            let payload = vec![b'x'; at];
            let datagram = DatagramBuf::new((any, 1).into(), (any, 2).into(), &payload);
            // The second has no row.
            assert!(at == 1 || batch.push(&datagram.datagram(), at as u64));
            encoder.with_message(&mut batch, losses, |slices| bytes.extend_from_slice(&slices.concat())).unwrap();
        }
        bytes.extend_from_slice(&END_OF_STREAM);
        let rows: Vec<_> = arrow_ipc::reader::StreamReader::try_new(&bytes[..], None)
            .unwrap()
            .map(|batch| batch.unwrap().num_rows())
            .collect();
        assert_eq!(rows, [1, 0, 1, 1]);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("segment");
        std::fs::write(&path, &bytes).unwrap();
        let mut reader = super::super::SegmentReader::open(&path).unwrap();
        for (at, losses) in notes.iter().enumerate() {
            let batch = reader.next_batch().unwrap().unwrap();
            assert_eq!(batch.losses(), losses, "{at}");
            assert!(batch.iter().all(|row| row.payload.len() == at && row.time_ns == at as u64));
        }
        assert!(reader.next_batch().unwrap().is_none() && reader.is_finished());
    }

    type Row = ((IpAddr, u16), (IpAddr, u16), Vec<u8>, u64);

    fn losses() -> impl Strategy<Value = Vec<Loss>> {
        let reason = prop::sample::select(vec!["nic_missed", "batch_ring_full", "shed_debug"]);
        let one = (reason, any::<u64>(), any::<u64>()).prop_map(|(reason, count, at)| Loss::unknown(reason, count, at));
        prop::collection::vec(one, 0..4)
    }

    fn rows() -> impl Strategy<Value = Vec<Row>> {
        let payload = prop::collection::vec(any::<u8>(), 0..60);
        prop::collection::vec((any::<(IpAddr, u16)>(), any::<(IpAddr, u16)>(), payload, 0..u64::MAX / 2), 0..20)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Any batches with any notes: a segment gives both back, byte by byte and in order.
        #[test]
        fn a_segment_gives_batches_back(batches in prop::collection::vec((rows(), losses()), 0..5)) {
            let mut encoder = SpoolEncoder::new().unwrap();
            let mut batch = Batch::new(20, 2000);
            let mut bytes = header().unwrap();
            for (rows, losses) in &batches {
                batch.clear();
                for (src, dst, payload, time_ns) in rows {
                    let datagram = DatagramBuf::new((*src).into(), (*dst).into(), payload);
                    prop_assert!(batch.push(&datagram.datagram(), *time_ns));
                }
                encoder.with_message(&mut batch, losses, |slices| bytes.extend_from_slice(&slices.concat())).unwrap();
            }
            bytes.extend_from_slice(&END_OF_STREAM);
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), &bytes).unwrap();
            let mut reader = super::super::SegmentReader::open(file.path()).unwrap();
            for (rows, losses) in &batches {
                let batch = reader.next_batch().unwrap().unwrap();
                prop_assert_eq!(batch.losses(), losses);
                let found: Vec<Row> = batch
                    .iter()
                    .map(|row| ((row.src_ip, row.src_port), (row.dst_ip, row.dst_port), row.payload.to_vec(), row.time_ns))
                    .collect();
                let canonical = |(ip, port): (IpAddr, u16)| (ip.to_canonical(), port);
                let sent: Vec<Row> =
                    rows.iter().cloned().map(|(src, dst, payload, time)| (canonical(src), canonical(dst), payload, time)).collect();
                prop_assert_eq!(found, sent);
            }
            prop_assert!(reader.next_batch().unwrap().is_none() && reader.is_finished());
        }
    }

    #[test]
    fn the_header_and_the_marker_are_an_empty_stream() {
        let bytes = [header().unwrap(), END_OF_STREAM.to_vec()].concat();
        let mut reader = arrow_ipc::reader::StreamReader::try_new(&bytes[..], None).unwrap();
        assert_eq!(reader.schema(), schema());
        assert!(reader.next().is_none());
    }
}

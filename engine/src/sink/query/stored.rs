//! Reading Parquet files back into records.

use std::{fs::File, io::ErrorKind};

use arrow_array::{
    Array, BooleanArray, RecordBatch,
    cast::AsArray,
    types::{Int64Type, TimestampNanosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type},
};
use arrow_select::filter::filter_record_batch;
use parquet::{
    arrow::arrow_reader::ParquetRecordBatchReaderBuilder,
    errors::ParquetError,
    file::{metadata::RowGroupMetaData, statistics::Statistics},
};

use super::{LogQuery, QueryError, Run};
use crate::sink::{
    decode::Gap,
    record::{EventTime, Flags, Format, Record},
    store::{Rows, StoreError, StoredFile},
};

const HOUR_NS: u64 = 3_600_000_000_000;
const BATCH_ROWS: usize = 8192;

impl Run<'_> {
    /// Prints what matches in `files`, conversion by conversion.
    pub(super) fn stored(&mut self, files: &[StoredFile]) -> Result<(), QueryError> {
        for conversion in files.chunk_by(|a, b| a.id == b.id) {
            if self.stopped() {
                return Ok(());
            }
            let wanted = |file: &&StoredFile| {
                file.gaps == self.query.gaps && self.query.matches_span(file.hour_ns, file.hour_ns + HOUR_NS - 1)
            };
            let files: Vec<&StoredFile> = conversion.iter().filter(wanted).collect();
            if self.query.gaps {
                files.into_iter().try_for_each(|file| self.stored_gaps(file))?;
            } else {
                self.stored_records(&files)?;
            }
        }
        Ok(())
    }

    fn stored_records(&mut self, files: &[&StoredFile]) -> Result<(), QueryError> {
        let mut batches = Vec::new();
        for file in files {
            let read = self.matching(file, &mut batches);
            read.map_err(|source| StoreError::Parquet { path: file.path.clone(), source })?;
        }
        let mut order: Vec<(i64, u32, u32)> = Vec::new();
        for (at, batch) in batches.iter().enumerate() {
            let times = batch.column(0).as_primitive::<TimestampNanosecondType>().values();
            order.extend(times.iter().enumerate().map(|(row, time)| (*time, at as u32, row as u32)));
        }
        order.sort_unstable();
        let mut record = Record::default();
        for (_, at, row) in order {
            read(&batches[at as usize], row as usize, &mut record);
            self.stats.printed += 1;
            self.printer.record(&record).map_err(QueryError::Output)?;
        }
        Ok(())
    }

    /// The matching rows of a file.
    fn matching(&mut self, file: &StoredFile, batches: &mut Vec<RecordBatch>) -> Result<(), ParquetError> {
        let opened = match File::open(&file.path) {
            // Retention took it.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
        let builder = ParquetRecordBatchReaderBuilder::try_new(opened)?;
        self.stats.files += 1;
        let groups = builder.metadata().row_groups();
        let wanted: Vec<usize> = (0..groups.len()).filter(|at| may_match(self.query, &groups[*at])).collect();
        self.stats.row_groups += wanted.len() as u64;
        self.stats.row_groups_pruned += (groups.len() - wanted.len()) as u64;
        let mut record = Record::default();
        for batch in builder.with_row_groups(wanted).with_batch_size(BATCH_ROWS).build()? {
            let batch = batch?;
            let mask: BooleanArray = (0..batch.num_rows())
                .map(|row| {
                    Some(
                        is_near(self.query, &batch, row) && {
                            read(&batch, row, &mut record);
                            self.query.matches(&record)
                        },
                    )
                })
                .collect();
            if mask.true_count() > 0 {
                batches.push(filter_record_batch(&batch, &mask)?);
            }
        }
        Ok(())
    }

    fn stored_gaps(&mut self, file: &StoredFile) -> Result<(), QueryError> {
        let text = match std::fs::read_to_string(&file.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            text => text.map_err(StoreError::io("read", &file.path))?,
        };
        for line in text.lines() {
            let gap: Gap = serde_json::from_str(line)
                .map_err(|error| StoreError::io("read", &file.path)(std::io::Error::from(error)))?;
            if self.query.matches_gap(&gap) {
                self.stats.printed += 1;
                self.printer.gap(&gap).map_err(QueryError::Output)?;
            }
        }
        Ok(())
    }
}

/// The statistics of a row group do not rule it out.
fn may_match(query: &LogQuery, group: &RowGroupMetaData) -> bool {
    group.columns().iter().all(|column| {
        let (name, Some(statistics)) = (column.column_path().string(), column.statistics()) else { return true };
        match (name.as_str(), statistics) {
            ("time", Statistics::Int64(times)) => match (times.min_opt(), times.max_opt()) {
                (Some(first), Some(last)) => query.matches_span((*first).max(0) as u64, (*last).max(0) as u64),
                _ => true,
            },
            ("severity", Statistics::Int32(severities)) => {
                let least = severities.min_opt().copied();
                query.severity.zip(least).is_none_or(|(most, least)| least <= i32::from(most))
            }
            // A host may also be asked for by its address, which the other column knows.
            ("host", Statistics::ByteArray(hosts)) => {
                let Some(host) = &query.host else { return true };
                let inside = match (hosts.min_opt(), hosts.max_opt()) {
                    (Some(first), Some(last)) => (first.data()..=last.data()).contains(&host.as_bytes()),
                    _ => true,
                };
                inside || host.parse::<std::net::IpAddr>().is_ok()
            }
            _ => true,
        }
    })
}

/// The cheap part of matching, on the columns.
fn is_near(query: &LogQuery, batch: &RecordBatch, row: usize) -> bool {
    let time_ns = batch.column(0).as_primitive::<TimestampNanosecondType>().value(row);
    let severe = query.severity.is_none_or(|most| {
        let severities = batch.column(9).as_primitive::<UInt8Type>();
        severities.is_valid(row) && severities.value(row) <= most
    });
    let text = |column: usize| batch.column(column).as_string::<i32>().value(row);
    severe
        && query.matches_time(time_ns.max(0) as u64)
        && query.host.as_ref().is_none_or(|host| text(7) == host || text(3) == host)
        && query.regex.as_ref().is_none_or(|regex| regex.is_match(text(17)))
}

/// The rows of `rows` by time.
pub(super) fn by_time(rows: &Rows) -> Result<RecordBatch, StoreError> {
    let mut order: Vec<u32> = (0..rows.len() as u32).collect();
    order.sort_by_key(|row| rows.time_ns[*row as usize]);
    rows.batch(&order)
}

/// Row `row` of a batch of the store's schema.
pub(crate) fn read(batch: &RecordBatch, row: usize, record: &mut Record) {
    record.clear();
    let text = |column: usize| batch.column(column).as_string::<i32>().value(row);
    let small = |column: usize| {
        let array = batch.column(column).as_primitive::<UInt8Type>();
        array.is_valid(row).then(|| array.value(row))
    };
    let large = |column: usize| {
        let array = batch.column(column).as_primitive::<UInt64Type>();
        array.is_valid(row).then(|| array.value(row))
    };
    let port = |column: usize| batch.column(column).as_primitive::<UInt16Type>().value(row);
    let times = |column: usize| batch.column(column).as_primitive::<TimestampNanosecondType>();
    record.time_ns = times(0).value(row).max(0) as u64;
    if times(1).is_valid(row) {
        let error_ns = batch.column(2).as_primitive::<Int64Type>().value(row).max(0) as u64;
        record.event_time = Some(EventTime { ns: times(1).value(row), error_ns });
    }
    // What we wrote is an address.
    record.src_ip = text(3).parse().unwrap_or(record.src_ip);
    record.dst_ip = text(5).parse().unwrap_or(record.dst_ip);
    (record.src_port, record.dst_port) = (port(4), port(6));
    if text(7) != text(3) {
        record.host.push_str(text(7));
    }
    (record.facility, record.severity) = (small(8), small(9));
    (record.seq, record.kernel_usec) = (large(13), large(14));
    let Record { app, pid, msgid, caller, release, message, .. } = record;
    // The text of a null is empty.
    for (place, column) in [(app, 10), (pid, 11), (msgid, 12), (caller, 15), (release, 16), (message, 17)] {
        place.push_str(text(column));
    }
    let maps = batch.column(18).as_map();
    let (keys, values) = (maps.keys().as_string::<i32>(), maps.values().as_string::<i32>());
    let (from, to) = (maps.value_offsets()[row] as usize, maps.value_offsets()[row + 1] as usize);
    for at in from..to {
        record.fields.push_unchanged(keys.value(at), values.value(at));
    }
    record.format = Format::from_name(text(19)).unwrap_or(Format::Raw);
    record.flags = Flags(port(20));
    record.parts = batch.column(21).as_primitive::<UInt32Type>().value(row);
}

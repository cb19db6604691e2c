//! The Parquet files' columns.
//!
//! | column | type | |
//! |---|---|---|
//! | `time` | timestamp(ns, UTC) | receive time |
//! | `event_time` | timestamp(ns, UTC), null | the sender's |
//! | `event_error_ns` | i64, null | how far off `event_time` may be |
//! | `src_ip`, `dst_ip` | text | addresses |
//! | `src_port`, `dst_port` | u16 | |
//! | `host` | text | the header's host name, or else `src_ip` |
//! | `facility`, `severity` | u8, null | |
//! | `app`, `pid`, `msgid` | text, null | |
//! | `seq`, `kernel_usec` | u64, null | netconsole's |
//! | `caller`, `release` | text, null | netconsole's |
//! | `message` | text | |
//! | `fields` | map(text, text) | |
//! | `format` | text | `Format::name` |
//! | `flags` | u16 | `Flags` |
//! | `parts` | u32 | datagrams that it was made of: the sum over all rows closes the ledger |

use std::sync::{Arc, OnceLock};

use arrow_array::{
    ArrayRef, ArrowPrimitiveType, MapArray, PrimitiveArray, RecordBatch, StringArray, StructArray,
    types::{Int64Type, TimestampNanosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type},
};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use parquet::{
    basic::{Compression, Encoding, ZstdLevel},
    file::properties::{EnabledStatistics, WriterProperties},
    schema::types::ColumnPath,
};

use super::rows::{Rows, Texts};
use crate::sink::record::Format;

/// Rows of a row group: what one look at the statistics can skip.
const ROW_GROUP_ROWS: usize = 64 * 1024;

/// The schema.
pub fn schema() -> SchemaRef {
    static SCHEMA: OnceLock<SchemaRef> = OnceLock::new();
    SCHEMA.get_or_init(|| Arc::new(Schema::new(columns()))).clone()
}

fn columns() -> Vec<Field> {
    let time = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
    let there = |name: &str, data_type: DataType| Field::new(name, data_type, false);
    let maybe = |name: &str, data_type: DataType| Field::new(name, data_type, true);
    let fields = Field::new("entries", DataType::Struct(entry_fields()), false);
    vec![
        there("time", time.clone()),
        maybe("event_time", time),
        maybe("event_error_ns", DataType::Int64),
        there("src_ip", DataType::Utf8),
        there("src_port", DataType::UInt16),
        there("dst_ip", DataType::Utf8),
        there("dst_port", DataType::UInt16),
        there("host", DataType::Utf8),
        maybe("facility", DataType::UInt8),
        maybe("severity", DataType::UInt8),
        maybe("app", DataType::Utf8),
        maybe("pid", DataType::Utf8),
        maybe("msgid", DataType::Utf8),
        maybe("seq", DataType::UInt64),
        maybe("kernel_usec", DataType::UInt64),
        maybe("caller", DataType::Utf8),
        maybe("release", DataType::Utf8),
        there("message", DataType::Utf8),
        there("fields", DataType::Map(Arc::new(fields), false)),
        there("format", DataType::Utf8),
        there("flags", DataType::UInt16),
        there("parts", DataType::UInt32),
    ]
}

fn entry_fields() -> Fields {
    Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, false)])
}

/// How the files are written.
pub(crate) fn properties(zstd_level: i32) -> WriterProperties {
    let level = ZstdLevel::try_new(zstd_level).unwrap_or_default();
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_created_by(concat!("netpoll ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_column_dictionary_enabled(ColumnPath::from("message"), false)
        .set_column_statistics_enabled(ColumnPath::from("message"), EnabledStatistics::None);
    // Nearly all different and nearly ascending: differences are small, a dictionary is only in the way.
    for name in ["time", "event_time", "seq", "kernel_usec"] {
        properties = properties
            .set_column_dictionary_enabled(ColumnPath::from(name), false)
            .set_column_encoding(ColumnPath::from(name), Encoding::DELTA_BINARY_PACKED);
    }
    properties.build()
}

/// Those rows, in that order.
pub(crate) fn batch(rows: &Rows, order: &[u32]) -> Result<RecordBatch, ArrowError> {
    let time = |array: PrimitiveArray<TimestampNanosecondType>| Arc::new(array.with_timezone("UTC")) as ArrayRef;
    let event = |row: usize| rows.event_ns[row];
    let arrays: Vec<ArrayRef> = vec![
        time(PrimitiveArray::new(gather(order, |row| rows.time_ns[row]), None)),
        time(optional(order, event)),
        Arc::new(optional::<Int64Type>(order, |row| {
            event(row).map(|_| i64::try_from(rows.event_error_ns[row]).unwrap_or(i64::MAX))
        })),
        texts(order, |row| rows.name(rows.src_ip[row]))?,
        Arc::new(PrimitiveArray::<UInt16Type>::new(gather(order, |row| rows.ports[row].0), None)),
        texts(order, |row| rows.name(rows.dst_ip[row]))?,
        Arc::new(PrimitiveArray::<UInt16Type>::new(gather(order, |row| rows.ports[row].1), None)),
        texts(order, |row| rows.name(rows.host[row]))?,
        Arc::new(optional::<UInt8Type>(order, |row| rows.facility[row])),
        Arc::new(optional::<UInt8Type>(order, |row| rows.severity[row])),
        optional_texts(order, &rows.app)?,
        optional_texts(order, &rows.pid)?,
        optional_texts(order, &rows.msgid)?,
        Arc::new(optional::<UInt64Type>(order, |row| rows.seq[row])),
        Arc::new(optional::<UInt64Type>(order, |row| rows.kernel_usec[row])),
        optional_texts(order, &rows.caller)?,
        optional_texts(order, &rows.release)?,
        texts(order, |row| rows.message.get(row))?,
        Arc::new(maps(rows, order)?),
        texts(order, |row| Format::ALL[usize::from(rows.format[row])].name())?,
        Arc::new(PrimitiveArray::<UInt16Type>::new(gather(order, |row| rows.flags[row]), None)),
        Arc::new(PrimitiveArray::<UInt32Type>::new(gather(order, |row| rows.parts[row]), None)),
    ];
    RecordBatch::try_new(schema(), arrays)
}

fn gather<T: arrow_buffer::ArrowNativeType>(order: &[u32], value: impl Fn(usize) -> T) -> ScalarBuffer<T> {
    order.iter().map(|row| value(*row as usize)).collect::<Vec<T>>().into()
}

fn optional<T: ArrowPrimitiveType>(order: &[u32], value: impl Fn(usize) -> Option<T::Native>) -> PrimitiveArray<T> {
    let nulls = nulls(order, |row| value(row).is_some());
    PrimitiveArray::new(gather(order, |row| value(row).unwrap_or_default()), nulls)
}

fn nulls(order: &[u32], there: impl Fn(usize) -> bool) -> Option<NullBuffer> {
    Some(NullBuffer::new(BooleanBuffer::collect_bool(order.len(), |at| there(order[at] as usize))))
}

/// An empty text is a null.
fn optional_texts(order: &[u32], column: &Texts) -> Result<ArrayRef, ArrowError> {
    let nulls = nulls(order, |row| !column.get(row).is_empty());
    text_array(order.iter().map(|row| column.get(*row as usize)), nulls).map(|array| Arc::new(array) as ArrayRef)
}

fn texts<'a>(order: &[u32], value: impl Fn(usize) -> &'a str) -> Result<ArrayRef, ArrowError> {
    text_array(order.iter().map(|row| value(*row as usize)), None).map(|array| Arc::new(array) as ArrayRef)
}

fn text_array<'a>(
    texts: impl Iterator<Item = &'a str> + Clone,
    nulls: Option<NullBuffer>,
) -> Result<StringArray, ArrowError> {
    let offsets = OffsetBuffer::<i32>::from_lengths(texts.clone().map(str::len));
    let mut bytes = Vec::with_capacity(offsets.last() as usize);
    texts.for_each(|text| bytes.extend_from_slice(text.as_bytes()));
    StringArray::try_new(offsets, Buffer::from_vec(bytes), nulls)
}

fn maps(rows: &Rows, order: &[u32]) -> Result<MapArray, ArrowError> {
    let range = |row: u32| {
        let start = (row as usize).checked_sub(1).map_or(0, |before| rows.field_ends[before]);
        start as usize..rows.field_ends[row as usize] as usize
    };
    let entries = || order.iter().flat_map(|row| range(*row));
    let offsets = OffsetBuffer::from_lengths(order.iter().map(|row| range(*row).len()));
    let keys = text_array(entries().map(|at| rows.keys.get(at)), None)?;
    let values = text_array(entries().map(|at| rows.values.get(at)), None)?;
    let entries = StructArray::try_new(entry_fields(), vec![Arc::new(keys), Arc::new(values)], None)?;
    let field = Field::new("entries", DataType::Struct(entry_fields()), false);
    MapArray::try_new(Arc::new(field), offsets, entries, None, false)
}

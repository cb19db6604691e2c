//! Writes spool segments from outside of the crate, for the store's bench and the pyarrow check: Arrow IPC
//! streams of the columns that the sink's batches have.

use std::{
    fs::{self, File},
    io::BufWriter,
    net::IpAddr,
    path::Path,
    sync::Arc,
};

use arrow_array::{ArrayRef, BinaryArray, FixedSizeBinaryArray, RecordBatch, TimestampNanosecondArray, UInt16Array};
use arrow_ipc::writer::StreamWriter;
use netpoll::sink::{RawDatagram, spool};

/// One sealed segment, in batches of 2048 rows.
pub fn write(dir: &Path, segment: u64, raw: &[RawDatagram<'_>]) {
    let schema = spool::schema();
    fs::create_dir_all(dir.join("spool")).expect("a directory");
    let file = File::create(dir.join(format!("spool/{segment:012}.arrows"))).expect("a file");
    let mut writer = StreamWriter::try_new(BufWriter::new(file), &schema).expect("a stream");
    for rows in raw.chunks(2048) {
        let addrs = |ip: fn(&RawDatagram<'_>) -> IpAddr| -> ArrayRef {
            let octets = rows.iter().map(|row| match ip(row) {
                IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                IpAddr::V6(ip) => ip.octets(),
            });
            Arc::new(FixedSizeBinaryArray::try_from_iter(octets).expect("addresses"))
        };
        let times = rows.iter().map(|row| row.time_ns.cast_signed());
        let arrays: Vec<ArrayRef> = vec![
            Arc::new(TimestampNanosecondArray::from_iter_values(times).with_timezone("UTC")),
            addrs(|row| row.src_ip),
            Arc::new(UInt16Array::from_iter_values(rows.iter().map(|row| row.src_port))),
            addrs(|row| row.dst_ip),
            Arc::new(UInt16Array::from_iter_values(rows.iter().map(|row| row.dst_port))),
            Arc::new(BinaryArray::from_iter_values(rows.iter().map(|row| row.payload))),
        ];
        writer.write(&RecordBatch::try_new(schema.clone(), arrays).expect("a batch")).expect("room");
    }
    writer.finish().expect("room");
}

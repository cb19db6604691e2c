//! Writes spool segments as the sink does: Arrow IPC streams of the batch's columns.

use std::{
    fs::{self, File},
    net::{IpAddr, Ipv4Addr},
    path::Path,
    sync::Arc,
};

use arrow_array::{ArrayRef, BinaryArray, FixedSizeBinaryArray, RecordBatch, TimestampNanosecondArray, UInt16Array};
use arrow_ipc::writer::StreamWriter;

use crate::sink::{RawDatagram, batch::addr_bytes, spool, store::Layout};

/// 2023-11-14T22:13:20Z.
pub(crate) const START_NS: u64 = 1_700_000_000_000_000_000;

#[derive(Clone, Debug)]
pub(crate) struct Datagram {
    pub time_ns: u64,
    src: u32,
    dst_port: u16,
    payload: Vec<u8>,
}

impl Datagram {
    pub fn new(time_ns: u64, src: u32, dst_port: u16, payload: &[u8]) -> Datagram {
        Datagram { time_ns, src, dst_port, payload: payload.to_vec() }
    }

    pub fn raw(&self) -> RawDatagram<'_> {
        RawDatagram {
            time_ns: self.time_ns,
            src_ip: IpAddr::V4(Ipv4Addr::from_bits(self.src)),
            src_port: 6665,
            dst_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            dst_port: self.dst_port,
            payload: &self.payload,
        }
    }
}

/// A segment that is being written.
pub(crate) struct Spooler {
    writer: StreamWriter<File>,
}

impl Spooler {
    pub fn create(dir: &Path, segment: u64) -> Spooler {
        let layout = Layout::new(dir);
        fs::create_dir_all(layout.spool()).unwrap();
        let file = File::create(layout.segment(segment)).unwrap();
        Spooler { writer: StreamWriter::try_new(file, &spool::schema()).unwrap() }
    }

    pub fn append(&mut self, rows: &[Datagram]) {
        let raw: Vec<_> = rows.iter().map(Datagram::raw).collect();
        let addrs = |ip: fn(&RawDatagram<'_>) -> IpAddr| -> ArrayRef {
            Arc::new(FixedSizeBinaryArray::try_from_iter(raw.iter().map(|row| addr_bytes(ip(row)))).unwrap())
        };
        let times = raw.iter().map(|row| row.time_ns.cast_signed());
        let arrays: Vec<ArrayRef> = vec![
            Arc::new(TimestampNanosecondArray::from_iter_values(times).with_timezone("UTC")),
            addrs(|row| row.src_ip),
            Arc::new(UInt16Array::from_iter_values(raw.iter().map(|row| row.src_port))),
            addrs(|row| row.dst_ip),
            Arc::new(UInt16Array::from_iter_values(raw.iter().map(|row| row.dst_port))),
            Arc::new(BinaryArray::from_iter_values(raw.iter().map(|row| row.payload))),
        ];
        self.writer.write(&RecordBatch::try_new(spool::schema(), arrays).unwrap()).unwrap();
    }

    pub fn seal(mut self) {
        self.writer.finish().unwrap();
    }

    pub fn len(&self) -> u64 {
        self.writer.get_ref().metadata().unwrap().len()
    }
}

/// Some of everything, in a mix that `seed` chooses: whole lines and such that span datagrams, second
/// copies, gaps, bytes that are no text. Half a millisecond apart.
pub(crate) fn traffic(seed: u64, count: usize) -> Vec<Datagram> {
    let mut state = seed | 1;
    let mut dice = move |limit: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 20) % limit
    };
    let mut out: Vec<Datagram> = Vec::new();
    let mut seq = 0;
    while out.len() < count {
        let time_ns = START_NS + out.len() as u64 * 500_000;
        let src = 0x0a00_0000 + dice(5) as u32;
        let at = out.len();
        let mut send = |port, payload: &[u8]| out.push(Datagram::new(time_ns, src, port, payload));
        match dice(9) {
            0 => send(
                514,
                format!(
                    "<{}>1 2023-11-14T22:13:20.{at:06}Z host{} app {at} ID [a@1 k=\"v{at}\"] message {at}",
                    dice(192),
                    dice(4)
                )
                .as_bytes(),
            ),
            1 => send(
                514,
                format!("<{}>Nov 14 22:13:20 web{} sshd[{at}]: line {at}, \"quoted\"", dice(192), dice(4)).as_bytes(),
            ),
            2 => send(9999, &[b"raw \xff\xfe ", at.to_string().as_bytes(), b"\x01\n"].concat()),
            3 => {
                send(6666, &vec![b'a' + (at % 26) as u8; 1000]);
                send(6666, format!("end of {at}\n").as_bytes());
            }
            4 => {
                // The second fragment comes much later; sometimes never.
                seq += 1 + dice(3);
                let body = format!("{}\n SUBSYSTEM=usb\n", "f".repeat(1200));
                let (first, second) = body.split_at(700);
                let header = format!("6,{seq},{},-,caller=T{src}", seq * 1000);
                send(6667, format!("{header},ncfrag=0/{};{first}", body.len()).as_bytes());
                if dice(8) > 0 {
                    send(6667, format!("{header},ncfrag=700/{};{second}", body.len()).as_bytes());
                }
            }
            5 => {
                seq += 1;
                let line = format!("6,{seq},{},-;twice {at}\n", seq * 1000);
                send(6667, line.as_bytes());
                send(6667, line.as_bytes());
            }
            _ => {
                seq += 1 + dice(2);
                send(6667, format!("4,{seq},{},-;line \\x0a {at}\n msgid={seq}\n", seq * 1000).as_bytes());
            }
        }
    }
    out.truncate(count);
    out
}

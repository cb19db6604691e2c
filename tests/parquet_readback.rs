//! Writes a store and, beside it, what has to be in it: `parquet_readback DIR`. `parquet_readback.py` runs
//! this and compares the two with pyarrow.
//!
//! What has to be in it (`DIR/expected.jsonl`) is made from this file's own records, before they become
//! datagrams; nothing of it goes through the decoder.

#[path = "support/spool_writer.rs"]
mod spool_writer;

use std::{
    fs::File,
    io::{BufWriter, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

use netpoll::sink::{
    RawDatagram,
    store::{Converter, StoreConfig},
};
use serde_json::{Value, json};

/// 2023-11-14T22:13:20Z; the last line is more than an hour later.
const START_NS: u64 = 1_700_000_000_000_000_000;
const LINES: u64 = 20_000;
const STEP_NS: u64 = 300_000_001;
const SEGMENTS: usize = 4;

struct Datagram {
    time_ns: u64,
    src_ip: IpAddr,
    dst_port: u16,
    payload: Vec<u8>,
}

impl Datagram {
    fn raw(&self) -> RawDatagram<'_> {
        RawDatagram {
            time_ns: self.time_ns,
            src_ip: self.src_ip,
            src_port: 40_000,
            dst_ip: IpAddr::V4(Ipv4Addr::new(10, 1, 0, 1)),
            dst_port: self.dst_port,
            payload: &self.payload,
        }
    }
}

/// Line `at`: its datagrams, and its row without time and addresses.
fn line(at: u64) -> (u16, Vec<Vec<u8>>, Value) {
    let nothing = json!({
        "event_ns": null, "facility": null, "severity": null, "app": null, "pid": null, "msgid": null, "seq": null,
        "kernel_usec": null, "caller": null, "release": null, "fields": {}, "flags": 0,
    });
    let with = |more: Value| {
        let mut row = nothing.clone();
        if let (Some(row), Value::Object(more)) = (row.as_object_mut(), more) {
            row.extend(more);
        }
        row
    };
    let (facility, severity) = (at % 24, at % 8);
    let pri = facility * 8 + severity;
    match at % 4 {
        0 => {
            let payload = format!(
                "<{pri}>1 2023-11-14T22:13:20.{:06}+01:00 host-{} app {at} ID{} [a@1 k=\"v\\\"{at}\" e=\"\"] métá {at}",
                at % 1_000_000,
                at % 13,
                at % 5
            );
            let row = json!({
                "event_ns": START_NS - 3_600_000_000_000 + at % 1_000_000 * 1000,
                "host": format!("host-{}", at % 13), "facility": facility, "severity": severity, "app": "app",
                "pid": at.to_string(), "msgid": format!("ID{}", at % 5), "message": format!("métá {at}"),
                "fields": {"a@1.k": format!("v\"{at}"), "a@1.e": ""}, "format": "rfc5424", "parts": 1,
            });
            (514, vec![payload.into_bytes()], with(row))
        }
        1 => {
            // Bytes that are no text, and a backslash among them.
            let payload = [b"a\\b \xff\xfe ".as_slice(), at.to_string().as_bytes(), b"\n"].concat();
            let row = json!({"message": format!("a\\x5cb \\xff\\xfe {at}"), "format": "raw", "flags": 32, "parts": 1});
            (9999, vec![payload], with(row))
        }
        2 => {
            // A message in three fragments, the last first. Every source has its own; seq counts for each.
            let text = format!("{} end of {at}", "long ".repeat(400));
            let body = format!("{text}\n SUBSYSTEM=net\n msgid={at}\n");
            let header = format!("6.1.0,{pri},{at},{},-,caller=T{}", at * 10, at % 7);
            let fragment = |from: usize, to: usize| {
                format!("{header},ncfrag={from}/{};{}", body.len(), &body[from..to]).into_bytes()
            };
            let payloads = vec![fragment(1800, body.len()), fragment(0, 900), fragment(900, 1800)];
            let row = json!({
                "facility": facility, "severity": severity, "msgid": at.to_string(), "seq": at, "kernel_usec": at * 10,
                "caller": format!("T{}", at % 7), "release": "6.1.0", "message": text,
                "fields": {"SUBSYSTEM": "net"}, "format": "netconsole+", "parts": 3,
                "event_ns": "near",
            });
            (6666, payloads, with(row))
        }
        _ => {
            let payload = format!("<{pri}>cron[{at}]: did \"{at}\", as told\0");
            let row = json!({
                "facility": facility, "severity": severity, "app": "cron", "pid": at.to_string(),
                "message": format!("did \"{at}\", as told"), "format": "rfc3164", "parts": 1,
            });
            (514, vec![payload.into_bytes()], with(row))
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::args().nth(1).ok_or("usage: parquet_readback DIR")?;
    let dir = Path::new(&dir);
    std::fs::create_dir_all(dir)?;
    let mut expected = BufWriter::new(File::create(dir.join("expected.jsonl"))?);
    let mut datagrams = Vec::new();
    for at in 0..LINES {
        let src_ip = match at % 9 {
            0 => IpAddr::V6(Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(at % 3))),
            other => IpAddr::V4(Ipv4Addr::new(10, 0, 0, other as u8)),
        };
        let time_ns = START_NS + at * STEP_NS;
        let (dst_port, payloads, mut row) = line(at);
        let host = row.get("host").cloned().unwrap_or(src_ip.to_string().into());
        let fixed = json!({
            "time_ns": time_ns, "src_ip": src_ip.to_string(), "src_port": 40_000, "dst_ip": "10.1.0.1",
            "dst_port": dst_port, "host": host,
        });
        if let (Some(row), Value::Object(fixed)) = (row.as_object_mut(), fixed) {
            row.extend(fixed);
        }
        writeln!(expected, "{row}")?;
        datagrams.extend(payloads.into_iter().map(|payload| Datagram { time_ns, src_ip, dst_port, payload }));
    }
    expected.flush()?;
    // Segments end anywhere, also between two fragments.
    for (at, part) in datagrams.chunks(datagrams.len().div_ceil(SEGMENTS)).enumerate() {
        spool_writer::write(dir, at as u64, &part.iter().map(Datagram::raw).collect::<Vec<_>>());
    }
    Converter::open(StoreConfig { part_bytes: 1 << 20, min_free_bytes: 0, ..StoreConfig::new(dir) })?
        .finish(START_NS)?;
    Ok(())
}

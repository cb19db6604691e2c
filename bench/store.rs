//! How fast datagrams become records, and records become Parquet, on one core.
//!
//! `cargo bench -p netpoll --bench store -- [lines]`. Each stage runs five times; the best and the median
//! are printed, in lines/s and ns a line of CPU time (of the one thread; what a sync waits for is not in it,
//! nor what else runs on the machine). The store's runs include reading the spool, sorting and zstd.
//! Nothing is asserted but that no line is lost.

#[path = "../tests/support/spool_writer.rs"]
mod spool_writer;

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

use netpoll::sink::{
    RawDatagram,
    decode::{DecodeConfig, Decoder, Output},
    record::Record,
    store::{Converter, StoreConfig},
};

const START_NS: u64 = 1_700_000_000_000_000_000;
const RUNS: usize = 5;

struct Lines {
    name: &'static str,
    port: u16,
    payloads: Vec<Vec<u8>>,
}

impl Lines {
    fn new(name: &'static str, port: u16, count: usize, line: impl Fn(usize) -> String) -> Lines {
        Lines { name, port, payloads: (0..count).map(|at| line(at).into_bytes()).collect() }
    }

    fn iter(&self) -> impl Iterator<Item = RawDatagram<'_>> {
        self.payloads.iter().enumerate().map(|(at, payload)| RawDatagram {
            time_ns: START_NS + at as u64 * 1000,
            src_ip: IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + (at % 200) as u32)),
            src_port: 6665,
            dst_ip: IpAddr::V4(Ipv4Addr::new(10, 1, 0, 1)),
            dst_port: self.port,
            payload,
        })
    }
}

/// Words that repeat as those of logs do, and numbers that do not; 110 to 125 bytes.
fn text(at: usize) -> String {
    let words =
        ["connection", "from", "closed", "user", "session", "timeout", "request", "served", "in", "ms", "device"];
    let mut text = String::new();
    let mut state = (at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    while text.len() < 110 {
        state = (state ^ state >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        text.push_str(words[(state >> 40) as usize % words.len()]);
        text.push(' ');
        if state.is_multiple_of(5) {
            text.push_str(&(state % 100_000).to_string());
            text.push(' ');
        }
    }
    text
}

fn formats(count: usize) -> Vec<Lines> {
    let pri = |at: usize| at * 7 % 192;
    vec![
        Lines::new("rfc5424", 514, count, |at| {
            let (micros, host, app, pid, id) = (at % 1_000_000, at % 200, at % 30, at % 30_000, at % 9);
            let stamp = format!("2023-11-14T22:13:20.{micros:06}Z");
            format!("<{}>1 {stamp} host{host}.example.com app{app} {pid} ID{id} - {}", pri(at), text(at))
        }),
        Lines::new("rfc5424 + data", 514, count, |at| {
            let (micros, host, app, pid) = (at % 1_000_000, at % 200, at % 30, at % 30_000);
            let data = format!("[origin ip=\"10.0.0.{host}\" software=\"x\"][meta seq=\"{at}\"]");
            format!("<{}>1 2023-11-14T22:13:20.{micros:06}Z host{host} app{app} {pid} - {data} {}", pri(at), text(at))
        }),
        Lines::new("rfc3164", 514, count, |at| {
            let (second, host, app, pid) = (at / 20_000 % 60, at % 200, at % 30, at % 30_000);
            format!("<{}>Nov 14 22:13:{second:02} host{host} app{app}[{pid}]: {}", pri(at), text(at))
        }),
        Lines::new("netconsole+", 6666, count, |at| {
            format!("6,{},{at},-,caller=T{};{}\n", at / 200, at % 99, text(at))
        }),
        Lines::new("netconsole", 6666, count, |at| {
            format!("[{:5}.{:06}] {}\n", at / 1_000_000, at % 1_000_000, text(at))
        }),
        Lines::new("raw", 9999, count, |at| text(at) + &text(at + 1)[..50]),
    ]
}

#[derive(Default)]
struct Count(u64);

impl Output for Count {
    fn record(&mut self, record: &Record) {
        self.0 += u64::from(record.parts);
    }
}

fn main() {
    let count: usize = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(500_000);
    let dir = std::env::temp_dir().join(format!("netpoll-bench-{}", std::process::id()));
    println!("{count} lines a format; best / median of {RUNS}");
    let (rates, nanos) = ("lines/s", "ns/line");
    println!(
        "{:<15} {:>6} {:>28} {nanos:>14} {:>28} {nanos:>14} {:>8}",
        "format",
        "bytes",
        format!("decode {rates}"),
        format!("with Parquet {rates}"),
        "B/line"
    );
    for lines in formats(count) {
        let decode = best_and_median(|| decode(&lines));
        let store = best_and_median(|| store(&lines, &dir));
        let rate = |(best, median): (f64, f64)| format!("{:.0} / {:.0}", count as f64 / best, count as f64 / median);
        let per_line = |seconds: f64| seconds * 1e9 / count as f64;
        let nanos = |(best, median): (f64, f64)| format!("{:.0} / {:.0}", per_line(best), per_line(median));
        println!(
            "{:<15} {:>6} {:>28} {:>14} {:>28} {:>14} {:>8.1}",
            lines.name,
            lines.payloads.iter().map(Vec::len).sum::<usize>() / count,
            rate(decode),
            nanos(decode),
            rate(store),
            nanos(store),
            size(&dir.join("store")) as f64 / count as f64
        );
        let _ = fs::remove_dir_all(&dir);
    }
}

fn decode(lines: &Lines) -> f64 {
    let start = cpu_seconds();
    let mut out = Count::default();
    let mut decoder = Decoder::new(DecodeConfig::default());
    lines.iter().for_each(|datagram| decoder.push(&datagram, &mut out));
    decoder.flush(&mut out);
    let taken = cpu_seconds() - start;
    assert_eq!(out.0, lines.payloads.len() as u64);
    taken
}

fn store(lines: &Lines, dir: &Path) -> f64 {
    let _ = fs::remove_dir_all(dir);
    spool_writer::write(dir, 1, &lines.iter().collect::<Vec<_>>());
    let mut converter = Converter::open(StoreConfig::new(dir)).expect("a store");
    let start = cpu_seconds();
    converter.finish(START_NS).expect("a conversion");
    let taken = cpu_seconds() - start;
    assert_eq!(converter.totals()["record_parts"], lines.payloads.len() as u64);
    taken
}

/// CPU time of this thread (Documentation/scheduler/sched-stats.rst: nanoseconds on the CPU come first).
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux with schedstat");
    stat.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).expect("a number") / 1e9
}

fn best_and_median(run: impl FnMut() -> f64) -> (f64, f64) {
    let mut times: Vec<f64> = std::iter::repeat_with(run).take(RUNS).collect();
    times.sort_by(f64::total_cmp);
    (times[0], times[RUNS / 2])
}

fn size(path: &Path) -> u64 {
    let Ok(listing) = fs::read_dir(path) else { return fs::metadata(path).map_or(0, |data| data.len()) };
    listing.flatten().map(|entry| size(&entry.path())).sum()
}

//! A converter that is killed (SIGKILL) at random moments, 60 times: what a query finds is all of it, each
//! record once, after every one of them. The converter is this program, run again with `convert DIR`.

#[path = "support/spool_writer.rs"]
mod spool_writer;

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    process::{Command, ExitCode},
    thread::sleep,
    time::Duration,
};

use netpoll::sink::{
    RawDatagram,
    query::{self, LogQuery, OutputFormat},
    store::{Converter, Step, StoreConfig},
};

const START_NS: u64 = 1_700_000_000_000_000_000;
const KILLS: u32 = 60;
const SEGMENT_DATAGRAMS: u64 = 900;

fn config(dir: &Path) -> StoreConfig {
    StoreConfig { part_bytes: 50_000, min_free_bytes: 0, ..StoreConfig::new(dir) }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("convert") => convert(Path::new(&args[2])),
        // What `cargo test -- --list` and the like ask of a test program.
        Some("--list") => println!("store_kill: test"),
        _ => kill_and_look(),
    }
    ExitCode::SUCCESS
}

/// Converts until there is nothing left.
fn convert(dir: &Path) {
    let mut converter = Converter::open(config(dir)).expect("a store");
    while converter.step(START_NS).expect("a conversion") != Step::Idle {}
}

/// Datagram `at`: a line of syslog, a netconsole message, or a half of one whose other half follows.
fn payload(at: u64) -> (u16, String) {
    match at % 4 {
        0 => (514, format!("<13>app: id={at}.")),
        1 => (6666, format!("6,{at},{at},-;id={at}.\n")),
        2 => (6666, format!("6,{at},{at},-,ncfrag=0/1009;{}", "a".repeat(500))),
        _ => (6666, format!("6,{},{},-,ncfrag=500/1009;{}id={:05}.", at - 1, at - 1, "b".repeat(500), at - 1)),
    }
}

/// The ids of the records that the first `count` datagrams make; the last may be a half.
fn ids(count: u64) -> BTreeSet<u64> {
    (0..count).filter(|at| at % 4 < 2 || at % 4 == 2 && at + 1 < count).collect()
}

fn spool(dir: &Path, segment: u64) {
    // The end of every segment falls between two halves.
    let first = segment * SEGMENT_DATAGRAMS + if segment == 0 { 0 } else { 3 };
    let last = (segment + 1) * SEGMENT_DATAGRAMS + 3;
    let payloads: Vec<_> = (first..last).map(|at| (at, payload(at))).collect();
    let raw: Vec<_> = payloads
        .iter()
        .map(|(at, (dst_port, payload))| RawDatagram {
            // All within a second or two of `convert`'s clock, which stands still: a clock far from the newest datagram is
            // silence, and what waits is then stored as it is.
            time_ns: START_NS + at * 10_000,
            src_ip: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
            src_port: 6665,
            dst_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            dst_port: *dst_port,
            payload: payload.as_bytes(),
        })
        .collect();
    spool_writer::write(dir, segment, &raw);
}

/// Every id once; a half that waits for its other may be there too.
fn look(dir: &Path, segments: u64) {
    let query = LogQuery { format: OutputFormat::JsonLines, ..LogQuery::default() };
    let mut out = Vec::new();
    query::run(dir, &query, &mut out, &false.into()).expect("a query");
    let text = String::from_utf8(out).expect("text");
    let mut found = BTreeSet::new();
    for line in text.lines() {
        let Some((_, rest)) = line.split_once("id=") else { continue };
        let id = rest.split('.').next().and_then(|id| id.parse::<u64>().ok()).expect("an id");
        assert!(found.insert(id), "record {id} is there twice");
        assert!(!line.contains("lost"), "{line}");
    }
    let expected = ids(segments * SEGMENT_DATAGRAMS + 3);
    assert!(
        found == expected,
        "{} of {} records, first missing {:?}",
        found.len(),
        expected.len(),
        expected.difference(&found).next()
    );
}

fn kill_and_look() {
    let dir = std::env::temp_dir().join(format!("netpoll-store-kill-{}", std::process::id()));
    let this = std::env::current_exe().expect("this program");
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let (mut segments, mut killed) = (0, 0);
    while killed < KILLS {
        while fs::read_dir(dir.join("spool")).map_or(0, |listing| listing.count()) < 3 {
            spool(&dir, segments);
            segments += 1;
        }
        let mut child = Command::new(&this).arg("convert").arg(&dir).spawn().expect("a child");
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        sleep(Duration::from_micros(state % 60_000));
        child.kill().expect("a kill");
        // A child that had come to its end was not killed.
        killed += u32::from(!child.wait().expect("an end").success());
        look(&dir, segments);
    }
    let converted = Command::new(&this).arg("convert").arg(&dir).status().expect("a child");
    assert!(converted.success());
    look(&dir, segments);
    let left = fs::read_dir(dir.join("spool")).expect("a spool").count();
    assert_eq!(left, 0);
    fs::remove_dir_all(&dir).expect("to clean up");
    println!("store_kill: {killed} kills, {segments} segments, every record once");
}

//! What a query finds, in Parquet and in the spool alike.

use std::{
    io,
    path::Path,
    sync::{Mutex, atomic::Ordering},
    time::{Duration, Instant},
};

use super::*;
use crate::sink::{
    record::{Fields, Flags, Format},
    store::{
        Converter, Step, StoreConfig,
        tests::spooler::{Datagram, START_NS, Spooler},
    },
};

const HOUR_NS: u64 = 3_600_000_000_000;
const SECOND_NS: u64 = 1_000_000_000;

fn config(dir: &Path) -> StoreConfig {
    StoreConfig { min_free_bytes: 0, ..StoreConfig::new(dir) }
}

/// Line `at` of 3000, one every 4 s: hosts a, b, c in turn, severities 0 to 7 in turn.
fn line(at: u64) -> Datagram {
    let host = ["a", "b", "c"][at as usize % 3];
    let line = format!("<{}>1 - {host} app{} {at} - [x n=\"{}\"] number {at}", at % 8, at % 2, at % 10);
    Datagram::new(START_NS + at * 4 * SECOND_NS, (at % 3) as u32, 514, line.as_bytes())
}

/// The first 2000 in Parquet, the rest in the spool, the last of its segments not sealed.
fn directory() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut converter = Converter::open(config(dir.path())).unwrap();
    for segment in 0..6 {
        let mut spooler = Spooler::create(dir.path(), segment);
        let lines: Vec<_> = (segment * 500..(segment + 1) * 500).map(line).collect();
        lines.chunks(100).for_each(|batch| spooler.append(batch));
        if segment < 5 {
            spooler.seal();
        }
        if segment < 4 {
            assert_ne!(converter.step(START_NS).unwrap(), Step::Idle);
        }
    }
    dir
}

fn query(query: LogQuery) -> (Vec<String>, QueryStats) {
    let dir = directory();
    let mut out = Vec::new();
    let stats = run(dir.path(), &query, &mut out, &false.into()).unwrap();
    let lines: Vec<String> = String::from_utf8(out).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(stats.printed, lines.len() as u64);
    (lines, stats)
}

/// The numbers of the lines found, in the order in which they were found.
fn numbers(lines: &[String]) -> Vec<u64> {
    let number = |line: &String| line.split("number ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    lines.iter().map(number).collect()
}

fn wanted(matches: impl Fn(u64) -> bool) -> Vec<u64> {
    (0..3000).filter(|at| matches(*at)).collect()
}

#[test]
fn everything_in_the_order_of_time() {
    let (lines, stats) = query(LogQuery::default());
    assert_eq!(numbers(&lines), wanted(|_| true));
    assert_eq!(stats.row_groups_pruned, 0);
}

#[test]
fn by_time_and_files_of_other_hours_stay_closed() {
    let from = |at: u64| START_NS + at * 4 * SECOND_NS;
    let (lines, stats) = query(LogQuery { from_ns: Some(from(100)), to_ns: Some(from(200)), ..LogQuery::default() });
    assert_eq!(numbers(&lines), wanted(|at| (100..200).contains(&at)));
    // Two segments have rows of that hour; the second's are all later.
    assert_eq!((stats.files, stats.row_groups, stats.row_groups_pruned), (2, 1, 1));
    let (lines, _) = query(LogQuery { from_ns: Some(from(1990)), to_ns: Some(from(2010)), ..LogQuery::default() });
    assert_eq!(numbers(&lines), wanted(|at| (1990..2010).contains(&at)), "over the end of what is in Parquet");
    let (lines, stats) = query(LogQuery { to_ns: Some(START_NS - HOUR_NS), ..LogQuery::default() });
    assert_eq!((lines.len(), stats.files), (0, 0));
}

#[test]
fn by_host_severity_regex_and_fields() {
    let (lines, _) = query(LogQuery { host: Some("b".into()), ..LogQuery::default() });
    assert_eq!(numbers(&lines), wanted(|at| at % 3 == 1));
    let (lines, _) = query(LogQuery { host: Some("0.0.0.2".into()), ..LogQuery::default() });
    assert_eq!(numbers(&lines), wanted(|at| at % 3 == 2), "by its address");
    let (lines, stats) = query(LogQuery { host: Some("nobody".into()), ..LogQuery::default() });
    assert_eq!((lines.len(), stats.row_groups), (0, 0));
    assert!(stats.row_groups_pruned > 0);
    let (lines, _) = query(LogQuery { severity: Some(3), ..LogQuery::default() });
    assert_eq!(numbers(&lines), wanted(|at| at % 8 <= 3));
    let (lines, _) = query(LogQuery { regex: Some(Regex::new("r .*77$").unwrap()), ..LogQuery::default() });
    assert_eq!(numbers(&lines), wanted(|at| at % 100 == 77));
    let fields = |pairs: &[(&str, &str)]| {
        let fields = pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        numbers(&query(LogQuery { fields, ..LogQuery::default() }).0)
    };
    assert_eq!(fields(&[("x.n", "7")]), wanted(|at| at % 10 == 7));
    assert_eq!(fields(&[("x.n", "7"), ("app", "app1")]), wanted(|at| at % 10 == 7));
    assert_eq!(fields(&[("x.n", "7"), ("app", "app0")]), wanted(|_| false));
    assert_eq!(fields(&[("pid", "1234")]), [1234]);
    assert_eq!(fields(&[("format", "rfc5424"), ("src_port", "6665"), ("pid", "2")]), [2]);
    assert_eq!(fields(&[("nothing", "")]), wanted(|_| false));
}

#[test]
fn statistics_rule_out_row_groups_by_severity() {
    let dir = tempfile::tempdir().unwrap();
    let mut spooler = Spooler::create(dir.path(), 0);
    spooler.append(&[Datagram::new(START_NS, 1, 514, b"<15>debug")]);
    spooler.seal();
    Converter::open(config(dir.path())).unwrap().finish(START_NS).unwrap();
    let count = |severity| {
        let query = LogQuery { severity: Some(severity), ..LogQuery::default() };
        run(dir.path(), &query, &mut Vec::new(), &false.into()).unwrap()
    };
    assert_eq!((count(6).printed, count(6).row_groups, count(6).row_groups_pruned), (0, 0, 1));
    assert_eq!((count(7).printed, count(7).row_groups, count(7).row_groups_pruned), (1, 1, 0));
}

#[test]
fn a_stopped_query_ends() {
    let dir = directory();
    for follow in [false, true] {
        let stats = run(dir.path(), &LogQuery { follow, ..LogQuery::default() }, &mut Vec::new(), &true.into());
        assert_eq!(stats.unwrap().printed, 0);
    }
}

#[test]
fn a_directory_without_anything() {
    let dir = tempfile::tempdir().unwrap();
    for path in [dir.path(), &dir.path().join("none")] {
        assert_eq!(run(path, &LogQuery::default(), &mut Vec::new(), &false.into()).unwrap(), QueryStats::default());
    }
}

#[test]
fn an_output_that_takes_no_more_is_an_error() {
    struct Full;
    impl io::Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let dir = directory();
    let error = run(dir.path(), &LogQuery::default(), &mut Full, &false.into()).unwrap_err();
    assert!(matches!(error, QueryError::Output(error) if error.kind() == io::ErrorKind::BrokenPipe));
}

fn printed(format: OutputFormat, record: &Record) -> String {
    let mut out = Vec::new();
    let mut printer = Printer::new(&mut out, format, false, false).unwrap();
    printer.record(record).unwrap();
    printer.flush().unwrap();
    drop(printer);
    String::from_utf8(out).unwrap()
}

#[test]
fn formats() {
    let record = Record {
        time_ns: START_NS + 5_000,
        host: "web\u{1b}[2J".into(),
        severity: Some(4),
        facility: Some(1),
        app: "a,b".into(),
        pid: "7".into(),
        message: "one\ntwo \"q\"".into(),
        fields: Fields::from_iter([("k", "v w")]),
        format: Format::Rfc5424,
        flags: Flags::LATE,
        ..Record::default()
    };
    assert_eq!(
        printed(OutputFormat::Text, &record),
        "2023-11-14T22:13:20.000005Z web\\x1b[2J warning a,b[7]: one\n    two \"q\" k=\"v w\" (late)\n"
    );
    let json: serde_json::Value = serde_json::from_str(&printed(OutputFormat::JsonLines, &record)).unwrap();
    assert_eq!(json["time"], "2023-11-14T22:13:20.000005000Z");
    assert_eq!((&json["host"], &json["message"]), (&"web\u{1b}[2J".into(), &"one\ntwo \"q\"".into()));
    assert_eq!((&json["fields"]["k"], json.get("seq"), &json["flags"]), (&"v w".into(), None, &"late".into()));
    let csv = printed(OutputFormat::Csv, &record);
    let (head, row) = csv.split_once("\r\n").unwrap();
    assert!(head.starts_with("time,event_time,"));
    assert_eq!(
        row,
        "2023-11-14T22:13:20.000005000Z,,,0.0.0.0,0,0.0.0.0,0,web\u{1b}[2J,1,4,\"a,b\",7,,,,,,\"one\ntwo \"\"q\"\"\",\"{\"\"k\"\":\"\"v w\"\"}\",rfc5424,late,1\r\n"
    );
}

#[test]
fn gaps_are_listed() {
    let dir = tempfile::tempdir().unwrap();
    let message = |seq: u64, msgid: u64| {
        let line = format!("6,{seq},{seq},-;text\n msgid={msgid}\n");
        Datagram::new(START_NS + seq * SECOND_NS, 9, 6666, line.as_bytes())
    };
    let mut spooler = Spooler::create(dir.path(), 0);
    spooler.append(&[message(1, 1), message(2, 2), message(5, 3)]);
    spooler.seal();
    let mut spooler = Spooler::create(dir.path(), 1);
    spooler.append(&[message(6, 4), message(8, 6)]);
    Converter::open(config(dir.path())).unwrap().step(START_NS).unwrap();
    let list = |format, from_ns| {
        let mut out = Vec::new();
        let query = LogQuery { gaps: true, format, from_ns, ..LogQuery::default() };
        run(dir.path(), &query, &mut out, &false.into()).unwrap();
        String::from_utf8(out).unwrap()
    };
    assert_eq!(
        list(OutputFormat::Text, None),
        "2023-11-14T22:13:25.000000Z 0.0.0.9:6665 -> 127.0.0.1:6666 2 never_sent since 2023-11-14T22:13:22.000000Z, between seq 2 and 5\n\
         2023-11-14T22:13:28.000000Z 0.0.0.9:6665 -> 127.0.0.1:6666 1 lost_on_the_way since 2023-11-14T22:13:26.000000Z, between seq 6 and 8\n"
    );
    assert_eq!(list(OutputFormat::JsonLines, Some(START_NS + 6 * SECOND_NS)).lines().count(), 1);
    assert_eq!(list(OutputFormat::Csv, None).lines().count(), 3);
}

/// Takes what a following query prints, to be looked at meanwhile.
#[derive(Default)]
struct Seen(Mutex<String>);

impl io::Write for &Seen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().push_str(std::str::from_utf8(bytes).unwrap());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seen {
    fn lines(&self) -> Vec<u64> {
        numbers(&self.0.lock().unwrap().lines().map(str::to_owned).collect::<Vec<_>>())
    }

    /// Waits until `count` lines are there. The limit only ends a test that has failed.
    fn wait_for(&self, count: usize) {
        let start = Instant::now();
        while self.lines().len() < count {
            assert!(start.elapsed() < Duration::from_secs(30), "{:?}", self.lines());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Lines come once each while segments roll, are converted, and vanish from under the reader.
#[test]
fn following_goes_on_over_segments_and_conversions() {
    let dir = tempfile::tempdir().unwrap();
    let (seen, stop) = (Seen::default(), AtomicBool::new(false));
    let query = LogQuery { follow: true, ..LogQuery::default() };
    let mut converter = Converter::open(config(dir.path())).unwrap();
    std::thread::scope(|scope| {
        let follower = scope.spawn(|| run(dir.path(), &query, &mut &seen, &stop));
        let mut next = 0;
        for segment in 0..6 {
            let mut spooler = Spooler::create(dir.path(), segment);
            for _ in 0..3 {
                let lines: Vec<_> = (next..next + 10).map(line).collect();
                spooler.append(&lines);
                next += 10;
                if segment != 3 {
                    seen.wait_for(next as usize);
                }
            }
            // Two segments are converted and removed before the follower may have come to them.
            spooler.seal();
            if segment != 2 {
                while converter.step(START_NS).unwrap() != Step::Idle {}
            }
        }
        seen.wait_for(180);
        stop.store(true, Ordering::Relaxed);
        let stats = follower.join().unwrap().unwrap();
        assert_eq!(stats.printed, 180);
    });
    assert_eq!(seen.lines(), (0..180).collect::<Vec<_>>());
}

/// A message begins in one segment and ends in the next, and the converter takes both away before the
/// follower has come to the second: it is whole, and there once.
#[test]
fn following_does_not_tear_or_double_what_spans_segments() {
    let dir = tempfile::tempdir().unwrap();
    let (seen, stop) = (Seen::default(), AtomicBool::new(false));
    let query = LogQuery { follow: true, ..LogQuery::default() };
    let mut converter = Converter::open(config(dir.path())).unwrap();
    let half = |number: u64, first: bool| {
        let (offset, text) = if first { (0, "number ") } else { (7, "") };
        let body = if first { text.to_owned() } else { format!("{number:03} end\n") };
        let line = format!("6,{number},{},-,ncfrag={offset}/15;{body}", number * 1000);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Datagram::new(now.as_nanos() as u64, 1, 6666, line.as_bytes())
    };
    std::thread::scope(|scope| {
        let follower = scope.spawn(|| run(dir.path(), &query, &mut &seen, &stop));
        let mut spooler = Spooler::create(dir.path(), 0);
        for number in 0..20 {
            spooler.append(&[half(number, true)]);
            // Time to be read in every second round only.
            std::thread::sleep(Duration::from_millis(if number % 2 == 0 { 150 } else { 0 }));
            spooler.seal();
            spooler = Spooler::create(dir.path(), number + 1);
            spooler.append(&[half(number, false)]);
            if number % 3 > 0 {
                while converter.step(START_NS).unwrap() != Step::Idle {}
            }
        }
        spooler.seal();
        while converter.step(START_NS).unwrap() != Step::Idle {}
        let _live = Spooler::create(dir.path(), 21);
        seen.wait_for(20);
        // Were there a half that waits in vain, its time-out would show it.
        std::thread::sleep(Duration::from_millis(1500));
        stop.store(true, Ordering::Relaxed);
        follower.join().unwrap().unwrap();
    });
    let mut lines = seen.lines();
    lines.sort_unstable();
    assert_eq!(lines, (0..20).collect::<Vec<_>>());
    assert!(!seen.0.lock().unwrap().contains("lost"));
}

#[test]
fn following_begins_with_what_is_there() {
    let dir = directory();
    let (seen, stop) = (Seen::default(), AtomicBool::new(false));
    let query = LogQuery { follow: true, severity: Some(0), ..LogQuery::default() };
    std::thread::scope(|scope| {
        let follower = scope.spawn(|| run(dir.path(), &query, &mut &seen, &stop));
        seen.wait_for(375);
        stop.store(true, Ordering::Relaxed);
        follower.join().unwrap().unwrap();
    });
    assert_eq!(seen.lines(), wanted(|at| at % 8 == 0));
}

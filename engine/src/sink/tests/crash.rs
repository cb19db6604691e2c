//! `kill -9` at random moments: what was counted as stored is readable afterwards.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
};

use super::{
    super::spool::{Segment, SegmentReader, segments},
    *,
};

const KILLS: u64 = 50;
const DIR: &str = "NETPOLL_CRASH_TEST_DIR";
const RUN: &str = "NETPOLL_CRASH_TEST_RUN";

fn config(dir: &Path, run: u64) -> SinkConfig {
    let sync = match run % 3 {
        0 => SyncPolicy::Never,
        1 => SyncPolicy::EveryBatch,
        _ => SyncPolicy::Every(Duration::from_millis(10)),
    };
    SinkConfig {
        spool: Some(SpoolConfig { roll_bytes: 1 << 20, ..SpoolConfig::default() }),
        sync,
        ledger_interval: Duration::from_millis(20),
        flush_interval: Duration::from_millis(2),
        batch_rows: 512,
        batch_bytes: 64 << 10,
        min_free_bytes: 0,
        ..SinkConfig::new(dir)
    }
}

/// The process that gets killed: delivers numbered datagrams as fast as the writer takes them, and says
/// how many are stored.
fn victim(dir: &Path, run: u64) -> ! {
    let sink = Sink::open(config(dir, run)).unwrap();
    assert_settled(&sink.ledger());
    let mut lane = Lane::new(&sink);
    let mut number = 0u64;
    let mut out = std::io::stdout();
    loop {
        for _ in 0..8 {
            let payloads: Vec<_> = (0..64).map(|i| payload(run, number + i)).collect();
            number += 64;
            lane.deliver(1, payloads.iter().map(Vec::as_slice));
        }
        while sink.stats().writer.taken_rows + 4096 < number {
            std::thread::sleep(Duration::from_micros(200));
            lane.tick();
        }
        writeln!(out, "stored {}", sink.ledger().stored).unwrap();
    }
}

fn payload(run: u64, number: u64) -> Vec<u8> {
    let mut payload = format!("<14>{run} {number} ").into_bytes();
    payload.resize(60 + (number % 200) as usize, b'.');
    payload
}

/// What is in the spool: rows of finished segments are checked, counted and the segments removed, as the
/// converter does; the rest is only counted.
struct Census {
    removed_rows: u64,
    /// The last row seen of each run: rows ascend, so none is there twice.
    last: Vec<Option<u64>>,
}

impl Census {
    fn take(&mut self, dir: &Path) -> u64 {
        let mut rows = self.removed_rows;
        let mut last = self.last.clone();
        for Segment { path, .. } in segments(dir).unwrap() {
            let mut reader = SegmentReader::open(&path).unwrap();
            let before = rows;
            while let Some(batch) = reader.next_batch().unwrap() {
                for row in batch.iter() {
                    rows += 1;
                    let text = std::str::from_utf8(row.payload).unwrap();
                    let (run, number) = text[4..].trim_end_matches('.').trim_end().split_once(' ').unwrap();
                    let (run, number) = (run.parse::<u64>().unwrap(), number.parse::<u64>().unwrap());
                    assert_eq!(row.payload, payload(run, number));
                    let last = &mut last[run as usize];
                    assert!(last.is_none_or(|last| last < number), "run {run}: {number} after {last:?}");
                    *last = Some(number);
                }
            }
            if reader.is_finished() {
                self.removed_rows += rows - before;
                self.last = last.clone();
                std::fs::remove_file(&path).unwrap();
            }
        }
        rows
    }
}

#[test]
fn what_was_stored_survives_kill_9() {
    if let (Some(dir), Ok(run)) = (std::env::var_os(DIR), std::env::var(RUN)) {
        victim(Path::new(&dir), run.parse().unwrap());
    }
    let dir = tempfile::tempdir().unwrap();
    let mut census = Census { removed_rows: 0, last: vec![None; KILLS as usize + 1] };
    let mut random = u64::from(std::process::id()).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut stored_by_victims = 0;
    for run in 1..=KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sink::tests::crash::what_was_stored_survives_kill_9", "--nocapture"])
            .env(DIR, dir.path())
            .env(RUN, run.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let reader = std::thread::spawn(move || {
            let mut stored = 0;
            for line in output.lines().map_while(Result::ok) {
                if let Some(count) = line.strip_prefix("stored ").and_then(|count| count.parse().ok()) {
                    stored = count;
                }
            }
            stored
        });
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_micros(20_000 + (random >> 33) % 180_000));
        child.kill().unwrap();
        child.wait().unwrap();
        let stored: u64 = reader.join().unwrap();
        let readable = census.take(dir.path());
        assert!(readable >= stored, "run {run}: {stored} were stored, {readable} are readable");
        stored_by_victims = stored_by_victims.max(stored);
    }
    let sink = Sink::open(config(dir.path(), 0)).unwrap();
    let ledger = sink.stop();
    assert_settled(&ledger);
    // Not only no less: exactly what is readable counts as stored.
    assert_eq!(census.take(dir.path()), ledger.stored, "{ledger}");
    assert!(stored_by_victims > 10_000, "the victims stored next to nothing: {stored_by_victims}");
}

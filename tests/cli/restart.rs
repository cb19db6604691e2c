//! `kill -9` under load, through the program: what was counted as stored is there, once, and the ledger goes on.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    ring::{Ring, logs},
    support::*,
};

/// Terms of the ledger file.
fn ledger(out: &Path) -> BTreeMap<String, u64> {
    let text = fs::read_to_string(out.join("ledger")).unwrap();
    let terms = text.lines().filter_map(|line| line.split_once(' '));
    terms.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()
}

fn numbers(out: &Path) -> Vec<u32> {
    let number = |record: &serde_json::Value| {
        record["message"].as_str().unwrap().strip_prefix("line ").unwrap().parse::<u32>().unwrap()
    };
    logs(out, &[]).iter().map(number).collect()
}

#[test]
fn killed_under_load_nothing_stored_is_lost_or_doubled() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let sink = "listen = \"514-515\"\noutputs = [\"parquet\"]\nflush_interval_ms = 5\nsync = { every_ms = 20 }\n\
                limits = { segment_age_s = 1, segment_bytes = 1048576 }";
    let next = Arc::new(AtomicU32::new(0));
    let (mut stored, mut delivered) = (0, 0);
    for round in 0..5_u64 {
        let it = Ring::start(dir.path(), sink);
        let (stop, counter) = (Arc::new(AtomicBool::new(false)), next.clone());
        let (mut fifo, stopped) = (it.fifo_without_waiting(0), stop.clone());
        let writer = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let from = counter.fetch_add(100, Ordering::Relaxed);
                // Less than PIPE_BUF: all of it is taken, or nothing. While the pipe is full, and once its reader is
                // dead, these numbers are never sent.
                let text: String = (from..from + 100).map(|number| format!("<14>line {number:06}\n")).collect();
                match fifo.write(text.as_bytes()) {
                    Ok(count) => assert_eq!(count, text.len()),
                    Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
                }
                std::thread::sleep(Duration::from_millis(4));
            }
        });
        // Past some conversions or in the middle of one, at another place each time.
        let until = Instant::now() + Duration::from_millis(400 + 370 * round);
        wait_until("something is stored anew", || ledger(&out)["stored"] > stored);
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
        it.running.signal("KILL");
        let counted = ledger(&out);
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap();
        let run = it.running.end();
        assert_eq!(run.code, None, "it was killed: {run:#?}");

        // Read before anything is put in order.
        let mut found = numbers(&out);
        assert!(found.len() as u64 >= counted["stored"], "{} of {counted:?}", found.len());
        let all = found.len();
        found.sort_unstable();
        found.dedup();
        assert_eq!(found.len(), all, "a line twice in round {round}");
        assert!(counted["stored"] >= stored && counted["delivered"] >= delivered, "the ledger went back: {counted:?}");
        stored = counted["stored"];
        delivered = counted["delivered"];
    }
    // The last run ends in order: all that there is becomes Parquet.
    let mut it = Ring::start(dir.path(), sink);
    let from = next.load(Ordering::Relaxed);
    it.send(1, from..from + 1000);
    let run = it.end(1000);
    let sums = ledger(&out);
    assert!(sums["stored"] >= stored + 1000 && sums["clean"] == 1, "{sums:?}");
    let drops: u64 = sums.iter().filter(|(name, _)| name.starts_with("drop.")).map(|(_, count)| count).sum();
    assert_eq!(sums["delivered"], sums["stored"] + drops);
    let found = numbers(&out);
    assert_eq!(found.len() as u64, sums["stored"], "{sums:?}");
    let distinct: std::collections::BTreeSet<_> = found.iter().collect();
    assert_eq!(distinct.len(), found.len(), "each line once");
    assert!((from..from + 1000).all(|number| distinct.contains(&number)));
    assert!(
        run.stdout.contains(&format!("{} records = {} rows in Parquet files", found.len(), found.len())),
        "{run:#?}"
    );
    assert_eq!(fs::read_dir(out.join("spool")).unwrap().count(), 0);
}

//! SIGHUP, under traffic.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    ring::{Ring, logs},
    support::*,
};

/// All that the text files hold, in order.
fn texts(dir: &Path) -> String {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let is_text = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("netpoll.log");
    let mut files: Vec<_> = files.filter(is_text).collect();
    // Rolled ones by time, the live one last.
    files.sort_by_key(|path| (path.file_name().unwrap() == "netpoll.log", path.clone()));
    files.iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}

/// Filter, limits and an output change while lines come; the ledger shows each of them, and what was refused changed
/// nothing.
#[test]
fn run_reloads_filter_limits_and_outputs_without_losing_a_frame() {
    let narrow = "listen = \"514\"\noutputs = [\"parquet\"]";
    let dir = tempfile::tempdir().unwrap();
    let mut it = Ring::start(dir.path(), narrow);
    it.send(0, 0..5000);
    // Bad ones first: named, and nothing changes.
    let said = it.reload("listen = \"514\"\nflush_interval_ms = 0", "not reloaded, going on as before: ");
    assert!(said.contains("sink.flush_interval_ms: found 0, expected a whole number from 1"), "{said}");
    let batches = format!("{narrow}\nlimits = {{ batches_per_queue = 3 }}");
    let said = it.reload(&batches, "not reloaded, going on as before: ");
    assert!(said.contains("sink.limits.batches_per_queue has changed, and only a restart changes it"), "{said}");
    it.send(0, 5000..10_000);
    it.send(1, 0..1000);
    // What is still in a pipe or a ring would meet the next filter.
    it.until_arrived(11_000);
    // Now for real, twice, while lines are on their way.
    let wide = "listen = \"514-515\"\noutputs = [\"parquet\", \"text\"]\nflush_interval_ms = 20\n\
                limits = { segment_age_s = 1, min_free_bytes = 1 }";
    it.reload(wide, "reloaded: ");
    it.send(0, 10_000..15_000);
    it.send(1, 1000..3000);
    it.reload(&wide.replace("514-515", "515"), "reloaded: ");
    it.send(1, 3000..4000);
    let out = it.out();
    let run = it.end(19_000);
    let (delivered, other_port) = (run.count("delivered"), run.count("not_local_port"));
    assert!(run.stdout.contains("client to514: lines to send: 15000 = 15000 submitted"), "{run:#?}");
    assert!(run.stdout.contains("client to515: lines to send: 4000 = 4000 submitted"), "{run:#?}");
    assert_eq!(delivered + other_port, 19_000, "{run:#?}");
    assert_eq!(run.count("stored"), delivered, "nothing was dropped: {run:#?}");
    let numbers = |port: &str| {
        let number = |record: &serde_json::Value| {
            record["message"].as_str().unwrap().strip_prefix("line ").unwrap().parse::<u32>().unwrap()
        };
        logs(&out, &["--field", port]).iter().map(number).collect::<Vec<_>>()
    };
    let (to_514, to_515) = (numbers("dst_port=514"), numbers("dst_port=515"));
    assert_eq!((to_514.len() + to_515.len()) as u64, delivered);
    // All of the first two rounds, whatever was refused in between; none twice, none out of order.
    assert!(to_514.is_sorted_by(|a, b| a < b) && to_514[..10_000].iter().copied().eq(0..10_000));
    // Of the other port none before the reload, and all of the last round.
    assert!(to_515.is_sorted_by(|a, b| a < b) && to_515.ends_with(&(3000..4000).collect::<Vec<_>>()));
    assert!(to_515.iter().all(|number| *number >= 1000));
}

#[test]
fn sink_begins_new_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(["sink", "--vdev", "net_null0", "--listen", "514", "--stats", "0", "--out"]).arg(dir.path());
    let mut running = Running::start(&mut command);
    running.until("ready: ");
    fs::rename(dir.path().join("netpoll.log"), dir.path().join("netpoll.log.1")).unwrap();
    running.signal("HUP");
    running.until("rolled: ");
    wait_until("a new file", || dir.path().join("netpoll.log").exists());
    running.signal("TERM");
    running.end().ends(0).balances();
    assert!(dir.path().join("netpoll.log.1").exists());
}

/// Text only: the file rolls with each SIGHUP, and the lines are all there, once, in order.
#[test]
fn run_rolls_its_text_under_traffic() {
    let sink = "listen = \"514\"\nflush_interval_ms = 5";
    let dir = tempfile::tempdir().unwrap();
    let mut it = Ring::start(dir.path(), sink);
    for round in 0..5 {
        it.send(0, round * 2000..(round + 1) * 2000);
        it.reload(sink, "reloaded: ");
    }
    let out = it.out();
    let run = it.end(10_000);
    assert_eq!((run.count("delivered"), run.count("stored")), (10_000, 10_000), "{run:#?}");
    let numbers: Vec<u32> = texts(&out).lines().map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
    assert_eq!(numbers, (0..10_000).collect::<Vec<_>>());
}

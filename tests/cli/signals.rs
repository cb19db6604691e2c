//! SIGINT and SIGTERM: the first ends everything in order, the second at once.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use super::support::*;

/// The best of a few tries: on a machine that does other things too, a single one says little.
#[test]
fn a_signal_ends_it_in_order_within_a_second() {
    for name in ["TERM", "INT"] {
        let best = (0..5).map(|_| time_to_end(name)).find(|took| *took < Duration::from_secs(1));
        assert!(best.is_some(), "SIG{name}: never within a second");
    }
}

fn time_to_end(signal: &str) -> Duration {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(["sink", "--vdev", "net_null0", "--listen", "514", "--stats", "0", "--out"]).arg(dir.path());
    let mut running = Running::start(&mut command);
    running.until("ready: ");
    running.signal(signal);
    let start = Instant::now();
    running.end().ends(0).balances();
    start.elapsed()
}

#[test]
fn a_demo_can_be_interrupted() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(["demo", "--seconds", "15", "--rate", "50000", "--out"]).arg(dir.path());
    let running = Running::start(&mut command);
    running.until_it_handles_signals();
    std::thread::sleep(Duration::from_secs(1));
    running.signal("INT");
    let run = running.end().ends(0).balances();
    let lines = lines_in(&dir.path().join("netpoll.log"));
    assert!(lines < 500_000 && run.count("submitted") == lines, "{lines}: {run:#?}");
}

/// Lines that were read and not submitted are told.
#[test]
fn send_can_be_interrupted_while_it_waits_for_input() {
    let mut command = Command::new(PROGRAM);
    command.args(["send", "--vdev", "net_null0", "@10.99.0.1/,@10.99.0.2/"]);
    let running = Running::start(&mut command);
    running.until_it_handles_signals();
    running.signal("TERM");
    // Its standard input stays open until it has ended: nothing else ends it.
    running.end_with_input_open().ends(0).balances();
}

#[test]
fn the_second_signal_ends_it_at_once() {
    let mut command = Command::new(PROGRAM);
    command.args(["demo", "--seconds", "15", "--rate", "1000"]);
    let dir = tempfile::tempdir().unwrap();
    command.env("TMPDIR", dir.path());
    let running = Running::start(&mut command);
    running.until_it_handles_signals();
    // One right after the other: the second finds it on its way to the ledger at the furthest.
    running.signal_twice("TERM");
    let run = running.end();
    assert_eq!(run.code, Some(1), "{run:#?}");
    assert!(!run.stdout.contains("The ledger") && run.stderr.is_empty(), "{run:#?}");
}

//! `netpoll check` and `netpoll run`.

use std::{fs, process::Command};

use super::support::*;

const GOOD: &str = "\
[log]
ledger_interval_s = 0
[[port]]
name = \"null0\"
device = \"net_null0\"
ip = \"10.99.0.1/24\"
[[sink]]
listen = \"514,6666\"
out = \"OUT\"
[[client]]
name = \"lines\"
target = \"+6665@/null0,514@10.99.0.2/\"
input = \"INPUT\"
on_full = { wait_us = 100000 }
";

#[test]
fn a_good_file_is_shown_as_what_it_comes_to() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("netpoll.toml");
    fs::write(&file, GOOD).unwrap();
    let file = file.to_str().unwrap();
    let run = netpoll(&["check", "-c", file]).ends(0);
    for words in [
        "port     null0      net_null0, ip 10.99.0.1/24",
        "sink     null0      udp 514,6666 -> OUT (text)",
        "client   lines      INPUT -> 10.99.0.1:6665 -> 10.99.0.2:514 (broadcast, extended) on null0",
        &format!("{file}: no mistake found"),
    ] {
        assert!(run.stdout.contains(words), "{words}: {run:#?}");
    }
    let json = netpoll(&["check", "-c", file, "--log-format", "json"]).ends(0).json();
    assert_eq!((json.len(), &json[0]["ok"], &json[0]["clients"]), (1, &true.into(), &1.into()));
}

#[test]
fn a_bad_file_is_told_place_by_place() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("netpoll.toml");
    fs::write(&file, "[[port]]\nname = \"a\"\ndevice = \"net_null0\"\nqueues = 0\ncolour = 1\n").unwrap();
    let file = file.to_str().unwrap();
    let expected = format!(
        "{file}:4:10: port.queues: found 0, expected a whole number from 1 to 64
  4 | queues = 0
    |          ^
{file}:5:1: port.colour: "
    );
    for command in ["check", "run"] {
        let run = netpoll(&[command, "-c", file]).ends(2);
        assert!(run.stderr.starts_with(&expected) && run.stdout.is_empty(), "{run:#?}\n{expected}");
    }
    let run = netpoll(&["check", "-c", "/no/such.toml"]).ends(2);
    assert!(run.stderr.starts_with("/no/such.toml: cannot read the config file"), "{run:#?}");
    fs::write(file, GOOD.replace("out = ", "outputs = [\"parquet\"]\nformat = \"514=syslog\"\nout = ")).unwrap();
    netpoll(&["check", "-c", file]).ends(0);
    fs::write(file, GOOD.replace("out = ", "outputs = [\"parquet\"]\nformat = \"514=sislog\"\nout = ")).unwrap();
    assert!(netpoll(&["check", "-c", file]).ends(2).stderr.contains("514=syslog"));
}

/// Lines through a FIFO that one writer after another opens, until SIGTERM.
#[test]
fn run_sends_the_lines_of_a_fifo() {
    let dir = tempfile::tempdir().unwrap();
    let (file, fifo, out) = (dir.path().join("netpoll.toml"), dir.path().join("lines"), dir.path().join("out"));
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let text = GOOD.replace("OUT", out.to_str().unwrap()).replace("INPUT", fifo.to_str().unwrap());
    fs::write(&file, text).unwrap();
    let mut running = Running::start(Command::new(PROGRAM).args(["run", "-c"]).arg(&file));
    let ready = running.until("ready: port null0 (net_null) ");
    assert!(ready.contains(" 10.99.0.1/24, listening on udp 514,6666, writing to "), "{ready}");
    for number in 0..3 {
        fs::write(&fifo, format!("line {number}\nanother\n")).unwrap();
    }
    running.until("client lines: ");
    // The last write has returned: its lines are in the FIFO, and the reader takes them at once.
    std::thread::sleep(std::time::Duration::from_millis(500));
    running.signal("TERM");
    let run = running.end().ends(0).balances();
    assert!(run.stdout.contains("client lines: lines to send: 6 = 6 submitted + 0 left"), "{run:#?}");
    assert_eq!(run.count("submitted"), 6);
    assert!(out.join("netpoll.log").exists());
}

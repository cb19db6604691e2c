//! Faults for real, under the running program: what `docs/faults.md` promises.

use std::{
    fs,
    process::{Command, Output},
    time::{Duration, Instant},
};

use super::support::*;

/// A sink on a TAP of its own, in a network namespace of its own.
struct TapSink {
    running: Running,
    dir: tempfile::TempDir,
}

impl TapSink {
    fn start(tap: &str, more: &[&str]) -> TapSink {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("unshare");
        command.args(["--net", PROGRAM, "sink", "--vdev", &format!("net_tap0,iface={tap}"), "--ip", "10.99.0.1/24"]);
        command.args(["--listen", "514", "--stats", "1", "--log-format", "json"]).args(more);
        command.args(["--duration", "120", "--out"]).arg(dir.path());
        let mut running = Running::start(&mut command);
        running.until_line("it is ready", |line| line.contains(r#""event":"ready""#));
        let sink = TapSink { running, dir };
        sink.inside(&["ip", "addr", "add", "10.99.0.2/24", "dev", tap]);
        sink.inside(&["ip", "link", "set", tap, "up"]);
        sink
    }

    fn try_inside(&self, args: &[&str]) -> Output {
        let pid = self.running.pid().to_string();
        Command::new("nsenter").args(["-t", &pid, "-n", "--"]).args(args).output().expect("nsenter")
    }

    #[track_caller]
    fn inside(&self, args: &[&str]) {
        let output = self.try_inside(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
    }

    #[track_caller]
    fn log(&self, numbers: std::ops::Range<u32>) {
        for number in numbers {
            self.inside(&["logger", "-d", "-n", "10.99.0.1", "-P", "514", "-t", "test", &format!("line {number} ")]);
        }
    }

    #[track_caller]
    fn wait_for_lines(&self, count: u64) {
        let limit = Instant::now() + Duration::from_secs(60);
        while lines_in(&self.dir.path().join("netpoll.log")) < count {
            assert!(Instant::now() < limit, "{count} lines did not come");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn a_link_that_goes_down_and_up_under_a_running_sink() {
    if !is_root("a link that goes down") {
        return;
    }
    let mut sink = TapSink::start("npflt0", &[]);
    sink.log(0..20);
    sink.wait_for_lines(20);
    sink.inside(&["ip", "link", "set", "npflt0", "down"]);
    sink.running.until_line("the link is down", |line| line.contains(r#""up":false"#));
    sink.inside(&["ip", "link", "set", "npflt0", "up"]);
    sink.running.until_line("the link is up", |line| line.contains(r#""up":true"#));
    // The kernel has forgotten us: it asks again.
    sink.log(20..40);
    sink.wait_for_lines(40);
    sink.running.signal("TERM");
    let TapSink { running, dir } = sink;
    let run = running.end().ends(0);
    let ledger = run.json().pop().unwrap();
    assert_eq!((&ledger["event"], &ledger["balanced"]), (&"ledger".into(), &true.into()), "{run:#?}");
    assert_eq!(ledger["npflt0.rx"]["endings"]["delivered"], 40, "{run:#?}");
    let text = fs::read_to_string(dir.path().join("netpoll.log")).unwrap();
    assert!(text.lines().enumerate().all(|(n, line)| line.contains(&format!("line {n} "))), "{text}");
}

/// The interface goes away for good: the program says so, goes on, and ends in order.
#[test]
fn an_interface_that_is_deleted_under_a_running_sink() {
    if !is_root("an interface that is deleted") {
        return;
    }
    let mut sink = TapSink::start("npflt1", &[]);
    sink.log(0..5);
    sink.wait_for_lines(5);
    sink.inside(&["ip", "link", "del", "npflt1"]);
    sink.running.until_line("the link is down", |line| line.contains(r#""up":false"#));
    sink.running.signal("TERM");
    let run = sink.running.end().ends(0);
    let ledger = run.json().pop().unwrap();
    assert_eq!((&ledger["event"], &ledger["balanced"]), (&"ledger".into(), &true.into()), "{run:#?}");
    assert_eq!(ledger["npflt1.rx"]["endings"]["delivered"], 5, "{run:#?}");
}

#[test]
fn more_hugepages_than_there_are_is_an_error_that_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    // A terabyte.
    let args = ["sink", "--vdev", "net_null0", "--hugepages", "--megabytes", "1048576", "--listen", "514", "--out"];
    let run = netpoll(&[&args[..], &[out.to_str().unwrap()]].concat()).ends(1);
    for words in ["vm.nr_hugepages", "--no-huge", "hugepages"] {
        assert!(run.stderr.contains(words), "{words}: {run:#?}");
    }
    assert!(!out.exists(), "nothing was begun");
}

//! `--user`, `--no-sandbox`, `[security]`, the systemd unit.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::Path,
    process::Command,
};

use super::support::*;

const NOBODY: &str = "65534";

/// A temporary folder that others may look into.
fn open_folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

fn sink(out: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(["sink", "--no-huge", "--vdev", "net_null0", "--listen", "514", "--stats", "0", "--out"]).arg(out);
    command.args(arguments);
    command
}

/// What the kernel says of each thread under that key.
fn threads(pid: u32, key: &str) -> Vec<String> {
    let of = |entry: std::io::Result<fs::DirEntry>| {
        let status = fs::read_to_string(entry.unwrap().path().join("status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix(key)).map(|value| value.trim().to_owned())
    };
    fs::read_dir(format!("/proc/{pid}/task")).unwrap().filter_map(of).collect()
}

#[test]
fn a_sink_is_confined_unless_told_otherwise() {
    let dir = open_folder();
    for (arguments, mode) in [(&[][..], "2"), (&["--no-sandbox"], "0")] {
        let mut running = Running::start(&mut sink(&dir.path().join("out"), arguments));
        running.until("ready: ");
        assert!(threads(running.pid(), "Seccomp:").iter().all(|value| value == mode), "{arguments:?}");
        running.signal("HUP");
        running.until("rolled: ");
        running.signal("TERM");
        let run = running.end().ends(0).balances();
        let steps = run.stderr.lines().filter(|line| line.contains("sandbox: ")).count();
        assert_eq!(steps, if mode == "2" { 3 } else { 1 }, "a line a step: {run:#?}");
    }
}

/// The scheduling policy of the thread whose name is so.
fn policy(pid: u32, is_it: impl Fn(&str) -> bool) -> Option<String> {
    fs::read_dir(format!("/proc/{pid}/task")).unwrap().find_map(|task| {
        let read = |file: &str| fs::read_to_string(task.as_ref().unwrap().path().join(file)).ok();
        if !is_it(read("comm")?.trim()) {
            return None;
        }
        // Field 41 of stat; the third one follows the name.
        read("stat")?.rsplit_once(')')?.1.split_whitespace().nth(38).map(str::to_owned)
    })
}

/// An lcore that shares its CPU loses frames while it waits for others; as a real-time thread it does not wait.
#[test]
fn lcores_that_sleep_are_real_time_threads_where_they_may() {
    const TEST: &str = "lcores_that_sleep_are_real_time_threads_where_they_may";
    if !is_root(TEST) {
        return;
    }
    const OTHER: &str = "0";
    const ROUND_ROBIN: &str = "2";
    let dir = open_folder();
    let with = |name: &str, arguments: &[&str]| sink(&dir.path().join(name), arguments);
    let by = |program: &str, arguments: &[&str], sink: &Command| {
        let mut command = Command::new(program);
        command.args(arguments).arg(sink.get_program()).args(sink.get_args());
        command
    };
    let none = ["--bounding-set", "-sys_nice,-sys_resource"];
    for (mut command, expected, told) in [
        (with("plain", &[]), ROUND_ROBIN, false),
        (with("user", &["--user", NOBODY]), ROUND_ROBIN, false),
        (by("setpriv", &none, &with("weak", &[])), OTHER, true),
        (with("told", &["--no-real-time"]), OTHER, false),
        (with("busy", &["--idle", "busy"]), OTHER, false),
        // Somebody has chosen already.
        (by("chrt", &["--batch", "0"], &with("chosen", &[])), "3", true),
    ] {
        let mut running = Running::start(&mut command);
        running.until("ready: ");
        let lcore = || policy(running.pid(), |name| name.starts_with("poll-"));
        wait_until("the lcore has slept, if it does", || lcore().is_some_and(|policy| policy == expected));
        assert_eq!(
            policy(running.pid(), |name| name == "netpoll-writer").as_deref(),
            Some(if expected == "3" { "3" } else { OTHER })
        );
        running.signal("TERM");
        let run = running.end().ends(0).balances();
        assert_eq!(run.stderr.contains("poll loops do not become real-time threads"), told, "{run:#?}");
    }
}

#[test]
fn a_generators_receiver_is_confined_and_still_writes_its_histogram() {
    let dir = open_folder();
    let mut command = Command::new(PROGRAM);
    command.args(["pktgen", "--receive", "--no-huge", "--vdev", "net_null0,no-rx=1"]);
    let mut running = Running::start(&mut command);
    running.until("ready: ");
    assert!(threads(running.pid(), "Seccomp:").iter().all(|value| value == "2"));
    running.signal("TERM");
    running.end().ends(0).balances();
    // Its file was opened before.
    let hgrm = dir.path().join("latency.hgrm");
    netpoll(&["pktgen", "--rate", "20k", "--count", "200", "--hgrm", hgrm.to_str().unwrap()]).ends(0).balances();
    assert!(fs::read_to_string(&hgrm).unwrap().contains("#[Mean"));
}

#[test]
fn a_config_says_who_it_becomes_and_can_be_read_again() {
    if !is_root("a_config_says_who_it_becomes_and_can_be_read_again") {
        return;
    }
    let dir = open_folder();
    let (file, out) = (dir.path().join("netpoll.toml"), dir.path().join("out"));
    let text = format!(
        "[eal]\nmemory = \"no-huge\"\n[engine]\nreal_time = false\n[[port]]\nname = \"p\"\ndevice = \"net_null0\"\n[[sink]]\nlisten = \"514\"\nout = {out:?}\n\
         [security]\nuser = \"{NOBODY}:{NOBODY}\"\n"
    );
    fs::write(&file, &text).unwrap();
    let mut running = Running::start(Command::new(PROGRAM).args(["run", "-c"]).arg(&file));
    running.until("ready: ");
    for key in ["Uid:", "Gid:"] {
        assert!(threads(running.pid(), key).iter().all(|ids| ids.split_whitespace().all(|id| id == NOBODY)), "{key}");
    }
    assert!(threads(running.pid(), "CapPrm:").iter().all(|set| set.bytes().all(|b| b == b'0')));
    // A new file in its place, as editors do it.
    let fresh = dir.path().join("fresh");
    fs::write(&fresh, text + "[sink.limits]\nsegment_age_s = 7\n").unwrap_or_else(|error| panic!("{error}"));
    fs::rename(&fresh, &file).unwrap();
    running.signal("HUP");
    std::thread::sleep(std::time::Duration::from_millis(300));
    running.signal("TERM");
    let run = running.end().ends(0).balances();
    assert!(!run.stderr.contains("cannot read"), "{run:#?}");
    for entry in fs::read_dir(&out).unwrap() {
        assert_eq!(entry.unwrap().metadata().unwrap().uid().to_string(), NOBODY);
    }
}

#[test]
fn folders_of_others() {
    if !is_root("folders_of_others") {
        return;
    }
    let dir = open_folder();
    let out = dir.path().join("roots");
    fs::create_dir(&out).unwrap();
    let run = Running::start(&mut sink(&out, &["--user", NOBODY])).end().ends(1);
    assert!(run.stderr.contains("chown -R 65534") && run.stderr.contains("roots"), "{run:#?}");

    // Root goes on being above the permissions of such a folder, and says so.
    let out = dir.path().join("nobodys");
    fs::create_dir(&out).unwrap();
    chown(&out, Some(65534), None).unwrap();
    fs::set_permissions(&out, fs::Permissions::from_mode(0o700)).unwrap();
    let mut running = Running::start(&mut sink(&out, &["--no-real-time"]));
    running.until("ready: ");
    assert!(threads(running.pid(), "CapEff:").iter().all(|set| set.trim_start_matches('0') == "2"));
    running.signal("TERM");
    let run = running.end().ends(0).balances();
    assert!(run.stderr.contains("dac_override is kept"), "{run:#?}");
}

#[test]
fn unknown_users_are_refused() {
    let dir = open_folder();
    for (user, words) in
        [("no-such-user", "getent passwd"), ("0:no-such-group", "getent group"), (":", "expected a user")]
    {
        let run = Running::start(&mut sink(&dir.path().join("out"), &["--user", user])).end().ends(2);
        assert!(run.stderr.contains(words), "{run:#?}");
    }
}

/// The unit is one that systemd understands, and exposes little.
#[test]
fn the_systemd_unit() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/netpoll.service");
    let dir = open_folder();
    let copy = dir.path().join("netpoll.service");
    let text = fs::read_to_string(&unit).unwrap();
    assert!(text.contains("/usr/local/bin/netpoll"));
    fs::write(&copy, text.replace("/usr/local/bin/netpoll", PROGRAM)).unwrap();
    let analyze = |arguments: &[&str]| {
        let output = Command::new("systemd-analyze").args(arguments).arg(&copy).output();
        let output = output.expect("systemd-analyze (package systemd; tests/install-deps.sh test installs it)");
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        said.into_owned()
    };
    let said = analyze(&["verify", "--man=no", "--recursive-errors=no"]);
    assert!(!said.contains("netpoll.service"), "nothing to say of it: {said}");
    // 0 is none, 10 all; the threshold counts in tenths.
    analyze(&["security", "--offline=yes", "--threshold=35", "--no-pager"]);
}

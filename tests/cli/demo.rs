//! `netpoll demo`: every frame accounted for, as any user.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use super::support::*;

#[test]
fn the_default_demo_ends_by_itself_and_balances() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let start = Instant::now();
    let run = netpoll(&["demo", "--out", out.to_str().unwrap()]);
    let took = start.elapsed();
    check(run, &out, 500_000);
    assert!(took < Duration::from_secs(20), "{took:?}");
}

/// Both runs on one folder: the second one's ledger is its own, and its lines come after the first one's.
#[test]
fn a_folder_may_be_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().to_str().unwrap();
    let args = ["demo", "--seconds", "1", "--rate", "999", "--clients", "3", "--out", out];
    check(netpoll(&args), dir.path(), 999);
    let run = netpoll(&args).ends(0).balances();
    assert!(run.stdout.contains("the sink: 999 stored = 999 lines in the file"), "{run:#?}");
    assert_eq!(lines_in(&dir.path().join("netpoll.log")), 1998);
}

/// At full speed what is dropped is counted, and nothing is lost count of.
#[test]
fn full_speed_balances() {
    let dir = tempfile::tempdir().unwrap();
    let run = netpoll(&["demo", "--seconds", "2", "--rate", "max", "--out", dir.path().to_str().unwrap()]);
    let run = run.ends(0).balances();
    let submitted = run.count("submitted");
    let in_file = lines_in(&dir.path().join("netpoll.log"));
    assert!(in_file > 0 && in_file <= submitted, "{run:#?}");
    assert!(run.stdout.contains(&format!("{in_file} stored = {in_file} lines in the file")), "{run:#?}");
}

#[test]
fn an_ordinary_user_has_it_too() {
    if !is_root("demo as an ordinary user") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    // Where that user can reach it, wherever the sources are.
    let (program, out) = (dir.path().join("netpoll"), dir.path().join("out"));
    fs::copy(PROGRAM, &program).unwrap();
    let mut command = Command::new("setpriv");
    command
        .args([
            "--reuid",
            "65534",
            "--regid",
            "65534",
            "--clear-groups",
            "--inh-caps=-all",
            "--bounding-set=-all",
            "--",
        ])
        .arg(&program)
        .args(["demo", "--seconds", "1", "--rate", "20000", "--out"])
        .arg(&out)
        // Root's, so not writable: EAL must do without.
        .env("XDG_RUNTIME_DIR", "/root")
        .current_dir("/");
    check(run(&mut command, b""), &out, 20_000);
}

#[test]
fn one_core_is_enough() {
    let dir = tempfile::tempdir().unwrap();
    let cpus = fs::read_to_string("/proc/self/status").unwrap();
    let cpus = cpus.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim().to_owned();
    let first = cpus.split([',', '-']).next().unwrap();
    let mut command = Command::new("taskset");
    command.args(["-c", first, PROGRAM, "demo", "--seconds", "1", "--rate", "20000", "--out"]).arg(dir.path());
    check(run(&mut command, b""), dir.path(), 20_000);
}

/// Without --out: a new folder, whose place it tells.
#[test]
fn json_lines_and_a_folder_of_its_own() {
    let tmp = tempfile::tempdir().unwrap();
    let args = ["demo", "--seconds", "2", "--rate", "1000", "--log-format", "json"];
    let run = run(Command::new(PROGRAM).args(args).env("TMPDIR", tmp.path()), b"").ends(0);
    let events = run.json();
    let of =
        |kind: &str| events.iter().find(|event| event["event"] == kind).unwrap_or_else(|| panic!("{kind}: {run:#?}"));
    assert_eq!(of("ledger")["balanced"], true);
    assert_eq!(of("ledger")["clients"]["submitted"], 2000);
    assert!(of("progress")["stored"].is_u64());
    let file = of("summary")["file"].as_str().unwrap();
    assert!(Path::new(file).starts_with(tmp.path()), "{file}");
    assert_eq!(lines_in(Path::new(file)), 2000);
    assert!(run.stderr.is_empty(), "{run:#?}");
}

/// It ended well, and `count` lines were sent, delivered, stored, and are in the file.
#[track_caller]
fn check(run: Run, out: &Path, count: u64) {
    let run = run.ends(0).balances();
    let file = out.join("netpoll.log");
    assert_eq!((run.count("submitted"), run.count("sent"), run.count("delivered")), (count, count, count), "{run:#?}");
    assert_eq!(lines_in(&file), count);
    assert!(run.stdout.contains(&format!("the sink: {count} stored = {count} lines in the file")), "{run:#?}");
    let first = fs::read_to_string(&file).unwrap().lines().next().unwrap().to_owned();
    let shown: String = first.chars().take(100).collect();
    assert!(run.stdout.contains(&shown) && run.stdout.contains(file.to_str().unwrap()), "{shown}: {run:#?}");
    assert!(run.stderr.contains(" lines sent "), "progress: {run:#?}");
}

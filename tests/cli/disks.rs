//! Disks that fail for real under the running program, with a second port and sink beside: ARP is answered on both, and
//! the other sink's lines are stored, throughout.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use serde_json::Value;

use super::support::*;

/// A file system of its own, taken down with this.
struct Disk {
    dir: tempfile::TempDir,
    frozen: bool,
}

fn done(program: &str, args: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(args).output().map_err(|error| format!("{program}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{program}: {said}")) }
}

impl Disk {
    /// ext4 in a file. An error where there are no loop devices, as in most containers.
    fn ext4() -> Result<Disk, String> {
        let dir = tempfile::tempdir().unwrap();
        let (image, at) = (dir.path().join("image"), dir.path().join("disk"));
        fs::create_dir(&at).unwrap();
        fs::File::create(&image).and_then(|file| file.set_len(32 << 20)).unwrap();
        done("mkfs.ext4", &["-q", "-F", image.to_str().unwrap()])?;
        done("mount", &["-o", "loop", image.to_str().unwrap(), at.to_str().unwrap()])?;
        Ok(Disk { dir, frozen: false })
    }

    fn tmpfs() -> Result<Disk, String> {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("disk");
        fs::create_dir(&at).unwrap();
        done("mount", &["-t", "tmpfs", "-o", "size=8m", "netpoll-test", at.to_str().unwrap()])?;
        Ok(Disk { dir, frozen: false })
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("disk")
    }

    /// Every write waits from now on.
    fn freeze(&mut self) {
        done("fsfreeze", &["-f", self.path().to_str().unwrap()]).unwrap();
        self.frozen = true;
    }

    fn thaw(&mut self) {
        if std::mem::take(&mut self.frozen) {
            done("fsfreeze", &["-u", self.path().to_str().unwrap()]).unwrap();
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.thaw();
        let _ = done("umount", &["-l", self.path().to_str().unwrap()]);
    }
}

/// `netpoll run` with two TAPs, each with a sink, in a network namespace of its own: `bad` writes to the disk, `good`
/// elsewhere.
struct TwoPorts {
    running: Running,
    dir: tempfile::TempDir,
    sent: [u64; 2],
}

/// The port's number in addresses; 0 is `bad`.
const NETS: [(&str, u8); 2] = [("bad", 99), ("good", 98)];

impl TwoPorts {
    fn start(disk: &Path) -> TwoPorts {
        let dir = tempfile::tempdir().unwrap();
        let mut text = "[eal]\nmemory = \"no-huge\"\n[log]\nformat = \"json\"\nledger_interval_s = 1\n".to_owned();
        for ((name, net), out) in NETS.into_iter().zip([disk.join("out"), dir.path().join("out")]) {
            text += &format!(
                "[[port]]\nname = \"{name}\"\ndevice = \"net_tap{net},iface={name}\"\nip = \"10.{net}.0.1/24\"\n\
                 [[sink]]\nport = \"{name}\"\nlisten = \"514\"\nout = {out:?}\n[sink.limits]\nmin_free_bytes = 0\n"
            );
        }
        let config = dir.path().join("netpoll.toml");
        fs::write(&config, text).unwrap();
        let mut command = Command::new("unshare");
        command.args(["--net", PROGRAM, "run", "-c"]).arg(config);
        let mut running = Running::start(&mut command);
        for _ in NETS {
            running.until_line("it is ready", |line| line.contains(r#""event":"ready""#));
        }
        let ports = TwoPorts { running, dir, sent: [0; 2] };
        for (name, net) in NETS {
            ports.inside(&format!("ip addr add 10.{net}.0.2/24 dev {name} && ip link set {name} up"));
        }
        ports
    }

    fn try_inside(&self, script: &str) -> Output {
        let pid = self.running.pid().to_string();
        Command::new("nsenter").args(["-t", &pid, "-n", "--", "bash", "-c", script]).output().expect("nsenter")
    }

    #[track_caller]
    fn inside(&self, script: &str) {
        let output = self.try_inside(script);
        assert!(output.status.success(), "{script}: {output:?}");
    }

    /// A hundred lines to a port.
    #[track_caller]
    fn send(&mut self, port: usize) {
        let (net, from) = (NETS[port].1, self.sent[port]);
        self.inside(&format!(
            "for n in $(seq {from} {}); do echo \"<14>line $n.\" > /dev/udp/10.{net}.0.1/514; done",
            from + 99
        ));
        self.sent[port] += 100;
    }

    /// Reads ledgers until one is as wanted; of the sinks, in this order.
    #[track_caller]
    fn until(&mut self, what: &str, wanted: impl Fn(&Value, &Value) -> bool) -> Value {
        let [bad, good] = NETS.map(|(name, _)| format!("{name}.sink"));
        let wanted = |line: &str| {
            let event: Value = serde_json::from_str(line).unwrap();
            event["event"] == "ledger" && wanted(&event[&bad], &event[&good])
        };
        serde_json::from_str(&self.running.until_line(what, wanted)).unwrap()
    }

    /// Both ports answer ARP (the kernel has to ask) and ping, and what `good` gets is stored.
    #[track_caller]
    fn others_go_on(&mut self) {
        for (name, net) in NETS {
            self.inside(&format!("ip neigh flush dev {name}"));
            wait_until("an answer", || self.try_inside(&format!("ping -q -c 1 -W 1 10.{net}.0.1")).status.success());
        }
        self.send(1);
        let sent = self.sent[1];
        self.until("the good disk", |_, good| good["stored"] == sent);
    }

    /// SIGTERM; the last ledger. What is stored is in the file, and each line once.
    #[track_caller]
    fn end(self, disk: &Path) -> (Run, Value) {
        let [bad, good] = [disk.join("out"), self.dir.path().join("out")];
        let TwoPorts { running, sent, dir: _dir } = self;
        running.signal("TERM");
        let run = running.end();
        let ledger = run.json().into_iter().rfind(|event| event["event"] == "ledger").unwrap();
        assert!(ledger["final"] == true && ledger["balanced"] == true, "{run:#?}");
        assert_eq!(ledger["mbufs"]["outstanding"], 0, "{run:#?}");
        for ((name, _), (sent, out)) in NETS.iter().zip(sent.iter().zip([bad, good])) {
            let sink = &ledger[format!("{name}.sink")];
            assert_eq!(sink["delivered"], *sent, "{run:#?}");
            let text = fs::read_to_string(out.join("netpoll.log")).unwrap();
            let number = |line: &str| line.rsplit("line ").next()?.strip_suffix('.')?.parse::<u64>().ok();
            // The first ones, which waited for ARP in the kernel, may have been overtaken.
            let numbers: BTreeSet<_> = text.lines().map(|line| number(line).expect("a whole line")).collect();
            assert!(text.ends_with('\n') && text.lines().count() == numbers.len(), "{text}");
            assert_eq!(sink["stored"], numbers.len(), "{run:#?}");
        }
        assert_eq!(ledger["good.sink"]["stored"], sent[1], "{run:#?}");
        (run, ledger)
    }
}

/// The disk, or why there is none, told by the test's name.
fn disk(test: &str, make: fn() -> Result<Disk, String>) -> Option<Disk> {
    if !is_root(test) {
        return None;
    }
    make().inspect_err(|why| println!("SKIPPED {test}: no file system of its own here: {why}")).ok()
}

#[test]
fn a_disk_that_is_filled_and_freed_under_a_running_sink() {
    let Some(disk) = disk("a_disk_that_is_filled_and_freed_under_a_running_sink", Disk::tmpfs) else { return };
    let mut ports = TwoPorts::start(&disk.path());
    ports.send(0);
    ports.until("a hundred lines", |bad, _| bad["stored"] == 100);
    let ballast = disk.path().join("ballast");
    // To the last byte: the file gets what is there, and `dd` fails.
    let _ = Command::new("dd").args(["if=/dev/zero", "bs=4096"]).arg(format!("of={}", ballast.display())).output();
    ports.others_go_on();
    // The file's last page takes some lines still.
    let mut full = false;
    while !full {
        ports.send(0);
        let sent = ports.sent[0];
        let settled = |bad: &Value| bad["delivered"] == sent && bad["in_flight"] == 0;
        let ledger = ports.until("an end of them", |bad, _| settled(bad));
        full = ledger["bad.sink"]["drops"]["disk_full"].as_u64() > Some(0);
    }
    ports.others_go_on();
    fs::remove_file(ballast).unwrap();
    ports.send(0);
    let sent = ports.sent[0];
    let ledger = ports.until("room", |bad, _| bad["delivered"] == sent && bad["in_flight"] == 0);
    let dropped = ledger["bad.sink"]["drops"]["disk_full"].clone();
    ports.others_go_on();
    let (run, ledger) = ports.end(&disk.path());
    assert_eq!(run.code, Some(0), "{run:#?}");
    assert_eq!(ledger["bad.sink"]["drops"].as_object().unwrap().len(), 1, "for no other reason: {run:#?}");
    assert_eq!(ledger["bad.sink"]["drops"]["disk_full"], dropped, "{run:#?}");
    // Small batches may have fitted in between: then it comes and goes, and is told of every 10 s at most.
    let [begins, ends] = told(&run);
    assert!(!begins.is_empty() && !ends.is_empty(), "{run:#?}");
    assert!(begins[0].contains("No space left on device") && begins[0].contains("free some space"), "{}", begins[0]);
}

/// What was said of the bad disk: of its failing, and of its working again.
fn told(run: &Run) -> [Vec<&str>; 2] {
    let lines = |words: &str| run.stderr.lines().filter(|line| line.contains(words)).collect();
    [lines("netpoll.log is not written: "), lines(" works again after ")]
}

/// ext4 as it is after an error: read-only under whoever has files open.
#[test]
fn a_disk_that_turns_read_only_under_a_running_sink() {
    let Some(disk) = disk("a_disk_that_turns_read_only_under_a_running_sink", Disk::ext4) else { return };
    let mut ports = TwoPorts::start(&disk.path());
    ports.send(0);
    ports.until("a hundred lines", |bad, _| bad["stored"] == 100);
    done("mount", &["-o", "remount,abort", disk.path().to_str().unwrap()]).unwrap();
    for round in 1..=2_u64 {
        ports.others_go_on();
        ports.send(0);
        ports.until("drops", |bad, _| bad["drops"]["read_only"] == 100 * round);
    }
    ports.others_go_on();
    let (run, ledger) = ports.end(&disk.path());
    assert_eq!((&ledger["bad.sink"]["stored"], &ledger["bad.sink"]["drops"]["read_only"]), (&100.into(), &200.into()));
    assert_eq!(run.code, Some(0), "{run:#?}");
    let [begins, ends] = told(&run);
    assert_eq!((begins.len(), ends.len()), (1, 0), "once, however long it lasts: {run:#?}");
    assert!(begins[0].contains("Read-only file system") && begins[0].contains("remount,rw"), "{}", begins[0]);
}

/// Every write waits, for seconds: nothing is lost, and nobody else waits.
#[test]
fn a_disk_that_stands_still_under_a_running_sink() {
    let Some(mut disk) = disk("a_disk_that_stands_still_under_a_running_sink", Disk::ext4) else { return };
    let mut ports = TwoPorts::start(&disk.path());
    ports.send(0);
    ports.until("a hundred lines", |bad, _| bad["stored"] == 100);
    disk.freeze();
    // For more than 10 s, in which everything else goes on.
    for round in 2..=5_u64 {
        std::thread::sleep(Duration::from_secs(3));
        ports.send(0);
        ports.others_go_on();
        let ledger = ports.until("delivered", |bad, _| bad["delivered"] == 100 * round);
        assert_eq!(ledger["bad.sink"]["stored"], 100, "it does stand still: {ledger:#}");
    }
    disk.thaw();
    ports.until("all of them", |bad, _| bad["stored"] == 500 && bad["dropped"] == 0);
    let (run, _) = ports.end(&disk.path());
    assert_eq!(run.code, Some(0), "{run:#?}");
}

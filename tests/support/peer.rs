//! Programs of this project and of others, in network namespaces, for the tests with real peers.

#![allow(dead_code)]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, ChildStdout, Command, Output, Stdio},
    time::{Duration, Instant},
};

/// How long anything here may take: with every CPU busy, a thread that is bound to one has been seen to wait two minutes for it.
const LIMIT: Duration = Duration::from_secs(300);

/// A network namespace, deleted when dropped, with all links in it.
pub struct Namespace(pub String);

impl Namespace {
    pub fn new(name: &str) -> Self {
        let name = format!("netpoll-{name}-{}", std::process::id());
        run("ip", &["netns", "add", &name]);
        let this = Self(name);
        this.run("ip link set lo up");
        this
    }

    /// Runs a command line inside; it must end well.
    pub fn run(&self, line: &str) -> String {
        let mut args = vec!["netns", "exec", &self.0];
        args.extend(line.split(' '));
        run("ip", &args)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

pub fn run(program: &str, args: &[&str]) -> String {
    let Output { status, stdout, stderr } = Command::new(program).args(args).output().expect(program);
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{program} {args:?}: {status}\n{stdout}{stderr}");
    stdout.into_owned()
}

/// `netpoll sink` in a namespace, once it is ready.
pub struct Sink {
    child: Child,
    stdout: BufReader<ChildStdout>,
    pub ready: String,
    /// What it has said since.
    said: String,
}

impl Sink {
    /// `memory` is how the engine gets its memory: `--no-huge`, `--hugepages`.
    pub fn start(namespace: Option<&Namespace>, memory: &[&str], vdev: &str, out: &Path) -> Self {
        let mut child = netpoll(namespace)
            .arg("sink")
            .args(memory)
            .args(["--vdev", vdev, "--ip", "10.99.0.1/24", "--listen", "514,6666", "--stats", "1", "--out"])
            .arg(out)
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut ready = String::new();
        while !ready.starts_with("ready") {
            ready.clear();
            assert!(stdout.read_line(&mut ready).unwrap() > 0, "netpoll sink ended: {:?}", child.wait());
        }
        Self { child, stdout, said: ready.clone(), ready }
    }

    /// Waits until it says that so many frames have come to these ends. What has left the peer may still wait in a queue
    /// that is polled later than another: a sink that is told to stop leaves it there.
    #[track_caller]
    pub fn wait_for(&mut self, ends: &[(&str, u64)]) {
        let start = Instant::now();
        loop {
            let mut line = String::new();
            assert!(self.stdout.read_line(&mut line).unwrap() > 0, "netpoll sink ended: {}", self.said);
            self.said += &line;
            // `3 s: np0: 7 arrived = 5 delivered + 2 arp_answered; ...`
            let words: Vec<_> = line.split_whitespace().collect();
            let there = |(name, wanted): &(&str, u64)| {
                words.windows(2).any(|pair| pair[1].trim_end_matches(';') == *name && pair[0] == wanted.to_string())
            };
            if ends.iter().all(there) {
                return;
            }
            assert!(start.elapsed() < LIMIT, "waited in vain for {ends:?}:\n{}", self.said);
        }
    }

    /// SIGTERM; what it says at the end.
    pub fn stop(mut self) -> String {
        run("kill", &["-TERM", &self.child.id().to_string()]);
        let mut said = std::mem::take(&mut self.said);
        for line in self.stdout.by_ref().lines() {
            said += &(line.unwrap() + "\n");
        }
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}\n{said}");
        assert!(said.contains("balanced") && !said.contains("NOT BALANCED"), "{said}");
        said
    }
}

impl Sink {
    /// Every thread is restricted: it has these capabilities, this user, a filter, and gains no privileges. Poll loops may become
    /// real-time threads: by a limit, or where that cannot be raised by CAP_SYS_NICE.
    pub fn is_confined(&self, uid: u32, mut capabilities: u64) {
        const SYS_NICE: u64 = 1 << 23;
        let limits = fs::read_to_string(format!("/proc/{}/limits", self.child.id())).unwrap();
        if limits.lines().any(|line| line.starts_with("Max realtime priority     0 ")) {
            capabilities |= SYS_NICE;
        }
        let mut threads = 0;
        for entry in fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap() {
            // A thread may have ended since.
            let Ok(status) = fs::read_to_string(entry.unwrap().path().join("status")) else { continue };
            let uids = format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}");
            let (effective, permitted) =
                (format!("CapEff:\t{capabilities:016x}"), format!("CapPrm:\t{capabilities:016x}"));
            for wanted in [uids.as_str(), &effective, &permitted, "NoNewPrivs:\t1", "Seccomp:\t2"] {
                assert!(status.lines().any(|line| line == wanted), "{wanted:?} in\n{status}");
            }
            threads += 1;
        }
        assert!(threads >= 5, "main, signals, interrupts, poll loop, writer: {threads}");
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // A test that failed half-way leaves nothing running.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program, in a namespace if one is given.
fn netpoll(namespace: Option<&Namespace>) -> Command {
    let program = env!("CARGO_BIN_EXE_netpoll");
    let Some(namespace) = namespace else { return Command::new(program) };
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &namespace.0, program]);
    command
}

/// `netpoll send` to the sink with ARP, lines from its standard input; what it says at the end.
pub fn send(args: &[&str], lines: &str) -> String {
    let mut child = netpoll(None)
        .args(["send", "--arp", "--ip", "10.99.0.2/24"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && !said.contains("NOT BALANCED"), "{}\n{said}", output.status);
    said
}

/// Whether the caller is root; says by name what is skipped when not.
pub fn is_root(test: &str, why: &str) -> bool {
    let root = run("id", &["-u"]).trim() == "0";
    if !root {
        eprintln!("SKIPPED {test}: needs root for {why}");
    }
    root
}

/// The number beside `name` in the ledger.
pub fn count(said: &str, name: &str) -> u64 {
    let line = said.lines().find(|line| line.split_whitespace().next() == Some(name));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}

/// Everything that was written.
pub fn written(out: &Path) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(out).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() && path.file_name().is_some_and(|name| name.to_string_lossy().contains("log")) {
            all += &fs::read_to_string(&path).unwrap_or_default();
        }
    }
    all
}

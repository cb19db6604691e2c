//! The program, run and looked at.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_netpoll");

/// How a run ended.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs the program to its end.
#[track_caller]
pub fn netpoll(args: &[&str]) -> Run {
    netpoll_reading(b"", args)
}

/// Runs the program to its end, with `input` on its standard input.
#[track_caller]
pub fn netpoll_reading(input: &[u8], args: &[&str]) -> Run {
    run(Command::new(PROGRAM).args(args), input)
}

#[track_caller]
pub fn run(command: &mut Command, input: &[u8]) -> Run {
    let mut child = piped(command);
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_vec());
    // On a thread: the child may be waiting for us to read. It may also end without reading.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    Run {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("text"),
        stderr: String::from_utf8(output.stderr).expect("text"),
    }
}

impl Run {
    #[track_caller]
    pub fn ends(self, code: i32) -> Run {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    /// A ledger was printed, and every equation of it holds.
    #[track_caller]
    pub fn balances(self) -> Run {
        assert!(self.stdout.contains("balanced: every frame is accounted for"), "{self:#?}");
        assert!(!self.stdout.contains("NOT BALANCED"), "{self:#?}");
        assert!(self.stdout.contains("mbufs out = mbufs back"), "{self:#?}");
        self
    }

    /// The number in the line that starts with `name`, as ledgers print them.
    #[track_caller]
    pub fn count(&self, name: &str) -> u64 {
        let line = self.stdout.lines().find_map(|line| line.trim_start().strip_prefix(name));
        let number = line.and_then(|rest| rest.split_whitespace().next()).and_then(|number| number.parse().ok());
        number.unwrap_or_else(|| panic!("no count of {name}: {self:#?}"))
    }

    /// Standard output as JSON, an object a line.
    #[track_caller]
    pub fn json(&self) -> Vec<serde_json::Value> {
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line:?}"));
        let values: Vec<serde_json::Value> = self.stdout.lines().map(parse).collect();
        assert!(values.iter().all(|value| value["event"].is_string()), "{values:#?}");
        values
    }
}

/// A run that goes on. Killed when dropped.
pub struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
    read: String,
}

impl Running {
    pub fn start(command: &mut Command) -> Running {
        let mut child = piped(command);
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Running { child, stdout, read: String::new() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Reads until a line of standard output starts with `start`.
    #[track_caller]
    pub fn until(&mut self, start: &str) -> String {
        self.until_line(start, |line| line.starts_with(start))
    }

    /// Reads until `wanted` holds for a line of standard output; `what` is for the message if none comes.
    #[track_caller]
    pub fn until_line(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        loop {
            let mut line = String::new();
            if self.stdout.read_line(&mut line).unwrap() == 0 {
                let mut stderr = String::new();
                self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
                panic!("it ended before `{what}`:\n{}{stderr}", self.read);
            }
            self.read += &line;
            if wanted(&line) {
                return line;
            }
        }
    }

    /// Sends SIG`name`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status().unwrap();
        assert!(status.success(), "kill -{name}");
    }

    /// Sends SIG`name`, and again as soon as the first one was taken.
    pub fn signal_twice(&self, name: &str) {
        let script = format!("kill -{name} {0}; sleep 0.02; kill -{name} {0}", self.pid());
        assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success(), "kill -{name}, twice");
    }

    /// Waits until SIGTERM is caught, so that it asks and does not kill.
    pub fn until_it_handles_signals(&self) {
        let status = PathBuf::from(format!("/proc/{}/status", self.pid()));
        let caught = || -> bool {
            let text = fs::read_to_string(&status).expect("it runs");
            let mask = text.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("SigCgt");
            u64::from_str_radix(mask.trim(), 16).expect("a mask") & (1 << 14) != 0
        };
        let limit = Instant::now() + Duration::from_secs(30);
        while !caught() {
            assert!(Instant::now() < limit, "no handler for SIGTERM");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits for its end.
    pub fn end(mut self) -> Run {
        drop(self.child.stdin.take());
        self.end_with_input_open()
    }

    /// Waits for its end, which must not depend on its standard input's.
    pub fn end_with_input_open(mut self) -> Run {
        self.stdout.read_to_string(&mut self.read).unwrap();
        let mut stderr = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        let code = self.child.wait().unwrap().code();
        Run { code, stdout: std::mem::take(&mut self.read), stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // After `end` there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn piped(command: &mut Command) -> Child {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Waits until `condition` holds; a test that waits this long has failed.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(120);
    while !condition() {
        assert!(Instant::now() < limit, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Lines in a file.
pub fn lines_in(path: &Path) -> u64 {
    fs::read(path).unwrap_or_default().iter().filter(|byte| **byte == b'\n').count() as u64
}

/// Whether this is root; if not, says that `part` is skipped.
pub fn is_root(part: &str) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:")).and_then(|ids| ids.split_whitespace().nth(1));
    let root = uid == Some("0");
    if !root {
        println!("SKIPPED {part}: needs root, this is uid {}", uid.unwrap_or("?"));
    }
    root
}

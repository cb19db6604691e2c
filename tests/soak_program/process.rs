//! `netpoll run`, what it tells, and how it ends.

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};
use serde_json::Value;

use super::machine::Use;

/// Nothing takes longer unless it is broken; on a machine whose CPUs are all busy, a thread that is bound to one may wait long.
pub const LIMIT: Duration = Duration::from_secs(300);

pub struct Program {
    child: Child,
    events: Receiver<Value>,
    stderr: Option<JoinHandle<String>>,
}

impl Program {
    /// Starts it; returns once its clients and sinks are there.
    pub fn start(config: &Path) -> Program {
        let mut child = Command::new(env!("CARGO_BIN_EXE_netpoll"))
            .args(["run", "-c"])
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (tell, events) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let line = line.unwrap();
                let event = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
                let _ = tell.send(event);
            }
        });
        let stderr = thread::spawn(move || {
            let mut said = Vec::new();
            let _ = stderr.read_to_end(&mut said);
            String::from_utf8_lossy(&said).into_owned()
        });
        let mut program = Program { child, events, stderr: Some(stderr) };
        program.until("its client", |event| event["event"] == "client");
        program
    }

    /// The next event that is wanted.
    pub fn until(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        let mut last = Value::Null;
        loop {
            match self.events.recv_timeout(Duration::from_secs(1)) {
                Ok(event) if wanted(&event) => return event,
                Ok(event) => last = event,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait();
                    panic!("it ended ({status:?}) before {what}:\n{last:#}\n{}", self.stderr());
                }
            }
            assert!(start.elapsed() < LIMIT, "waited in vain for {what}; the last it said:\n{last:#}");
        }
    }

    /// Its ledger, told from now on.
    pub fn ledger(&mut self) -> Value {
        while self.events.try_recv().is_ok() {}
        self.until("its ledger", |event| event["event"] == "ledger")
    }

    pub fn signal(&self, signal: Signal) {
        signal::kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    pub fn usage(&self) -> Use {
        Use::of(&self.child.id().to_string())
    }

    /// SIGTERM; its last ledger, in which every equation holds.
    pub fn end(mut self) -> Value {
        self.signal(Signal::SIGTERM);
        let ledger = self.until("its last ledger", |event| event["event"] == "ledger" && event["final"] == true);
        let status = self.wait();
        let said = self.stderr();
        assert!(status.success() && ledger["balanced"] == true, "{status}\n{ledger:#}\n{said}");
        for (key, value) in ledger.as_object().unwrap() {
            assert!(value.get("balanced").is_none_or(|balanced| *balanced == true), "{key}: {ledger:#}");
        }
        assert_eq!(ledger["mbufs"]["outstanding"], 0, "mbufs out = mbufs back: {ledger:#}");
        ledger
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.signal(Signal::SIGKILL);
        assert!(self.wait().code().is_none());
    }

    fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    fn stderr(&mut self) -> String {
        self.stderr.take().map(|thread| thread.join().unwrap()).unwrap_or_default()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // A test that failed half-way leaves nothing running.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

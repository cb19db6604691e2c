//! `netpoll run` on a port whose frames come back to it: whoever writes to a FIFO sends to the sink, without root.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use super::support::*;

/// One port, two clients that read FIFOs and send to UDP 514 and 515, one sink.
pub struct Ring {
    pub dir: PathBuf,
    pub running: Running,
    clients: Vec<fs::File>,
}

const PORTS: [u16; 2] = [514, 515];

/// `sink` is the `[[sink]]`'s keys.
fn config(dir: &Path, sink: &str) -> String {
    let mut text = "[log]\nledger_interval_s = 1\n[[port]]\nname = \"ring0\"\ndevice = \"net_ring0\"\n\
                    ip = \"10.99.0.1/24\"\n"
        .to_owned();
    text += &format!("[[sink]]\nout = {:?}\n{sink}\n", dir.join("out"));
    for port in PORTS {
        text += &format!(
            "[[client]]\nname = \"to{port}\"\ntarget = \"6665@/ring0,{port}@10.99.0.2/\"\ninput = {:?}\n\
             on_full = {{ wait_us = 1000000 }}\n",
            fifo(dir, port)
        );
    }
    text
}

fn fifo(dir: &Path, port: u16) -> PathBuf {
    dir.join(format!("lines{port}"))
}

impl Ring {
    /// Starts it in a folder that may hold what an earlier one left.
    pub fn start(dir: &Path, sink: &str) -> Ring {
        fs::write(dir.join("netpoll.toml"), config(dir, sink)).unwrap();
        for port in PORTS {
            let _ = fs::remove_file(fifo(dir, port));
            assert!(Command::new("mkfifo").arg(fifo(dir, port)).status().unwrap().success());
        }
        let mut running = Running::start(Command::new(PROGRAM).args(["run", "-c"]).arg(dir.join("netpoll.toml")));
        running.until("client to515: ");
        // Open for both: it waits for no reader, and stays open.
        let open = |port| OpenOptions::new().read(true).write(true).open(fifo(dir, port)).unwrap();
        Ring { dir: dir.to_owned(), running, clients: PORTS.into_iter().map(open).collect() }
    }

    /// What the sink writes to.
    pub fn out(&self) -> PathBuf {
        self.dir.join("out")
    }

    /// `<14>line NNNNNN` to the port of `client`.
    pub fn send(&mut self, client: usize, lines: std::ops::Range<u32>) {
        let text: String = lines.map(|number| format!("<14>line {number:06}\n")).collect();
        self.write(client, &text);
    }

    /// Lines as they are. Returns once the pipe has taken them.
    pub fn write(&mut self, client: usize, lines: &str) {
        self.clients[client].write_all(lines.as_bytes()).unwrap();
    }

    /// The FIFO of `client`, for another thread to write to; a write that would have to wait fails.
    pub fn fifo_without_waiting(&self, client: usize) -> fs::File {
        let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        OpenOptions::new().write(true).custom_flags(flags).open(fifo(&self.dir, PORTS[client])).unwrap()
    }

    /// Another `[[sink]]`, and SIGHUP; what is said of it.
    pub fn reload(&mut self, sink: &str, answer: &str) -> String {
        fs::write(self.dir.join("netpoll.toml"), config(&self.dir, sink)).unwrap();
        self.running.signal("HUP");
        self.running.until(answer)
    }

    /// Waits until `lines` have come back, all told.
    pub fn until_arrived(&mut self, lines: u64) {
        // One frame more: the port's own announcement.
        let arrived = format!(" s: ring0: {} arrived = ", lines + 1);
        self.running.until_line(&arrived, |line| line.contains(&arrived));
    }

    /// Once `lines` have come back, SIGTERM, with the FIFOs still open: nothing else ends it.
    pub fn end(mut self, lines: u64) -> Run {
        self.until_arrived(lines);
        let Ring { running, clients, .. } = self;
        running.signal("TERM");
        let run = running.end().ends(0).balances();
        drop(clients);
        run
    }
}

/// `netpoll logs` of a sink's folder, as objects.
#[track_caller]
pub fn logs(dir: &Path, args: &[&str]) -> Vec<serde_json::Value> {
    let args = [&["logs", "--dir", dir.to_str().unwrap(), "--format", "json"], args].concat();
    netpoll(&args).ends(0).stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

//! The program with its peers and its disk, what happens to them, and what must hold when all is quiet.

use std::{
    collections::BTreeMap,
    fmt, fs,
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::{
    machine::{Folder, Use, run},
    process::{LIMIT, Program},
    random::Random,
    shipped::Shipped,
    traffic::Traffic,
};

pub struct Rig {
    disk: Folder,
    /// The config, and the FIFO that the program's client reads.
    dir: tempfile::TempDir,
    fifo: File,
    program: Option<Program>,
    traffic: Traffic,
    shipped: Shipped,
    /// Lines of the text that its ledger does not have as stored: written just before a kill.
    unknown_lines: u64,
    /// By port: what its sink's ledger had as delivered when a process last ended in order; `None` after a kill.
    delivered: BTreeMap<&'static str, Option<u64>>,
    /// What the program has received, in processes that ended in order.
    received: u64,
    events: BTreeMap<&'static str, u64>,
    /// Faults that are still to come before one comes again.
    deck: Vec<fn(&mut Rig, &mut Random)>,
}

const PORTS: [&str; 2] = ["np0", "np1"];

impl Rig {
    pub fn start() -> Rig {
        for of in ["all", "default"] {
            // Its chatter would move counters while all is to be quiet.
            let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{of}/disable_ipv6"), "1");
        }
        run("ip", "link set lo up");
        run("ip", "link add np1 type veth peer name np1peer");
        run("ip", "addr add 10.98.0.2/24 dev np1peer");
        run("ip", "link set np1 up");
        run("ip", "link set np1peer up");
        let (disk, dir) = (Folder::new(), tempfile::tempdir().unwrap());
        let fifo = dir.path().join("lines");
        run("mkfifo", fifo.to_str().unwrap());
        // Open for both ends, so that it stays open; a full one is not waited for.
        let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let fifo = OpenOptions::new().read(true).write(true).custom_flags(flags).open(fifo).unwrap();
        let mut rig = Rig {
            disk,
            dir,
            fifo,
            program: None,
            traffic: Traffic::new(),
            shipped: Shipped::default(),
            unknown_lines: 0,
            delivered: PORTS.map(|port| (port, Some(0))).into(),
            received: 0,
            events: BTreeMap::new(),
            deck: Vec::new(),
        };
        rig.write_config(&mut Random(0));
        rig.begin();
        rig
    }

    fn out(&self, port: &str) -> PathBuf {
        self.disk.path().join(port)
    }

    /// Limits, filters and outputs by chance: all that a reload changes.
    fn write_config(&self, random: &mut Random) {
        let fifo = self.dir.path().join("lines");
        let mut text = "[eal]\nmemory = \"no-huge\"\nmegabytes = 128\n\
             [engine]\nidle = \"sleep\"\nidle_max_sleep_us = 500\n\
             [log]\nformat = \"json\"\nledger_interval_s = 1\n\
             [[port]]\nname = \"np0\"\ndevice = \"net_tap0,iface=np0\"\nip = \"10.99.0.1/24\"\n\
             [[port]]\nname = \"np1\"\ndevice = \"net_af_packet0,iface=np1\"\nip = \"10.98.0.1/24\"\n"
            .to_owned();
        text += &format!(
            "[[client]]\nname = \"back\"\ntarget = \"6665@/np0,7000@10.99.0.2/\"\nremote_mac = \"arp\"\ninput = {fifo:?}\n"
        );
        for port in PORTS {
            let (out, flush_ms) = (self.out(port), 10 + random.below(190));
            let outputs = match (port, random.below(1)) {
                ("np0", _) => "[\"text\"]",
                (_, 0) => "[\"parquet\"]",
                _ => "[\"parquet\", \"text\"]",
            };
            let allow = if random.below(3) == 0 { "10.99.0.0/16" } else { "10.0.0.0/8" };
            // No reserve: then it is the disk itself that has no room.
            let min_free = [0, 4 << 20][random.below(1) as usize];
            text += &format!(
                "[[sink]]\nport = \"{port}\"\nlisten = \"514\"\nout = {out:?}\noutputs = {outputs}\nallow = [\"{allow}\"]\n\
                 flush_interval_ms = {flush_ms}\nsync = {{ every_ms = 50 }}\n\
                 [sink.limits]\nsegment_bytes = 2097152\nmin_free_bytes = {min_free}\n"
            );
            if port == "np1" {
                text += "segment_age_s = 1\nretain_bytes = 16777216\n";
            }
            if random.below(1) == 0 {
                text += &format!("max_lines_per_source_per_s = {}\n", 200 + random.below(5000));
            }
        }
        // At once, as editors do it: a reload under way reads the one or the other.
        let (fresh, file) = (self.dir.path().join("fresh"), self.dir.path().join("netpoll.toml"));
        fs::write(&fresh, text).unwrap();
        fs::rename(fresh, file).unwrap();
    }

    fn begin(&mut self) {
        let program = Program::start(&self.dir.path().join("netpoll.toml"));
        run("ip", "addr add 10.99.0.2/24 dev np0");
        run("ip", "link set np0 up");
        self.program = Some(program);
    }

    fn program(&mut self) -> &mut Program {
        self.program.as_mut().expect("it runs")
    }

    fn event(&mut self, name: &'static str) {
        *self.events.entry(name).or_default() += 1;
    }

    /// Traffic, and one to three events while it flows; then nothing moves, and both sides agree.
    pub fn round(&mut self, random: &mut Random) {
        self.traffic.start(random);
        for _ in 0..=random.below(2) {
            thread::sleep(Duration::from_millis(random.below(150)));
            if self.deck.is_empty() {
                self.deck =
                    vec![Rig::reload, Rig::fill_the_disk, Rig::link_down_and_up, Rig::stand_still, Rig::send_back];
            }
            let at = random.below(self.deck.len() as u64 - 1) as usize;
            let event = self.deck.swap_remove(at);
            event(self, random);
        }
        self.traffic.stop();
        self.quiet();
        let text = self.out("np0");
        self.shipped.take(&text, false);
    }

    fn reload(&mut self, random: &mut Random) {
        self.event("reloads");
        self.write_config(random);
        self.program().signal(Signal::SIGHUP);
        // Not where the disk is full: then all goes on as before.
        self.program()
            .until("an answer to SIGHUP", |event| event["event"] == "reloaded" || event["event"] == "not_reloaded");
    }

    /// Not a byte is left; ARP is answered all the same.
    fn fill_the_disk(&mut self, random: &mut Random) {
        self.event("full disks");
        let time = Duration::from_millis(200 + random.below(500));
        thread::scope(|scope| {
            scope.spawn(|| assert!(self.disk.fill_for(time)));
            PORTS.iter().for_each(|port| self.answers(port));
        });
    }

    /// Of the TAP; the other port does not notice.
    fn link_down_and_up(&mut self, _: &mut Random) {
        self.event("links down");
        for (to, up) in [("down", false), ("up", true)] {
            run("ip", &format!("link set np0 {to}"));
            self.program().until(to, |event| event["event"] == "ledger" && event["np0.rx"]["up"] == up);
            self.answers("np1");
        }
        self.answers("np0");
    }

    /// All lcores stand still: rings overrun.
    fn stand_still(&mut self, random: &mut Random) {
        self.event("stand-stills");
        self.program().signal(Signal::SIGSTOP);
        thread::sleep(Duration::from_millis(50 + random.below(600)));
        self.program().signal(Signal::SIGCONT);
    }

    /// Lines for the program's client, to a port where nobody listens.
    fn send_back(&mut self, random: &mut Random) {
        self.event("batches to send");
        let lines: String = (0..random.below(150)).map(|n| format!("<14>line {n} to send\n")).collect();
        // While the pipe is full, not all of it, or nothing.
        let _ = self.fifo.write(lines.as_bytes());
    }

    /// The kernel asks for the port's address, and pings it.
    fn answers(&self, port: &str) {
        let (device, to) = if port == "np0" { ("np0", "10.99.0.1") } else { ("np1peer", "10.98.0.1") };
        let start = Instant::now();
        // Beside a flood it may give up: entries come as fast as it takes them out.
        let _ = Command::new("ip").args(["neigh", "flush", "dev", device]).output();
        while !Command::new("ping").args(["-q", "-c", "1", "-W", "1", to]).output().unwrap().status.success() {
            assert!(start.elapsed() < LIMIT, "{port} does not answer");
        }
    }

    /// Waits until the kernel and the program agree on the TAP, frame by frame, and nothing is on its way in a sink.
    fn quiet(&mut self) {
        let start = Instant::now();
        loop {
            let before = kernel_packets("np0");
            let ledger = self.program().ledger();
            let after = kernel_packets("np0");
            let rx = &ledger["np0.rx"];
            let settled = |port: &str| {
                let (rx, sink) = (&ledger[format!("{port}.rx")], &ledger[format!("{port}.sink")]);
                let delivered = rx["endings"]["delivered"].as_u64().unwrap_or(0);
                let dropped = sink["dropped"].as_u64().unwrap();
                let there = sink["stored"].as_u64().unwrap() + dropped;
                sink["in_flight"] == 0 && sink["delivered"] == delivered && delivered == there
            };
            if before == after
                && PORTS.iter().all(|port| settled(port))
                && rx["arrived"] == after.0
                && rx["sent"] == after.1
            {
                return;
            }
            assert!(start.elapsed() < LIMIT, "the kernel sent and received {after:?} on np0, and:\n{ledger:#}");
        }
    }

    pub fn usage(&mut self) -> Use {
        self.program().usage()
    }

    /// The program ends under traffic, in one of three ways, and starts again.
    pub fn again(&mut self, way: u64) {
        self.traffic.start(&mut Random(way));
        thread::sleep(Duration::from_millis(100));
        match way {
            0 => self.kill(),
            1 => {
                self.event("ends");
                self.end();
            }
            _ => {
                self.event("TAPs deleted");
                run("ip", "link del np0");
                self.program()
                    .until("np0 to be down", |event| event["event"] == "ledger" && event["np0.rx"]["up"] == false);
                self.answers("np1");
                self.end();
            }
        }
        self.traffic.stop();
        self.begin();
    }

    /// Killed: what its ledger had as stored is there.
    fn kill(&mut self) {
        self.event("kills");
        self.program.take().expect("it runs").kill();
        let out = self.out("np0");
        let ledger = fs::read_to_string(out.join("ledger")).unwrap();
        let stored =
            ledger.lines().find_map(|line| line.strip_prefix("stored ")).map(|text| text.parse::<u64>().unwrap());
        let there = self.shipped.lines + Shipped::left(&out);
        assert!(there >= stored.unwrap() + self.unknown_lines, "{there} lines, and its ledger says:\n{ledger}");
        self.delivered.values_mut().for_each(|delivered| *delivered = None);
    }

    /// In order: its ledger, and that of all the processes before, are exact.
    fn end(&mut self) {
        let ledger = self.program.take().expect("it runs").end();
        let killed = self.delivered["np0"].is_none();
        for (port, before) in &mut self.delivered {
            let received = number(&ledger[format!("{port}.rx")]["endings"]["delivered"]);
            let sum = number(&ledger[format!("{port}.sink")]["delivered"]);
            if let Some(before) = before {
                assert_eq!(sum, *before + received, "{port}, and what was before: {ledger:#}");
            }
            *before = Some(sum);
            self.received += received;
        }
        let out = self.out("np0");
        self.shipped.take(&out, true);
        let unknown = self.shipped.lines.checked_sub(number(&ledger["np0.sink"]["stored"]));
        let unknown = unknown.unwrap_or_else(|| panic!("{} lines: {ledger:#}", self.shipped.lines));
        // A kill may have left lines that its ledger did not know of yet.
        assert!(unknown == self.unknown_lines || killed && unknown > self.unknown_lines, "{unknown}: {ledger:#}");
        self.unknown_lines = unknown;
    }

    pub fn finish(&mut self) {
        self.event("ends");
        self.end();
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

/// What the kernel has sent to the program and received from it, in frames.
fn kernel_packets(device: &str) -> (u64, u64) {
    let output = Command::new("ip").args(["-s", "-j", "link", "show", device]).output().unwrap();
    let links: Value = serde_json::from_slice(&output.stdout).expect("JSON of ip");
    let packets = |way: &str| links[0]["stats64"][way]["packets"].as_u64().expect("a count");
    (packets("tx"), packets("rx"))
}

impl fmt::Display for Rig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sent, text) = (self.traffic.lines(), self.shipped.lines);
        write!(f, "{sent} lines sent, {} received by processes that ended, {text} in text files", self.received)?;
        self.events.iter().try_for_each(|(name, count)| write!(f, ", {count} {name}"))
    }
}

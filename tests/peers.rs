//! Real peers: the Linux kernel on the other side of a TAP, and of a veth pair by net_af_packet and net_af_xdp. The
//! program `netpoll sink` receives; util-linux `logger` and plain sockets send; the lines are in the file, and the
//! ledger balances to the frame.
//!
//! Needs root. Each test works in network namespaces of its own and takes them down again.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, ChildStdout, Command, Output, Stdio},
    time::{Duration, Instant},
};

/// A network namespace, deleted when dropped, with all links in it.
struct Namespace(String);

impl Namespace {
    fn new(name: &str) -> Self {
        let name = format!("netpoll-{name}-{}", std::process::id());
        run("ip", &["netns", "add", &name]);
        let this = Self(name);
        this.run("ip link set lo up");
        this
    }

    /// Runs a command line inside; it must end well.
    fn run(&self, line: &str) -> String {
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

fn run(program: &str, args: &[&str]) -> String {
    let Output { status, stdout, stderr } = Command::new(program).args(args).output().expect(program);
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{program} {args:?}: {status}\n{stdout}{stderr}");
    stdout.into_owned()
}

/// `netpoll sink` in a namespace, once it is ready.
struct Sink {
    child: Child,
    stdout: BufReader<ChildStdout>,
    ready: String,
}

impl Sink {
    fn start(namespace: &Namespace, vdev: &str, out: &Path) -> Self {
        let mut child = Command::new("ip")
            .args(["netns", "exec", &namespace.0, env!("CARGO_BIN_EXE_netpoll"), "sink", "--no-huge", "--vdev", vdev])
            .args(["--ip", "10.99.0.1/24", "--listen", "514,6666", "--out"])
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
        Self { child, stdout, ready }
    }

    /// SIGTERM; what it says at the end.
    fn stop(mut self) -> String {
        run("kill", &["-TERM", &self.child.id().to_string()]);
        let mut said = self.ready.clone();
        for line in self.stdout.by_ref().lines() {
            said += &(line.unwrap() + "\n");
        }
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}\n{said}");
        assert!(said.contains("balanced") && !said.contains("NOT BALANCED"), "{said}");
        said
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // A test that failed half-way leaves nothing running.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The number beside `name` in the ledger.
fn count(said: &str, name: &str) -> u64 {
    let line = said.lines().find(|line| line.split_whitespace().next() == Some(name));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}

/// Everything that was written.
fn written(out: &Path) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(out).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() && path.file_name().is_some_and(|name| name.to_string_lossy().contains("log")) {
            all += &fs::read_to_string(&path).unwrap_or_default();
        }
    }
    all
}

/// What every peer does: ARP resolution, logger in both formats, a plain socket.
fn exchange(sink: Sink, peer: &Namespace, mac: &str, out: &Path) {
    const PLAIN: usize = 500;
    // ARP first: the kernel asks, and takes our MAC into its neighbour table.
    peer.run("ping -c 2 -i 0.2 -W 2 10.99.0.1");
    let neighbours = peer.run("ip neigh show 10.99.0.1");
    assert!(neighbours.contains(mac), "{mac} in {neighbours}");
    assert!(sink.ready.contains(mac), "{mac} in {}", sink.ready);
    for format in ["--rfc3164", "--rfc5424"] {
        peer.run(&format!("logger -d -n 10.99.0.1 -P 514 {format} -t peer line-by-logger{format}"));
    }
    let script = "for i in $(seq PLAIN); do echo \"plain line $i\" > /dev/udp/10.99.0.1/6666; done";
    let script = script.replace("PLAIN", &PLAIN.to_string());
    run("ip", &["netns", "exec", &peer.0, "bash", "-c", &script]);
    // Nobody listens there: counted, not stored.
    run("ip", &["netns", "exec", &peer.0, "bash", "-c", "echo nobody > /dev/udp/10.99.0.1/9"]);
    let start = Instant::now();
    while !written(out).contains(&format!("plain line {PLAIN}")) {
        assert!(start.elapsed() < Duration::from_secs(5), "the last line is not in the file:\n{}", written(out));
        std::thread::sleep(Duration::from_millis(20));
    }
    let said = sink.stop();
    let lines = written(out);
    for n in 1..=PLAIN {
        let wanted = format!("plain line {n}");
        assert_eq!(lines.lines().filter(|line| line.ends_with(&wanted)).count(), 1, "{wanted}");
    }
    for format in ["--rfc3164", "--rfc5424"] {
        let wanted = format!("line-by-logger{format}");
        assert_eq!(lines.lines().filter(|line| line.ends_with(&wanted)).count(), 1, "{wanted}\n{lines}");
    }
    assert_eq!(lines.lines().count(), PLAIN + 2);
    assert_eq!(count(&said, "delivered"), PLAIN as u64 + 2, "{said}");
    assert_eq!(count(&said, "not_local_port"), 1, "{said}");
    assert!(count(&said, "arp_answered") >= 1 && count(&said, "icmp_answered") == 2, "{said}");
}

/// Whether the test can run here; says by name when not.
fn possible(test: &str) -> bool {
    let root = run("id", &["-u"]).trim() == "0";
    if !root {
        eprintln!("SKIPPED {test}: needs root for network namespaces");
    }
    root
}

#[test]
fn the_kernel_behind_a_tap() {
    if !possible("the_kernel_behind_a_tap") {
        return;
    }
    let ns = Namespace::new("tap");
    let out = tempfile::tempdir().unwrap();
    let sink = Sink::start(&ns, "net_tap0,iface=np0", out.path());
    // The kernel's end of the TAP lies in the same namespace: the sink's address is ours alone.
    ns.run("ip addr add 10.99.0.2/24 dev np0");
    ns.run("ip link set np0 up");
    let mac = sink.ready.split_whitespace().find(|word| word.matches(':').count() == 5).unwrap().to_string();
    exchange(sink, &ns, &mac, out.path());
}

/// A veth pair: the sink's end in `ours`, without an address; the peer's in `peer`, with 10.99.0.2.
fn veth(name: &str) -> (Namespace, Namespace, String) {
    let (ours, peer) = (Namespace::new(&format!("{name}a")), Namespace::new(&format!("{name}b")));
    run("ip", &["link", "add", "np0", "netns", &ours.0, "type", "veth", "peer", "name", "np1", "netns", &peer.0]);
    ours.run("ip link set np0 up");
    peer.run("ip link set np1 up");
    peer.run("ip addr add 10.99.0.2/24 dev np1");
    let mac = ours.run("cat /sys/class/net/np0/address").trim().to_string();
    (ours, peer, mac)
}

#[test]
fn veth_by_af_packet() {
    if !possible("veth_by_af_packet") {
        return;
    }
    let (ours, peer, mac) = veth("afp");
    let out = tempfile::tempdir().unwrap();
    let sink = Sink::start(&ours, "net_af_packet0,iface=np0", out.path());
    exchange(sink, &peer, &mac, out.path());
}

#[test]
fn veth_by_af_xdp() {
    if !possible("veth_by_af_xdp") {
        return;
    }
    let (ours, peer, mac) = veth("xdp");
    let out = tempfile::tempdir().unwrap();
    let sink = Sink::start(&ours, "net_af_xdp0,iface=np0", out.path());
    exchange(sink, &peer, &mac, out.path());
}

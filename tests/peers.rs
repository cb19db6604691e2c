//! Real peers: the Linux kernel on the other side of a TAP, and of a veth pair by net_af_packet and net_af_xdp. The
//! program `netpoll sink` receives; util-linux `logger` and plain sockets send; the lines are in the file, and the
//! ledger balances to the frame.
//!
//! Needs root. Each test works in network namespaces of its own and takes them down again.

#[path = "support/peer.rs"]
mod peer;

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use peer::{Namespace, Sink, count, is_root, run, written};

/// What every peer does: ARP resolution, logger in both formats, a plain socket.
fn exchange(sink: Sink, peer: &Namespace, mac: &str, out: &Path) {
    exchange_as(sink, peer, mac, out, (0, 0));
}

/// The same, with each thread of the sink having that user and these capabilities.
fn exchange_as(mut sink: Sink, peer: &Namespace, mac: &str, out: &Path, (uid, capabilities): (u32, u64)) {
    const PLAIN: usize = 500;
    sink.is_confined(uid, capabilities);
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
    let delivered = PLAIN as u64 + 2;
    sink.wait_for(&[("delivered", delivered), ("not_local_port", 1), ("icmp_answered", 2)]);
    let said = sink.stop();
    let lines = written(out);
    for n in 1..=PLAIN {
        let wanted = format!("plain line {n}");
        assert_eq!(lines.lines().filter(|line| line.ends_with(&wanted)).count(), 1, "{wanted}: {said}");
    }
    for format in ["--rfc3164", "--rfc5424"] {
        let wanted = format!("line-by-logger{format}");
        assert_eq!(lines.lines().filter(|line| line.ends_with(&wanted)).count(), 1, "{wanted}\n{lines}");
    }
    assert_eq!(lines.lines().count(), PLAIN + 2);
    assert_eq!(count(&said, "delivered"), delivered, "{said}");
    assert_eq!(count(&said, "not_local_port"), 1, "{said}");
    assert!(count(&said, "arp_answered") >= 1 && count(&said, "icmp_answered") == 2, "{said}");
}

#[test]
fn the_kernel_behind_a_tap() {
    if !is_root("the_kernel_behind_a_tap", "network namespaces") {
        return;
    }
    let ns = Namespace::new("tap");
    let out = tempfile::tempdir().unwrap();
    let sink = Sink::start(Some(&ns), &["--no-huge"], "net_tap0,iface=np0", out.path());
    // The kernel's end of the TAP lies in the same namespace: the sink's address is ours alone.
    ns.run("ip addr add 10.99.0.2/24 dev np0");
    ns.run("ip link set np0 up");
    let mac = sink.ready.split_whitespace().find(|word| word.matches(':').count() == 5).unwrap().to_string();
    exchange(sink, &ns, &mac, out.path());
}

/// Two queues: the kernel spreads flows over them, and none is lost.
#[test]
fn the_kernel_behind_a_tap_with_two_queues() {
    if !is_root("the_kernel_behind_a_tap_with_two_queues", "network namespaces") {
        return;
    }
    let ns = Namespace::new("tap2");
    let out = tempfile::tempdir().unwrap();
    let sink = Sink::start(Some(&ns), &["--no-huge", "--queues", "2"], "net_tap0,iface=np0", out.path());
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
    if !is_root("veth_by_af_packet", "network namespaces") {
        return;
    }
    let (ours, peer, mac) = veth("afp");
    let out = tempfile::tempdir().unwrap();
    let sink = Sink::start(Some(&ours), &["--no-huge"], "net_af_packet0,iface=np0", out.path());
    exchange(sink, &peer, &mac, out.path());
}

#[test]
fn veth_by_af_xdp() {
    if !is_root("veth_by_af_xdp", "network namespaces") {
        return;
    }
    let (ours, peer, mac) = veth("xdp");
    let out = tempfile::tempdir().unwrap();
    let sink = Sink::start(Some(&ours), &["--no-huge"], "net_af_xdp0,iface=np0", out.path());
    exchange_as(sink, &peer, &mac, out.path(), (0, XDP_CAPABILITIES));
    assert!(!has_program(&ours), "its program is off the interface");
}

/// What it takes to take the program off the interface at the end: dac_read_search, net_admin, sys_admin, bpf.
const XDP_CAPABILITIES: u64 = 1 << 2 | 1 << 12 | 1 << 21 | 1 << 39;

fn has_program(namespace: &Namespace) -> bool {
    namespace.run("ip -d link show np0").contains("prog/xdp")
}

/// An unprivileged user once the port runs, and the port works and closes as root's does.
#[test]
fn every_kind_of_port_as_nobody() {
    const NOBODY: u32 = 65534;
    if !is_root("every_kind_of_port_as_nobody", "network namespaces") {
        return;
    }
    let arguments = ["--no-huge", "--user", "65534"];
    for (name, vdev, capabilities) in [
        ("tapu", "net_tap0,iface=np0", 0),
        ("afpu", "net_af_packet0,iface=np0", 0),
        ("xdpu", "net_af_xdp0,iface=np0", XDP_CAPABILITIES),
    ] {
        let (ours, peer, mac) = veth(name);
        let out = open_folder();
        // Made by the program, and given to the user.
        let out = out.path().join("out");
        if vdev.starts_with("net_tap") {
            ours.run("ip link del np0");
            let sink = Sink::start(Some(&ours), &arguments, vdev, &out);
            ours.run("ip addr add 10.99.0.2/24 dev np0");
            ours.run("ip link set np0 up");
            let mac = sink.ready.split_whitespace().find(|word| word.matches(':').count() == 5).unwrap().to_string();
            exchange_as(sink, &ours, &mac, &out, (NOBODY, capabilities));
            assert!(!ours.run("ip link show").contains("np0"), "the interface is gone");
        } else {
            let sink = Sink::start(Some(&ours), &arguments, vdev, &out);
            assert_eq!(has_program(&ours), capabilities != 0);
            exchange_as(sink, &peer, &mac, &out, (NOBODY, capabilities));
            assert!(!has_program(&ours), "its program is off the interface");
        }
        for entry in fs::read_dir(&out).unwrap() {
            assert_eq!(entry.unwrap().metadata().unwrap().uid(), NOBODY);
        }
    }
}

/// A temporary folder that others may look into.
fn open_folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

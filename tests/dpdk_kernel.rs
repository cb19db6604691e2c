//! Devices with a kernel on the other side: net_tap, net_af_packet, net_af_xdp. Frames cross both ways, checksums that
//! the port fills in are right by the kernel's judgement, and every mbuf comes back.

use std::{
    net::{Ipv4Addr, UdpSocket},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use netpoll::{
    dpdk::{DpdkQueue, Eal, EalConfig, Mbuf, Memory, Port, PortSetup},
    port::{Frame, PortIo},
    wire::MacAddr,
};

const OUR_IP: [u8; 4] = [10, 99, 7, 2];
const KERNEL_IP: [u8; 4] = [10, 99, 7, 1];
const PORT: u16 = 6666;

/// `ip ARGS`. Whether it worked.
fn ip(args: &str) -> bool {
    Command::new("ip").args(args.split(' ')).output().is_ok_and(|output| output.status.success())
}

/// A veth pair, taken away at the end.
struct Veth(String);

impl Veth {
    fn new(name: &str) -> Option<Veth> {
        ip(&format!("link add {name} type veth peer name {name}p")).then(|| Veth(name.into()))
    }
}

impl Drop for Veth {
    fn drop(&mut self) {
        ip(&format!("link del {}", self.0));
    }
}

#[test]
fn kernel_on_the_other_side() {
    let id = std::process::id() % 100_000;
    let Some(veth) = Veth::new(&format!("npv{id}")) else {
        println!("SKIPPED kernel_on_the_other_side: making interfaces needs root (or CAP_NET_ADMIN) and veth");
        return;
    };
    let eal = Eal::init(EalConfig { memory: Memory::NoHuge { megabytes: 256 }, ..EalConfig::default() }).unwrap();
    let peer = format!("{}p", veth.0);
    let tap = format!("npt{id}");
    // Twice each: what is left behind by the first would show.
    for _ in 0..2 {
        exchange(&eal, &format!("net_tap0,iface={tap}"), &tap);
        exchange(&eal, &format!("net_af_packet0,iface={peer}"), &veth.0);
        exchange(&eal, &format!("net_af_xdp0,iface={peer}"), &veth.0);
    }
    assert!(Port::list(&eal).is_empty());
}

/// A datagram to the kernel's socket, and one back.
fn exchange(eal: &Arc<Eal>, devargs: &str, kernel_side: &str) {
    let setup =
        PortSetup { promiscuous: true, multicast: vec![MacAddr([1, 0, 0x5e, 0, 0, 9])], ..PortSetup::default() };
    if kernel_side.starts_with("npv") {
        // First: a packet socket that is bound to an interface that is down fails its first send.
        assert!(ip(&format!("link set {kernel_side} up")));
        assert!(ip(&format!("link set {kernel_side}p up")));
    }
    let (port, mut queues) = Port::attach(eal, devargs).unwrap().start(&setup).unwrap();
    let info = port.info().unwrap();
    println!("{info:?} {:?}", port.offloads());
    assert!(port.offloads().kernel_backed && !port.offloads().rx_checksum);
    let queue = &mut queues[0];

    assert!(ip(&format!("addr replace 10.99.7.1/24 dev {kernel_side}")));
    assert!(ip(&format!("link set {kernel_side} up")));
    let our_mac = port.mac();
    assert!(ip(&format!("neigh replace 10.99.7.2 lladdr {our_mac} dev {kernel_side}")));
    // The kernel drops what is sent in the moment in which it brings the link up.
    let operstate = format!("/sys/class/net/{kernel_side}/operstate");
    let up = || {
        std::fs::read_to_string(&operstate)
            .is_ok_and(|state| state.trim() != "down" && state.trim() != "lowerlayerdown")
    };
    let until = Instant::now() + Duration::from_secs(5);
    while !queue.link_up() || !up() {
        assert!(Instant::now() < until, "{devargs}: the link comes up");
        std::thread::sleep(Duration::from_millis(20));
    }
    let kernel_mac: MacAddr =
        std::fs::read_to_string(format!("/sys/class/net/{kernel_side}/address")).unwrap().trim().parse().unwrap();

    let socket = UdpSocket::bind((Ipv4Addr::from(KERNEL_IP), PORT)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut frames = Vec::with_capacity(32);
    for number in 0..100u8 {
        assert_eq!(queue.alloc(&mut frames, 1, false), 1);
        datagram(&mut frames[0], queue, kernel_mac, number);
        assert_eq!(queue.tx_burst(&mut frames), 1, "{devargs}");
        let mut got = [0; 64];
        let (len, from) = socket
            .recv_from(&mut got)
            .unwrap_or_else(|e| panic!("{devargs}: datagram {number}: {e}; {:?}", port.stats()));
        assert_eq!((len, got[0], from.ip()), (12, number, Ipv4Addr::from(OUR_IP).into()));
        socket.send_to(&[number; 20], (Ipv4Addr::from(OUR_IP), PORT)).unwrap();
        receive(queue, number, devargs);
    }
    assert!(ip(&format!("addr flush dev {kernel_side}")));
    drop(queues);
    let closed = port.close().unwrap();
    assert_eq!(closed.outstanding(), 0, "{devargs}: {:?}", closed.pools());
}

/// Receives until the kernel's datagram `number` is there; the kernel says other things too.
fn receive(queue: &mut DpdkQueue, number: u8, devargs: &str) {
    let until = Instant::now() + Duration::from_secs(5);
    let mut got: Vec<Mbuf> = Vec::with_capacity(32);
    let mut seen = false;
    while !seen {
        assert!(Instant::now() < until, "{devargs}: datagram {number} did not come");
        queue.rx_burst(&mut got, 32);
        seen = got.iter().any(|frame| frame.data().len() >= 62 && frame.data()[42..62] == [number; 20]);
        queue.free(&mut got);
    }
}

/// A UDP datagram of 12 bytes, its checksums left to the port where that offers them.
fn datagram(frame: &mut Mbuf, queue: &DpdkQueue, to: MacAddr, number: u8) {
    let bytes = frame.resize(14 + 20 + 8 + 12).unwrap();
    bytes.fill(number);
    bytes[..6].copy_from_slice(&to.0);
    bytes[6..12].copy_from_slice(&queue.mac().0);
    bytes[12..14].copy_from_slice(&[8, 0]);
    bytes[14..34].copy_from_slice(&[0x45, 0, 0, 40, 0, number, 0, 0, 64, 17, 0, 0, 10, 99, 7, 2, 10, 99, 7, 1]);
    bytes[34..42].copy_from_slice(&[0x1a, 0x0a, 0x1a, 0x0a, 0, 20, 0, 0]);
    // RFC 768: source, destination, protocol, length.
    let pseudo = [&bytes[26..34], &[0, 17, 0, 20]].concat();
    if queue.offloads().tx_checksum {
        let partial = sum(&pseudo);
        bytes[40..42].copy_from_slice(&partial.to_be_bytes());
        frame.request_tx_checksum(14, 20);
    } else {
        let header = !sum(&bytes[14..34]);
        bytes[24..26].copy_from_slice(&header.to_be_bytes());
        let udp = !sum(&[&pseudo, &bytes[34..]].concat());
        bytes[40..42].copy_from_slice(&udp.to_be_bytes());
    }
}

/// The Internet checksum's sum (RFC 1071), not inverted; of an even number of bytes.
fn sum(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    ((sum & 0xffff) + (sum >> 16)) as u16
}

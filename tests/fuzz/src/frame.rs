//! Frames through the whole poll over the port in memory: filter, ARP, ICMP echo, hook, replies; the ledger exact after
//! every input, each answer checked by code that shares nothing with the engine.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use netpoll::{
    LcoreId, PortId,
    netpoll::{
        ClientOptions, Netpoll, Port, PortOptions, PortStats, RemoteMac, RxFilter,
        hook::{HookSend, RxBurst, RxHook},
    },
    port::{
        ChecksumVerdict, Offloads,
        memory::{MemoryPort, Wire},
    },
    wire::MacAddr,
};

use super::input::counted;

const US_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const US_IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const PEER_IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// The one that a client wants to know the MAC address of.
const ASKED_IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
/// Frames of one input: more than a burst.
const FRAMES: usize = 96;
/// Longest frame that a buffer of the port takes.
const FRAME_LEN: usize = 2048;

/// The port of an input, by its first byte.
#[derive(Clone, Copy)]
struct Setup(u8);

impl Setup {
    const KERNEL_BACKED: u8 = 1;
    const ACCEPT_PARTIAL: u8 = 2;
    const NO_RX_CLIENT: u8 = 4;
    const FEW_ANSWERS: u8 = 8;
    const ONE_PEER: u8 = 16;
    const HOOK_PANICS: u8 = 32;
    const TX_OFFLOAD: u8 = 64;

    fn has(self, what: u8) -> bool {
        self.0 & what != 0
    }
}

/// A frame, and what the NIC says of it: two bits each for the verdicts, one for a frame in segments.
#[derive(Clone, Copy)]
struct Injected<'a> {
    head: u8,
    bytes: &'a [u8],
}

/// The input is the set-up and then frames, counted.
pub fn run(input: &[u8]) {
    let Some((&setup, rest)) = input.split_first() else { return };
    let setup = Setup(setup);
    let frames: Vec<_> = counted(rest)
        .map(|(head, bytes)| Injected { head, bytes: &bytes[..bytes.len().min(FRAME_LEN)] })
        .take(FRAMES)
        .collect();
    let bursts = through(setup, &frames, 64);
    let one_by_one = through(setup, &frames, 1);
    // A clock decides which are over the rate, and a burst's frames are those of a hook that panics together.
    if !setup.has(Setup::FEW_ANSWERS) && !setup.has(Setup::HOOK_PANICS) {
        let endings = |ran: &Ran| ran.stats.endings().collect::<Vec<_>>();
        assert_eq!(endings(&bursts), endings(&one_by_one), "a frame's ending does not depend on its neighbours");
        assert_eq!(bursts.payloads, one_by_one.payloads);
    }
}

/// What came of an input.
struct Ran {
    stats: PortStats,
    payloads: Vec<Vec<u8>>,
}

/// Keeps what it gets, answers what begins with `R`, sends back what begins with `B`, panics at what begins with `P` if it is told to.
struct Hook {
    kept: Arc<Mutex<Vec<Vec<u8>>>>,
    panics: bool,
}

impl RxHook for Hook {
    fn rx_hook(&mut self, np: &dyn HookSend, burst: &RxBurst<'_>) {
        assert!((1..=64).contains(&burst.datagrams.len()));
        for datagram in burst.datagrams {
            if self.panics && datagram.payload().starts_with(b"P") {
                // Without the panic hook, which would end a fuzzer.
                std::panic::resume_unwind(Box::new("as told"));
            }
            if datagram.payload().starts_with(b"R") {
                let _ = np.reply(datagram, datagram.payload());
            }
            if datagram.payload().starts_with(b"B") {
                np.send_back(std::slice::from_ref(datagram));
            }
            self.kept.lock().expect("no panic holds it").push(datagram.payload().to_vec());
        }
    }
}

fn through(setup: Setup, frames: &[Injected<'_>], budget: usize) -> Ran {
    static NEXT_LCORE: AtomicU32 = AtomicU32::new(1000);
    let _lcore = LcoreId(NEXT_LCORE.fetch_add(1, Ordering::Relaxed)).enter();
    let (io, wire) = MemoryPort::new(MacAddr(US_MAC), 256, 256);
    let io = io.with_offloads(Offloads {
        kernel_backed: setup.has(Setup::KERNEL_BACKED),
        tx_checksum: setup.has(Setup::TX_OFFLOAD),
        ..Offloads::default()
    });
    let mut options = PortOptions::new("fuzz0").ip(US_IP, 24);
    options.accept_partial = setup.has(Setup::ACCEPT_PARTIAL);
    options.answers_per_second = if setup.has(Setup::FEW_ANSWERS) { 1 } else { u32::MAX };
    let port = Port::new(PortId(0), options, vec![io]);
    let kept = Arc::<Mutex<Vec<Vec<u8>>>>::default();
    let mut sender = port
        .setup(ClientOptions::new("sender").remote(ASKED_IP, 6666).remote_mac(RemoteMac::Arp).ring_frames(8))
        .expect("a client");
    let receiver = (!setup.has(Setup::NO_RX_CLIENT)).then(|| {
        let peer = setup.has(Setup::ONE_PEER).then_some(IpAddr::V4(PEER_IP));
        let filter = RxFilter { remote_ip: peer, ..RxFilter::default() };
        let (kept, panics) = (kept.clone(), setup.has(Setup::HOOK_PANICS));
        let hooks = move |_| -> Box<dyn RxHook> { Box::new(Hook { kept: kept.clone(), panics }) };
        port.setup_rx(ClientOptions::new("receiver").remote(PEER_IP, 514).ring_frames(32), filter, hooks).expect("one")
    });
    // So that an address is asked for, and a reply may be the answer.
    sender.send(b"hello").expect("room");
    sender.poll(budget).expect("nobody else polls");
    let asked = wire_frames(&wire);
    assert!(asked.iter().any(|frame| frame[12..14] == [8, 6] && frame[38..42] == ASKED_IP.octets()));

    for frame in frames {
        let went_in = wire.inject_with(frame.bytes, |buffer| {
            buffer.set_verdicts(verdict(frame.head), verdict(frame.head >> 2));
            if frame.head & 0x10 != 0 {
                buffer.set_segmented();
            }
        });
        assert!(went_in);
    }
    poll_all(&sender, budget);

    let stats = port.stats();
    assert!(stats.balances(), "{stats}");
    assert_eq!(stats.arrived(), frames.len() as u64, "{stats}");
    let bytes: usize = frames.iter().map(|frame| frame.bytes.len()).sum();
    assert_eq!(stats.queue.received_bytes, bytes as u64);
    let payloads = std::mem::take(&mut *kept.lock().expect("no panic holds it"));
    if stats.queue.hook_panicked == 0 {
        assert_eq!(stats.queue.delivered, payloads.len() as u64);
    }
    for payload in &payloads {
        let there = frames.iter().any(|frame| payload.is_empty() || contains(frame.bytes, payload));
        assert!(there, "a payload that no frame carried");
    }
    let sent = wire_frames(&wire);
    check_sent(setup, frames, &stats, &sent);

    // The answer, lest the clean-up waits for one.
    assert!(wire.inject(&arp_reply(ASKED_IP)));
    poll_all(&sender, budget);
    let mut submitted = 0;
    let mut left = 0;
    for client in [Some(sender), receiver].into_iter().flatten() {
        let client = client.cleanup().expect("not in a hook");
        assert!(client.balances(), "{client}");
        submitted += client.submit.submitted;
        left += client.sent.sent;
    }
    assert!(submitted >= 1);
    let end = port.stats();
    assert!(end.balances(), "{end}");
    assert_eq!(end.queue.sent, left + end.queue.engine_sent, "{end}");
    assert_eq!(end.queue.engine_submitted, end.queue.engine_sent + end.queue.engine_dropped);
    wire_frames(&wire);
    assert_eq!(wire.pool().outstanding(), 0, "every buffer is back");
    Ran { stats, payloads }
}

/// `ip` is at a MAC address of its own.
fn arp_reply(ip: Ipv4Addr) -> Vec<u8> {
    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
    let head = [0, 1, 8, 0, 6, 4, 0, 2];
    [&US_MAC[..], &MAC, &[8, 6], &head, &MAC, &ip.octets(), &US_MAC, &US_IP.octets(), &[0; 18]].concat()
}

fn verdict(bits: u8) -> ChecksumVerdict {
    match bits & 3 {
        1 => ChecksumVerdict::Good,
        2 => ChecksumVerdict::Bad,
        _ => ChecksumVerdict::Unknown,
    }
}

fn poll_all(client: &Netpoll<MemoryPort>, budget: usize) {
    for _ in 0..1000 {
        if client.poll(budget).expect("nobody else polls") == 0 {
            return;
        }
    }
    panic!("polls without end");
}

fn wire_frames(wire: &Wire) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| wire.take()).collect()
}

fn contains(frame: &[u8], payload: &[u8]) -> bool {
    frame.windows(payload.len()).any(|window| window == payload)
}

/// Everything that left because of the input: from us, to one host, whole, no longer than what asked for it.
fn check_sent(setup: Setup, frames: &[Injected<'_>], stats: &PortStats, sent: &[Vec<u8>]) {
    let longest = frames.iter().map(|frame| frame.bytes.len()).max().unwrap_or(0).max(60);
    let (mut arp, mut icmp) = (0, 0);
    for frame in sent {
        assert!((42..=longest).contains(&frame.len()), "{} bytes answer {longest}", frame.len());
        assert_eq!(frame[6..12], US_MAC);
        match (&frame[12..14], frame.get(20..22)) {
            ([8, 6], Some([0, 2])) => {
                arp += 1;
                check_arp_reply(frames, frame);
            }
            // A gratuitous one, or a question, of our own.
            ([8, 6], Some([0, 1])) => assert_eq!(frame[..6], [0xff; 6]),
            ([8, 0], _) if frame[23] == 1 => {
                icmp += 1;
                check_ip(frame, true);
                assert_eq!(frame[0] & 1, 0, "to one host");
                assert_eq!(frame[34..36], [0, 0], "an echo reply");
                assert_eq!(sum(&frame[34..14 + total_len(frame)]), 0xffff, "ICMP checksum");
            }
            ([8, 0], _) if frame[23] == 17 => check_ip(frame, !setup.has(Setup::TX_OFFLOAD)),
            _ => panic!("sent what nobody sends: {frame:02x?}"),
        }
    }
    assert_eq!(arp, stats.queue.arp_answered);
    assert_eq!(icmp, stats.queue.icmp_answered);
}

fn check_arp_reply(frames: &[Injected<'_>], frame: &[u8]) {
    assert_eq!(frame[0] & 1, 0, "to one host");
    assert_eq!(frame[14..20], [0, 1, 8, 0, 6, 4]);
    assert_eq!(frame[22..28], US_MAC);
    assert_eq!(frame[28..32], US_IP.octets());
    assert_eq!(frame[32..38], frame[..6], "to whom it is addressed");
    let asker = |asked: &Injected<'_>| asked.bytes.get(22..32) == Some(&frame[32..42]);
    assert!(frames.iter().any(asker), "an answer that nobody asked for");
}

fn total_len(frame: &[u8]) -> usize {
    usize::from(u16::from_be_bytes([frame[16], frame[17]]))
}

fn check_ip(frame: &[u8], summed: bool) {
    assert_eq!(frame[14], 0x45);
    assert!(14 + total_len(frame) <= frame.len());
    assert_eq!(frame[26..30], US_IP.octets(), "from our address");
    assert!(frame[30] < 224 && frame[30] != 127, "to one host");
    if summed {
        assert_eq!(sum(&frame[14..34]), 0xffff, "IPv4 checksum");
    }
}

/// The Internet checksum's sum, RFC 1071 by the letter: 0xffff over what holds its own checksum.
fn sum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

//! Datagrams sent back by the hook in the frames that they came in: bytes, order, room, the ledger, over a port in memory.

mod support;

use std::{
    sync::{Arc, Mutex, atomic::Ordering},
    time::{Duration, Instant},
};

use netpoll::{
    PortId, QueueId,
    netpoll::{
        ClientOptions, Netpoll, OnFull, Port, RxFilter,
        hook::{DatagramBuf, HookSend, NoSend, RxBurst, RxHook},
    },
    port::{
        ChecksumVerdict, Offloads,
        fault::{FaultPort, Faults},
        memory::{MemoryPort, Wire},
    },
    wire::{
        MacAddr,
        template::{UdpFlow, UdpTemplate},
    },
};
use support::*;

/// A hook that sends the whole burst back.
fn send_all_back(_: QueueId) -> Box<dyn RxHook> {
    Box::new(Hook(|np: &dyn HookSend, burst: &RxBurst<'_>| {
        assert_eq!(np.send_back(burst.datagrams), burst.datagrams.len());
    }))
}

/// A port whose NIC can be made to refuse.
fn faulty() -> (Arc<Port<FaultPort<MemoryPort>>>, Arc<Faults>, Wire) {
    let (io, wire) = MemoryPort::new(US_MAC, 1024, 8192);
    let (io, faults) = FaultPort::new(io);
    (Port::new(PortId(0), options(), vec![io]), faults, wire)
}

fn number(frame: &[u8]) -> u32 {
    u32::from_be_bytes(payload(frame).try_into().unwrap())
}

/// Polls until the NIC, which takes everything again, has what the client submitted.
fn drain<P: netpoll::port::PortIo>(np: &Netpoll<P>) {
    let start = Instant::now();
    while np.stats().queued > 0 {
        assert!(start.elapsed() < Duration::from_secs(60), "what waits leaves once the NIC takes it");
        np.poll(64);
    }
}

/// The answer to [`datagram`] as a template builds it.
fn answer(from_port: u16, payload: &[u8]) -> Vec<u8> {
    let flow = UdpFlow {
        src_mac: US_MAC,
        dst_mac: PEER_MAC,
        src_ip: US_IP,
        dst_ip: PEER_IP,
        src_port: from_port,
        dst_port: 4000,
    };
    let mut frame = vec![0; UdpTemplate::frame_len(payload.len()).max(60)];
    UdpTemplate::new(&flow).emit(&mut frame, payload, 1).unwrap();
    frame
}

#[test]
fn whole_bursts_go_back_in_their_own_frames() {
    let _lcore = enter_lcore();
    let (port, wire) = port();
    // One credit: what goes by the ring is refused but for one frame a poll.
    let np = port.setup_rx(client("echo").ring_frames(1), RxFilter::default(), send_all_back).unwrap();
    take_all(&wire);
    let mut expected = Vec::new();
    for n in 0..640_u16 {
        let bytes = vec![n as u8; usize::from(n) * 2];
        let mut frame = datagram(7, &bytes);
        // Padding that somebody left something in.
        let end = UdpTemplate::frame_len(bytes.len());
        frame[end..].fill(0xee);
        frame.extend([0xee; 3]);
        wire.inject(&frame);
        expected.push(answer(7, &bytes));
        if n % 64 == 63 {
            assert_eq!(np.poll(64), Some(64), "64 in; what left was staged by the hook");
        }
    }
    let sent = take_all(&wire);
    assert_eq!(sent.len(), expected.len());
    for (n, (sent, expected)) in sent.iter().zip(&expected).enumerate() {
        assert_eq!(sent, expected, "datagram {n}");
    }
    let (stats, queue) = (np.stats(), port.stats());
    assert_eq!((stats.submit.submitted, stats.sent.sent, stats.queued), (640, 640, 0));
    assert_eq!(stats.submit.queued_bytes, (0..640).map(|n| n * 2).sum::<u64>());
    assert_eq!((queue.queue.received, queue.queue.delivered), (640, 640));
    assert_eq!(queue.queue.sent, 640 + queue.queue.engine_sent);
    assert!(stats.balances() && queue.balances(), "{stats}\n{queue}");
    np.cleanup().unwrap();
    assert_eq!(wire.pool().outstanding(), 0, "mbufs out = mbufs back");
}

/// Between ARP and strangers, some sent back, some not: each frame ends once.
#[test]
fn some_of_a_mixed_burst() {
    let _lcore = enter_lcore();
    let (port, wire) = port();
    let np = port
        .setup_rx(client("odd"), RxFilter { local_ports: 7.into(), ..RxFilter::default() }, |_: QueueId| {
            Box::new(Hook(|np: &dyn HookSend, burst: &RxBurst<'_>| {
                for datagram in burst.datagrams.iter().filter(|datagram| datagram.payload()[3] % 2 == 1) {
                    assert_eq!(np.send_back(std::slice::from_ref(datagram)), 1);
                }
            })) as Box<dyn RxHook>
        })
        .unwrap();
    take_all(&wire);
    let mut arp = vec![0; 60];
    netpoll::wire::arp::Arp::request(PEER_MAC, PEER_IP, US_IP).emit_frame(&mut arp, MacAddr::BROADCAST);
    for n in 0..60_u32 {
        match n % 6 {
            0 => wire.inject(&arp),
            1 => wire.inject(&datagram(8, b"not ours")),
            _ => wire.inject(&datagram(7, &n.to_be_bytes())),
        };
    }
    np.poll(64);
    let (udp, other): (Vec<_>, Vec<_>) = take_all(&wire).into_iter().partition(|frame| is_udp(frame));
    let expected: Vec<u32> = (0..60).filter(|n| n % 6 > 1 && n % 2 == 1).collect();
    assert_eq!(udp.iter().map(|frame| number(frame)).collect::<Vec<_>>(), expected);
    let stats = port.stats();
    assert_eq!((stats.queue.delivered, stats.queue.arp_answered, other.len()), (40, 10, 10));
    assert!(np.stats().balances() && stats.balances(), "{}\n{stats}", np.stats());
    np.cleanup().unwrap();
    assert_eq!(wire.pool().outstanding(), 0);
}

/// Whatever a hook does in whatever order, and whatever the NIC takes: what it was told is queued leaves, in that order.
#[test]
fn the_order_of_submission_is_the_order_of_departure() {
    let _lcore = enter_lcore();
    let (port, faults, wire) = faulty();
    let accepted = Arc::new(Mutex::new(Vec::new()));
    let keep = accepted.clone();
    let mut random = 1_u64;
    let mut draw = move |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let mut draw_outside = draw;
    let mut own = 1 << 24;
    let hook = Hook(move |np: &dyn HookSend, burst: &RxBurst<'_>| {
        let mut accepted = keep.lock().unwrap();
        let numbers = |some: &[netpoll::netpoll::hook::Datagram<'_>]| -> Vec<u32> {
            some.iter().map(|datagram| u32::from_be_bytes(datagram.payload().try_into().unwrap())).collect()
        };
        for _ in 0..draw(6) {
            let from = draw(burst.datagrams.len() as u64) as usize;
            let some = &burst.datagrams[from..][..draw((burst.datagrams.len() - from) as u64 + 1) as usize];
            let (queued, of) = match draw(8) {
                0 => {
                    own += 1;
                    (usize::from(np.send(&u32::to_be_bytes(own)).is_ok()), vec![own])
                }
                1 => {
                    let to = &burst.datagrams[from];
                    (usize::from(np.reply(to, to.payload()).is_ok()), numbers(&[*to]))
                }
                // Not those of the burst, but copies.
                2 => {
                    let copies = some.to_vec();
                    (np.send_back(&copies), numbers(&copies))
                }
                // Overlapping ones, earlier ones, the same ones again.
                _ => (np.send_back(some), numbers(some)),
            };
            // No room comes back inside a hook: what was refused is the end of it.
            accepted.extend(&of[..queued]);
        }
    });
    let mut hook = Some(hook);
    let factory = move |_: QueueId| Box::new(hook.take().expect("one queue")) as Box<dyn RxHook>;
    let np = port.setup_rx(client("mixed").ring_frames(128), RxFilter::default(), factory).unwrap();
    let other = np.shared().expect("a client with a hook is shared");
    take_all(&wire);
    let mut got = Vec::new();
    let mut injected = 0;
    for round in 0..3000_u32 {
        faults.tx_takes.store([usize::MAX, 3, usize::MAX, 0, 40, usize::MAX][round as usize % 6], Ordering::Relaxed);
        if draw_outside(4) == 0 {
            // From outside the hook, before it runs.
            let outside = (1 << 30) + round;
            if other.send(&outside.to_be_bytes()).is_ok() {
                accepted.lock().unwrap().push(outside);
            }
        }
        for _ in 0..draw_outside(80) {
            wire.inject(&datagram(7, &u32::to_be_bytes(injected)));
            injected += 1;
        }
        np.poll(64);
        got.extend(take_all(&wire).iter().map(|frame| number(frame)));
    }
    faults.tx_takes.store(usize::MAX, Ordering::Relaxed);
    while np.poll(64).unwrap() > 0 {}
    drain(&np);
    got.extend(take_all(&wire).iter().map(|frame| number(frame)));
    let accepted = accepted.lock().unwrap();
    assert!(accepted.len() > 10_000, "{} is hardly a test", accepted.len());
    assert_eq!(got.len(), accepted.len());
    let wrong = got.iter().zip(accepted.iter()).position(|(got, accepted)| got != accepted);
    assert_eq!(wrong, None, "the first that is out of order");
    let (stats, queue) = (np.stats(), port.stats());
    assert_eq!(stats.sent.sent, got.len() as u64);
    assert_eq!(queue.queue.received, u64::from(injected));
    assert!(stats.balances() && queue.balances(), "{stats}\n{queue}");
    np.cleanup().unwrap();
    assert_eq!(wire.pool().outstanding(), 0);
}

/// A NIC that takes nothing: the stage fills, then the ring, then the drop policy decides; nothing is lost uncounted.
#[test]
fn a_full_stage_leaves_it_to_the_ring_and_its_policy() {
    let _lcore = enter_lcore();
    let (port, faults, wire) = faulty();
    let refused = Arc::new(Mutex::new(Vec::new()));
    let keep = refused.clone();
    let policy = OnFull::Callback(Arc::new(move |bytes: &[u8]| {
        keep.lock().unwrap().push(u32::from_be_bytes(bytes.try_into().unwrap()));
    }));
    let hook = |_: QueueId| {
        Box::new(Hook(|np: &dyn HookSend, burst: &RxBurst<'_>| {
            np.send_back(burst.datagrams);
        })) as Box<dyn RxHook>
    };
    let np = port.setup_rx(client("echo").ring_frames(8).on_full(policy), RxFilter::default(), hook).unwrap();
    take_all(&wire);
    faults.tx_takes.store(0, Ordering::Relaxed);
    for n in 0..384_u32 {
        wire.inject(&datagram(7, &n.to_be_bytes()));
    }
    for _ in 0..6 {
        np.poll(64);
    }
    let stats = np.stats();
    assert_eq!((stats.submit.submitted, stats.queued, stats.submit.ring_full), (384, 256 + 8, 120));
    assert!(stats.balances(), "{stats}");
    assert_eq!(*refused.lock().unwrap(), (264..384).collect::<Vec<_>>());
    assert_eq!(port.stats().queue.delivered, 384);
    faults.tx_takes.store(usize::MAX, Ordering::Relaxed);
    drain(&np);
    let got: Vec<_> = take_all(&wire).iter().map(|frame| number(frame)).collect();
    assert_eq!(got, (0..264).collect::<Vec<_>>());
    // Room again: in place again.
    wire.inject(&datagram(7, &7_u32.to_be_bytes()));
    np.poll(64);
    assert_eq!(take_all(&wire).len(), 1);
    let stats = np.cleanup().unwrap();
    assert!(stats.balances() && port.stats().balances(), "{stats}");
    assert_eq!(wire.pool().outstanding(), 0);
}

#[test]
fn a_clean_up_counts_what_the_nic_did_not_take() {
    let _lcore = enter_lcore();
    let (port, faults, wire) = faulty();
    let np = port.setup_rx(client("echo"), RxFilter::default(), send_all_back).unwrap();
    take_all(&wire);
    faults.tx_takes.store(0, Ordering::Relaxed);
    (0..10_u32).for_each(|n| assert!(wire.inject(&datagram(7, &n.to_be_bytes()))));
    np.poll(64);
    assert_eq!(np.stats().queued, 10);
    let stats = np.cleanup().unwrap();
    assert_eq!((stats.submit.submitted, stats.sent.cleanup, stats.queued), (10, 10, 0));
    assert!(stats.balances() && port.stats().balances(), "{stats}");
    assert_eq!(wire.pool().outstanding(), 0, "each frame is freed, once");
}

/// As with `reply`: what was submitted before a hook panics leaves.
#[test]
fn a_panic_after_it_loses_nothing_that_was_sent_back() {
    let _lcore = enter_lcore();
    let (port, wire) = port();
    let hook = |_: QueueId| {
        Box::new(Hook(|np: &dyn HookSend, burst: &RxBurst<'_>| {
            if np.send_back(&burst.datagrams[..5]) == 5 {
                std::panic::resume_unwind(Box::new("on purpose"));
            }
        })) as Box<dyn RxHook>
    };
    let np = port.setup_rx(client("echo"), RxFilter::default(), hook).unwrap();
    take_all(&wire);
    for n in 0..20_u32 {
        wire.inject(&datagram(7, &n.to_be_bytes()));
    }
    poll_all(&np);
    assert_eq!(take_all(&wire).iter().map(|frame| number(frame)).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    let stats = port.stats();
    assert_eq!((stats.queue.hook_panicked, stats.queue.delivered), (20, 0));
    let client = np.cleanup().unwrap();
    assert_eq!((client.submit.submitted, client.sent.sent), (5, 5));
    assert!(client.balances() && stats.balances(), "{client}\n{stats}");
    assert_eq!(wire.pool().outstanding(), 0);
}

#[test]
fn a_link_that_is_down_refuses() {
    let _lcore = enter_lcore();
    let (port, wire) = port();
    let hook = |_: QueueId| {
        Box::new(Hook(|np: &dyn HookSend, burst: &RxBurst<'_>| assert_eq!(np.send_back(burst.datagrams), 0)))
            as Box<dyn RxHook>
    };
    let np = port.setup_rx(client("echo"), RxFilter::default(), hook).unwrap();
    take_all(&wire);
    wire.set_link(false);
    let start = Instant::now();
    while port.is_up() {
        assert!(start.elapsed() < Duration::from_secs(60));
        np.poll(64);
    }
    (0..3).for_each(|_| assert!(wire.inject(&datagram(7, b"down"))));
    np.poll(64);
    let stats = np.cleanup().unwrap();
    assert_eq!((stats.submit.submitted, stats.submit.refused_port_down), (3, 3));
    assert!(stats.balances());
    assert_eq!(wire.pool().outstanding(), 0);
}

/// The sum of RFC 1071 by the letter: 0xffff over what holds its own checksum.
fn sum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u32;
    for pair in parts.iter().flat_map(|part| part.chunks(2)) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Partial sums are made whole, absent ones stay absent, groups are answered from our own address, options are not sent back.
#[test]
fn checksums_that_are_not_there_or_not_whole_and_addresses_that_are_not_ours() {
    let _lcore = enter_lcore();
    let (io, wire) = MemoryPort::new(US_MAC, 1024, 8192);
    let io = io.with_offloads(Offloads { kernel_backed: true, ..Offloads::default() });
    let port = Port::new(PortId(0), options(), vec![io]);
    let np = port.setup_rx(client("echo"), RxFilter::default(), send_all_back).unwrap();
    take_all(&wire);
    let plain = datagram(7, b"payload");
    let with = |change: fn(&mut Vec<u8>)| {
        let mut frame = plain.clone();
        change(&mut frame);
        frame[24..26].fill(0);
        let header_end = 14 + usize::from(frame[14] & 0xf) * 4;
        let checksum = !sum(&[&frame[14..header_end]]);
        frame[24..26].copy_from_slice(&checksum.to_be_bytes());
        frame
    };
    fn pseudo(frame: &[u8]) -> u16 {
        sum(&[&frame[26..34], &[0, 17], &frame[38..40]])
    }
    let partial = with(|frame| {
        let pseudo = pseudo(frame);
        frame[40..42].copy_from_slice(&pseudo.to_be_bytes());
    });
    let absent = with(|frame| frame[40..42].fill(0));
    let group = with(|frame| {
        // The sum stays right: what is added here is taken off there.
        let (before, after) = (sum(&[&frame[30..34]]), sum(&[&[239, 1, 2, 3]]));
        frame[30..34].copy_from_slice(&[239, 1, 2, 3]);
        let checksum = sum(&[&frame[40..42], &before.to_be_bytes(), &(!after).to_be_bytes()]);
        frame[40..42].copy_from_slice(&checksum.to_be_bytes());
    });
    let options = with(|frame| {
        frame[14] = 0x46;
        frame[17] += 4;
        frame.splice(34..34, [1; 4]);
    });
    let good = |frame: &[u8]| {
        wire.inject_with(frame, |frame| frame.set_verdicts(ChecksumVerdict::Good, ChecksumVerdict::Good))
    };
    for frame in [&plain, &partial, &absent, &group, &options] {
        wire.inject(frame);
        // As virtio has it: "good", although it is only partial.
        good(frame);
        np.poll(64);
        for sent in take_all(&wire) {
            assert_eq!(sent[..12], *[PEER_MAC.0, US_MAC.0].as_flattened());
            assert_eq!((sent[14], &sent[16..18]), (0x45, &[0, 35][..]));
            assert_eq!(sum(&[&sent[14..34]]), 0xffff, "IPv4 header");
            assert_eq!(sent[26..34], *[US_IP.octets(), PEER_IP.octets()].as_flattened());
            assert_eq!(sent[34..40], [0, 7, 0x0f, 0xa0, 0, 15]);
            assert_eq!(payload(&sent), b"payload");
            assert_eq!(sent[49..], [0; 11], "padding");
            let field = [sent[40], sent[41]];
            if *frame == absent {
                assert_eq!(field, [0, 0]);
            } else {
                assert_eq!(sum(&[&sent[26..34], &[0, 17], &sent[38..40], &sent[34..49]]), 0xffff, "UDP checksum");
            }
        }
    }
    let (stats, queue) = (np.stats(), port.stats());
    assert_eq!((stats.sent.sent, queue.queue.delivered, queue.queue.delivered_partial), (10, 10, 1));
    assert!(stats.balances() && queue.balances());
}

/// A datagram that is longer than what the client may send is not sent back.
#[test]
fn too_long_is_counted() {
    let _lcore = enter_lcore();
    let (io, wire) = MemoryPort::new(US_MAC, 64, 256);
    let mut small = options();
    small.mtu = 576;
    let port = Port::new(PortId(0), small, vec![io]);
    let np = port.setup_rx(client("echo"), RxFilter::default(), send_all_back).unwrap();
    take_all(&wire);
    for len in [548, 549, 100] {
        wire.inject(&datagram(7, &vec![1; len]));
    }
    np.poll(64);
    assert_eq!(take_all(&wire).iter().map(|frame| payload(frame).len()).collect::<Vec<_>>(), [548, 100]);
    let stats = np.stats();
    assert_eq!((stats.submit.submitted, stats.sent.sent, stats.submit.too_long), (3, 2, 1));
    assert!(stats.balances() && port.stats().balances());
    np.cleanup().unwrap();
    assert_eq!(wire.pool().outstanding(), 0);
}

/// On the queue that its ring does not belong to, a client's frames go by the ring all the same: one way out, one order.
#[test]
fn a_hook_on_another_queue_goes_by_the_ring() {
    let _lcore = enter_lcore();
    let (home, home_wire) = MemoryPort::new(US_MAC, 1024, 4096);
    let (other, other_wire) = MemoryPort::new(US_MAC, 1024, 4096);
    let port = Port::new(PortId(0), options(), vec![home, other]);
    let np = port.setup_rx(client("echo").ring_frames(64), RxFilter::default(), send_all_back).unwrap();
    let info = port.npinfo().unwrap();
    let on_other = port.setup(ClientOptions::new("second").remote(PEER_IP, 1)).unwrap();
    take_all(&home_wire);
    take_all(&other_wire);
    for n in 0..40_u32 {
        other_wire.inject(&datagram(7, &n.to_be_bytes()));
    }
    // The second client is the second queue's.
    on_other.poll(64);
    assert_eq!(np.stats().queued, 40);
    (40..50_u32).for_each(|n| assert!(home_wire.inject(&datagram(7, &n.to_be_bytes()))));
    np.poll(64);
    assert!(take_all(&other_wire).is_empty());
    let got: Vec<_> = take_all(&home_wire).iter().map(|frame| number(frame)).collect();
    assert_eq!(got, (0..50).collect::<Vec<_>>());
    assert!(np.stats().balances() && port.stats().balances());
    drop(info);
    drop((np, on_other));
    assert_eq!(home_wire.pool().outstanding() + other_wire.pool().outstanding(), 0);
}

/// A sender that polls to make room, on the lcore itself: the hook runs there, too.
#[test]
fn while_a_sender_makes_room() {
    let _lcore = enter_lcore();
    let (port, wire) = port();
    let np = port.setup_rx(client("echo"), RxFilter::default(), send_all_back).unwrap();
    let wait = OnFull::Wait(Duration::from_secs(60));
    let mut tx = port.setup(client("tx").ring_frames(1).on_full(wait)).unwrap();
    take_all(&wire);
    for n in 0..8_u32 {
        wire.inject(&datagram(7, &n.to_be_bytes()));
    }
    tx.send(&[0xff; 4]).unwrap();
    tx.send(&[0xff; 4]).unwrap();
    poll_all(&np);
    let got: Vec<_> = take_all(&wire).iter().map(|frame| number(frame)).filter(|n| *n != u32::MAX).collect();
    assert_eq!(got, (0..8).collect::<Vec<_>>());
    assert_eq!(tx.stats().sent.sent, 2);
    assert!(np.stats().balances() && tx.stats().balances() && port.stats().balances());
}

/// What does not know bursts answers one by one.
#[test]
fn without_a_port_it_is_reply() {
    let one = DatagramBuf::new(([10, 0, 0, 1], 1).into(), ([10, 0, 0, 2], 2).into(), b"x");
    assert_eq!(NoSend.send_back(&[one.datagram()]), 0);
}

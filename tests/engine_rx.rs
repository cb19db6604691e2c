//! Receiving: the one rx hook, the filter's counters, ARP and ICMP, over a port in memory.

#[path = "../engine/src/netpoll/filter/bad_frames.rs"]
mod bad_frames;
mod support;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use netpoll::{
    PortId, QueueId,
    netpoll::{
        ClientOptions, IdlePolicy, OnFull, PollLoop, Port, PortOptions, RX_DROP, RX_ENABLED, RxFilter, SetupError,
        filter::Reason,
        hook::{HookSend, RxBurst, RxHook},
    },
    port::{
        Offloads,
        memory::{MemoryPort, Wire},
    },
    wire::{
        MacAddr,
        arp::{Arp, Operation},
    },
};
use support::*;

/// The bug that the 2005 patch fixes: the last client to register hid the first one's hook.
#[test]
fn a_client_without_a_hook_never_hides_the_one_with() {
    for hook_first in [true, false] {
        let _lcore = enter_lcore();
        let (port, wire) = port();
        let recorder = Recorder::default();
        let setup_rx = || port.setup_rx(client("rx"), RxFilter::default(), recorder.factory()).unwrap();
        let setup_tx = || port.setup(client("tx")).unwrap();
        let (rx, tx) = if hook_first {
            let rx = setup_rx();
            (rx, setup_tx())
        } else {
            let tx = setup_tx();
            (setup_rx(), tx)
        };
        assert_eq!(port.npinfo().unwrap().rx_np().as_deref(), Some("rx"));
        wire.inject(&datagram(514, b"both there"));
        poll_all(&rx);
        // The one without a hook leaves: the hook stays.
        tx.cleanup().unwrap();
        assert_eq!(port.npinfo().unwrap().rx_flags(), RX_ENABLED);
        wire.inject(&datagram(514, b"one left"));
        poll_all(&rx);
        assert_eq!(recorder.payloads(), [&b"both there"[..], b"one left"], "hook first: {hook_first}");
        // The other way round: the one with the hook leaves, and frames are counted, not delivered.
        let tx = port.setup(client("tx")).unwrap();
        rx.cleanup().unwrap();
        assert_eq!(port.npinfo().unwrap().rx_flags(), 0);
        wire.inject(&datagram(514, b"nobody"));
        poll_all(&tx);
        assert_eq!(recorder.payloads().len(), 2);
        assert_eq!(port.stats().unmatched(Reason::NoRxClient), 1);
        assert!(port.stats().balances());
    }
}

#[test]
fn a_second_hook_is_refused_with_the_holders_name() {
    let (port, _wire) = port();
    let recorder = Recorder::default();
    let first = port.setup_rx(client("the first"), RxFilter::default(), recorder.factory()).unwrap();
    let refused = port.setup_rx(client("the second"), RxFilter::default(), recorder.factory()).unwrap_err();
    assert_eq!(refused, SetupError::RxTaken { port: "mem0".into(), holder: "the first".into() });
    assert!(refused.to_string().contains("\"the first\""), "{refused}");
    first.cleanup().unwrap();
    port.setup_rx(client("the second"), RxFilter::default(), recorder.factory()).unwrap();
}

#[test]
fn every_bad_frame_ends_under_its_own_reason() {
    let _lcore = enter_lcore();
    for (reason, frame) in bad_frames::bad_frames() {
        let (io, wire) = MemoryPort::new(MacAddr(bad_frames::US_MAC), 64, 256);
        let io = io.with_offloads(Offloads { kernel_backed: true, ..Offloads::default() });
        let mut options = PortOptions::new("bad0").ip(bad_frames::US_IP.into(), 24);
        options.accept_partial = false;
        let port = Port::new(PortId(1), options, vec![io]);
        let recorder = Recorder::default();
        let client = ClientOptions::new("bad");
        let filter = RxFilter {
            local_ip: Some(bad_frames::US_IP.into()),
            remote_ip: (reason != Reason::NotAllowed).then_some(bad_frames::PEER_IP.into()),
            allow: [(bad_frames::PEER_IP.into(), 31)].into_iter().collect(),
            local_ports: bad_frames::PORT.into(),
        };
        let np = if reason == Reason::NoRxClient {
            port.setup(client).unwrap()
        } else {
            port.setup_rx(client, filter, recorder.factory()).unwrap()
        };
        wire.inject_with(&frame, |buffer| {
            if reason == Reason::Segmented {
                buffer.set_segmented();
            }
        });
        poll_all(&np);
        let stats = port.stats();
        let counted: Vec<_> = stats.endings().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [(reason.name(), 1)], "{}", reason.help());
        assert!(recorder.payloads().is_empty());
        assert!(stats.balances());
    }
}

#[test]
fn arp_is_answered_with_and_without_an_rx_client() {
    let _lcore = enter_lcore();
    let (port, wire) = port();
    let np = port.setup(client("tx")).unwrap();
    // A gratuitous one goes out when the address is set up.
    let announced = take_all(&wire);
    assert_eq!(announced.len(), 1);
    assert_eq!(Arp::parse(&announced[0][14..]).unwrap(), Arp::gratuitous(US_MAC, US_IP));
    let mut request = vec![0; 60];
    Arp::request(PEER_MAC, PEER_IP, US_IP).emit_frame(&mut request, MacAddr::BROADCAST).unwrap();
    wire.inject(&request);
    poll_all(&np);
    let reply = wire.take().expect("a reply");
    assert_eq!(&reply[..12], [PEER_MAC.0, US_MAC.0].as_flattened(), "to the asker, from us");
    let arp = Arp::parse(&reply[14..]).unwrap();
    assert_eq!(arp.operation, Operation::Reply);
    assert_eq!((arp.sender_mac, arp.sender_ip), (US_MAC, US_IP));
    assert_eq!((arp.target_mac, arp.target_ip), (PEER_MAC, PEER_IP));
    let stats = port.stats();
    assert_eq!(stats.queue.arp_answered, 1);
    assert_eq!(stats.queue.engine_submitted, stats.queue.engine_sent);
    assert!(stats.balances());
}

#[test]
fn ping_is_answered() {
    let _lcore = enter_lcore();
    let (io, wire) = MemoryPort::new(MacAddr(bad_frames::US_MAC), 64, 256);
    let port = Port::new(PortId(1), PortOptions::new("mem1").ip(bad_frames::US_IP.into(), 24), vec![io]);
    let np = port.setup(ClientOptions::new("tx")).unwrap();
    take_all(&wire);
    let request = bad_frames::good_echo();
    wire.inject(&request);
    wire.inject(&bad_frames::good_arp());
    poll_all(&np);
    let replies = take_all(&wire);
    assert_eq!(replies.len(), 2);
    let reply = &replies[0];
    assert_eq!(reply[..12], *[bad_frames::PEER_MAC, bad_frames::US_MAC].as_flattened());
    assert_eq!(reply[26..34], *[bad_frames::US_IP, bad_frames::PEER_IP].as_flattened());
    assert_eq!((request[34], reply[34]), (8, 0), "echo request, echo reply");
    assert_eq!(reply[38..], request[38..], "identifier, sequence and data come back");
    assert_eq!((port.stats().queue.icmp_answered, port.stats().queue.arp_answered), (1, 1));
    assert!(port.stats().balances());
}

#[test]
fn arp_floods_are_answered_up_to_the_limit_and_counted_beyond() {
    let _lcore = enter_lcore();
    let (io, wire) = MemoryPort::new(US_MAC, 4096, 8192);
    let mut limited = options();
    limited.answers_per_second = 100;
    let port = Port::new(PortId(0), limited, vec![io]);
    let np = port.setup(client("tx")).unwrap();
    let mut request = vec![0; 60];
    Arp::request(PEER_MAC, PEER_IP, US_IP).emit_frame(&mut request, US_MAC).unwrap();
    for _ in 0..1000 {
        wire.inject(&request);
    }
    poll_all(&np);
    let stats = port.stats();
    assert!(stats.queue.arp_answered >= 10, "the burst that the bucket holds");
    assert_eq!(stats.queue.arp_answered + stats.queue.rate_limited, 1000);
    assert!(stats.queue.rate_limited > 900);
    assert!(stats.balances());
}

#[test]
fn an_answer_leaves_before_the_hook_runs() {
    let _lcore = enter_lcore();
    let (port, wire) = port();
    let answered = Arc::new(AtomicBool::new(false));
    let (seen, on_wire) = (answered.clone(), wire.clone());
    let np = port
        .setup_rx(client("rx"), RxFilter::default(), move |_| {
            let (seen, on_wire) = (seen.clone(), on_wire.clone());
            Box::new(Hook(move |_: &dyn HookSend, _: &RxBurst<'_>| {
                let on_wire = take_all(&on_wire);
                seen.store(on_wire.iter().any(|frame| frame[21] == 2), Ordering::Relaxed);
            })) as Box<dyn RxHook>
        })
        .unwrap();
    take_all(&wire);
    let mut request = vec![0; 60];
    Arp::request(PEER_MAC, PEER_IP, US_IP).emit_frame(&mut request, US_MAC).unwrap();
    wire.inject(&datagram(514, b"line"));
    wire.inject(&request);
    poll_all(&np);
    assert!(answered.load(Ordering::Relaxed), "the ARP reply was on the wire when the hook ran");
}

#[test]
fn a_hook_that_panics_is_taken_out_of_service_and_its_frames_are_counted() {
    let _lcore = enter_lcore();
    let (port, wire) = port();
    let np = port
        .setup_rx(client("rx"), RxFilter::default(), |_: QueueId| {
            Box::new(Hook(|_: &dyn HookSend, _: &RxBurst<'_>| -> () { panic!("on purpose") })) as Box<dyn RxHook>
        })
        .unwrap();
    for _ in 0..3 {
        wire.inject(&datagram(514, b"line"));
        poll_all(&np);
    }
    let stats = port.stats();
    assert_eq!((stats.queue.hook_panicked, stats.queue.delivered), (3, 0));
    assert!(stats.balances());
    drop(np);
    drop(take_all(&wire));
    assert_eq!(wire.pool().outstanding(), 0, "mbufs out = mbufs back");
}

/// `RX_DROP`: a sender that polls only to make room delivers what is for the rx client, and drops the rest.
#[test]
fn making_room_drops_what_is_not_for_the_rx_client() {
    let _lcore = enter_lcore();
    let (port, wire) = port();
    let flags = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let (seen, of) = (flags.clone(), port.clone());
    let recorder = Recorder::default();
    let keep = recorder.clone();
    let rx = port
        .setup_rx(client("rx"), RxFilter { local_ports: 514.into(), ..RxFilter::default() }, move |_| {
            let (seen, of, mut keep) = (seen.clone(), of.clone(), keep.clone());
            Box::new(Hook(move |np: &dyn HookSend, burst: &RxBurst<'_>| {
                seen.store(of.npinfo().unwrap().rx_flags(), Ordering::Relaxed);
                keep.rx_hook(np, burst);
            })) as Box<dyn RxHook>
        })
        .unwrap();
    let wait = OnFull::Wait(std::time::Duration::from_secs(2));
    let mut tx = port.setup(client("tx").ring_frames(4).on_full(wait)).unwrap();
    wire.inject(&datagram(514, b"for the client"));
    wire.inject(&datagram(99, b"not for it"));
    for n in 0..8_u8 {
        // Nobody else polls: from the fifth on this must make room itself.
        tx.send(&[n]).unwrap();
    }
    assert_eq!(flags.load(Ordering::Relaxed), RX_ENABLED | RX_DROP);
    assert_eq!(port.npinfo().unwrap().rx_flags(), RX_ENABLED, "only while it polls");
    assert_eq!(recorder.payloads(), [b"for the client"]);
    let stats = port.stats();
    assert_eq!((stats.queue.rx_drop, stats.unmatched(Reason::NotLocalPort)), (1, 0));
    assert!(stats.balances());
    drop((rx, tx));
}

/// The allow-list is for datagrams; ARP is answered to anybody. It changes while the port runs.
#[test]
fn who_is_not_allowed_is_counted_and_still_answered() {
    let _lcore = enter_lcore();
    let (port, wire) = port();
    let recorder = Recorder::default();
    let only =
        |ip: [u8; 4], len: u8| RxFilter { allow: [(ip.into(), len)].into_iter().collect(), ..RxFilter::default() };
    // The peer is 10.99.0.2.
    let np = port.setup_rx(client("rx"), only([10, 99, 0, 0], 31), recorder.factory()).unwrap();
    take_all(&wire);
    let mut request = vec![0; 60];
    Arp::request(PEER_MAC, PEER_IP, US_IP).emit_frame(&mut request, MacAddr::BROADCAST).unwrap();
    wire.inject(&datagram(514, b"refused"));
    wire.inject(&request);
    poll_all(&np);
    assert_eq!(take_all(&wire).len(), 1, "the ARP reply");
    np.set_filter(&only([10, 99, 0, 2], 31)).unwrap();
    wire.inject(&datagram(514, b"allowed"));
    poll_all(&np);
    assert_eq!(recorder.payloads(), [b"allowed"]);
    let stats = port.stats();
    assert_eq!((stats.unmatched(Reason::NotAllowed), stats.queue.delivered, stats.queue.arp_answered), (1, 1, 1));
    assert!(stats.balances());
}

/// Each frame is judged by one filter: none is lost while it changes.
#[test]
fn the_filter_changes_under_traffic() {
    let _lcore = enter_lcore();
    let (port, wire) = port();
    let recorder = Recorder::default();
    let only = |port: u16| RxFilter { local_ports: port.into(), ..RxFilter::default() };
    let np = port.setup_rx(client("rx"), only(514), recorder.factory()).unwrap();
    let mut expected = Vec::new();
    for round in 0..10_u16 {
        let listens = 514 + round % 2;
        np.set_filter(&only(listens)).unwrap();
        for to in [514, 515] {
            let payload = format!("{round} to {to}").into_bytes();
            wire.inject(&datagram(to, &payload));
            if to == listens {
                expected.push(payload);
            }
        }
        poll_all(&np);
    }
    assert_eq!(recorder.payloads(), expected);
    let stats = port.stats();
    assert_eq!((stats.queue.delivered, stats.unmatched(Reason::NotLocalPort)), (10, 10));
    assert!(stats.balances());
    let v6 = RxFilter { remote_ip: Some("2001:db8::1".parse().unwrap()), ..RxFilter::default() };
    assert!(matches!(np.set_filter(&v6), Err(SetupError::AddressFamily { .. })));
    // Without a hook there is nothing to filter for.
    let sender = port.setup(client("tx")).unwrap();
    sender.set_filter(&RxFilter::default()).unwrap();
    wire.inject(&datagram(514, b"to nobody"));
    poll_all(&np);
    assert_eq!(port.stats().unmatched(Reason::NotLocalPort), 11);
}

/// What the hook of a busy port sees: how many datagrams a call, and how many frames of the port's clients have left by then.
struct Busy {
    wire: Arc<Wire>,
    calls: Arc<Mutex<Vec<(usize, u64, usize)>>>,
}

impl RxHook for Busy {
    fn rx_hook(&mut self, np: &dyn HookSend, burst: &RxBurst<'_>) {
        let left = take_all(&self.wire).into_iter().filter(|frame| is_udp(frame)).count();
        np.send(b"one a burst").unwrap();
        self.calls.lock().unwrap().push((burst.datagrams.len(), burst.now.mono_ns, left));
    }
}

/// A poll loop takes up to eight full bursts in one poll, and what clients have submitted leaves after each of them.
#[test]
fn bursts_of_a_busy_port_share_a_poll_and_no_client_waits_for_more_than_one() {
    let (port, wire) = port();
    let (wire, calls) = (Arc::new(wire), Arc::<Mutex<Vec<_>>>::default());
    let hook = {
        let (wire, calls) = (wire.clone(), calls.clone());
        move |_| Box::new(Busy { wire: wire.clone(), calls: calls.clone() }) as Box<dyn RxHook>
    };
    let np = port.setup_rx(client("rx"), RxFilter::default(), hook).unwrap();
    take_all(&wire);
    (0..10 * 32 + 5).for_each(|_| assert!(wire.inject(&datagram(514, b"line"))));
    let mut poll_loop = PollLoop::new(IdlePolicy::Busy, 32);
    poll_loop.add(&port, QueueId(0));
    let handle = poll_loop.handle();
    let poller = std::thread::spawn(move || {
        let _lcore = enter_lcore();
        poll_loop.run();
    });
    while np.stats().sent.sent < 11 {
        std::thread::yield_now();
    }
    handle.stop();
    poller.join().unwrap();
    let calls = calls.lock().unwrap().clone();
    let lens: Vec<_> = calls.iter().map(|&(len, ..)| len).collect();
    assert_eq!(lens, [[32; 10].as_slice(), &[5]].concat());
    let left: Vec<_> = calls.iter().map(|&(.., left)| left).collect();
    assert_eq!(left, [[0].as_slice(), &[1; 10]].concat());
    assert!(calls[..8].iter().all(|&(_, now, _)| now == calls[0].1), "one poll, one moment: {calls:?}");
    assert_eq!(port.stats().queue.busy_polls, 2, "eight bursts, then two and a rest");
    assert!(np.cleanup().unwrap().balances());
}

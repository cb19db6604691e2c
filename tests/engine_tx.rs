//! Sending: order, credits, drop policies, ARP resolution, the send equation, over a port in memory.

mod support;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use netpoll::{
    PortId, QueueId,
    netpoll::{
        ClientOptions, IdlePolicy, OnFull, PollLoop, Port, RemoteMac, RxFilter, SendError,
        hook::{HookSend, RxBurst, RxHook},
    },
    port::{
        Frame, Offloads, PortIo,
        fault::FaultPort,
        memory::{MemoryPort, Wire},
    },
    wire::{
        MacAddr,
        arp::{self, Arp, Operation},
    },
};
use support::*;

#[test]
fn what_leaves_is_what_was_sent_and_the_equation_holds() {
    let _lcore = enter_lcore();
    let (port, wire) = port();
    let mut np = port.setup(client("tx")).unwrap();
    poll_all(&np);
    take_all(&wire);
    for n in 0..100_u8 {
        np.send(&[n; 33]).unwrap();
        if n % 10 == 0 {
            poll_all(&np);
        }
    }
    poll_all(&np);
    let frames = take_all(&wire);
    assert_eq!(frames.len(), 100);
    for (n, frame) in frames.iter().enumerate() {
        assert_eq!(payload(frame), [n as u8; 33]);
        assert_eq!(frame[..12], *[MacAddr::BROADCAST.0, US_MAC.0].as_flattened());
        assert_eq!(u16::from_be_bytes([frame[18], frame[19]]), n as u16, "IPv4 id counts up");
    }
    assert_eq!(np.send(&[0; 1473]), Err(SendError::TooLong));
    assert_eq!(np.max_payload(), 1472);
    let stats = np.cleanup().unwrap();
    assert_eq!((stats.submit.submitted, stats.sent.sent, stats.submit.too_long), (101, 100, 1));
    assert!(stats.balances());
    drop(frames);
    assert_eq!(wire.pool().outstanding(), 0, "mbufs out = mbufs back");
}

/// Whole frames go the way of payloads: in order, padded, counted; no remote address is needed.
#[test]
fn whole_frames_leave_as_they_are() {
    let _lcore = enter_lcore();
    let (port, wire) = port();
    let mut exclusive = port.setup(ClientOptions::new("raw")).unwrap();
    let mut shared = port.setup(ClientOptions::new("raw").shared()).unwrap();
    poll_all(&exclusive);
    take_all(&wire);
    for np in [&mut exclusive, &mut shared] {
        assert_eq!(np.max_frame(), 1514);
        let frames: Vec<Vec<u8>> = [1514, 60, 14, 0].into_iter().map(|len| vec![len as u8; len]).collect();
        frames.iter().for_each(|frame| np.send_frame(frame).unwrap());
        assert_eq!(np.send_frame(&[0; 1515]), Err(SendError::TooLong));
        assert_eq!(np.send(b"no remote address"), Err(SendError::NoRemote));
        poll_all(np);
        let padded = frames.into_iter().map(|mut frame| {
            frame.resize(frame.len().max(60), 0);
            frame
        });
        assert_eq!(take_all(&wire), padded.collect::<Vec<_>>());
        let stats = np.stats();
        assert_eq!((stats.submit.submitted, stats.sent.sent, stats.submit.too_long), (6, 4, 1));
        assert!(stats.balances());
    }
}

#[test]
fn a_full_ring_refuses_counts_and_calls_back() {
    let _lcore = enter_lcore();
    let (port, _wire) = port();
    let refused = Arc::new(Mutex::new(Vec::new()));
    let keep = refused.clone();
    let callback = OnFull::Callback(Arc::new(move |payload: &[u8]| keep.lock().unwrap().push(payload.to_vec())));
    let mut np = port.setup(client("tx").ring_frames(4).on_full(callback)).unwrap();
    let results: Vec<_> = (0..6_u8).map(|n| np.send(&[n])).collect();
    assert_eq!(results[..4], [Ok(()); 4]);
    assert_eq!(results[4..], [Err(SendError::RingFull); 2]);
    assert_eq!(*refused.lock().unwrap(), [[4], [5]]);
    assert_eq!(np.stats().queued, 4);
    assert!(np.stats().balances());
    poll_all(&np);
    assert_eq!(np.send(b"room again"), Ok(()));
}

#[test]
fn waiting_is_bounded() {
    let (port, _wire) = port();
    let limit = Duration::from_millis(20);
    let mut np = port.setup(client("tx").ring_frames(1).on_full(OnFull::Wait(limit))).unwrap();
    np.send(b"fits").unwrap();
    let start = Instant::now();
    // This thread is no lcore and nobody polls: no room will come.
    assert_eq!(np.send(b"waits"), Err(SendError::RingFull));
    assert!(start.elapsed() >= limit);
    assert!(np.stats().balances());
}

#[test]
fn an_empty_pool_says_so_and_the_reserve_serves_the_urgent() {
    let _lcore = enter_lcore();
    let (io, wire) = MemoryPort::new(US_MAC, 64, 512);
    let (io, faults) = FaultPort::new(io);
    let port = Port::new(PortId(0), options(), vec![io]);
    let mut plain = port.setup(client("plain").ring_frames(8).first_credits(4)).unwrap();
    let mut urgent = port.setup(client("urgent").ring_frames(8).urgent()).unwrap();
    faults.alloc_gives.store(0, Ordering::Relaxed);
    let send = |np: &mut netpoll::netpoll::Netpoll<_>| {
        let mut results = Vec::new();
        for n in 0..12_u8 {
            results.push(np.send(&[n]));
            poll_all(np);
            take_all(&wire);
        }
        results
    };
    let results = send(&mut plain);
    assert_eq!(results.iter().filter(|result| **result == Err(SendError::NoMbuf)).count(), 8, "4 first credits");
    assert!(send(&mut urgent).iter().all(Result::is_ok));
    // Mbufs again: what was owed is paid, and sending goes on.
    faults.alloc_gives.store(usize::MAX, Ordering::Relaxed);
    for _ in 0..3 {
        plain.poll(16);
    }
    assert!((0..8).all(|_| plain.send(b"again").is_ok()));
    poll_all(&plain);
    assert!(plain.stats().balances() && urgent.stats().balances());
    drop((plain, urgent));
    take_all(&wire);
    assert_eq!(wire.pool().outstanding(), 0);
}

#[test]
fn a_nic_that_takes_few_or_none_keeps_the_order_and_the_equation() {
    let _lcore = enter_lcore();
    let (io, wire) = MemoryPort::new(US_MAC, 4096, 8192);
    let (io, faults) = FaultPort::new(io);
    let port = Port::new(PortId(0), options(), vec![io]);
    let mut np = port.setup(client("tx").ring_frames(256)).unwrap();
    poll_all(&np);
    take_all(&wire);
    let mut sent = Vec::new();
    let start = Instant::now();
    for n in 0..3000_u32 {
        faults.tx_takes.store([0, 1, 3, 7, usize::MAX][n as usize % 5], Ordering::Relaxed);
        if np.send(&n.to_be_bytes()).is_ok() {
            sent.push(n);
        }
        np.poll(16);
    }
    faults.tx_takes.store(usize::MAX, Ordering::Relaxed);
    while np.stats().queued > 0 {
        assert!(start.elapsed() < Duration::from_secs(10), "what waits leaves once the NIC takes it");
        np.poll(16);
    }
    let got: Vec<_> = take_all(&wire).iter().map(|f| u32::from_be_bytes(payload(f).try_into().unwrap())).collect();
    assert_eq!(got, sent);
    assert!(port.stats().queue.tx_short > 0);
    assert!(np.stats().balances());
}

/// A hook that answers each datagram by `send`: a full burst, without deadlock, loss or reordering.
#[test]
fn a_hook_echoes_full_bursts() {
    let _lcore = enter_lcore();
    let (port, wire) = port();
    let np = port
        .setup_rx(client("echo"), RxFilter::default(), |_: QueueId| {
            Box::new(Hook(|np: &dyn HookSend, burst: &RxBurst<'_>| {
                for datagram in burst.datagrams {
                    np.reply(datagram, datagram.payload()).unwrap();
                }
            })) as Box<dyn RxHook>
        })
        .unwrap();
    take_all(&wire);
    let mut frames = Vec::new();
    for n in 0..6400_u32 {
        wire.inject(&datagram(7, &n.to_be_bytes()));
        if n % 64 == 63 {
            assert_eq!(np.poll(64), Some(128), "64 in, 64 out, in one poll");
            frames.append(&mut take_all(&wire));
        }
    }
    let got: Vec<_> = frames.iter().map(|frame| u32::from_be_bytes(payload(frame).try_into().unwrap())).collect();
    assert_eq!(got, (0..6400).collect::<Vec<_>>());
    assert_eq!(frames[0][..12], *[PEER_MAC.0, US_MAC.0].as_flattened());
    assert_eq!(frames[0][34..38], [0, 7, 0x0f, 0xa0], "from port 7 to port 4000");
}

/// A hook whose ring is full: its drop policy runs, it does not recurse.
#[test]
fn a_hook_that_sends_more_than_its_ring_holds_is_refused_not_recursed() {
    let _lcore = enter_lcore();
    let (port, wire) = port();
    let refused = Arc::new(Mutex::new(Vec::new()));
    let keep = refused.clone();
    let options = client("chatty").ring_frames(8).on_full(OnFull::Wait(Duration::from_secs(60)));
    let np = port
        .setup_rx(options, RxFilter::default(), move |_| {
            let keep = keep.clone();
            Box::new(Hook(move |np: &dyn HookSend, _: &RxBurst<'_>| {
                *keep.lock().unwrap() = (0..20_u8).map(|n| np.send(&[n])).collect();
            })) as Box<dyn RxHook>
        })
        .unwrap();
    take_all(&wire);
    wire.inject(&datagram(7, b"go"));
    poll_all(&np);
    let results = refused.lock().unwrap().clone();
    assert_eq!(results[..8], [Ok(()); 8]);
    assert_eq!(results[8..], [Err(SendError::RingFull); 12]);
    assert_eq!(take_all(&wire).iter().map(|frame| payload(frame)[0]).collect::<Vec<_>>(), (0..8).collect::<Vec<_>>());
    assert!(np.stats().balances());
}

#[test]
fn frames_wait_for_arp_leave_in_order_and_are_dropped_when_nobody_answers() {
    let _lcore = enter_lcore();
    let (port, wire) = port();
    let mut np = port.setup(client("tx").remote_mac(RemoteMac::Arp)).unwrap();
    take_all(&wire);
    for n in 0..10_u8 {
        np.send(&[n]).unwrap();
    }
    np.poll(16);
    let asked = take_all(&wire);
    assert_eq!(asked.len(), 1, "one request, no datagram yet");
    let request = Arp::parse(&asked[0][14..]).unwrap();
    assert_eq!((request.operation, request.target_ip), (Operation::Request, PEER_IP));
    assert_eq!(np.stats().queued, 10);
    let mut reply = asked[0].clone();
    arp::reply_in_place(&mut reply, 14, PEER_MAC);
    wire.inject(&reply);
    poll_all(&np);
    let frames = take_all(&wire);
    assert_eq!(frames.iter().map(|frame| payload(frame)[0]).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
    assert!(frames.iter().all(|frame| frame[..6] == PEER_MAC.0));
    assert_eq!(port.stats().queue.arp_learned, 1);
    // A host that nobody answers for: given up after three requests a second apart.
    let mut lost =
        port.setup(ClientOptions::new("lost").remote([10, 99, 0, 77], 6666).remote_mac(RemoteMac::Arp)).unwrap();
    lost.send(b"into the void").unwrap();
    let start = Instant::now();
    while lost.stats().queued > 0 {
        assert!(start.elapsed() < Duration::from_secs(6));
        lost.poll(16);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(lost.stats().sent.unresolved, 1);
    assert!(lost.stats().balances() && np.stats().balances());
    // Off the link: the gateway is asked.
    let (io, wire) = MemoryPort::new(US_MAC, 64, 256);
    let mut routed = options();
    routed.gateway = Some([10, 99, 0, 254].into());
    let port = Port::new(PortId(0), routed, vec![io]);
    let mut far = port.setup(ClientOptions::new("far").remote([192, 0, 2, 1], 514).remote_mac(RemoteMac::Arp)).unwrap();
    take_all(&wire);
    far.send(b"hop").unwrap();
    far.poll(16);
    assert_eq!(Arp::parse(&wire.take().unwrap()[14..]).unwrap().target_ip, std::net::Ipv4Addr::new(10, 99, 0, 254));
}

#[test]
fn a_link_that_goes_down_refuses_and_counts_and_comes_back() {
    let _lcore = enter_lcore();
    let (port, wire) = port();
    let mut np = port.setup(client("tx")).unwrap();
    poll_all(&np);
    take_all(&wire);
    wire.set_link(false);
    np.send(b"before it is noticed").unwrap();
    std::thread::sleep(Duration::from_millis(15));
    np.poll(16);
    assert_eq!(np.send(b"down"), Err(SendError::PortDown));
    assert_eq!(np.stats().sent.port_down, 1);
    wire.set_link(true);
    std::thread::sleep(Duration::from_millis(15));
    np.poll(16);
    np.send(b"up").unwrap();
    poll_all(&np);
    assert_eq!(take_all(&wire).len(), 1);
    assert!(np.stats().balances());
}

#[test]
fn checksums_are_left_to_a_nic_that_offers() {
    let _lcore = enter_lcore();
    let (io, wire) = MemoryPort::new(US_MAC, 64, 256);
    let io = io.with_offloads(Offloads { tx_checksum: true, ..Offloads::default() });
    let port = Port::new(PortId(0), options(), vec![io]);
    let mut np = port.setup(client("tx")).unwrap();
    take_all(&wire);
    np.send(b"line").unwrap();
    poll_all(&np);
    let frame = wire.take_buf().unwrap();
    assert_eq!(frame.requested_tx_checksum(), Some((14, 20)));
    assert_eq!(frame.data()[24..26], [0, 0]);
}

/// 64 clients on 8 threads at full speed on one port: each one's order kept, the ledger exact.
#[test]
fn sixty_four_clients_on_eight_threads() {
    const FRAMES: u32 = 3000;
    let [ours, theirs] = MemoryPort::pair([US_MAC, PEER_MAC], 2048, 40_000);
    let port = Port::new(PortId(0), options(), vec![ours]);
    let stop = Arc::new(AtomicBool::new(false));
    let done = stop.clone();
    let receiver = std::thread::spawn(move || {
        let mut theirs = theirs;
        let mut burst = Vec::with_capacity(64);
        let mut next = vec![0_u32; 64];
        let mut total = 0_u64;
        loop {
            let stopping = done.load(Ordering::Acquire);
            if theirs.rx_burst(&mut burst, 64) == 0 {
                if stopping {
                    return (total, next);
                }
                std::thread::yield_now();
            }
            for frame in burst.drain(..).filter(|frame| is_udp(frame.data())) {
                let payload = payload(frame.data());
                let (client, seq) = (payload[0] as usize, u32::from_be_bytes(payload[1..5].try_into().unwrap()));
                assert!(seq >= next[client], "client {client}: {seq} after {}", next[client]);
                next[client] = seq + 1;
                total += 1;
            }
        }
    });
    let mut poll_loop = PollLoop::new(IdlePolicy::Pause, 32);
    poll_loop.add(&port, QueueId(0));
    let handle = poll_loop.handle();
    let poller = std::thread::spawn(move || {
        let _lcore = enter_lcore();
        poll_loop.run();
    });
    let clients: Vec<_> = (0..64).map(|n| port.setup(client(&format!("c{n}"))).unwrap()).collect();
    let mut clients = clients.into_iter().enumerate().collect::<Vec<_>>();
    let mut threads = Vec::new();
    while !clients.is_empty() {
        let mut mine = clients.split_off(clients.len() - 8);
        threads.push(std::thread::spawn(move || {
            for seq in 0..FRAMES {
                for (n, np) in &mut mine {
                    let mut line = [0; 32];
                    line[0] = *n as u8;
                    line[1..5].copy_from_slice(&seq.to_be_bytes());
                    // Refused or not, it is counted.
                    let _ = np.send(&line);
                }
                if seq % 64 == 0 {
                    std::thread::yield_now();
                }
            }
            mine.into_iter().map(|(_, np)| np.cleanup().unwrap()).collect::<Vec<_>>()
        }));
    }
    let stats: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    handle.stop();
    poller.join().unwrap();
    stop.store(true, Ordering::Release);
    let (received, _) = receiver.join().unwrap();
    let mut sent = 0;
    for stats in &stats {
        assert_eq!(stats.submit.submitted, u64::from(FRAMES));
        assert_eq!(stats.queued, 0);
        assert!(stats.balances(), "{stats}");
        sent += stats.sent.sent;
    }
    assert_eq!(received, sent);
    assert_eq!(port.stats().queue.sent, sent + port.stats().queue.engine_sent);
    assert!(sent > 0);
}

#[test]
fn ten_thousand_clients_of_which_one_sends() {
    let _lcore = enter_lcore();
    let (io, wire) = MemoryPort::new(US_MAC, 1024, 50_000);
    let port = Port::new(PortId(0), options(), vec![io]);
    let mut clients: Vec<_> =
        (0..10_000).map(|n| port.setup(client(&format!("c{n}")).first_credits(4)).unwrap()).collect();
    poll_all(&clients[0]);
    assert_eq!(take_all(&wire).len(), 1, "one announcement for one address");
    assert_eq!(port.npinfo().unwrap().clients(), 10_000);
    for n in 0..1000_u32 {
        clients[7777].send(&n.to_be_bytes()).unwrap();
        clients[0].poll(16);
    }
    poll_all(&clients[0]);
    let got: Vec<_> = take_all(&wire).iter().map(|f| u32::from_be_bytes(payload(f).try_into().unwrap())).collect();
    assert_eq!(got, (0..1000).collect::<Vec<_>>());
    for np in clients.drain(..) {
        assert!(np.cleanup().unwrap().balances());
    }
    assert_eq!(wire.pool().outstanding(), 0);
    assert!(port.npinfo().is_none());
}

#[test]
fn a_burst_leaves_in_order_and_what_finds_no_room_is_counted() {
    let _lcore = enter_lcore();
    let payloads: Vec<[u8; 1]> = (0..12).map(|number| [number]).collect();
    let payloads: Vec<&[u8]> = payloads.iter().map(|payload| &payload[..]).collect();
    let (port, wire) = port();
    let mut client = port.setup(support::client("burst").ring_frames(8)).unwrap();
    assert_eq!(client.send_burst(&payloads), 8, "a ring of 8");
    poll_all(&client);
    assert_eq!(client.send_burst(&payloads[8..]), 4);
    poll_all(&client);
    let sent = |wire: &Wire| -> Vec<u8> {
        take_all(wire).iter().filter(|frame| is_udp(frame)).map(|frame| payload(frame)[0]).collect()
    };
    assert_eq!(sent(&wire), (0..12).collect::<Vec<_>>());
    let stats = client.cleanup().unwrap();
    assert_eq!((stats.submit.submitted, stats.submit.ring_full, stats.sent.sent), (16, 4, 12));
    assert!(stats.balances(), "{stats}");

    // One that waits makes room for itself in the middle of its burst.
    let wait = OnFull::Wait(Duration::from_secs(10));
    let mut client = port.setup(support::client("waits").ring_frames(8).on_full(wait)).unwrap();
    assert_eq!(client.send_burst(&payloads), 12);
    let stats = client.cleanup().unwrap();
    assert_eq!((stats.submit.submitted, stats.sent.sent), (12, 12));
    assert_eq!(sent(&wire), (0..12).collect::<Vec<_>>());
}

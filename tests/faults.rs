//! A bad day, fault by fault, over ports in memory: what `docs/faults.md` promises. Beside the port with the fault
//! another one runs, on the same lcore where that can be: it answers ARP throughout.

#[cfg(feature = "store")]
#[path = "faults/clock.rs"]
mod clock;
#[path = "faults/rig.rs"]
mod rig;
mod support;
#[path = "faults/table.rs"]
mod table;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use netpoll::{
    PortId, QueueId,
    netpoll::{
        ClientOptions, IdlePolicy, Netpoll, PollLoop, PollLoopHandle, Port, RxFilter, SendError, SetupError,
        hook::{HookSend, Now, RxBurst, RxHook},
    },
    port::{
        fault::{FaultPort, Faults},
        memory::{MemoryPort, Wire},
    },
    wire::{MacAddr, arp::Arp},
};
use rig::*;
use support::*;

#[test]
fn an_empty_mempool_loses_what_finds_no_mbuf_and_nothing_else() {
    let _lcore = enter_lcore();
    let (faulty, other) = (Faulty::new(1024, 128), Faulty::new(64, 256));
    let keeper = other.port.setup(client("keeper").ring_frames(1)).unwrap();
    let recorder = Recorder::default();
    let np = faulty.port.setup_rx(client("rx").ring_frames(8), RxFilter::default(), recorder.factory()).unwrap();
    poll_all(&np);
    take_all(&faulty.wire);
    for round in 1..=5 {
        // Answered in its own mbuf: an empty pool does not matter.
        assert!(faulty.wire.inject(&arp_request()));
        let taken = (0..1000).filter(|_| faulty.wire.inject(&datagram(514, b"line"))).count();
        assert!((1..128).contains(&taken), "{taken}");
        poll_all(&np);
        assert!(take_all(&faulty.wire).iter().any(|frame| is_arp_reply(frame)));
        let stats = faulty.port.stats();
        assert_eq!(recorder.payloads().len() as u64, stats.queue.delivered);
        assert_eq!(stats.missed.no_mbuf + stats.queue.delivered, 1000 * round, "all of them, {taken} in this round");
        assert_eq!(stats.missed.ring, 0);
        answers_when_polled(&other, &keeper);
    }
    drop((np, keeper));
    faulty.end();
    other.end();
}

#[test]
fn an_overrun_receive_ring_is_counted_to_the_frame() {
    let _lcore = enter_lcore();
    let (faulty, other) = (Faulty::new(64, 4096), Faulty::new(64, 256));
    let keeper = other.port.setup(client("keeper").ring_frames(1)).unwrap();
    let recorder = Recorder::default();
    let np = faulty.port.setup_rx(client("rx"), RxFilter::default(), recorder.factory()).unwrap();
    poll_all(&np);
    let taken = (0..1000).filter(|_| faulty.wire.inject(&datagram(514, b"line"))).count();
    assert_eq!(taken, 64);
    answers_when_polled(&other, &keeper);
    poll_all(&np);
    answers_when_polled(&faulty, &np);
    let stats = faulty.port.stats();
    assert_eq!((stats.queue.delivered, stats.missed.ring, stats.missed.no_mbuf), (64, 936, 0));
    assert_eq!(recorder.payloads().len(), 64);
    faulty.wire.inject(&datagram(514, b"after"));
    poll_all(&np);
    assert_eq!(recorder.payloads().last().unwrap(), b"after");
    drop((np, keeper));
    faulty.end();
    other.end();
}

/// The NIC takes nothing, then a little, then all again: receiving and the neighbour go on; what waits is bounded and leaves
/// in order; what does not fit is refused or counted.
#[test]
fn a_nic_that_takes_nothing_and_then_a_part_holds_up_nobody_else() {
    let pair = Pair::start(4096, 8192);
    let Pair { faulty, .. } = &pair;
    let recorder = Recorder::default();
    let rx = faulty.port.setup_rx(client("rx").ring_frames(1), RxFilter::default(), recorder.factory()).unwrap();
    let mut np = faulty.port.setup(client("tx").ring_frames(64)).unwrap();
    ask(&faulty.wire);
    faulty.faults.tx_takes.store(0, Ordering::Relaxed);
    let mut sent = Vec::new();
    let mut refused = 0;
    for n in 0..500_u32 {
        match np.send(&n.to_be_bytes()) {
            Ok(()) => sent.push(n),
            Err(SendError::RingFull | SendError::NoMbuf) => refused += 1,
            Err(other) => panic!("{other}"),
        }
        assert!(faulty.wire.inject(&arp_request()) && faulty.wire.inject(&datagram(514, b"line")));
    }
    assert!(refused > 0, "the client's own ring is what fills up");
    wait_for("receiving to go on", || recorder.payloads().len() == 500);
    let stats = faulty.port.stats();
    assert!(stats.queue.answer_backlog_full > 0, "{stats}");
    let answers = stats.queue.arp_answered + stats.queue.answer_backlog_full + stats.queue.rate_limited;
    assert_eq!(answers, 501, "{stats}");
    assert!(take_all(&faulty.wire).iter().all(|frame| !is_udp(frame)), "nothing leaves");
    // Retried in 50 us steps, then each ms: about two seconds' worth of them, whatever this machine's speed.
    let before = stats.queue.tx_short;
    wait_for("retries", || faulty.port.stats().queue.tx_short >= before + 1000);
    pair.other_answers();
    let mut frames = Vec::new();
    for takes in [1, 7, usize::MAX] {
        faulty.faults.tx_takes.store(takes, Ordering::Relaxed);
        let until = faulty.port.stats().queue.sent + 20;
        wait_for("frames to leave", || faulty.port.stats().queue.sent >= until || np.stats().queued == 0);
    }
    wait_for("the backlog to leave", || np.stats().queued == 0);
    frames.append(&mut take_all(&faulty.wire));
    let got = frames.iter().filter(|frame| is_udp(frame));
    let got: Vec<_> = got.map(|frame| u32::from_be_bytes(payload(frame).try_into().unwrap())).collect();
    assert_eq!(got, sent, "in order, none twice, none lost");
    works_again(faulty, &recorder);
    assert!(np.stats().balances());
    let stats = np.cleanup().unwrap();
    assert_eq!(stats.submit.submitted, sent.len() as u64 + refused);
    drop(rx);
    pair.end();
}

#[test]
fn a_link_that_goes_down_and_up_loses_only_what_is_counted() {
    let pair = Pair::start(1024, 4096);
    let Pair { faulty, .. } = &pair;
    let recorder = Recorder::default();
    let rx = faulty.port.setup_rx(client("rx").ring_frames(1), RxFilter::default(), recorder.factory()).unwrap();
    let mut np = faulty.port.setup(client("tx").ring_frames(64)).unwrap();
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..5 {
        faulty.faults.tx_takes.store(0, Ordering::Relaxed);
        wait_for("room for one that is queued when the link goes down", || np.send(b"line").is_ok());
        accepted += 1;
        faulty.faults.link_down.store(true, Ordering::Relaxed);
        // Before it is noticed they are queued, afterwards refused.
        wait_for("the client to be told", || {
            let sent = np.send(b"line");
            accepted += u64::from(sent.is_ok());
            refused += u64::from(sent.is_err());
            sent == Err(SendError::PortDown)
        });
        assert!(!faulty.port.is_up());
        pair.other_answers();
        faulty.faults.tx_takes.store(usize::MAX, Ordering::Relaxed);
        faulty.faults.link_down.store(false, Ordering::Relaxed);
        wait_for("the link", || faulty.port.is_up());
        works_again(faulty, &recorder);
        wait_for("a frame to be taken", || np.send(b"up").is_ok());
        accepted += 1;
    }
    wait_for("the ring to be empty", || np.stats().queued == 0);
    let stats = np.cleanup().unwrap();
    assert!(stats.balances(), "{stats}");
    assert_eq!(stats.sent.sent + stats.sent.port_down, accepted);
    assert!(stats.sent.port_down >= 5 && stats.submit.refused_port_down >= 5 && refused >= 5, "{stats}");
    drop(rx);
    pair.end();
}

#[test]
fn a_port_is_removed_and_put_back_while_the_other_one_runs() {
    let Pair { mut faulty, other, keeper, lcore } = Pair::start(1024, 4096);
    for round in 0..20_u64 {
        let recorder = Recorder::default();
        let rx = faulty.port.setup_rx(client("rx").ring_frames(8), RxFilter::default(), recorder.factory()).unwrap();
        works_again(&faulty, &recorder);
        // Pulled out: it neither receives nor sends, and its clients can leave all the same.
        faulty.faults.link_down.store(true, Ordering::Relaxed);
        faulty.faults.tx_takes.store(0, Ordering::Relaxed);
        faulty.faults.rx_blocked.store(round % 2 == 0, Ordering::Relaxed);
        let refused = faulty.port.close().unwrap_err();
        assert!(matches!(refused, SetupError::InUse { clients: 1, .. }), "{refused}");
        rx.cleanup().unwrap();
        lcore.handle.remove(&faulty.port);
        let queues = faulty.port.close().unwrap();
        assert!(faulty.port.stats().balances());
        ask(&other.wire);
        // Put back, under the same name.
        faulty.faults.link_down.store(false, Ordering::Relaxed);
        faulty.faults.tx_takes.store(usize::MAX, Ordering::Relaxed);
        faulty.faults.rx_blocked.store(false, Ordering::Relaxed);
        faulty.port = Port::new(PortId(0), options(), queues);
        lcore.handle.add(&faulty.port, QueueId(0));
        ask(&other.wire);
    }
    Pair { faulty, other, keeper, lcore }.end();
}

/// Panics where it is told to.
struct Panics {
    in_tick: bool,
    armed: Arc<AtomicBool>,
}

impl RxHook for Panics {
    fn rx_hook(&mut self, _: &dyn HookSend, _: &RxBurst<'_>) {
        assert!(self.in_tick || !self.armed.load(Ordering::Relaxed), "on purpose, in the hook");
    }

    fn tick(&mut self, _: Now) {
        assert!(!self.in_tick || !self.armed.load(Ordering::Relaxed), "on purpose, in its tick");
    }
}

#[test]
fn a_hook_that_panics_is_out_of_service_until_another_is_set_up() {
    let pair = Pair::start(1024, 4096);
    let Pair { faulty, .. } = &pair;
    for in_tick in [false, true] {
        let before = faulty.port.stats().queue;
        let armed = Arc::new(AtomicBool::new(false));
        let of_hook = armed.clone();
        let factory = hook_factory(move || Box::new(Panics { in_tick, armed: of_hook.clone() }));
        let rx = faulty.port.setup_rx(client("rx").ring_frames(1), RxFilter::default(), factory).unwrap();
        let inject = |count| (0..count).for_each(|_| assert!(faulty.wire.inject(&datagram(514, b"line"))));
        inject(10);
        wait_for("ten", || faulty.port.stats().queue.delivered == before.delivered + 10);
        armed.store(true, Ordering::Relaxed);
        if in_tick {
            // Called each poll, frames or not: this is its last.
            ask(&faulty.wire);
            ask(&faulty.wire);
        }
        inject(50);
        wait_for("fifty", || faulty.port.stats().queue.hook_panicked == before.hook_panicked + 50);
        assert_eq!(faulty.port.stats().queue.delivered, before.delivered + 10, "in its tick: {in_tick}");
        ask(&faulty.wire);
        pair.other_answers();
        rx.cleanup().unwrap();
        // Another one in its place.
        let recorder = Recorder::default();
        let rx = faulty.port.setup_rx(client("rx").ring_frames(1), RxFilter::default(), recorder.factory()).unwrap();
        works_again(faulty, &recorder);
        rx.cleanup().unwrap();
    }
    pair.end();
}

/// The hook stands still until it is let go: the answers of its burst have left before, what comes meanwhile waits in the
/// NIC's ring or is counted as missed, and ports on other lcores do not notice.
#[test]
fn a_hook_that_stalls_holds_up_its_own_queue_and_no_other() {
    let (faulty, other) = (Faulty::new(64, 4096), Faulty::new(64, 256));
    let keeper = other.port.setup(client("keeper").ring_frames(1)).unwrap();
    let (release, released) = mpsc::channel::<()>();
    let entered = Arc::new(AtomicBool::new(false));
    let (inside, mut released) = (entered.clone(), Some(released));
    let rx = faulty
        .port
        .setup_rx(client("rx").ring_frames(1), RxFilter::default(), move |_: QueueId| {
            let (inside, released) = (inside.clone(), released.take().unwrap());
            Box::new(Hook(move |_: &dyn HookSend, _: &RxBurst<'_>| {
                inside.store(true, Ordering::Relaxed);
                // Until the test lets go, and at once from then on.
                let _ = released.recv();
            })) as Box<dyn RxHook>
        })
        .unwrap();
    take_all(&faulty.wire);
    // One burst: a line that the hook will hang on, and a question behind it.
    assert!(faulty.wire.inject(&datagram(514, b"line")) && faulty.wire.inject(&arp_request()));
    let lcores = [Lcore::start(&[&faulty.port]), Lcore::start(&[&other.port])];
    wait_for("the hook", || entered.load(Ordering::Relaxed));
    assert!(take_all(&faulty.wire).iter().any(|frame| is_arp_reply(frame)), "answered before the hook ran");
    let taken = (0..1000).filter(|_| faulty.wire.inject(&datagram(514, b"meanwhile"))).count();
    assert_eq!(taken, 64, "as many as the NIC's ring holds");
    (0..100).for_each(|_| ask(&other.wire));
    assert_eq!(take_all(&faulty.wire).len(), 0, "it does stand still");
    drop(release);
    wait_for("what waited", || faulty.port.stats().queue.delivered == 65);
    ask(&faulty.wire);
    let stats = faulty.port.stats();
    assert_eq!((stats.missed.ring, stats.arrived()), (936, 1 + 1 + 1000 + 1), "{stats}");
    drop((rx, keeper));
    for lcore in lcores {
        lcore.stop().expect("no panic");
    }
    faulty.end();
    other.end();
}

#[test]
fn a_client_thread_that_dies_leaves_no_mbuf_and_no_client_behind() {
    let pair = Pair::start(4096, 8192);
    let Pair { faulty, .. } = &pair;
    let keeper = faulty.port.setup(client("stays").ring_frames(1)).unwrap();
    for round in 0..10_u8 {
        let port = faulty.port.clone();
        let thread = std::thread::spawn(move || {
            let mut np = port.setup(client("dies").ring_frames(64)).unwrap();
            for n in 0..50_u8 {
                np.send(&[round, n]).unwrap();
            }
            panic!("on purpose, with frames in the ring");
        });
        assert!(thread.join().is_err());
        assert_eq!(faulty.port.npinfo().unwrap().clients(), 1);
        // What was submitted had left when the thread's client was gone.
        let frames = take_all(&faulty.wire);
        let got: Vec<_> = frames.iter().filter(|frame| is_udp(frame)).map(|frame| payload(frame).to_vec()).collect();
        assert_eq!(got, (0..50).map(|n| vec![round, n]).collect::<Vec<_>>());
    }
    // And where the NIC takes nothing, they are dropped.
    faulty.faults.tx_takes.store(0, Ordering::Relaxed);
    let port = faulty.port.clone();
    let thread = std::thread::spawn(move || {
        let mut np = port.setup(client("dies").ring_frames(64)).unwrap();
        (0..50_u8).for_each(|n| np.send(&[n]).unwrap());
        panic!("on purpose, with frames that cannot leave");
    });
    assert!(thread.join().is_err());
    assert_eq!(faulty.port.npinfo().unwrap().clients(), 1);
    pair.other_answers();
    faulty.faults.tx_takes.store(usize::MAX, Ordering::Relaxed);
    ask(&faulty.wire);
    drop(keeper);
    pair.end();
}

/// A poll loop that ends, in order or by a panic below us: clients are refused by their own full rings, changes are
/// applied by who asks for them, and the next loop goes on where this one stopped.
#[test]
fn an_lcore_that_stops_is_replaced_without_losing_a_frame() {
    for by_panic in [false, true] {
        let (faulty, other) = (Faulty::new(1024, 4096), Faulty::new(64, 256));
        let keeper = other.port.setup(client("keeper").ring_frames(1)).unwrap();
        let others = Lcore::start(&[&other.port]);
        let recorder = Recorder::default();
        let rx = faulty.port.setup_rx(client("rx").ring_frames(1), RxFilter::default(), recorder.factory()).unwrap();
        let mut np = faulty.port.setup(client("tx").ring_frames(32)).unwrap();
        let lcore = Lcore::start(&[&faulty.port]);
        works_again(&faulty, &recorder);
        let handle = lcore.handle.clone();
        if by_panic {
            faulty.faults.rx_panics.store(true, Ordering::Relaxed);
            let panic = lcore.thread.join().expect_err("it panicked");
            assert!(panic.downcast_ref::<&str>().is_some_and(|text| text.contains("injected")));
            faulty.faults.rx_panics.store(false, Ordering::Relaxed);
        } else {
            lcore.stop().unwrap();
        }
        assert!(!handle.is_running(), "by a panic: {by_panic}");
        (0..3).for_each(|_| ask(&other.wire));
        let mut sent = Vec::new();
        let mut refused = 0;
        for n in 0..100_u8 {
            match np.send(&[n]) {
                Ok(()) => sent.push(n),
                Err(SendError::RingFull | SendError::NoMbuf) => refused += 1,
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!((sent.len(), refused), (32, 68));
        for _ in 0..100 {
            assert!(faulty.wire.inject(&datagram(514, b"while nobody polls")));
        }
        // Nobody polls, so changes and the loop's own end must not wait for somebody who does.
        let guest = faulty.port.setup(client("guest")).unwrap();
        guest.cleanup().unwrap();
        handle.remove(&faulty.port);
        let before = recorder.payloads().len();
        let lcore = Lcore::start(&[&faulty.port]);
        wait_for("what waited", || recorder.payloads().len() == before + 100 && np.stats().queued == 0);
        let frames = take_all(&faulty.wire);
        let got: Vec<_> = frames.iter().filter(|frame| is_udp(frame)).map(|frame| payload(frame)[0]).collect();
        assert_eq!(got, sent);
        works_again(&faulty, &recorder);
        assert!(np.cleanup().unwrap().balances());
        drop((rx, keeper));
        lcore.stop().unwrap();
        others.stop().unwrap();
        faulty.end();
        other.end();
    }
}

/// Every fault at once, in turns, under traffic both ways: the equations hold to the frame at the end.
#[test]
fn all_faults_of_a_nic_in_turns_under_traffic() {
    let pair = Pair::start(256, 1024);
    let Pair { faulty, .. } = &pair;
    let recorder = Recorder::default();
    let rx = faulty.port.setup_rx(client("rx").ring_frames(8), RxFilter::default(), recorder.factory()).unwrap();
    let mut np = faulty.port.setup(client("tx").ring_frames(64)).unwrap();
    let injected = AtomicU64::new(0);
    let mut submitted = 0;
    for round in 0..60_usize {
        let faults = &faulty.faults;
        faults.tx_takes.store([usize::MAX, 0, 1, 5][round % 4], Ordering::Relaxed);
        faults.alloc_gives.store([usize::MAX, usize::MAX, 0, 1, 3][round % 5], Ordering::Relaxed);
        faults.rx_blocked.store(round % 3 == 1, Ordering::Relaxed);
        faults.link_down.store(round % 7 == 3, Ordering::Relaxed);
        for _ in 0..200 {
            let _ = np.send(b"line");
            submitted += 1;
            // What does not go in is counted by the NIC.
            faulty.wire.inject(&datagram(514, b"line"));
            faulty.wire.inject(&arp_request());
            injected.fetch_add(2, Ordering::Relaxed);
        }
        while faulty.wire.take_buf().is_some() {}
        ask(&pair.other.wire);
    }
    let faults = &faulty.faults;
    faults.tx_takes.store(usize::MAX, Ordering::Relaxed);
    faults.alloc_gives.store(usize::MAX, Ordering::Relaxed);
    faults.rx_blocked.store(false, Ordering::Relaxed);
    faults.link_down.store(false, Ordering::Relaxed);
    wait_for("the ring to be empty", || {
        while faulty.wire.take_buf().is_some() {}
        np.stats().queued == 0 && faulty.port.is_up()
    });
    let arrived = || faulty.port.stats().arrived();
    wait_for("the last frame", || arrived() == injected.load(Ordering::Relaxed));
    works_again(faulty, &recorder);
    let stats = np.cleanup().unwrap();
    assert!(stats.balances() && stats.submit.submitted == submitted, "{stats}");
    assert_eq!(recorder.payloads().len() as u64, faulty.port.stats().queue.delivered);
    drop(rx);
    pair.end();
}

/// A client that is never dropped (its thread hangs for ever, or forgot it) keeps its place and its credits, and no more:
/// the port goes on, and says who is left when it is to be closed.
#[test]
fn a_client_that_is_forgotten_keeps_its_credits_and_no_more() {
    let pair = Pair::start(1024, 4096);
    let Pair { faulty, .. } = &pair;
    let recorder = Recorder::default();
    let rx = faulty.port.setup_rx(client("rx").ring_frames(1), RxFilter::default(), recorder.factory()).unwrap();
    let (done, hang) = mpsc::channel::<()>();
    let (port, ready) = (faulty.port.clone(), Arc::new(AtomicBool::new(false)));
    let is_ready = ready.clone();
    let thread = std::thread::spawn(move || {
        let np = port.setup(ClientOptions::new("hangs").remote(PEER_IP, 6666).ring_frames(16)).unwrap();
        is_ready.store(true, Ordering::Relaxed);
        let _ = hang.recv();
        drop(np);
    });
    wait_for("the client", || ready.load(Ordering::Relaxed));
    works_again(faulty, &recorder);
    pair.other_answers();
    rx.cleanup().unwrap();
    let refused = faulty.port.close().unwrap_err();
    assert!(matches!(refused, SetupError::InUse { clients: 1, .. }), "{refused}");
    while faulty.wire.take_buf().is_some() {}
    wait_for("what is not its credits", || faulty.wire.pool().outstanding() == 16);
    drop(done);
    thread.join().unwrap();
    pair.end();
}

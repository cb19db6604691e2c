//! A port whose queues are made in software: clients, hooks, answers and the ledger, over a device in memory with one
//! queue.

mod support;

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use netpoll::{
    PortId, QueueId,
    netpoll::{
        ClientOptions, IdlePolicy, Netpoll, PollLoop, PollLoopHandle, Port, RxFilter,
        filter::Reason,
        hook::{HookSend, RxBurst, RxHook},
    },
    port::{
        PortIo,
        memory::{MemoryPort, Wire},
        spread::{self, Lane},
    },
    wire::{
        arp::Arp,
        template::{UdpFlow, UdpTemplate},
    },
};
use support::*;

type Io = Lane<MemoryPort>;

/// A spread port, and a poll loop in a thread of its own for each of the queues that is to have one.
struct Rig {
    port: Arc<Port<Io>>,
    wire: Wire,
    loops: Vec<(PollLoopHandle<Io>, JoinHandle<()>)>,
}

/// Frames that the device's ring and its pool hold.
const RING: usize = 8192;

impl Rig {
    fn new(workers: usize, held: usize, polled: impl IntoIterator<Item = u16>) -> Rig {
        let (io, wire) = MemoryPort::new(US_MAC, RING, 2 * RING);
        let port = Port::new(PortId(0), options(), spread::over(io, workers, held));
        let poll = |queue| {
            // Sleeping, so that more loops than cores get on.
            let mut poll_loop = PollLoop::new(IdlePolicy::default(), 32);
            poll_loop.add(&port, QueueId(queue));
            let handle = poll_loop.handle();
            let run = move || {
                let _lcore = enter_lcore();
                poll_loop.run();
            };
            (handle, thread::spawn(run))
        };
        Rig { loops: polled.into_iter().map(poll).collect(), port, wire }
    }

    /// Puts a datagram on the wire, as soon as fewer than `most` are under way.
    fn inject(&self, frame: &[u8], most: usize) {
        wait_until("room", || self.wire.pool().outstanding() < most);
        assert!(self.wire.inject(frame));
    }

    /// Ends the loops, cleans up, and checks the ledger: of each queue, of the port, of the spread, of the pool.
    fn end(self, np: Netpoll<Io>) {
        np.cleanup().unwrap();
        for (handle, _) in &self.loops {
            handle.stop();
        }
        for (_, poller) in self.loops {
            poller.join().unwrap();
        }
        drop(self.port.close().unwrap());
        let queues = (0..self.port.queues()).map(|queue| self.port.queue_stats(QueueId(queue as u16)));
        queues.for_each(|stats| assert!(stats.balances(), "{stats}"));
        let stats = self.port.stats();
        let (taken, received) = stats.spread().expect("it was spread");
        assert_eq!(taken, received, "{stats}");
        drop(self.port);
        while self.wire.take().is_some() {}
        assert_eq!(self.wire.pool().outstanding(), 0, "every buffer is back");
    }
}

/// An rx client that holds next to no buffers: those under way are frames.
fn receiver() -> ClientOptions {
    client("rx").ring_frames(1)
}

fn source(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 99, 0, number)
}

fn datagram_from(src_ip: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let flow = UdpFlow { src_mac: PEER_MAC, dst_mac: US_MAC, src_ip, dst_ip: US_IP, src_port: 4000, dst_port: 514 };
    let mut frame = vec![0; UdpTemplate::frame_len(payload.len()).max(60)];
    UdpTemplate::new(&flow).emit(&mut frame, payload, 1).unwrap();
    frame
}

fn arp_request() -> Vec<u8> {
    let mut frame = vec![0; 60];
    Arp::request(PEER_MAC, PEER_IP, US_IP).emit_frame(&mut frame, netpoll::wire::MacAddr::BROADCAST).unwrap();
    frame
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !done() {
        assert!(start.elapsed().as_secs() < 60, "{what}: not within a minute");
        thread::sleep(std::time::Duration::from_micros(200));
    }
}

/// Of each queue, what its hook instance got: the sources with their numbers, in order.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Numbers>>);

/// By queue and source.
type Numbers = HashMap<(u16, IpAddr), Vec<u32>>;

struct Note(Seen, QueueId);

impl RxHook for Note {
    fn rx_hook(&mut self, _: &dyn HookSend, burst: &RxBurst<'_>) {
        let mut seen = self.0.0.lock().unwrap();
        for datagram in burst.datagrams {
            let number = u32::from_be_bytes(*datagram.payload().first_chunk().unwrap());
            seen.entry((self.1.0, datagram.src_ip())).or_default().push(number);
        }
    }
}

#[test]
fn each_source_is_one_workers_and_in_order() {
    const SOURCES: u8 = 40;
    const EACH: u32 = 500;
    let rig = Rig::new(2, 1024, 0..3);
    let seen = Seen::default();
    let hooks = |queue| Box::new(Note(seen.clone(), queue)) as Box<dyn RxHook>;
    let np = rig.port.setup_rx(receiver(), RxFilter::default(), hooks).unwrap();
    let mut sent = 0;
    for number in 0..EACH {
        for host in 0..SOURCES {
            // Fewer than one worker may hold: nothing is lost, however the threads are scheduled.
            rig.inject(&datagram_from(source(100 + host), &number.to_be_bytes()), 1000);
            sent += 1;
        }
        if number % 100 == 0 {
            rig.inject(&arp_request(), 1000);
        }
    }
    wait_until("all delivered", || rig.port.stats().queue.delivered == sent);
    wait_until("all answered", || rig.port.stats().queue.arp_answered == u64::from(EACH / 100));
    {
        let seen = seen.0.lock().unwrap();
        assert_eq!(seen.len(), usize::from(SOURCES), "each source came to one queue");
        for ((queue, source), numbers) in seen.iter() {
            assert!([1, 2].contains(queue), "{source}: queue {queue}");
            assert!(numbers.iter().copied().eq(0..EACH), "{source}: out of order");
        }
        for queue in [1, 2] {
            let of_queue: usize = seen.iter().filter(|((at, _), _)| *at == queue).map(|(_, n)| n.len()).sum();
            let stats = rig.port.queue_stats(QueueId(queue)).queue;
            assert_eq!((stats.delivered, stats.received), (of_queue as u64, of_queue as u64));
            assert!(of_queue > 0, "both work");
        }
        let receiver = rig.port.queue_stats(QueueId(0)).queue;
        assert_eq!((receiver.received, receiver.delivered), (u64::from(EACH / 100), 0));
    }
    rig.end(np);
}

/// Blocks the first call of a queue's hook until it is let go; counts what each queue got.
#[derive(Default)]
struct Stall {
    stalled: AtomicBool,
    go: AtomicBool,
    got: [AtomicU64; 3],
}

struct Stalling(Arc<Stall>, u16);

impl RxHook for Stalling {
    fn rx_hook(&mut self, _: &dyn HookSend, burst: &RxBurst<'_>) {
        if self.1 == 1 {
            self.0.stalled.store(true, Ordering::Release);
            while !self.0.go.load(Ordering::Acquire) {
                thread::sleep(std::time::Duration::from_micros(200));
            }
        }
        self.0.got[usize::from(self.1)].fetch_add(burst.datagrams.len() as u64, Ordering::Relaxed);
    }
}

/// Lets a stalled hook go, where the test fails too.
struct LetGo(Arc<Stall>);

impl Drop for LetGo {
    fn drop(&mut self) {
        self.0.go.store(true, Ordering::Release);
    }
}

/// A source of each of two workers.
fn two_sources() -> [Ipv4Addr; 2] {
    let (io, wire) = MemoryPort::new(US_MAC, 64, 64);
    let mut lanes = spread::over(io, 2, 64);
    lanes[0].pass_on(true);
    let mut of_first = |host: &u8| {
        assert!(wire.inject(&datagram_from(source(*host), b"whose am I")));
        let mut frames = Vec::with_capacity(64);
        lanes[0].rx_burst(&mut frames, 64);
        let got = lanes[1].rx_burst(&mut frames, 64);
        lanes[2].rx_burst(&mut frames, 64);
        got == 1
    };
    let first = (100..200).find(&mut of_first).expect("each worker has sources");
    let second = (100..200).find(|host| !of_first(host)).expect("each worker has sources");
    [source(first), source(second)]
}

/// One worker's hook hangs: ARP is answered, the other worker's datagrams all come, and of its own are lost, counted,
/// what it cannot hold.
#[test]
fn a_hook_that_hangs_costs_its_own_sources_and_delays_no_answer() {
    const HELD: u64 = 256;
    const SENT: u64 = 2000;
    let rig = Rig::new(2, HELD as usize, 0..3);
    let stall = Arc::new(Stall::default());
    let hooks = |queue: QueueId| Box::new(Stalling(stall.clone(), queue.0)) as Box<dyn RxHook>;
    let np = rig.port.setup_rx(receiver(), RxFilter::default(), hooks).unwrap();
    wait_until("the announcement", || rig.wire.take().is_some());
    let _let_go = LetGo(stall.clone());
    let [ours, theirs] = two_sources();
    rig.inject(&datagram_from(ours, b"it hangs"), 1000);
    wait_until("the stall", || stall.stalled.load(Ordering::Acquire));
    for _ in 0..SENT {
        // Little more than what the stalled one holds: the other one always has room.
        rig.inject(&datagram_from(ours, b"to the one that hangs"), HELD as usize + 100);
        rig.inject(&datagram_from(theirs, b"to the other"), HELD as usize + 100);
    }
    for _ in 0..10 {
        rig.inject(&arp_request(), 1000);
        wait_until("an answer to ARP", || rig.wire.take().is_some());
    }
    wait_until("the other one's datagrams", || stall.got[2].load(Ordering::Relaxed) == SENT);
    assert_eq!(stall.got[1].load(Ordering::Relaxed), 0, "it hangs all the while");
    stall.go.store(true, Ordering::Release);
    // The one that stalled it is one of those that it held.
    wait_until("what was held", || stall.got[1].load(Ordering::Relaxed) == HELD);
    let stats = rig.port.stats();
    assert_eq!(stats.queue.delivered, SENT + HELD, "{stats}");
    assert_eq!(stats.missed.spread_full, SENT + 1 - HELD, "{stats}");
    assert_eq!(stats.queue.arp_answered, 10);
    assert!(stats.to_string().contains("spread_full"), "{stats}");
    rig.end(np);
}

/// A worker that nobody polls (its lcore is dead): what it holds is counted at the end too.
#[test]
fn a_worker_that_is_never_polled_keeps_the_ledger() {
    let rig = Rig::new(1, 64, 0..1);
    let np = rig.port.setup_rx(receiver(), RxFilter::default(), Recorder::default().factory()).unwrap();
    for _ in 0..100 {
        rig.inject(&datagram(514, b"line"), 1000);
    }
    wait_until("all taken", || rig.port.stats().missed.taken == 100);
    assert_eq!(rig.port.stats().missed.spread_full, 36);
    let port = rig.port.clone();
    rig.end(np);
    let stats = port.stats();
    // With nobody else inside, clean-up's own look at the queue counts them.
    assert_eq!((stats.queue.stale, stats.queue.delivered, stats.missed.spread_full), (64, 0, 36), "{stats}");
}

/// What was taken from the device before the clean-up is still delivered.
#[test]
fn cleanup_drains_the_workers() {
    let rig = Rig::new(2, 1024, 0..3);
    let recorder = Recorder::default();
    let keep = recorder.clone();
    let slow = move |_: QueueId| {
        let mut keep = keep.clone();
        let hook = Hook(move |np: &dyn HookSend, burst: &RxBurst<'_>| {
            thread::sleep(std::time::Duration::from_millis(1));
            keep.rx_hook(np, burst);
        });
        Box::new(hook) as Box<dyn RxHook>
    };
    let np = rig.port.setup_rx(receiver(), RxFilter::default(), slow).unwrap();
    for host in 0..200 {
        rig.inject(&datagram_from(source(host), &[host]), 1000);
    }
    wait_until("all taken", || rig.port.stats().missed.taken == 200);
    let port = rig.port.clone();
    rig.end(np);
    let stats = port.stats();
    assert_eq!((stats.queue.delivered, recorder.payloads().len()), (200, 200), "{stats}");
}

/// Hooks come and go under traffic: each datagram is delivered or counted, and no hook is called after its clean-up.
#[test]
fn hooks_come_and_go() {
    const ROUNDS: u64 = 20;
    let rig = Rig::new(2, 1024, 0..3);
    let sender = rig.port.setup(client("tx").ring_frames(1)).unwrap();
    let delivered = Arc::new(AtomicU64::new(0));
    let mut sent = 0;
    for round in 0..ROUNDS {
        let inject = |sent: &mut u64| {
            for host in 0..50 {
                rig.inject(&datagram_from(source(host), b"line"), 1000);
                *sent += 1;
            }
        };
        let alive = Arc::new(AtomicBool::new(true));
        let hooks = |_: QueueId| {
            let (alive, delivered) = (alive.clone(), delivered.clone());
            let hook = Hook(move |_: &dyn HookSend, burst: &RxBurst<'_>| {
                assert!(alive.load(Ordering::Acquire), "called after the clean-up");
                delivered.fetch_add(burst.datagrams.len() as u64, Ordering::Relaxed);
            });
            Box::new(hook) as Box<dyn RxHook>
        };
        inject(&mut sent);
        let np = rig.port.setup_rx(receiver(), RxFilter::default(), hooks).unwrap();
        inject(&mut sent);
        if round % 2 == 0 {
            wait_until("a delivery", || delivered.load(Ordering::Relaxed) > 0);
        }
        np.cleanup().unwrap();
        alive.store(false, Ordering::Release);
    }
    wait_until("all taken", || rig.port.stats().missed.taken == sent);
    let port = rig.port.clone();
    rig.end(sender);
    let stats = port.stats();
    let (delivered, nobodys) = (delivered.load(Ordering::Relaxed), stats.unmatched(Reason::NoRxClient));
    assert_eq!(stats.queue.delivered, delivered);
    assert_eq!((delivered + nobodys, stats.queue.hook_panicked), (sent, 0), "{stats}");
    assert!(delivered > 0);
}

/// Clients, and hooks on whatever queue, send by the queue that can; all answers are that queue's.
#[test]
fn everything_leaves_by_the_first_queue() {
    let rig = Rig::new(2, 1024, 0..3);
    let echo = |_: QueueId| {
        let hook = Hook(|np: &dyn HookSend, burst: &RxBurst<'_>| {
            for datagram in burst.datagrams {
                np.reply(datagram, datagram.payload()).unwrap();
            }
        });
        Box::new(hook) as Box<dyn RxHook>
    };
    let np = rig.port.setup_rx(client("echo").ring_frames(1024), RxFilter::default(), echo).unwrap();
    let mut clients: Vec<_> =
        (0..5).map(|n| rig.port.setup(client(&format!("tx{n}")).ring_frames(32)).unwrap()).collect();
    for client in &mut clients {
        for _ in 0..20 {
            client.send(b"a line").unwrap();
        }
    }
    for host in 0..100 {
        rig.inject(&datagram_from(source(100 + host), &[host]), RING);
    }
    wait_until("200 sent", || rig.port.queue_stats(QueueId(0)).queue.sent >= 200);
    let sent = take_all(&rig.wire);
    let echoed: std::collections::BTreeSet<_> =
        sent.iter().filter(|frame| is_udp(frame)).map(|frame| payload(frame)).filter(|line| line.len() == 1).collect();
    assert_eq!(echoed.len(), 100, "each source got its own back");
    for queue in [1, 2] {
        let stats = rig.port.queue_stats(QueueId(queue)).queue;
        assert_eq!((stats.sent, stats.engine_submitted), (0, 0));
        assert!(stats.delivered > 0);
    }
    for client in clients {
        let stats = client.cleanup().unwrap();
        assert_eq!((stats.sent.sent, stats.balances()), (20, true), "{stats}");
    }
    rig.end(np);
}

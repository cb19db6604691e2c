//! Whole lives of clients, under shuttle: register, send, change the hook's filter, close, and a loop that ports are taken
//! out of, many threads at once, in interleavings at random. Too large for loom, whose models show the single protocols, with
//! their orderings: shuttle takes every atomic for sequentially consistent, and a test that fails prints the schedule to
//! replay it. (The rings' own steps, and the port in memory, are not seen: between two of them nothing is interleaved.)

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool as Plain, AtomicU64 as PlainCount, Ordering::Relaxed},
    },
};

use shuttle::thread;

use super::{
    ClientOptions, ClientStats, IdlePolicy, OnFull, PollLoop, PollLoopHandle, Port, PortOptions, RxFilter, SendError,
    hook::{HookSend, RxBurst, RxHook},
};
use crate::{
    LcoreId, PortId, QueueId,
    port::memory::{MemoryPort, Wire},
    wire::{
        MacAddr,
        template::{UdpFlow, UdpTemplate},
    },
};

type MemPort = Arc<Port<MemoryPort>>;

const US_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const INJECTED: u64 = 6;

fn client(name: &str) -> ClientOptions {
    ClientOptions::new(name).remote(Ipv4Addr::new(10, 0, 0, 2), 6666).ring_frames(2)
}

fn datagram() -> Vec<u8> {
    let flow = UdpFlow {
        src_mac: MacAddr([2, 0, 0, 0, 0, 2]),
        dst_mac: US_MAC,
        src_ip: [10, 0, 0, 2].into(),
        dst_ip: [10, 0, 0, 1].into(),
        src_port: 4000,
        dst_port: 514,
    };
    let mut frame = vec![0; 60];
    UdpTemplate::new(&flow).emit(&mut frame, b"a line", 1).unwrap();
    frame
}

/// A hook that answers, and must not be called once it is `gone`.
struct Watched {
    gone: Arc<Plain>,
    calls: Arc<PlainCount>,
    queued: Arc<PlainCount>,
}

impl RxHook for Watched {
    fn rx_hook(&mut self, np: &dyn HookSend, burst: &RxBurst<'_>) {
        for datagram in burst.datagrams {
            assert!(!self.gone.load(Relaxed), "called after clean-up");
            self.calls.fetch_add(1, Relaxed);
            self.queued.fetch_add(u64::from(np.reply(datagram, b"back").is_ok()), Relaxed);
        }
    }
}

/// All that the client was told is queued has ended, nothing else has; the frames that it sent.
fn check(stats: &ClientStats, queued: u64) -> u64 {
    let sent = &stats.sent;
    assert_eq!(stats.queued, 0);
    assert_eq!(sent.sent + sent.unresolved + sent.port_down + sent.cleanup, queued, "{stats}");
    sent.sent
}

/// A receiver whose handle another thread sends through, up to its clean-up and past it. Delivered, sent.
fn rx_life(port: &MemPort) -> (u64, u64) {
    let (gone, calls, queued) = <(Arc<Plain>, Arc<PlainCount>, Arc<PlainCount>)>::default();
    let hook = (gone.clone(), calls.clone(), queued.clone());
    let rx = port
        .setup_rx(client("rx"), RxFilter::default(), move |_| {
            let (gone, calls, queued) = hook.clone();
            Box::new(Watched { gone, calls, queued }) as Box<dyn RxHook>
        })
        .unwrap();
    let np = rx.shared().unwrap();
    let sender = thread::spawn(move || {
        let mut queued = 0;
        for _ in 0..6 {
            match np.send(b"as the rx client") {
                Ok(()) => queued += 1,
                Err(SendError::Closed) => break,
                Err(_) => thread::yield_now(),
            }
        }
        queued
    });
    rx.set_filter(&RxFilter { local_ports: 514.into(), ..RxFilter::default() }).unwrap();
    let stats = rx.cleanup().unwrap();
    gone.store(true, Relaxed);
    let all = sender.join().unwrap() + queued.load(Relaxed);
    (calls.load(Relaxed), check(&stats, all))
}

/// A sender that is an lcore, and polls at the gate too. Frames sent.
fn tx_life(port: &MemPort, lcore: u32) -> u64 {
    let _lcore = LcoreId(lcore).enter();
    let on_full =
        if lcore.is_multiple_of(2) { OnFull::Drop } else { OnFull::Wait(std::time::Duration::from_micros(20)) };
    let mut np = port.setup(client("tx").on_full(on_full)).unwrap();
    let mut queued = np.send_burst(&[b"one", b"two", b"three"]) as u64;
    np.poll(4);
    queued += u64::from(np.send(b"four").is_ok());
    let stats = np.cleanup().unwrap();
    assert!(stats.balances(), "{stats}");
    check(&stats, queued)
}

fn start(port: &MemPort, lcore: u32) -> (PollLoopHandle<MemoryPort>, thread::JoinHandle<()>) {
    let mut poll_loop = PollLoop::new(IdlePolicy::Sleep { max: std::time::Duration::from_micros(1) }, 4);
    poll_loop.add(port, QueueId(0));
    let handle = poll_loop.handle();
    let thread = thread::spawn(move || {
        let _lcore = LcoreId(lcore).enter();
        poll_loop.run();
    });
    (handle, thread)
}

fn is_udp(frame: &[u8]) -> bool {
    frame[12..14] == [8, 0]
}

fn take(wire: &Wire) -> u64 {
    std::iter::from_fn(|| wire.take()).filter(|frame| is_udp(frame)).count() as u64
}

fn lives() {
    let (io, wire) = MemoryPort::new(US_MAC, 64, 64);
    let port = Port::new(PortId(0), PortOptions::new("mem0").ip([10, 0, 0, 1].into(), 24), vec![io]);
    let (handle, poller) = start(&port, 1);
    let rx = {
        let port = port.clone();
        thread::spawn(move || rx_life(&port))
    };
    let tx = [2, 3].map(|lcore| {
        let port = port.clone();
        thread::spawn(move || tx_life(&port, lcore))
    });
    let frame = datagram();
    for _ in 0..INJECTED {
        assert!(wire.inject(&frame));
        thread::yield_now();
    }
    handle.remove(&port);
    handle.add(&port, QueueId(0));
    let (delivered, mut sent) = rx.join().unwrap();
    sent += tx.into_iter().map(|tx| tx.join().unwrap()).sum::<u64>();
    // What came with no client there is taken by the next one, as too old.
    drop(port.setup(client("last")).unwrap());
    handle.stop();
    poller.join().unwrap();
    let stats = port.stats();
    assert!(stats.balances(), "{stats}");
    assert_eq!((stats.queue.received, stats.queue.delivered), (INJECTED, delivered));
    drop(port.close().unwrap());
    assert_eq!(take(&wire), sent, "what the clients' counters say is what left");
    assert_eq!(wire.pool().outstanding(), 0, "mbufs out = mbufs back");
}

#[test]
fn at_random() {
    shuttle::check_random(lives, iterations());
}

/// Priorities, changed at three places: finds what needs one thread to be starved for long.
#[test]
fn by_priorities() {
    shuttle::check_pct(lives, iterations(), 3);
}

/// `NETPOLL_STRESS` is in percent, as elsewhere.
fn iterations() -> usize {
    500 * std::env::var("NETPOLL_STRESS").map_or(100, |n| n.parse().expect("NETPOLL_STRESS is a number")) / 100
}

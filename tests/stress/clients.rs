//! Clients and hooks that come and go, two loops at the same gates, ports put in and taken out of a loop.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, Scope, ScopedJoinHandle},
    time::{Duration, Instant},
};

use netpoll::{
    PortId, QueueId,
    netpoll::{
        ClientStats, IdlePolicy, OnFull, PollLoop, PollLoopHandle, Port, RxFilter, SendError,
        hook::{HookSend, RxBurst, RxHook},
    },
    port::memory::{MemoryPort, Wire},
};

use super::{Through, rounds, support::*};

type MemPort = Arc<Port<MemoryPort>>;

const QUEUES: u16 = 2;
/// Nothing takes longer unless it is stuck; valgrind is slow.
const BOUND: Duration = Duration::from_secs(300);

/// A loop on a thread that is an lcore.
fn start<'s>(scope: &'s Scope<'s, '_>, port: &MemPort) -> (PollLoopHandle<MemoryPort>, ScopedJoinHandle<'s, ()>) {
    let mut poll_loop = PollLoop::new(IdlePolicy::Sleep { max: Duration::from_micros(100) }, 32);
    (0..QUEUES).for_each(|queue| poll_loop.add(port, QueueId(queue)));
    let handle = poll_loop.handle();
    let thread = scope.spawn(move || {
        let _lcore = enter_lcore();
        poll_loop.run();
    });
    (handle, thread)
}

/// What the port's other side saw.
#[derive(Default)]
struct Traffic {
    injected: u64,
    udp_taken: u64,
}

impl Traffic {
    fn take(&mut self, wires: &[Wire]) {
        for frame in wires.iter().flat_map(take_all) {
            self.udp_taken += u64::from(is_udp(&frame));
        }
    }

    /// Datagrams in, whatever comes out, until the others are through.
    fn run(wires: &[Wire], through: &AtomicBool) -> Traffic {
        let mut traffic = Traffic::default();
        let frames = [datagram(514, b"to the hook"), datagram(7, b"to nobody, while the filter says so")];
        while !through.load(Ordering::Relaxed) {
            for wire in wires {
                traffic.injected += frames.iter().filter(|frame| wire.inject(frame)).count() as u64;
            }
            traffic.take(wires);
            thread::yield_now();
        }
        traffic
    }
}

/// Counts what it gets and answers some of it; a call after its clean-up fails, and touches freed memory.
struct Watched {
    calls: Arc<AtomicU64>,
    replied: Arc<AtomicU64>,
    gone: Arc<AtomicBool>,
}

impl RxHook for Watched {
    fn rx_hook(&mut self, np: &dyn HookSend, burst: &RxBurst<'_>) {
        assert!(!self.gone.load(Ordering::Relaxed), "called after clean-up");
        self.calls.fetch_add(burst.datagrams.len() as u64, Ordering::Relaxed);
        let replied = burst.datagrams.iter().filter(|datagram| np.reply(datagram, datagram.payload()).is_ok()).count();
        self.replied.fetch_add(replied as u64, Ordering::Relaxed);
    }
}

/// Frames that a client was told are queued have all left, or are counted, once it is cleaned up; and no more were.
#[track_caller]
fn check(stats: &ClientStats, queued: u64) -> u64 {
    let sent = &stats.sent;
    assert_eq!(stats.queued, 0);
    assert_eq!(sent.sent + sent.unresolved + sent.port_down + sent.cleanup, queued, "{stats}");
    sent.sent
}

/// Rx clients, each with two more threads that send as it, up to its clean-up and past it. Frames delivered, frames sent.
fn rx_clients(port: &MemPort) -> (u64, u64) {
    let (mut delivered, mut sent) = (0, 0);
    for round in 0..rounds(2000) {
        let (calls, replied, gone) = <(Arc<AtomicU64>, Arc<AtomicU64>, Arc<AtomicBool>)>::default();
        let watched = (calls.clone(), replied.clone(), gone.clone());
        let rx = port
            .setup_rx(client("rx").ring_frames(8), RxFilter::default(), move |_| {
                let (calls, replied, gone) = watched.clone();
                Box::new(Watched { calls, replied, gone }) as Box<dyn RxHook>
            })
            .unwrap();
        let senders: Vec<_> = (0..2)
            .map(|_| {
                let np = rx.shared().expect("an rx client is shared");
                thread::spawn(move || {
                    let mut queued = 0;
                    loop {
                        match np.send(b"as the rx client") {
                            Ok(()) => queued += 1,
                            Err(SendError::Closed) => return queued,
                            Err(_) => thread::yield_now(),
                        }
                    }
                })
            })
            .collect();
        if round % 2 == 0 {
            rx.set_filter(&RxFilter { local_ports: 514.into(), ..RxFilter::default() }).unwrap();
        }
        thread::sleep(Duration::from_micros(200 * (round % 3)));
        let stats = rx.cleanup().unwrap();
        gone.store(true, Ordering::Relaxed);
        delivered += calls.load(Ordering::Relaxed);
        let queued = senders.into_iter().map(|sender| sender.join().unwrap()).sum::<u64>();
        sent += check(&stats, queued + replied.load(Ordering::Relaxed));
    }
    (delivered, sent)
}

/// Clients of one thread that is an lcore, so that it polls at the gates too. Frames sent.
fn tx_clients(port: &MemPort) -> u64 {
    let _lcore = enter_lcore();
    let mut sent = 0;
    for round in 0..rounds(4000) {
        let on_full = if round % 2 == 0 { OnFull::Drop } else { OnFull::Wait(Duration::from_micros(200)) };
        let mut np = port.setup(client("tx").ring_frames(4).on_full(on_full)).unwrap();
        let payloads = [&b"a burst"[..]; 6];
        let mut queued = np.send_burst(&payloads) as u64;
        if round % 3 == 0 {
            np.poll(16);
        }
        queued += (0..6).filter(|_| np.send(b"one by one").is_ok()).count() as u64;
        let stats = np.cleanup().unwrap();
        assert!(stats.balances(), "{stats}");
        sent += check(&stats, queued);
    }
    sent
}

#[test]
fn clients_hooks_and_ports_come_and_go_under_traffic() {
    let (queues, wires): (Vec<_>, Vec<_>) = (0..QUEUES).map(|_| MemoryPort::new(US_MAC, 256, 1024)).unzip();
    let port = Port::new(PortId(0), options(), queues);
    let through = AtomicBool::new(false);
    let (mut traffic, delivered, sent) = thread::scope(|scope| {
        // Two loops at the same gates, and clients that poll for themselves.
        let (steady, steady_thread) = start(scope, &port);
        let (moving, moving_thread) = start(scope, &port);
        let traffic = scope.spawn(|| Traffic::run(&wires, &through));
        let (control_moving, control_port, control_through) = (moving.clone(), &port, &through);
        let control = scope.spawn(move || {
            while !control_through.load(Ordering::Relaxed) {
                control_moving.remove(control_port);
                // Reads the queues' counters, by a change or from the idle queues.
                control_port.stats();
                (0..QUEUES).for_each(|queue| control_moving.add(control_port, QueueId(queue)));
                thread::sleep(Duration::from_micros(300));
            }
        });
        let (delivered, sent) = {
            let _through = Through(&through);
            // No client stays throughout: the last one that leaves takes `npinfo` down, the next one makes it anew.
            let rx = scope.spawn(|| rx_clients(&port));
            let tx = [0, 1].map(|_| scope.spawn(|| tx_clients(&port)));
            let (delivered, mut sent) = rx.join().unwrap();
            sent += tx.into_iter().map(|tx| tx.join().unwrap()).sum::<u64>();
            (delivered, sent)
        };
        control.join().unwrap();
        let traffic = traffic.join().unwrap();
        // What is still on its way in is received, with nobody to take it.
        let last = port.setup(client("last")).unwrap();
        let start = Instant::now();
        while port.stats().queue.received < traffic.injected {
            assert!(start.elapsed() < BOUND, "frames are stuck");
            thread::yield_now();
        }
        drop(last);
        steady.stop();
        moving.stop();
        steady_thread.join().unwrap();
        moving_thread.join().unwrap();
        (traffic, delivered, sent)
    });
    let stats = port.stats();
    assert!(stats.balances(), "{stats}");
    assert_eq!(stats.queue.received, traffic.injected, "every frame that went in was received");
    assert_eq!(stats.queue.delivered, delivered, "every delivery was seen by a hook in service");
    assert!(delivered > 0 && sent > 0, "delivered {delivered}, sent {sent}");
    drop(port.close().unwrap());
    traffic.take(&wires);
    assert_eq!(traffic.udp_taken, sent, "what the clients' counters say is what left");
    assert!(wires.iter().all(|wire| wire.pool().outstanding() == 0), "mbufs out = mbufs back");
}

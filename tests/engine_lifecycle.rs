//! Set-up and clean-up: counting, the grace period, traffic meanwhile, no allocation on the hot path.

mod support;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use netpoll::{
    QueueId,
    netpoll::{
        IdlePolicy, PollLoop, RxFilter, SetupError,
        hook::{HookSend, RxBurst, RxHook},
    },
};
use support::*;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// Counts this thread's allocations.
struct Counting;

// SAFETY: every call goes to `System` unchanged; counting touches a thread-local cell only.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps `GlobalAlloc::alloc`'s contract, which is `System`'s.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as above; `ptr` came from `System`.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn the_last_client_takes_the_info_down_and_a_later_one_gets_a_fresh_one() {
    let (port, _wire) = port();
    assert!(port.npinfo().is_none());
    let first = port.setup(client("a")).unwrap();
    let info = port.npinfo().unwrap();
    let second = port.setup(client("b")).unwrap();
    assert!(Arc::ptr_eq(&info, &port.npinfo().unwrap()), "one for all clients of a port");
    assert_eq!(info.clients(), 2);
    assert_eq!(port.close().unwrap_err(), SetupError::InUse { port: "mem0".into(), clients: 2 });
    drop(first);
    assert_eq!(info.clients(), 1);
    second.cleanup().unwrap();
    assert!(port.npinfo().is_none());
    assert_eq!(Arc::strong_count(&info), 1, "nobody else keeps it");
    let third = port.setup(client("c")).unwrap();
    assert!(!Arc::ptr_eq(&info, &port.npinfo().unwrap()));
    drop(third);
    assert_eq!(port.close().unwrap().len(), 1);
    assert_eq!(port.setup(client("d")).unwrap_err(), SetupError::PortClosed { port: "mem0".into() });
}

#[test]
fn a_hook_cannot_wait_for_itself() {
    let _lcore = enter_lcore();
    let (port, wire) = port();
    let refused = Arc::new(AtomicBool::new(false));
    let (of, seen) = (port.clone(), refused.clone());
    let np = port
        .setup_rx(client("rx"), RxFilter::default(), move |_| {
            let (of, seen) = (of.clone(), seen.clone());
            Box::new(Hook(move |_: &dyn HookSend, _: &RxBurst<'_>| {
                let error = of.setup(client("from inside")).unwrap_err();
                seen.store(error == SetupError::InsideHook, Ordering::Relaxed);
                // Looking is allowed.
                assert_eq!(of.stats().queue.received, 1);
            })) as Box<dyn RxHook>
        })
        .unwrap();
    wire.inject(&datagram(514, b"line"));
    poll_all(&np);
    assert!(refused.load(Ordering::Relaxed));
    assert_eq!(port.stats().queue.delivered, 1);
}

/// Counts calls; a call after its drop would be a use of freed memory, and shows as one after `gone`.
struct Watched {
    calls: Arc<AtomicU64>,
    gone: Arc<AtomicBool>,
}

impl RxHook for Watched {
    fn rx_hook(&mut self, _: &dyn HookSend, burst: &RxBurst<'_>) {
        assert!(!self.gone.load(Ordering::Relaxed), "called after clean-up");
        self.calls.fetch_add(burst.datagrams.len() as u64, Ordering::Relaxed);
    }
}

/// 10,000 set-ups and clean-ups of hook and sender on another thread while traffic flows: no frame is lost by it, no
/// call comes after a clean-up.
#[test]
fn ten_thousand_changes_under_traffic() {
    const ROUNDS: u64 = 10_000;
    let (port, wire) = port();
    // Keeps the port in service throughout.
    let keeper = port.setup(client("keeper")).unwrap();
    let mut poll_loop = PollLoop::new(IdlePolicy::Pause, 32);
    poll_loop.add(&port, QueueId(0));
    let handle = poll_loop.handle();
    let poller = std::thread::spawn(move || {
        let _lcore = enter_lcore();
        poll_loop.run();
    });
    let stop = Arc::new(AtomicBool::new(false));
    let (stopping, to_port) = (stop.clone(), wire.clone());
    let traffic = std::thread::spawn(move || {
        let frame = datagram(514, b"a line among many");
        let mut injected = 0_u64;
        while !stopping.load(Ordering::Relaxed) {
            if to_port.inject(&frame) {
                injected += 1;
            } else {
                std::thread::yield_now();
            }
            while to_port.take_buf().is_some() {}
        }
        injected
    });
    let mut delivered = 0;
    for _ in 0..ROUNDS {
        let (calls, gone) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (watched_calls, watched_gone) = (calls.clone(), gone.clone());
        let rx = port
            .setup_rx(client("rx").ring_frames(4), RxFilter::default(), move |_| {
                Box::new(Watched { calls: watched_calls.clone(), gone: watched_gone.clone() }) as Box<dyn RxHook>
            })
            .unwrap();
        let mut tx = port.setup(client("tx").ring_frames(4)).unwrap();
        let _ = tx.send(b"on the way out");
        assert!(tx.cleanup().unwrap().balances());
        rx.cleanup().unwrap();
        gone.store(true, Ordering::Relaxed);
        delivered += calls.load(Ordering::Relaxed);
    }
    stop.store(true, Ordering::Relaxed);
    let injected = traffic.join().unwrap();
    while port.stats().queue.received < injected {
        std::thread::yield_now();
    }
    handle.stop();
    poller.join().unwrap();
    let stats = port.stats();
    assert_eq!(stats.queue.received, injected, "every frame that went in was received");
    assert_eq!(stats.queue.delivered, delivered, "every delivery was seen by a hook in service");
    assert!(delivered > 0);
    assert!(stats.balances(), "{stats}");
    drop(keeper);
    while wire.take_buf().is_some() {}
    assert_eq!(wire.pool().outstanding(), 0, "mbufs out = mbufs back");
}

/// After set-up the path from wire to hook to wire allocates nothing.
#[test]
fn the_hot_path_does_not_allocate() {
    let _lcore = enter_lcore();
    let (port, wire) = port();
    let np = port
        .setup_rx(client("echo"), RxFilter::default(), |_: QueueId| {
            Box::new(Hook(|np: &dyn HookSend, burst: &RxBurst<'_>| {
                // Some where they lie, some through the ring.
                let (back, answered) = burst.datagrams.split_at(burst.datagrams.len() / 2);
                np.send_back(back);
                for datagram in answered {
                    let _ = np.reply(datagram, datagram.payload());
                }
            })) as Box<dyn RxHook>
        })
        .unwrap();
    let mut tx = port.setup(client("tx")).unwrap();
    let frame = datagram(7, b"around and around");
    for round in 0..20 {
        for _ in 0..64 {
            wire.inject(&frame);
        }
        let before = ALLOCATIONS.get();
        for _ in 0..32 {
            tx.send(b"a line").unwrap();
        }
        for _ in 0..8 {
            np.poll(32);
        }
        // The first rounds warm lazily made things up (the clock).
        assert!(round < 2 || ALLOCATIONS.get() == before, "{} allocations", ALLOCATIONS.get() - before);
        while wire.take_buf().is_some() {}
    }
    assert_eq!(port.stats().queue.delivered, 20 * 64);
}

/// A loop that is told to stop drains the rings and ends within 100 ms, busy or asleep. (The best of ten: on a machine that
/// does other things too, a single one says little.)
#[test]
fn a_stopped_loop_drains_and_ends_within_100_ms() {
    for idle in [IdlePolicy::Busy, IdlePolicy::default(), IdlePolicy::Sleep { max: Duration::from_millis(50) }] {
        let runs: Vec<_> = (0..10).map(|_| time_to_stop(idle)).collect();
        let kept = |&(took, drained): &(Duration, bool)| drained && took < Duration::from_millis(100);
        assert!(runs.iter().any(kept), "{idle:?}: {runs:?}");
    }
}

/// How long it took, and whether the rings were empty then; whatever was in them has left at the end.
fn time_to_stop(idle: IdlePolicy) -> (Duration, bool) {
    let (port, wire) = port();
    let mut np = port.setup(client("tx").ring_frames(64)).unwrap();
    let mut poll_loop = PollLoop::new(idle, 32);
    poll_loop.add(&port, QueueId(0));
    let handle = poll_loop.handle();
    let poller = std::thread::spawn(move || {
        let _lcore = enter_lcore();
        poll_loop.run();
    });
    while !handle.is_running() {
        std::thread::yield_now();
    }
    let submitted = (0..64).filter(|_| np.send(b"the last lines").is_ok()).count();
    let start = Instant::now();
    handle.stop();
    poller.join().unwrap();
    let took = start.elapsed();
    assert!(submitted > 0);
    let left = || take_all(&wire).into_iter().filter(|frame| is_udp(frame)).count();
    let drained = left();
    let stats = np.cleanup().unwrap();
    assert!(stats.balances() && stats.queued == 0, "{stats}");
    assert_eq!(drained + left(), submitted, "what was in the rings has left");
    (took, drained == submitted)
}

//! The poll loop: what an lcore does all day.
//!
//! It goes round its queues and polls each through the gate. Where nothing is to be done it backs off by its
//! [`IdlePolicy`] (`idle.rs`). Ports come and go while it runs, through its mailbox; a port's clients come and go through the port.

use std::{sync::Arc, time::Duration};

use super::{
    idle::{IdlePolicy, Idler},
    info::NetpollInfo,
    mailbox::{Mailbox, Ticket},
    poll::Budget,
    port::Port,
    urgency::Urgency,
};
use crate::{
    LcoreId, QueueId,
    port::{MAX_BURST, PortIo},
    sync::{self, AtomicBool, Ordering},
};

/// Bursts that a queue may receive in a row, before it is the next one's turn. They pass the gate and read the clock once.
const BURSTS: usize = 8;
/// Rounds of draining after the stop signal, at most this long.
const DRAIN_LIMIT: Duration = Duration::from_millis(50);

/// A poll loop, before and while it runs.
#[derive(Debug)]
pub struct PollLoop<P: PortIo = super::DefaultIo> {
    queues: Vec<Polled<P>>,
    idle: IdlePolicy,
    urgency: Urgency,
    burst: usize,
    shared: Arc<LoopShared<P>>,
}

/// What others hold of a [`PollLoop`].
#[derive(Debug)]
pub struct PollLoopHandle<P: PortIo = super::DefaultIo> {
    shared: Arc<LoopShared<P>>,
}

#[derive(Debug)]
struct LoopShared<P: PortIo> {
    /// P1 pairs with P2: what was submitted before the stop is drained.
    stop: AtomicBool,
    /// P3 pairs with P4: who sees that the loop has ended sees all that it did.
    running: AtomicBool,
    mailbox: Mailbox<Vec<Polled<P>>>,
}

/// One queue that the loop polls.
#[derive(Debug)]
struct Polled<P: PortIo> {
    port: Arc<Port<P>>,
    queue: usize,
    info: Option<Arc<NetpollInfo<P>>>,
    seen: u64,
}

impl<P: PortIo> PollLoop<P> {
    /// A loop without queues. `burst` frames a poll, 1 to [`MAX_BURST`].
    pub fn new(idle: IdlePolicy, burst: usize) -> Self {
        let shared =
            LoopShared { stop: AtomicBool::new(false), running: AtomicBool::new(false), mailbox: Mailbox::new() };
        Self {
            queues: Vec::new(),
            idle,
            urgency: Urgency::default(),
            burst: burst.clamp(1, MAX_BURST),
            shared: Arc::new(shared),
        }
    }

    /// Goes before others on its CPU as long as it sleeps now and then, by [`IdlePolicy::Sleep`]: `set` makes the calling thread a
    /// real-time one (`true`), or an ordinary one again, and says whether it did. It is not called again once it did not.
    pub fn real_time_by(&mut self, set: impl FnMut(bool) -> bool + Send + 'static) {
        self.urgency = Urgency::by(set);
    }

    /// Polls this queue too.
    pub fn add(&mut self, port: &Arc<Port<P>>, queue: QueueId) {
        self.queues.push(Polled::new(port, queue));
    }

    /// What stops the loop and changes its queues while it runs.
    pub fn handle(&self) -> PollLoopHandle<P> {
        PollLoopHandle { shared: self.shared.clone() }
    }

    /// Polls until it is told to stop, then drains the rings (at most 50 ms). The calling thread must be an lcore.
    ///
    /// # Panics
    /// Where it is none.
    pub fn run(mut self) {
        let lcore = LcoreId::current().expect("a poll loop runs on an lcore");
        // For who looks at the process from outside: `top`, and the container's health check.
        name_thread(&format!("poll-{lcore}"));
        let _running = Running::begin(self.shared.clone());
        let mut idler = Idler::new(self.idle, std::mem::take(&mut self.urgency));
        // P2: Acquire, before the rings are drained.
        while !self.shared.stop.load(Ordering::Acquire) {
            match self.round(lcore) {
                0 => idler.idle(),
                frames => idler.worked(frames),
            }
        }
        let start = std::time::Instant::now();
        while start.elapsed() < DRAIN_LIMIT && self.round(lcore) > 0 {}
        name_thread(&format!("lcore-{lcore}"));
    }

    /// Polls each queue once; the frames moved.
    #[inline]
    fn round(&mut self, lcore: LcoreId) -> usize {
        if self.shared.mailbox.has_news() {
            self.shared.mailbox.apply(&mut self.queues);
        }
        let budget = Budget { burst: self.burst, bursts: BURSTS };
        let mut work = 0;
        for polled in &mut self.queues {
            if let Some(info) = polled.port.npinfo_since(&mut polled.seen) {
                polled.info = info;
            }
            if let Some(info) = &polled.info {
                work += info.contexts[polled.queue].poll(lcore, budget, false).unwrap_or(0);
            }
        }
        work
    }
}

/// Says that a loop runs, until it ends, by a panic too: who waits for it must know.
struct Running<P: PortIo>(Arc<LoopShared<P>>);

impl<P: PortIo> Running<P> {
    fn begin(shared: Arc<LoopShared<P>>) -> Self {
        shared.running.store(true, Ordering::Release); // P3
        Running(shared)
    }
}

impl<P: PortIo> Drop for Running<P> {
    fn drop(&mut self) {
        self.0.running.store(false, Ordering::Release); // P3
    }
}

impl<P: PortIo> PollLoopHandle<P> {
    /// Tells the loop to stop. Any thread; does not wait.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Release); // P1
    }

    /// Whether the loop is inside [`PollLoop::run`].
    pub fn is_running(&self) -> bool {
        self.shared.running.load(Ordering::Acquire) // P4
    }

    /// Has the running loop poll this queue too, from its next round on.
    pub fn add(&self, port: &Arc<Port<P>>, queue: QueueId) {
        let polled = Polled::new(port, queue);
        self.post(move |queues| queues.push(polled));
    }

    /// Has the loop let go of the port; it does not touch it any more once this returns. Not from inside a hook.
    pub fn remove(&self, port: &Arc<Port<P>>) {
        let port = port.clone();
        self.post(move |queues| queues.retain(|polled| !Arc::ptr_eq(&polled.port, &port)));
    }

    fn post(&self, change: impl FnOnce(&mut Vec<Polled<P>>) + Send + 'static) {
        let ticket: Ticket = self.shared.mailbox.post(Box::new(change));
        while self.is_running() && !self.shared.mailbox.is_applied(ticket) {
            sync::sleep(Duration::from_micros(50));
        }
    }
}

impl<P: PortIo> Clone for PollLoopHandle<P> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<P: PortIo> Polled<P> {
    fn new(port: &Arc<Port<P>>, queue: QueueId) -> Self {
        // One before the first generation, so that the first look always counts as a change.
        Self { port: port.clone(), queue: usize::from(queue.0), info: None, seen: u64::MAX }
    }
}

/// Names the calling thread, where the system has such names. It is EAL's, so it has been named before.
fn name_thread(name: &str) {
    let _ = std::fs::write("/proc/thread-self/comm", name);
}

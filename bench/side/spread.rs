//! Receiving on two lcores: the device's one queue is spread in software.
//!
//! The measured lcore receives and passes on, the other one filters and calls the hook. With a core for each, the slower
//! one of the two sets the pace. So `cpu_ns` here is that one's CPU time a frame, times the frames that reached the hook:
//! what the receiver is faster than the worker is dropped and counted, and asked of the ledger.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use netpoll::{
    LcoreId, QueueId,
    dpdk::{self, DpdkQueue, LcoreJob, PortSetup, StartedPort},
    netpoll::{IdlePolicy, Netpoll, PollLoop, PollLoopHandle, Port},
    port::spread::{Lane, SpreadBy},
};

use super::{
    receive,
    rig::{self, Arguments, BURST, MEASURED, OTHER, Report, Result, Rig, Side},
};

type Io = Lane<DpdkQueue>;

pub struct Spread {
    client: Netpoll<Io>,
    port: Arc<Port<Io>>,
    started: StartedPort,
}

impl Spread {
    pub fn new(rig: &Rig, arguments: &Arguments) -> Result<Self> {
        let port = dpdk::Port::attach(&rig.eal, arguments.text("device")?)?;
        let setup = PortSetup {
            queues: 2,
            spread: SpreadBy::Software,
            mbufs_per_queue: Some(8192),
            client_mbufs_per_queue: Some(8192),
            ..PortSetup::default()
        };
        let (started, lanes, _) = port.start_spread(&setup)?;
        let port = Port::new(started.id(), rig::options(started.name()), lanes);
        let client = receive::listen(&port, false)?;
        Ok(Spread { client, port, started })
    }
}

impl Side for Spread {
    fn run(&mut self, rig: &Rig, slice: Duration) -> Result<Report> {
        let before = self.port.stats();
        let start = Instant::now();
        let worker = Running::start(rig, OTHER, &self.port, QueueId(1))?;
        let receiver = Running::start(rig, MEASURED, &self.port, QueueId(0))?;
        thread::sleep(slice);
        let receiver_ns = receiver.stop()?;
        let worker_ns = worker.stop()?;
        let wall = start.elapsed();
        let now = self.port.stats();
        let frames = now.queue.delivered - before.queue.delivered;
        let taken = now.missed.taken - before.missed.taken;
        let receiver_ns = receiver_ns as f64 / taken as f64;
        let worker_ns = worker_ns as f64 / frames as f64;
        let more = vec![
            ("cpu_ns", receiver_ns.max(worker_ns) * frames as f64),
            ("receiver_ns", receiver_ns),
            ("worker_ns", worker_ns),
            ("dropped", (taken - frames) as f64),
        ];
        Ok(Report { frames, wall, more })
    }

    fn finish(self: Box<Self>) -> Result<()> {
        rig::close(vec![self.client], &self.port, self.started)
    }
}

/// A poll loop of one queue on one lcore.
struct Running {
    handle: PollLoopHandle<Io>,
    job: LcoreJob,
    cpu_ns: Arc<AtomicU64>,
}

impl Running {
    fn start(rig: &Rig, lcore: LcoreId, port: &Arc<Port<Io>>, queue: QueueId) -> Result<Running> {
        let mut poll_loop = PollLoop::new(IdlePolicy::Busy, BURST);
        poll_loop.add(port, queue);
        let handle = poll_loop.handle();
        let cpu_ns = Arc::<AtomicU64>::default();
        let result = cpu_ns.clone();
        let job = rig.eal.launch(lcore, move || {
            let before = own_cpu_ns();
            poll_loop.run();
            result.store(own_cpu_ns() - before, Ordering::Relaxed);
        })?;
        Ok(Running { handle, job, cpu_ns })
    }

    /// Its CPU time.
    fn stop(self) -> Result<u64> {
        self.handle.stop();
        rig::join(self.job)?;
        Ok(self.cpu_ns.load(Ordering::Relaxed))
    }
}

/// CPU time of the calling thread: the first field of schedstat.
fn own_cpu_ns() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux has it");
    text.split(' ').next().and_then(|ns| ns.parse().ok()).expect("a number of nanoseconds")
}

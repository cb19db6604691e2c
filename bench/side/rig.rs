//! What all sides share: EAL, ports, the poll loop for one slice, the ledger at the end.

use std::{
    collections::HashMap,
    error::Error,
    fmt,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use netpoll::{
    LcoreId, QueueId,
    dpdk::{self, DpdkQueue, Eal, EalConfig, LcoreJob, LogLevel, Memory, PortSetup, StartedPort},
    netpoll::{IdlePolicy, Netpoll, PollLoop, Port, PortOptions},
    port::PortIo,
};

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Frames a burst, on both sides of every comparison.
pub const BURST: usize = 32;
/// Where the other party runs, if it has a core of its own.
pub const OTHER: LcoreId = LcoreId(0);
/// The lcore that is measured.
pub const MEASURED: LcoreId = LcoreId(1);

/// Something that can be done for a while, again and again.
pub trait Side {
    /// Works for about `slice`; everything is at rest afterwards.
    fn run(&mut self, rig: &Rig, slice: Duration) -> Result<Report>;

    /// Closes everything, and checks that nothing is missing.
    fn finish(self: Box<Self>) -> Result<()>;
}

/// What a slice brought.
#[derive(Default)]
pub struct Report {
    pub frames: u64,
    pub wall: Duration,
    pub more: Vec<(&'static str, f64)>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "frames={} wall_ns={}", self.frames, self.wall.as_nanos())?;
        self.more.iter().try_for_each(|(key, value)| write!(f, " {key}={value}"))
    }
}

/// `KEY=VALUE` words; a value may hold further `=`.
pub struct Arguments(HashMap<String, String>);

impl Arguments {
    pub fn parse(words: &[String]) -> Result<Arguments> {
        let pair = |word: &String| {
            let (key, value) = word.split_once('=').ok_or_else(|| format!("expected KEY=VALUE, got {word:?}"))?;
            Ok((key.to_owned(), value.to_owned()))
        };
        Ok(Arguments(words.iter().map(pair).collect::<Result<_>>()?))
    }

    pub fn text(&self, key: &str) -> Result<&str> {
        self.0.get(key).map(String::as_str).ok_or_else(|| format!("{key}=... is missing").into())
    }

    pub fn number(&self, key: &str, default: usize) -> Result<usize> {
        self.0.get(key).map_or(Ok(default), |value| Ok(value.parse()?))
    }

    pub fn is(&self, key: &str, value: &str) -> bool {
        self.0.get(key).is_some_and(|have| have == value)
    }
}

pub struct Rig {
    pub eal: Arc<Eal>,
}

impl Rig {
    pub fn new(arguments: &Arguments) -> Result<Rig> {
        let megabytes = arguments.number("megabytes", 256)? as u32;
        let memory = match arguments.is("memory", "huge") {
            true => Memory::Hugepages { megabytes: Some(megabytes) },
            false => Memory::NoHuge { megabytes },
        };
        let eal = Eal::init(EalConfig {
            lcores: vec![OTHER, MEASURED],
            memory,
            log_level: Some(LogLevel::Warning),
            ..EalConfig::default()
        })?;
        Ok(Rig { eal })
    }

    /// Attaches a device and starts it with one queue.
    pub fn start(&self, device: &str, arguments: &Arguments) -> Result<(StartedPort, DpdkQueue)> {
        self.start_port(dpdk::Port::attach(&self.eal, device)?, arguments)
    }

    /// Starts a device with one queue.
    pub fn start_port(&self, port: dpdk::Port, arguments: &Arguments) -> Result<(StartedPort, DpdkQueue)> {
        let mbufs = arguments.number("mbufs", 8192)? as u32;
        let setup =
            PortSetup { mbufs_per_queue: Some(mbufs), client_mbufs_per_queue: Some(mbufs), ..PortSetup::default() };
        let (started, mut queues) = port.start(&setup)?;
        Ok((started, queues.remove(0)))
    }

    /// Runs `job` on the measured lcore.
    pub fn launch(&self, job: impl FnOnce() + Send + 'static) -> Result<LcoreJob> {
        Ok(self.eal.launch(MEASURED, job)?)
    }

    /// The library's own poll loop over `ports` on the measured lcore for `slice`; `meanwhile` runs on this thread and
    /// ends by itself.
    pub fn poll<P: PortIo>(
        &self,
        ports: &[Arc<Port<P>>],
        slice: Duration,
        meanwhile: impl FnOnce() -> Result<()>,
    ) -> Result<Duration> {
        let mut poll_loop = PollLoop::new(IdlePolicy::Busy, BURST);
        ports.iter().for_each(|port| poll_loop.add(port, QueueId(0)));
        let handle = poll_loop.handle();
        let start = Instant::now();
        let job = self.launch(move || poll_loop.run())?;
        let result = meanwhile();
        thread::sleep(slice.saturating_sub(start.elapsed()));
        handle.stop();
        join(job)?;
        result?;
        Ok(start.elapsed())
    }
}

/// Waits for a job; its panic is ours.
pub fn join(job: LcoreJob) -> Result<()> {
    job.join().map_err(|_| "the measured lcore panicked".into())
}

pub fn options(name: &str) -> PortOptions {
    let options = PortOptions::new(name).ip(super::frames::US, 24);
    PortOptions { answers_per_second: u32::MAX, ..options }
}

/// Clients go, the port closes, both equations hold, and every mbuf is back.
pub fn close<P: PortIo>(clients: Vec<Netpoll<P>>, port: &Port<P>, started: StartedPort) -> Result<()> {
    for client in clients {
        let stats = client.cleanup()?;
        assert!(stats.balances() && stats.queued == 0, "a client's ledger is not exact:\n{stats}");
    }
    let stats = port.stats();
    assert!(stats.balances(), "the port's ledger is not exact:\n{stats}");
    drop(port.close()?);
    let closed = started.close()?;
    assert_eq!(closed.outstanding(), 0, "mbufs of {} are missing", closed.name());
    Ok(())
}

/// An empty histogram of times, 1 ns to 10 s.
pub fn times() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 10_000_000_000, 3).expect("three digits are within its limits")
}

/// In nanoseconds.
pub fn percentiles(histogram: &Histogram<u64>) -> Vec<(&'static str, f64)> {
    [("p50_ns", 50.0), ("p99_ns", 99.0), ("p999_ns", 99.9), ("max_ns", 100.0)]
        .map(|(name, percentile)| (name, histogram.value_at_percentile(percentile) as f64))
        .to_vec()
}

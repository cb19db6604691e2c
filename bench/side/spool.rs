//! From the device to the sink's spool, and plain writes of the same bytes, to compare it with.
//!
//! Two threads work on a line: the measured lcore receives, filters and copies it, the sink's writer writes it. With a
//! core for each, the slower one of the two sets the pace. So `cpu_ns` here is that one's CPU time a line, times the
//! lines that were stored: what the device offers beyond that is dropped by the hook and counted, and asked of the ledger.

use std::{
    fs::{self, File},
    io::Write,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use netpoll::{
    dpdk::{DpdkQueue, StartedPort},
    netpoll::{ClientOptions, Port, RxFilter},
    sink::{Sink, SinkConfig, SyncPolicy},
};

use super::{
    frames,
    offer::{self, LINE},
    rig::{self, Arguments, Report, Result, Rig, Side},
};

pub struct Spool {
    port: Arc<Port<DpdkQueue>>,
    started: StartedPort,
    dir: PathBuf,
}

impl Spool {
    pub fn new(rig: &Rig, arguments: &Arguments) -> Result<Self> {
        let (started, queue) = rig.start(arguments.text("device")?, arguments)?;
        let port = Port::new(started.id(), rig::options(started.name()), vec![queue]);
        Ok(Spool { port, started, dir: arguments.text("dir")?.into() })
    }
}

impl Side for Spool {
    fn run(&mut self, rig: &Rig, slice: Duration) -> Result<Report> {
        let config = SinkConfig { sync: SyncPolicy::Never, ..SinkConfig::new(&self.dir) };
        let sink = Sink::open(config)?;
        let filter = RxFilter { local_ports: frames::PORT.into(), ..RxFilter::default() };
        let client =
            self.port.setup_rx(ClientOptions::new("sink").local(frames::US, frames::PORT), filter, sink.hooks())?;
        let poll_before = lcore_cpu_ns();
        let wall = rig.poll(std::slice::from_ref(&self.port), slice, || Ok(()))?;
        let poll_ns =
            lcore_cpu_ns().zip(poll_before).map(|(after, before)| after - before).ok_or("no lcore's thread")?;
        client.cleanup()?;
        let sent: u64 = sink.stats().all_queues().sent_rows;
        while sink.stats().writer.taken_rows < sent || sink.stats().writer.held_rows > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let writer_ns = thread_cpu_ns("netpoll-writer").ok_or("the writer has no thread")?;
        let ledger = sink.stop();
        assert!(ledger.balanced() && ledger.in_flight == 0, "the sink's ledger is not exact: {ledger}");
        fs::remove_dir_all(&self.dir)?;
        let lines = ledger.stored;
        let (poll_line, writer_line) = (poll_ns as f64 / ledger.delivered as f64, writer_ns as f64 / lines as f64);
        let more = vec![
            ("cpu_ns", poll_line.max(writer_line) * lines as f64),
            ("lcore_ns", poll_line),
            ("writer_ns", writer_line),
            ("mb_per_s", (lines as usize * LINE) as f64 / 1e6 / wall.as_secs_f64()),
            ("dropped", ledger.dropped() as f64),
        ];
        Ok(Report { frames: lines, wall, more })
    }

    fn finish(self: Box<Self>) -> Result<()> {
        rig::close(Vec::new(), &self.port, self.started)
    }
}

/// `write(2)`s of whole blocks of lines into a new file.
pub struct Write256k {
    dir: PathBuf,
    block: Arc<Vec<u8>>,
}

impl Write256k {
    pub fn new(arguments: &Arguments) -> Result<Self> {
        let block = offer::line().repeat((256 << 10) / LINE);
        Ok(Write256k { dir: arguments.text("dir")?.into(), block: Arc::new(block) })
    }
}

impl Side for Write256k {
    fn run(&mut self, rig: &Rig, slice: Duration) -> Result<Report> {
        fs::create_dir_all(&self.dir)?;
        let path = self.dir.join("plain");
        let mut file = File::create(&path)?;
        let written = Arc::new(Mutex::new(0));
        let (block, result) = (self.block.clone(), written.clone());
        let start = Instant::now();
        let job = rig.launch(move || {
            let mut lines = 0;
            while start.elapsed() < slice {
                file.write_all(&block).expect("room on the disk");
                lines += (block.len() / LINE) as u64;
            }
            *result.lock().expect("written once") = lines;
        })?;
        rig::join(job)?;
        let wall = start.elapsed();
        fs::remove_file(&path)?;
        let frames = *written.lock().expect("written once");
        let more = vec![("mb_per_s", (frames as usize * LINE) as f64 / 1e6 / wall.as_secs_f64())];
        Ok(Report { frames, wall, more })
    }

    fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

/// CPU time of the measured lcore's thread, which has one name at rest and another one in a poll loop.
fn lcore_cpu_ns() -> Option<u64> {
    ["rte-worker-1", "lcore-worker-1", "poll-1", "lcore-1"].iter().find_map(|name| thread_cpu_ns(name))
}

/// CPU time of this process's thread called `name`.
fn thread_cpu_ns(name: &str) -> Option<u64> {
    fs::read_dir("/proc/self/task").ok()?.flatten().find_map(|task| {
        let read = |file: &str| fs::read_to_string(task.path().join(file)).ok();
        // The first field of schedstat: nanoseconds on the CPU.
        let mut ns = read("schedstat").filter(|_| read("comm").is_some_and(|comm| comm.trim() == name)).into_iter();
        ns.next()?.split(' ').next()?.parse().ok()
    })
}

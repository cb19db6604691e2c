//! `netpoll demo`: the whole way in one process, without root, hugepages or a NIC.
//!
//! ```text
//! clients on threads -> port demo0 == rings == port demo1 -> rx hook -> sink -> file
//! ```

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::Args;
use netpoll::{
    config::LogLevel,
    engine::Engine,
    netpoll::{ClientOptions, ClientStats, Netpoll, OnFull, Port, PortOptions, RxFilter},
    sink::{Sink, SinkConfig, SinkLedger, SpoolConfig, TextConfig},
};
use serde_json::json;

use super::{
    chatter::{Chatter, NETCONSOLE_PORT, SYSLOG_PORT},
    ledger::Ledger,
    lines::{self, Written},
    log::LogArgs,
    machine::{IdleArgs, MachineArgs},
    out::Out,
    pace::{Pace, Rate, room},
    port,
    sandbox::SandboxArgs,
    status::Progress,
    stop::Stop,
    store::{self, Keep, Store},
};

/// See it work: clients send log lines through one port, the sink receives them on another and writes a file.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  netpoll demo
  netpoll demo --clients 64 --rate max --seconds 10 --out /tmp/lines

Both ports are in this process, joined by rings: no root, no hugepages, no NIC. Every frame is accounted for at the end.")]
pub(super) struct DemoArgs {
    /// Clients, each on a thread of its own.
    #[arg(long, value_name = "COUNT", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    clients: u16,
    /// Lines a second of all clients together, or `max`
    #[arg(long, value_name = "RATE", default_value = "100000")]
    rate: Rate,
    /// How long the clients send.
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=15))]
    seconds: u64,
    /// Where the lines go [default: a new folder for temporary files]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Store the lines as Parquet, too; then try `netpoll logs --dir FOLDER`
    #[arg(long)]
    parquet: bool,
    #[command(flatten)]
    idle: IdleArgs,
    #[command(flatten)]
    sandbox: SandboxArgs,
    #[command(flatten)]
    machine: MachineArgs,
}

/// Frames that all clients' rings hold together, about, and those between the ports.
const CLIENTS_FRAMES: usize = 8192;
const RING_FRAMES: u32 = 8192;
/// What is on its way when the clients end must arrive within this time.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(2);
/// Longest wait of a client for room in its ring.
const WAIT_FOR_ROOM: Duration = Duration::from_millis(50);
/// Time for the clients' threads to come up.
const HEAD_START: Duration = Duration::from_millis(20);
/// Lines of the file that are shown.
const SHOWN_LINES: usize = 8;

pub(super) fn run(args: &DemoArgs, log: &LogArgs, out: Out) -> anyhow::Result<()> {
    log.start(LogLevel::Warn);
    let stop = Stop::install().context("cannot handle signals")?;
    let dir = match &args.out {
        Some(dir) => dir.clone(),
        None => new_folder().context("cannot make a folder for temporary files; name one with --out")?,
    };
    let demo = Demo::start(args, &dir)?;
    let Rate(rate) = args.rate;
    let speed = rate.map_or("as fast as they can".into(), |rate| format!("{rate} lines/s"));
    out.text(format_args!(
        "netpoll demo: {} clients, {speed} for {} s: port demo0 = rings = port demo1 -> sink -> {}",
        args.clients,
        args.seconds,
        dir.display()
    ));
    let sent = demo.send(args, &stop, out)?;
    demo.finish(sent, args, out)
}

impl DemoArgs {
    /// Frames that a client's ring holds.
    fn ring_frames(&self) -> usize {
        (CLIENTS_FRAMES / usize::from(self.clients)).clamp(64, 1024)
    }
}

struct Demo {
    engine: Engine,
    ports: [Arc<Port>; 2],
    sink: Sink,
    store: Option<Store>,
    rx: Netpoll,
    /// What was in the folder before.
    before: (SinkLedger, Written),
    dir: PathBuf,
}

/// What the clients came to.
struct Sent {
    stats: ClientStats,
    /// Each on its own.
    balanced: bool,
    took: Duration,
}

impl Demo {
    fn start(args: &DemoArgs, dir: &Path) -> anyhow::Result<Demo> {
        let mut config = SinkConfig {
            // One file, and nothing of it goes away by itself.
            text: Some(TextConfig { roll_bytes: u64::MAX, keep_bytes: u64::MAX, ..TextConfig::default() }),
            // A folder for temporary files may be a small one in memory: it may be filled.
            min_free_bytes: 0,
            ..SinkConfig::text_only(dir)
        };
        if args.parquet {
            config.spool = Some(SpoolConfig::default());
        }
        let keep = Keep { bytes: None, age: None };
        let store = args.parquet.then(|| store::config(dir, None, keep, config.min_free_bytes));
        let frames = usize::from(args.clients) * args.ring_frames() + RING_FRAMES as usize;
        let setup = port::setup(1, frames);
        let eal = args.machine.own_eal(2, 2 * port::megabytes(&setup));
        let engine = Engine::start(args.machine.engine(eal, &args.idle))?;
        let options = [("demo0", 2), ("demo1", 1)];
        let options = options.map(|(name, host)| PortOptions::new(name).ip([10, 99, 0, host].into(), 24));
        let ports = engine.ring_pair(RING_FRAMES, &setup, options)?;
        args.sandbox.apply(&engine, [dir.to_owned()], [])?;
        let sink = Sink::open(config)?;
        let before = (sink.ledger(), lines::written(dir)?);
        let store = store.map(|config| Store::start(config, &before.0)).transpose()?;
        let filter =
            RxFilter { local_ports: [SYSLOG_PORT, NETCONSOLE_PORT].into_iter().collect(), ..RxFilter::default() };
        let rx = ports[1].setup_rx(ClientOptions::new("sink").ring_frames(1), filter, sink.hooks())?;
        Ok(Demo { engine, ports, sink, store, rx, before, dir: dir.to_owned() })
    }

    /// Has the clients send, each on its thread, until the time is over or the user has enough.
    fn send(&self, args: &DemoArgs, stop: &Stop, out: Out) -> anyhow::Result<Sent> {
        let takes = Duration::from_secs(args.seconds);
        let clients = (0..usize::from(args.clients)).map(|machine| self.client(args, machine));
        let clients = clients.collect::<anyhow::Result<Vec<_>>>()?;
        let queued = Arc::new(AtomicU64::new(0));
        // Everybody's first line goes out at once, the others from the start on.
        let start = Instant::now() + HEAD_START;
        let mut threads = Vec::new();
        for (machine, (client, chatter)) in clients.into_iter().enumerate() {
            let pace = args.rate.share(args.clients.into(), machine).start(start, takes);
            let sender = Sender { client, ring_frames: args.ring_frames(), chatter, pace, queued: queued.clone() };
            threads.push(sender.spawn(stop.clone())?);
        }
        let mut progress = Progress::new(out, takes);
        while !threads.iter().all(JoinHandle::is_finished) && !stop.wait_until(progress.next()) {
            let (now, stored) = (start.elapsed().as_secs_f64(), self.sink.ledger().stored - self.before.0.stored);
            let (queued, dropped) = (queued.load(Ordering::Relaxed), self.dropped());
            let text = format!("{now:4.1} s  {queued:>9} lines sent  {stored:>9} stored  {dropped} dropped");
            let value = json!({"seconds": now, "queued": queued, "stored": stored, "dropped": dropped});
            progress.show(&text, value);
        }
        let mut sent = Sent { stats: ClientStats::default(), balanced: true, took: Duration::ZERO };
        for thread in threads {
            let (client, end) = thread.join().map_err(|_| anyhow::anyhow!("a client's thread panicked"))?;
            sent.took = sent.took.max(end - start);
            let stats = client.cleanup()?;
            sent.balanced &= stats.balances();
            sent.stats.merge(&stats);
        }
        progress.finish();
        Ok(sent)
    }

    /// Client number `machine`.
    fn client(&self, args: &DemoArgs, machine: usize) -> anyhow::Result<(Netpoll, Chatter)> {
        let chatter = Chatter::new(machine);
        let options = ClientOptions::new(format!("machine{machine}"))
            .local([10, 99, 0, 2], chatter.local_port())
            .remote([10, 99, 0, 1], chatter.remote_port())
            .ring_frames(args.ring_frames())
            .on_full(OnFull::Wait(WAIT_FOR_ROOM));
        Ok((self.ports[0].setup(options)?, chatter))
    }

    fn dropped(&self) -> u64 {
        self.sink.ledger().dropped() - self.before.0.dropped()
    }

    /// Clean-up in order, then the ledger.
    fn finish(self, sent: Sent, args: &DemoArgs, out: Out) -> anyhow::Result<()> {
        let Demo { engine, ports: [tx, rx_port], sink, store, rx, before, dir } = self;
        let deadline = Instant::now() + ARRIVAL_LIMIT;
        while rx_port.stats().arrived() < tx.stats().queue.sent && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        rx.cleanup()?;
        let sink = sink.stop();
        let closed = engine.stop()?;
        let (tx_stats, rx_stats) = (tx.stats(), rx_port.stats());
        let written = lines::written(&dir)?.since(&before.1);
        let (delivered, stored) = (sink.delivered - before.0.delivered, sink.stored - before.0.stored);

        let rate = sent.stats.submit.submitted as f64 / sent.took.as_secs_f64().max(1e-3);
        let mut ledger = Ledger::default();
        ledger.client("clients", &format!("{} clients on demo0, sending", args.clients), &sent.stats);
        ledger.verdict("each_client", "each client by itself", sent.balanced);
        let (port_sent, own) = (tx_stats.queue.sent, tx_stats.queue.engine_sent);
        let (of_clients, arrived) = (sent.stats.sent.sent, rx_stats.arrived());
        let left = format!("demo0: {port_sent} sent");
        let right = format!("{of_clients} of the clients + {own} of ARP");
        ledger.equal("tx", (&left, port_sent), (&right, of_clients + own));
        ledger.equal("wire", (&left, port_sent), (&format!("{arrived} that arrived at demo1"), arrived));
        ledger.port("rx", "demo1, receiving", &rx_stats);
        let handed = rx_stats.queue.delivered;
        let left = format!("demo1: {handed} delivered");
        ledger.equal("hook", (&left, handed), (&format!("{delivered} that the sink got"), delivered));
        ledger.sink("sink", "the sink", &sink);
        let right = format!("{} lines in the file", written.lines);
        ledger.equal("file", (&format!("the sink: {stored} stored"), stored), (&right, written.lines));
        if let Some(store) = store {
            store.finish("demo1", &dir, &sink, &mut ledger)?;
        }
        ledger.mbufs(&closed);

        let took = sent.took.as_secs_f64();
        let summary = json!({
            "lines": stored,
            "seconds": took,
            "lines_per_second": rate,
            "bytes": written.bytes,
            "file": written.path.display().to_string(),
            "folder": dir.display().to_string(),
        });
        let result = ledger.print(out);
        let text = format!(
            "\n{} lines in {took:.1} s, {rate:.0} lines/s; {stored} stored, {:.1} MB\n{}:\n{}",
            sent.stats.submit.submitted,
            written.bytes as f64 / 1e6,
            written.path.display(),
            lines::first(&written, SHOWN_LINES)?
        );
        out.event("summary", text, summary);
        result
    }
}

/// What a client's thread has.
struct Sender {
    client: Netpoll,
    ring_frames: usize,
    chatter: Chatter,
    pace: Pace,
    /// Relaxed: a sum of all senders, to be shown.
    queued: Arc<AtomicU64>,
}

impl Sender {
    /// Sends what is due, then sleeps; gives the client back, and when it was done.
    fn spawn(mut self, stop: Stop) -> io::Result<JoinHandle<(Netpoll, Instant)>> {
        std::thread::Builder::new().name(self.client.name().to_owned()).spawn(move || {
            let mut line = Vec::with_capacity(512);
            while let Some(due) = self.pace.due(&stop)
                && let Some(room) = room(&self.client, self.ring_frames, &stop)
            {
                let count = due.min(room);
                for _ in 0..count {
                    self.chatter.next(&mut line);
                    // A refusal is counted by the client, and told at the end.
                    let _ = self.client.send(&line);
                }
                self.pace.done(count);
                self.queued.fetch_add(count, Ordering::Relaxed);
            }
            (self.client, Instant::now())
        })
    }
}

/// A new folder that nobody else can write to.
fn new_folder() -> io::Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt as _;
    for number in 0.. {
        let dir = std::env::temp_dir().join(format!("netpoll-demo-{}-{number}", std::process::id()));
        match fs::DirBuilder::new().mode(0o700).create(&dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 1000 => {}
            result => return result.map(|()| dir),
        }
    }
    unreachable!("the loop returns at its last number")
}

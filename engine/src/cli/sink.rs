//! `netpoll sink`: the log sink without a config file.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::Args;
use netpoll::{
    config::{Ipv4Prefix, LogLevel, PortRanges},
    dpdk::PortSetup,
    engine::Engine,
    netpoll::RxFilter,
    port::spread::SpreadBy,
};
use serde_json::json;

use super::{
    ledger::Ledger,
    log::LogArgs,
    machine::{IdleArgs, MachineArgs},
    out::Out,
    port::{self, PortArgs},
    room,
    sandbox::SandboxArgs,
    session::Session,
    stop::{Hangup, Stop},
    store::StoreArgs,
};

/// Receive log lines on a port and store them as text or Parquet, until SIGINT or SIGTERM.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  netpoll sink --vdev net_tap0,iface=np0 --ip 10.99.0.1/24 --listen 514,6666 --out logs
and then, in another terminal:
  ip addr add 10.99.0.2/24 dev np0
  logger -d -n 10.99.0.1 -P 514 hello
  tail logs/netpoll.log

A line of text is one datagram, made as `--template` says; `--output jsonl` writes JSON objects:
  netpoll sink ... --out logs --template '{time} {host} {severity} {app}: {message}' --roll-bytes 100M --roll-age 1h --zstd

With `--output parquet` lines are decoded (netconsole, syslog) and stored as logs/store/date=.../hour=.../*.parquet:
  netpoll sink --vdev net_tap0,iface=np0 --ip 10.99.0.1/24 --listen 514,6666 --out logs --output parquet
  netpoll logs --dir logs --follow
More than one core can do: several queues, each polled by an lcore of its own. A device that has one queue, or no RSS,
gets the others in software; of three, one lcore receives and answers ARP, and two filter and store:
  netpoll sink --vdev net_af_packet0,iface=eth1 --queues 3 --lcores 0-2 --ip 10.99.0.1/24 --listen 514 --out logs
At the end all that was received becomes Parquet; a second signal ends it at once, and the next start goes on with what
is left in logs/spool.

A line that starts with `ready:` says when packets can be received. The ledger, from the NIC to the disk, comes every
10 seconds in short and at the end in full, where it must balance; `--log-format json` prints both as objects.

SIGHUP begins new files, without losing a line: for logrotate (the text file may have been moved away before), and to
have what is in the spool converted to Parquet now. What was typed stays; limits that change while it runs are for
`netpoll run`.")]
pub(super) struct SinkArgs {
    /// UDP ports to listen on: `514,6666-6670`
    #[arg(long, value_name = "PORTS", value_parser = listen)]
    listen: PortRanges,
    /// Take lines only from these networks: `10.0.0.0/8,192.0.2.7` [default: from anywhere]. The rest is counted as
    /// not_allowed. UDP sources can be forged: see docs/strangers.md.
    #[arg(long, value_name = "NETWORKS", value_delimiter = ',', value_parser = allow)]
    allow: Vec<Ipv4Prefix>,
    /// The folder to write to; made if it is not there.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    #[command(flatten)]
    store: StoreArgs,
    /// End after so many datagrams.
    #[arg(long, value_name = "COUNT")]
    count: Option<u64>,
    /// End after so many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = seconds())]
    duration: Option<u64>,
    /// Seconds between two lines of the ledger while it runs; 0: none.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = seconds())]
    stats: u64,
    #[command(flatten)]
    port: PortArgs,
    /// Who spreads what comes over the queues: `device` (RSS, or its other side), `software` (queue 0 receives and
    /// answers, the others take the datagrams, each source always the same one), or `auto`: the device where it can.
    #[arg(long, value_name = "BY", default_value = "auto", value_parser = spread, help_heading = "Port")]
    spread: SpreadBy,
    #[command(flatten)]
    idle: IdleArgs,
    #[command(flatten)]
    sandbox: SandboxArgs,
    #[command(flatten)]
    machine: MachineArgs,
}

/// Up to ten years.
fn seconds() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(0..=315_360_000)
}

fn listen(text: &str) -> Result<PortRanges, &'static str> {
    PortRanges::parse(text).ok_or("expected UDP ports from 1 to 65535 like `514` or `514,6666-6670`, none twice")
}

fn spread(text: &str) -> Result<SpreadBy, &'static str> {
    let found = SpreadBy::WORDS.iter().find(|(word, _)| *word == text);
    found.map(|(_, by)| *by).ok_or("expected `auto`, `device` or `software`")
}

fn allow(text: &str) -> Result<Ipv4Prefix, &'static str> {
    Ipv4Prefix::parse(text)
        .ok_or("expected a network like `10.0.0.0/8`, with no bit set behind its prefix, or a host's address")
}

pub(super) fn run(args: &SinkArgs, log: &LogArgs, out: Out) -> anyhow::Result<()> {
    log.start(LogLevel::Info);
    let options = args.port.options()?;
    let stop = Stop::install().context("cannot handle signals")?;
    let hangup = Hangup::install().context("cannot handle signals")?;
    let setup = PortSetup { spread: args.spread, ..args.port.setup(0) };
    let eal = args.machine.eal(Some(&[args.port.device()]), args.port.queues.into(), port::megabytes(&setup));
    let engine = Engine::start(args.machine.engine(eal, &args.idle))?;
    let device = room::for_receiver(args.port.device(), args.port.queues);
    let port = port::attach(&engine, &device, &setup, options, &[])?;
    args.sandbox.apply(&engine, [args.out.clone()], [])?;
    let mut session = Session::new(engine);
    let filter = RxFilter {
        allow: Ipv4Prefix::set(&args.allow),
        local_ports: args.listen.ranges().iter().cloned().collect(),
        ..RxFilter::default()
    };
    let (sink, store) = args.store.configs(&args.out)?;
    session.add_sink(&port, sink, store, args.listen.to_string(), filter)?;
    session.say_ready(out);
    let look = || {
        if hangup.taken() {
            match session.roll() {
                Ok(()) => out.event("rolled", "rolled: new files are begun", json!({})),
                Err(error) => tracing::error!("no new files: {error:#}"),
            }
        }
        args.count.is_some_and(|count| session.delivered() >= count)
    };
    let interval = (args.stats > 0).then(|| Duration::from_secs(args.stats));
    session.wait(&stop, interval, args.duration.map(Duration::from_secs), out, look);
    session.finish(&[], Ledger::default(), out)
}

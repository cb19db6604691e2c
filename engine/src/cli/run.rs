//! `netpoll run`: the engine as a config file has it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;
use netpoll::{
    config::{
        self, ClientPlan, EalPlan, Idle, Input, Ipv4Prefix, Machine, Memory, Output, Plan, PortPlan, SinkLimits,
        SinkPlan, Sync,
    },
    dpdk::{self, EalConfig, LogLevel, PortSetup},
    engine::{Engine, EngineConfig},
    netpoll::{ClientOptions, IdlePolicy, OnFull, Port, PortOptions, RemoteMac, RxFilter},
    sink::{SinkConfig, SpoolConfig, SyncPolicy, TextConfig, store::StoreConfig},
};
use serde_json::json;

use super::{
    feed::{Feed, Limits, Sender},
    ledger::Ledger,
    log::LogArgs,
    machine::bus_args,
    out::Out,
    pace::Rate,
    port, room,
    sandbox::SandboxArgs,
    session::Session,
    stop::{Hangup, Stop},
    store::{self, Keep},
    style::Style,
};

/// Run the engine as a config file has it, until SIGINT or SIGTERM.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  netpoll run -c /etc/netpoll.toml

`netpoll check -c FILE` tells what is wrong with a file. A line that starts with `ready:` comes for each sink once
packets can be received; the ledger comes at the end.

SIGHUP reads the file again and begins new files (for logrotate). Without losing a frame these take effect: of a sink
listen, local_ip, remote_ip, allow, flush_interval_ms, sync, template, compress, the limits (but batch_bytes and
batches_per_queue), and `text` or `jsonl` beside `parquet` in outputs. If something else has changed, or the file has a mistake, that is named and all goes on as
before.")]
pub(super) struct RunArgs {
    /// The TOML file.
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    #[command(flatten)]
    sandbox: SandboxArgs,
    /// For DPDK, passed on after those of the file
    #[arg(last = true, value_name = "EAL ARGUMENTS")]
    eal: Vec<String>,
}

/// Mbufs that a client holds from the start, so that a port's pool serves many.
const FIRST_CREDITS: usize = 64;

pub(super) fn run(args: &RunArgs, log: &LogArgs, out: &mut Out) -> anyhow::Result<()> {
    let plan = config::load(&args.config, &Machine::here())?;
    *out = Out::new(log.start_as(&plan.log));
    let out = *out;
    let stop = Stop::install().context("cannot handle signals")?;
    let hangup = Hangup::install().context("cannot handle signals")?;
    let engine = Engine::start(engine_config(&plan, &args.eal))?;
    let ports = plan.ports.iter().map(|port| start_port(&engine, &plan, port)).collect::<anyhow::Result<Vec<_>>>()?;
    let folders = plan.sinks.iter().map(|sink| sink.out.clone());
    // An editor puts a new file in its place.
    let file = args.config.canonicalize().unwrap_or_else(|_| args.config.clone());
    let readable = plan.clients.iter().filter_map(|client| client.input.path()).chain(file.parent().map(Into::into));
    args.sandbox.over(&plan.security).apply(&engine, folders, readable)?;
    let mut session = Session::new(engine);
    for sink in &plan.sinks {
        let (port, listen) = (&ports[sink.port], sink.listen.to_string());
        session.add_sink(port, sink_config(sink), store_config(sink), listen, filter(sink))?;
    }
    let feeds =
        plan.clients.iter().map(|client| start_client(client, &ports, &stop)).collect::<anyhow::Result<Vec<_>>>()?;
    session.say_ready(out);
    for client in &plan.clients {
        let port = &plan.ports[client.port].name;
        let (name, input, target) = (&client.name, client.input.to_string(), client.target.to_string());
        let value = json!({"client": name, "port": port, "input": input, "target": target});
        out.event("client", format_args!("client {name}: {input} -> {target} on {port}"), value);
    }

    let mut running = plan.clone();
    let look = || {
        if hangup.taken() {
            let file = args.config.display().to_string();
            match reload(&args.config, &mut running, &session) {
                Ok(()) => out.event("reloaded", format_args!("reloaded: {file}"), json!({"file": file})),
                Err(error) => {
                    let error = format!("{error:#}");
                    let text = format_args!("not reloaded, going on as before: {error}");
                    out.event("not_reloaded", text, json!({"file": file, "error": error}));
                }
            }
        }
        false
    };
    session.wait(&stop, plan.log.ledger_interval, None, out, look);

    let mut ledger = Ledger::default();
    let mut sent = Vec::new();
    for (client, feed) in plan.clients.iter().zip(feeds) {
        let fed = feed.finish()?;
        let name = &client.name;
        fed.tell(&mut ledger, &format!("{name}.lines"), &format!("client {name}: lines to send"));
        sent.extend(fed.sent);
    }
    session.finish(&sent, ledger, out)
}

fn engine_config(plan: &Plan, typed: &[String]) -> EngineConfig {
    let EalPlan { lcores, memory, args } = &plan.eal;
    let memory = match *memory {
        Memory::Hugepages { megabytes } => dpdk::Memory::Hugepages { megabytes },
        Memory::NoHuge { megabytes } => dpdk::Memory::NoHuge { megabytes },
    };
    let mut extra_args: Vec<String> = args.iter().chain(typed).cloned().collect();
    let devices: Vec<_> = plan.ports.iter().map(|port| &port.device).collect();
    extra_args.extend(bus_args(&devices, &extra_args));
    EngineConfig {
        eal: EalConfig {
            lcores: lcores.clone(),
            memory,
            log_level: Some(LogLevel::Notice),
            extra_args,
            ..EalConfig::default()
        },
        idle: match plan.engine.idle {
            Idle::Busy => IdlePolicy::Busy,
            Idle::Pause => IdlePolicy::Pause,
            Idle::Sleep { max_us, .. } => IdlePolicy::Sleep { max: Duration::from_micros(max_us.into()) },
        },
        real_time: matches!(plan.engine.idle, Idle::Sleep { real_time: true, .. }),
        burst: plan.engine.burst_frames.into(),
    }
}

fn start_port(engine: &Engine, plan: &Plan, port: &PortPlan) -> anyhow::Result<Arc<Port>> {
    let setup = PortSetup {
        queues: port.queue_lcores.len() as u16,
        spread: port.spread,
        rx_desc: port.rx_descriptors,
        tx_desc: port.tx_descriptors,
        mbufs_per_queue: Some(port.mbufs_per_queue),
        mtu: Some(port.mtu_bytes),
        promiscuous: port.promiscuous,
        multicast: port.multicast.clone(),
        ..PortSetup::default()
    };
    let mut options = PortOptions::new(&port.name);
    options.ip = port.ip.map(|net| (net.ip, net.prefix_len));
    options.gateway = port.gateway;
    options.mtu = port.mtu_bytes.into();
    options.multicast = port.multicast.clone();
    options.accept_partial = plan.engine.accept_partial_checksum;
    options.answers_per_second = plan.engine.replies_per_s;
    let receives = plan.sinks.iter().any(|sink| plan.ports[sink.port].name == port.name);
    let device = if receives { room::for_receiver(&port.device, setup.queues) } else { port.device.clone() };
    port::attach(engine, &device, &setup, options, &port.queue_lcores).with_context(|| format!("port {}", port.name))
}

/// Takes over what may change while it runs: the sinks' filters, limits, intervals, sync, and text beside Parquet. Then
/// new files are begun.
fn reload(path: &Path, running: &mut Plan, session: &Session) -> anyhow::Result<()> {
    let wanted = config::load(path, &Machine::here())?;
    same_but_sinks(running, &wanted)?;
    for (at, sink) in wanted.sinks.iter().enumerate() {
        session
            .reload(at, sink_config(sink), store_config(sink).as_ref(), &filter(sink))
            .with_context(|| format!("the sink that writes to {}", sink.out.display()))?;
        running.sinks[at] = sink.clone();
    }
    session.roll()
}

/// Refuses, by name, what only a restart changes.
fn same_but_sinks(running: &Plan, wanted: &Plan) -> anyhow::Result<()> {
    let mut changed = vec![
        ("eal", running.eal != wanted.eal),
        ("engine", running.engine != wanted.engine),
        ("port", running.ports != wanted.ports),
        ("client", running.clients != wanted.clients),
        ("security", running.security != wanted.security),
        ("log", running.log != wanted.log),
        ("sink: their number", running.sinks.len() != wanted.sinks.len()),
    ];
    for (old, new) in running.sinks.iter().zip(&wanted.sinks) {
        changed.extend([
            ("sink.port", old.port != new.port),
            ("sink.out", old.out != new.out),
            ("sink.outputs: parquet", spools(old) != spools(new)),
            ("sink.outputs: text and jsonl without parquet", !spools(new) && old.outputs != new.outputs),
            ("sink.limits.batch_bytes", old.limits.batch_bytes != new.limits.batch_bytes),
            ("sink.limits.batches_per_queue", old.limits.batches_per_queue != new.limits.batches_per_queue),
            ("sink.format", old.format != new.format),
            ("sink.cpu", old.cpu != new.cpu),
        ]);
    }
    match changed.iter().find(|(_, changed)| *changed) {
        Some((name, _)) => anyhow::bail!("{name} has changed, and only a restart changes it"),
        None => Ok(()),
    }
}

fn spools(sink: &SinkPlan) -> bool {
    sink.outputs.contains(&Output::Parquet)
}

fn filter(sink: &SinkPlan) -> RxFilter {
    RxFilter {
        local_ip: sink.local_ip.map(Into::into),
        remote_ip: sink.remote_ip.map(Into::into),
        allow: Ipv4Prefix::set(&sink.allow),
        local_ports: sink.listen.ranges().iter().cloned().collect(),
    }
}

fn sink_config(sink: &SinkPlan) -> SinkConfig {
    let SinkLimits { segment_bytes, segment_age, retain_bytes, .. } = sink.limits;
    let (jsonl, spools) = (sink.outputs.contains(&Output::JsonLines), spools(sink));
    let texts = jsonl || sink.outputs.contains(&Output::Text);
    let text = TextConfig {
        roll_bytes: segment_bytes,
        keep_bytes: retain_bytes.unwrap_or(u64::MAX),
        keep_for: sink.limits.retain_age,
        zstd: sink.compress,
        ..store::text(jsonl, sink.template.as_ref(), sink.format.as_ref())
    };
    // Beside a spool, whose age the segments' is, text rolls by size and day.
    let text = if spools { text } else { TextConfig { roll_every: segment_age, ..text } };
    let spool = SpoolConfig { roll_bytes: segment_bytes, roll_every: segment_age, ..SpoolConfig::default() };
    SinkConfig {
        text: texts.then_some(text),
        spool: spools.then_some(spool),
        sync: match sink.sync {
            Sync::Never => SyncPolicy::Never,
            Sync::Every(interval) => SyncPolicy::Every(interval),
            Sync::Batch => SyncPolicy::EveryBatch,
        },
        flush_interval: sink.flush_interval,
        batch_bytes: sink.limits.batch_bytes as usize,
        batches_per_queue: sink.limits.batches_per_queue.into(),
        max_lines_per_source_per_s: sink.limits.max_lines_per_source_per_s,
        min_free_bytes: sink.limits.min_free_bytes,
        writer_cpu: sink.cpu.map(|cpu| cpu as usize),
        ..SinkConfig::new(&sink.out)
    }
}

fn store_config(sink: &SinkPlan) -> Option<StoreConfig> {
    let store = || {
        let keep = Keep { bytes: sink.limits.retain_bytes, age: sink.limits.retain_age };
        store::config(&sink.out, sink.format.as_ref(), keep, sink.limits.min_free_bytes)
    };
    sink.outputs.contains(&Output::Parquet).then(store)
}

fn start_client(client: &ClientPlan, ports: &[Arc<Port>], stop: &Stop) -> anyhow::Result<Feed> {
    let ClientPlan { name, port, target, input, on_full, ring_frames, urgent, cpu } = client;
    let context = || format!("client {name}");
    if let Input::Path(path) = input {
        path.metadata().with_context(|| format!("cannot read {}", path.display())).with_context(context)?;
    }
    let ring_frames = *ring_frames as usize;
    let options = ClientOptions {
        first_credits: Some(ring_frames.min(FIRST_CREDITS)),
        urgent: *urgent,
        ..ClientOptions::new(name)
            .local(target.local_ip, target.local_port)
            .remote(target.remote_ip, target.remote_port)
            .remote_mac(match target.remote_mac {
                config::RemoteMac::Arp => RemoteMac::Arp,
                config::RemoteMac::Broadcast => RemoteMac::Fixed(netpoll::wire::MacAddr::BROADCAST),
                config::RemoteMac::Given(mac) => RemoteMac::Fixed(mac),
            })
            .ring_frames(ring_frames)
            .on_full(match on_full {
                config::OnFull::Drop => OnFull::Drop,
                config::OnFull::Wait { us } => OnFull::Wait(Duration::from_micros((*us).into())),
            })
    };
    let port = &ports[*port];
    let sender = Sender {
        client: port.setup(options).with_context(context)?,
        port: port.clone(),
        style: Style::new(target.extended, target.release),
        waits: None,
        cpu: *cpu,
    };
    let limits = Limits { rate: Rate(None), count: None, forever: true };
    Feed::start(vec![input.clone()], vec![vec![sender]], limits, stop).with_context(context)
}

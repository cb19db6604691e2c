//! `netpoll run`: the engine as a config file has it.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::Args;
use netpoll::{
    config::{self, ClientPlan, EalPlan, Idle, Input, Machine, Memory, Output, Plan, PortPlan, SinkPlan, Sync},
    dpdk::{self, EalConfig, LogLevel, PortSetup},
    engine::{Engine, EngineConfig},
    netpoll::{ClientOptions, IdlePolicy, OnFull, Port, PortOptions, RemoteMac, RxFilter},
    sink::{SinkConfig, SyncPolicy, TextConfig},
};
use serde_json::json;

use super::{
    exit::Usage,
    feed::{Feed, Limits, Sender},
    ledger::Ledger,
    log::LogArgs,
    machine::bus_args,
    out::Out,
    pace::Rate,
    port,
    session::{self, Session},
    stop::Stop,
    style::Style,
};

/// Run the engine as a config file has it, until SIGINT or SIGTERM.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  netpoll run -c /etc/netpoll.toml

`netpoll check -c FILE` tells what is wrong with a file. A line that starts with `ready:` comes for each sink once
packets can be received; the ledger comes at the end.")]
pub(super) struct RunArgs {
    /// The TOML file.
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
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
    supported(&plan)?;
    let stop = Stop::install().context("cannot handle signals")?;
    let engine = Engine::start(engine_config(&plan, &args.eal))?;
    let ports = plan.ports.iter().map(|port| start_port(&engine, &plan, port)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut session = Session::new(engine);
    for sink in &plan.sinks {
        let filter = RxFilter {
            local_ip: sink.local_ip.map(Into::into),
            remote_ip: sink.remote_ip.map(Into::into),
            local_ports: sink.listen.ranges().iter().cloned().collect(),
        };
        session.add_sink(&ports[sink.port], sink_config(sink), sink.listen.to_string(), filter)?;
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

    session::wait(&stop, plan.log.ledger_interval, None, || false, || session.say_status(out));

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

/// What the config's grammar has, and this version does not do.
pub(super) fn supported(plan: &Plan) -> Result<(), Usage> {
    if plan.sinks.iter().any(|sink| sink.outputs != [Output::Text]) {
        let problem = "sink.outputs: this version writes text; expected [\"text\"]";
        return Err(Usage(problem.into()));
    }
    Ok(())
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
            Idle::Sleep { max_us } => IdlePolicy::Sleep { max: Duration::from_micros(max_us.into()) },
        },
        burst: plan.engine.burst_frames.into(),
    }
}

fn start_port(engine: &Engine, plan: &Plan, port: &PortPlan) -> anyhow::Result<Arc<Port>> {
    let setup = PortSetup {
        queues: port.queue_lcores.len() as u16,
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
    port::attach(engine, &port.device, &setup, options, &port.queue_lcores)
        .with_context(|| format!("port {}", port.name))
}

fn sink_config(sink: &SinkPlan) -> SinkConfig {
    if sink.limits.retain_age.is_some() {
        tracing::warn!("sink.limits.retain_age_s is not kept for text; retain_bytes is");
    }
    let text = TextConfig {
        roll_bytes: sink.limits.segment_bytes,
        roll_every: sink.limits.segment_age,
        keep_bytes: sink.limits.retain_bytes.unwrap_or(u64::MAX),
        ..TextConfig::default()
    };
    SinkConfig {
        text: Some(text),
        sync: match sink.sync {
            Sync::Never => SyncPolicy::Never,
            Sync::Every(interval) => SyncPolicy::Every(interval),
            Sync::Batch => SyncPolicy::EveryBatch,
        },
        flush_interval: sink.flush_interval,
        batch_bytes: sink.limits.batch_bytes as usize,
        batches_per_queue: sink.limits.batches_per_queue.into(),
        min_free_bytes: sink.limits.min_free_bytes,
        writer_cpu: sink.cpu.map(|cpu| cpu as usize),
        ..SinkConfig::text_only(&sink.out)
    }
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

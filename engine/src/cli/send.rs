//! `netpoll send`: lines as UDP, addressed the netconsole way.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use netpoll::{
    config::{Input, LogLevel},
    engine::Engine,
    netpoll::{
        ClientOptions, ClientStats, OnFull, Port, RemoteMac,
        options::{DevSel, NetconsoleTarget, OptionsError, parse_targets},
    },
};

use super::{
    exit::Usage,
    feed::{Feed, Limits, Sender},
    ledger::{self, Ledger},
    log::LogArgs,
    machine::{IdleArgs, MachineArgs},
    out::Out,
    pace::Rate,
    port::{self, PortArgs},
    sandbox::SandboxArgs,
    session::Session,
    stop::Stop,
    style::Style,
};

/// Send lines as UDP datagrams through a port, one a line.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  dmesg | netpoll send --vdev net_tap0,iface=np0 6665@10.99.0.1/np0,514@10.99.0.2/02:00:00:00:00:02

TARGET is a netconsole option string: [+][r][src-port]@[src-ip]/[dev],[dst-port]@<dst-ip>/[dst-mac]
Left out: source port 6665, the address given with --ip, the port, destination port 6666, broadcast.
`+` sends netconsole's extended format, `+r` with the kernel's release. Several targets are separated by `;`.
Exit code 1 if any line did not leave, unless --allow-loss.")]
pub(super) struct SendArgs {
    /// Whom to send to: `6665@10.99.0.1/np0,514@10.99.0.2/`
    #[arg(value_name = "TARGET", value_parser = targets)]
    targets: Targets,
    /// Files to read lines from, one after another; `-` is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    files: Vec<PathBuf>,
    /// Lines a second, or `max`
    #[arg(long, value_name = "RATE", default_value = "max")]
    rate: Rate,
    /// End after so many lines.
    #[arg(long, value_name = "COUNT")]
    count: Option<u64>,
    /// Clients that take turns, each on a thread of its own and with a source port of its own, counting up.
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    clients: u16,
    /// Ask for the receiver's MAC address by ARP; for the gateway's if it is on another network.
    #[arg(long)]
    arp: bool,
    /// Exit code 0 even if lines were refused or dropped.
    #[arg(long)]
    allow_loss: bool,
    #[command(flatten)]
    port: PortArgs,
    #[command(flatten)]
    idle: IdleArgs,
    #[command(flatten)]
    sandbox: SandboxArgs,
    #[command(flatten)]
    machine: MachineArgs,
}

/// At least one.
#[derive(Clone, Debug)]
struct Targets(Vec<NetconsoleTarget>);

fn targets(text: &str) -> Result<Targets, OptionsError> {
    parse_targets(text).map(Targets)
}

/// Targets of one command at most: each has threads.
const MOST_TARGETS: usize = 16;
/// Frames that a client's ring holds.
const RING_FRAMES: usize = 512;
/// Longest wait of a client for room in its ring; a stop signal must not wait longer.
const WAIT_FOR_ROOM: Duration = Duration::from_millis(50);

/// A target that suits the port.
struct Checked {
    target: NetconsoleTarget,
    local: Ipv4Addr,
    mac: RemoteMac,
}

pub(super) fn run(args: &SendArgs, log: &LogArgs, out: Out) -> anyhow::Result<()> {
    log.start(LogLevel::Info);
    let options = args.port.options()?;
    let checked = args.targets.0.iter().map(|target| check(args, target)).collect::<anyhow::Result<Vec<_>>>()?;
    if checked.len() > MOST_TARGETS {
        return Err(Usage(format!("{} targets, expected at most {MOST_TARGETS}", checked.len())).into());
    }
    let inputs = inputs(&args.files)?;
    let stop = Stop::install().context("cannot handle signals")?;
    let clients = checked.len() * usize::from(args.clients);
    let setup = args.port.setup(clients * RING_FRAMES);
    let eal = args.machine.eal(Some(&[args.port.device()]), args.port.queues.into(), port::megabytes(&setup));
    let engine = Engine::start(args.machine.engine(eal, &args.idle))?;
    let port = port::attach(&engine, args.port.device(), &setup, options, &[])?;
    args.sandbox.apply(&engine, [], inputs.iter().filter_map(Input::path))?;
    let session = Session::new(engine);

    let mut senders = Vec::new();
    for (number, checked) in checked.iter().enumerate() {
        check_dev(checked.target.dev.as_ref(), &port)?;
        senders.push(clients_of(args, checked, number, &port)?);
    }
    port::wait_for_link(&port, &stop)?;
    let limits = Limits { rate: args.rate, count: args.count, forever: false };
    let feed = Feed::start(inputs, senders, limits, &stop).context("cannot start a thread")?;
    session.wait(&stop, None, None, out, || feed.is_finished());
    let fed = feed.finish()?;

    let mut all = ClientStats::default();
    fed.sent.iter().for_each(|sent| all.merge(&sent.stats));
    let mut ledger = Ledger::default();
    fed.tell(&mut ledger, "lines", "lines to send");
    session.finish(&fed.sent, ledger, out)?;
    if let Some(error) = fed.error {
        bail!("{error}");
    }
    let lost = ledger::lost(&all);
    ensure!(
        lost == 0 || args.allow_loss,
        "{lost} of {} lines did not leave, for the reasons in the ledger; --allow-loss makes that no failure",
        all.submit.submitted
    );
    Ok(())
}

/// What can be said of a target before anything starts.
fn check(args: &SendArgs, target: &NetconsoleTarget) -> anyhow::Result<Checked> {
    let v4 = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => Ok(ip),
        IpAddr::V6(_) => Err(Usage(format!(
            "target {target}: {ip} is an IPv6 address; expected IPv4, which is what this version sends"
        ))),
    };
    v4(target.dst_ip)?;
    let local = match (target.src_ip, args.port.ip) {
        (Some(ip), _) => v4(ip)?,
        (None, Some(net)) => net.ip,
        (None, None) => {
            let problem = "no source address; put one before the `/`, or give the port one with --ip";
            return Err(Usage(format!("target {target}: {problem}")).into());
        }
    };
    let mac = match (target.dst_mac, args.arp) {
        (Some(mac), false) => RemoteMac::Fixed(mac),
        (None, false) => RemoteMac::Fixed(netpoll::wire::MacAddr::BROADCAST),
        (None, true) => RemoteMac::Arp,
        (Some(mac), true) => {
            let problem =
                format!("--arp asks for the MAC address, but the target says {mac}; expected one or the other");
            return Err(Usage(format!("target {target}: {problem}")).into());
        }
    };
    if u32::from(target.src_port) + u32::from(args.clients) > 1 << 16 {
        let most = u16::MAX - args.clients + 1;
        let problem =
            format!("{} clients count up from source port {}, expected at most {most}", args.clients, target.src_port);
        return Err(Usage(format!("target {target}: {problem}")).into());
    }
    Ok(Checked { target: target.clone(), local, mac })
}

/// Whether the target's port is the one there is.
fn check_dev(dev: Option<&DevSel>, port: &Port) -> Result<(), Usage> {
    let (name, mac) = (port.name(), port.mac());
    let asked = match dev {
        Some(DevSel::Name(asked)) if asked != name => asked.clone(),
        Some(DevSel::Mac(asked)) if *asked != mac => asked.to_string(),
        _ => return Ok(()),
    };
    Err(Usage(format!("no port is {asked}; expected {name} or {mac}, or nothing for the only port")))
}

fn clients_of(args: &SendArgs, checked: &Checked, number: usize, port: &Arc<Port>) -> anyhow::Result<Vec<Sender>> {
    let Checked { target, local, mac } = checked;
    let sender = |client: u16| {
        let options = ClientOptions::new(format!("send{number}.{client}"))
            .local(*local, target.src_port + client)
            .remote(target.dst_ip, target.dst_port)
            .remote_mac(*mac)
            .ring_frames(RING_FRAMES)
            .on_full(OnFull::Wait(WAIT_FOR_ROOM));
        let style = Style::new(target.extended, target.release);
        Ok(Sender { client: port.setup(options)?, port: port.clone(), style, waits: Some(RING_FRAMES), cpu: None })
    };
    (0..args.clients).map(sender).collect()
}

fn inputs(files: &[PathBuf]) -> anyhow::Result<Vec<Input>> {
    let input = |file: &PathBuf| {
        if file.as_os_str() == "-" {
            return Ok(Input::Stdin);
        }
        // Opened by the reader, which may wait for a FIFO's other side; but a slip of the pen is told at once.
        file.metadata().with_context(|| format!("cannot read {}", file.display()))?;
        Ok(Input::Path(file.clone()))
    };
    files.iter().map(input).collect()
}

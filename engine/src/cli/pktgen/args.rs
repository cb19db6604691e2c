//! What is typed, and the plan that it comes to.

use std::{
    fs::File,
    hash::{BuildHasher as _, RandomState},
    net::Ipv4Addr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use clap::{Args, ValueEnum as _};
use netpoll::{netpoll::RemoteMac, wire::MacAddr};

use super::{
    super::{
        exit::Usage,
        machine::{IdleArgs, MachineArgs},
        sandbox::SandboxArgs,
    },
    clock::Clock,
    latency::Latency,
    load::Load,
    payload::Kind,
    plan::{Plan, What},
    ports::PortsArgs,
    replay::Replay,
    schedule::FOR_EVER,
    size::{self, Sizes},
    source::{IpRange, PortRange, Sources},
    stamp::MOST_STREAMS,
    trial::Ends,
};

/// Send frames at an exact rate, and measure loss, duplicates, reordering and latency where they arrive.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct PktgenArgs {
    /// Frames or bits a second: `100000`, `1.5M`, `10Gbit` (on the wire, gaps counted), `max` [default: 100000; with
    /// --replay the file's own times; with --find-ndr `max`]
    #[arg(long, value_name = "LOAD")]
    pub(super) rate: Option<Load>,
    /// How long: `10`, `0.5`, `2m`; with --find-ndr each trial [default: 5; 2 with --find-ndr; no end with --count or
    /// --receive; once through the file with --replay]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(super) duration: Option<Duration>,
    /// End after so many frames; with --receive: so many are sent
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) count: Option<u64>,
    /// What the datagrams say
    #[arg(long, value_name = "KIND", value_enum, default_value = "udp")]
    pub(super) payload: Kind,
    /// Frame sizes with FCS: `64`, several in turn `64,512,1518`, or `imix` (64, 594, 1518 as 7:4:1) [default: 64; 200 for
    /// lines]
    #[arg(long, value_name = "SIZES")]
    pub(super) size: Option<Sizes>,
    /// Streams, each with a source and sequence numbers of its own: a client of the engine each. With --receive: at most
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=MOST_RAW))]
    pub(super) clients: u32,
    /// Streams are templates of whole frames that share one ring a thread, instead of clients: for thousands of sources
    #[arg(long)]
    pub(super) raw: bool,
    /// Threads that send.
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(super) threads: u16,
    /// Where streams come from, in turn: `198.18.0.1-198.18.0.200`
    #[arg(long, value_name = "ADDRESSES", default_value = "198.18.0.1")]
    pub(super) src_ip: IpRange,
    /// Their ports: when all addresses have been taken, the next port
    #[arg(long, value_name = "PORTS", default_value = "10000-59999")]
    pub(super) src_port: PortRange,
    /// Whom to send to, `ADDRESS` or `ADDRESS:PORT` [default port: 9, 6666 for netconsole, 514 for syslog]
    #[arg(long, value_name = "TARGET", default_value = "198.19.0.1", value_parser = target)]
    pub(super) to: (Ipv4Addr, Option<u16>),
    /// The receiver's MAC address [default: the receiving port's; broadcast where that is elsewhere]
    #[arg(long, value_name = "MAC", conflicts_with = "arp")]
    pub(super) mac: Option<MacAddr>,
    /// Ask for it by ARP.
    #[arg(long, conflicts_with = "raw")]
    pub(super) arp: bool,
    /// Send the frames of a capture (pcap, pcapng) as they are; with --rate at that rate, with --count or --duration round
    /// and round
    #[arg(long, value_name = "FILE", conflicts_with_all = ["payload", "size", "clients", "raw", "threads", "arp", "mac", "find_ndr"])]
    pub(super) replay: Option<PathBuf>,
    /// Only receive, what another process or machine sends. With its --count and --clients, loss is exact.
    #[arg(long, conflicts_with_all = ["rate", "payload", "size", "raw", "arp", "mac", "replay", "find_ndr", "limit", "rx_vdev", "rx_device"])]
    pub(super) receive: bool,
    /// Search for the highest rate without loss (RFC 2544): from --rate down, trials of --duration
    #[arg(long, conflicts_with = "count")]
    pub(super) find_ndr: bool,
    /// How near to come to it, in percent of the first rate
    #[arg(long, value_name = "PERCENT", default_value_t = 1.0, value_parser = percent, requires = "find_ndr")]
    pub(super) resolution: f64,
    /// A trial fails, too, if less than this part of its rate was sent
    #[arg(long, value_name = "PERCENT", default_value_t = 99.0, value_parser = percent, requires = "find_ndr")]
    pub(super) reach: f64,
    /// To try things out: the receiver takes no more than this rate makes in the time of a trial, as a slow one would
    #[arg(long, value_name = "FRAMES", value_parser = frames)]
    pub(super) limit: Option<u64>,
    /// Write the latencies as HdrHistogram's percentile file, in microseconds
    #[arg(long, value_name = "FILE")]
    pub(super) hgrm: Option<PathBuf>,
    /// The clock of time stamps
    #[arg(long, value_name = "CLOCK", value_enum, default_value = "monotonic")]
    pub(super) clock: Clock,
    #[command(flatten)]
    pub(super) ports: PortsArgs,
    #[command(flatten)]
    pub(super) idle: IdleArgs,
    #[command(flatten)]
    pub(super) machine: MachineArgs,
    #[command(flatten)]
    pub(super) sandbox: SandboxArgs,
}

/// The file that the histogram of latency goes to.
pub(super) struct Hgrm {
    file: File,
    path: PathBuf,
}

impl Hgrm {
    pub(super) fn write(self, latency: Option<&Latency>) -> anyhow::Result<()> {
        let latency = latency.context("no latency was measured: nothing was received")?;
        latency.write_hgrm(&self.file).with_context(|| format!("cannot write {}", self.path.display()))
    }
}

const EXAMPLES: &str = "\
Examples, which need no root and no NIC:
  netpoll pktgen                                       100,000 frames/s for 5 s, from one port of this process to another
  netpoll pktgen --rate 10Mbit --size imix --clients 8 --hgrm latency.hgrm
  netpoll pktgen --find-ndr --duration 1               the highest rate without loss
  netpoll pktgen --find-ndr --rate 20000 --limit 7000  the same, with a receiver that takes 7,000 a second
  netpoll pktgen --vdev net_null0,no-rx=1 --rate max   how fast this machine generates

From one NIC to another, through what is to be tested:
  netpoll pktgen --device 0000:01:00.0 --rx-device 0000:01:00.1 --rate 10Gbit --size 64 --find-ndr --idle busy
To a log sink, as 200 machines:
  netpoll pktgen --vdev net_af_packet0,iface=eth1 --to 10.99.0.1 --arp --ip 10.99.0.2/24 \\
      --payload syslog --clients 200 --src-ip 10.99.0.2 --rate 50000
On two machines:
  netpoll pktgen --receive --vdev net_af_packet0,iface=eth1 --ip 10.99.0.1/24 --count 1000000 --clock real
  netpoll pktgen --vdev net_af_packet0,iface=eth1 --to 10.99.0.1 --count 1000000 --clock real

sent = received + lost, to the frame: the ledger at the end says so, and the exit code is 1 if it does not balance. Loss by
itself is a result, not a failure.";

/// Streams at most: as clients (a queue takes no more) and as templates.
const MOST_CLIENTS: usize = 16_384;
const MOST_RAW: i64 = 1 << 20;
const _: () = assert!(MOST_RAW as usize <= MOST_STREAMS);

/// Of what nobody typed.
const RATE: Load = Load::Frames(100_000);
const DURATION: Duration = Duration::from_secs(5);
const TRIAL: Duration = Duration::from_secs(2);
/// Who is behind at the end gets this much longer: long for exact counts on a busy machine, short where it fails a trial.
const CATCH_UP: Duration = Duration::from_secs(10);
const TRIAL_CATCH_UP: Duration = Duration::from_secs(2);

impl PktgenArgs {
    /// What was typed, as far as it can be said before there is a port.
    pub(super) fn plan(&self) -> anyhow::Result<Plan> {
        if self.ports.named() == (false, true) {
            return Err(
                Usage("a port to receive on, but none to send from; name it with --vdev or --device".into()).into()
            );
        }
        if self.find_ndr && self.ports.named() == (true, false) {
            let problem =
                "--find-ndr has to see what arrives; name a port with --rx-vdev or --rx-device, or none at all";
            return Err(Usage(problem.into()).into());
        }
        if self.ports.named() == (true, false) && (self.hgrm.is_some() || self.limit.is_some()) {
            let problem =
                "--hgrm and --limit are about what arrives; name a port with --rx-vdev or --rx-device, or none at all";
            return Err(Usage(problem.into()).into());
        }
        let replay = self.replay.as_deref().map(Replay::read).transpose()?;
        if let Some(replay) = &replay {
            check_replay(replay);
        }
        let streams = self.clients as usize;
        if streams > MOST_CLIENTS && !self.raw {
            let problem =
                format!("{streams} clients; expected at most {MOST_CLIENTS}, or --raw, which takes {MOST_RAW}");
            return Err(Usage(problem).into());
        }
        let sources = Sources { ips: self.src_ip, ports: self.src_port };
        let (what, load, takes, count) = match replay {
            Some(replay) => {
                let once = self.count.is_none() && self.duration.is_none();
                let count = if once { Some(replay.count()) } else { self.count };
                let what = What::Replay { replay: Arc::new(replay), recorded: self.rate.is_none() };
                (what, self.rate.unwrap_or(Load::Max), self.duration.unwrap_or(FOR_EVER), count)
            }
            None => {
                let sizes = self.sizes()?;
                let usual = if self.find_ndr { (Load::Max, TRIAL) } else { (RATE, DURATION) };
                let takes = match self.count {
                    Some(_) => FOR_EVER,
                    None => usual.1,
                };
                let what = What::Made { kind: self.payload, sizes };
                (what, self.rate.unwrap_or(usual.0), self.duration.unwrap_or(takes), self.count)
            }
        };
        Ok(Plan {
            raw: self.raw || matches!(what, What::Replay { .. }),
            what,
            load,
            takes,
            catch_up: if self.find_ndr { TRIAL_CATCH_UP } else { CATCH_UP },
            count,
            streams,
            threads: usize::from(self.threads).min(streams),
            sources,
            to: (self.to.0, self.to.1.unwrap_or(self.payload.port())),
            mac: if self.arp { RemoteMac::Arp } else { RemoteMac::Fixed(self.mac.unwrap_or(MacAddr::BROADCAST)) },
            clock: self.clock,
            run: RandomState::new().hash_one(std::process::id()) as u16,
        })
    }

    /// The sizes, which the payload has to fit.
    fn sizes(&self) -> Result<Sizes, Usage> {
        let sizes = self.size.clone().unwrap_or(Sizes::one(self.payload.usual_size()));
        let (least, most) = self.payload.sizes();
        if usize::from(sizes.smallest()) < least || usize::from(sizes.largest()) > most {
            return Err(Usage(format!(
                "--size {sizes}: such a payload with its number and time takes frames of {least} to {most} bytes"
            )));
        }
        Ok(sizes)
    }

    /// The plan once its ports are there.
    pub(super) fn addressed(&self, plan: Plan, ends: &Ends) -> Plan {
        let mac = match (&plan.mac, self.mac, &ends.rx) {
            (RemoteMac::Fixed(_), None, Some(rx)) => RemoteMac::Fixed(rx.mac()),
            (mac, ..) => *mac,
        };
        Plan { mac, ..plan }
    }

    /// Frames that the receiver takes in a trial.
    pub(super) fn limit(&self, plan: &Plan) -> Result<Option<u64>, Usage> {
        let Some(limit) = self.limit else { return Ok(None) };
        if plan.takes >= FOR_EVER {
            return Err(Usage("--limit is by the time of a trial; say --duration, too".into()));
        }
        Ok(Some((u128::from(limit) * plan.takes.as_nanos() / 1_000_000_000) as u64))
    }

    /// The histogram's file must be one that can be written: known before the trial, not after it.
    /// Opens the file of `--hgrm`: before the run, so that a mistake is known then, and so that the sandbox need not leave
    /// anything to write to.
    pub(super) fn open_hgrm(&self) -> anyhow::Result<Option<Hgrm>> {
        let open = |path: &PathBuf| {
            let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
            Ok(Hgrm { file, path: path.clone() })
        };
        self.hgrm.as_ref().map(open).transpose()
    }

    pub(super) fn describe(&self, plan: &Plan) -> String {
        let load = plan.load;
        match &plan.what {
            What::Made { kind, sizes } => {
                let kind = kind.to_possible_value().map_or(String::new(), |value| value.get_name().to_owned());
                let (ways, plural) =
                    (if plan.raw { "template" } else { "client" }, if plan.streams == 1 { "" } else { "s" });
                let until = match plan.count {
                    Some(count) => format!("{count} frames"),
                    None => format!("{} s", plan.takes.as_secs_f64()),
                };
                let (streams, (ip, port)) = (plan.streams, plan.sources.of(0));
                format!("{streams} {ways}{plural} from {ip}:{port}, {sizes} {kind}, {load}, {until}")
            }
            What::Replay { replay, recorded } => {
                let speed = if *recorded { "at their own times".into() } else { load.to_string() };
                format!("{} frames of a file, {speed}", replay.count())
            }
        }
    }
}

impl Plan {
    /// How long it takes, about.
    pub(super) fn lasts(&self) -> Duration {
        let by_count = match (&self.what, self.count, self.load) {
            (What::Replay { replay, recorded: true }, Some(count), _) => Some(replay.frame(count.saturating_sub(1)).1),
            (_, Some(count), Load::Frames(rate)) => Some(Duration::from_secs_f64(count as f64 / rate as f64)),
            _ => None,
        };
        by_count.unwrap_or(FOR_EVER).min(self.takes).min(Duration::from_secs(86_400))
    }
}

/// What is wrong with a file, and can be sent all the same.
fn check_replay(replay: &Replay) {
    if replay.cut > 0 {
        tracing::warn!("{} of {} frames were cut short when they were captured", replay.cut, replay.count());
    }
    if replay.longest() > usize::from(size::LONGEST) - size::FCS_LEN {
        let most = usize::from(size::LONGEST) - size::FCS_LEN;
        tracing::warn!("the longest frame has {} bytes; those of more than {most} will be refused", replay.longest());
    }
}

/// `10`, `0.5`, `200ms`, `2m`.
fn time(text: &str) -> Result<Duration, &'static str> {
    const EXPECTED: &str = "expected a time like `10` or `0.5` (seconds), `200ms` or `2m`, up to a year";
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let factor = match &text[end..] {
        "" | "s" => 1.0,
        "ms" => 1e-3,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(EXPECTED),
    };
    let plain = text.starts_with(|c: char| c.is_ascii_digit()) && !text[..end].ends_with('.');
    let seconds = text[..end].parse::<f64>().ok().filter(|_| plain).map(|number| number * factor);
    seconds.filter(|s| (1e-3..=366.0 * 86_400.0).contains(s)).map(Duration::from_secs_f64).ok_or(EXPECTED)
}

fn percent(text: &str) -> Result<f64, &'static str> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let percent = text.parse::<f64>().ok().filter(|percent| plain && *percent > 0.0 && *percent <= 100.0);
    percent.ok_or("expected percent, more than 0 and at most 100")
}

fn frames(text: &str) -> Result<u64, &'static str> {
    match text.parse() {
        Ok(Load::Frames(rate)) => Ok(rate),
        _ => Err("expected frames a second like `7000` or `1.5M`"),
    }
}

fn target(text: &str) -> Result<(Ipv4Addr, Option<u16>), &'static str> {
    const EXPECTED: &str = "expected an IPv4 address like `198.19.0.1`, or one with a UDP port like `198.19.0.1:514`";
    let (ip, port) = match text.split_once(':') {
        Some((ip, port)) => {
            let strict = port.bytes().all(|b| b.is_ascii_digit());
            (ip, Some(port.parse().ok().filter(|port| strict && *port > 0).ok_or(EXPECTED)?))
        }
        None => (text, None),
    };
    Ok((ip.parse().map_err(|_| EXPECTED)?, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_strict() {
        assert_eq!(time("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(time("200ms"), Ok(Duration::from_millis(200)));
        assert_eq!(time("2m"), Ok(Duration::from_secs(120)));
        for bad in ["", "0", "-1", "1.", ".5", "1d", "s", "ms", "1e3", "1000000000"] {
            assert!(time(bad).is_err(), "{bad:?}");
        }
        assert_eq!(percent("0.5"), Ok(0.5));
        for bad in ["", "0", "101", "-1", "1%", "1e1", "nan"] {
            assert!(percent(bad).is_err(), "{bad:?}");
        }
        assert_eq!(target("10.0.0.1:514"), Ok(([10, 0, 0, 1].into(), Some(514))));
        for bad in ["", "10.0.0.1:", "10.0.0.1:0", "10.0.0", ":514", "10.0.0.1:+5", "host:514"] {
            assert!(target(bad).is_err(), "{bad:?}");
        }
    }
}

//! What a config file comes to once everything is resolved: plain data, no default left open.

use super::{
    security::UserName,
    value::{Device, Ipv4Net, Ipv4Prefix, PortRanges},
};
use crate::{
    LcoreId, QueueId,
    port::spread::SpreadBy,
    sink::{Template, decode::Listen},
    wire::MacAddr,
};
use std::{net::Ipv4Addr, ops::RangeInclusive, path::PathBuf, time::Duration};

/// Everything that `netpoll run` sets up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The EAL.
    pub eal: EalPlan,
    /// The poll loops.
    pub engine: EnginePlan,
    /// The ports, at least one. Others name them by their place in this list.
    pub ports: Vec<PortPlan>,
    /// The sending clients.
    pub clients: Vec<ClientPlan>,
    /// The sinks: at most one a port.
    pub sinks: Vec<SinkPlan>,
    /// What the process keeps after start-up.
    pub security: SecurityPlan,
    /// What the program says of itself.
    pub log: LogPlan,
}

/// What the process keeps after start-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityPlan {
    /// Who it becomes; `None`: it stays who it is.
    pub user: Option<UserName>,
    /// Whether it gives up what its ports do not need.
    pub sandbox: bool,
}

/// How the EAL starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EalPlan {
    /// The lcores, each pinned to the CPU of its number: ascending, not empty.
    pub lcores: Vec<LcoreId>,
    /// Where mbufs live.
    pub memory: Memory,
    /// Further EAL arguments, none of which this plan sets itself.
    pub args: Vec<String>,
}

/// Where mbufs live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Hugepages, private to the process (`--in-memory`).
    Hugepages {
        /// MiB taken at the start; `None`: as needed.
        megabytes: Option<u32>,
    },
    /// Ordinary pages (`--no-huge`): works for any user, not for a NIC that needs physical addresses.
    NoHuge {
        /// MiB, all that there will be.
        megabytes: u32,
    },
}

/// How the poll loops behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnginePlan {
    /// What a loop does that found nothing to do.
    pub idle: Idle,
    /// Most frames a burst takes, 1 to [`MAX_BURST`](crate::port::MAX_BURST).
    pub burst_frames: u16,
    /// ARP and ICMP answers a second and port, together.
    pub replies_per_s: u32,
    /// Whether a UDP checksum field that holds just the pseudo-header's sum passes (kernel-backed ports).
    pub accept_partial_checksum: bool,
}

/// What a poll loop does that found nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Polls on: shortest wait, a whole core.
    Busy,
    /// Polls on with a CPU pause between: kinder to the sibling thread, still a whole core.
    Pause,
    /// Sleeps, longer and longer.
    Sleep {
        /// Longest sleep: what a frame may wait on an idle port.
        max_us: u32,
        /// Whether the loops are real-time threads.
        real_time: bool,
    },
}

/// One port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortPlan {
    /// What clients and sinks call it.
    pub name: String,
    /// The device behind it.
    pub device: Device,
    /// Its address, if it has one.
    pub ip: Option<Ipv4Net>,
    /// The way to off-link targets: inside `ip`'s prefix.
    pub gateway: Option<Ipv4Addr>,
    /// The lcore of each queue: never empty, one element a queue.
    pub queue_lcores: Vec<LcoreId>,
    /// Who spreads what comes over several queues.
    pub spread: SpreadBy,
    /// Descriptors of each receive queue.
    pub rx_descriptors: u16,
    /// Descriptors of each transmit queue.
    pub tx_descriptors: u16,
    /// Mbufs in the pool of each queue.
    pub mbufs_per_queue: u32,
    /// Longest IP packet in bytes.
    pub mtu_bytes: u16,
    /// Whether frames for other hosts come in (the filter drops and counts them all the same).
    pub promiscuous: bool,
    /// Multicast addresses that are let in.
    pub multicast: Vec<MacAddr>,
}

impl PortPlan {
    /// The queues and their lcores.
    pub fn queues(&self) -> impl Iterator<Item = (QueueId, LcoreId)> {
        (0..).map(QueueId).zip(self.queue_lcores.iter().copied())
    }

    /// Bytes of memory that the port's mbufs take, about.
    pub fn mbuf_bytes(&self) -> u64 {
        // Element header and mbuf struct, headroom, and room for the frame, 2048 at the least.
        let room = (u64::from(self.mtu_bytes) + 26).max(2048);
        // The clients' pool beside, as a port makes it by default.
        let mbufs = u64::from(self.mbufs_per_queue) + u64::from(self.tx_descriptors) + 4096;
        self.queue_lcores.len() as u64 * mbufs * (64 + 128 + 128 + room)
    }
}

/// One sending client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientPlan {
    /// Its name.
    pub name: String,
    /// Its port: place in [`Plan::ports`].
    pub port: usize,
    /// Whom it sends to.
    pub target: Target,
    /// Where the lines come from that it sends, one a datagram.
    pub input: Input,
    /// What happens to a line when the ring is full.
    pub on_full: OnFull,
    /// Frames that its ring holds.
    pub ring_frames: u32,
    /// Whether it may use the reserved mbufs when the port's pool is empty.
    pub urgent: bool,
    /// The CPU that its thread is pinned to.
    pub cpu: Option<u32>,
}

/// Whom a client sends to, and as whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Whether lines go out in netconsole's extended format.
    pub extended: bool,
    /// Whether each then begins with the kernel's release.
    pub release: bool,
    /// Source address.
    pub local_ip: Ipv4Addr,
    /// Source port.
    pub local_port: u16,
    /// Destination address.
    pub remote_ip: Ipv4Addr,
    /// Destination port.
    pub remote_port: u16,
    /// Where the frames go.
    pub remote_mac: RemoteMac,
}

/// The destination MAC address of a client's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteMac {
    /// Asked for on the port.
    Arp,
    /// `ff:ff:ff:ff:ff:ff`, netconsole's default.
    Broadcast,
    /// Given.
    Given(MacAddr),
}

/// Where a client's lines come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Standard input.
    Stdin,
    /// A file (read once, to its end) or a FIFO (read for ever).
    Path(PathBuf),
}

impl Input {
    /// The file, if it is one.
    pub fn path(&self) -> Option<PathBuf> {
        match self {
            Input::Stdin => None,
            Input::Path(path) => Some(path.clone()),
        }
    }
}

/// What happens when a client's ring is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFull {
    /// The frame is dropped and counted.
    Drop,
    /// `send` waits for room, then drops and counts.
    Wait {
        /// Longest wait.
        us: u32,
    },
}

/// One sink: the rx client of its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkPlan {
    /// Its port: place in [`Plan::ports`].
    pub port: usize,
    /// The UDP ports that it listens on.
    pub listen: PortRanges,
    /// Only datagrams to this address.
    pub local_ip: Option<Ipv4Addr>,
    /// Only datagrams from this address.
    pub remote_ip: Option<Ipv4Addr>,
    /// Only datagrams from these networks; empty: from anywhere.
    pub allow: Vec<Ipv4Prefix>,
    /// The folder that it writes to, its own.
    pub out: PathBuf,
    /// What it writes there: not empty, none twice.
    pub outputs: Vec<Output>,
    /// How lines of plain text are made; `None`: time, source, payload.
    pub template: Option<Template>,
    /// Whether rolled text files are compressed.
    pub compress: bool,
    /// What each listening port's datagrams are decoded as; `None`: by the decoder's defaults.
    pub format: Option<Formats>,
    /// Oldest that a batch gets before it is written.
    pub flush_interval: Duration,
    /// When files are synced.
    pub sync: Sync,
    /// Sizes and times that bound it.
    pub limits: SinkLimits,
    /// The CPU that its writer thread is pinned to.
    pub cpu: Option<u32>,
}

/// Formats by ranges of ports; the first range that holds a port says its format.
pub type Formats = Vec<(RangeInclusive<u16>, Listen)>;

/// What a sink writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Plain text lines.
    Text,
    /// JSON objects, one a line; not beside plain text.
    JsonLines,
    /// Parquet files, by way of a spool.
    Parquet,
}

/// When a sink's files are synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// When the system does it.
    Never,
    /// After this time at the latest.
    Every(Duration),
    /// After each batch.
    Batch,
}

/// Sizes and times that bound a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SinkLimits {
    /// Bytes of a batch between the hook and the writer.
    pub batch_bytes: u32,
    /// Batches between each queue's hook and the writer.
    pub batches_per_queue: u16,
    /// A file is closed and the next one begun at this size.
    pub segment_bytes: u64,
    /// The same, by age.
    pub segment_age: Duration,
    /// Lines that one source may send in a second; `None`: as many as come.
    pub max_lines_per_source_per_s: Option<u32>,
    /// Nothing more is written when the disk has less than this free.
    pub min_free_bytes: u64,
    /// The oldest files go when all together are larger.
    pub retain_bytes: Option<u64>,
    /// Files go when they are older.
    pub retain_age: Option<Duration>,
}

/// What the program says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogPlan {
    /// The least that is told.
    pub level: LogLevel,
    /// The shape of it.
    pub format: LogFormat,
    /// How often the ledger is told; `None`: only at exit.
    pub ledger_interval: Option<Duration>,
}

/// How much is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// The shape of what is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one object a line.
    Json,
}

//! What a sink is told.

use std::{ops::RangeInclusive, path::PathBuf, time::Duration};

use super::{
    batch::ROW_BYTES,
    decode::{DecodeConfig, Listen},
    log::{LogLimits, TidyLimits},
    shed::ShedPolicy,
    text::TextFormat,
};

/// When what was written counts as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncPolicy {
    /// Once the write has returned: it survives the end of the process, however violent, not that of
    /// the machine.
    Never,
    /// Once a sync has returned, and one is asked for as soon as anything has waited for this long.
    Every(Duration),
    /// The same without waiting: whatever came while one sync ran shares the next one.
    EveryBatch,
}

/// The text output: one datagram a line, see [`text`](super::text) for the formats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextConfig {
    /// The name in the sink's directory of the file that is written to.
    pub file_name: String,
    /// How a line is made.
    pub format: TextFormat,
    /// What datagrams are taken for, by destination port, where the format names what they decode to.
    pub listeners: Vec<(RangeInclusive<u16>, Listen)>,
    /// A file rolls when it would grow larger than this.
    pub roll_bytes: u64,
    /// A file rolls when its first line is this old.
    pub roll_every: Duration,
    /// Rolled files are removed, oldest first, when all of them together are larger than this.
    pub keep_bytes: u64,
    /// Rolled files are removed when they were rolled longer ago than this. Looked at whenever one is rolled.
    pub keep_for: Option<Duration>,
    /// Whether rolled files are compressed with zstd. Needs the feature `store`.
    pub zstd: bool,
}

impl Default for TextConfig {
    /// `netpoll.log`, 256 MiB or a day, 4 GiB, not compressed.
    fn default() -> Self {
        TextConfig {
            file_name: "netpoll.log".to_owned(),
            format: TextFormat::default(),
            listeners: DecodeConfig::default().listeners,
            roll_bytes: 256 << 20,
            roll_every: Duration::from_secs(86_400),
            keep_bytes: 4 << 30,
            keep_for: None,
            zstd: false,
        }
    }
}

/// The spool: Arrow IPC stream segments, see [`spool`](super::spool).
#[cfg(feature = "store")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolConfig {
    /// A segment rolls when it would grow larger than this.
    pub roll_bytes: u64,
    /// A segment rolls when its first row is this old.
    pub roll_every: Duration,
    /// Nothing is written once all segments together are this large.
    pub max_bytes: u64,
}

#[cfg(feature = "store")]
impl Default for SpoolConfig {
    /// 128 MiB or a minute a segment, 16 GiB together.
    fn default() -> Self {
        SpoolConfig { roll_bytes: 128 << 20, roll_every: Duration::from_secs(60), max_bytes: 16 << 30 }
    }
}

/// What [`Sink::open`](super::Sink::open) needs. At least one output is on; the spool, where it is on,
/// is the primary one, whose rows count as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkConfig {
    /// The sink's directory; made if it is not there.
    pub dir: PathBuf,
    /// The text output.
    pub text: Option<TextConfig>,
    /// The spool.
    #[cfg(feature = "store")]
    pub spool: Option<SpoolConfig>,
    /// When written rows count as stored.
    pub sync: SyncPolicy,
    /// A batch goes to the writer when its first row is this old.
    pub flush_interval: Duration,
    /// Rows a batch.
    pub batch_rows: usize,
    /// Payload bytes a batch.
    pub batch_bytes: usize,
    /// Batches a queue, allocated when the hook is set up; at least 2.
    pub batches_per_queue: usize,
    /// Lines that one source may send in a second, 1 to 1,000,000: a second's worth at once, then at this rate. What is more
    /// is dropped. `None`: as many as come.
    pub max_lines_per_source_per_s: Option<u32>,
    /// What to give up first when the writer is behind.
    pub shed: ShedPolicy,
    /// Nothing is written when less than this is free on the file system.
    pub min_free_bytes: u64,
    /// A write that fails is tried again for this long before its rows are dropped. After that, until
    /// writing works again, rows are dropped at once.
    pub retry_for: Duration,
    /// The ledger file is written at least this often while anything changes.
    pub ledger_interval: Duration,
    /// How long [`Sink::stop`](super::Sink::stop) waits for an output that does not work.
    pub stop_timeout: Duration,
    /// The CPU to pin the writer to.
    pub writer_cpu: Option<usize>,
}

impl SinkConfig {
    /// The defaults for a sink in `dir`: the spool (text where the feature `store` is off), synced every
    /// 200 ms; 256 batches a queue of 256 KiB and 2048 rows (88 MiB a queue: half a second of a
    /// million lines, while the disk stalls; and 0.7 MiB for the limit of each source).
    pub fn new(dir: impl Into<PathBuf>) -> SinkConfig {
        SinkConfig {
            dir: dir.into(),
            text: if cfg!(feature = "store") { None } else { Some(TextConfig::default()) },
            #[cfg(feature = "store")]
            spool: Some(SpoolConfig::default()),
            sync: SyncPolicy::Every(Duration::from_millis(200)),
            flush_interval: Duration::from_millis(100),
            batch_rows: 2048,
            batch_bytes: 256 << 10,
            batches_per_queue: 256,
            max_lines_per_source_per_s: None,
            shed: ShedPolicy::default(),
            min_free_bytes: 128 << 20,
            retry_for: Duration::from_secs(1),
            ledger_interval: Duration::from_secs(1),
            stop_timeout: Duration::from_secs(10),
            writer_cpu: None,
        }
    }

    /// The defaults for a sink that writes only text.
    pub fn text_only(dir: impl Into<PathBuf>) -> SinkConfig {
        SinkConfig {
            text: Some(TextConfig::default()),
            #[cfg(feature = "store")]
            spool: None,
            ..SinkConfig::new(dir)
        }
    }
}

/// Of a hook's tables (the limit of each source, notes of losses, notices), rounded up.
const TABLE_BYTES: usize = 1 << 20;

impl SinkConfig {
    /// Memory that the hooks of so many queues take, in bytes: all of it when they are set up, and no more whatever comes.
    pub fn memory_bytes(&self, queues: usize) -> u64 {
        let batch = self.batch_bytes + self.batch_rows * ROW_BYTES;
        (queues * (self.batches_per_queue * batch + TABLE_BYTES)) as u64
    }

    pub(super) fn primary_is_spool(&self) -> bool {
        #[cfg(feature = "store")]
        return self.spool.is_some();
        #[cfg(not(feature = "store"))]
        return false;
    }

    pub(super) fn has_output(&self) -> bool {
        self.primary_is_spool() || self.text.is_some()
    }

    /// The limits of the output whose rows count as stored.
    pub(super) fn primary_limits(&self) -> LogLimits {
        #[cfg(feature = "store")]
        if let Some(spool) = &self.spool {
            return LogLimits {
                sync: self.sync,
                roll_bytes: spool.roll_bytes,
                roll_every: spool.roll_every,
                min_free_bytes: self.min_free_bytes,
                max_bytes: Some(spool.max_bytes),
                tidy: None,
            };
        }
        self.text_limits(&self.text.clone().unwrap_or_default())
    }

    /// The limits of the text beside the spool, where there is one.
    pub(super) fn secondary_limits(&self) -> Option<LogLimits> {
        let text = self.text.as_ref().filter(|_| self.primary_is_spool())?;
        Some(self.text_limits(text))
    }

    fn text_limits(&self, text: &TextConfig) -> LogLimits {
        LogLimits {
            sync: self.sync,
            roll_bytes: text.roll_bytes,
            roll_every: text.roll_every,
            min_free_bytes: self.min_free_bytes,
            max_bytes: None,
            tidy: Some(TidyLimits { keep_bytes: text.keep_bytes, keep_for: text.keep_for, zstd: text.zstd }),
        }
    }
}

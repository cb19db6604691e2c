//! What a decoder is told.

use std::{
    hash::{BuildHasher, RandomState},
    ops::RangeInclusive,
};

/// What to take the datagrams of a listener for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Listen {
    /// Extended netconsole if the header parses, syslog if a `<PRI>` leads, or else raw.
    #[default]
    Auto,
    /// Extended netconsole if the header parses, or else basic.
    Netconsole,
    /// Text without a header, joined at 1000 bytes.
    NetconsoleBasic,
    /// Extended netconsole, or else raw.
    NetconsoleExtended,
    /// Syslog, also without a `<PRI>`; or else raw.
    Syslog,
    /// Bytes as they are.
    Raw,
}

/// A decoder's formats and limits.
#[derive(Clone, Debug)]
pub struct DecodeConfig {
    /// By destination port; the first range that holds it wins, and without one it is [`Listen::Auto`].
    pub listeners: Vec<(RangeInclusive<u16>, Listen)>,
    /// How long an extended message waits for those before it, in nanoseconds.
    pub order_window_ns: u64,
    /// How long a message's fragments are waited for, in nanoseconds.
    pub fragment_timeout_ns: u64,
    /// Most messages of one flow that wait.
    pub flow_messages: usize,
    /// Most bytes of one flow that wait.
    pub flow_bytes: usize,
    /// Most bytes that wait in all flows.
    pub total_bytes: usize,
    /// Flows that are known at a time.
    pub flows: usize,
    /// Zone of RFC 3164 times, in seconds east of UTC; `None` guesses it (see the `syslog` module).
    pub syslog_zone_s: Option<i32>,
    /// Key of the flow table's hash. Should be unknown to senders.
    pub seed: u64,
}

impl Default for DecodeConfig {
    /// Ports 514 (syslog) and 6666 (netconsole), the rest by trying; 100 ms of order window, 1 s for
    /// fragments, 32 MiB at most for 4096 flows; a random seed.
    fn default() -> Self {
        DecodeConfig {
            listeners: vec![(514..=514, Listen::Syslog), (6666..=6666, Listen::Netconsole)],
            order_window_ns: 100_000_000,
            fragment_timeout_ns: 1_000_000_000,
            flow_messages: 128,
            flow_bytes: 512 * 1024,
            total_bytes: 32 << 20,
            flows: 4096,
            syslog_zone_s: None,
            seed: RandomState::new().hash_one(0),
        }
    }
}

impl DecodeConfig {
    pub(crate) fn listen(&self, port: u16) -> Listen {
        let found = self.listeners.iter().find(|(ports, _)| ports.contains(&port));
        found.map_or(Listen::Auto, |(_, listen)| *listen)
    }
}

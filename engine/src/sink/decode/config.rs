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

impl Listen {
    /// What [`parse_listeners`] wants, for messages.
    pub const EXPECTED: &'static str = "a format (auto, netconsole, netconsole-basic, netconsole-extended, syslog or \
         raw), or formats by port like `514=syslog,6000-6999=netconsole,auto`";

    const NAMES: [(&'static str, Listen); 6] = [
        ("auto", Listen::Auto),
        ("netconsole", Listen::Netconsole),
        ("netconsole-basic", Listen::NetconsoleBasic),
        ("netconsole-extended", Listen::NetconsoleExtended),
        ("syslog", Listen::Syslog),
        ("raw", Listen::Raw),
    ];

    /// The format of that name.
    pub fn from_name(name: &str) -> Option<Listen> {
        Listen::NAMES.iter().find(|(known, _)| *known == name).map(|(_, listen)| *listen)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Listen::NAMES.iter().find(|(_, listen)| *listen == self).map_or("auto", |(name, _)| name)
    }
}

/// Formats by port, as people write them: `514=syslog,6000-6999=netconsole,auto`. A part without a port
/// is for all ports that the parts before it leave; ports that no part names go by trying. `None` if it
/// is not such a text.
pub fn parse_listeners(text: &str) -> Option<Vec<(RangeInclusive<u16>, Listen)>> {
    let port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    let part = |part: &str| {
        let Some((ports, name)) = part.split_once('=') else { return Some((0..=u16::MAX, Listen::from_name(part)?)) };
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let ports = port(first)?..=port(last)?;
        (!ports.is_empty() && *ports.start() > 0).then_some((ports, Listen::from_name(name)?))
    };
    text.split(',').map(part).collect()
}

/// The text of [`parse_listeners`].
pub fn show_listeners(listeners: &[(RangeInclusive<u16>, Listen)]) -> String {
    let show = |(ports, listen): &(RangeInclusive<u16>, Listen)| match (*ports.start(), *ports.end()) {
        (0, u16::MAX) => listen.name().to_owned(),
        (first, last) if first == last => format!("{first}={}", listen.name()),
        (first, last) => format!("{first}-{last}={}", listen.name()),
    };
    listeners.iter().map(show).collect::<Vec<_>>().join(",")
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
        listen_of(&self.listeners, port)
    }
}

/// What datagrams to `port` are taken for.
pub(crate) fn listen_of(listeners: &[(RangeInclusive<u16>, Listen)], port: u16) -> Listen {
    let found = listeners.iter().find(|(ports, _)| ports.contains(&port));
    found.map_or(Listen::Auto, |(_, listen)| *listen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_by_port_there_and_back() {
        for text in ["auto", "raw", "514=syslog", "514=syslog,6000-6999=netconsole,netconsole-basic"] {
            assert_eq!(show_listeners(&parse_listeners(text).unwrap()), text);
        }
        for bad in
            ["", "514", "514=", "=raw", "0=raw", "9-8=raw", "65536=raw", "+1=raw", "a=raw", "raw,", "syslogs", "1 =raw"]
        {
            assert_eq!(parse_listeners(bad), None, "{bad}");
        }
        let config = DecodeConfig { listeners: parse_listeners("5-7=syslog,raw").unwrap(), ..DecodeConfig::default() };
        assert_eq!(
            (config.listen(4), config.listen(5), config.listen(7)),
            (Listen::Raw, Listen::Syslog, Listen::Syslog)
        );
    }
}

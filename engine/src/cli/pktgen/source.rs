//! Where streams come from: ranges of addresses and ports.

use std::{net::Ipv4Addr, str::FromStr};

/// Addresses, one after another: `198.18.0.1-198.18.0.200`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IpRange {
    first: Ipv4Addr,
    count: u32,
}

/// UDP ports, one after another: `10000-10999`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PortRange {
    first: u16,
    count: u16,
}

/// Sources; streams take them in turn, the address first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sources {
    pub(super) ips: IpRange,
    pub(super) ports: PortRange,
}

impl Sources {
    /// The source of stream number `stream`.
    pub(super) fn of(&self, stream: usize) -> (Ipv4Addr, u16) {
        let (ips, ports) = (self.ips.count as usize, usize::from(self.ports.count));
        let ip = self.ips.first.to_bits() + (stream % ips) as u32;
        (ip.into(), self.ports.first + (stream / ips % ports) as u16)
    }
}

impl FromStr for IpRange {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<IpRange, Self::Err> {
        const EXPECTED: &str = "expected hosts' IPv4 addresses like `198.18.0.1` or, from the lowest to the highest, `198.18.0.1-198.18.0.200`";
        // What a receiver's filter takes as a source (RFC 1122, 3.2.1.3).
        let host = |ip: &Ipv4Addr| ip.octets()[0] != 0 && !ip.is_loopback() && !ip.is_multicast() && !ip.is_broadcast();
        let ip = |text: &str| text.parse::<Ipv4Addr>().ok().filter(host);
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = ip(first).zip(ip(last)).filter(|(first, last)| first <= last).ok_or(EXPECTED)?;
        Ok(IpRange { first, count: last.to_bits() - first.to_bits() + 1 })
    }
}

impl FromStr for PortRange {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<PortRange, Self::Err> {
        const EXPECTED: &str = "expected UDP ports from 1 to 65535 like `10000` or `10000-10999`";
        let port = |text: &str| -> Option<u16> {
            let strict = text.bytes().all(|b| b.is_ascii_digit());
            text.parse().ok().filter(|port| strict && *port > 0)
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = port(first).zip(port(last)).filter(|(first, last)| first <= last).ok_or(EXPECTED)?;
        Ok(PortRange { first, count: last - first + 1 })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ranges_are_strict() {
        for bad in ["", "10.0.0", "10.0.0.2-10.0.0.1", "127.0.0.1", "224.0.0.1", "0.0.0.1", "10.0.0.1-", "10.0.0.0/24"]
        {
            assert!(bad.parse::<IpRange>().is_err(), "{bad:?}");
        }
        for bad in ["", "0", "65536", "2-1", "1-", "+1", "1,2"] {
            assert!(bad.parse::<PortRange>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn streams_take_each_source_once_and_then_again() {
        let sources = Sources { ips: "10.0.0.254-10.0.1.1".parse().unwrap(), ports: "65534-65535".parse().unwrap() };
        let all: HashSet<_> = (0..8).map(|stream| sources.of(stream)).collect();
        assert_eq!(all.len(), 8);
        assert_eq!(sources.of(2), (Ipv4Addr::new(10, 0, 1, 0), 65534));
        assert_eq!(sources.of(4), (Ipv4Addr::new(10, 0, 0, 254), 65535));
        assert_eq!(sources.of(8), sources.of(0));
        let whole = Sources { ips: "1.0.0.0-126.0.0.0".parse().unwrap(), ports: "1-65535".parse().unwrap() };
        assert!(whole.of(usize::MAX / 2).1 > 0);
    }
}

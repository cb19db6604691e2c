//! The small grammars inside values: devices, addresses with a prefix, port lists, names.

use crate::{netpoll::filter::PrefixSet, wire::MacAddr};
use std::{fmt, net::Ipv4Addr, ops::RangeInclusive};

/// The device behind a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// A NIC on the PCI bus.
    Pci {
        /// `0000:01:00.0`, lower case, always with the domain.
        address: String,
        /// Device arguments: `` or `k=v,...`.
        args: String,
    },
    /// A virtual device.
    Vdev {
        /// `net_tap0`: driver and number.
        name: String,
        /// Device arguments: `` or `k=v,...`.
        args: String,
    },
}

impl Device {
    /// What [`Device::parse`] wants, for messages.
    pub(super) const EXPECTED: &'static str =
        "a PCI address like \"0000:01:00.0\" or a virtual device like \"net_tap0,iface=np0\"";

    /// A PCI address or a virtual device, each with arguments after a comma.
    pub fn parse(text: &str) -> Option<Device> {
        let (name, args) = text.split_once(',').unwrap_or((text, ""));
        if text.ends_with(',') || !args.bytes().all(|b| b.is_ascii_graphic()) {
            return None;
        }
        let args = args.to_owned();
        if let Some(address) = pci_address(name) {
            return Some(Device::Pci { address, args });
        }
        let driver = ["net_", "eth_", "virtio_user"].iter().find_map(|p| name.strip_prefix(p).map(|rest| (p, rest)));
        let (prefix, rest) = driver?;
        let named = *prefix == "virtio_user" || rest.starts_with(|c: char| c.is_ascii_lowercase());
        let plain = rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        (named && plain && name.len() < 64).then(|| Device::Vdev { name: name.to_owned(), args })
    }

    /// The name that DPDK knows it by: no two ports share one.
    pub fn name(&self) -> &str {
        match self {
            Device::Pci { address, .. } => address,
            Device::Vdev { name, .. } => name,
        }
    }

    /// Receive descriptors that a queue of it has where nobody says otherwise.
    pub fn rx_descriptors(&self) -> u16 {
        // net_af_xdp's most useful number: its fill ring starts with as many.
        if self.name().contains("_af_xdp") { 2048 } else { 1024 }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Device::Pci { args, .. } | Device::Vdev { args, .. }) = self;
        write!(f, "{}{}{args}", self.name(), if args.is_empty() { "" } else { "," })
    }
}

/// `[domain:]bus:device.function`, in the long form.
fn pci_address(text: &str) -> Option<String> {
    let hex = |s: &str, len: usize| s.len() == len && s.bytes().all(|b| b.is_ascii_hexdigit());
    let (front, function) = text.rsplit_once('.')?;
    let mut parts = front.rsplit(':');
    let (device, bus, domain) = (parts.next()?, parts.next()?, parts.next().unwrap_or("0000"));
    let in_range = u8::from_str_radix(device, 16).ok()? < 32 && matches!(function.as_bytes(), [b'0'..=b'7']);
    let shaped = hex(device, 2) && hex(bus, 2) && hex(domain, 4) && parts.next().is_none();
    (shaped && in_range).then(|| format!("{domain}:{bus}:{device}.{function}").to_lowercase())
}

/// An address of a host and the length of its network's prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Net {
    /// The host.
    pub ip: Ipv4Addr,
    /// 1 to 32.
    pub prefix_len: u8,
}

impl Ipv4Net {
    /// What [`Ipv4Net::parse`] wants, for messages.
    pub(super) const EXPECTED: &'static str = "a host's address with a prefix length like \"10.99.0.1/24\"";

    /// `a.b.c.d/n`: a host's address, so neither the network's own nor its broadcast.
    pub fn parse(text: &str) -> Option<Ipv4Net> {
        let (ip, len) = text.split_once('/')?;
        let strict =
            !len.is_empty() && len.len() <= 2 && len.bytes().all(|b| b.is_ascii_digit()) && !len.starts_with('0');
        let prefix_len = len.parse().ok().filter(|n| strict && (1..=32).contains(n))?;
        let net = Ipv4Net { ip: unicast(ip)?, prefix_len };
        net.is_host(net.ip).then_some(net)
    }

    /// Whether `ip` is in this network.
    pub fn contains(self, ip: Ipv4Addr) -> bool {
        (u32::from(ip) ^ u32::from(self.ip)) & !self.host_mask() == 0
    }

    /// Whether `ip` is in this network and a host there. /31 (RFC 3021) and /32 have only hosts.
    pub fn is_host(self, ip: Ipv4Addr) -> bool {
        let host = u32::from(ip) & self.host_mask();
        self.contains(ip) && (self.prefix_len >= 31 || (host != 0 && host != self.host_mask()))
    }

    fn host_mask(self) -> u32 {
        u32::MAX.checked_shr(self.prefix_len.into()).unwrap_or(0)
    }
}

impl fmt::Display for Ipv4Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix_len)
    }
}

/// Whom a sink listens to: a network, or one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Prefix {
    /// The network's address: the bits behind the prefix are 0.
    ip: Ipv4Addr,
    /// 0 to 32.
    len: u8,
}

impl Ipv4Prefix {
    /// What [`Ipv4Prefix::parse`] wants, for messages.
    pub(crate) const EXPECTED: &'static str =
        "a network like \"10.0.0.0/8\", with no bit set behind its prefix, or a host's address";

    /// `a.b.c.d/n` or `a.b.c.d`.
    pub fn parse(text: &str) -> Option<Ipv4Prefix> {
        let (ip, len) = text.split_once('/').unwrap_or((text, "32"));
        let strict = len.len() <= 2 && len.bytes().all(|b| b.is_ascii_digit()) && (len == "0" || !len.starts_with('0'));
        let (ip, len) = (ip.parse::<Ipv4Addr>().ok()?, len.parse().ok().filter(|n| strict && *n <= 32)?);
        let host_mask = u32::MAX.checked_shr(u32::from(len)).unwrap_or(0);
        (u32::from(ip) & host_mask == 0).then_some(Ipv4Prefix { ip, len })
    }

    /// Those in `prefixes`; with none, everyone.
    pub fn set(prefixes: &[Ipv4Prefix]) -> PrefixSet {
        if prefixes.is_empty() { PrefixSet::Any } else { prefixes.iter().map(|p| (p.ip, p.len)).collect() }
    }
}

impl fmt::Display for Ipv4Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.len)
    }
}

/// An address that one host can have on a network.
pub(super) fn unicast(text: &str) -> Option<Ipv4Addr> {
    text.parse().ok().filter(|ip| is_unicast(*ip))
}

/// Whether one host can have this address on a network.
pub(super) fn is_unicast(ip: Ipv4Addr) -> bool {
    let first = ip.octets()[0];
    first != 0 && first < 224 && !ip.is_loopback()
}

/// A multicast MAC address, given as such or as the IPv4 group that it stands for (RFC 1112, 6.4).
pub(super) fn multicast(text: &str) -> Option<MacAddr> {
    if let Ok(mac) = text.parse::<MacAddr>() {
        return (mac.is_multicast() && mac != MacAddr::BROADCAST).then_some(mac);
    }
    let group = text.parse::<Ipv4Addr>().ok().filter(Ipv4Addr::is_multicast)?;
    let [_, b, c, d] = group.octets();
    Some(MacAddr([0x01, 0x00, 0x5e, b & 0x7f, c, d]))
}

/// A name of a port or client: it also stands in netconsole option strings and in metrics.
pub(super) fn name(text: &str) -> Option<String> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    ((1..=32).contains(&text.len()) && text.bytes().all(good)).then(|| text.to_owned())
}

/// UDP ports: ascending ranges that do not touch each other. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRanges(Vec<RangeInclusive<u16>>);

impl PortRanges {
    /// Most ranges in one list.
    pub const MAX: usize = 64;
    /// What [`PortRanges::parse`] wants, for messages.
    pub(super) const EXPECTED: &'static str = "UDP ports from 1 to 65535 like 514, [514, 6666] or \"514,6666-6670\"";

    /// `514,6666-6670`: numbers and ranges, no blanks, no port twice.
    pub fn parse(text: &str) -> Option<PortRanges> {
        let number = |s: &str| -> Option<u16> {
            let strict = !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
            s.parse().ok().filter(|n| strict && *n != 0)
        };
        let range = |part: &str| match part.split_once('-') {
            Some((low, high)) => Some(number(low)?..=number(high)?),
            None => number(part).map(|n| n..=n),
        };
        // One more than is allowed is enough to know, however long the text is.
        let ranges: Option<Vec<_>> = text.split(',').take(Self::MAX + 1).map(range).collect();
        Self::new(ranges?)
    }

    /// Sorts and joins `ranges`. `None` if there is none, too many, one is empty or holds port 0, or two overlap.
    pub fn new(mut ranges: Vec<RangeInclusive<u16>>) -> Option<PortRanges> {
        if ranges.is_empty() || ranges.len() > Self::MAX || ranges.iter().any(|r| r.is_empty() || *r.start() == 0) {
            return None;
        }
        ranges.sort_by_key(|r| *r.start());
        let mut joined: Vec<RangeInclusive<u16>> = Vec::new();
        for range in ranges {
            match joined.last_mut() {
                Some(last) if range.start() <= last.end() => return None,
                Some(last) if *range.start() == last.end() + 1 => *last = *last.start()..=*range.end(),
                _ => joined.push(range),
            }
        }
        Some(PortRanges(joined))
    }

    /// The ranges, ascending.
    pub fn ranges(&self) -> &[RangeInclusive<u16>] {
        &self.0
    }

    /// Whether `port` is among them.
    pub fn contains(&self, port: u16) -> bool {
        self.0.iter().any(|r| r.contains(&port))
    }
}

impl fmt::Display for PortRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, range) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            match (range.start(), range.end()) {
                (low, high) if low == high => write!(f, "{comma}{low}")?,
                (low, high) => write!(f, "{comma}{low}-{high}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices() {
        let device = |text| Device::parse(text).map(|d| d.to_string());
        assert_eq!(device("01:00.0").as_deref(), Some("0000:01:00.0"));
        assert_eq!(device("0000:AF:1F.7,k=v").as_deref(), Some("0000:af:1f.7,k=v"));
        for good in ["net_tap0,iface=np0", "net_ring1", "virtio_user0,path=/dev/vhost-net", "eth_af_xdp0,iface=a"] {
            assert_eq!(device(good).as_deref(), Some(good));
        }
        for bad in [
            "",
            "net_",
            "net_tap0,",
            "net_Tap0",
            "tap0",
            "net_tap0 ",
            "net_tap0,a b",
            "01:00.8",
            "01:20.0",
            "1:00.0",
            "0:0000:01:00.0",
        ] {
            assert_eq!(device(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn addresses_with_a_prefix() {
        for good in ["10.0.0.1/24", "10.0.0.0/31", "10.0.0.1/32", "172.16.0.1/1"] {
            assert_eq!(Ipv4Net::parse(good).map(|n| n.to_string()).as_deref(), Some(good));
        }
        for bad in [
            "10.0.0.1",
            "10.0.0.0/24",
            "10.0.0.255/24",
            "10.0.0.1/0",
            "10.0.0.1/33",
            "10.0.0.1/024",
            "10.0.0.1/+4",
            "127.0.0.1/8",
            "224.0.0.1/4",
            "0.0.0.1/8",
            "10.0.0.1/",
        ] {
            assert_eq!(Ipv4Net::parse(bad), None, "{bad:?}");
        }
        let net = Ipv4Net::parse("10.1.2.3/20").expect("a network");
        assert!(net.contains(Ipv4Addr::new(10, 1, 15, 255)) && !net.is_host(Ipv4Addr::new(10, 1, 15, 255)));
        assert!(!net.contains(Ipv4Addr::new(10, 1, 16, 0)));
    }

    proptest::proptest! {
        /// What is printed reads as the same, and whatever reads prints as what reads as the same.
        #[test]
        fn what_is_printed_is_parsed(bits in 0..=u32::MAX, len in 0..=32_u8, text in "[0-9./,-]{1,20}|[a-f0-9:.]{7,14}") {
            let ip = Ipv4Addr::from(bits & u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0));
            let prefix = Ipv4Prefix { ip, len };
            proptest::prop_assert_eq!(Ipv4Prefix::parse(&prefix.to_string()), Some(prefix));
            let again = |text: String| (Ipv4Prefix::parse(&text), Ipv4Net::parse(&text), PortRanges::parse(&text), Device::parse(&text));
            let (prefix, net, ports, device) = again(text);
            for printed in [prefix.map(|p| p.to_string()), net.map(|n| n.to_string())].into_iter().flatten() {
                let parsed = again(printed);
                proptest::prop_assert!(parsed.0 == prefix || parsed.1 == net);
            }
            if let Some(ports) = ports {
                proptest::prop_assert_eq!(PortRanges::parse(&ports.to_string()), Some(ports));
            }
            if let Some(device) = device {
                proptest::prop_assert_eq!(Device::parse(&device.to_string()), Some(device));
            }
        }

        #[test]
        fn port_lists_are_printed_and_parsed(ranges in proptest::collection::vec((1..=u16::MAX, 0..50_u16), 1..10)) {
            let ranges = ranges.into_iter().map(|(low, more)| low..=low.saturating_add(more)).collect();
            // `None`: some overlap.
            if let Some(ports) = PortRanges::new(ranges) {
                proptest::prop_assert_eq!(PortRanges::parse(&ports.to_string()), Some(ports));
            }
        }

        #[test]
        fn hosts_are_printed_and_parsed(bits in 0..=u32::MAX, prefix_len in 1..=32_u8) {
            let net = Ipv4Net { ip: bits.into(), prefix_len };
            let valid = is_unicast(net.ip) && net.is_host(net.ip);
            proptest::prop_assert_eq!(Ipv4Net::parse(&net.to_string()), valid.then_some(net));
        }
    }

    #[test]
    fn networks() {
        let parse = |text| Ipv4Prefix::parse(text).map(|p| p.to_string());
        for good in ["10.0.0.0/8", "0.0.0.0/0", "192.0.2.7/32", "10.128.0.0/9"] {
            assert_eq!(parse(good).as_deref(), Some(good));
        }
        assert_eq!(parse("192.0.2.7").as_deref(), Some("192.0.2.7/32"));
        for bad in ["", "/", "10.0.0.0/", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/08", "10.0.0.0/+8", "10.0.0/8", "::/0"]
        {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
        assert_eq!(Ipv4Prefix::set(&[]), PrefixSet::Any);
        let set = Ipv4Prefix::set(&["10.0.0.0/8", "192.0.2.7"].map(|text| Ipv4Prefix::parse(text).expect(text)));
        assert!(set.contains([10, 1, 2, 3].into()) && !set.contains([192, 0, 2, 8].into()));
    }

    #[test]
    fn port_lists() {
        let list = |text: &str| PortRanges::parse(text).map(|p| p.to_string());
        assert_eq!(list("6668-6670,514,6666,6667").as_deref(), Some("514,6666-6670"));
        assert_eq!(list("1-65535").as_deref(), Some("1-65535"));
        for bad in ["", "0", "65536", "514,", "514,514", "5-3", "1-5,5", "+5", " 5", "5-", "-5", "1-2-3", "0-5"] {
            assert_eq!(list(bad), None, "{bad:?}");
        }
        let many: Vec<_> = (1..=65).map(|n| (n * 2).to_string()).collect();
        assert_eq!(list(&many[..64].join(",")).map(|s| s.split(',').count()), Some(64));
        assert_eq!(list(&many.join(",")), None);
    }
}

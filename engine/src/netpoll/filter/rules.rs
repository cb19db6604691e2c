//! What the filter compares with.

use std::{net::Ipv4Addr, ops::RangeInclusive};

use super::PrefixSet;
use crate::wire::MacAddr;

/// What a queue's filter lets through. Built at set-up, read-only afterwards.
///
/// The default lets UDP through to a port without MAC, address or rx client: nothing, that is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilterRules {
    /// The port's MAC address.
    pub mac: MacAddr,
    /// Multicast MAC addresses to accept. Few: they are compared one by one.
    pub multicast: Vec<MacAddr>,
    /// The addresses of all clients of the port: ARP and ICMP echo are answered for them.
    pub addresses: AddressSet,
    /// The other end is a kernel on this machine, whose UDP checksums may be partial.
    pub kernel_backed: bool,
    /// Accept partial checksums (on kernel-backed ports; elsewhere they are always wrong).
    pub accept_partial: bool,
    /// Whether there is an rx client; what follows is its own, and an unset address matches anything.
    pub rx_client: bool,
    /// Only datagrams to this address.
    pub local_ip: Option<Ipv4Addr>,
    /// Only datagrams from this address.
    pub remote_ip: Option<Ipv4Addr>,
    /// Only datagrams from these prefixes.
    pub allow: PrefixSet,
    /// Only datagrams to these ports.
    pub local_ports: PortSet,
}

/// A set of addresses, made with `collect()`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressSet(Box<[Ipv4Addr]>);

impl AddressSet {
    /// Whether it holds `ip`; O(log n).
    #[inline]
    pub fn contains(&self, ip: Ipv4Addr) -> bool {
        self.0.binary_search(&ip).is_ok()
    }

    /// The addresses, ascending, each once.
    pub fn as_slice(&self) -> &[Ipv4Addr] {
        &self.0
    }
}

impl FromIterator<Ipv4Addr> for AddressSet {
    fn from_iter<I: IntoIterator<Item = Ipv4Addr>>(addresses: I) -> Self {
        let mut sorted: Vec<_> = addresses.into_iter().collect();
        sorted.sort_unstable();
        sorted.dedup();
        Self(sorted.into())
    }
}

/// A set of UDP ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PortSet {
    /// Every port.
    #[default]
    Any,
    /// One port.
    One(u16),
    /// Bit `p % 64` of word `p / 64` stands for port `p`.
    Bitmap(Box<[u64; 1024]>),
}

impl PortSet {
    /// Whether it holds `port`.
    #[inline]
    pub fn contains(&self, port: u16) -> bool {
        match self {
            PortSet::Any => true,
            PortSet::One(one) => *one == port,
            PortSet::Bitmap(words) => words[usize::from(port >> 6)] >> (port & 63) & 1 != 0,
        }
    }
}

impl From<u16> for PortSet {
    fn from(port: u16) -> Self {
        PortSet::One(port)
    }
}

/// Ranges may overlap. No ranges give the empty set, one range of one port [`PortSet::One`].
impl FromIterator<RangeInclusive<u16>> for PortSet {
    fn from_iter<I: IntoIterator<Item = RangeInclusive<u16>>>(ranges: I) -> Self {
        let mut words = Box::new([0u64; 1024]);
        for port in ranges.into_iter().flatten() {
            words[usize::from(port >> 6)] |= 1 << (port & 63);
        }
        if words.iter().map(|w| w.count_ones()).sum::<u32>() == 1 {
            let at = words.iter().position(|&w| w != 0).unwrap_or_default();
            return PortSet::One((at * 64) as u16 + words[at].trailing_zeros() as u16);
        }
        PortSet::Bitmap(words)
    }
}

impl FromIterator<u16> for PortSet {
    fn from_iter<I: IntoIterator<Item = u16>>(ports: I) -> Self {
        ports.into_iter().map(|port| port..=port).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn port_set_is_its_ranges(ranges in proptest::collection::vec((any::<u16>(), any::<u16>()), 0..4), port: u16) {
            let set: PortSet = ranges.iter().map(|&(a, b)| a..=b).collect();
            for port in ranges.iter().flat_map(|&(a, b)| [a, b]).chain([port, 0, u16::MAX]) {
                prop_assert_eq!(set.contains(port), ranges.iter().any(|&(a, b)| (a..=b).contains(&port)));
            }
        }

        #[test]
        fn one_port(port: u16, other: u16) {
            let set: PortSet = [port, port].into_iter().collect();
            prop_assert_eq!(&set, &PortSet::One(port));
            prop_assert_eq!(set.contains(other), port == other);
            prop_assert!(PortSet::Any.contains(other));
        }

        #[test]
        fn address_set(addresses in proptest::collection::vec(any::<[u8; 4]>(), 0..20), other: [u8; 4]) {
            let set: AddressSet = addresses.iter().copied().map(Ipv4Addr::from).collect();
            for ip in addresses.iter().chain([&other]) {
                prop_assert_eq!(set.contains(Ipv4Addr::from(*ip)), addresses.contains(ip));
            }
        }
    }
}

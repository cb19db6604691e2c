//! netpoll_rx: what a received frame is, decided by one pure function.
//!
//! [`classify`] looks at a frame and says what is to be done with it: hand it to the rx hook, answer it (ARP, ICMP
//! echo), or count it under its one [`Reason`]. The order of the checks is the protocol's: a frame with two faults
//! counts under the outer one, and what is wrong is told before what is merely not for us.
//!
//! Two ways lead to the same verdict. `Common::datagram` decides the frame that a log receiver gets nearly always,
//! Ethernet without a tag, IPv4 without options, whole UDP to the rx client, by one word and one vector that are
//! made of the rules beforehand; whatever it does not let through goes to `careful`, which makes every check by
//! itself. Nothing is accepted by the first that the second refuses, and the other way round: a property test holds them
//! together.
//!
//! Choices that the protocols leave open:
//! - A source MAC with the group bit is refused (IEEE 802.3, 3.2.3 has none), since answers would go to many.
//!   All zeros is let through: that is what the loopback device has.
//! - Source addresses that cannot be a host's are refused, as RFC 1122, 3.2.1.3 demands:
//!   [`ipv4::is_valid_source`]. The destination address is only compared where the rx client names one.
//! - A UDP checksum field of 0 is accepted whatever the NIC says of it: some report it as wrong.
//! - A NIC's `Bad` for a UDP checksum is believed, but on kernel-backed ports software looks again, because a
//!   partial one is `Bad` to the device's own check. A `Good` is always believed; devices say it for partial
//!   ones too, and these are then not counted as such.
//! - ICMP echo is answered only where frame and packet are addressed to us alone, so that nobody can make many
//!   hosts answer at once; a request with IP options is not answered.
//!
//! Limits: tagged frames, IPv6 and fragments are counted, not looked into.

mod common;
mod prefixes;
mod reason;
mod rules;
mod verdict;

use std::net::{IpAddr, Ipv4Addr};

pub use prefixes::PrefixSet;
pub use reason::Reason;
pub use rules::{AddressSet, FilterRules, PortSet};
pub use verdict::{ArpMeta, EchoMeta, UdpMeta, Verdict};

use common::Common;

use crate::{
    netpoll::hook::Datagram,
    port::{ChecksumVerdict, MAX_FRAME_LEN},
    wire::{
        MacAddr,
        arp::Arp,
        checksum,
        ethernet::{self, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet},
        icmp::EchoRequest,
        ipv4::{self, Ipv4},
        udp::{self, Checked, Udp},
        vlan,
    },
};

/// Says what `frame` is. `contiguous` says whether it is all of it, the verdicts are the NIC's.
///
/// Pure: any thread, time bounded by the length of the frame. It computes a [`Filter`] from a copy of the rules each time:
/// for more than a few frames keep one.
pub fn classify(
    frame: &[u8],
    contiguous: bool,
    ip_verdict: ChecksumVerdict,
    udp_verdict: ChecksumVerdict,
    rules: &FilterRules,
) -> Verdict {
    Filter::new(rules.clone()).classify(frame, contiguous, ip_verdict, udp_verdict)
}

/// A queue's filter: the rules, and the common frame that they make, computed once.
#[derive(Debug)]
pub struct Filter {
    rules: FilterRules,
    common: Common,
}

impl Filter {
    /// The filter by these rules.
    pub fn new(rules: FilterRules) -> Self {
        Self { common: Common::of(&rules), rules }
    }

    pub(crate) fn rules(&self) -> &FilterRules {
        &self.rules
    }

    pub(crate) fn change(&mut self, change: impl FnOnce(&mut FilterRules)) {
        change(&mut self.rules);
        self.common = Common::of(&self.rules);
    }

    /// As [`classify`] by its rules; no allocation.
    #[inline]
    pub fn classify(
        &self,
        frame: &[u8],
        contiguous: bool,
        ip_verdict: ChecksumVerdict,
        udp_verdict: ChecksumVerdict,
    ) -> Verdict {
        let verdicts = (ip_verdict, udp_verdict);
        let may_be = frame.len() <= MAX_FRAME_LEN;
        match may_be.then(|| self.common.datagram::<checksum::Any>(frame, contiguous, verdicts)).flatten() {
            Some(meta) if self.lists(&meta.datagram(frame)) => Verdict::Udp(meta),
            _ => careful(frame, contiguous, ip_verdict, udp_verdict, &self.rules).unwrap_or_else(Verdict::Unmatched),
        }
    }

    /// The common frame, to be kept in registers through a burst.
    pub(crate) fn common(&self) -> Common {
        self.common.clone()
    }

    /// Whether there are lists that [`Common::datagram`] does not look at.
    pub(crate) fn has_lists(&self) -> bool {
        self.rules.allow != PrefixSet::Any || matches!(self.rules.local_ports, PortSet::Bitmap(_))
    }

    /// Whether the lists let this datagram in, over IPv4.
    pub(crate) fn lists(&self, datagram: &Datagram<'_>) -> bool {
        let IpAddr::V4(src) = datagram.src_ip() else { return false };
        self.rules.allow.contains(src) && self.rules.local_ports.contains(datagram.dst_port())
    }
}

/// Every check, one by one, in order.
#[cold]
#[inline(never)]
fn careful(
    frame: &[u8],
    contiguous: bool,
    ip_verdict: ChecksumVerdict,
    udp_verdict: ChecksumVerdict,
    rules: &FilterRules,
) -> Result<Verdict, Reason> {
    let eth = Ethernet::parse(frame).ok_or(Reason::TooShort)?;
    if !contiguous {
        return Err(Reason::Segmented);
    }
    if eth.dst != rules.mac && eth.dst != MacAddr::BROADCAST && !rules.multicast.contains(&eth.dst) {
        return Err(Reason::OtherHost);
    }
    if eth.src.is_multicast() {
        return Err(Reason::SourceMac);
    }
    if vlan::is_tag(eth.ethertype) {
        return Err(Reason::Vlan);
    }
    let (at, vlan) = (ethernet::HEADER_LEN, None);
    let l3 = L3 { eth, vlan, at, bytes: &frame[at..] };
    match eth.ethertype {
        ETHERTYPE_ARP => l3.arp(rules),
        ETHERTYPE_IPV4 => l3.ipv4(ip_verdict, udp_verdict, rules),
        ETHERTYPE_IPV6 => Err(Reason::Ipv6),
        _ => Err(Reason::NotIp),
    }
}

/// What the Ethernet header and its tags enclose.
struct L3<'a> {
    eth: Ethernet,
    vlan: Option<u16>,
    /// Offset in the frame.
    at: usize,
    /// From there to the end of the frame.
    bytes: &'a [u8],
}

impl L3<'_> {
    fn arp(&self, rules: &FilterRules) -> Result<Verdict, Reason> {
        let arp = Arp::parse(self.bytes)?;
        if rules.addresses.contains(arp.sender_ip) {
            return Err(Reason::ArpConflict);
        }
        if !rules.addresses.contains(arp.target_ip) {
            return Err(Reason::ArpNotOurs);
        }
        Ok(Verdict::Arp(ArpMeta { at: self.at as u16, vlan: self.vlan, arp }))
    }

    fn ipv4(&self, ip: ChecksumVerdict, udp: ChecksumVerdict, rules: &FilterRules) -> Result<Verdict, Reason> {
        let header = Ipv4::parse(
            self.bytes,
            match ip {
                ChecksumVerdict::Unknown => None,
                ChecksumVerdict::Good => Some(true),
                ChecksumVerdict::Bad => Some(false),
            },
        )?;
        if !ipv4::is_valid_source(header.src, header.dst) {
            return Err(Reason::IpSource);
        }
        if header.is_fragment() {
            return Err(Reason::IpFragment);
        }
        let payload = &self.bytes[usize::from(header.header_len)..usize::from(header.total_len)];
        match header.protocol {
            ipv4::PROTOCOL_UDP => self.udp(&header, payload, udp, rules),
            ipv4::PROTOCOL_ICMP => self.icmp(&header, payload, rules),
            _ => Err(Reason::NotUdp),
        }
    }

    fn icmp(&self, header: &Ipv4, message: &[u8], rules: &FilterRules) -> Result<Verdict, Reason> {
        EchoRequest::parse(message)?;
        if usize::from(header.header_len) != ipv4::HEADER_LEN {
            return Err(Reason::IcmpOther);
        }
        if self.eth.dst != rules.mac || !rules.addresses.contains(header.dst) {
            return Err(Reason::IcmpNotOurs);
        }
        Ok(Verdict::IcmpEcho(EchoMeta { ip_at: self.at as u16, src_ip: header.src }))
    }

    fn udp(
        &self,
        header: &Ipv4,
        datagram: &[u8],
        verdict: ChecksumVerdict,
        rules: &FilterRules,
    ) -> Result<Verdict, Reason> {
        let udp = Udp::parse(datagram)?;
        let partial = udp_checksum(udp.checksum, datagram, header.src, header.dst, verdict, rules)?;
        if !rules.rx_client {
            return Err(Reason::NoRxClient);
        }
        if rules.local_ip.is_some_and(|ip| ip != header.dst) {
            return Err(Reason::NotLocalIp);
        }
        if rules.remote_ip.is_some_and(|ip| ip != header.src) {
            return Err(Reason::NotRemoteIp);
        }
        if !rules.allow.contains(header.src) {
            return Err(Reason::NotAllowed);
        }
        if !rules.local_ports.contains(udp.dst_port) {
            return Err(Reason::NotLocalPort);
        }
        Ok(Verdict::Udp(UdpMeta {
            ip_at: self.at as u16,
            vlan: self.vlan,
            partial,
            payload_at: (self.at + usize::from(header.header_len) + udp::HEADER_LEN) as u16,
            payload_len: (datagram.len() - udp::HEADER_LEN) as u16,
        }))
    }
}

/// Whether the datagram's checksum lets it through, and if so, whether it is partial.
fn udp_checksum(
    field: [u8; 2],
    datagram: &[u8],
    src: Ipv4Addr,
    dst: Ipv4Addr,
    verdict: ChecksumVerdict,
    rules: &FilterRules,
) -> Result<bool, Reason> {
    if field == [0, 0] || verdict == ChecksumVerdict::Good {
        return Ok(false);
    }
    if verdict == ChecksumVerdict::Bad && !rules.kernel_backed {
        return Err(Reason::UdpChecksum);
    }
    match udp::check(datagram, src, dst) {
        Checked::Good | Checked::Absent => Ok(false),
        Checked::Partial if rules.kernel_backed && rules.accept_partial => Ok(true),
        Checked::Partial if rules.kernel_backed => Err(Reason::UdpPartialRefused),
        Checked::Partial | Checked::Bad => Err(Reason::UdpChecksum),
    }
}

#[cfg(test)]
mod bad_frames;
#[cfg(test)]
mod kernel_frames;
#[cfg(test)]
mod tests;

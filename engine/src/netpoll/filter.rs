//! netpoll_rx: what a received frame is, decided by one pure function.
//!
//! [`classify`] looks at a frame and says what is to be done with it: hand it to the rx hook, answer it (ARP, ICMP
//! echo), or count it under its one [`Reason`]. The order of the checks is the protocol's: a frame with two faults
//! counts under the outer one, and what is wrong is told before what is merely not for us.
//!
//! Two ways lead to the same verdict. `common` decides the frame that a log receiver gets nearly always,
//! Ethernet without a tag, IPv4 without options, whole UDP, by a few wide loads and compares; whatever it does
//! not let through goes to `careful`, which makes every check by itself. Nothing is accepted by the first that
//! the second refuses, and the other way round: a property test holds them together.
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

mod prefixes;
mod reason;
mod rules;
mod verdict;

use std::net::Ipv4Addr;

pub use prefixes::PrefixSet;
pub use reason::Reason;
pub use rules::{AddressSet, FilterRules, PortSet};
pub use verdict::{ArpMeta, EchoMeta, UdpMeta, Verdict};

use crate::{
    port::ChecksumVerdict,
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
/// Pure: any thread, no allocation, time bounded by the length of the frame.
// Always inlined: 7 ns a frame with its datagram stored, against 12 (the verdict then goes through memory).
#[inline(always)]
pub fn classify(
    frame: &[u8],
    contiguous: bool,
    ip_verdict: ChecksumVerdict,
    udp_verdict: ChecksumVerdict,
    rules: &FilterRules,
) -> Verdict {
    match common(frame, contiguous, ip_verdict, udp_verdict, rules) {
        Some(meta) => Verdict::Udp(meta),
        None => careful(frame, contiguous, ip_verdict, udp_verdict, rules).unwrap_or_else(Verdict::Unmatched),
    }
}

/// Bytes of the headers of the common frame.
const COMMON_LEN: usize = ethernet::HEADER_LEN + ipv4::HEADER_LEN + udp::HEADER_LEN;

/// The common frame, if this is one and it is for the hook; `None` says nothing at all: [`classify`] does.
#[inline(always)]
pub(crate) fn common(
    frame: &[u8],
    contiguous: bool,
    ip_verdict: ChecksumVerdict,
    udp_verdict: ChecksumVerdict,
    rules: &FilterRules,
) -> Option<UdpMeta> {
    let h = frame.first_chunk::<COMMON_LEN>()?;
    // The headers in words as they lie in memory: compared through masks, and summed, without another load.
    let dst = word(h, 0) & MAC_MASK;
    let (src_and_type, ip_1, ip_2) = (word(h, 6), word(h, 14), word(h, 22));
    let src_ip: [u8; 4] = bytes(h, 26);
    let dst_ip: [u8; 4] = bytes(h, 30);
    let total_len = usize::from(be16(h, 16));
    // All of these nearly always hold, so they are joined without a branch for each.
    let differs =
        ((src_and_type & SRC_MASK) ^ SRC_USUAL) | ((ip_1 & IP_1_MASK) ^ IP_1_USUAL) | ((ip_2 & IP_2_MASK) ^ IP_2_USUAL);
    let usual = contiguous
        & rules.rx_client
        & ((dst == mac_word(rules.mac)) | (dst == MAC_MASK))
        & (differs == 0)
        & (total_len >= ipv4::HEADER_LEN + udp::HEADER_LEN)
        & (total_len <= frame.len() - ethernet::HEADER_LEN)
        & (usize::from(be16(h, 38)) + ipv4::HEADER_LEN == total_len)
        // The sources that need no second look: 1.0.0.0 to 223.255.255.255 without 127.0.0.0/8.
        & (src_ip[0].wrapping_sub(1) < 223)
        & (src_ip[0] != 127);
    if !usual {
        return None;
    }
    let header_good = match ip_verdict {
        ChecksumVerdict::Good => true,
        ChecksumVerdict::Unknown => {
            checksum::is_valid(halves(ip_1) + halves(ip_2) + u64::from(u32::from_ne_bytes(dst_ip)))
        }
        ChecksumVerdict::Bad => false,
    };
    let (src_ip, dst_ip, dst_port) = (Ipv4Addr::from(src_ip), Ipv4Addr::from(dst_ip), be16(h, 36));
    if !header_good || !wanted(src_ip, dst_ip, dst_port, rules) {
        return None;
    }
    let end = ethernet::HEADER_LEN + total_len;
    let field: [u8; 2] = bytes(h, 40);
    let mut partial = false;
    if field != [0, 0] && udp_verdict != ChecksumVerdict::Good {
        // The addresses lie right before the datagram, so one sum takes in the better part of the pseudo-header.
        let udp_len = (total_len - ipv4::HEADER_LEN) as u16;
        let rest_of_pseudo = checksum::word(u16::from(ipv4::PROTOCOL_UDP)) + checksum::word(udp_len);
        let good = udp_verdict == ChecksumVerdict::Unknown
            && checksum::is_valid(checksum::sum(&frame[26..end]) + rest_of_pseudo);
        if !good {
            partial = udp_checksum(field, &frame[34..end], src_ip, dst_ip, udp_verdict, rules).ok()?;
        }
    }
    Some(UdpMeta {
        src_mac: MacAddr(bytes(h, 6)),
        src_ip,
        dst_ip,
        src_port: be16(h, 34),
        dst_port,
        vlan: None,
        partial,
        payload_at: COMMON_LEN as u16,
        payload_len: (total_len - ipv4::HEADER_LEN - udp::HEADER_LEN) as u16,
    })
}

/// The first six bytes of a word.
const MAC_MASK: u64 = u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]);
/// Group bit of the source and EtherType: no group, IPv4.
const SRC_MASK: u64 = u64::from_ne_bytes([1, 0, 0, 0, 0, 0, 0xff, 0xff]);
const SRC_USUAL: u64 = u64::from_ne_bytes([0, 0, 0, 0, 0, 0, 8, 0]);
/// Version, header length; more fragments, offset: version 4, 5 words, no fragment.
const IP_1_MASK: u64 = u64::from_ne_bytes([0xff, 0, 0, 0, 0, 0, 0x3f, 0xff]);
const IP_1_USUAL: u64 = u64::from_ne_bytes([0x45, 0, 0, 0, 0, 0, 0, 0]);
/// Protocol: UDP.
const IP_2_MASK: u64 = u64::from_ne_bytes([0, 0xff, 0, 0, 0, 0, 0, 0]);
const IP_2_USUAL: u64 = u64::from_ne_bytes([0, ipv4::PROTOCOL_UDP, 0, 0, 0, 0, 0, 0]);

/// Eight bytes of the common headers as they lie in memory.
#[inline]
fn word(h: &[u8; COMMON_LEN], at: usize) -> u64 {
    u64::from_ne_bytes(bytes(h, at))
}

/// A MAC address as the first six bytes of a word.
#[inline]
fn mac_word(mac: MacAddr) -> u64 {
    let [a, b, c, d, e, f] = mac.0;
    u64::from_ne_bytes([a, b, c, d, e, f, 0, 0])
}

/// A word as a part of a checksum's sum.
#[inline]
const fn halves(word: u64) -> u64 {
    (word & 0xffff_ffff) + (word >> 32)
}

/// Step 7 as a yes or no.
#[inline]
fn wanted(src_ip: Ipv4Addr, dst_ip: Ipv4Addr, dst_port: u16, rules: &FilterRules) -> bool {
    rules.local_ip.is_none_or(|ip| ip == dst_ip)
        && rules.remote_ip.is_none_or(|ip| ip == src_ip)
        && rules.allow.contains(src_ip)
        && rules.local_ports.contains(dst_port)
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
            src_mac: self.eth.src,
            src_ip: header.src,
            dst_ip: header.dst,
            src_port: udp.src_port,
            dst_port: udp.dst_port,
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

/// `N` bytes of the common headers; `at` is always a constant, so there is nothing left to check at run time. (As one
/// chunk, for one load: put together byte by byte they are loaded in pieces.)
#[inline(always)]
fn bytes<const N: usize>(h: &[u8; COMMON_LEN], at: usize) -> [u8; N] {
    *h[at..].first_chunk().expect("inside the headers")
}

#[inline]
fn be16(h: &[u8; COMMON_LEN], at: usize) -> u16 {
    u16::from_be_bytes(bytes(h, at))
}

#[cfg(test)]
mod bad_frames;
#[cfg(test)]
mod kernel_frames;
#[cfg(test)]
mod tests;

//! One frame or more for every [`Reason`], built byte by byte and with nothing of `wire/`, so that a mistake
//! there cannot hide here.
//!
//! Tests only. Other tests and tools include this file by its path; `Reason` must be in scope in the including
//! module.
//!
//! Every frame has exactly one fault: all lengths and checksums but the faulty one are right. They are meant
//! for a port with [`US_MAC`] and the one address [`US_IP`], whose rx client takes [`PORT`] at [`US_IP`] from
//! [`PEER_IP`], which is kernel-backed and refuses partial checksums, and has no verdicts from a NIC. Two
//! reasons are not in the bytes, so their frame is [`good_frame`]: `Segmented` (the buffer's shape) and
//! `NoRxClient` (the port's state). And `NotAllowed` is for an rx client that takes what comes from the 31 bit
//! prefix of [`PEER_IP`], not from that address alone.

// An including file may need only a part.
#![allow(dead_code)]

use super::Reason;

/// The port's MAC address.
pub const US_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
/// Its peer's.
pub const PEER_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];
/// The port's address.
pub const US_IP: [u8; 4] = [10, 0, 0, 1];
/// Its peer's.
pub const PEER_IP: [u8; 4] = [10, 0, 0, 2];
/// The rx client's port.
pub const PORT: u16 = 6666;
/// What [`good_frame`] carries.
pub const PAYLOAD: &[u8] = b"netpoll: a line";

const ETH: usize = 14;
const IP: usize = ETH + 20;

/// A datagram that nothing is wrong with.
pub fn good_frame() -> Vec<u8> {
    frame(US_MAC, 0x0800, &packet(PEER_IP, US_IP, 17, &datagram(PEER_IP, US_IP, PORT, PAYLOAD)))
}

/// An ARP request for [`US_IP`] that nothing is wrong with.
pub fn good_arp() -> Vec<u8> {
    let mut body = vec![0, 1, 8, 0, 6, 4, 0, 1];
    body.extend(PEER_MAC.iter().chain(&PEER_IP).chain(&[0; 6]).chain(&US_IP));
    frame([0xff; 6], 0x0806, &body)
}

/// An ICMP echo request to [`US_IP`] that nothing is wrong with.
pub fn good_echo() -> Vec<u8> {
    frame(US_MAC, 0x0800, &packet(PEER_IP, US_IP, 1, &icmp(8, 0)))
}

/// Each reason at least once.
pub fn bad_frames() -> Vec<(Reason, Vec<u8>)> {
    let mut all = vec![
        (Reason::TooShort, vec![]),
        (Reason::TooShort, good_frame()[..13].to_vec()),
        (Reason::Segmented, good_frame()),
        (Reason::NoRxClient, good_frame()),
    ];
    all.extend(bad_ethernet());
    all.extend(bad_arp());
    all.extend(bad_ipv4());
    all.extend(bad_icmp());
    all.extend(bad_udp());
    all
}

fn bad_ethernet() -> Vec<(Reason, Vec<u8>)> {
    let good = good_frame();
    let mut tagged = good[..12].to_vec();
    tagged.extend([0x81, 0x00, 0x00, 0x64]);
    tagged.extend(&good[12..]);
    let mut double = good[..12].to_vec();
    double.extend([0x88, 0xa8, 0x00, 0x64, 0x81, 0x00, 0x00, 0x65]);
    double.extend(&good[12..]);
    let ipv6: Vec<u8> = [&[0x60, 0, 0, 0, 0, 0, 59, 64][..], &[0xfe; 32]].concat();
    vec![
        (Reason::OtherHost, patch(&good, 0, &[0x02, 0, 0, 0, 0, 0x03])),
        (Reason::OtherHost, patch(&good, 0, &[0x01, 0, 0x5e, 0, 0, 1])),
        (Reason::SourceMac, patch(&good, 6, &[0x03])),
        (Reason::SourceMac, patch(&good, 6, &[0xff; 6])),
        (Reason::Vlan, tagged),
        (Reason::Vlan, double),
        (Reason::Ipv6, frame(US_MAC, 0x86dd, &ipv6)),
        // A spanning tree frame (802.3 length and LLC), LLDP, and no body at all.
        (Reason::NotIp, frame(US_MAC, 0x0026, &[[0x42, 0x42, 0x03].as_slice(), &[0; 35]].concat())),
        (Reason::NotIp, frame(US_MAC, 0x88cc, &[0; 46])),
        (Reason::NotIp, frame(US_MAC, 0x0000, &[])),
    ]
}

fn bad_arp() -> Vec<(Reason, Vec<u8>)> {
    let good = good_arp();
    let arp = |at: usize, bytes: &[u8]| patch(&good, ETH + at, bytes);
    let mut gratuitous = arp(14, &US_IP);
    gratuitous[ETH + 8..ETH + 14].copy_from_slice(&PEER_MAC);
    vec![
        (Reason::ArpShort, good[..ETH + 27].to_vec()),
        (Reason::ArpShort, good[..ETH].to_vec()),
        (Reason::ArpHardware, arp(0, &[0, 6])),
        (Reason::ArpProtocol, arp(2, &[0x86, 0xdd])),
        (Reason::ArpLengths, arp(4, &[8])),
        (Reason::ArpLengths, arp(5, &[16])),
        (Reason::ArpOperation, arp(6, &[0, 0])),
        // Reverse ARP.
        (Reason::ArpOperation, arp(6, &[0, 3])),
        (Reason::ArpSenderMac, arp(8, &[0xff; 6])),
        (Reason::ArpSenderMac, arp(8, &[0; 6])),
        (Reason::ArpSenderIp, arp(14, &[255; 4])),
        (Reason::ArpSenderIp, arp(14, &[127, 0, 0, 1])),
        (Reason::ArpSenderIp, arp(14, &[224, 0, 0, 1])),
        // A reply from nobody; as a request it would be a probe.
        (Reason::ArpSenderIp, patch(&arp(6, &[0, 2]), ETH + 14, &[0; 4])),
        (Reason::ArpTargetIp, arp(24, &[127, 0, 0, 1])),
        (Reason::ArpTargetIp, arp(24, &[239, 1, 2, 3])),
        (Reason::ArpConflict, gratuitous),
        (Reason::ArpNotOurs, arp(24, &[10, 0, 0, 3])),
    ]
}

fn bad_ipv4() -> Vec<(Reason, Vec<u8>)> {
    let good = good_frame();
    // A change in the IPv4 header, its checksum made right again (over 20 bytes).
    let ip = |at: usize, bytes: &[u8]| fix_ip(patch(&good, ETH + at, bytes));
    let short_by = |count: usize| good[..good.len() - count].to_vec();
    vec![
        (Reason::IpShort, good[..ETH + 19].to_vec()),
        (Reason::IpShort, good[..ETH].to_vec()),
        (Reason::IpVersion, ip(0, &[0x65])),
        (Reason::IpVersion, ip(0, &[0x05])),
        (Reason::IpIhl, ip(0, &[0x44])),
        (Reason::IpIhl, ip(0, &[0x40])),
        (Reason::IpHeaderCut, ip(0, &[0x4f])),
        (Reason::IpChecksum, patch(&good, ETH + 10, &[!good[ETH + 10]])),
        (Reason::IpChecksum, patch(&good, ETH + 8, &[63])),
        (Reason::IpTotalLength, ip(2, &[0, 19])),
        (Reason::IpTotalLength, ip(2, &[0, 0])),
        (Reason::IpTruncated, short_by(1)),
        (Reason::IpTruncated, ip(2, &[0xff, 0xff])),
        (Reason::IpSource, from([224, 0, 0, 1])),
        (Reason::IpSource, from([127, 0, 0, 1])),
        (Reason::IpSource, from([255; 4])),
        (Reason::IpSource, from([0; 4])),
        // The first fragment, one in the middle, the last.
        (Reason::IpFragment, ip(6, &[0x20, 0])),
        (Reason::IpFragment, ip(6, &[0x20, 1])),
        (Reason::IpFragment, ip(6, &[0x1f, 0xff])),
        // TCP, and IPv6 in IPv4.
        (Reason::NotUdp, frame(US_MAC, 0x0800, &packet(PEER_IP, US_IP, 6, &[0; 20]))),
        (Reason::NotUdp, frame(US_MAC, 0x0800, &packet(PEER_IP, US_IP, 41, &[0; 40]))),
    ]
}

fn bad_icmp() -> Vec<(Reason, Vec<u8>)> {
    let with = |message: &[u8]| frame(US_MAC, 0x0800, &packet(PEER_IP, US_IP, 1, message));
    let good = icmp(8, 0);
    let to_others = packet(PEER_IP, [10, 0, 0, 255], 1, &good);
    vec![
        (Reason::IcmpShort, with(&good[..7])),
        (Reason::IcmpShort, with(&[])),
        (Reason::IcmpChecksum, with(&patch(&good, 9, &[!good[9]]))),
        (Reason::IcmpOther, with(&icmp(3, 3))),
        (Reason::IcmpOther, with(&icmp(8, 1))),
        (Reason::IcmpOther, with(&icmp(0, 0))),
        // With options: a router alert.
        (Reason::IcmpOther, frame(US_MAC, 0x0800, &packet_with(&[0x94, 4, 0, 0], PEER_IP, US_IP, 1, &good))),
        (Reason::IcmpNotOurs, frame(US_MAC, 0x0800, &to_others)),
        (Reason::IcmpNotOurs, frame([0xff; 6], 0x0800, &packet(PEER_IP, US_IP, 1, &good))),
    ]
}

fn bad_udp() -> Vec<(Reason, Vec<u8>)> {
    let good = good_frame();
    let with = |datagram: &[u8]| frame(US_MAC, 0x0800, &packet(PEER_IP, US_IP, 17, datagram));
    let fine = datagram(PEER_IP, US_IP, PORT, PAYLOAD);
    let len = fine.len() as u16;
    // The length changed, in the pseudo-header too, so that only the length is wrong.
    let length = |len: u16| {
        let mut bytes = patch(&fine, 4, &len.to_be_bytes());
        bytes[6..8].fill(0);
        let checksum = internet_checksum(&[&pseudo_header(PEER_IP, US_IP, len)[..], &bytes].concat());
        patch(&bytes, 6, &checksum.to_be_bytes())
    };
    // What the Linux kernel leaves for the NIC: the pseudo-header's sum itself.
    let partial = (!internet_checksum(&pseudo_header(PEER_IP, US_IP, len))).to_be_bytes();
    // Too short for a header, though it says so itself, and padding makes up a whole one without a checksum.
    let short = |len: u8| [with(&[&fine[..5], &[len], &[0; 2][..usize::from(len) - 6]].concat()), vec![0; 20]].concat();
    vec![
        (Reason::UdpShort, short(6)),
        (Reason::UdpShort, short(7)),
        (Reason::UdpShort, with(&fine[..7])),
        (Reason::UdpShort, with(&[])),
        (Reason::UdpLength, with(&length(len - 1))),
        (Reason::UdpLength, with(&length(len + 1))),
        (Reason::UdpLength, with(&length(7))),
        (Reason::UdpLength, with(&length(0))),
        (Reason::UdpChecksum, patch(&good, good.len() - 1, &[!good[good.len() - 1]])),
        (Reason::UdpChecksum, patch(&good, IP + 6, &[!good[IP + 6]])),
        (Reason::UdpPartialRefused, with(&patch(&fine, 6, &partial))),
        (Reason::NotLocalIp, to([10, 0, 0, 3], PORT)),
        (Reason::NotLocalIp, to([255; 4], PORT)),
        (Reason::NotRemoteIp, from([10, 0, 0, 3])),
        (Reason::NotAllowed, from([10, 0, 0, 1])),
        (Reason::NotAllowed, from([10, 0, 0, 4])),
        (Reason::NotLocalPort, to(US_IP, PORT + 1)),
        (Reason::NotLocalPort, to(US_IP, 0)),
    ]
}

/// A right datagram from another source.
fn from(src: [u8; 4]) -> Vec<u8> {
    frame(US_MAC, 0x0800, &packet(src, US_IP, 17, &datagram(src, US_IP, PORT, PAYLOAD)))
}

/// A right datagram to somewhere else.
fn to(dst: [u8; 4], port: u16) -> Vec<u8> {
    frame(US_MAC, 0x0800, &packet(PEER_IP, dst, 17, &datagram(PEER_IP, dst, port, PAYLOAD)))
}

/// An Ethernet frame from [`PEER_MAC`], without padding.
pub fn frame(dst: [u8; 6], ethertype: u16, body: &[u8]) -> Vec<u8> {
    [&dst[..], &PEER_MAC, &ethertype.to_be_bytes(), body].concat()
}

/// An IPv4 packet without options.
pub fn packet(src: [u8; 4], dst: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
    packet_with(&[], src, dst, protocol, payload)
}

/// An IPv4 packet with options, a multiple of 4 bytes.
pub fn packet_with(options: &[u8], src: [u8; 4], dst: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let header_len = 20 + options.len();
    let total_len = ((header_len + payload.len()) as u16).to_be_bytes();
    let mut bytes = vec![0x40 | (header_len / 4) as u8, 0, total_len[0], total_len[1], 0x12, 0x34, 0, 0];
    bytes.extend([64, protocol, 0, 0]);
    bytes.extend(src.iter().chain(&dst).chain(options));
    let checksum = internet_checksum(&bytes).to_be_bytes();
    bytes[10..12].copy_from_slice(&checksum);
    bytes.extend(payload);
    bytes
}

/// A UDP datagram from port 6665.
pub fn datagram(src: [u8; 4], dst: [u8; 4], port: u16, payload: &[u8]) -> Vec<u8> {
    let len = (8 + payload.len()) as u16;
    let mut bytes = [&6665u16.to_be_bytes()[..], &port.to_be_bytes(), &len.to_be_bytes(), &[0, 0], payload].concat();
    let checksum = match internet_checksum(&[&pseudo_header(src, dst, len)[..], &bytes].concat()) {
        0 => 0xffff,
        other => other,
    };
    bytes[6..8].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

fn pseudo_header(src: [u8; 4], dst: [u8; 4], len: u16) -> Vec<u8> {
    [&src[..], &dst, &[0, 17], &len.to_be_bytes()].concat()
}

fn icmp(kind: u8, code: u8) -> Vec<u8> {
    let mut bytes = [&[kind, code, 0, 0, 0x12, 0x34, 0, 1][..], b"abcdefgh"].concat();
    let checksum = internet_checksum(&bytes).to_be_bytes();
    bytes[2..4].copy_from_slice(&checksum);
    bytes
}

fn patch(bytes: &[u8], at: usize, new: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at..at + new.len()].copy_from_slice(new);
    bytes
}

fn fix_ip(mut frame: Vec<u8>) -> Vec<u8> {
    frame[ETH + 10..ETH + 12].fill(0);
    let checksum = internet_checksum(&frame[ETH..IP]).to_be_bytes();
    frame[ETH + 10..ETH + 12].copy_from_slice(&checksum);
    frame
}

/// RFC 1071, the plain way.
pub fn internet_checksum(data: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in data.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

//! The frame that a log receiver gets nearly always, as bytes to compare with.

use super::{FilterRules, PortSet, UdpMeta};
use crate::{
    port::ChecksumVerdict,
    wire::{
        MacAddr,
        checksum::{self, Sum},
        ethernet, ipv4, udp,
    },
};

/// Bytes of the common frame's headers: Ethernet without a tag, IPv4 without options, UDP.
const LEN: usize = ethernet::HEADER_LEN + ipv4::HEADER_LEN + udp::HEADER_LEN;

/// What a set of rules makes of the common frame's first 40 bytes. The addresses and the port that the rx client asks for
/// are in it, so that they cost nothing.
#[derive(Clone, Debug)]
pub(crate) struct Common {
    /// The first word under [`DST_MASK`]: our MAC address, and a source that is no group.
    dst: u64,
    /// The 32 bytes behind it, each under its mask at its first value or up to `span` values further. Arrays of their own,
    /// because so they are compared as one vector.
    mask: [u8; REST],
    first: [u8; REST],
    span: [u8; REST],
}

/// Where the bytes begin that are compared as a vector, and how many they are.
const REST_AT: usize = 8;
const REST: usize = 32;
const SRC_IP_AT: usize = 26;

/// The destination MAC and the source's group bit.
const DST_MASK: u64 = u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0]);
/// The broadcast address under that mask.
const DST_BROADCAST: u64 = u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]);

impl Common {
    pub(super) fn of(rules: &FilterRules) -> Common {
        let MacAddr([a, b, c, d, e, f]) = rules.mac;
        let dst = u64::from_ne_bytes([a, b, c, d, e, f, 0, 0]);
        let mut common = Common { dst, mask: [0; REST], first: [0; REST], span: [0; REST] };
        common.set(12, &ethernet::ETHERTYPE_IPV4.to_be_bytes());
        // Version 4, five words of header.
        common.set(14, &[0x45]);
        // No more fragments, offset 0; reserved and "don't fragment" do not matter.
        common.set(20, &[0, 0]);
        common.mask[20 - REST_AT] = 0x3f;
        common.set(23, &[ipv4::PROTOCOL_UDP]);
        // From 1.0.0.0 to 223.255.255.255.
        common.set(SRC_IP_AT, &[1]);
        common.span[SRC_IP_AT - REST_AT] = 222;
        let mut possible = rules.rx_client;
        if let Some(ip) = rules.remote_ip {
            possible &= (1..=223).contains(&ip.octets()[0]);
            common.set(SRC_IP_AT, &ip.octets());
            common.span[SRC_IP_AT - REST_AT] = 0;
        }
        if let Some(ip) = rules.local_ip {
            common.set(30, &ip.octets());
        }
        if let PortSet::One(port) = rules.local_ports {
            common.set(36, &port.to_be_bytes());
        }
        if !possible {
            // No byte under a mask of zeros is this: nothing is common.
            (common.mask[0], common.first[0]) = (0, 1);
        }
        common
    }

    fn set(&mut self, at: usize, bytes: &[u8]) {
        let at = at - REST_AT;
        self.mask[at..at + bytes.len()].fill(0xff);
        self.first[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// The common frame with a whole and right checksum, if this is one and it is for the hook as far as the lists allow it;
    /// `None` says nothing at all: [`Filter::classify`](super::Filter::classify) does. The verdicts (IPv4 header, UDP) are the
    /// NIC's; `frame` is no longer than [`MAX_FRAME_LEN`](crate::port::MAX_FRAME_LEN), so that lengths do not wrap round.
    #[inline(always)] // See `checksum::Job`; and a call a frame, with the answer through memory, is a third of the whole.
    pub(crate) fn datagram<S: Sum>(
        &self,
        frame: &[u8],
        contiguous: bool,
        (ip, udp): (ChecksumVerdict, ChecksumVerdict),
    ) -> Option<UdpMeta> {
        let h = frame.first_chunk::<{ LEN }>()?;
        if !contiguous || !self.matches(h) {
            return None;
        }
        let total_len = be16(h, 16);
        let udp_len = be16(h, 38);
        // Of a datagram shorter than its header it wraps round, and is longer than any frame.
        let payload_len = udp_len.wrapping_sub(udp::HEADER_LEN as u16);
        if usize::from(payload_len) > frame.len() - LEN || udp_len.wrapping_add(ipv4::HEADER_LEN as u16) != total_len {
            return None;
        }
        use ChecksumVerdict::{Bad, Good};
        if (ip, udp) != (Good, Good) {
            if ip != Good {
                let addresses = checksum::add(word(h, 22), u64::from(u32::from_ne_bytes(bytes(h, 30))));
                if ip == Bad || !checksum::is_valid(checksum::add(word(h, 14), addresses)) {
                    return None;
                }
            }
            let end = LEN + usize::from(payload_len);
            let field: [u8; 2] = bytes(h, 40);
            if udp != Good && field != [0, 0] {
                // The addresses lie right before the datagram, so one sum takes in the better part of the pseudo-header.
                let rest_of_pseudo = checksum::word(u16::from(ipv4::PROTOCOL_UDP)) + checksum::word(udp_len);
                if udp == Bad || !checksum::is_valid(S::sum(&frame[26..end]) + rest_of_pseudo) {
                    return None;
                }
            }
        }
        Some(UdpMeta {
            ip_at: ethernet::HEADER_LEN as u16,
            payload_at: LEN as u16,
            payload_len,
            vlan: None,
            partial: false,
        })
    }

    /// Whether the headers are the common ones, but for lengths and checksums, and from a source that needs no second look:
    /// 1.0.0.0 to 223.255.255.255 without 127.0.0.0/8.
    #[inline(always)]
    fn matches(&self, h: &[u8; LEN]) -> bool {
        let rest: [u8; REST] = bytes(h, REST_AT);
        // Four instructions with vectors of 32 bytes.
        let bounds = self.mask.iter().zip(&self.first).zip(&self.span);
        let others = rest.iter().zip(bounds).fold(0, |others, (byte, ((mask, first), span))| {
            others | u8::from((byte & mask).wrapping_sub(*first) > *span)
        });
        let dst = word(h, 0) & DST_MASK;
        others == 0 && (dst == self.dst || dst == DST_BROADCAST) && h[SRC_IP_AT] != 127
    }
}

/// Eight bytes of the headers as they lie in memory.
#[inline(always)]
fn word(h: &[u8; LEN], at: usize) -> u64 {
    u64::from_ne_bytes(bytes(h, at))
}

/// `N` bytes of the headers; `at` is always a constant, so there is nothing left to check at run time. (As one chunk,
/// for one load: put together byte by byte they are loaded in pieces.)
#[inline(always)]
fn bytes<const N: usize>(h: &[u8; LEN], at: usize) -> [u8; N] {
    *h[at..].first_chunk().expect("inside the headers")
}

#[inline(always)]
fn be16(h: &[u8; LEN], at: usize) -> u16 {
    u16::from_be_bytes(bytes(h, at))
}

//! The frame that a log receiver gets nearly always, as words to compare with.

use super::{FilterRules, PortSet};
use crate::wire::{MacAddr, ethernet, ipv4, udp};

/// Bytes of the common frame's headers: Ethernet without a tag, IPv4 without options, UDP.
pub(super) const LEN: usize = ethernet::HEADER_LEN + ipv4::HEADER_LEN + udp::HEADER_LEN;

/// What a set of rules makes of the common frame's first 40 bytes. The addresses and the port that the rx client asks for
/// are in it, so that they cost nothing.
#[derive(Debug)]
pub(super) struct Common {
    /// The first word under [`DST_MASK`]: our MAC address, and a source that is no group.
    dst: u64,
    /// The next four words.
    words: [Masked; 4],
    /// Bit `p % 64` of word `p / 64` stands for destination port `p`, where the ports are not in the words.
    ports: Option<Box<[u64; 1024]>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Masked {
    mask: u64,
    value: u64,
}

/// The destination MAC and the source's group bit.
const DST_MASK: u64 = u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0]);
/// The broadcast address under that mask.
const DST_BROADCAST: u64 = u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]);

impl Common {
    pub(super) fn of(rules: &FilterRules) -> Common {
        let (mut mask, mut value) = ([0; 40], [0; 40]);
        let mut set = |at: usize, bytes: &[u8]| {
            mask[at..at + bytes.len()].fill(0xff);
            value[at..at + bytes.len()].copy_from_slice(bytes);
        };
        set(12, &ethernet::ETHERTYPE_IPV4.to_be_bytes());
        // Version 4, five words of header.
        set(14, &[0x45]);
        // No more fragments, offset 0.
        set(20, &[0, 0]);
        set(23, &[ipv4::PROTOCOL_UDP]);
        if let Some(ip) = rules.remote_ip {
            set(26, &ip.octets());
        }
        if let Some(ip) = rules.local_ip {
            set(30, &ip.octets());
        }
        let ports = match &rules.local_ports {
            PortSet::Any => None,
            PortSet::One(port) => {
                set(36, &port.to_be_bytes());
                None
            }
            PortSet::Bitmap(bits) => Some(bits.clone()),
        };
        // Reserved and "don't fragment" do not matter.
        mask[20] = 0x3f;
        let word = |bytes: &[u8; 40], at: usize| u64::from_ne_bytes(*bytes[at..].first_chunk().expect("inside the 40"));
        let mut words = [8, 16, 24, 32].map(|at| Masked { mask: word(&mask, at), value: word(&value, at) });
        if !rules.rx_client {
            // No word under a mask of zeros is this: nothing is common.
            words[0] = Masked { mask: 0, value: 1 };
        }
        let MacAddr([a, b, c, d, e, f]) = rules.mac;
        Common { dst: u64::from_ne_bytes([a, b, c, d, e, f, 0, 0]), words, ports }
    }

    /// Whether the headers are the common ones, but for lengths and checksums, and from a source that needs no second look:
    /// 1.0.0.0 to 223.255.255.255 without 127.0.0.0/8.
    #[inline(always)]
    pub(super) fn matches(&self, h: &[u8; LEN]) -> bool {
        let dst = word(h, 0) & DST_MASK;
        let differs = |at: usize, masked: Masked| (word(h, at) & masked.mask) ^ masked.value;
        let [a, b, c, d] = self.words;
        // These nearly always hold, so they are joined without a branch for each.
        let same = (differs(8, a) | differs(16, b) | differs(24, c) | differs(32, d)) == 0;
        let port = be16(h, 36);
        same & ((dst == self.dst) | (dst == DST_BROADCAST)) & (h[26].wrapping_sub(1) < 223) & (h[26] != 127)
            && self.ports.as_ref().is_none_or(|bits| bits[usize::from(port >> 6)] & (1 << (port & 63)) != 0)
    }
}

/// Eight bytes of the headers as they lie in memory.
#[inline(always)]
pub(super) fn word(h: &[u8; LEN], at: usize) -> u64 {
    u64::from_ne_bytes(bytes(h, at))
}

/// `N` bytes of the headers; `at` is always a constant, so there is nothing left to check at run time. (As one chunk,
/// for one load: put together byte by byte they are loaded in pieces.)
#[inline(always)]
pub(super) fn bytes<const N: usize>(h: &[u8; LEN], at: usize) -> [u8; N] {
    *h[at..].first_chunk().expect("inside the headers")
}

#[inline(always)]
pub(super) fn be16(h: &[u8; LEN], at: usize) -> u16 {
    u16::from_be_bytes(bytes(h, at))
}

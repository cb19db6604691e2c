//! The IPv4 header (RFC 791): 20 bytes, then options up to 60 bytes in all.

use std::net::Ipv4Addr;

use super::checksum;

/// Bytes of a header without options.
pub const HEADER_LEN: usize = 20;
/// Time to live of what we send.
pub const TTL: u8 = 64;
/// Protocol number of ICMP.
pub const PROTOCOL_ICMP: u8 = 1;
/// Protocol number of UDP.
pub const PROTOCOL_UDP: u8 = 17;
/// The part of the flags and offset word that is set in fragments only: "more fragments", and the offset.
pub const FRAGMENT_MASK: u16 = 0x3fff;

/// What a header says, once it has been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4 {
    /// Bytes of the header with options, 20 to 60: where the payload starts.
    pub header_len: u16,
    /// Bytes of the packet: where the payload ends. What follows is Ethernet padding.
    pub total_len: u16,
    /// Identification.
    pub id: u16,
    /// Reserved bit, "don't fragment", "more fragments", then the offset in units of 8 bytes (13 bits).
    pub flags_offset: u16,
    /// Time to live.
    pub ttl: u8,
    /// What the payload is.
    pub protocol: u8,
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
}

/// Why a header is refused, in the order of the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ipv4Error {
    /// Fewer than 20 bytes.
    #[error("IPv4 packet shorter than 20 bytes")]
    Short,
    /// The version is not 4.
    #[error("IPv4 version is not 4")]
    Version,
    /// The header length is below 5 words.
    #[error("IPv4 header length below 5 words")]
    HeaderLength,
    /// The header with its options does not fit in the frame.
    #[error("IPv4 header reaches past the end of the frame")]
    HeaderCut,
    /// The header checksum is wrong.
    #[error("IPv4 header checksum wrong")]
    Checksum,
    /// The total length is below the header length.
    #[error("IPv4 total length below the header length")]
    TotalLength,
    /// The packet does not fit in the frame: it was cut short on its way here.
    #[error("IPv4 packet reaches past the end of the frame")]
    Truncated,
}

impl Ipv4 {
    /// Reads and checks the header at the start of `packet`, which may have Ethernet padding behind it. The header
    /// checksum is not looked at where `verdict` already says whether it is right.
    ///
    /// A fragment is no error here: see [`Ipv4::is_fragment`].
    #[inline]
    pub fn parse(packet: &[u8], verdict: Option<bool>) -> Result<Self, Ipv4Error> {
        let h = packet.first_chunk::<HEADER_LEN>().ok_or(Ipv4Error::Short)?;
        if h[0] >> 4 != 4 {
            return Err(Ipv4Error::Version);
        }
        let header_len = u16::from(h[0] & 0xf) * 4;
        if usize::from(header_len) < HEADER_LEN {
            return Err(Ipv4Error::HeaderLength);
        }
        let header = packet.get(..usize::from(header_len)).ok_or(Ipv4Error::HeaderCut)?;
        if !verdict.unwrap_or_else(|| checksum::is_valid(checksum::sum(header))) {
            return Err(Ipv4Error::Checksum);
        }
        let total_len = u16::from_be_bytes([h[2], h[3]]);
        if total_len < header_len {
            return Err(Ipv4Error::TotalLength);
        }
        if usize::from(total_len) > packet.len() {
            return Err(Ipv4Error::Truncated);
        }
        Ok(Self {
            header_len,
            total_len,
            id: u16::from_be_bytes([h[4], h[5]]),
            flags_offset: u16::from_be_bytes([h[6], h[7]]),
            ttl: h[8],
            protocol: h[9],
            src: Ipv4Addr::new(h[12], h[13], h[14], h[15]),
            dst: Ipv4Addr::new(h[16], h[17], h[18], h[19]),
        })
    }

    /// Whether this is a part of a packet.
    #[inline]
    pub const fn is_fragment(&self) -> bool {
        self.flags_offset & FRAGMENT_MASK != 0
    }

    /// Writes a header without options and with its checksum; `header_len` is not looked at.
    #[inline]
    pub fn emit(&self, header: &mut [u8; HEADER_LEN]) {
        header[..2].copy_from_slice(&[0x45, 0]);
        header[2..4].copy_from_slice(&self.total_len.to_be_bytes());
        header[4..6].copy_from_slice(&self.id.to_be_bytes());
        header[6..8].copy_from_slice(&self.flags_offset.to_be_bytes());
        header[8..12].copy_from_slice(&[self.ttl, self.protocol, 0, 0]);
        header[12..16].copy_from_slice(&self.src.octets());
        header[16..20].copy_from_slice(&self.dst.octets());
        let checksum = checksum::finish(checksum::sum(header));
        header[10..12].copy_from_slice(&checksum);
    }
}

/// Whether an address can be a packet's source, as seen by a receiver (RFC 1122, 3.2.1.3): not multicast, not
/// loopback, not the limited broadcast, not in 0.0.0.0/8. The one exception is a host that does not know its
/// address yet: from 0.0.0.0 to 255.255.255.255. (Class E, 240.0.0.0/4, is let through, as Linux does. A
/// subnet's own broadcast address cannot be told here: the mask is not known.)
#[inline]
pub const fn is_valid_source(src: Ipv4Addr, dst: Ipv4Addr) -> bool {
    match src.octets()[0] {
        0 => src.is_unspecified() && dst.is_broadcast(),
        127 | 224..=239 => false,
        255 => !src.is_broadcast(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The example header of Wikipedia's "Internet checksum" article, checksum b861; a UDP packet of 115 bytes.
    const KNOWN: [u8; 20] = *b"\x45\x00\x00\x73\x00\x00\x40\x00\x40\x11\xb8\x61\xc0\xa8\x00\x01\xc0\xa8\x00\xc7";

    fn packet(len: usize) -> Vec<u8> {
        let mut packet = vec![0; len];
        packet[..20].copy_from_slice(&KNOWN);
        packet
    }

    #[test]
    fn known_header_both_ways() {
        let parsed = Ipv4::parse(&packet(120), None).unwrap();
        let expected = Ipv4 {
            header_len: 20,
            total_len: 115,
            id: 0,
            flags_offset: 0x4000,
            ttl: 64,
            protocol: PROTOCOL_UDP,
            src: Ipv4Addr::new(192, 168, 0, 1),
            dst: Ipv4Addr::new(192, 168, 0, 199),
        };
        assert_eq!(parsed, expected);
        assert!(!parsed.is_fragment());
        let mut header = [0xee; 20];
        parsed.emit(&mut header);
        assert_eq!(header, KNOWN);
    }

    #[test]
    fn every_refusal() {
        let refused = |at: usize, value: u8, verdict: Option<bool>| {
            let mut packet = packet(115);
            packet[at] = value;
            Ipv4::parse(&packet, verdict).unwrap_err()
        };
        assert_eq!(Ipv4::parse(&KNOWN[..19], Some(true)), Err(Ipv4Error::Short));
        assert_eq!(refused(0, 0x65, None), Ipv4Error::Version);
        assert_eq!(refused(0, 0x44, None), Ipv4Error::HeaderLength);
        let mut cut = packet(59);
        cut[0] = 0x4f;
        assert_eq!(Ipv4::parse(&cut, None), Err(Ipv4Error::HeaderCut));
        assert_eq!(refused(11, 0x62, None), Ipv4Error::Checksum);
        assert_eq!(Ipv4::parse(&packet(115), Some(false)), Err(Ipv4Error::Checksum));
        assert_eq!(refused(3, 19, Some(true)), Ipv4Error::TotalLength);
        assert_eq!(refused(3, 116, Some(true)), Ipv4Error::Truncated);
        assert!(Ipv4::parse(&packet(115), None).is_ok());
    }

    #[test]
    fn fragments() {
        for (flags_offset, fragment) in [(0, false), (0x4000, false), (0x8000, false), (0x2000, true), (1, true)] {
            let mut packet = packet(115);
            packet[6..8].copy_from_slice(&u16::to_be_bytes(flags_offset));
            assert_eq!(Ipv4::parse(&packet, Some(true)).unwrap().is_fragment(), fragment, "{flags_offset:#x}");
        }
    }

    #[test]
    fn sources() {
        let any = Ipv4Addr::new(10, 0, 0, 1);
        for (src, valid) in [
            ([10, 0, 0, 2], true),
            ([126, 255, 255, 255], true),
            ([128, 0, 0, 1], true),
            ([223, 255, 255, 255], true),
            ([240, 0, 0, 1], true),
            ([255, 255, 255, 254], true),
            ([0, 0, 0, 0], false),
            ([0, 0, 0, 1], false),
            ([127, 0, 0, 1], false),
            ([224, 0, 0, 1], false),
            ([239, 255, 255, 255], false),
            ([255, 255, 255, 255], false),
        ] {
            assert_eq!(is_valid_source(Ipv4Addr::from(src), any), valid, "{src:?}");
        }
        assert!(is_valid_source(Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST));
        assert!(!is_valid_source(Ipv4Addr::new(0, 0, 0, 1), Ipv4Addr::BROADCAST));
    }

    proptest! {
        #[test]
        fn parse_emit_round_trip(
            total_len in 20u16..2000, id: u16, flags_offset: u16, ttl: u8, protocol: u8, src: [u8; 4], dst: [u8; 4],
            padding in 0usize..50,
        ) {
            let (src, dst) = (Ipv4Addr::from(src), Ipv4Addr::from(dst));
            let header = Ipv4 { header_len: 20, total_len, id, flags_offset, ttl, protocol, src, dst };
            let mut packet = vec![0; usize::from(total_len) + padding];
            header.emit(packet.first_chunk_mut().unwrap());
            prop_assert_eq!(Ipv4::parse(&packet, None), Ok(header));
        }

        #[test]
        fn never_reaches_outside(packet in proptest::collection::vec(any::<u8>(), 0..100), verdict: Option<bool>) {
            if let Ok(header) = Ipv4::parse(&packet, verdict) {
                prop_assert!(header.header_len <= header.total_len && usize::from(header.total_len) <= packet.len());
            }
        }
    }
}

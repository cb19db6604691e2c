//! Ethernet II: destination (6 bytes), source (6), EtherType (2).

use super::MacAddr;

/// Bytes of the header, without VLAN tags.
pub const HEADER_LEN: usize = 14;
/// Shortest frame on a real wire, without the frame check sequence (IEEE 802.3, 3.2.8). Shorter ones
/// are padded behind the packet, with zeros: never with what the buffer held before.
pub const MIN_FRAME_LEN: usize = 60;

/// EtherType of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;

/// The header. EtherTypes below 0x0600 are lengths of IEEE 802.3 frames (spanning tree and the like).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ethernet {
    /// Destination address.
    pub dst: MacAddr,
    /// Source address.
    pub src: MacAddr,
    /// What follows: a protocol, or a VLAN tag.
    pub ethertype: u16,
}

impl Ethernet {
    /// Reads the header at the start of `frame`; `None` if there are fewer than [`HEADER_LEN`] bytes.
    #[inline]
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1] = *frame.first_chunk::<HEADER_LEN>()?;
        Some(Self {
            dst: MacAddr([d0, d1, d2, d3, d4, d5]),
            src: MacAddr([s0, s1, s2, s3, s4, s5]),
            ethertype: u16::from_be_bytes([t0, t1]),
        })
    }

    /// Writes the header.
    #[inline]
    pub fn emit(&self, header: &mut [u8; HEADER_LEN]) {
        header[..6].copy_from_slice(&self.dst.0);
        header[6..12].copy_from_slice(&self.src.0);
        header[12..].copy_from_slice(&self.ethertype.to_be_bytes());
    }
}

/// Overwrites the destination address. A `frame` without room for one is left alone.
#[inline]
pub fn set_dst(frame: &mut [u8], dst: MacAddr) {
    if let Some(field) = frame.first_chunk_mut() {
        *field = dst.0;
    }
}

/// Turns a received frame round: to where it came from, from `mac`. VLAN tags stay. A `frame` without
/// room for both addresses is left alone.
#[inline]
pub fn turn_round(frame: &mut [u8], mac: MacAddr) {
    if let Some(addresses) = frame.first_chunk_mut::<12>() {
        addresses.copy_within(6.., 0);
        addresses[6..].copy_from_slice(&mac.0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parse_emit_round_trip(dst: [u8; 6], src: [u8; 6], ethertype: u16) {
            let header = Ethernet { dst: MacAddr(dst), src: MacAddr(src), ethertype };
            let mut bytes = [0; HEADER_LEN];
            header.emit(&mut bytes);
            prop_assert_eq!(Ethernet::parse(&bytes), Some(header));
            prop_assert_eq!(Ethernet::parse(&bytes[..HEADER_LEN - 1]), None);
        }
    }

    #[test]
    fn layout_and_changes_in_place() {
        let mut frame = *b"DDDDDDSSSSSS\x08\x06rest";
        assert_eq!(
            Ethernet::parse(&frame),
            Some(Ethernet { dst: MacAddr(*b"DDDDDD"), src: MacAddr(*b"SSSSSS"), ethertype: ETHERTYPE_ARP })
        );
        turn_round(&mut frame, MacAddr(*b"UUUUUU"));
        assert_eq!(&frame, b"SSSSSSUUUUUU\x08\x06rest");
        set_dst(&mut frame, MacAddr(*b"NNNNNN"));
        assert_eq!(&frame, b"NNNNNNUUUUUU\x08\x06rest");
        let mut short = [1; 5];
        set_dst(&mut short, MacAddr::BROADCAST);
        turn_round(&mut short, MacAddr::BROADCAST);
        assert_eq!(short, [1; 5]);
    }
}

//! UDP over IPv4 (RFC 768): source port, destination port, length, checksum, 2 bytes each.

mod reply;

use std::net::Ipv4Addr;

pub use reply::{Answerer, reply_in_place};

use super::{checksum, ipv4};

/// Bytes of the header.
pub const HEADER_LEN: usize = 8;
/// Most payload bytes that fit in an IPv4 packet without options.
pub const MAX_PAYLOAD: usize = u16::MAX as usize - ipv4::HEADER_LEN - HEADER_LEN;

/// The header, once its length has been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Udp {
    /// Source port; 0 if the sender wants no answer.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// The checksum field's bytes; zeros mean that there is no checksum.
    pub checksum: [u8; 2],
}

/// Why a header is refused, in the order of the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UdpError {
    /// Fewer than 8 bytes.
    #[error("UDP datagram shorter than 8 bytes")]
    Short,
    /// The length is not the IP payload's length.
    #[error("UDP length differs from the IP payload's")]
    Length,
}

/// What software finds in a checksum field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// Zero: the sender computed none.
    Absent,
    /// Right.
    Good,
    /// Only the sum of the pseudo-header, not complemented: what a local sender leaves for its NIC to finish.
    Partial,
    /// Wrong.
    Bad,
}

impl Udp {
    /// Reads the header at the start of `datagram`, an IPv4 packet's whole payload. The checksum is not looked at:
    /// see [`check`].
    #[inline]
    pub fn parse(datagram: &[u8]) -> Result<Self, UdpError> {
        let h = datagram.first_chunk::<HEADER_LEN>().ok_or(UdpError::Short)?;
        if usize::from(u16::from_be_bytes([h[4], h[5]])) != datagram.len() {
            return Err(UdpError::Length);
        }
        Ok(Self {
            src_port: u16::from_be_bytes([h[0], h[1]]),
            dst_port: u16::from_be_bytes([h[2], h[3]]),
            checksum: [h[6], h[7]],
        })
    }

    /// Writes the header of a datagram of `len` bytes, header included, with the checksum bytes as they are.
    #[inline]
    pub fn emit(&self, header: &mut [u8; HEADER_LEN], len: u16) {
        header[..2].copy_from_slice(&self.src_port.to_be_bytes());
        header[2..4].copy_from_slice(&self.dst_port.to_be_bytes());
        header[4..6].copy_from_slice(&len.to_be_bytes());
        header[6..].copy_from_slice(&self.checksum);
    }
}

/// Checks the checksum of `datagram`, header and payload, whose header has been parsed.
#[inline]
pub fn check(datagram: &[u8], src: Ipv4Addr, dst: Ipv4Addr) -> Checked {
    let Some(&[.., c0, c1]) = datagram.first_chunk::<HEADER_LEN>() else { return Checked::Bad };
    let field = u16::from_ne_bytes([c0, c1]);
    if field == 0 {
        return Checked::Absent;
    }
    let pseudo = checksum::pseudo_header(src, dst, ipv4::PROTOCOL_UDP, datagram.len() as u16);
    if checksum::is_valid(pseudo + checksum::sum(datagram)) {
        Checked::Good
    } else if checksum::fold(pseudo) == field {
        Checked::Partial
    } else {
        Checked::Bad
    }
}

/// The checksum bytes for a sum over pseudo-header, header (field 0) and payload: never zeros, which would mean
/// "none" (RFC 768).
#[inline]
pub const fn finish(sum: u64) -> [u8; 2] {
    match checksum::finish(sum) {
        [0, 0] => [0xff, 0xff],
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SRC: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
    const DST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

    fn datagram(src: Ipv4Addr, dst: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
        let mut datagram = vec![0; HEADER_LEN + payload.len()];
        let len = datagram.len() as u16;
        Udp { src_port: 6665, dst_port: 6666, checksum: [0; 2] }.emit(datagram.first_chunk_mut().unwrap(), len);
        datagram[HEADER_LEN..].copy_from_slice(payload);
        let sum = checksum::pseudo_header(src, dst, ipv4::PROTOCOL_UDP, len) + checksum::sum(&datagram);
        datagram[6..8].copy_from_slice(&finish(sum));
        datagram
    }

    #[test]
    fn every_refusal() {
        let good = datagram(SRC, DST, b"payload");
        assert!(Udp::parse(&good).is_ok());
        assert_eq!(Udp::parse(&good[..7]), Err(UdpError::Short));
        assert_eq!(Udp::parse(&good[..good.len() - 1]), Err(UdpError::Length));
        assert_eq!(Udp::parse(&[&good[..], &[0]].concat()), Err(UdpError::Length));
    }

    #[test]
    fn the_four_findings() {
        let mut bytes = datagram(SRC, DST, b"payload");
        assert_eq!(check(&bytes, SRC, DST), Checked::Good);
        assert_eq!(check(&bytes[..7], SRC, DST), Checked::Bad);
        bytes[9] ^= 1;
        assert_eq!(check(&bytes, SRC, DST), Checked::Bad);
        let pseudo = checksum::pseudo_header(SRC, DST, ipv4::PROTOCOL_UDP, bytes.len() as u16);
        bytes[6..8].copy_from_slice(&checksum::fold(pseudo).to_ne_bytes());
        assert_eq!(check(&bytes, SRC, DST), Checked::Partial);
        bytes[6..8].fill(0);
        assert_eq!(check(&bytes, SRC, DST), Checked::Absent);
    }

    #[test]
    fn a_computed_zero_goes_out_as_all_ones() {
        // Two payload bytes that bring the sum to 0xffff, so that its complement is 0.
        let mut bytes = datagram(SRC, DST, &[0, 0]);
        let checksum = [bytes[6], bytes[7]];
        bytes = datagram(SRC, DST, &checksum);
        assert_eq!(bytes[6..8], [0xff, 0xff]);
        assert_eq!(check(&bytes, SRC, DST), Checked::Good);
    }

    proptest! {
        #[test]
        fn what_is_emitted_is_good(src: [u8; 4], dst: [u8; 4], payload in proptest::collection::vec(any::<u8>(), 0..300)) {
            let (src, dst) = (src.into(), dst.into());
            let bytes = datagram(src, dst, &payload);
            prop_assert_eq!(check(&bytes, src, dst), Checked::Good);
            let checksum = [bytes[6], bytes[7]];
            prop_assert_eq!(Udp::parse(&bytes), Ok(Udp { src_port: 6665, dst_port: 6666, checksum }));
        }

        #[test]
        fn a_flipped_bit_is_found(payload in proptest::collection::vec(any::<u8>(), 0..100), flip: usize) {
            let mut bytes = datagram(SRC, DST, &payload);
            let bit = flip % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_ne!(check(&bytes, SRC, DST), Checked::Good);
        }
    }
}

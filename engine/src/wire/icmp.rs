//! ICMP echo (RFC 792): type, code, checksum over the whole message, identifier, sequence, data.

use super::{MacAddr, checksum, ethernet, ipv4};

/// Bytes of the header of an echo message.
pub const HEADER_LEN: usize = 8;
/// Type of an echo request.
pub const ECHO_REQUEST: u8 = 8;
/// Type of an echo reply.
pub const ECHO_REPLY: u8 = 0;

/// An echo request's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EchoRequest {
    /// Which ping.
    pub ident: u16,
    /// Which of its requests.
    pub seq: u16,
}

/// Why a message is not an echo request, in the order of the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IcmpError {
    /// Fewer than 8 bytes.
    #[error("ICMP message shorter than 8 bytes")]
    Short,
    /// The checksum over the message is wrong.
    #[error("ICMP checksum wrong")]
    Checksum,
    /// Another type or code.
    #[error("ICMP message is not an echo request")]
    NotEchoRequest,
}

impl EchoRequest {
    /// Reads and checks `message`, an IPv4 packet's whole payload.
    #[inline]
    pub fn parse(message: &[u8]) -> Result<Self, IcmpError> {
        let h = message.first_chunk::<HEADER_LEN>().ok_or(IcmpError::Short)?;
        if !checksum::is_valid(checksum::sum(message)) {
            return Err(IcmpError::Checksum);
        }
        if [h[0], h[1]] != [ECHO_REQUEST, 0] {
            return Err(IcmpError::NotEchoRequest);
        }
        Ok(Self { ident: u16::from_be_bytes([h[4], h[5]]), seq: u16::from_be_bytes([h[6], h[7]]) })
    }
}

/// Turns an echo request into its reply, in its own bytes: MAC and IP addresses turned round, TTL renewed, type
/// changed, both checksums made right. Data, length and VLAN tags stay, and so does the IPv4 id: it is unique
/// among what the asker sent us, so it is among what we send back.
///
/// The IPv4 header (without options) starts at `ip`; packet and message must have passed [`ipv4::Ipv4::parse`]
/// and [`EchoRequest::parse`]. A frame too short for them is left alone.
#[inline]
pub fn reply_in_place(frame: &mut [u8], ip: usize, mac: MacAddr) {
    let Some((header, message)) = frame.get_mut(ip..).and_then(|packet| packet.split_first_chunk_mut()) else {
        return;
    };
    let Some(icmp) = message.first_chunk_mut::<HEADER_LEN>() else { return };
    let header: &mut [u8; ipv4::HEADER_LEN] = header;
    let (src, dst) = header[12..].split_at_mut(4);
    src.swap_with_slice(dst);
    header[8] = ipv4::TTL;
    header[10..12].fill(0);
    let ip_checksum = checksum::finish(checksum::sum(header));
    header[10..12].copy_from_slice(&ip_checksum);
    icmp[0] = ECHO_REPLY;
    // The message may be long, and its checksum was found right: only the type changes.
    let icmp_checksum = checksum::update([icmp[2], icmp[3]], [ECHO_REQUEST, 0], [ECHO_REPLY, 0]);
    icmp[2..4].copy_from_slice(&icmp_checksum);
    ethernet::turn_round(frame, mac);
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;
    use crate::wire::ipv4::Ipv4;

    fn message(kind: u8, code: u8, ident: u16, seq: u16, data: &[u8]) -> Vec<u8> {
        let mut message = vec![kind, code, 0, 0];
        message.extend(ident.to_be_bytes().iter().chain(&seq.to_be_bytes()).chain(data));
        let checksum = checksum::finish(checksum::sum(&message));
        message[2..4].copy_from_slice(&checksum);
        message
    }

    #[test]
    fn every_refusal() {
        assert_eq!(EchoRequest::parse(&message(8, 0, 7, 9, b"x")), Ok(EchoRequest { ident: 7, seq: 9 }));
        assert_eq!(EchoRequest::parse(&message(8, 0, 7, 9, b"")[..7]), Err(IcmpError::Short));
        assert_eq!(EchoRequest::parse(&[8, 0, 0, 0, 0, 0, 0, 0]), Err(IcmpError::Checksum));
        for (kind, code) in [(0, 0), (8, 1), (3, 3), (13, 0)] {
            assert_eq!(EchoRequest::parse(&message(kind, code, 7, 9, b"x")), Err(IcmpError::NotEchoRequest));
        }
    }

    proptest! {
        #[test]
        fn reply_is_right_to_the_byte(
            ident: u16, seq: u16, data in proptest::collection::vec(any::<u8>(), 0..200), id: u16, ttl: u8,
            src: [u8; 4], dst: [u8; 4], head: [u8; 22], tagged: bool, padding in 0usize..20,
        ) {
            let ip = if tagged { 18 } else { 14 };
            let (src, dst) = (Ipv4Addr::from(src), Ipv4Addr::from(dst));
            let request = message(ECHO_REQUEST, 0, ident, seq, &data);
            let total_len = (20 + request.len()) as u16;
            let header = Ipv4 { header_len: 20, total_len, id, flags_offset: 0, ttl, protocol: 1, src, dst };
            let mut frame = head[..ip].to_vec();
            frame.extend([0; 20]);
            header.emit((&mut frame[ip..]).try_into().unwrap());
            frame.extend(&request);
            frame.extend(vec![0x55; padding]);

            let us = MacAddr([2, 0, 0, 0, 0, 1]);
            let before = frame.clone();
            reply_in_place(&mut frame, ip, us);
            let reply = message(ECHO_REPLY, 0, ident, seq, &data);
            prop_assert_eq!(Ipv4::parse(&frame[ip..], None), Ok(Ipv4 { src: dst, dst: src, ttl: 64, ..header }));
            prop_assert_eq!(&frame[ip + 20..][..reply.len()], &reply[..]);
            prop_assert_eq!(&frame[..6], &before[6..12]);
            prop_assert_eq!(&frame[6..12], &us.0);
            prop_assert_eq!(&frame[12..ip], &before[12..ip]);
            prop_assert_eq!(frame.len(), before.len());
        }

        #[test]
        fn never_panics(mut frame in proptest::collection::vec(any::<u8>(), 0..80), ip in 0usize..100) {
            let _ = EchoRequest::parse(&frame);
            let before = frame.clone();
            reply_in_place(&mut frame, ip, MacAddr::BROADCAST);
            if ip + ipv4::HEADER_LEN + HEADER_LEN > before.len() {
                prop_assert_eq!(frame, before);
            }
        }
    }
}

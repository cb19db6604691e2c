//! ARP for IPv4 over Ethernet (RFC 826; probes and announcements: RFC 5227). The body is 28 bytes.
//!
//! [`Arp::parse`] makes every check that needs nothing but the body. Whether the target is one of our
//! addresses, and whether to answer, is for the filter and the engine.

use std::net::Ipv4Addr;

use super::{
    MacAddr,
    ethernet::{self, ETHERTYPE_ARP, ETHERTYPE_IPV4, Ethernet},
};

/// Bytes of the body.
pub const LEN: usize = 28;
/// Bytes of an untagged frame with nothing but the body. On a real wire it is padded to
/// [`ethernet::MIN_FRAME_LEN`].
pub const FRAME_LEN: usize = ethernet::HEADER_LEN + LEN;

const HARDWARE_ETHERNET: u16 = 1;
const OPERATION_AT: usize = 6;

/// What the sender wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Who has the target address?
    Request = 1,
    /// The sender has the sender's address.
    Reply = 2,
}

/// The body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Request or reply.
    pub operation: Operation,
    /// Who sent it.
    pub sender_mac: MacAddr,
    /// The sender's address; 0.0.0.0 in a probe.
    pub sender_ip: Ipv4Addr,
    /// Whom it is for; means nothing in a request, usually zeros.
    pub target_mac: MacAddr,
    /// The address that is asked for, or in a reply the asker's.
    pub target_ip: Ipv4Addr,
}

/// Why a body is refused, in the order of the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArpError {
    /// Fewer than 28 bytes.
    #[error("ARP body shorter than 28 bytes")]
    Short,
    /// Hardware type is not Ethernet (1).
    #[error("ARP hardware type is not Ethernet")]
    NotEthernet,
    /// Protocol type is not IPv4 (0x0800).
    #[error("ARP protocol type is not IPv4")]
    NotIpv4,
    /// Address lengths are not 6 and 4.
    #[error("ARP address lengths are not 6 and 4")]
    Lengths,
    /// Neither request nor reply.
    #[error("ARP operation is neither request nor reply")]
    Operation,
    /// The sender's MAC is a group address or zero: no host has it, and an answer would go to many.
    #[error("ARP sender's MAC is a group address or zero")]
    SenderMac,
    /// The sender's address is multicast, loopback, broadcast or in 0.0.0.0/8 (a request from 0.0.0.0 is a
    /// probe, and is fine).
    #[error("ARP sender's address cannot be a host's")]
    SenderIp,
    /// The target address is multicast or loopback.
    #[error("ARP target address is multicast or loopback")]
    TargetIp,
}

impl Arp {
    /// Who has `asked`? Sent by `mac`, `ip`, to broadcast.
    pub const fn request(mac: MacAddr, ip: Ipv4Addr, asked: Ipv4Addr) -> Self {
        Self {
            operation: Operation::Request,
            sender_mac: mac,
            sender_ip: ip,
            target_mac: MacAddr([0; 6]),
            target_ip: asked,
        }
    }

    /// The gratuitous request that tells everybody that `mac` has `ip` (RFC 5227, section 2.3), to broadcast.
    pub const fn gratuitous(mac: MacAddr, ip: Ipv4Addr) -> Self {
        Self::request(mac, ip, ip)
    }

    /// Reads and checks the body; what follows it is padding.
    #[inline]
    pub fn parse(body: &[u8]) -> Result<Self, ArpError> {
        let b = body.first_chunk::<LEN>().ok_or(ArpError::Short)?;
        if u16::from_be_bytes([b[0], b[1]]) != HARDWARE_ETHERNET {
            return Err(ArpError::NotEthernet);
        }
        if u16::from_be_bytes([b[2], b[3]]) != ETHERTYPE_IPV4 {
            return Err(ArpError::NotIpv4);
        }
        if [b[4], b[5]] != [6, 4] {
            return Err(ArpError::Lengths);
        }
        let operation = match u16::from_be_bytes([b[6], b[7]]) {
            1 => Operation::Request,
            2 => Operation::Reply,
            _ => return Err(ArpError::Operation),
        };
        let arp = Self {
            operation,
            sender_mac: MacAddr([b[8], b[9], b[10], b[11], b[12], b[13]]),
            sender_ip: Ipv4Addr::new(b[14], b[15], b[16], b[17]),
            target_mac: MacAddr([b[18], b[19], b[20], b[21], b[22], b[23]]),
            target_ip: Ipv4Addr::new(b[24], b[25], b[26], b[27]),
        };
        arp.check_addresses()?;
        Ok(arp)
    }

    fn check_addresses(&self) -> Result<(), ArpError> {
        if self.sender_mac.is_multicast() || self.sender_mac == MacAddr::default() {
            return Err(ArpError::SenderMac);
        }
        let ip = self.sender_ip;
        let probe = ip.is_unspecified() && self.operation == Operation::Request;
        if !probe && (ip.octets()[0] == 0 || ip.is_loopback() || ip.is_multicast() || ip.is_broadcast()) {
            return Err(ArpError::SenderIp);
        }
        if self.target_ip.is_loopback() || self.target_ip.is_multicast() {
            return Err(ArpError::TargetIp);
        }
        Ok(())
    }

    /// Writes the body.
    pub fn emit(&self, body: &mut [u8; LEN]) {
        body[..2].copy_from_slice(&HARDWARE_ETHERNET.to_be_bytes());
        body[2..4].copy_from_slice(&ETHERTYPE_IPV4.to_be_bytes());
        body[4..6].copy_from_slice(&[6, 4]);
        body[6..8].copy_from_slice(&(self.operation as u16).to_be_bytes());
        body[8..14].copy_from_slice(&self.sender_mac.0);
        body[14..18].copy_from_slice(&self.sender_ip.octets());
        body[18..24].copy_from_slice(&self.target_mac.0);
        body[24..28].copy_from_slice(&self.target_ip.octets());
    }

    /// Writes a whole untagged frame from the sender to `dst` and zeros what is left of `frame` (give it
    /// [`ethernet::MIN_FRAME_LEN`] bytes). `None`, and no change, if it is shorter than [`FRAME_LEN`].
    pub fn emit_frame(&self, frame: &mut [u8], dst: MacAddr) -> Option<()> {
        let (header, rest) = frame.split_first_chunk_mut()?;
        let (body, padding) = rest.split_first_chunk_mut()?;
        Ethernet { dst, src: self.sender_mac, ethertype: ETHERTYPE_ARP }.emit(header);
        self.emit(body);
        padding.fill(0);
        Some(())
    }
}

/// Turns the request whose body starts at `at` into our reply, in its own bytes: "`mac` has the address that you
/// asked for", to the request's sender. VLAN tags and length stay. The body must have passed
/// [`Arp::parse`]; a frame too short for one is left alone.
#[inline]
pub fn reply_in_place(frame: &mut [u8], at: usize, mac: MacAddr) {
    let Some(body) = frame.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<LEN>) else { return };
    body[OPERATION_AT..OPERATION_AT + 2].copy_from_slice(&(Operation::Reply as u16).to_be_bytes());
    let mut asked = [0; 4];
    asked.copy_from_slice(&body[24..28]);
    let mut asker = MacAddr::default();
    asker.0.copy_from_slice(&body[8..14]);
    body.copy_within(8..18, 18);
    body[8..14].copy_from_slice(&mac.0);
    body[14..18].copy_from_slice(&asked);
    ethernet::turn_round(frame, mac);
    // The asker is who the body says: behind a relay the frame's source may be another.
    ethernet::set_dst(frame, asker);
}

#[cfg(test)]
mod tests;

//! What the filter says of a frame.

use std::net::Ipv4Addr;

use super::Reason;
use crate::{netpoll::hook::Datagram, wire::arp::Arp};

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A datagram for the rx hook.
    Udp(UdpMeta),
    /// A request for one of our addresses, or a reply to one of them.
    Arp(ArpMeta),
    /// An echo request to one of our addresses, to be answered by `wire::icmp::reply_in_place`.
    IcmpEcho(EchoMeta),
    /// Nothing for us.
    Unmatched(Reason),
}

/// Where things are in a frame that holds a datagram for the hook: [`UdpMeta::datagram`] makes it what the hook gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpMeta {
    /// Where the IP header starts in the frame.
    pub ip_at: u16,
    /// Where the payload starts in the frame; the UDP header lies right before it.
    pub payload_at: u16,
    /// Bytes of the payload.
    pub payload_len: u16,
    /// VLAN id, where the frame was tagged.
    pub vlan: Option<u16>,
    /// The checksum was only the pseudo-header's sum, and was accepted.
    pub partial: bool,
}

impl UdpMeta {
    /// The payload in `frame`, which must be the frame that was classified (of another, no more than it holds).
    #[inline]
    pub fn payload<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        let start = usize::from(self.payload_at);
        frame.get(start..start + usize::from(self.payload_len)).unwrap_or_default()
    }

    /// The datagram in `frame`, as above.
    #[inline]
    pub fn datagram<'a>(&self, frame: &'a [u8]) -> Datagram<'a> {
        Datagram::new(frame, *self)
    }
}

/// An ARP request or reply that passed the filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArpMeta {
    /// Where its body starts in the frame.
    pub at: u16,
    /// VLAN id, where the frame was tagged.
    pub vlan: Option<u16>,
    /// The body.
    pub arp: Arp,
}

/// An ICMP echo request that passed the filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EchoMeta {
    /// Where the IPv4 header starts in the frame.
    pub ip_at: u16,
    /// Who asks.
    pub src_ip: Ipv4Addr,
}

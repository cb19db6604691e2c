//! Why a received frame is not for the rx hook: one counter each.

use crate::wire::{arp::ArpError, icmp::IcmpError, ipv4::Ipv4Error, udp::UdpError};

macro_rules! reasons {
    ($( $(#[doc = $help:literal])+ $variant:ident = $name:literal, )*) => {
        /// Why a frame stays unmatched, in the order in which the filter decides.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Reason { $( $(#[doc = $help])+ $variant, )* }

        impl Reason {
            /// All of them, in order: `ALL[r as usize] == r`.
            pub const ALL: [Reason; [$($name),*].len()] = [$(Reason::$variant),*];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The counter's name.
            pub const fn name(self) -> &'static str {
                match self { $(Reason::$variant => $name,)* }
            }

            /// One sentence for people.
            pub fn help(self) -> &'static str {
                match self { $(Reason::$variant => concat!($($help),+).trim_ascii(),)* }
            }
        }
    };
}

reasons! {
    /// Shorter than an Ethernet header.
    TooShort = "too_short",
    /// Spread over several segments.
    Segmented = "segmented",
    /// Destination MAC is not ours, broadcast, or a configured multicast.
    OtherHost = "other_host",
    /// Source MAC is a group address, which no sender has.
    SourceMac = "source_mac",
    /// VLAN tag where none is configured.
    Vlan = "vlan",
    /// ARP body shorter than 28 bytes.
    ArpShort = "arp_short",
    /// ARP hardware type is not Ethernet.
    ArpHardware = "arp_hardware",
    /// ARP protocol type is not IPv4.
    ArpProtocol = "arp_protocol",
    /// ARP address lengths are not 6 and 4.
    ArpLengths = "arp_lengths",
    /// ARP operation is neither request nor reply.
    ArpOperation = "arp_operation",
    /// ARP sender's MAC is a group address or zero.
    ArpSenderMac = "arp_sender_mac",
    /// ARP sender's address is multicast, loopback, broadcast or in 0.0.0.0/8.
    ArpSenderIp = "arp_sender_ip",
    /// ARP target address is multicast or loopback.
    ArpTargetIp = "arp_target_ip",
    /// ARP sender claims one of our addresses (or our own frame came back).
    ArpConflict = "arp_conflict",
    /// ARP target address is not ours.
    ArpNotOurs = "arp_not_ours",
    /// IPv6.
    Ipv6 = "ipv6",
    /// Neither ARP, IPv4 nor IPv6.
    NotIp = "not_ip",
    /// IPv4 packet shorter than 20 bytes.
    IpShort = "ip_short",
    /// IPv4 version is not 4.
    IpVersion = "ip_version",
    /// IPv4 header length below 5 words.
    IpIhl = "ip_ihl",
    /// IPv4 header reaches past the end of the frame.
    IpHeaderCut = "ip_header_cut",
    /// IPv4 header checksum wrong.
    IpChecksum = "ip_checksum",
    /// IPv4 total length below the header length.
    IpTotalLength = "ip_total_length",
    /// IPv4 packet reaches past the end of the frame: cut short on its way here.
    IpTruncated = "ip_truncated",
    /// IPv4 source address is multicast, loopback, broadcast or in 0.0.0.0/8.
    IpSource = "ip_source",
    /// Fragment of an IPv4 packet.
    IpFragment = "ip_fragment",
    /// ICMP message shorter than 8 bytes.
    IcmpShort = "icmp_short",
    /// ICMP checksum wrong.
    IcmpChecksum = "icmp_checksum",
    /// ICMP message other than a plain echo request.
    IcmpOther = "icmp_other",
    /// ICMP echo request that is not addressed to us alone.
    IcmpNotOurs = "icmp_not_ours",
    /// Neither UDP nor ICMP.
    NotUdp = "not_udp",
    /// UDP datagram shorter than 8 bytes.
    UdpShort = "udp_short",
    /// UDP length differs from the IP payload's.
    UdpLength = "udp_length",
    /// UDP checksum wrong.
    UdpChecksum = "udp_checksum",
    /// UDP checksum left to a NIC by a sender on this machine, and refused by configuration.
    UdpPartialRefused = "udp_partial_refused",
    /// UDP datagram without fault, but the port has no rx client.
    NoRxClient = "no_rx_client",
    /// Destination address is not the rx client's local_ip.
    NotLocalIp = "not_local_ip",
    /// Source address is not the rx client's remote_ip.
    NotRemoteIp = "not_remote_ip",
    /// Source address is in none of the prefixes that the rx client allows.
    NotAllowed = "not_allowed",
    /// Destination port is not one of the rx client's local ports.
    NotLocalPort = "not_local_port",
}

impl From<ArpError> for Reason {
    fn from(error: ArpError) -> Self {
        match error {
            ArpError::Short => Reason::ArpShort,
            ArpError::NotEthernet => Reason::ArpHardware,
            ArpError::NotIpv4 => Reason::ArpProtocol,
            ArpError::Lengths => Reason::ArpLengths,
            ArpError::Operation => Reason::ArpOperation,
            ArpError::SenderMac => Reason::ArpSenderMac,
            ArpError::SenderIp => Reason::ArpSenderIp,
            ArpError::TargetIp => Reason::ArpTargetIp,
        }
    }
}

impl From<Ipv4Error> for Reason {
    fn from(error: Ipv4Error) -> Self {
        match error {
            Ipv4Error::Short => Reason::IpShort,
            Ipv4Error::Version => Reason::IpVersion,
            Ipv4Error::HeaderLength => Reason::IpIhl,
            Ipv4Error::HeaderCut => Reason::IpHeaderCut,
            Ipv4Error::Checksum => Reason::IpChecksum,
            Ipv4Error::TotalLength => Reason::IpTotalLength,
            Ipv4Error::Truncated => Reason::IpTruncated,
        }
    }
}

impl From<IcmpError> for Reason {
    fn from(error: IcmpError) -> Self {
        match error {
            IcmpError::Short => Reason::IcmpShort,
            IcmpError::Checksum => Reason::IcmpChecksum,
            IcmpError::NotEchoRequest => Reason::IcmpOther,
        }
    }
}

impl From<UdpError> for Reason {
    fn from(error: UdpError) -> Self {
        match error {
            UdpError::Short => Reason::UdpShort,
            UdpError::Length => Reason::UdpLength,
        }
    }
}

//! The filter against another implementation: the crate etherparse takes generated and mutated frames apart, the rules
//! of the specification are spelled out over what it finds, and no frame may end differently without a written reason.
//!
//! The frames come from a fixed seed, so that the counts are the same each time: a reason that never occurs, on either
//! side, fails the test just as an unwritten one.

#[path = "../engine/src/netpoll/filter/bad_frames.rs"]
mod bad_frames;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use etherparse::{
    ArpOperation, ArpPacketSlice, EtherType, Ethernet2Slice, Icmpv4Slice, Icmpv4Type, IpNumber, Ipv4HeaderSlice,
    Ipv4Slice, UdpSlice,
    err::{
        arp::ArpEthIpv4FromError,
        ipv4::{HeaderError, HeaderSliceError, SliceError},
    },
};
use netpoll::{
    netpoll::filter::{FilterRules, Reason, Verdict, classify},
    port::ChecksumVerdict,
    wire::{MacAddr, arp::Operation},
};
use proptest::{
    prelude::*,
    sample::Index,
    test_runner::{RngAlgorithm, TestRng, TestRunner},
};

use bad_frames::{PEER_IP, PORT, US_IP, US_MAC, bad_frames, good_arp, good_echo, good_frame};

const CASES: u32 = 400_000;

/// Where the two differ on purpose: what ours says, what the other comes to, and why ours is right for us.
const REASONS: [(&str, &str, &str); 13] = [
    (
        "udp_length",
        "udp",
        "etherparse cuts a datagram to its UDP length, and takes 0 for all there is; RFC 768 has no such case",
    ),
    ("udp_length", "udp_checksum", "the same, and the sum over the cut datagram does not fit"),
    ("udp_length", "udp_partial_refused", "the same, and it is the pseudo-header's"),
    ("udp_length", "not_local_ip", "the same, and it is not for us"),
    ("udp_length", "not_remote_ip", "the same, and it is not from the peer"),
    ("udp_length", "not_local_port", "the same, for another port"),
    ("arp_short", "arp_lengths", "etherparse goes by the lengths that the body claims, ours wants 28 bytes first"),
    ("arp_short", "arp_hardware", "the same with another hardware type"),
    ("arp_short", "arp_protocol", "the same with another protocol type"),
    ("arp_lengths", "arp_short", "etherparse wants all bytes of the claimed lengths, ours looks at the lengths first"),
    ("arp_hardware", "arp_short", "the same with another hardware type"),
    ("arp_protocol", "arp_short", "the same with another protocol type"),
    ("not_udp", "ip_auth", "etherparse looks into an authentication header, which is none of ours"),
];

/// What a frame is to either of the two.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Ending {
    Udp { src: Ipv4Addr, dst: Ipv4Addr, src_port: u16, dst_port: u16, partial: bool, payload: Vec<u8> },
    Arp { request: bool, sender_mac: [u8; 6], sender_ip: Ipv4Addr, target_ip: Ipv4Addr },
    Echo { src: Ipv4Addr },
    Not(&'static str),
}

impl Ending {
    fn name(&self) -> &'static str {
        match self {
            Ending::Udp { .. } => "udp",
            Ending::Arp { .. } => "arp",
            Ending::Echo { .. } => "echo",
            Ending::Not(reason) => reason,
        }
    }
}

fn rules(kernel_backed: bool, accept_partial: bool) -> FilterRules {
    FilterRules {
        mac: MacAddr(US_MAC),
        addresses: [US_IP.into()].into_iter().collect(),
        kernel_backed,
        accept_partial,
        rx_client: true,
        local_ip: Some(US_IP.into()),
        remote_ip: Some(PEER_IP.into()),
        local_ports: PORT.into(),
        ..FilterRules::default()
    }
}

fn ours(frame: &[u8], rules: &FilterRules) -> Ending {
    match classify(frame, true, ChecksumVerdict::Unknown, ChecksumVerdict::Unknown, rules) {
        Verdict::Udp(meta) => {
            let datagram = meta.datagram(frame);
            let (IpAddr::V4(src), IpAddr::V4(dst)) = (datagram.src_ip(), datagram.dst_ip()) else {
                panic!("only IPv4 passes yet: {datagram:?}")
            };
            Ending::Udp {
                src,
                dst,
                src_port: datagram.src_port(),
                dst_port: datagram.dst_port(),
                partial: meta.partial,
                payload: datagram.payload().to_vec(),
            }
        }
        Verdict::Arp(meta) => Ending::Arp {
            request: meta.arp.operation == Operation::Request,
            sender_mac: meta.arp.sender_mac.0,
            sender_ip: meta.arp.sender_ip,
            target_ip: meta.arp.target_ip,
        },
        Verdict::IcmpEcho(meta) => Ending::Echo { src: meta.src_ip },
        Verdict::Unmatched(reason) => Ending::Not(reason.name()),
    }
}

fn theirs(frame: &[u8], rules: &FilterRules) -> Ending {
    taken_apart(frame, rules).unwrap_or_else(Ending::Not)
}

/// The specification's order of checks over what etherparse finds.
fn taken_apart(frame: &[u8], rules: &FilterRules) -> Result<Ending, &'static str> {
    let eth = Ethernet2Slice::from_slice_without_fcs(frame).map_err(|_| "too_short")?;
    if eth.destination() != US_MAC && eth.destination() != [0xff; 6] {
        return Err("other_host");
    }
    if eth.source()[0] & 1 != 0 {
        return Err("source_mac");
    }
    match eth.ether_type() {
        EtherType::VLAN_TAGGED_FRAME | EtherType::PROVIDER_BRIDGING => Err("vlan"),
        EtherType::ARP => arp(eth.payload_slice()),
        EtherType::IPV4 => ipv4(&eth, rules),
        EtherType::IPV6 => Err("ipv6"),
        _ => Err("not_ip"),
    }
}

/// In 0.0.0.0/8, loopback, multicast or broadcast: nobody's.
fn no_host(ip: Ipv4Addr) -> bool {
    ip.octets()[0] == 0 || ip.is_loopback() || ip.is_multicast() || ip.is_broadcast()
}

fn arp(body: &[u8]) -> Result<Ending, &'static str> {
    let packet = ArpPacketSlice::from_slice(body).map_err(|_| "arp_short")?.to_packet();
    let arp = packet.try_eth_ipv4().map_err(|error| match error {
        ArpEthIpv4FromError::NonMatchingHwType(_) => "arp_hardware",
        ArpEthIpv4FromError::NonMatchingProtocolType(_) => "arp_protocol",
        ArpEthIpv4FromError::NonMatchingHwAddrSize(_) | ArpEthIpv4FromError::NonMatchingProtoAddrSize(_) => {
            "arp_lengths"
        }
    })?;
    let request = match arp.operation {
        ArpOperation::REQUEST => true,
        ArpOperation::REPLY => false,
        _ => return Err("arp_operation"),
    };
    let (sender, target) = (Ipv4Addr::from(arp.sender_ipv4), Ipv4Addr::from(arp.target_ipv4));
    if arp.sender_mac[0] & 1 != 0 || arp.sender_mac == [0; 6] {
        Err("arp_sender_mac")
    } else if no_host(sender) && !(request && sender.is_unspecified()) {
        Err("arp_sender_ip")
    } else if target.is_loopback() || target.is_multicast() {
        Err("arp_target_ip")
    } else if sender.octets() == US_IP {
        Err("arp_conflict")
    } else if target.octets() != US_IP {
        Err("arp_not_ours")
    } else {
        Ok(Ending::Arp { request, sender_mac: arp.sender_mac, sender_ip: sender, target_ip: target })
    }
}

/// A checksum as calculated and as it stands; both zeros of one's complement are zero.
fn same_sum(calculated: u16, stands: u16) -> bool {
    calculated == stands || [calculated, stands] == [0, 0xffff] || [calculated, stands] == [0xffff, 0]
}

fn ipv4(eth: &Ethernet2Slice<'_>, rules: &FilterRules) -> Result<Ending, &'static str> {
    let bytes = eth.payload_slice();
    let header = Ipv4HeaderSlice::from_slice(bytes).map_err(|error| match error {
        HeaderSliceError::Len(_) if bytes.len() < 20 => "ip_short",
        HeaderSliceError::Len(_) => "ip_header_cut",
        HeaderSliceError::Content(HeaderError::UnexpectedVersion { .. }) => "ip_version",
        HeaderSliceError::Content(HeaderError::HeaderLengthSmallerThanHeader { .. }) => "ip_ihl",
    })?;
    // Over the bytes: a header that etherparse writes anew has lost its reserved flag.
    if etherparse::checksum::Sum16BitWords::new().add_slice(header.slice()).ones_complement() != 0 {
        return Err("ip_checksum");
    }
    let packet = Ipv4Slice::from_slice(bytes).map_err(|error| match error {
        SliceError::Len(error) if error.len == usize::from(header.total_len()) && error.len < header.slice().len() => {
            "ip_total_length"
        }
        SliceError::Len(error) if error.required_len == usize::from(header.total_len()) => "ip_truncated",
        _ => "ip_auth",
    })?;
    // A host that asks for its address has none yet.
    let asks = header.source_addr().is_unspecified() && header.destination_addr().is_broadcast();
    if no_host(header.source_addr()) && !asks {
        return Err("ip_source");
    }
    if packet.is_payload_fragmented() {
        return Err("ip_fragment");
    }
    match header.protocol() {
        IpNumber::UDP => udp(&header, packet.payload().payload, rules),
        IpNumber::ICMP => icmp(eth, &header, packet.payload().payload),
        IpNumber::AUTHENTICATION_HEADER => Err("ip_auth"),
        _ => Err("not_udp"),
    }
}

fn icmp(eth: &Ethernet2Slice<'_>, header: &Ipv4HeaderSlice<'_>, message: &[u8]) -> Result<Ending, &'static str> {
    if message.len() < 8 {
        return Err("icmp_short");
    }
    // Over the bytes: etherparse's own sum of a parsed message leaves out what its type does not use.
    if etherparse::checksum::Sum16BitWords::new().add_slice(message).ones_complement() != 0 {
        return Err("icmp_checksum");
    }
    let icmp = Icmpv4Slice::from_slice(message).map_err(|_| "icmp_other")?;
    match icmp.icmp_type() {
        Icmpv4Type::EchoRequest(_) if header.options().is_empty() => {}
        _ => return Err("icmp_other"),
    }
    if eth.destination() != US_MAC || header.destination() != US_IP {
        return Err("icmp_not_ours");
    }
    Ok(Ending::Echo { src: header.source_addr() })
}

fn udp(header: &Ipv4HeaderSlice<'_>, datagram: &[u8], rules: &FilterRules) -> Result<Ending, &'static str> {
    let udp =
        UdpSlice::from_slice(datagram).map_err(|_| if datagram.len() < 8 { "udp_short" } else { "udp_length" })?;
    let right = udp.to_header().calc_checksum_ipv4_raw(header.source(), header.destination(), udp.payload());
    let right = right.map_err(|_| "udp_length")?;
    // The pseudo-header's sum, by a header of zeros: its own length is in the sum once more.
    let partial = udp.checksum() != 0
        && !same_sum(right, udp.checksum())
        && udp.checksum() == pseudo_header(header, udp.slice().len() as u16);
    if udp.checksum() != 0 && !same_sum(right, udp.checksum()) {
        match (partial && rules.kernel_backed, rules.accept_partial) {
            (false, _) => return Err("udp_checksum"),
            (true, false) => return Err("udp_partial_refused"),
            (true, true) => {}
        }
    }
    if header.destination() != US_IP {
        return Err("not_local_ip");
    }
    if header.source() != PEER_IP {
        return Err("not_remote_ip");
    }
    if udp.destination_port() != PORT {
        return Err("not_local_port");
    }
    Ok(Ending::Udp {
        src: header.source_addr(),
        dst: header.destination_addr(),
        src_port: udp.source_port(),
        dst_port: udp.destination_port(),
        partial,
        payload: udp.payload().to_vec(),
    })
}

/// RFC 768's pseudo-header, summed as RFC 1071 says, not complemented: what a sender leaves to its NIC.
fn pseudo_header(header: &Ipv4HeaderSlice<'_>, len: u16) -> u16 {
    let addresses = [header.source(), header.destination()].concat();
    let words = addresses.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum = words.sum::<u32>() + 17 + u32::from(len);
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// What is done to a frame before both look at it.
#[derive(Clone, Debug)]
enum Change {
    /// A byte at that place of the headers.
    Header(usize, u8),
    /// A byte anywhere.
    Any(Index, u8),
    /// A 16-bit field of the headers to a number near a length.
    Field(usize, u16),
    /// One bit of the headers.
    Bit(usize, u8),
    Cut(Index),
    Pad(usize),
}

impl Change {
    fn apply(&self, frame: &mut Vec<u8>) {
        match self {
            Change::Header(at, byte) => drop(frame.get_mut(*at).map(|place| *place = *byte)),
            Change::Any(at, byte) if !frame.is_empty() => *at.get_mut(frame) = *byte,
            Change::Any(..) => {}
            Change::Field(at, value) => {
                if let Some(field) = frame.get_mut(*at..at + 2) {
                    field.copy_from_slice(&value.to_be_bytes());
                }
            }
            Change::Bit(at, bit) => drop(frame.get_mut(*at).map(|place| *place ^= 1 << bit)),
            Change::Cut(at) => frame.truncate(at.index(frame.len() + 1)),
            Change::Pad(more) => frame.resize(frame.len() + more, 0x55),
        }
    }
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        2 => (0..50_usize, any::<u8>()).prop_map(|(at, byte)| Change::Header(at, byte)),
        1 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Any(at, byte)),
        2 => (prop::sample::select(vec![12, 14, 16, 18, 20, 34, 36, 38, 40]), prop_oneof![0..80_u16, any::<u16>()])
            .prop_map(|(at, value)| Change::Field(at, value)),
        3 => (0..50_usize, 0..8_u8).prop_map(|(at, bit)| Change::Bit(at, bit)),
        1 => any::<Index>().prop_map(Change::Cut),
        1 => (0..40_usize).prop_map(Change::Pad),
    ]
}

/// Makes the checksums right again (as far as the lengths say where they are), so that changes get past them; the UDP
/// one to a full sum, to the pseudo-header's, or to none.
fn mend(frame: &mut [u8], udp: u8) {
    let Some(packet) = frame.get_mut(14..).filter(|packet| packet.len() >= 20) else { return };
    let header_len = usize::from(packet[0] & 15) * 4;
    if header_len >= 20 && header_len <= packet.len() {
        packet[10..12].fill(0);
        let right = etherparse::checksum::Sum16BitWords::new().add_slice(&packet[..header_len]).ones_complement();
        packet[10..12].copy_from_slice(&right.to_ne_bytes());
    }
    let Ok(header) = Ipv4HeaderSlice::from_slice(packet) else { return };
    let (protocol, src, dst) = (header.protocol(), header.source(), header.destination());
    let end = usize::from(header.total_len()).min(packet.len());
    let pseudo = pseudo_header(&header, (end.saturating_sub(header_len)) as u16);
    let Some(message) = packet.get_mut(header_len..end).filter(|message| message.len() >= 8) else { return };
    match protocol {
        IpNumber::UDP => {
            let cut = usize::from(u16::from_be_bytes([message[4], message[5]]));
            let len = if udp & 4 != 0 && (8..message.len()).contains(&cut) { cut } else { message.len() };
            message[6..8].fill(0);
            let sum = etherparse::checksum::Sum16BitWords::new()
                .add_4bytes(src)
                .add_4bytes(dst)
                .add_2bytes([0, 17])
                .add_2bytes((len as u16).to_be_bytes())
                .add_slice(&message[..len])
                .to_ones_complement_with_no_zero();
            match udp & 3 {
                0 => {}
                1 => message[6..8].copy_from_slice(&pseudo.to_be_bytes()),
                _ => message[6..8].copy_from_slice(&sum.to_ne_bytes()),
            }
        }
        IpNumber::ICMP => {
            message[2..4].fill(0);
            let sum = etherparse::checksum::Sum16BitWords::new().add_slice(message).ones_complement();
            message[2..4].copy_from_slice(&sum.to_ne_bytes());
        }
        _ => {}
    }
}

fn frame() -> impl Strategy<Value = Vec<u8>> {
    let mut known: Vec<_> = bad_frames().into_iter().map(|(_, frame)| frame).collect();
    // The good ones as often as all bad ones together.
    for good in [good_frame(), good_arp(), good_echo()] {
        known.extend(std::iter::repeat_n(good, 20));
    }
    let changed = (prop::sample::select(known), prop::collection::vec(change(), 0..4), any::<bool>(), any::<u8>());
    let changed = changed.prop_map(|(mut frame, changes, mended, udp)| {
        changes.iter().for_each(|change| change.apply(&mut frame));
        if mended {
            mend(&mut frame, udp);
        }
        frame
    });
    let noise = (prop::collection::vec(any::<u8>(), 0..100), any::<[bool; 2]>());
    let noise = noise.prop_map(|(mut frame, [to_us, ip])| {
        if to_us && frame.len() >= 6 {
            frame[..6].copy_from_slice(&US_MAC);
        }
        if ip && frame.len() >= 15 {
            frame[12..15].copy_from_slice(&[8, 0, 0x45]);
        }
        frame
    });
    prop_oneof![9 => changed, 1 => noise]
}

#[test]
fn no_frame_ends_differently_without_a_written_reason() {
    let config = ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let differences = std::cell::RefCell::new(BTreeMap::<(&str, &str), u32>::new());
    let agreed = std::cell::RefCell::new(BTreeMap::<&str, u32>::new());
    let compared = runner.run(&(frame(), any::<[bool; 2]>()), |(frame, [kernel_backed, accept_partial])| {
        let rules = rules(kernel_backed, accept_partial);
        let (ours, theirs) = (ours(&frame, &rules), theirs(&frame, &rules));
        if ours == theirs {
            *agreed.borrow_mut().entry(ours.name()).or_default() += 1;
            return Ok(());
        }
        let pair = (ours.name(), theirs.name());
        prop_assert!(
            REASONS.iter().any(|(our, their, _)| pair == (*our, *their)),
            "ours: {ours:02x?}\netherparse: {theirs:02x?}\nframe: {frame:02x?}"
        );
        *differences.borrow_mut().entry(pair).or_default() += 1;
        Ok(())
    });
    let (agreed, differences) = (agreed.into_inner(), differences.into_inner());
    println!("agreed: {agreed:#?}\ndiffered for a reason: {differences:#?}");
    compared.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(agreed.values().chain(differences.values()).sum::<u32>(), CASES);
    for (ours, theirs, why) in REASONS {
        assert!(
            differences.contains_key(&(ours, theirs)),
            "never seen, so no reason: {ours} where it says {theirs}: {why}"
        );
    }
    // Neither of the two can have agreed on nothing: every ending that bytes alone can have was there.
    let not_in_the_bytes = [Reason::Segmented, Reason::NoRxClient, Reason::NotAllowed].map(Reason::name);
    let names = Reason::ALL.map(Reason::name).into_iter().chain(["udp", "arp", "echo"]);
    for name in names.filter(|name| !not_in_the_bytes.contains(name)) {
        assert!(agreed.contains_key(name), "no frame ended as {name} on both sides");
    }
}

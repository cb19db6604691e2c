//! The filter, and what we emit, against what a Linux kernel sends and answers:
//! `tests/data/kernel_frames.pcap`, see the README there.

use super::*;
use crate::wire::{UdpFlow, UdpTemplate, arp, icmp};

const US: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 0x01]);
const PEER: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 0x02]);
const US_IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const PEER_IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// The frames of the capture: a file header of 24 bytes, then a record header of 16 and the bytes of each
/// (pcap-savefile(5)).
fn frames() -> [Vec<u8>; 13] {
    let file = include_bytes!("../../../../tests/data/kernel_frames.pcap");
    assert_eq!(file[..4], [0xd4, 0xc3, 0xb2, 0xa1], "little-endian, microseconds");
    let (mut rest, mut frames) = (&file[24..], vec![]);
    while let Some((record, after)) = rest.split_first_chunk::<16>() {
        let len = u32::from_le_bytes([record[8], record[9], record[10], record[11]]) as usize;
        frames.push(after[..len].to_vec());
        rest = &after[len..];
    }
    frames.try_into().expect("13 frames")
}

fn rules() -> FilterRules {
    FilterRules {
        mac: US,
        addresses: [US_IP].into_iter().collect(),
        kernel_backed: true,
        accept_partial: true,
        rx_client: true,
        local_ports: 6666.into(),
        ..FilterRules::default()
    }
}

fn verdict(frame: &[u8]) -> Verdict {
    classify(frame, true, ChecksumVerdict::Unknown, ChecksumVerdict::Unknown, &rules())
}

fn udp(frame: &[u8]) -> (UdpMeta, String) {
    let Verdict::Udp(meta) = verdict(frame) else { panic!("{:?}", verdict(frame)) };
    (meta, String::from_utf8(meta.payload(frame).to_vec()).unwrap())
}

#[test]
fn every_frame_is_what_the_kernel_meant() {
    let [gratuitous, request, reply, ping, pong, partial, full, odd, absent, subnet, broadcast, first, last] = frames();
    assert_eq!(verdict(&gratuitous), Verdict::Unmatched(Reason::ArpNotOurs));
    assert!(matches!(verdict(&request), Verdict::Arp(_)));
    assert!(matches!(verdict(&ping), Verdict::IcmpEcho(EchoMeta { ip_at: 14, src_ip: PEER_IP })));
    for ours in [reply, pong] {
        assert_eq!(verdict(&ours), Verdict::Unmatched(Reason::OtherHost));
    }
    for (frame, text, is_partial) in [
        (partial, "checksum left to the NIC", true),
        (full, "checksum computed by the kernel", false),
        (odd, "odd", false),
        (absent, "no checksum", false),
        (subnet, "to everybody", false),
        (broadcast, "unicast IP, broadcast MAC", false),
    ] {
        let (meta, payload) = udp(&frame);
        assert_eq!((payload.as_str(), meta.partial), (text, is_partial));
        let datagram = meta.datagram(&frame);
        assert_eq!((datagram.src_mac(), datagram.src_ip(), datagram.src_port()), (PEER, PEER_IP.into(), 6665));
    }
    for fragment in [first, last] {
        assert_eq!(verdict(&fragment), Verdict::Unmatched(Reason::IpFragment));
    }
}

#[test]
fn a_template_writes_the_kernels_own_bytes() {
    let [.., partial, full, odd, _, subnet, broadcast, _, _] = frames();
    let flow = UdpFlow { src_mac: PEER, dst_mac: US, src_ip: PEER_IP, dst_ip: US_IP, src_port: 6665, dst_port: 6666 };
    let all = UdpFlow { dst_mac: MacAddr::BROADCAST, ..flow };
    let to_subnet = UdpFlow { dst_ip: Ipv4Addr::new(10, 0, 0, 255), ..all };
    for (frame, flow) in [(&full, flow), (&odd, flow), (&subnet, to_subnet), (&broadcast, all)] {
        let mut ours = vec![0xee; frame.len()];
        let id = u16::from_be_bytes([frame[18], frame[19]]);
        UdpTemplate::new(&flow).emit(&mut ours, &frame[42..], id).unwrap();
        assert_eq!(&ours, frame);
    }
    // The kernel computes the header checksum itself, so only that differs.
    let mut ours = vec![0xee; partial.len()];
    let id = u16::from_be_bytes([partial[18], partial[19]]);
    UdpTemplate::new(&flow).emit_offloaded(&mut ours, &partial[42..], id).unwrap();
    assert_eq!(ours[24..26], [0, 0]);
    ours[24..26].copy_from_slice(&partial[24..26]);
    assert_eq!(ours, partial);
}

#[test]
fn arp_is_asked_and_answered_as_the_kernel_does() {
    let [gratuitous, mut request, reply, ..] = frames();
    for (frame, arp) in [(&gratuitous, Arp::gratuitous(PEER, PEER_IP)), (&request, Arp::request(PEER, PEER_IP, US_IP))]
    {
        let mut ours = vec![0xee; frame.len()];
        arp.emit_frame(&mut ours, MacAddr::BROADCAST).unwrap();
        assert_eq!(&ours, frame);
    }
    arp::reply_in_place(&mut request, 14, US);
    assert_eq!(request, reply);
}

#[test]
fn echo_is_answered_as_the_kernel_does() {
    let [_, _, _, mut ping, mut pong, ..] = frames();
    let asked = ping[18..22].to_vec();
    icmp::reply_in_place(&mut ping, 14, US);
    assert!(Ipv4::parse(&ping[14..], None).is_ok());
    // Id and flags are the request's here and the kernel's own there; the header checksum follows them.
    assert_eq!(ping[18..22], asked);
    for frame in [&mut ping, &mut pong] {
        frame[18..22].fill(0);
        frame[24..26].fill(0);
    }
    assert_eq!(ping, pong);
}

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{bad_frames::*, *};

const UNKNOWN: ChecksumVerdict = ChecksumVerdict::Unknown;
const GOOD: ChecksumVerdict = ChecksumVerdict::Good;
const BAD: ChecksumVerdict = ChecksumVerdict::Bad;

/// The rules that the bad frames are meant for.
fn rules() -> FilterRules {
    FilterRules {
        mac: MacAddr(US_MAC),
        multicast: vec![],
        addresses: [US_IP.into()].into_iter().collect(),
        kernel_backed: true,
        accept_partial: false,
        rx_client: true,
        local_ip: Some(US_IP.into()),
        remote_ip: Some(PEER_IP.into()),
        allow: PrefixSet::Any,
        local_ports: PORT.into(),
    }
}

fn plain(frame: &[u8], rules: &FilterRules) -> Verdict {
    classify(frame, true, UNKNOWN, UNKNOWN, rules)
}

fn common(
    frame: &[u8],
    contiguous: bool,
    ip: ChecksumVerdict,
    udp: ChecksumVerdict,
    rules: FilterRules,
) -> Option<UdpMeta> {
    let filter = Filter::new(rules);
    let meta = filter.common().datagram::<checksum::Any>(frame, contiguous, (ip, udp))?;
    filter.lists(&meta.datagram(frame)).then_some(meta)
}

fn accepted(verdict: Verdict) -> Option<UdpMeta> {
    match verdict {
        Verdict::Udp(meta) => Some(meta),
        _ => None,
    }
}

#[test]
fn every_reason_has_a_bad_frame_and_gets_it() {
    let mut seen = BTreeSet::new();
    for (reason, frame) in bad_frames() {
        let rules = match reason {
            Reason::NoRxClient => FilterRules { rx_client: false, ..rules() },
            Reason::NotAllowed => {
                FilterRules { remote_ip: None, allow: [(PEER_IP.into(), 31)].into_iter().collect(), ..rules() }
            }
            _ => rules(),
        };
        let verdict = classify(&frame, reason != Reason::Segmented, UNKNOWN, UNKNOWN, &rules);
        assert_eq!(verdict, Verdict::Unmatched(reason), "{frame:02x?}");
        seen.insert(reason);
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), Reason::ALL);
}

#[test]
fn reasons_are_in_order_and_their_names_differ() {
    for (i, reason) in Reason::ALL.into_iter().enumerate() {
        assert_eq!(reason as usize, i);
        assert!(!reason.help().is_empty());
    }
    let names: BTreeSet<_> = Reason::ALL.iter().map(|r| r.name()).collect();
    assert_eq!(names.len(), Reason::COUNT);
}

#[test]
fn the_good_frame_to_the_last_field() {
    let frame = good_frame();
    let expected = UdpMeta { ip_at: 14, payload_at: 42, payload_len: PAYLOAD.len() as u16, vlan: None, partial: false };
    assert_eq!(plain(&frame, &rules()), Verdict::Udp(expected));
    assert_eq!(common(&frame, true, UNKNOWN, UNKNOWN, rules()), Some(expected));
    let datagram = expected.datagram(&frame);
    assert_eq!((datagram.src_ip(), datagram.dst_ip()), (PEER_IP.into(), US_IP.into()));
    assert_eq!((datagram.src_mac(), datagram.vlan()), (MacAddr(PEER_MAC), None));
    assert_eq!((datagram.payload(), datagram.src_port(), datagram.dst_port()), (PAYLOAD, 6665, PORT));
    assert_eq!(expected.payload(&frame[..50]), b"");
}

/// A longer slice than any frame, whose lengths agree only modulo 2^16.
#[test]
fn lengths_do_not_wrap_round() {
    let mut frame = good_frame();
    frame.resize(70_000, 0);
    frame[16..18].copy_from_slice(&14_u16.to_be_bytes());
    frame[38..40].copy_from_slice(&65_530_u16.to_be_bytes());
    assert_eq!(classify(&frame, true, GOOD, GOOD, &rules()), Verdict::Unmatched(Reason::IpTotalLength));
}

#[test]
fn arp_and_echo_are_handed_over() {
    let Verdict::Arp(ArpMeta { at: 14, vlan: None, arp }) = plain(&good_arp(), &rules()) else { panic!() };
    assert_eq!((arp.sender_ip, arp.target_ip), (PEER_IP.into(), US_IP.into()));
    let echo = Verdict::IcmpEcho(EchoMeta { ip_at: 14, src_ip: PEER_IP.into() });
    assert_eq!(plain(&good_echo(), &rules()), echo);
    // Neither needs an rx client, and its addresses are not theirs.
    let idle = FilterRules { rx_client: false, remote_ip: Some([10, 9, 9, 9].into()), ..rules() };
    assert_eq!(plain(&good_echo(), &idle), echo);
    assert!(matches!(plain(&good_arp(), &idle), Verdict::Arp(_)));
    let deaf = FilterRules { addresses: AddressSet::default(), ..rules() };
    assert_eq!(plain(&good_arp(), &deaf), Verdict::Unmatched(Reason::ArpNotOurs));
    assert_eq!(plain(&good_echo(), &deaf), Verdict::Unmatched(Reason::IcmpNotOurs));
}

#[test]
fn broadcast_and_configured_multicast_mac_are_ours() {
    let mut frame = good_frame();
    frame[..6].fill(0xff);
    assert!(accepted(plain(&frame, &rules())).is_some());
    let group = MacAddr([0x01, 0, 0x5e, 1, 2, 3]);
    frame[..6].copy_from_slice(&group.0);
    assert_eq!(plain(&frame, &rules()), Verdict::Unmatched(Reason::OtherHost));
    let rules = FilterRules { multicast: vec![group], ..rules() };
    assert!(accepted(plain(&frame, &rules)).is_some());
}

#[test]
fn padding_is_trimmed_and_options_are_skipped() {
    let mut frame = good_frame();
    frame.resize(80, 0x55);
    let meta = accepted(plain(&frame, &rules())).unwrap();
    assert_eq!(meta.payload(&frame), PAYLOAD);
    let udp = datagram(PEER_IP, US_IP, PORT, PAYLOAD);
    let frame = bad_frames::frame(US_MAC, 0x0800, &packet_with(&[1; 40], PEER_IP, US_IP, 17, &udp));
    let meta = accepted(plain(&frame, &rules())).unwrap();
    assert_eq!((meta.payload_at, meta.payload(&frame)), (14 + 60 + 8, PAYLOAD));
}

#[test]
fn an_empty_datagram_and_the_longest_packet() {
    for len in [0, 65_507] {
        let payload = vec![b'x'; len];
        let udp = datagram(PEER_IP, US_IP, PORT, &payload);
        let frame = frame(US_MAC, 0x0800, &packet(PEER_IP, US_IP, 17, &udp));
        assert_eq!(accepted(plain(&frame, &rules())).unwrap().payload(&frame), payload);
    }
}

#[test]
fn the_nics_verdict_counts() {
    let good = good_frame();
    let mut bad_udp = good.clone();
    bad_udp[40] ^= 1;
    let mut bad_ip = good.clone();
    bad_ip[24] ^= 1;
    let mut absent = good.clone();
    absent[40..42].fill(0);
    let hardware = FilterRules { kernel_backed: false, ..rules() };
    let reason = |frame: &[u8], ip, udp, rules: &FilterRules| match classify(frame, true, ip, udp, rules) {
        Verdict::Unmatched(reason) => Some(reason),
        _ => None,
    };
    assert_eq!(reason(&bad_udp, UNKNOWN, GOOD, &hardware), None);
    assert_eq!(reason(&bad_udp, UNKNOWN, UNKNOWN, &hardware), Some(Reason::UdpChecksum));
    assert_eq!(reason(&good, UNKNOWN, BAD, &hardware), Some(Reason::UdpChecksum));
    assert_eq!(reason(&good, UNKNOWN, BAD, &rules()), None);
    assert_eq!(reason(&absent, UNKNOWN, BAD, &hardware), None);
    assert_eq!(reason(&absent, UNKNOWN, UNKNOWN, &hardware), None);
    assert_eq!(reason(&bad_ip, GOOD, UNKNOWN, &hardware), None);
    assert_eq!(reason(&good, BAD, UNKNOWN, &hardware), Some(Reason::IpChecksum));
}

#[test]
fn partial_checksums() {
    let (_, frame) = bad_frames().into_iter().find(|(r, _)| *r == Reason::UdpPartialRefused).unwrap();
    let accepting = FilterRules { accept_partial: true, ..rules() };
    for verdict in [UNKNOWN, BAD] {
        let meta = accepted(classify(&frame, true, UNKNOWN, verdict, &accepting)).unwrap();
        assert!(meta.partial);
        assert_eq!(meta.payload(&frame), PAYLOAD);
        let hardware = FilterRules { kernel_backed: false, ..accepting.clone() };
        assert_eq!(classify(&frame, true, UNKNOWN, verdict, &hardware), Verdict::Unmatched(Reason::UdpChecksum));
    }
    assert!(!accepted(classify(&frame, true, UNKNOWN, GOOD, &accepting)).unwrap().partial);
}

#[test]
fn a_host_without_an_address_may_broadcast() {
    let (none, all) = ([0; 4], [255; 4]);
    let udp = datagram(none, all, PORT, PAYLOAD);
    let frame = frame([0xff; 6], 0x0800, &packet(none, all, 17, &udp));
    let open = FilterRules { local_ip: None, remote_ip: None, ..rules() };
    assert!(accepted(plain(&frame, &open)).is_some());
}

#[test]
fn what_is_wrong_is_told_before_what_is_not_for_us() {
    let closed = FilterRules { rx_client: false, local_ports: 1.into(), ..rules() };
    for (reason, frame) in bad_frames() {
        if reason < Reason::NoRxClient && reason != Reason::Segmented {
            assert_eq!(plain(&frame, &closed), Verdict::Unmatched(reason));
        }
    }
}

/// Rules of every kind, near to what the frames have.
fn any_rules() -> impl Strategy<Value = FilterRules> {
    let ip = || proptest::option::of(prop_oneof![Just(US_IP), Just(PEER_IP)].prop_map(Ipv4Addr::from));
    let ports = prop_oneof![
        3 => Just(PortSet::Any),
        3 => Just(PortSet::One(PORT)),
        1 => Just(PortSet::One(1)),
        2 => Just([PORT..=PORT, 1..=9].into_iter().collect()),
    ];
    let flags = (any::<bool>(), any::<bool>(), proptest::bool::weighted(0.9), any::<bool>());
    let allow = prop_oneof![
        3 => Just(PrefixSet::Any),
        2 => Just([(Ipv4Addr::from(PEER_IP), 31)].into_iter().collect()),
        1 => Just([(Ipv4Addr::from(US_IP), 32), ([172, 16, 0, 0].into(), 12)].into_iter().collect()),
    ];
    (flags, ip(), ip(), allow, ports).prop_map(
        |((kernel_backed, accept_partial, rx_client, multicast), local, remote, allow, local_ports)| FilterRules {
            multicast: if multicast { vec![MacAddr([0x01, 0, 0x5e, 1, 2, 3])] } else { vec![] },
            kernel_backed,
            accept_partial,
            rx_client,
            local_ip: local,
            remote_ip: remote,
            allow,
            local_ports,
            ..rules()
        },
    )
}

/// A good or bad frame with a few bytes changed, mostly in the headers and mostly to values that mean
/// something, then cut or padded; in half of the cases with its header checksum made right.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let mut bases: Vec<_> = bad_frames().into_iter().map(|(_, frame)| frame).collect();
    bases.extend([good_frame(), good_arp(), good_echo()]);
    let base = prop_oneof![Just(good_frame()), proptest::sample::select(bases)];
    let value = prop_oneof![
        any::<u8>(),
        proptest::sample::select(vec![0, 1, 4, 5, 6, 8, 10, 17, 0x40, 0x45, 0x46, 127, 0xe0, 0xff]),
    ];
    let changes = proptest::collection::vec((prop_oneof![9 => 0usize..46, 1 => 0usize..100], value), 0..4);
    (base, changes, proptest::option::weighted(0.2, 0usize..90), any::<bool>()).prop_map(
        |(mut frame, changes, len, fix)| {
            for (at, value) in changes {
                if let Some(byte) = frame.get_mut(at) {
                    *byte = value;
                }
            }
            if let Some(len) = len {
                frame.resize(len, 0);
            }
            if fix && frame.len() >= 34 {
                frame[24..26].fill(0);
                let checksum = internet_checksum(&frame[14..34]).to_be_bytes();
                frame[24..26].copy_from_slice(&checksum);
            }
            frame
        },
    )
}

fn any_verdict() -> impl Strategy<Value = ChecksumVerdict> {
    prop_oneof![Just(GOOD), Just(UNKNOWN), Just(BAD)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// The common way accepts nothing that the careful one refuses, with the same result to the last field.
    /// (What it does not accept goes to the careful one anyway, so this is all that there is to hold.)
    #[test]
    fn common_agrees_with_careful(
        frame in mutated(), contiguous in proptest::bool::weighted(0.95), ip in any_verdict(), udp in any_verdict(), rules in any_rules(),
    ) {
        let slow = careful(&frame, contiguous, ip, udp, &rules);
        if let Some(meta) = common(&frame, contiguous, ip, udp, rules.clone()) {
            prop_assert_eq!(slow, Ok(Verdict::Udp(meta)));
        }
        prop_assert_eq!(classify(&frame, contiguous, ip, udp, &rules), slow.unwrap_or_else(Verdict::Unmatched));
        if let Ok(Verdict::Udp(meta)) = slow {
            prop_assert_eq!(meta.payload(&frame).len(), usize::from(meta.payload_len));
        }
    }

    /// And it leaves the careful one nothing that it could have taken: unicast or broadcast, no options, an
    /// ordinary source.
    #[test]
    fn common_takes_what_it_should(
        src in (1u8..127, any::<[u8; 3]>()), broadcast: bool, payload in proptest::collection::vec(any::<u8>(), 0..100),
        padding in 0usize..20, verdict in prop_oneof![Just(GOOD), Just(UNKNOWN)],
    ) {
        let (a, [b, c, d]) = src;
        let src = [a, b, c, d];
        let mac = if broadcast { [0xff; 6] } else { US_MAC };
        let mut frame = frame(mac, 0x0800, &packet(src, US_IP, 17, &datagram(src, US_IP, PORT, &payload)));
        frame.resize(frame.len() + padding, 0);
        let open = FilterRules { remote_ip: None, ..rules() };
        let meta = common(&frame, true, verdict, verdict, open);
        prop_assert_eq!(meta.map(|m| m.payload(&frame).to_vec()), Some(payload));
    }

    #[test]
    fn noise_never_panics(frame in proptest::collection::vec(any::<u8>(), 0..200), verdict in any_verdict(), rules in any_rules()) {
        classify(&frame, true, verdict, verdict, &rules);
    }
}
